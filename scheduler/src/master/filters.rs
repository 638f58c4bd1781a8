//! What frameworks refused, and for how long.
//!
//! Invariant: a refusal hides an offer exactly as long as the refused resources contain the offered ones, so one more
//! free port brings the agent back. Lookup costs the refusals of one framework on one agent, at most
//! [`MAX_PER_PAIR`]; a pair without a refusal costs nothing. Why something was refused is not known here.

use jobs::{AgentId, FrameworkId, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// A longer refusal is cut to this: 365 days.
pub const MAX_REFUSE_MS: u64 = 365 * 24 * 3_600_000;

/// Refusals kept for one framework on one agent. More than a few happen only when an agent's free resources keep
/// changing in incomparable ways; then the one that ends first is dropped, which costs one offer too many.
const MAX_PER_PAIR: usize = 8;

#[derive(Debug)]
struct Filter {
    refused: Resources,
    until_ms: u64,
}

#[derive(Debug, Default)]
pub struct Filters {
    by_framework: BTreeMap<FrameworkId, BTreeMap<AgentId, Vec<Filter>>>,
    /// Once for each end time of each pair.
    ends: BTreeSet<(u64, FrameworkId, AgentId)>,
}

impl Filters {
    pub fn refuse(&mut self, framework: &FrameworkId, agent: &AgentId, refused: Resources, now_ms: u64, for_ms: u64) {
        let until_ms = now_ms + for_ms.min(MAX_REFUSE_MS);
        if until_ms == now_ms || refused.is_empty() {
            return;
        }
        let pair = self.by_framework.entry(framework.clone()).or_default().entry(agent.clone()).or_default();
        if pair.iter().any(|filter| filter.until_ms >= until_ms && filter.refused.contains(&refused)) {
            return;
        }
        for filter in pair.iter() {
            self.ends.remove(&(filter.until_ms, framework.clone(), agent.clone()));
        }
        pair.retain(|filter| !(filter.until_ms <= until_ms && refused.contains(&filter.refused)));
        pair.push(Filter { refused, until_ms });
        if pair.len() > MAX_PER_PAIR {
            let first = pair.iter().enumerate().min_by_key(|(_, filter)| filter.until_ms).map_or(0, |(at, _)| at);
            pair.swap_remove(first);
        }
        self.ends.extend(pair.iter().map(|filter| (filter.until_ms, framework.clone(), agent.clone())));
    }

    /// Until when this framework does not want to be offered this.
    pub fn refused_until(&self, framework: &FrameworkId, agent: &AgentId, offered: &Resources) -> Option<u64> {
        let pair = self.by_framework.get(framework)?.get(agent)?;
        pair.iter().filter(|filter| filter.refused.contains(offered)).map(|filter| filter.until_ms).max()
    }

    pub fn clear_framework(&mut self, framework: &FrameworkId) {
        for (agent, pair) in self.by_framework.remove(framework).unwrap_or_default() {
            for filter in pair {
                self.ends.remove(&(filter.until_ms, framework.clone(), agent.clone()));
            }
        }
    }

    pub fn clear_agent(&mut self, agent: &AgentId) {
        self.by_framework.retain(|framework, agents| {
            for filter in agents.remove(agent).unwrap_or_default() {
                self.ends.remove(&(filter.until_ms, framework.clone(), agent.clone()));
            }
            !agents.is_empty()
        });
    }

    /// Drops what has ended, and says whose.
    pub fn expire(&mut self, now_ms: u64) -> BTreeSet<FrameworkId> {
        let mut woken = BTreeSet::new();
        while self.next_end().is_some_and(|end| end <= now_ms)
            && let Some((end, framework, agent)) = self.ends.pop_first()
        {
            if let Some(agents) = self.by_framework.get_mut(&framework) {
                if let Some(pair) = agents.get_mut(&agent) {
                    pair.retain(|filter| filter.until_ms > end);
                    if pair.is_empty() {
                        agents.remove(&agent);
                    }
                }
                if agents.is_empty() {
                    self.by_framework.remove(&framework);
                }
            }
            woken.insert(framework);
        }
        woken
    }

    pub fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(end, _, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(amount: f64) -> Resources {
        Resources::new().cpus(amount)
    }

    #[test]
    fn only_the_same_or_less_stays_hidden() {
        let (f, a) = (FrameworkId::from("f"), AgentId::from("a"));
        let mut filters = Filters::default();
        filters.refuse(&f, &a, cpus(2.0), 0, 5_000);
        assert_eq!(filters.refused_until(&f, &a, &cpus(2.0)), Some(5_000));
        assert_eq!(filters.refused_until(&f, &a, &cpus(1.0)), Some(5_000));
        assert_eq!(filters.refused_until(&f, &a, &cpus(2.001)), None);
        assert_eq!(filters.refused_until(&f, &AgentId::from("b"), &cpus(1.0)), None);
        assert_eq!(filters.refused_until(&FrameworkId::from("g"), &a, &cpus(1.0)), None);
    }

    #[test]
    fn a_shorter_refusal_does_not_cut_a_longer_one() {
        let (f, a) = (FrameworkId::from("f"), AgentId::from("a"));
        let mut filters = Filters::default();
        filters.refuse(&f, &a, cpus(2.0), 0, 60_000);
        filters.refuse(&f, &a, cpus(4.0), 0, 5_000);
        assert!(filters.expire(4_999).is_empty());
        assert_eq!(filters.expire(5_000), BTreeSet::from([f.clone()]));
        assert_eq!(filters.refused_until(&f, &a, &cpus(4.0)), None);
        assert_eq!(filters.refused_until(&f, &a, &cpus(2.0)), Some(60_000));
        assert_eq!(filters.next_end(), Some(60_000));
    }

    #[test]
    fn zero_is_no_filter_and_forever_is_a_year() {
        let (f, a) = (FrameworkId::from("f"), AgentId::from("a"));
        let mut filters = Filters::default();
        filters.refuse(&f, &a, cpus(1.0), 7, 0);
        assert_eq!(filters.next_end(), None);
        filters.refuse(&f, &a, cpus(1.0), 7, u64::MAX);
        assert_eq!(filters.next_end(), Some(7 + MAX_REFUSE_MS));
        filters.clear_framework(&f);
        assert_eq!(filters.next_end(), None);
        assert!(filters.by_framework.is_empty());
    }

    #[test]
    fn the_refusals_of_a_pair_are_bounded() {
        let (f, a) = (FrameworkId::from("f"), AgentId::from("a"));
        let mut filters = Filters::default();
        for at in 0..50u16 {
            filters.refuse(&f, &a, Resources::new().with_ports([(at * 2, at * 2)]), 0, 1_000 + u64::from(at));
        }
        assert_eq!(filters.ends.len(), MAX_PER_PAIR);
        assert_eq!(filters.next_end(), Some(1_042));
        filters.clear_agent(&a);
        assert!(filters.ends.is_empty() && filters.by_framework.is_empty());
    }
}
