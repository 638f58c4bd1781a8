//! Graphs of layers, run forward and backward over plain arrays.

pub mod lanes;
pub mod matrix;
pub mod operation;
