//! A small framework: takes the first offer, acknowledges every update, remembers what it was told.

use crate::world::PATIENCE;
use daemon::client::{self, ClientError, FrameworkClient, Subscription};
use daemon::convert;
use daemon::door::Token;
use jobs::{Resources, TaskState};
use scheduler::model::TaskStatus;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use wire::v1;
use wire::v1::framework_call::Call;
use wire::v1::framework_event::Event;

#[derive(Debug)]
pub struct Framework {
    pub id: String,
    subscription: Subscription,
    offers: Vec<v1::Offer>,
    heard: Vec<TaskStatus>,
    pub drains: Vec<v1::AgentDrains>,
    /// Where the volumes are that it demanded.
    pub homes: std::collections::BTreeMap<String, String>,
    /// Offers of other agents are declined.
    pub only_on: Option<String>,
    /// Of the agent that was launched on last.
    pub attributes: std::collections::BTreeMap<String, String>,
}

pub fn resources(cpus: f64) -> v1::Resources {
    convert::resources_to(&Resources::new().cpus(cpus).mem_mib(16.0))
}

/// A task that runs a shell script.
pub fn shell(task_id: &str, script: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        task_id: task_id.into(),
        name: format!("test {task_id}"),
        resources: Some(resources(0.5)),
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        kill_grace_ms: 1_000,
        ..Default::default()
    }
}

/// Opens a framework's stream, says one thing, and gives back how the stream ended.
pub async fn say_raw(address: SocketAddr, calls: v1::FrameworkCalls) -> tonic::Status {
    let mut master = client::master(&address.to_string(), None).await.expect("connects");
    // The stream stays open on this side, so that it is the master who ends it.
    let calls = tokio_stream::StreamExt::chain(tokio_stream::once(calls), tokio_stream::pending());
    let mut events = master.framework(calls).await.expect("a stream").into_inner();
    loop {
        match timeout(PATIENCE, events.message()).await.expect("the master ends the stream") {
            Ok(Some(_)) => {}
            Ok(None) => return tonic::Status::ok("ended"),
            Err(status) => return status,
        }
    }
}

impl Framework {
    pub async fn try_subscribe(
        address: SocketAddr,
        id: Option<String>,
        token: Option<Token>,
    ) -> Result<Self, ClientError> {
        let subscribe = v1::Subscribe {
            framework_id: id.unwrap_or_default(),
            name: "test".into(),
            role: "test".into(),
            failover_timeout_ms: 600_000,
            constraints: Vec::new(),
        };
        let subscription = FrameworkClient::subscribe(&address.to_string(), token, subscribe).await?;
        let id = subscription.subscribed.framework_id.clone();
        Ok(Self {
            id,
            subscription,
            offers: Vec::new(),
            heard: Vec::new(),
            drains: Vec::new(),
            homes: Default::default(),
            only_on: None,
            attributes: Default::default(),
        })
    }

    /// Tries until it succeeds.
    pub async fn subscribe(address: SocketAddr, id: Option<String>, token: Option<Token>) -> Self {
        let begun = Instant::now();
        loop {
            match timeout(PATIENCE, Self::try_subscribe(address, id.clone(), token.clone())).await {
                Ok(Ok(framework)) => return framework,
                Ok(Err(error)) if error.is_temporary() && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => panic!("the master does not answer"),
            }
        }
    }

    pub async fn send(&self, call: Call) {
        self.subscription.client.send(vec![call]).await.expect("the stream is open");
    }

