//! A framework's line to the master: subscribes, keeps subscribed, carries calls out and events in.
//!
//! Invariant: calls made while the line is down are dropped. That is sound because a new subscription begins with
//! reconciliation: what was not launched is answered with `unknown`, and demand is posted again. So a line that cannot take
//! a call in is given up, and another begun.

use super::convert;
use super::owner::{Owner, chain, now_ms};
use crate::book::{Demand, Event, Framework, Launch, Status};
use daemon::client::{self, ClientError, FrameworkClient, Subscription};
use daemon::door::Token;
use futures::FutureExt;
use jobs::{FrameworkId, OfferId, TaskId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tonic::Code;
use wire::v1;
use wire::v1::framework_call::Call;
use wire::v1::framework_event::Event as Wire;

/// Calls that wait for the line. One decision of the book makes a handful, and each update of a task one; when the line
/// cannot take this many it is as good as down.
const CALLS_MAX: usize = 16_384;
/// Calls that go out in one message.
const AT_ONCE: usize = 512;

/// How long the master keeps our tasks while no runner is there.
const FAILOVER_TIMEOUT_MS: u64 = 24 * 3600 * 1000;

/// The sending end.
pub struct Link {
    sender: mpsc::Sender<Call>,
    /// A call was dropped.
    overflowed: Arc<Notify>,
}

impl Link {
    pub fn demand(&self, demands: Vec<Demand>) {
        let demands = demands.into_iter().map(convert::demand_to_wire).collect();
        self.call(Call::Demand(v1::PostDemand { demands }));
    }

    pub fn accept(&self, offers: Vec<OfferId>, launch: Vec<Launch>, token_file: Option<&Path>) {
        let token_file = token_file.map(|path| path.display().to_string());
        let launch: Result<Vec<v1::TaskInfo>, _> =
            launch.into_iter().map(|launch| convert::launch_to_wire(launch, token_file.as_deref())).collect();
        match launch {
            Ok(launch) => self.call(Call::Accept(v1::AcceptOffers {
                offer_ids: offers.iter().map(OfferId::to_string).collect(),
                launch,
                refuse_ms: Some(0),
                operations: Vec::new(),
            })),
            Err(error) => tracing::error!(%error, "a task plan cannot be written down"),
        }
    }

    pub fn decline(&self, offers: Vec<OfferId>, refuse_ms: u64) {
        self.call(Call::Decline(v1::DeclineOffers {
            offer_ids: offers.iter().map(OfferId::to_string).collect(),
            refuse_ms: Some(refuse_ms),
        }));
    }

    pub fn acknowledge(&self, status: Status) {
        self.call(Call::Acknowledge(v1::AcknowledgeUpdate {
            framework_id: String::new(),
            agent_id: status.agent.to_string(),
            task_id: status.task.to_string(),
            uuid: status.uuid,
        }));
    }

    pub fn kill(&self, task: TaskId, grace_ms: u64) {
        self.call(Call::Kill(v1::KillTask {
            framework_id: String::new(),
            task_id: task.to_string(),
            grace_ms: Some(grace_ms),
        }));
    }

    /// Asks for these by name, so that one that nobody knows is answered too, and for all that the master knows, so that
    /// one that we do not want is found.
    pub fn reconcile(&self, tasks: Vec<TaskId>) {
        if !tasks.is_empty() {
            let task_ids = tasks.iter().map(TaskId::to_string).collect();
            self.call(Call::Reconcile(v1::Reconcile { task_ids }));
        }
        self.call(Call::Reconcile(v1::Reconcile { task_ids: Vec::new() }));
    }

    fn call(&self, call: Call) {
        if self.sender.try_send(call).is_err() {
            self.overflowed.notify_one();
        }
    }
}

/// Why an operator's call came to nothing.
pub enum OperateError {
    /// The master heard it and said no.
    Refused(String),
    Unanswered(String),
}

/// Where the master is and how to come in.
#[derive(Clone)]
pub struct Master {
    /// `host:port`.
    pub address: String,
    pub token: Option<Token>,
}

impl Master {
    pub async fn state(&self) -> Result<v1::StateResponse, String> {
        let mut client = client::master(&self.address, self.token.clone()).await.map_err(|error| chain(&error))?;
        match client.state(v1::StateRequest {}).await {
            Ok(state) => Ok(state.into_inner()),
            Err(status) => Err(format!("ask the master at {}: {}", self.address, status.message())),
        }
    }

    /// Asks for a quota or a weight; answers what was put up with.
    pub async fn operate(&self, call: v1::operate_request::Call) -> Result<Vec<String>, OperateError> {
        let client = client::master(&self.address, self.token.clone()).await;
        let mut client = client.map_err(|error| OperateError::Unanswered(chain(&error)))?;
        let request = v1::OperateRequest { protocol_version: wire::PROTOCOL_VERSION, call: Some(call) };
        match client.operate(request).await {
            Ok(answer) => Ok(answer.into_inner().warnings),
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument) => {
                Err(OperateError::Refused(status.message().to_string()))
            }
            Err(status) => {
                let problem = format!("ask the master at {}: {}", self.address, status.message());
                Err(OperateError::Unanswered(problem))
            }
        }
    }
}

