//! Wire messages to the scheduler's values and back, for both master and agent.
//!
//! Invariant: the only place where the two meet. What comes from the wire may be anything: whatever is missing,
//! unspecified or out of range is refused with the path of the field, and nothing panics. What the values mean is
//! judged by the machines.

mod roles;
mod rules;
mod volumes;
mod watched;

pub use roles::operator_call_from;
pub use rules::rules_to;
pub use volumes::claims_to;
pub use watched::{noted_to, snapshot_to};

use jobs::{Artifact, Gpu, HealthCheck, Probe, Reason, Resources, TaskState};
use scheduler::master::{AgentView, ClusterView, FrameworkView, OfferView, TaskView};
use scheduler::model::{
    Acknowledgement, AgentCall, AgentInfo, AgentOrder, AgentTask, Cause, Demand, FrameworkCall, FrameworkEvent, Offer,
    TaskInfo, TaskStatus,
};
use scheduler::volumes::VolumeKey;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use wire::v1;
use wire::v1::{agent_call, agent_order, framework_call, framework_event};

/// A message that cannot be understood: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Malformed {
    path: String,
    what: String,
}

impl Malformed {
    pub fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }

    /// The same fault, seen from one level further out.
    fn inside(mut self, outer: impl fmt::Display) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {}: {}", self.path, self.what)
    }
}

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}

type Converted<T> = Result<T, Malformed>;

fn required<T>(value: Option<T>, path: &str) -> Converted<T> {
    value.ok_or_else(|| Malformed::new(path, "is missing"))
}

fn each<T, U>(values: Vec<T>, path: &str, convert: impl Fn(T) -> Converted<U>) -> Converted<Vec<U>> {
    let convert_at = |(at, value)| convert(value).map_err(|malformed| malformed.inside(format_args!("{path}[{at}]")));
    values.into_iter().enumerate().map(convert_at).collect()
}

/// Whether the sender speaks the protocol that this code speaks.
pub fn check_version(protocol_version: u32) -> Converted<()> {
    if protocol_version == wire::PROTOCOL_VERSION {
        return Ok(());
    }
    let what = format!("is {protocol_version}; this side speaks version {}", wire::PROTOCOL_VERSION);
    Err(Malformed::new("protocol_version", what))
}

// ---- values ----

pub fn resources_from(wire: Option<v1::Resources>) -> Converted<Resources> {
    let v1::Resources { scalars, ports, gpus, sets } = wire.unwrap_or_default();
    let mut resources = Resources::new();
    for (at, v1::Scalar { name, milli }) in scalars.into_iter().enumerate() {
        if name.is_empty() {
            return Err(Malformed::new(format!("scalars[{at}].name"), "is empty"));
        }
        if resources.milli(&name) != 0 {
            return Err(Malformed::new(format!("scalars[{at}].name"), format!("is {name:?} for the second time")));
        }
        resources.set_milli(&name, milli);
    }
    let port = |port: u32, at: usize, end: &str| {
        u16::try_from(port)
            .map_err(|_| Malformed::new(format!("ports[{at}].{end}"), format!("is {port}, which is not a port")))
    };
    let mut ranges = Vec::with_capacity(ports.len());
    for (at, v1::PortRange { low, high }) in ports.into_iter().enumerate() {
        let range = (port(low, at, "low")?, port(high, at, "high")?);
        if range.0 > range.1 {
            return Err(Malformed::new(format!("ports[{at}]"), format!("{low} is above {high}")));
        }
        ranges.push(range);
    }
    let mut resources = resources.with_ports(ranges);
    if !gpus.is_empty() {
        let gpus = each(gpus, "gpus", gpu_from)?;
        let counted = resources.clone().with_gpus(gpus);
        if counted.amounts() != resources.amounts() {
            return Err(Malformed::new("gpus", "are not those that the scalars count"));
        }
        resources = counted;
    }
    for (at, v1::NamedSet { name, items }) in sets.into_iter().enumerate() {
        if name.is_empty() || items.is_empty() {
            return Err(Malformed::new(format!("sets[{at}]"), "has no name or no items"));
        }
        resources = resources.with_set(&name, items);
    }
    Ok(resources)
}

fn gpu_from(v1::Gpu { index, model, mem_mib }: v1::Gpu) -> Converted<Gpu> {
    let index = u16::try_from(index).map_err(|_| Malformed::new("index", format!("is {index}, at most 65535")))?;
    Ok(Gpu { index, model, mem_mib })
}

