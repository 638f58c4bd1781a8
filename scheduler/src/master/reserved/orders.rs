//! What operators say about reservations.
//!
//! Invariant: what is taken on is written down before it is answered. Offers to others that hold what is reserved are
//! rescinded in the same step, the newest first and no more than needed; tasks go on.

use super::super::offers::OfferNumber;
use super::super::quota::check_role;
use super::super::view::OfferState;
use super::super::{Command, Master, Record};
use crate::model::{Reservation, amount_text, is_below, is_good_id, is_good_label, is_sane};
use jobs::{AgentId, Resources, Scalars};

/// Of one reservation.
const MAX_LABELS: usize = 32;

impl Master {
    /// Adds to what is reserved with the same role and labels. `from`: it is taken from what is reserved for this role,
    /// which that of the reservation is below, with the same labels.
    pub(in crate::master) fn reserve(
        &mut self,
        id: &AgentId,
        wanted: Reservation,
        from: Option<&str>,
        force: bool,
    ) -> Result<Vec<String>, String> {
        self.find_agent(id)?;
        check_reservation(&wanted)?;
        let mut reservations = self.reserved.by_operators(id).to_vec();
        if let Some(from) = from {
            check_role(from)?;
            if !is_below(&wanted.role, from) || wanted.role == from {
                let role = &wanted.role;
                return Err(format!(
                    "role {role} is not below {from}, so nothing of what is reserved for it can be its"
                ));
            }
            take_reservation(&mut reservations, id, &Reservation { role: from.to_string(), ..wanted.clone() })?;
        }
        let doubts = match from {
            Some(_) => Vec::new(),
            None => self.doubts(id, &wanted, &reservations),
        };
        if let Some(doubt) = doubts.first().filter(|_| !force) {
            return Err(format!("{doubt}; --force reserves it all the same"));
        }
        add_reservation(&mut reservations, wanted);
        self.take_on_reservations(id, reservations);
        self.take_back_what_is_reserved(id);
        Ok(doubts)
    }

    /// `amounts` of nothing: all of it.
    pub(in crate::master) fn unreserve(
        &mut self,
        id: &AgentId,
        mut given_up: Reservation,
    ) -> Result<Vec<String>, String> {
        self.find_agent(id)?;
        let mut reservations = self.reserved.by_operators(id).to_vec();
        match reservations.iter().find(|reservation| reservation.is_like(&given_up)) {
            Some(reservation) if given_up.amounts.is_empty() => given_up.amounts.clone_from(&reservation.amounts),
            None if given_up.amounts.is_empty() => check_role(&given_up.role)?,
            _ => check_reservation(&given_up)?,
        }
        let of_agent =
            self.agents.get(id).is_some_and(|agent| agent.info.reserved.iter().any(|own| own.is_like(&given_up)));
        take_reservation(&mut reservations, id, &given_up).map_err(|problem| match of_agent {
            true => format!("{problem}; what the agent itself reserves is changed where it is started (--reserve)"),
            false => problem,
        })?;
        self.take_on_reservations(id, reservations);
        Ok(Vec::new())
    }

    pub(in crate::master) fn take_on_reservations(&mut self, id: &AgentId, reservations: Vec<Reservation>) {
        let record = Record::Reserved { agent_id: id.clone(), reservations: reservations.clone() };
        self.out.push(Command::Persist(record));
        self.reserved.put(id.clone(), reservations);
        let keeps = self.agents.get(id).is_some_and(|agent| self.reservations_on(agent).next().is_some());
        self.agents.known(id).keeps = keeps;
        self.agents.stale.insert(id.clone());
        self.agents.noted.note(id);
        // Room that others leave may be somebody else's now.
        self.drop_holds_on(id);
        // What guarantees lack may be reserved now, or no more.
        self.agents.touch_roomy();
    }

