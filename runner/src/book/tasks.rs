//! The life of a job's tasks: launched, updated, lost, replaced, stopped.

use super::job::{Job, Phase, TaskRecord};
use super::placement::Placement;
use super::{Book, Command, Config, Framework, Launch, Payload, Status, exits, gang};
use jobs::{JobBody, JobId, Peer, Restart, StreamBody, TaskBody, TaskId, TaskPlan, TaskState, TrialPlan};
use streaming::control::Order;
use streaming::coordinator;

/// A job that fails is started again at once; if it fails again soon, after this, which doubles up to the longest wait.
const BACKOFF_MS: u64 = 200;
const BACKOFF_MS_MAX: u64 = 30_000;

/// A job that ran this long starts its back-off anew.
const STEADY_MS: u64 = 30_000;

/// How long the snapshots of an epoch may take before a higher one is tried.
const CHECKPOINT_TIMEOUT_MS: u64 = 60_000;

/// The exit code by which `smack task` says that trying again cannot help.
pub const EXIT_FATAL: i32 = 2;

/// A task as it stands in the record once it has a place.
pub fn placed(job: &Job, index: u32, life: u32, placed: &Placement) -> TaskRecord {
    let record = &job.record;
    let task = TaskId::of(&record.spec.id, record.generation, index);
    // The submission and the life are part of the id, because a task id is never used again.
    let task = match life {
        0 => format!("{task}.{}", record.submission),
        _ => format!("{task}.{}.{life}", record.submission),
    };
    TaskRecord {
        id: TaskId::new(task),
        index,
        life,
        agent: placed.agent.clone(),
        offer: placed.offer.clone(),
        host: placed.host.clone(),
        port: placed.ports.first().copied(),
        state: TaskState::Staging,
        reason: None,
        message: String::new(),
    }
}

/// What a placed task is told. `from`: the epoch that it begins from.
pub fn launch(config: &Config, job: &Job, at: usize, from: Option<u64>, placed: &Placement) -> Launch {
    let record = &job.record;
    let spec = &record.spec;
    let TaskRecord { id: task, index, life, .. } = &record.tasks[at];
    let peer = |task: &TaskRecord| Peer { host: task.host.clone(), port: task.port.unwrap_or(0) };
    let body = match &spec.body {
        JobBody::Stream(body) => {
            let state_memory_bytes = Some(body.state_memory(&spec.resources));
            Some(TaskBody::Stream(StreamBody { state_memory_bytes, ..body.clone() }))
        }
        JobBody::Train(body) => Some(TaskBody::Train(body.clone())),
        JobBody::Command(_) | JobBody::Service(_) => None,
    };
    let payload = match (&spec.body, body) {
        (JobBody::Command(command) | JobBody::Service(command), _) => {
            let (argv, env) = match &command.gang {
                None => (command.argv.clone(), command.env.clone()),
                Some(gang) => {
                    let role = gang.place_of(*index).map(|(role, _)| role);
                    let mut env = gang::environment(job, gang, at, &placed.resources);
                    env.extend(role.into_iter().flat_map(|role| role.env.clone()));
                    (role.map_or(Vec::new(), |role| role.argv.clone()), env)
                }
            };
            let (secrets, artifacts) = (command.secrets.clone(), command.artifacts.clone());
            Payload::Command { argv, env, secrets, artifacts }
        }
        (_, Some(body)) => Payload::Plan(Box::new(TaskPlan {
            task: task.clone(),
            job: spec.id.clone(),
            submission: record.submission.clone(),
            generation: record.generation,
            claimed_us: record.claimed_us,
            index: *index,
            life: *life,
            begun_us: record.begun_us,
            slices: (spec.resources.cores().round() as u32).max(1),
            peers: record.tasks.iter().map(peer).collect(),
            runner: config.endpoint.clone(),
            checkpoint_dir: super::checkpoint_folder(config, record),
            model_dir: config.data_dir.join("models").display().to_string(),
            trial: record.trial.map(|trial| TrialPlan {
                pause_after: trial.pause_after,
                rows_dir: super::rows_folder(config, &spec.group, &record.submission).display().to_string(),
            }),
            versions: record.versions.clone(),
            dead_letter_dir: super::submission_folder(config, record).join("dead-letter").display().to_string(),
            restore_epoch: from,
            body,
        })),
        (_, None) => unreachable!("a stream or training job has a body"),
    };
    Launch {
        name: match job.member(*index) {
            Some(member) => format!("{} {} {member}", spec.body.kind(), spec.id),
            None => format!("{} {} {}/{}", spec.body.kind(), spec.id, index + 1, record.tasks.len()),
        },
        task: task.clone(),
        agent: placed.agent.clone(),
        resources: placed.resources.clone(),
        payload,
        kill_grace_ms: spec.kill_grace_ms,
        max_completion_ms: spec.max_completion_ms,
        unreachable_kill_ms: spec.unreachable_kill_ms,
        health: match &spec.body {
            JobBody::Service(service) => service.health.clone(),
            JobBody::Stream(_) | JobBody::Train(_) | JobBody::Command(_) => None,
        },
        priority: spec.priority,
        group: spec.id.to_string(),
        volumes: spec.claims(*index),
        user: spec.user.clone(),
    }
}

