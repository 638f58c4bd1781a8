//! Where a demo runs: on a cluster of its own that ends with it, or on one that is there, of which it takes what it started.

use super::DemoConfig;
use crate::client::Client;
use crate::dev::{DevConfig, Tree};
use anyhow::Context;
use std::path::Path;
use std::time::Duration;

/// The shipped targets, where the current folder has no `smack.toml`.
const TARGETS: &str = include_str!("../../../examples/smack.toml");

pub enum Home {
    Ours(Tree),
    Theirs { runner: String },
}

/// The demo's file with what the target says.
pub fn text(sql: &str, target: Option<&str>) -> anyhow::Result<String> {
    let Some(target) = target else { return Ok(sql.to_string()) };
    if Path::new("smack.toml").is_file() {
        return crate::target::applied(sql, "fraud.sql", Path::new("."), target);
    }
    let settings = crate::target::settings(TARGETS, target).context("failed to find a target of the examples")?;
    Ok(crate::target::behind(sql, &settings, &format!("target {target} of the examples")))
}

impl Home {
    pub async fn find(config: &DemoConfig, data_dir: &Path) -> anyhow::Result<Self> {
        if config.target.is_some() {
            let client = Client::new(config.runner.as_deref(), config.token_file.as_deref())?;
            client.cluster().await.context("failed to find a cluster for the demo's target")?;
            return Ok(Self::Theirs { runner: client.url().to_string() });
        }
        let dev = DevConfig {
            data_dir: data_dir.to_path_buf(),
            agents: 2,
            cpus_per_agent: None,
            isolation: "off",
            listen_port: 0,
            kafka_port: None,
            token_file: None,
            secrets: None,
        };
        Ok(Self::Ours(Tree::start(&dev).await?))
    }

    pub fn client(&self, config: &DemoConfig) -> anyhow::Result<Client> {
        match self {
            Self::Ours(tree) => Ok(Client::new(Some(&tree.runner), None)?),
            Self::Theirs { runner } => Ok(Client::new(Some(runner), config.token_file.as_deref())?),
        }
    }

    pub fn said(&self, after: Duration) -> String {
        match self {
            Self::Ours(tree) => format!(
                "a master, two agents and a runner are up in {:.1} s; page and API: {}",
                after.as_secs_f64(),
                tree.runner
            ),
            Self::Theirs { runner } => format!("on the cluster of {runner}"),
        }
    }

    /// Starts members again that have ended; says so.
    pub fn supervise(&mut self) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Ours(tree) => tree.supervise(),
            Self::Theirs { .. } => Ok(Vec::new()),
        }
    }

    pub async fn end(self, client: &Client, group: &str) {
        match self {
            Self::Ours(tree) => tree.end().await,
            Self::Theirs { .. } => {
                if let Err(error) = client.stop(group).await {
                    eprintln!("{group} could not be stopped: {error}; try: smack stop {group}");
                }
            }
        }
    }
}
