//! The jobs in numbers, for Prometheus: `job` is `group/name`, `operator` an id as `smack ps --operators` shows it.

use super::Book;
use super::job::Job;
use crate::view::{JobView, OperatorView};
use daemon::metrics::Family;
use jobs::{JobBody, JobId, JobSpec, TaskState};
use std::collections::BTreeMap;
use streaming::coordinator::View;

impl Book {
    /// What a job was settled to be, by `group/name`.
    pub fn spec(&self, id: &str) -> Option<&JobSpec> {
        self.jobs.iter().find(|(job, _)| job.to_string() == id).map(|(_, job)| &job.record.spec)
    }

    pub fn metrics(&self, now_ms: u64) -> Vec<Family> {
        let views = self.job_views(now_ms);
        let jobs: Vec<(&JobView, &Job)> =
            views.iter().filter_map(|view| Some((view, self.jobs.get(&JobId::of(&view.group, &view.name))?))).collect();
        let mut families = self.of_frameworks();
        families.extend(of_jobs(&jobs));
        families.extend(of_streams(now_ms, &jobs));
        families.extend(of_checkpoints(now_ms, &jobs));
        families.extend(of_operators(&jobs));
        families.extend(of_splits(&jobs));
        families.extend(of_training(&jobs));
        families
    }

    fn of_frameworks(&self) -> Vec<Family> {
        let mut connected = Family::gauge("smack_runner_connected", "Whether the master is there, for each framework.");
        let mut offers = Family::gauge("smack_runner_offers_held", "Offers that are in hand.");
        for (framework, standing) in &self.standings {
            let name = [("framework", framework.name()), ("role", &*framework.role)];
            connected.add(&name, f64::from(u8::from(standing.connected)));
            offers.add(&name, standing.offers.len() as f64);
        }
        vec![connected, offers]
    }
}

fn of_jobs(jobs: &[(&JobView, &Job)]) -> Vec<Family> {
    let mut states = Family::gauge("smack_job_state", "The state that a job is in; the number is 1.");
    let mut restarts = Family::counter("smack_job_restarts_total", "Generations of a job after its first.");
    let mut generations = Family::gauge("smack_job_generation", "Rises each time that all tasks begin again.");
    let mut parallelism = Family::gauge("smack_job_parallelism", "Tasks that a job is to have.");
    let mut tasks = Family::gauge("smack_job_tasks", "Tasks of a job's generation, by state.");
    let mut submitted = Family::gauge("smack_job_submitted_timestamp_seconds", "Since the epoch.");
    for (view, job) in jobs {
        let id = ("job", view.id.as_str());
        states.add(&[id, ("kind", &view.kind), ("role", &view.role), ("state", &view.state)], 1.0);
        restarts.add(&[id], view.restarts as f64);
        generations.add(&[id], view.generation as f64);
        parallelism.add(&[id], f64::from(view.parallelism));
        submitted.add(&[id], view.submitted_ms as f64 / 1000.0);
        let mut by_state: BTreeMap<TaskState, u64> = BTreeMap::new();
        job.record.tasks.iter().for_each(|task| *by_state.entry(task.state).or_default() += 1);
        for (state, n) in by_state {
            tasks.add(&[id, ("state", state.as_str())], n as f64);
        }
    }
    vec![states, restarts, generations, parallelism, tasks, submitted]
}

/// A stream's rows and how far event time has come.
fn of_streams(now_ms: u64, jobs: &[(&JobView, &Job)]) -> Vec<Family> {
    let mut rows_in = Family::counter("smack_job_rows_in_total", "Rows that sources gave, over all generations.");
    let mut rows_out = Family::counter("smack_job_rows_out_total", "Rows that sinks took, over all generations.");
    let mut late = Family::counter("smack_job_late_rows_total", "Rows that came too late for their window.");
    let mut bad = Family::counter("smack_job_bad_records_total", "Records that did not decode.");
    let mut watermarks = Family::gauge("smack_job_watermark_timestamp_seconds", "Event time, since the epoch.");
    let mut lags = Family::gauge("smack_job_watermark_lag_seconds", "How far event time is behind the newest row.");
    let mut behind = Family::gauge("smack_job_watermark_age_seconds", "How far event time is behind the clock.");
    let mut state = Family::gauge("smack_job_state_bytes", "State in memory.");
    for (view, job) in streams(jobs) {
        // After a restart of the runner the tasks' own counts are not known at first, and no counter may fall for that.
        if !job.is_counted() {
            continue;
        }
        let (id, metrics) = ([("job", view.id.as_str())], &view.metrics);
        rows_in.add(&id, metrics.rows_in as f64);
        rows_out.add(&id, metrics.rows_out as f64);
        late.add(&id, metrics.rows_late as f64);
        bad.add(&id, metrics.rows_bad as f64);
        watermarks.add_some(&id, metrics.watermark_ms.map(|ms| ms as f64 / 1000.0));
        lags.add_some(&id, metrics.watermark_lag_ms.map(|ms| ms as f64 / 1000.0));
        behind.add_some(&id, metrics.watermark_ms.map(|ms| (now_ms as f64 - ms as f64) / 1000.0));
        state.add(&id, metrics.state_bytes as f64);
    }
    vec![rows_in, rows_out, late, bad, watermarks, lags, behind, state]
}

