//! One agent's resources: what is free, what is offered, what tasks use.
//!
//! Invariant: free + offered + used = total, for every scalar and every port, after every operation. To move what is
//! not there is a defect of the caller and ends in a panic that shows both sides; nothing that a peer sends may get
//! here unchecked. Who holds an offer or a task is not known here.

use jobs::{Resources, Scalars};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    total: Resources,
    free: Resources,
    offered: Resources,
    used: Resources,
}

impl Ledger {
    pub fn new(total: Resources) -> Self {
        Self { free: total.clone(), total, offered: Resources::new(), used: Resources::new() }
    }

    pub fn total(&self) -> &Resources {
        &self.total
    }

    pub fn free(&self) -> &Resources {
        &self.free
    }

    pub fn offered(&self) -> &Resources {
        &self.offered
    }

    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// Free to offered.
    pub fn offer(&mut self, resources: &Resources) {
        pass(&mut self.free, &mut self.offered, resources);
        self.check();
    }

    /// Offered to free.
    pub fn take_back(&mut self, resources: &Resources) {
        pass(&mut self.offered, &mut self.free, resources);
        self.check();
    }

    /// Offered to used.
    pub fn launch(&mut self, resources: &Resources) {
        pass(&mut self.offered, &mut self.used, resources);
        self.check();
    }

    /// Used to free.
    pub fn release(&mut self, resources: &Resources) {
        pass(&mut self.used, &mut self.free, resources);
        self.check();
    }

    /// Free to used for a task that runs already, as a registering agent reports it. The agent may have come back
    /// smaller than what its tasks were promised, so this takes as much as is there and returns what it took.
    #[must_use = "what was claimed must be released later"]
    pub fn claim(&mut self, wanted: &Resources) -> Resources {
        let claimed = self.free.common(wanted);
        pass(&mut self.free, &mut self.used, &claimed);
        self.check();
        claimed
    }

    fn check(&self) {
        let parts = [&self.free, &self.offered, &self.used].map(Resources::amounts);
        let (mut sum, none) = (parts[0].clone(), Scalars::new());
        sum.add(parts[1]);
        sum.add(parts[2]);
        assert!(
            sum == *self.total.amounts() && parts.iter().all(|part| part.contains(&none)),
            "free, offered and used do not make the total of {self:?}"
        );
    }
}

/// From one part to another; no port is lost on the way, or there twice. The parts that have no share in it are not looked
/// at: their ports lie elsewhere in memory.
fn pass(from: &mut Resources, to: &mut Resources, resources: &Resources) {
    let n_ports = from.n_ports() + to.n_ports();
    from.subtract(resources);
    to.add(resources);
    assert!(from.n_ports() + to.n_ports() == n_ports, "ports of {resources} were counted twice: {from} and {to}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(cpus: i64, low: u16, n: u16) -> Resources {
        let mut resources = Resources::new();
        resources.set_milli("cpus", cpus);
        if n > 0 { resources.with_ports([(low, low + n - 1)]) } else { resources }
    }

    proptest! {
        /// Any order of offers, launches, returns and ends keeps the books; at the end all is free again.
        #[test]
        fn what_was_moved_comes_back(pieces in prop::collection::vec((0i64..400, 0u16..3, any::<bool>()), 1..20)) {
            let total = some(10_000, 1000, 100);
            let mut ledger = Ledger::new(total.clone());
            let mut running = Vec::new();
            for (at, (cpus, n, launch)) in pieces.into_iter().enumerate() {
                let piece = some(cpus, 1000 + 4 * at as u16, n);
                ledger.offer(&piece);
                if launch {
                    ledger.launch(&piece);
                    running.push(piece);
                } else {
                    ledger.take_back(&piece);
                }
            }
            for piece in running {
                ledger.release(&piece);
            }
            prop_assert_eq!(ledger, Ledger::new(total));
        }
    }

    #[test]
    fn a_shrunken_agent_gives_what_it_has() {
        let mut ledger = Ledger::new(some(2_000, 10, 5));
        let claimed = ledger.claim(&some(3_000, 13, 10));
        assert_eq!(claimed, some(2_000, 13, 2));
        ledger.release(&claimed);
        assert_eq!(ledger, Ledger::new(some(2_000, 10, 5)));
    }

    #[test]
    #[should_panic(expected = "do not contain")]
    fn to_launch_what_was_not_offered_is_a_defect() {
        Ledger::new(some(1_000, 0, 0)).launch(&some(1, 0, 0));
    }
}
