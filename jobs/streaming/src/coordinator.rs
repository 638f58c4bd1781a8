//! Takes the checkpoints of one generation of a job: says when, gathers what the tasks report, and lets them commit once
//! the manifest is durable.
//!
//! One epoch at a time, in three stages:
//!
//! ```text
//! barrier to all tasks -> all snapshots in -> manifest written -> commit to all tasks -> all committed
//! ```
//!
//! Invariant: a pure machine. It reads no clock and touches no file; the one who drives it ([`crate::runtime::local`], or
//! the runner) carries out its commands and tells it what came of them. Any message may be lost, doubled or late.
//! Invariant: no commit before the manifest of its epoch is durable; a manifest holds the share of every task; epochs rise.
//!
//! Functions of things that get newer versions ([`crate::functions::Versions`]) change over at a barrier: each barrier says which
//! versions are used behind it, and so does its manifest. What a task adopted at the barrier of an epoch is told in its
//! snapshot; an epoch at which one adopted something else, because it was told by somebody before us, is given up.
//!
//! An epoch whose snapshots do not come in time is given up, and a higher one is tried. One whose manifest may be durable
//! is never given up silently: its commit is sent until every task has answered.
//!
//! A task that is lost alone begins a new life from the newest manifest, while the others go on: an epoch that is under way
//! is given up, and no other is begun before the task is there again. What the others had prepared for it goes into the
//! next one; only that commits it. Where it is not certain which manifest is the newest, all must begin again.

pub mod garbage;
mod lost;
pub mod manifest;
pub mod savepoints;

#[cfg(test)]
mod tests;

use crate::control::{Manifest, Order, TaskSnapshot};
use crate::functions::Versions;
use std::collections::{BTreeMap, BTreeSet};

/// How often something without an answer is said again.
const SAY_AGAIN_MS: u64 = 2_000;
/// A manifest that could not be written this often costs its epoch.
const WRITE_ATTEMPTS: u32 = 5;

#[derive(Clone, Debug)]
pub struct Config {
    pub job: String,
    pub generation: u64,
    pub claimed_us: i64,
    pub fingerprint: String,
    pub n_tasks: u32,
    /// 0: only the last checkpoint is taken.
    pub interval_ms: u64,
    /// How long the snapshots of an epoch may take.
    pub timeout_ms: u64,
    /// What functions use that have versions, where no manifest says it. No other names are adopted later.
    pub versions: Versions,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A task of this generation runs.
    TaskReady {
        index: u32,
    },
    /// A task that runs already is heard again, after it or we lost the connection.
    TaskReconnected {
        index: u32,
    },
    /// A task's process has ended well.
    TaskEnded {
        index: u32,
    },
    /// A task's process has ended and should not have, and the others can go on without it. Answered by `Restart` or
    /// `RestartAll`, maybe only after a manifest that is being written. What the process said before must not be told any
    /// more.
    TaskLost {
        index: u32,
    },
    InputEnded {
        index: u32,
    },
    Snapshotted {
        index: u32,
        epoch: u64,
        snapshot: TaskSnapshot,
        last: bool,
    },
    Committed {
        index: u32,
        epoch: u64,
    },
    ManifestWritten {
        epoch: u64,
    },
    /// `retry`: the same may succeed later. Otherwise this generation is over; see [`manifest::Error::retry`].
    ManifestFailed {
        epoch: u64,
        error: String,
        retry: bool,
    },
    CheckpointRequested,
    /// What functions are to use: adopted with the next epoch, which begins for its sake.
    VersionsWanted {
        versions: Versions,
    },
    /// Come to an end with a last checkpoint.
    StopRequested,
    /// Time has passed; to be told at least once a second.
    Tick,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `to`: the task's index; all tasks where absent.
    Send { to: Option<u32>, order: Order },
    /// Answered by `ManifestWritten` or `ManifestFailed`. May be asked for again for the same epoch.
    WriteManifest(Box<Manifest>),
    /// Every task has committed the epoch. What is no longer needed may be removed now ([`garbage::collect`]).
    Completed { epoch: u64 },
    /// A new life of this lost task is to begin from the manifest of this epoch.
    Restart { index: u32, epoch: u64 },
    /// A task that was lost cannot begin again alone: this generation must end.
    RestartAll,
    /// The whole input is processed and committed; nothing is left to run.
    Finished,
    /// The requested stop is done: the last checkpoint is committed.
    StopGranted,
    /// This generation must end: another one has taken over, or its checkpoints can never succeed.
    GiveUp { error: String },
}

