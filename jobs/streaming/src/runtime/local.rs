//! A whole job in one process and without daemons: its tasks, its coordinator, and queues between them.
//!
//! Invariant: the same tasks, coordinator and checkpoints as on a cluster; only who carries the messages differs. A run
//! with a checkpoint folder goes on where the last one ended, however it ended.

use crate::control::{Level, Metrics, OperatorMetrics, Order, Report};
use crate::coordinator::{self, Command, Coordinator, Event, View};
use crate::coordinator::{garbage, manifest};
use crate::dataflow::Dataflow;
use crate::functions::{Versioned, Versions};
use crate::runtime::store::{self, Folder};
use crate::runtime::{self, Finder, Outcome, TaskConfig, run_task};
use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Select, Sender, bounded};
use jobs::Peer;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// Batches of results that wait for whoever shows them: enough to keep the slices busy, few enough to stop early.
const RESULT_QUEUE: usize = 16;
/// Reports of one task that wait for the coordinator, which never waits itself.
const REPORT_QUEUE: usize = 256;
/// One barrier and one commit are on their way at a time.
const ORDER_QUEUE: usize = 64;
/// Messages for people that nobody reads are left out beyond this.
const NOTICE_QUEUE: usize = 256;
const TICK: Duration = Duration::from_millis(50);
/// Between looks for newer versions of what functions use.
const LOOK_FOR_VERSIONS_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub struct LocalConfig {
    pub job: String,
    pub tasks: u32,
    /// Threads per task.
    pub slices: u32,
    /// Absent: checkpoints are kept in memory, so that sinks commit, and are gone with the process.
    pub checkpoints: Option<Folder>,
    /// 0: only a last one.
    pub checkpoint_interval_ms: u64,
    pub checkpoint_timeout_ms: u64,
    /// Checkpoints that are kept.
    pub checkpoint_retain: usize,
    pub base_dir: PathBuf,
    pub dead_letter_dir: PathBuf,
    pub tables_endpoint: Option<String>,
    pub token: Option<String>,
    /// Bytes that the state of each task may take in memory.
    pub state_memory: u64,
    /// Where state goes that memory has no room for.
    pub spill_dir: PathBuf,
    pub connectors: Finder,
    /// Where the functions' newer versions come from, and those that the dataflow's functions begin with.
    pub versioned: Option<Arc<dyn Versioned>>,
    pub versions: Versions,
}

/// Bytes that the state of a task takes in memory, unless something else is said.
pub const STATE_MEMORY: u64 = 2 << 30;

impl LocalConfig {
    pub fn new(job: &str, base_dir: PathBuf, dead_letter_dir: PathBuf) -> Self {
        Self {
            job: job.to_string(),
            tasks: 1,
            slices: 1,
            checkpoints: None,
            checkpoint_interval_ms: 1_000,
            checkpoint_timeout_ms: 60_000,
            checkpoint_retain: 3,
            base_dir,
            dead_letter_dir,
            tables_endpoint: None,
            token: None,
            state_memory: STATE_MEMORY,
            spill_dir: std::env::temp_dir().join(format!("smack-spill-{}", std::process::id())),
            connectors: connectors::find,
            versioned: None,
            versions: Versions::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Task(#[from] runtime::Error),
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("start the tasks of job {job}")]
    Start {
        job: String,
        #[source]
        source: std::io::Error,
    },
    #[error("go on with job {job}: {text}")]
    GivenUp { job: String, text: String },
}

/// A running job. Dropping it ends the job at once.
#[derive(Debug)]
pub struct LocalRun {
    /// The rows of bare SELECTs; ends with the job. A run whose results are dropped ends.
    pub results: Receiver<RecordBatch>,
    /// What a person should see.
    pub notices: Receiver<(Level, String)>,
    requests: Sender<Request>,
    pub(crate) status: Arc<Mutex<Status>>,
    thread: Option<JoinHandle<Result<Outcome, Error>>>,
}

#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Over all tasks.
    pub metrics: Metrics,
    pub view: View,
    /// All tasks run.
    pub ready: bool,
}

#[derive(Debug)]
enum Request {
    Checkpoint,
    Drain,
    Stop,
}

impl LocalRun {
    /// Takes a checkpoint soon.
    pub fn checkpoint(&self) {
        let _ = self.requests.try_send(Request::Checkpoint);
    }