pub fn resources_to(resources: &Resources) -> v1::Resources {
    v1::Resources {
        scalars: resources.scalars().map(|(name, milli)| v1::Scalar { name: name.to_string(), milli }).collect(),
        ports: resources
            .ports()
            .iter()
            .map(|&(low, high)| v1::PortRange { low: low.into(), high: high.into() })
            .collect(),
        gpus: resources
            .gpus()
            .map(|gpu| v1::Gpu { index: gpu.index.into(), model: gpu.model.clone(), mem_mib: gpu.mem_mib })
            .collect(),
        sets: resources.things().map_or_else(Vec::new, |things| {
            let set = |(name, items): (&String, &BTreeSet<String>)| v1::NamedSet {
                name: name.clone(),
                items: items.iter().cloned().collect(),
            };
            things.sets.iter().map(set).collect()
        }),
    }
}

pub fn task_state_from(wire: i32) -> Converted<TaskState> {
    let state = v1::TaskState::try_from(wire)
        .map_err(|_| Malformed::new("state", format!("is {wire}, which is not a task state")))?;
    Ok(match state {
        v1::TaskState::Unspecified => return Err(Malformed::new("state", "is unspecified")),
        v1::TaskState::Staging => TaskState::Staging,
        v1::TaskState::Starting => TaskState::Starting,
        v1::TaskState::Running => TaskState::Running,
        v1::TaskState::Killing => TaskState::Killing,
        v1::TaskState::Unreachable => TaskState::Unreachable,
        v1::TaskState::Unknown => TaskState::Unknown,
        v1::TaskState::Finished => TaskState::Finished,
        v1::TaskState::Failed => TaskState::Failed,
        v1::TaskState::Killed => TaskState::Killed,
        v1::TaskState::Lost => TaskState::Lost,
        v1::TaskState::Dropped => TaskState::Dropped,
    })
}

pub fn task_state_to(state: TaskState) -> v1::TaskState {
    match state {
        TaskState::Staging => v1::TaskState::Staging,
        TaskState::Starting => v1::TaskState::Starting,
        TaskState::Running => v1::TaskState::Running,
        TaskState::Killing => v1::TaskState::Killing,
        TaskState::Unreachable => v1::TaskState::Unreachable,
        TaskState::Unknown => v1::TaskState::Unknown,
        TaskState::Finished => v1::TaskState::Finished,
        TaskState::Failed => v1::TaskState::Failed,
        TaskState::Killed => v1::TaskState::Killed,
        TaskState::Lost => v1::TaskState::Lost,
        TaskState::Dropped => v1::TaskState::Dropped,
    }
}

pub fn reason_from(wire: i32) -> Converted<Reason> {
    let reason = v1::Reason::try_from(wire)
        .map_err(|_| Malformed::new("reason", format!("is {wire}, which is not a reason")))?;
    Ok(match reason {
        v1::Reason::Unspecified => return Err(Malformed::new("reason", "is unspecified")),
        v1::Reason::None => Reason::None,
        v1::Reason::Exited => Reason::Exited,
        v1::Reason::LaunchFailed => Reason::LaunchFailed,
        v1::Reason::KillRequested => Reason::KillRequested,
        v1::Reason::InvalidOffer => Reason::InvalidOffer,
        v1::Reason::InvalidTask => Reason::InvalidTask,
        v1::Reason::AgentUnreachable => Reason::AgentUnreachable,
        v1::Reason::AgentRestarted => Reason::AgentRestarted,
        v1::Reason::AgentRemoved => Reason::AgentRemoved,
        v1::Reason::Reconciliation => Reason::Reconciliation,
        v1::Reason::OutOfMemory => Reason::OutOfMemory,
        v1::Reason::TimedOut => Reason::TimedOut,
        v1::Reason::Unhealthy => Reason::Unhealthy,
        v1::Reason::OutOfDisk => Reason::OutOfDisk,
        v1::Reason::Preempted => Reason::Preempted,
        v1::Reason::AgentDrained => Reason::AgentDrained,
        v1::Reason::Revoked => Reason::Revoked,
        v1::Reason::FetchFailed => Reason::FetchFailed,
    })
}

pub fn reason_to(reason: Reason) -> v1::Reason {
    match reason {
        Reason::None => v1::Reason::None,
        Reason::Exited => v1::Reason::Exited,
        Reason::LaunchFailed => v1::Reason::LaunchFailed,
        Reason::KillRequested => v1::Reason::KillRequested,
        Reason::InvalidOffer => v1::Reason::InvalidOffer,
        Reason::InvalidTask => v1::Reason::InvalidTask,
        Reason::AgentUnreachable => v1::Reason::AgentUnreachable,
        Reason::AgentRestarted => v1::Reason::AgentRestarted,
        Reason::AgentRemoved => v1::Reason::AgentRemoved,
        Reason::Reconciliation => v1::Reason::Reconciliation,
        Reason::OutOfMemory => v1::Reason::OutOfMemory,
        Reason::TimedOut => v1::Reason::TimedOut,
        Reason::Unhealthy => v1::Reason::Unhealthy,
        Reason::OutOfDisk => v1::Reason::OutOfDisk,
        Reason::Preempted => v1::Reason::Preempted,
        Reason::AgentDrained => v1::Reason::AgentDrained,
        Reason::Revoked => v1::Reason::Revoked,
        Reason::FetchFailed => v1::Reason::FetchFailed,
    }
}

