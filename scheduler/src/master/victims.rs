//! Who has to leave so that what is wanted fits: as few and as unimportant tasks as can be found quickly.
//!
//! Groups of tasks are added in order, the least important and the youngest first, until all that is wanted fits; then each
//! of them is spared again, the most important first, if it fits without it. That is how the scheduler of Kubernetes chooses
//! (github.com/kubernetes/kubernetes, pkg/scheduler/framework/preemption), but over whole groups and all machines at once.
//!
//! Invariant: pure; who may be asked to leave is for the caller to say.

use super::holds::Places;
use super::shapes::{how_many, take};
use crate::model::{Demand, TaskKey};
use jobs::{AgentId, Resources, Scalars};
use std::collections::BTreeMap;

/// Tasks that leave together.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub priority: i32,
    /// When the youngest of them began.
    pub since_ms: u64,
    pub tasks: Vec<(TaskKey, AgentId, Resources)>,
}

impl Candidate {
    pub fn amounts(&self) -> Scalars {
        let mut sum = Scalars::new();
        for (_, _, resources) in &self.tasks {
            sum.add(resources.amounts());
        }
        sum
    }
}

/// What is found.
#[derive(Debug, PartialEq)]
pub struct Choice {
    /// Of the candidates.
    pub leaving: Vec<usize>,
    /// Which of what is wanted then goes where.
    pub places: BTreeMap<AgentId, Places>,
}

/// What room there is, by agent.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    pub by_agent: BTreeMap<AgentId, Resources>,
    /// Of tasks of one demand, no more on all agents of a value together; with the value of each agent.
    pub most: Option<(u32, BTreeMap<AgentId, String>)>,
}

/// Room on agents, and how many tasks of each demand it takes.
struct Tally<'a> {
    wanted: &'a [Demand],
    rooms: BTreeMap<AgentId, Resources>,
    most: Option<(u32, BTreeMap<AgentId, String>)>,
    /// Over all agents, of each demand as if there were no other.
    fitting: Vec<u64>,
}

impl<'a> Tally<'a> {
    fn new(wanted: &'a [Demand], Rooms { by_agent: rooms, most }: Rooms) -> Self {
        let fit = |demand: &Demand| rooms.values().map(|room| u64::from(how_many(room, demand, demand.count))).sum();
        let fitting = wanted.iter().map(fit).collect();
        Self { wanted, rooms, most, fitting }
    }

    fn change(&mut self, candidate: &Candidate, change: impl Fn(&mut Resources, &Resources)) {
        for (_, agent, resources) in &candidate.tasks {
            let Some(room) = self.rooms.get_mut(agent) else { continue };
            let before: Vec<u32> = self.wanted.iter().map(|demand| how_many(room, demand, demand.count)).collect();
            change(room, resources);
            for ((demand, sum), before) in self.wanted.iter().zip(&mut self.fitting).zip(before) {
                *sum = *sum - u64::from(before) + u64::from(how_many(room, demand, demand.count));
            }
        }
    }

    fn add(&mut self, candidate: &Candidate) {
        self.change(candidate, Resources::add);
    }

    fn remove(&mut self, candidate: &Candidate) {
        self.change(candidate, Resources::subtract);
    }

    /// Where all that is wanted goes, if it fits.
    fn pack(&self) -> Option<BTreeMap<AgentId, Places>> {
        let is_enough = |(demand, fitting): (&Demand, &u64)| *fitting >= u64::from(demand.count);
        if !self.wanted.iter().zip(&self.fitting).all(is_enough) {
            return None;
        }
        let mut places: BTreeMap<AgentId, Places> = BTreeMap::new();
        // What is left of rooms from which something was taken.
        let mut rest: BTreeMap<&AgentId, Resources> = BTreeMap::new();
        // What is large goes first: what is small finds room beside it.
        let mut order: Vec<usize> = (0..self.wanted.len()).collect();
        order.sort_by_key(|at| {
            let shape = &self.wanted[*at].shape;
            std::cmp::Reverse((shape.milli(jobs::things::GPUS), shape.milli("cpus"), shape.milli("mem")))
        });
        for at in order {
            let demand = &self.wanted[at];
            let mut left = demand.count;
            let mut placed: BTreeMap<&str, u32> = BTreeMap::new();
            for (agent, room) in &self.rooms {
                if left == 0 {
                    break;
                }
                let mut n = how_many(rest.get(agent).unwrap_or(room), demand, left);
                if let Some((most, values)) = &self.most {
                    let placed = placed.entry(values.get(agent).map_or("", String::as_str)).or_default();
                    n = n.min(most.saturating_sub(*placed));
                    *placed += n;
                }
                if n > 0 {
                    take(rest.entry(agent).or_insert_with(|| room.clone()), demand, n);
                    places.entry(agent.clone()).or_default().push((at, n));
                    left -= n;
                }
            }
            if left > 0 {
                return None;
            }
        }
        Some(places)
    }

