//! One job as the runner knows it: what is kept on disk, and what is known only while tasks report.

use super::{Command, Demand};
use crate::view::EventView;
use jobs::{AgentId, JobBody, JobSpec, Need, OfferId, Reason, TaskId, TaskState};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use streaming::control::{Manifest, OperatorMetrics};
use streaming::functions::Versions;

/// The latest events of a job that are kept for people; a page of history, not a log.
const EVENTS_MAX: usize = 64;

/// Where a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Jobs that it comes after are not there yet.
    Waiting,
    /// Its next generation is claimed and its last checkpoint looked up.
    Preparing,
    /// Demand is posted; offers are collected until all tasks fit.
    Placing,
    /// Tasks were launched; not all of them are ready.
    Launching,
    Running,
    /// A generation ended; the next one starts at `until_ms`, once no task of the old one is left.
    Restarting {
        until_ms: u64,
    },
    /// The final checkpoint of a stop, or the tasks being killed.
    Stopping,
    /// The work of a gang is done; those of its tasks that are left have until then to end by themselves.
    Ending {
        until_ms: u64,
    },
    Finished,
    Stopped,
    Failed {
        error: String,
    },
}

impl Phase {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing | Self::Placing => "placing",
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Restarting { .. } => "restarting",
            Self::Stopping | Self::Ending { .. } => "stopping",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed { .. })
    }
}

/// What survives a restart of the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub spec: JobSpec,
    /// Names the folder of this submission and makes what it leaves outside distinct from an earlier one's.
    pub submission: String,
    pub submitted_ms: u64,
    /// 0 before the first launch.
    pub generation: u64,
    pub claimed_us: i64,
    /// When the latest life of a task began; every later one, of whichever generation, begins later.
    #[serde(default)]
    pub begun_us: i64,
    pub restarts: u64,
    pub phase: Phase,
    pub tasks: Vec<TaskRecord>,
    pub model_version: Option<u64>,
    /// What the generations before this one counted.
    pub earlier: Totals,
    /// As of the last thing worth keeping: a model that was written, or an end.
    pub training: Training,
    /// How many tasks it is to have once the present ones have taken their last checkpoint.
    #[serde(default)]
    pub rescale: Option<u32>,
    /// The savepoint or epoch that its next generation goes on from.
    #[serde(default)]
    pub resume_from: Option<String>,
    /// What the functions of its tasks that have versions began this generation with.
    #[serde(default)]
    pub versions: Versions,
    /// Of a trial of a sweep.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The latest that happened, for people; written down when something else is.
    #[serde(default)]
    pub events: VecDeque<EventView>,
}

/// Where a trial is to come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// It pauses after this epoch; without one it goes to its end and publishes.
    pub pause_after: Option<u64>,
    /// It has paused there.
    pub paused: Option<Paused>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    /// Earlier than it was to come to where its training stopped early.
    pub epoch: u64,
    pub metric: Option<f64>,
}

impl Record {
    /// Where among its tasks this one is: tasks stand in the order of their indices, which are in their names.
    pub fn place_of(&self, task: &TaskId) -> Option<usize> {
        let at = task.index_in(&self.spec.id, self.generation)? as usize;
        self.tasks.get(at).is_some_and(|candidate| candidate.id == *task).then_some(at)
    }

    /// Of its present generation; before there is one, those that it is to have.
    pub fn n_tasks(&self) -> u32 {
        match self.tasks.len() {
            0 => self.spec.parallelism,
            n_tasks => n_tasks as u32,
        }
    }

    pub fn new(spec: JobSpec, submission: &str, submitted_ms: u64) -> Self {
        Self {
            spec,
            submission: submission.to_string(),
            submitted_ms,
            generation: 0,
            claimed_us: 0,
            begun_us: 0,
            restarts: 0,
            phase: Phase::Waiting,
            tasks: Vec::new(),
            model_version: None,
            earlier: Totals::default(),
            training: Training::default(),
            rescale: None,
            resume_from: None,
            versions: Versions::new(),
            trial: None,
            events: VecDeque::new(),
        }
    }
}

