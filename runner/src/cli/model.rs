//! Verbs for the model registry.

mod exchange;

use super::exit::{BAD_INPUT, Fail, Result};
use super::human::{day_and_clock, duration, now_ms};
use super::output::{Output, table};
use crate::client::Client;
use crate::view::{ModelDetail, ModelView};
use clap::Subcommand;
use jobs::text::model_reference;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// List the versions of all models, or of one.
    Ls { model: Option<String> },
    /// Say where a version comes from: job, rows, settings, commit; and what its aliases meant before.
    Show {
        /// A model as a query calls it: NAME, NAME@VERSION or NAME@ALIAS.
        model: String,
    },
    /// Make an alias mean a version; streams that score by it go over to that version at their next checkpoint.
    Promote {
        model: String,
        version: u64,
        /// `production` is what a query means that names no version.
        #[arg(long, default_value = "production")]
        alias: String,
    },
    /// Make an alias mean again what it meant before.
    Rollback {
        model: String,
        #[arg(long, default_value = "production")]
        alias: String,
    },
    /// Write a version as an ONNX file, with what its columns are made into.
    Export {
        /// A model as a query calls it: NAME, NAME@VERSION or NAME@ALIAS.
        model: String,
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The file reads what the layers read: normalised numbers and ids, not columns.
        #[arg(long)]
        prepared: bool,
    },
    /// Take a model of another program over as the next version of a model.
    Import(exchange::ImportArgs),
    /// Remove a version that no alias means and no job scores with.
    Rm { model: String, version: u64 },
}

pub async fn model(client: &Client, output: Output, verb: ModelVerb) -> Result<()> {
    match verb {
        ModelVerb::Ls { model } => {
            let models = match &model {
                Some(model) => client.versions(model).await?.models,
                None => client.models().await?.models,
            };
            if models.is_empty() && !output.json {
                output.progress("no models: none has been trained yet");
            }
            output.either(&models, |models| list(models, now_ms()))
        }
        ModelVerb::Show { model } => {
            let (name, which) = reference(&model)?;
            output.either(&client.model(name, which).await?, show)
        }
        ModelVerb::Export { model, to, prepared } => {
            let (name, which) = reference(&model)?;
            let package = client.package(name, which).await?;
            exchange::export(output, &package, &to, prepared)
        }
        ModelVerb::Import(args) => {
            let package = exchange::import(&args)?;
            let published = client.publish(&args.name, package).await?;
            output.either(&published, |published| {
                format!("{} is version {} of {}\n", args.file.display(), published.version, published.model)
            })
        }
        ModelVerb::Promote { model, version, alias } => {
            let promoted = client.promote(&model, &alias, version).await?;
            output.either(&promoted, |promoted| format!("{alias} of {model} is version {}\n", promoted.version))
        }
        ModelVerb::Rollback { model, alias } => {
            let promoted = client.rollback(&model, &alias).await?;
            output.either(&promoted, |promoted| format!("{alias} of {model} is version {} again\n", promoted.version))
        }
        ModelVerb::Rm { model, version } => {
            client.remove_version(&model, version).await?;
            if output.json { Ok(()) } else { output.line(&format!("removed version {version} of {model}")) }
        }
    }
}

/// Name, and what the API calls the version.
fn reference(model: &str) -> Result<(&str, &str)> {
    let (name, which) = model_reference(model);
    if name.is_empty() || which == Some("") {
        let text = format!("'{model}' is no model: it is NAME, NAME@VERSION or NAME@ALIAS");
        return Err(Fail::new(BAD_INPUT, text));
    }
    Ok((name, which.unwrap_or("-")))
}

fn list(models: &[ModelView], now_ms: u64) -> String {
    table(
        ["MODEL", "VERSION", "ALIASES", "METRICS", "ROWS", "JOB", "MADE", "USED BY"],
        models.iter().map(|model| {
            [
                model.model.clone(),
                model.version.to_string(),
                or_dash(model.aliases.join(", ")),
                or_dash(metrics(model)),
                model.rows.to_string(),
                model.job.clone(),
                format!("{} ago", duration(now_ms.saturating_sub((model.created_us / 1000).max(0) as u64))),
                or_dash(model.used_by.join(", ")),
            ]
        }),
    )
}

