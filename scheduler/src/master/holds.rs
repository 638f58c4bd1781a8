//! Room that is kept for those for whom others have to leave.
//!
//! Invariant: what is kept on an agent is offered to nobody but the framework that it is kept for, and to that one only
//! when everybody who has to leave for it has left: a gang gets all of its room at once. Who has to leave is named by one
//! hold at most.

use crate::model::{Demand, TaskKey};
use jobs::{AgentId, FrameworkId, Resources, Scalars};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldNumber(u64);

/// So many tasks of a demand, by its place in the list of what is wanted.
pub type Places = Vec<(usize, u32)>;

#[derive(Debug)]
pub struct Hold {
    pub framework_id: FrameworkId,
    /// The group of the demands, or the name of the one.
    pub key: String,
    /// As they were when room was found for them.
    pub wanted: Vec<Demand>,
    /// Which of them goes where.
    pub places: BTreeMap<AgentId, Places>,
    /// Who has yet to leave.
    pub leaving: BTreeSet<TaskKey>,
    pub leave_by_ms: u64,
    /// For whom they leave, as their frameworks are told.
    pub message: String,
    /// They leave because a role is guaranteed what they hold, and not for what is more urgent in their own.
    pub for_guarantee: bool,
}

impl Hold {
    /// What is kept on an agent, in amounts and in ports.
    fn kept(&self, agent: &AgentId) -> (Scalars, usize) {
        let (mut amounts, mut n_ports) = (Scalars::new(), 0);
        for (at, n) in self.places.get(agent).into_iter().flatten() {
            let demand = &self.wanted[*at];
            for (name, milli) in demand.shape.scalars() {
                amounts.set(name, amounts.get(name) + milli * i64::from(*n));
            }
            n_ports += (demand.n_ports as usize + demand.shape.n_ports()) * *n as usize;
        }
        (amounts, n_ports)
    }

    /// The part of what is free on an agent that is kept; `None` if some of it is not free yet.
    pub fn part(&self, agent: &AgentId, free: &Resources) -> Option<Resources> {
        let (mut rest, mut part) = (free.clone(), Resources::new());
        for (at, n) in self.places.get(agent)? {
            let demand = &self.wanted[*at];
            for _ in 0..*n {
                let placed = rest.place(&demand.shape, demand.n_ports as usize)?;
                rest.subtract(&placed);
                part.add(&placed);
            }
        }
        Some(part)
    }

    /// Whether what was wanted is wanted still.
    pub fn is_wanted(&self, demands: &[Demand]) -> bool {
        let same = |wanted: &Demand, now: &Demand| {
            (&wanted.name, &wanted.shape, wanted.n_ports, wanted.priority, &wanted.rules)
                == (&now.name, &now.shape, now.n_ports, now.priority, &now.rules)
        };
        let is_there = |wanted: &Demand| demands.iter().any(|now| same(wanted, now) && now.count > 0);
        // Of tasks that are wanted each for itself some may have been launched meanwhile.
        self.wanted.iter().all(is_there)
    }
}

#[derive(Debug, Default)]
pub struct Holds {
    made: u64,
    by_number: BTreeMap<HoldNumber, Hold>,
    on: BTreeMap<AgentId, BTreeSet<HoldNumber>>,
    leaving: BTreeMap<TaskKey, HoldNumber>,
}

impl Holds {
    pub fn make(&mut self, hold: Hold) -> HoldNumber {
        self.made += 1;
        let number = HoldNumber(self.made);
        for agent in hold.places.keys() {
            self.on.entry(agent.clone()).or_default().insert(number);
        }
        self.leaving.extend(hold.leaving.iter().map(|key| (key.clone(), number)));
        self.by_number.insert(number, hold);
        number
    }

    pub fn get(&self, number: HoldNumber) -> Option<&Hold> {
        self.by_number.get(&number)
    }

    /// Nothing is kept by it any more, and nobody has to leave for it.
    pub fn end(&mut self, number: HoldNumber) -> Option<Hold> {
        let hold = self.by_number.remove(&number)?;
        for agent in hold.places.keys() {
            self.forget_on(agent, number);
        }
        for key in &hold.leaving {
            self.leaving.remove(key);
        }
        Some(hold)
    }