/// A launched task of the present generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub id: TaskId,
    pub index: u32,
    /// Rises with each process of this generation that took the place of one that ended.
    #[serde(default)]
    pub life: u32,
    pub agent: AgentId,
    pub offer: OfferId,
    pub host: String,
    pub port: Option<u16>,
    pub state: TaskState,
    pub reason: Option<Reason>,
    pub message: String,
}

/// What tasks said since they, or the runner, started.
#[derive(Clone, Debug, Default)]
pub struct TaskLive {
    pub ready: bool,
    pub metrics: streaming::control::Metrics,
    /// What its operators did between the last two reports, and how long that was.
    pub lately: Lately,
    /// It was launched under a runner before this one, and has not reported to this one yet.
    pub unheard: bool,
    /// Larger than 0 while the task reports no more than it did.
    pub kill_sent: bool,
    /// Its process has ended, and another is to take its place.
    pub again: Option<Again>,
}

/// How a task begins again while the others go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// What happened to its process.
    pub what: String,
    /// From which epoch and not before when; unknown while a manifest is being written that decides it.
    pub from: Option<(u64, u64)>,
}

/// What operators did between two reports of a task.
#[derive(Clone, Debug, Default)]
pub struct Lately {
    at_ms: u64,
    pub elapsed_ms: u64,
    /// Differences of totals; the state is as it is.
    pub operators: Vec<OperatorMetrics>,
}

impl Lately {
    pub fn observe(&mut self, now_ms: u64, before: &[OperatorMetrics], after: &[OperatorMetrics]) {
        let fresh = OperatorMetrics::default();
        let of = |(at, after): (usize, &OperatorMetrics)| {
            let before = before.get(at).filter(|before| before.id == after.id).unwrap_or(&fresh);
            after.since(before)
        };
        self.operators = after.iter().enumerate().map(of).collect();
        self.elapsed_ms = if self.at_ms == 0 { 0 } else { now_ms.saturating_sub(self.at_ms) };
        self.at_ms = now_ms;
    }
}

/// What the operators of a job have done since this runner watches it, over all tasks and generations.
#[derive(Clone, Debug, Default)]
pub struct Done(BTreeMap<String, OperatorMetrics>);

impl Done {
    pub fn add(&mut self, lately: &[OperatorMetrics]) {
        for more in lately {
            let sum = self.0.entry(more.id.clone()).or_default();
            sum.busy_us += more.busy_us;
            sum.blocked_us += more.blocked_us;
            sum.idle_us += more.idle_us;
            sum.rows_in += more.rows_in;
            sum.rows_out += more.rows_out;
            sum.looked_up += more.looked_up;
            sum.remembered += more.remembered;
            for split in &more.splits {
                match sum.splits.iter_mut().find(|known| known.name == split.name) {
                    Some(known) => (known.rows, known.behind) = (known.rows + split.rows, split.behind),
                    None => sum.splits.push(split.clone()),
                }
            }
        }
    }

    /// By id. Of what an operator holds they say nothing.
    pub fn operators(&self) -> impl Iterator<Item = (&str, &OperatorMetrics)> {
        self.0.iter().map(|(id, done)| (id.as_str(), done))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub step: u64,
    pub steps_total: u64,
    pub loss: Option<f64>,
    pub metric: Option<f64>,
    pub metric_name: String,
    pub rows_per_second: f64,
}

/// Counted over all generations and lives, so that totals never fall back when a task is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_late: u64,
    pub rows_bad: u64,
}

impl Totals {
    pub fn add(&mut self, metrics: &streaming::control::Metrics) {
        self.rows_in += metrics.rows_in;
        self.rows_out += metrics.rows_out;
        self.rows_late += metrics.rows_late;
        self.rows_bad += metrics.rows_bad;
    }
}

