//! What is known of frameworks and roles, and what they hold.
//!
//! Invariant: `charged` is the sum of what a framework's offers and tasks hold; a role's is the sum of its frameworks'.
//! An ended framework's id is remembered, so that it is never accepted again.

use super::offers::OfferNumber;
use super::tally::Tally;
use crate::model::{ConnectionId, Demand, TaskKey};
use jobs::{FrameworkId, Resources, TaskId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ended frameworks that are remembered. A task of one that is forgotten comes back as an orphan, and ends with the
/// orphan's timeout.
const MAX_ENDED: usize = 10_000;

/// What a framework asked about tasks that nobody knows yet is kept until recovery ends, at most this many of each.
const MAX_EARLY: usize = 100_000;

#[derive(Debug)]
pub struct Framework {
    pub name: String,
    pub role: String,
    pub failover_timeout_ms: u64,
    pub connection: Option<ConnectionId>,
    /// The registry has it; not so an orphan.
    pub is_recorded: bool,
    pub suppressed: bool,
    /// It subscribed moments ago and is not offered anything yet.
    pub settling: bool,
    /// `None`: it never posted demand and takes whatever is free.
    pub demands: Option<Vec<Demand>>,
    pub offers: BTreeSet<OfferNumber>,
    pub charged: Tally,
    /// Times that it was offered something: breaks ties between equal shares.
    pub n_offered: u64,
    /// Tasks that it asked about before all agents were back.
    pub unanswered: BTreeSet<TaskId>,
    /// Kills for such tasks, with their grace.
    pub early_kills: BTreeMap<TaskId, Option<u64>>,
}

#[derive(Debug, Default)]
pub struct Role {
    pub charged: Tally,
    pub n_offered: u64,
    n_frameworks: usize,
}

#[derive(Debug, Default)]
pub struct Frameworks {
    pub by_id: BTreeMap<FrameworkId, Framework>,
    pub roles: BTreeMap<String, Role>,
    ended: BTreeSet<FrameworkId>,
    ended_order: VecDeque<FrameworkId>,
    made: u64,
}

impl Frameworks {
    pub fn get(&self, id: &FrameworkId) -> Option<&Framework> {
        self.by_id.get(id)
    }

    /// A framework that a connection or a standing offer names.
    pub fn known(&mut self, id: &FrameworkId) -> &mut Framework {
        self.by_id.get_mut(id).unwrap_or_else(|| panic!("framework {id} is named and not known"))
    }

    /// An id that no framework of this or any earlier epoch has.
    pub fn new_id(&mut self, epoch: u64) -> FrameworkId {
        self.made += 1;
        FrameworkId::new(format!("f-{epoch}-{}", self.made))
    }

    pub fn has_ended(&self, id: &FrameworkId) -> bool {
        self.ended.contains(id)
    }

    pub fn insert(&mut self, id: FrameworkId, name: String, role: String, failover_timeout_ms: u64) {
        self.roles.entry(role.clone()).or_default().n_frameworks += 1;
        let framework = Framework {
            name,
            role,
            failover_timeout_ms,
            connection: None,
            is_recorded: true,
            suppressed: false,
            settling: false,
            demands: None,
            offers: BTreeSet::new(),
            charged: Tally::default(),
            n_offered: 0,
            unanswered: BTreeSet::new(),
            early_kills: BTreeMap::new(),
        };
        self.by_id.insert(id, framework);
    }

    pub fn remove(&mut self, id: &FrameworkId) {
        let Some(framework) = self.by_id.remove(id) else { return };
        if let Some(role) = self.roles.get_mut(&framework.role) {
            role.charged.subtract(&framework.charged.as_resources());
        }
        self.leave_role(&framework.role);
    }

    /// Changes the role and takes what is charged along.
    pub fn move_to_role(&mut self, id: &FrameworkId, role: &str) {
        let Some(framework) = self.by_id.get_mut(id) else { return };
        if framework.role == role {
            return;
        }
        let (charged, before) = (framework.charged.as_resources(), std::mem::replace(&mut framework.role, role.into()));
        if let Some(role) = self.roles.get_mut(&before) {
            role.charged.subtract(&charged);
        }
        self.leave_role(&before);
        let role = self.roles.entry(role.to_string()).or_default();
        role.n_frameworks += 1;
        role.charged.add(&charged);
    }

    fn leave_role(&mut self, name: &str) {
        if let Some(role) = self.roles.get_mut(name) {
            role.n_frameworks -= 1;
            if role.n_frameworks == 0 {
                self.roles.remove(name);
            }
        }
    }

    pub fn remember_ended(&mut self, id: FrameworkId) {
        if self.ended.insert(id.clone()) {
            self.ended_order.push_back(id);
        }
        if self.ended_order.len() > MAX_ENDED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// What an ended framework held is charged to nobody.
    pub fn charge(&mut self, id: &FrameworkId, resources: &Resources) {
        if let Some(framework) = self.by_id.get_mut(id) {
            framework.charged.add(resources);
            self.roles.entry(framework.role.clone()).or_default().charged.add(resources);
        }
    }

    pub fn discharge(&mut self, id: &FrameworkId, resources: &Resources) {
        if let Some(framework) = self.by_id.get_mut(id) {
            framework.charged.subtract(resources);
            self.roles.entry(framework.role.clone()).or_default().charged.subtract(resources);
        }
    }

    pub fn take_early_kill(&mut self, key: &TaskKey) -> Option<Option<u64>> {
        let framework = self.by_id.get_mut(&key.framework_id)?;
        framework.unanswered.remove(&key.task_id);
        framework.early_kills.remove(&key.task_id)
    }
}

impl Framework {
    pub fn remember_question(&mut self, task_id: TaskId) {
        if self.unanswered.len() < MAX_EARLY {
            self.unanswered.insert(task_id);
        }
    }

    pub fn remember_kill(&mut self, task_id: TaskId, grace_ms: Option<u64>) {
        if self.early_kills.len() < MAX_EARLY {
            self.early_kills.insert(task_id, grace_ms);
        }
    }
}
