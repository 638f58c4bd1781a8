//! How much of the cluster somebody has: the dominant share.
//!
//! Invariant: ordered, also where it is no number. Ports are left out: the same numbers exist on every agent, and no
//! share is made of them.

use jobs::Scalars;
use std::cmp::Ordering;

/// The largest part of any resource, by weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share(pub f64);

impl Share {
    pub fn of(held: &Scalars, total: &Scalars, weight: f64) -> Self {
        Self(held.largest_part_of(total) / weight)
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_resource_decides_and_a_weight_divides() {
        let total: Scalars = [("cpus", 10_000), ("mem", 1_000_000)].into_iter().collect();
        let held: Scalars = [("cpus", 1_000), ("mem", 500_000), ("fpgas", 7)].into_iter().collect();
        assert_eq!(Share::of(&held, &total, 1.0), Share(0.5));
        assert_eq!(Share::of(&held, &total, 2.0), Share(0.25));
        assert_eq!(Share::of(&held, &Scalars::new(), 1.0), Share(0.0));
        assert!(Share(0.25) < Share(0.5));
    }
}
