//! Streaming SQL: text -> statements -> dataflow -> operators with event time, state and checkpoints.
//!
//! [`sql`] reads a job file and plans its INSERT statements into a [`dataflow::Dataflow`]; [`runtime`] runs one task of
//! it; [`coordinator`] is the pure machine that the runner drives to take checkpoints of all tasks.
//!
//! Invariant: knows no scheduler, no gRPC and no training; `predict` is a function that somebody registered.

pub mod batch;
pub mod control;
pub mod coordinator;
pub mod dataflow;
pub mod functions;
pub mod runtime;
pub mod sql;
pub mod state;
