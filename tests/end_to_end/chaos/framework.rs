//! A framework that wants a number of tasks to run, whatever happens: it launches anew what ended, believes what it is told,
//! and remembers all of it.
//!
//! Invariant: an id is launched once. What it is told of a task is checked when it is heard: nothing new comes after an end.

use super::members::Members;
use super::{Dice, script};
use crate::wait::patience;
use daemon::client::{ClientError, FrameworkClient, Subscription};
use daemon::convert;
use daemon::door::Token;
use jobs::Resources;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use wire::v1;
use wire::v1::framework_call::Call;
use wire::v1::framework_event::Event;

const TICK: Duration = Duration::from_millis(100);
/// Between two questions about all tasks.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Tasks of one accept.
const AT_ONCE: usize = 20;

/// What the framework believes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Runs,
    Ends,
    /// Nobody ever had it.
    Gone,
}

#[derive(Debug)]
struct Task {
    told: Told,
    is_unreachable: bool,
    /// Of its updates, in the order in which they came first.
    uuids: Vec<String>,
}

#[derive(Debug, Default)]
struct Book {
    id: String,
    tasks: BTreeMap<String, Task>,
    n_repeated: u64,
    n_subscriptions: u64,
    /// States of updates, and of what the master said by itself.
    states: BTreeMap<String, u64>,
}

impl Book {
    fn live(&self) -> impl Iterator<Item = (&String, &Task)> {
        self.tasks.iter().filter(|(_, task)| matches!(task.told, Told::Nothing | Told::Runs))
    }
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    disconnect: Notify,
    only_long: AtomicBool,
    tear_down: AtomicBool,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Framework {
    shared: Arc<Shared>,
    worker: tokio::task::JoinHandle<()>,
    n_tasks: usize,
    /// Its threads are in the master's network.
    runtime: Option<Runtime>,
}

impl Framework {
    pub fn start(folder: &Path, members: &Members, token: Token, n_tasks: usize, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            disconnect: Notify::new(),
            only_long: AtomicBool::new(false),
            tear_down: AtomicBool::new(false),
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            folder: folder.to_path_buf(),
            master: members.master_address().to_string(),
            token,
            n_tasks,
            dice: Dice(seed.rotate_left(32) | 1),
            offers: VecDeque::new(),
            wanted: None,
            asked: Instant::now(),
        };
        let namespace = members.network().map(|network| network.of_master().again().expect("a second hold of it"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || {
                if let Some(namespace) = &namespace {
                    namespace.enter().expect("the master's network");
                }
            })
            .build()
            .expect("a runtime");
        Self { shared, worker: runtime.spawn(worker.work()), n_tasks, runtime: Some(runtime) }
    }

    /// Its stream ends now, and it comes back.
    pub fn disconnect(&self) {
        self.shared.disconnect.notify_one();
    }

    pub fn make_only_long_tasks(&self) {
        self.shared.only_long.store(true, Ordering::Relaxed);
    }

    /// All that it wants runs, as far as it knows.
    pub fn is_as_wanted(&self) -> bool {
        let book = self.shared.book();
        let mut live = book.live();
        let n_live = book.live().count();
        n_live == self.n_tasks && live.all(|(_, task)| task.told == Told::Runs && !task.is_unreachable)
    }

    pub async fn wait_until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is(self) {
            if self.worker.is_finished() {
                (&mut self.worker).await.expect("the framework works");
            }
            assert!(begun.elapsed() < patience(), "waited in vain until {what}\n{}", self.summary());
            tokio::time::sleep(TICK).await;
        }
    }

    /// The first answer that is one.
    pub fn each<T>(&self, of: impl Fn(&str, Told) -> Option<T>) -> Option<T> {
        self.shared.book().tasks.iter().find_map(|(id, task)| of(id, task.told))
    }

