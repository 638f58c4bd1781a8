//! Sweeps: one training job many times over with other settings, each trial a job of its own in the sweep's group.
//!
//! Which trial goes on, and until which epoch, the algorithm says (`training::sweep`); here trials become jobs, and what becomes
//! of the jobs is told to the algorithm. A trial that pauses is a job that has finished; it goes on as the next generation of the
//! same submission, and so from its checkpoint. None publishes; when the search is over the best one goes on once more, to its end
//! and a model version.
//!
//! Invariant: pure, as all of the book. The sweep is written down before its jobs, and what a job is to come to stands in its
//! record: whatever a runner that dies between the two leaves behind, the next one brings the jobs into line with the sweep.

use super::job::{Job, Phase, Record, Trial};
use super::{Book, Command};
use crate::view::{SweepDetail, SweepView, TrialView};
use jobs::{JobBody, JobId, JobSpec};
use serde::{Deserialize, Serialize};
use training::sweep::settings::Settings;
use training::sweep::{self, State};

/// What is kept of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Of the group of its trials.
    pub name: String,
    /// Of all its trials.
    pub submission: String,
    pub file: String,
    pub algorithm: String,
    pub began_ms: u64,
    pub ended_ms: Option<u64>,
    /// Trials at work at once, at most.
    pub parallel: usize,
    /// What all trials have in common.
    pub spec: JobSpec,
    /// What each of them has for itself.
    pub settings: Vec<Settings>,
    pub course: sweep::Sweep,
    pub phase: Standing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Standing {
    Searching,
    /// The search is over; the best trial goes to its end, and publishes.
    Publishing {
        trial: usize,
    },
    Finished {
        trial: usize,
        version: u64,
    },
    /// By a person; it may be resumed.
    Stopped,
    Failed {
        error: String,
    },
}

/// What has become of the job of a trial.
enum Became {
    AtWork,
    Paused(Option<f64>),
    Published(u64),
    Failed(String),
    /// It is not there, or was to come to somewhere else, or what it said of its end was lost: it is to go on.
    Behind,
}

impl Sweep {
    pub fn is_over(&self) -> bool {
        self.ended_ms.is_some()
    }

    pub fn state(&self) -> &'static str {
        match self.phase {
            Standing::Searching => "searching",
            Standing::Publishing { .. } => "publishing",
            Standing::Finished { .. } => "finished",
            Standing::Stopped => "stopped",
            Standing::Failed { .. } => "failed",
        }
    }

    /// Name of a trial's job; all are equally long, so that they are listed in their order.
    fn trial_name(&self, trial: usize) -> String {
        let width = self.settings.len().to_string().len();
        format!("trial-{:0width$}", trial + 1)
    }

    fn job_id(&self, trial: usize) -> JobId {
        JobId::of(&self.name, &self.trial_name(trial))
    }

    /// The job of a trial.
    fn spec_of(&self, trial: usize) -> Result<JobSpec, String> {
        let JobBody::Train(base) = &self.spec.body else {
            return Err(format!("sweep '{}' is of no training job", self.name));
        };
        let settings = self.settings.get(trial).ok_or_else(|| format!("there is no trial {}", trial + 1))?;
        let body = settings.applied(base);
        let body = body.map_err(|error| format!("understand the settings of trial {}: {error}", trial + 1))?;
        let (id, name) = (self.job_id(trial), self.trial_name(trial));
        Ok(JobSpec { id, group: self.name.clone(), name, body: JobBody::Train(Box::new(body)), ..self.spec.clone() })
    }

    fn loss(&self) -> Option<jobs::train::Loss> {
        match &self.spec.body {
            JobBody::Train(body) => Some(body.loss),
            JobBody::Stream(_) | JobBody::Command(_) | JobBody::Service(_) => None,
        }
    }

    fn end(&mut self, now_ms: u64, phase: Standing) {
        self.phase = phase;
        self.ended_ms = Some(now_ms);
    }
}

impl Book {
    /// The sweeps that an earlier runner kept.
    pub fn with_sweeps(mut self, sweeps: Vec<Sweep>) -> Self {
        self.sweeps = sweeps.into_iter().map(|sweep| (sweep.name.clone(), sweep)).collect();
        self
    }

