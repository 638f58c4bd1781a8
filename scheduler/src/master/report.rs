//! The view of the cluster for people and tools.

use super::Master;
use super::offers::{OfferNumber, Standing};
use super::view::{AgentState, AgentView, ClusterView, FrameworkView, OfferState, OfferView, RoleView, TaskView};
use crate::model::Offer;
use jobs::TaskState;

impl Master {
    pub fn view(&self, now_ms: u64) -> ClusterView {
        let now_ms = now_ms.max(self.now_ms);
        ClusterView {
            leader_epoch: self.leader_epoch,
            agents: self.agent_views(now_ms),
            frameworks: self.framework_views(now_ms),
            offers: self.offer_views(now_ms),
            tasks: self.task_views(),
            roles: self.role_views(),
        }
    }

    fn agent_views(&self, now_ms: u64) -> Vec<AgentView> {
        let agents = self.agents.by_id.values();
        let view = |agent: &super::agents::Agent| AgentView {
            agent: agent.info.clone(),
            state: match agent.state {
                AgentState::Draining if agent.ledger.used().is_empty() => AgentState::Drained,
                state => state,
            },
            free: agent.ledger.free().clone(),
            offered: agent.ledger.offered().clone(),
            used: agent.ledger.used().clone(),
            heard_ms_ago: now_ms - agent.heard_ms,
        };
        agents.map(view).collect()
    }

    fn framework_views(&self, now_ms: u64) -> Vec<FrameworkView> {
        let view = |framework: &super::frameworks::Framework| {
            let demands = framework.demands.clone().unwrap_or_default();
            FrameworkView {
                framework_id: framework.id.clone(),
                name: framework.name.clone(),
                role: framework.role.clone(),
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
        });
        let ended = self.offers.ended().map(|ended| OfferView {
            offer: self.shown(ended.number, &ended.was, 0),
            framework_id: ended.was.framework_id.clone(),
            state: ended.state,
            made_ms_ago: now_ms - ended.was.made_ms,
            task_ids: ended.task_ids.clone(),
        });
        standing.chain(ended).collect()
    }

    fn shown(&self, number: OfferNumber, offer: &Standing, expires_in_ms: u64) -> Offer {
        let info = self.agents.get(&offer.agent_id).map(|agent| &agent.info);
        Offer {
            offer_id: self.offers.id(number),
            agent_id: offer.agent_id.clone(),
            host: info.map(|info| info.host.clone()).unwrap_or_default(),
            role: offer.role.clone(),
            resources: offer.resources.clone(),
            attributes: info.map(|info| info.attributes.clone()).unwrap_or_default(),
            expires_in_ms,
        }
    }

    fn task_views(&self) -> Vec<TaskView> {
        let is_unreachable = |id| self.agents.get(id).is_some_and(|agent| agent.state == AgentState::Unreachable);
        let tasks = self.tasks.iter().map(|(key, task)| TaskView {
            task_id: key.task_id.clone(),
            name: task.name.clone(),
            framework_id: key.framework_id.clone(),
            agent_id: task.agent_id.clone(),
            offer_id: task.offer_id.clone(),
            state: match task.latest.is_terminal() || !is_unreachable(&task.agent_id) {
                true => task.latest,
                false => TaskState::Unreachable,
            },
            resources: task.resources.clone(),
        });
        tasks.collect()
    }
}