    pub fn summary(&self) -> String {
        let book = self.shared.book();
        let count = |told| book.tasks.values().filter(|task| task.told == told).count();
        let (nothing, runs, ends, gone) =
            (count(Told::Nothing), count(Told::Runs), count(Told::Ends), count(Told::Gone));
        let (n_updates, unreachable) = (
            book.tasks.values().map(|task| task.uuids.len()).sum::<usize>(),
            book.live().filter(|(_, task)| task.is_unreachable).count(),
        );
        format!(
            "{} tasks launched: {runs} run, {ends} ended, {gone} were never had by anybody, {nothing} unknown; {n_updates} updates, {} of them \
             again; {} subscriptions; {unreachable} unreachable; told: {:?}",
            book.tasks.len(),
            book.n_repeated,
            book.n_subscriptions,
            book.states
        )
    }

    /// Ends it with all its tasks.
    pub async fn tear_down(mut self) {
        self.shared.tear_down.store(true, Ordering::Relaxed);
        (&mut self.worker).await.expect("the framework ends");
    }
}

impl Drop for Framework {
    /// It may be dropped where nothing may block.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    folder: PathBuf,
    master: String,
    token: Token,
    n_tasks: usize,
    dice: Dice,
    offers: VecDeque<v1::Offer>,
    /// As the master knows it.
    wanted: Option<usize>,
    asked: Instant,
}

impl Worker {
    async fn work(mut self) {
        while !self.shared.tear_down.load(Ordering::Relaxed) {
            match self.subscribe().await {
                Ok(subscription) => {
                    let shared = Arc::clone(&self.shared);
                    tokio::select! {
                        _ = self.live(subscription) => {}
                        () = shared.disconnect.notified() => {}
                    }
                }
                Err(_) => tokio::time::sleep(TICK).await,
            }
        }
    }

    async fn subscribe(&mut self) -> Result<Subscription, ClientError> {
        let subscribe = v1::Subscribe {
            framework_id: self.shared.book().id.clone(),
            name: "chaos".into(),
            role: "chaos".into(),
            failover_timeout_ms: 600_000,
            constraints: Vec::new(),
        };
        // A master that was stopped accepts connections and says nothing.
        let subscribing = FrameworkClient::subscribe(&self.master, Some(self.token.clone()), subscribe);
        let subscription = match tokio::time::timeout(Duration::from_secs(5), subscribing).await {
            Ok(subscription) => subscription?,
            Err(_) => return Err(ClientError::Ended { address: self.master.clone() }),
        };
        let mut book = self.shared.book();
        book.id.clone_from(&subscription.subscribed.framework_id);
        book.n_subscriptions += 1;
        self.offers.clear();
        self.wanted = None;
        self.asked = Instant::now() - ASK_EVERY;
        Ok(subscription)
    }

    /// Until the stream ends, or all is torn down.
    async fn live(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        let Subscription { client, mut events, .. } = subscription;
        let mut tick = tokio::time::interval(TICK);
        loop {
            let calls = tokio::select! {
                event = events.next() => self.hear(event?),
                _ = tick.tick() => self.act(),
            };
            if !calls.is_empty() {
                client.send(calls).await?;
            }
            if self.shared.tear_down.load(Ordering::Relaxed) {
                client.send(vec![Call::Teardown(v1::Teardown {})]).await?;
                while events.next().await.is_ok() {}
                return Ok(());
            }
        }
    }

    fn hear(&mut self, event: Event) -> Vec<Call> {
        match event {
            Event::Offer(offer) => self.offers.push_back(offer),
            Event::Rescind(rescind) => self.offers.retain(|offer| offer.offer_id != rescind.offer_id),
            Event::Update(status) => return self.told(status),
            Event::Error(_)
            | Event::Subscribed(_)
            | Event::Heartbeat(_)
            | Event::Drains(_)
            | Event::Preempted(_)
            | Event::Expired(_)
            | Event::Operated(_)
            | Event::VolumesAt(_) => {}
        }
        Vec::new()
    }

