//! What changes, for those who watch.

use super::{agent_info_to, roles, task_status_to, task_view_to, view_to, volumes};
use scheduler::master::{Change, ClusterView, Noted, WatchedAgent, WatchedFramework, WatchedRole};
use scheduler::model::TaskKey;
use wire::v1;
use wire::v1::cluster_event::Event;

/// The first message of those who watch. `number`: of the latest change that it has.
pub fn snapshot_to(view: ClusterView, number: u64, heartbeat_ms: u64) -> v1::ClusterEvents {
    v1::ClusterEvents { snapshot: Some(view_to(view)), number, heartbeat_ms, events: Vec::new() }
}

pub fn noted_to(noted: Noted) -> v1::ClusterEvent {
    let Noted { number, at_ms, change } = noted;
    let event = match change {
        Change::AgentAdded(agent) => Event::AgentAdded(watched_agent_to(agent)),
        Change::AgentChanged(agent) => Event::AgentChanged(watched_agent_to(agent)),
        Change::AgentRemoved { agent_id } => Event::AgentRemoved(v1::AgentRemoved { agent_id: agent_id.to_string() }),
        Change::FrameworkAdded(framework) => Event::FrameworkAdded(watched_framework_to(framework)),
        Change::FrameworkChanged(framework) => Event::FrameworkChanged(watched_framework_to(framework)),
        Change::FrameworkRemoved { framework_id } => {
            Event::FrameworkRemoved(v1::FrameworkRemoved { framework_id: framework_id.to_string() })
        }
        Change::TaskAdded(view) => Event::TaskAdded(task_view_to(view)),
        Change::TaskUpdated { framework_id, status } => Event::TaskUpdated(v1::TaskUpdated {
            framework_id: framework_id.to_string(),
            status: Some(task_status_to(status)),
        }),
        Change::TaskLeaves { task: TaskKey { framework_id, task_id }, leave_by_ms } => {
            let (framework_id, task_id) = (framework_id.to_string(), task_id.to_string());
            Event::TaskLeaves(v1::TaskLeaves { framework_id, task_id, leave_by_ms })
        }
        Change::TaskForgotten { task: TaskKey { framework_id, task_id } } => {
            let (framework_id, task_id) = (framework_id.to_string(), task_id.to_string());
            Event::TaskForgotten(v1::TaskForgotten { framework_id, task_id })
        }
        Change::RoleAdded(role) => Event::RoleAdded(watched_role_to(role)),
        Change::RoleChanged(role) => Event::RoleChanged(watched_role_to(role)),
        Change::RoleRemoved { role } => Event::RoleRemoved(v1::RoleRemoved { role }),
        Change::VolumeAdded(view) => Event::VolumeAdded(volumes::volume_view_to(view)),
        Change::VolumeChanged(view) => Event::VolumeChanged(volumes::volume_view_to(view)),
        Change::VolumeRemoved { agent_id, key } => {
            let agent_id = agent_id.to_string();
            Event::VolumeRemoved(v1::VolumeRemoved { agent_id, role: key.role, name: key.name })
        }
    };
    v1::ClusterEvent { number, at_ms, event: Some(event) }
}

fn watched_agent_to(watched: WatchedAgent) -> v1::WatchedAgent {
    let WatchedAgent { agent, state, reserved, drain } = watched;
    v1::WatchedAgent {
        agent: Some(agent_info_to(*agent)),
        state: state.as_str().to_string(),
        drains_from_ms: drain.and_then(|drain| drain.from_ms),
        drained_by_ms: drain.and_then(|drain| drain.until_ms),
        drain_over_ms: drain.and_then(|drain| drain.over_ms),
        reserved: reserved.into_iter().map(roles::reservation_to).collect(),
    }
}

fn watched_framework_to(watched: WatchedFramework) -> v1::WatchedFramework {
    let WatchedFramework { framework_id, name, role, connected, suppressed } = watched;
    v1::WatchedFramework { framework_id: framework_id.to_string(), name, role, connected, suppressed }
}

fn watched_role_to(watched: WatchedRole) -> v1::WatchedRole {
    let WatchedRole { role, weight, guarantee, limit } = watched;
    let limit = limit.into_iter().map(|(name, milli)| v1::Scalar { name, milli }).collect();
    v1::WatchedRole { role, weight, guarantee: roles::amounts_to(&guarantee), limit }
}