    /// Without saying where, if that is quick.
    fn fits(&self) -> bool {
        match self.wanted {
            [one] if self.most.is_none() => self.fitting[0] >= u64::from(one.count),
            _ => self.pack().is_some(),
        }
    }
}

/// Whether all that is wanted fits as it is.
pub fn fits(rooms: Rooms, wanted: &[Demand]) -> bool {
    Tally::new(wanted, rooms).fits()
}

/// Chooses among candidates, which are in the order in which they are to leave. `may` is asked before each is added, with
/// those that are to leave already; `is_enough` says of those whether anything but room stands in the way.
pub fn choose(
    rooms: Rooms,
    wanted: &[Demand],
    candidates: &[Candidate],
    may: impl Fn(&[usize], usize) -> bool,
    is_enough: impl Fn(&[usize]) -> bool,
) -> Option<Choice> {
    let mut tally = Tally::new(wanted, rooms);
    let mut leaving: Vec<usize> = Vec::new();
    let mut next = 0;
    while !(tally.fits() && is_enough(&leaving)) {
        if next == candidates.len() {
            return None;
        }
        if may(&leaving, next) {
            tally.add(&candidates[next]);
            leaving.push(next);
        }
        next += 1;
    }
    for spared in leaving.clone().into_iter().rev() {
        tally.remove(&candidates[spared]);
        let without: Vec<usize> = leaving.iter().copied().filter(|at| *at != spared).collect();
        if tally.fits() && is_enough(&without) {
            leaving = without;
        } else {
            tally.add(&candidates[spared]);
        }
    }
    Some(Choice { leaving, places: tally.pack()? })
}