    /// Begins a sweep, in the place of what its group was before.
    pub fn begin_sweep(&mut self, now_ms: u64, sweep: Sweep) -> Result<(Vec<String>, Vec<Command>), String> {
        self.is_free(&sweep.name)?;
        let mut commands = Vec::new();
        self.replace(&sweep.name, &Default::default(), &mut commands);
        let name = sweep.name.clone();
        commands.push(Command::PersistSweep(Box::new(sweep.clone())));
        self.sweeps.insert(name.clone(), sweep);
        self.advance(now_ms, &mut commands);
        Ok((vec![name], commands))
    }

    /// Goes on with a sweep that was stopped: trials that were at work go on from their last checkpoints.
    pub fn resume_sweep(&mut self, now_ms: u64, name: &str) -> Result<(Vec<String>, Vec<Command>), String> {
        let Some(sweep) = self.sweeps.get(name) else { return Err(self.no_sweep(name)) };
        if sweep.phase != Standing::Stopped {
            return Err(format!("sweep '{name}' is {}, not stopped", sweep.state()));
        }
        let trials: Vec<(usize, u64)> = sweep.course.running().collect();
        let mut jobs = self.jobs.values().filter(|job| job.record.spec.group == name);
        if let Some(job) = jobs.find(|job| !job.record.phase.is_over()) {
            return Err(format!(
                "{} is still {}; try again in a moment",
                job.record.spec.id,
                job.record.phase.as_str()
            ));
        }
        let Some(mut sweep) = self.sweeps.remove(name) else { return Err(self.no_sweep(name)) };
        (sweep.phase, sweep.ended_ms) = (Standing::Searching, None);
        let mut commands = vec![Command::PersistSweep(Box::new(sweep.clone()))];
        for (trial, epochs) in trials {
            // One that has come to where it was to come to before it could be stopped is as good as any.
            let stopped = self.jobs.get(&sweep.job_id(trial)).is_some_and(|job| job.record.phase == Phase::Stopped);
            if stopped {
                self.send_trial(now_ms, &mut sweep, trial, Some(epochs), &mut commands);
            }
        }
        self.sweeps.insert(name.to_string(), sweep);
        self.advance(now_ms, &mut commands);
        Ok((vec![name.to_string()], commands))
    }

    /// No trial of it begins or goes on any more.
    pub(super) fn stop_sweep(&mut self, now_ms: u64, name: &str, commands: &mut Vec<Command>) {
        if let Some(sweep) = self.sweeps.get_mut(name).filter(|sweep| !sweep.is_over()) {
            sweep.end(now_ms, Standing::Stopped);
            commands.push(Command::PersistSweep(Box::new(sweep.clone())));
        }
    }

    fn no_sweep(&self, name: &str) -> String {
        match jobs::text::nearest(name, self.sweeps.keys().map(String::as_str)) {
            Some(near) => format!("there is no sweep '{name}'; did you mean '{near}'?"),
            None => format!("there is no sweep '{name}'; `smack sweep ls` lists them"),
        }
    }

    pub(super) fn look_at_sweeps(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        for name in self.sweeps.keys().cloned().collect::<Vec<_>>() {
            let Some(mut sweep) = self.sweeps.remove(&name) else { continue };
            let mut sent = Vec::new();
            if !sweep.is_over() && self.look_at_sweep(now_ms, &mut sweep, &mut sent) {
                commands.push(Command::PersistSweep(Box::new(sweep.clone())));
            }
            commands.extend(sent);
            self.sweeps.insert(name, sweep);
        }
    }

    /// Whether something has changed that is to be kept.
    fn look_at_sweep(&mut self, now_ms: u64, sweep: &mut Sweep, sent: &mut Vec<Command>) -> bool {
        let before = sweep.phase.clone();
        match sweep.phase {
            Standing::Searching => self.search(now_ms, sweep, sent) || sweep.phase != before,
            Standing::Publishing { trial } => {
                match self.became(sweep, trial, None) {
                    Became::AtWork => {}
                    Became::Published(version) => sweep.end(now_ms, Standing::Finished { trial, version }),
                    Became::Failed(error) => {
                        let error = format!("trial {} was the best and was not published: {error}", trial + 1);
                        sweep.end(now_ms, Standing::Failed { error });
                    }
                    Became::Paused(_) | Became::Behind => self.send_trial(now_ms, sweep, trial, None, sent),
                }
                sweep.phase != before
            }
            Standing::Finished { .. } | Standing::Stopped | Standing::Failed { .. } => false,
        }
    }

