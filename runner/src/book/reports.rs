//! What tasks say, and what the checkpoint coordinators make of it.

use super::job::{Job, Paused, Phase, Training};
use super::{Book, Command, TrainMetrics, TrainReport};
use crate::runs::Note;
use jobs::{JobBody, JobId, TaskId, TaskState};
use streaming::control::{Level, Order, Report};
use streaming::coordinator;

impl Book {
    /// A task opened its control stream, for the first time or again.
    pub(super) fn task_hello(
        &mut self,
        now_ms: u64,
        task: TaskId,
        id: &JobId,
        generation: u64,
        commands: &mut Vec<Command>,
    ) {
        let known = self.jobs.get(id).is_some_and(|job| {
            job.record.generation == generation
                && !job.record.phase.is_over()
                && job
                    .record
                    .tasks
                    .iter()
                    .zip(&job.live)
                    .any(|(candidate, live)| candidate.id == task && live.again.is_none())
        });
        if !known {
            // It belongs to a generation that is over; whatever it still does is fenced by that generation.
            commands.push(Command::Order { task, order: Order::Stop });
            return;
        }
        let Some(job) = self.jobs.get_mut(id) else { return };
        if matches!(job.record.phase, Phase::Ending { .. }) && job.is_evaluator(&task) {
            // It may not have heard it.
            commands.push(Command::Order { task, order: Order::Stop });
            return;
        }
        if job.coordinator.is_none() {
            job.coordinator = super::tasks::coordinator(job);
        }
        let index = job.record.tasks.iter().find(|candidate| candidate.id == task).map_or(0, |task| task.index);
        if let Some(coordinator) = &mut job.coordinator {
            let asked = coordinator.apply(now_ms, coordinator::Event::TaskReconnected { index });
            self.coordinated(now_ms, id, asked, commands);
        }
    }

    pub(super) fn stream_report(&mut self, now_ms: u64, task: &TaskId, report: Report, commands: &mut Vec<Command>) {
        let Some(id) = self.job_of(task) else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some((record, live)) = job.task_mut(task) else { return };
        let index = record.index;
        if live.again.is_some() {
            // Said before its process ended; what counts of it is in a manifest by now, or is done again.
            return;
        }
        let event = match report {
            Report::Ready => {
                if !std::mem::replace(&mut live.ready, true) {
                    job.is_back(now_ms, index as usize);
                }
                job.all_ready(now_ms);
                commands.push(Command::Persist(Box::new(job.record.clone())));
                coordinator::Event::TaskReady { index }
            }
            Report::InputEnded => coordinator::Event::InputEnded { index },
            Report::Snapshotted { epoch, snapshot, last } => {
                coordinator::Event::Snapshotted { index, epoch, snapshot, last }
            }
            Report::Committed { epoch } => coordinator::Event::Committed { index, epoch },
            Report::Metrics(metrics) => {
                let flows = metrics.rows_in > live.metrics.rows_in;
                live.lately.observe(now_ms, &live.metrics.operators, &metrics.operators);
                live.metrics = metrics;
                // What it had done before its first report to this runner is not of this runner's time.
                if !std::mem::take(&mut live.unheard) {
                    let lately = live.lately.operators.clone();
                    job.done.add(&lately);
                }
                let rows_in = job.totals().rows_in;
                job.rate.observe(now_ms, rows_in);
                if flows {
                    job.warning = None;
                }
                return;
            }
            Report::Notice { level, text } => {
                job.noticed(now_ms, level_name(level), text);
                return;
            }
            // Goes straight to who asked.
            Report::Sampled { .. } => return,
        };
        let Some(coordinator) = &mut job.coordinator else { return };
        let asked = coordinator.apply(now_ms, event);
        self.coordinated(now_ms, &id, asked, commands);
    }

    pub(super) fn train_report(
        &mut self,
        now_ms: u64,
        task: &TaskId,
        report: TrainReport,
        commands: &mut Vec<Command>,
    ) {
        let Some(id) = self.job_of(task) else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some((record, live)) = job.task_mut(task) else { return };
        let (index, chief) = (record.index, record.index == 0);
        match report {
            TrainReport::Ready => {
                let at = record.index as usize;
                if !std::mem::replace(&mut live.ready, true) {
                    job.is_back(now_ms, at);
                }
                job.all_ready(now_ms);
            }
            TrainReport::Evaluated(evaluated) => {
                if job.evaluator() == Some(index) {
                    commands.push(job.evaluated(now_ms, evaluated));
                }
            }
            TrainReport::Metrics(metrics) => {
                job.warning = None;
                if chief {
                    commands.push(job.run_point(now_ms, &metrics));
                    let TrainMetrics { step, steps_total, loss, metric, metric_name, rows_per_second, .. } = metrics;
                    job.record.training = Training {
                        step,
                        steps_total,
                        loss: loss.is_finite().then_some(loss),
                        metric: if metric.is_finite() { Some(metric) } else { job.record.training.metric },
                        metric_name,
                        rows_per_second,
                    };
                }
                return;
            }
            TrainReport::ModelWritten { version, metric, metric_name } => {
                job.note(now_ms, "info", format!("model version {version} written, {metric_name} {metric:.4}"));
                job.record.training.metric = Some(metric);
                job.record.training.metric_name = metric_name;
                job.record.model_version = Some(version);
                commands.push(job.run(Note::ModelWritten { version }));
            }
            TrainReport::Paused { epoch, metric, metric_name } => {
                let Some(trial) = job.record.trial.as_mut().filter(|_| chief) else { return };
                let metric = metric.is_finite().then_some(metric);
                trial.paused = Some(Paused { epoch, metric });
                job.record.training.metric = metric;
                let metric = metric.map_or("-".to_string(), |metric| format!("{metric:.4}"));
                job.note(now_ms, "info", format!("paused after epoch {epoch}, {metric_name} {metric}"));
                job.record.training.metric_name = metric_name;
            }
            TrainReport::Notice { level, text } => {
                job.noticed(now_ms, &level, text);
                return;
            }
        }
        commands.push(Command::Persist(Box::new(job.record.clone())));
    }

