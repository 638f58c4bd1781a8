//! Training runs: what each was told to do, how it went step by step, and how it ended.
//!
//! ```text
//! runs/NAME-SUBMISSION/run.json                 settings, outcome, versions, the last figures
//! runs/NAME-SUBMISSION/points.jsonl             figures by step, rising, thinned to a few thousand
//! runs/NAME-SUBMISSION/evaluations.jsonl        what checkpoints were worth, where an evaluator judged them
//! runs/NAME-SUBMISSION/events.out.tfevents.…    the same for TensorBoard
//! ```
//!
//! One run is one submission of a training job, over all its generations. The runner writes them (`smack run` its own), the API
//! and the CLI read them.
//!
//! Invariant: a run takes a bounded place however long it is, and there is a bounded number of them. `run.json` is replaced as a
//! whole; what a crash cuts off of the other files is left out when they are read.

mod compare;
mod events;
mod recorder;

pub use compare::{compare, curve};
pub use recorder::Recorder;

use crate::server::owner::chain;
use crate::view::{EvaluationView, PointView, RunDetail, RunView};
use jobs::TrainBody;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const RUN: &str = "run.json";
const POINTS: &str = "points.jsonl";
const EVALUATIONS: &str = "evaluations.jsonl";

/// Runs that are kept; of those that are over the oldest go first.
const RUNS_KEPT: usize = 1_000;

/// What happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    Began(Box<Began>),
    Point(PointView),
    /// By the evaluator, which is behind the training.
    Evaluated(EvaluationView),
    ModelWritten {
        version: u64,
    },
    /// `outcome`: "finished", "paused" (a trial of a sweep, which may go on), "stopped" or "failed".
    Ended {
        at_ms: u64,
        outcome: &'static str,
        error: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Began {
    pub at_ms: u64,
    pub job: String,
    pub model: String,
    pub submission: String,
    pub workers: u32,
    pub settings: BTreeMap<String, String>,
}

/// Name of the run of a submission; no two submissions are called alike.
pub fn name(job: &str, submission: &str) -> String {
    format!("{job}-{submission}")
}

/// Where runs are kept below a data folder.
pub fn runs_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("runs")
}

/// What a training job was told, by the path of each setting; the graph's nodes are one setting each.
pub fn settings(body: &TrainBody) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let value = serde_json::to_value(body).unwrap_or(Value::Null);
    for (name, value) in value.as_object().into_iter().flatten() {
        // The tables are as long as the job file, and where it lay changes nothing.
        if !["sql", "base_dir"].contains(&name.as_str()) {
            flatten(name, value, &mut settings);
        }
    }
    settings
}

fn flatten(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, settings))
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| {
                settings.insert(format!("{path}.{at}"), item.to_string());
            });
        }
        Value::Array(items) if items.is_empty() => {}
        Value::String(text) => drop(settings.insert(path.to_string(), text.clone())),
        other => drop(settings.insert(path.to_string(), other.to_string())),
    }
}

/// All runs, the newest first.
pub fn list(runs_dir: &Path) -> Result<Vec<RunView>, String> {
    let failed = |error: &io::Error| format!("read the runs in {}: {}", runs_dir.display(), chain(error));
    let entries = match fs::read_dir(runs_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut runs = Vec::new();
    for entry in entries {
        let folder = entry.map_err(|error| failed(&error))?.path();
        // One that is just being made has no file yet.
        if folder.join(RUN).exists() {
            runs.push(read(&folder)?);
        }
    }
    runs.sort_by(|one, other| (other.started_ms, &other.id).cmp(&(one.started_ms, &one.id)));
    Ok(runs)
}

/// The run of this name, or the only one whose name begins or ends so.
pub fn find(runs_dir: &Path, name: &str) -> Result<RunDetail, String> {
    let runs = list(runs_dir)?;
    let means = |run: &&RunView| run.id.starts_with(name) || run.id.ends_with(name);
    let exact = runs.iter().find(|run| run.id == name);
    let run = match (exact, runs.iter().filter(means).collect::<Vec<_>>().as_slice()) {
        (Some(run), _) => run,
        (None, [run]) => run,
        (None, []) => {
            let near = jobs::text::nearest(name, runs.iter().map(|run| run.id.as_str()));
            return Err(match near {
                Some(near) => format!("there is no run '{name}'; did you mean '{near}'?"),
                None => format!("there is no run '{name}'; `smack runs ls` lists them"),
            });
        }
        (None, many) => {
            let names: Vec<&str> = many.iter().map(|run| run.id.as_str()).collect();
            return Err(format!("'{name}' may be any of {}", names.join(", ")));
        }
    };
    let folder = runs_dir.join(&run.id);
    Ok(RunDetail { points: lines(&folder, POINTS)?, evaluations: lines(&folder, EVALUATIONS)?, run: run.clone() })
}

fn read(folder: &Path) -> Result<RunView, String> {
    let path = folder.join(RUN);
    let bytes = fs::read(&path).map_err(|error| format!("read {}: {}", path.display(), chain(&error)))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("understand {}: {error}", path.display()))
}

/// The lines of a file of the run.
fn lines<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<Vec<T>, String> {
    let path = folder.join(file);
    match fs::read_to_string(&path) {
        // The last line may be half of one.
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("read {}: {}", path.display(), chain(&error))),
    }
}

/// Makes room for another run.
fn prune(runs_dir: &Path, kept: usize) -> Result<(), String> {
    let over = list(runs_dir)?.into_iter().filter(|run| run.ended_ms.is_some()).skip(kept);
    for run in over {
        let folder = runs_dir.join(&run.id);
        fs::remove_dir_all(&folder).map_err(|error| format!("remove {}: {}", folder.display(), chain(&error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
