//! What is minimised and how: loss, optimizer, learning rate over time, limits on gradients, when to stop.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Softmax cross-entropy from logits; the label is a class index, or a list of one per place.
    CrossEntropy,
    /// Binary cross-entropy from one logit; the label is 0 or 1.
    BinaryCrossEntropy,
    MeanSquaredError,
    MeanAbsoluteError,
    /// Square up to `delta`, straight beyond.
    Huber {
        delta: f64,
    },
    /// max(0, 1 - y·x) with y = -1 for label 0.
    Hinge,
}

/// Formulas are PyTorch's where it has the optimizer; FTRL is that of McMahan et al. 2013, as in TensorFlow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Optimizer {
    Sgd {
        learning_rate: f64,
        momentum: f64,
        #[serde(default)]
        nesterov: bool,
    },
    Adagrad {
        learning_rate: f64,
        epsilon: f64,
    },
    RmsProp {
        learning_rate: f64,
        /// Of the mean of squares.
        decay: f64,
        momentum: f64,
        epsilon: f64,
    },
    Adam {
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        /// Moments of a table's row move only in steps that touch the row.
        #[serde(default)]
        lazy: bool,
    },
    AdamW {
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
    },
    Ftrl {
        learning_rate: f64,
        /// -0.5 for the square root of the sum of squares.
        power: f64,
        l1: f64,
        l2: f64,
        initial: f64,
    },
}

/// How the tasks of a training share its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Strategy {
    /// Every task has all weights; gradients are summed over all of them.
    #[default]
    AllReduce,
    /// Tasks besides the workers hold the weights and move them. At step t a worker has seen all updates before t - staleness.
    ParameterServer { servers: u32, staleness: u64 },
}

/// How a training goes on while there is no room for all of its workers. The batches stay the same, each worker takes more
/// of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elastic {
    /// With fewer it waits.
    pub min_workers: u32,
    /// Fewer than all run at least for so long before they stop for a moment to become more.
    pub grow_after_ms: u64,
}

impl Optimizer {
    /// Before any schedule.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd { learning_rate, .. }
            | Self::Adagrad { learning_rate, .. }
            | Self::RmsProp { learning_rate, .. }
            | Self::Adam { learning_rate, .. }
            | Self::AdamW { learning_rate, .. }
            | Self::Ftrl { learning_rate, .. } => *learning_rate,
        }
    }
}

/// The learning rate as a share of the optimizer's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Schedule {
    #[default]
    Constant,
    /// Rises from 0 over `warm_up` steps, then falls along a cosine to `floor` at the last step.
    Cosine { warm_up: u64, floor: f64 },
    /// Rises over `warm_up` steps, then falls straight to `floor` at the last step.
    Linear { warm_up: u64, floor: f64 },
    /// Times `factor` every `every` steps.
    Step { every: u64, factor: f64 },
}

/// Limits on the gradients of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Clip {
    #[default]
    None,
    /// All are scaled so that their common 2-norm is at most this.
    Norm { limit: f64 },
    /// Each is put into -limit..=limit.
    Value { limit: f64 },
}

/// Stop when the metric on the held-out rows has not become better by `least` for `patience` epochs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStop {
    pub patience: u32,
    pub least: f64,
}
