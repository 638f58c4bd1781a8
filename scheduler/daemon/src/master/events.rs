//! `GET /events`: what watchers are told, as server-sent events with JSON.
//!
//! Invariant: the same as over gRPC under the same names, but that the snapshot has what changes can be told of, and no more.
//! Amounts are in units, mem and disk in MiB, as in the runner's API.

use super::watchers::{BEHIND, Snapshot, Told};
use axum::response::sse::Event;
use jobs::{Resources, Scalars};
use scheduler::master::{
    AgentView, Change, Drain, FrameworkView, Noted, RoleView, TaskView, VolumeView, WatchedAgent, WatchedFramework,
    WatchedRole,
};
use scheduler::model::{AgentInfo, Reservation, TaskStatus};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::sync::Arc;

/// One event for each; of nothing, which is said after so long, a heartbeat.
pub(super) fn events(told: Vec<Told>, heartbeat_ms: u64) -> Vec<Result<Event, Infallible>> {
    if told.is_empty() {
        return vec![Ok(event("heartbeat", &json!({})))];
    }
    let one = |told| match told {
        Told::Snapshot(snapshot) => event("snapshot", &snapshot_json(*snapshot, heartbeat_ms)),
        Told::Change(noted) => {
            let (name, value) = noted_json(Arc::unwrap_or_clone(noted));
            event(name, &value)
        }
        Told::Behind => event("end", &json!({ "message": BEHIND })),
    };
    told.into_iter().map(one).map(Ok).collect()
}

fn event(name: &str, value: &Value) -> Event {
    Event::default().event(name).data(value.to_string())
}

fn snapshot_json(snapshot: Snapshot, heartbeat_ms: u64) -> Value {
    let Snapshot { view, number, at_ms } = snapshot;
    let agent = |view: AgentView| {
        let (agent, state, reserved, drain) = (Box::new(view.agent), view.state, view.reserved, view.drain);
        agent_json(WatchedAgent { agent, state, reserved, drain })
    };
    let framework = |view: FrameworkView| {
        let FrameworkView { framework_id, name, role, connected, suppressed, .. } = view;
        framework_json(WatchedFramework { framework_id, name, role, connected, suppressed })
    };
    let role = |view: RoleView| {
        let RoleView { role, weight, guarantee, limit, .. } = view;
        role_json(WatchedRole { role, weight, guarantee, limit })
    };
    json!({
        "number": number,
        "at_ms": at_ms,
        "heartbeat_ms": heartbeat_ms,
        "leader_epoch": view.leader_epoch,
        "agents": view.agents.into_iter().map(agent).collect::<Vec<_>>(),
        "frameworks": view.frameworks.into_iter().map(framework).collect::<Vec<_>>(),
        "tasks": view.tasks.into_iter().map(task_json).collect::<Vec<_>>(),
        "roles": view.roles.into_iter().map(role).collect::<Vec<_>>(),
        "volumes": view.volumes.into_iter().map(volume_json).collect::<Vec<_>>(),
    })
}

/// Under which name, and what.
fn noted_json(noted: Noted) -> (&'static str, Value) {
    let Noted { number, at_ms, change } = noted;
    let (name, mut value) = match change {
        Change::AgentAdded(agent) => ("agent_added", agent_json(agent)),
        Change::AgentChanged(agent) => ("agent_changed", agent_json(agent)),
        Change::AgentRemoved { agent_id } => ("agent_removed", json!({ "agent_id": agent_id })),
        Change::FrameworkAdded(framework) => ("framework_added", framework_json(framework)),
        Change::FrameworkChanged(framework) => ("framework_changed", framework_json(framework)),
        Change::FrameworkRemoved { framework_id } => ("framework_removed", json!({ "framework_id": framework_id })),
        Change::TaskAdded(view) => ("task_added", task_json(view)),
        Change::TaskUpdated { framework_id, status } => {
            let TaskStatus { task_id, agent_id, state, reason, message, at_ms, exit_code, uuid: _ } = status;
            let exit_code = state.is_terminal().then_some(exit_code);
            let value = json!({
                "framework_id": framework_id, "task_id": task_id, "agent_id": agent_id, "state": state,
                "reason": reason, "message": message, "reported_ms": at_ms, "exit_code": exit_code,
            });
            ("task_updated", value)
        }
        Change::TaskLeaves { task, leave_by_ms } => {
            let (framework_id, task_id) = (task.framework_id, task.task_id);
            let value = json!({ "framework_id": framework_id, "task_id": task_id, "leave_by_ms": leave_by_ms });
            ("task_leaves", value)
        }
        Change::TaskForgotten { task } => {
            ("task_forgotten", json!({ "framework_id": task.framework_id, "task_id": task.task_id }))
        }
        Change::RoleAdded(role) => ("role_added", role_json(role)),
        Change::RoleChanged(role) => ("role_changed", role_json(role)),
        Change::RoleRemoved { role } => ("role_removed", json!({ "role": role })),
        Change::VolumeAdded(view) => ("volume_added", volume_json(view)),
        Change::VolumeChanged(view) => ("volume_changed", volume_json(view)),
        Change::VolumeRemoved { agent_id, key } => {
            ("volume_removed", json!({ "agent_id": agent_id, "role": key.role, "name": key.name }))
        }
    };
    value["number"] = number.into();
    value["at_ms"] = at_ms.into();
    (name, value)
}