/// Starts the line; it lives as long as the process.
pub fn start(framework: Framework, id: Option<FrameworkId>, master: Master, owner: Owner) -> Link {
    let (sender, mut calls) = mpsc::channel(CALLS_MAX);
    let overflowed = Arc::new(Notify::new());
    let link = Link { sender, overflowed: Arc::clone(&overflowed) };
    tokio::spawn(async move {
        let mut id = id;
        let mut backoff = client::Backoff::default();
        let mut told = false;
        loop {
            let before = id.clone();
            let error = subscribed(&framework, &mut id, &master, &owner, (&mut calls, &overflowed)).await;
            if id != before {
                backoff.reset();
                told = false;
            }
            if !std::mem::replace(&mut told, true) {
                let (name, role) = (framework.name(), &*framework.role);
                tracing::warn!(framework = name, role, error = chain(&error), "not subscribed; trying again");
            }
            if has_ended(&error) {
                // The master kept its tasks for as long as it was told to. The book finds them gone and begins again.
                id = None;
            }
            owner.tell(Event::Disconnected { framework: framework.clone() }).await;
            backoff.wait().await;
        }
    });
    link
}

/// Whether the master says that there is no such framework any more.
fn has_ended(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status, .. }
        if status.code() == Code::FailedPrecondition && status.message().contains("has ended"))
}

/// One subscription, until it ends; what ended it.
async fn subscribed(
    framework: &Framework,
    id: &mut Option<FrameworkId>,
    master: &Master,
    owner: &Owner,
    (calls, overflowed): (&mut mpsc::Receiver<Call>, &Notify),
) -> ClientError {
    let subscribe = v1::Subscribe {
        framework_id: id.as_ref().map(FrameworkId::to_string).unwrap_or_default(),
        name: framework.name().to_string(),
        role: framework.role.to_string(),
        failover_timeout_ms: FAILOVER_TIMEOUT_MS,
        constraints: Vec::new(),
    };
    let Subscription { client, mut events, subscribed } =
        match FrameworkClient::subscribe(&master.address, master.token.clone(), subscribe).await {
            Ok(subscription) => subscription,
            Err(error) => return error,
        };
    let given = FrameworkId::new(subscribed.framework_id);
    *id = Some(given.clone());
    tracing::info!(framework = framework.name(), role = &*framework.role, id = %given, "subscribed");
    while calls.try_recv().is_ok() {}
    let _ = overflowed.notified().now_or_never();
    owner.tell(Event::Subscribed { framework: framework.clone(), id: given.clone() }).await;
    // Apart from one another: the owner may be busy with what it was told, and its calls go out all the same.
    let speak = async {
        while let Some(call) = calls.recv().await {
            let mut list = vec![addressed(call, &given)];
            while list.len() < AT_ONCE
                && let Ok(call) = calls.try_recv()
            {
                list.push(addressed(call, &given));
            }
            if let Err(error) = client.send(list).await {
                return error;
            }
        }
        ClientError::Ended { address: master.address.clone() }
    };
    let hear = async {
        loop {
            match events.next().await {
                Ok(event) => heard(framework, owner, event).await,
                Err(error) => return error,
            }
        }
    };
    tokio::select! {
        error = speak => error,
        error = hear => error,
        () = overflowed.notified() => {
            tracing::warn!(framework = framework.name(), "the master does not take in what it is told; asking it anew");
            ClientError::Ended { address: master.address.clone() }
        }
    }
}

