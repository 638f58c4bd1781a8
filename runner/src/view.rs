//! What the API says, in the form it is said: the CLI, the page and notebooks read exactly these.

use crate::book::schedules::{CatchUp, Overlap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// `group/name`.
    pub id: String,
    pub group: String,
    pub name: String,
    /// "stream", "train", "command" or "service".
    pub kind: String,
    pub role: String,
    /// Among the jobs of its role.
    #[serde(default)]
    pub priority: i32,
    /// "waiting", "placing", "launching", "running", "restarting", "stopping", "paused" (a trial at a rung), "finished",
    /// "failed" or "stopped".
    pub state: String,
    pub generation: u64,
    pub restarts: u64,
    pub parallelism: u32,
    /// One sentence with numbers: why it is in this state.
    pub why: String,
    pub submitted_ms: u64,
    pub metrics: JobMetrics,
    /// Of a stream, in the order of the dataflow.
    #[serde(default)]
    pub operators: Vec<OperatorView>,
    pub tasks: Vec<TaskView>,
    /// Of a stream: which version of each model it scores with, by the name in the query.
    #[serde(default)]
    pub models: BTreeMap<String, u64>,
    /// The latest, oldest first.
    pub events: Vec<EventView>,
}

/// Sums and extremes over the tasks of the present generation, on top of what earlier generations counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobMetrics {
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_late: u64,
    pub rows_bad: u64,
    pub rows_per_second: f64,
    /// Event time, milliseconds since the epoch.
    pub watermark_ms: Option<i64>,
    /// How far the watermark is behind the newest row.
    pub watermark_lag_ms: Option<i64>,
    pub state_bytes: u64,
    /// While tasks read the state of a checkpoint before they begin: its size, each task's and slice's part, and how much
    /// of it is read by now.
    #[serde(default)]
    pub restore_bytes: Option<u64>,
    #[serde(default)]
    pub restored_bytes: Option<u64>,
    /// Last completed checkpoint.
    pub checkpoint_epoch: Option<u64>,
    pub checkpoint_age_ms: Option<u64>,
    /// What a restart from it needs, and how much of that was written for it; the rest is of earlier ones.
    #[serde(default)]
    pub checkpoint_bytes: Option<u64>,
    #[serde(default)]
    pub checkpoint_bytes_written: Option<u64>,
    pub step: u64,
    pub steps_total: u64,
    pub loss: Option<f64>,
    pub metric: Option<f64>,
    pub metric_name: String,
    /// The model version that this job wrote last.
    pub model_version: Option<u64>,
}

/// One operator over all tasks, lately (about the last second). Shares are of the time of the threads that hold it, from 0
/// to 1; what the three leave is the time of the other operators on the same threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperatorView {
    pub id: String,
    /// At work in it; of a sink with waiting for the outside.
    pub busy: f64,
    /// Waiting for room behind it: back-pressure.
    pub blocked: f64,
    /// With nothing to do.
    pub idle: f64,
    pub rows_in_per_second: f64,
    pub rows_out_per_second: f64,
    /// In memory.
    pub state_bytes: u64,
    /// On the tasks' disks, because memory had no room for it.
    #[serde(default)]
    pub spilled_bytes: u64,
    /// Of a source that says how far its splits have come, by name.
    #[serde(default)]
    pub splits: Vec<SplitView>,
    /// Keys looked up in a table outside, each once per batch.
    #[serde(default)]
    pub lookups_per_second: f64,
    /// The share of them whose answer was remembered, from 0 to 1.
    #[serde(default)]
    pub cache_hits: f64,
}

/// One split of a source, lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SplitView {
    pub name: String,
    pub rows_per_second: f64,
    /// Records that wait outside, as far as that is known.
    pub behind: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    pub id: String,
    pub job: String,
    pub kind: String,
    pub index: u32,
    /// Of a gang of others' programs, and of a training with parameter servers: `worker 1`.
    #[serde(default)]
    pub member: String,
    pub generation: u64,
    pub agent: String,
    pub offer: String,
    /// As in `jobs::TaskState`.
    pub state: String,
    pub reason: String,
    pub message: String,
    pub rows_in: u64,
    pub rows_out: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    pub at_ms: u64,
    /// "info", "warning" or "error".
    pub level: String,
    pub text: String,
}

/// `GET /api/v1/jobs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobsView {
    pub jobs: Vec<JobView>,
}