    fn search(&mut self, now_ms: u64, sweep: &mut Sweep, sent: &mut Vec<Command>) -> bool {
        let mut changed = false;
        for (trial, epochs) in sweep.course.running().collect::<Vec<_>>() {
            match self.became(sweep, trial, Some(epochs)) {
                Became::AtWork | Became::Published(_) => continue,
                Became::Paused(metric) => sweep.course.paused(trial, metric),
                Became::Failed(_) => sweep.course.failed(trial),
                Became::Behind => {
                    self.send_trial(now_ms, sweep, trial, Some(epochs), sent);
                    continue;
                }
            }
            changed = true;
        }
        while sweep.course.running().count() < sweep.parallel
            && let Some((trial, epochs)) = sweep.course.next_trial()
        {
            changed = true;
            self.send_trial(now_ms, sweep, trial, Some(epochs), sent);
        }
        if sweep.course.is_over() && !sweep.is_over() {
            match sweep.course.best() {
                Some(trial) => {
                    sweep.phase = Standing::Publishing { trial };
                    self.send_trial(now_ms, sweep, trial, None, sent);
                }
                None => {
                    let error = format!("none of {} trials has a metric to go by", sweep.settings.len());
                    sweep.end(now_ms, Standing::Failed { error });
                }
            }
        }
        changed
    }

    fn became(&self, sweep: &Sweep, trial: usize, pause_after: Option<u64>) -> Became {
        let Some(job) = self.jobs.get(&sweep.job_id(trial)) else { return Became::Behind };
        let Record { phase, trial, model_version, .. } = &job.record;
        if !phase.is_over() {
            return Became::AtWork;
        }
        let Some(trial) = trial.filter(|trial| trial.pause_after == pause_after) else { return Became::Behind };
        match (phase, trial.paused, model_version) {
            (Phase::Failed { error }, ..) => Became::Failed(error.clone()),
            (Phase::Stopped, ..) => Became::Failed("it was stopped".to_string()),
            (Phase::Finished, Some(paused), _) => Became::Paused(paused.metric),
            (_, None, Some(version)) if pause_after.is_none() => Became::Published(*version),
            _ => Became::Behind,
        }
    }

    /// Lets a trial begin, or go on from its checkpoint.
    fn send_trial(
        &mut self,
        now_ms: u64,
        sweep: &mut Sweep,
        trial: usize,
        pause_after: Option<u64>,
        sent: &mut Vec<Command>,
    ) {
        let id = sweep.job_id(trial);
        if self.jobs.get(&id).is_none_or(|job| job.record.submission != sweep.submission) {
            let spec = match sweep.spec_of(trial) {
                Ok(spec) => spec,
                Err(error) => return sweep.end(now_ms, Standing::Failed { error }),
            };
            self.jobs.insert(id.clone(), Job::new(Record::new(spec, &sweep.submission, now_ms)));
        }
        // One that is at work comes to its end first; what is made of that then is looked at again.
        let idle = |job: &&mut Job| job.record.generation == 0 || job.record.phase.is_over();
        let Some(job) = self.jobs.get_mut(&id).filter(idle) else { return };
        job.goes_to(now_ms, pause_after);
        sent.push(Command::Persist(Box::new(job.record.clone())));
    }

    pub fn sweep_views(&self) -> Vec<SweepView> {
        let mut sweeps: Vec<SweepView> = self.sweeps.values().map(|sweep| self.sweep_view(sweep)).collect();
        sweeps.sort_by_key(|sweep| std::cmp::Reverse(sweep.began_ms));
        sweeps
    }

    pub fn sweep(&self, name: &str) -> Result<SweepDetail, String> {
        let sweep = self.sweeps.get(name).ok_or_else(|| self.no_sweep(name))?;
        let trials = (0..sweep.settings.len()).map(|trial| self.trial_view(sweep, trial)).collect();
        Ok(SweepDetail { sweep: self.sweep_view(sweep), trials })
    }

