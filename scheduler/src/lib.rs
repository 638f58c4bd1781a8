//! Where it runs: the pure state machines of the cluster kernel.
//!
//! [`master::Master`] and [`agent::Agent`] take an event and the time and give back commands; what opens sockets, writes
//! files and starts processes stands elsewhere and obeys them.
//!
//! Invariant: pure and deterministic. No clock, no randomness, no sockets, no threads: the same events at the same
//! times give the same commands, so that any failure can be repeated. No wire format is known here.

pub mod agent;
mod alarms;
pub mod master;
pub mod model;
pub mod mutants;
pub mod volumes;
pub mod workloads;

pub use agent::Agent;
pub use master::Master;
