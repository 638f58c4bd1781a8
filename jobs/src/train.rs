//! What is to be trained: data, network, loss, optimizer, schedule.

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
    pub layers: Vec<Layer>,
    pub loss: Loss,
    pub optimizer: Optimizer,
    pub batch: usize,
    /// Passes over the training rows.
    pub epochs: u32,
    pub seed: u64,
    /// Learn mean and deviation of each feature and normalise with them; saved with the model.
    pub normalize: bool,
    /// Steps between checkpoints.
    pub checkpoint_steps: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Fully connected: `units` outputs.
    Dense {
        units: usize,
        activation: Activation,
    },
    Dropout {
        rate: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    Linear,
    Relu,
    Tanh,
    Sigmoid,
    Gelu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Softmax cross-entropy from logits; the label is a class index.
    CrossEntropy,
    /// Binary cross-entropy from one logit; the label is 0 or 1.
    BinaryCrossEntropy,
    MeanSquaredError,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Optimizer {
    Sgd { learning_rate: f64, momentum: f64 },
    AdamW { learning_rate: f64, beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64 },
}
