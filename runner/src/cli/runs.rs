//! Verbs for the history of training runs.

use super::exit::Result;
use super::human::{day_and_clock, duration, now_ms, rate};
use super::output::{Output, table};
use crate::client::Client;
use crate::view::{ComparisonView, RunDetail, RunView};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum RunsVerb {
    /// List training runs, the newest first.
    Ls {
        /// Only those of this model, job or group.
        subject: Option<String>,
    },
    /// Show one run: settings, how its loss fell, how it ended.
    Show {
        /// As `smack runs ls` lists it, or the beginning or end of that.
        run: String,
    },
    /// Hold runs against each other: the settings in which they differ, their last figures and their curves.
    Compare {
        #[arg(required = true, num_args = 2.., value_name = "RUN")]
        runs: Vec<String>,
    },
}

pub async fn runs(client: &Client, output: Output, verb: RunsVerb) -> Result<()> {
    match verb {
        RunsVerb::Ls { subject } => {
            let mut view = client.runs().await?;
            if let Some(subject) = &subject {
                let group = format!("{subject}/");
                view.runs.retain(|run| run.model == *subject || run.job == *subject || run.job.starts_with(&group));
            }
            if view.runs.is_empty() && !output.json {
                output.progress("no runs: nothing has been trained yet");
            }
            output.either(&view, |view| list(&view.runs, now_ms()))
        }
        RunsVerb::Show { run } => output.either(&client.run(&run).await?, |detail| show(detail, now_ms())),
        RunsVerb::Compare { runs } => output.either(&client.compare(&runs).await?, compared),
    }
}

fn list(runs: &[RunView], now_ms: u64) -> String {
    table(
        ["RUN", "JOB", "MODEL", "OUTCOME", "STEPS", "LOSS", "METRIC", "VERSIONS", "STARTED", "TOOK"],
        runs.iter().map(|run| {
            [
                run.id.clone(),
                run.job.clone(),
                run.model.clone(),
                run.outcome.clone(),
                format!("{}/{}", run.last.step, run.last.steps_total),
                figure(run.last.loss),
                metric(run),
                versions(run),
                format!("{} ago", duration(now_ms.saturating_sub(run.started_ms))),
                took(run, now_ms),
            ]
        }),
    )
}

fn show(detail: &RunDetail, now_ms: u64) -> String {
    let RunDetail { run, points, evaluations } = detail;
    let losses = || points.iter().filter_map(|point| point.loss);
    let (low, high) =
        losses().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)));
    let mut lines = vec![
        ("run", run.id.clone()),
        ("job", run.job.clone()),
        ("model", format!("{}, versions {}", run.model, versions(run))),
        ("outcome", run.outcome.clone()),
        ("started", day_and_clock(run.started_ms as i64)),
        ("took", took(run, now_ms)),
        ("workers", run.workers.to_string()),
        ("steps", format!("{} of {}, epoch {}", run.last.step, run.last.steps_total, run.last.epoch)),
        ("metric", metric(run)),
        ("learning rate", figure(run.last.learning_rate)),
        ("speed", format!("{} rows", rate(run.last.rows_per_second))),
        ("loss", figure(run.last.loss)),
    ];
    if high.is_finite() {
        lines.push(("", format!("{} {high:.4} to {low:.4}", crate::runs::curve(points, low, high))));
    }
    lines.extend(evaluations.last().map(|last| {
        let metrics: Vec<String> = last.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        ("evaluated", format!("{} times, last at step {}: {}", evaluations.len(), last.step, metrics.join(", ")))
    }));
    lines.extend(run.error.iter().map(|error| ("error", error.clone())));
    let mut shown: String = lines.iter().map(|(name, text)| format!("{name:<13}  {text}\n")).collect();
    shown.push('\n');
    let settings = run.settings.iter().map(|(name, value)| [name.clone(), value.clone()]);
    shown.push_str(&table(["SETTING", "VALUE"], settings));
    shown
}

fn compared(view: &ComparisonView) -> String {
    let ends = view.runs.iter().zip(&view.curves).map(|(run, curve)| {
        [
            run.id.clone(),
            run.outcome.clone(),
            run.last.step.to_string(),
            figure(run.last.loss),
            metric(run),
            rate(run.last.rows_per_second),
            curve.clone(),
        ]
    });
    let mut shown = table(["RUN", "OUTCOME", "STEP", "LOSS", "METRIC", "ROWS", "LOSS BY STEP"], ends);
    shown.push('\n');
    if view.settings.is_empty() {
        shown.push_str("they were told the same\n");
        return shown;
    }
    let differences = view.settings.iter().flat_map(|setting| {
        view.runs.iter().zip(&setting.values).enumerate().map(|(at, (run, value))| {
            let name = if at == 0 { setting.name.clone() } else { String::new() };
            [name, run.id.clone(), value.clone().unwrap_or_else(|| "-".to_string())]
        })
    });
    shown.push_str(&table(["SETTING", "RUN", "VALUE"], differences));
    shown
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or("-".to_string(), |figure| {
        if figure.abs() < 1e-3 && figure != 0.0 { format!("{figure:.2e}") } else { format!("{figure:.4}") }
    })
}

fn metric(run: &RunView) -> String {
    run.last.metric.map_or("-".to_string(), |metric| format!("{} {metric:.4}", run.last.metric_name))
}

fn versions(run: &RunView) -> String {
    match run.versions.is_empty() {
        true => "-".to_string(),
        false => run.versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn took(run: &RunView, now_ms: u64) -> String {
    duration(run.ended_ms.unwrap_or(now_ms).saturating_sub(run.started_ms))
}
