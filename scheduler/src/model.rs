//! What master, agents and frameworks say to each other, as plain values.
//!
//! Invariant: these types hold whatever a peer sent and promise nothing about it; who receives them checks them
//! ([`is_sane`], [`is_good_id`]). The wire format is not known here.

use crate::volumes::{Volume, VolumeKey};
use jobs::artifacts::check_artifacts;
use jobs::revocable::lent_of;
use jobs::rights::{check_secrets, check_user};
use jobs::site::Constraint;
use jobs::volumes::VolumeClaim;
use jobs::{
    AgentId, Artifact, FrameworkId, HealthCheck, OfferId, Reason, Resources, Rules, Scalars, Site, TaskId, TaskState,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One open stream between two processes. Whoever owns the sockets numbers them and never uses a number twice in one
/// life of the process, so that what arrives late from an older stream can be told from what the newer one says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

/// A task's name in the whole cluster: task ids are unique only within their framework.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    pub framework_id: FrameworkId,
    pub task_id: TaskId,
}

impl TaskKey {
    pub fn new(framework_id: FrameworkId, task_id: TaskId) -> Self {
        Self { framework_id, task_id }
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.framework_id, self.task_id)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    pub agent_id: AgentId,
    pub host: String,
    pub total: Resources,
    pub attributes: BTreeMap<String, String>,
    pub http_endpoint: String,
    /// What it keeps for roles for as long as it is there.
    #[serde(default)]
    pub reserved: Vec<Reservation>,
}

/// So much of an agent, for a role and those below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub role: String,
    pub amounts: Scalars,
    /// Reservations of a role with different ones are told apart.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Reservation {
    /// Whether one can be added to the other.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.role, &self.labels) == (&other.role, &other.labels)
    }

    pub fn labels_text(&self) -> String {
        self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    }
}

impl AgentInfo {
    pub fn site(&self) -> Site<'_> {
        Site { agent: self.agent_id.as_str(), host: &self.host, attributes: &self.attributes }
    }
}

/// What an agent is to start: `argv`, or without it the agent's own binary with `plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    pub task_id: TaskId,
    pub name: String,
    pub agent_id: AgentId,
    pub resources: Resources,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub plan: Vec<u8>,
    /// Between SIGTERM and SIGKILL; 0 means the agent's default.
    pub kill_grace_ms: u64,
    /// From its start until it is ended; 0 means no limit.
    #[serde(default)]
    pub max_completion_ms: u64,
    /// How long it goes on when its agent hears no master; 0 means for ever.
    #[serde(default)]
    pub unreachable_kill_ms: u64,
    /// It is starting until this was healthy, and ended when it is no longer.
    #[serde(default)]
    pub health: Option<Box<HealthCheck>>,
    /// Tasks of its role with a higher one may take its place.
    #[serde(default)]
    pub priority: i32,
    /// Tasks of its framework with the same one are of no use without it, so that all of them leave if one has to.
    /// Empty: it is alone.
    #[serde(default)]
    pub group: String,
    #[serde(default)]
    pub volumes: Vec<VolumeClaim>,
    /// Whose its volumes and secrets are: that of its framework, and said by the master.
    #[serde(default)]
    pub role: String,
    /// What it finds in its sandbox.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Whose rights it has. Empty: whose the agent says.
    #[serde(default)]
    pub user: String,
    /// Names of what the agent keeps, by the environment variables that hold it.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub task_id: TaskId,
    pub agent_id: AgentId,
    pub state: TaskState,
    pub reason: Reason,
    pub message: String,
    /// Set when the update must be acknowledged; the master's own updates have none.
    pub uuid: Option<String>,
    pub at_ms: u64,
    /// Exit code, or minus the signal; meaningful in terminal states with reason `Exited` or `KillRequested`.
    pub exit_code: i32,
}

/// Why a task is ended, where its framework did not ask for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub reason: Reason,
    pub message: String,
}

