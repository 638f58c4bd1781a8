//! What the tests of operators share: snapshots as files, and the sum of a changelog.

use crate::runtime::operators::changes;
use crate::runtime::operators::stateful::{Gathered, Output, Stateful, When, encode};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::Result;
use std::collections::BTreeMap;

pub mod slices;

const OPERATOR: &str = "operator-1";

/// Flushes into `out` and gives the state files of this slice.
pub fn snapshot(
    operator: &mut dyn Stateful,
    watermark_us: i64,
    slot: u32,
    n_slots: u32,
    out: &mut Output,
) -> Result<Vec<Vec<u8>>> {
    operator.flush(out)?;
    while !operator.catch_up(When::Now, out)? {}
    let tables = operator.snapshot()?;
    Ok(encode(OPERATOR, watermark_us, &tables, (slot, n_slots))?.into_values().collect())
}

/// Restores one slice from the files of all slices of an earlier life.
pub fn restore(operator: &mut dyn Stateful, files: &[Vec<u8>], slot: u32, n_slots: u32) -> Result<()> {
    let mut gathered = Gathered::new(OPERATOR, (slot, n_slots));
    for file in files {
        gathered.add(file)?;
        gathered.hand_over(operator)?;
    }
    gathered.restore(operator)
}

/// Rows as text (without their weight), each with the sum of its weights; rows whose sum is zero are left out.
/// `changes`: whether the batches have weights.
pub fn add_up(sum: &mut BTreeMap<String, i64>, batch: &RecordBatch, changes: bool) {
    let (columns, weights) = changes::split(batch, changes).expect("weights where they are promised");
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that prints"))
        .collect();
    for row in 0..batch.num_rows() {
        let text: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
        let text = text.join(" ");
        let weight = sum.entry(text.clone()).or_default();
        *weight += weights.map_or(1, |weights| i64::from(weights.value(row)));
        if *weight == 0 {
            sum.remove(&text);
        }
    }
}

/// Adds up what one flush says, checking that it says nothing for nothing: no row both comes and goes.
#[track_caller]
pub fn add_up_flush(sum: &mut BTreeMap<String, i64>, batches: &[RecordBatch]) {
    let mut difference = BTreeMap::new();
    batches.iter().for_each(|batch| add_up(&mut difference, batch, true));
    let n_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let n_needed: u64 = difference.values().map(|weight| weight.unsigned_abs()).sum();
    assert_eq!(n_rows as u64, n_needed, "rows that say nothing");
    batches.iter().for_each(|batch| add_up(sum, batch, true));
}
