//! What needs more than one crate: the `tidy` test here, and the end-to-end tests that `runner` declares.
//!
//! Invariant: empty. The tests are targets of their own; nothing depends on this crate.