/// For people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The last epoch that is durable.
    pub epoch: Option<u64>,
    /// Since it became so.
    pub age_ms: Option<u64>,
    /// How long it took, from barrier to durable.
    pub duration_ms: Option<u64>,
    /// Of all files that a restart from it needs.
    pub bytes: Option<u64>,
    /// Of the files that were written for it; the others are of earlier epochs.
    pub bytes_written: Option<u64>,
    /// Epochs given up.
    pub failures: u64,
    /// What the epoch at hand waits for, as a sentence.
    pub waits_for: Option<String>,
}

#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    ready: BTreeSet<u32>,
    input_ended: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    /// Lost while a manifest was being written: what comes of that decides where they begin again.
    lost: BTreeSet<u32>,
    /// Whether the newest manifest is known and of this generation. One that may be durable and was given up, or one of
    /// other tasks with other splits, is nothing for a single task to begin from.
    certain: bool,
    stopping: bool,
    requested: bool,
    /// As of the latest barrier.
    versions: Versions,
    /// As of the next one.
    wanted: Versions,
    /// Nothing more is to be done.
    over: bool,
    /// The highest epoch that was ever used, as far as is known.
    highest: u64,
    /// When the next periodic epoch is due; unknown until all tasks are ready.
    due_ms: Option<u64>,
    current: Option<Current>,
    view: View,
    durable_ms: Option<u64>,
}

#[derive(Debug)]
struct Current {
    epoch: u64,
    last: bool,
    began_ms: u64,
    said_ms: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Snapshots { parts: BTreeMap<u32, TaskSnapshot> },
    Manifest { manifest: Box<Manifest>, n_failed: u32, error: Option<String> },
    Commits { committed: BTreeSet<u32>, finished: bool },
}

impl Coordinator {
    /// `latest`: the newest manifest of the job. If it is of this very generation, its tasks are running (whoever drove
    /// this machine before has died), and its commit is finished first.
    pub fn new(config: Config, latest: Option<&Manifest>) -> Self {
        let current = latest.filter(|manifest| manifest.generation == config.generation).map(|manifest| Current {
            epoch: manifest.epoch,
            // Not written down; tasks for which it was the last one will end after its commit.
            last: manifest.finished,
            began_ms: 0,
            said_ms: 0,
            stage: Stage::Commits { committed: BTreeSet::new(), finished: manifest.finished },
        });
        let highest = latest.map_or(0, |manifest| manifest.epoch);
        let mut versions = config.versions.clone();
        versions.extend(latest.into_iter().flat_map(|manifest| manifest.versions.clone()));
        Self {
            config,
            ready: BTreeSet::new(),
            input_ended: BTreeSet::new(),
            ended: BTreeSet::new(),
            lost: BTreeSet::new(),
            certain: current.is_some(),
            stopping: false,
            requested: false,
            wanted: versions.clone(),
            versions,
            over: false,
            highest,
            due_ms: None,
            current,
            view: View {
                epoch: latest.map(|manifest| manifest.epoch),
                bytes: latest.map(Manifest::bytes),
                bytes_written: latest.map(Manifest::bytes_written),
                ..View::default()
            },
            durable_ms: None,
        }
    }

    pub fn apply(&mut self, now_ms: u64, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.over {
            // A task that did not hear of its last commit would wait for ever.
            if let (Event::TaskReconnected { index }, Some(epoch)) = (&event, self.view.epoch) {
                commands.push(Command::Send { to: Some(*index), order: Order::Commit { epoch } });
            }
            if let Event::TaskLost { .. } = event {
                commands.push(Command::RestartAll);
            }
            return commands;
        }
        match event {
            Event::TaskReady { index } => drop(self.ready.insert(index)),
            Event::TaskReconnected { index } => {
                self.ready.insert(index);
                self.remind(index, &mut commands);
            }
            Event::TaskEnded { index } => self.task_ended(now_ms, index, &mut commands),
            Event::TaskLost { index } => self.task_lost(index, &mut commands),
            Event::InputEnded { index } => drop(self.input_ended.insert(index)),
            Event::Snapshotted { index, epoch, snapshot, last } => {
                self.snapshotted(now_ms, index, epoch, snapshot, last, &mut commands);
            }
            Event::Committed { index, epoch } => self.committed(now_ms, index, epoch, &mut commands),
            Event::ManifestWritten { epoch } => self.written(now_ms, epoch, &mut commands),
            Event::ManifestFailed { epoch, error, retry } => {
                self.write_failed(now_ms, epoch, error, retry, &mut commands);
            }
            Event::CheckpointRequested => self.requested = true,
            Event::VersionsWanted { versions } => {
                for (name, version) in versions {
                    self.wanted.entry(name).and_modify(|wanted| *wanted = version);
                }
                self.requested |= self.wanted != self.versions;
            }
            Event::StopRequested => self.stopping = true,
            Event::Tick => self.tick(now_ms, &mut commands),
        }
        self.begin_if_due(now_ms, &mut commands);
        commands
    }

