//! What the tests of operators share: snapshots as chains of files, and the sum of a changelog.

use crate::runtime::operators::changes;
use crate::runtime::operators::stateful::{Gathered, Output, Scope, Stateful, When};
use crate::state::{chain, file, hash};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::Result;
use std::collections::BTreeMap;

pub mod slices;

const OPERATOR: &str = "operator-1";

/// The state files that a slice has written so far, and which count: a base and what was changed since.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    files: Vec<Vec<u8>>,
    watermark_us: i64,
    n_saved: usize,
}

impl Chain {
    /// Flushes into `out` and takes a snapshot: of what was touched, where there is a base, but for every seventh; now and
    /// then some files are folded into one.
    pub fn save(
        &mut self,
        operator: &mut dyn Stateful,
        watermark_us: i64,
        (slot, n_slots): (u32, u32),
        out: &mut Output,
    ) -> Result<()> {
        operator.flush(out)?;
        while !operator.catch_up(When::Now, out)? {}
        let scope = if self.n_saved.is_multiple_of(7) { Scope::All } else { Scope::Touched };
        self.n_saved += 1;
        let contents = operator.snapshot(scope)?.into_contents(OPERATOR, watermark_us, (slot, n_slots));
        assert!(scope == Scope::Touched || contents.touched.is_none(), "all was asked for");
        let (low, high) = hash::range_of(slot, n_slots);
        let touched = contents.touched.as_deref().unwrap_or_default();
        assert!(touched.is_sorted_by(|one, other| one < other), "in order, each once");
        assert!(touched.iter().all(|hash| (low..=high).contains(hash)), "keys of other slices");
        if contents.touched.is_none() {
            self.files.clear();
        }
        self.watermark_us = watermark_us;
        if !contents.says_nothing() {
            self.files.push(file::encode(&contents).expect("encoded"));
        }
        if self.files.len() > 3 {
            let from = self.n_saved % 3;
            let part: Vec<_> = self.files.drain(from..).map(|bytes| file::decode(&bytes).expect("decoded")).collect();
            let folded = chain::fold(part, watermark_us, &(0..=u64::MAX))?;
            self.files.push(file::encode(&folded).expect("encoded"));
        }
        Ok(())
    }
}

/// Restores one slice from the chains of all slices of an earlier life.
pub fn restore_chains(operator: &mut dyn Stateful, chains: &[Chain], slot: u32, n_slots: u32) -> Result<()> {
    let mut gathered = Gathered::new(OPERATOR, (slot, n_slots));
    for chain in chains {
        let files = chain.files.iter().map(|bytes| file::decode(bytes).expect("decoded")).collect();
        gathered.add(files, chain.watermark_us)?;
        gathered.hand_over(operator)?;
    }
    gathered.restore(operator)
}

/// Flushes into `out` and gives the whole state as a file, if there is any.
pub fn snapshot(
    operator: &mut dyn Stateful,
    watermark_us: i64,
    slot: u32,
    n_slots: u32,
    out: &mut Output,
) -> Result<Vec<Vec<u8>>> {
    operator.flush(out)?;
    while !operator.catch_up(When::Now, out)? {}
    let contents = operator.snapshot(Scope::All)?.into_contents(OPERATOR, watermark_us, (slot, n_slots));
    Ok(match contents.n_rows() {
        0 => Vec::new(),
        _ => vec![file::encode(&contents).expect("encoded")],
    })
}

/// Restores one slice from such files of all slices of an earlier life.
pub fn restore(operator: &mut dyn Stateful, files: &[Vec<u8>], slot: u32, n_slots: u32) -> Result<()> {
    let mut gathered = Gathered::new(OPERATOR, (slot, n_slots));
    for bytes in files {
        let contents = file::decode(bytes).expect("decoded");
        let watermark_us = contents.watermark_us;
        gathered.add(vec![contents], watermark_us)?;
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
