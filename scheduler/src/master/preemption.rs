//! Tasks that have to leave for what comes before them.
//!
//! A demand that has waited takes the place of tasks of its own role whose priority is lower. One that the guarantee of its
//! role covers takes the place of tasks of other roles, as far as those have more than is guaranteed to them. Nobody is asked
//! to leave unless all that is wanted fits then, and whoever is has been running for a while, is told, and has time to leave
//! by itself: to take a checkpoint, for one. What it leaves is [kept](super::holds) for whom it left.
//!
//! Invariant: it comes to an end. Whoever has to leave comes after whom it leaves for, by priority within a role and by
//! guarantee between roles, so that nobody is ever made to leave for what left for it.

use super::agents::Agent;
use super::frameworks::Framework;
use super::holds::{Hold, HoldNumber};
use super::offers::Standing;
use super::roles::{ROOT, RoleNumber};
use super::tasks::Task;
use super::victims::{Candidate, Choice, Rooms, choose, fits, most};
use super::view::AgentState;
use super::{Alarm, Master};
use crate::model::{Demand, FrameworkEvent, TaskKey, is_below};
use jobs::{AgentId, FrameworkId, Reason, Resources, Scalars, TaskId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Between two looks at what is wanted and not met.
const WEIGH_EVERY_MS: u64 = 500;

/// Room is kept for so long after all should have left: a kill may take its time, and offers must be answered.
const KEPT_FOR_MS: u64 = 60_000;

/// One for whom room was kept in vain waits so long before others have to leave for it again.
const AGAIN_MS: u64 = 60_000;

/// Where more wait than are looked at at once, one that was looked at waits so long.
const CROWDED_MS: u64 = 2_000;

/// Demands that are looked at at once; each may look at every task of a role.
const AT_ONCE: usize = 8;

/// Demands of a framework that are met together.
struct Batch {
    framework_id: FrameworkId,
    key: String,
    wanted: Vec<Demand>,
    priority: i32,
    since_ms: u64,
    /// What all of it needs.
    amounts: Scalars,
    /// Whether its tasks are of use one by one.
    is_loose: bool,
}

/// What entitles a batch to the place of others.
struct Right {
    role: RoleNumber,
    by_priority: bool,
    by_guarantee: bool,
}

/// What a demand belongs to.
pub fn key_of(demand: &Demand) -> &str {
    if demand.group.is_empty() { &demand.name } else { &demand.group }
}

impl Master {
    /// What a framework wants has changed: whatever is new begins to wait, and room for what it wants no more is given up.
    pub(super) fn note_wants(&mut self, id: &FrameworkId) {
        let now_ms = self.now_ms;
        let framework = self.frameworks.known(id);
        let demands = framework.demands.as_deref().unwrap_or_default();
        let wanted: BTreeSet<&str> = demands.iter().filter(|demand| demand.count > 0).map(key_of).collect();
        framework.wanted_since_ms.retain(|key, _| wanted.contains(key.as_str()));
        for key in wanted {
            if !framework.wanted_since_ms.contains_key(key) {
                framework.wanted_since_ms.insert(key.to_string(), now_ms);
            }
        }
        let is_wanting = !framework.wanted_since_ms.is_empty();
        let over = self.holds.of_framework(id).filter(|(_, hold)| !hold.is_wanted(demands)).map(|(number, _)| number);
        for number in over.collect::<Vec<_>>() {
            self.end_hold(number);
        }
        if is_wanting && !self.alarms.is_set(&Alarm::WeighDemands) {
            self.alarms.set(Alarm::WeighDemands, now_ms + self.config.preempt_after_ms.max(1));
        }
        self.note_deadlines(id);
    }

    /// Looks whether somebody has to leave for what is wanted.
    pub(super) fn weigh_demands(&mut self) {
        if self.frameworks.iter().any(|framework| !framework.wanted_since_ms.is_empty()) {
            self.alarms.set(Alarm::WeighDemands, self.now_ms + WEIGH_EVERY_MS);
        }
        let lowest = self.lowest_priorities();
        let mut batches: Vec<(Batch, Right)> = Vec::new();
        for framework in self.frameworks.iter().filter(|framework| is_asking(framework)) {
            for batch in self.batches(framework) {
                if let Some(right) = self.right_of(framework, &batch, &lowest) {
                    batches.push((batch, right));
                }
            }
        }
        batches.sort_by_key(|(batch, _)| (Reverse(batch.priority), batch.since_ms));
        // What cannot be met now must not keep what could from being looked at.
        let is_crowded = batches.len() > AT_ONCE;
        for (batch, right) in batches.into_iter().take(AT_ONCE) {
            let (id, key) = (batch.framework_id.clone(), batch.key.clone());
            self.make_room(batch, &right);
            if is_crowded {
                self.look_later(&id, &key, CROWDED_MS);
            }
        }
    }

    fn look_later(&mut self, id: &FrameworkId, key: &str, in_ms: u64) {
        let since_ms = self.now_ms + in_ms;
        if let Some(since) = self.frameworks.known(id).wanted_since_ms.get_mut(key) {
            *since = since_ms;
        }
    }

    /// By role, that of the least important task of its frameworks.
    fn lowest_priorities(&self) -> BTreeMap<RoleNumber, i32> {
        let mut lowest: BTreeMap<RoleNumber, i32> = BTreeMap::new();
        for framework in self.frameworks.iter() {
            if let Some((priority, _)) = framework.running.first_key_value() {
                let least = lowest.entry(framework.role_number).or_insert(*priority);
                *least = (*least).min(*priority);
            }
        }
        lowest
    }

    /// What a framework wants that has waited for long enough, and that no room is kept for.
    fn batches(&self, framework: &Framework) -> Vec<Batch> {
        let mut batches: BTreeMap<&str, Batch> = BTreeMap::new();
        let kept: BTreeSet<&str> = self.holds.of_framework(&framework.id).map(|(_, hold)| hold.key.as_str()).collect();
        for demand in framework.demands.iter().flatten().filter(|demand| demand.count > 0) {
            let key = key_of(demand);
            let since_ms = framework.wanted_since_ms.get(key).copied().unwrap_or(self.now_ms);
            if kept.contains(key) || since_ms.saturating_add(self.config.preempt_after_ms) > self.now_ms {
                continue;
            }
            let batch = batches.entry(key).or_insert_with(|| Batch {
                framework_id: framework.id.clone(),
                key: key.to_string(),
                wanted: Vec::new(),
                priority: demand.priority,
                since_ms,
                amounts: Scalars::new(),
                is_loose: demand.group.is_empty(),
            });
            if batch.is_loose && !batch.wanted.is_empty() {
                // Another one of the same name; its turn comes when the first is met.
                continue;
            }
            batch.priority = batch.priority.max(demand.priority);
            batch.add(demand.clone());
        }
        batches.into_values().collect()
    }

    fn right_of(&self, framework: &Framework, batch: &Batch, lowest: &BTreeMap<RoleNumber, i32>) -> Option<Right> {
        let role = framework.role_number;
        let by_priority = lowest.get(&role).is_some_and(|least| *least < batch.priority);
        let mut needed = self.needed_by(role);
        let by_guarantee = !needed.is_empty() && {
            // What it holds in offers is its own again when room is made.
            needed.add(&self.offered_to(framework));
            let is_guaranteed = |name: &str| {
                let mut path = self.frameworks.roles.path(role);
                path.any(|(_, role)| role.terms.guarantee.get(name) > 0)
            };
            let mut guaranteed = batch.amounts.iter().filter(|(name, _)| is_guaranteed(name)).peekable();
            guaranteed.peek().is_some() && guaranteed.all(|(name, milli)| milli <= needed.get(name))
        };
        (by_priority || by_guarantee).then_some(Right { role, by_priority, by_guarantee })
    }

    fn offered_to(&self, framework: &Framework) -> Scalars {
        let mut sum = Scalars::new();
        for offer in framework.offers.iter().filter_map(|number| self.offers.get(*number)) {
            sum.add(offer.resources.amounts());
        }
        sum
    }

    fn make_room(&mut self, mut batch: Batch, right: &Right) {
        let own = self.frameworks.get(&batch.framework_id).map(|framework| self.offered_to(framework));
        let own = own.unwrap_or_default();
        let limits_allow = |freed: &Scalars, amounts: &Scalars| {
            let more = amounts.beyond(&own).beyond(freed);
            self.frameworks.roles.within_limits(right.role, &more) == more
        };
        let places = self.places_for(&batch);
        // What others are offered comes back, or is taken, within moments.
        let is_met =
            |place: &Option<String>| fits(self.rooms_for(&batch, right, place.as_deref(), true), &batch.wanted);
        if limits_allow(&Scalars::new(), &batch.amounts) && places.iter().any(is_met) {
            return;
        }
        let candidates = self.candidates(&batch, right);
        if candidates.is_empty() {
            return;
        }
        let groups: Vec<Candidate> = candidates.iter().map(|(_, candidate)| candidate.clone()).collect();
        if batch.is_loose {
            let n_at = |place: &Option<String>| {
                most(self.rooms_for(&batch, right, place.as_deref(), true), &batch.wanted[0], &groups)
            };
            match places.iter().map(n_at).max().unwrap_or(0) {
                0 => return,
                n => batch.cut(n),
            }
        }
        let freed_in_role = |leaving: &[usize]| {
            let mut freed = Scalars::new();
            for (role, candidate) in leaving.iter().map(|at| &candidates[*at]) {
                if *role == right.role {
                    freed.add(&candidate.amounts());
                }
            }
            freed
        };
        let may = |leaving: &[usize], next: usize| {
            let (role, candidate) = &candidates[next];
            *role == right.role || {
                let before = leaving.iter().map(|at| &candidates[*at]);
                self.is_borrowed(*role, right.role, before, &candidate.amounts())
            }
        };
        let is_enough = |leaving: &[usize]| limits_allow(&freed_in_role(leaving), &batch.amounts);
        let choose_at = |place: &Option<String>, with_offers| {
            let rooms = self.rooms_for(&batch, right, place.as_deref(), with_offers);
            choose(rooms, &batch.wanted, &groups, may, is_enough).filter(|choice| !choice.leaving.is_empty())
        };
        // Where the least important leave, and of these the fewest.
        let cost = |choice: &Choice| {
            let leaving = choice.leaving.iter().map(|at| &groups[*at]);
            let most_important = leaving.clone().map(|group| group.priority).max();
            (most_important, leaving.map(|group| group.tasks.len()).sum::<usize>())
        };
        let best = |with_offers| places.iter().filter_map(|place| choose_at(place, with_offers)).min_by_key(cost);
        let Some(Choice { leaving, places }) = best(false).or_else(|| best(true)) else { return };
        let of_others = leaving.iter().any(|at| candidates[*at].0 != right.role);
        let leaving =
            leaving.into_iter().flat_map(|at| groups[at].tasks.iter().map(|(key, _, _)| key.clone())).collect();
        self.keep_room(batch, places, leaving, of_others);
    }

    /// Where all of a batch has to be together: the values of the attribute that its agents have in common. One `None` where
    /// it may be anywhere.
    fn places_for(&self, batch: &Batch) -> Vec<Option<String>> {
        let Some(key) = batch.together() else { return vec![None] };
        let agents = self.agents.active.iter().filter_map(|id| self.agents.get(id));
        let values: BTreeSet<&str> = agents.filter_map(|agent| agent.info.site().get(key)).collect();
        values.into_iter().map(|value| Some(value.to_string())).collect()
    }

    /// What is free for it or offered to it, and with others' offers too, on agents where it may be.
    fn rooms_for(&self, batch: &Batch, right: &Right, place: Option<&str>, with_offers: bool) -> Rooms {
        // What is free and kept for guarantees of others is of no use to it.
        let roles = &self.frameworks.roles;
        let role = &roles.get(right.role).name;
        let (need, needed, surplus) = (roles.need(), self.needed_by(right.role), self.surplus());
        let is_short = |name: &str, milli: i64, kept: &Scalars| {
            let surplus = surplus.as_ref().map_or(i64::MAX, |surplus| surplus.get(name));
            need.get(name) > 0 && needed.get(name).saturating_add(surplus).saturating_add(kept.get(name)) < milli
        };
        let free_counts = |kept: &Scalars| !batch.amounts.iter().any(|(name, milli)| is_short(name, milli, kept));
        let counts_everywhere = free_counts(&Scalars::new());
        let mut rooms = Rooms::default();
        let framework = self.frameworks.get(&batch.framework_id);
        let takes = |site| framework.is_none_or(|framework| framework.rules.allow(site));
        let spread = batch.wanted.iter().find_map(|demand| demand.rules.spread.as_ref());
        let mut values = BTreeMap::new();
        for agent in self.agents.active.iter().filter_map(|id| self.agents.get(id)) {
            let (id, site) = (&agent.info.agent_id, agent.info.site());
            let is_there = place.is_none_or(|place| batch.together().and_then(|key| site.get(key)) == Some(place));
            if !is_there || !takes(site) || !batch.wanted.iter().all(|demand| demand.rules.allow(site)) {
                continue;
            }
            let kept_for = || self.reserved.on(id).map(|unfilled| unfilled.kept_for(role));
            let free_counts = counts_everywhere || kept_for().is_some_and(|kept| free_counts(&kept));
            let mut room = match free_counts {
                true => self.room_for(role, id, agent.ledger.free()).into_owned(),
                false => Resources::new(),
            };
            // What others hold there may come back, but then it is kept for others still.
            let with_offers = with_offers && free_counts && !self.is_owed_to_others(role, agent);
            for offer in agent.offers.iter().filter_map(|number| self.offers.get(*number)) {
                if offer.framework_id == batch.framework_id || (with_offers && !self.fills_a_reservation(offer, role)) {
                    room.add(&offer.resources);
                }
            }
            if let Some(spread) = spread {
                values.insert(id.clone(), site.get(&spread.key).unwrap_or_default().to_string());
            }
            rooms.by_agent.insert(id.clone(), room);
        }
        rooms.most = spread.and_then(|spread| spread.most).map(|most| (most, values));
        rooms
    }

    /// Who may have to leave, in the order in which they are asked, with their roles.
    fn candidates(&self, batch: &Batch, right: &Right) -> Vec<(RoleNumber, Candidate)> {
        let mut found = Vec::new();
        for framework in self.frameworks.iter().filter(|framework| !framework.running.is_empty()) {
            let is_own_role = framework.role_number == right.role;
            let least = framework.running.first_key_value().map_or(i32::MAX, |(priority, _)| *priority);
            let is_open = if is_own_role { right.by_priority && least < batch.priority } else { right.by_guarantee };
            if !is_open {
                continue;
            }
            let mut groups: BTreeMap<&str, Vec<(&TaskKey, &Task)>> = BTreeMap::new();
            for (key, task) in self.tasks.of_framework(&framework.id).filter(|(_, task)| task.charged.is_some()) {
                let group = if task.group.is_empty() { key.task_id.as_str() } else { task.group.as_str() };
                groups.entry(group).or_default().push((key, task));
            }
            for (group, tasks) in groups {
                let is_own = framework.id == batch.framework_id && group == batch.key;
                let priority = tasks.iter().map(|(_, task)| task.priority).max().unwrap_or(0);
                let is_lower = !is_own_role || priority < batch.priority;
                if is_own
                    || !is_lower
                    || !tasks
                        .iter()
                        .all(|(_, task)| self.may_leave(task) && self.leaves_room(framework, task, right.role))
                {
                    continue;
                }
                let since_ms = tasks.iter().map(|(_, task)| task.since_ms).max().unwrap_or(0);
                let held = |task: &Task| task.charged.clone().unwrap_or_default();
                let tasks = tasks.into_iter().map(|(key, task)| (key.clone(), task.agent_id.clone(), held(task)));
                found.push((framework.role_number, Candidate { priority, since_ms, tasks: tasks.collect() }));
            }
        }
        found.sort_by_key(|(_, candidate)| (candidate.priority, Reverse(candidate.since_ms)));
        found
    }

    /// Whether a task can be asked to leave at all now.
    fn may_leave(&self, task: &Task) -> bool {
        let is_there = self.agents.get(&task.agent_id).is_some_and(|agent| agent.state == AgentState::Active);
        let has_run = task.since_ms.saturating_add(self.config.preempt_min_run_ms) <= self.now_ms;
        is_there && has_run && !task.latest.is_terminal() && task.kill.is_none() && task.leave_by_ms.is_none()
    }

    /// Whether what a task leaves would be for the role that asks, and is not reserved for others.
    fn leaves_room(&self, framework: &Framework, task: &Task, asking: RoleNumber) -> bool {
        let Some(agent) = self.agents.get(&task.agent_id).filter(|agent| agent.keeps) else { return true };
        let asking = &self.frameworks.roles.get(asking).name;
        !self.is_owed_to_others(asking, agent) && !self.is_at_home(agent, &framework.role, asking)
    }

    fn fills_a_reservation(&self, offer: &Standing, asking: &str) -> bool {
        self.agents.get(&offer.agent_id).is_some_and(|agent| self.is_at_home(agent, &offer.role, asking))
    }

    /// Whether something there is reserved for a role and not for the one that asks.
    fn is_at_home(&self, agent: &Agent, role: &str, asking: &str) -> bool {
        self.reservations_on(agent)
            .any(|reservation| is_below(role, &reservation.role) && !is_below(asking, &reservation.role))
    }

    /// Whether a role, and all above it that the other one is not below, have so much more than is guaranteed to them.
    fn is_borrowed<'a>(
        &self,
        role: RoleNumber,
        other: RoleNumber,
        leaving: impl Iterator<Item = &'a (RoleNumber, Candidate)> + Clone,
        more: &Scalars,
    ) -> bool {
        let roles = &self.frameworks.roles;
        let common: BTreeSet<RoleNumber> = roles.path(other).map(|(number, _)| number).collect();
        for (number, role) in roles.path(role).filter(|(number, _)| *number != ROOT && !common.contains(number)) {
            let mut going = more.clone();
            for (of, candidate) in leaving.clone() {
                if roles.path(*of).any(|(above, _)| above == number) {
                    going.add(&candidate.amounts());
                }
            }
            let stays = role.charged.beyond(&going);
            let is_short = |(name, guaranteed): (&str, i64)| going.get(name) > 0 && stays.get(name) < guaranteed;
            if role.terms.guarantee.iter().any(is_short) {
                return false;
            }
        }
        true
    }

    /// Tells those who have to leave, and keeps what is there and what they leave.
    fn keep_room(
        &mut self,
        batch: Batch,
        places: BTreeMap<AgentId, Vec<(usize, u32)>>,
        leaving: BTreeSet<TaskKey>,
        of_others: bool,
    ) {
        let leave_by_ms = self.now_ms.saturating_add(self.config.preempt_notice_ms);
        let names: Vec<&str> = batch.wanted.iter().map(|demand| demand.name.as_str()).collect();
        let role = self.frameworks.known(&batch.framework_id).role.clone();
        let why = match of_others {
            true => format!("role {role} is guaranteed it"),
            false => format!("its priority is {}", batch.priority),
        };
        let message = format!("has to leave for {} of role {role}: {why}", names.join(", "));
        for key in &leaving {
            self.set_leave_by(key, Some(leave_by_ms));
        }
        self.counts.tasks_preempted += leaving.len() as u64;
        let own: Vec<_> = self.frameworks.known(&batch.framework_id).offers.iter().copied().collect();
        for number in own {
            if self.offers.get(number).is_some_and(|offer| places.contains_key(&offer.agent_id)) {
                self.rescind(number, super::view::OfferState::Rescinded);
            }
        }
        let frameworks: BTreeSet<FrameworkId> = leaving.iter().map(|key| key.framework_id.clone()).collect();
        // What is left beside it may be for somebody to whom more was not.
        for agent in places.keys() {
            self.agents.touch(agent);
        }
        let Batch { framework_id, key, wanted, .. } = batch;
        let for_guarantee = of_others;
        let hold = Hold { framework_id, key, wanted, places, leaving, leave_by_ms, message, for_guarantee };
        let number = self.holds.make(hold);
        self.alarms.set(Alarm::HoldDue(number), leave_by_ms.max(self.now_ms + 1));
        for framework in frameworks {
            self.tell_preempted_by(&framework, number);
        }
    }

    fn tell_preempted_by(&mut self, framework: &FrameworkId, number: HoldNumber) {
        let Some(hold) = self.holds.get(number) else { return };
        let theirs = hold.leaving.iter().filter(|key| key.framework_id == *framework);
        let task_ids: Vec<TaskId> = theirs.map(|key| key.task_id.clone()).collect();
        if task_ids.is_empty() {
            return;
        }
        let ends_in_ms = hold.leave_by_ms.saturating_sub(self.now_ms);
        let message = hold.message.clone();
        self.tell(framework, FrameworkEvent::Preempted { task_ids, ends_in_ms, message });
    }

    /// A framework that is back may not have heard it.
    pub(super) fn tell_preempted(&mut self, framework: &FrameworkId) {
        let numbers: Vec<HoldNumber> = self.holds.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.tell_preempted_by(framework, number);
        }
    }

    /// A task holds nothing any more.
    pub(super) fn has_left(&mut self, key: &TaskKey) {
        let Some(number) = self.holds.has_left(key) else { return };
        let Some(hold) = self.holds.get(number) else { return };
        for agent in hold.places.keys() {
            self.agents.touch(agent);
        }
    }

    /// Those that should have left by now are ended; later, what was kept for too long is kept no more.
    pub(super) fn hold_due(&mut self, number: HoldNumber) {
        let Some(hold) = self.holds.get(number) else { return };
        let ends_ms = hold.leave_by_ms.saturating_add(KEPT_FOR_MS);
        let (framework_id, key) = (hold.framework_id.clone(), hold.key.clone());
        if ends_ms <= self.now_ms {
            self.look_later(&framework_id, &key, AGAIN_MS);
            return self.end_hold(number);
        }
        let (leaving, message) = (hold.leaving.clone(), hold.message.clone());
        for key in leaving {
            self.take_from(&key, Reason::Preempted, &message);
        }
        self.alarms.set(Alarm::HoldDue(number), ends_ms);
    }

    /// What is kept is offered to anybody again, and who has not left by now may stay.
    fn end_hold(&mut self, number: HoldNumber) {
        let Some(hold) = self.holds.end(number) else { return };
        self.alarms.cancel(&Alarm::HoldDue(number));
        for key in &hold.leaving {
            self.set_leave_by(key, None);
        }
        for agent in hold.places.keys() {
            self.agents.touch(agent);
        }
    }

    pub(super) fn drop_holds_on(&mut self, agent: &AgentId) {
        for number in self.holds.on(agent).collect::<Vec<_>>() {
            self.end_hold(number);
        }
    }

    /// What roles are guaranteed is another: whether anybody has to leave for it is weighed anew.
    pub(super) fn drop_holds_for_guarantees(&mut self) {
        let holds = self.holds.iter().filter(|(_, hold)| hold.for_guarantee);
        for number in holds.map(|(number, _)| number).collect::<Vec<_>>() {
            self.end_hold(number);
        }
    }

    pub(super) fn drop_holds_for(&mut self, id: &FrameworkId) {
        for number in self.holds.of_framework(id).map(|(number, _)| number).collect::<Vec<_>>() {
            self.end_hold(number);
        }
    }
}

impl Batch {
    fn together(&self) -> Option<&String> {
        self.wanted.iter().find_map(|demand| demand.rules.together.as_ref())
    }

    fn add(&mut self, demand: Demand) {
        for (name, milli) in demand.shape.scalars() {
            // A framework may ask for as many as it likes.
            let more = milli.saturating_mul(i64::from(demand.count));
            self.amounts.set(name, self.amounts.get(name).saturating_add(more));
        }
        self.wanted.push(demand);
    }

    /// No more of its only demand than `n`.
    fn cut(&mut self, n: u32) {
        self.amounts = Scalars::new();
        for mut demand in std::mem::take(&mut self.wanted) {
            demand.count = demand.count.min(n);
            self.add(demand);
        }
    }
}

/// Whether a framework could be offered something, and wants it.
fn is_asking(framework: &Framework) -> bool {
    let is_there = framework.connection.is_some() && !framework.suppressed && !framework.settling;
    is_there && !framework.wanted_since_ms.is_empty()
}
