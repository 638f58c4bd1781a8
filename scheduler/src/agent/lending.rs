//! Lending: what was given to tasks that do not use it is offered once more, and whoever runs on it is ended when it is used
//! after all (Mesos' resource estimator and QoS controller).
//!
//! Invariant: what is lent was given to tasks and used by none of them for as long as is looked back; a task that has not run
//! for that long counts as if it used all of its own. Who has to give it back is decided by what is used now, of the whole
//! machine: what nobody was given serves as well.

use super::{Agent, Command, Link, Process, Task};
use crate::model::{AgentCall, ConnectionId, TaskKey};
use jobs::revocable::LENT;
use jobs::{Reason, Resources, Scalars};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// What is lent changes by whole steps, so that not every look is news: a tenth of a core, 64 MiB.
const STEPS: [i64; LENT.len()] = [100, 64_000];

/// Cores are shared for a moment without harm, memory is not: it is taken back after so many looks in a row that find it short.
const PATIENCE: [u32; LENT.len()] = [2, 1];

#[derive(Debug, Default)]
pub struct Lending {
    /// The first look of this life: what was before nobody knows.
    began_ms: Option<u64>,
    /// What tasks used, at each look that still counts.
    looks: VecDeque<(u64, Scalars)>,
    pub lent: Scalars,
    /// Of each, how many of the latest looks found too little of it.
    short: [u32; LENT.len()],
}

impl Task {
    fn is_there(&self) -> bool {
        self.process != Process::Gone
    }
}

/// Cores and memory alone.
fn own(resources: &Resources) -> Scalars {
    LENT.iter().map(|(name, _)| (*name, resources.milli(name))).collect()
}

impl Agent {
    /// What the tasks that run use, as far as it is known.
    pub(super) fn measured(&mut self, used: &BTreeMap<TaskKey, Scalars>) {
        if self.config.lend_milli == 0 {
            return;
        }
        let back_ms = self.config.look_back_ms;
        let looks_for_long = self.lending.began_ms.get_or_insert(self.now_ms).saturating_add(back_ms) <= self.now_ms;
        let (mut given, mut now, mut safe) = (Scalars::new(), Scalars::new(), Scalars::new());
        for (key, task) in self.tasks.iter().filter(|(_, task)| task.is_there() && !task.info.resources.is_revocable())
        {
            let own = own(&task.info.resources);
            let used = used.get(key).map(|used| {
                let mut used = used.clone();
                // More cores than it was given it has only while nobody else wants them.
                used.set("cpus", used.get("cpus").min(own.get("cpus")));
                used
            });
            let is_known = looks_for_long && task.since_ms.saturating_add(back_ms) <= self.now_ms;
            safe.add(used.as_ref().filter(|_| is_known).unwrap_or(&own));
            // Of one that has only just begun it is not known yet, and hardly anything.
            now.add(&used.unwrap_or_default());
            given.add(&own);
        }
        let looks = &mut self.lending.looks;
        looks.push_back((self.now_ms, safe));
        while looks.front().is_some_and(|(at_ms, _)| at_ms.saturating_add(back_ms) < self.now_ms) {
            looks.pop_front();
        }
        let most = looks.iter().fold(Scalars::new(), |most, (_, used)| most.most(used));
        let unused = given.beyond(&most);
        let of = |(name, lent): (&str, &'static str), step: i64| {
            (lent, unused.get(name) * self.config.lend_milli / 1000 / step * step)
        };
        let lent: Scalars = LENT.into_iter().zip(STEPS).map(|(names, step)| of(names, step)).collect();
        self.lend(lent);
        self.take_back(&now);
    }

    fn lend(&mut self, lent: Scalars) {
        if lent == self.lending.lent {
            return;
        }
        self.lending.lent = lent;
        if let Some(Link { connection, heartbeat_ms: Some(_) }) = self.link {
            self.send_lent(connection);
        }
    }

    /// To a master that has just been registered with, and knows of nothing.
    pub(super) fn lend_again(&mut self, connection: ConnectionId) {
        if !self.lending.lent.is_empty() {
            self.send_lent(connection);
        }
    }

    fn send_lent(&mut self, connection: ConnectionId) {
        let call = AgentCall::Lends { lent: self.lending.lent.clone() };
        self.out.push(Command::Send { connection, call });
    }

    /// Ends who runs on what is used by others: the least important first, and of those the latest.
    fn take_back(&mut self, used: &Scalars) {
        let total = own(&self.config.agent.total);
        let mut lenders: Vec<(i32, Reverse<u64>, TaskKey, Resources)> = Vec::new();
        let mut held = Scalars::new();
        for (key, task) in self.tasks.iter().filter(|(_, task)| task.is_there() && task.kill.is_none()) {
            let resources = &task.info.resources;
            if resources.is_revocable() {
                held.add(&resources.amounts().lent());
                lenders.push((task.info.priority, Reverse(task.since_ms), key.clone(), resources.clone()));
            }
        }
        lenders.sort_by_key(|(priority, since, ..)| (*priority, *since));
        for (at, (name, lent)) in LENT.into_iter().enumerate() {
            let room = total.get(name) - used.get(name);
            let short = &mut self.lending.short[at];
            *short = if held.get(lent) > room { *short + 1 } else { 0 };
            if *short < PATIENCE[at] {
                continue;
            }
            let unit = |milli: i64| Resources::new().with(name, milli as f64 / 1000.0);
            while held.get(lent) > room
                && let Some(next) = lenders.iter().position(|(.., resources)| resources.milli(lent) > 0)
            {
                let (.., key, resources) = lenders.remove(next);
                let why = format!(
                    "ran on {}, which was only lent: those to whom it was given use {} of {} now",
                    unit(resources.milli(lent)),
                    unit(used.get(name)),
                    unit(total.get(name))
                );
                held.subtract(&resources.amounts().lent());
                self.end(&key, Reason::Revoked, why);
            }
        }
    }
}
