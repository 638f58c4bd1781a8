//! The view of the cluster for people and tools, and its numbers for those who watch over it.

use super::Master;
use super::agents::Agent;
use super::frameworks::Framework;
use super::offers::{OfferNumber, Standing};
use super::reserved::Unfilled;
use super::tasks::Task;
use super::view::{
    AgentState, AgentView, ClusterView, Counts, FrameworkSummary, FrameworkView, OfferState, OfferView, RoleView,
    Summary, TaskView,
};
use crate::model::Offer;
use jobs::{Scalars, TaskState};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Master {
    pub fn view(&self, now_ms: u64) -> ClusterView {
        let now_ms = now_ms.max(self.now_ms);
        ClusterView {
            leader_epoch: self.leader_epoch,
            agents: self.agent_views(now_ms),
            frameworks: self.framework_views(now_ms),
            offers: self.offer_views(now_ms),
            tasks: self.task_views(now_ms),
            roles: self.role_views(),
            volumes: self.volumes.views(),
        }
    }

    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            leader_epoch: self.leader_epoch,
            agents: BTreeMap::new(),
            total: Scalars::new(),
            offered: Scalars::new(),
            used: Scalars::new(),
            tasks: BTreeMap::new(),
            frameworks: self.frameworks.iter().map(|framework| self.framework_summary(framework)).collect(),
            roles: self.role_views(),
            offers_outstanding: self.offers.standing().count() as u64,
            refusals: self.n_refusals() as u64,
            counts: Counts { offers_made: self.offers.counts().0, ..self.counts.clone() },
        };
        summary.counts.offers_ended = self.offers.counts().1.clone();
        for agent in self.agents.iter() {
            *summary.agents.entry(agent.shown_state()).or_default() += 1;
            summary.total.add(agent.ledger.total().amounts());
            summary.offered.add(agent.ledger.offered().amounts());
            summary.used.add(agent.ledger.used().amounts());
        }
        for (_, task) in self.tasks.iter() {
            *summary.tasks.entry(self.state_of(task)).or_default() += 1;
        }
        summary
    }

    fn framework_summary(&self, framework: &Framework) -> FrameworkSummary {
        let demands = framework.demands.iter().flatten();
        FrameworkSummary {
            framework_id: framework.id.clone(),
            name: framework.name.clone(),
            role: framework.role.to_string(),
            connected: framework.connection.is_some(),
            dominant_share: self.frameworks.roles.share(&framework.charged, 1.0).0,
            wanted: demands.map(|demand| u64::from(demand.count)).sum(),
        }
    }

    fn agent_views(&self, now_ms: u64) -> Vec<AgentView> {
        let agents = self.agents.iter();
        let view = |agent: &Agent| AgentView {
            agent: agent.info.clone(),
            state: agent.shown_state(),
            free: agent.ledger.free().clone(),
            offered: agent.ledger.offered().clone(),
            used: agent.ledger.used().clone(),
            reserved: self.reserved.by_operators(&agent.info.agent_id).to_vec(),
            unfilled: self
                .reserved
                .on(&agent.info.agent_id)
                .into_iter()
                .flat_map(Unfilled::iter)
                .map(|(role, amounts)| (role.to_string(), amounts.clone()))
                .collect(),
            heard_ms_ago: now_ms - agent.heard_ms,
            drain: self.drain_of(&agent.info.agent_id),
        };
        agents.map(view).collect()
    }

    fn framework_views(&self, now_ms: u64) -> Vec<FrameworkView> {
        let view = |framework: &Framework| {
            let demands = framework.demands.clone().unwrap_or_default();
            FrameworkView {
                framework_id: framework.id.clone(),
                name: framework.name.clone(),
                role: framework.role.to_string(),
                connected: framework.connection.is_some(),
                suppressed: framework.suppressed,
                dominant_share: self.frameworks.roles.share(&framework.charged, 1.0).0,
                waiting: demands.iter().map(|demand| self.explain(framework, demand, now_ms)).collect(),
                demands,
            }
        };
        self.frameworks.iter().map(view).collect()
    }

    fn role_views(&self) -> Vec<RoleView> {
        let roles = &self.frameworks.roles;
        let view = |role: &super::roles::Role| RoleView {
            role: role.name.clone(),
            weight: role.terms.weight,
            dominant_share: roles.share(&role.charged, 1.0).0,
            held: role.charged.clone(),
            guarantee: role.terms.guarantee.clone(),
            limit: role.terms.limit.clone(),
            n_frameworks: role.n_frameworks,
        };
        roles.iter().map(view).collect()
    }

    fn offer_views(&self, now_ms: u64) -> Vec<OfferView> {
        let standing = self.offers.standing().map(|(number, offer)| OfferView {
            offer: self.shown(number, offer, offer.expires_ms.saturating_sub(now_ms)),
            framework_id: offer.framework_id.clone(),
            state: OfferState::Outstanding,
            made_ms_ago: now_ms - offer.made_ms,
            task_ids: Vec::new(),
            refused_ms: None,
        });
        let ended = self.offers.ended().map(|ended| OfferView {
            offer: self.shown(ended.number, &ended.was, 0),
            framework_id: ended.was.framework_id.clone(),
            state: ended.state,
            made_ms_ago: now_ms - ended.was.made_ms,
            task_ids: ended.task_ids.clone(),
            refused_ms: ended.refused_ms,
        });
        standing.chain(ended).collect()
    }

    fn shown(&self, number: OfferNumber, offer: &Standing, expires_in_ms: u64) -> Offer {
        let agent = self.agents.get(&offer.agent_id);
        Offer {
            offer_id: self.offers.id(number),
            agent_id: offer.agent_id.clone(),
            host: agent.map(|agent| Arc::clone(&agent.host)).unwrap_or_default(),
            role: Arc::clone(&offer.role),
            resources: offer.resources.clone(),
            attributes: agent.map(|agent| Arc::clone(&agent.attributes)).unwrap_or_default(),
            expires_in_ms,
            drains_in_ms: self.drains_in_ms(&offer.agent_id),
            volumes: Vec::new(),
        }
    }

    fn task_views(&self, now_ms: u64) -> Vec<TaskView> {
        self.tasks.iter().map(|(key, task)| task.view(key, self.state_of(task), now_ms)).collect()
    }

    fn state_of(&self, task: &Task) -> TaskState {
        let agent = || self.agents.get(&task.agent_id);
        match task.latest.is_terminal() || agent().is_none_or(|agent| agent.state != AgentState::Unreachable) {
            true => task.latest,
            false => TaskState::Unreachable,
        }
    }
}
