//! What operators say about roles: quotas and weights.
//!
//! A guarantee is given to a role before others get more than theirs, and kept free for it while it lacks something. A
//! limit is never exceeded by what is offered; tasks that run are not ended by a lower one.
//!
//! Invariant: every call is answered once. What is taken on is written down before it is answered, and offers that it
//! forbids are rescinded in the same step, the newest first and no more than needed.

use super::offers::OfferNumber;
use super::roles::{ROOT, RoleNumber, Terms};
use super::view::OfferState;
use super::{Command, Master, Record};
use crate::model::{OperatorCall, Quota, RequestId, amount_text, is_below, is_good_id, is_good_role, is_sane_amount};
use jobs::Scalars;
use jobs::revocable::is_revocable;

/// More would be felt nowhere, and a weight must not make every share nothing.
const WEIGHTS_MILLI: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;

impl Master {
    pub(super) fn operator_says(&mut self, request: RequestId, call: OperatorCall) {
        let answer = match call {
            OperatorCall::SetQuota { role, quota, force } => self.set_quota(&role, quota, force),
            OperatorCall::Drain { agent_id, deadline_ms, window } => self.drain(agent_id, deadline_ms, window),
            OperatorCall::Undrain { agent_id } => self.undrain(&agent_id),
            OperatorCall::Gone { agent_id, force } => self.declare_gone(&agent_id, force),
            OperatorCall::RemoveQuota { role } => self.remove_quota(&role),
            OperatorCall::SetWeight { role, weight_milli } => self.set_weight(&role, weight_milli),
            OperatorCall::Reserve { agent_id, reservation, from, force } => {
                self.reserve(&agent_id, reservation, from.as_deref(), force)
            }
            OperatorCall::RemoveVolume { key, agent_id } => self.remove_volume(&key, agent_id.as_ref()),
            OperatorCall::Unreserve { agent_id, reservation } => self.unreserve(&agent_id, reservation),
        };
        self.out.push(Command::Answer { request, answer });
    }

    /// What the registry holds about a role.
    pub(super) fn expect_role(&mut self, role: &str, weight_milli: u64, quota: Quota) {
        let Quota { guarantee, limit } = quota;
        let terms = Terms { weight: weight_milli as f64 / 1000.0, guarantee, limit };
        self.frameworks.roles.set_terms(role, terms);
    }

    fn set_weight(&mut self, role: &str, weight_milli: u64) -> Result<Vec<String>, String> {
        check_role(role)?;
        if !WEIGHTS_MILLI.contains(&weight_milli) {
            let weight = weight_milli as f64 / 1000.0;
            return Err(format!("role {role} cannot have weight {weight}: weights go from 0.001 to 1000000"));
        }
        let terms = Terms { weight: weight_milli as f64 / 1000.0, ..self.frameworks.roles.terms(role) };
        self.take_on(role, terms);
        Ok(Vec::new())
    }

    fn remove_quota(&mut self, role: &str) -> Result<Vec<String>, String> {
        check_role(role)?;
        let before = self.frameworks.roles.terms(role);
        if !before.has_quota() {
            return Err(format!("role {role} has no quota"));
        }
        self.take_on(role, Terms { weight: before.weight, ..Terms::default() });
        Ok(Vec::new())
    }

    fn set_quota(&mut self, role: &str, quota: Quota, force: bool) -> Result<Vec<String>, String> {
        check_role(role)?;
        let Quota { guarantee, limit } = quota;
        let named = guarantee.iter().chain(limit.iter().map(|(name, milli)| (name.as_str(), *milli)));
        for (name, milli) in named {
            if name == "ports" || !is_good_id(name) || !is_sane_amount(milli) {
                let amount = amount_text(name, milli);
                return Err(format!("role {role} cannot have a quota of {amount}: quotas are amounts of scalars"));
            }
        }
        for (name, milli) in guarantee.iter() {
            if is_revocable(name) {
                let amount = amount_text(name, milli);
                return Err(format!(
                    "role {role} cannot be guaranteed {amount}: what is lent may be taken back at any time"
                ));
            }
            if let Some(limit) = limit.get(name).filter(|limit| **limit < milli) {
                let (guarantee, limit) = (amount_text(name, milli), amount_text(name, *limit));
                return Err(format!("role {role}: its guarantee of {guarantee} is above its limit of {limit}"));
            }
        }
        let before = self.frameworks.roles.terms(role);
        let terms = Terms { weight: before.weight, guarantee, limit };
        self.check_relatives(role, &terms)?;
        let mut doubts = self.overcommitted(role, &terms);
        doubts.extend(self.used_beyond(role, &terms));
        if let Some(doubt) = doubts.first().filter(|_| !force) {
            return Err(format!("{doubt}; --force sets the quota all the same"));
        }
        self.take_on(role, terms);
        Ok(doubts)
    }

    fn take_on(&mut self, role: &str, terms: Terms) {
        self.out.push(Command::Persist(Record::Role {
            role: role.to_string(),
            weight_milli: (terms.weight * 1000.0).round() as u64,
            quota: Quota { guarantee: terms.guarantee.clone(), limit: terms.limit.clone() },
        }));
        if terms.guarantee != self.frameworks.roles.terms(role).guarantee {
            self.drop_holds_for_guarantees();
        }
        self.frameworks.roles.set_terms(role, terms);
        if let Some(number) = self.frameworks.roles.number(role) {
            self.rescind_beyond_limit(number);
        }
        self.rescind_for_guarantees();
        // Whatever was kept free or kept back may be offered now.
        self.agents.touch_roomy();
    }

