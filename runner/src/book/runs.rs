//! What of a training job is written into the history of runs.
//!
//! Invariant: only told, never decided here; that a run began or ended may be told twice, and is written down once.

use super::job::{Job, Phase};
use super::{Book, Command, TrainMetrics};
use crate::runs::{self, Began, Note};
use crate::view::PointView;
use jobs::JobBody;

impl Book {
    /// Tells of the runs that have begun or ended since it was last asked.
    pub(super) fn tell_runs(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        for job in self.jobs.values_mut() {
            let JobBody::Train(body) = &job.record.spec.body else { continue };
            if job.record.generation == 0 || job.record.phase == Phase::Waiting || job.run_over {
                continue;
            }
            if !job.run_began && !job.record.phase.is_over() {
                job.run_began = true;
                let began = Began {
                    at_ms: now_ms,
                    job: job.record.spec.id.to_string(),
                    model: body.model.clone(),
                    submission: job.record.submission.clone(),
                    workers: job.record.spec.parallelism,
                    settings: runs::settings(body),
                };
                commands.push(job.run(Note::Began(Box::new(began))));
            }
            let (outcome, error) = match &job.record.phase {
                Phase::Finished => (job.state(), None),
                Phase::Stopped => ("stopped", None),
                Phase::Failed { error } => ("failed", Some(error.clone())),
                _ => continue,
            };
            job.run_over = true;
            commands.push(job.run(Note::Ended { at_ms: now_ms, outcome, error }));
        }
    }
}

impl Job {
    pub(super) fn run(&self, note: Note) -> Command {
        Command::Run { run: runs::name(&self.record.spec.name, &self.record.submission), note }
    }

    pub(super) fn run_point(&self, now_ms: u64, metrics: &TrainMetrics) -> Command {
        let known = |figure: f64| figure.is_finite().then_some(figure);
        self.run(Note::Point(PointView {
            at_ms: now_ms,
            step: metrics.step,
            steps_total: metrics.steps_total,
            epoch: metrics.epoch,
            loss: known(metrics.loss),
            metric: known(metrics.metric),
            metric_name: metrics.metric_name.clone(),
            learning_rate: known(metrics.learning_rate),
            rows_per_second: metrics.rows_per_second,
        }))
    }
}
