//! An operator on several slices, and random histories for it: batches of rows that come and go, flushes, watermarks,
//! snapshots, and restores at another number of slices.

use super::{Chain, restore_chains};
use crate::runtime::exchange::partition::partition;
use crate::runtime::operators::changes;
use crate::runtime::operators::stateful::{Output, Stateful};
use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub key: Option<i64>,
    pub time: Option<i64>,
    pub value: Option<i64>,
    pub text: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Rows with their weights.
    Rows(Vec<(Row, i8)>),
    Flush,
    Watermark(i64),
    /// Snapshot, and go on as before.
    Snapshot,
    /// Snapshot, and go on from it with this many slices.
    Rescale(u32),
}

pub const KEY: usize = 0;
pub const TIME: usize = 1;
pub const VALUE: usize = 2;
pub const TEXT: usize = 3;

pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

pub fn fields() -> Vec<Field> {
    vec![
        Field::new("key", DataType::Int64, true),
        Field::new("time", time_type(), true),
        Field::new("value", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]
}

/// The columns of a row, then `extra`, then the weight where there is one.
pub fn schema(extra: Vec<Field>, changes: bool) -> SchemaRef {
    let mut fields = fields();
    fields.extend(extra);
    fields.extend(changes.then(changes::weight_field));
    Arc::new(Schema::new(fields))
}

pub fn batch(rows: &[(Row, i8)], changes: bool) -> RecordBatch {
    let times: TimestampMicrosecondArray = rows.iter().map(|(row, _)| row.time).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(row, _)| row.key).collect::<Int64Array>()),
        Arc::new(times.with_timezone("+00:00")),
        Arc::new(rows.iter().map(|(row, _)| row.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(row, _)| row.text.as_deref()).collect::<StringArray>()),
    ];
    if changes {
        columns.push(Arc::new(rows.iter().map(|(_, weight)| Some(*weight)).collect::<Int8Array>()));
    }
    RecordBatch::try_new(schema(vec![], changes), columns).expect("columns fit")
}

/// A row as `add_up` writes it, without what an operator adds.
pub fn text(row: &Row) -> String {
    let sum = &mut std::collections::BTreeMap::new();
    super::add_up(sum, &batch(&[(row.clone(), 1)], false), false);
    sum.pop_first().expect("a row").0
}

pub struct Slices<O> {
    make: Box<dyn Fn() -> O>,
    pub slices: Vec<O>,
    /// By slice.
    chains: Vec<Chain>,
    keys: Vec<usize>,
    pub watermark_us: i64,
    pub out: Output,
}

impl<O: Stateful> Slices<O> {
    /// Rows are dealt out by these keys.
    pub fn new(keys: Vec<usize>, make: impl Fn() -> O + 'static) -> Self {
        let (slices, chains) = (vec![make()], vec![Chain::default()]);
        Self { make: Box::new(make), slices, chains, keys, watermark_us: i64::MIN, out: Output::default() }
    }

    pub fn process(&mut self, batch: &RecordBatch) {
        for (slot, part) in partition(batch, &self.keys, self.slices.len() as u32).expect("partition") {
            self.slices[slot as usize].process(0, &part, &mut self.out).expect("process");
        }
    }

    pub fn flush(&mut self) {
        self.slices.iter_mut().for_each(|slice| slice.flush(&mut self.out).expect("flush"));
    }

    pub fn advance(&mut self, watermark_us: i64) {
        self.watermark_us = self.watermark_us.max(watermark_us);
        self.slices.iter_mut().for_each(|slice| slice.advance(watermark_us, &mut self.out).expect("advance"));
    }

    /// No row that is still to come out has an earlier event time.
    pub fn output_us(&self) -> i64 {
        self.slices.iter().map(Stateful::output_watermark_us).min().unwrap_or(i64::MIN)
    }

    pub fn snapshot(&mut self) {
        let n_slots = self.slices.len() as u32;
        for (slot, (slice, chain)) in self.slices.iter_mut().zip(&mut self.chains).enumerate() {
            chain.save(slice, self.watermark_us, (slot as u32, n_slots), &mut self.out).expect("snapshot");
        }
    }

