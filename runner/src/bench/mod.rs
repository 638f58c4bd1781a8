//! `smack bench [SUITE]`: figures of this build on this machine, each with its goal.
//!
//! Invariant: a figure is measured, never assumed; a goal that is a ratio is judged only against a peer or bare loop of
//! the same run.

mod allocator;
mod api;
mod broker;
mod cassandra;
mod decode;
pub mod gang;
mod kafka;
mod latency;
mod launches;
pub mod nexmark;
mod peers;
mod processes;
mod scale;
mod spill;
mod start;
mod state;
mod steps;
mod threads;
mod topics;
mod train;
mod train_start;

use serde::Serialize;
use std::io::Write;

#[derive(Clone, Debug)]
pub struct BenchConfig {
    pub suite: Option<String>,
    /// Also run the peers.
    pub peers: bool,
    /// How many events the Nexmark queries read, and rows those of `spill`, `kafka` and `cassandra`.
    pub events: Option<u64>,
    /// Where suite nexmark's events come from.
    pub source: nexmark::From,
    /// How many keys suite state holds.
    pub keys: Option<u64>,
    /// A running broker that suites `broker` and `latency` measure beside ours.
    pub beside: Option<String>,
    /// The brokers that suite `kafka` reads from and writes to; one of our own where there are none.
    pub brokers: Option<String>,
    /// The node that suite `cassandra` writes to; without one it is left out where all are asked for.
    pub cassandra: Option<String>,
    pub json: bool,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub suite: &'static str,
    pub figure: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Option<f64>,
    /// "lower" or "higher".
    pub better: &'static str,
    /// `None` where there is no goal, or nothing to judge it against.
    pub met: Option<bool>,
    pub peer: Option<String>,
    pub peer_value: Option<f64>,
}

impl Figure {
    fn lower(
        suite: &'static str,
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<f64>,
    ) -> Self {
        let met = goal.map(|goal| value <= goal);
        Self { suite, figure: figure.into(), value, unit, goal, better: "lower", met, peer: None, peer_value: None }
    }

    fn higher(
        suite: &'static str,
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<f64>,
    ) -> Self {
        let met = goal.map(|goal| value >= goal);
        Self { suite, figure: figure.into(), value, unit, goal, better: "higher", met, peer: None, peer_value: None }
    }

    fn beside(mut self, peer: &str, value: f64) -> Self {
        self.peer = Some(peer.to_string());
        self.peer_value = Some(value);
        self
    }
}

pub const SUITES: [&str; 15] = [
    "start",
    "train",
    "gang",
    "decode",
    "nexmark",
    "scale",
    "latency",
    "state",
    "spill",
    "broker",
    "kafka",
    "cassandra",
    "allocator",
    "launches",
    "api",
];

pub async fn bench(config: BenchConfig) -> anyhow::Result<()> {
    let suites: Vec<&str> = match &config.suite {
        None => SUITES.into_iter().filter(|suite| *suite != "cassandra" || config.cassandra.is_some()).collect(),
        Some(suite) => match SUITES.iter().find(|known| *known == suite) {
            Some(known) => vec![known],
            None => anyhow::bail!("failed to find the suite '{suite}': there are {}", SUITES.join(", ")),
        },
    };
    let mut figures = Vec::new();
    for suite in suites {
        eprintln!("suite {suite} …");
        figures.extend(match suite {
            "start" => start::measure().await?,
            "train" => train::measure(config.peers).await?,
            "gang" => gang::measure().await?,
            "decode" => decode::measure().await?,
            "nexmark" => nexmark::measure(config.events, config.source).await?,
            "scale" => scale::measure().await?,
            "latency" => latency::measure(config.beside.clone()).await?,
            "state" => state::measure(config.keys.unwrap_or(state::KEYS)).await?,
            "spill" => spill::measure(config.events.unwrap_or(spill::ROWS)).await?,
            "broker" => broker::measure(config.beside.clone()).await?,
            "allocator" => allocator::measure().await?,
            "launches" => launches::measure().await?,
            "api" => api::measure().await?,
            "cassandra" => {
                cassandra::measure(config.cassandra.clone(), config.events.unwrap_or(cassandra::ROWS)).await?
            }
            "kafka" => kafka::measure(config.brokers.clone(), config.events.unwrap_or(kafka::ROWS)).await?,
            other => unreachable!("suite {other} is listed and not measured"),
        });
    }
    let mut stdout = std::io::stdout().lock();
    if config.json {
        writeln!(stdout, "{}", serde_json::to_string_pretty(&figures)?)?;
    } else {
        for figure in &figures {
            let goal = figure.goal.map_or(String::new(), |goal| {
                // A goal that is a ratio has as many decimals as what was measured.
                let goal = (goal * 1000.0).round() / 1000.0;
                format!("goal {} {goal} {}", if figure.better == "lower" { "≤" } else { "≥" }, figure.unit)
            });
            let met = match figure.met {
                Some(true) => "met",
                Some(false) => "not met",
                None => "",
            };
            let peer = match (&figure.peer, figure.peer_value) {
                (Some(peer), Some(value)) => format!("   {peer}: {value:.3} {}", figure.unit),
                _ => String::new(),
            };
            writeln!(
                stdout,
                "{:<8} {:<44} {:>12.3} {:<8} {:<20} {met}{peer}",
                figure.suite, figure.figure, figure.value, figure.unit, goal
            )?;
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median of nothing was asked for");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
