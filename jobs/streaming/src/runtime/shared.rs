//! What the threads of one task have in common.

use crate::control::{Level, Metrics, OperatorMetrics, TaskSnapshot};
use crate::dataflow::{Dataflow, Node, Operator};
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::graph::Graph;
use crate::runtime::restore::Restored;
use crate::runtime::samples::Samples;
use crate::runtime::snapshot::Part;
use crate::runtime::watermark::Progress;
use crate::runtime::{Error, TaskConfig};
use crate::sql::told_operator;
use crossbeam_channel::Sender;
use datafusion::error::DataFusionError;
use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::runtime::Handle;

#[derive(Debug)]
pub struct Shared {
    pub config: TaskConfig,
    pub dataflow: Dataflow,
    pub graph: Graph,
    pub restored: Restored,
    pub dead_letters: DeadLetters,
    pub counters: Counters,
    pub samples: Samples,
    /// Set once; every thread looks at it at least every tenth of a second while it waits.
    pub stop: AtomicBool,
    /// To the thread that speaks with the outside, which never waits for the slices; so waiting here is short.
    pub events: Sender<Event>,
    pub io: Handle,
    /// By source node: its splits, asked for once per task.
    pub splits: Mutex<HashMap<usize, Vec<String>>>,
    /// Slots and operators whose next snapshot is to give all.
    pub bases: Mutex<BTreeSet<(u32, String)>>,
}

/// From the threads of a task to the one that speaks with the outside.
#[derive(Debug)]
pub enum Event {
    Ready,
    /// All sources of a slice are at their end.
    InputEnded,
    Snapshot(Box<Part>),
    /// The files of a slice's part are written, or could not be.
    Stored {
        epoch: u64,
        result: Result<Box<TaskSnapshot>, String>,
    },
    Committed {
        slot: u32,
        epoch: u64,
    },
    /// A slice has nothing left to do.
    Done,
    Failed(Error),
    Notice(Level, String),
}

impl Shared {
    pub fn n_slots(&self) -> u32 {
        self.config.slices * self.config.peers.len() as u32
    }

    /// The next snapshot of this operator on this slice is to give all.
    pub fn want_base(&self, slot: u32, operator: &str) {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner).insert((slot, operator.to_string()));
    }

    /// Whether that was asked for; it need not be asked again then.
    pub fn take_wanted_base(&self, slot: u32, operator: &str) -> bool {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner).remove(&(slot, operator.to_string()))
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub fn node(&self, node: usize) -> &Node {
        &self.dataflow.nodes[node]
    }

    pub fn notice(&self, level: Level, text: String) {
        match level {
            Level::Info => tracing::info!(job = %self.config.job, "{text}"),
            Level::Warning => tracing::warn!(job = %self.config.job, "{text}"),
            Level::Error => tracing::error!(job = %self.config.job, "{text}"),
        }
        self.tell(Event::Notice(level, text));
    }

    pub fn tell(&self, event: Event) {
        // Nobody listens any more when the task is over.
        let _ = self.events.send(event);
    }

    pub fn operator_error(&self, node: usize) -> impl Fn(DataFusionError) -> Error {
        move |source| {
            let operator = match &self.node(node).operator {
                Operator::Source { table, .. } | Operator::Sink { table } => {
                    format!("{} (table {})", self.node(node).id, table.name)
                }
                _ => told_operator(&self.dataflow, node),
            };
            Error::Operator { job: self.config.job.clone(), operator, source: Box::new(source) }
        }
    }

    /// Among whom what sinks had prepared is dealt out, and as which of them a slice takes part: all slots, or in a later
    /// life, which finds only what its own task had prepared, those of this task.
    pub fn dealt_to(&self, slot: u32) -> (u32, u32) {
        match self.config.life {
            0 => (slot, self.n_slots()),
            _ => (slot % self.config.slices, self.config.slices),
        }
    }

    /// The folder of what this task writes, below that of an epoch. No two lives share one.
    pub fn folder(&self) -> String {
        match (self.config.generation, self.config.life) {
            (generation, 0) => generation.to_string(),
            (generation, life) => format!("{generation}.{life}"),
        }
    }

    pub fn context(&self, slot: u32) -> connectors::Context {
        let config = &self.config;
        connectors::Context {
            job: config.job.clone(),
            generation: config.generation,
            claimed_us: config.claimed_us,
            begun_us: config.begun_us,
            slot,
            n_slots: self.n_slots(),
            base_dir: config.base_dir.clone(),
            tables_endpoint: config.tables_endpoint.clone(),
            token: config.token.clone(),
        }
    }

    /// A thread whose error, or panic, is told as an event.
    pub fn spawn(
        self: &Arc<Self>,
        name: String,
        body: impl FnOnce(&Arc<Self>) -> Result<(), Error> + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let shared = Arc::clone(self);
        let thread = name.clone();
        let run = move || {
            let failure = match catch_unwind(AssertUnwindSafe(|| body(&shared))) {
                Ok(Ok(()) | Err(Error::Stopped)) => return,
                Ok(Err(error)) => error,
                Err(panic) => Error::Panic { job: shared.config.job.clone(), thread, text: panic_text(panic.as_ref()) },
            };
            shared.tell(Event::Failed(failure));
        };
        let job = self.config.job.clone();
        std::thread::Builder::new().name(name).spawn(run).map_err(|source| Error::Threads { job, source })
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a text".to_string())
}

