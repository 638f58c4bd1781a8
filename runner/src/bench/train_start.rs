//! How long it takes from a command to the first step of a training, and to digits that are told apart.
//!
//! Invariant: a training counts once its model is written: what is measured is never less than what is told.

use super::processes::{pss_mb, task_pids, two_cores};
use super::{Figure, median, train};
use crate::client::Client;
use crate::dev::Tree;
use crate::view::{JobView, SubmitRequest};
use anyhow::{Context, bail};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the held-out digits.
const ACCURACY_MIN: f64 = 0.97;

pub async fn measure(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let examples = train::lay_out(folder)?;
    let digits = train::DIGITS.to_string();
    let one_step = digits.replace("epochs = 30", "steps = 1");
    let memory = memory(&digits.replace("epochs = 30", "epochs = 30000"));
    std::fs::write(examples.join("one_step.toml"), &one_step)?;
    let tree = two_cores(folder).await?;
    let measured = async {
        let mut took: [Vec<f64>; 4] = Default::default();
        for _ in 0..RUNS {
            took[0].push(run(&examples.join("one_step.toml"), None).await?);
            took[1].push(run(&examples.join("digits.toml"), Some(ACCURACY_MIN)).await?);
            took[2].push(submitted(&tree, &examples, &one_step, None).await?);
            took[3].push(submitted(&tree, &examples, &digits, Some(ACCURACY_MIN)).await?);
        }
        anyhow::Ok((took, task_memory(&tree, &examples, &memory).await?))
    };
    let measured = measured.await;
    tree.end().await;
    let ([first_run, digits_run, first_submitted, digits_submitted], memory) = measured?;
    Ok(vec![
        Figure::lower("start", "run: start to the first training step", median(first_run), "ms", Some(300.0)),
        Figure::lower("start", "submit: to the first training step", median(first_submitted), "ms", Some(1000.0)),
        Figure::lower("start", "run: start to digits at 97 %", median(digits_run), "ms", Some(500.0)),
        Figure::lower("start", "submit: to digits at 97 %", median(digits_submitted), "ms", Some(1500.0)),
        Figure::lower("start", "task that trains the MLP 784-512-256-10: memory (PSS)", memory, "MB", Some(150.0)),
    ])
}

/// Milliseconds until `smack run` has written a model.
async fn run(file: &Path, accuracy_min: Option<f64>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let ran = tokio::process::Command::new(std::env::current_exe()?)
        .arg("run")
        .arg(file)
        .current_dir(file.parent().context("failed to find the folder of the examples")?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to start `smack run`")?;
    let elapsed = started.elapsed();
    let said = String::from_utf8_lossy(&ran.stderr);
    let Some((_, written)) = said.split_once("wrote model version") else {
        bail!("failed to train {}: {said}", file.display());
    };
    if let Some(least) = accuracy_min {
        let accuracy = written.split_once("accuracy ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        expect(accuracy, least)?;
    }
    Ok(millis(elapsed))
}

fn expect(accuracy: Option<f64>, least: f64) -> anyhow::Result<()> {
    match accuracy {
        Some(accuracy) if accuracy >= least => Ok(()),
        found => bail!("failed to learn the digits: accuracy {found:?}, and not {least}"),
    }
}

/// Milliseconds until the cluster has written a model.
async fn submitted(tree: &Tree, examples: &Path, text: &str, accuracy_min: Option<f64>) -> anyhow::Result<f64> {
    let client = Client::new(Some(&tree.runner), None)?;
    let earlier = client.jobs().await?.jobs.iter().map(|job| job.submitted_ms).max();
    let started = Instant::now();
    submit(&client, examples, text).await?;
    let is_new = |job: &JobView| Some(job.submitted_ms) > earlier;
    let job = wait_for(&client, |job| is_new(job) && job.metrics.model_version.is_some()).await?;
    let elapsed = started.elapsed();
    if let Some(least) = accuracy_min {
        expect(job.metrics.metric, least)?;
    }
    wait_for(&client, |job| job.state == "finished").await?;
    Ok(millis(elapsed))
}

async fn task_memory(tree: &Tree, examples: &Path, text: &str) -> anyhow::Result<f64> {
    let client = Client::new(Some(&tree.runner), None)?;
    submit(&client, examples, text).await?;
    let job = wait_for(&client, |job| job.metrics.step > 100).await?;
    let pids = task_pids(&tree.data_dir)?;
    let memory = pss_mb(pids.into_iter().map(|pid| ("the task".to_string(), pid)))?;
    client.stop(&job.group).await?;
    Ok(memory)
}

/// The digits' file with another network and one worker.
fn memory(text: &str) -> String {
    // The digits have 64 columns; the first layer makes them 784.
    let layers =
        "layers = [{ dense = 784 }, { dense = 512, activation = \"relu\" }, { dense = 256, activation = \"relu\" }]";
    let one = "layers = [{ dense = 128, activation = \"relu\" }]";
    text.replace(one, layers).replace("batch = 32", "batch = 128").replace("workers = 2", "workers = 1")
}

async fn submit(client: &Client, examples: &Path, text: &str) -> anyhow::Result<()> {
    let request = SubmitRequest {
        text: text.to_string(),
        file: "digits.toml".to_string(),
        base_dir: examples.display().to_string(),
        resume: false,
        resume_from: None,
    };
    client.submit(&request).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(())
}

/// The latest job, once it is so.
async fn wait_for(client: &Client, is_so: impl Fn(&JobView) -> bool) -> anyhow::Result<JobView> {
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        let jobs = client.jobs().await?.jobs;
        if let Some(failed) = jobs.iter().find(|job| job.state == "failed") {
            bail!("{}: {}", failed.id, failed.why);
        }
        let latest = jobs.into_iter().max_by_key(|job| job.submitted_ms);
        if let Some(job) = latest.filter(|job| is_so(job)) {
            return Ok(job);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("failed to see the training go on within {} s", PATIENCE.as_secs())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
