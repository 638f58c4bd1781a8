//! The one thread that owns the book: takes what happened, asks the book, carries out what it decided.
//!
//! Invariant: commands are carried out in order, and before any of them what is to be kept is on disk. What waits when the
//! owner has time is taken together, so that thousands of updates at once cost a few writes; who asked for a change is
//! answered when it is on disk.

use super::control::Streams;
use super::frameworks::{self, Link};
use super::runs::Runs;
use super::store::{Change, Store};
use crate::book::schedules::{Due, Schedule};
use crate::book::sweeps::Sweep;
use crate::book::{self, Book, Command, Event, Framework, Prepared, Resume, SubmittedFile};
use crate::predict::Models;
use crate::traces::export::Exporter;
use crate::traces::{Parent, Watch};
use crate::view::{JobView, ScheduleView, SweepDetail, SweepView, WhyView};
pub use daemon::client::chain;
use daemon::metrics::Family;
use jobs::{JobId, JobSpec};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use streaming::coordinator::{garbage, manifest, savepoints};
use streaming::functions::{Versioned, Versions};
use streaming::runtime::Folder;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the owner. A task sends about two a second and each is handled in well under a millisecond,
/// so this many waiting means that the disk stands still; senders then wait too.
const MESSAGES_MAX: usize = 1024;

/// Messages that are taken together.
const AT_ONCE: usize = 256;

