//! The ways in which every case runs.

use crate::answer::{Kind, answer};
use crate::cut::{self, HALVED};
use crate::random::Random;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use connectors::Context;
use crossbeam_channel::RecvTimeoutError;
use futures::TryStreamExt;
use jobs::Diagnostic;
use sqllogictest::{DB, DBOutput};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use streaming::batch::{self, BatchContext};
use streaming::coordinator::manifest;
use streaming::dataflow::{Dataflow, Operator};
use streaming::functions::Functions;
use streaming::runtime::local::{LocalConfig, STATE_MEMORY, run};
use streaming::runtime::{Folder, Outcome};
use streaming::sql::{Script, StatementBody, parse, plan};
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

const PRELUDE: &str = include_str!("prelude.sql");

/// A run takes some hundredths of a second; this long means that it would never end.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// DataFusion's own answer, which the files hold.
    Batch,
    /// A stream on so many tasks of so many slices.
    Stream(u32, u32),
    /// A stream that is drained in the middle, and goes on from its checkpoint at another parallelism.
    Restored,
    /// As [`Mode::Restored`], with so little memory that state lies on disk.
    Spilled,
    /// As [`Mode::Restored`], with aggregations in two phases.
    TwoPhase,
}

pub const MODES: [Mode; 6] =
    [Mode::Batch, Mode::Stream(1, 1), Mode::Stream(2, 2), Mode::Restored, Mode::Spilled, Mode::TwoPhase];

/// Tasks and slices of a restored job's two lives.
const LIVES: [[(u32, u32); 2]; 4] = [[(1, 1), (2, 2)], [(2, 2), (1, 1)], [(1, 2), (1, 3)], [(2, 1), (1, 2)]];

impl Mode {
    pub fn name(self) -> String {
        match self {
            Self::Batch => "batch".to_string(),
            Self::Stream(tasks, slices) => format!("stream_{tasks}x{slices}"),
            Self::Restored => "restored".to_string(),
            Self::Spilled => "spilled".to_string(),
            Self::TwoPhase => "two_phase".to_string(),
        }
    }

    /// Between checkpoints that nobody restores from, which must change nothing; 0 for none.
    fn checkpoint_interval_ms(self) -> u64 {
        match self {
            Self::Stream(2, 2) | Self::Spilled => 20,
            Self::Batch | Self::Stream(..) | Self::Restored | Self::TwoPhase => 0,
        }
    }

    /// Bytes per task.
    fn state_memory(self) -> u64 {
        if self == Self::Spilled { 4 << 10 } else { STATE_MEMORY }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

fn failure(error: impl Display) -> Failure {
    Failure(error.to_string())
}

fn mistakes(found: Vec<Diagnostic>) -> Failure {
    Failure(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// The error and what caused it.
fn chain(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    Failure(text)
}

/// What all cases of all files have in common.
pub struct World {
    folder: tempfile::TempDir,
    /// By table.
    rows: BTreeMap<String, u64>,
    runtime: Runtime,
    /// By the whole text, as the streams share them.
    plans: Mutex<BTreeMap<String, Result<Dataflow, Failure>>>,
    /// Each run is a job of its own.
    n_jobs: AtomicU64,
    /// Chains of more than one file that jobs went on from.
    pub n_chains: AtomicU64,
    /// Changes where batches are cut.
    seed: u64,
}

impl World {
    pub fn new(seed: u64) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            rows: crate::data::write(folder.path())?,
            folder,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            plans: Mutex::default(),
            n_jobs: AtomicU64::new(0),
            n_chains: AtomicU64::new(0),
            seed,
        })
    }

    fn plan(&self, text: &str) -> Result<Dataflow, Failure> {
        let known = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(known) = known {
            return known;
        }
        let planned = parse(text).map_err(mistakes).and_then(|script| {
            let wanted = |body: &StatementBody| matches!(body, StatementBody::Query(_) | StatementBody::Insert(_));
            let statements = script.statements.iter().enumerate().filter(|(_, statement)| wanted(&statement.body));
            let statements: Vec<usize> = statements.map(|(at, _)| at).collect();
            self.runtime.block_on(plan(&script, &statements, &Functions::new())).map_err(mistakes)
        });
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_string(), planned.clone());
        planned
    }

