//! Joins of two streams.
//!
//! Each side keeps its rows by key, and a batch of one side meets what the other side has: every pair is found once, by
//! whichever row comes second. All is linear in the rows' weights, so a changelog's rows meet like others and the pair's
//! weight is the product. What outer, semi and anti joins give of a row alone depends on the sum of the weights of its
//! matches, which is kept with the row; when that sum rises above zero, or falls back, what was given is taken back or
//! given again.
//!
//! A side whose rows can meet nothing that is still to come, because the other input has ended, is not kept: a stream that
//! is joined with a table that was read to its end keeps the table alone.
//!
//! With bounds in event time rows go when the watermark says that nothing can meet them any more. If, besides, nothing
//! is ever taken back, a row without a match is given when it goes, and the output takes nothing back either.
//!
//! Without bounds rows may have a time to live. Each row goes by itself then, on its side, so many moments after it came
//! ([`expiring`](super::expiring) says which); what was given of it stays, and nothing is said. A retraction of a row that
//! went so is left out and counted as late, and the matches that it was of others stay counted, as the pairs stay given.
//!
//! Invariant: after every batch the sum of what was given is the join of the sums of what came in and was not late;
//! where rows wait for their expiry, that holds once they have expired.
//!
//! Snapshots: a key is touched when a row of it is kept, and, where matches are counted, when a row of the other side
//! comes. A row that expires goes only because event time passes: it says until when it counts. A side that is no longer
//! kept, because the other input has ended, is told by giving all.

mod arrival;
mod emit;
mod expiry;
mod index;
mod keys;
mod lifetime;
mod meet;
pub mod residual;
mod rows;
mod shape;
mod state;
mod store;

use crate::dataflow::Lifetime;
use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful, Timing};
use crate::runtime::operators::touched::{Selection, Touched, hash_new};
use crate::state::hash;
use arrival::Arrival;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use emit::{Chosen, Emitter};
use keys::Keys;
use meet::Meeting;
use residual::Residual;
use rows::NONE;
use shape::Shape;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{DEAD_MIN, Layout, Store};

const LEFT: usize = 0;
const RIGHT: usize = 1;
const SIDES: [usize; 2] = [LEFT, RIGHT];

/// How the operator was planned; see `Operator::Join`.
#[derive(Debug)]
pub struct Spec {
    pub join: crate::dataflow::Join,
    pub left: Side,
    pub right: Side,
    /// The columns of the left input and then of the right one, or of the left one alone, of a mark join with the mark; the
    /// weight last where the output is a changelog.
    pub output: SchemaRef,
    /// Whether the output is a changelog; see [`crate::dataflow::Join::gives_changes`].
    pub changes: bool,
    /// How long rows are kept that have no bounds.
    pub lifetime: Option<Lifetime>,
}

/// An input.
#[derive(Debug)]
pub struct Side {
    /// The weight last where it is a changelog.
    pub schema: SchemaRef,
    pub changes: bool,
}

impl Side {
    /// The columns without the weight.
    fn data_fields(&self) -> &[Arc<Field>] {
        let fields = self.schema.fields();
        &fields[..fields.len().saturating_sub(usize::from(self.changes))]
    }
}

impl Spec {
    fn side(&self, side: usize) -> &Side {
        if side == LEFT { &self.left } else { &self.right }
    }

    fn keys(&self, side: usize) -> &[usize] {
        if side == LEFT { &self.join.left_keys } else { &self.join.right_keys }
    }