    /// Guarantees of siblings together are not above the guarantee, or the limit, of the role above them.
    fn check_relatives(&self, role: &str, terms: &Terms) -> Result<(), String> {
        let roles = &self.frameworks.roles;
        if let Some((above, _)) = role.rsplit_once('/') {
            let parent = roles.terms(above);
            let mut sum = self.guaranteed_to_children(above, role);
            sum.add(&terms.guarantee);
            check_sum(above, &parent, &sum)?;
        }
        check_sum(role, terms, &self.guaranteed_to_children(role, ""))
    }

    /// Sum of the guarantees of a role's children, without one of them.
    fn guaranteed_to_children(&self, role: &str, without: &str) -> Scalars {
        let roles = &self.frameworks.roles;
        let mut sum = Scalars::new();
        let Some(number) = roles.number(role) else { return sum };
        for child in roles.get(number).children.iter().map(|child| roles.get(*child)) {
            if child.name != without {
                sum.add(&child.terms.guarantee);
            }
        }
        sum
    }

    /// What all guarantees together would need that the cluster does not have.
    fn overcommitted(&mut self, role: &str, terms: &Terms) -> Vec<String> {
        let before = self.frameworks.roles.terms(role);
        self.frameworks.roles.set_terms(role, terms.clone());
        let sum = self.frameworks.roles.promised(ROOT);
        self.frameworks.roles.set_terms(role, before.clone());
        let total = &self.cluster_total;
        let risen = sum.iter().filter(|(name, _)| terms.guarantee.get(name) > before.guarantee.get(name));
        let beyond = risen.filter(|(name, milli)| *milli > total.get(name));
        let doubts = beyond.map(|(name, milli)| {
            let (all, total) = (amount_text(name, milli), amount_text(name, total.get(name)));
            format!("guarantees would add up to {all}, and the cluster has {total}")
        });
        doubts.collect()
    }

    /// What tasks of the role use already that its limit would not let in.
    fn used_beyond(&self, role: &str, terms: &Terms) -> Vec<String> {
        let Some(number) = self.frameworks.roles.number(role) else { return Vec::new() };
        let mut used = self.frameworks.roles.get(number).charged.clone();
        for (_, offer) in self.offers.standing().filter(|(_, offer)| is_below(&offer.role, role)) {
            used.subtract(offer.resources.amounts());
        }
        let beyond = terms.limit.iter().filter(|(name, limit)| used.get(name) > **limit);
        let doubts = beyond.map(|(name, limit)| {
            let (used, limit) = (amount_text(name, used.get(name)), amount_text(name, *limit));
            format!("role {role} uses {used} already, more than a limit of {limit}; its tasks would go on")
        });
        doubts.collect()
    }

    fn rescind_beyond_limit(&mut self, number: RoleNumber) {
        let role = self.frameworks.roles.get(number);
        let (name, terms) = (role.name.clone(), role.terms.clone());
        if terms.limit.is_empty() {
            return;
        }
        let newest_first = self.offers.standing().filter(|(_, offer)| is_below(&offer.role, &name));
        let numbers: Vec<OfferNumber> = newest_first.map(|(number, _)| number).rev().collect();
        for offer in numbers {
            let charged = &self.frameworks.roles.get(number).charged;
            let mut beyond = terms.limit.iter().filter(|(name, limit)| charged.get(name) > **limit);
            let Some(standing) = self.offers.get(offer) else { continue };
            if beyond.any(|(name, _)| standing.resources.milli(name) > 0) {
                self.rescind(offer, OfferState::Rescinded);
            }
        }
    }

    /// Takes back offers to roles that have what they are guaranteed until what guarantees lack is free.
    fn rescind_for_guarantees(&mut self) {
        if self.lacking().is_empty() {
            return;
        }
        let numbers: Vec<OfferNumber> = self.offers.standing().map(|(number, _)| number).rev().collect();
        for offer in numbers {
            let lacking = self.lacking();
            if lacking.is_empty() {
                return;
            }
            let Some(standing) = self.offers.get(offer) else { continue };
            let helps = lacking.iter().any(|(name, _)| standing.resources.milli(name) > 0);
            let role = self.frameworks.get(&standing.framework_id).map(|framework| framework.role_number);
            if helps && role.is_some_and(|role| self.needed_by(role).is_empty()) {
                self.rescind(offer, OfferState::Rescinded);
            }
        }
    }
}

pub(super) fn check_role(role: &str) -> Result<(), String> {
    match is_good_role(role) {
        true => Ok(()),
        false => Err(format!("'{role}' cannot be a role: its parts, between slashes, are short and without blanks")),
    }
}

fn check_sum(role: &str, terms: &Terms, children: &Scalars) -> Result<(), String> {
    for (name, sum) in children.iter() {
        let own = terms.guarantee.get(name);
        if !terms.guarantee.is_empty() && sum > own {
            let (sum, own) = (amount_text(name, sum), amount_text(name, own));
            return Err(format!("the roles below {role} would be guaranteed {sum}, more than its own {own}"));
        }
        if let Some(limit) = terms.limit.get(name).filter(|limit| **limit < sum) {
            let (sum, limit) = (amount_text(name, sum), amount_text(name, *limit));
            return Err(format!("the roles below {role} would be guaranteed {sum}, more than its limit of {limit}"));
        }
    }
    Ok(())
}
