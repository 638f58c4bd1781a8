//! What a manifest holds for this job, by operator.
//!
//! Invariant: nothing that a checkpoint holds is dropped without a word: what a sink prepared must find its sink again,
//! and state that no operator asks for is told.

use crate::control::Manifest;
use crate::dataflow::{Dataflow, Operator};
use crate::runtime::Error;
use std::collections::BTreeMap;

/// By operator id.
#[derive(Debug, Default)]
pub struct Restored {
    /// 0 without a manifest: epochs begin at 1.
    pub epoch: u64,
    pub from_manifest: bool,
    pub positions: BTreeMap<String, BTreeMap<String, u64>>,
    pub watermarks: BTreeMap<String, BTreeMap<String, i64>>,
    /// Files relative to the checkpoint folder.
    pub state: BTreeMap<String, Vec<String>>,
    pub prepared: BTreeMap<String, Vec<String>>,
}

impl Restored {
    /// Also gives what a person should know about the fit of manifest and dataflow.
    pub fn new(job: &str, dataflow: &Dataflow, manifest: Option<&Manifest>) -> Result<(Self, Vec<String>), Error> {
        let Some(manifest) = manifest else {
            return Ok((Self::default(), Vec::new()));
        };
        let refuse = |text: String| Error::Manifest { job: job.to_string(), epoch: manifest.epoch, text };
        if manifest.job != job {
            return Err(refuse(format!(
                "the manifest is of job {}; give each job a checkpoint folder of its own",
                manifest.job
            )));
        }
        let mut restored = Self { epoch: manifest.epoch, from_manifest: true, ..Self::default() };
        for task in &manifest.tasks {
            for (operator, positions) in &task.positions {
                restored.positions.entry(operator.clone()).or_default().extend(positions.clone());
            }
            for (operator, watermarks) in &task.watermarks {
                restored.watermarks.entry(operator.clone()).or_default().extend(watermarks.clone());
            }
            for (operator, files) in &task.state {
                restored.state.entry(operator.clone()).or_default().extend(files.iter().cloned());
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
        if manifest.fingerprint != dataflow.fingerprint() {
            let gone = restored.positions.keys().chain(restored.state.keys()).filter(|id| !has(id));
            notices.extend(gone.map(|id| format!("operator {id} of the checkpoint is no longer in the query")));
            let holds_state = |operator: &Operator| match operator {
                Operator::Source { .. }
                | Operator::WindowAggregate { .. }
                | Operator::GroupAggregate { .. }
                | Operator::Join(_)
                | Operator::TopN { .. }
                | Operator::Over { .. }
                | Operator::Upsert { .. } => true,
                Operator::Project { .. }
                | Operator::Filter { .. }
                | Operator::Exchange { .. }
                | Operator::Union
                | Operator::Sink { .. }
                | Operator::Collect => false,
            };
            let is_new = |id: &String| !restored.positions.contains_key(id) && !restored.state.contains_key(id);
            let new = dataflow.nodes.iter().filter(|node| holds_state(&node.operator) && is_new(&node.id));
            notices.extend(new.map(|node| format!("operator {} is not in the checkpoint and starts empty", node.id)));
        }
        Ok((restored, notices))
    }
}