    /// The splits and the rows of all that a dataflow reads.
    fn input(&self, dataflow: &Dataflow) -> Result<(usize, u64), Failure> {
        let mut total = (0, 0);
        for node in &dataflow.nodes {
            if let Operator::Source { table, .. } = &node.operator
                && table.connector() != "values"
            {
                // Tables of other names may be declared over the same files.
                let path = table.option("path").unwrap_or(&table.name);
                let rows = self.rows.get(path).ok_or_else(|| failure(format!("no rows of {path}")))?;
                let path = self.folder.path().join(path);
                let n_splits = std::fs::read_dir(path).map_err(failure)?.count();
                total = (total.0 + n_splits, total.1 + rows);
            }
        }
        Ok(total)
    }
}

/// The tables, the views that a file has made so far, and a mode.
pub struct Database {
    world: Arc<World>,
    mode: Mode,
    script: String,
}

impl Database {
    pub fn new(world: &Arc<World>, mode: Mode) -> Self {
        Self { world: Arc::clone(world), mode, script: PRELUDE.to_string() }
    }
}

impl DB for Database {
    type Error = Failure;
    type ColumnType = Kind;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, Failure> {
        let sql = sql.trim().trim_end_matches(';');
        let set = if self.mode == Mode::TwoPhase { "SET optimizer.two_phase = 'on';\n" } else { "" };
        let text = format!("{set}{};\n{sql}", self.script);
        match sql.split_whitespace().next().map(str::to_uppercase).as_deref() {
            Some("CREATE" | "SET") => {
                parse(&text).map_err(mistakes)?;
                self.script = text[set.len()..].to_string();
                Ok(DBOutput::StatementComplete(0))
            }
            // Where rows go is another test's matter.
            Some("INSERT") => self.world.plan(&text).map(|_| DBOutput::StatementComplete(0)),
            _ if self.mode == Mode::Batch => {
                let script = parse(&self.script).map_err(mistakes)?;
                let (schema, batches) = self.world.runtime.block_on(batch(&script, sql, self.world.folder.path()))?;
                answer(&schema, &batches, false).map_err(failure)
            }
            _ => self.stream(&text),
        }
    }

    /// What `onlyif` and `skipif` go by.
    fn engine_name(&self) -> &str {
        if self.mode == Mode::Batch { "batch" } else { "stream" }
    }
}

async fn batch(script: &Script, sql: &str, folder: &Path) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
    let context = Context {
        job: "slt/batch".to_string(),
        generation: 1,
        claimed_us: 0,
        begun_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: folder.to_path_buf(),
        tables_endpoint: None,
        token: None,
    };
    let open = BatchContext { target_partitions: 1, ..BatchContext::new(context) };
    let rows = batch::query(script, sql, &Functions::new(), open).await.map_err(failure)?;
    let schema = rows.schema();
    let batches = rows.try_collect().await.map_err(|error| chain(&error))?;
    Ok((schema, batches))
}

impl Database {
    fn stream(&self, text: &str) -> Result<DBOutput<Kind>, Failure> {
        let dataflow = self.world.plan(text)?;
        let collect = dataflow.nodes.iter().find(|node| matches!(node.operator, Operator::Collect));
        let Some((schema, changes)) = collect.map(|node| (Arc::clone(&node.schema), node.changes)) else {
            return Err(failure("nothing is collected"));
        };
        // The last column of a changelog is its weight.
        let n_columns = schema.fields().len() - usize::from(changes);
        let schema = Schema::new(schema.fields()[..n_columns].to_vec());
        let seed = self.world.seed.wrapping_add(xxh3_64(text.as_bytes()));
        let batches = match self.mode {
            Mode::Batch => return Err(failure("a batch is no stream")),
            Mode::Stream(tasks, slices) => {
                let job = format!("slt/{:03}-{seed:016x}", self.world.n_jobs.fetch_add(1, Relaxed));
                let (batches, outcome) =
                    self.live(&dataflow, &job, (tasks, slices), &Folder::memory(), || false, || false)?;
                expect(outcome, Outcome::Finished)?;
                batches
            }
            Mode::Restored | Mode::Spilled | Mode::TwoPhase => self.restored(&dataflow, seed)?,
        };
        answer(&schema, &batches, changes).map_err(failure)
    }

