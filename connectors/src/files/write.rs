//! Writes rows into files that appear whole or not at all.
//!
//! An epoch's rows go to hidden files or uploads. [`Sink::prepare`] makes them durable and names them, with the names that
//! they shall have, in the checkpoint; [`Sink::commit`] gives them those names. After a crash, [`Sink::restore`] publishes
//! what the checkpoint names and gives up what no checkpoint knows, whose rows will be written again.
//!
//! Invariant: a visible file holds committed rows only and never changes. No file is ever overwritten. A checkpoint ends all
//! files, size and age may end them before.

mod body;
mod place;
mod target;

use super::hive::Partitioning;
use super::path_of;
use crate::{Context, Error, OptionInfo, Options, Result, Sink, TableDef};
use arrow::array::RecordBatch;
pub use body::avro_schema;
use body::{Body, Shape};
use jobs::Diagnostic;
use place::{HiddenName, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use target::Target;

pub const ROLLING_SIZE: OptionInfo = OptionInfo {
    name: "rolling.size",
    kind: "size",
    default: None,
    required: false,
    doc: "to write: a file that has grown to so many bytes (128MB) is ended, and another begun; every checkpoint ends files",
};
pub const ROLLING_INTERVAL: OptionInfo = OptionInfo {
    name: "rolling.interval",
    kind: "duration",
    default: None,
    required: false,
    doc: "to write: a file that was begun so long ago is ended with the next rows, and another begun",
};

/// Files that a slice writes at a time: of partitioned tables one per directory, each with its buffers. Beyond that the
/// oldest is ended.
const MOST_OPEN: usize = 64;

/// One file that waits for its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    epoch: u64,
    hidden: String,
    /// Below the table's path, with its directories.
    last: String,
    /// Where it goes to a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<UploadId>,
}

/// An upload in pieces, by which any process can complete it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadId {
    key: String,
    id: String,
    /// What the store calls the pieces, in order.
    pieces: Vec<String>,
}

/// What a checkpoint keeps of a slice.
#[derive(Debug, Serialize, Deserialize)]
struct Prepared {
    slot: u32,
    /// When the life began that prepared it.
    claimed_us: i64,
    parts: Vec<Part>,
}

/// When a file is ended before its checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rolling {
    size: Option<u64>,
    interval: Option<Duration>,
}

impl Rolling {
    pub fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let size = match options.text(ROLLING_SIZE.name) {
            None => None,
            Some(text) => {
                let wrong = |why| options.wrong(ROLLING_SIZE.name, format!("option 'rolling.size' is no size: {why}"));
                Some((jobs::text::parse_mem_mib(text).map_err(wrong)? * f64::from(1 << 20)) as u64)
            }
        };
        Ok(Self { size, interval: options.duration(ROLLING_INTERVAL.name)? })
    }

    fn due(self, writing: &Writing) -> bool {
        self.size.is_some_and(|size| writing.body.bytes() >= size)
            || self.interval.is_some_and(|interval| writing.begun.elapsed() >= interval)
    }
}

pub struct FilesSink {
    place: Place,
    shape: Shape,
    partitioning: Partitioning,
    stored: Vec<usize>,
    rolling: Rolling,
    /// The job, as it stands in file names.
    job: String,
    slot: u32,
    n_slots: u32,
    begun_us: i64,
    n_files: u64,
    /// By directory below the table's path; empty for the path itself.
    writing: BTreeMap<String, Writing>,
    /// Ended, and perhaps not yet durable.
    ended: Vec<Ended>,
    prepared: Vec<Part>,
    /// Whether what an earlier life left behind has been looked at.
    begun: bool,
    lines: Vec<u8>,
}

struct Writing {
    body: Body,
    name: HiddenName,
    begun: Instant,
}

struct Ended {
    directory: String,
    name: HiddenName,
    target: Target,
}

impl FilesSink {
    pub fn open(table: &TableDef, context: &Context) -> Result<Self> {
        let partitioning = Partitioning::of(table)?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' };
        Ok(Self {
            place: Place::open(&context.base_dir, path_of(table)?)?,
            shape: Shape::of(&partitioning.in_files(table)?)?,
            stored: partitioning.stored(table),
            partitioning,
            rolling: Rolling::of(table)?,
            job: context.job.chars().map(safe).collect(),
            slot: context.slot,
            n_slots: context.n_slots.max(1),
            begun_us: context.begun_us,
            n_files: 0,
            writing: BTreeMap::new(),
            ended: Vec::new(),
            prepared: Vec::new(),
            begun: false,
            lines: Vec::new(),
        })
    }

    /// Without a checkpoint to go on from, nothing an earlier life of this slot left unfinished is of use.
    fn begin(&mut self) -> Result<()> {
        if !self.begun {
            let (slot, n_slots, begun_us) = (self.slot, self.n_slots, self.begun_us);
            self.place.give_up(&self.job, |of| of.slot % n_slots == slot && of.begun_us < begun_us)?;
            self.begun = true;
        }
        Ok(())
    }

    /// There is a file for this directory from now on.
    fn ready(&mut self, directory: &str) -> Result<()> {
        if self.writing.contains_key(directory) {
            return Ok(());
        }
        let name = HiddenName { slot: self.slot, begun_us: self.begun_us, number: self.n_files };
        let target = self.place.begin(&name.text(&self.job), &within(directory, &self.unique_name(name)))?;
        self.n_files += 1;
        let body = Body::begin(&self.shape, target)?;
        self.writing.insert(directory.to_owned(), Writing { body, name, begun: Instant::now() });
        Ok(())
    }

