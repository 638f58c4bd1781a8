//! Hands for the scheduler's machines: sockets, the registry, processes, the sandboxes' logs.
//!
//! Each daemon is one task that owns its machine: it waits for something to happen, tells the machine, and does what
//! the machine asks, in that order. [`master`] and [`agent`] are the two; [`door`] says who may come in, [`client`] how
//! the master is reached, [`convert`] how wire messages become values.
//!
//! Invariant: no decision is taken here that the machines could take.

pub mod agent;
pub mod client;
pub mod clock;
pub mod convert;
pub mod door;
pub mod encrypted;
mod files;
pub mod master;
pub mod metrics;
pub mod registry;
pub mod stop;
