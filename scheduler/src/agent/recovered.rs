//! What an earlier process of this agent left in its log.
//!
//! Invariant: replay is a pure fold over the records in the order in which they were written. What became of a process
//! since is not in the log: the caller looks, and says so in [`RecoveredTask::found`].

use super::{Exit, Record};
use crate::model::{Cause, TaskInfo, TaskKey, TaskStatus};
use crate::volumes::Volume;
use jobs::{Reason, TaskState};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub tasks: Vec<RecoveredTask>,
    /// Whose directories are there; not in the log, so replay says that there are none.
    pub volumes: Vec<Volume>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredTask {
    pub task: TaskKey,
    pub info: TaskInfo,
    /// Of the process, if it was seen to start.
    pub pid: Option<u32>,
    /// Replay says that nothing was found.
    pub found: Found,
    /// State in the last update, or staging.
    pub latest: TaskState,
    /// Not acknowledged, oldest first.
    pub updates: Vec<TaskStatus>,
    /// Updates ever made, acknowledged or not.
    pub n_updates: u64,
    /// When its process was first said to be there.
    pub since_ms: Option<u64>,
    /// Why it is being ended, if its framework did not ask for that.
    pub cause: Option<Cause>,
}

/// What a restarted agent finds of a task's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// That very process; its end will be reported as [`Event::Exited`](super::Event::Exited).
    Alive { pid: u32 },
    /// It ended while nobody looked, and what watched over it wrote down how.
    Ended(Exit),
    /// Neither, and no word of it.
    Nothing,
}

impl Recovered {
    /// Folds the log, in the order in which it was written. Records of a task whose first ones are gone are left over
    /// from a removal that was cut short, and are passed over.
    pub fn replay(records: impl IntoIterator<Item = Record>) -> Self {
        let mut tasks: BTreeMap<TaskKey, RecoveredTask> = BTreeMap::new();
        for record in records {
            match record {
                Record::Launched { task, info } => {
                    let latest = TaskState::Staging;
                    let (key, info, updates, found) = (task.clone(), *info, Vec::new(), Found::Nothing);
                    let (since_ms, cause) = (None, None);
                    let launched =
                        RecoveredTask { task, info, pid: None, found, latest, updates, n_updates: 0, since_ms, cause };
                    tasks.insert(key, launched);
                }
                Record::Started { task, pid } => {
                    if let Some(task) = tasks.get_mut(&task) {
                        task.pid = Some(pid);
                    }
                }
                Record::Update { task, status } => {
                    if let Some(task) = tasks.get_mut(&task) {
                        task.latest = status.state;
                        if matches!(status.state, TaskState::Starting | TaskState::Running) {
                            task.since_ms.get_or_insert(status.at_ms);
                        }
                        if status.state == TaskState::Killing && status.reason != Reason::KillRequested {
                            task.cause = Some(Cause { reason: status.reason, message: status.message.clone() });
                        }
                        task.n_updates += 1;
                        task.updates.push(status);
                    }
                }
                Record::Acknowledged { task, uuid } => {
                    if let Some(task) = tasks.get_mut(&task) {
                        task.updates.retain(|status| status.uuid.as_deref() != Some(uuid.as_str()));
                    }
                }
                Record::Removed { task } => drop(tasks.remove(&task)),
            }
        }
        Self { tasks: tasks.into_values().collect(), volumes: Vec::new() }
    }
}