    pub(super) fn manifest_written(
        &mut self,
        now_ms: u64,
        id: &JobId,
        generation: u64,
        epoch: u64,
        result: Result<(), (String, bool)>,
        commands: &mut Vec<Command>,
    ) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.record.generation != generation {
            return;
        }
        let event = match result {
            Ok(()) => coordinator::Event::ManifestWritten { epoch },
            Err((error, retry)) => {
                job.note(now_ms, "warning", format!("checkpoint {epoch} was not published: {error}"));
                coordinator::Event::ManifestFailed { epoch, error, retry }
            }
        };
        let Some(coordinator) = &mut job.coordinator else { return };
        let asked = coordinator.apply(now_ms, event);
        self.coordinated(now_ms, id, asked, commands);
    }

    /// Carries out what a coordinator asked for.
    pub(super) fn coordinated(
        &mut self,
        now_ms: u64,
        id: &JobId,
        asked: Vec<coordinator::Command>,
        commands: &mut Vec<Command>,
    ) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        for command in asked {
            match command {
                coordinator::Command::Send { to, order } => {
                    for task in &job.record.tasks {
                        if to.is_none_or(|index| index == task.index) {
                            commands.push(Command::Order { task: task.id.clone(), order: order.clone() });
                        }
                    }
                }
                coordinator::Command::WriteManifest(manifest) => commands.push(Command::WriteManifest {
                    job: id.clone(),
                    folder: super::checkpoint_folder(&self.config, &job.record),
                    manifest,
                }),
                coordinator::Command::Completed { epoch } => {
                    job.checkpoint = Some((epoch, now_ms));
                    let folder = super::checkpoint_folder(&self.config, &job.record);
                    let retain = match &job.record.spec.body {
                        JobBody::Stream(body) => body.checkpoint_retain,
                        JobBody::Train(_) | JobBody::Command(_) | JobBody::Service(_) => continue,
                    };
                    commands.push(Command::CollectGarbage { folder, retain });
                }
                coordinator::Command::Restart { index, epoch } => job.begin_again(now_ms, index, epoch),
                coordinator::Command::RestartAll => {
                    job.all_again(now_ms, commands);
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                }
                // The tasks end by themselves after their last commit; their Finished updates end the job.
                coordinator::Command::Finished | coordinator::Command::StopGranted => {
                    job.note(now_ms, "info", "the last checkpoint is committed");
                }
                coordinator::Command::GiveUp { error } => {
                    job.note(now_ms, "error", error.clone());
                    job.kill_tasks(0, commands);
                    job.record.phase = Phase::Failed { error };
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                }
            }
        }
    }

    pub(super) fn tick(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let ids: Vec<JobId> = self.jobs.keys().cloned().collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let active = matches!(job.record.phase, Phase::Launching | Phase::Running | Phase::Stopping);
            if let (true, Some(coordinator)) = (active, &mut job.coordinator) {
                let asked = coordinator.apply(now_ms, coordinator::Event::Tick);
                self.coordinated(now_ms, &id, asked, commands);
                self.look_for_models(now_ms, &id, commands);
            }
        }
    }
}

impl Job {
    fn noticed(&mut self, now_ms: u64, level: &str, text: String) {
        match level {
            "error" => self.last_error = Some(text.clone()),
            "warning" => self.warning = Some((now_ms, text.clone())),
            _ => {}
        }
        // A task that tries again says the same again; once is enough for people.
        if self.record.events.back().is_none_or(|last| last.text != text) {
            self.note(now_ms, level, text);
        }
    }

    pub fn n_running(&self) -> usize {
        self.record.tasks.iter().filter(|task| task.state == TaskState::Running).count()
    }

    pub fn is_stream(&self) -> bool {
        matches!(self.record.spec.body, JobBody::Stream(_))
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}
