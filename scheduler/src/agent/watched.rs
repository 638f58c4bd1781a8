//! What an agent sees to by itself: that a task does its work, ends in time, and does not go on where nobody hears of it.
//!
//! Invariant: at most one question about a task's health is open. Failures before the first success do not count during
//! the grace; after that, so many in a row, and never fewer, end the task.
//! Invariant: why a task is ended that nobody asked to end is persisted before it is signalled, so that its last update
//! says it, whichever agent makes that.

use super::{Agent, Alarm, Command, Process};
use crate::model::{Cause, TaskKey};
use jobs::{HealthCheck, Probe, Reason, TaskState};

/// Until it was healthy once it is asked at least this often, so that nobody waits for a long interval.
const EAGER_INTERVAL_MS: u64 = 1_000;

#[derive(Debug)]
pub struct Health {
    check: HealthCheck,
    since_ms: u64,
    was_healthy: bool,
    /// In a row.
    failures: u32,
}

/// What an answer changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    Unchanged,
    Healthy,
    /// For good; why.
    Unhealthy(String),
}

impl Health {
    pub fn new(check: HealthCheck) -> Self {
        Self { check, since_ms: 0, was_healthy: false, failures: 0 }
    }

    /// The process is there since then; when to ask first.
    pub fn begin(&mut self, now_ms: u64, since_ms: u64, was_healthy: bool) -> u64 {
        self.since_ms = since_ms;
        self.was_healthy = was_healthy;
        now_ms.saturating_add(self.interval_ms())
    }

    pub fn question(&self) -> (Probe, u64) {
        (self.check.probe.clone(), self.check.timeout_ms)
    }

    /// What the answer means, and when to ask again.
    pub fn heard(&mut self, now_ms: u64, outcome: Result<(), String>) -> (Outlook, u64) {
        let outlook = match outcome {
            Ok(()) => {
                self.failures = 0;
                self.was_healthy = true;
                Outlook::Healthy
            }
            Err(_) if !self.was_healthy && now_ms < self.since_ms.saturating_add(self.check.grace_ms) => {
                Outlook::Unchanged
            }
            Err(error) => {
                self.failures += 1;
                match (self.failures, self.check.failures) {
                    (failures, most) if failures < most => Outlook::Unchanged,
                    (1, _) => Outlook::Unhealthy(format!("its health check failed: {error}")),
                    (failures, _) => {
                        Outlook::Unhealthy(format!("{failures} health checks in a row failed, the last: {error}"))
                    }
                }
            }
        };
        (outlook, now_ms.saturating_add(self.interval_ms()))
    }

    fn interval_ms(&self) -> u64 {
        // An interval of 0 would never let time pass.
        let interval_ms = self.check.interval_ms.max(1);
        if self.was_healthy { interval_ms } else { interval_ms.min(EAGER_INTERVAL_MS) }
    }
}

impl Agent {
    pub(super) fn watch(&mut self, key: &TaskKey, since_ms: u64) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.info.max_completion_ms > 0 {
            // Its time may have run out while no agent was there.
            let at_ms = since_ms.saturating_add(task.info.max_completion_ms).max(self.now_ms + 1);
            self.alarms.set(Alarm::Completion(key.clone()), at_ms);
        }
        if self.link.is_none_or(|link| link.heartbeat_ms.is_none()) {
            self.count_silence(key);
        }
        let Some(task) = self.tasks.get_mut(key) else { return };
        if let Some(health) = &mut task.health {
            let was_healthy = !matches!(task.latest, TaskState::Staging | TaskState::Starting);
            let at_ms = health.begin(self.now_ms, since_ms, was_healthy);
            self.alarms.set(Alarm::Probe(key.clone()), at_ms);
        }
    }

    pub(super) fn probe(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key).filter(|task| task.process == Process::Running) else { return };
        if let (Some(health), None) = (&task.health, task.kill) {
            let (probe, timeout_ms) = health.question();
            self.out.push(Command::Probe { task: key.clone(), probe, timeout_ms });
        }
    }

    pub(super) fn probed(&mut self, key: &TaskKey, outcome: Result<(), String>) {
        let now_ms = self.now_ms;
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.process != Process::Running || task.kill.is_some() {
            return;
        }
        let Some(health) = &mut task.health else { return };
        let (outlook, again_at_ms) = health.heard(now_ms, outcome);
        self.alarms.set(Alarm::Probe(key.clone()), again_at_ms);
        match outlook {
            Outlook::Unchanged => {}
            Outlook::Healthy if task.latest == TaskState::Starting => {
                self.report(key, TaskState::Running, Reason::None, "healthy".to_string(), 0);
            }
            Outlook::Healthy => {}
            Outlook::Unhealthy(why) => self.end(key, Reason::Unhealthy, why),
        }
    }

    pub(super) fn time_out(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let why = format!("ran for longer than the {} ms that it may", task.info.max_completion_ms);
        self.end(key, Reason::TimedOut, why);
    }

    /// From now on no master is heard. Time that is running already goes on running.
    pub(super) fn count_silence(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key).filter(|task| task.process == Process::Running) else { return };
        let (alarm, kill_ms) = (Alarm::Unheard(key.clone()), task.info.unreachable_kill_ms);
        if kill_ms > 0 && !self.alarms.is_set(&alarm) {
            self.alarms.set(alarm, self.now_ms.saturating_add(kill_ms));
        }
    }

    pub(super) fn unheard(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let why = format!("its agent heard no master for {} ms", task.info.unreachable_kill_ms);
        self.end(key, Reason::AgentUnreachable, why);
    }

    /// Ends a task that nobody asked to end; it is this agent that wants it.
    pub(super) fn end(&mut self, key: &TaskKey, reason: Reason, why: String) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.process != Process::Running || task.kill.is_some() {
            return;
        }
        task.cause = Some(Cause { reason, message: why.clone() });
        let kill_at_ms = self.now_ms.saturating_add(self.grace_of(key));
        self.report(key, TaskState::Killing, reason, why, 0);
        self.start_kill(key, kill_at_ms);
    }
}
