//! Keyed state at rest: who owns a key, the files that a checkpoint leaves, how a chain of them becomes one state, and what
//! memory has no room for.
//!
//! Invariant: nothing here depends on a release of Arrow, DataFusion or a CPU: the hash of a key and the frame of a
//! file are our own and fixed by golden tests.

pub mod chain;
pub mod file;
pub mod hash;
pub mod hashes;
pub mod spill;