/// Plans are kept in memory and on disk by master and agent, and all plans of an agent travel in one message when it
/// registers; data belongs elsewhere.
pub const PLAN_BYTES_MAX: usize = 4 << 20;

pub fn task_info_from(wire: v1::TaskInfo) -> Converted<TaskInfo> {
    if wire.plan.len() > PLAN_BYTES_MAX {
        let what = format!("has {} bytes, at most {PLAN_BYTES_MAX} are taken", wire.plan.len());
        return Err(Malformed::new("plan", what));
    }
    Ok(TaskInfo {
        task_id: wire.task_id.into(),
        name: wire.name,
        agent_id: wire.agent_id.into(),
        resources: resources_from(wire.resources).map_err(|malformed| malformed.inside("resources"))?,
        argv: wire.argv,
        env: wire.env,
        plan: wire.plan,
        kill_grace_ms: wire.kill_grace_ms,
        max_completion_ms: wire.max_completion_ms,
        unreachable_kill_ms: wire.unreachable_kill_ms,
        health: wire
            .health
            .map(|health| health_from(health).map(Box::new).map_err(|malformed| malformed.inside("health")))
            .transpose()?,
        priority: wire.priority,
        group: wire.group,
        volumes: volumes::claims_from(wire.volumes),
        role: wire.role,
        artifacts: wire.artifacts.into_iter().map(artifact_from).collect(),
        user: wire.user,
        secrets: wire.secrets,
    })
}

pub fn task_info_to(info: TaskInfo) -> v1::TaskInfo {
    v1::TaskInfo {
        task_id: info.task_id.to_string(),
        name: info.name,
        agent_id: info.agent_id.to_string(),
        resources: Some(resources_to(&info.resources)),
        argv: info.argv,
        env: info.env,
        plan: info.plan,
        kill_grace_ms: info.kill_grace_ms,
        max_completion_ms: info.max_completion_ms,
        unreachable_kill_ms: info.unreachable_kill_ms,
        health: info.health.map(|health| health_to(*health)),
        priority: info.priority,
        group: info.group,
        volumes: claims_to(info.volumes),
        role: info.role,
        artifacts: info.artifacts.into_iter().map(artifact_to).collect(),
        user: info.user,
        secrets: info.secrets,
    }
}

fn artifact_from(wire: v1::Artifact) -> Artifact {
    let v1::Artifact { from, path, sha256, unpack, executable } = wire;
    Artifact { from, path, sha256, unpack, executable }
}

pub fn artifact_to(artifact: Artifact) -> v1::Artifact {
    let Artifact { from, path, sha256, unpack, executable } = artifact;
    v1::Artifact { from, path, sha256, unpack, executable }
}

/// An agent that asks more often than this does little else.
const HEALTH_INTERVAL_MS_MIN: u64 = 10;

pub fn health_from(wire: v1::HealthCheck) -> Converted<HealthCheck> {
    use v1::health_check::Probe as Wire;
    let port = |port: u32| {
        let refuse = || Malformed::new("probe.port", format!("is {port}, which is not a port"));
        u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(refuse)
    };
    let probe = match required(wire.probe, "probe")? {
        Wire::Command(v1::CommandProbe { argv }) if argv.is_empty() => {
            return Err(Malformed::new("probe.argv", "names no program"));
        }
        Wire::Command(v1::CommandProbe { argv }) => Probe::Command { argv },
        Wire::Tcp(tcp) => Probe::Tcp { port: port(tcp.port)? },
        Wire::Http(http) if !is_request_path(&http.path) => {
            return Err(Malformed::new("probe.path", format!("is {:?}, which is not the path of a URL", http.path)));
        }
        Wire::Http(http) => Probe::Http { port: port(http.port)?, path: http.path },
        Wire::Grpc(grpc) => Probe::Grpc { port: port(grpc.port)?, service: grpc.service },
    };
    if wire.interval_ms < HEALTH_INTERVAL_MS_MIN {
        let what = format!("is {}, at least {HEALTH_INTERVAL_MS_MIN} is taken", wire.interval_ms);
        return Err(Malformed::new("interval_ms", what));
    }
    let (interval_ms, grace_ms) = (wire.interval_ms, wire.grace_ms);
    let (timeout_ms, failures) = (wire.timeout_ms.max(1), wire.failures.max(1));
    Ok(HealthCheck { probe, interval_ms, timeout_ms, grace_ms, failures })
}

fn is_request_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}