/// A task as a registering agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTask {
    pub framework_id: FrameworkId,
    pub info: TaskInfo,
    /// Latest state, which may be ahead of the last acknowledged update.
    pub state: TaskState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub offer_id: OfferId,
    pub agent_id: AgentId,
    pub host: Arc<str>,
    pub role: Arc<str>,
    pub resources: Resources,
    pub attributes: Arc<BTreeMap<String, String>>,
    /// As of the moment that the offer was sent.
    pub expires_in_ms: u64,
    /// When its agent is to be empty, or offered to nobody, where that is planned.
    pub drains_in_ms: Option<u64>,
    /// Those of its role on its agent that no task has.
    pub volumes: Vec<Volume>,
}

/// `count` tasks of one shape that a framework wants now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub name: String,
    pub shape: Resources,
    /// Ports that one task needs, any, besides those that the shape names.
    pub n_ports: u32,
    pub count: u32,
    /// Among the demands of a role those with a higher one come first, and tasks with a lower one may have to leave.
    pub priority: i32,
    /// Demands of one group are wanted all together or not at all. Empty: each task is wanted for itself.
    pub group: String,
    /// Where its tasks may run.
    pub rules: Rules,
    /// What its one task claims: a demand of several has none, for a volume is one task's.
    pub volumes: Vec<VolumeClaim>,
    /// It has to be met within this from when it, or something of its group, was first posted, or is wanted no longer.
    pub within_ms: Option<u64>,
}

/// A framework's word that an update was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub agent_id: AgentId,
    pub task_id: TaskId,
    pub uuid: String,
}

/// From an agent to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentCall {
    /// First call of every connection, with every task that the agent still has.
    Register {
        agent: AgentInfo,
        tasks: Vec<AgentTask>,
        volumes: Vec<Volume>,
    },
    Heartbeat,
    Update {
        framework_id: FrameworkId,
        status: TaskStatus,
    },
    /// So much of what its tasks were given they do not use, and it is offered to whoever can do with what may be taken back.
    Lends {
        lent: Scalars,
    },
    /// Nothing is left of it.
    VolumeDestroyed {
        key: VolumeKey,
    },
}

/// From the master to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentOrder {
    Registered {
        agent_id: AgentId,
        heartbeat_ms: u64,
        leader_epoch: u64,
    },
    /// Boxed, because it is much larger than the others.
    Launch {
        framework_id: FrameworkId,
        task: Box<TaskInfo>,
    },
    Kill {
        framework_id: FrameworkId,
        task_id: TaskId,
        /// `None`: the grace of the task.
        grace_ms: Option<u64>,
        /// `None`: its framework asked for it.
        cause: Option<Cause>,
    },
    Acknowledge {
        framework_id: FrameworkId,
        acknowledgement: Acknowledgement,
    },
    /// Have it from now on, with at least so much.
    KeepVolume {
        volume: Volume,
    },
    /// Remove it with all that is in it, and say so.
    DestroyVolume {
        key: VolumeKey,
    },
    /// End all tasks and do not come back under this id.
    Shutdown {
        message: String,
    },
}

/// What a framework may do on an agent that it is offered, within its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub agent_id: AgentId,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Keep so much of what is offered for its role, or one below it.
    Reserve(Reservation),
    /// Keep so much less; of no amounts: nothing.
    Unreserve(Reservation),
    /// Make a volume out of what is offered, or have it grow to this.
    KeepVolume { name: String, disk_milli: i64 },
    /// Remove one that no task has, with all that is in it.
    DestroyVolume { name: String },
}

