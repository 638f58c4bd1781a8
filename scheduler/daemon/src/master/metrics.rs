//! The cluster in numbers, for Prometheus.

use crate::metrics::Family;
use scheduler::master::{AgentState, OfferState, Summary};
use std::time::Duration;

/// What the owner's turns cost since it began, and who watches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    pub n: u64,
    pub busy: Duration,
    pub n_watchers: u64,
    /// Since it began.
    pub n_cut_off: u64,
}

const AGENT_STATES: [AgentState; 5] =
    [AgentState::Active, AgentState::Draining, AgentState::Drained, AgentState::Disconnected, AgentState::Unreachable];
const OFFER_ENDS: [OfferState; 4] =
    [OfferState::Accepted, OfferState::Declined, OfferState::Rescinded, OfferState::Expired];

pub(super) fn families(summary: &Summary, turns: Turns) -> Vec<Family> {
    let mut families = vec![
        Family::gauge("smack_leader_epoch", "Rises with each master of the cluster.").of(summary.leader_epoch as f64),
        Family::counter("smack_master_turns_total", "Turns of the master's one loop.").of(turns.n as f64),
        Family::counter("smack_master_busy_seconds_total", "Time in these turns, writing to the registry included.")
            .of(turns.busy.as_secs_f64()),
        Family::gauge("smack_watchers", "Those who are told of every change.").of(turns.n_watchers as f64),
        Family::counter("smack_watchers_cut_off_total", "Those among them who did not take it away.")
            .of(turns.n_cut_off as f64),
    ];
    families.extend(of_agents(summary));
    families.extend(of_offers(summary));
    families.extend(of_tasks(summary));
    families.extend(of_frameworks(summary));
    families.extend(of_roles(summary));
    families
}

fn of_agents(summary: &Summary) -> Vec<Family> {
    let mut agents = Family::gauge("smack_agents", "Agents by state.");
    for state in AGENT_STATES {
        agents.add(&[("state", state.as_str())], summary.agents.get(&state).copied().unwrap_or(0) as f64);
    }
    let mut resources = Family::gauge(
        "smack_cluster_resource",
        "Over all agents, in units, mem and disk in MiB: total, offered, used.",
    );
    for (kind, amounts) in [("total", &summary.total), ("offered", &summary.offered), ("used", &summary.used)] {
        for (name, _) in summary.total.iter() {
            resources.add(&[("resource", name), ("kind", kind)], units(amounts.get(name)));
        }
    }
    vec![agents, resources]
}

fn of_offers(summary: &Summary) -> Vec<Family> {
    let mut ended = Family::counter("smack_offers_ended_total", "Offers that are over, by what became of them.");
    for state in OFFER_ENDS {
        let n = summary.counts.offers_ended.get(&state).copied().unwrap_or(0);
        ended.add(&[("outcome", state.as_str())], n as f64);
    }
    vec![
        Family::counter("smack_offers_made_total", "Offers that were made.").of(summary.counts.offers_made as f64),
        ended,
        Family::gauge("smack_offers_outstanding", "Offers that nobody has answered.")
            .of(summary.offers_outstanding as f64),
        Family::gauge("smack_offer_refusals", "Refusals of frameworks that are in force.").of(summary.refusals as f64),
    ]
}

fn of_tasks(summary: &Summary) -> Vec<Family> {
    let mut tasks = Family::gauge("smack_cluster_tasks", "Tasks that the master knows, by state.");
    for state in jobs::TaskState::ALL {
        tasks.add(&[("state", state.as_str())], summary.tasks.get(&state).copied().unwrap_or(0) as f64);
    }
    let mut ended = Family::counter("smack_tasks_ended_total", "Tasks that are over, by how they ended.");
    for state in jobs::TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        let n = summary.counts.tasks_ended.get(&state).copied().unwrap_or(0);
        ended.add(&[("state", state.as_str())], n as f64);
    }
    let launched = summary.counts.tasks_launched as f64;
    let preempted = summary.counts.tasks_preempted as f64;
    vec![
        tasks,
        Family::counter("smack_tasks_launched_total", "Tasks that were launched on offers.").of(launched),
        Family::counter("smack_tasks_preempted_total", "Tasks that were told to leave for others.").of(preempted),
        ended,
    ]
}

fn of_frameworks(summary: &Summary) -> Vec<Family> {
    let mut connected = Family::gauge("smack_framework_connected", "Whether a framework is there.");
    let mut shares = Family::gauge("smack_framework_dominant_share", "Of what a framework holds, 0 to 1.");
    let mut wanted = Family::gauge("smack_framework_tasks_wanted", "Tasks that a framework asks room for.");
    for framework in &summary.frameworks {
        let labels = [
            ("framework", framework.name.as_str()),
            ("id", framework.framework_id.as_str()),
            ("role", framework.role.as_str()),
        ];
        connected.add(&labels, f64::from(u8::from(framework.connected)));
        shares.add(&labels, framework.dominant_share);
        wanted.add(&labels, framework.wanted as f64);
    }
    vec![connected, shares, wanted]
}

fn of_roles(summary: &Summary) -> Vec<Family> {
    let mut weights = Family::gauge("smack_role_weight", "Compared with the roles beside it.");
    let mut shares = Family::gauge("smack_role_dominant_share", "Of what a role and those below it hold, 0 to 1.");
    let mut held = Family::gauge("smack_role_held", "By a role and those below it, offered or used.");
    let mut guarantees = Family::gauge("smack_role_guarantee", "What is kept free for a role.");
    let mut limits = Family::gauge("smack_role_limit", "What a role never gets more than.");
    for role in &summary.roles {
        let name = ("role", role.role.as_str());
        weights.add(&[name], role.weight);
        shares.add(&[name], role.dominant_share);
        for (resource, milli) in role.held.iter() {
            held.add(&[name, ("resource", resource)], units(milli));
        }
        for (resource, milli) in role.guarantee.iter() {
            guarantees.add(&[name, ("resource", resource)], units(milli));
        }
        for (resource, milli) in &role.limit {
            limits.add(&[name, ("resource", resource)], units(*milli));
        }
    }
    vec![weights, shares, held, guarantees, limits]
}

/// Of thousandths.
fn units(milli: i64) -> f64 {
    milli as f64 / 1000.0
}