pub fn health_to(health: HealthCheck) -> v1::HealthCheck {
    use v1::health_check::Probe as Wire;
    let probe = match health.probe {
        Probe::Command { argv } => Wire::Command(v1::CommandProbe { argv }),
        Probe::Tcp { port } => Wire::Tcp(v1::TcpProbe { port: port.into() }),
        Probe::Http { port, path } => Wire::Http(v1::HttpProbe { port: port.into(), path }),
        Probe::Grpc { port, service } => Wire::Grpc(v1::GrpcProbe { port: port.into(), service }),
    };
    v1::HealthCheck {
        probe: Some(probe),
        interval_ms: health.interval_ms,
        timeout_ms: health.timeout_ms,
        grace_ms: health.grace_ms,
        failures: health.failures,
    }
}

pub fn task_status_from(wire: v1::TaskStatus) -> Converted<TaskStatus> {
    Ok(TaskStatus {
        task_id: wire.task_id.into(),
        agent_id: wire.agent_id.into(),
        state: task_state_from(wire.state)?,
        reason: reason_from(wire.reason)?,
        message: wire.message,
        uuid: (!wire.uuid.is_empty()).then_some(wire.uuid),
        at_ms: wire.at_ms,
        exit_code: wire.exit_code,
    })
}

pub fn task_status_to(status: TaskStatus) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: status.task_id.to_string(),
        agent_id: status.agent_id.to_string(),
        state: task_state_to(status.state).into(),
        reason: reason_to(status.reason).into(),
        message: status.message,
        uuid: status.uuid.unwrap_or_default(),
        at_ms: status.at_ms,
        exit_code: status.exit_code,
    }
}

fn agent_info_from(wire: v1::AgentInfo) -> Converted<AgentInfo> {
    Ok(AgentInfo {
        agent_id: wire.agent_id.into(),
        host: wire.host,
        total: resources_from(wire.total).map_err(|malformed| malformed.inside("total"))?,
        attributes: wire.attributes,
        http_endpoint: wire.http_endpoint,
        reserved: roles::reservations_from(wire.reserved, "reserved")?,
    })
}

fn agent_info_to(agent: AgentInfo) -> v1::AgentInfo {
    v1::AgentInfo {
        agent_id: agent.agent_id.to_string(),
        host: agent.host,
        total: Some(resources_to(&agent.total)),
        attributes: agent.attributes,
        http_endpoint: agent.http_endpoint,
        reserved: agent.reserved.into_iter().map(roles::reservation_to).collect(),
    }
}

fn agent_task_from(wire: v1::AgentTask) -> Converted<AgentTask> {
    let task = required(wire.task, "task")?;
    Ok(AgentTask {
        framework_id: wire.framework_id.into(),
        info: task_info_from(task).map_err(|malformed| malformed.inside("task"))?,
        state: task_state_from(wire.state)?,
    })
}

fn agent_task_to(task: AgentTask) -> v1::AgentTask {
    v1::AgentTask {
        framework_id: task.framework_id.to_string(),
        task: Some(task_info_to(task.info)),
        state: task_state_to(task.state).into(),
    }
}

fn acknowledgement_from(wire: v1::AcknowledgeUpdate) -> Acknowledgement {
    Acknowledgement { agent_id: wire.agent_id.into(), task_id: wire.task_id.into(), uuid: wire.uuid }
}

fn demand_from(wire: v1::Demand) -> Converted<Demand> {
    Ok(Demand {
        name: wire.name,
        shape: resources_from(wire.shape).map_err(|malformed| malformed.inside("shape"))?,
        n_ports: wire.n_ports,
        count: wire.count,
        priority: wire.priority,
        group: wire.group,
        rules: rules::rules_from(wire.constraints, wire.together, wire.spread)?,
        volumes: volumes::claims_from(wire.volumes),
        within_ms: wire.within_ms,
    })
}

fn demand_to(demand: Demand) -> v1::Demand {
    let (constraints, together, spread) = rules_to(demand.rules);
    v1::Demand {
        name: demand.name,
        shape: Some(resources_to(&demand.shape)),
        n_ports: demand.n_ports,
        count: demand.count,
        priority: demand.priority,
        group: demand.group,
        constraints,
        together,
        spread,
        volumes: claims_to(demand.volumes),
        within_ms: demand.within_ms,
    }
}

fn offer_to(offer: Offer) -> v1::Offer {
    v1::Offer {
        offer_id: offer.offer_id.to_string(),
        agent_id: offer.agent_id.to_string(),
        host: offer.host.to_string(),
        role: offer.role.to_string(),
        resources: Some(resources_to(&offer.resources)),
        attributes: Arc::unwrap_or_clone(offer.attributes),
        expires_in_ms: offer.expires_in_ms,
        drains_in_ms: offer.drains_in_ms,
        volumes: offer.volumes.into_iter().map(volumes::volume_to).collect(),
    }
}

