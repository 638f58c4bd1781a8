//! The rows of a batch meet the rows of the other side.
//!
//! The lists of the other side are walked for row and slot numbers alone; columns are gathered for many pairs at a time,
//! first those that the residual condition reads, then, of the pairs that are left, those that go out.

use super::LEFT;
use super::arrival::Arrival;
use super::emit::Emitter;
use super::residual::Residual;
use super::rows::NONE;
use super::shape::Shape;
use super::store::Store;
use crate::runtime::operators::stateful::Output;
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::ArrayRef;
use datafusion::error::Result;

#[derive(Debug, Default)]
struct Pairs {
    /// Rows of the batch.
    rows: Vec<u32>,
    /// Slots of the other side.
    slots: Vec<u32>,
    /// Only of those that go out.
    signs: Vec<i8>,
}

impl Pairs {
    fn clear(&mut self) {
        self.rows.clear();
        self.slots.clear();
        self.signs.clear();
    }
}

pub struct Meeting<'a> {
    /// The side of the batch.
    side: usize,
    shape: &'a Shape,
    residual: Option<&'a Residual>,
    emitter: &'a Emitter,
    arrival: &'a mut Arrival,
    other: &'a mut Store,
    candidates: Pairs,
    met: Pairs,
    crossed: Vec<u32>,
}

impl<'a> Meeting<'a> {
    pub fn new(
        side: usize,
        shape: &'a Shape,
        residual: Option<&'a Residual>,
        emitter: &'a Emitter,
        arrival: &'a mut Arrival,
        other: &'a mut Store,
    ) -> Self {
        if shape.counts(side) {
            arrival.matches = vec![0; arrival.n_rows];
        }
        let (candidates, met, crossed) = (Pairs::default(), Pairs::default(), Vec::new());
        Self { side, shape, residual, emitter, arrival, other, candidates, met, crossed }
    }

    /// Gives the pairs; counts matches on both sides; returns the slots of the other side that have come to a first
    /// match, or lost the last one, and could not be given alone as before.
    pub fn run(mut self, out: &mut Output) -> Result<Vec<u32>> {
        let first_only = self.side == LEFT && self.shape.settles && self.residual.is_none();
        for row in 0..self.arrival.n_rows {
            let mut slot = self.other.first(self.arrival.groups[row]);
            while slot != NONE {
                if self.in_time(row, slot) {
                    self.candidates.rows.push(row as u32);
                    self.candidates.slots.push(slot);
                    if self.candidates.rows.len() == BATCH_ROWS {
                        self.settle(out)?;
                    }
                    if first_only {
                        break;
                    }
                }
                slot = self.other.next(slot);
            }
        }
        self.settle(out)?;
        self.emit(out)?;
        Ok(self.crossed)
    }

    fn in_time(&self, row: usize, slot: u32) -> bool {
        let Some(horizon) = &self.shape.horizon else { return true };
        let (own_us, other_us) = (self.arrival.times[row], self.other.time_us(slot));
        match self.side {
            LEFT => horizon.meet(own_us, other_us),
            _ => horizon.meet(other_us, own_us),
        }
    }

    /// Which candidates do meet, and what comes of it.
    fn settle(&mut self, out: &mut Output) -> Result<()> {
        let mut candidates = std::mem::take(&mut self.candidates);
        if let Some(residual) = self.residual
            && !candidates.rows.is_empty()
        {
            let own = self.arrival.gather(&candidates.rows, residual.columns(self.side))?;
            let other = self.other.gather(&candidates.slots, residual.columns(1 - self.side))?;
            let (left, right) = self.in_order(own, other);
            let holds = residual.holds(left, right, candidates.rows.len())?;
            let mut holds_of = holds.values().iter();
            candidates.rows.retain(|_| holds_of.next().unwrap_or_default());
            let mut holds_of = holds.values().iter();
            candidates.slots.retain(|_| holds_of.next().unwrap_or_default());
        }
        for (row, slot) in candidates.rows.iter().zip(&candidates.slots) {
            let (row, slot) = (*row as usize, *slot);
            if self.shape.counts(self.side) {
                self.arrival.matches[row] += self.other.weight(slot);
            }
            if self.shape.counts(1 - self.side) && self.other.add_matches(slot, self.arrival.weight(row)) {
                self.crossed.push(slot);
            }
            if self.shape.pairs {
                let weight = self.arrival.weight(row) * self.other.weight(slot);
                for _ in 0..weight.unsigned_abs() {
                    self.met.rows.push(row as u32);
                    self.met.slots.push(slot);
                    self.met.signs.push(weight.signum() as i8);
                }
            }
        }
        candidates.clear();
        self.candidates = candidates;
        // Pairs are few after a residual condition: they wait until they fill a batch.
        if self.met.rows.len() >= BATCH_ROWS { self.emit(out) } else { Ok(()) }
    }

    fn emit(&mut self, out: &mut Output) -> Result<()> {
        let all = |n_columns: usize| (0..n_columns).collect::<Vec<_>>();
        let (own_columns, other_columns) = (all(self.arrival.columns.len()), all(self.other.n_columns()));
        let met = std::mem::take(&mut self.met);
        let rows = met.rows.chunks(BATCH_ROWS);
        for ((rows, slots), signs) in rows.zip(met.slots.chunks(BATCH_ROWS)).zip(met.signs.chunks(BATCH_ROWS)) {
            let own = self.arrival.gather(rows, &own_columns)?;
            let other = self.other.gather(slots, &other_columns)?;
            let (left, right) = self.in_order(own, other);
            self.emitter.pairs(left, right, signs, out)?;
        }
        self.met = met;
        self.met.clear();
        Ok(())
    }

    fn in_order(&self, own: Vec<ArrayRef>, other: Vec<ArrayRef>) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
        if self.side == LEFT { (own, other) } else { (other, own) }
    }
}
