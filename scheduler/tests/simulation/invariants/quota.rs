//! Nobody is offered what would bring its role, or one above it, over its limit.

use jobs::{AgentId, FrameworkId, Scalars};
use scheduler::master::{AgentState, ClusterView, Command, OfferState};
use scheduler::model::FrameworkEvent;

/// `commands`: what the master just said; `view`: what it knows after that.
pub fn check(commands: &[Command], view: &ClusterView) {
    for command in commands {
        let Command::ToFramework { event: FrameworkEvent::Offer(offer), .. } = command else { continue };
        for role in view.roles.iter().filter(|role| is_at_or_below(&offer.role, &role.role)) {
            let held = held(view, &role.role);
            for (name, limit) in &role.limit {
                assert!(
                    offer.resources.milli(name) == 0 || held.get(name) <= *limit,
                    "{} was offered to role {}, and {} then held {} of its limit of {limit} {name}",
                    offer.resources,
                    offer.role,
                    role.role,
                    held.get(name)
                );
            }
        }
    }
}

fn is_at_or_below(role: &str, above: &str) -> bool {
    role == above || role.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// By its offers and its tasks, where they count.
fn held(view: &ClusterView, role: &str) -> Scalars {
    let mut held = Scalars::new();
    let of_role =
        |id: &FrameworkId| view.frameworks.iter().any(|f| f.framework_id == *id && is_at_or_below(&f.role, role));
    for offer in view.offers.iter().filter(|offer| offer.state == OfferState::Outstanding) {
        if of_role(&offer.framework_id) {
            held.add(offer.offer.resources.amounts());
        }
    }
    let is_away =
        |id: &AgentId| view.agents.iter().any(|a| a.agent.agent_id == *id && a.state == AgentState::Unreachable);
    for task in view.tasks.iter().filter(|task| !task.state.is_terminal() && !is_away(&task.agent_id)) {
        if of_role(&task.framework_id) {
            held.add(task.resources.amounts());
        }
    }
    for volume in view.volumes.iter().filter(|volume| !is_away(&volume.agent_id)) {
        if is_at_or_below(&volume.volume.key.role, role) {
            held.add(&volume.volume.amounts());
        }
    }
    held
}
