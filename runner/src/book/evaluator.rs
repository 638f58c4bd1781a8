//! The evaluator of a training: a task that judges its checkpoints, and that the training does without.
//!
//! Its end is not the end of the generation: another process takes its place while all others go on. It only reads, so nothing
//! needs to fence one that nobody can hear. When all others have ended well it is told so, judges the last checkpoint and ends;
//! how it ends then no longer matters.
//!
//! Invariant: pure, as all of the book. Nothing that becomes of the evaluator ends or delays a training, but that a gang is placed
//! with it.

use super::job::{Again, Job, Phase, Record, TaskLive};
use super::{Command, Evaluated};
use crate::runs::Note;
use crate::view::EvaluationView;
use jobs::{JobBody, Restart, TaskId, TaskState};
use streaming::control::Order;

/// How long it may take to judge the last checkpoint.
const LAST_MS: u64 = 60_000;

/// The number of the task that judges; it is the last one.
pub fn of(record: &Record) -> Option<u32> {
    match &record.spec.body {
        JobBody::Train(body) if body.evaluator => record.n_tasks().checked_sub(1),
        JobBody::Train(_) | JobBody::Stream(_) | JobBody::Command(_) | JobBody::Service(_) => None,
    }
}

impl Job {
    pub(super) fn evaluator(&self) -> Option<u32> {
        of(&self.record)
    }

    pub(super) fn is_evaluator(&self, task: &TaskId) -> bool {
        let evaluator = self.evaluator();
        self.record.tasks.iter().any(|of| of.id == *task && Some(of.index) == evaluator)
    }

    fn evaluator_at(&self) -> Option<usize> {
        let evaluator = self.evaluator()?;
        self.record.tasks.iter().position(|task| task.index == evaluator)
    }

    /// Whether the evaluator is to be replaced, and nothing else happens.
    pub(super) fn goes_on_without_evaluator(&self, task: &TaskId) -> bool {
        self.is_evaluator(task)
            && self.record.phase == Phase::Running
            && self.record.spec.restart != Restart::Never
            && !self.stop_asked
    }

    /// Its process has ended, or nobody knows of it.
    pub(super) fn evaluator_lost(&mut self, now_ms: u64, what: &str) {
        let what = match self.last_error.take() {
            Some(error) => format!("{what} ({error})"),
            None => what.to_string(),
        };
        let wait_ms = self.back_off(now_ms);
        self.note(now_ms, "warning", format!("{what}; the evaluator starts again, and the training goes on"));
        self.evaluate_again(now_ms + wait_ms, what);
    }

    fn evaluate_again(&mut self, at_ms: u64, what: String) {
        let Some(at) = self.evaluator_at() else { return };
        if let Some(live) = self.live.get_mut(at) {
            *live = TaskLive { again: Some(Again { what, from: Some((0, at_ms)) }), ..TaskLive::default() };
        }
    }

    /// What an earlier runner had not replaced yet.
    pub(super) fn find_evaluator(&mut self) {
        let lost = self.evaluator_at().is_some_and(|at| {
            let state = self.record.tasks[at].state;
            state == TaskState::Unreachable || (state.is_terminal() && state != TaskState::Finished)
        });
        if lost && self.record.phase == Phase::Running {
            self.evaluate_again(0, "its evaluator has ended".to_string());
        }
    }

    /// A task of a training with an evaluator has ended well.
    pub(super) fn trained(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let evaluator = self.evaluator();
        let mut others = self.record.tasks.iter().filter(|task| Some(task.index) != evaluator);
        let at_work = matches!(self.record.phase, Phase::Launching | Phase::Running);
        if at_work && others.all(|task| task.state == TaskState::Finished) {
            self.record.phase = Phase::Ending { until_ms: now_ms.saturating_add(LAST_MS) };
            self.note(now_ms, "info", "its training is done");
            if let Some(at) = self.evaluator_at() {
                self.live[at].again = None;
                commands.push(Command::Order { task: self.record.tasks[at].id.clone(), order: Order::Stop });
            }
        }
        self.end_what_is_left(now_ms, commands);
    }

    /// The evaluator says what a checkpoint is worth.
    pub(super) fn evaluated(&mut self, now_ms: u64, evaluated: Evaluated) -> Command {
        let Evaluated { step, epoch, metrics, metric_name } = evaluated;
        if let Some(metric) = metrics.get(&metric_name) {
            self.record.training.metric = Some(*metric);
            self.record.training.metric_name = metric_name;
        }
        self.run(Note::Evaluated(EvaluationView { at_ms: now_ms, step, epoch, metrics }))
    }
}