enum Message {
    Event(Event),
    Submit {
        specs: Vec<JobSpec>,
        submission: String,
        resume: Resume,
        /// The trace that it is a part of.
        parent: Option<Parent>,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Checkpoint {
        subject: String,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Scale {
        subject: String,
        parallelism: u32,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Folders {
        reply: oneshot::Sender<BTreeMap<JobId, String>>,
    },
    FoldersOf {
        subject: String,
        reply: oneshot::Sender<Result<BTreeMap<JobId, String>, String>>,
    },
    Stop {
        subject: String,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Schedule {
        schedule: Box<Schedule>,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Unschedule {
        name: String,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    RunNow {
        name: String,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Schedules {
        reply: oneshot::Sender<Vec<ScheduleView>>,
    },
    BeginSweep {
        sweep: Box<Sweep>,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    ResumeSweep {
        name: String,
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    Sweeps {
        reply: oneshot::Sender<Vec<SweepView>>,
    },
    Sweep {
        name: String,
        reply: oneshot::Sender<Result<SweepDetail, String>>,
    },
    Jobs {
        reply: oneshot::Sender<Vec<JobView>>,
    },
    Metrics {
        reply: oneshot::Sender<Vec<Family>>,
    },
    Spec {
        id: String,
        reply: oneshot::Sender<Option<JobSpec>>,
    },
    Files {
        reply: oneshot::Sender<Vec<SubmittedFile>>,
    },
    Why {
        subject: String,
        reply: oneshot::Sender<Result<WhyView, String>>,
    },
}

/// A cheap handle to the owner's thread.
#[derive(Clone)]
pub struct Owner {
    sender: mpsc::Sender<Message>,
}

impl Owner {
    pub async fn tell(&self, event: Event) {
        // The owner ends only with the process, so nobody is left to miss the event.
        let _ = self.sender.send(Message::Event(event)).await;
    }

    pub async fn submit(
        &self,
        specs: Vec<JobSpec>,
        submission: String,
        resume: Resume,
        parent: Option<Parent>,
    ) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::Submit { specs, submission, resume, parent, reply }).await.and_then(|answer| answer)
    }

    pub async fn checkpoint(&self, subject: String) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::Checkpoint { subject, reply }).await.and_then(|answer| answer)
    }

    pub async fn scale(&self, subject: String, parallelism: u32) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::Scale { subject, parallelism, reply }).await.and_then(|answer| answer)
    }

    /// Where each stream that is known keeps its checkpoints.
    pub async fn checkpoint_folders(&self) -> Result<BTreeMap<JobId, String>, String> {
        self.ask(|reply| Message::Folders { reply }).await
    }

    /// Where each stream that `subject` means keeps its checkpoints.
    pub async fn checkpoint_folders_of(&self, subject: String) -> Result<BTreeMap<JobId, String>, String> {
        self.ask(|reply| Message::FoldersOf { subject, reply }).await.and_then(|answer| answer)
    }

    pub async fn stop(&self, subject: String) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::Stop { subject, reply }).await.and_then(|answer| answer)
    }

    pub async fn schedule(&self, schedule: Schedule) -> Result<Vec<String>, String> {
        let schedule = Box::new(schedule);
        self.ask(|reply| Message::Schedule { schedule, reply }).await.and_then(|answer| answer)
    }

    pub async fn unschedule(&self, name: String) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::Unschedule { name, reply }).await.and_then(|answer| answer)
    }

    /// Submits what a schedule would submit when it is due.
    pub async fn run_now(&self, name: String) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::RunNow { name, reply }).await.and_then(|answer| answer)
    }

    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, String> {
        self.ask(|reply| Message::Schedules { reply }).await
    }

    pub async fn begin_sweep(&self, sweep: Sweep) -> Result<Vec<String>, String> {
        let sweep = Box::new(sweep);
        self.ask(|reply| Message::BeginSweep { sweep, reply }).await.and_then(|answer| answer)
    }

    pub async fn resume_sweep(&self, name: String) -> Result<Vec<String>, String> {
        self.ask(|reply| Message::ResumeSweep { name, reply }).await.and_then(|answer| answer)
    }

    pub async fn sweeps(&self) -> Result<Vec<SweepView>, String> {
        self.ask(|reply| Message::Sweeps { reply }).await
    }

    pub async fn sweep(&self, name: String) -> Result<SweepDetail, String> {
        self.ask(|reply| Message::Sweep { name, reply }).await.and_then(|answer| answer)
    }

    pub async fn jobs(&self) -> Result<Vec<JobView>, String> {
        self.ask(|reply| Message::Jobs { reply }).await
    }

    pub async fn metrics(&self) -> Result<Vec<Family>, String> {
        self.ask(|reply| Message::Metrics { reply }).await
    }

    /// What a job was settled to be, by `group/name`.
    pub async fn spec(&self, id: String) -> Result<Option<JobSpec>, String> {
        self.ask(|reply| Message::Spec { id, reply }).await
    }

    /// The SQL of what was submitted, what came last at the end.
    pub async fn files(&self) -> Result<Vec<SubmittedFile>, String> {
        self.ask(|reply| Message::Files { reply }).await
    }

    pub async fn why(&self, subject: String) -> Result<WhyView, String> {
        self.ask(|reply| Message::Why { subject, reply }).await.and_then(|answer| answer)
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the runner is ending".to_string();
        self.sender.send(message(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// What the owner works with.
pub struct Hands {
    pub config: book::Config,
    pub store: Store,
    pub streams: Streams,
    pub links: BTreeMap<Framework, Link>,
    pub master: frameworks::Master,
    pub token_file: Option<PathBuf>,
    pub runs: Mutex<Runs>,
    /// Where spans go, if somebody collects them.
    pub exporter: Option<Exporter>,
    pub runtime: tokio::runtime::Handle,
}

/// The receiving end, made before the hands so that connections can already be given their [`Owner`].
pub struct Inbox {
    receiver: mpsc::Receiver<Message>,
}

pub fn channel() -> (Owner, Inbox) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    (Owner { sender }, Inbox { receiver })
}

/// Runs until the process ends.
pub fn spawn(owner: &Owner, inbox: Inbox, book: Book, hands: Hands) -> std::io::Result<std::thread::JoinHandle<()>> {
    let owner = owner.clone();
    std::thread::Builder::new().name("owner".to_string()).spawn(move || run(&owner, inbox, book, hands))
}

/// Where spans go, and what they are made of.
type Traces = Option<(Exporter, Watch)>;

fn run(owner: &Owner, mut inbox: Inbox, mut book: Book, mut hands: Hands) {
    let mut traces: Traces =
        hands.exporter.take().map(|exporter| (exporter, Watch::new(*uuid::Uuid::new_v4().as_bytes())));
    while let Some(first) = inbox.receiver.blocking_recv() {
        let mut round = Round::default();
        let mut next = Some(first);
        for taken in 1.. {
            let Some(message) = next else { break };
            let now_ms = now_ms();
            let commands = round.hear(&mut book, &mut traces, now_ms, message);
            if let Some((exporter, watch)) = &mut traces {
                exporter.send(watch.decided(now_ms, &commands));
            }
            round.commands.extend(commands);
            next = if taken < AT_ONCE { inbox.receiver.try_recv().ok() } else { None };
        }
        hands.finish(owner, round);
    }
}

type Reply = oneshot::Sender<Result<Vec<String>, String>>;

/// What messages that were taken together came to.
#[derive(Default)]
struct Round {
    commands: Vec<Command>,
    answers: Vec<(Reply, Result<Vec<String>, String>)>,
}

impl Round {
    fn hear(&mut self, book: &mut Book, traces: &mut Traces, now_ms: u64, message: Message) -> Vec<Command> {
        match message {
            Message::Event(event) => {
                if let Some((_, watch)) = traces {
                    watch.heard(now_ms, &event);
                }
                book.apply(now_ms, event)
            }
            Message::Submit { specs, submission, resume, parent, reply } => {
                let submitted = book.submit(now_ms, specs, &submission, resume);
                if let (Some((_, watch)), Ok((jobs, _)), Some(parent)) = (traces, &submitted, parent) {
                    watch.submitted(jobs, parent);
                }
                self.answer(reply, submitted)
            }
            Message::Checkpoint { subject, reply } => self.answer(reply, book.checkpoint(now_ms, &subject)),
            Message::Scale { subject, parallelism, reply } => {
                self.answer(reply, book.scale(now_ms, &subject, parallelism))
            }
            Message::Folders { reply } => {
                let _ = reply.send(book.checkpoint_folders());
                Vec::new()
            }
            Message::FoldersOf { subject, reply } => {
                let _ = reply.send(book.checkpoint_folders_of(&subject));
                Vec::new()
            }
            Message::Stop { subject, reply } => self.answer(reply, book.stop(now_ms, &subject)),
            Message::Schedule { schedule, reply } => {
                let name = schedule.name.clone();
                self.answer(reply, book.schedule(now_ms, *schedule).map(|commands| (vec![name], commands)))
            }
            Message::Unschedule { name, reply } => {
                self.answer(reply, book.unschedule(&name).map(|commands| (vec![name], commands)))
            }
            Message::RunNow { name, reply } => {
                self.answer(reply, book.run_now(now_ms, &name).map(|commands| (vec![name], commands)))
            }
            Message::Schedules { reply } => {
                let _ = reply.send(book.schedule_views());
                Vec::new()
            }
            Message::BeginSweep { sweep, reply } => self.answer(reply, book.begin_sweep(now_ms, *sweep)),
            Message::ResumeSweep { name, reply } => self.answer(reply, book.resume_sweep(now_ms, &name)),
            Message::Sweeps { reply } => {
                let _ = reply.send(book.sweep_views());
                Vec::new()
            }
            Message::Sweep { name, reply } => {
                let _ = reply.send(book.sweep(&name));
                Vec::new()
            }
            Message::Jobs { reply } => {
                let _ = reply.send(book.job_views(now_ms));
                Vec::new()
            }
            Message::Metrics { reply } => {
                let _ = reply.send(book.metrics(now_ms));
                Vec::new()
            }
            Message::Spec { id, reply } => {
                let _ = reply.send(book.spec(&id).cloned());
                Vec::new()
            }
            Message::Files { reply } => {
                let _ = reply.send(book.files());
                Vec::new()
            }
            Message::Why { subject, reply } => {
                let _ = reply.send(book.why(now_ms, &subject));
                Vec::new()
            }
        }
    }

    /// Who asked hears of it when it is on disk.
    fn answer(&mut self, reply: Reply, result: Result<(Vec<String>, Vec<Command>), String>) -> Vec<Command> {
        let (answer, commands) = match result {
            Ok((ids, commands)) => (Ok(ids), commands),
            Err(error) => (Err(error), Vec::new()),
        };
        self.answers.push((reply, answer));
        commands
    }
}

/// What of a command is kept.
fn change(command: &Command) -> Option<Change<'_>> {
    Some(match command {
        Command::Persist(record) => Change::Job(record),
        Command::PersistTask { job, task } => Change::Task(job, task),
        Command::Forget(record) => Change::NoJob(&record.spec.id),
        Command::PersistFramework { framework, id } => Change::Framework(framework, id),
        Command::PersistSweep(sweep) => Change::Sweep(sweep),
        Command::ForgetSweep(sweep) => Change::NoSweep(&sweep.name),
        Command::PersistSchedule(schedule) => Change::Schedule(schedule),
        Command::ForgetSchedule { name } => Change::NoSchedule(name),
        _ => return None,
    })
}

impl Hands {
    fn finish(&mut self, owner: &Owner, round: Round) {
        let changes: Vec<Change<'_>> = round.commands.iter().filter_map(change).collect();
        durable(self.store.write(&changes));
        for command in round.commands {
            self.carry_out(owner, command);
        }
        for (reply, answer) in round.answers {
            let _ = reply.send(answer);
        }
    }

    /// What is to be kept is already.
    fn carry_out(&mut self, owner: &Owner, command: Command) {
        match command {
            Command::Persist(_)
            | Command::PersistTask { .. }
            | Command::PersistFramework { .. }
            | Command::PersistSweep(_)
            | Command::PersistSchedule(_)
            | Command::ForgetSchedule { .. } => {}
            Command::Subscribe { framework } => {
                let _entered = self.runtime.enter();
                let link = frameworks::start(framework.clone(), None, self.master.clone(), owner.clone());
                self.links.insert(framework, link);
            }
            Command::Forget(record) => remove_replaced(&book::submission_folder(&self.config, &record)),
            Command::ForgetSweep(sweep) => {
                remove_replaced(&book::rows_folder(&self.config, &sweep.name, &sweep.submission));
            }
            Command::Demand { framework, demands } => self.links[&framework].demand(demands),
            Command::Accept { framework, offers, launch } => {
                self.links[&framework].accept(offers, launch, self.token_file.as_deref());
            }
            Command::Decline { framework, offers, refuse_ms } => self.links[&framework].decline(offers, refuse_ms),
            Command::Acknowledge { framework, status } => self.links[&framework].acknowledge(status),
            Command::Kill { framework, task, grace_ms } => self.links[&framework].kill(task, grace_ms),
            Command::Reconcile { framework, tasks } => self.links[&framework].reconcile(tasks),
            Command::Order { task, order } => self.streams.send(&task, &order),
            Command::Fire { schedule, due } => {
                let owner = owner.clone();
                self.runtime.spawn(async move {
                    let result = fire(&owner, &schedule, due).await;
                    owner.tell(Event::Fired { schedule: schedule.name, due, result }).await;
                });
            }
            Command::Run { run, note } => {
                self.runs.lock().unwrap_or_else(PoisonError::into_inner).note(now_ms(), &run, note);
            }
            Command::Prepare { job, folder, generation, claimed_us, from, models } => {
                let owner = owner.clone();
                let model_dir = crate::predict::model_dir(&self.config.data_dir);
                self.runtime.spawn(async move {
                    let prepared = prepare(&folder, job.as_str(), generation, claimed_us, from.as_deref()).await;
                    // One of which there is no version yet is told by the tasks.
                    let versions = move || crate::predict::begin_with(&model_dir, &models);
                    let versions = tokio::task::spawn_blocking(versions).await.unwrap_or_default();
                    let result = prepared.map(|prepared| Prepared { versions, ..prepared });
                    owner.tell(Event::Prepared { job, generation, result }).await;
                });
            }
            Command::LookUpModels { job, in_use } => {
                let owner = owner.clone();
                let model_dir = crate::predict::model_dir(&self.config.data_dir);
                self.runtime.spawn(async move {
                    let look = move || Models::new(&model_dir).wanted(&in_use);
                    if let Ok((versions, stays)) = tokio::task::spawn_blocking(look).await {
                        owner.tell(Event::Models { job, versions, stays }).await;
                    }
                });
            }
            Command::WriteManifest { job, folder, manifest } => {
                let owner = owner.clone();
                self.runtime.spawn(async move {
                    let (generation, epoch) = (manifest.generation, manifest.epoch);
                    let result = write_manifest(&folder, &manifest).await;
                    owner.tell(Event::ManifestWritten { job, generation, epoch, result }).await;
                });
            }
            Command::CollectGarbage { folder, retain } => {
                self.runtime.spawn(async move {
                    let collected = match Folder::open(&folder) {
                        Ok(checkpoints) => {
                            garbage::collect(&checkpoints, retain as usize).await.map_err(|error| chain(&error))
                        }
                        Err(error) => Err(chain(&error)),
                    };
                    if let Err(error) = collected {
                        tracing::warn!(folder, error, "old checkpoints were not removed");
                    }
                });
            }
        }
    }
}

/// What a submission that another one replaced has left.
fn remove_replaced(folder: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a replaced submission was not removed");
    }
}