fn ids<T: From<String>>(wire: Vec<String>) -> Vec<T> {
    wire.into_iter().map(T::from).collect()
}

// ---- between agent and master ----

/// All calls of one message.
pub fn agent_calls_from(wire: Vec<v1::AgentCall>) -> Converted<Vec<AgentCall>> {
    each(wire, "calls", agent_call_from)
}

fn agent_call_from(wire: v1::AgentCall) -> Converted<AgentCall> {
    Ok(match required(wire.call, "call")? {
        agent_call::Call::Register(v1::RegisterAgent { agent, tasks, volumes }) => {
            let agent = required(agent, "agent")
                .and_then(|agent| agent_info_from(agent).map_err(|malformed| malformed.inside("agent")));
            AgentCall::Register {
                agent: agent.map_err(|malformed| malformed.inside("register"))?,
                tasks: each(tasks, "tasks", agent_task_from).map_err(|malformed| malformed.inside("register"))?,
                volumes: volumes.into_iter().map(volumes::volume_from).collect(),
            }
        }
        agent_call::Call::Destroyed(v1::VolumeDestroyed { role, name }) => {
            AgentCall::VolumeDestroyed { key: VolumeKey { role, name } }
        }
        agent_call::Call::Lends(v1::Lends { lent }) => {
            AgentCall::Lends { lent: roles::scalars_from(lent, "lent").map_err(|malformed| malformed.inside("lends"))? }
        }
        agent_call::Call::Heartbeat(v1::AgentHeartbeat {}) => AgentCall::Heartbeat,
        agent_call::Call::Update(v1::UpdateStatus { framework_id, status }) => {
            let status = required(status, "status")
                .and_then(|status| task_status_from(status).map_err(|malformed| malformed.inside("status")));
            AgentCall::Update {
                framework_id: framework_id.into(),
                status: status.map_err(|malformed| malformed.inside("update"))?,
            }
        }
    })
}

pub fn agent_call_to(call: AgentCall) -> v1::AgentCall {
    let call = match call {
        AgentCall::Register { agent, tasks, volumes } => agent_call::Call::Register(v1::RegisterAgent {
            agent: Some(agent_info_to(agent)),
            tasks: tasks.into_iter().map(agent_task_to).collect(),
            volumes: volumes.into_iter().map(volumes::volume_to).collect(),
        }),
        AgentCall::VolumeDestroyed { key: VolumeKey { role, name } } => {
            agent_call::Call::Destroyed(v1::VolumeDestroyed { role, name })
        }
        AgentCall::Lends { lent } => agent_call::Call::Lends(v1::Lends { lent: roles::amounts_to(&lent) }),
        AgentCall::Heartbeat => agent_call::Call::Heartbeat(v1::AgentHeartbeat {}),
        AgentCall::Update { framework_id, status } => agent_call::Call::Update(v1::UpdateStatus {
            framework_id: framework_id.to_string(),
            status: Some(task_status_to(status)),
        }),
    };
    v1::AgentCall { call: Some(call) }
}

/// All orders of one message.
pub fn agent_orders_from(wire: Vec<v1::AgentOrder>) -> Converted<Vec<AgentOrder>> {
    each(wire, "orders", agent_order_from)
}

fn agent_order_from(wire: v1::AgentOrder) -> Converted<AgentOrder> {
    Ok(match required(wire.order, "order")? {
        agent_order::Order::Registered(v1::AgentRegistered { agent_id, heartbeat_ms, leader_epoch }) => {
            AgentOrder::Registered { agent_id: agent_id.into(), heartbeat_ms, leader_epoch }
        }
        agent_order::Order::Launch(v1::LaunchTask { framework_id, task }) => {
            let task = required(task, "task")
                .and_then(|task| task_info_from(task).map_err(|malformed| malformed.inside("task")))
                .map_err(|malformed| malformed.inside("launch"))?;
            AgentOrder::Launch { framework_id: framework_id.into(), task: Box::new(task) }
        }
        agent_order::Order::Kill(v1::KillOrder { framework_id, task_id, grace_ms, reason, message }) => {
            let cause = match reason == i32::from(v1::Reason::Unspecified) {
                true => None,
                false => Some(Cause { reason: reason_from(reason)?, message }),
            };
            AgentOrder::Kill { framework_id: framework_id.into(), task_id: task_id.into(), grace_ms, cause }
        }
        agent_order::Order::Acknowledge(acknowledge) => AgentOrder::Acknowledge {
            framework_id: acknowledge.framework_id.as_str().into(),
            acknowledgement: acknowledgement_from(acknowledge),
        },
        agent_order::Order::KeepVolume(volume) => AgentOrder::KeepVolume { volume: volumes::volume_from(volume) },
        agent_order::Order::DestroyVolume(v1::DestroyVolume { role, name }) => {
            AgentOrder::DestroyVolume { key: VolumeKey { role, name } }
        }
        agent_order::Order::Shutdown(v1::ShutdownAgent { message }) => AgentOrder::Shutdown { message },
    })
}

