//! The state of a slice's operators: made and restored within the slice's memory, kept within it, and measured.

use super::{Flow, Running};
use crate::control::StateFile;
use crate::runtime::Error;
use crate::runtime::budget::Held;
use crate::runtime::operators::paged::{self, Paged};
use crate::runtime::operators::plan;
use crate::runtime::operators::stateful::{Gathered, Stateful, When, external};
use crate::runtime::shared::Shared;
use crate::runtime::watermark::Progress;
use crate::state::file;
use datafusion::error::DataFusionError;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that one slice's state may take in memory.
pub fn memory_of_slice(shared: &Shared) -> usize {
    usize::try_from(shared.config.state_memory / u64::from(shared.config.slices.max(1))).unwrap_or(usize::MAX)
}

/// The operator of node `at` with the state that the checkpoint holds for this slice; nothing where the node has none.
pub fn open(shared: &Arc<Shared>, at: usize, slot: u32) -> Result<Option<Box<dyn Stateful>>, Error> {
    let failed = shared.operator_error(at);
    let Some(keys) = plan::keys(&shared.dataflow, at) else {
        let operator = plan::make(&shared.dataflow, at, slot).map_err(&failed)?;
        return operator.map(|operator| restored(shared, at, slot, operator)).transpose();
    };
    let making = Arc::clone(shared);
    let make = move || {
        let made = plan::make(&making.dataflow, at, slot)?;
        made.ok_or_else(|| DataFusionError::Internal(format!("node {at} has keys and no state")))
    };
    // Until it is measured for the first time, each may have the same.
    let n_paged = (0..shared.dataflow.nodes.len()).filter(|at| plan::keys(&shared.dataflow, *at).is_some()).count();
    let spec = paged::Spec {
        make: Box::new(make),
        keys,
        folder: shared.config.spill_dir.clone(),
        bytes: memory_of_slice(shared) / n_paged.max(1),
    };
    let operator = Box::new(Paged::new(spec).map_err(&failed)?);
    restored(shared, at, slot, operator).map(Some)
}

fn restored(
    shared: &Shared,
    node: usize,
    slot: u32,
    mut operator: Box<dyn Stateful>,
) -> Result<Box<dyn Stateful>, Error> {
    let id = &shared.node(node).id;
    if !shared.restored.state.contains_key(id) {
        return Ok(operator);
    }
    let mut gathered = Gathered::new(id, (slot, shared.n_slots()));
    for chain in shared.restored.chains_for(id, slot, shared.n_slots()) {
        let mut files = Vec::with_capacity(chain.files.len());
        for StateFile { name, bytes: size } in &chain.files {
            if shared.stopped() {
                return Err(Error::Stopped);
            }
            let bytes = shared.config.checkpoints.get_blocking(&shared.io, name).map_err(|source| Error::Restore {
                job: shared.config.job.clone(),
                operator: id.clone(),
                epoch: shared.restored.epoch,
                source: Box::new(source),
            })?;
            files.push(file::decode(&bytes).map_err(|source| {
                let source = external(source).context(format!("state file {name}"));
                shared.operator_error(node)(source)
            })?);
            shared.counters.restored_bytes.fetch_add(*size, Relaxed);
        }
        // A checkpoint of an earlier version says in its files how far event time had come.
        let watermark_us = match chain.n_slots {
            0 => files.iter().map(|file| file.watermark_us).min().unwrap_or(chain.watermark_us),
            _ => chain.watermark_us,
        };
        let added = gathered.add(files, watermark_us).and_then(|()| gathered.hand_over(operator.as_mut()));
        added.map_err(shared.operator_error(node))?;
    }
    gathered.restore(operator.as_mut()).map_err(shared.operator_error(node))?;
    Ok(operator)
}

impl Flow {
    /// Lets operators put state on disk, if more has come than memory has room for.
    pub fn make_room(&mut self) -> Result<(), Error> {
        if !self.budget.is_due() {
            return Ok(());
        }
        let nodes: Vec<usize> = (0..self.operators.len()).filter(|node| self.stateful(*node).is_some()).collect();
        let held = nodes.iter().filter_map(|node| self.stateful(*node));
        let held = held.map(|operator| Held { bytes: operator.memory_bytes(), can_spill: operator.can_spill() });
        let held: Vec<Held> = held.collect();
        let allowed = self.budget.allot(&held);
        for (node, bytes) in nodes.into_iter().zip(allowed) {
            if let Running::Stateful(operator) = &mut self.operators[node] {
                let mut out = self.graph.output(node);
                let outer = self.meter.enter(node);
                operator.fit(bytes, &mut out).map_err(self.shared.operator_error(node))?;
                self.meter.leave(outer);
                self.emit(node, out)?;
            }
        }
        Ok(())
    }

    /// Does a part of what operators put off, where it is worth it; gives whether nothing more of it is to be done now.
    pub fn catch_up(&mut self) -> Result<bool, Error> {
        let (mut is_done, mut moved) = (true, false);
        for node in 0..self.operators.len() {
            if let Running::Stateful(operator) = &mut self.operators[node]
                && operator.can_spill()
            {
                let mut out = self.graph.output(node);
                let outer = self.meter.enter(node);
                let caught_up = operator.catch_up(When::Worthwhile, &mut out);
                self.meter.leave(outer);
                is_done &= caught_up.map_err(self.shared.operator_error(node))?;
                self.emit(node, out)?;
                moved |= self.output_moved(node);
            }
        }
        if moved {
            self.propagate()?;
        }
        Ok(is_done)
    }

    /// Lets an operator say everything that its input so far makes it say.
    pub(super) fn settle(&mut self, node: usize) -> Result<(), Error> {
        loop {
            let Running::Stateful(operator) = &mut self.operators[node] else { return Ok(()) };
            let mut out = self.graph.output(node);
            let outer = self.meter.enter(node);
            let caught_up = operator.flush(&mut out).and_then(|()| operator.catch_up(When::Now, &mut out));
            self.meter.leave(outer);
            let caught_up = caught_up.map_err(self.shared.operator_error(node))?;
            self.emit(node, out)?;
            if caught_up {
                return Ok(());
            }
            self.make_room()?;
            if self.shared.stopped() {
                return Err(Error::Stopped);
            }
        }
    }

    /// Looks how far an operator's output has come; gives whether that is further than before.
    pub(super) fn output_moved(&mut self, node: usize) -> bool {
        let Some(operator) = self.stateful(node) else { return false };
        let (watermark_us, before) = (operator.output_watermark_us(), self.outputs[node]);
        self.outputs[node] = before.advanced(Progress { watermark_us, ..self.inputs[node] });
        self.outputs[node] != before
    }

    fn stateful(&self, node: usize) -> Option<&dyn Stateful> {
        match &self.operators[node] {
            Running::Stateful(operator) => Some(operator.as_ref()),
            _ => None,
        }
    }
}