    /// Why what is to be reserved, besides what the agent itself keeps and what is reserved by `others`, is not there.
    pub(in crate::master) fn doubts(&self, id: &AgentId, wanted: &Reservation, others: &[Reservation]) -> Vec<String> {
        let Some(agent) = self.agents.get(id) else { return Vec::new() };
        let Reservation { role, amounts, .. } = wanted;
        let mut reserved = amounts.clone();
        for reservation in agent.info.reserved.iter().chain(others) {
            reserved.add(&reservation.amounts);
        }
        let total = agent.info.total.amounts();
        let mut doubts = Vec::new();
        for (name, _) in amounts.iter().filter(|(name, _)| reserved.get(name) > total.get(name)) {
            let (sum, has) = (amount_text(name, reserved.get(name)), amount_text(name, total.get(name)));
            doubts.push(format!("on agent {id} {sum} would be reserved, of its {has}"));
        }
        let mut of_others = Scalars::new();
        for key in &agent.tasks {
            let charged = self.tasks.get(key).and_then(|task| task.charged.as_ref());
            let is_own = self.frameworks.get(&key.framework_id).is_some_and(|holder| {
                let reserved = agent.info.reserved.iter().chain(others).map(|reservation| reservation.role.as_str());
                reserved.chain([role.as_str()]).any(|reserved| is_below(&holder.role, reserved))
            });
            if let Some(charged) = charged.filter(|_| !is_own) {
                of_others.add(charged.amounts());
            }
        }
        for (name, _) in amounts.iter().filter(|(name, _)| reserved.get(name) + of_others.get(name) > total.get(name)) {
            let used = amount_text(name, of_others.get(name));
            doubts.push(format!(
                "tasks of other roles use {used} on agent {id}; they would go on, and it is kept when they end"
            ));
        }
        doubts
    }

    /// Rescinds offers until what is reserved is free, or no offer to others is left.
    fn take_back_what_is_reserved(&mut self, id: &AgentId) {
        loop {
            self.refresh_reserved();
            let Some(agent) = self.agents.get(id) else { return };
            let newest_first = agent.offers.iter().rev().copied();
            let in_the_way = |number: &OfferNumber| {
                self.offers.get(*number).is_some_and(|offer| {
                    let kept = self.reserved.on(id).map(|unfilled| unfilled.kept_from(&offer.role)).unwrap_or_default();
                    let missing = kept.beyond(agent.ledger.free().amounts());
                    missing.iter().any(|(name, _)| offer.resources.milli(name) > 0)
                })
            };
            let Some(number) = newest_first.into_iter().find(in_the_way) else { return };
            self.rescind(number, OfferState::Rescinded);
        }
    }
}

/// Adds to the one with the same role and labels.
pub fn add_reservation(reservations: &mut Vec<Reservation>, wanted: Reservation) {
    match reservations.iter_mut().find(|reservation| reservation.is_like(&wanted)) {
        Some(reservation) => reservation.amounts.add(&wanted.amounts),
        None => reservations.push(wanted),
    }
}

/// Takes amounts out of one of these.
pub fn take_reservation(reservations: &mut Vec<Reservation>, id: &AgentId, wanted: &Reservation) -> Result<(), String> {
    let Reservation { role, amounts, .. } = wanted;
    let Some(at) = reservations.iter().position(|reservation| reservation.is_like(wanted)) else {
        let labels = match wanted.labels.is_empty() {
            true => String::new(),
            false => format!(" with these labels ({})", wanted.labels_text()),
        };
        return Err(format!("nothing is reserved for role {role}{labels} on agent {id} by operators"));
    };
    let has = &mut reservations[at].amounts;
    if let Some((name, milli)) = amounts.iter().find(|(name, milli)| has.get(name) < *milli) {
        let (has, wanted) = (amount_text(name, has.get(name)), amount_text(name, milli));
        return Err(format!("{has} is reserved for role {role} on agent {id} by operators, less than {wanted}"));
    }
    has.subtract(amounts);
    if has.is_empty() {
        reservations.remove(at);
    }
    Ok(())
}

/// Whether an operator, or an agent, can reserve this.
pub fn check_reservation(reservation: &Reservation) -> Result<(), String> {
    let Reservation { role, amounts, labels } = reservation;
    check_role(role)?;
    if role == "*" {
        return Err("nothing can be reserved for role *: it is everybody's".into());
    }
    if amounts.is_empty() {
        return Err(format!("a reservation for role {role} names no amount"));
    }
    let resources = Resources::new().with_amounts(amounts.clone());
    if !is_sane(&resources) || amounts.get("ports") != 0 || resources.is_revocable() {
        return Err(format!(
            "{resources} cannot be reserved for role {role}: reservations are amounts of scalars, and of whole GPUs, that are \
             more than lent"
        ));
    }
    if labels.len() > MAX_LABELS || !labels.iter().all(|(key, value)| is_good_id(key) && is_good_label(value)) {
        return Err(format!(
            "the labels of a reservation for role {role} cannot be these: {MAX_LABELS} at most, short and printable"
        ));
    }
    Ok(())
}