/// `POST /api/v1/jobs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubmitRequest {
    /// The file's whole text.
    pub text: String,
    /// The file's name, for messages; its ending tells the language (`.sql`, `.toml`, `.yaml`, `.yml`).
    pub file: String,
    /// Absolute folder that relative paths in the file are relative to.
    pub base_dir: String,
    /// Streams go on from the last checkpoint of the group's earlier submission.
    #[serde(default)]
    pub resume: bool,
    /// With `resume`: from this savepoint or epoch instead.
    #[serde(default)]
    pub resume_from: Option<String>,
}

/// `GET /api/v1/savepoints/{group-or-job}`: the checkpoints that are kept, of each stream the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointsView {
    pub checkpoints: Vec<CheckpointView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// `group/name`.
    pub job: String,
    pub epoch: u64,
    /// Of a savepoint.
    pub name: Option<String>,
    /// What a restart from it needs, and how much of that was written for it.
    pub bytes: u64,
    pub bytes_written: u64,
    pub age_ms: u64,
}

/// `POST` and `DELETE /api/v1/savepoints/{group-or-job}`: keep the last checkpoint of each stream under a name, and keep it
/// no longer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SavepointRequest {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    pub group: String,
    /// Ids in the order in which they start.
    pub jobs: Vec<String>,
}

/// `POST /api/v1/scale/{group-or-job}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScaleRequest {
    /// Tasks that each of the streams is to have.
    pub parallelism: u32,
}

/// `POST /api/v1/plan`: what would become of each stream's state if the file were submitted with `resume`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    pub jobs: Vec<JobPlanView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobPlanView {
    /// `group/name`.
    pub job: String,
    /// The checkpoint that it would go on from, if there is one.
    pub epoch: Option<u64>,
    pub operators: Vec<OperatorPlanView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperatorPlanView {
    pub id: String,
    /// "reuse", "rebuild" (it is not in the checkpoint and starts empty) or "drop" (it is no longer in the file).
    pub state: String,
}

/// `POST /api/v1/sql`; the answer is an Arrow IPC stream, or, for who accepts only JSON, a `RowsView`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// One SELECT, EXPLAIN, DESCRIBE or SHOW, behind what it declares itself.
    pub sql: String,
    /// Rows of a JSON answer, at most.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Of a SELECT with `?`, or `$1`, `$2` and so on: their values in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Option<Parameter>>,
}

/// A value in the place of `?`. Text is taken as what its place wants: `"2026-01-31"` may be a date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Parameter {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// Rows of a query, for who accepts only JSON.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RowsView {
    pub columns: Vec<String>,
    /// As SQL names them.
    pub types: Vec<String>,
    /// Whether there are more.
    pub truncated: bool,
    /// Objects by column, with all digits of their numbers.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<serde_json::Value>,
}

/// `GET /api/v1/targets`: a list of these, as Prometheus' HTTP service discovery wants it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// `host:port`, of which `/metrics` is asked.
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// `GET /api/v1/jobs/{group}/{name}/dataflow`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DataflowView {
    /// The SQL that it was made from.
    pub text: String,
    /// Inputs before their readers.
    pub nodes: Vec<NodeView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// As in [`OperatorView`].
    pub id: String,
    /// "source", "filter", "exchange", "window", "join", "sink" and the like.
    pub kind: String,
    /// What it does.
    pub text: String,
    /// Ids of those whose rows it reads.
    pub inputs: Vec<String>,
    /// Whether it takes rows back that it gave.
    pub changes: bool,
    /// Lines of the text that it was made from, the first and the last of each stretch, from 1.
    #[serde(default)]
    pub lines: Vec<(u32, u32)>,
}

/// `GET /api/v1/jobs/GROUP/NAME/sample/OPERATOR`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    pub operator: String,
    pub columns: Vec<String>,
    /// As SQL names them.
    pub types: Vec<String>,
    /// Whether the first column, `op`, says that a row came (`+`) or was taken back (`-`).
    pub changes: bool,
    pub waited_ms: u64,
    /// As those of a query.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<serde_json::Value>,
}

/// `GET /api/v1/sql/catalog`: what a query may name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogView {
    pub tables: Vec<CatalogTable>,
    pub functions: Vec<String>,
    pub models: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogTable {
    pub name: String,
    /// "table" of the cluster's store, or "stream" that a submitted file declares.
    pub kind: String,
    pub columns: Vec<ColumnView>,
    pub key: Vec<String>,
    /// One of those whose file declares it.
    pub job: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnView {
    pub name: String,
    /// As SQL names it; empty where it follows from an expression.
    pub r#type: String,
}

/// Body of every answer that is not a success, but for one without the token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// One sentence.
    pub error: String,
    /// Mistakes in a submitted file, with their places.
    #[serde(default)]
    #[schema(value_type = Vec<DiagnosticView>)]
    pub diagnostics: Vec<jobs::Diagnostic>,
}

