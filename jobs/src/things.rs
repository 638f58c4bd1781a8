//! What belongs to one task at a time, each by itself: GPUs and the items of named sets.
//!
//! Invariant: in order, each once. How many GPUs there are stands in the scalars beside them ([`gpu_counts`]).

use crate::scalars::Scalars;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The scalar that counts GPUs of any model; those of one model are counted by `gpus:MODEL`.
pub const GPUS: &str = "gpus";

/// A device that is given away whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gpu {
    /// As the machine numbers it.
    pub index: u16,
    /// Empty: not known.
    pub model: String,
    pub mem_mib: u64,
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index)?;
        if !self.model.is_empty() {
            write!(f, ":{}", self.model)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Things {
    #[serde(default)]
    pub gpus: BTreeSet<Gpu>,
    #[serde(default)]
    pub sets: BTreeMap<String, BTreeSet<String>>,
}

/// The name of the scalar that counts GPUs of a model.
pub fn counter_of(model: &str) -> String {
    if model.is_empty() { GPUS.to_string() } else { format!("{GPUS}:{model}") }
}

/// How many there are, of all models and of each.
pub fn gpu_counts<'a>(gpus: impl IntoIterator<Item = &'a Gpu>) -> Scalars {
    let mut counts = Scalars::new();
    for gpu in gpus {
        counts.set(GPUS, counts.get(GPUS) + 1000);
        if !gpu.model.is_empty() {
            let name = counter_of(&gpu.model);
            counts.set(&name, counts.get(&name) + 1000);
        }
    }
    counts
}

impl Things {
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty() && self.sets.values().all(BTreeSet::is_empty)
    }

    pub fn contains(&self, other: &Things) -> bool {
        let has =
            |name: &String, items: &BTreeSet<String>| self.sets.get(name).is_some_and(|own| own.is_superset(items));
        self.gpus.is_superset(&other.gpus)
            && other.sets.iter().all(|(name, items)| items.is_empty() || has(name, items))
    }

    pub fn add(&mut self, other: &Things) {
        self.gpus.extend(other.gpus.iter().cloned());
        for (name, items) in &other.sets {
            self.sets.entry(name.clone()).or_default().extend(items.iter().cloned());
        }
    }

    pub fn subtract(&mut self, other: &Things) {
        self.gpus.retain(|gpu| !other.gpus.contains(gpu));
        for (name, items) in &other.sets {
            if let Some(own) = self.sets.get_mut(name) {
                own.retain(|item| !items.contains(item));
            }
        }
        self.sets.retain(|_, items| !items.is_empty());
    }

    /// What both have.
    pub fn common(&self, other: &Things) -> Things {
        let mut common = Things { gpus: self.gpus.intersection(&other.gpus).cloned().collect(), ..Things::default() };
        for (name, items) in &self.sets {
            let both: BTreeSet<String> =
                other.sets.get(name).into_iter().flat_map(|other| items.intersection(other)).cloned().collect();
            if !both.is_empty() {
                common.sets.insert(name.clone(), both);
            }
        }
        common
    }

    /// GPUs, the lowest indices first, as many as `most` counts of all models and of each.
    pub fn gpus_within(&self, most: &Scalars) -> BTreeSet<Gpu> {
        let mut left = most.clone();
        let mut within = BTreeSet::new();
        for gpu in &self.gpus {
            let counts = gpu_counts([gpu]);
            if left.contains(&counts) {
                left.subtract(&counts);
                within.insert(gpu.clone());
            }
        }
        within
    }

    /// GPUs for one task that asks for so many of all models and of some; the lowest indices first. `None` if there are
    /// too few.
    pub fn pick_gpus(&self, wanted: &Scalars) -> Option<BTreeSet<Gpu>> {
        let asked: Scalars = wanted.iter().filter(|(name, _)| model_of(name).is_some()).collect();
        let mut picked: BTreeSet<Gpu> = BTreeSet::new();
        for (name, milli) in asked.iter().filter(|(name, _)| *name != GPUS) {
            let of_model = self.gpus.iter().filter(|gpu| Some(gpu.model.as_str()) == model_of(name));
            picked.extend(of_model.take((milli / 1000) as usize).cloned());
        }
        let n_more = ((asked.get(GPUS) / 1000) as usize).saturating_sub(picked.len());
        let more: Vec<Gpu> = self.gpus.iter().filter(|gpu| !picked.contains(*gpu)).take(n_more).cloned().collect();
        picked.extend(more);
        gpu_counts(&picked).contains(&asked).then_some(picked)
    }
}

