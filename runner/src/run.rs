//! `smack run FILE`: the jobs of a file in this one process, without a cluster.
//!
//! Invariant: the same plans, operators, sinks and training as on a cluster; only who carries the messages differs. What
//! the file keeps in tables without a connector lives in a folder that goes at the end, and so do the models that it trains and
//! the history of their runs, unless there is a folder for them.

pub mod broker;
mod insert;
pub mod print;
mod progress;

use crate::server::owner::{chain, now_ms};
use crate::settle::Settled;
use crate::training_data;
use crate::view::PointView;
use anyhow::{Context as _, anyhow, bail};
use connectors::Context;
use jobs::{JobBody, JobId, JobSpec, TrainBody};
use print::Printer;
use progress::{At, Progress};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use streaming::batch::{self, BatchContext, Shown};
use streaming::control::Level;
use streaming::runtime::local::{self, LocalConfig, LocalRun};
use streaming::sql::{ScriptJob, StatementBody};
use training::{Report, TrainTask};

/// How often jobs are looked at; short, because a bounded job may take no longer than this in all.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Between lines about how far the jobs are.
const TELL_EVERY: Duration = Duration::from_secs(5);

pub struct RunConfig {
    pub settled: Settled,
    pub text: String,
    pub base_dir: PathBuf,
    /// As many as cores when absent.
    pub slices: Option<u32>,
    pub json: bool,
    /// Keeps models and the history of training runs; they go at the end without it.
    pub data_dir: Option<PathBuf>,
    /// An EXPLAIN is told as a graph in Graphviz' language.
    pub dot: bool,
    pub quiet: bool,
}

/// Ready when the user has had enough; not to be asked again afterwards.
type Ended<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

/// Runs all jobs to their end, or until Ctrl-C; the code to exit with.
pub async fn run(config: RunConfig) -> anyhow::Result<i32> {
    let folder = std::env::temp_dir().join(format!("smack-run-{}", std::process::id()));
    let ended = crate::signal::ended();
    tokio::pin!(ended);
    let result = run_in(&config, &folder, ended).await;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    match result {
        Err(error) if error.is::<print::OutputClosed>() => Ok(0),
        other => other,
    }
}

async fn run_in(config: &RunConfig, folder: &Path, mut ended: Ended<'_>) -> anyhow::Result<i32> {
    let slices = threads(config.slices);
    let data = config.data_dir.clone().unwrap_or_else(|| folder.to_path_buf());
    let mut here = Here { folder: folder.to_path_buf(), data, slices, quiet: config.quiet, tables: None };
    crate::continuous::publish_into(&here.model_dir());
    if !config.settled.jobs.is_empty() {
        here.serve_tables().await?;
        if !run_jobs(config, &here, ended.as_mut()).await? {
            return Ok(0);
        }
    }
    for statement in &config.settled.queries {
        if !select(config, &here, *statement, ended.as_mut()).await? {
            return Ok(0);
        }
    }
    if config.settled.queries.is_empty()
        && let Some((_, store)) = &here.tables
    {
        print::tables(store, config.json)?;
    }
    Ok(0)
}

/// As many as cores, unless something else is wanted.
pub fn threads(wanted: Option<u32>) -> u32 {
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
}

/// Where this run keeps its things.
struct Here {
    folder: PathBuf,
    /// Models and the history of runs.
    data: PathBuf,
    slices: u32,
    quiet: bool,
    /// Endpoint of the table store, and the store.
    tables: Option<(String, Arc<tables::Store>)>,
}

impl Here {
    async fn serve_tables(&mut self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("failed to make {}", self.folder.display()))?;
        let store = Arc::new(tables::Store::open(&self.folder.join("tables"))?);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("failed to listen for the table store")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let router = tables::router(Arc::clone(&store));
        tokio::spawn(async move { axum::serve(listener, router).await });
        self.tables = Some((endpoint, store));
        Ok(())
    }

    fn model_dir(&self) -> PathBuf {
        crate::predict::model_dir(&self.data)
    }

    fn context(&self, job: &str, base_dir: &Path) -> Context {
        Context {
            job: job.to_string(),
            generation: 1,
            claimed_us: 0,
            begun_us: 0,
            slot: 0,
            n_slots: 1,
            base_dir: base_dir.to_path_buf(),
            tables_endpoint: self.tables.as_ref().map(|(endpoint, _)| endpoint.clone()),
            token: None,
        }
    }

    fn tell(&self, line: &str) {
        crate::status::clear();
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}

/// A job at work.
enum Work {
    Stream(LocalRun),
    /// INSERTs that DataFusion's engine answers.
    Batch(insert::Batch),
    Train(tokio::task::JoinHandle<anyhow::Result<String>>),
}

