//! The life of a task, as agents report it and frameworks read it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a task is. Only its agent, or an operator who declares the agent gone, ends a task; `Unreachable` and
/// `Unknown` are not ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Sent to the agent, not yet started.
    Staging,
    /// The process exists.
    Starting,
    /// The process runs.
    Running,
    /// Asked to end, within its grace.
    Killing,
    /// Its agent cannot be heard; it may still run.
    Unreachable,
    /// Nobody knows it (answer to reconciliation).
    Unknown,
    Finished,
    Failed,
    Killed,
    /// Lost with its agent, for good.
    Lost,
    /// Never launched: the offer was gone, or the request was wrong.
    Dropped,
}

impl TaskState {
    pub const ALL: [TaskState; 11] = [
        Self::Staging,
        Self::Starting,
        Self::Running,
        Self::Killing,
        Self::Unreachable,
        Self::Unknown,
        Self::Finished,
        Self::Failed,
        Self::Killed,
        Self::Lost,
        Self::Dropped,
    ];

    /// Whether the task can never run again under this id.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Killed | Self::Lost | Self::Dropped)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Killing => "killing",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Lost => "lost",
            Self::Dropped => "dropped",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a task is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    None,
    /// The process ended with a code other than 0, or by a signal.
    Exited,
    /// The process could not be started.
    LaunchFailed,
    /// What it wants in its sandbox could not be fetched.
    FetchFailed,
    /// A framework or an operator asked for it.
    KillRequested,
    /// The accept named an offer that no longer stands.
    InvalidOffer,
    /// The accept asked for more than it was offered, or was malformed.
    InvalidTask,
    AgentUnreachable,
    /// The agent came back without it.
    AgentRestarted,
    AgentRemoved,
    Reconciliation,
    /// It used more memory than it was given.
    OutOfMemory,
    /// It ran for longer than it may.
    TimedOut,
    /// Its health checks failed.
    Unhealthy,
    /// It wrote more than it was given disk.
    OutOfDisk,
    /// Its place was wanted for what is more important.
    Preempted,
    /// Its agent is to be empty.
    AgentDrained,
    /// What it ran on was only lent, and those to whom it was given need it.
    Revoked,
}

impl Reason {
    pub const ALL: [Reason; 18] = [
        Self::None,
        Self::Exited,
        Self::LaunchFailed,
        Self::FetchFailed,
        Self::KillRequested,
        Self::InvalidOffer,
        Self::InvalidTask,
        Self::AgentUnreachable,
        Self::AgentRestarted,
        Self::AgentRemoved,
        Self::Reconciliation,
        Self::OutOfMemory,
        Self::TimedOut,
        Self::Unhealthy,
        Self::OutOfDisk,
        Self::Preempted,
        Self::AgentDrained,
        Self::Revoked,
    ];

    /// The task was ended for the sake of something else, and did nothing wrong itself.
    pub fn is_for_others(self) -> bool {
        matches!(self, Self::KillRequested | Self::Preempted | Self::AgentDrained | Self::Revoked)
    }
}