/// From a framework to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameworkCall {
    Subscribe {
        /// `None`: a new framework. Else the id given before; a newer subscription ends an older one.
        framework_id: Option<FrameworkId>,
        name: String,
        role: String,
        failover_timeout_ms: u64,
        /// It is offered only agents of which all of this is so.
        constraints: Vec<Constraint>,
    },
    /// Replaces what was demanded before. Tasks that an accept launches are taken off by the master.
    Demand {
        demands: Vec<Demand>,
    },
    /// All or none: what is to be done on the agents of the offers, in order, and then what is to be launched.
    Accept {
        offer_ids: Vec<OfferId>,
        operations: Vec<Operation>,
        launch: Vec<TaskInfo>,
        /// `None`: the default, 5 s.
        refuse_ms: Option<u64>,
    },
    Decline {
        offer_ids: Vec<OfferId>,
        refuse_ms: Option<u64>,
    },
    Revive,
    Suppress,
    Acknowledge(Acknowledgement),
    Kill {
        task_id: TaskId,
        grace_ms: Option<u64>,
    },
    /// Empty: all tasks of the framework.
    Reconcile {
        task_ids: Vec<TaskId>,
    },
    Teardown,
}

/// From the master to a framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameworkEvent {
    Subscribed {
        framework_id: FrameworkId,
        heartbeat_ms: u64,
    },
    Offer(Offer),
    Rescind {
        offer_id: OfferId,
    },
    Update(TaskStatus),
    /// What came of an accept with operations; `None`: all of them were done.
    Operated {
        offer_ids: Vec<OfferId>,
        problem: Option<String>,
    },
    /// Where the volumes are that its demand names; those that are not named are nowhere yet. Said after each demand that
    /// names volumes, and when it changes.
    VolumesAt {
        homes: BTreeMap<String, AgentId>,
    },
    /// An agent that has tasks of this framework is to be empty by then; what is left is killed.
    AgentDrains {
        agent_id: AgentId,
        ends_in_ms: u64,
    },
    /// Demands that were not met in time are wanted no longer.
    Expired {
        names: Vec<String>,
    },
    /// These have to leave by then, for others to take their place; what is left of them is killed.
    Preempted {
        task_ids: Vec<TaskId>,
        ends_in_ms: u64,
        /// For whom.
        message: String,
    },
    /// The stream ends after this.
    Error {
        message: String,
    },
    Heartbeat,
}

/// One question of an operator; whoever asks numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a role is guaranteed, and what it is limited to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// What is not named is nothing.
    pub guarantee: Scalars,
    /// What is not named has no limit.
    pub limit: BTreeMap<String, i64>,
}

/// When an agent is maintained, by the master's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// It is to be empty then; `None`: as soon as can be.
    pub at_ms: Option<u64>,
    /// How long after that it is offered again; `None`: when an operator says so.
    pub for_ms: Option<u64>,
}

/// From an operator to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorCall {
    /// In place of what was said before.
    SetQuota {
        role: String,
        quota: Quota,
        /// Also if the cluster does not have what is guaranteed, or the role uses more than its limit.
        force: bool,
    },
    RemoveQuota {
        role: String,
    },
    SetWeight {
        role: String,
        weight_milli: u64,
    },
    /// Offer nothing of this agent any more, and have it empty within this time; `None`: its tasks may stay.
    Drain {
        agent_id: AgentId,
        deadline_ms: Option<u64>,
        window: Window,
    },
    /// Offer it again, and have no window for it.
    Undrain {
        agent_id: AgentId,
    },
    /// It does not come back; its tasks are lost.
    Gone {
        agent_id: AgentId,
        /// Also if it is connected.
        force: bool,
    },
    /// Keep so much more of it for a role.
    Reserve {
        agent_id: AgentId,
        reservation: Reservation,
        /// Out of what is kept for this role, which that one is below.
        from: Option<String>,
        /// Also if the agent does not have it, or others use it.
        force: bool,
    },
    /// Keep so much less; of no amounts: nothing.
    Unreserve {
        agent_id: AgentId,
        reservation: Reservation,
    },
    /// Remove a volume that no task has, with all that is in it.
    RemoveVolume {
        key: VolumeKey,
        /// Needed only if it is on several.
        agent_id: Option<AgentId>,
    },
}

/// More than any real machine has, and small enough that no sum of them overflows.
const MAX_MILLI: i64 = 1 << 48;