/// Rows per second, smoothed over a few reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    at_ms: u64,
    rows: u64,
    pub per_second: f64,
}

impl Rate {
    pub fn observe(&mut self, now_ms: u64, rows: u64) {
        if self.at_ms == 0 {
            *self = Self { at_ms: now_ms, rows, per_second: 0.0 };
            return;
        }
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        if elapsed_ms < 500 {
            return;
        }
        let latest = rows.saturating_sub(self.rows) as f64 * 1000.0 / elapsed_ms as f64;
        let smoothed = if self.per_second == 0.0 { latest } else { 0.5 * self.per_second + 0.5 * latest };
        *self = Self { at_ms: now_ms, rows, per_second: smoothed };
    }
}

/// The kept and the live side of one job.
#[derive(Debug)]
pub struct Job {
    pub record: Record,
    pub live: Vec<TaskLive>,
    pub coordinator: Option<streaming::coordinator::Coordinator>,
    pub rate: Rate,
    pub done: Done,
    /// The last trouble that a task told of, with when; cleared when rows flow again.
    pub warning: Option<(u64, String)>,
    /// The error that a task told before it ended.
    pub last_error: Option<String>,
    pub running_since_ms: u64,
    /// Failures since the job last ran for a while; the back-off grows with it.
    pub failures: u32,
    pub checkpoint: Option<(u64, u64)>,
    /// The newest manifest when this generation began; it goes on from there.
    pub latest: Option<Manifest>,
    /// Stop was asked for; what remains is to end the tasks.
    pub stop_asked: bool,
    /// It has to leave for others, until when at most.
    pub leaves_by_ms: Option<u64>,
    /// It ends its generation to have more workers in the next one.
    pub grows: bool,
    /// Since when its next generation waits for room.
    pub placing_since_ms: u64,
    /// When newer versions of its models are looked for again.
    pub models_due_ms: u64,
    /// What the history of runs was told of it: that it began, and that it is over.
    pub run_began: bool,
    pub run_over: bool,
    /// Why it stays with the versions that it has, as was told.
    pub stays: Vec<String>,
    /// Events that were noted since this runner knows it.
    n_notes: u64,
}

impl Job {
    pub fn new(record: Record) -> Self {
        let unheard = |task: &TaskRecord| TaskLive { unheard: !task.state.is_terminal(), ..TaskLive::default() };
        let live = record.tasks.iter().map(unheard).collect();
        Self {
            record,
            live,
            coordinator: None,
            rate: Rate::default(),
            done: Done::default(),
            warning: None,
            last_error: None,
            running_since_ms: 0,
            failures: 0,
            checkpoint: None,
            latest: None,
            stop_asked: false,
            leaves_by_ms: None,
            grows: false,
            placing_since_ms: 0,
            models_due_ms: 0,
            run_began: false,
            run_over: false,
            stays: Vec::new(),
            n_notes: 0,
        }
    }

    /// Of a job of others' programs: is the same as long as nothing of its record changed but the states of tasks.
    pub(super) fn mark(&self) -> (Phase, u64, u64) {
        (self.record.phase.clone(), self.record.restarts, self.n_notes)
    }

    /// Writes down what changed since `mark`, when something of `task` did.
    pub(super) fn keep(&self, task: &TaskId, mark: &(Phase, u64, u64)) -> Command {
        let of_others = matches!(self.record.spec.body, JobBody::Command(_) | JobBody::Service(_));
        match self.record.place_of(task) {
            Some(at) if of_others && self.mark() == *mark => {
                Command::PersistTask { job: self.record.spec.id.clone(), task: Box::new(self.record.tasks[at].clone()) }
            }
            _ => Command::Persist(Box::new(self.record.clone())),
        }
    }

    pub fn note(&mut self, now_ms: u64, level: &str, text: impl Into<String>) {
        self.n_notes += 1;
        let events = &mut self.record.events;
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(EventView { at_ms: now_ms, level: level.to_string(), text: text.into() });
    }

