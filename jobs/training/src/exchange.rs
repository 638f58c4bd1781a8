//! Models that come from other programs, and ours for them.
//!
//! What is read becomes a [`Network`]: layers, weights and inputs, whoever wrote it; [`Network::model`] makes of it what the
//! registry keeps. [`onnx`] reads and writes; [`keras`] reads. Invariant: an imported model answers as it did where it comes
//! from, up to rounding, or it is refused by the name of what does not fit. A file is foreign text: none of them makes this
//! panic, or takes memory out of proportion to its size.

mod hdf5;
mod keras;
mod network;
pub mod onnx;
mod package;
#[cfg(test)]
mod test_support;
mod zip;

pub use network::{Network, Settings};
pub use package::{Package, pack, unpack};

use crate::graph;
use crate::tensors;
use crate::values;
use std::io;
use std::path::{Path, PathBuf};

/// What the file says: ONNX, or Keras where its name ends in `.keras` or `.json`. `weights` are Keras's where they lie in a file
/// of their own; `output` is the tensor of an ONNX file that answers, by default its first.
pub fn read(path: &Path, weights: Option<&Path>, output: Option<&str>) -> Result<Network, Error> {
    let bytes = bytes_of(path)?;
    let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match kind.to_ascii_lowercase().as_str() {
        "keras" | "json" => {
            let weights = weights.map(bytes_of).transpose()?;
            keras::import(&bytes, weights.as_deref())
        }
        _ => onnx::import(&bytes, path.parent(), output),
    }
}

/// More than any model that fits into memory twice.
const MOST_BYTES: u64 = 1 << 32;

fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_path_buf(), source };
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > MOST_BYTES {
        return Err(failed(io::Error::other(format!("it has {len} bytes; a model has {MOST_BYTES} at most"))));
    }
    std::fs::read(path).map_err(failed)
}

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
