//! Models that come from other programs, and ours for them.
//!
//! What is read becomes a [`Network`]: layers, weights and inputs, whoever wrote it; [`Network::published`] makes of it what the
//! registry keeps. [`onnx`] reads and writes; [`keras`] reads. Invariant: an imported model answers as it did where it comes
//! from, up to rounding, or it is refused by the name of what does not fit. A file is foreign text: none of them makes this
//! panic, or takes memory out of proportion to its size.

mod network;
pub mod onnx;
mod package;

pub use network::{Network, Settings};
pub use package::{Package, pack, unpack};

use crate::graph;
use crate::tensors;
use crate::values;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("understand {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error(
        "read operators of version {version}: those of {from} to {to} are known; export the model with such a version"
    )]
    Opset { version: i64, from: i64, to: i64 },
    #[error("take over node '{node}' ({op}): {reason}")]
    Node { node: String, op: String, reason: String },
    #[error("take over layer '{node}' ({kind}): {reason}")]
    Layer { node: String, kind: String, reason: String },
    #[error("use array '{tensor}' {dims:?}: {reason}")]
    Tensor { tensor: String, dims: Vec<i64>, reason: String },
    #[error("use input '{input}': {reason}")]
    Input { input: String, reason: String },
    #[error(
        "write input '{input}' ({step}): ONNX has no operator for it; export with --prepared, and the file reads what the \
         layers read"
    )]
    NoOperator { input: String, step: &'static str },
    #[error("write {bytes} bytes: no ONNX file has more than 2 GiB")]
    TooLarge { bytes: usize },
    #[error("write what the model is beside the graph")]
    Metadata { source: serde_json::Error },
    #[error("give output '{output}': {reason}")]
    Output { output: String, reason: String },
    #[error("build the network")]
    Graph { source: graph::Error },
    #[error("feed the network")]
    Inputs { source: Box<values::Error> },
    #[error("use the weights of '{parameter}': {reason}")]
    Weights { parameter: String, reason: String },
    #[error("{what} model '{model}'")]
    Package { what: &'static str, model: String, source: tensors::Error },
}
