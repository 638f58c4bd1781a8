//! The groups of one pane, in one of the two forms that they have, and which of them were touched.

use crate::runtime::operators::groups::{Aggregation, Frozen, Inputs, Live};
use crate::runtime::operators::stateful::external;
use crate::runtime::operators::touched::Touched;
use crate::state::hash;
use datafusion::error::Result;
use std::sync::Arc;

#[derive(Debug)]
enum Groups {
    None,
    Live(Live),
    Frozen(Frozen),
}

#[derive(Debug)]
pub struct Pane {
    groups: Groups,
    /// By group, since the last snapshot.
    touched: Touched,
    /// By group: the hash of its key, as far as a snapshot has asked for it.
    hashes: Vec<u64>,
}

impl Default for Pane {
    fn default() -> Self {
        Self { groups: Groups::None, touched: Touched::default(), hashes: Vec::new() }
    }
}

impl Pane {
    /// A pane as files say.
    pub fn restored(aggregation: &Arc<Aggregation>, frozen: &Frozen) -> Result<Self> {
        let groups = Groups::Live(Live::thaw(aggregation, frozen)?);
        Ok(Self { groups, ..Self::default() })
    }

    /// See [`Live::update_with`].
    pub fn update(&mut self, aggregation: &Arc<Aggregation>, inputs: &Inputs) -> Result<()> {
        let mut live = self.take_live(aggregation)?;
        live.update_with(inputs)?;
        self.touched.mark_each(live.groups().iter().copied(), live.n_groups());
        self.groups = Groups::Live(live);
        Ok(())
    }

    /// See [`Live::merge`].
    pub fn merge(&mut self, aggregation: &Arc<Aggregation>, frozen: &Frozen) -> Result<()> {
        let mut live = self.take_live(aggregation)?;
        live.merge(frozen)?;
        self.touched.mark_each(live.groups().iter().copied(), live.n_groups());
        self.groups = Groups::Live(live);
        Ok(())
    }

    /// Freezes the groups, adds the hashes of those that were touched since the last time, and gives how many there are.
    pub fn settle(&mut self, aggregation: &Arc<Aggregation>, touched: &mut Vec<u64>) -> Result<usize> {
        let n_known = self.hashes.len();
        let frozen = self.frozen(aggregation)?;
        let n_groups = frozen.n_groups;
        let n_new = n_groups - n_known;
        let keys = frozen.columns[..aggregation.n_keys()].iter().map(|column| column.slice(n_known, n_new));
        let new = hash::hash_rows(&keys.collect::<Vec<_>>(), n_new).map_err(external)?;
        self.hashes.extend(new);
        self.touched.drain(&self.hashes, touched);
        Ok(n_groups)
    }

    /// By group; all are known after [`Pane::settle`].
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    pub fn frozen(&mut self, aggregation: &Arc<Aggregation>) -> Result<&Frozen> {
        let frozen = match std::mem::replace(&mut self.groups, Groups::None) {
            Groups::None => Live::new(aggregation)?.freeze()?,
            Groups::Live(live) => live.freeze()?,
            Groups::Frozen(frozen) => frozen,
        };
        self.groups = Groups::Frozen(frozen);
        match &self.groups {
            Groups::Frozen(frozen) => Ok(frozen),
            Groups::None | Groups::Live(_) => unreachable!("the pane was just frozen"),
        }
    }

    pub fn into_live(mut self, aggregation: &Arc<Aggregation>) -> Result<Live> {
        self.take_live(aggregation)
    }

    pub fn memory_bytes(&self) -> usize {
        let groups = match &self.groups {
            Groups::None => 0,
            Groups::Live(live) => live.memory_bytes(),
            Groups::Frozen(frozen) => frozen.memory_bytes(),
        };
        groups + self.touched.memory_bytes() + self.hashes.capacity() * size_of::<u64>()
    }

    fn take_live(&mut self, aggregation: &Arc<Aggregation>) -> Result<Live> {
        match std::mem::replace(&mut self.groups, Groups::None) {
            Groups::None => Live::new(aggregation),
            Groups::Live(live) => Ok(live),
            Groups::Frozen(frozen) => {
                let live = Live::thaw(aggregation, &frozen)?;
                self.moved(live.groups(), live.n_groups());
                Ok(live)
            }
        }
    }

    /// Groups have come back to life, and mostly under their numbers; but which of two keys that hash alike within
    /// DataFusion comes first depends on what else there is. `now`: by the number that a group had.
    fn moved(&mut self, now: &[usize], n_groups: usize) {
        if now.iter().enumerate().all(|(before, now)| before == *now) {
            return;
        }
        let mut before = vec![0; n_groups];
        now.iter().enumerate().for_each(|(number, now)| before[*now] = number);
        self.touched.renumber(&before, &self.hashes);
        // Asked for again when they are needed.
        self.hashes = Vec::new();
    }
}