/// Of tasks that are wanted each for itself: for how many of them there is room at most, everybody gone.
pub fn most(rooms: Rooms, demand: &Demand, candidates: &[Candidate]) -> u32 {
    let wanted = [demand.clone()];
    let mut tally = Tally::new(&wanted, rooms);
    for candidate in candidates {
        tally.add(candidate);
    }
    u32::try_from(tally.fitting[0]).unwrap_or(u32::MAX).min(demand.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus(n: u32) -> Resources {
        Resources::new().cpus(f64::from(n))
    }

    fn demand(n_cpus: u32, count: u32) -> Demand {
        Demand { shape: cpus(n_cpus), count, ..Demand::default() }
    }

    fn candidate(at: usize, priority: i32, places: &[(&str, u32)]) -> Candidate {
        let task = |(i, (agent, n)): (usize, &(&str, u32))| {
            (TaskKey::new("f".into(), format!("{at}.{i}").into()), AgentId::from(*agent), cpus(*n))
        };
        Candidate { priority, since_ms: 0, tasks: places.iter().enumerate().map(task).collect() }
    }

    fn rooms(of: &[(&str, u32)]) -> Rooms {
        let by_agent = of.iter().map(|(agent, n)| (AgentId::from(*agent), cpus(*n))).collect();
        Rooms { by_agent, most: None }
    }

    fn chosen(rooms: Rooms, wanted: &[Demand], all: &[Candidate]) -> Option<Vec<usize>> {
        choose(rooms, wanted, all, |_, _| true, |_| true).map(|choice| choice.leaving)
    }

    #[test]
    fn nobody_leaves_in_vain() {
        let all = [candidate(0, 0, &[("a", 1)]), candidate(1, 0, &[("b", 2)]), candidate(2, 5, &[("a", 3)])];
        // The first makes no room that is large enough, so it is spared.
        assert_eq!(chosen(rooms(&[("a", 0), ("b", 0)]), &[demand(2, 1)], &all), Some(vec![1]));
        assert_eq!(chosen(rooms(&[("a", 1), ("b", 0)]), &[demand(2, 1)], &all), Some(vec![0]));
        assert_eq!(chosen(rooms(&[("a", 0), ("b", 0)]), &[demand(2, 3)], &all), Some(vec![0, 1, 2]));
        assert_eq!(chosen(rooms(&[("a", 0), ("b", 0)]), &[demand(2, 4)], &all), None, "a gang that fits never");
    }

    #[test]
    fn demands_of_a_group_do_not_count_the_same_room() {
        let all = [candidate(0, 0, &[("a", 2)]), candidate(1, 0, &[("a", 2)])];
        let wanted = [demand(2, 1), demand(1, 1)];
        assert_eq!(chosen(rooms(&[("a", 0)]), &wanted, &all), Some(vec![0, 1]));
        let places = choose(rooms(&[("a", 0)]), &wanted, &all, |_, _| true, |_| true).unwrap().places;
        assert_eq!(places, BTreeMap::from([("a".into(), vec![(0, 1), (1, 1)])]));
    }

    #[test]
    fn no_more_than_may_share_a_value_are_counted_there() {
        let all = [candidate(0, 0, &[("a", 4)]), candidate(1, 1, &[("b", 1)]), candidate(2, 2, &[("c", 1)])];
        let mut rooms = rooms(&[("a", 0), ("b", 0), ("c", 0)]);
        assert_eq!(chosen(rooms.clone(), &[demand(1, 2)], &all), Some(vec![0]));
        let values = [("a", "r1"), ("b", "r1"), ("c", "r2")];
        rooms.most = Some((1, values.map(|(agent, value)| (agent.into(), value.to_string())).into()));
        assert_eq!(chosen(rooms, &[demand(1, 2)], &all), Some(vec![0, 2]));
    }

    #[test]
    fn tasks_that_are_wanted_each_for_itself_take_what_there_is() {
        let all = [candidate(0, 0, &[("a", 2)]), candidate(1, 0, &[("b", 1)])];
        assert_eq!(most(rooms(&[("a", 1), ("b", 1)]), &demand(2, 9), &all), 2);
    }

    proptest! {
        /// Whatever is chosen makes room for all that is wanted, and no one of it can be spared.
        #[test]
        fn what_is_chosen_suffices_and_is_needed(
            free in prop::collection::vec(0u32..4, 3),
            tasks in prop::collection::vec((0usize..3, 1u32..4, 0i32..3, any::<bool>()), 0..9),
            (size, count) in (1u32..4, 1u32..5),
        ) {
            let names = ["a", "b", "c"];
            let free: Vec<(&str, u32)> = names.iter().copied().zip(free).collect();
            let mut all: Vec<Candidate> = Vec::new();
            for (at, (agent, n, priority, is_pair)) in tasks.into_iter().enumerate() {
                let mut places = vec![(names[agent], n)];
                if is_pair {
                    places.push((names[(agent + 1) % 3], 1));
                }
                all.push(candidate(at, priority, &places));
            }
            all.sort_by_key(|candidate| candidate.priority);
            let wanted = [demand(size, count)];
            let room_with = |leaving: &[usize]| {
                let mut rooms = rooms(&free);
                for (_, agent, resources) in leaving.iter().flat_map(|at| &all[*at].tasks) {
                    rooms.by_agent.get_mut(agent).unwrap().add(resources);
                }
                rooms
            };
            let everybody: Vec<usize> = (0..all.len()).collect();
            match chosen(rooms(&free), &wanted, &all) {
                None => prop_assert!(!fits(room_with(&everybody), &wanted)),
                Some(leaving) => {
                    prop_assert!(fits(room_with(&leaving), &wanted));
                    for spared in &leaving {
                        let without: Vec<usize> = leaving.iter().copied().filter(|at| at != spared).collect();
                        prop_assert!(!fits(room_with(&without), &wanted), "{spared} of {leaving:?} left in vain");
                    }
                }
            }
        }
    }
}