/// One mistake in a text that was sent.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of `jobs::Diagnostic`, which knows of none")]
pub struct DiagnosticView {
    /// A lowercase fragment without a full stop.
    message: String,
    /// A range of bytes of the text; none where all of it is meant.
    span: Option<(usize, usize)>,
    /// The way out.
    help: Option<String>,
}

/// `POST /api/v1/stop/{group-or-job}`, `/api/v1/scale/…` and `/api/v1/checkpoint/…`: the jobs that were told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    pub jobs: Vec<String>,
}

/// `GET /api/v1/why/{group-or-job-or-task}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    pub subject: String,
    pub state: String,
    /// The one plain sentence.
    pub sentence: String,
    /// What the master says about each agent for this demand, if it waits for offers.
    pub details: Vec<String>,
    pub events: Vec<EventView>,
}

/// `GET /api/v1/sweeps`: the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SweepsView {
    pub sweeps: Vec<SweepView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SweepView {
    /// Of the group of its trials.
    pub name: String,
    pub file: String,
    pub model: String,
    /// "grid", "random" or "asha".
    pub algorithm: String,
    /// "searching", "publishing", "finished", "stopped" or "failed".
    pub state: String,
    /// What is to be said of that.
    pub text: String,
    pub n_trials: u64,
    pub n_waiting: u64,
    pub n_running: u64,
    pub n_paused: u64,
    /// That have come to their end.
    pub n_done: u64,
    pub n_failed: u64,
    /// Trials at work at once, at most.
    pub parallel: u64,
    /// Epochs after which trials pause.
    pub rungs: Vec<u64>,
    /// What trials are compared by.
    pub metric_name: String,
    pub larger_is_better: bool,
    /// Of all so far: the one that has come farthest, of several the one with the best metric there.
    pub best: Option<TrialView>,
    /// That was published of the best trial.
    pub version: Option<u64>,
    pub began_ms: u64,
    pub ended_ms: Option<u64>,
}

/// `GET /api/v1/sweeps/{sweep}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SweepDetail {
    pub sweep: SweepView,
    /// In the order in which they begin.
    pub trials: Vec<TrialView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrialView {
    /// From 1.
    pub number: u64,
    /// `group/name` of its job.
    pub job: String,
    /// Of its training run; none before it began.
    pub run: Option<String>,
    /// What it tries.
    pub settings: BTreeMap<String, String>,
    /// "waiting", "paused", "done" or "failed", or the state of its job.
    pub state: String,
    /// Epochs after which it paused last.
    pub rung: Option<u64>,
    /// There; none where it had no value.
    pub metric: Option<f64>,
    /// At each rung so far.
    pub metrics: Vec<Option<f64>>,
    /// Generations of its job: one for each time that it went on, and for each restart.
    pub generation: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// `GET /api/v1/cluster`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    pub leader_epoch: u64,
    pub agents: Vec<AgentView>,
    pub frameworks: Vec<FrameworkView>,
    pub offers: Vec<OfferView>,
    /// With frameworks, a weight or a quota, and those above them.
    #[serde(default)]
    pub roles: Vec<RoleView>,
    #[serde(default)]
    pub volumes: Vec<VolumeView>,
}

/// A directory of an agent that outlives tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// Unique in its role.
    pub name: String,
    pub role: String,
    pub agent: String,
    /// What may be in it.
    pub disk_mib: f64,
    /// The task that has it.
    pub task: Option<String>,
    /// It was given up, and its agent has not yet said that it is gone.
    pub leaving: bool,
}

/// A role of the cluster. Amounts are in units by name; mem and disk are MiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// A path: `a/b` is a child of `a`.
    pub role: String,
    pub weight: f64,
    /// Of the role and all below it: 0 to 1, not divided by the weight.
    pub dominant_share: f64,
    /// By the role and all below it, offered or used.
    pub held: BTreeMap<String, f64>,
    pub guarantee: BTreeMap<String, f64>,
    pub limit: BTreeMap<String, f64>,
    /// Without those of roles below it.
    pub n_frameworks: u32,
}

