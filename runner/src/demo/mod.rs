//! `smack demo NAME`: a local cluster that runs a shipped job file, watched live.
//!
//! Invariant: nothing here that the CLI cannot do: it submits the shipped file and reads the API and the tables.

mod score;
mod screen;

use crate::client::Client;
use crate::dev::{DevConfig, Tree};
use crate::view::{ClusterView, JobView, SubmitRequest};
use anyhow::{Context, bail};
use score::Scored;
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The job file of `smack demo fraud`.
pub const FRAUD_SQL: &str = include_str!("../../../examples/fraud.sql");

#[derive(Clone, Debug)]
pub struct DemoConfig {
    pub name: String,
    /// Ends by itself after this; else at Ctrl-C.
    pub duration: Option<Duration>,
    pub json: bool,
    /// Only show the job file.
    pub print: bool,
    /// Kept if given; else a folder of its own that is removed at the end.
    pub data_dir: Option<PathBuf>,
    pub quiet: bool,
}

/// What `-o json` prints at the end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub seconds: f64,
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_late: u64,
    pub rows_bad: u64,
    pub alerts: u64,
    pub scored: u64,
    /// Over the windows scored that begin after the training cut-off; absent while both kinds have not been seen.
    pub auc: Option<f64>,
    /// What a score that knew the hidden state of each card would reach.
    pub auc_best_reachable: f64,
    /// What a threshold on the largest amount reaches, on the same windows.
    pub auc_amount_alone: Option<f64>,
    pub model_version: Option<u64>,
    pub loss: Option<f64>,
    pub restarts: u64,
    pub tasks: Vec<TaskSummary>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TaskSummary {
    pub id: String,
    pub kind: String,
    pub agent: String,
    pub offer: String,
    pub state: String,
}

/// What is known at one moment.
#[derive(Default)]
struct Moment {
    jobs: Vec<JobView>,
    cluster: ClusterView,
    scored: Scored,
}

pub async fn demo(config: DemoConfig) -> anyhow::Result<i32> {
    if config.name != "fraud" {
        bail!("failed to find the demo '{}': there is 'fraud'", config.name);
    }
    if config.print {
        print!("{FRAUD_SQL}");
        return Ok(0);
    }
    let ours = config.data_dir.is_none();
    let data_dir = config
        .data_dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("smack-demo-{}", std::process::id())));
    let result = watched(&config, data_dir.clone()).await;
    if ours && let Err(error) = std::fs::remove_dir_all(&data_dir) {
        eprintln!("the folder {} could not be removed: {error}", data_dir.display());
    }
    result
}

async fn watched(config: &DemoConfig, data_dir: PathBuf) -> anyhow::Result<i32> {
    let started = Instant::now();
    let ended = crate::signal::ended();
    tokio::pin!(ended);
    let dev = DevConfig {
        data_dir: data_dir.clone(),
        agents: 2,
        cpus_per_agent: None,
        isolation: "off",
        listen_port: 0,
        kafka_port: None,
        token_file: None,
    };
    let mut tree = tokio::select! {
        tree = Tree::start(&dev) => tree?,
        () = &mut ended => return Ok(0),
    };
    let client = Client::new(Some(&tree.runner), None)?;
    let mut screen =
        screen::Screen::new(!config.json && !config.quiet && std::io::stdout().is_terminal(), config.quiet);
    screen.say(&format!(
        "a master, two agents and a runner are up in {:.1} s; page and API: {}",
        started.elapsed().as_secs_f64(),
        tree.runner
    ));
    let request = SubmitRequest {
        text: FRAUD_SQL.to_string(),
        file: "fraud.sql".to_string(),
        base_dir: data_dir.display().to_string(),
        resume: false,
        resume_from: None,
    };
    let submitted = client.submit(&request).await.context("failed to submit fraud.sql")?;
    screen.say(&format!("submitted fraud.sql (see it with `smack demo fraud --print`): {}", submitted.jobs.join(", ")));
    let best = tokio::task::spawn_blocking(|| score::best_reachable(FRAUD_SQL)).await??;
    let mut moment = Moment::default();
    let mut code = 0;
    let until = config.duration.map(|duration| started + duration);
    loop {
        for line in tree.supervise()? {
            screen.say(&line);
        }
        if let Ok(jobs) = client.jobs().await {
            moment.jobs = jobs.jobs;
        }
        if let Ok(cluster) = client.cluster().await {
            moment.cluster = cluster;
        }
        moment.scored.refresh(&client).await;
        screen.draw(&moment, best, started.elapsed());
        if let Some(failed) = moment.jobs.iter().find(|job| job.state == "failed") {
            screen.say(&format!("{}: {}", failed.id, failed.why));
            code = 1;
            break;
        }
        let left = until.map_or(Duration::from_millis(500), |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(Duration::from_millis(500))) => {}
            () = &mut ended => break,
        }
    }
    let summary = summary(&moment, best, started.elapsed());
    screen.finish();
    if config.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{}", screen::summary_text(&summary));
    }
    tree.end().await;
    Ok(code)
}

fn summary(moment: &Moment, best: f64, elapsed: Duration) -> Summary {
    let sum = |of: fn(&JobView) -> u64| moment.jobs.iter().map(of).sum();
    let train = moment.jobs.iter().find(|job| job.kind == "train");
    Summary {
        seconds: elapsed.as_secs_f64(),
        rows_in: sum(|job| job.metrics.rows_in),
        rows_out: sum(|job| job.metrics.rows_out),
        rows_late: sum(|job| job.metrics.rows_late),
        rows_bad: sum(|job| job.metrics.rows_bad),
        alerts: moment.scored.alerts,
        scored: moment.scored.scored,
        auc: moment.scored.auc,
        auc_best_reachable: best,
        auc_amount_alone: moment.scored.auc_amount,
        model_version: train.and_then(|job| job.metrics.model_version),
        loss: train.and_then(|job| job.metrics.loss),
        restarts: sum(|job| job.restarts),
        tasks: moment
            .jobs
            .iter()
            .flat_map(|job| &job.tasks)
            .map(|task| TaskSummary {
                id: task.id.clone(),
                kind: task.kind.clone(),
                agent: task.agent.clone(),
                offer: task.offer.clone(),
                state: task.state.clone(),
            })
            .collect(),
    }
}
