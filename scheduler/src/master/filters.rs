//! What frameworks refused, and for how long.
//!
//! Invariant: a refusal hides an offer exactly as long as the refused resources contain the offered ones, so one more
//! free port brings the agent back. A pair without a refusal costs nothing, one with a refusal 12 bytes: what was
//! refused is kept once for each agent, for whoever refused it. Why something was refused is not known here.

use jobs::Resources;
use std::collections::BTreeSet;

/// A longer refusal is cut to this: 365 days.
pub const MAX_REFUSE_MS: u64 = 365 * 24 * 3_600_000;

/// Refusals kept for one framework on one agent. More than a few happen only when an agent's free resources keep
/// changing in incomparable ways; then the one that ends first is dropped, which costs one offer too many.
const MAX_PER_PAIR: usize = 8;

/// Different resources refused on one agent. A refusal beyond them is not kept, which costs an offer too many.
const MAX_SIGHTS: usize = u16::MAX as usize;

/// How many of the latest sights are compared with what is refused, to keep it once.
const LOOK_BACK: usize = 8;

/// One refusal: whose, of which sight, until when. The time has 48 bits, which end in the year 10,889.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    framework: u32,
    sight: u16,
    until_ms: [u16; 3],
}

impl Refusal {
    fn new(framework: u32, sight: u16, until_ms: u64) -> Self {
        Self { framework, sight, until_ms: [(until_ms >> 32) as u16, (until_ms >> 16) as u16, until_ms as u16] }
    }

    fn until_ms(&self) -> u64 {
        let [high, middle, low] = self.until_ms.map(u64::from);
        high << 32 | middle << 16 | low
    }
}

/// What was free on the agent when it was refused, and by how many refusals.
#[derive(Debug)]
struct Sight {
    resources: Resources,
    n_refusals: u32,
}

/// The refusals of one agent.
#[derive(Debug, Default)]
pub struct OnAgent {
    /// In order of the frameworks' numbers.
    refusals: Vec<Refusal>,
    sights: Vec<Sight>,
    first_end_ms: u64,
}

impl OnAgent {
    pub fn n(&self) -> usize {
        self.refusals.len()
    }

    fn of(&self, framework: u32) -> std::ops::Range<usize> {
        let from = self.refusals.partition_point(|refusal| refusal.framework < framework);
        let n = self.refusals[from..].iter().take_while(|refusal| refusal.framework == framework).count();
        from..from + n
    }

    /// Until when a framework does not want to be offered this.
    pub fn refused_until(&self, framework: u32, offered: &Resources) -> Option<u64> {
        let refusals = self.refusals[self.of(framework)].iter();
        let hides = |refusal: &&Refusal| self.sights[usize::from(refusal.sight)].resources.contains(offered);
        refusals.filter(hides).map(Refusal::until_ms).max()
    }

    /// Calls `hidden` with everybody who does not want to be offered this.
    pub fn each_refuser(&self, offered: &Resources, mut hidden: impl FnMut(u32)) {
        let hides: Vec<bool> = self.sights.iter().map(|sight| sight.resources.contains(offered)).collect();
        for refusal in &self.refusals {
            if hides[usize::from(refusal.sight)] {
                hidden(refusal.framework);
            }
        }
    }

    fn see(&mut self, resources: &Resources) -> Option<u16> {
        let from = self.sights.len().saturating_sub(LOOK_BACK);
        let at = (from..self.sights.len()).rev().find(|at| self.sights[*at].resources == *resources);
        let at = at.or_else(|| {
            let free = match self.sights.len() < MAX_SIGHTS {
                true => None,
                false => self.sights.iter().position(|sight| sight.n_refusals == 0),
            };
            let sight = || Sight { resources: resources.clone(), n_refusals: 0 };
            match free {
                Some(at) => self.sights[at] = sight(),
                None if self.sights.len() < MAX_SIGHTS => self.sights.push(sight()),
                None => return None,
            }
            Some(free.unwrap_or(self.sights.len() - 1))
        })?;
        self.sights[at].n_refusals += 1;
        u16::try_from(at).ok()
    }

    fn remove_at(&mut self, at: usize) {
        let refusal = self.refusals.remove(at);
        self.unsee(refusal);
    }

    /// The last of a sight's refusals takes it along, as far as no other has to be moved for it.
    fn unsee(&mut self, refusal: Refusal) {
        self.sights[usize::from(refusal.sight)].n_refusals -= 1;
        while self.sights.last().is_some_and(|sight| sight.n_refusals == 0) {
            self.sights.pop();
        }
    }

    fn insert(&mut self, refusal: Refusal) {
        let at = self.refusals.partition_point(|other| other.framework <= refusal.framework);
        if self.refusals.len() == self.refusals.capacity() {
            // Doubling would leave half of it empty.
            self.refusals.reserve_exact(self.refusals.len() / 4 + 1);
        }
        self.refusals.insert(at, refusal);
    }

