//! Where the aggregates of sessions lie: in layers of fragments.
//!
//! DataFusion's accumulators hand out a state only with all others. So rows go to one live layer, which is frozen to
//! plain columns as soon as a session with a fragment in it is over; what comes later goes to a new one. Each fragment is
//! frozen once, and a session that is over costs what it has and not what is open besides. Fragments of sessions that
//! went, and many fragments of one session, stay in their layers until these are compacted, which happens when there is
//! more to gain than to copy.

use crate::runtime::operators::groups::{Aggregation, Frozen, Live};
use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use datafusion::error::Result;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Below this many, fragments that nobody needs are not worth compacting.
const FEW_FRAGMENTS: usize = 4096;

/// A group of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    layer: u64,
    row: u32,
}

#[derive(Debug)]
pub struct Layers {
    /// The only key is the fragment, or the session when fragments are merged.
    aggregation: Arc<Aggregation>,
    live: Option<Live>,
    /// The name of the live layer; no layer has the name of one before.
    live_layer: u64,
    n_live: u32,
    /// By layer: the states of its fragments.
    frozen: BTreeMap<u64, Frozen>,
    n_frozen: usize,
}

impl Layers {
    pub fn new(aggregates: Vec<Arc<AggregateFunctionExpr>>) -> Result<Self> {
        let fragment = Schema::new(vec![Field::new("fragment", DataType::UInt64, false)]);
        let aggregation = Arc::new(Aggregation::new(&fragment, &[0], aggregates)?);
        Ok(Self { aggregation, live: None, live_layer: 0, n_live: 0, frozen: BTreeMap::new(), n_frozen: 0 })
    }

    pub fn aggregation(&self) -> &Aggregation {
        &self.aggregation
    }

    pub fn is_live(&self, fragment: Fragment) -> bool {
        fragment.layer == self.live_layer
    }

    /// The group of the live layer for a session with these fragments, which gets one if it has none there.
    pub fn live_fragment(&mut self, fragments: &mut Vec<Fragment>) -> u32 {
        match fragments.last().filter(|fragment| self.is_live(**fragment)) {
            Some(fragment) => fragment.row,
            None => {
                let row = self.n_live;
                fragments.push(Fragment { layer: self.live_layer, row });
                self.n_live += 1;
                row
            }
        }
    }

    /// Takes rows, `fragments` are the groups that each belongs to.
    pub fn update(
        &mut self,
        fragments: Vec<u64>,
        arguments: &[Vec<ArrayRef>],
        filters: &[Option<BooleanArray>],
    ) -> Result<()> {
        let n_rows = fragments.len();
        let live = match &mut self.live {
            Some(live) => live,
            None => self.live.insert(Live::new(&self.aggregation)?),
        };
        live.update(&[Arc::new(UInt64Array::from(fragments))], n_rows, arguments, filters)
    }