    /// The columns that both sides have in common.
    fn key_schema(&self) -> Result<SchemaRef> {
        if self.join.left_keys.len() != self.join.right_keys.len() {
            return Err(DataFusionError::Plan("a join needs as many keys on the left as on the right".into()));
        }
        let (left, right) = (self.left.data_fields(), self.right.data_fields());
        let pairs = self.join.left_keys.iter().zip(&self.join.right_keys);
        let fields = pairs.enumerate().map(|(at, (left_key, right_key))| {
            let (Some(left), Some(right)) = (left.get(*left_key), right.get(*right_key)) else {
                return Err(DataFusionError::Plan(format!("a join has no key columns {left_key} and {right_key}")));
            };
            if left.data_type() != right.data_type() || !hash::supported(left.data_type()) {
                return Err(DataFusionError::Plan(format!(
                    "join {} of type {} with {} of type {}: cast both to one type that can be a key",
                    left.name(),
                    left.data_type(),
                    right.name(),
                    right.data_type()
                )));
            }
            Ok(Field::new(format!("key_{at}"), left.data_type().clone(), true))
        });
        Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
    }
}

#[derive(Debug)]
pub struct Join {
    spec: Spec,
    shape: Shape,
    residual: Option<Residual>,
    emitter: Emitter,
    keys: Keys,
    /// By group: the hash of its key.
    hashes: Vec<u64>,
    /// By group, since the last snapshot.
    touched: Touched,
    /// By side.
    stores: [Store; 2],
    /// By side: whether its input has ended.
    ended: [bool; 2],
    watermark_us: i64,
}

impl Join {
    pub fn new(mut spec: Spec) -> Result<Self> {
        let shape = Shape::new(&spec)?;
        spec.lifetime = spec.lifetime.filter(|_| shape.horizon.is_none());
        if spec.changes != spec.join.gives_changes(spec.left.changes, spec.right.changes) {
            return Err(DataFusionError::Internal(format!(
                "a {} join is planned with the wrong kind of output: {}",
                spec.join.kind, spec.output
            )));
        }
        let plain = |side: &Side| side.data_fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
        let (left, right) = (plain(&spec.left), plain(&spec.right));
        let residual = spec.join.residual.as_ref();
        let residual = residual.map(|predicate| Residual::new(predicate, &left, &right)).transpose()?;
        let store = |side: usize, fields: &[Field], changes: bool| {
            Store::new(Layout {
                side,
                types: fields.iter().map(|field| field.data_type().clone()).collect(),
                changes,
                counted: shape.counts(side),
                horizon: shape.horizon,
                ttl_us: spec.lifetime.as_ref().map(|lifetime| lifetime.ttl_us),
            })
        };
        Ok(Self {
            residual,
            emitter: Emitter::new(&spec, shape.pairs),
            keys: Keys::new(spec.key_schema()?)?,
            hashes: Vec::new(),
            touched: Touched::default(),
            stores: [store(LEFT, &left, spec.left.changes)?, store(RIGHT, &right, spec.right.changes)?],
            ended: [false; 2],
            watermark_us: i64::MIN,
            shape,
            spec,
        })
    }
}

impl Stateful for Join {
    fn process(&mut self, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let side = input;
        let (mut arrival, keyless) = self.admit(side, batch, out)?;
        if keyless.n_rows > 0 && self.shape.shows(side, 0) {
            let mut chosen = Chosen::default();
            (0..keyless.n_rows).for_each(|row| self.choose(side, &mut chosen, row as u32, keyless.weight(row), 0));
            self.emitter.alone(side, &chosen, |rows, columns| keyless.gather(rows, columns), out)?;
        }
        if arrival.n_rows == 0 {
            return Ok(());
        }
        if let Some(left) = self.without_forgotten(side, &arrival, out)? {
            arrival = left;
        }
        if arrival.n_rows == 0 {
            return Ok(());
        }
        self.intern(side, &mut arrival)?;
        let other = &mut self.stores[1 - side];
        let meeting = Meeting::new(side, &self.shape, self.residual.as_ref(), &self.emitter, &mut arrival, other);
        let crossed = meeting.run(out)?;
        self.match_as_kept(side, &mut arrival)?;
        let kept = self.give_alone(side, &arrival, out)?;
        self.give_crossed(1 - side, crossed, out)?;
        let n_groups = self.keys.n_groups();
        match self.shape.counts(1 - side) {
            true => self.touched.mark_each(arrival.groups.iter().copied(), n_groups),
            false => self.touched.mark_each(kept.iter().map(|row| arrival.groups[*row as usize]), n_groups),
        }
        self.stores[side].insert(&arrival, kept)?;
        self.tidy()
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = watermark_us;
        if self.spec.lifetime.is_some() {
            // At the end nothing is so old.
            if watermark_us < i64::MAX {
                self.stores.iter_mut().for_each(|store| store.date(watermark_us));
            }
            return self.forget_expired();
        }
        for side in SIDES {
            let expired = self.stores[side].expired(watermark_us);
            let store = &mut self.stores[side];
            if self.shape.waits(side) {
                let mut chosen = Chosen::default();
                for slot in expired.iter().filter(|slot| self.shape.shows(side, store.matches(**slot))) {
                    chosen.push(*slot, store.weight(*slot));
                }
                self.emitter.alone(side, &chosen, |slots, columns| store.gather(slots, columns), out)?;
            }
            for slot in expired {
                store.remove(slot);
            }
        }
        self.tidy()
    }