    fn restored(&self, dataflow: &Dataflow, seed: u64) -> Result<Vec<RecordBatch>, Failure> {
        let job = format!("slt/{HALVED}-{:03}-{seed:016x}", self.world.n_jobs.fetch_add(1, Relaxed));
        let [first, second] = *Random::new(seed).of(&LIVES);
        let (n_splits, n_rows) = self.world.input(dataflow)?;
        let checkpoints = Folder::memory();
        let in_the_middle = || cut::reading(&job).n_resting >= n_splits;
        let paused = || {
            let reading = cut::reading(&job);
            reading.n_paused + reading.n_resting >= n_splits
        };
        let (mut batches, outcome) = self.live(dataflow, &job, first, &checkpoints, paused, in_the_middle)?;
        if n_rows == 0 {
            // Nothing has no middle: mostly it is at its end before anybody can say stop. Rows that a query holds itself may
            // not be.
            if outcome == Outcome::Drained {
                let (rest, outcome) = self.live(dataflow, &job, second, &checkpoints, || false, || false)?;
                expect(outcome, Outcome::Finished)?;
                batches.extend(rest);
            }
            return Ok(batches);
        }
        expect(outcome, Outcome::Drained)?;
        let latest = self.world.runtime.block_on(manifest::latest(&checkpoints)).map_err(failure)?;
        let tasks = latest.iter().flat_map(|manifest| &manifest.tasks);
        let chains = tasks.flat_map(|task| task.state.values().flatten());
        self.world.n_chains.fetch_add(chains.filter(|chain| chain.files.len() > 1).count() as u64, Relaxed);
        let (rest, outcome) = self.live(dataflow, &job, second, &checkpoints, || false, || false)?;
        expect(outcome, Outcome::Finished)?;
        batches.extend(rest);
        let n_before = cut::reading(&job).n_before;
        if !(1..n_rows).contains(&n_before) {
            return Err(failure(format!("the first life read {n_before} of {n_rows} rows, which is not the middle")));
        }
        Ok(batches)
    }

    /// One run of a job, to its end, or to its last checkpoint once `drain` says so; with another checkpoint once
    /// `pauses`.
    fn live(
        &self,
        dataflow: &Dataflow,
        job: &str,
        (tasks, slices): (u32, u32),
        checkpoints: &Folder,
        pauses: impl Fn() -> bool,
        drain: impl Fn() -> bool,
    ) -> Result<(Vec<RecordBatch>, Outcome), Failure> {
        let folder = self.world.folder.path();
        let config = LocalConfig {
            tasks,
            slices,
            checkpoints: Some(checkpoints.clone()),
            checkpoint_interval_ms: self.mode.checkpoint_interval_ms(),
            connectors: cut::find,
            state_memory: self.mode.state_memory(),
            ..LocalConfig::new(job, folder.to_path_buf(), folder.join("dead"))
        };
        let began = Instant::now();
        let name = job;
        let job = run(dataflow.clone(), config).map_err(|error| chain(&error))?;
        let (mut batches, mut asked, mut paused) = (Vec::new(), false, false);
        loop {
            match job.results.recv_timeout(Duration::from_millis(2)) {
                Ok(batch) => batches.push(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !paused && pauses() {
                job.checkpoint();
                paused = true;
            }
            if paused && job.status().view.epoch.is_some() {
                cut::go_on(name);
            }
            if !asked && drain() {
                job.drain();
                asked = true;
            }
            if began.elapsed() > PATIENCE {
                job.stop();
                let waits_for = job.status().view.waits_for.unwrap_or_default();
                return Err(failure(format!("still running after {PATIENCE:?} at {tasks}x{slices}: {waits_for}")));
            }
        }
        let outcome = job.wait().map_err(|error| chain(&error))?;
        Ok((batches, outcome))
    }
}

fn expect(outcome: Outcome, wanted: Outcome) -> Result<(), Failure> {
    if outcome == wanted { Ok(()) } else { Err(failure(format!("the job ended as {outcome:?}, not {wanted:?}"))) }
}