/// Whether every quantity is one that a machine can have. A peer may have sent a negative one, and a task that needs
/// less than nothing would free what it never held.
pub fn is_sane(resources: &Resources) -> bool {
    resources.scalars().all(|(name, milli)| is_sane_amount(milli) && is_good_id(name)) && resources.wants_whole_gpus()
}

pub fn is_sane_amount(milli: i64) -> bool {
    (0..=MAX_MILLI).contains(&milli)
}

/// Whether what a task says of its place on an agent can be: its artifacts, its user, its secrets.
pub fn check_task(info: &TaskInfo) -> Result<(), String> {
    check_artifacts(&info.artifacts)?;
    let paths = info.volumes.iter().map(|claim| Path::new(claim.path()));
    let within = |one: &Path, two: &Path| one.starts_with(two) || two.starts_with(one);
    for path in paths {
        if let Some(artifact) = info.artifacts.iter().find(|artifact| within(path, Path::new(&artifact.path))) {
            return Err(format!("artifact {} and volume {} lie in each other", artifact.path, path.display()));
        }
    }
    check_secrets(&info.secrets)?;
    if info.user.is_empty() { Ok(()) } else { check_user(&info.user) }
}

/// What a task or a demand may have as its priority.
pub const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Bytes of a group's name.
pub const MAX_GROUP: usize = 512;

/// Whether a text can be a role: parts between slashes, each of which could be an id, and could be no path or flag.
pub fn is_good_role(text: &str) -> bool {
    let is_good_part = |part: &str| !matches!(part, "" | "." | ".." | "*") && !part.starts_with('-');
    is_good_id(text) && (text == "*" || text.split('/').all(is_good_part))
}

/// Whether a role is this one or below it.
pub fn is_below(role: &str, above: &str) -> bool {
    role.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An amount as one says it: "6 cpus", "512 MiB of mem".
pub fn amount_text(name: &str, milli: i64) -> String {
    let amount = milli as f64 / 1000.0;
    match lent_of(name) {
        "mem" | "disk" => format!("{amount} MiB of {name}"),
        _ => format!("{amount} {name}"),
    }
}

/// Whether a text that a peer sent can be shown in one line.
pub fn is_good_label(text: &str) -> bool {
    text.len() <= 256 && text.chars().all(|c| !c.is_control())
}

/// Whether a text that a peer sent can serve as an id: short, printable, and without blanks.
pub fn is_good_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_and_huge_quantities_are_not_sane() {
        assert!(is_sane(&Resources::new().cpus(2.0).mem_mib(512.0).with_ports([(1, 9)])));
        assert!(!is_sane(&Resources::new().cpus(-1.0)));
        assert!(!is_sane(&Resources::new().mem_mib(1e15)));
    }

    #[test]
    fn roles_are_paths_of_ids() {
        for good in ["*", "ml", "ml/vision/train", "a-b"] {
            assert!(is_good_role(good), "{good}");
        }
        for bad in ["", "/", "ml/", "/ml", "a//b", "a/../b", "a/.", "-a", "a/-b", "*/a", "a/*", "a b"] {
            assert!(!is_good_role(bad), "{bad}");
        }
    }

    #[test]
    fn ids_are_short_and_printable() {
        assert!(is_good_id("fraud.features.3.0"));
        for bad in ["", "two words", "line\n", &"x".repeat(257)] {
            assert!(!is_good_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn nothing_that_a_task_finds_lies_in_something_else() {
        let with = |artifact: &str, volume: &str| {
            let artifacts = vec![Artifact { from: "/a".into(), path: artifact.into(), ..Artifact::default() }];
            let volumes = vec![VolumeClaim { name: "v".into(), disk_milli: 1, path: volume.into() }];
            check_task(&TaskInfo { artifacts, volumes, ..TaskInfo::default() })
        };
        assert_eq!(with("in/model", "in/data"), Ok(()));
        for (artifact, volume) in [("m", "m/x/cron.d"), ("m/x", "m"), ("v", "")] {
            let problem = with(artifact, volume).expect_err("refused");
            assert!(problem.contains("lie in each other"), "{problem}");
        }
    }
}