    fn input_ended(&mut self, input: usize) -> Result<()> {
        self.ended[input] = true;
        // Whether a row of the other side has matches is settled now: nothing comes that could find it.
        if self.is_settled_at_once(1 - input) && self.stores[1 - input].n_rows() > 0 {
            self.touched.mark_all();
            self.stores[1 - input] = self.stores[1 - input].fresh()?;
            self.tidy()?;
        }
        Ok(())
    }

    fn output_watermark_us(&self) -> i64 {
        match &self.shape.horizon {
            Some(horizon) => horizon.output_watermark_us(self.watermark_us),
            None => self.watermark_us,
        }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let selection = self.touched.take(scope, &self.hashes, self.keys.n_groups());
        let tables = self.tables(selection.as_ref())?;
        self.touch_undated();
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        self.take_back(tables)?;
        self.forget_expired()
    }

    fn memory_bytes(&self) -> usize {
        let touched = self.touched.memory_bytes() + self.hashes.capacity() * size_of::<u64>();
        self.keys.memory_bytes() + touched + self.stores.iter().map(Store::memory_bytes).sum::<usize>()
    }

    fn is_timeless(&self) -> bool {
        self.shape.horizon.is_none() && self.spec.lifetime.is_none()
    }

    fn timing(&self) -> Timing {
        let due_us = self.stores.iter().filter_map(Store::next_expiry).min();
        Timing { due_us, from_us: i64::MAX }
    }
}

impl Join {
    /// Whether a row of this side meets all that it will ever meet when it comes, so that it need not be kept. A row that
    /// waits for its expiry must be.
    fn is_settled_at_once(&self, side: usize) -> bool {
        self.ended[1 - side] && self.shape.horizon.is_none()
    }

    fn intern(&mut self, side: usize, arrival: &mut Arrival) -> Result<()> {
        let columns = arrival.columns(self.spec.keys(side));
        self.keys.intern(&columns, arrival.n_rows, &mut arrival.groups)?;
        let n_groups = self.keys.n_groups();
        hash_new(&mut self.hashes, &columns, &arrival.groups, n_groups)?;
        self.stores.iter_mut().for_each(|store| store.grow(n_groups));
        Ok(())
    }

    /// A row of this side with so many matches goes out alone.
    fn choose(&self, side: usize, chosen: &mut Chosen, row: u32, weight: i64, matches: i64) {
        match self.shape.marks(side) {
            true => chosen.push_marked(row, weight, matches > 0),
            false => chosen.push(row, weight),
        }
    }

