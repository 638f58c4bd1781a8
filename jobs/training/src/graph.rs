//! Graphs of layers, run forward and backward over plain arrays.

pub mod operation;