/// Fills in whose task it is, which only the line knows.
fn addressed(mut call: Call, id: &FrameworkId) -> Call {
    match &mut call {
        Call::Kill(kill) => kill.framework_id = id.to_string(),
        Call::Acknowledge(acknowledge) => acknowledge.framework_id = id.to_string(),
        Call::Subscribe(_)
        | Call::Demand(_)
        | Call::Accept(_)
        | Call::Decline(_)
        | Call::Revive(_)
        | Call::Suppress(_)
        | Call::Reconcile(_)
        | Call::Teardown(_) => {}
    }
    call
}

/// Hands one event on.
async fn heard(framework: &Framework, owner: &Owner, event: Wire) {
    let framework = framework.clone();
    match event {
        Wire::Offer(offer) => {
            owner.tell(Event::Offer { framework, offer: convert::offer_from_wire(offer, now_ms()) }).await;
        }
        Wire::Rescind(rescind) => {
            owner.tell(Event::Rescinded { framework, offer: rescind.offer_id.into() }).await;
        }
        Wire::Update(status) => match convert::status_from_wire(status) {
            Ok(status) => owner.tell(Event::Update { framework, status }).await,
            Err(error) => tracing::warn!(error, "a status update was refused"),
        },
        Wire::Drains(drains) => {
            let (agent, ends_in_ms) = (drains.agent_id.into(), drains.ends_in_ms);
            owner.tell(Event::Draining { framework, agent, ends_in_ms }).await;
        }
        Wire::Preempted(v1::TasksPreempted { task_ids, ends_in_ms, message }) => {
            let tasks = task_ids.into_iter().map(TaskId::from).collect();
            owner.tell(Event::Preempted { framework, tasks, ends_in_ms, message }).await;
        }
        Wire::Expired(v1::DemandsExpired { names }) => owner.tell(Event::Expired { framework, names }).await,
        Wire::Error(error) => {
            tracing::warn!(framework = framework.name(), reason = error.message, "the master ended the subscription");
        }
        Wire::VolumesAt(v1::VolumesAt { homes }) => {
            let homes = homes.into_iter().map(|(name, agent)| (name, agent.into())).collect();
            owner.tell(Event::VolumesAt { framework, homes }).await;
        }
        Wire::Subscribed(_) | Wire::Heartbeat(_) | Wire::Operated(_) => {}
    }
}

/// Tells the book, about once a second, what the master says about demand that is not satisfied.
pub fn watch_waiting(master: Master, owner: Owner) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut empty_before = false;
        loop {
            ticks.tick().await;
            let Ok(state) = master.state().await else { continue };
            let waiting = state.frameworks.into_iter().filter(|framework| !framework.demands.is_empty());
            let sentences = waiting.map(|framework| {
                let names = framework.demands.into_iter().map(|demand| demand.name);
                (framework.framework_id.into(), names.zip(framework.waiting).collect())
            });
            // Also of other runners' frameworks; the book knows its own.
            let sentences: BTreeMap<FrameworkId, BTreeMap<String, String>> = sentences.collect();
            let is_empty = sentences.is_empty();
            if !(is_empty && empty_before) {
                owner.tell(Event::Waiting { sentences }).await;
            }
            empty_before = is_empty;
        }
    });
}
