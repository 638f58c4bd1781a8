//! The runner's decisions: which jobs run, in which generation, on which offers, and when a checkpoint counts.
//!
//! Invariant: pure. Time, ids and everything that happened come in as arguments; what is to be done goes out as
//! [`Command`]s, to be carried out in order. What is to be kept is durable before any later command of the list is carried
//! out, so that no task is launched that a restarted runner would not know.

mod elastic;
mod evaluator;
mod exits;
mod files;
pub mod frameworks;
mod gang;
pub mod job;
mod metrics;
mod models;
mod operations;
pub mod placement;
mod preemption;
mod region;
mod reports;
mod runs;
pub mod schedules;
pub mod sweeps;
mod tasks;
pub use tasks::{EXIT_FATAL, run_name};
mod views;
pub use files::SubmittedFile;
pub use frameworks::Framework;

#[cfg(test)]
mod tests;

use crate::runs::Note;
use frameworks::{Kind, Standing};
use job::{Job, Phase, Record, TaskLive, TaskRecord};
use jobs::volumes::VolumeClaim;
use jobs::{
    Artifact, FrameworkId, HealthCheck, JobBody, JobId, JobSpec, OfferId, Reason, Resources, Restart, Rules, TaskId,
    TaskPlan, TaskState,
};
use objects::S3;
use placement::HeldOffer;
use schedules::{Due, Schedule};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use streaming::control::{Manifest, Order, Report};
use streaming::functions::Versions;
use sweeps::Sweep;

/// How long tasks that would fit wait for offers of more agents.
const SPREAD_MS: u64 = 100;

/// What one task of a demand needs, and how many are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub name: String,
    pub shape: Resources,
    pub n_ports: u32,
    pub count: u32,
    pub priority: i32,
    /// Demands of one group are met all together.
    pub group: String,
    pub rules: Rules,
    pub volumes: Vec<VolumeClaim>,
    /// It is wanted for so long, and then no more.
    pub within_ms: Option<u64>,
}

/// A status update as the master forwards it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub task: TaskId,
    pub agent: jobs::AgentId,
    pub state: TaskState,
    pub reason: Reason,
    pub message: String,
    /// Empty on updates that need no acknowledgement.
    pub uuid: String,
    pub exit_code: i32,
}

/// How far a training task is.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainMetrics {
    pub step: u64,
    pub steps_total: u64,
    pub epoch: u64,
    pub loss: f64,
    /// NaN where it is not known, as the learning rate.
    pub metric: f64,
    pub metric_name: String,
    pub rows_per_second: f64,
    pub learning_rate: f64,
}

/// What a checkpoint of a training is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    pub step: u64,
    pub epoch: u64,
    pub metrics: BTreeMap<String, f64>,
    /// The one that epochs are compared by.
    pub metric_name: String,
}

/// What a training task tells.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainReport {
    Ready,
    Metrics(TrainMetrics),
    ModelWritten {
        version: u64,
        metric: f64,
        metric_name: String,
    },
    /// A trial has come to the epoch that it was to come to.
    Paused {
        epoch: u64,
        metric: f64,
        metric_name: String,
    },
    /// By the evaluator.
    Evaluated(Evaluated),
    Notice {
        level: String,
        text: String,
    },
}