    /// At another number of slices chains begin anew; at the same one they go on.
    pub fn rescale(&mut self, n_slots: u32) {
        self.snapshot();
        self.slices = (0..n_slots).map(|_| (self.make)()).collect();
        for (slot, slice) in self.slices.iter_mut().enumerate() {
            restore_chains(slice, &self.chains, slot as u32, n_slots).expect("restore");
        }
        if self.chains.len() != self.slices.len() {
            self.chains = vec![Chain::default(); self.slices.len()];
        }
    }

    /// Does what the step says with rows of this kind.
    pub fn step(&mut self, step: &Step, changes: bool) {
        match step {
            Step::Rows(rows) => self.process(&batch(rows, changes)),
            Step::Flush => self.flush(),
            Step::Watermark(watermark_us) => self.advance(*watermark_us),
            Step::Snapshot => self.snapshot(),
            Step::Rescale(n_slots) => self.rescale(*n_slots),
        }
    }

    pub fn take(&mut self) -> Output {
        std::mem::take(&mut self.out)
    }
}

/// Rows of few values, so that many are equal; weights of both signs only if there are `changes`.
pub fn rows(changes: bool) -> impl Strategy<Value = Vec<(Row, i8)>> {
    let row = (
        proptest::option::weighted(0.9, 0_i64..4),
        proptest::option::weighted(0.95, 0_i64..40),
        proptest::option::weighted(0.85, 0_i64..4),
        proptest::option::weighted(0.85, "[ab]?"),
    );
    let row = row.prop_map(|(key, time, value, text)| Row { key, time, value, text });
    let weight = proptest::bool::weighted(if changes { 0.6 } else { 1.0 }).prop_map(|is_there| match is_there {
        true => 1,
        false => -1,
    });
    // Without event time rows are equal more often.
    let row = (row, weight).prop_map(move |(mut row, weight)| {
        row.time = row.time.filter(|_| !changes);
        (row, weight)
    });
    proptest::collection::vec(row, 1..14)
}

/// Histories without event time.
pub fn histories(changes: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => rows(changes).prop_map(Step::Rows),
        3 => Just(Step::Flush),
        2 => Just(Step::Snapshot),
        1 => (1_u32..5).prop_map(Step::Rescale),
    ];
    proptest::collection::vec(step, 1..25)
}

/// Histories of rows that come early, in time and late.
pub fn timed_histories() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => rows(false).prop_map(Step::Rows),
        3 => (0_i64..12).prop_map(Step::Watermark),
        2 => Just(Step::Snapshot),
        1 => (1_u32..5).prop_map(Step::Rescale),
    ];
    // Times are relative to a clock that goes on with every watermark.
    proptest::collection::vec(step, 1..25).prop_map(|mut steps| {
        let mut clock = -60;
        for step in &mut steps {
            match step {
                Step::Rows(rows) => {
                    rows.iter_mut().for_each(|(row, _)| row.time = row.time.map(|time| time + clock - 15));
                }
                Step::Watermark(by) => {
                    clock += *by;
                    *by = clock;
                }
                Step::Flush | Step::Snapshot | Step::Rescale(_) => {}
            }
        }
        steps
    })
}

/// How often each row is there after these steps; below zero where it was taken back too often.
pub fn counts(steps: &[Step]) -> std::collections::BTreeMap<Row, i64> {
    let mut counts = std::collections::BTreeMap::new();
    for step in steps {
        if let Step::Rows(rows) = step {
            for (row, weight) in rows {
                *counts.entry(row.clone()).or_insert(0) += i64::from(*weight);
            }
        }
    }
    counts.retain(|_, count| *count != 0);
    counts
}

/// What takes everything back, so that no row has a count any more.
pub fn undo(steps: &[Step]) -> Step {
    let mut rows = Vec::new();
    for (row, count) in counts(steps) {
        let weight = if count > 0 { -1 } else { 1 };
        rows.extend((0..count.abs()).map(|_| (row.clone(), weight)));
    }
    Step::Rows(rows)
}
