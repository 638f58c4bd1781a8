//! What people are shown: jobs, and for each one sentence that says why it is where it is.

use super::frameworks::Standing;
use super::job::{Job, Phase};
use super::{Book, Demand, Framework};
use crate::view::{JobMetrics, JobView, OperatorView, SplitView, TaskView, WhyView, text_of_bytes};
use jobs::{JobBody, TaskState};
use streaming::control::{OperatorMetrics, SplitMetrics};

/// A warning that was not repeated for this long is no longer the reason of anything.
const WARNING_MS: u64 = 60_000;
/// From this share of the time on an operator's business is worth a word.
const BUSY_SHARE: f64 = 0.8;
const BLOCKED_SHARE: f64 = 0.2;

impl Book {
    pub fn job_views(&self, now_ms: u64) -> Vec<JobView> {
        let mut jobs: Vec<&Job> = self.jobs.values().collect();
        jobs.sort_by_key(|job| (job.record.submitted_ms, job.record.spec.after.len(), job.record.spec.id.clone()));
        jobs.into_iter().map(|job| self.job_view(now_ms, job)).collect()
    }

    /// `None` when nothing has that name.
    pub fn why(&self, now_ms: u64, subject: &str) -> Result<WhyView, String> {
        let ids = self.find(subject);
        let jobs: Vec<&Job> = ids.iter().filter_map(|id| self.jobs.get(id)).collect();
        // Of a group, the job that has the most to explain.
        let Some(job) = jobs.iter().min_by_key(|job| concern(&job.record.phase)) else {
            return Err(self.unknown(subject));
        };
        let mut sentence = self.sentence(now_ms, job);
        if jobs.len() > 1 {
            sentence = format!("{}: {sentence}", job.record.spec.id);
        }
        let mut state = job.record.phase.as_str().to_string();
        if let Some(sweep) = self.sweep_views().into_iter().find(|sweep| sweep.name == subject) {
            // What is the matter with one of its trials is no matter of the sweep that has ended.
            sentence = if sweep.ended_ms.is_some() { sweep.text } else { format!("{}; {sentence}", sweep.text) };
            state = sweep.state;
        }
        let mut details: Vec<String> = Vec::new();
        if let Some(task) = job.record.tasks.iter().find(|task| task.id.as_str() == subject) {
            sentence = format!(
                "task {} is {} on agent {}{}; its job: {sentence}",
                task.index,
                task.state,
                task.agent,
                if task.message.is_empty() { String::new() } else { format!(" ({})", task.message) }
            );
        }
        for other in &jobs {
            if jobs.len() > 1 {
                details.push(format!("{}: {}", other.record.spec.id, self.sentence(now_ms, other)));
            }
        }
        for task in &job.record.tasks {
            details.push(format!(
                "task {}{} of generation {}: {} on {} (offer {}){}",
                task.index,
                job.member(task.index).map_or(String::new(), |member| format!(" ({member})")),
                job.record.generation,
                task.state,
                task.agent,
                task.offer,
                if task.message.is_empty() { String::new() } else { format!(": {}", task.message) }
            ));
        }
        details.extend(operators(job).iter().filter(|operator| operator.blocked >= BLOCKED_SHARE).map(|operator| {
            format!("{} waits {:.0} % of the time for room behind it", operator.id, operator.blocked * 100.0)
        }));
        details.extend(operators(job).iter().filter(|operator| operator.busy >= BUSY_SHARE).map(|operator| {
            format!("{} is busy {:.0} % of the time and holds the others up", operator.id, operator.busy * 100.0)
        }));
        Ok(WhyView {
            subject: subject.to_string(),
            state,
            sentence,
            details,
            events: job.record.events.iter().cloned().collect(),
        })
    }

    fn job_view(&self, now_ms: u64, job: &Job) -> JobView {
        let record = &job.record;
        JobView {
            id: record.spec.id.to_string(),
            group: record.spec.group.clone(),
            name: record.spec.name.clone(),
            kind: record.spec.body.kind().to_string(),
            role: record.spec.role.clone(),
            priority: record.spec.priority,
            state: job.state().to_string(),
            generation: record.generation,
            restarts: record.restarts,
            parallelism: record.spec.parallelism,
            why: self.sentence(now_ms, job),
            submitted_ms: record.submitted_ms,
            metrics: metrics(now_ms, job),
            operators: operators(job),
            tasks: task_views(job),
            models: job.coordinator.as_ref().map_or(&record.versions, |of| of.versions()).clone(),
            events: job.record.events.iter().cloned().collect(),
        }
    }