    /// What functions use behind the latest barrier.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    pub fn view(&self, now_ms: u64) -> View {
        let age_ms = self.durable_ms.map(|durable_ms| now_ms.saturating_sub(durable_ms));
        View { age_ms, waits_for: self.waits_for(), ..self.view.clone() }
    }

    fn waits_for(&self) -> Option<String> {
        let all = || 0..self.config.n_tasks;
        let list = |tasks: Vec<u32>| tasks.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let Some(Current { epoch, stage, .. }) = &self.current else {
            let missing: Vec<u32> = all().filter(|index| !self.ready.contains(index)).collect();
            return (!missing.is_empty()).then(|| format!("no epoch is taken until task {} is ready", list(missing)));
        };
        Some(match stage {
            Stage::Snapshots { parts } => {
                let missing = all().filter(|index| !parts.contains_key(index)).collect();
                format!("epoch {epoch} waits for the snapshot of task {}", list(missing))
            }
            Stage::Manifest { error: None, .. } => format!("the manifest of epoch {epoch} is being written"),
            Stage::Manifest { error: Some(error), n_failed, .. } => {
                format!("the manifest of epoch {epoch} could not be written (attempt {n_failed}): {error}")
            }
            Stage::Commits { committed, .. } => {
                let missing = all().filter(|index| !committed.contains(index)).collect();
                format!("epoch {epoch} is durable and waits for the commit of task {}", list(missing))
            }
        })
    }

    fn all(&self, set: &BTreeSet<u32>) -> bool {
        set.len() as u32 == self.config.n_tasks
    }

    fn begin_if_due(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        if self.over || self.current.is_some() || !self.all(&self.ready) {
            return;
        }
        let due_ms = *self.due_ms.get_or_insert(now_ms + self.config.interval_ms);
        let last = self.stopping || self.all(&self.input_ended);
        let periodic = self.config.interval_ms > 0 && now_ms >= due_ms;
        if !last && !periodic && !self.requested {
            return;
        }
        self.requested = false;
        self.highest += 1;
        self.due_ms = Some(now_ms + self.config.interval_ms);
        let epoch = self.highest;
        let stage = Stage::Snapshots { parts: BTreeMap::new() };
        self.current = Some(Current { epoch, last, began_ms: now_ms, said_ms: now_ms, stage });
        self.versions.clone_from(&self.wanted);
        commands.push(Command::Send { to: None, order: self.barrier(epoch, last) });
    }

    fn barrier(&self, epoch: u64, last: bool) -> Order {
        Order::Barrier { epoch, last, versions: self.versions.clone() }
    }

    fn give_up_epoch(&mut self) {
        self.current = None;
        self.view.failures += 1;
        // Another one follows at once: what is not in a checkpoint is work that a crash would repeat.
        self.requested = true;
    }

    fn snapshotted(
        &mut self,
        now_ms: u64,
        index: u32,
        epoch: u64,
        snapshot: TaskSnapshot,
        last: bool,
        commands: &mut Vec<Command>,
    ) {
        self.highest = self.highest.max(epoch);
        let all_input_ended = self.all(&self.input_ended);
        let Some(current) = &mut self.current else { return };
        let Stage::Snapshots { parts } = &mut current.stage else { return };
        if epoch != current.epoch {
            return;
        }
        if last != current.last || snapshot.versions != self.versions {
            // The answer to a barrier of this number that was sent before our time and meant something else.
            self.give_up_epoch();
            return;
        }
        parts.insert(index, snapshot);
        if parts.len() as u32 == self.config.n_tasks {
            let manifest = Box::new(Manifest {
                format: manifest::FORMAT,
                job: self.config.job.clone(),
                generation: self.config.generation,
                epoch,
                fingerprint: self.config.fingerprint.clone(),
                claimed_us: self.config.claimed_us,
                finished: last && all_input_ended,
                tasks: std::mem::take(parts).into_values().collect(),
                versions: self.versions.clone(),
            });
            commands.push(Command::WriteManifest(manifest.clone()));
            current.stage = Stage::Manifest { manifest, n_failed: 0, error: None };
            current.said_ms = now_ms;
        }
    }

    fn written(&mut self, now_ms: u64, epoch: u64, commands: &mut Vec<Command>) {
        let Some(current) = self.current.as_mut().filter(|current| current.epoch == epoch) else { return };
        let Stage::Manifest { manifest, .. } = &current.stage else { return };
        let (finished, last) = (manifest.finished, current.last);
        (self.view.bytes, self.view.bytes_written) = (Some(manifest.bytes()), Some(manifest.bytes_written()));
        current.stage = Stage::Commits { committed: BTreeSet::new(), finished };
        current.said_ms = now_ms;
        self.view.epoch = Some(epoch);
        self.view.duration_ms = Some(now_ms.saturating_sub(current.began_ms));
        self.durable_ms = Some(now_ms);
        commands.push(Command::Send { to: None, order: Order::Commit { epoch } });
        self.certain = true;
        for index in std::mem::take(&mut self.lost) {
            commands.push(self.again(index, last));
        }
    }

    fn write_failed(&mut self, now_ms: u64, epoch: u64, failure: String, retry: bool, commands: &mut Vec<Command>) {
        let Some(current) = self.current.as_mut().filter(|current| current.epoch == epoch) else { return };
        let Stage::Manifest { n_failed, error, .. } = &mut current.stage else { return };
        if !retry {
            self.over = true;
            commands.push(Command::GiveUp { error: failure });
            return;
        }
        *n_failed += 1;
        *error = Some(failure);
        current.said_ms = now_ms;
        if *n_failed >= WRITE_ATTEMPTS {
            self.give_up_epoch();
            // A write of which nothing was heard may have arrived.
            self.certain = false;
            if !std::mem::take(&mut self.lost).is_empty() {
                commands.push(Command::RestartAll);
            }
        }
    }

    fn committed(&mut self, now_ms: u64, index: u32, epoch: u64, commands: &mut Vec<Command>) {
        let n_tasks = self.config.n_tasks;
        let Some(current) = self.current.as_mut().filter(|current| current.epoch == epoch) else { return };
        let Stage::Commits { committed, finished } = &mut current.stage else { return };
        committed.insert(index);
        if committed.len() as u32 != n_tasks {
            return;
        }
        let (last, finished) = (current.last, *finished);
        self.current = None;
        self.durable_ms.get_or_insert(now_ms);
        commands.push(Command::Completed { epoch });
        if last {
            self.over = true;
            commands.push(if finished { Command::Finished } else { Command::StopGranted });
        }
    }

    /// A task ends well only after its last commit, so its end says what a lost report would have said.
    fn task_ended(&mut self, now_ms: u64, index: u32, commands: &mut Vec<Command>) {
        self.ended.insert(index);
        if let Some(Current { epoch, stage: Stage::Commits { .. }, .. }) = self.current {
            self.committed(now_ms, index, epoch, commands);
        }
        let writing = matches!(self.current, Some(Current { stage: Stage::Manifest { .. }, .. }));
        if !self.over && !writing && self.all(&self.ended) {
            // The last epoch was committed in the time of an earlier coordinator; what was begun since has no takers.
            self.current = None;
            self.over = true;
            commands.push(Command::StopGranted);
        }
    }

    fn tick(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let timeout_ms = self.config.timeout_ms;
        let Some(current) = &mut self.current else { return };
        if now_ms.saturating_sub(current.said_ms) < SAY_AGAIN_MS {
            return;
        }
        match &current.stage {
            Stage::Snapshots { .. } => {
                if now_ms.saturating_sub(current.began_ms) >= timeout_ms {
                    self.give_up_epoch();
                }
                // A barrier is not repeated before: a task that has it already would only report again.
            }
            Stage::Manifest { manifest, .. } => {
                commands.push(Command::WriteManifest(manifest.clone()));
                current.said_ms = now_ms;
            }
            Stage::Commits { committed, .. } => {
                let order = Order::Commit { epoch: current.epoch };
                let missing = (0..self.config.n_tasks).filter(|index| !committed.contains(index));
                let missing = missing.filter(|index| self.ready.contains(index));
                commands.extend(missing.map(|index| Command::Send { to: Some(index), order: order.clone() }));
                current.said_ms = now_ms;
            }
        }
    }

    /// Says to one task what it may have missed.
    fn remind(&self, index: u32, commands: &mut Vec<Command>) {
        let order = match &self.current {
            Some(Current { epoch, last, stage: Stage::Snapshots { parts }, .. }) if !parts.contains_key(&index) => {
                self.barrier(*epoch, *last)
            }
            Some(Current { epoch, stage: Stage::Commits { committed, .. }, .. }) if !committed.contains(&index) => {
                Order::Commit { epoch: *epoch }
            }
            _ => return,
        };
        commands.push(Command::Send { to: Some(index), order });
    }
}
