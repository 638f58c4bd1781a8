//! What one task process is told: everything it needs and no choices left.

use crate::{CommandBody, JobId, StreamBody, TaskId, TrainBody};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The plan of one task. Travels as JSON from the runner through master and agent, none of which reads it, to
/// `smack task`. The data-plane addresses of all tasks of the generation are settled at placement, so there is no
/// rendezvous.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    pub task: TaskId,
    pub job: JobId,
    /// Differs between submissions of a file under the same name, so that what an earlier one left in transactional
    /// ids, groups and table writers is not taken for this one's.
    pub submission: String,
    pub generation: u64,
    /// Microseconds since the epoch, larger for every later generation; see `connectors::Context::claimed_us`.
    pub claimed_us: i64,
    /// This task's place among `peers`.
    pub index: u32,
    /// 0, or larger where the process of an earlier life ended and this one takes its place while the other tasks of the
    /// generation go on.
    #[serde(default)]
    pub life: u32,
    /// As `claimed_us`, and larger for every later life; see `connectors::Context::begun_us`.
    #[serde(default)]
    pub begun_us: i64,
    /// Threads that each hold every operator of the job.
    pub slices: u32,
    /// Data-plane address of every task of this generation, in order of index; this task listens on its own.
    pub peers: Vec<Peer>,
    /// The runner's endpoint, `http://host:port`, for the control stream and the table store.
    pub runner: String,
    /// Folder of this job's checkpoints, or of a stream `s3://bucket/prefix`.
    pub checkpoint_dir: String,
    /// Folder of the model registry.
    pub model_dir: String,
    /// Of a trial of a sweep.
    #[serde(default)]
    pub trial: Option<TrialPlan>,
    /// What functions of a stream that have versions begin with, by name, where the checkpoint that is restored does not say.
    #[serde(default)]
    pub versions: BTreeMap<String, u64>,
    /// Where records that did not decode are kept.
    pub dead_letter_dir: String,
    /// Epoch to restore from; `None` starts empty.
    pub restore_epoch: Option<u64>,
    pub body: TaskBody,
}

/// What a task is told besides, if its training is a trial of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialPlan {
    /// It ends after so many epochs without a model version, to go on from there or not; it publishes where none is said.
    pub pause_after: Option<u64>,
    /// Folder of the rows that all trials are trained on.
    pub rows_dir: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TaskBody {
    Stream(StreamBody),
    /// Boxed, because it is much larger than the others.
    Train(Box<TrainBody>),
    Command(CommandBody),
}

impl TaskPlan {
    pub fn count(&self) -> u32 {
        self.peers.len() as u32
    }
}
