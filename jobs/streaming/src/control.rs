//! What a stream task and its coordinator say to each other. The runner carries it over gRPC, `smack run` over channels.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// From the task.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// All operators are built and restored, the peers are connected, rows flow.
    Ready,
    /// Everything before the barrier of `epoch` is in the snapshot. `last`: the input of this task has ended (or it was
    /// told to stop) and nothing follows.
    Snapshotted {
        epoch: u64,
        snapshot: TaskSnapshot,
        last: bool,
    },
    /// The task's sinks have made `epoch` visible.
    Committed {
        epoch: u64,
    },
    Metrics(Metrics),
    /// Something a person should see, for example "kafka at 127.0.0.1:9092 does not answer, attempt 3".
    Notice {
        level: Level,
        text: String,
    },
    /// The task wants its final checkpoint: its bounded input is at its end. Answered by a barrier once every task of
    /// the job has said so.
    InputEnded,
}

/// To the task.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Sources put this barrier into the stream. `last`: they end after it.
    Barrier { epoch: u64, last: bool },
    /// The manifest of `epoch` is durable.
    Commit { epoch: u64 },
    /// End now, without a checkpoint.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// Totals since the task started, over all its slices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_late: u64,
    pub rows_bad: u64,
    /// Event time, milliseconds since the epoch.
    pub watermark_ms: Option<i64>,
    pub event_time_ms: Option<i64>,
    pub state_bytes: u64,
}

/// The state of one operator on one slice, at the barrier of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The slice, of so many; none of none where a checkpoint of an earlier version does not say.
    pub slot: u32,
    pub n_slots: u32,
    /// The operator's event time in microseconds: everything before it was emitted.
    pub watermark_us: i64,
    /// A base and what was changed since, in the order in which it counts; see [`crate::state::chain`]. May have been
    /// written for earlier epochs, also for such as were never published, and by an earlier generation.
    pub files: Vec<StateFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Relative to the checkpoint folder.
    pub name: String,
    pub bytes: u64,
}

impl Chain {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// One task's share of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    pub index: u32,
    /// By operator id: its state on the slices of this task.
    pub state: BTreeMap<String, Vec<Chain>>,
    /// By source operator id, by split: where to go on.
    pub positions: BTreeMap<String, BTreeMap<String, u64>>,
    /// By sink operator id: files that hold what the sink prepared and did not commit yet.
    pub prepared: BTreeMap<String, Vec<String>>,
    /// Of these files.
    #[serde(default)]
    pub prepared_bytes: u64,
    /// Of all files that were written for this epoch.
    #[serde(default)]
    pub bytes_written: u64,
    /// Event-time watermark in microseconds by source operator id and split, saved with the state so that time does not
    /// run backwards.
    pub watermarks: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Published by creating the file if it is absent; names everything that a restart needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub job: String,
    pub generation: u64,
    pub epoch: u64,
    /// See [`crate::dataflow::Dataflow::fingerprint`].
    pub fingerprint: String,
    /// See `connectors::Context::claimed_us`; a later generation claims a larger one.
    pub claimed_us: i64,
    /// The job's whole input had ended: nothing is left to run.
    pub finished: bool,
    pub tasks: Vec<TaskSnapshot>,
}

impl Manifest {
    /// The files that a restart from here needs, relative to the checkpoint folder.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let state = self.tasks.iter().flat_map(|task| task.state.values().flatten()).flat_map(|chain| &chain.files);
        let prepared = self.tasks.iter().flat_map(|task| task.prepared.values().flatten());
        state.map(|file| file.name.as_str()).chain(prepared.map(String::as_str))
    }

    /// Of all these files.
    pub fn bytes(&self) -> u64 {
        let state = |task: &TaskSnapshot| task.state.values().flatten().map(Chain::bytes).sum::<u64>();
        self.tasks.iter().map(|task| state(task) + task.prepared_bytes).sum()
    }

    /// Of the files that were written for this epoch.
    pub fn bytes_written(&self) -> u64 {
        self.tasks.iter().map(|task| task.bytes_written).sum()
    }
}