#[derive(Debug)]
pub enum Event {
    Subscribed {
        framework: Framework,
        id: FrameworkId,
    },
    Disconnected {
        framework: Framework,
    },
    Offer {
        framework: Framework,
        offer: HeldOffer,
    },
    Rescinded {
        framework: Framework,
        offer: OfferId,
    },
    Update {
        framework: Framework,
        status: Status,
    },
    /// Answer to [`Command::Prepare`].
    Prepared {
        job: JobId,
        generation: u64,
        result: Result<Prepared, String>,
    },
    /// Answer to [`Command::LookUpModels`]: what the job's functions are to use, and why some of it stays as it is.
    Models {
        job: JobId,
        versions: Versions,
        stays: Vec<String>,
    },
    /// Answer to [`Command::WriteManifest`].
    /// An error comes with whether the same may succeed later.
    ManifestWritten {
        job: JobId,
        generation: u64,
        epoch: u64,
        result: Result<(), (String, bool)>,
    },
    TaskHello {
        task: TaskId,
        job: JobId,
        generation: u64,
    },
    StreamReport {
        task: TaskId,
        report: Report,
    },
    TrainReport {
        task: TaskId,
        report: TrainReport,
    },
    /// Where the volumes are that it demands, by their names.
    VolumesAt {
        framework: Framework,
        homes: BTreeMap<String, jobs::AgentId>,
    },
    /// An agent is to be empty by then.
    Draining {
        framework: Framework,
        agent: jobs::AgentId,
        ends_in_ms: u64,
    },
    /// What was not placed in time is wanted no longer; these are the names of its demands.
    Expired {
        framework: Framework,
        names: Vec<String>,
    },
    /// These have to leave by then, for others to take their place.
    Preempted {
        framework: Framework,
        tasks: Vec<TaskId>,
        ends_in_ms: u64,
        /// For whom.
        message: String,
    },
    /// What the master says about unsatisfied demand: by framework, by demand.
    Waiting {
        sentences: BTreeMap<FrameworkId, BTreeMap<String, String>>,
    },
    /// Answer to [`Command::Fire`]: the jobs that were submitted.
    Fired {
        schedule: String,
        due: Due,
        result: Result<Vec<String>, String>,
    },
    Tick,
}

/// A claimed generation.
#[derive(Debug)]
pub struct Prepared {
    /// At least what was asked for, and larger than every earlier claim.
    pub claimed_us: i64,
    pub latest: Option<Manifest>,
    /// The versions of its models that a job without a manifest begins with.
    pub versions: Versions,
}

/// One task to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub task: TaskId,
    pub name: String,
    pub agent: jobs::AgentId,
    pub resources: Resources,
    pub payload: Payload,
    pub kill_grace_ms: u64,
    /// 0 is no limit.
    pub max_completion_ms: u64,
    /// 0 is for ever.
    pub unreachable_kill_ms: u64,
    pub health: Option<HealthCheck>,
    pub priority: i32,
    /// All tasks of it leave if one has to.
    pub group: String,
    pub volumes: Vec<VolumeClaim>,
    pub user: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// `smack task` with this plan.
    Plan(Box<TaskPlan>),
    Command {
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        secrets: BTreeMap<String, String>,
        artifacts: Vec<Artifact>,
    },
}

#[derive(Debug, PartialEq)]
pub enum Command {
    Persist(Box<Record>),
    /// Of a record that is as it was, one task: a job of thousands is not written anew for each of them.
    PersistTask {
        job: JobId,
        task: Box<TaskRecord>,
    },
    /// A submission that a newer one replaced; its folder can go.
    Forget(Box<Record>),
    /// A framework of the runner that was not there before.
    Subscribe {
        framework: Framework,
    },
    PersistFramework {
        framework: Framework,
        id: FrameworkId,
    },
    Demand {
        framework: Framework,
        demands: Vec<Demand>,
    },
    Accept {
        framework: Framework,
        offers: Vec<OfferId>,
        launch: Vec<Launch>,
    },
    Decline {
        framework: Framework,
        offers: Vec<OfferId>,
        refuse_ms: u64,
    },
    Acknowledge {
        framework: Framework,
        status: Status,
    },
    Kill {
        framework: Framework,
        task: TaskId,
        grace_ms: u64,
    },
    /// The state of these tasks, and of every other that the master knows as ours.
    Reconcile {
        framework: Framework,
        tasks: Vec<TaskId>,
    },
    /// Claim the generation in the job's checkpoint folder and look up the latest manifest.
    Prepare {
        job: JobId,
        folder: String,
        generation: u64,
        claimed_us: i64,
        /// The savepoint or epoch to go on from, if it is not the latest manifest.
        from: Option<String>,
        /// Models of which the versions to use are looked up.
        models: Vec<String>,
    },
    /// Which versions of its models a job is to use in the place of these.
    LookUpModels {
        job: JobId,
        in_use: Versions,
    },
    WriteManifest {
        job: JobId,
        folder: String,
        manifest: Box<Manifest>,
    },
    /// What is no longer needed may go.
    CollectGarbage {
        folder: String,
        retain: u32,
    },
    Order {
        task: TaskId,
        order: Order,
    },
    PersistSchedule(Box<Schedule>),
    ForgetSchedule {
        name: String,
    },
    PersistSweep(Box<Sweep>),
    /// A sweep that another one, or another job, replaced; what its trials shared can go.
    ForgetSweep(Box<Sweep>),
    /// Settle the schedule's file and submit it, as the submission that `due` names.
    Fire {
        schedule: Box<Schedule>,
        due: Due,
    },
    /// Something for the history of a training run.
    Run {
        run: String,
        note: Note,
    },
}

