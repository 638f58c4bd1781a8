//! Sums of scalars over many agents, for dominant shares.
//!
//! Invariant: never negative. Ports are left out: the same numbers exist on every agent, and no share is made of them.

use jobs::Resources;
use std::cmp::Ordering;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<String, i64>);

impl Tally {
    pub fn add(&mut self, resources: &Resources) {
        for (name, milli) in resources.scalars() {
            match self.0.get_mut(name) {
                Some(sum) => *sum += milli,
                None => drop(self.0.insert(name.to_string(), milli)),
            }
        }
    }

    pub fn subtract(&mut self, resources: &Resources) {
        for (name, milli) in resources.scalars() {
            let sum = self.0.get_mut(name).unwrap_or_else(|| panic!("no {name} in the tally to take {milli} from"));
            assert!(*sum >= milli, "{name}: {milli} cannot be taken from {sum}");
            *sum -= milli;
            if *sum == 0 {
                self.0.remove(name);
            }
        }
    }

    pub fn as_resources(&self) -> Resources {
        let mut resources = Resources::new();
        for (name, milli) in &self.0 {
            resources.set_milli(name, *milli);
        }
        resources
    }

    /// The largest part that this is of `total`, over all resources.
    pub fn dominant_share(&self, total: &Tally) -> Share {
        let shares = self.0.iter().filter_map(|(name, have)| {
            let total = total.0.get(name)?;
            Some(*have as f64 / *total as f64)
        });
        Share(shares.fold(0.0, f64::max))
    }
}

/// 0 to 1, and ordered.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub f64);

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
    fn the_scarcest_resource_decides() {
        let (mut total, mut mine) = (Tally::default(), Tally::default());
        total.add(&Resources::new().cpus(10.0).mem_mib(1000.0));
        mine.add(&Resources::new().cpus(1.0).mem_mib(500.0));
        assert_eq!(mine.dominant_share(&total), Share(0.5));
        mine.subtract(&Resources::new().mem_mib(500.0));
        assert_eq!(mine.dominant_share(&total), Share(0.1));
        mine.subtract(&Resources::new().cpus(1.0));
        assert_eq!(mine, Tally::default());
        assert_eq!(mine.dominant_share(&Tally::default()), Share(0.0));
    }
}