    fn told(&mut self, status: v1::TaskStatus) -> Vec<Call> {
        let status = convert::task_status_from(status).expect("a status");
        let mut book = self.shared.book();
        let by = if status.uuid.is_some() { "" } else { " (master)" };
        *book.states.entry(format!("{}{by}", status.state)).or_default() += 1;
        let Book { tasks, n_repeated, .. } = &mut *book;
        let id = status.task_id.as_str();
        let Some(task) = tasks.get_mut(id) else { panic!("told of {id}, which was never launched: {status:?}") };
        task.is_unreachable = status.state == jobs::TaskState::Unreachable;
        let Some(uuid) = status.uuid else {
            let is_gone =
                matches!(status.state, jobs::TaskState::Unknown | jobs::TaskState::Lost | jobs::TaskState::Dropped);
            // Of one whose end is known nobody knows anything any more.
            if is_gone && task.told != Told::Ends {
                assert!(task.uuids.is_empty(), "{id} ran, and then: {:?} {}", status.state, status.message);
                task.told = Told::Gone;
            }
            return Vec::new();
        };
        assert!(task.told != Told::Gone, "{id} was given up, and then {:?}", status.state);
        if task.uuids.contains(&uuid) {
            *n_repeated += 1;
        } else {
            assert!(task.told != Told::Ends, "{id} had ended, and then {:?}: {}", status.state, status.message);
            task.uuids.push(uuid.clone());
            task.told = if status.state.is_terminal() { Told::Ends } else { Told::Runs };
        }
        vec![Call::Acknowledge(v1::AcknowledgeUpdate {
            framework_id: book.id.clone(),
            agent_id: status.agent_id.to_string(),
            task_id: status.task_id.to_string(),
            uuid,
        })]
    }

    /// Launches what is missing, says what it wants, and asks about what it was not told.
    fn act(&mut self) -> Vec<Call> {
        let (n_live, live): (usize, BTreeSet<String>) = {
            let book = self.shared.book();
            (book.live().count(), book.live().map(|(id, _)| id.clone()).collect())
        };
        let mut calls = Vec::new();
        let mut missing = self.n_tasks.saturating_sub(n_live);
        while let Some(offer) = self.offers.pop_front() {
            let launch = self.fill(&offer, missing);
            missing -= launch.len();
            self.wanted = self.wanted.map(|wanted| wanted.saturating_sub(launch.len()));
            let offer_ids = vec![offer.offer_id];
            calls.push(match launch.is_empty() {
                true => Call::Decline(v1::DeclineOffers { offer_ids, refuse_ms: Some(500) }),
                false => Call::Accept(v1::AcceptOffers { offer_ids, launch, refuse_ms: Some(0), operations: vec![] }),
            });
        }
        if self.wanted != Some(missing) {
            self.wanted = Some(missing);
            let demand = v1::Demand {
                name: "chaos".into(),
                shape: Some(convert::resources_to(&shape())),
                count: missing as u32,
                ..v1::Demand::default()
            };
            calls.push(Call::Demand(v1::PostDemand { demands: vec![demand] }));
        }
        if self.asked.elapsed() >= ASK_EVERY && !live.is_empty() {
            self.asked = Instant::now();
            calls.push(Call::Reconcile(v1::Reconcile { task_ids: live.into_iter().collect() }));
        }
        calls
    }

    /// Tasks for what fits into an offer.
    fn fill(&mut self, offer: &v1::Offer, missing: usize) -> Vec<v1::TaskInfo> {
        let mut room = convert::resources_from(offer.resources.clone()).expect("resources");
        let mut launch = Vec::new();
        while launch.len() < missing.min(AT_ONCE) && room.contains(&shape()) {
            room.subtract(&shape());
            let only_long = self.shared.only_long.load(Ordering::Relaxed);
            let lasts = match !only_long && self.dice.below(4) == 0 {
                true => format!("0.{}", 1 + self.dice.below(9)),
                false => "100000".to_string(),
            };
            let mut book = self.shared.book();
            let id = format!("chaos-{}", book.tasks.len());
            let task = Task { told: Told::Nothing, is_unreachable: false, uuids: Vec::new() };
            book.tasks.insert(id.clone(), task);
            launch.push(v1::TaskInfo {
                name: id.clone(),
                argv: vec!["/bin/sh".into(), "-c".into(), script(&self.folder, &id, &lasts)],
                task_id: id,
                agent_id: offer.agent_id.clone(),
                resources: Some(convert::resources_to(&shape())),
                kill_grace_ms: 1_000,
                ..v1::TaskInfo::default()
            });
        }
        launch
    }
}

fn shape() -> Resources {
    Resources::new().cpus(0.5).mem_mib(16.0)
}