/// What a stream calls itself in manifests, transactional ids, groups and table writers: no other submission, also of the
/// same file, has the same name.
pub fn run_name(job: &JobId, submission: &str) -> String {
    format!("{job}@{submission}")
}

pub fn coordinator(job: &Job) -> Option<coordinator::Coordinator> {
    let JobBody::Stream(body) = &job.record.spec.body else { return None };
    let config = coordinator::Config {
        job: run_name(&job.record.spec.id, &job.record.submission),
        generation: job.record.generation,
        claimed_us: job.record.claimed_us,
        fingerprint: body.fingerprint.clone(),
        n_tasks: job.record.spec.parallelism,
        interval_ms: body.checkpoint_interval_ms,
        timeout_ms: CHECKPOINT_TIMEOUT_MS,
        versions: job.record.versions.clone(),
    };
    Some(coordinator::Coordinator::new(config, job.latest.as_ref()))
}

impl Book {
    pub(super) fn updated(&mut self, now_ms: u64, framework: Framework, status: Status, commands: &mut Vec<Command>) {
        let task = status.task.clone();
        if let Some(id) = self.job_of(&task) {
            self.task_updated(now_ms, &id, &status, commands);
        } else if !status.state.is_terminal() {
            // A task of an earlier generation or submission that still runs: nobody wants it.
            commands.push(Command::Kill { framework: framework.clone(), task, grace_ms: 0 });
        }
        if !status.uuid.is_empty() {
            commands.push(Command::Acknowledge { framework, status });
        }
    }

    pub(super) fn job_of(&self, task: &TaskId) -> Option<JobId> {
        self.jobs.values().find(|job| job.record.place_of(task).is_some()).map(|job| job.record.spec.id.clone())
    }

    fn task_updated(&mut self, now_ms: u64, id: &JobId, status: &Status, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let (reason, mark) = (status.reason, job.mark());
        let Some((task, _)) = job.task_mut(&status.task) else { return };
        if task.state.is_terminal() {
            return;
        }
        let changed = task.state != status.state;
        let index = Some(task.index);
        task.state = status.state;
        task.reason = Some(reason);
        task.message.clone_from(&status.message);
        if !changed {
            return;
        }
        match status.state {
            TaskState::Staging | TaskState::Starting | TaskState::Killing => return,
            TaskState::Running => {
                // A command has nothing to get ready; our own tasks say when they are.
                if matches!(job.record.spec.body, JobBody::Command(_) | JobBody::Service(_)) {
                    if let Some((_, live)) = job.task_mut(&status.task) {
                        live.ready = true;
                    }
                    job.all_ready(now_ms);
                }
            }
            TaskState::Finished => {
                if let (Some(index), Some(coordinator)) = (index, &mut job.coordinator) {
                    let asked = coordinator.apply(now_ms, coordinator::Event::TaskEnded { index });
                    self.coordinated(now_ms, id, asked, commands);
                }
                let Some(job) = self.jobs.get_mut(id) else { return };
                job.task_finished(now_ms, commands);
            }
            TaskState::Failed
            | TaskState::Killed
            | TaskState::Lost
            | TaskState::Dropped
            | TaskState::Unknown
            | TaskState::Unreachable => {
                if job.goes_on_without_evaluator(&status.task) {
                    job.evaluator_lost(now_ms, &describe(status));
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                    return;
                }
                if job.goes_on_without(status) {
                    self.task_lost_alone(now_ms, id, describe(status), &status.task, commands);
                    let Some(job) = self.jobs.get(id) else { return };
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                    return;
                }
                if status.state == TaskState::Unknown
                    && let Some((task, _)) = job.task_mut(&status.task)
                {
                    // The master knows every agent again and none has it: for us it is lost.
                    task.state = TaskState::Lost;
                }
                let what = describe(status);
                // Only our own program means that by this code; any other may use it as it likes.
                let fatal = match (&job.record.spec.body, job.record.spec.restart) {
                    (JobBody::Stream(_) | JobBody::Train(_), _) => status.exit_code == EXIT_FATAL,
                    (JobBody::Command(_) | JobBody::Service(_), Restart::ExitCode) => exits::is_permanent(status),
                    (JobBody::Command(_) | JobBody::Service(_), _) => false,
                };
                job.task_lost(now_ms, &what, fatal, commands);
            }
        }
        let Some(job) = self.jobs.get(id) else { return };
        commands.push(job.keep(&status.task, &mark));
    }