    /// Hears one event; acknowledges it if it is an update.
    async fn hear(&mut self, waiting_for: &str) {
        let heard = timeout(PATIENCE, self.subscription.events.next()).await;
        let event = heard.unwrap_or_else(|_| panic!("waited in vain for {waiting_for}; heard {:?}", self.heard));
        match event.unwrap_or_else(|error| panic!("waiting for {waiting_for}: {error}")) {
            Event::Offer(offer) if self.only_on.as_ref().is_some_and(|agent| *agent != offer.agent_id) => {
                let (offer_ids, refuse_ms) = (vec![offer.offer_id], None);
                self.send(Call::Decline(v1::DeclineOffers { offer_ids, refuse_ms })).await;
            }
            Event::Offer(offer) => self.offers.push(offer),
            Event::Rescind(rescind) => self.offers.retain(|offer| offer.offer_id != rescind.offer_id),
            Event::Update(update) => {
                let status = convert::task_status_from(update).expect("a status");
                if let Some(uuid) = &status.uuid {
                    self.send(Call::Acknowledge(v1::AcknowledgeUpdate {
                        framework_id: self.id.clone(),
                        agent_id: status.agent_id.to_string(),
                        task_id: status.task_id.to_string(),
                        uuid: uuid.clone(),
                    }))
                    .await;
                }
                self.heard.push(status);
            }
            Event::Error(error) => panic!("the master says: {}", error.message),
            Event::Drains(drains) => self.drains.push(drains),
            Event::VolumesAt(volumes) => self.homes = volumes.homes,
            Event::Subscribed(_)
            | Event::Heartbeat(_)
            | Event::Preempted(_)
            | Event::Expired(_)
            | Event::Operated(_) => {}
        }
    }

    /// Hears everything until the stream ends, without acknowledging any of it.
    pub async fn until_ended(&mut self) {
        while timeout(PATIENCE, self.subscription.events.next()).await.expect("the stream ends").is_ok() {}
    }

    /// An agent on which it has tasks is to be empty.
    pub async fn until_drains(&mut self) -> v1::AgentDrains {
        while self.drains.is_empty() {
            self.hear("a drain").await;
        }
        self.drains.remove(0)
    }

    /// Whether it holds an offer now.
    pub fn has_offer(&self) -> bool {
        !self.offers.is_empty()
    }

    pub async fn until_offered(&mut self) {
        while self.offers.is_empty() {
            self.hear("an offer").await;
        }
    }

    /// Launches all of them on the first offer.
    pub async fn launch(&mut self, tasks: Vec<v1::TaskInfo>) {
        while self.offers.is_empty() {
            self.hear("an offer").await;
        }
        let offer = self.offers.remove(0);
        self.attributes.clone_from(&offer.attributes);
        let launch = tasks.into_iter().map(|task| v1::TaskInfo { agent_id: offer.agent_id.clone(), ..task }).collect();
        self.send(Call::Accept(v1::AcceptOffers {
            offer_ids: vec![offer.offer_id],
            launch,
            refuse_ms: Some(0),
            operations: vec![],
        }))
        .await;
    }

    pub async fn kill(&mut self, task: &str, grace_ms: u64) {
        let kill = v1::KillTask { framework_id: self.id.clone(), task_id: task.into(), grace_ms: Some(grace_ms) };
        self.send(Call::Kill(kill)).await;
    }

    fn last(&self, task: &str) -> Option<&TaskStatus> {
        self.heard.iter().rev().find(|status| status.task_id.as_str() == task)
    }

    /// The states of a task in the order heard, each once: an update that was sent again counts once.
    pub fn states(&self, task: &str) -> Vec<TaskState> {
        let mut states: Vec<_> =
            self.heard.iter().filter(|status| status.task_id.as_str() == task).map(|status| status.state).collect();
        states.dedup();
        states
    }

    pub async fn until(&mut self, task: &str, state: TaskState) {
        while self.last(task).is_none_or(|status| status.state != state) {
            assert!(self.last(task).is_none_or(|status| !status.state.is_terminal()), "{:?}", self.last(task));
            self.hear(&format!("{task} to be {state}")).await;
        }
    }

    pub async fn until_over(&mut self, task: &str) -> TaskStatus {
        loop {
            match self.last(task) {
                Some(status) if status.state.is_terminal() => return status.clone(),
                _ => self.hear(&format!("the end of {task}")).await,
            }
        }
    }

    /// Asks for the state until it is `state`: a new master does not know a task before its agent is back.
    pub async fn reconcile_until(&mut self, task: &str, state: TaskState) {
        while self.last(task).is_none_or(|status| status.state != state) {
            self.send(Call::Reconcile(v1::Reconcile { task_ids: vec![task.into()] })).await;
            self.hear(&format!("{task} to be {state}")).await;
        }
    }
}