/// `POST /api/v1/quota/{role}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaRequest {
    #[serde(default)]
    pub guarantee: BTreeMap<String, f64>,
    #[serde(default)]
    pub limit: BTreeMap<String, f64>,
    /// Also if the cluster does not have it, or the role uses more already.
    #[serde(default)]
    pub force: bool,
}

/// `POST /api/v1/weight/{role}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    pub weight: f64,
}

/// `POST /api/v1/drain/{agent}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// When tasks that are left are ended, from when it begins; without it they may stay.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// When it is to be empty, milliseconds since 1970: it begins the deadline before. Without it it begins now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// How long after that it is offered again; without it when that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// What came of a change to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// What was put up with.
    pub warnings: Vec<String>,
}

/// Scalars in units by name, and the number of ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourcesView {
    pub scalars: BTreeMap<String, f64>,
    pub n_ports: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    pub id: String,
    pub host: String,
    /// "active", "draining", "drained", "disconnected" or "unreachable".
    pub state: String,
    /// What jobs may ask for; `isolation` says what holds tasks to what they asked for.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// What it has, and under names that end in `:revocable` what it lends besides.
    pub total: ResourcesView,
    pub free: ResourcesView,
    pub offered: ResourcesView,
    pub used: ResourcesView,
    /// Of what is used, by the role of the framework whose tasks use it.
    #[serde(default)]
    pub used_by_role: BTreeMap<String, ResourcesView>,
    pub heard_ms_ago: u64,
    pub n_tasks: u64,
    /// Of one that is to be empty: when that begins, if it is planned, by when its tasks have to have left, and when it is
    /// offered again. Milliseconds since 1970.
    #[serde(default)]
    pub drains_from_ms: Option<u64>,
    #[serde(default)]
    pub drained_by_ms: Option<u64>,
    #[serde(default)]
    pub drain_over_ms: Option<u64>,
    #[serde(default)]
    pub reserved: Vec<ReservationView>,
    /// What of all that is reserved nobody holds for whom it is, by role.
    #[serde(default)]
    pub unfilled: BTreeMap<String, BTreeMap<String, f64>>,
}

/// So much of an agent, for a role and those below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    pub role: String,
    pub amounts: BTreeMap<String, f64>,
    pub labels: BTreeMap<String, String>,
    /// The agent itself keeps it, from its start on; else an operator said so.
    pub by_agent: bool,
}

/// `DELETE /api/v1/volumes/{name}`: which one of the name is meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VolumePlace {
    /// Whose it is.
    pub role: String,
    /// Where it is; needed only if it is on several agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// `POST /api/v1/gone/{agent}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GoneRequest {
    /// Also if it is connected.
    #[serde(default)]
    pub force: bool,
}

/// `POST /api/v1/reserve/{agent}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    pub role: String,
    /// Is added to what is reserved for the role with the same labels.
    pub amounts: BTreeMap<String, f64>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Out of what operators reserved for this role, which the other is below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Also if the agent does not have it, or tasks of other roles use it.
    #[serde(default)]
    pub force: bool,
}

/// `POST /api/v1/unreserve/{agent}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnreserveRequest {
    pub role: String,
    /// Without any: all that operators reserved for the role with these labels.
    #[serde(default)]
    pub amounts: BTreeMap<String, f64>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FrameworkView {
    pub id: String,
    pub name: String,
    pub role: String,
    pub connected: bool,
    pub dominant_share: f64,
    pub waiting: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OfferView {
    pub id: String,
    pub agent: String,
    pub framework: String,
    pub framework_name: String,
    /// "outstanding", "accepted", "declined", "rescinded" or "expired".
    pub state: String,
    pub resources: ResourcesView,
    pub made_ms_ago: u64,
    pub tasks: Vec<String>,
    /// Of one that was declined or has expired: for how long its framework is not offered the same again.
    #[serde(default)]
    pub refused_for_s: Option<f64>,
}

/// `GET /api/v1/version`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    pub version: String,
    pub api: String,
}

/// `GET /api/v1/runs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunsView {
    /// The newest first.
    pub runs: Vec<RunView>,
}

/// One training run: a submission of a training job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    pub id: String,
    pub job: String,
    pub model: String,
    pub submission: String,
    pub workers: u32,
    /// What it was told, by the path of each setting.
    pub settings: BTreeMap<String, String>,
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    /// "running", "finished", "stopped" or "failed".
    pub outcome: String,
    pub error: Option<String>,
    /// Model versions that it wrote.
    pub versions: Vec<u64>,
    /// As of its last report.
    pub last: PointView,
    /// What the last checkpoint that an evaluator judged is worth.
    #[serde(default)]
    pub evaluation: Option<EvaluationView>,
    /// Of so many reports one is kept.
    #[serde(default)]
    pub stride: u64,
}

