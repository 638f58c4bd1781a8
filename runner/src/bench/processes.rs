//! The processes of a cluster under measurement.

use crate::dev::{DevConfig, Tree};
use anyhow::Context;
use std::path::Path;

/// A cluster of one agent with two cores, in a folder.
pub async fn two_cores(folder: &Path) -> anyhow::Result<Tree> {
    let config = DevConfig {
        data_dir: folder.join("dev"),
        agents: 1,
        cpus_per_agent: Some(2.0),
        isolation: "off",
        listen_port: 0,
        kafka_port: None,
        token_file: None,
        secrets: None,
    };
    Tree::start(&config).await
}

/// The processes of the tasks whose plans lie in this folder.
pub fn task_pids(data_dir: &Path) -> anyhow::Result<Vec<u32>> {
    let folder = data_dir.display().to_string();
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").context("failed to read /proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let mut words = line.split(|byte| *byte == 0);
        let is_task = words.nth(1) == Some(b"task");
        if is_task && words.any(|word| String::from_utf8_lossy(word).starts_with(&folder)) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Proportional set size of some processes, in MB: memory that they share is counted once.
pub fn pss_mb(pids: impl IntoIterator<Item = (String, u32)>) -> anyhow::Result<f64> {
    let mut kilobytes = 0.0;
    for (name, pid) in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path} of {name}"))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("Pss:")).context("failed to find Pss in smaps_rollup")?;
        kilobytes += line.trim().trim_end_matches(" kB").trim().parse::<f64>()?;
    }
    Ok(kilobytes * 1024.0 / 1e6)
}