/// Where a submission begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    Anew,
    /// At the last checkpoints of the group's earlier submission.
    Latest,
    /// At one of its savepoints, or one of its epochs.
    From(String),
}

/// What does not change while the runner lives.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://host:port` under which tasks reach this runner.
    pub endpoint: String,
    pub data_dir: PathBuf,
    /// How long a gang waits with offers in hand before it gives them back for others to use.
    pub hold_ms: u64,
}

pub struct Book {
    config: Config,
    jobs: BTreeMap<JobId, Job>,
    standings: BTreeMap<Framework, Standing>,
    schedules: BTreeMap<String, Schedule>,
    /// By group.
    sweeps: BTreeMap<String, Sweep>,
}

impl Book {
    /// `records` with the newest manifest of each, for streams.
    pub fn new(
        config: Config,
        frameworks: BTreeMap<Framework, FrameworkId>,
        records: Vec<(Record, Option<Manifest>)>,
    ) -> Self {
        let usual = Framework::usual().into_iter().map(|framework| (framework, Standing::default()));
        let mut standings: BTreeMap<Framework, Standing> = usual.collect();
        let known = frameworks.into_iter();
        standings.extend(known.map(|(framework, id)| (framework, Standing { id: Some(id), ..Standing::default() })));
        let mut jobs = BTreeMap::new();
        for (mut record, latest) in records {
            // Placing is not kept: offers did not survive, so what was being placed is prepared again.
            if matches!(record.phase, Phase::Preparing | Phase::Placing) {
                record.phase = Phase::Restarting { until_ms: 0 };
            }
            // One task was to begin again by itself, from a manifest that only the runner before knew to be the newest.
            let evaluator = evaluator::of(&record);
            let lost = |task: &TaskRecord| {
                task.state.is_terminal() && task.state != TaskState::Finished && Some(task.index) != evaluator
            };
            if record.phase == Phase::Running && record.tasks.iter().any(lost) {
                record.phase = Phase::Restarting { until_ms: 0 };
            }
            let mut job = Job::new(record);
            job.find_evaluator();
            job.latest = latest;
            if !job.record.tasks.is_empty() && !job.record.phase.is_over() {
                // Its tasks may well be running; they connect again and are reconciled.
                job.coordinator = tasks::coordinator(&job);
            }
            if job.record.phase == Phase::Stopping {
                job.stop_asked = true;
                if let Some(coordinator) = &mut job.coordinator {
                    let asked = coordinator.apply(0, streaming::coordinator::Event::StopRequested);
                    assert!(asked.is_empty(), "nothing is asked before a task has connected: {asked:?}");
                }
            }
            jobs.insert(job.record.spec.id.clone(), job);
        }
        Self { config, jobs, standings, schedules: BTreeMap::new(), sweeps: BTreeMap::new() }
    }

