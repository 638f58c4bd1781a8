//! Reads the files of a folder as they appear, for ever.
//!
//! A split is a file, and its position says what became of it: the number of a record while it is read, and afterwards a
//! mark that holds what the file looked like. So a checkpoint knows every file that is there and was read.
//!
//! Invariant: each file is read once, by one slice that its name chooses, those that are found together in order of their
//! names. A file that changes afterwards is named in a warning and not read again; one that is gone is forgotten.

use super::pattern::{self, Found};
use super::read::{FilesReader, Taken};
use super::{hive::Partitioning, path_of};
use crate::{
    BadRecord, Context, FROM_THE_BEGINNING, OptionInfo, Options, Polled, Position, Result, SourceReader, SplitStart,
    TableDef,
};
use arrow::array::RecordBatch;
use jobs::Diagnostic;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

pub const WATCH: OptionInfo = OptionInfo {
    name: "scan.watch",
    kind: "duration",
    default: None,
    required: false,
    doc: "to read: never end, and look so often for files that came since; each is read once, and must be whole when it \
          gets its name",
};

/// In a position: the file was read to its end. The bits below, but for one, are its mark.
const DONE: Position = 1 << 63;
/// Leaves a bit between the two unset, so that no mark is [`FROM_THE_BEGINNING`].
const MARK: Position = (1 << 62) - 1;

/// How often a table's folder is looked at; absent where it is read to its end.
pub fn interval(table: &TableDef) -> std::result::Result<Option<Duration>, Diagnostic> {
    let options = Options::new(table);
    let interval = options.duration(WATCH.name)?;
    if interval == Some(Duration::ZERO) {
        return Err(options.wrong(WATCH.name, "option 'scan.watch' is 0").help("say how often, for example '10s'"));
    }
    Ok(interval)
}

/// The slice that reads a file.
pub fn slot_of(path: &str, n_slots: u32) -> u32 {
    (xxh3_64(path.as_bytes()) % u64::from(n_slots.max(1))) as u32
}

fn mark(found: &Found) -> Position {
    let looks = [found.bytes.to_le_bytes(), found.written_us.to_le_bytes()].concat();
    DONE | xxh3_64(&looks) & MARK
}

pub struct WatchingReader {
    reader: FilesReader,
    empty: RecordBatch,
    base_dir: PathBuf,
    path: String,
    partitioned: bool,
    interval: Duration,
    slot: u32,
    n_slots: u32,
    splits: Vec<SplitStart>,
    /// By path: what it looked like when it was found, or when it was read by an earlier life.
    known: BTreeMap<String, Position>,
    /// The split that is read, or will be next.
    current: usize,
    /// Whether the end of `current` was said to the checkpoint.
    marked: bool,
    looked: Instant,
    found: Vec<String>,
}

impl WatchingReader {
    pub fn new(
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        interval: Duration,
        context: &Context,
    ) -> Result<Self> {
        let reader = FilesReader::of_files(table, projection, context)?;
        let mut watching = Self {
            empty: reader.no_rows(),
            reader,
            base_dir: context.base_dir.clone(),
            path: path_of(table)?.to_owned(),
            partitioned: !Partitioning::of(table)?.is_none(),
            interval,
            slot: context.slot,
            n_slots: context.n_slots,
            splits: splits.to_vec(),
            known: BTreeMap::new(),
            current: 0,
            marked: false,
            looked: Instant::now(),
            found: Vec::new(),
        };
        let read =
            splits.iter().filter_map(|start| Some((start.split.clone(), start.from.filter(|from| is_done(*from))?)));
        watching.known.extend(read);
        watching.look()?;
        Ok(watching)
    }

    /// Finds files that are new to this slice, and those that were read and have changed.
    fn look(&mut self) -> Result<()> {
        self.looked = Instant::now();
        for found in pattern::find(&self.base_dir, &self.path, self.partitioned)? {
            if slot_of(&found.path, self.n_slots) != self.slot {
                continue;
            }
            let now = mark(&found);
            match self.known.insert(found.path.clone(), now) {
                Some(before) if before != now => {
                    tracing::warn!(file = %found.path, "has changed since it was found, and is not read again");
                }
                Some(_) => {}
                None if self.splits.iter().any(|start| start.split == found.path) => {}
                None => {
                    self.splits.push(SplitStart { split: found.path.clone(), from: None });
                    self.found.push(found.path);
                }
            }
        }
        Ok(())
    }

    fn batch(&self, taken: Taken) -> Polled {
        let Taken { rows, next, bad } = taken;
        let split = self.current;
        let name = &self.splits[split].split;
        let bad = bad.into_iter();
        let bad =
            bad.map(|(position, bytes, error)| BadRecord { split: name.clone(), position, bytes, error }).collect();
        Polled::Batch { split, batch: rows, next, bad }
    }
}

fn is_done(from: Position) -> bool {
    from & DONE != 0 && from != FROM_THE_BEGINNING
}

