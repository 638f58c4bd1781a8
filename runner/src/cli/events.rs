//! `events`: what happens in the cluster, as it happens.

use super::exit::{FAILED, Fail, Result};
use super::human::clock;
use super::output::Output;
use crate::client::{self, Client};
use serde_json::Value;
use std::time::Duration;

/// Another master takes a moment to be there.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Until it is ended. Another master is watched in the place of one that ended.
pub async fn events(client: &Client, output: Output) -> Result<()> {
    let mut watched_before = false;
    loop {
        match watch(client, output).await {
            Ok(()) => output.progress("the master ended; its successor is watched"),
            // The runner is there, and its master is not yet.
            Err(Stop::Client(client::Error::Refused { status: 503, .. })) if watched_before => {}
            Err(Stop::Client(error)) => return Err(error.into()),
            Err(Stop::Output(fail)) => return Err(fail),
        }
        watched_before = true;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

enum Stop {
    Client(client::Error),
    Output(Fail),
}

async fn watch(client: &Client, output: Output) -> std::result::Result<(), Stop> {
    let mut events = client.events().await.map_err(Stop::Client)?;
    // However it breaks off, it is over.
    while let Ok(Some(client::events::Event { name, data })) = events.next().await {
        let strange = |error: serde_json::Error| Fail::new(FAILED, format!("failed to read event {name}: {error}"));
        let mut value: Value = serde_json::from_str(&data).map_err(strange).map_err(Stop::Output)?;
        let line = match output.json {
            true if name == "heartbeat" => continue,
            true => {
                value["event"] = name.into();
                value.to_string()
            }
            false => match shown(&name, &value) {
                Some(line) => line,
                None => continue,
            },
        };
        output.line(&line).map_err(Stop::Output)?;
    }
    Ok(())
}

/// One line for people; none for what is no news.
fn shown(name: &str, value: &Value) -> Option<String> {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let n = |key: &str| value[key].as_array().map_or(0, Vec::len);
    let (of, change) = name.split_once('_').unwrap_or((name, ""));
    let line = match (of, change) {
        ("snapshot", _) => {
            format!("cluster: {} agents, {} frameworks, {} tasks", n("agents"), n("frameworks"), n("tasks"))
        }
        ("end", _) => text("message").to_string(),
        ("agent", "removed") => format!("agent {} is gone", text("agent_id")),
        ("agent", _) => format!("agent {} is {}", text("agent_id"), text("state")),
        ("framework", "removed") => format!("framework {} has ended", text("framework_id")),
        ("framework", _) => {
            let state = match (value["connected"].as_bool(), value["suppressed"].as_bool()) {
                (Some(true), Some(true)) => "connected and wants nothing",
                (Some(true), _) => "connected",
                _ => "away",
            };
            format!("framework {} ({}, role {}) is {state}", text("framework_id"), text("name"), text("role"))
        }
        ("task", "forgotten") => return None,
        ("task", "leaves") if value["leave_by_ms"].is_null() => format!("task {} may stay", text("task_id")),
        ("task", "leaves") => format!("task {} has to leave", text("task_id")),
        ("task", _) => {
            let reason = match text("reason") {
                "" | "none" => String::new(),
                reason => format!(", {}", reason.replace('_', " ")),
            };
            let message = if text("message").is_empty() { String::new() } else { format!(": {}", text("message")) };
            format!("task {} is {} on {}{reason}{message}", text("task_id"), text("state"), text("agent_id"))
        }
        ("role", "removed") => format!("role {} has neither frameworks nor a quota any more", text("role")),
        ("role", _) => {
            let amounts = |key: &str| match value[key].as_object() {
                Some(amounts) if !amounts.is_empty() => {
                    let amounts: Vec<String> = amounts.iter().map(|(name, n)| format!("{name}={n}")).collect();
                    format!(", {key} {}", amounts.join(";"))
                }
                _ => String::new(),
            };
            format!("role {}: weight {}{}{}", text("role"), value["weight"], amounts("guarantee"), amounts("limit"))
        }
        ("volume", "removed") => format!("volume {} of role {} is gone", text("name"), text("role")),
        ("volume", _) => {
            let user = match value["task_id"].as_str() {
                Some(task) => format!("task {task} has it"),
                None => "no task has it".to_string(),
            };
            format!("volume {} of role {} is on {}, {user}", text("name"), text("role"), text("agent_id"))
        }
        _ => return None,
    };
    Some(format!("{}  {line}", clock(value["at_ms"].as_u64().unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_event_is_one_sentence() {
        let line = |name: &str, value: Value| {
            shown(name, &value).map(|line| line.split_once("  ").expect("a time").1.to_string())
        };
        let task =
            json!({ "task_id": "t", "agent_id": "a", "state": "failed", "reason": "fetch_failed", "message": "why" });
        assert_eq!(line("task_updated", task).as_deref(), Some("task t is failed on a, fetch failed: why"));
        let task = json!({ "task_id": "t", "agent_id": "a", "state": "staging" });
        assert_eq!(line("task_added", task).as_deref(), Some("task t is staging on a"));
        let role = json!({ "role": "ml", "weight": 2.0, "limit": { "cpus": 4.0 }, "guarantee": {} });
        assert_eq!(line("role_changed", role).as_deref(), Some("role ml: weight 2.0, limit cpus=4.0"));
        let agents = json!({ "agents": [1, 2], "frameworks": [], "tasks": [3] });
        assert_eq!(line("snapshot", agents).as_deref(), Some("cluster: 2 agents, 0 frameworks, 1 tasks"));
        assert_eq!((line("heartbeat", json!({})), line("task_forgotten", json!({ "task_id": "t" }))), (None, None));
    }
}
