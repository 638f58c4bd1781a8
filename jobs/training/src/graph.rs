//! Graphs of layers, run forward and backward over plain arrays.

mod activate;
#[cfg(test)]
pub mod gradient_check;
pub mod lanes;
pub mod matrix;
pub mod operation;
pub mod ops;
