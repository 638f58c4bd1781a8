//! Changes in Debezium's envelope: `{"before":…,"after":…,"op":"c"}`, alone or as the `payload` beside a `schema`.
//!
//! `c` and `r` (read by a snapshot) are rows that came, `d` one that went, `u` one that took the place of another. All other
//! fields are skipped. The records of a batch are decoded at once, into one column for each half, and rows picked from
//! those.
//!
//! Without a primary key every change is told whole: a row that went must be there in `before`. With one, changes are
//! upserts (see [`crate::Gives::Upserts`]), so that of `before` the key is enough, and of an `u` it may be missing.
//!
//! Invariant: a record whose half that is needed is missing is a bad record, never a change of a row of nulls.

use super::json;
use super::records::{Engine, Failure, Records};
use super::timestamp::TimestampForm;
use super::upserts::with_weight;
use arrow::array::{
    Array, ArrayRef, AsArray, DynComparator, Int8Array, RecordBatch, StringArray, StructArray, make_comparator,
    new_null_array,
};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use jobs::Diagnostic;
use std::ops::Range;
use std::sync::Arc;

pub struct EnvelopeEngine {
    /// The columns wanted and the weight.
    schema: SchemaRef,
    wanted: Fields,
    /// Places of the primary key among the columns wanted; none where changes are told whole.
    keys: Vec<usize>,
    envelopes: Box<dyn Engine>,
}

impl EnvelopeEngine {
    pub fn new(wanted: SchemaRef, keys: Vec<usize>, form: TimestampForm) -> Result<Self, Diagnostic> {
        let before: Fields = match keys.is_empty() {
            true => wanted.fields().clone(),
            false => keys.iter().map(|key| Arc::clone(&wanted.fields()[*key])).collect(),
        };
        let envelope = vec![
            Field::new("before", DataType::Struct(before), true),
            Field::new("after", DataType::Struct(wanted.fields().clone()), true),
            Field::new("op", DataType::Utf8, true),
        ];
        let payload = Field::new("payload", DataType::Struct(envelope.clone().into()), true);
        let reading = Arc::new(Schema::new(envelope.into_iter().chain([payload]).collect::<Vec<_>>()));
        Ok(Self {
            schema: with_weight(&wanted),
            wanted: wanted.fields().clone(),
            keys,
            envelopes: json::engine(reading, form)?,
        })
    }

    /// What the envelopes come to, and those (by row) that come to nothing.
    fn changes(&self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<(usize, String)>), ArrowError> {
        let halves = Halves::of(batch, &self.keys)?;
        let mut changes = Changes { picks: Vec::with_capacity(batch.num_rows()), weights: Vec::new() };
        let mut wrong = Vec::new();
        for row in 0..batch.num_rows() {
            if let Err(error) = halves.tell(row, &self.keys, &mut changes) {
                wrong.push((row, error));
            }
        }
        let Changes { picks, weights } = changes;
        let n_rows = batch.num_rows();
        let plain = picks.len() == n_rows && picks.iter().enumerate().all(|(at, pick)| *pick == (AFTER, at));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.wanted.len() + 1);
        for (place, field) in self.wanted.iter().enumerate() {
            let whole = self.keys.is_empty();
            let in_before = if whole { Some(place) } else { self.keys.iter().position(|key| *key == place) };
            let missing = new_null_array(field.data_type(), if in_before.is_some() { 0 } else { n_rows });
            let before =
                |envelope: &Envelope| in_before.map_or(&missing, |place| envelope.before.column(place)).clone();
            let (alone, payload) = (&halves.envelopes[0], &halves.envelopes[1]);
            if plain {
                columns.push(Arc::clone(alone.after.column(place)));
                continue;
            }
            let sources = [
                Arc::clone(alone.after.column(place)),
                before(alone),
                Arc::clone(payload.after.column(place)),
                before(payload),
            ];
            let sources: Vec<&dyn Array> = sources.iter().map(|source| source.as_ref()).collect();
            columns.push(interleave(&sources, &picks)?);
        }
        columns.push(Arc::new(Int8Array::from(weights)));
        Ok((RecordBatch::try_new(Arc::clone(&self.schema), columns)?, wrong))
    }
}

/// The places of an envelope's halves among what rows are picked from; those of a payload come two later.
const AFTER: usize = 0;
const BEFORE: usize = 1;