    pub fn apply(&mut self, now_ms: u64, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Subscribed { framework, id } => self.subscribed(framework, id, &mut commands),
            Event::Disconnected { framework } => {
                let standing = self.standing(&framework);
                standing.connected = false;
                standing.offers.clear();
                standing.posted = None;
            }
            Event::Offer { framework, offer } => {
                self.standing(&framework).offers.insert(offer.id.clone(), offer);
            }
            Event::Rescinded { framework, offer } => {
                self.standing(&framework).offers.remove(&offer);
            }
            Event::Update { framework, status } => self.updated(now_ms, framework, status, &mut commands),
            Event::Prepared { job, generation, result } => {
                self.prepared(now_ms, &job, generation, result, &mut commands);
            }
            Event::Models { job, versions, stays } => self.models_wanted(now_ms, &job, versions, stays, &mut commands),
            Event::ManifestWritten { job, generation, epoch, result } => {
                self.manifest_written(now_ms, &job, generation, epoch, result, &mut commands);
            }
            Event::TaskHello { task, job, generation } => {
                self.task_hello(now_ms, task, &job, generation, &mut commands);
            }
            Event::StreamReport { task, report } => self.stream_report(now_ms, &task, report, &mut commands),
            Event::TrainReport { task, report } => self.train_report(now_ms, &task, report, &mut commands),
            Event::VolumesAt { framework, homes } => self.standing(&framework).homes = homes,
            Event::Draining { framework, agent, ends_in_ms } => {
                self.leave(now_ms, &framework, &agent, ends_in_ms, &mut commands);
            }
            Event::Expired { framework, names } => self.expired(now_ms, &framework, &names, &mut commands),
            Event::Preempted { framework, tasks, ends_in_ms, message } => {
                self.make_room(now_ms, &framework, &tasks, ends_in_ms, &message, &mut commands);
            }
            Event::Waiting { mut sentences } => {
                for standing in self.standings.values_mut() {
                    let said = standing.id.as_ref().and_then(|id| sentences.remove(id));
                    standing.waiting = said.unwrap_or_default();
                }
            }
            Event::Fired { schedule, due, result } => self.fired(now_ms, &schedule, due, result, &mut commands),
            Event::Tick => self.tick(now_ms, &mut commands),
        }
        self.advance(now_ms, &mut commands);
        commands
    }

    /// Takes a group of settled jobs in. Refused while a group of that name is still at work. `resume`: what its earlier
    /// submission reached is gone on from, not forgotten.
    pub fn submit(
        &mut self,
        now_ms: u64,
        specs: Vec<JobSpec>,
        submission: &str,
        resume: Resume,
    ) -> Result<(Vec<String>, Vec<Command>), String> {
        let mut commands = Vec::new();
        let group = specs.first().map(|spec| spec.group.clone()).ok_or("the file has no job in it")?;
        self.is_free(&group)?;
        let mut goes_on = match resume {
            Resume::Latest => self.goes_on(&specs, None)?,
            Resume::From(from) => self.goes_on(&specs, Some(from))?,
            Resume::Anew => BTreeMap::new(),
        };
        self.replace(&group, &goes_on, &mut commands);
        let mut ids = Vec::new();
        for spec in specs {
            ids.push(spec.id.to_string());
            let (record, text) = match goes_on.remove(&spec.id) {
                Some(record) => (Record { submitted_ms: now_ms, ..record }, "submitted, to go on from where it was"),
                None => (Record::new(spec, submission, now_ms), "submitted"),
            };
            let mut job = Job::new(record);
            job.note(now_ms, "info", text);
            commands.push(Command::Persist(Box::new(job.record.clone())));
            self.jobs.insert(job.record.spec.id.clone(), job);
        }
        self.advance(now_ms, &mut commands);
        Ok((ids, commands))
    }

    /// Whether a group of that name may begin.
    fn is_free(&self, group: &str) -> Result<(), String> {
        let way_out = format!("stop it first with `smack stop {group}`");
        if let Some(sweep) = self.sweeps.get(group).filter(|sweep| !sweep.is_over()) {
            return Err(format!("group '{group}' is already there: its sweep is {}; {way_out}", sweep.state()));
        }
        let mut of_group = self.jobs.values().filter(|job| job.record.spec.group == group);
        match of_group.find(|job| !job.record.phase.is_over()) {
            Some(job) => Err(format!(
                "group '{group}' is already there: {} is {}; {way_out}",
                job.record.spec.id,
                job.record.phase.as_str()
            )),
            None => Ok(()),
        }
    }

    /// Takes away what a group of that name was before; what `goes_on` is not forgotten.
    fn replace(&mut self, group: &str, goes_on: &BTreeMap<JobId, Record>, commands: &mut Vec<Command>) {
        let of_group = self.jobs.values().filter(|job| job.record.spec.group == group);
        let replaced: Vec<JobId> = of_group.map(|job| job.record.spec.id.clone()).collect();
        for id in replaced {
            if let Some(job) = self.jobs.remove(&id)
                && !goes_on.contains_key(&id)
            {
                commands.push(Command::Forget(Box::new(job.record)));
            }
        }
        if let Some(sweep) = self.sweeps.remove(group) {
            commands.push(Command::ForgetSweep(Box::new(sweep)));
        }
    }

    /// Stops a job, or all jobs of a group: streams after a final checkpoint.
    pub fn stop(&mut self, now_ms: u64, subject: &str) -> Result<(Vec<String>, Vec<Command>), String> {
        let ids = self.find(subject);
        if ids.is_empty() {
            return Err(self.unknown(subject));
        }
        let mut commands = Vec::new();
        self.stop_sweep(now_ms, subject, &mut commands);
        for id in &ids {
            self.stop_job(now_ms, id, &mut commands);
        }
        self.advance(now_ms, &mut commands);
        Ok((ids.iter().map(JobId::to_string).collect(), commands))
    }

    /// Jobs that a name means: a group, a job, or a task's job.
    fn find(&self, subject: &str) -> Vec<JobId> {
        self.jobs
            .values()
            .filter(|job| {
                job.record.spec.group == subject
                    || job.record.spec.id.as_str() == subject
                    || job.record.tasks.iter().any(|task| task.id.as_str() == subject)
            })
            .map(|job| job.record.spec.id.clone())
            .collect()
    }

    fn unknown(&self, subject: &str) -> String {
        let names: BTreeSet<&str> =
            self.jobs.values().flat_map(|job| [job.record.spec.group.as_str(), job.record.spec.id.as_str()]).collect();
        match jobs::text::nearest(subject, names.iter().copied()) {
            Some(near) => format!("there is no job, group or task '{subject}'; did you mean '{near}'?"),
            None if names.is_empty() => format!("there is no job, group or task '{subject}'; no job was submitted yet"),
            None => format!("there is no job, group or task '{subject}'; `smack ps` lists them"),
        }
    }

    fn subscribed(&mut self, framework: Framework, id: FrameworkId, commands: &mut Vec<Command>) {
        let standing = self.standing(&framework);
        standing.connected = true;
        standing.offers.clear();
        standing.posted = None;
        if standing.id.as_ref() != Some(&id) {
            standing.id = Some(id.clone());
            commands.push(Command::PersistFramework { framework: framework.clone(), id });
        }
        // Whatever happened while nobody listened: ask for the state of every task we believe in.
        let tasks = self
            .jobs
            .values()
            .filter(|job| framework.has(job))
            .flat_map(|job| &job.record.tasks)
            .filter(|task| !task.state.is_terminal())
            .map(|task| task.id.clone())
            .collect();
        commands.push(Command::Reconcile { framework: framework.clone(), tasks });
        // A kill that was under way when the line broke may never have arrived.
        for job in self.jobs.values_mut().filter(|job| framework.has(job)) {
            let wanted = match job.record.phase {
                Phase::Launching | Phase::Running => true,
                // The tasks of a stream end by themselves after its last checkpoint.
                Phase::Stopping => job.is_stream(),
                // Whom to end is decided again.
                Phase::Ending { .. } => {
                    job.live.iter_mut().for_each(|task| task.kill_sent = false);
                    true
                }
                _ => false,
            };
            if !wanted {
                job.kill_tasks(0, commands);
            }
        }
    }

    /// Moves every job as far as it can go, then brings demand and offers in line.
    fn advance(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        self.look_at_schedules(now_ms, commands);
        self.look_at_sweeps(now_ms, commands);
        let ids: Vec<JobId> = self.jobs.keys().cloned().collect();
        for id in &ids {
            self.advance_job(now_ms, id, commands);
        }
        let mut waiting = self.waiting_jobs(now_ms, commands);
        let holding = self.standings.iter().filter(|(_, standing)| !standing.offers.is_empty());
        let holding: Vec<Framework> = holding.map(|(framework, _)| framework.clone()).collect();
        for framework in holding {
            let waiting = waiting.remove(&framework).unwrap_or_default();
            self.place(now_ms, &framework, &waiting, commands);
        }
        self.post_demands(now_ms, commands);
        self.tell_runs(now_ms, commands);
    }

    fn advance_job(&mut self, now_ms: u64, id: &JobId, commands: &mut Vec<Command>) {
        if let Some(job) = self.jobs.get_mut(id)
            && job.end_what_is_left(now_ms, commands)
        {
            commands.push(Command::Persist(Box::new(job.record.clone())));
        }
        let ready = self.jobs.get(id).is_some_and(|job| match job.record.phase {
            Phase::Waiting => job.record.spec.after.iter().all(|before| self.is_there(before)),
            Phase::Restarting { until_ms } => now_ms >= until_ms && job.no_task_left(),
            Phase::Preparing
            | Phase::Placing
            | Phase::Launching
            | Phase::Running
            | Phase::Stopping
            | Phase::Ending { .. }
            | Phase::Finished
            | Phase::Stopped
            | Phase::Failed { .. } => false,
        });
        if ready {
            self.prepare(now_ms, id, commands);
        }
    }

    /// Whether what comes after `id` may start: a model has a version, a bounded stream has ended, an unbounded one runs.
    fn is_there(&self, id: &JobId) -> bool {
        let Some(job) = self.jobs.get(id) else { return true };
        match (&job.record.spec.body, &job.record.phase) {
            (_, Phase::Finished) => true,
            (JobBody::Train(_), _) => job.record.model_version.is_some(),
            (JobBody::Stream(body), Phase::Running) => !body.bounded,
            (JobBody::Service(_), Phase::Running) => true,
            _ => false,
        }
    }

    fn prepare(&mut self, now_ms: u64, id: &JobId, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.record.earlier = job.totals();
        job.record.generation += 1;
        // Larger than any earlier claim of this submission even when the clock stepped back.
        job.record.claimed_us = (now_ms as i64 * 1000).max(job.record.claimed_us.max(job.record.begun_us) + 1);
        job.record.tasks.clear();
        job.live.clear();
        job.grows = false;
        job.placing_since_ms = now_ms;
        job.coordinator = None;
        job.record.phase = Phase::Preparing;
        commands.push(Command::Persist(Box::new(job.record.clone())));
        if matches!(job.record.spec.body, JobBody::Stream(_)) {
            commands.push(Command::Prepare {
                job: id.clone(),
                folder: checkpoint_folder(&self.config, &job.record),
                generation: job.record.generation,
                claimed_us: job.record.claimed_us,
                from: job.record.resume_from.clone(),
                models: match &job.record.spec.body {
                    JobBody::Stream(body) => body.models.clone(),
                    JobBody::Train(_) | JobBody::Command(_) | JobBody::Service(_) => Vec::new(),
                },
            });
        } else {
            job.record.phase = Phase::Placing;
        }
    }

    fn prepared(
        &mut self,
        now_ms: u64,
        id: &JobId,
        generation: u64,
        result: Result<Prepared, String>,
        commands: &mut Vec<Command>,
    ) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.record.generation != generation || job.record.phase != Phase::Preparing {
            return;
        }
        match result {
            Err(error) if job.record.spec.restart == Restart::Never => {
                job.note(now_ms, "error", error.clone());
                job.record.phase = Phase::Failed { error };
            }
            // A disk that is full or a manifest that is damaged can be mended while the job waits.
            Err(error) => {
                // It will not have been mended at once.
                job.failures = job.failures.max(1);
                job.restart(now_ms, &error);
            }
            // What sinks had prepared for it may not be visible yet: then its tasks finish that first.
            Ok(Prepared { latest: Some(manifest), .. }) if manifest.finished && !manifest.has_prepared() => {
                job.note(now_ms, "info", "all input was already processed");
                job.record.phase = Phase::Finished;
            }
            Ok(Prepared { claimed_us, latest, versions }) => {
                if let Some(manifest) = &latest {
                    job.note(
                        now_ms,
                        "info",
                        format!("generation {generation} goes on from checkpoint {}", manifest.epoch),
                    );
                }
                job.record.claimed_us = claimed_us;
                // It is the latest one now.
                job.record.resume_from = None;
                job.record.versions = versions;
                job.record.versions.extend(latest.iter().flat_map(|manifest| manifest.versions.clone()));
                job.latest = latest;
                job.record.phase = Phase::Placing;
            }
        }
        commands.push(Command::Persist(Box::new(job.record.clone())));
    }

    /// Tries to place every job that waits for offers, in their order, then gives back what nobody needs.
    fn place(&mut self, now_ms: u64, framework: &Framework, waiting: &[JobId], commands: &mut Vec<Command>) {
        for id in waiting {
            self.place_job(now_ms, framework, id, commands);
        }
        let still_waiting = waiting.iter().any(|id| self.jobs[id].n_wanted(now_ms) > 0);
        let hold_ms = self.config.hold_ms;
        let standing = self.standing(framework);
        let given_back: Vec<OfferId> = standing
            .offers
            .values()
            .filter(|offer| !still_waiting || now_ms.saturating_sub(offer.held_since_ms) > hold_ms)
            .map(|offer| offer.id.clone())
            .collect();
        if !given_back.is_empty() {
            for offer in &given_back {
                standing.offers.remove(offer);
            }
            // A gang that holds part of what it needs steps back for a while, so that two gangs that each hold half do
            // not wait for one another; the time differs by framework so that they do not step back in step.
            let refuse_ms = match (still_waiting, framework.kind) {
                (false, _) => 0,
                (true, Kind::Streams) => 700,
                (true, Kind::Training) => 1100,
            };
            commands.push(Command::Decline { framework: framework.clone(), offers: given_back, refuse_ms });
        }
    }

    fn place_job(&mut self, now_ms: u64, framework: &Framework, id: &JobId, commands: &mut Vec<Command>) {
        let standing = &self.standings[framework];
        if !standing.connected || standing.offers.is_empty() {
            return;
        }
        let offers: Vec<HeldOffer> = standing.offers.values().cloned().collect();
        let Some(job) = self.jobs.get_mut(id) else { return };
        // Offers of one round arrive one after another; a moment's patience spreads the tasks over all agents.
        if is_early(now_ms, &offers, job.n_wanted(now_ms)) {
            return;
        }
        let Some(placements) = job.places(now_ms, &offers, &standing.homes) else { return };
        if job.missing(now_ms) > 0 {
            return job.grow(now_ms, placements.len(), commands);
        }
        let count = placements.len();
        let used: BTreeSet<OfferId> = placements.iter().map(|placed| placed.offer.clone()).collect();
        job.last_error = None;
        let launch = if job.record.phase == Phase::Placing {
            job.record.begun_us = job.record.claimed_us;
            let from = job.latest.as_ref().map(|manifest| manifest.epoch);
            job.record.tasks = (0..count as u32)
                .zip(&placements)
                .map(|(index, placed)| tasks::placed(job, index, 0, placed))
                .collect();
            job.live = vec![TaskLive::default(); count];
            job.coordinator = tasks::coordinator(job);
            job.record.phase = Phase::Launching;
            let fewer = job.told_fewer().map_or(String::new(), |fewer| format!(", with {fewer}"));
            let text = format!("generation {} launched on {} offers{fewer}", job.record.generation, used.len());
            job.note(now_ms, if fewer.is_empty() { "info" } else { "warning" }, text);
            (0..count).zip(&placements).map(|(at, placed)| tasks::launch(&self.config, job, at, from, placed)).collect()
        } else {
            // Of an evaluator that nobody could hear; nobody wants it any more when it comes back.
            let replaced = job.due_again(now_ms).into_iter().map(|(at, _)| &job.record.tasks[at]);
            for task in replaced.filter(|task| !task.state.is_terminal()) {
                commands.push(Command::Kill { framework: framework.clone(), task: task.id.clone(), grace_ms: 0 });
            }
            job.place_again(now_ms, &self.config, &placements)
        };
        commands.push(Command::Persist(Box::new(job.record.clone())));
        let standing = self.standing(framework);
        for offer in &used {
            standing.offers.remove(offer);
        }
        commands.push(Command::Accept { framework: framework.clone(), offers: used.into_iter().collect(), launch });
    }
}

