//! Verbs for sweeps.

use super::exit::{FAILED, Fail, Result};
use super::human::{day_and_clock, duration, now_ms};
use super::output::{Output, table};
use super::submit::{read_file, refused};
use crate::client::{self, Client};
use crate::view::{SweepDetail, SweepView, TrialView};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SweepArgs {
    /// A training file with [sweep], or a .sql file whose CREATE MODEL says sweep.… what is tried.
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// Stay until the best trial is published (exit code 0) or the sweep has failed or was stopped (1).
    #[arg(long)]
    wait: bool,
    #[command(subcommand)]
    verb: Option<SweepVerb>,
}

#[derive(Debug, Subcommand)]
pub enum SweepVerb {
    /// List sweeps, the newest first.
    Ls,
    /// Show the trials of a sweep, the best first: what each tries, how far it came, how good it is.
    Show {
        /// As `smack sweep ls` lists it: the group of its trials.
        sweep: String,
    },
    /// Go on with a sweep that was stopped with `smack stop`: each trial from its last checkpoint.
    Resume { sweep: String },
    /// Make an alias mean the model version that was published of the best trial.
    Promote {
        sweep: String,
        /// `production` is what a query means that names no version.
        #[arg(long, default_value = "production")]
        alias: String,
    },
}

pub async fn sweep(client: &Client, output: Output, args: SweepArgs, target: Option<&str>) -> Result<()> {
    match (args.verb, args.file) {
        (None, Some(file)) => begin(client, output, (&file, target), args.wait).await,
        (None, None) => unreachable!("clap asks for a file or a verb"),
        (Some(SweepVerb::Ls), _) => {
            let view = client.sweeps().await?;
            if view.sweeps.is_empty() && !output.json {
                output.progress("no sweeps; begin one with `smack sweep FILE`");
            }
            output.either(&view, |view| list(&view.sweeps, now_ms()))
        }
        (Some(SweepVerb::Show { sweep }), _) => {
            output.either(&client.sweep(&sweep).await?, |detail| show(detail, now_ms()))
        }
        (Some(SweepVerb::Resume { sweep }), _) => {
            client.resume_sweep(&sweep).await?;
            output.either(&client.sweep(&sweep).await?.sweep, |sweep| format!("{}: {}\n", sweep.name, sweep.text))
        }
        (Some(SweepVerb::Promote { sweep, alias }), _) => {
            let SweepView { model, version, text, .. } = client.sweep(&sweep).await?.sweep;
            let Some(version) = version else {
                return Err(Fail::new(FAILED, format!("nothing of sweep '{sweep}' is published: {text}")));
            };
            let promoted = client.promote(&model, &alias, version).await?;
            output.either(&promoted, |promoted| format!("{alias} of {model} is version {}\n", promoted.version))
        }
    }
}

async fn begin(client: &Client, output: Output, (path, target): (&Path, Option<&str>), wait: bool) -> Result<()> {
    let request = read_file(path, target)?;
    let begun = client.begin_sweep(&request).await.map_err(|error| refused(&request, error))?;
    let name = begun.group;
    if !wait {
        let sweep = client.sweep(&name).await?.sweep;
        output
            .either(&sweep, |sweep| format!("{}: {} trials of model {}\n", sweep.name, sweep.n_trials, sweep.model))?;
        output.progress(&format!("see smack sweep show {name}; smack ps {name}; smack stop {name}"));
        return Ok(());
    }
    let detail = wait_for_end(client, output, &name).await?;
    output.either(&detail, |detail| show(detail, now_ms()))?;
    match detail.sweep.state.as_str() {
        "finished" => Ok(()),
        _ => Err(Fail::new(FAILED, format!("sweep {name}: {}", detail.sweep.text))),
    }
}