/// Which GPUs a scalar counts: those of this model, or of any if it is empty. `None`: it counts something else.
pub fn model_of(name: &str) -> Option<&str> {
    match name.strip_prefix(GPUS)? {
        "" => Some(""),
        rest => rest.strip_prefix(':'),
    }
}

impl fmt::Display for Things {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.gpus.is_empty() {
            parts.push(format!("gpu {}", self.gpus.iter().map(Gpu::to_string).collect::<Vec<_>>().join("+")));
        }
        for (name, items) in &self.sets {
            parts.push(format!("{name} {}", items.iter().cloned().collect::<Vec<_>>().join("+")));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(index: u16, model: &str) -> Gpu {
        Gpu { index, model: model.into(), mem_mib: 80 * 1024 }
    }

    fn machine() -> Things {
        Things { gpus: [gpu(0, "a100"), gpu(1, "h200"), gpu(2, "a100")].into(), ..Things::default() }
    }

    fn picked(wanted: &[(&str, i64)]) -> Option<Vec<u16>> {
        let wanted: Scalars = wanted.iter().copied().collect();
        Some(machine().pick_gpus(&wanted)?.iter().map(|gpu| gpu.index).collect())
    }

    #[test]
    fn gpus_are_counted_by_model_and_picked_whole() {
        let counts: Vec<(String, i64)> =
            gpu_counts(&machine().gpus).iter().map(|(name, milli)| (name.to_string(), milli)).collect();
        let expected = [("gpus", 3_000), ("gpus:a100", 2_000), ("gpus:h200", 1_000)].map(|(n, m)| (n.to_string(), m));
        assert_eq!(counts, expected);
        assert_eq!(picked(&[("gpus", 2_000)]), Some(vec![0, 1]));
        assert_eq!(picked(&[("gpus", 2_000), ("gpus:a100", 2_000), ("cpus", 500)]), Some(vec![0, 2]));
        assert_eq!(picked(&[("gpus:h200", 1_000)]), Some(vec![1]));
        assert_eq!(picked(&[("gpus:h200", 2_000)]), None);
        assert_eq!(picked(&[("cpus", 1_000)]), Some(vec![]));
    }

    #[test]
    fn a_part_has_no_more_of_a_model_than_may_be() {
        let most: Scalars = [("gpus", 3_000), ("gpus:a100", 1_900), ("gpus:h200", 1_000)].into_iter().collect();
        let indices: Vec<u16> = machine().gpus_within(&most).iter().map(|gpu| gpu.index).collect();
        assert_eq!(indices, [0, 1]);
    }

    #[test]
    fn sets_are_taken_apart_and_put_together() {
        let of = |items: &[&str]| Things {
            sets: BTreeMap::from([("licence".to_string(), items.iter().map(|item| item.to_string()).collect())]),
            ..Things::default()
        };
        let (mut all, some) = (of(&["a", "b"]), of(&["b"]));
        assert!(all.contains(&some) && !some.contains(&all) && all.common(&some) == some);
        all.subtract(&some);
        assert_eq!(all, of(&["a"]));
        all.add(&some);
        all.subtract(&of(&["a", "b"]));
        assert!(all.is_empty() && all.sets.is_empty());
    }
}