/// Whether offers of one round may still be on their way, so that tasks would not be spread over all agents yet.
fn is_early(now_ms: u64, offers: &[HeldOffer], n_tasks: u32) -> bool {
    let n_agents = offers.iter().map(|offer| &offer.agent).collect::<BTreeSet<_>>().len();
    let oldest_ms = offers.iter().map(|offer| now_ms.saturating_sub(offer.held_since_ms)).max().unwrap_or(0);
    n_agents < n_tasks as usize && oldest_ms < SPREAD_MS
}

/// The folder of a job's checkpoints: where its file says, else below the runner's own. As `Folder::open` takes it.
pub fn checkpoint_folder(config: &Config, record: &Record) -> String {
    let spec = &record.spec;
    let dir = match &spec.body {
        JobBody::Stream(body) => body.checkpoint_dir.as_ref().map(|dir| (dir, &body.base_dir)),
        JobBody::Train(_) | JobBody::Command(_) | JobBody::Service(_) => None,
    };
    match dir {
        Some((dir, _)) if dir.starts_with(S3) => {
            format!("{}/{}/{}/{}", dir.trim_end_matches('/'), spec.group, spec.name, record.submission)
        }
        Some((dir, base_dir)) => {
            let base = Path::new(base_dir).join(dir).join(&spec.group);
            base.join(&spec.name).join(&record.submission).display().to_string()
        }
        None => submission_folder(config, record).join("checkpoints").display().to_string(),
    }
}

/// The folder of the rows that all trials of a sweep are trained on. No job is called so.
pub fn rows_folder(config: &Config, group: &str, submission: &str) -> PathBuf {
    config.data_dir.join("jobs").join(group).join(".rows").join(submission)
}

/// Everything that one submission of a job keeps lies below this.
pub fn submission_folder(config: &Config, record: &Record) -> PathBuf {
    config.data_dir.join("jobs").join(&record.spec.group).join(&record.spec.name).join(&record.submission)
}