    fn take(&mut self, directory: &str, rows: &RecordBatch) -> Result<()> {
        let Some(writing) = self.writing.get_mut(directory) else {
            return Err(Error::Fatal(format!("no file is begun for '{directory}' in '{}'", self.place.name())));
        };
        writing.body.write(&self.shape, rows, &mut self.lines)?;
        if self.rolling.due(writing) { self.end(directory) } else { Ok(()) }
    }

    fn end(&mut self, directory: &str) -> Result<()> {
        let Some(Writing { body, name, .. }) = self.writing.remove(directory) else { return Ok(()) };
        let mut ended = Ended { directory: directory.to_owned(), name, target: body.finish()? };
        if matches!(ended.target, Target::Folder { .. })
            && let Err(why) = self.place.settle(&mut ended.target)
        {
            // It is tried again before the checkpoint.
            tracing::debug!(%why, "an ended file is not durable yet");
        }
        self.ended.push(ended);
        Ok(())
    }

    /// Ends what is older, as far as there are too many beside those of `wanted`.
    fn make_room(&mut self, wanted: &[(String, RecordBatch)]) -> Result<()> {
        let mut others: Vec<(Instant, String)> = self
            .writing
            .iter()
            .filter(|(directory, _)| !wanted.iter().any(|(known, _)| known == *directory))
            .map(|(directory, writing)| (writing.begun, directory.clone()))
            .collect();
        others.sort_unstable();
        let too_many = (others.len() + wanted.len()).saturating_sub(MOST_OPEN);
        others.iter().take(too_many).try_for_each(|(_, directory)| self.end(directory))
    }

    /// A name that no other file has, in any life.
    fn unique_name(&self, name: HiddenName) -> String {
        format!("part-{}-{}-{}-{}.{}", self.job, self.slot, name.begun_us, name.number, self.shape.extension())
    }

    /// The name in a folder: a plain one, unless another run of the same job, or a file of the same epoch, has it.
    fn last_name(&self, epoch: u64, ended: &Ended) -> String {
        let plain = format!("part-{}-{}-{epoch}.{}", self.job, self.slot, self.shape.extension());
        let plain = within(&ended.directory, &plain);
        if !self.place.has(&plain) && !self.prepared.iter().any(|part| part.last == plain) {
            return plain;
        }
        let HiddenName { begun_us, number, .. } = ended.name;
        let other = format!("part-{}-{}-{epoch}-{begun_us}-{number}.{}", self.job, self.slot, self.shape.extension());
        within(&ended.directory, &other)
    }

    fn part(&self, epoch: u64, ended: &Ended) -> Part {
        let (last, upload) = match &ended.target {
            Target::Folder { .. } => (self.last_name(epoch, ended), None),
            Target::Store(upload) => {
                let id = UploadId { key: upload.key.to_string(), id: upload.id.clone(), pieces: upload.pieces.clone() };
                (within(&ended.directory, &self.unique_name(ended.name)), Some(id))
            }
        };
        Part { epoch, hidden: ended.name.text(&self.job), last, upload }
    }

    fn publish(&self, parts: &[Part]) -> Result<()> {
        parts.iter().try_for_each(|part| self.place.publish(part))?;
        if parts.is_empty() { Ok(()) } else { self.place.sync() }
    }
}

fn within(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

impl Sink for FilesSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.begin()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let split = self.partitioning.split(batch, &self.stored).map_err(|why| Error::Fatal(why.to_string()))?;
        self.writing.values_mut().try_for_each(|writing| self.place.catch_up(writing.body.target_mut()))?;
        for (at, some) in split.chunks(MOST_OPEN).enumerate() {
            self.make_room(some)?;
            let ready = some.iter().try_for_each(|(directory, _)| self.ready(directory));
            // A store may not answer now. As long as nothing of the batch is taken, it can be given again.
            ready.map_err(|why| if at == 0 { why } else { Error::Fatal(why.to_string()) })?;
            for (directory, rows) in some {
                self.take(directory, rows)?;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        self.begin()?;
        let directories: Vec<String> = self.writing.keys().cloned().collect();
        directories.iter().try_for_each(|directory| self.end(directory))?;
        let any = !self.ended.is_empty();
        // What is durable is told; the rest is tried again with the next call.
        while let Some(ended) = self.ended.last_mut() {
            self.place.settle(&mut ended.target)?;
            if let Some(ended) = self.ended.pop() {
                self.prepared.push(self.part(epoch, &ended));
            }
        }
        if any {
            self.place.sync()?;
        }
        let prepared = Prepared { slot: self.slot, claimed_us: self.begun_us, parts: self.prepared.clone() };
        serde_json::to_vec(&prepared).map_err(|why| Error::Fatal(why.to_string()))
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        let (due, later): (Vec<Part>, Vec<Part>) = self.prepared.iter().cloned().partition(|part| part.epoch <= epoch);
        self.publish(&due)?;
        self.prepared = later;
        Ok(())
    }

    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        self.begun = true;
        for state in states {
            let prepared: Prepared = serde_json::from_slice(&state).map_err(|why| {
                Error::Fatal(format!(
                    "the checkpoint of epoch {epoch} holds no readable state of the files in '{}': {why}",
                    self.place.name()
                ))
            })?;
            self.publish(&prepared.parts)?;
            let begun_us = self.begun_us;
            self.place.give_up(&self.job, |of| of.slot == prepared.slot && of.begun_us < begun_us)?;
        }
        Ok(())
    }
}

/// Trying again can help where space may be made.
fn io_failed(name: &str, what: &str, why: &std::io::Error) -> Error {
    let text = format!("'{name}' cannot {what}: {why}");
    match why.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::Transient(text),
        _ => Error::Fatal(text),
    }
}

/// Of a file that takes some of its content and then no more nobody knows how much it has: only an earlier checkpoint helps.
fn write_failed(name: &str, why: &std::io::Error) -> Error {
    Error::Fatal(format!("'{name}' cannot be written: {why}"))
}
