//! Rows with a time to live.
//!
//! Invariant: a row that has no moment yet, because it lost its event time and no watermark has come since it did, is
//! among the undated ones of its side.

use super::arrival::Arrival;
use super::store::Counted;
use super::{Join, SIDES};
use crate::runtime::operators::expiring::{latest_times, rounded_us};
use crate::runtime::operators::stateful::Output;
use arrow::array::RecordBatch;
use datafusion::error::Result;
use std::collections::HashMap;

/// The moment of a row that has none yet.
pub const UNDATED: i64 = i64::MAX;

/// When a row that was touched then is forgotten.
pub fn until_us(touched_us: i64, ttl_us: i64) -> i64 {
    rounded_us(touched_us, ttl_us).saturating_add(ttl_us).min(UNDATED - 1)
}

impl Join {
    /// By row: the moment at which it is forgotten; nothing where rows have no time to live.
    pub(super) fn moments(&self, side: usize, batch: &RecordBatch) -> Vec<i64> {
        let Some(lifetime) = &self.spec.lifetime else { return Vec::new() };
        let columns = lifetime.times.get(side).map_or(&[][..], Vec::as_slice);
        let moment = |time_us: Option<i64>| time_us.map_or(UNDATED, |time_us| until_us(time_us, lifetime.ttl_us));
        match latest_times(batch, columns, self.watermark_us) {
            Some(times) => times.into_iter().map(moment).collect(),
            None => vec![UNDATED; batch.num_rows()],
        }
    }

    /// The rows without those that take back what is not there; nothing where that is all of them.
    pub(super) fn without_forgotten(
        &self,
        side: usize,
        arrival: &Arrival,
        out: &mut Output,
    ) -> Result<Option<Arrival>> {
        // Rows of a side that is not kept are there without being seen.
        let is_seen = self.spec.lifetime.is_some() && !self.is_settled_at_once(side);
        if !is_seen || arrival.weights.iter().all(|weight| *weight > 0) {
            return Ok(None);
        }
        let mut counts: HashMap<u128, i64> = HashMap::new();
        let mut left = Vec::with_capacity(arrival.n_rows);
        for (row, (hash, kept)) in self.stores[side].kept(arrival)?.into_iter().enumerate() {
            let count = counts.entry(hash).or_insert(kept.map_or(0, |kept| kept.weight));
            if arrival.weight(row) < 0 && *count + arrival.weight(row) < 0 {
                out.n_late += 1;
                continue;
            }
            *count += arrival.weight(row);
            left.push(row as u32);
        }
        if left.len() == arrival.n_rows { Ok(None) } else { arrival.select(&left).map(Some) }
    }

    /// A row that is there and comes again has the matches that were counted, also those that are forgotten: it is given
    /// alone, or not, as it was. One that went within the batch is not there, as if the batch had ended before it came back.
    pub(super) fn match_as_kept(&self, side: usize, arrival: &mut Arrival) -> Result<()> {
        if self.spec.lifetime.is_none() || arrival.matches.is_empty() {
            return Ok(());
        }
        let mut there: HashMap<u128, Option<Counted>> = HashMap::new();
        for (row, (hash, kept)) in self.stores[side].kept(arrival)?.into_iter().enumerate() {
            let row_is = there.entry(hash).or_insert(kept);
            let counted = row_is.get_or_insert(Counted { weight: 0, matches: arrival.matches[row] });
            arrival.matches[row] = counted.matches;
            counted.weight += arrival.weight(row);
            if counted.weight == 0 {
                *row_is = None;
            }
        }
        Ok(())
    }

    /// Lets the rows go whose moment has come.
    pub(super) fn forget_expired(&mut self) -> Result<()> {
        if self.spec.lifetime.is_none() || self.watermark_us == i64::MAX || self.watermark_us == i64::MIN {
            return Ok(());
        }
        for store in &mut self.stores {
            for slot in store.expired(self.watermark_us) {
                store.remove(slot);
            }
        }
        self.tidy()
    }

    /// Rows without a moment were written so, and are to be written again once they have one.
    pub(super) fn touch_undated(&mut self) {
        for side in SIDES {
            let store = &self.stores[side];
            for slot in store.undated() {
                self.touched.mark(store.group(slot));
            }
        }
    }
}
