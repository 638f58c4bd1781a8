//! The workspace is kept tidy by tests: generated code is up to date, arrows between crates point the agreed way, shared
//! libraries are linked once, and nothing unfinished is left lying about.

mod arrows;
mod codegen;
mod leftovers;
mod versions;

use std::path::PathBuf;

/// The workspace's root directory.
fn root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies in the workspace").to_path_buf()
}
