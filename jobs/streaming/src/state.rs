//! Keyed state at rest: who owns a key, the files that a checkpoint leaves, and what memory has no room for.
//!
//! Invariant: nothing here depends on a release of Arrow, DataFusion or a CPU: the hash of a key and the frame of a
//! file are our own and fixed by golden tests.

pub mod file;
pub mod hash;
pub mod spill;
