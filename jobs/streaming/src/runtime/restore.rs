//! What a manifest holds for this job, by operator.
//!
//! Invariant: nothing that a checkpoint holds is dropped without a word: what a sink prepared must find its sink again,
//! and state that no operator asks for is told.

use crate::control::{Chain, Manifest};
use crate::dataflow::{Dataflow, Operator};
use crate::runtime::{Error, TaskConfig};
use crate::state::hash;
use std::collections::{BTreeMap, BTreeSet};

/// By operator id.
#[derive(Debug, Default)]
pub struct Restored {
    /// 0 without a manifest: epochs begin at 1.
    pub epoch: u64,
    pub from_manifest: bool,
    pub positions: BTreeMap<String, BTreeMap<String, u64>>,
    pub watermarks: BTreeMap<String, BTreeMap<String, i64>>,
    pub state: BTreeMap<String, Vec<Chain>>,
    /// Whether the state is of this very query.
    pub same_query: bool,
    /// Files relative to the checkpoint folder.
    pub prepared: BTreeMap<String, Vec<String>>,
    /// Of a later life: which splits the task had, by slot. Another list of all splits may be found by now, and the other
    /// tasks go on with theirs.
    pub splits: Option<BTreeMap<String, BTreeMap<String, u32>>>,
}

impl Restored {
    /// Also gives what a person should know about the fit of manifest and dataflow.
    pub fn new(dataflow: &Dataflow, config: &TaskConfig) -> Result<(Self, Vec<String>), Error> {
        let (job, manifest) = (config.job.as_str(), config.restore.as_ref());
        let Some(manifest) = manifest else {
            return match config.life {
                0 => Ok((Self::default(), Vec::new())),
                life => {
                    let text = format!("life {life} of task {} has no manifest to begin from", config.index);
                    Err(Error::Manifest { job: job.to_string(), epoch: 0, text })
                }
            };
        };
        let refuse = |text: String| Error::Manifest { job: job.to_string(), epoch: manifest.epoch, text };
        if manifest.job != job {
            return Err(refuse(format!(
                "the manifest is of job {}; give each job a checkpoint folder of its own",
                manifest.job
            )));
        }
        let same_query = manifest.fingerprint == dataflow.fingerprint();
        let mut restored = Self { epoch: manifest.epoch, from_manifest: true, same_query, ..Self::default() };
        if config.life > 0 {
            restored.splits = Some(own_splits(config, manifest).ok_or_else(|| {
                refuse(format!(
                    "it holds no share of task {} of generation {}, which is to begin its life {} with it",
                    config.index, config.generation, config.life
                ))
            })?);
        }
        for task in manifest.tasks.iter().filter(|task| config.life == 0 || task.index == config.index) {
            for (operator, positions) in &task.positions {
                restored.positions.entry(operator.clone()).or_default().extend(positions.clone());
            }
            for (operator, watermarks) in &task.watermarks {
                restored.watermarks.entry(operator.clone()).or_default().extend(watermarks.clone());
            }
            for (operator, chains) in &task.state {
                restored.state.entry(operator.clone()).or_default().extend(chains.iter().cloned());
            }
            for (operator, files) in &task.prepared {
                restored.prepared.entry(operator.clone()).or_default().extend(files.iter().cloned());
            }
        }
        let mut notices = Vec::new();
        let has = |id: &String| dataflow.nodes.iter().any(|node| node.id == *id);
        if let Some(gone) = restored.prepared.keys().find(|id| !has(id)) {
            return Err(refuse(format!(
                "sink {gone} prepared rows that are not visible yet, and the query no longer has it; run the earlier \
                 query until it has stopped with its last checkpoint, or start without this one"
            )));
        }
        if !same_query {
            notices.extend(fates(dataflow, Some(manifest)).into_iter().filter_map(|(id, fate)| match fate {
                Fate::Reuse => None,
                Fate::Rebuild => Some(format!("operator {id} is not in the checkpoint and starts empty")),
                Fate::Drop => Some(format!("operator {id} of the checkpoint is no longer in the query")),
            }));
        }
        Ok((restored, notices))
    }

    /// The chains of an operator's state that may hold anything of this slice's.
    pub fn chains_for(&self, operator: &str, slot: u32, n_slots: u32) -> impl Iterator<Item = &Chain> {
        let chains = self.state.get(operator).into_iter().flatten();
        chains.filter(move |chain| overlap(chain, slot, n_slots))
    }

