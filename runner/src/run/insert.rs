//! INSERTs of a local run: by the streaming operators, or by DataFusion's engine where that is equal and faster.

use super::{Here, Look, Work};
use anyhow::{Context as _, anyhow};
use jobs::{JobId, JobSpec, StreamBody};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use streaming::batch::{self, BatchContext, Engine, Insert, Memory, Mode, Written};
use streaming::dataflow::Dataflow;
use streaming::runtime::Outcome;
use streaming::runtime::dead_letters::DeadLetters;
use streaming::runtime::local::{self, LocalConfig, LocalRun, STATE_MEMORY};
use tokio::task::JoinHandle;

/// INSERTs at work in DataFusion's engine.
pub struct Batch {
    work: JoinHandle<Result<Written, batch::Error>>,
    rows_in: Arc<AtomicU64>,
    rows_out: Arc<AtomicU64>,
    /// What does it if memory is too little.
    instead: Option<Box<(Dataflow, LocalConfig)>>,
}

pub async fn start(job: &JobSpec, body: &StreamBody, here: &Here) -> anyhow::Result<Work> {
    let script = crate::functions::parse(&body.sql).map_err(|wrong| anyhow!("{wrong:?}"))?;
    let versions = crate::predict::begin_with(&here.model_dir(), &body.models);
    let functions = crate::predict::functions(&here.model_dir(), &body.models, &versions)
        .map_err(|error| anyhow!("failed to {error}"))?;
    let base_dir = PathBuf::from(&body.base_dir);
    let name = format!("{}@{}", job.id, std::process::id());
    let mut local = LocalConfig::new(&name, base_dir.clone(), base_dir.join("dead-letter"));
    local.slices = here.slices;
    local.checkpoint_interval_ms = body.checkpoint_interval_ms;
    local.state_memory = body.state_memory_bytes.unwrap_or(STATE_MEMORY);
    local.tables_endpoint = here.tables.as_ref().map(|(endpoint, _)| endpoint.clone());
    local.versioned = Some(Arc::new(crate::predict::Models::new(&here.model_dir())));
    local.versions = versions;
    let dataflow = match Mode::of(&script) {
        Mode::Batch => None,
        Mode::Auto | Mode::Streaming => {
            let planned = streaming::sql::plan(&script, &body.statements, &functions).await;
            Some(planned.map_err(|wrong| anyhow!("{wrong:?}"))?)
        }
    };
    let dataflow = match (batch::choose(&script, &body.statements, dataflow.as_ref(), &functions), dataflow) {
        (Engine::Stream { .. }, Some(dataflow)) => return stream(&job.id, dataflow, local).await.map(Work::Stream),
        (_, dataflow) => dataflow,
    };
    let mut context = here.context(&name, &base_dir);
    let now_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // It shuts out what an earlier run of the job may still send.
    context.claimed_us = now_us.map_or(0, |now| now.as_micros() as i64);
    context.begun_us = context.claimed_us;
    let mut open = BatchContext::new(context);
    open.target_partitions = here.slices as usize;
    open.dead_letters = Some(Arc::new(DeadLetters::new(local.dead_letter_dir.clone())));
    open.memory = Some(Memory { bytes: local.state_memory, spill_dir: here.folder.join("spill") });
    let (rows_in, rows_out) = (Arc::clone(&open.rows_in), Arc::new(AtomicU64::new(0)));
    let (id, statements, counter) = (job.id.clone(), body.statements.clone(), Arc::clone(&rows_out));
    let work = tokio::spawn(async move {
        let tell = Arc::new(move |text: String| eprintln!("{id}: {text}"));
        let (script, statements, functions) = (&script, statements.as_slice(), &functions);
        batch::insert(Insert { script, statements, functions, open, rows_out: counter, tell }).await
    });
    Ok(Work::Batch(Batch { work, rows_in, rows_out, instead: dataflow.map(|dataflow| Box::new((dataflow, local))) }))
}

async fn stream(id: &JobId, dataflow: Dataflow, local: LocalConfig) -> anyhow::Result<LocalRun> {
    tokio::task::spawn_blocking(move || local::run(dataflow, local))
        .await?
        .with_context(|| format!("failed to run {id}"))
}

impl Batch {
    /// Rows that were read, and rows that were written.
    pub fn rows(&self) -> (u64, u64) {
        (self.rows_in.load(Ordering::Relaxed), self.rows_out.load(Ordering::Relaxed))
    }

    pub fn is_over(&self) -> bool {
        self.work.is_finished()
    }

    pub async fn stop(self) {
        self.work.abort();
        // Cancelled, or at its end already.
        let _ = self.work.await;
    }

    pub(super) async fn end(self, id: &JobId, here: &Here) -> anyhow::Result<Look> {
        match (self.work.await?, self.instead) {
            (Ok(Written { rows_in, rows_out, rows_bad }), _) => {
                let bad = told_bad(rows_bad);
                Ok(Look::Ended(format!("finished as a batch: {rows_in} rows in, {rows_out} out{bad}")))
            }
            (Err(error @ batch::Error::Memory(_)), Some(instead)) => {
                let (dataflow, local) = *instead;
                here.tell(&format!("{id}: goes on as a stream, whose state may lie on disk: could not {error}"));
                stream(id, dataflow, local).await.map(Look::Becomes)
            }
            (Err(error), _) => {
                let way_out = "SET execution.mode = 'streaming' runs it row by row";
                Err(anyhow!("failed to {error}; {way_out}")).with_context(|| format!("failed to run {id} as a batch"))
            }
        }
    }
}

fn told_bad(rows_bad: u64) -> String {
    if rows_bad > 0 { format!(", {rows_bad} bad records kept in the folder dead-letter") } else { String::new() }
}

/// How a stream ended that has.
pub async fn end_stream(id: &JobId, run: LocalRun) -> anyhow::Result<String> {
    let ended = tokio::task::spawn_blocking(move || run.wait_measured()).await?;
    let (outcome, metrics) = ended.with_context(|| format!("failed to run {id}"))?;
    let how = match outcome {
        Outcome::Finished => "finished as a stream",
        Outcome::Drained => "drained",
        Outcome::Stopped => "stopped",
    };
    let late = if metrics.rows_late > 0 { format!(", {} late", metrics.rows_late) } else { String::new() };
    let bad = told_bad(metrics.rows_bad);
    Ok(format!("{how}: {} rows in, {} out{late}{bad}", metrics.rows_in, metrics.rows_out))
}