/// False when it was ended by Ctrl-C.
async fn run_jobs(config: &RunConfig, here: &Here, mut ended: Ended<'_>) -> anyhow::Result<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut waiting: Vec<&JobSpec> = config.settled.jobs.iter().collect();
    let mut working: BTreeMap<JobId, Work> = BTreeMap::new();
    let mut done: Vec<JobId> = Vec::new();
    let (began, mut told) = (Instant::now(), Instant::now());
    while !(waiting.is_empty() && working.is_empty()) {
        let (ready, rest) = waiting.into_iter().partition(|job| {
            job.after.iter().all(|before| done.contains(before) || runs_on(&config.settled.jobs, &working, before))
        });
        waiting = rest;
        for job in ready {
            working.insert(job.id.clone(), start(job, here, &stop).await?);
        }
        for id in working.keys().cloned().collect::<Vec<_>>() {
            match look_at(&id, &mut working, here).await? {
                Look::Works => {}
                Look::Ended(how) => {
                    here.tell(&format!("{id}: {how}"));
                    done.push(id);
                }
                Look::Becomes(stream) => drop(working.insert(id, Work::Stream(stream))),
            }
        }
        let trains = working.values().any(|work| matches!(work, Work::Train(_)));
        if crate::status::is_drawn() {
            // A training draws its own bar.
            if !trains {
                crate::status::show(began, || {
                    let of = rows(&working).into_iter();
                    of.map(|(id, rows_in, out)| counted(id, rows_in, out)).collect::<Vec<_>>().join("; ")
                });
            }
        } else if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            for (id, rows_in, rows_out) in rows(&working) {
                here.tell(&counted(id, rows_in, rows_out));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = &mut ended => {
                here.tell("ending after a last checkpoint …");
                stop.store(true, Ordering::Relaxed);
                for (id, work) in working {
                    match work {
                        Work::Batch(batch) => {
                            batch.stop().await;
                            here.tell(&format!("{id}: stopped as a batch, of which nothing is committed"));
                        }
                        Work::Stream(run) => {
                            run.drain();
                            tokio::task::spawn_blocking(move || run.wait()).await??;
                        }
                        Work::Train(train) => drop(train.await?),
                    }
                }
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What each has taken and given so far; a training says that itself.
fn rows(working: &BTreeMap<JobId, Work>) -> Vec<(&JobId, u64, u64)> {
    let of = |(id, work): (_, &Work)| match work {
        Work::Stream(run) => {
            let metrics = run.status().metrics;
            Some((id, metrics.rows_in, metrics.rows_out))
        }
        Work::Batch(batch) => {
            let (rows_in, rows_out) = batch.rows();
            Some((id, rows_in, rows_out))
        }
        Work::Train(_) => None,
    };
    working.iter().filter_map(of).collect()
}

fn counted(id: &JobId, rows_in: u64, rows_out: u64) -> String {
    format!("{id}: {rows_in} rows in, {rows_out} out")
}

/// Whether what comes after `id` may start while `id` works: an endless stream is never done.
fn runs_on(jobs: &[JobSpec], working: &BTreeMap<JobId, Work>, id: &JobId) -> bool {
    let endless = jobs.iter().any(|job| job.id == *id && matches!(&job.body, JobBody::Stream(body) if !body.bounded));
    endless && matches!(working.get(id), Some(Work::Stream(run)) if run.status().ready)
}

async fn start(job: &JobSpec, here: &Here, stop: &Arc<AtomicBool>) -> anyhow::Result<Work> {
    match &job.body {
        JobBody::Stream(body) => insert::start(job, body, here).await,
        JobBody::Train(body) => Ok(Work::Train(start_train(job, body, here, Arc::clone(stop)))),
        JobBody::Command(_) | JobBody::Service(_) => {
            bail!("failed to run {}: commands and services run on a cluster; use `smack submit`", job.id)
        }
    }
}

fn start_train(
    job: &JobSpec,
    body: &TrainBody,
    here: &Here,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<anyhow::Result<String>> {
    let body = body.clone();
    let context = here.context(job.id.as_str(), Path::new(&body.base_dir));
    let task = TrainTask {
        job: job.id.to_string(),
        submission: String::new(),
        generation: 1,
        rank: 0,
        world: 1,
        peers: Vec::new(),
        checkpoint_dir: here.folder.join("training").join(&job.name),
        model_dir: here.model_dir(),
        pause_after: None,
        has_evaluator: false,
    };
    let (quiet, runs_dir, workers) = (here.quiet, crate::runs::runs_dir(&here.data), job.parallelism);
    let run = crate::runs::name(&job.name, &uuid::Uuid::new_v4().simple().to_string()[..8]);
    tokio::spawn(async move {
        let data = loop {
            let data = training_data::read(&body, &context).await.map_err(|error| anyhow!("failed to {error}"))?;
            if training_data::n_rows(&data) >= body.min_rows.max(1) || stop.load(Ordering::Relaxed) {
                break data;
            }
            tokio::time::sleep(training_data::LOOK_EVERY).await;
        };
        let work = move || train_recorded(&body, data, &task, workers, (&runs_dir, &run), quiet, &stop);
        tokio::task::spawn_blocking(work).await?
    })
}

/// Trains, shows how far it is, and writes the history of the run; what came of it, in words.
fn train_recorded(
    body: &TrainBody,
    data: training::Data,
    task: &TrainTask,
    workers: u32,
    (runs_dir, run): (&Path, &str),
    quiet: bool,
    stop: &AtomicBool,
) -> anyhow::Result<String> {
    let recorded = |result: Result<(), String>| result.map_err(|error| anyhow!("failed to {error}"));
    let began = crate::runs::Began {
        at_ms: now_ms(),
        job: task.job.clone(),
        model: body.model.clone(),
        submission: String::new(),
        workers,
        settings: crate::runs::settings(body),
    };
    let mut recorder =
        crate::runs::Recorder::begin(runs_dir, run, &began).map_err(|error| anyhow!("failed to {error}"))?;
    let mut progress = Progress::new(&task.job, quiet);
    let mut trouble = None;
    let started = Instant::now();
    let mut tell = |report: Report| match report {
        Report::Metrics { step, steps_total, epoch, loss, metric, metric_name, rows_per_second, learning_rate } => {
            progress.at(At { step, steps_total, loss, rows_per_second });
            let known = |figure: f64| figure.is_finite().then_some(figure);
            let point = PointView {
                at_ms: now_ms(),
                step,
                steps_total,
                epoch,
                loss: known(loss),
                metric,
                metric_name: metric_name.to_string(),
                learning_rate: known(learning_rate),
                rows_per_second,
            };
            trouble = trouble.take().or(recorder.point(point).err());
        }
        Report::ModelWritten { version, .. } => {
            trouble = trouble.take().or(recorder.model_written(now_ms(), version).err());
        }
        Report::Notice(text) => progress.say(&text),
        // Only trials of a sweep pause, and these run on a cluster.
        Report::Ready | Report::Checkpointed { .. } | Report::Paused { .. } => {}
    };
    let outcome = training::train(body, data, task, &mut tell, stop);
    progress.clear();
    let seconds = started.elapsed().as_secs_f64();
    match &outcome {
        Ok(outcome) => {
            recorded(recorder.end(now_ms(), if outcome.stopped { "stopped" } else { "finished" }, None))?;
        }
        Err(error) => recorded(recorder.end(now_ms(), "failed", Some(chain(error))))?,
    }
    let outcome = outcome.context("failed to train")?;
    if let Some(trouble) = trouble {
        progress.say(&format!("the history of this run is not whole: failed to {trouble}"));
    }
    Ok(match (outcome.version, outcome.metric) {
        (Some(version), Some(metric)) => format!(
            "wrote model version {version}: {} {metric:.4} on held-out rows, {} steps in {seconds:.2} s",
            outcome.metric_name, outcome.steps
        ),
        (Some(version), None) => format!("wrote model version {version}: {} steps in {seconds:.2} s", outcome.steps),
        (None, _) => format!("stopped at step {}", outcome.steps),
    })
}

/// What became of a job.
enum Look {
    Works,
    /// And how.
    Ended(String),
    /// A batch had too little memory for it.
    Becomes(LocalRun),
}

/// A job that has ended is taken out.
async fn look_at(id: &JobId, working: &mut BTreeMap<JobId, Work>, here: &Here) -> anyhow::Result<Look> {
    let over = match &working[id] {
        Work::Stream(run) => {
            for (level, text) in run.notices.try_iter() {
                match level {
                    Level::Error | Level::Warning => eprintln!("{id}: {text}"),
                    Level::Info => here.tell(&format!("{id}: {text}")),
                }
            }
            loop {
                match run.results.try_recv() {
                    Ok(_) => {}
                    Err(error) => break error.is_disconnected(),
                }
            }
        }
        Work::Batch(batch) => batch.is_over(),
        Work::Train(train) => train.is_finished(),
    };
    if !over {
        return Ok(Look::Works);
    }
    match working.remove(id) {
        Some(Work::Stream(run)) => insert::end_stream(id, run).await.map(Look::Ended),
        Some(Work::Batch(batch)) => batch.end(id, here).await,
        Some(Work::Train(train)) => train.await?.map(Look::Ended).with_context(|| format!("failed to run {id}")),
        None => Ok(Look::Works),
    }
}

fn explained(config: &RunConfig, shown: Shown) -> String {
    match (shown, config.dot, config.json) {
        (Shown::Stream { dataflow, .. }, true, _) => streaming::sql::explain_dot(&dataflow),
        (Shown::Stream { dataflow, because }, false, true) => {
            let mut json = streaming::sql::explain_json(&dataflow);
            json["engine"] = "stream".into();
            json["because"] = because.into();
            json.to_string()
        }
        (Shown::Stream { dataflow, because }, false, false) => {
            let because = because.map_or_else(String::new, |why| format!(", not as a batch: {why}"));
            format!("as a stream{because}\n{}", streaming::sql::explain(&dataflow))
        }
        (Shown::Batch { graph, .. }, true, _) => graph,
        (Shown::Batch { tree, .. }, false, true) => serde_json::json!({ "engine": "batch", "plan": tree }).to_string(),
        (Shown::Batch { tree, .. }, false, false) => format!("as a batch\n{tree}"),
    }
}

/// Of a query that has not given rows for a while.
pub fn waited(began: Instant) -> String {
    format!("the query has run for {}", crate::cli::human::duration(began.elapsed().as_millis() as u64))
}

/// Shows the rows of a bare SELECT: by the batch engine when all its input ends, else as they come. False when it was ended
/// by Ctrl-C.
async fn select(config: &RunConfig, here: &Here, statement: usize, mut ended: Ended<'_>) -> anyhow::Result<bool> {
    use futures::{FutureExt, StreamExt};
    let script = crate::functions::parse(&config.text).map_err(|wrong| anyhow!("{wrong:?}"))?;
    let body = script.statements.get(statement).map(|statement| &statement.body);
    if matches!(body, Some(StatementBody::Describe(_) | StatementBody::Show(_))) {
        let functions = crate::functions::declared();
        let rows = streaming::sql::describe(&script, statement, &functions).map_err(|wrong| anyhow!("{wrong:?}"))?;
        Printer::new(config.json).print(&rows)?;
        return Ok(true);
    }
    let query = script
        .statements
        .get(statement)
        .and_then(|statement| statement.body.query())
        .context("failed to find the query among the statements")?;
    let (from, to) = query.span;
    if matches!(script.statements[statement].body, StatementBody::Explain(_)) {
        let context = BatchContext::new(here.context(&config.settled.group, &config.base_dir));
        let shown = batch::explain(&script, statement, &crate::functions::declared(), context).await?;
        print::text(&explained(config, shown))?;
        return Ok(true);
    }
    let models: Vec<String> = script
        .jobs()
        .into_iter()
        .find(|job| matches!(job, ScriptJob::Query { statement: of, .. } if *of == statement))
        .map(|job| job.models().to_vec())
        .unwrap_or_default();
    let versions = crate::predict::begin_with(&here.model_dir(), &models);
    let functions = crate::predict::functions(&here.model_dir(), &models, &versions)
        .map_err(|error| anyhow!("failed to {error}"))?;
    let mut printer = Printer::new(config.json);
    if batch::bounded(&script, statement) {
        let context = BatchContext::new(here.context(&config.settled.group, &config.base_dir));
        let bad = Arc::clone(&context.rows_bad);
        let mut rows = batch::query(&script, &script.text()[from..to], &functions, context).await?;
        let (began, mut look) = (Instant::now(), tokio::time::interval(LOOK_EVERY));
        loop {
            tokio::select! {
                batch = rows.next() => match batch {
                    Some(batch) => {
                        crate::status::clear();
                        printer.print(&batch?)?;
                    }
                    None => break,
                },
                _ = look.tick() => crate::status::show(began, || waited(began)),
                () = &mut ended => return Ok(false),
            }
        }
        crate::status::clear();
        match bad.load(Ordering::Relaxed) {
            0 => {}
            n => eprintln!("{n} records did not decode and were left out"),
        }
        return Ok(true);
    }
    let dataflow =
        streaming::sql::plan(&script, &[statement], &functions).await.map_err(|wrong| anyhow!("{wrong:?}"))?;
    let mut local =
        LocalConfig::new(&config.settled.group, config.base_dir.clone(), config.base_dir.join("dead-letter"));
    local.slices = here.slices;
    local.tables_endpoint = here.tables.as_ref().map(|(endpoint, _)| endpoint.clone());
    local.versioned = Some(Arc::new(crate::predict::Models::new(&here.model_dir())));
    local.versions = versions;
    let run = tokio::task::spawn_blocking(move || local::run(dataflow, local)).await??;
    let mut stopping = false;
    loop {
        match run.results.try_recv() {
            Ok(batch) => printer.print(&batch)?,
            Err(error) if error.is_disconnected() => break,
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
        // Looked at after every batch too: a fast query always has the next one ready.
        if !stopping && ended.as_mut().now_or_never().is_some() {
            stopping = true;
            run.stop();
        }
        for (_, text) in run.notices.try_iter() {
            eprintln!("{text}");
        }
    }
    tokio::task::spawn_blocking(move || run.wait()).await??;
    Ok(!stopping)
}
