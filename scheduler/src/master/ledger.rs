//! One agent's resources: what is free, what is offered, what tasks use.
//!
//! Invariant: free + offered + used = total, for every scalar and every port, after every operation; of what is only lent
//! the total is what is lent now, or what is held of it where that is more. To move what is not there is a defect of the
//! caller and ends in a panic that shows both sides; nothing that a peer sends may get here unchecked. Who holds an offer or
//! a task is not known here.

use jobs::revocable::LENT;
use jobs::{Resources, Scalars};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    total: Resources,
    free: Resources,
    offered: Resources,
    used: Resources,
    /// What the agent lends now, which is in the total besides what it has.
    lent: Scalars,
}

impl Ledger {
    pub fn new(total: Resources) -> Self {
        Self { free: total.clone(), total, ..Self::default() }
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

    /// It lends so much from now on. Whoever holds more keeps it until it gives it back.
    pub fn lend(&mut self, lent: Scalars) {
        self.lent = lent;
        self.settle_lent();
        self.check();
    }

    fn settle_lent(&mut self) {
        if self.lent.is_empty() && !self.total.is_revocable() {
            return;
        }
        for (_, name) in LENT {
            let held = self.offered.milli(name) + self.used.milli(name);
            let total = held.max(self.lent.get(name));
            self.total.set_milli(name, total);
            self.free.set_milli(name, total - held);
        }
    }

    /// Free to offered.
    pub fn offer(&mut self, resources: &Resources) {
        pass(&mut self.free, &mut self.offered, resources);
        self.check();
    }

    /// Offered to free.
    pub fn take_back(&mut self, resources: &Resources) {
        pass(&mut self.offered, &mut self.free, resources);
        self.settle_lent();
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
        self.settle_lent();
        self.check();
    }

    /// Free to used for a task that runs already, as a registering agent reports it. The agent may have come back
    /// smaller than what its tasks were promised, so this takes as much as is there and returns what it took. What was lent
    /// is held by whoever has it.
    #[must_use = "what was claimed must be released later"]
    pub fn claim(&mut self, wanted: &Resources) -> Resources {
        for (_, name) in LENT {
            let short = wanted.milli(name) - self.free.milli(name);
            if short > 0 {
                self.total.set_milli(name, self.total.milli(name) + short);
                self.free.set_milli(name, wanted.milli(name));
            }
        }
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
    fn what_is_lent_comes_and_goes_and_whoever_holds_it_keeps_it() {
        let lent = |cpus: i64| Scalars::from_iter([("cpus:revocable", cpus)]);
        let piece = |cpus: i64| Resources::new().with_amounts(lent(cpus));
        let mut ledger = Ledger::new(some(4_000, 0, 0));
        ledger.lend(lent(2_000));
        assert_eq!(ledger.free(), &some(4_000, 0, 0).with("cpus:revocable", 2.0));
        ledger.offer(&piece(1_500));
        ledger.launch(&piece(1_500));
        ledger.lend(lent(1_000));
        assert_eq!((ledger.total().milli("cpus:revocable"), ledger.free()), (1_500, &some(4_000, 0, 0)));
        ledger.release(&piece(1_500));
        assert_eq!((ledger.total().milli("cpus:revocable"), ledger.free().milli("cpus:revocable")), (1_000, 1_000));
        ledger.lend(Scalars::new());
        assert_eq!(ledger, Ledger::new(some(4_000, 0, 0)));
        let claimed = ledger.claim(&piece(700));
        assert_eq!(
            (&claimed, ledger.total().milli("cpus:revocable")),
            (&piece(700), 700),
            "a task that runs on it came back"
        );
        ledger.release(&claimed);
        assert_eq!(ledger, Ledger::new(some(4_000, 0, 0)));
    }

    #[test]
    #[should_panic(expected = "do not contain")]
    fn to_launch_what_was_not_offered_is_a_defect() {
        Ledger::new(some(1_000, 0, 0)).launch(&some(1, 0, 0));
    }
}