    fn find_first_end(&self) -> Option<u64> {
        self.refusals.iter().map(Refusal::until_ms).min()
    }
}

#[derive(Debug, Default)]
pub struct Filters {
    /// By the agent's number; empty for those that nobody refused anything of.
    by_agent: Vec<OnAgent>,
    /// The first end on each agent.
    ends: BTreeSet<(u64, u32)>,
}

impl Filters {
    pub fn refuse(&mut self, framework: u32, agent: u32, refused: &Resources, now_ms: u64, for_ms: u64) {
        let until_ms = now_ms + for_ms.min(MAX_REFUSE_MS);
        if until_ms == now_ms || refused.is_empty() {
            return;
        }
        if self.by_agent.len() <= agent as usize {
            self.by_agent.resize_with(agent as usize + 1, OnAgent::default);
        }
        let here = &mut self.by_agent[agent as usize];
        let (had, first_end_ms) = (!here.refusals.is_empty(), here.first_end_ms);
        if here.refused_until(framework, refused).is_some_and(|end_ms| end_ms >= until_ms) {
            return;
        }
        let own = here.of(framework);
        for at in own.clone().rev() {
            let other = here.refusals[at];
            let contained = refused.contains(&here.sights[usize::from(other.sight)].resources);
            if other.until_ms() <= until_ms && contained {
                here.remove_at(at);
            }
        }
        if own.len() >= MAX_PER_PAIR
            && here.of(framework).len() == MAX_PER_PAIR
            && let Some(first) = here.of(framework).min_by_key(|at| here.refusals[*at].until_ms())
        {
            here.remove_at(first);
        }
        if let Some(sight) = here.see(refused) {
            here.insert(Refusal::new(framework, sight, until_ms));
        }
        // What was removed ended no later than what was added, unless it made room: then the first end is looked up.
        if !had || until_ms < first_end_ms {
            self.ends.remove(&(first_end_ms, agent));
            here.first_end_ms = until_ms;
            self.ends.insert((until_ms, agent));
        }
    }

    /// `None` where nobody refused anything.
    pub fn of_agent(&self, agent: u32) -> Option<&OnAgent> {
        self.by_agent.get(agent as usize).filter(|here| !here.refusals.is_empty())
    }

    /// Until when this framework does not want to be offered this.
    pub fn refused_until(&self, framework: u32, agent: u32, offered: &Resources) -> Option<u64> {
        self.of_agent(agent)?.refused_until(framework, offered)
    }

    pub fn clear_framework(&mut self, framework: u32) {
        for (agent, here) in (0..).zip(&mut self.by_agent) {
            let own = here.of(framework);
            if own.is_empty() {
                continue;
            }
            let removed: Vec<Refusal> = here.refusals.drain(own).collect();
            for refusal in removed {
                here.unsee(refusal);
            }
            if here.refusals.is_empty() {
                self.ends.remove(&(here.first_end_ms, agent));
                *here = OnAgent::default();
            }
        }
    }

    pub fn clear_agent(&mut self, agent: u32) {
        if let Some(here) = self.by_agent.get_mut(agent as usize) {
            self.ends.remove(&(here.first_end_ms, agent));
            *here = OnAgent::default();
        }
    }

    /// Drops what has ended, and says where.
    pub fn expire(&mut self, now_ms: u64) -> Vec<u32> {
        let mut woken = Vec::new();
        while self.next_end().is_some_and(|end_ms| end_ms <= now_ms)
            && let Some((_, agent)) = self.ends.pop_first()
        {
            let here = &mut self.by_agent[agent as usize];
            let (kept, ended): (Vec<Refusal>, Vec<Refusal>) =
                here.refusals.iter().copied().partition(|refusal| refusal.until_ms() > now_ms);
            here.refusals = kept;
            here.refusals.shrink_to_fit();
            let has_ended = !ended.is_empty();
            for refusal in ended {
                here.unsee(refusal);
            }
            match here.find_first_end() {
                Some(end_ms) => {
                    here.first_end_ms = end_ms;
                    self.ends.insert((end_ms, agent));
                }
                None => *here = OnAgent::default(),
            }
            if has_ended {
                woken.push(agent);
            }
        }
        woken
    }

    pub fn n(&self) -> usize {
        self.by_agent.iter().map(|here| here.refusals.len()).sum()
    }

    pub fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(end_ms, _)| *end_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus(amount: f64) -> Resources {
        Resources::new().cpus(amount)
    }

    fn is_empty(filters: &Filters) -> bool {
        filters.ends.is_empty()
            && filters.by_agent.iter().all(|here| here.refusals.is_empty() && here.sights.is_empty())
    }