    fn sentence(&self, now_ms: u64, job: &Job) -> String {
        let record = &job.record;
        let spec = &record.spec;
        match &record.phase {
            Phase::Waiting => {
                let waits: Vec<String> = spec
                    .after
                    .iter()
                    .filter(|before| !self.is_there(before))
                    .map(|before| match self.jobs.get(before) {
                        Some(before) => format!("{} ({})", before.record.spec.id, before.record.phase.as_str()),
                        None => before.to_string(),
                    })
                    .collect();
                format!("waits for {}", waits.join(" and "))
            }
            Phase::Preparing => "its last checkpoint is being looked up".to_string(),
            Phase::Placing => self.placing(now_ms, job),
            Phase::Launching => {
                let ready = job.live.iter().filter(|task| task.ready).count();
                let warned = job.warning.as_ref().map(|(_, text)| text.clone());
                let told = warned.or_else(|| told_restoring(job)).map_or(String::new(), |text| format!(": {text}"));
                format!("{ready} of {} tasks are ready{told}", job.live.len())
            }
            Phase::Running => match job.beginning_again() {
                Some(said) => {
                    let told = told_restoring(job).map_or(String::new(), |text| format!(": {text}"));
                    let tasks = format!("runs: {} of {} tasks; {said}{told}", job.n_running(), record.tasks.len());
                    match job.due_again(now_ms).is_empty() {
                        true => tasks,
                        false => format!("{tasks}; {}", self.placing(now_ms, job)),
                    }
                }
                None => match job.told_fewer() {
                    Some(fewer) if job.missing(now_ms) > 0 => {
                        format!("{}; with {fewer}; for more it {}", running(now_ms, job), self.placing(now_ms, job))
                    }
                    Some(fewer) => format!("{}; with {fewer}", running(now_ms, job)),
                    None => running(now_ms, job),
                },
            },
            Phase::Restarting { until_ms } => {
                let why =
                    job.record.events.iter().rev().find(|event| event.level != "info").map_or("", |event| &event.text);
                let left = record.tasks.iter().filter(|task| !task.state.is_terminal()).count();
                if left > 0 && !job.no_task_left() {
                    format!("waits until {left} tasks of generation {} have ended: {why}", record.generation)
                } else {
                    let wait_ms = until_ms.saturating_sub(now_ms);
                    format!("generation {} starts in {:.1} s: {why}", record.generation + 1, wait_ms as f64 / 1000.0)
                }
            }
            Phase::Ending { until_ms } => {
                let left = record.tasks.iter().filter(|task| !task.state.is_terminal());
                let left: Vec<String> = left.filter_map(|task| job.member(task.index)).collect();
                let wait_ms = until_ms.saturating_sub(now_ms);
                let (left, wait_s) = (left.join(", "), wait_ms as f64 / 1000.0);
                format!("its work is done; what is left of it has {wait_s:.1} s to end by itself: {left}")
            }
            Phase::Stopping => format!("is stopping; {} of {} tasks still run", job.n_running(), record.tasks.len()),
            Phase::Finished => match (&spec.body, record.model_version, record.trial.and_then(|trial| trial.paused)) {
                (JobBody::Train(_), Some(version), _) => format!("finished: wrote model version {version}"),
                (_, _, Some(paused)) => {
                    format!("paused after epoch {}; its sweep says whether it goes on", paused.epoch)
                }
                _ => "finished: all of its input is processed".to_string(),
            },
            Phase::Stopped => "was stopped".to_string(),
            Phase::Failed { error } if error.starts_with("failed") => error.clone(),
            Phase::Failed { error } => format!("failed: {error}"),
        }
    }

    fn placing(&self, now_ms: u64, job: &Job) -> String {
        let Some(standing) = self.standings.get(&Framework::of(&job.record.spec)) else { return String::new() };
        let demands = job.demands(now_ms);
        let several = demands.len() > 1;
        let said = demands.iter().zip(job.needs(now_ms)).map(|(demand, need)| {
            let sentence = sentence_of(demand, standing);
            match (&need.claims, need.member.filter(|_| several)) {
                (Some((index, _)), _) if several => format!("task {index} {sentence}"),
                (_, Some(member)) => format!("{member} {sentence}"),
                _ => sentence,
            }
        });
        let said: Vec<String> = said.collect();
        match said.len() {
            0..=4 => said.join("; "),
            n => format!("{}; and {} more", said[..4].join("; "), n - 4),
        }
    }
}

