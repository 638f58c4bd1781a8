//! What the master machine is told and what it asks for.
//!
//! Invariant: the order of commands is binding. Each is carried out before the next, and a [`Command::Persist`] is on
//! disk before any later command leaves the process.

use super::drains::Drain;
use super::volumes::Kept;
use crate::model::{
    AgentCall, AgentInfo, AgentOrder, ConnectionId, FrameworkCall, FrameworkEvent, OperatorCall, Quota, RequestId,
    Reservation,
};
use jobs::{AgentId, FrameworkId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An agent said something on its stream.
    FromAgent { connection: ConnectionId, call: AgentCall },
    /// A framework said something on its stream.
    FromFramework { connection: ConnectionId, call: FrameworkCall },
    /// An operator asks for something; the answer is a [`Command::Answer`].
    FromOperator { request: RequestId, call: OperatorCall },
    /// A stream of either kind ended, by whichever side. Unknown connections are ignored.
    Closed { connection: ConnectionId },
    /// Time passed: due whenever [`next_wakeup`](crate::Master::next_wakeup) is reached.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write to the registry before what follows.
    Persist(Record),
    /// Say to an agent. If the stream is gone, drop it: its end will be reported or was.
    ToAgent {
        connection: ConnectionId,
        order: AgentOrder,
    },
    ToFramework {
        connection: ConnectionId,
        event: FrameworkEvent,
    },
    /// Tell an operator how it went: with what was put up with, or why it was not done.
    Answer {
        request: RequestId,
        answer: Result<Vec<String>, String>,
    },
    /// Send what was said before, then end the stream. Reporting [`Event::Closed`] for it is harmless.
    Close {
        connection: ConnectionId,
    },
}

/// One entry of the registry; a later one with the same [`key`](Record::key) replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Agent(AgentInfo),
    Framework {
        framework_id: FrameworkId,
        name: String,
        role: String,
        failover_timeout_ms: u64,
    },
    /// It was torn down, or stayed away too long; its id is never accepted again.
    FrameworkEnded {
        framework_id: FrameworkId,
    },
    /// What an operator said about a role.
    Role {
        role: String,
        weight_milli: u64,
        quota: Quota,
    },
    /// What an operator said about an agent; `None`: that it is offered again.
    Drain {
        agent_id: AgentId,
        drain: Option<Drain>,
    },
    /// An operator said that it does not come back; its id is never accepted again.
    AgentGone {
        agent_id: AgentId,
    },
    /// All that operators reserved on an agent.
    Reserved {
        agent_id: AgentId,
        reservations: Vec<Reservation>,
    },
    /// All that are on an agent.
    Volumes {
        agent_id: AgentId,
        volumes: Vec<Kept>,
    },
}

impl Record {
    /// Under which the registry keeps it.
    pub fn key(&self) -> String {
        match self {
            Self::Agent(AgentInfo { agent_id, .. }) | Self::AgentGone { agent_id } => format!("agent/{agent_id}"),
            Self::Framework { framework_id, .. } | Self::FrameworkEnded { framework_id } => {
                format!("framework/{framework_id}")
            }
            Self::Role { role, .. } => format!("role/{role}"),
            Self::Drain { agent_id, .. } => format!("drain/{agent_id}"),
            Self::Reserved { agent_id, .. } => format!("reserved/{agent_id}"),
            Self::Volumes { agent_id, .. } => format!("volumes/{agent_id}"),
        }
    }
}