pub fn agent_order_to(order: AgentOrder) -> v1::AgentOrder {
    let order = match order {
        AgentOrder::Registered { agent_id, heartbeat_ms, leader_epoch } => {
            agent_order::Order::Registered(v1::AgentRegistered {
                agent_id: agent_id.to_string(),
                heartbeat_ms,
                leader_epoch,
            })
        }
        AgentOrder::Launch { framework_id, task } => agent_order::Order::Launch(v1::LaunchTask {
            framework_id: framework_id.to_string(),
            task: Some(task_info_to(*task)),
        }),
        AgentOrder::Kill { framework_id, task_id, grace_ms, cause } => agent_order::Order::Kill(v1::KillOrder {
            framework_id: framework_id.to_string(),
            task_id: task_id.to_string(),
            grace_ms,
            reason: cause.as_ref().map_or(v1::Reason::Unspecified, |cause| reason_to(cause.reason)).into(),
            message: cause.map(|cause| cause.message).unwrap_or_default(),
        }),
        AgentOrder::Acknowledge { framework_id, acknowledgement } => {
            agent_order::Order::Acknowledge(v1::AcknowledgeUpdate {
                framework_id: framework_id.to_string(),
                agent_id: acknowledgement.agent_id.to_string(),
                task_id: acknowledgement.task_id.to_string(),
                uuid: acknowledgement.uuid,
            })
        }
        AgentOrder::KeepVolume { volume } => agent_order::Order::KeepVolume(volumes::volume_to(volume)),
        AgentOrder::DestroyVolume { key: VolumeKey { role, name } } => {
            agent_order::Order::DestroyVolume(v1::DestroyVolume { role, name })
        }
        AgentOrder::Shutdown { message } => agent_order::Order::Shutdown(v1::ShutdownAgent { message }),
    };
    v1::AgentOrder { order: Some(order) }
}

// ---- between framework and master ----

/// All calls of one message.
pub fn framework_calls_from(wire: Vec<v1::FrameworkCall>) -> Converted<Vec<FrameworkCall>> {
    each(wire, "calls", framework_call_from)
}

fn framework_call_from(wire: v1::FrameworkCall) -> Converted<FrameworkCall> {
    use framework_call::Call;
    Ok(match required(wire.call, "call")? {
        Call::Subscribe(v1::Subscribe { framework_id, name, role, failover_timeout_ms, constraints }) => {
            FrameworkCall::Subscribe {
                framework_id: (!framework_id.is_empty()).then(|| framework_id.into()),
                name,
                role,
                failover_timeout_ms,
                constraints: rules::rules_from(constraints, String::new(), None)
                    .map_err(|malformed| malformed.inside("subscribe"))?
                    .constraints,
            }
        }
        Call::Demand(v1::PostDemand { demands }) => FrameworkCall::Demand {
            demands: each(demands, "demands", demand_from).map_err(|malformed| malformed.inside("demand"))?,
        },
        Call::Accept(v1::AcceptOffers { offer_ids, launch, refuse_ms, operations }) => FrameworkCall::Accept {
            offer_ids: ids(offer_ids),
            operations: each(operations, "operations", volumes::operation_from)
                .map_err(|malformed| malformed.inside("accept"))?,
            launch: each(launch, "launch", task_info_from).map_err(|malformed| malformed.inside("accept"))?,
            refuse_ms,
        },
        Call::Decline(v1::DeclineOffers { offer_ids, refuse_ms }) => {
            FrameworkCall::Decline { offer_ids: ids(offer_ids), refuse_ms }
        }
        Call::Revive(v1::Revive {}) => FrameworkCall::Revive,
        Call::Suppress(v1::Suppress {}) => FrameworkCall::Suppress,
        Call::Acknowledge(acknowledge) => FrameworkCall::Acknowledge(acknowledgement_from(acknowledge)),
        // The framework is the one that speaks, whatever it wrote into the message.
        Call::Kill(v1::KillTask { framework_id: _, task_id, grace_ms }) => {
            FrameworkCall::Kill { task_id: task_id.into(), grace_ms }
        }
        Call::Reconcile(v1::Reconcile { task_ids }) => FrameworkCall::Reconcile { task_ids: ids(task_ids) },
        Call::Teardown(v1::Teardown {}) => FrameworkCall::Teardown,
    })
}

