//! How offers end: accepted, declined, rescinded, expired.
//!
//! Invariant: an accept does all that it says and launches all its tasks, or none of it, over any number of agents. Whatever way an offer ends, what it
//! held is used or free again in the same step.

use super::offers::{OfferNumber, Standing};
use super::operations::Plan;
use super::tasks::Task;
use super::view::OfferState;
use super::{Command, Master};
use crate::model::{
    AgentOrder, FrameworkEvent, MAX_GROUP, Operation, PRIORITIES, TaskInfo, TaskKey, check_task, is_good_id, is_sane,
};
use crate::mutants::{self, Mutant};
use crate::volumes::VolumeKey;
use jobs::{AgentId, FrameworkId, OfferId, Reason, Resources, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why an accept launches nothing.
struct Refusal {
    reason: Reason,
    message: String,
}

/// What an accept may use on each agent, and what is left of it.
pub(super) type Pools = BTreeMap<AgentId, Resources>;

impl Master {
    pub(super) fn accept(
        &mut self,
        framework_id: &FrameworkId,
        offer_ids: &[OfferId],
        operations: &[Operation],
        launch: Vec<TaskInfo>,
        refuse_ms: Option<u64>,
    ) {
        let numbers = self.standing_offers(framework_id, offer_ids);
        let checked = self.check_accept(framework_id, offer_ids, &numbers, operations, &launch);
        if !operations.is_empty() {
            let problem = checked.as_ref().err().map(|refusal| refusal.message.clone());
            self.tell(framework_id, FrameworkEvent::Operated { offer_ids: offer_ids.to_vec(), problem });
        }
        match checked {
            Ok(planned) => self.launch(framework_id, &numbers, launch, planned, refuse_ms),
            Err(refusal) => {
                if mutants::is_on(Mutant::HalfAGang) && self.launch_half(framework_id, &numbers, &launch) {
                    return;
                }
                for number in numbers {
                    self.rescind(number, OfferState::Declined);
                }
                for task in launch {
                    self.drop_task(framework_id, task, &refusal);
                }
            }
        }
    }

    /// Launches what fits into the offers that stand: a bug, on purpose.
    fn launch_half(&mut self, id: &FrameworkId, numbers: &[OfferNumber], launch: &[TaskInfo]) -> bool {
        let ids: Vec<OfferId> = numbers.iter().map(|number| self.offers.id(*number)).collect();
        let (mut half, mut left) = (Vec::new(), None);
        for task in launch {
            half.push(task.clone());
            match self.check_accept(id, &ids, numbers, &[], &half) {
                Ok(rest) => left = Some(rest),
                Err(_) => drop(half.pop()),
            }
        }
        let Some(left) = left else { return false };
        self.launch(id, numbers, half, left, None);
        true
    }

    /// Those that stand and are this framework's, each once, oldest first.
    fn standing_offers(&self, framework_id: &FrameworkId, ids: &[OfferId]) -> Vec<OfferNumber> {
        let own = self.frameworks.get(framework_id).map(|framework| framework.number);
        let mut numbers: Vec<OfferNumber> = ids.iter().filter_map(|id| self.offers.number(id)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| self.offers.get(*number).is_some_and(|offer| Some(offer.framework) == own));
        numbers
    }

    /// What would be left on each agent, and what is to be done beside launching.
    fn check_accept(
        &self,
        framework_id: &FrameworkId,
        ids: &[OfferId],
        numbers: &[OfferNumber],
        operations: &[Operation],
        launch: &[TaskInfo],
    ) -> Result<(Pools, Plan), Refusal> {
        if let Some(gone) =
            ids.iter().find(|id| self.offers.number(id).is_none_or(|n| numbers.binary_search(&n).is_err()))
        {
            let message = format!("offer {gone} does not stand: it was answered, rescinded or has expired");
            return Err(Refusal { reason: Reason::InvalidOffer, message });
        }
        if numbers.len() < ids.len() || ids.is_empty() {
            let message = if ids.is_empty() { "no offer is named" } else { "an offer is named twice" };
            return Err(Refusal { reason: Reason::InvalidOffer, message: message.into() });
        }
        let invalid = |message: String| Err(Refusal { reason: Reason::InvalidTask, message });
        let mut pools = Pools::new();
        for offer in numbers.iter().filter_map(|number| self.offers.get(*number)) {
            pools.entry(offer.agent_id.clone()).or_default().add(&offer.resources);
        }
        let role = self.frameworks.get(framework_id).map(|framework| &*framework.role).unwrap_or_default();
        let planned = self.plan_operations(role, operations, &mut pools);
        let mut plan = planned.map_err(|message| Refusal { reason: Reason::InvalidOffer, message })?;
        let mut task_ids = BTreeSet::new();
        for task in launch {
            let (id, needs) = (&task.task_id, &task.resources);
            if !is_good_id(id.as_str()) {
                return invalid(format!(
                    "'{id}' cannot be a task's id: it must be short, printable and without blanks"
                ));
            }
            if !task_ids.insert(id) || self.tasks.get(&TaskKey::new(framework_id.clone(), id.clone())).is_some() {
                return invalid(format!("a task {id} exists already"));
            }
            let Some(pool) = pools.get_mut(&task.agent_id) else {
                return invalid(format!("task {id} names agent '{}', which none of the offers is of", task.agent_id));
            };
            if !PRIORITIES.contains(&task.priority) || task.group.len() > MAX_GROUP {
                return invalid(format!(
                    "task {id} has priority {}, and a group of {} bytes: priorities go from {} to {}, and a group's name \
                     has {MAX_GROUP} bytes at most",
                    task.priority,
                    task.group.len(),
                    PRIORITIES.start(),
                    PRIORITIES.end()
                ));
            }
            if !is_sane(needs) || !pool.contains(needs) {
                return invalid(format!(
                    "task {id} needs {needs}, and {pool} of agent {} is left to it",
                    task.agent_id
                ));
            }
            if !needs.has_the_gpus_it_counts() {
                return invalid(format!("task {id} needs {needs} and does not name as many GPUs of the offer"));
            }
            if let Err(problem) = check_task(task) {
                return invalid(format!("task {id}: {problem}"));
            }
            pool.subtract(needs);
            self.plan_claims(&mut plan, role, task, pool)
                .map_err(|message| Refusal { reason: Reason::InvalidTask, message })?;
        }
        Ok((pools, plan))
    }

    fn launch(
        &mut self,
        framework_id: &FrameworkId,
        numbers: &[OfferNumber],
        launch: Vec<TaskInfo>,
        (left, plan): (Pools, Plan),
        refuse_ms: Option<u64>,
    ) {
        let mut of_agent: BTreeMap<&AgentId, Vec<TaskId>> = BTreeMap::new();
        for task in &launch {
            of_agent.entry(&task.agent_id).or_default().push(task.task_id.clone());
        }
        let mut first_offer: BTreeMap<AgentId, OfferId> = BTreeMap::new();
        for number in numbers {
            let Some(agent_id) = self.offers.get(*number).map(|offer| offer.agent_id.clone()) else { continue };
            // Several offers of one agent are one pool; its tasks are shown with the first.
            let task_ids = of_agent.remove(&agent_id).unwrap_or_default();
            first_offer.entry(agent_id).or_insert_with(|| self.offers.id(*number));
            self.end_offer(*number, OfferState::Accepted, task_ids);
        }
        self.carry_out(framework_id, plan);
        let framework = self.frameworks.known(framework_id);
        let (framework, role) = (framework.number, Arc::clone(&framework.role));
        for (agent_id, left) in left {
            let agent = self.agents.known(&agent_id).number();
            self.return_to_pool(framework, agent, &left);
            let refuse_ms = refuse_ms.unwrap_or(self.config.default_refuse_ms);
            self.filters.refuse(framework, agent, &left, self.now_ms, refuse_ms);
        }
        let mut launched = Vec::with_capacity(launch.len());
        for mut info in launch {
            let agent_id = info.agent_id.clone();
            let key = TaskKey::new(framework_id.clone(), info.task_id.clone());
            let is_of_role = !info.volumes.is_empty() || !info.secrets.is_empty();
            info.role = if is_of_role { role.to_string() } else { String::new() };
            for claim in &info.volumes {
                self.volumes.set_user(&agent_id, &VolumeKey::of(claim, &role), Some(key.clone()));
            }
            self.agents.books(&agent_id, |ledger| ledger.launch(&info.resources));
            let agent = self.agents.known(&agent_id);
            agent.tasks.insert(key.clone());
            let offer_id = first_offer.get(&agent_id).cloned().unwrap_or_default();
            let connection = agent.connection;
            self.add_task(key, Task::launched(&info, offer_id, self.now_ms));
            self.frameworks.count_running(framework_id, info.priority, 1);
            self.counts.tasks_launched += 1;
            launched.push((info.resources.clone(), info.volumes.clone()));
            if let Some(connection) = connection {
                let order = AgentOrder::Launch { framework_id: framework_id.clone(), task: Box::new(info) };
                self.out.push(Command::ToAgent { connection, order });
            }
        }
        self.count_as_met(framework_id, &launched);
    }

    /// Answers a task that an accept could not launch. One that exists already is not dropped by asking again, so it
    /// is answered with its state.
    fn drop_task(&mut self, framework_id: &FrameworkId, task: TaskInfo, refusal: &Refusal) {
        let key = TaskKey::new(framework_id.clone(), task.task_id);
        if self.tasks.get(&key).is_some() {
            return self.tell_state(&key, refusal.reason, refusal.message.clone());
        }
        let (state, message) = (TaskState::Dropped, refusal.message.clone());
        *self.counts.tasks_ended.entry(state).or_default() += 1;
        let status = self.own_status(key.task_id, task.agent_id, state, refusal.reason, message);
        self.tell(framework_id, FrameworkEvent::Update(status));
    }

    pub(super) fn decline(&mut self, framework_id: &FrameworkId, ids: &[OfferId], refuse_ms: Option<u64>) {
        for number in self.standing_offers(framework_id, ids) {
            let was = self.take_back(number, OfferState::Declined);
            let refuse_ms = refuse_ms.unwrap_or(self.config.default_refuse_ms);
            self.offers.refused(number, refuse_ms);
            self.filters.refuse(was.framework, was.agent, &was.resources, self.now_ms, refuse_ms);
        }
    }

    /// Nobody answered. Offered again at once it would be ignored again, while others wait: the same time passes first.
    pub(super) fn expire(&mut self, number: OfferNumber) {
        let was = self.take_back(number, OfferState::Expired);
        self.tell(&was.framework_id, FrameworkEvent::Rescind { offer_id: self.offers.id(number) });
        self.offers.refused(number, self.config.offer_expiry_ms);
        self.filters.refuse(was.framework, was.agent, &was.resources, self.now_ms, self.config.offer_expiry_ms);
    }

    /// Takes an offer back for reasons that are not its framework's, which may be offered the same again at once.
    pub(super) fn rescind(&mut self, number: OfferNumber, state: OfferState) {
        let was = self.take_back(number, state);
        if state == OfferState::Rescinded {
            self.tell(&was.framework_id, FrameworkEvent::Rescind { offer_id: self.offers.id(number) });
        }
    }

    fn take_back(&mut self, number: OfferNumber, state: OfferState) -> Arc<Standing> {
        let was = self.end_offer(number, state, Vec::new());
        self.return_to_pool(was.framework, was.agent, &was.resources);
        was
    }

    fn return_to_pool(&mut self, framework: u32, agent: u32, resources: &Resources) {
        self.agents.books_numbered(agent, |ledger| ledger.take_back(resources));
        self.agents.touch_numbered(agent);
        self.frameworks.discharge_numbered(framework, resources);
        // What it holds no longer meets what it wants.
        let framework = self.frameworks.known_numbered(framework);
        if framework.demands.is_some() {
            self.dirty.frameworks.insert(framework.id.clone());
        }
    }

    fn end_offer(&mut self, number: OfferNumber, state: OfferState, task_ids: Vec<TaskId>) -> Arc<Standing> {
        let was = self.offers.end(number, state, task_ids);
        self.agents.known_numbered(was.agent).offers.retain(|other| *other != number);
        self.frameworks.known_numbered(was.framework).offers.remove(&number);
        self.frameworks.touch_wish_numbered(was.framework);
        was
    }
}
