//! Changes in the envelope that Debezium writes for JSON without schemas:
//! `{"before":…,"after":…,"op":"c","ts_ms":…}`, where `c` is a row that is there now, `d` one that is there no longer, and
//! `u` one that took the place of another under its primary key. `ts_ms` is when the record was made. No tombstone follows
//! a `d`.
//!
//! With a primary key, the rows of one key in one batch are told by what they come to: a row that came and went, or went
//! and came back, is not told, and one that went and one that came are an update, whichever came first. Halves of an
//! update that come in different batches are told as they come, as a `c` and a `d`. Without a key every row is told.
//!
//! Invariant: over all records of a batch, rows after less rows before is what the batch's weights say.

use super::keys::Keys;
use crate::api::{Error, Result, TableDef};
use crate::formats::Encoder;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::row::{Row, RowConverter, Rows, SortField};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Envelopes {
    encoder: Encoder,
    pairing: Option<Pairing>,
    /// Kept, so that their room is allocated once.
    lines: Vec<u8>,
    ends: Vec<usize>,
    envelope: Vec<u8>,
}

/// Rows of a batch, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Created(usize),
    Updated { before: usize, after: usize },
    Deleted(usize),
}

impl Envelopes {
    pub fn new(table: &TableDef) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(table)?,
            pairing: if table.primary_key.is_empty() { None } else { Some(Pairing::new(table)?) },
            lines: Vec::new(),
            ends: Vec::new(),
            envelope: Vec::new(),
        })
    }

    /// Calls `take` with key and value of each record. `there` says which rows are there now; without it all are.
    pub fn each(
        &mut self,
        batch: &RecordBatch,
        there: Option<&BooleanArray>,
        keys: &Keys,
        mut take: impl FnMut(Option<&[u8]>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let n_rows = batch.num_rows();
        let events = match (there, &self.pairing) {
            (None, _) => (0..n_rows).map(Event::Created).collect(),
            (Some(there), None) => (0..n_rows).map(|row| Event::alone(row, there)).collect(),
            (Some(there), Some(pairing)) => pairing.events(batch, there)?,
        };
        self.lines.clear();
        self.encoder.encode_lines(batch, &mut self.lines)?;
        // JSON escapes line ends, so lines are rows.
        self.ends.clear();
        self.ends.extend(self.lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at));
        assert_eq!(self.ends.len(), n_rows, "lines of a batch and its rows");
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        for event in events {
            match event {
                Event::Created(row) => take(keys.get(row), self.told(None, Some(row), "c", now_ms))?,
                Event::Deleted(row) => take(keys.get(row), self.told(Some(row), None, "d", now_ms))?,
                Event::Updated { before, after } if keys.get(before) == keys.get(after) => {
                    take(keys.get(after), self.told(Some(before), Some(after), "u", now_ms))?;
                }
                // Under another record key, which may be in another partition: a reader by key would keep the old row.
                Event::Updated { before, after } => {
                    take(keys.get(before), self.told(Some(before), None, "d", now_ms))?;
                    take(keys.get(after), self.told(None, Some(after), "c", now_ms))?;
                }
            }
        }
        Ok(())
    }

    fn told(&mut self, before: Option<usize>, after: Option<usize>, op: &str, now_ms: u128) -> &[u8] {
        let Self { lines, ends, envelope, .. } = self;
        let row = |row: Option<usize>| match row {
            Some(0) => &lines[..ends[0]],
            Some(row) => &lines[ends[row - 1] + 1..ends[row]],
            None => b"null".as_slice(),
        };
        envelope.clear();
        envelope.extend_from_slice(b"{\"before\":");
        envelope.extend_from_slice(row(before));
        envelope.extend_from_slice(b",\"after\":");
        envelope.extend_from_slice(row(after));
        envelope.extend_from_slice(format!(",\"op\":\"{op}\",\"ts_ms\":{now_ms}}}").as_bytes());
        envelope
    }
}

impl Event {
    fn alone(row: usize, there: &BooleanArray) -> Self {
        if there.value(row) { Self::Created(row) } else { Self::Deleted(row) }
    }
}

/// Finds the updates among the changes of a batch.
struct Pairing {
    table: String,
    primary_key: Vec<usize>,
    keys: RowConverter,
    rows: RowConverter,
}

/// The rows of one key, in order.
#[derive(Default)]
struct Group {
    gone: Vec<usize>,
    there: Vec<usize>,
}

