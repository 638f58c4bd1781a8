//! Keyed state at rest: who owns a key, and the files that a checkpoint leaves.
//!
//! Invariant: nothing here depends on a release of Arrow, DataFusion or a CPU: the hash of a key and the frame of a
//! file are our own and fixed by golden tests.

pub mod file;
pub mod hash;