    pub(super) fn stop_job(&mut self, now_ms: u64, id: &JobId, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        match job.record.phase {
            Phase::Finished | Phase::Stopped | Phase::Failed { .. } => return,
            Phase::Waiting | Phase::Preparing | Phase::Placing => {
                job.note(now_ms, "info", "stopped before it was placed");
                job.record.phase = Phase::Stopped;
            }
            // While a task is missing no last checkpoint can be taken.
            Phase::Running
                if job.is_stream() && !job.stop_asked && job.live.iter().all(|task| task.again.is_none()) =>
            {
                job.note(now_ms, "info", "stop asked; the final checkpoint is taken");
                job.stop_asked = true;
                job.record.phase = Phase::Stopping;
                if let Some(coordinator) = &mut job.coordinator {
                    let asked = coordinator.apply(now_ms, coordinator::Event::StopRequested);
                    self.coordinated(now_ms, id, asked, commands);
                }
                let Some(job) = self.jobs.get(id) else { return };
                commands.push(Command::Persist(Box::new(job.record.clone())));
                return;
            }
            Phase::Launching | Phase::Running | Phase::Restarting { .. } | Phase::Stopping | Phase::Ending { .. } => {
                job.stop_asked = true;
                job.note(now_ms, "info", "stop asked; tasks are ended");
                job.kill_tasks(job.record.spec.kill_grace_ms, commands);
                match job.no_task_left() {
                    true if job.rescaled(now_ms) => {}
                    true => job.record.phase = Phase::Stopped,
                    false => job.record.phase = Phase::Stopping,
                }
            }
        }
        commands.push(Command::Persist(Box::new(job.record.clone())));
    }
}

fn describe(status: &Status) -> String {
    let text = match status.state {
        TaskState::Unreachable => format!("agent {} cannot be heard", status.agent),
        TaskState::Unknown => "nobody knows it any more".to_string(),
        _ if status.message.is_empty() => status.state.to_string(),
        _ => format!("{}: {}", status.state, status.message),
    };
    format!("task {}: {text}", status.task)
}

impl Job {
    /// Called when a task became ready: the job runs once all are.
    pub fn all_ready(&mut self, now_ms: u64) {
        if self.record.phase == Phase::Launching && self.live.iter().all(|task| task.ready) {
            self.record.phase = Phase::Running;
            self.running_since_ms = now_ms;
            self.warning = None;
            self.note(
                now_ms,
                "info",
                format!("all {} tasks of generation {} run", self.live.len(), self.record.generation),
            );
        }
    }

    fn task_finished(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        if matches!(self.record.phase, Phase::Restarting { .. }) {
            // It was told to end, so that another generation goes on with its work.
            return;
        }
        if let Some(gang) = self.record.spec.body.gang().filter(|_| !self.stop_asked).cloned() {
            return self.gang_task_finished(now_ms, &gang, commands);
        }
        if self.evaluator().is_some() && !self.stop_asked {
            return self.trained(now_ms, commands);
        }
        if !self.record.tasks.iter().all(|task| task.state == TaskState::Finished) {
            return;
        }
        let spec = &self.record.spec;
        let of_others = matches!(spec.body, JobBody::Command(_) | JobBody::Service(_));
        if of_others && spec.restart == Restart::Always && !self.stop_asked {
            self.restart(now_ms, &format!("the {} ended", spec.body.kind()));
            return;
        }
        if self.rescaled(now_ms) {
            return;
        }
        self.record.phase = if self.stop_asked { Phase::Stopped } else { Phase::Finished };
        self.note(now_ms, "info", self.record.phase.as_str());
    }