    /// Gives those of the rows that came which are given alone now; says which ones are to be kept.
    fn give_alone(&self, side: usize, arrival: &Arrival, out: &mut Output) -> Result<Vec<u32>> {
        let (mut chosen, mut kept) = (Chosen::default(), Vec::with_capacity(arrival.n_rows));
        for row in 0..arrival.n_rows {
            let matches = arrival.matches(row);
            // Where one side is always well behind the other, a row may have met all that it can before it comes.
            let has_expired = self
                .shape
                .horizon
                .as_ref()
                .is_some_and(|horizon| horizon.deadline_us(side, arrival.times[row]) < self.watermark_us);
            if self.shape.shows(side, matches) && (has_expired || !self.shape.waits(side)) {
                self.choose(side, &mut chosen, row as u32, arrival.weight(row), matches);
            }
            let is_settled = side == LEFT && self.shape.settles && matches > 0;
            if !has_expired && !is_settled && !self.is_settled_at_once(side) {
                kept.push(row as u32);
            }
        }
        self.emitter.alone(side, &chosen, |rows, columns| arrival.gather(rows, columns), out)?;
        Ok(kept)
    }

    /// Gives or takes back rows of this side whose matches were none and are some now, or the other way round.
    fn give_crossed(&mut self, side: usize, mut crossed: Vec<u32>, out: &mut Output) -> Result<()> {
        let store = &mut self.stores[side];
        // A row that went there and back within the batch is as it was.
        crossed.sort_unstable();
        let crossed: Vec<u32> = crossed
            .chunk_by(|one, other| one == other)
            .filter(|times| times.len() % 2 == 1)
            .map(|times| times[0])
            .collect();
        if !self.shape.waits(side) {
            let mut chosen = Chosen::default();
            for slot in &crossed {
                let (weight, matches) = (store.weight(*slot), store.matches(*slot));
                if self.shape.marks(side) {
                    chosen.push_marked(*slot, -weight, matches <= 0);
                    chosen.push_marked(*slot, weight, matches > 0);
                    continue;
                }
                chosen.push(*slot, if self.shape.shows(side, matches) { weight } else { -weight });
            }
            self.emitter.alone(side, &chosen, |slots, columns| store.gather(slots, columns), out)?;
        }
        if side == LEFT && self.shape.settles {
            crossed.into_iter().for_each(|slot| store.remove(slot));
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        let n_rows = self.stores.iter().map(Store::n_rows).sum::<usize>();
        if n_rows == 0 {
            for store in &mut self.stores {
                *store = store.fresh()?;
            }
            self.keys = self.keys.fresh()?;
            self.touched.renumber(&[], &self.hashes);
            self.hashes = Vec::new();
            return Ok(());
        }
        self.stores.iter_mut().try_for_each(Store::tidy)?;
        // Each group with rows has one at least, so at least half of the groups have none.
        if self.keys.n_groups() > 2 * n_rows + DEAD_MIN { self.regroup() } else { Ok(()) }
    }

    /// Forgets the keys without rows.
    fn regroup(&mut self) -> Result<()> {
        let mut numbers = vec![NONE; self.keys.n_groups()];
        let mut keys = self.keys.fresh()?;
        let mut found = Vec::new();
        for side in SIDES {
            let store = &self.stores[side];
            let (slots, groups): (Vec<u32>, Vec<usize>) =
                store.representatives().filter(|(_, group)| numbers[*group] == NONE).unzip();
            if slots.is_empty() {
                continue;
            }
            let columns = store.gather(&slots, self.spec.keys(side))?;
            keys.intern(&columns, slots.len(), &mut found)?;
            for (group, found) in groups.into_iter().zip(&found) {
                numbers[group] = *found as u32;
            }
        }
        let mut kept = vec![0; keys.n_groups()];
        let numbered = numbers.iter().enumerate().filter(|(_, number)| **number != NONE);
        numbered.for_each(|(group, number)| kept[*number as usize] = group);
        self.touched.renumber(&kept, &self.hashes);
        self.hashes = kept.iter().map(|group| self.hashes[*group]).collect();
        for store in &mut self.stores {
            store.regroup(&numbers, keys.n_groups());
        }
        self.keys = keys;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
