//! Layers and how they are joined, as a user says it: names and settings of Keras where it has them.

use serde::{Deserialize, Serialize};

/// One layer of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the graph. Parameters are called `NAME.weight` and the like.
    pub name: String,
    /// Names of the nodes, or of inputs, whose outputs this one reads; empty for the node before it, and for the first
    /// node all features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    pub layer: Layer,
}

/// Shapes are those of one row of the batch. `[…, n]` means: applied to the last dimension, alike at all places of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Fully connected: `[…, n]` to `[…, units]`.
    Dense {
        units: usize,
        activation: Activation,
        #[serde(default = "yes")]
        bias: bool,
    },
    Activation {
        function: Activation,
    },
    Dropout {
        rate: f64,
    },
    /// Rows of a table, by whole number: ids `[n]` to `[n, units]`, or `[units]` when combined.
    Embedding {
        vocabulary: usize,
        units: usize,
        #[serde(default)]
        combine: Combine,
    },
    /// A learned vector for each place, added: `[length, n]` to the same.
    Position,
    /// `[length, channels]` to `[length', filters]`.
    Conv1d {
        filters: usize,
        kernel: usize,
        #[serde(default = "one")]
        stride: usize,
        #[serde(default)]
        padding: Padding,
        activation: Activation,
    },
    /// `[height, width, channels]` to `[height', width', filters]`.
    Conv2d {
        filters: usize,
        kernel: [usize; 2],
        #[serde(default = "ones")]
        stride: [usize; 2],
        #[serde(default)]
        padding: Padding,
        activation: Activation,
    },
    /// Over `[length, channels]` (the first of the two numbers) or `[height, width, channels]`.
    MaxPool {
        size: [usize; 2],
        stride: [usize; 2],
        #[serde(default)]
        padding: Padding,
    },
    AveragePool {
        size: [usize; 2],
        stride: [usize; 2],
        #[serde(default)]
        padding: Padding,
    },
    /// `[…, channels]` to `[channels]`.
    GlobalMaxPool,
    GlobalAveragePool,
    /// By channel, over the rows of a batch and all places; running mean and variance are kept for scoring.
    BatchNorm {
        momentum: f64,
        epsilon: f64,
    },
    /// Over the last dimension.
    LayerNorm {
        epsilon: f64,
    },
    RmsNorm {
        epsilon: f64,
    },
    /// `[length, n]` to `[units]`, or `[length, units]` with all steps.
    Gru {
        units: usize,
        #[serde(default)]
        sequences: bool,
    },
    Lstm {
        units: usize,
        #[serde(default)]
        sequences: bool,
    },
    /// Self-attention, `[length, n]` to the same; `heads` divides n.
    Attention {
        heads: usize,
        #[serde(default)]
        causal: bool,
    },
    /// Pre-norm: x + attention(norm(x)), then x + dense(activation(dense(norm(x)))).
    Transformer {
        heads: usize,
        hidden: usize,
        #[serde(default)]
        causal: bool,
        activation: Activation,
        #[serde(default)]
        dropout: f64,
    },
    /// Element by element, of inputs of one shape.
    Add,
    /// Along the last dimension.
    Concat,
    Flatten,
    Reshape {
        dims: Vec<usize>,
    },
    /// Dimensions in another order, those of the input counted from 1.
    Permute {
        dims: Vec<usize>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    #[default]
    Linear,
    Relu,
    LeakyRelu,
    Elu,
    Silu,
    Tanh,
    Sigmoid,
    /// With the error function, not the approximation by tanh.
    Gelu,
    Softplus,
}

/// How the rows that the ids of one input stand for become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    #[default]
    None,
    Sum,
    Mean,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Only windows that lie within.
    #[default]
    Valid,
    /// Zeros around, more of them behind than before, so that with stride 1 the size stays.
    Same,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn ones() -> [usize; 2] {
    [1, 1]
}

impl Layer {
    pub fn dense(units: usize, activation: Activation) -> Self {
        Self::Dense { units, activation, bias: true }
    }

    /// As users write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::Activation { .. } => "activation",
            Self::Dropout { .. } => "dropout",
            Self::Embedding { .. } => "embedding",
            Self::Position => "position",
            Self::Conv1d { .. } => "conv1d",
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool { .. } => "max_pool",
            Self::AveragePool { .. } => "average_pool",
            Self::GlobalMaxPool => "global_max_pool",
            Self::GlobalAveragePool => "global_average_pool",
            Self::BatchNorm { .. } => "batch_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Gru { .. } => "gru",
            Self::Lstm { .. } => "lstm",
            Self::Attention { .. } => "attention",
            Self::Transformer { .. } => "transformer",
            Self::Add => "add",
            Self::Concat => "concat",
            Self::Flatten => "flatten",
            Self::Reshape { .. } => "reshape",
            Self::Permute { .. } => "permute",
        }
    }
}

/// Layers one after the other, named by kind and place.
pub fn chain(layers: impl IntoIterator<Item = Layer>) -> Vec<Node> {
    let named = |(index, layer): (usize, Layer)| Node {
        name: format!("{}_{index:02}", layer.kind()),
        inputs: Vec::new(),
        layer,
    };
    layers.into_iter().enumerate().map(named).collect()
}