impl Pairing {
    fn new(table: &TableDef) -> Result<Self> {
        let kind = |at: usize| SortField::new(table.schema.field(at).data_type().clone());
        let converter = |fields: Vec<SortField>| {
            RowConverter::new(fields)
                .map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be compared: {why}", table.name)))
        };
        Ok(Self {
            table: table.name.clone(),
            primary_key: table.primary_key.clone(),
            keys: converter(table.primary_key.iter().map(|at| kind(*at)).collect())?,
            rows: converter((0..table.schema.fields().len()).map(kind).collect())?,
        })
    }

    fn events(&self, batch: &RecordBatch, there: &BooleanArray) -> Result<Vec<Event>> {
        let n_rows = batch.num_rows();
        if there.true_count() == n_rows || there.true_count() == 0 {
            return Ok((0..n_rows).map(|row| Event::alone(row, there)).collect());
        }
        let convert = |converter: &RowConverter, columns: &[ArrayRef]| {
            converter
                .convert_columns(columns)
                .map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be compared: {why}", self.table)))
        };
        let key_columns: Vec<ArrayRef> = self.primary_key.iter().map(|at| batch.column(*at).clone()).collect();
        let (keys, rows) = (convert(&self.keys, &key_columns)?, convert(&self.rows, batch.columns())?);
        let mut groups: Vec<Group> = Vec::new();
        let mut by_key: HashMap<Row<'_>, usize> = HashMap::with_capacity(n_rows);
        for row in 0..n_rows {
            let group = *by_key.entry(keys.row(row)).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Group::default());
            }
            let Group { gone, there: here } = &mut groups[group];
            if there.value(row) { here.push(row) } else { gone.push(row) }
        }
        let mut events = Vec::with_capacity(n_rows);
        for mut group in groups {
            group.cancel(&rows);
            group.tell(&mut events);
        }
        Ok(events)
    }
}

impl Group {
    /// Takes out pairs of equal rows.
    fn cancel(&mut self, rows: &Rows) {
        let Self { gone, there } = self;
        match (gone.as_slice(), there.as_slice()) {
            ([], _) | (_, []) => {}
            ([before], [after]) => {
                if rows.row(*before) == rows.row(*after) {
                    gone.clear();
                    there.clear();
                }
            }
            _ => {
                let mut left: HashMap<Row<'_>, usize> = HashMap::new();
                there.iter().for_each(|row| *left.entry(rows.row(*row)).or_default() += 1);
                let mut take = |row: usize| match left.get_mut(&rows.row(row)) {
                    Some(n) if *n > 0 => {
                        *n -= 1;
                        true
                    }
                    _ => false,
                };
                gone.retain(|row| !take(*row));
                // What was not taken by a row that went is still there.
                there.retain(|row| take(*row));
            }
        }
    }

