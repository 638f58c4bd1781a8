//! Who has to leave comes after whom it leaves for: within a role by priority, between roles because the one is guaranteed
//! what the other has borrowed. Nobody has to leave that has only begun.

use crate::client::Client;
use jobs::TaskId;
use scheduler::master::{Command, Record};
use scheduler::model::{AgentOrder, TaskKey};
use std::collections::BTreeMap;

/// When tasks were launched, as agents are told it.
#[derive(Debug, Default)]
pub struct Begun(BTreeMap<TaskId, u64>);

impl Begun {
    pub fn look(&mut self, commands: &[Command], now_ms: u64) {
        for command in commands {
            if let Command::ToAgent { order: AgentOrder::Launch { task, .. }, .. } = command {
                self.0.entry(task.task_id.clone()).or_insert(now_ms);
            }
        }
    }
}

/// One word of the master to the framework of those that have to leave.
pub struct Notice<'a> {
    pub to: &'a Client,
    pub task_ids: &'a [TaskId],
    pub message: &'a str,
    pub now_ms: u64,
    pub min_run_ms: u64,
}

pub fn check(notice: &Notice<'_>, clients: &[Client], registry: &BTreeMap<String, Record>, begun: &Begun) {
    let Notice { to, task_ids, message, now_ms, min_run_ms } = notice;
    let index =
        message.split("slots-").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|text| text.parse().ok());
    let index: usize = index.unwrap_or_else(|| panic!("for whom is this: {message}"));
    let other = &clients[index];
    assert!(index != to.index, "{} has to leave for itself: {message}", to.index);
    if to.role == other.role {
        assert!(to.priority < other.priority, "{} leaves for {} in one role: {message}", to.priority, other.priority);
    } else {
        let is_guaranteed = |(at, _): (usize, &str)| {
            let record = registry.get(&format!("role/{}", &other.role[..at]));
            matches!(record, Some(Record::Role { quota, .. }) if !quota.guarantee.is_empty())
        };
        let mut above = other.role.match_indices('/').chain([(other.role.len(), "")]);
        assert!(above.any(is_guaranteed), "nothing is guaranteed to {}: {message}", other.role);
    }
    for id in *task_ids {
        let begun_ms = begun.0.get(id).copied().unwrap_or_else(|| panic!("{id} leaves and was never launched"));
        assert!(begun_ms + min_run_ms <= *now_ms, "{id} has run for {} ms only", now_ms - begun_ms);
    }
}

/// Tasks that a master has told to leave, and that were ended because they did not.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<TaskKey, u64>);

impl Told {
    pub fn told(&mut self, key: TaskKey, ends_ms: u64) {
        self.0.insert(key, ends_ms);
    }

    /// Whether this kill ends one that had its time.
    pub fn is_due(&self, key: &TaskKey, now_ms: u64) -> bool {
        self.0.get(key).is_some_and(|ends_ms| *ends_ms <= now_ms)
    }
}
