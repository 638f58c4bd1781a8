//! Training: query results -> gradients -> weights, and scoring with them.
//!
//! Invariant: the same rows, seed and world size give the same bits, whether or not the run was killed and resumed; every
//! parameter receives a gradient; all ranks hold the same weights. This crate knows no SQL, no scheduler and no runner: rows
//! come in as Arrow batches, peers as addresses, and progress goes out as reports.
//!
//! The way of a batch: [`data`] (rows in an order of their own) -> [`preprocess`] (what the graph reads) -> [`batches`] (which
//! rows, which slice) -> [`trainer`] -> [`graph`] (layers, loss, gradients) -> [`sums`] (over batches and ranks) ->
//! [`optimizer`] -> [`checkpoint`] -> [`registry`] -> [`predictor`].

mod all_reduce;
mod batches;
mod bytes;
mod callbacks;
mod check;
mod checkpoint;
mod columns;
mod data;
mod evaluation;
mod evaluator;
pub mod exchange;
mod files;
mod frame;
mod graph;
mod labels;
mod loss;
mod mesh;
mod metric;
mod normalization;
pub mod online;
mod optimizer;
mod pages;
pub mod predictor;
mod preprocess;
mod random;
mod real;
pub mod registry;
mod ring;
mod saver;
mod servers;
#[cfg(target_os = "linux")]
mod shared;
#[cfg(not(target_os = "linux"))]
#[path = "shared/none.rs"]
mod shared;
mod start;
mod sums;
pub mod sweep;
mod tensors;
#[cfg(test)]
mod test_support;
mod train;
mod trainer;
mod values;
pub mod workloads;

pub use check::{check, check_columns};
pub use data::Data;
pub use evaluator::{Evaluation, evaluate};
pub use metric::{auc, larger_is_better, name as metric_name};
pub use predictor::Predictor;
pub use start::version as start_version;
pub use train::{Error, Outcome, Report, TrainTask, train};