    /// In an order after which the last row that came is there for whoever keeps one row per key.
    fn tell(&self, events: &mut Vec<Event>) {
        let Self { gone, there } = self;
        let alone = gone.len().saturating_sub(there.len());
        events.extend(gone[..alone].iter().map(|row| Event::Deleted(*row)));
        let n_pairs = gone.len() - alone;
        let pairs = gone[alone..].iter().zip(there);
        events.extend(pairs.map(|(before, after)| Event::Updated { before: *before, after: *after }));
        events.extend(there[n_pairs..].iter().map(|row| Event::Created(*row)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn declared(keyed: bool) -> TableDef {
        let columns = [("key", DataType::Int64), ("name", DataType::Utf8)];
        TableDef { primary_key: if keyed { vec![0] } else { Vec::new() }, ..table(&columns, &[]) }
    }

    /// The envelopes of some changes (key, name, weight), without their time.
    fn told(keyed: bool, changes: &[(i64, &str, i8)]) -> Vec<String> {
        let table = declared(keyed);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.0))),
            Arc::new(StringArray::from_iter_values(changes.iter().map(|change| change.1))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
        let there = BooleanArray::from_iter(changes.iter().map(|change| Some(change.2 > 0)));
        let mut all = Vec::new();
        let mut envelopes = Envelopes::new(&table).unwrap();
        let take = |key: Option<&[u8]>, value: &[u8]| {
            assert_eq!(key, None);
            let text = String::from_utf8(value.to_vec()).unwrap();
            let (begin, time) = text.split_once(",\"ts_ms\":").unwrap();
            assert!(time.strip_suffix('}').unwrap().parse::<u64>().unwrap() > 1_700_000_000_000);
            all.push(format!("{begin}}}"));
            Ok(())
        };
        envelopes.each(&batch, Some(&there), &Keys::None, take).unwrap();
        all
    }

    fn envelope(before: Option<(i64, &str)>, after: Option<(i64, &str)>, op: &str) -> String {
        let row = |row: Option<(i64, &str)>| {
            row.map_or("null".to_owned(), |(key, name)| format!("{{\"key\":{key},\"name\":\"{name}\"}}"))
        };
        format!("{{\"before\":{},\"after\":{},\"op\":\"{op}\"}}", row(before), row(after))
    }

    #[test]
    fn halves_of_one_key_are_one_update_in_either_order() {
        let wanted = [
            envelope(Some((1, "a")), Some((1, "b")), "u"),
            envelope(None, Some((2, "x\\ny")), "c"),
            envelope(Some((3, "z")), None, "d"),
        ];
        assert_eq!(told(true, &[(1, "a", -1), (2, "x\ny", 1), (1, "b", 1), (3, "z", -1)]), wanted);
        assert_eq!(told(true, &[(1, "b", 1), (2, "x\ny", 1), (1, "a", -1), (3, "z", -1)]), wanted);
    }

    #[test]
    fn what_comes_and_goes_is_not_told_and_a_chain_is_one_update() {
        assert_eq!(told(true, &[(1, "a", 1), (1, "a", -1)]), Vec::<String>::new());
        let chain = [(1, "a", -1), (1, "b", 1), (1, "b", -1), (1, "c", 1)];
        assert_eq!(told(true, &chain), [envelope(Some((1, "a")), Some((1, "c")), "u")]);
        // A row that came twice and went once is there once.
        assert_eq!(told(true, &[(1, "a", 1), (1, "a", -1), (1, "a", 1)]), [envelope(None, Some((1, "a")), "c")]);
    }

    #[test]
    fn without_a_key_every_row_is_told_as_it_comes() {
        let wanted = [
            envelope(Some((1, "a")), None, "d"),
            envelope(None, Some((1, "b")), "c"),
            envelope(Some((1, "b")), None, "d"),
        ];
        assert_eq!(told(false, &[(1, "a", -1), (1, "b", 1), (1, "b", -1)]), wanted);
    }

    proptest! {
        /// Any changes: what the records add and take away is what the weights say, and whoever keeps the last row of each
        /// key has the right one if each key has at most one row before and after.
        #[test]
        fn records_say_what_weights_say(
            changes in prop::collection::vec((0..3i64, prop::sample::select(vec!["a", "b", "c"]), any::<bool>()), 0..12)
        ) {
            let changes: Vec<(i64, &str, i8)> =
                changes.into_iter().map(|(key, name, there)| (key, name, if there { 1 } else { -1 })).collect();
            let mut wanted: BTreeMap<(i64, String), i64> = BTreeMap::new();
            for (key, name, weight) in &changes {
                *wanted.entry((*key, (*name).to_owned())).or_default() += i64::from(*weight);
            }
            wanted.retain(|_, weight| *weight != 0);
            let (mut said, mut kept): (BTreeMap<(i64, String), i64>, BTreeMap<i64, String>) = Default::default();
            // Rows that must have been there before are.
            for ((key, name), weight) in &wanted {
                if *weight < 0 {
                    kept.insert(*key, name.clone());
                }
            }
            for text in told(true, &changes) {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                for (half, weight) in [("before", -1), ("after", 1)] {
                    let Some(key) = value[half]["key"].as_i64() else { continue };
                    let name = value[half]["name"].as_str().unwrap().to_owned();
                    *said.entry((key, name.clone())).or_default() += weight;
                    if weight > 0 { kept.insert(key, name) } else { kept.remove(&key) };
                }
            }
            said.retain(|_, weight| *weight != 0);
            prop_assert_eq!(&said, &wanted);
            for key in 0..3 {
                let of_key: Vec<(&str, i64)> =
                    wanted.iter().filter(|((of, _), _)| *of == key).map(|((_, name), n)| (name.as_str(), *n)).collect();
                let (gone, there): (Vec<_>, Vec<_>) = of_key.into_iter().partition(|(_, weight)| *weight < 0);
                if gone.iter().map(|(_, n)| -n).sum::<i64>() <= 1 && there.iter().map(|(_, n)| *n).sum::<i64>() <= 1 {
                    prop_assert_eq!(kept.get(&key).map(String::as_str), there.first().map(|(name, _)| *name));
                }
            }
        }
    }
}