    /// As people are told it.
    pub fn state(&self) -> &'static str {
        match (&self.record.phase, self.record.trial) {
            (Phase::Finished, Some(Trial { paused: Some(_), .. })) => "paused",
            (phase, _) => phase.as_str(),
        }
    }

    pub fn task_mut(&mut self, task: &TaskId) -> Option<(&mut TaskRecord, &mut TaskLive)> {
        let at = self.record.place_of(task)?;
        Some((&mut self.record.tasks[at], &mut self.live[at]))
    }

    /// Rows over all generations.
    pub fn totals(&self) -> Totals {
        let mut totals = self.record.earlier;
        self.live.iter().for_each(|task| totals.add(&task.metrics));
        totals
    }

    /// Whether it is known what its tasks have done.
    pub fn is_counted(&self) -> bool {
        self.live.iter().all(|task| !task.unheard)
    }

    /// Tasks that are to begin again now, while the others go on: their places, and from which epoch.
    pub fn due_again(&self, now_ms: u64) -> Vec<(usize, u64)> {
        if self.record.phase != Phase::Running {
            return Vec::new();
        }
        let from = |task: &TaskLive| task.again.as_ref()?.from.filter(|(_, until_ms)| *until_ms <= now_ms);
        self.live.iter().enumerate().filter_map(|(at, task)| Some((at, from(task)?.0))).collect()
    }

    /// How many tasks it has to place.
    pub fn n_wanted(&self, now_ms: u64) -> u32 {
        self.needs(now_ms).iter().map(|need| need.count).sum()
    }

    /// What the tasks need that it has to place.
    pub fn needs(&self, now_ms: u64) -> Vec<Need<'_>> {
        let mut needs = self.record.spec.needs();
        if self.record.phase != Phase::Placing && needs.iter().any(|need| need.claims.is_some()) {
            let due = self.due_again(now_ms).into_iter().map(|(at, _)| self.record.tasks[at].index as usize);
            return due.filter_map(|index| needs.get(index).cloned()).collect();
        }
        if self.record.phase != Phase::Placing {
            // Only streams, evaluators and workers begin in part, and the tasks of such jobs are all alike.
            let due = self.due_again(now_ms).len() as u32 + self.missing(now_ms);
            needs.truncate(1);
            needs.iter_mut().for_each(|need| need.count = due);
        }
        needs
    }

    /// How long it waits for its place, where it has none.
    pub fn start_within_ms(&self) -> Option<u64> {
        let within_ms = self.record.spec.start_within_ms;
        (within_ms > 0 && self.record.phase == Phase::Placing).then_some(within_ms)
    }

    /// One for each role of a gang. The master knows nothing of roles, so each has a name of its own.
    pub fn demands(&self, now_ms: u64) -> Vec<Demand> {
        let demand = |need: Need<'_>| Demand {
            name: match (&need.claims, need.member) {
                (Some((index, _)), _) => format!("{} {index}", self.record.spec.id),
                (None, Some(member)) => format!("{} {member}", self.record.spec.id),
                (None, None) => self.record.spec.id.to_string(),
            },
            shape: need.resources.clone(),
            n_ports: need.n_ports,
            count: need.count,
            priority: self.record.spec.priority,
            group: self.record.spec.id.to_string(),
            rules: self.record.spec.rules.clone(),
            volumes: need.claims.map(|(_, claims)| claims).unwrap_or_default(),
            within_ms: self.start_within_ms(),
        };
        self.needs(now_ms).into_iter().filter(|need| need.count > 0).map(demand).collect()
    }

    /// Whether no task of the present generation can still run (as far as anybody can know; one that is unreachable is
    /// fenced by its generation).
    pub fn no_task_left(&self) -> bool {
        self.record.tasks.iter().all(|task| task.state.is_terminal() || task.state == TaskState::Unreachable)
    }
}