/// How far a run was at a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PointView {
    pub at_ms: u64,
    pub step: u64,
    pub steps_total: u64,
    /// The pass over the rows, from 1.
    pub epoch: u64,
    pub loss: Option<f64>,
    /// On the held-out rows after the last whole epoch.
    pub metric: Option<f64>,
    pub metric_name: String,
    pub learning_rate: Option<f64>,
    pub rows_per_second: f64,
}

/// `GET /api/v1/runs/ID`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    pub run: RunView,
    /// By rising step, evenly thinned.
    pub points: Vec<PointView>,
    /// Where an evaluator judged checkpoints, by rising step.
    #[serde(default)]
    pub evaluations: Vec<EvaluationView>,
}

/// What a checkpoint is worth on the held-out rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvaluationView {
    pub at_ms: u64,
    pub step: u64,
    pub epoch: u64,
    pub metrics: BTreeMap<String, f64>,
}

/// `GET /api/v1/compare/runs?ids=ID,ID`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparisonView {
    pub runs: Vec<RunView>,
    /// Those in which they differ.
    pub settings: Vec<ComparedSetting>,
    /// By run: its losses as a line of blocks, all on one scale.
    pub curves: Vec<String>,
}

/// By run: its value; none where it was not told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedSetting {
    pub name: String,
    pub values: Vec<Option<String>>,
}

/// `POST /api/v1/schedules`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleRequest {
    pub name: String,
    /// Minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// As in the IANA time zone database.
    pub zone: String,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    /// As of a submission.
    pub text: String,
    pub file: String,
    pub base_dir: String,
}

/// `GET /api/v1/schedules`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SchedulesView {
    pub schedules: Vec<ScheduleView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    pub name: String,
    pub cron: String,
    pub zone: String,
    /// "none", "last" or "all".
    pub catch_up: String,
    /// "skip", "queue" or "replace".
    pub overlap: String,
    pub file: String,
    /// Of the jobs that it submits.
    pub group: String,
    pub next_ms: Option<i64>,
    /// Times that were due and wait for the run before.
    pub n_waiting: u64,
    /// What became of each time, oldest first.
    pub history: Vec<FiredView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FiredView {
    pub planned_ms: i64,
    pub at_ms: i64,
    /// "time", "catch-up" or "by hand".
    pub why: String,
    /// "running", "finished", "stopped", "failed", "skipped" or "missed".
    pub outcome: String,
    pub text: String,
}

/// `GET /api/v1/models`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelsView {
    pub models: Vec<ModelView>,
}

/// One version of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    pub model: String,
    pub version: u64,
    /// The training cut-off: the newest event time among the rows that it learned from, microseconds since the epoch.
    pub trained_through_us: Option<i64>,
    pub rows: u64,
    pub features: Vec<String>,
    pub metrics: BTreeMap<String, f64>,
    /// That mean this version now.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// That trained it.
    #[serde(default)]
    pub job: String,
    #[serde(default)]
    pub created_us: i64,
    /// Jobs that score with it now.
    #[serde(default)]
    pub used_by: Vec<String>,
}

/// `GET /api/v1/models/NAME/WHICH`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDetail {
    pub model: ModelView,
    /// The version's `model.json`, with its lineage.
    pub manifest: serde_json::Value,
    /// Of a classification, on its held-out rows: `classes`, `confusion` (rows are what is true, columns what was said), the
    /// spread of `scores`, and how many `rows`.
    #[serde(default)]
    pub evaluation: Option<serde_json::Value>,
    /// Of the model's aliases, oldest first.
    pub changes: Vec<AliasChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AliasChange {
    pub alias: String,
    pub at_ms: i64,
    /// Absent: it went back to what it meant before.
    pub promoted: Option<u64>,
}

/// `POST /api/v1/models/NAME/aliases/ALIAS`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PromoteRequest {
    pub version: u64,
}

/// What an alias means now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Promoted {
    pub model: String,
    pub alias: String,
    pub version: u64,
}

/// The version that a model which was taken over became.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    pub model: String,
    pub version: u64,
}

/// For people.
pub fn text_of_bytes(bytes: u64) -> String {
    let (mut value, mut units) = (bytes as f64, ["B", "KB", "MB", "GB", "TB"].iter());
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}