#[derive(Debug)]
struct Changes {
    /// Half and row.
    picks: Vec<(usize, usize)>,
    weights: Vec<i8>,
}

impl Changes {
    fn push(&mut self, half: usize, row: usize, weight: i8) {
        self.picks.push((half, row));
        self.weights.push(weight);
    }
}

struct Envelope {
    before: StructArray,
    after: StructArray,
    op: StringArray,
    /// By column of the key: compares it before and after.
    keys: Vec<DynComparator>,
}

/// The envelopes of some records, alone and as payloads.
struct Halves {
    envelopes: [Envelope; 2],
    payload: StructArray,
}

impl Halves {
    fn of(batch: &RecordBatch, keys: &[usize]) -> Result<Self, ArrowError> {
        let envelope = |columns: &[ArrayRef]| -> Result<Envelope, ArrowError> {
            let (before, after) = (columns[0].as_struct().clone(), columns[1].as_struct().clone());
            let compared = |(place, key): (usize, &usize)| {
                make_comparator(before.column(place).as_ref(), after.column(*key).as_ref(), SortOptions::default())
            };
            let keys = keys.iter().enumerate().map(compared).collect::<Result<_, _>>()?;
            Ok(Envelope { op: columns[2].as_string::<i32>().clone(), keys, before, after })
        };
        let payload = batch.column(3).as_struct().clone();
        Ok(Self { envelopes: [envelope(&batch.columns()[..3])?, envelope(payload.columns())?], payload })
    }

    /// Adds what the envelope in a row says, or tells why it says nothing.
    fn tell(&self, row: usize, keys: &[usize], changes: &mut Changes) -> Result<(), String> {
        let which = usize::from(self.payload.is_valid(row));
        let envelope = &self.envelopes[which];
        let (before, after) = (2 * which + BEFORE, 2 * which + AFTER);
        if envelope.op.is_null(row) {
            return Err("has no 'op': it is not in Debezium's envelope".to_owned());
        }
        let op = envelope.op.value(row);
        let needs_after = || match envelope.after.is_valid(row) {
            true if keys.iter().any(|key| envelope.after.column(*key).is_null(row)) => {
                Err("the primary key in 'after' is null or not all there".to_owned())
            }
            true => Ok(()),
            false => Err(format!("has no 'after', which op '{op}' needs")),
        };
        let has_before = envelope.before.is_valid(row)
            && (keys.is_empty() || (0..keys.len()).all(|key| envelope.before.column(key).is_valid(row)));
        let needs_before = || match (has_before, keys.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err(format!(
                "has no 'before', which op '{op}' needs: give the table at its origin REPLICA IDENTITY FULL, or declare \
                 its PRIMARY KEY here"
            )),
            (false, false) => Err(format!("has no primary key in 'before', which op '{op}' needs")),
        };
        match op {
            "c" | "r" => {
                needs_after()?;
                changes.push(after, row, 1);
            }
            "d" => {
                needs_before()?;
                changes.push(before, row, -1);
            }
            "u" => {
                needs_after()?;
                if keys.is_empty() {
                    needs_before()?;
                }
                let moved = || envelope.keys.iter().any(|compare| compare(row, row).is_ne());
                if has_before && (keys.is_empty() || moved()) {
                    changes.push(before, row, -1);
                }
                changes.push(after, row, 1);
            }
            other => return Err(format!("op '{other}' is no change of a row; c, r, u and d are")),
        }
        Ok(())
    }
}

impl Engine for EnvelopeEngine {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure> {
        let mut bad = Vec::new();
        let envelopes = self.envelopes.decode(records, range.clone(), &mut bad)?;
        let changes = self.changes(&envelopes);
        let (batch, wrong) = changes.map_err(|why| Failure { record: None, error: json::plain(&why) })?;
        if !wrong.is_empty() {
            let mut undecoded = bad.iter().map(|(at, _)| *at).peekable();
            let decoded: Vec<usize> = range.filter(|at| undecoded.next_if_eq(at).is_none()).collect();
            bad.extend(wrong.into_iter().map(|(row, error)| (decoded[row], error)));
            bad.sort_by_key(|(at, _)| *at);
        }
        rejected.append(&mut bad);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests;
