//! What is to be trained: data, graph, loss, optimizer, schedule.

mod graph;
mod input;
mod recipe;

pub use graph::{Activation, Combine, Layer, Node, Padding, chain};
pub use input::{Input, Preprocess};
pub use recipe::{Clip, EarlyStop, Elastic, Loss, Optimizer, Schedule, Strategy};

use serde::{Deserialize, Serialize};

/// A settled training job. Comes from `CREATE MODEL … AS SELECT …` or from a TOML/YAML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainBody {
    /// Name under which the result enters the model registry.
    pub model: String,
    /// SQL text that declares the tables the queries below read.
    pub sql: String,
    pub base_dir: String,
    /// The query whose rows are trained on. Every column but the label is a feature, in this order.
    pub train_query: String,
    /// Held-out rows; without a query a share of the training rows is held out, chosen by hash of the row's position.
    pub test_query: Option<String>,
    pub test_fraction: f64,
    pub label: String,
    /// Columns that are neither feature nor label.
    pub ignore: Vec<String>,
    /// Event-time column; its largest value in the training rows is recorded as the model's training cut-off.
    pub time_column: Option<String>,
    /// Training waits until the query returns this many rows.
    pub min_rows: u64,
    /// What the graph reads; empty for one input called `features` of all numbers, normalised if `normalize`.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// A version of a model, as in `fraud@3`, whose inputs, layers and weights training begins with; then none are given here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// In an order in which each comes after those that it reads.
    pub layers: Vec<Node>,
    /// The node whose output the loss reads; without it a dense layer `output` with as many outputs as the loss needs is put
    /// behind the last node.
    #[serde(default)]
    pub output: Option<String>,
    pub loss: Loss,
    pub optimizer: Optimizer,
    #[serde(default)]
    pub schedule: Schedule,
    #[serde(default)]
    pub clip: Clip,
    /// Batches whose gradients make one step.
    #[serde(default = "one")]
    pub accumulate: u32,
    #[serde(default)]
    pub early_stop: Option<EarlyStop>,
    /// Publish the weights of the epoch that was best on the held-out rows, not the last.
    #[serde(default)]
    pub keep_best: bool,
    #[serde(default)]
    pub strategy: Strategy,
    /// Without it all of its workers are there, or it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// One more task judges checkpoints beside the training, which is then not held up by that after each epoch.
    #[serde(default)]
    pub evaluator: bool,
    pub batch: usize,
    /// Passes over the training rows.
    pub epochs: u32,
    /// Steps in all, however many passes they are; then `epochs` does not count.
    #[serde(default)]
    pub steps: Option<u64>,
    pub seed: u64,
    /// Learn mean and deviation of each feature and normalise with them; saved with the model.
    pub normalize: bool,
    /// Steps between checkpoints.
    pub checkpoint_steps: u64,
}

fn one() -> u32 {
    1
}