/// What a demand needs, and why it has not got it.
fn sentence_of(demand: &Demand, standing: &Standing) -> String {
    let Demand { name, shape, n_ports, count, .. } = demand;
    let tasks = if *count == 1 { "task" } else { "tasks" };
    let ports = if *n_ports > 0 { format!(" and {n_ports} port") } else { String::new() };
    let needs = format!("needs {count} {tasks} of {shape}{ports}");
    if !standing.connected {
        return format!("{needs}; the master cannot be reached");
    }
    match standing.waiting.get(name) {
        // The master begins with what is needed, as we would.
        Some(sentence) if sentence.starts_with("needs") => sentence.clone(),
        Some(sentence) if !sentence.is_empty() => format!("{needs}; {sentence}"),
        _ => format!("{needs}; {} offers are in hand", standing.offers.len()),
    }
}

/// Small numbers first: what most needs explaining.
fn concern(phase: &Phase) -> u8 {
    match phase {
        Phase::Failed { .. } => 0,
        Phase::Restarting { .. } => 1,
        Phase::Placing | Phase::Preparing => 2,
        Phase::Launching => 3,
        Phase::Waiting => 4,
        Phase::Stopping | Phase::Ending { .. } => 5,
        Phase::Running => 6,
        Phase::Stopped => 7,
        Phase::Finished => 8,
    }
}

fn running(now_ms: u64, job: &Job) -> String {
    let tasks = format!("runs: {} of {} tasks", job.n_running(), job.record.tasks.len());
    if let Some((at_ms, text)) = &job.warning
        && now_ms.saturating_sub(*at_ms) < WARNING_MS
    {
        return format!("{tasks}, but {text}");
    }
    if job.is_stream() {
        let totals = job.totals();
        let checkpoint = match job.checkpoint {
            Some((epoch, at_ms)) => {
                let age = now_ms.saturating_sub(at_ms) as f64 / 1000.0;
                let (bytes, written) = checkpoint_bytes(now_ms, job);
                let size = bytes.zip(written).map_or(String::new(), |(bytes, written)| {
                    format!(" and holds {}, {} of it new", text_of_bytes(bytes), text_of_bytes(written))
                });
                format!("checkpoint {epoch} is {age:.1} s old{size}")
            }
            None => "no checkpoint yet".to_string(),
        };
        format!("{tasks}, {} rows in, {:.0} rows/s, {checkpoint}", totals.rows_in, job.rate.per_second)
    } else if matches!(job.record.spec.body, JobBody::Command(_) | JobBody::Service(_)) {
        tasks
    } else {
        let loss = job.record.training.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
        format!("{tasks}, step {} of {}{loss}", job.record.training.step, job.record.training.steps_total)
    }
}

fn metrics(now_ms: u64, job: &Job) -> JobMetrics {
    let totals = job.totals();
    let running = job.record.phase == Phase::Running;
    let watermark_ms = job.live.iter().filter_map(|task| task.metrics.watermark_ms).min();
    let event_time_ms = job.live.iter().filter_map(|task| task.metrics.event_time_ms).max();
    let restoring = restoring(job);
    JobMetrics {
        rows_in: totals.rows_in,
        rows_out: totals.rows_out,
        rows_late: totals.rows_late,
        rows_bad: totals.rows_bad,
        rows_per_second: match (running, job.is_stream()) {
            (false, _) => 0.0,
            (true, true) => job.rate.per_second,
            (true, false) => job.record.training.rows_per_second,
        },
        watermark_ms,
        watermark_lag_ms: watermark_ms
            .zip(event_time_ms)
            .map(|(watermark, event_time)| (event_time - watermark).max(0)),
        state_bytes: job.live.iter().map(|task| task.metrics.state_bytes).sum(),
        restore_bytes: restoring.map(|(_, all)| all),
        restored_bytes: restoring.map(|(read, _)| read),
        checkpoint_epoch: job.checkpoint.map(|(epoch, _)| epoch),
        checkpoint_age_ms: job.checkpoint.map(|(_, at_ms)| now_ms.saturating_sub(at_ms)),
        checkpoint_bytes: checkpoint_bytes(now_ms, job).0,
        checkpoint_bytes_written: checkpoint_bytes(now_ms, job).1,
        step: job.record.training.step,
        steps_total: job.record.training.steps_total,
        loss: job.record.training.loss,
        metric: job.record.training.metric,
        metric_name: job.record.training.metric_name.clone(),
        model_version: job.record.model_version,
    }
}

