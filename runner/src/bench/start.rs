//! How long a newcomer waits, and how much memory an idle cluster holds.

use super::processes::pss_mb;
use super::{Figure, median, train_start};
use crate::client::Client;
use crate::dev::{DevConfig, Tree};
use crate::view::SubmitRequest;
use anyhow::{Context, bail};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};

const RUNS: usize = 5;

const BOUNDED: &str = "CREATE TABLE numbers (id BIGINT, value DOUBLE) WITH (connector = 'datagen', rows = '1000');\n\
                       SELECT id, value * 2 AS twice FROM numbers WHERE value > 0;\n";

const ENDLESS: &str = "SET job.name = 'bench';\nSET job.cpus = '0.5';\n\
                       CREATE TABLE numbers (id BIGINT, value DOUBLE) WITH (connector = 'datagen', rate = '1000');\n\
                       CREATE TABLE nowhere (id BIGINT, value DOUBLE) WITH (connector = 'blackhole');\n\
                       INSERT INTO nowhere SELECT id, value FROM numbers;\n";

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let result = measure_in(&folder).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

async fn measure_in(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut ready = Vec::new();
    let mut pss = Vec::new();
    let mut first_record = Vec::new();
    for run in 0..RUNS {
        let config = DevConfig {
            data_dir: folder.join(format!("dev-{run}")),
            agents: 2,
            cpus_per_agent: None,
            isolation: "off",
            listen_port: 0,
            kafka_port: Some(0),
            token_file: None,
            secrets: None,
        };
        let started = Instant::now();
        let tree = Tree::start(&config).await?;
        ready.push(started.elapsed().as_secs_f64());
        if run == 0 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            pss.push(pss_mb(tree.pids())?);
        }
        first_record.push(submit_to_first_record(&tree).await?);
        tree.end().await;
    }
    let file = folder.join("bounded.sql");
    std::fs::write(&file, BOUNDED)?;
    let mut first_row = Vec::new();
    for _ in 0..RUNS {
        first_row.push(run_to_first_row(&file).await?);
    }
    let training = train_start::measure(&folder.join("training")).await?;
    let own = [
        Figure::lower("start", "dev: start to all members ready", median(ready), "s", Some(1.0)),
        Figure::lower("start", "dev: memory of all members (PSS, 5 s idle)", median(pss), "MB", Some(120.0)),
        Figure::lower("start", "run: start to first row of a SELECT", median(first_row), "ms", Some(500.0)),
        Figure::lower("start", "submit: to first processed record", median(first_record), "s", Some(2.0)),
    ];
    Ok(own.into_iter().chain(training).collect())
}

async fn submit_to_first_record(tree: &Tree) -> anyhow::Result<f64> {
    let client = Client::new(Some(&tree.runner), None)?;
    let request = SubmitRequest {
        text: ENDLESS.to_string(),
        file: "bench.sql".to_string(),
        base_dir: tree.data_dir.display().to_string(),
        resume: false,
        resume_from: None,
    };
    let started = Instant::now();
    client.submit(&request).await?;
    while started.elapsed() < Duration::from_secs(60) {
        let jobs = client.jobs().await?;
        if jobs.jobs.iter().any(|job| job.metrics.rows_in > 0) {
            return Ok(started.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("failed to process a record within 60 s of submitting");
}

async fn run_to_first_row(file: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["run", "-o", "json"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start `smack run`")?;
    let stdout = child.stdout.take().context("failed to read from `smack run`")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    if line.is_none() {
        bail!("failed to get a row from `smack run`");
    }
    child.wait().await?;
    Ok(elapsed_ms)
}