    /// The tasks of a stream that is to have another number of them are gone: it starts again with that many.
    pub(super) fn rescaled(&mut self, now_ms: u64) -> bool {
        let Some(parallelism) = self.record.rescale.filter(|_| self.stop_asked) else { return false };
        self.record.spec.parallelism = parallelism;
        self.record.rescale = None;
        self.stop_asked = false;
        match self.leaves_by_ms.take() {
            Some(_) => self.note(now_ms, "info", "made room for others, and waits for room"),
            None => self.note(now_ms, "info", format!("starts again with {parallelism} tasks")),
        }
        self.wait_for_room(now_ms);
        true
    }

    /// A task ended that should not have: the generation is over.
    fn task_lost(&mut self, now_ms: u64, what: &str, fatal: bool, commands: &mut Vec<Command>) {
        if self.record.phase.is_over() {
            return;
        }
        if matches!(self.record.phase, Phase::Ending { .. }) {
            // It was asked to end, or has had its time; the work is done either way.
            self.note(now_ms, "info", what);
            self.end_what_is_left(now_ms, commands);
            return;
        }
        self.kill_tasks(0, commands);
        if self.stop_asked {
            if self.no_task_left() && !self.rescaled(now_ms) {
                self.record.phase = Phase::Stopped;
                self.note(now_ms, "info", "stopped");
            }
            return;
        }
        if matches!(self.record.phase, Phase::Restarting { .. }) {
            return;
        }
        let makes_room = self.leaves_by_ms.take().is_some_and(|by_ms| now_ms < by_ms);
        if makes_room && self.record.spec.restart != Restart::Never {
            self.note(now_ms, "info", format!("{what}; it made room for others, and waits for room"));
            return self.wait_for_room(now_ms);
        }
        let what = match &self.last_error {
            Some(error) => format!("{what} ({error})"),
            None if makes_room => format!("{what}; it had to make room for others, and is not to be started again"),
            None => what.to_string(),
        };
        if fatal || self.record.spec.restart == Restart::Never {
            let error = self.last_error.clone().unwrap_or(what);
            // The task may have told it itself just before.
            if self.record.events.back().is_none_or(|last| last.text != error) {
                self.note(now_ms, "error", error.clone());
            }
            self.record.phase = Phase::Failed { error };
            return;
        }
        self.restart(now_ms, &what);
    }

    pub(super) fn restart(&mut self, now_ms: u64, what: &str) {
        let wait_ms = self.back_off(now_ms);
        self.record.phase = Phase::Restarting { until_ms: now_ms + wait_ms };
        let when = if wait_ms == 0 { "at once".to_string() } else { format!("in {wait_ms} ms") };
        self.note(now_ms, "warning", format!("{what}; starting again {when}"));
    }

    /// Counts a failure; how long to wait after it.
    pub(super) fn back_off(&mut self, now_ms: u64) -> u64 {
        if self.running_since_ms > 0 && now_ms.saturating_sub(self.running_since_ms) > STEADY_MS {
            self.failures = 0;
        }
        let wait_ms = match self.failures {
            0 => 0,
            failures => (BACKOFF_MS << (failures - 1).min(10)).min(BACKOFF_MS_MAX),
        };
        self.failures += 1;
        self.record.restarts += 1;
        wait_ms
    }

    pub fn kill_tasks(&mut self, grace_ms: u64, commands: &mut Vec<Command>) {
        let framework = Framework::of(&self.record.spec);
        for (task, live) in self.record.tasks.iter().zip(&mut self.live) {
            // A kill that was sent is only worth repeating to shorten its grace.
            let again = !live.kill_sent || grace_ms == 0;
            if !task.state.is_terminal() && again {
                live.kill_sent = true;
                // The order is quicker where the control stream is open; the kill also reaches a task that hangs.
                commands.push(Command::Order { task: task.id.clone(), order: Order::Stop });
                commands.push(Command::Kill { framework: framework.clone(), task: task.id.clone(), grace_ms });
            }
        }
    }
}