    #[test]
    fn only_the_same_or_less_stays_hidden() {
        let a = 3;
        let mut filters = Filters::default();
        filters.refuse(1, a, &cpus(2.0), 0, 5_000);
        assert_eq!(filters.refused_until(1, a, &cpus(2.0)), Some(5_000));
        assert_eq!(filters.refused_until(1, a, &cpus(1.0)), Some(5_000));
        assert_eq!(filters.refused_until(1, a, &cpus(2.001)), None);
        assert_eq!(filters.refused_until(1, 4, &cpus(1.0)), None);
        assert_eq!(filters.refused_until(2, a, &cpus(1.0)), None);
    }

    #[test]
    fn a_shorter_refusal_does_not_cut_a_longer_one() {
        let a = 3;
        let mut filters = Filters::default();
        filters.refuse(1, a, &cpus(2.0), 0, 60_000);
        filters.refuse(1, a, &cpus(4.0), 0, 5_000);
        assert!(filters.expire(4_999).is_empty());
        assert_eq!(filters.expire(5_000), [a]);
        assert_eq!(filters.refused_until(1, a, &cpus(4.0)), None);
        assert_eq!(filters.refused_until(1, a, &cpus(2.0)), Some(60_000));
        assert_eq!(filters.next_end(), Some(60_000));
    }

    #[test]
    fn zero_is_no_filter_and_forever_is_a_year() {
        let a = 3;
        let mut filters = Filters::default();
        filters.refuse(1, a, &cpus(1.0), 7, 0);
        assert_eq!(filters.next_end(), None);
        filters.refuse(1, a, &cpus(1.0), 7, u64::MAX);
        assert_eq!(filters.next_end(), Some(7 + MAX_REFUSE_MS));
        filters.clear_framework(1);
        assert!(is_empty(&filters));
    }

    #[test]
    fn the_refusals_of_a_pair_are_bounded() {
        let a = 3;
        let mut filters = Filters::default();
        for at in 0..50u16 {
            filters.refuse(1, a, &Resources::new().with_ports([(at * 2, at * 2)]), 0, 1_000 + u64::from(at));
        }
        assert_eq!(filters.by_agent[a as usize].refusals.len(), MAX_PER_PAIR);
        assert!(filters.expire(1_041).is_empty());
        assert_eq!(filters.next_end(), Some(1_042));
        filters.clear_agent(a);
        assert!(is_empty(&filters));
    }

    #[test]
    fn a_pair_costs_twelve_bytes_and_a_sight_is_kept_once() {
        assert_eq!(size_of::<Refusal>(), 12);
        let late = Refusal::new(7, 9, (1 << 48) - 1);
        assert_eq!((late.framework, late.sight, late.until_ms()), (7, 9, (1 << 48) - 1));
        let a = 3;
        let mut filters = Filters::default();
        for framework in 0..1_000 {
            filters.refuse(framework, a, &cpus(2.0), 0, 5_000);
        }
        let here = &filters.by_agent[a as usize];
        assert!((here.sights.len(), here.refusals.len()) == (1, 1_000) && here.refusals.capacity() <= 1_250);
    }

    proptest! {
        /// Whoever refused, of what and until when is what a list of all refusals would say.
        #[test]
        fn they_are_a_list_of_refusals(
            steps in prop::collection::vec((0u32..4, 0u32..3, 1i64..4, 1u64..50, 0u8..12), 1..60)
        ) {
            let mut filters = Filters::default();
            let mut list: Vec<(u32, u32, i64, u64)> = Vec::new();
            let mut now_ms = 0;
            for (framework, agent, milli, for_ms, what) in steps {
                let refused = Resources::new().with_amounts([("cpus", milli)].into_iter().collect());
                match what {
                    0 => {
                        filters.clear_framework(framework);
                        list.retain(|(other, ..)| *other != framework);
                    }
                    1 => {
                        filters.clear_agent(agent);
                        list.retain(|(_, other, ..)| *other != agent);
                    }
                    2..5 => {
                        now_ms += for_ms;
                        let mut woken = filters.expire(now_ms);
                        woken.sort();
                        let mut expected: Vec<u32> = list.iter().filter(|(.., end_ms)| *end_ms <= now_ms)
                            .map(|(_, agent, ..)| *agent).collect();
                        expected.sort();
                        expected.dedup();
                        // One that a later and larger refusal covers is not kept, so nobody is woken for its end.
                        prop_assert!(woken.iter().all(|agent| expected.contains(agent)));
                        list.retain(|(.., end_ms)| *end_ms > now_ms);
                    }
                    _ => {
                        filters.refuse(framework, agent, &refused, now_ms, for_ms);
                        list.push((framework, agent, milli, now_ms + for_ms));
                    }
                }
                for framework in 0..4 {
                    for agent in 0..3 {
                        for milli in 1..4 {
                            let until = list.iter()
                                .filter(|(f, a, refused, _)| (*f, *a) == (framework, agent) && *refused >= milli)
                                .map(|(.., end_ms)| *end_ms).max();
                            let offered = Resources::new().with_amounts([("cpus", milli)].into_iter().collect());
                            prop_assert_eq!(filters.refused_until(framework, agent, &offered), until);
                        }
                    }
                }
            }
        }
    }
}
