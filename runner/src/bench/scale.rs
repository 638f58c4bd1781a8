//! What a second task brings, and what a task that keeps no state takes.
//!
//! Invariant: rates are those of jobs that have run for a while, each with a core of its own, in processes on an agent; what
//! the two tasks with an exchange bring is held against two jobs that share nothing but the machine.

use super::nexmark::generated::over_generator;
use super::nexmark::queries::QUERIES;
use super::processes::{pss_mb, task_pids, two_cores};
use super::{Figure, median};
use crate::client::Client;
use crate::dev::Tree;
use crate::view::SubmitRequest;
use anyhow::{Context, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// As many as never end.
const EVENTS: u64 = 1_000_000_000_000;
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// Until windows come and go as often as later.
const SETTLE: Duration = Duration::from_secs(4);
const MEASURED: Duration = Duration::from_secs(8);
/// What is compared is measured in turns.
const ROUNDS: usize = 3;
const ONE_PHASE: &str = "SET optimizer.two_phase = 'off';\n";
const TWO_PHASES: &str = "SET optimizer.two_phase = 'on';\n";

const STATELESS: &str = "SET job.name = 'stateless';\nSET job.cpus = '1';\n\
     CREATE TABLE made (id BIGINT, value DOUBLE, name VARCHAR) WITH (connector = 'datagen', rate = '50000');\n\
     CREATE TABLE nowhere (id BIGINT, value DOUBLE, name VARCHAR) WITH (connector = 'blackhole');\n\
     INSERT INTO nowhere SELECT id, value * 2, UPPER(name) FROM made WHERE value > 0.1;\n";

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-scale-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let result = measure_in(&folder).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

async fn measure_in(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let tree = two_cores(folder).await?;
    let result = measure_on(&tree).await;
    tree.end().await;
    result
}

async fn measure_on(tree: &Tree) -> anyhow::Result<Vec<Figure>> {
    let client = Client::new(Some(&tree.runner), None)?;
    let bench = Bench { tree, client };
    let one = bench.rate(&[q5("one", 1, ONE_PHASE)?]).await?;
    let (mut apart, mut split, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pair = bench.rate(&[q5("left", 1, ONE_PHASE)?, q5("right", 1, ONE_PHASE)?]).await?;
        apart.push(pair / one);
        split.push(bench.rate(&[q5("two", 2, TWO_PHASES)?]).await? / pair * 100.0);
        whole.push(bench.rate(&[q5("two", 2, ONE_PHASE)?]).await? / pair * 100.0);
    }
    let memory = bench.memory().await?;
    let two = "q5: two tasks with an exchange, of what two jobs bring";
    Ok(vec![
        Figure::higher("scale", "q5: one task", one / 1000.0, "k/s", None),
        Figure::higher("scale", "q5: two jobs that share nothing, times one", median(apart), "x", None),
        Figure::higher("scale", two, median(split), "%", Some(85.0)),
        Figure::higher("scale", "the same, all rows over the exchange", median(whole), "%", None),
        Figure::lower("scale", "stateless task: memory at 50,000 rows/s (PSS)", memory, "MB", Some(60.0)),
    ])
}

/// q5 with as many tasks, of one slice each, which pass rows to each other where they are several.
fn q5(name: &str, tasks: u32, phases: &str) -> anyhow::Result<String> {
    let query = QUERIES.iter().find(|query| query.name == "q5").context("failed to find q5")?;
    let settings = format!("SET job.name = '{name}';\nSET job.cpus = '1';\nSET job.parallelism = '{tasks}';\n{phases}");
    Ok(settings + &over_generator(query.text, EVENTS, tasks))
}

struct Bench<'a> {
    tree: &'a Tree,
    client: Client,
}

impl Bench<'_> {
    async fn submit(&self, text: &str) -> anyhow::Result<()> {
        let request = SubmitRequest {
            text: text.to_string(),
            file: "scale.sql".to_string(),
            base_dir: self.tree.data_dir.display().to_string(),
            resume: false,
            resume_from: None,
        };
        self.client.submit(&request).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(())
    }

    /// Rows per second of these jobs together.
    async fn rate(&self, jobs: &[String]) -> anyhow::Result<f64> {
        for job in jobs {
            self.submit(job).await?;
        }
        self.begun(jobs.len()).await?;
        tokio::time::sleep(SETTLE).await;
        let (began, before) = self.next_total().await?;
        tokio::time::sleep(MEASURED).await;
        let (ended, after) = self.next_total().await?;
        self.stop_all().await?;
        Ok((after - before) as f64 / (ended - began).as_secs_f64())
    }

    /// Proportional set size of the only task, once it has worked for a while.
    async fn memory(&self) -> anyhow::Result<f64> {
        self.submit(STATELESS).await?;
        self.begun(1).await?;
        tokio::time::sleep(SETTLE).await;
        let pids = task_pids(&self.tree.data_dir)?;
        let memory = pss_mb(pids.into_iter().map(|pid| ("the task".to_string(), pid)))?;
        self.stop_all().await?;
        Ok(memory)
    }

    async fn live(&self) -> anyhow::Result<Vec<crate::view::JobView>> {
        let mut jobs = self.client.jobs().await?.jobs;
        if let Some(failed) = jobs.iter().find(|job| job.state == "failed") {
            bail!("{}: {}", failed.id, failed.why);
        }
        jobs.retain(|job| job.state != "stopped");
        Ok(jobs)
    }

    async fn begun(&self, n_jobs: usize) -> anyhow::Result<()> {
        let asked = Instant::now();
        while asked.elapsed() < BEGIN_WITHIN {
            let jobs = self.live().await?;
            if jobs.len() == n_jobs && jobs.iter().all(|job| job.metrics.rows_in > 0) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the jobs did not begin within {} s", BEGIN_WITHIN.as_secs())
    }

    /// Totals come once a second: when the next one did.
    async fn next_total(&self) -> anyhow::Result<(Instant, u64)> {
        let total = async || anyhow::Ok(self.live().await?.iter().map(|job| job.metrics.rows_in).sum::<u64>());
        let before = total().await?;
        loop {
            let now = total().await?;
            if now != before {
                return Ok((Instant::now(), now));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop_all(&self) -> anyhow::Result<()> {
        for job in self.live().await? {
            self.client.stop(&job.group).await?;
        }
        let asked = Instant::now();
        while !self.live().await?.is_empty() {
            if asked.elapsed() > BEGIN_WITHIN {
                bail!("the jobs did not stop within {} s", BEGIN_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
