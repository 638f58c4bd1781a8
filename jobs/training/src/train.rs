//! The door of this crate: rows in, a model version out.
//!
//! One call runs one rank of a gang from its start, or from the last checkpoint, to the published model. Every rank calls it
//! with the same job; rank 0 is the chief, which writes checkpoints, judges the model and publishes it.

use crate::check::check;
use crate::data::{self, Data};
use crate::mesh::{self, Mesh};
use crate::start::{self, Start};
use crate::trainer;
use crate::{checkpoint, graph, registry, tensors};
use jobs::train::Strategy;
use jobs::{Peer, TrainBody};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;

/// Reports come about ten times a second; a consumer that stops taking them for half a minute slows the training down
/// rather than filling memory.
const REPORTS: usize = 256;

/// This rank's place in the gang.
#[derive(Clone, Debug)]
pub struct TrainTask {
    pub job: String,
    /// Of the job file; empty where it was not submitted to a cluster.
    pub submission: String,
    pub generation: u64,
    pub rank: u32,
    pub world: u32,
    /// Data-plane address of every rank, in order; may be empty in a world of one.
    pub peers: Vec<Peer>,
    pub checkpoint_dir: PathBuf,
    pub model_dir: PathBuf,
    /// Of a trial: it ends after so many epochs, or at its end if that comes sooner, with a checkpoint and without a model
    /// version. A later call goes on from there.
    pub pause_after: Option<u64>,
    /// Another task judges the checkpoints, so that nobody waits for the chief after an epoch.
    pub has_evaluator: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Data, network and gang are in place; the first step follows.
    Ready,
    Metrics {
        step: u64,
        steps_total: u64,
        epoch: u64,
        /// Mean since the last report.
        loss: f64,
        /// On the held-out rows after the last whole epoch; known to the chief.
        metric: Option<f64>,
        metric_name: &'static str,
        /// Of all ranks together.
        rows_per_second: f64,
        /// Of the last step.
        learning_rate: f64,
    },
    Checkpointed {
        step: u64,
    },
    ModelWritten {
        version: u64,
        metric: Option<f64>,
        metric_name: &'static str,
    },
    /// The checkpoint of this very epoch is there; the metric is that of the weights that would be published.
    Paused {
        epoch: u64,
        metric: Option<f64>,
        metric_name: &'static str,
    },
    /// Something that the user should know.
    Notice(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Version published; `None` on a rank that is not the chief, when stopped, and when paused.
    pub version: Option<u64>,
    pub metric: Option<f64>,
    pub metric_name: &'static str,
    /// Steps taken over all lives.
    pub steps: u64,
    pub rows: u64,
    /// Digest of the weights' bits; equal on all ranks.
    pub weights_digest: u64,
    /// Stopped before the end; the checkpoint holds this very step.
    pub stopped: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start training: {0}")]
    Body(String),
    #[error("start rank {rank} of {world}: {peers} addresses were given")]
    World { rank: u32, world: u32, peers: usize },
    #[error(transparent)]
    Start(#[from] start::Error),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error(transparent)]
    Mesh(#[from] mesh::Error),
    #[error(transparent)]
    Network(#[from] graph::Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("put rows or weights into the form in which they travel")]
    Encode { source: tensors::Error },
    #[error(
        "go on after step {step} (epoch {epoch}): the loss is {loss}; lower learning_rate, set normalize = true, or look for \
         extreme values in the features"
    )]
    NotFinite { step: u64, epoch: u64, loss: f32 },
    #[error("keep what model '{model}' has learned, or go on with it")]
    Snapshot { model: String, source: tensors::Error },
    #[error("keep the rows that model '{model}' is to learn from next, or read them again")]
    Rows { model: String, source: arrow::error::ArrowError },
    #[error(
        "learn class {class} by model '{model}': the first rows had only {known} classes; raise min_rows so that all of them \
         are among these"
    )]
    NewClass { model: String, class: u32, known: usize },
    #[error("go on after step {step}: the weights of rank {rank} differ from the chief's")]
    Diverged { step: u64, rank: usize },
    #[error("start the training thread")]
    Thread { source: std::io::Error },
}

/// Runs one rank. `reports` is called on the calling thread, which waits here; setting `stop` on any rank ends all of them
/// after the current step, with a checkpoint.
pub fn train(
    body: &TrainBody,
    data: Data,
    task: &TrainTask,
    reports: &mut dyn FnMut(Report),
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let peers = task.peers.len();
    if task.rank >= task.world || (task.world > 1 && peers != task.world as usize) {
        return Err(Error::World { rank: task.rank, world: task.world, peers });
    }
    if let Strategy::ParameterServer { servers, .. } = body.strategy
        && task.world > 1
        && servers >= task.world
    {
        let text = format!("{servers} of {} tasks are parameter servers, which leaves no worker", task.world);
        return Err(Error::Body(text));
    }
    let listener = if task.world > 1 { Some(Mesh::listen(&task.peers[task.rank as usize])?) } else { None };
    train_on(listener, body, data, task, reports, stop)
}

/// As [`train`], on a listener that is already open.
pub(crate) fn train_on(
    listener: Option<TcpListener>,
    body: &TrainBody,
    data: Data,
    task: &TrainTask,
    reports: &mut dyn FnMut(Report),
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let wrong = check(body);
    if !wrong.is_empty() {
        return Err(Error::Body(wrong.join("; ")));
    }
    let (sender, receiver) = sync_channel(REPORTS);
    std::thread::scope(|scope| {
        let training = std::thread::Builder::new()
            .name("training".to_string())
            .spawn_scoped(scope, move || {
                // A send fails only when the caller has gone, and then the thread is being waited for.
                let mut report = |report| drop(sender.send(report));
                match Start::of(body, task)? {
                    Some((start, body)) => trainer::run(listener, &body, Some(&start), data, task, &mut report, stop),
                    None => trainer::run(listener, body, None, data, task, &mut report, stop),
                }
            })
            .map_err(|source| Error::Thread { source })?;
        for report in receiver {
            reports(report);
        }
        training.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests;