/// A runner that is away is waited for: trials go on without it.
async fn wait_for_end(client: &Client, output: Output, name: &str) -> Result<SweepDetail> {
    let (mut told, mut away) = (String::new(), false);
    loop {
        match client.sweep(name).await {
            Ok(detail) if detail.sweep.ended_ms.is_some() => return Ok(detail),
            Ok(detail) => {
                away = false;
                if told != detail.sweep.text {
                    output.progress(&format!("{name} {}", detail.sweep.text));
                    told = detail.sweep.text;
                }
            }
            Err(error @ client::Error::Unreachable { .. }) => {
                if !std::mem::replace(&mut away, true) {
                    output.progress(&format!("failed to {error}; waiting for it"));
                }
            }
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn list(sweeps: &[SweepView], now_ms: u64) -> String {
    table(
        [
            "SWEEP",
            "MODEL",
            "ALGORITHM",
            "STATE",
            "TRIALS",
            "RUN",
            "PAUSED",
            "DONE",
            "FAILED",
            "BEST",
            "VERSION",
            "BEGAN",
        ],
        sweeps.iter().map(|sweep| {
            let best = sweep.best.as_ref();
            [
                sweep.name.clone(),
                sweep.model.clone(),
                sweep.algorithm.clone(),
                sweep.state.clone(),
                sweep.n_trials.to_string(),
                sweep.n_running.to_string(),
                sweep.n_paused.to_string(),
                sweep.n_done.to_string(),
                sweep.n_failed.to_string(),
                best.map_or("-".to_string(), |best| {
                    format!("{} {} of trial {}", sweep.metric_name, figure(best.metric), best.number)
                }),
                sweep.version.map_or("-".to_string(), |version| version.to_string()),
                format!("{} ago", duration(now_ms.saturating_sub(sweep.began_ms))),
            ]
        }),
    )
}

fn show(detail: &SweepDetail, now_ms: u64) -> String {
    let SweepDetail { sweep, trials } = detail;
    let rungs: Vec<String> = sweep.rungs.iter().map(|rung| epoch(*rung)).collect();
    let took = duration(sweep.ended_ms.unwrap_or(now_ms).saturating_sub(sweep.began_ms));
    let mut shown = format!(
        "{}: {}\n{} of {}, {} trials at a time, rungs at epochs {}; began {}, took {took}\n",
        sweep.name,
        sweep.text,
        sweep.algorithm,
        sweep.file,
        sweep.parallel,
        rungs.join(", "),
        day_and_clock(sweep.began_ms as i64),
    );
    let mut ranked: Vec<&TrialView> = trials.iter().collect();
    ranked.sort_by(|one, other| {
        let by_metric = match (one.metric, other.metric) {
            (Some(one), Some(other)) if sweep.larger_is_better => other.total_cmp(&one),
            (Some(one), Some(other)) => one.total_cmp(&other),
            (one, other) => other.is_some().cmp(&one.is_some()),
        };
        other.metrics.len().cmp(&one.metrics.len()).then(by_metric)
    });
    shown.push_str(&table(
        ["TRIAL", "STATE", "EPOCHS", &sweep.metric_name.to_uppercase(), "RUN", "TRIES"],
        ranked.into_iter().map(|trial| {
            [
                trial.number.to_string(),
                trial.state.clone(),
                trial.rung.map_or("-".to_string(), epoch),
                figure(trial.metric),
                trial.run.clone().unwrap_or_else(|| "-".to_string()),
                tries(trial),
            ]
        }),
    ));
    shown
}

fn tries(trial: &TrialView) -> String {
    let mut tries: Vec<String> = trial.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    tries.extend(trial.error.as_ref().map(|error| format!("({error})")));
    tries.join(" ")
}

/// A search that counts in steps has no epoch for its end.
fn epoch(rung: u64) -> String {
    if rung == u64::MAX { "end".to_string() } else { rung.to_string() }
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or("-".to_string(), |figure| format!("{figure:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn trials_are_shown_the_best_first() {
        let trial = |number: u64, state: &str, metrics: &[f64]| TrialView {
            number,
            state: state.to_string(),
            rung: [None, Some(1), Some(3)][metrics.len()],
            metric: metrics.last().copied(),
            metrics: metrics.iter().copied().map(Some).collect(),
            settings: BTreeMap::from([("optimizer.learning_rate".to_string(), "0.01".to_string())]),
            ..TrialView::default()
        };
        let sweep = SweepView {
            name: "digits".to_string(),
            metric_name: "accuracy".to_string(),
            larger_is_better: true,
            rungs: vec![1, 3],
            ..SweepView::default()
        };
        let trials = vec![
            trial(1, "paused", &[0.7]),
            trial(2, "failed", &[]),
            trial(3, "done", &[0.8, 0.9]),
            trial(4, "paused", &[0.75]),
        ];
        let shown = show(&SweepDetail { sweep, trials }, 0);
        let rows: Vec<Vec<&str>> = shown.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["TRIAL", "STATE", "EPOCHS", "ACCURACY", "RUN", "TRIES"], "{shown}");
        assert_eq!(rows[1], ["3", "done", "3", "0.9000", "-", "optimizer.learning_rate=0.01"]);
        let order: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
        assert_eq!(order, ["3", "4", "1", "2"]);
    }
}
