//! What the agent machine is told and what it asks for.
//!
//! Invariant: the order of commands is binding. Each is carried out before the next, and a [`Command::Persist`] is on
//! disk before any later command: an update that was not persisted is never sent, so none that a framework has seen
//! can be forgotten. Persists that stand next to each other may be written at once.

use crate::model::{AgentCall, AgentOrder, ConnectionId, TaskInfo, TaskKey, TaskStatus};
use crate::volumes::{Volume, VolumeKey};
use jobs::{Probe, Reason, Scalars};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream to the master is open; the agent registers on it at once.
    Connected {
        connection: ConnectionId,
    },
    /// It ended.
    Closed {
        connection: ConnectionId,
    },
    FromMaster {
        connection: ConnectionId,
        order: AgentOrder,
    },
    /// The process that [`Command::Start`] asked for exists.
    Started {
        task: TaskKey,
        pid: u32,
    },
    /// It does not and will not; the message names what failed.
    StartFailed {
        task: TaskKey,
        reason: Reason,
        message: String,
    },
    /// A process ended: after [`Event::Started`], or one that was found alive at recovery.
    Exited {
        task: TaskKey,
        exit: Exit,
    },
    /// What [`Command::Probe`] found; an error is a fragment that says what was wrong.
    Probed {
        task: TaskKey,
        outcome: Result<(), String>,
    },
    /// It has more on the disk than it may; the message says what.
    Overdrawn {
        task: TaskKey,
        why: String,
    },
    /// What processes of tasks use of cores and memory; a task that is not among them was not seen for long enough.
    Measured {
        used: BTreeMap<TaskKey, Scalars>,
    },
    /// What was in a volume is gone, as [`Command::RemoveVolume`] asked.
    VolumeRemoved {
        key: VolumeKey,
    },
    /// Time passed: due whenever [`next_wakeup`](crate::Agent::next_wakeup) is reached.
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Ended by the kernel, because it wanted more memory than it may have.
    OutOfMemory {
        used_mib: u64,
        limit_mib: u64,
    },
    /// Ended because no agent came back for it within the recovery timeout.
    Abandoned,
    /// What watched over the process is gone without a word, and the process with it.
    Unseen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write before what follows.
    Persist(Record),
    /// Say to the master. If the stream is gone, drop it.
    Send { connection: ConnectionId, call: AgentCall },
    /// Have a directory for a volume, and write down how large it is, before what follows.
    KeepVolume { volume: Volume },
    /// Remove one, with all that is in it; answered by [`Event::VolumeRemoved`].
    RemoveVolume { key: VolumeKey },
    /// End the stream; the other side is not, or no longer, the master to obey.
    Close { connection: ConnectionId },
    /// Fetch what a task wants in its sandbox and start its process; answered by [`Event::Started`] or [`Event::StartFailed`].
    Start { task: TaskKey, info: Box<TaskInfo> },
    /// A process that something is fetched for is not wanted any more: it is not started, unless it is too late for that.
    GiveUp { task: TaskKey },
    /// Signal the whole process group of a task; answered by [`Event::Exited`] once it is gone.
    Signal { task: TaskKey, signal: Signal },
    /// Ask whether a task does its work; answered by [`Event::Probed`], also when it ends meanwhile.
    Probe { task: TaskKey, probe: Probe, timeout_ms: u64 },
    /// All tasks are gone and the master wants no agent of this id: end the process, and say why.
    Exit { message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

/// One line of the agent's log of tasks. [`Recovered::replay`](super::Recovered::replay) folds them, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Before the process is started.
    Launched {
        task: TaskKey,
        info: Box<TaskInfo>,
    },
    Started {
        task: TaskKey,
        pid: u32,
    },
    /// Before the update is sent.
    Update {
        task: TaskKey,
        status: TaskStatus,
    },
    Acknowledged {
        task: TaskKey,
        uuid: String,
    },
    /// Its last update was acknowledged: every record of this task may be deleted.
    Removed {
        task: TaskKey,
    },
}

impl Record {
    pub fn task(&self) -> &TaskKey {
        match self {
            Self::Launched { task, .. }
            | Self::Started { task, .. }
            | Self::Update { task, .. }
            | Self::Acknowledged { task, .. }
            | Self::Removed { task } => task,
        }
    }
}
