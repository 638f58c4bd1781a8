//! What a file of ours says beside the graph, so that coming back it is the model that went out: columns, what was learned
//! of them, loss and classes.
//!
//! Invariant: it adds to what the graph says and never contradicts it: layers and weights are read from the graph alone, and
//! what does not fit these is an error.

use crate::preprocess::InputState;
use jobs::train::Loss;
use serde::{Deserialize, Serialize};

/// In the file's list of keys and texts.
pub const KEY: &str = "smack";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub model: String,
    pub version: u64,
    pub features: Vec<String>,
    pub label: String,
    pub loss: Loss,
    #[serde(default)]
    pub classes: Vec<String>,
    pub inputs: Vec<Prepared>,
    /// The tensor that holds the output before it is made a probability.
    pub output: String,
}

/// An input, and the tensor that holds what the layers read of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    pub tensor: String,
    pub input: InputState,
}
