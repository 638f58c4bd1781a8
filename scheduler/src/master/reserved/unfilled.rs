//! What is reserved on one agent and not filled.
//!
//! Invariant: pure arithmetic over amounts; what a role holds fills the reservations of roles that it is below, those
//! furthest down first, and nothing fills two.

use crate::model::is_below;
use jobs::Scalars;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfilled(Vec<(String, Scalars)>);

impl Unfilled {
    /// `reserved` may name a role more than once.
    pub fn new<'a>(
        reserved: impl IntoIterator<Item = (&'a str, &'a Scalars)>,
        mut held: BTreeMap<&str, Scalars>,
    ) -> Self {
        let mut by_role: BTreeMap<&str, Scalars> = BTreeMap::new();
        for (role, amounts) in reserved {
            by_role.entry(role).or_default().add(amounts);
        }
        let depth = |role: &str| role.split('/').count();
        let mut by_role: Vec<(&str, Scalars)> = by_role.into_iter().collect();
        by_role.sort_by_key(|(role, _)| std::cmp::Reverse(depth(role)));
        let mut unfilled = Vec::new();
        for (role, mut left) in by_role {
            for (_, held) in held.iter_mut().filter(|(holder, _)| is_below(holder, role)) {
                let fills = left.least(held);
                left.subtract(&fills);
                held.subtract(&fills);
            }
            if !left.is_empty() {
                unfilled.push((role.to_string(), left));
            }
        }
        Self(unfilled)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Scalars)> {
        self.0.iter().map(|(role, amounts)| (role.as_str(), amounts))
    }

    /// What others keep from a role.
    pub fn kept_from(&self, role: &str) -> Scalars {
        self.sum(|reserved| !is_below(role, reserved))
    }

    /// What is kept for a role, and for those that it is below.
    pub fn kept_for(&self, role: &str) -> Scalars {
        self.sum(|reserved| is_below(role, reserved))
    }

    fn sum(&self, counts: impl Fn(&str) -> bool) -> Scalars {
        let mut sum = Scalars::new();
        for (_, amounts) in self.0.iter().filter(|(role, _)| counts(role)) {
            sum.add(amounts);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus(milli: i64) -> Scalars {
        [("cpus", milli)].into_iter().collect()
    }

    fn unfilled(reserved: &[(&'static str, i64)], held: &[(&'static str, i64)]) -> Vec<(String, i64)> {
        let reserved: Vec<(&str, Scalars)> = reserved.iter().map(|(role, milli)| (*role, cpus(*milli))).collect();
        let reserved = reserved.iter().map(|(role, amounts)| (*role, amounts));
        let held = held.iter().map(|(role, milli)| (*role, cpus(*milli))).collect();
        Unfilled::new(reserved, held).iter().map(|(role, amounts)| (role.to_string(), amounts.get("cpus"))).collect()
    }

    #[test]
    fn what_is_below_a_role_fills_what_is_reserved_for_it() {
        assert_eq!(unfilled(&[("eng", 4)], &[("eng/a", 1), ("eng", 1), ("ops", 9)]), [("eng".to_string(), 2)]);
        assert_eq!(unfilled(&[("eng", 4)], &[("engine", 4)]), [("eng".to_string(), 4)], "a name is no path");
        let both = [("eng", 4), ("eng/a", 2)];
        assert_eq!(unfilled(&both, &[("eng/a", 3)]), [("eng".to_string(), 3)], "the role furthest down first");
        assert_eq!(unfilled(&both, &[("eng", 5)]), [("eng/a".to_string(), 2)], "which is not for those above it");
        assert_eq!(unfilled(&[("eng", 1), ("eng", 2)], &[("eng", 2)]), [("eng".to_string(), 1)]);
    }

    proptest! {
        /// What fills is held, and nothing that a role holds is left over while something that it may fill is not filled.
        #[test]
        fn all_that_is_held_fills_what_it_may(
            reserved in prop::collection::vec((0usize..5, 0i64..9), 0..6),
            held in prop::collection::btree_map(0usize..5, 0i64..9, 0..5),
        ) {
            let names = ["a", "a/b", "a/b/c", "a/d", "e"];
            let amounts: Vec<(&str, Scalars)> = reserved.iter().map(|(at, milli)| (names[*at], cpus(*milli))).collect();
            let holds: BTreeMap<&str, Scalars> = held.iter().map(|(at, milli)| (names[*at], cpus(*milli))).collect();
            let unfilled = Unfilled::new(amounts.iter().map(|(role, amounts)| (*role, amounts)), holds);
            let sum = |of: &dyn Fn(&str) -> bool| -> i64 {
                reserved.iter().filter(|(at, _)| of(names[*at])).map(|(_, milli)| milli).sum()
            };
            for name in names {
                let left = unfilled.kept_for(name).get("cpus");
                let may_fill = sum(&|role| is_below(name, role));
                let own: i64 = held.iter().filter(|(at, _)| names[**at] == name).map(|(_, milli)| *milli).sum();
                prop_assert!(left <= may_fill && left >= 0);
                // With something left to fill, all that this role holds fills something.
                if left > 0 {
                    prop_assert!(may_fill - left >= own, "{name} holds {own}, and {left} of {may_fill} is not filled");
                }
                let total: i64 = unfilled.iter().map(|(_, amounts)| amounts.get("cpus")).sum();
                prop_assert_eq!(left + unfilled.kept_from(name).get("cpus"), total);
            }
        }
    }
}
