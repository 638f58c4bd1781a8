//! Runs one task of a dataflow: its slices, their sources and sinks, the edges to other tasks, and its share of every
//! checkpoint.
//!
//! A task is threads and bounded queues: one thread per slice holds every operator of the job; one per source reads and
//! decodes; two per edge to another process encode and decode. The thread that calls [`run_task`] speaks with the
//! outside. [`local`] runs whole jobs in one process.
//!
//! Invariant: takes orders and gives reports ([`crate::control`]) and does not know who carries them.
//! Invariant: the first error of any thread, a panic included, ends the task with that error.

pub(crate) mod archive;
pub mod barrier;
mod budget;
pub mod dead_letters;
mod edges;
pub mod exchange;
mod flow;
pub mod graph;
pub mod local;
mod meter;
pub mod operators;
mod pace;
mod restore;
mod retry;
pub mod samples;
mod shared;
mod slice;
mod snapshot;
mod sources;
pub mod store;
mod task;
pub mod watermark;

#[cfg(test)]
mod tests;

use crate::control::Manifest;
use connectors::Connector;
use datafusion::error::DataFusionError;
use jobs::Peer;
use std::net::TcpListener;
use std::path::PathBuf;

pub use restore::{Fate, fates};
pub use store::Folder;
pub use task::run_task;

/// How a connector is found by its name; [`connectors::find`] outside tests.
pub type Finder = fn(&str) -> Option<&'static dyn Connector>;

/// Who a task is and where its things are.
#[derive(Debug)]
pub struct TaskConfig {
    pub job: String,
    pub generation: u64,
    /// See [`connectors::Context::claimed_us`].
    pub claimed_us: i64,
    /// 0, or larger where it takes the place of a life whose process has ended while the other tasks go on; then `restore`
    /// is a manifest of this generation, and its own share of it is what it goes on from.
    pub life: u32,
    /// See [`connectors::Context::begun_us`].
    pub begun_us: i64,
    /// This task's place among `peers`.
    pub index: u32,
    /// Alike for all tasks of the job.
    pub slices: u32,
    /// Data-plane address of every task, in order of index; one entry where the job has one task.
    pub peers: Vec<Peer>,
    /// Listens already at this task's address; where absent the task binds it.
    pub listener: Option<TcpListener>,
    pub checkpoints: Folder,
    pub restore: Option<Manifest>,
    pub base_dir: PathBuf,
    pub tables_endpoint: Option<String>,
    pub token: Option<String>,
    pub dead_letter_dir: PathBuf,
    /// Bytes that the state of all slices together may take in memory.
    pub state_memory: u64,
    /// Where state goes that memory has no room for; nothing in it outlives the task.
    pub spill_dir: PathBuf,
    pub connectors: Finder,
}

/// How a task ended, other than by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All input was read, and everything that follows from it is committed.
    Finished,
    /// Told to come to an end, it took a last checkpoint, which is committed; a restart goes on from there.
    Drained,
    /// Told to stop at once, or whoever gave the orders or took the results went away.
    Stopped,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} table {table} of job {job}: {text}")]
    Connector { job: String, table: String, doing: &'static str, text: String },
    #[error("run operator {operator} of job {job}")]
    Operator {
        job: String,
        operator: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("connect the tasks of job {job}")]
    Connect {
        job: String,
        #[source]
        source: exchange::connect::Error,
    },
    #[error(
        "keep the connection with task {task} at {address} ({edge}) of job {job}: that task ended or cannot be reached"
    )]
    Peer {
        job: String,
        task: u32,
        address: String,
        edge: exchange::EdgeId,
        #[source]
        source: std::io::Error,
    },
    #[error("restore operator {operator} of job {job} from epoch {epoch}")]
    Restore {
        job: String,
        operator: String,
        epoch: u64,
        #[source]
        source: Box<store::Error>,
    },
    #[error("restore job {job} from epoch {epoch}: {text}")]
    Manifest { job: String, epoch: u64, text: String },
    #[error("load what operator {operator} of job {job} is to use: {text}")]
    Version { job: String, operator: String, text: String },
    #[error("keep the bad records of table {table} of job {job}")]
    DeadLetters {
        job: String,
        table: String,
        #[source]
        source: dead_letters::Error,
    },
    #[error("run job {job}: {text}")]
    Plan { job: String, text: String },
    #[error("run thread {thread} of job {job}, which is a defect of ours: {text}")]
    Panic { job: String, thread: String, text: String },
    #[error("start the threads of job {job}")]
    Threads {
        job: String,
        #[source]
        source: std::io::Error,
    },
    /// Asked to stop; never leaves [`run_task`].
    #[error("go on: stopped")]
    Stopped,
}