    /// Takes a last checkpoint and ends; another run goes on from there.
    pub fn drain(&self) {
        let _ = self.requests.try_send(Request::Drain);
    }

    /// Ends at once.
    pub fn stop(&self) {
        let _ = self.requests.try_send(Request::Stop);
    }

    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end, and gives what was done in all, which tasks say last.
    pub fn wait_measured(self) -> Result<(Outcome, Metrics), Error> {
        let status = Arc::clone(&self.status);
        let outcome = self.wait()?;
        let metrics = status.lock().unwrap_or_else(PoisonError::into_inner).metrics.clone();
        Ok((outcome, metrics))
    }

    /// Waits for the end. Results that were not taken are thrown away.
    pub fn wait(mut self) -> Result<Outcome, Error> {
        self.results.iter().for_each(drop);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(Outcome::Stopped),
        }
    }
}

/// Starts a job.
pub fn run(dataflow: Dataflow, config: LocalConfig) -> Result<LocalRun, Error> {
    let job = config.job.clone();
    let start = |source| Error::Start { job: job.clone(), source };
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    let checkpoints = config.checkpoints.clone().unwrap_or_else(Folder::memory);
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as i64);
    let generation = io.block_on(manifest::newest_generation(&checkpoints))? + 1;
    let claimed_us = io.block_on(manifest::claim_generation(&checkpoints, generation, now_us))?;
    let latest = io.block_on(manifest::latest(&checkpoints))?;
    let versioned = config.versioned.clone().filter(|_| !dataflow.keeps_versions());
    let coordinator = Coordinator::new(
        coordinator::Config {
            job: config.job.clone(),
            generation,
            claimed_us,
            fingerprint: dataflow.fingerprint(),
            n_tasks: config.tasks,
            interval_ms: config.checkpoint_interval_ms,
            timeout_ms: config.checkpoint_timeout_ms,
            versions: config.versions.clone(),
        },
        latest.as_ref(),
    );
    let mut listeners = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..config.tasks {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(start)?;
        peers.push(Peer { host: "127.0.0.1".to_string(), port: listener.local_addr().map_err(start)?.port() });
        listeners.push(listener);
    }
    let (send_results, results) = bounded(RESULT_QUEUE);
    let mut tasks = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let task = TaskConfig {
            job: config.job.clone(),
            generation,
            claimed_us,
            life: 0,
            begun_us: claimed_us,
            index: index as u32,
            slices: config.slices,
            peers: peers.clone(),
            listener: Some(listener),
            checkpoints: checkpoints.clone(),
            restore: latest.clone(),
            base_dir: config.base_dir.clone(),
            tables_endpoint: config.tables_endpoint.clone(),
            token: config.token.clone(),
            dead_letter_dir: config.dead_letter_dir.clone(),
            state_memory: config.state_memory,
            spill_dir: config.spill_dir.clone(),
            connectors: config.connectors,
        };
        let (orders, take_orders) = bounded(ORDER_QUEUE);
        let (send_reports, reports) = bounded(REPORT_QUEUE);
        let dataflow = dataflow.clone();
        let results = send_results.clone();
        let body = move || run_task(dataflow, task, take_orders, send_reports, Some(results));
        let thread = std::thread::Builder::new().name(format!("task-{index}")).spawn(body).map_err(start)?;
        tasks.push(Task { orders, reports, thread: Some(thread), metrics: Metrics::default() });
    }
    drop(send_results);
    // A request in hand and some more; more than that only repeat themselves.
    let (requests, take_requests) = bounded(8);
    let (send_notices, notices) = bounded(NOTICE_QUEUE);
    let status = Arc::new(Mutex::new(Status::default()));
    let driver = Driver {
        job: config.job.clone(),
        io,
        checkpoints,
        retain: config.checkpoint_retain,
        coordinator,
        tasks,
        requests: take_requests,
        notices: send_notices,
        status: Arc::clone(&status),
        began: Instant::now(),
        ready: BTreeSet::new(),
        versioned,
        looked: Instant::now(),
    };
    let thread = std::thread::Builder::new().name("coordinator".to_string()).spawn(|| driver.drive()).map_err(start)?;
    Ok(LocalRun { results, notices, requests, status, thread: Some(thread) })
}