/// Submits the file of a schedule.
async fn fire(owner: &Owner, schedule: &Schedule, due: Due) -> Result<Vec<String>, String> {
    let base_dir = std::path::Path::new(&schedule.base_dir);
    let settled =
        crate::settle::settle_for_cluster(&schedule.text, &schedule.file, base_dir).await.map_err(|mistakes| {
            let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            format!("{} cannot be submitted any more: {}", schedule.file, all.join("; "))
        })?;
    owner.submit(settled.jobs, due.submission(), Resume::Anew, None).await
}

/// A runner that cannot write its store must not go on: what it would launch, no later runner would know.
fn durable(result: Result<(), super::store::Error>) {
    if let Err(error) = result {
        eprintln!("smack runner: failed to {}; ending so that nothing is launched that is not recorded", chain(&error));
        std::process::exit(1);
    }
}

async fn prepare(
    folder: &str,
    job: &str,
    generation: u64,
    claimed_us: i64,
    from: Option<&str>,
) -> Result<Prepared, String> {
    let checkpoints = Folder::open(folder).map_err(|error| chain(&error))?;
    let claimed_us = manifest::claim_generation(&checkpoints, generation, claimed_us)
        .await
        .map_err(|error| format!("failed to claim generation {generation} of {job}: {}", chain(&error)))?;
    let latest = match from {
        None => manifest::latest(&checkpoints).await,
        Some(from) => savepoints::go_back(&checkpoints, from).await.map(Some),
    };
    let latest = latest.map_err(|error| {
        let which = from.map_or("the last checkpoint".to_string(), |from| format!("checkpoint {from}"));
        format!("failed to read {which} of {job} in {folder}: {}", chain(&error))
    })?;
    Ok(Prepared { claimed_us, latest, versions: Versions::new() })
}

async fn write_manifest(folder: &str, manifest: &streaming::control::Manifest) -> Result<(), (String, bool)> {
    let checkpoints = Folder::open(folder).map_err(|error| (chain(&error), true))?;
    manifest::write(&checkpoints, manifest).await.map_err(|error| (chain(&error), error.retry()))
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
