//! Which crate of the workspace may know which.
//!
//! Invariant: the list below is the one in ARCHITECTURE.md; normal dependencies only, as tests may reach further.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;

/// A crate, and the crates of the workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 13] = [
    ("jobs", &[]),
    ("wire", &[]),
    ("scheduler", &["jobs"]),
    ("connectors", &["jobs", "objects", "tls"]),
    ("objects", &[]),
    ("tables", &["jobs"]),
    ("broker", &[]),
    ("streaming", &["connectors", "jobs", "objects", "tls"]),
    ("training", &["connectors", "jobs", "tls"]),
    ("daemon", &["jobs", "objects", "scheduler", "tls", "wire"]),
    (
        "runner",
        &[
            "broker",
            "connectors",
            "daemon",
            "jobs",
            "objects",
            "scheduler",
            "streaming",
            "tables",
            "tls",
            "training",
            "wire",
        ],
    ),
    ("tests", &[]),
    ("tls", &[]),
];

#[test]
fn dependencies_between_our_crates_are_the_agreed_ones() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(crate::root())
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;

    let ours = |name: &str| packages.iter().any(|package| package["name"] == name);
    let mut offending = Vec::new();
    for package in packages {
        let from = package["name"].as_str().context("a package has no name")?;
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
            offending.push(format!("{from} is not in the list of crates"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"].is_null() && ours(to) && !allowed.contains(&to) {
                offending.push(format!("{from} -> {to}"));
            }
        }
    }
    ensure!(
        offending.is_empty(),
        "arrows that ARCHITECTURE.md does not have (turn them round, or change the page and the list): {}",
        offending.join(", ")
    );
    Ok(())
}