impl SourceReader for WatchingReader {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let Some(start) = self.splits.get(self.current).cloned() else {
            let left = self.interval.saturating_sub(self.looked.elapsed());
            if left > Duration::ZERO {
                std::thread::sleep(left.min(wait));
            } else {
                self.look()?;
            }
            return Ok(Polled::Idle);
        };
        let from = start.from.filter(|from| *from != FROM_THE_BEGINNING);
        if self.marked || from.is_some_and(is_done) {
            let split = self.current;
            self.current += 1;
            self.marked = false;
            return Ok(Polled::SplitEnd { split });
        }
        let start = SplitStart { split: start.split, from };
        if let Some(taken) = self.reader.step(&start)? {
            self.splits[self.current].from = Some(taken.next);
            return Ok(self.batch(taken));
        }
        self.marked = true;
        let next = self.known.get(&start.split).copied().unwrap_or(DONE);
        Ok(self.batch(Taken { rows: self.empty.clone(), next, bad: Vec::new() }))
    }

    fn found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::CONNECTOR;
    use super::*;
    use crate::Connector;
    use crate::testing::{context, table};
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int64Type};
    use std::path::Path;

    fn watched(options: &[(&str, &str)]) -> TableDef {
        table(&[("id", DataType::Int64)], &[&[("path", "in/*.json"), ("scan.watch", "1ms")], options].concat())
    }

    fn write(dir: &Path, name: &str, ids: &[i64]) {
        let text: String = ids.iter().map(|id| format!("{{\"id\":{id}}}\n")).collect();
        std::fs::write(dir.join("in").join(name), text).unwrap();
    }

    /// Splits of a slice and how far each has come.
    type Positions = BTreeMap<String, Position>;

    /// A slice as the runtime drives it: from these positions until it has nothing to do, or for so many polls.
    fn drive(
        dir: &Path,
        slot: u32,
        n_slots: u32,
        positions: &mut Positions,
        polls: Option<usize>,
        late: &dyn Fn(),
    ) -> Vec<i64> {
        let table = watched(&[]);
        let context = Context { slot, n_slots, ..context(dir) };
        let starts: Vec<SplitStart> = CONNECTOR
            .splits(&table, &context)
            .unwrap()
            .into_iter()
            .enumerate()
            .filter(|(at, split)| CONNECTOR.slot_of(&table, split, *at, n_slots) == slot)
            .map(|(_, split)| SplitStart { from: positions.get(&split).copied().or(Some(FROM_THE_BEGINNING)), split })
            .collect();
        let mut names: Vec<String> = starts.iter().map(|start| start.split.clone()).collect();
        let mut reader = CONNECTOR.open_source(&table, &[0], &starts, &context).unwrap();
        late();
        let (mut ids, mut idle) = (Vec::new(), 0);
        for _ in 0..polls.unwrap_or(usize::MAX) {
            let polled = reader.poll(Duration::from_millis(2)).unwrap();
            names.extend(reader.found());
            match polled {
                Polled::Batch { split, batch, next, .. } => {
                    ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
                    positions.insert(names[split].clone(), next);
                    idle = 0;
                }
                Polled::SplitEnd { .. } => idle = 0,
                Polled::Idle => idle += 1,
                Polled::End => panic!("a watched folder has no end"),
            }
            if idle > 6 {
                break;
            }
        }
        ids
    }

    #[test]
    fn each_file_is_read_once_in_order_over_restarts_and_slices() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        assert!(!CONNECTOR.bounded(&watched(&[])) && CONNECTOR.discovers(&watched(&[])));
        let mut positions = Positions::new();
        // An empty folder is no mistake.
        assert_eq!(drive(dir.path(), 0, 1, &mut positions, None, &|| ()), Vec::<i64>::new());
        write(dir.path(), "b.json", &[3, 4]);
        write(dir.path(), "a.json", &[1, 2]);
        let late = || write(dir.path(), "0.json", &[5]);
        assert_eq!(drive(dir.path(), 0, 1, &mut positions, None, &late), [1, 2, 3, 4, 5]);
        assert_eq!(drive(dir.path(), 0, 1, &mut positions, None, &|| ()), Vec::<i64>::new());
        // Other slices, of which one stops in the middle: nothing is lost, and nothing read again.
        let all: Vec<i64> = (100..20_100).collect();
        for (at, some) in all.chunks(10_000).enumerate() {
            write(dir.path(), &format!("c{at}.json"), some);
        }
        let mut seen = Vec::new();
        for slot in 0..3 {
            seen.extend(drive(dir.path(), slot, 3, &mut positions, Some(4), &|| ()));
        }
        for slot in 0..2 {
            seen.extend(drive(dir.path(), slot, 2, &mut positions, None, &|| ()));
        }
        seen.sort_unstable();
        assert!(seen == all, "{} rows", seen.len());
        // What changed is not read again, what is gone is forgotten.
        write(dir.path(), "a.json", &[1, 2, 9]);
        std::fs::remove_file(dir.path().join("in/b.json")).unwrap();
        assert_eq!(drive(dir.path(), 0, 1, &mut positions, None, &|| ()), Vec::<i64>::new());
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        for (options, why) in [
            (vec![("path", "in"), ("scan.watch", "0s")], "'scan.watch' is 0"),
            (vec![("path", "in"), ("scan.watch", "5")], "is not a duration"),
            (vec![("path", "in"), ("scan.watch", "5s"), ("changelog", "debezium")], "is read to its end"),
        ] {
            let wrong = CONNECTOR.check(&table(&[("id", DataType::Int64)], &options));
            assert!(wrong.iter().any(|wrong| wrong.message.contains(why)), "{options:?}: {wrong:?}");
        }
    }
}