fn agent_json(watched: WatchedAgent) -> Value {
    let WatchedAgent { agent, state, reserved, drain } = watched;
    let AgentInfo { agent_id, host, total, attributes, http_endpoint, reserved: own } = *agent;
    let at = |moment: fn(Drain) -> Option<u64>| drain.and_then(moment);
    let reserved = own.into_iter().map(|own| (own, true)).chain(reserved.into_iter().map(|reserved| (reserved, false)));
    json!({
        "agent_id": agent_id,
        "host": host,
        "total": resources_json(&total),
        "attributes": attributes,
        "http_endpoint": http_endpoint,
        "state": state.as_str(),
        "drains_from_ms": at(|drain| drain.from_ms),
        "drained_by_ms": at(|drain| drain.until_ms),
        "drain_over_ms": at(|drain| drain.over_ms),
        "reserved": reserved.map(reservation_json).collect::<Vec<_>>(),
    })
}

fn reservation_json((reservation, by_agent): (Reservation, bool)) -> Value {
    let Reservation { role, amounts, labels } = reservation;
    json!({ "role": role, "amounts": amounts_json(&amounts), "labels": labels, "by_agent": by_agent })
}

fn framework_json(watched: WatchedFramework) -> Value {
    let WatchedFramework { framework_id, name, role, connected, suppressed } = watched;
    json!({
        "framework_id": framework_id, "name": name, "role": role, "connected": connected, "suppressed": suppressed,
    })
}

fn task_json(view: TaskView) -> Value {
    json!({
        "framework_id": view.framework_id,
        "task_id": view.task_id,
        "name": view.name,
        "agent_id": view.agent_id,
        "offer_id": view.offer_id,
        "state": view.state,
        "resources": resources_json(&view.resources),
        "priority": view.priority,
        "leaves_in_ms": view.leaves_in_ms,
    })
}

fn role_json(watched: WatchedRole) -> Value {
    let WatchedRole { role, weight, guarantee, limit } = watched;
    let limit: Map<String, Value> = limit.into_iter().map(|(name, milli)| (name, units(milli))).collect();
    json!({ "role": role, "weight": weight, "guarantee": amounts_json(&guarantee), "limit": limit })
}

fn volume_json(view: VolumeView) -> Value {
    let VolumeView { agent_id, volume, user, is_leaving } = view;
    let (framework_id, task_id) = user.map(|user| (user.framework_id, user.task_id)).unzip();
    json!({
        "agent_id": agent_id,
        "role": volume.key.role,
        "name": volume.key.name,
        "disk_mib": units(volume.disk_milli),
        "framework_id": framework_id,
        "task_id": task_id,
        "leaving": is_leaving,
    })
}

fn resources_json(resources: &Resources) -> Value {
    json!({ "scalars": amounts_json(resources.amounts()), "n_ports": resources.n_ports() })
}

fn amounts_json(amounts: &Scalars) -> Map<String, Value> {
    amounts.iter().filter(|(name, _)| *name != "ports").map(|(name, milli)| (name.to_string(), units(milli))).collect()
}

/// Of thousandths.
fn units(milli: i64) -> Value {
    (milli as f64 / 1000.0).into()
}
