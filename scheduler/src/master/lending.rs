//! What agents lend: cores and memory that were given to tasks which do not use them, offered once more.
//!
//! Invariant: only who names it in a demand is offered it. It counts for nobody's share and for no guarantee, and what agents
//! have does not change by it: who runs on it may be ended by the agent at any time.

use super::Master;
use super::frameworks::Framework;
use super::offers::OfferNumber;
use super::view::OfferState;
use crate::model::{ConnectionId, amount_text, is_sane_amount};
use jobs::revocable::{LENT, lent_of};
use jobs::{AgentId, Scalars};

impl Framework {
    /// Whether it can do with what may be taken back.
    pub fn takes_lent(&self) -> bool {
        self.demands.iter().flatten().any(|demand| demand.shape.is_revocable())
    }
}

impl Master {
    pub(super) fn lends(&mut self, connection: ConnectionId, id: &AgentId, lent: Scalars) {
        let agent = self.agents.known(id);
        agent.heard_ms = self.now_ms;
        let total = &agent.info.total;
        let is_good = |(name, milli): (&str, i64)| {
            LENT.iter().any(|(_, known)| *known == name) && is_sane_amount(milli) && milli <= total.milli(lent_of(name))
        };
        if let Some((name, milli)) = lent.iter().find(|amount| !is_good(*amount)) {
            let problem = format!("agent {id} cannot lend {}", amount_text(name, milli));
            return self.refuse_agent(connection, &problem);
        }
        self.take_back_lent(id, &lent);
        self.agents.books(id, |ledger| ledger.lend(lent));
        self.agents.touch(id);
    }

    /// What is offered of it and not there any more; the newest offers first.
    fn take_back_lent(&mut self, id: &AgentId, lent: &Scalars) {
        let offers: Vec<OfferNumber> = self.agents.known(id).offers.iter().rev().copied().collect();
        for number in offers {
            let ledger = &self.agents.known(id).ledger;
            let held = |name: &str| ledger.offered().milli(name) + ledger.used().milli(name);
            let Some(offer) = self.offers.get(number) else { continue };
            if LENT.iter().any(|(_, name)| held(name) > lent.get(name) && offer.resources.milli(name) > 0) {
                self.rescind(number, OfferState::Rescinded);
            }
        }
    }
}