    /// The results of sessions that are over, given their fragments: one column per aggregate, in the order of sessions.
    pub fn finish<'a>(&mut self, sessions: impl Iterator<Item = &'a [Fragment]>) -> Result<Vec<ArrayRef>> {
        let (keys, results, _) = self.merged(sessions)?.finish()?;
        in_order(&keys[0], results)
    }

    /// Whether fewer fragments would do by half.
    pub fn worth_compacting(&self, n_sessions: usize) -> bool {
        self.n_frozen > 2 * n_sessions + FEW_FRAGMENTS || (n_sessions == 0 && self.n_frozen > 0)
    }

    /// Makes one fragment of each session's fragments and forgets all others; gives their states in the order of sessions.
    pub fn compact(&mut self, sessions: Vec<&mut Vec<Fragment>>) -> Result<Vec<ArrayRef>> {
        let n_groups = sessions.len();
        let states = match n_groups {
            0 => Vec::new(),
            _ => {
                let merged = self.merged(sessions.iter().map(|fragments| fragments.as_slice()))?;
                let mut numbers = merged.freeze()?.columns;
                let states = numbers.split_off(1);
                in_order(&numbers[0], states)?
            }
        };
        self.frozen.clear();
        (self.live, self.n_live) = (None, 0);
        let fragments = self.restore(states.clone(), n_groups);
        for (session, fragment) in sessions.into_iter().zip(fragments) {
            *session = vec![fragment];
        }
        Ok(states)
    }

    /// Makes one fragment of each of these sessions' fragments and gives their states, as [`Layers::compact`] does, but
    /// leaves the other sessions alone.
    pub fn gather(&mut self, sessions: Vec<&mut Vec<Fragment>>) -> Result<Vec<ArrayRef>> {
        let n_groups = sessions.len();
        self.freeze()?;
        let merged = self.merged(sessions.iter().map(|fragments| fragments.as_slice()))?;
        let mut numbers = merged.freeze()?.columns;
        let states = numbers.split_off(1);
        let states = in_order(&numbers[0], states)?;
        let n_before = self.n_frozen;
        let fragments = self.restore(states.clone(), n_groups);
        self.n_frozen += n_before;
        for (session, fragment) in sessions.into_iter().zip(fragments) {
            *session = vec![fragment];
        }
        Ok(states)
    }

    /// Takes states as a layer of their own, where the live one is empty; gives its fragments.
    pub fn restore(&mut self, states: Vec<ArrayRef>, n_groups: usize) -> Vec<Fragment> {
        let layer = self.live_layer;
        self.live_layer += 1;
        self.n_frozen = n_groups;
        if n_groups > 0 {
            self.frozen.insert(layer, Frozen { columns: states, n_groups });
        }
        (0..n_groups as u32).map(|row| Fragment { layer, row }).collect()
    }

    pub fn memory_bytes(&self) -> usize {
        let frozen: usize = self.frozen.values().map(Frozen::memory_bytes).sum();
        frozen + self.live.as_ref().map_or(0, Live::memory_bytes)
    }

    /// One group for each session, its number, of all its fragments.
    fn merged<'a>(&mut self, sessions: impl Iterator<Item = &'a [Fragment]>) -> Result<Live> {
        let mut by_layer: BTreeMap<u64, (Vec<u32>, Vec<u64>)> = BTreeMap::new();
        for (session, fragments) in sessions.enumerate() {
            for fragment in fragments {
                let (rows, owners) = by_layer.entry(fragment.layer).or_default();
                rows.push(fragment.row);
                owners.push(session as u64);
            }
        }
        if by_layer.contains_key(&self.live_layer) {
            self.freeze()?;
        }
        let mut merged = Live::new(&self.aggregation)?;
        for (layer, (rows, owners)) in by_layer {
            let Some(frozen) = self.frozen.get(&layer) else { continue };
            let n_groups = rows.len();
            let rows = UInt32Array::from(rows);
            let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(owners))];
            for state in &frozen.columns {
                columns.push(take(state, &rows, None)?);
            }
            merged.merge(&Frozen { columns, n_groups })?;
        }
        Ok(merged)
    }

    /// Freezes the live layer and begins another.
    fn freeze(&mut self) -> Result<()> {
        let Some(live) = self.live.take() else { return Ok(()) };
        let mut frozen = live.freeze()?;
        let states = frozen.columns.split_off(1);
        frozen.columns = in_order(&frozen.columns[0], states)?;
        self.n_frozen += frozen.n_groups;
        self.frozen.insert(self.live_layer, frozen);
        self.live_layer += 1;
        self.n_live = 0;
        Ok(())
    }
}

/// Columns sorted by their numbers, which are those from zero on.
fn in_order(numbers: &ArrayRef, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let numbers = numbers.as_primitive::<UInt64Type>().values();
    if numbers.iter().enumerate().all(|(at, number)| at as u64 == *number) {
        return Ok(columns);
    }
    let mut places = vec![0; numbers.len()];
    for (at, number) in numbers.iter().enumerate() {
        places[*number as usize] = at as u32;
    }
    let places = UInt32Array::from(places);
    columns.iter().map(|column| Ok(take(column, &places, None)?)).collect()
}