struct Task {
    orders: Sender<Order>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<Result<Outcome, runtime::Error>>>,
    metrics: Metrics,
}

struct Driver {
    job: String,
    io: Runtime,
    checkpoints: Folder,
    retain: usize,
    coordinator: Coordinator,
    tasks: Vec<Task>,
    requests: Receiver<Request>,
    notices: Sender<(Level, String)>,
    status: Arc<Mutex<Status>>,
    began: Instant,
    ready: BTreeSet<usize>,
    /// Absent where versions stay what they are.
    versioned: Option<Arc<dyn Versioned>>,
    looked: Instant,
}

impl Driver {
    fn drive(mut self) -> Result<Outcome, Error> {
        let result = self.work();
        for task in &self.tasks {
            let _ = task.orders.try_send(Order::Stop);
        }
        // The threads end by themselves now.
        let ends: Vec<Result<Outcome, Error>> = (0..self.tasks.len()).map(|index| self.join(index)).collect();
        match result {
            // A task that stops takes its connections with it, so others may have seen them break.
            Ok(Outcome::Stopped) => Ok(Outcome::Stopped),
            Ok(outcome) => ends.into_iter().collect::<Result<Vec<_>, _>>().map(|_| outcome),
            // A broken connection follows from what happened to the other task: that is what is to be told.
            Err(error @ Error::Task(runtime::Error::Peer { .. })) => {
                let is_cause = |error: &Error| !matches!(error, Error::Task(runtime::Error::Peer { .. }));
                Err(ends.into_iter().filter_map(Result::err).find(is_cause).unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }

    fn work(&mut self) -> Result<Outcome, Error> {
        let mut outcomes = vec![None; self.tasks.len()];
        let mut wanted = None;
        loop {
            self.wait();
            loop {
                match self.requests.try_recv() {
                    Ok(Request::Checkpoint) => self.apply(Event::CheckpointRequested, &mut wanted)?,
                    Ok(Request::Drain) => self.apply(Event::StopRequested, &mut wanted)?,
                    Ok(Request::Stop) => return Ok(Outcome::Stopped),
                    Err(error) if error.is_disconnected() => return Ok(Outcome::Stopped),
                    Err(_) => break,
                }
            }
            for (index, ended) in outcomes.iter_mut().enumerate() {
                while let Ok(report) = self.tasks[index].reports.try_recv() {
                    self.hear(index, report, &mut wanted)?;
                }
                let over = self.tasks[index].thread.as_ref().is_some_and(JoinHandle::is_finished);
                // What it said last was heard above only if it was over before.
                if over && self.tasks[index].reports.is_empty() {
                    let outcome = self.join(index)?;
                    *ended = Some(outcome);
                    if outcome == Outcome::Stopped {
                        return Ok(Outcome::Stopped);
                    }
                    self.apply(Event::TaskEnded { index: index as u32 }, &mut wanted)?;
                }
            }
            self.look_for_versions(&mut wanted)?;
            self.apply(Event::Tick, &mut wanted)?;
            if let Some(outcome) = wanted
                && outcomes.iter().all(Option::is_some)
            {
                return Ok(outcome);
            }
        }
    }

    fn look_for_versions(&mut self, wanted: &mut Option<Outcome>) -> Result<(), Error> {
        let Some(versioned) = self.versioned.as_ref().filter(|_| self.looked.elapsed() >= LOOK_FOR_VERSIONS_EVERY)
        else {
            return Ok(());
        };
        self.looked = Instant::now();
        let (versions, stays) = versioned.wanted(self.coordinator.versions());
        for text in stays {
            let _ = self.notices.try_send((Level::Warning, text));
        }
        self.apply(Event::VersionsWanted { versions }, wanted)
    }

    fn wait(&self) {
        let mut select = Select::new();
        for task in self.tasks.iter().filter(|task| task.thread.is_some()) {
            select.recv(&task.reports);
        }
        select.recv(&self.requests);
        let _ = select.ready_timeout(TICK);
    }

    fn join(&mut self, index: usize) -> Result<Outcome, Error> {
        match self.tasks[index].thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => Ok(outcome?),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(Outcome::Finished),
        }
    }

    fn hear(&mut self, index: usize, report: Report, wanted: &mut Option<Outcome>) -> Result<(), Error> {
        let task = index as u32;
        match report {
            Report::Ready => {
                self.ready.insert(index);
                let ready = self.ready.len() == self.tasks.len();
                self.status.lock().unwrap_or_else(PoisonError::into_inner).ready = ready;
                self.apply(Event::TaskReady { index: task }, wanted)
            }
            Report::InputEnded => self.apply(Event::InputEnded { index: task }, wanted),
            Report::Snapshotted { epoch, snapshot, last } => {
                self.apply(Event::Snapshotted { index: task, epoch, snapshot, last }, wanted)
            }
            Report::Committed { epoch } => self.apply(Event::Committed { index: task, epoch }, wanted),
            Report::Notice { level, text } => {
                let _ = self.notices.try_send((level, text));
                Ok(())
            }
            Report::Metrics(metrics) => {
                self.tasks[index].metrics = metrics;
                let all = sum(&self.tasks.iter().map(|task| &task.metrics).collect::<Vec<_>>());
                self.status.lock().unwrap_or_else(PoisonError::into_inner).metrics = all;
                Ok(())
            }
            // Nobody asks for one here.
            Report::Sampled { .. } => Ok(()),
        }
    }

    fn apply(&mut self, event: Event, wanted: &mut Option<Outcome>) -> Result<(), Error> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now_ms = self.began.elapsed().as_millis() as u64;
            for command in self.coordinator.apply(now_ms, event) {
                match command {
                    Command::Send { to, order } => {
                        let to = self.tasks.iter().enumerate().filter(|(at, _)| to.is_none_or(|to| to as usize == *at));
                        to.for_each(|(_, task)| drop(task.orders.try_send(order.clone())));
                    }
                    Command::WriteManifest(manifest) => {
                        let epoch = manifest.epoch;
                        events.push(match self.io.block_on(manifest::write(&self.checkpoints, &manifest)) {
                            Ok(()) => Event::ManifestWritten { epoch },
                            Err(error) => {
                                let retry = error.retry();
                                Event::ManifestFailed { epoch, error: error.to_string(), retry }
                            }
                        });
                    }
                    Command::Completed { .. } => {
                        if let Err(error) = self.io.block_on(garbage::collect(&self.checkpoints, self.retain)) {
                            let text = format!("old checkpoints cannot be removed: {error}");
                            let _ = self.notices.try_send((Level::Warning, text));
                        }
                    }
                    Command::Restart { .. } | Command::RestartAll => {
                        unreachable!("a task that is lost here ends the run, and the coordinator is not told")
                    }
                    Command::Finished => *wanted = Some(Outcome::Finished),
                    Command::StopGranted => *wanted = Some(Outcome::Drained),
                    Command::GiveUp { error } => {
                        return Err(Error::GivenUp { job: self.job.clone(), text: error });
                    }
                }
            }
        }
        let now_ms = self.began.elapsed().as_millis() as u64;
        self.status.lock().unwrap_or_else(PoisonError::into_inner).view = self.coordinator.view(now_ms);
        Ok(())
    }
}

/// Totals of several tasks: counts add up, the watermark is the one that is furthest behind.
pub fn sum(all: &[&Metrics]) -> Metrics {
    let operators = OperatorMetrics::sums(all.iter().map(|metrics| metrics.operators.as_slice()));
    let sum = all.iter().fold(Metrics::default(), |sum, next| Metrics {
        rows_in: sum.rows_in + next.rows_in,
        rows_out: sum.rows_out + next.rows_out,
        rows_late: sum.rows_late + next.rows_late,
        rows_bad: sum.rows_bad + next.rows_bad,
        watermark_ms: [sum.watermark_ms, next.watermark_ms].into_iter().flatten().min(),
        event_time_ms: sum.event_time_ms.max(next.event_time_ms),
        state_bytes: sum.state_bytes + next.state_bytes,
        restore_bytes: sum.restore_bytes + next.restore_bytes,
        restored_bytes: sum.restored_bytes + next.restored_bytes,
        operators: Vec::new(),
    });
    Metrics { operators, ..sum }
}
