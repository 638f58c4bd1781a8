//! What the master knows now, for people and tools.

use super::drains::Drain;
use crate::model::{AgentInfo, Demand, Offer, Reservation, TaskKey, TaskStatus};
use crate::volumes::{Volume, VolumeKey};
use jobs::{AgentId, FrameworkId, OfferId, Resources, Scalars, TaskId, TaskState};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    pub leader_epoch: u64,
    pub agents: Vec<AgentView>,
    pub frameworks: Vec<FrameworkView>,
    /// Outstanding offers, oldest first, then the latest ended ones, newest first.
    pub offers: Vec<OfferView>,
    pub tasks: Vec<TaskView>,
    /// Roles that have frameworks, a weight or a quota, and those above them.
    pub roles: Vec<RoleView>,
    pub volumes: Vec<VolumeView>,
}

/// The cluster in numbers, for those who watch over it: no more of them than there are roles and frameworks.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub leader_epoch: u64,
    pub agents: BTreeMap<AgentState, u64>,
    /// Over all agents.
    pub total: Scalars,
    pub offered: Scalars,
    pub used: Scalars,
    /// Those that are known now.
    pub tasks: BTreeMap<TaskState, u64>,
    pub frameworks: Vec<FrameworkSummary>,
    pub roles: Vec<RoleView>,
    pub offers_outstanding: u64,
    /// That are in force, over all frameworks and agents.
    pub refusals: u64,
    pub counts: Counts,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkSummary {
    pub framework_id: FrameworkId,
    pub name: String,
    pub role: String,
    pub connected: bool,
    /// 0 to 1.
    pub dominant_share: f64,
    /// Tasks that it asks for and has not got.
    pub wanted: u64,
}

/// What this master has done since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub offers_made: u64,
    pub offers_ended: BTreeMap<OfferState, u64>,
    pub tasks_launched: u64,
    /// By how they ended, those among them that were never launched.
    pub tasks_ended: BTreeMap<TaskState, u64>,
    /// That were told to leave for others.
    pub tasks_preempted: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RoleView {
    pub role: String,
    pub weight: f64,
    /// Of the role and all below it: 0 to 1, not divided by the weight.
    pub dominant_share: f64,
    /// By the role and all below it, offered or used.
    pub held: Scalars,
    pub guarantee: Scalars,
    pub limit: BTreeMap<String, i64>,
    /// Without those of roles below it.
    pub n_frameworks: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    pub agent: AgentInfo,
    pub state: AgentState,
    pub free: Resources,
    pub offered: Resources,
    pub used: Resources,
    pub heard_ms_ago: u64,
    /// What operators reserved, besides what the agent itself keeps.
    pub reserved: Vec<Reservation>,
    /// What is reserved and held by nobody that it is reserved for, by role.
    pub unfilled: BTreeMap<String, Scalars>,
    /// What an operator said, with when it begins, as far as it is planned, and when it is over.
    pub drain: Option<Drain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentState {
    /// Connected: its free resources are offered.
    Active,
    /// Connected, and offered to nobody: an operator wants it empty.
    Draining,
    /// The same, and it is: no task is left.
    Drained,
    /// The stream ended or never began, lately.
    Disconnected,
    /// Not heard for too long; its tasks are `Unreachable`.
    Unreachable,
}

impl AgentState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Disconnected => "disconnected",
            Self::Unreachable => "unreachable",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkView {
    pub framework_id: FrameworkId,
    pub name: String,
    pub role: String,
    pub connected: bool,
    pub suppressed: bool,
    /// 0 to 1.
    pub dominant_share: f64,
    pub demands: Vec<Demand>,
    /// For each of `demands`, one sentence with numbers that says what it waits for.
    pub waiting: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OfferView {
    pub offer: Offer,
    pub framework_id: FrameworkId,
    pub state: OfferState,
    pub made_ms_ago: u64,
    /// Tasks launched on it.
    pub task_ids: Vec<TaskId>,
    /// Of one that was declined or has expired: for how long its framework is not offered the same again.
    pub refused_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfferState {
    Outstanding,
    Accepted,
    Declined,
    Rescinded,
    Expired,
}

impl OfferState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outstanding => "outstanding",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Rescinded => "rescinded",
            Self::Expired => "expired",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub task_id: TaskId,
    pub name: String,
    pub framework_id: FrameworkId,
    pub agent_id: AgentId,
    /// `None` when it was launched under an earlier master.
    pub offer_id: Option<OfferId>,
    pub state: TaskState,
    pub resources: Resources,
    pub priority: i32,
    /// It has to leave for others within this.
    pub leaves_in_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VolumeView {
    pub agent_id: AgentId,
    pub volume: Volume,
    /// The task that has it.
    pub user: Option<TaskKey>,
    /// It was given up, and its agent has not yet said that it is gone.
    pub is_leaving: bool,
}

/// Something is not as it was; see [`journal`](super::journal) for what is left out, and for their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    AgentAdded(WatchedAgent),
    AgentChanged(WatchedAgent),
    /// An operator declared it gone for good: nothing else removes an agent.
    AgentRemoved {
        agent_id: AgentId,
    },
    FrameworkAdded(WatchedFramework),
    FrameworkChanged(WatchedFramework),
    /// It has ended.
    FrameworkRemoved {
        framework_id: FrameworkId,
    },
    TaskAdded(TaskView),
    /// It is in another state, or how it ended is known now. An update that is sent again, or says what is over already, is
    /// none.
    TaskUpdated {
        framework_id: FrameworkId,
        status: TaskStatus,
    },
    /// It has to leave for others by then, or no more.
    TaskLeaves {
        task: TaskKey,
        leave_by_ms: Option<u64>,
    },
    /// Its end is acknowledged, or nobody is left to do so.
    TaskForgotten {
        task: TaskKey,
    },
    RoleAdded(WatchedRole),
    RoleChanged(WatchedRole),
    RoleRemoved {
        role: String,
    },
    VolumeAdded(VolumeView),
    VolumeChanged(VolumeView),
    VolumeRemoved {
        agent_id: AgentId,
        key: VolumeKey,
    },
}

/// What is told of an agent when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedAgent {
    pub agent: Box<AgentInfo>,
    pub state: AgentState,
    /// By operators.
    pub reserved: Vec<Reservation>,
    pub drain: Option<Drain>,
}

/// What is told of a framework when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedFramework {
    pub framework_id: FrameworkId,
    pub name: String,
    pub role: String,
    pub connected: bool,
    pub suppressed: bool,
}

/// What is told of a role when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedRole {
    pub role: String,
    pub weight: f64,
    pub guarantee: Scalars,
    pub limit: BTreeMap<String, i64>,
}
