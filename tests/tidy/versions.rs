//! Libraries whose types cross our crates are linked once.
//!
//! Two versions of Arrow compile, and then refuse each other's batches with errors that name the same type twice.

use anyhow::{Result, ensure};
use std::fs;

const ONCE: [&str; 6] = ["arrow-array", "arrow-schema", "datafusion", "object_store", "prost", "tonic"];

#[test]
fn shared_libraries_are_locked_to_one_version() -> Result<()> {
    let lock = fs::read_to_string(crate::root().join("Cargo.lock"))?;
    let mut wrong = Vec::new();
    for name in ONCE {
        let versions: Vec<&str> = lock
            .split("[[package]]")
            .filter(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))
            .filter_map(|package| package.lines().find_map(|line| line.strip_prefix("version = ")))
            .collect();
        if versions.len() != 1 {
            wrong.push(format!("{name}: {versions:?}"));
        }
    }
    ensure!(wrong.is_empty(), "Cargo.lock must have exactly one version of each: {}", wrong.join("; "));
    Ok(())
}
