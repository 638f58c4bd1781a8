//! What is only lent: cores and memory that were given to tasks which do not use them. Whoever runs on them is ended when
//! these do (Mesos' revocable resources for oversubscription).
//!
//! Invariant: what is lent has names of its own (`cpus:revocable`), so that it is counted, offered and limited apart from
//! what it is lent of.

use crate::resources::Resources;
use crate::scalars::Scalars;

const SUFFIX: &str = ":revocable";

/// What can be lent, and what it is called then.
pub const LENT: [(&str, &str); 2] = [("cpus", "cpus:revocable"), ("mem", "mem:revocable")];

pub fn is_revocable(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// What it is lent of, or the name itself.
pub fn lent_of(name: &str) -> &str {
    name.strip_suffix(SUFFIX).unwrap_or(name)
}

impl Scalars {
    /// The part of it that is only lent.
    pub fn lent(&self) -> Scalars {
        self.iter().filter(|(name, _)| is_revocable(name)).collect()
    }

    /// The other part.
    pub fn own(&self) -> Scalars {
        let mut own = self.clone();
        for (_, lent) in LENT {
            own.set(lent, 0);
        }
        own
    }

    /// Whether any of it is only lent.
    pub fn has_lent(&self) -> bool {
        LENT.iter().any(|(_, lent)| self.get(lent) != 0)
    }
}

impl Resources {
    /// The same, with cores and memory that are only lent.
    pub fn revocable(mut self) -> Self {
        for (name, lent) in LENT {
            let milli = self.milli(name) + self.milli(lent);
            self.set_milli(name, 0);
            self.set_milli(lent, milli);
        }
        self
    }

    pub fn is_revocable(&self) -> bool {
        self.amounts().has_lent()
    }

    /// So many cores and so much memory, of the kind that it has now.
    pub fn with_cores(mut self, cores: f64, memory_mib: f64) -> Self {
        let is_lent = self.is_revocable();
        for (_, lent) in LENT {
            self.set_milli(lent, 0);
        }
        let own = self.cpus(cores).mem_mib(memory_mib);
        if is_lent { own.revocable() } else { own }
    }

    /// Of either kind.
    pub fn cores(&self) -> f64 {
        self.amount("cpus") + self.amount("cpus:revocable")
    }

    /// Of either kind.
    pub fn memory_mib(&self) -> f64 {
        self.amount("mem") + self.amount("mem:revocable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_counted_apart_and_used_alike() {
        let own = Resources::new().cpus(1.5).mem_mib(256.0).with("disk", 10.0);
        let lent = own.clone().revocable();
        assert!(lent.is_revocable() && !own.is_revocable());
        assert_eq!((lent.amount("cpus"), lent.cores(), own.cores()), (0.0, 1.5, 1.5));
        assert_eq!((lent.amount("mem"), lent.memory_mib(), lent.amount("disk")), (0.0, 256.0, 10.0));
        assert!(!own.contains(&lent) && !lent.contains(&own));
        assert_eq!(lent.clone().revocable(), lent);
        let less = Resources::new().cpus(0.5).mem_mib(64.0).with("disk", 10.0);
        assert_eq!(own.with_cores(0.5, 64.0), less);
        assert_eq!(lent.clone().with_cores(0.5, 64.0), less.revocable());
        let expected: Scalars = [("cpus:revocable", 1_500), ("mem:revocable", 256_000)].into_iter().collect();
        assert_eq!(lent.amounts().lent(), expected);
        assert_eq!(lent.amounts().own(), [("disk", 10_000)].into_iter().collect());
    }
}