fn of_checkpoints(now_ms: u64, jobs: &[(&JobView, &Job)]) -> Vec<Family> {
    let mut epochs = Family::gauge("smack_checkpoint_epoch", "The last one that is durable.");
    let mut when = Family::gauge("smack_checkpoint_last_success_timestamp_seconds", "When it became so.");
    let mut took = Family::gauge("smack_checkpoint_duration_seconds", "From its barrier until it was durable.");
    let mut bytes = Family::gauge("smack_checkpoint_size_bytes", "What a restart from it needs.");
    let mut written = Family::gauge("smack_checkpoint_written_bytes", "What of that was written for it.");
    let mut failures = Family::counter("smack_checkpoint_failures_total", "Epochs that were given up.");
    for (view, job) in streams(jobs) {
        let Some(coordinator) = &job.coordinator else { continue };
        let id = [("job", view.id.as_str())];
        let View { epoch, age_ms, duration_ms, bytes: size, bytes_written, failures: n, .. } = coordinator.view(now_ms);
        epochs.add_some(&id, epoch.map(|epoch| epoch as f64));
        when.add_some(&id, age_ms.map(|age_ms| now_ms.saturating_sub(age_ms) as f64 / 1000.0));
        took.add_some(&id, duration_ms.map(|ms| ms as f64 / 1000.0));
        bytes.add_some(&id, size.map(|bytes| bytes as f64));
        written.add_some(&id, bytes_written.map(|bytes| bytes as f64));
        failures.add(&id, n as f64);
    }
    vec![epochs, when, took, bytes, written, failures]
}

fn of_operators(jobs: &[(&JobView, &Job)]) -> Vec<Family> {
    let seconds = |us: u64| us as f64 / 1e6;
    let mut busy = Family::counter("smack_operator_busy_seconds_total", "Time of threads in an operator.");
    let mut blocked =
        Family::counter("smack_operator_backpressured_seconds_total", "Time of threads waiting for room behind it.");
    let mut idle = Family::counter("smack_operator_idle_seconds_total", "Time of threads with nothing to do.");
    let mut rows_in = Family::counter("smack_operator_rows_in_total", "Rows that came into an operator.");
    let mut rows_out = Family::counter("smack_operator_rows_out_total", "Rows that an operator gave.");
    let mut looked_up = Family::counter("smack_operator_lookups_total", "Keys that were looked up in a table outside.");
    let mut remembered = Family::counter("smack_operator_lookup_hits_total", "Lookups whose answer was remembered.");
    let mut memory = Family::gauge("smack_operator_state_bytes", "State in memory.");
    let mut disk = Family::gauge("smack_operator_spilled_bytes", "State on the tasks' disks.");
    for (view, job) in jobs {
        for (operator, done) in job.done.operators() {
            let labels = [("job", view.id.as_str()), ("operator", operator)];
            busy.add(&labels, seconds(done.busy_us));
            blocked.add(&labels, seconds(done.blocked_us));
            idle.add(&labels, seconds(done.idle_us));
            rows_in.add(&labels, done.rows_in as f64);
            rows_out.add(&labels, done.rows_out as f64);
            if done.looked_up > 0 {
                looked_up.add(&labels, done.looked_up as f64);
                remembered.add(&labels, done.remembered as f64);
            }
        }
        for OperatorView { id: operator, state_bytes, spilled_bytes, .. } in &view.operators {
            let labels = [("job", view.id.as_str()), ("operator", operator.as_str())];
            memory.add(&labels, *state_bytes as f64);
            disk.add(&labels, *spilled_bytes as f64);
        }
    }
    vec![busy, blocked, idle, rows_in, rows_out, looked_up, remembered, memory, disk]
}

/// Partitions of topics, files and the like.
fn of_splits(jobs: &[(&JobView, &Job)]) -> Vec<Family> {
    let mut rows = Family::counter("smack_source_split_rows_total", "Rows of one split of a source.");
    let mut lags = Family::gauge("smack_source_lag_records", "Records of a split that wait outside.");
    for (view, job) in jobs {
        for (operator, done) in job.done.operators() {
            for split in &done.splits {
                let labels = [("job", view.id.as_str()), ("operator", operator), ("split", split.name.as_str())];
                rows.add(&labels, split.rows as f64);
            }
        }
        // Of those that are read now.
        for operator in &view.operators {
            for split in &operator.splits {
                let labels =
                    [("job", view.id.as_str()), ("operator", operator.id.as_str()), ("split", split.name.as_str())];
                lags.add_some(&labels, split.behind.filter(|_| view.state == "running").map(|behind| behind as f64));
            }
        }
    }
    vec![rows, lags]
}

fn of_training(jobs: &[(&JobView, &Job)]) -> Vec<Family> {
    let mut steps = Family::gauge("smack_train_step", "The step that a training is at.");
    let mut total = Family::gauge("smack_train_steps", "How many steps it has in all.");
    let mut losses = Family::gauge("smack_train_loss", "At that step.");
    let mut metrics = Family::gauge("smack_train_metric", "On the held-out rows, after the last whole epoch.");
    let mut rows = Family::gauge("smack_train_rows_per_second", "Rows that it learns from.");
    let mut versions = Family::gauge("smack_train_model_version", "The version that it wrote last.");
    for (view, job) in jobs {
        if !matches!(job.record.spec.body, JobBody::Train(_)) {
            continue;
        }
        let (id, said) = (("job", view.id.as_str()), &view.metrics);
        steps.add(&[id], said.step as f64);
        total.add(&[id], said.steps_total as f64);
        losses.add_some(&[id], said.loss);
        metrics.add_some(&[id, ("metric", &said.metric_name)], said.metric);
        rows.add(&[id], said.rows_per_second);
        versions.add_some(&[id], said.model_version.map(|version| version as f64));
    }
    vec![steps, total, losses, metrics, rows, versions]
}

fn streams<'a>(jobs: &'a [(&'a JobView, &'a Job)]) -> impl Iterator<Item = (&'a JobView, &'a Job)> {
    jobs.iter().filter(|(_, job)| job.is_stream()).map(|(view, job)| (*view, *job))
}
