//! What a stream task and its coordinator say to each other. The runner carries it over gRPC, `smack run` over channels.

use crate::functions::Versions;
use arrow::array::RecordBatch;
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
    /// The answer to [`Order::Sample`]: rows as people see them, or why there are none to see.
    Sampled {
        id: u64,
        rows: Result<Vec<RecordBatch>, String>,
    },
}

/// To the task.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Sources put this barrier into the stream. `last`: they end after it. `versions`: what functions that have versions use
    /// for the rows behind it.
    Barrier { epoch: u64, last: bool, versions: Versions },
    /// The manifest of `epoch` is durable.
    Commit { epoch: u64 },
    /// Show rows that leave this operator from now on: so many, or those that came until the task has waited long enough.
    /// Nobody depends on the answer.
    Sample { id: u64, operator: String, n_rows: u32 },
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_late: u64,
    pub rows_bad: u64,
    /// Event time, milliseconds since the epoch.
    pub watermark_ms: Option<i64>,
    pub event_time_ms: Option<i64>,
    pub state_bytes: u64,
    /// Of the checkpoint that the task began from: what its slices read of it, and how much of that they have by now.
    pub restore_bytes: u64,
    pub restored_bytes: u64,
    /// In the order of the dataflow.
    pub operators: Vec<OperatorMetrics>,
}

/// Totals of one operator since the task started, over its slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorMetrics {
    pub id: String,
    /// Time of the threads that hold it: of the slices, of a source its reading threads.
    pub total_us: u64,
    /// Spent in it; of a sink with waiting for the outside, of a source with waiting for rows that came.
    pub busy_us: u64,
    /// Spent waiting for room behind it.
    pub blocked_us: u64,
    /// Its threads had nothing to do. What is left of the total belongs to the slices' other operators.
    pub idle_us: u64,
    pub rows_in: u64,
    pub rows_out: u64,
    /// In memory.
    pub state_bytes: u64,
    /// On the task's disk, because memory had no room for it.
    pub spilled_bytes: u64,
    /// Of a source that says how far its splits have come, by name.
    pub splits: Vec<SplitMetrics>,
    /// Keys that were looked up in a table outside, each once per batch.
    pub looked_up: u64,
    /// And of those the ones whose answer was remembered, so that nobody was asked.
    pub remembered: u64,
}

/// Totals of one split of a source since the task started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitMetrics {
    pub name: String,
    pub rows: u64,
    /// Records that wait outside, as far as that is known.
    pub behind: Option<u64>,
}

impl SplitMetrics {
    pub fn of(name: &str) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }
}

impl OperatorMetrics {
    fn add(&mut self, other: &Self) {
        let Self {
            id: _,
            total_us,
            busy_us,
            blocked_us,
            idle_us,
            rows_in,
            rows_out,
            state_bytes,
            spilled_bytes,
            splits,
            looked_up,
            remembered,
        } = other;
        self.total_us += total_us;
        self.busy_us += busy_us;
        self.blocked_us += blocked_us;
        self.idle_us += idle_us;
        self.rows_in += rows_in;
        self.rows_out += rows_out;
        self.state_bytes += state_bytes;
        self.spilled_bytes += spilled_bytes;
        // Each split is read by one holder.
        self.splits.extend(splits.iter().cloned());
        self.splits.sort_by(|one, other| one.name.cmp(&other.name));
        self.looked_up += looked_up;
        self.remembered += remembered;
    }

    /// Sums of the same operators over several holders.
    pub fn sums<'a>(holders: impl IntoIterator<Item = &'a [Self]>) -> Vec<Self> {
        let mut sums: Vec<Self> = Vec::new();
        for holder in holders {
            match sums.is_empty() {
                true => sums = holder.to_vec(),
                false => sums.iter_mut().zip(holder).for_each(|(sum, one)| sum.add(one)),
            }
        }
        sums
    }

    /// What it has done since it was at `before`; its state is as it is now.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            id: self.id.clone(),
            total_us: self.total_us.saturating_sub(before.total_us),
            busy_us: self.busy_us.saturating_sub(before.busy_us),
            blocked_us: self.blocked_us.saturating_sub(before.blocked_us),
            idle_us: self.idle_us.saturating_sub(before.idle_us),
            rows_in: self.rows_in.saturating_sub(before.rows_in),
            rows_out: self.rows_out.saturating_sub(before.rows_out),
            state_bytes: self.state_bytes,
            spilled_bytes: self.spilled_bytes,
            splits: self
                .splits
                .iter()
                .map(|split| {
                    let earlier = before.splits.iter().find(|earlier| earlier.name == split.name);
                    let rows = split.rows.saturating_sub(earlier.map_or(0, |earlier| earlier.rows));
                    SplitMetrics { rows, ..split.clone() }
                })
                .collect(),
            looked_up: self.looked_up.saturating_sub(before.looked_up),
            remembered: self.remembered.saturating_sub(before.remembered),
        }
    }
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
    /// By source operator id, by split: the slot that reads it in this generation, also those of which nothing was read.
    #[serde(default)]
    pub splits: BTreeMap<String, BTreeMap<String, u32>>,
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
    /// What functions use for the rows behind the barrier, as the task was told with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: Versions,
}

/// Published by creating the file if it is absent; names everything that a restart needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What functions that have versions use for the rows from here on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: Versions,
}

impl Manifest {
    /// The files that a restart from here needs, relative to the checkpoint folder.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let state = self.tasks.iter().flat_map(|task| task.state.values().flatten()).flat_map(|chain| &chain.files);
        let prepared = self.tasks.iter().flat_map(|task| task.prepared.values().flatten());
        state.map(|file| file.name.as_str()).chain(prepared.map(String::as_str))
    }

    /// Whether a sink had prepared something that a commit was to make visible.
    pub fn has_prepared(&self) -> bool {
        self.tasks.iter().any(|task| task.prepared.values().any(|files| !files.is_empty()))
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