/// Totals, written by the slices per batch and read about once a second.
#[derive(Debug)]
pub struct Counters {
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    pub rows_late: AtomicU64,
    pub rows_bad: AtomicU64,
    /// Of state files, as the slices come to have them.
    pub restored_bytes: AtomicU64,
    restore_bytes: u64,
    event_time_us: AtomicI64,
    /// By slice.
    watermarks_us: Vec<AtomicI64>,
    /// By slice, by node.
    operators: Vec<Mutex<Vec<OperatorMetrics>>>,
}

impl Counters {
    /// `restore_bytes`: what the slices are going to read of a checkpoint.
    pub fn new(slices: u32, restore_bytes: u64) -> Self {
        Self {
            restore_bytes,
            restored_bytes: AtomicU64::new(0),
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            rows_late: AtomicU64::new(0),
            rows_bad: AtomicU64::new(0),
            event_time_us: AtomicI64::new(i64::MIN),
            watermarks_us: (0..slices).map(|_| AtomicI64::new(i64::MIN)).collect(),
            operators: (0..slices).map(|_| Mutex::default()).collect(),
        }
    }

    pub fn saw_event_time(&self, time_us: i64) {
        self.event_time_us.fetch_max(time_us, Relaxed);
    }

    pub fn saw_watermark(&self, slice: usize, progress: Progress) {
        // At the end of the input the last real time stays: "the end" is no time to show.
        if !progress.ended() {
            self.watermarks_us[slice].store(progress.watermark_us, Relaxed);
        }
    }

    /// What each operator of a slice has done so far.
    pub fn saw_operators(&self, slice: usize, operators: Vec<OperatorMetrics>) {
        *self.operators[slice].lock().unwrap_or_else(PoisonError::into_inner) = operators;
    }

    fn operators(&self) -> Vec<OperatorMetrics> {
        let slices: Vec<_> =
            self.operators.iter().map(|slice| slice.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        OperatorMetrics::sums(slices.iter().map(|slice| slice.as_slice()))
    }

    pub fn metrics(&self) -> Metrics {
        let known = |time_us: i64| (time_us > i64::MIN).then(|| time_us.div_euclid(1000));
        let operators = self.operators();
        let watermarks = self.watermarks_us.iter().map(|watermark| watermark.load(Relaxed));
        Metrics {
            rows_in: self.rows_in.load(Relaxed),
            rows_out: self.rows_out.load(Relaxed),
            rows_late: self.rows_late.load(Relaxed),
            rows_bad: self.rows_bad.load(Relaxed),
            // A slice without a time of its own (no splits, or nothing read yet) has nothing to show.
            watermark_ms: watermarks.filter_map(known).min(),
            event_time_ms: known(self.event_time_us.load(Relaxed)),
            state_bytes: operators.iter().map(|operator| operator.state_bytes).sum(),
            restore_bytes: self.restore_bytes,
            restored_bytes: self.restored_bytes.load(Relaxed),
            operators,
        }
    }
}
