//! Nobody is offered what is reserved for others: whatever an agent is made to offer, what roles lack of what is reserved for
//! them there is free afterwards.

use jobs::Scalars;
use scheduler::master::{AgentView, ClusterView, Command, OfferState};
use scheduler::model::{FrameworkEvent, is_below};
use std::collections::BTreeSet;

/// `commands`: what the master just said; `view`: what it knows after that.
pub fn check(commands: &[Command], view: &ClusterView) {
    for command in commands {
        let Command::ToFramework { event: FrameworkEvent::Offer(offer), .. } = command else { continue };
        let Some(agent) = view.agents.iter().find(|agent| agent.agent.agent_id == offer.agent_id) else { continue };
        if agent.reserved.is_empty() {
            continue;
        }
        let lacking = lacked_by_others(agent, view, &offer.role);
        for (name, milli) in lacking.iter().filter(|(name, _)| offer.resources.milli(name) > 0) {
            let free = agent.free.milli(name);
            assert!(
                free >= milli,
                "{} of {} was offered to role {}, {free} {name} is free, and {milli} of what is reserved for others \
                 is not filled: {:?}",
                offer.resources,
                offer.agent_id,
                offer.role,
                agent.reserved
            );
        }
    }
}

/// At least so much: what a role holds counts as if it filled whatever is reserved for it or below it.
fn lacked_by_others(agent: &AgentView, view: &ClusterView, role: &str) -> Scalars {
    let others: BTreeSet<&str> = agent.reserved.iter().map(|reservation| reservation.role.as_str()).collect();
    let others: BTreeSet<&str> = others.into_iter().filter(|other| !is_below(role, other)).collect();
    let is_highest = |other: &&&str| !others.iter().any(|above| above != *other && is_below(other, above));
    let mut lacking = Scalars::new();
    for other in others.iter().filter(is_highest) {
        let mut reserved = Scalars::new();
        for reservation in agent.reserved.iter().filter(|reservation| is_below(&reservation.role, other)) {
            reserved.add(&reservation.amounts);
        }
        lacking.add(&reserved.beyond(&held(agent, view, other)));
    }
    lacking
}

/// By offers and tasks there.
fn held(agent: &AgentView, view: &ClusterView, role: &str) -> Scalars {
    let id = &agent.agent.agent_id;
    let mut held = Scalars::new();
    for offer in view.offers.iter().filter(|offer| offer.state == OfferState::Outstanding) {
        if offer.offer.agent_id == *id && is_below(&offer.offer.role, role) {
            held.add(offer.offer.resources.amounts());
        }
    }
    for task in view.tasks.iter().filter(|task| task.agent_id == *id && !task.state.is_terminal()) {
        let holder = view.frameworks.iter().find(|framework| framework.framework_id == task.framework_id);
        if holder.is_some_and(|holder| is_below(&holder.role, role)) {
            held.add(task.resources.amounts());
        }
    }
    for volume in view.volumes.iter().filter(|volume| volume.agent_id == *id) {
        if is_below(&volume.volume.key.role, role) {
            held.add(&volume.volume.amounts());
        }
    }
    held
}