pub fn framework_event_to(event: FrameworkEvent) -> v1::FrameworkEvent {
    let event = match event {
        FrameworkEvent::Subscribed { framework_id, heartbeat_ms } => {
            framework_event::Event::Subscribed(v1::Subscribed { framework_id: framework_id.to_string(), heartbeat_ms })
        }
        FrameworkEvent::Offer(offer) => framework_event::Event::Offer(offer_to(offer)),
        FrameworkEvent::Rescind { offer_id } => {
            framework_event::Event::Rescind(v1::RescindOffer { offer_id: offer_id.to_string() })
        }
        FrameworkEvent::Operated { offer_ids, problem } => {
            let offer_ids = offer_ids.iter().map(ToString::to_string).collect();
            framework_event::Event::Operated(v1::AcceptOperated { offer_ids, problem: problem.unwrap_or_default() })
        }
        FrameworkEvent::VolumesAt { homes } => {
            let homes = homes.into_iter().map(|(name, agent_id)| (name, agent_id.to_string())).collect();
            framework_event::Event::VolumesAt(v1::VolumesAt { homes })
        }
        FrameworkEvent::Update(status) => framework_event::Event::Update(task_status_to(status)),
        FrameworkEvent::AgentDrains { agent_id, ends_in_ms } => {
            framework_event::Event::Drains(v1::AgentDrains { agent_id: agent_id.to_string(), ends_in_ms })
        }
        FrameworkEvent::Expired { names } => framework_event::Event::Expired(v1::DemandsExpired { names }),
        FrameworkEvent::Preempted { task_ids, ends_in_ms, message } => {
            let task_ids = task_ids.iter().map(ToString::to_string).collect();
            framework_event::Event::Preempted(v1::TasksPreempted { task_ids, ends_in_ms, message })
        }
        FrameworkEvent::Error { message } => framework_event::Event::Error(v1::FrameworkError { message }),
        FrameworkEvent::Heartbeat => framework_event::Event::Heartbeat(v1::Heartbeat {}),
    };
    v1::FrameworkEvent { event: Some(event) }
}

// ---- for people ----

pub fn view_to(view: ClusterView) -> v1::StateResponse {
    v1::StateResponse {
        leader_epoch: view.leader_epoch,
        agents: view.agents.into_iter().map(agent_view_to).collect(),
        frameworks: view.frameworks.into_iter().map(framework_view_to).collect(),
        offers: view.offers.into_iter().map(offer_view_to).collect(),
        tasks: view.tasks.into_iter().map(task_view_to).collect(),
        roles: view.roles.into_iter().map(roles::role_view_to).collect(),
        volumes: view.volumes.into_iter().map(volumes::volume_view_to).collect(),
    }
}

fn agent_view_to(view: AgentView) -> v1::AgentView {
    v1::AgentView {
        agent: Some(agent_info_to(view.agent)),
        state: view.state.as_str().to_string(),
        free: Some(resources_to(&view.free)),
        offered: Some(resources_to(&view.offered)),
        used: Some(resources_to(&view.used)),
        heard_ms_ago: view.heard_ms_ago,
        drains_from_ms: view.drain.and_then(|drain| drain.from_ms),
        drained_by_ms: view.drain.and_then(|drain| drain.until_ms),
        drain_over_ms: view.drain.and_then(|drain| drain.over_ms),
        reserved: view.reserved.into_iter().map(roles::reservation_to).collect(),
        unfilled: view.unfilled.into_iter().map(roles::unfilled_to).collect(),
    }
}

fn framework_view_to(view: FrameworkView) -> v1::FrameworkView {
    v1::FrameworkView {
        framework_id: view.framework_id.to_string(),
        name: view.name,
        role: view.role,
        connected: view.connected,
        suppressed: view.suppressed,
        dominant_share: view.dominant_share,
        demands: view.demands.into_iter().map(demand_to).collect(),
        waiting: view.waiting,
    }
}

fn offer_view_to(view: OfferView) -> v1::OfferView {
    v1::OfferView {
        offer: Some(offer_to(view.offer)),
        framework_id: view.framework_id.to_string(),
        state: view.state.as_str().to_string(),
        made_ms_ago: view.made_ms_ago,
        task_ids: view.task_ids.iter().map(ToString::to_string).collect(),
        refused_ms: view.refused_ms,
    }
}

