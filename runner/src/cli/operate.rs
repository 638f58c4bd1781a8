//! Verbs for streams: a checkpoint now, those that are kept, another number of tasks, and what a changed file would find
//! again.

use super::exit::{BAD_INPUT, FAILED, Fail, Result};
use super::human::duration;
use super::output::{Output, table};
use super::submit::{is_over, read_file, refused};
use crate::client::Client;
use crate::view::{CheckpointView, CheckpointsView, JobPlanView, PlanView, text_of_bytes};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use streaming::coordinator::savepoints::refuse_name;

/// How often a verb that waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub async fn plan(client: &Client, output: Output, path: &Path, target: Option<&str>) -> Result<()> {
    let request = read_file(path, target)?;
    let plan = client.plan(&request).await.map_err(|error| refused(&request, error))?;
    output.either(&plan, show_plan)
}

fn show_plan(plan: &PlanView) -> String {
    let of_job = |job: &JobPlanView| {
        let epoch = job.epoch.map_or("none".to_string(), |epoch| epoch.to_string());
        let rows = job
            .operators
            .iter()
            .map(|operator| [job.job.clone(), epoch.clone(), operator.id.clone(), operator.state.clone()]);
        rows.collect::<Vec<_>>()
    };
    table(["JOB", "CHECKPOINT", "OPERATOR", "STATE"], plan.jobs.iter().flat_map(of_job))
}

/// Asks for a checkpoint and waits until each stream has a newer one than before, which is kept if it has a name.
pub async fn checkpoint(client: &Client, output: Output, subject: &str, name: Option<&str>) -> Result<()> {
    if let Some(refusal) = name.and_then(refuse_name) {
        return Err(Fail::new(BAD_INPUT, refusal));
    }
    let epochs = |jobs: &[crate::view::JobView]| -> BTreeMap<String, u64> {
        jobs.iter().map(|job| (job.id.clone(), job.metrics.checkpoint_epoch.unwrap_or(0))).collect()
    };
    let before = epochs(&client.jobs().await?.jobs);
    let asked = client.checkpoint(subject).await?.jobs;
    loop {
        let jobs = client.jobs().await?.jobs;
        if let Some(over) = jobs.iter().find(|job| asked.contains(&job.id) && is_over(&job.state)) {
            return Err(Fail::new(FAILED, format!("{} {}: {}", over.id, over.state, over.why)));
        }
        let now = epochs(&jobs);
        let newer = |job: &String| now.get(job) > before.get(job);
        if let Some(name) = name.filter(|_| asked.iter().all(newer)) {
            return output.either(&client.keep(subject, name).await?, show_kept);
        }
        if asked.iter().all(newer) {
            let taken: BTreeMap<&String, u64> = asked.iter().filter_map(|job| Some((job, *now.get(job)?))).collect();
            return output.either(&taken, |taken| {
                table(["JOB", "CHECKPOINT"], taken.iter().map(|(job, epoch)| [job.to_string(), epoch.to_string()]))
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub async fn kept(client: &Client, output: Output, subject: &str) -> Result<()> {
    output.either(&client.kept(subject).await?, show_kept)
}

fn show_kept(kept: &CheckpointsView) -> String {
    let row = |checkpoint: &CheckpointView| {
        [
            checkpoint.job.clone(),
            checkpoint.epoch.to_string(),
            checkpoint.name.clone().unwrap_or_else(|| "-".to_string()),
            text_of_bytes(checkpoint.bytes),
            text_of_bytes(checkpoint.bytes_written),
            duration(checkpoint.age_ms),
        ]
    };
    table(["JOB", "EPOCH", "NAME", "SIZE", "WRITTEN", "AGE"], kept.checkpoints.iter().map(row))
}

pub async fn drop_kept(client: &Client, output: Output, subject: &str, name: &str) -> Result<()> {
    let dropped = client.drop_kept(subject, name).await?;
    output.either(&dropped, |dropped| dropped.jobs.iter().map(|job| format!("{job}\n")).collect())
}

pub async fn scale(client: &Client, output: Output, subject: &str, parallelism: u32) -> Result<()> {
    let told = client.scale(subject, parallelism).await?;
    output.either(&told, |told| told.jobs.iter().map(|job| format!("{job}\n")).collect())?;
    output.progress(&format!("each takes a last checkpoint and goes on from it with {parallelism} tasks"));
    Ok(())
}