    fn forget_on(&mut self, agent: &AgentId, number: HoldNumber) {
        if let Some(numbers) = self.on.get_mut(agent) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.on.remove(agent);
            }
        }
    }

    /// What was kept on an agent was offered to whom it was kept for.
    pub fn took(&mut self, number: HoldNumber, agent: &AgentId) {
        if let Some(hold) = self.by_number.get_mut(&number) {
            hold.places.remove(agent);
            self.forget_on(agent, number);
        }
    }

    /// A task has left. Answers the hold that nobody has to leave for any more.
    pub fn has_left(&mut self, key: &TaskKey) -> Option<HoldNumber> {
        let number = self.leaving.remove(key)?;
        let hold = self.by_number.get_mut(&number)?;
        hold.leaving.remove(key);
        hold.leaving.is_empty().then_some(number)
    }

    pub fn on(&self, agent: &AgentId) -> impl Iterator<Item = HoldNumber> {
        self.on.get(agent).into_iter().flatten().copied()
    }

    /// Those for which all have left, in the order in which they were made.
    pub fn open_on(&self, agent: &AgentId) -> impl Iterator<Item = (HoldNumber, &Hold)> {
        let holds = self.on(agent).filter_map(|number| Some((number, self.get(number)?)));
        holds.filter(|(_, hold)| hold.leaving.is_empty())
    }

    pub fn iter(&self) -> impl Iterator<Item = (HoldNumber, &Hold)> {
        self.by_number.iter().map(|(number, hold)| (*number, hold))
    }

    pub fn of_framework(&self, id: &FrameworkId) -> impl Iterator<Item = (HoldNumber, &Hold)> {
        self.iter().filter(move |(_, hold)| hold.framework_id == *id)
    }

    /// What of the free room of an agent is kept for nobody.
    pub fn left<'a>(&self, agent: &AgentId, free: &'a Resources) -> Cow<'a, Resources> {
        if !self.on.contains_key(agent) {
            return Cow::Borrowed(free);
        }
        let (mut amounts, mut n_ports) = (free.amounts().clone(), free.n_ports());
        for hold in self.on(agent).filter_map(|number| self.get(number)) {
            let (kept, kept_ports) = hold.kept(agent);
            amounts = amounts.beyond(&kept);
            n_ports = n_ports.saturating_sub(kept_ports);
        }
        Cow::Owned(free.part(amounts, free.first_ports(n_ports)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> TaskKey {
        TaskKey::new("f".into(), id.into())
    }

    fn hold(leaving: &[&str]) -> Hold {
        let wanted = vec![Demand { shape: Resources::new().cpus(2.0), n_ports: 1, count: 2, ..Demand::default() }];
        let places = [("a", vec![(0, 1)]), ("b", vec![(0, 1)])];
        Hold {
            framework_id: "g".into(),
            key: String::new(),
            wanted,
            places: places.into_iter().map(|(agent, places)| (agent.into(), places)).collect(),
            leaving: leaving.iter().map(|id| key(id)).collect(),
            leave_by_ms: 0,
            message: String::new(),
            for_guarantee: false,
        }
    }

    #[test]
    fn what_is_kept_is_left_to_nobody_else_even_before_it_is_free() {
        let mut holds = Holds::default();
        let number = holds.make(hold(&["t"]));
        let free = Resources::new().cpus(3.0).with_ports([(1, 3)]);
        assert_eq!(*holds.left(&"a".into(), &free), Resources::new().cpus(1.0).with_ports([(1, 2)]));
        let little = Resources::new().cpus(1.0).with_ports([(1, 3)]);
        assert_eq!(*holds.left(&"a".into(), &little), Resources::new().with_ports([(1, 2)]));
        assert_eq!(*holds.left(&"c".into(), &free), free);
        assert_eq!(holds.open_on(&"a".into()).count(), 0);
        assert_eq!(holds.has_left(&key("other")), None);
        assert_eq!(holds.has_left(&key("t")), Some(number));
        let (_, open) = holds.open_on(&"a".into()).next().unwrap();
        assert_eq!(open.part(&"a".into(), &little), None);
        assert_eq!(open.part(&"a".into(), &free), Some(Resources::new().cpus(2.0).with_ports([(1, 1)])));
        holds.took(number, &"a".into());
        assert_eq!((*holds.left(&"a".into(), &free)).clone(), free);
        assert!(holds.end(number).is_some());
        assert_eq!(*holds.left(&"b".into(), &free), free);
    }

    #[test]
    fn a_hold_is_wanted_while_all_that_it_is_for_is() {
        let (hold, mut demands) = (hold(&[]), Vec::new());
        demands.extend(hold.wanted.iter().cloned());
        assert!(hold.is_wanted(&demands));
        demands[0].count = 1;
        assert!(hold.is_wanted(&demands));
        demands[0].count = 0;
        assert!(!hold.is_wanted(&demands));
        assert!(!hold.is_wanted(&[]));
    }
}