/// How much of the state that its tasks begin with they have read, and how much it is, while that goes on.
fn restoring(job: &Job) -> Option<(u64, u64)> {
    let reading = job.live.iter().filter(|task| !task.ready).map(|task| &task.metrics);
    let (read, all) =
        reading.fold((0, 0), |(read, all), metrics| (read + metrics.restored_bytes, all + metrics.restore_bytes));
    (read < all).then_some((read, all))
}

fn told_restoring(job: &Job) -> Option<String> {
    restoring(job).map(|(read, all)| format!("{} of {} of state are read", text_of_bytes(read), text_of_bytes(all)))
}

/// Sums over the tasks: shares of their time and rates between their last two reports, and state.
fn operators(job: &Job) -> Vec<OperatorView> {
    let sums = OperatorMetrics::sums(job.live.iter().map(|task| task.lately.operators.as_slice()));
    let mut rates = vec![(0.0, 0.0, 0.0); sums.len()];
    for task in &job.live {
        let seconds = task.lately.elapsed_ms as f64 / 1000.0;
        if seconds > 0.0 {
            for (rate, lately) in rates.iter_mut().zip(&task.lately.operators) {
                rate.0 += lately.rows_in as f64 / seconds;
                rate.1 += lately.rows_out as f64 / seconds;
                rate.2 += lately.looked_up as f64 / seconds;
            }
        }
    }
    let running = job.record.phase == Phase::Running;
    let view = |(sum, (rows_in, rows_out, looked_up)): (OperatorMetrics, (f64, f64, f64))| {
        let share = |part_us: u64| if running { part_us as f64 / sum.total_us.max(1) as f64 } else { 0.0 };
        OperatorView {
            busy: share(sum.busy_us),
            blocked: share(sum.blocked_us),
            idle: share(sum.idle_us),
            rows_in_per_second: if running { rows_in } else { 0.0 },
            rows_out_per_second: if running { rows_out } else { 0.0 },
            state_bytes: sum.state_bytes,
            spilled_bytes: sum.spilled_bytes,
            splits: splits(job, &sum),
            lookups_per_second: if running { looked_up } else { 0.0 },
            cache_hits: sum.remembered as f64 / sum.looked_up.max(1) as f64,
            id: sum.id,
        }
    };
    sums.into_iter().zip(rates).map(view).collect()
}

/// The splits of a source over the tasks that read them.
fn splits(job: &Job, source: &OperatorMetrics) -> Vec<SplitView> {
    let running = job.record.phase == Phase::Running;
    let of = |split: &SplitMetrics| {
        let rates = job.live.iter().filter(|task| running && task.lately.elapsed_ms > 0).flat_map(|task| {
            let operators = task.lately.operators.iter().filter(|operator| operator.id == source.id);
            let same = operators.flat_map(|operator| &operator.splits).filter(|other| other.name == split.name);
            same.map(|other| other.rows as f64 * 1000.0 / task.lately.elapsed_ms as f64)
        });
        SplitView { name: split.name.clone(), rows_per_second: rates.sum(), behind: split.behind }
    };
    source.splits.iter().map(of).collect()
}

fn task_views(job: &Job) -> Vec<TaskView> {
    job.record
        .tasks
        .iter()
        .zip(&job.live)
        .map(|(task, live)| TaskView {
            id: task.id.to_string(),
            job: job.record.spec.id.to_string(),
            kind: job.record.spec.body.kind().to_string(),
            index: task.index,
            member: job.member(task.index).unwrap_or_default(),
            generation: job.record.generation,
            agent: task.agent.to_string(),
            offer: task.offer.to_string(),
            state: task.state.as_str().to_string(),
            reason: match task.reason {
                Some(reason) if task.state != TaskState::Running => format!("{reason:?}"),
                _ => String::new(),
            },
            message: task.message.clone(),
            rows_in: live.metrics.rows_in,
            rows_out: live.metrics.rows_out,
        })
        .collect()
}

/// Of all that a restart from the last durable checkpoint needs, and of what was written for it.
fn checkpoint_bytes(now_ms: u64, job: &Job) -> (Option<u64>, Option<u64>) {
    let view = job.coordinator.as_ref().map(|coordinator| coordinator.view(now_ms));
    view.map_or((None, None), |view| (view.bytes, view.bytes_written))
}
