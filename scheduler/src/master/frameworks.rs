//! What is known of frameworks, and what they hold.
//!
//! Invariant: `charged` is the sum of what a framework's offers and tasks hold; a role's is the sum of its frameworks'.
//! Whatever changes what a framework holds or wants touches it, and its turn is found anew before the next offer.
//! An ended framework's id is remembered, so that it is never accepted again.

use super::journal::Touched;
use super::offers::OfferNumber;
use super::roles::{RoleNumber, Roles, Turn};
use super::shapes::Wish;
use super::volumes::Asked;
use crate::model::{ConnectionId, Demand, TaskKey};
use jobs::{AgentId, FrameworkId, Resources, Rules, Scalars, TaskId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Ended frameworks that are remembered. A task of one that is forgotten comes back as an orphan, and ends with the
/// orphan's timeout.
const MAX_ENDED: usize = 10_000;

/// What a framework asked about tasks that nobody knows yet is kept until all agents are back, at most this many of each.
const MAX_EARLY: usize = 100_000;

#[derive(Debug)]
pub struct Framework {
    pub id: FrameworkId,
    /// Its place in tables that are kept for all frameworks; free for another when it is gone.
    pub number: u32,
    pub name: String,
    pub role: Arc<str>,
    pub role_number: RoleNumber,
    pub failover_timeout_ms: u64,
    pub connection: Option<ConnectionId>,
    /// The registry has it; not so an orphan.
    pub is_recorded: bool,
    pub suppressed: bool,
    /// It subscribed moments ago and is not offered anything yet.
    pub settling: bool,
    /// Where it takes anything at all.
    pub rules: Rules,
    /// `None`: it never posted demand and takes whatever is free.
    pub demands: Option<Vec<Demand>>,
    /// Those of them that name volumes, as they were posted.
    pub asked: Asked,
    /// Where it was told that their volumes are.
    pub told_homes: BTreeMap<String, AgentId>,
    /// Of each demand, what its offers cannot meet; empty without demand.
    pub wish: Wish,
    /// Since when each group of demands, or demand that is alone, is wanted.
    pub wanted_since_ms: BTreeMap<String, u64>,
    /// Since when each of these is posted that has to be met within a time.
    pub posted_ms: BTreeMap<String, u64>,
    /// Tasks that hold something, by their priority.
    pub running: BTreeMap<i32, u32>,
    pub offers: BTreeSet<OfferNumber>,
    pub charged: Scalars,
    /// Times that it was offered something: breaks ties between equal shares.
    pub n_offered: u64,
    /// Its place among the frameworks of its role, while it could be offered something.
    pub turn: Option<Turn>,
    /// It is counted among those that posted demand and have a turn.
    pub is_demanding: bool,
    /// Its turn is to be found anew.
    is_touched: bool,
    /// So is its wish.
    pub is_wish_stale: bool,
    /// Tasks that it asked about before all agents were back; of each, whether it was told that it is unreachable.
    pub unanswered: BTreeMap<TaskId, bool>,
    /// Kills for such tasks, with their grace.
    pub early_kills: BTreeMap<TaskId, Option<u64>>,
}

#[derive(Debug)]
pub struct Frameworks {
    by_id: BTreeMap<FrameworkId, u32>,
    /// By number.
    slots: Vec<Option<Box<Framework>>>,
    unused: Vec<u32>,
    pub roles: Roles,
    touched: Vec<u32>,
    ended: BTreeSet<FrameworkId>,
    ended_order: VecDeque<FrameworkId>,
    made: u64,
    /// By whatever watchers are told of frameworks.
    pub noted: Touched<FrameworkId>,
}

impl Frameworks {
    pub fn new(roles: Roles) -> Self {
        Self {
            by_id: BTreeMap::new(),
            slots: Vec::new(),
            unused: Vec::new(),
            roles,
            touched: Vec::new(),
            ended: BTreeSet::new(),
            ended_order: VecDeque::new(),
            made: 0,
            noted: Touched::default(),
        }
    }

    pub fn get(&self, id: &FrameworkId) -> Option<&Framework> {
        self.numbered(*self.by_id.get(id)?)
    }

    /// All that watchers are told of it is changed through this.
    pub fn get_mut(&mut self, id: &FrameworkId) -> Option<&mut Framework> {
        self.noted.note(id);
        let number = *self.by_id.get(id)?;
        self.numbered_mut(number)
    }

    pub fn numbered(&self, number: u32) -> Option<&Framework> {
        self.slots.get(number as usize)?.as_deref()
    }

    fn numbered_mut(&mut self, number: u32) -> Option<&mut Framework> {
        self.slots.get_mut(number as usize)?.as_deref_mut()
    }

    /// All numbers are below this.
    pub fn n_slots(&self) -> usize {
        self.slots.len()
    }

    /// In order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Framework> {
        self.by_id.values().filter_map(|number| self.numbered(*number))
    }

    /// In no order that means anything.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Framework> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }

    /// A framework that a connection or a standing offer names.
    pub fn known(&mut self, id: &FrameworkId) -> &mut Framework {
        self.get_mut(id).unwrap_or_else(|| panic!("framework {id} is named and not known"))
    }

    /// The same by its number.
    pub fn known_numbered(&mut self, number: u32) -> &mut Framework {
        self.numbered_mut(number).unwrap_or_else(|| panic!("framework {number} is named and not known"))
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
        let number = self.unused.pop().unwrap_or(self.slots.len() as u32);
        let framework = Some(Box::new(Framework {
            id: id.clone(),
            number,
            name,
            role_number: self.roles.join(&role),
            role: role.into(),
            failover_timeout_ms,
            connection: None,
            is_recorded: true,
            suppressed: false,
            settling: false,
            rules: Rules::default(),
            demands: None,
            asked: Asked::new(),
            told_homes: BTreeMap::new(),
            wish: Wish::default(),
            wanted_since_ms: BTreeMap::new(),
            posted_ms: BTreeMap::new(),
            running: BTreeMap::new(),
            offers: BTreeSet::new(),
            charged: Scalars::new(),
            n_offered: 0,
            turn: None,
            is_demanding: false,
            is_touched: false,
            is_wish_stale: false,
            unanswered: BTreeMap::new(),
            early_kills: BTreeMap::new(),
        }));
        self.noted.note(&id);
        self.by_id.insert(id, number);
        match self.slots.get_mut(number as usize) {
            Some(slot) => *slot = framework,
            None => self.slots.push(framework),
        }
    }

    pub fn remove(&mut self, id: &FrameworkId) {
        self.noted.note(id);
        let Some(number) = self.by_id.remove(id) else { return };
        self.set_turn(number, None);
        let Some(framework) = self.slots.get_mut(number as usize).and_then(Option::take) else { return };
        self.unused.push(number);
        self.roles.discharge(framework.role_number, &framework.charged);
        self.roles.reorder(framework.role_number);
        self.roles.leave(framework.role_number);
    }

    /// Changes the role and takes what is charged along.
    pub fn move_to_role(&mut self, id: &FrameworkId, role: &str) {
        let Some(framework) = self.get(id).filter(|framework| *framework.role != *role) else { return };
        let number = framework.number;
        self.set_turn(number, None);
        let to = self.roles.join(role);
        let framework = self.known(id);
        framework.role = role.into();
        let (from, charged) = (std::mem::replace(&mut framework.role_number, to), framework.charged.clone());
        self.roles.discharge(from, &charged);
        self.roles.charge(to, &charged);
        self.roles.reorder(from);
        self.roles.reorder(to);
        self.roles.leave(from);
        self.touch(id);
    }

    /// Its turn and its wish are found anew before the next offer.
    pub fn touch(&mut self, id: &FrameworkId) {
        if let Some(number) = self.by_id.get(id) {
            self.touch_numbered(*number);
        }
    }

    fn touch_numbered(&mut self, number: u32) {
        let framework = self.numbered_mut(number);
        if let Some(framework) = framework.filter(|framework| !framework.is_touched) {
            framework.is_touched = true;
            self.touched.push(number);
        }
    }

    /// The same, for its offers or its demands changed.
    pub fn touch_wish(&mut self, id: &FrameworkId) {
        if let Some(number) = self.by_id.get(id) {
            self.touch_wish_numbered(*number);
        }
    }

    pub fn touch_wish_numbered(&mut self, number: u32) {
        if let Some(framework) = self.numbered_mut(number) {
            framework.is_wish_stale = true;
            self.touch_numbered(number);
        }
    }

    /// The number of agents changed, which decides for how much an offer counts. Answers whose wish that may change.
    pub fn touch_wishes(&mut self) -> Vec<FrameworkId> {
        let holding = self.iter().filter(|framework| framework.demands.is_some() && !framework.offers.is_empty());
        let ids: Vec<FrameworkId> = holding.map(|framework| framework.id.clone()).collect();
        for id in &ids {
            self.touch_wish(id);
        }
        ids
    }

    pub fn touch_all(&mut self) {
        for number in 0..self.slots.len() {
            self.touch_numbered(number as u32);
        }
    }

    /// Those that were touched since this was last asked. A number may have changed hands since; who has it now is
    /// meant.
    pub fn take_touched(&mut self) -> Vec<u32> {
        let touched = std::mem::take(&mut self.touched);
        for number in &touched {
            if let Some(framework) = self.numbered_mut(*number) {
                framework.is_touched = false;
            }
        }
        touched
    }

    /// Gives a framework its place in its role's order, or takes it out. The role itself is not moved.
    pub fn set_turn(&mut self, number: u32, turn: Option<Turn>) {
        let Some(framework) = self.numbered_mut(number) else { return };
        let is_demanding = turn.is_some() && framework.demands.is_some();
        let (before, was_demanding, role) = (framework.turn, framework.is_demanding, framework.role_number);
        (framework.turn, framework.is_demanding) = (turn, is_demanding);
        if before != turn {
            self.roles.set_member(role, before, turn);
        }
        if was_demanding != is_demanding {
            self.roles.count_demanding(role, if is_demanding { 1 } else { -1 });
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
        if let Some(number) = self.by_id.get(id) {
            self.charge_numbered(*number, resources);
        }
    }

    pub fn charge_numbered(&mut self, number: u32, resources: &Resources) {
        if let Some(framework) = self.numbered_mut(number) {
            framework.charged.add(resources.amounts());
            let role = framework.role_number;
            self.roles.charge(role, resources.amounts());
            self.touch_numbered(number);
        }
    }

    pub fn discharge(&mut self, id: &FrameworkId, resources: &Resources) {
        if let Some(number) = self.by_id.get(id) {
            self.discharge_numbered(*number, resources);
        }
    }

    pub fn discharge_numbered(&mut self, number: u32, resources: &Resources) {
        if let Some(framework) = self.numbered_mut(number) {
            let (role, held) = (framework.role_number, &mut framework.charged);
            let has = held.contains(resources.amounts());
            assert!(has, "{resources} cannot be taken from the {held:?} of {}", framework.id);
            held.subtract(resources.amounts());
            self.roles.discharge(role, resources.amounts());
            self.touch_numbered(number);
        }
    }

    /// A task of this priority holds something from now on, or no more.
    pub fn count_running(&mut self, id: &FrameworkId, priority: i32, more: i32) {
        let Some(framework) = self.get_mut(id) else { return };
        let n = framework.running.entry(priority).or_default();
        *n = n.checked_add_signed(more).unwrap_or_else(|| panic!("{id} runs fewer than no tasks of {priority}"));
        if *n == 0 {
            framework.running.remove(&priority);
        }
    }

    pub fn take_early_kill(&mut self, key: &TaskKey) -> Option<Option<u64>> {
        let framework = self.get_mut(&key.framework_id)?;
        framework.unanswered.remove(&key.task_id);
        framework.early_kills.remove(&key.task_id)
    }
}

impl Framework {
    pub fn remember_question(&mut self, task_id: TaskId, is_told: bool) {
        if self.unanswered.len() < MAX_EARLY {
            self.unanswered.insert(task_id, is_told);
        }
    }

    pub fn remember_kill(&mut self, task_id: TaskId, grace_ms: Option<u64>) {
        if self.early_kills.len() < MAX_EARLY {
            self.early_kills.insert(task_id, grace_ms);
        }
    }
}