    fn sweep_view(&self, sweep: &Sweep) -> SweepView {
        let trials = sweep.course.trials();
        let count = |state: State| trials.iter().filter(|trial| trial.state == state).count() as u64;
        let n_done = (0..trials.len()).filter(|trial| sweep.course.is_done(*trial)).count() as u64;
        let (model, loss) = match &sweep.spec.body {
            JobBody::Train(body) => (body.model.clone(), sweep.loss()),
            _ => (String::new(), None),
        };
        let mut view = SweepView {
            name: sweep.name.clone(),
            file: sweep.file.clone(),
            model,
            algorithm: sweep.algorithm.clone(),
            state: sweep.state().to_string(),
            text: String::new(),
            n_trials: trials.len() as u64,
            n_waiting: count(State::Waiting),
            n_running: count(State::Running),
            n_paused: count(State::Paused) - n_done,
            n_done,
            n_failed: count(State::Failed),
            parallel: sweep.parallel as u64,
            rungs: sweep.course.rungs().to_vec(),
            metric_name: loss.map_or(String::new(), |loss| training::metric_name(loss).to_string()),
            larger_is_better: loss.is_some_and(training::larger_is_better),
            best: sweep.course.best().map(|best| self.trial_view(sweep, best)),
            version: match sweep.phase {
                Standing::Finished { version, .. } => Some(version),
                _ => None,
            },
            began_ms: sweep.began_ms,
            ended_ms: sweep.ended_ms,
        };
        view.text = said(sweep, &view);
        view
    }

    fn trial_view(&self, sweep: &Sweep, trial: usize) -> TrialView {
        let of = &sweep.course.trials()[trial];
        let job = self.jobs.get(&sweep.job_id(trial)).filter(|job| job.record.submission == sweep.submission);
        let state = match (of.state, job) {
            (State::Running, Some(job)) => job.state(),
            (State::Waiting | State::Running, _) => "waiting",
            (State::Failed, _) => "failed",
            (State::Paused, _) if sweep.phase == (Standing::Publishing { trial }) => "publishing",
            (State::Paused, _) if sweep.course.is_done(trial) => "done",
            (State::Paused, _) => "paused",
        };
        TrialView {
            number: trial as u64 + 1,
            job: sweep.job_id(trial).to_string(),
            run: job.map(|job| crate::runs::name(&job.record.spec.name, &job.record.submission)),
            settings: sweep.settings.get(trial).map(|settings| settings.shown.clone()).unwrap_or_default(),
            state: state.to_string(),
            rung: of.reached.len().checked_sub(1).and_then(|rung| sweep.course.rungs().get(rung).copied()),
            metric: of.reached.last().copied().flatten(),
            metrics: of.reached.clone(),
            generation: job.map_or(0, |job| job.record.generation),
            error: match job.map(|job| &job.record.phase) {
                Some(Phase::Failed { error }) => Some(error.clone()),
                Some(Phase::Stopped) if of.state == State::Failed => Some("it was stopped".to_string()),
                _ => None,
            },
        }
    }
}

/// The one sentence.
fn said(sweep: &Sweep, view: &SweepView) -> String {
    let best = match &view.best {
        Some(best) => {
            let metric = best.metric.map_or("-".to_string(), |metric| format!("{metric:.4}"));
            let rung = best.rung.map_or(String::new(), |rung| format!(" after epoch {rung}"));
            format!("trial {} has the best {}, {metric}{rung}", best.number, view.metric_name)
        }
        None => "none has come to a rung yet".to_string(),
    };
    match &sweep.phase {
        Standing::Searching => format!(
            "searching: of {} trials {} run, {} are paused, {} done, {} failed; {best}",
            view.n_trials, view.n_running, view.n_paused, view.n_done, view.n_failed
        ),
        Standing::Publishing { .. } => format!("publishing: {best}"),
        Standing::Finished { version, .. } => format!("finished: {best}, and is version {version} of {}", view.model),
        Standing::Stopped => format!("was stopped, `smack sweep resume {}` goes on with it; {best}", view.name),
        Standing::Failed { error } => format!("failed: {error}"),
    }
}

impl Job {
    /// Begins, or begins again, to pause after that epoch, or else to publish.
    fn goes_to(&mut self, now_ms: u64, pause_after: Option<u64>) {
        let text = match pause_after {
            Some(epoch) => format!("is to come to epoch {epoch}"),
            None => "is to publish".to_string(),
        };
        self.note(now_ms, "info", text);
        self.record.trial = Some(Trial { pause_after, paused: None });
        self.record.phase = Phase::Waiting;
        (self.stop_asked, self.failures, self.last_error, self.warning) = (false, 0, None, None);
        // Its run goes on with it.
        (self.run_began, self.run_over) = (false, false);
    }
}