fn task_view_to(view: TaskView) -> v1::TaskView {
    v1::TaskView {
        task_id: view.task_id.to_string(),
        name: view.name,
        framework_id: view.framework_id.to_string(),
        agent_id: view.agent_id.to_string(),
        offer_id: view.offer_id.map(|offer_id| offer_id.to_string()).unwrap_or_default(),
        state: task_state_to(view.state).into(),
        resources: Some(resources_to(&view.resources)),
        priority: view.priority,
        leaves_in_ms: view.leaves_in_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::volumes::VolumeClaim;
    use scheduler::model::Reservation;
    use scheduler::volumes::Volume;

    #[test]
    fn every_state_and_reason_survives_the_wire() {
        for state in TaskState::ALL {
            assert_eq!(task_state_from(task_state_to(state).into()), Ok(state));
        }
        for reason in Reason::ALL {
            assert_eq!(reason_from(reason_to(reason).into()), Ok(reason));
        }
    }

    #[test]
    fn values_survive_the_wire() {
        let info = TaskInfo {
            task_id: "t".into(),
            name: "stream fraud/features 0/2".into(),
            agent_id: "a".into(),
            resources: Resources::new().cpus(1.5).mem_mib(64.0).with_ports([(31000, 31002), (65535, 65535)]),
            argv: vec!["/bin/true".into()],
            env: [("KEY".to_string(), "value".to_string())].into(),
            plan: vec![0, 255],
            kill_grace_ms: 7,
            max_completion_ms: 8,
            unreachable_kill_ms: 9,
            health: Some(Box::new(HealthCheck {
                probe: Probe::Http { port: 80, path: "/health".into() },
                interval_ms: 10,
                timeout_ms: 11,
                grace_ms: 12,
                failures: 13,
            })),
            priority: -14,
            group: "fraud/features".into(),
            volumes: vec![VolumeClaim { name: "data".into(), disk_milli: 15, path: "var/data".into() }],
            role: "ml".into(),
            artifacts: vec![Artifact {
                from: "https://h/a.tgz".into(),
                path: "a".into(),
                sha256: "17".into(),
                unpack: true,
                executable: false,
            }],
            user: "nobody".into(),
            secrets: [("KEY".to_string(), "name".to_string())].into(),
        };
        let call = AgentCall::Register {
            agent: AgentInfo {
                agent_id: "a".into(),
                host: "127.0.0.1".into(),
                total: Resources::new().cpus(2.0),
                attributes: [("rack".to_string(), "r1".to_string())].into(),
                http_endpoint: "http://127.0.0.1:1".into(),
                reserved: vec![Reservation {
                    role: "ml".into(),
                    amounts: [("cpus", 500)].into_iter().collect(),
                    labels: [("disk".to_string(), "fast".to_string())].into(),
                }],
            },
            tasks: vec![AgentTask { framework_id: "f".into(), info, state: TaskState::Running }],
            volumes: vec![Volume { key: VolumeKey::new("ml", "data"), disk_milli: 16 }],
        };
        assert_eq!(agent_calls_from(vec![agent_call_to(call.clone())]), Ok(vec![call]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let accept = |launch| v1::FrameworkCall {
            call: Some(framework_call::Call::Accept(v1::AcceptOffers {
                offer_ids: vec!["o".into()],
                launch: vec![launch],
                refuse_ms: None,
                operations: vec![],
            })),
        };
        let ports = |low, high| v1::TaskInfo {
            resources: Some(v1::Resources { ports: vec![v1::PortRange { low, high }], ..Default::default() }),
            ..Default::default()
        };
        let error = |call| framework_calls_from(vec![call]).expect_err("malformed").to_string();
        assert_eq!(
            error(accept(ports(1, 70_000))),
            "field calls[0].accept.launch[0].resources.ports[0].high: is 70000, which is not a port"
        );
        assert_eq!(error(accept(ports(9, 8))), "field calls[0].accept.launch[0].resources.ports[0]: 9 is above 8");
        assert_eq!(error(v1::FrameworkCall { call: None }), "field calls[0].call: is missing");

        let update = v1::AgentCall {
            call: Some(agent_call::Call::Update(v1::UpdateStatus {
                framework_id: "f".into(),
                status: Some(v1::TaskStatus::default()),
            })),
        };
        let error = agent_calls_from(vec![update]).expect_err("malformed").to_string();
        assert_eq!(error, "field calls[0].update.status.state: is unspecified");
    }

    #[test]
    fn a_health_check_that_cannot_be_asked_is_refused() {
        let check = |probe| v1::HealthCheck { probe: Some(probe), interval_ms: 10, ..Default::default() };
        let http = |port, path: &str| v1::health_check::Probe::Http(v1::HttpProbe { port, path: path.into() });
        assert!(health_from(check(http(80, "/"))).is_ok());
        for (wrong, field) in [
            (check(http(0, "/")), "probe.port"),
            (check(http(65_536, "/")), "probe.port"),
            (check(http(80, "x")), "probe.path"),
            (check(http(80, "/ HTTP/1.1\r\nX: y")), "probe.path"),
            (check(v1::health_check::Probe::Command(v1::CommandProbe { argv: vec![] })), "probe.argv"),
            (v1::HealthCheck { interval_ms: 1, ..check(http(80, "/")) }, "interval_ms"),
            (v1::HealthCheck::default(), "probe"),
        ] {
            let refused = health_from(wrong).expect_err("refused").to_string();
            assert!(refused.contains(field), "{refused}");
        }
    }
}
