//! A task's share of a checkpoint: gathered from its slices and put together.
//!
//! Invariant: a share is complete only when the part of every slice is written. A part that could not be written costs
//! its epoch and nothing else; the coordinator tries a higher one, and what the part held goes with the next one of its
//! slice ([`crate::runtime::archive`]).

use crate::control::TaskSnapshot;
use crate::functions::Versions;
use crate::runtime::operators::stateful::Snapshot;
use std::collections::BTreeMap;

/// What one slice gives to an epoch.
#[derive(Debug, Default)]
pub struct Part {
    pub slot: u32,
    pub epoch: u64,
    pub last: bool,
    /// By operator id: what was taken of its state since the last part that was handed on, in order.
    pub state: BTreeMap<String, Vec<Taken>>,
    /// By operator id: what the sink prepared.
    pub prepared: BTreeMap<String, Vec<u8>>,
    pub positions: BTreeMap<String, BTreeMap<String, u64>>,
    /// By source operator id: the slice's own, with its slot.
    pub splits: BTreeMap<String, BTreeMap<String, u32>>,
    pub watermarks: BTreeMap<String, BTreeMap<String, i64>>,
    /// What the slice's functions use behind the barrier.
    pub versions: Versions,
}

/// The state of one operator, or what was changed of it, at the barrier of an epoch.
#[derive(Debug)]
pub struct Taken {
    pub epoch: u64,
    pub watermark_us: i64,
    pub snapshot: Snapshot,
}

impl Part {
    /// The part of a higher epoch. What was taken for an epoch that was abandoned goes with it: the next changes of these
    /// operators are told from there on.
    pub fn next(self, epoch: u64, last: bool, versions: Versions) -> Self {
        Self { slot: self.slot, epoch, last, versions, state: self.state, ..Self::default() }
    }

    pub fn take(&mut self, operator: String, watermark_us: i64, snapshot: Snapshot) {
        let taken = self.state.entry(operator).or_default();
        if snapshot.touched.is_none() {
            taken.clear();
        }
        taken.push(Taken { epoch: self.epoch, watermark_us, snapshot });
    }
}

/// Puts the parts of a task's slices together.
#[derive(Debug)]
pub struct Gathering {
    slices: u32,
    epoch: u64,
    n_parts: u32,
    snapshot: TaskSnapshot,
    /// Slices were told of other versions at this barrier: none is what the task uses.
    mixed: bool,
}

impl Gathering {
    pub fn new(slices: u32) -> Self {
        Self { slices, epoch: 0, n_parts: 0, snapshot: TaskSnapshot::default(), mixed: false }
    }

    /// The whole share, once the part of the last slice is in. Parts of an epoch that a higher one has overtaken are
    /// forgotten.
    pub fn add(&mut self, epoch: u64, part: TaskSnapshot) -> Option<TaskSnapshot> {
        if epoch < self.epoch {
            return None;
        }
        if epoch > self.epoch {
            (self.epoch, self.n_parts, self.mixed) = (epoch, 0, false);
            self.snapshot = TaskSnapshot { index: part.index, ..TaskSnapshot::default() };
        }
        for (operator, chains) in part.state {
            self.snapshot.state.entry(operator).or_default().extend(chains);
        }
        for (operator, files) in part.prepared {
            self.snapshot.prepared.entry(operator).or_default().extend(files);
        }
        for (operator, positions) in part.positions {
            self.snapshot.positions.entry(operator).or_default().extend(positions);
        }
        for (operator, splits) in part.splits {
            self.snapshot.splits.entry(operator).or_default().extend(splits);
        }
        for (operator, watermarks) in part.watermarks {
            self.snapshot.watermarks.entry(operator).or_default().extend(watermarks);
        }
        self.mixed |= self.n_parts > 0 && self.snapshot.versions != part.versions;
        self.snapshot.versions = if self.mixed { Versions::new() } else { part.versions };
        self.snapshot.prepared_bytes += part.prepared_bytes;
        self.snapshot.bytes_written += part.bytes_written;
        self.n_parts += 1;
        (self.n_parts == self.slices).then(|| self.snapshot.clone())
    }
}