fn metrics(model: &ModelView) -> String {
    model.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_string() } else { text }
}

/// What is known of a version, a line each; lists and tables of numbers are in the JSON.
fn show(detail: &ModelDetail) -> String {
    let ModelDetail { model, manifest, changes, .. } = detail;
    let mut lines = vec![
        ("model", format!("{} version {}", model.model, model.version)),
        ("aliases", or_dash(model.aliases.join(", "))),
        ("used by", or_dash(model.used_by.join(", "))),
        ("metrics", or_dash(metrics(model))),
        ("job", model.job.clone()),
    ];
    let at = |path: &str| manifest.pointer(path).filter(|value| !value.is_null());
    let text = |path: &str| at(path).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_string));
    for (name, path) in [
        ("generation", "/generation"),
        ("submission", "/lineage/submission"),
        ("commit", "/lineage/git_commit"),
        ("rows", "/rows"),
        ("held out", "/rows_held_out"),
        ("data digest", "/lineage/data_digest"),
        ("weights digest", "/weights_digest"),
        ("steps", "/steps"),
        ("seed", "/seed"),
        ("seconds", "/seconds"),
        ("label", "/label"),
    ] {
        lines.extend(text(path).filter(|text| !text.is_empty()).map(|text| (name, text)));
    }
    lines.push(("features", model.features.join(", ")));
    if let Some(through_us) = model.trained_through_us {
        lines.push(("trained through", day_and_clock(through_us / 1000)));
    }
    lines.extend(text("/lineage/train_query").filter(|text| !text.is_empty()).map(|query| ("query", one_line(&query))));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut shown: String = lines.iter().map(|(name, text)| format!("{name:<width$}  {text}\n")).collect();
    for change in changes.iter().rev() {
        let what = match change.promoted {
            Some(version) => format!("became version {version}"),
            None => "was rolled back".to_string(),
        };
        shown.push_str(&format!("{} {} {what}\n", day_and_clock(change.at_ms), change.alias));
    }
    shown
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::AliasChange;
    use std::collections::BTreeMap;

    fn version() -> ModelView {
        ModelView {
            model: "fraud".to_string(),
            version: 3,
            rows: 5_000,
            features: vec!["amount".to_string(), "n".to_string()],
            metrics: BTreeMap::from([("auc".to_string(), 0.91234)]),
            aliases: vec!["production".to_string()],
            job: "fraud/model".to_string(),
            created_us: 1_000_000,
            used_by: vec!["fraud/scores".to_string()],
            ..ModelView::default()
        }
    }

    #[test]
    fn versions_are_listed_with_who_means_and_uses_them() {
        let shown = list(&[version()], 61_000);
        let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row.join(" "), "fraud 3 production auc 0.9123 5000 fraud/model 1m 0s ago fraud/scores", "{shown}");
    }

    #[test]
    fn a_version_says_where_it_comes_from() {
        let manifest = serde_json::json!({
            "steps": 30, "rows": 5000,
            "lineage": {"submission": "", "git_commit": "abc", "train_query": "SELECT *\n  FROM rows", "data_digest": "00ff"},
        });
        let changes = vec![
            AliasChange { alias: "production".to_string(), at_ms: 0, promoted: Some(2) },
            AliasChange { alias: "production".to_string(), at_ms: 0, promoted: None },
        ];
        let shown = show(&ModelDetail { model: version(), manifest, changes, evaluation: None });
        for line in ["commit       abc", "query        SELECT * FROM rows", "steps        30"] {
            assert!(shown.lines().any(|found| found.trim_end() == line), "{line} in\n{shown}");
        }
        assert!(!shown.contains("submission"), "{shown}");
        assert!(shown.trim_end().ends_with("production became version 2"), "{shown}");
    }
}
