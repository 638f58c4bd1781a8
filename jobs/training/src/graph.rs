//! Graphs of layers, run forward and backward over plain arrays.
//!
//! [`build`] makes of what the user said a list of steps, each an operation over earlier steps or inputs, and of all their
//! parameters one flat array; [`run`] goes through the steps. Every layer is an [`operation::Operation`].
//!
//! Invariant: parameters are ordered by name, and slot `i` of that order has the same place in every flat array of weights,
//! gradients and optimizer state, on every rank and in every file. First weights depend on the seed and the parameter's
//! name alone. Every step lies on a way to the output, so that every parameter receives a gradient. Knows nothing of data,
//! optimizers or other ranks.

pub mod activate;
mod build;
mod dense;
mod elementwise;
mod embedding;
mod first;
#[cfg(test)]
pub mod gradient_check;
pub mod lanes;
pub mod layers;
pub mod matrix;
pub mod operation;
pub mod ops;
pub mod parallel;
pub mod rows;
mod run;
#[cfg(test)]
mod tests;

pub use build::{Graph, Place as SlotPlace, Slot, Source, Wanted, check, parameters};
pub use run::{Gradients, Step};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("put layer '{node}' ({kind}) into the graph: {reason}")]
    Layer { node: String, kind: &'static str, reason: String },
    #[error("put two layers or inputs called '{name}' into one graph")]
    Twice { name: String },
    #[error("use '{name}' as the output of the graph: {reason}")]
    Output { name: String, reason: String },
    #[error(
        "train layer '{node}' ({kind}): no way leads from it to the output '{output}', so no gradient would reach it"
    )]
    NoWay { node: String, kind: &'static str, output: String },
    #[error("run the graph on input '{input}': {got} values were given for {rows} rows of shape {dims:?}")]
    Input { input: String, got: usize, rows: usize, dims: Vec<usize> },
    #[error("run the graph: {got} inputs were given, it reads {names}")]
    Inputs { got: usize, names: String },
    #[error("compute the loss: {0}")]
    Loss(String),
}
