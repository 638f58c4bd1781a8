//! Amounts by name, in whole thousandths.
//!
//! Invariant: what is zero is not kept, so equal means equal; names come out in alphabetical order. The four that every
//! machine is asked for lie side by side in the value itself, because books are kept in these for every agent, task and
//! offer; whatever else a cluster counts costs one allocation.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// In alphabetical order, as everywhere.
const USUAL: [&str; 4] = ["cpus", "disk", "gpus", "mem"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalars {
    usual: [i64; USUAL.len()],
    /// `None` where there are none.
    others: Option<Box<Others>>,
}

/// Kept apart, so that whoever has none of them holds one word for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Others(BTreeMap<Box<str>, i64>);

#[inline]
fn place(name: &str) -> Option<usize> {
    USUAL.iter().position(|usual| *usual == name)
}

impl Scalars {
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.usual == [0; USUAL.len()] && self.others.is_none()
    }

    #[inline]
    pub fn get(&self, name: &str) -> i64 {
        match place(name) {
            Some(at) => self.usual[at],
            None => self.others.as_ref().and_then(|others| others.0.get(name)).copied().unwrap_or(0),
        }
    }

    pub fn set(&mut self, name: &str, milli: i64) {
        match place(name) {
            Some(at) => self.usual[at] = milli,
            None if milli != 0 => {
                self.others.get_or_insert_default().0.insert(name.into(), milli);
            }
            None => {
                if let Some(others) = &mut self.others {
                    others.0.remove(name);
                    if others.0.is_empty() {
                        self.others = None;
                    }
                }
            }
        }
    }

    /// All that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let mut usual = USUAL.into_iter().zip(self.usual).filter(|(_, milli)| *milli != 0).peekable();
        let mut others = self.others.iter().flat_map(|others| others.0.iter()).peekable();
        std::iter::from_fn(move || {
            let other_first = match (usual.peek(), others.peek()) {
                (Some((usual, _)), Some((other, _))) => other.as_ref() < *usual,
                (usual, _) => usual.is_none(),
            };
            match other_first {
                true => others.next().map(|(name, milli)| (name.as_ref(), *milli)),
                false => usual.next(),
            }
        })
    }

    #[inline]
    pub fn add(&mut self, more: &Scalars) {
        self.change(more, |have, other| have + other);
    }

    /// May go below zero: who must not, asks [`contains`](Self::contains) first.
    #[inline]
    pub fn subtract(&mut self, less: &Scalars) {
        self.change(less, |have, other| have - other);
    }

    #[inline]
    fn change(&mut self, by: &Scalars, change: impl Fn(i64, i64) -> i64) {
        for (have, other) in self.usual.iter_mut().zip(by.usual) {
            *have = change(*have, other);
        }
        for (name, other) in by.others.iter().flat_map(|others| others.0.iter()) {
            self.set(name, change(self.get(name), *other));
        }
    }

    /// Whether there is at least as much of each here.
    #[inline]
    pub fn contains(&self, other: &Scalars) -> bool {
        self.usual.iter().zip(other.usual).all(|(have, need)| *have >= need)
            && other.others.iter().flat_map(|others| others.0.iter()).all(|(name, need)| self.get(name) >= *need)
    }

    /// Of each, what `choose` makes of both.
    pub fn merged(&self, other: &Scalars, choose: impl Fn(i64, i64) -> i64) -> Scalars {
        let mut merged = Scalars::default();
        for (at, milli) in merged.usual.iter_mut().enumerate() {
            *milli = choose(self.usual[at], other.usual[at]);
        }
        if self.others.is_some() || other.others.is_some() {
            let names = [self, other].into_iter().flat_map(|scalars| scalars.others.iter());
            for name in names.flat_map(|others| others.0.keys()) {
                merged.set(name, choose(self.get(name), other.get(name)));
            }
        }
        merged
    }

    /// The smaller of each.
    pub fn least(&self, other: &Scalars) -> Scalars {
        self.merged(other, i64::min)
    }

    /// The larger of each.
    pub fn most(&self, other: &Scalars) -> Scalars {
        self.merged(other, i64::max)
    }

    /// The largest part that any amount is of that of `total`, over what there is a total of.
    pub fn largest_part_of(&self, total: &Scalars) -> f64 {
        let part = |have: i64, of: i64| if have > 0 && of > 0 { have as f64 / of as f64 } else { 0.0 };
        let usual = self.usual.iter().zip(total.usual).map(|(have, of)| part(*have, of)).fold(0.0, f64::max);
        let others = self.others.iter().flat_map(|others| others.0.iter());
        others.map(|(name, have)| part(*have, total.get(name))).fold(usual, f64::max)
    }

    /// What is here beyond `other`, of each.
    pub fn beyond(&self, other: &Scalars) -> Scalars {
        self.merged(other, |have, other| (have - other).max(0))
    }
}

impl<'a> FromIterator<(&'a str, i64)> for Scalars {
    fn from_iter<T: IntoIterator<Item = (&'a str, i64)>>(amounts: T) -> Self {
        let mut scalars = Self::default();
        for (name, milli) in amounts {
            scalars.set(name, milli);
        }
        scalars
    }
}

impl Serialize for Scalars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scalars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amounts = BTreeMap::<String, i64>::deserialize(deserializer)?;
        Ok(amounts.iter().map(|(name, milli)| (name.as_str(), *milli)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amounts() -> impl Strategy<Value = BTreeMap<String, i64>> {
        prop::collection::btree_map("cpus|disk|gpus|mem|a|e|z", 1i64..100, 0..6)
    }

    fn of(amounts: &BTreeMap<String, i64>) -> Scalars {
        amounts.iter().map(|(name, milli)| (name.as_str(), *milli)).collect()
    }

    proptest! {
        /// They are what a map from names to amounts is.
        #[test]
        fn they_are_a_map_without_zeros(a in amounts(), b in amounts()) {
            let listed: Vec<(&str, i64)> = a.iter().map(|(name, milli)| (name.as_str(), *milli)).collect();
            let own = of(&a);
            prop_assert_eq!(own.iter().collect::<Vec<_>>(), listed);
            let mut sum = of(&a);
            sum.add(&of(&b));
            prop_assert!(sum.contains(&of(&a)) && sum.contains(&of(&b)));
            for name in a.keys().chain(b.keys()) {
                prop_assert_eq!(sum.get(name), of(&a).get(name) + of(&b).get(name));
            }
            prop_assert_eq!(sum.beyond(&of(&b)), of(&a));
            sum.subtract(&of(&b));
            prop_assert_eq!(&sum, &of(&a));
            sum.subtract(&of(&a));
            prop_assert!(sum.is_empty());
            let (least, most) = (of(&a).least(&of(&b)), of(&a).most(&of(&b)));
            prop_assert!(most.contains(&of(&a)) && of(&a).contains(&least) && most.contains(&least));
        }
    }
}