    /// The size of what this slice reads.
    pub fn bytes_for(&self, slot: u32, n_slots: u32) -> u64 {
        self.state.keys().flat_map(|operator| self.chains_for(operator, slot, n_slots)).map(Chain::bytes).sum()
    }

    /// The chain that this slice goes on with: its own, if there are as many slices as there were. Others begin with a
    /// base.
    pub fn goes_on(&self, operator: &str, slot: u32, n_slots: u32) -> Option<&Chain> {
        let chains = self.state.get(operator).filter(|_| self.same_query)?;
        chains.iter().find(|chain| (chain.slot, chain.n_slots) == (slot, n_slots))
    }
}

/// Whether the writer of a chain may have left anything for this slice.
fn overlap(chain: &Chain, slot: u32, n_slots: u32) -> bool {
    if chain.slot >= chain.n_slots {
        // A checkpoint of an earlier version does not say.
        return true;
    }
    let (written, wanted) = (hash::range_of(chain.slot, chain.n_slots), hash::range_of(slot, n_slots));
    written.1 >= wanted.0 && written.0 <= wanted.1
}

/// The splits that a task reads in its generation.
fn own_splits(config: &TaskConfig, manifest: &Manifest) -> Option<BTreeMap<String, BTreeMap<String, u32>>> {
    let same_generation = manifest.generation == config.generation;
    let own = manifest.tasks.iter().find(|task| task.index == config.index && same_generation);
    own.map(|task| task.splits.clone())
}

/// What becomes of an operator's state when a query goes on from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the checkpoint.
    Reuse,
    /// It is not in the checkpoint and starts empty.
    Rebuild,
    /// The query no longer has it.
    Drop,
}

/// The operators of a query that hold state, in order, then those that only the checkpoint has.
pub fn fates(dataflow: &Dataflow, manifest: Option<&Manifest>) -> Vec<(String, Fate)> {
    let tasks = || manifest.into_iter().flat_map(|manifest| &manifest.tasks);
    let kept: BTreeSet<&String> = tasks().flat_map(|task| task.positions.keys().chain(task.state.keys())).collect();
    let has_state = dataflow.nodes.iter().filter(|node| holds_state(&node.operator));
    let mut fates: Vec<(String, Fate)> = has_state
        .map(|node| (node.id.clone(), if kept.contains(&node.id) { Fate::Reuse } else { Fate::Rebuild }))
        .collect();
    let gone = kept.into_iter().filter(|id| !dataflow.nodes.iter().any(|node| node.id == **id));
    fates.extend(gone.map(|id| (id.clone(), Fate::Drop)));
    fates
}

fn holds_state(operator: &Operator) -> bool {
    match operator {
        Operator::Source { .. }
        | Operator::WindowAggregate { .. }
        | Operator::GroupAggregate { .. }
        | Operator::Join(_)
        | Operator::Temporal(_)
        | Operator::TopN { .. }
        | Operator::Over { .. }
        | Operator::Upsert { .. }
        | Operator::Normalize { .. } => true,
        Operator::Project { .. }
        | Operator::Filter { .. }
        | Operator::Unnest { .. }
        | Operator::Exchange { .. }
        | Operator::LocalAggregate { .. }
        | Operator::LateRows { .. }
        | Operator::HoldBack { .. }
        | Operator::Lookup(_)
        | Operator::Union
        | Operator::Sink { .. }
        | Operator::Collect => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::StateFile;

    #[test]
    fn a_slice_reads_the_chains_whose_keys_may_be_its_own() {
        let chain = |slot, n_slots, bytes| {
            let file = |name: &str, bytes| StateFile { name: name.to_string(), bytes };
            Chain { slot, n_slots, files: vec![file("base", bytes), file("change", 1)], ..Chain::default() }
        };
        let state = BTreeMap::from([("group-1".to_string(), vec![chain(0, 2, 10), chain(1, 2, 20)])]);
        let restored = Restored { state, ..Restored::default() };
        let read = |n_slots: u32| (0..n_slots).map(|slot| restored.bytes_for(slot, n_slots)).collect::<Vec<u64>>();
        assert_eq!((read(1), read(2), read(3)), (vec![32], vec![11, 21], vec![11, 32, 21]));
        let unsaid = BTreeMap::from([("group-1".to_string(), vec![chain(0, 0, 10)])]);
        let restored = Restored { state: unsaid, ..Restored::default() };
        assert_eq!(restored.bytes_for(3, 4), 11, "an earlier version's may hold any key");
        assert_eq!(restored.chains_for("group-2", 0, 1).count(), 0);
    }
}
