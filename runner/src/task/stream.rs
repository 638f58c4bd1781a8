//! A stream task: plans its own SQL, restores what the manifest names, runs until it is told to end.

use super::Failure;
use super::link::Link;
use crate::server::convert;
use crate::server::owner::chain;
use crossbeam_channel::Receiver;
use daemon::door::Token;
use jobs::{StreamBody, TaskPlan};
use std::path::{Path, PathBuf};
use streaming::control::Order;
use streaming::coordinator::manifest;
use streaming::dataflow::Dataflow;
use streaming::functions::Versions;
use streaming::runtime::{self, Folder, TaskConfig, local};

/// Reports between the task and its line: the line takes them at once, so this only evens out bursts.
const REPORTS_MAX: usize = 64;

pub fn run(
    plan: &TaskPlan,
    body: &StreamBody,
    token: Option<&Token>,
    orders: Receiver<Order>,
    link: &Link,
) -> Result<(), Failure> {
    let checkpoints = Folder::open(&plan.checkpoint_dir).map_err(|error| Failure::Passing(chain(&error)))?;
    // A task runs in its sandbox.
    let sandbox = std::env::current_dir()
        .map_err(|error| Failure::Passing(format!("find the folder that the task runs in: {error}")))?;
    let restore = match plan.restore_epoch {
        None => None,
        Some(epoch) => Some(read_manifest(&checkpoints, epoch)?),
    };
    let mut versions = plan.versions.clone();
    versions.extend(restore.iter().flat_map(|manifest| manifest.versions.clone()));
    crate::continuous::publish_into(Path::new(&plan.model_dir));
    let dataflow = dataflow(body, Path::new(&plan.model_dir), &versions)?;
    let config = TaskConfig {
        job: crate::book::run_name(&plan.job, &plan.submission),
        generation: plan.generation,
        claimed_us: plan.claimed_us,
        life: plan.life,
        begun_us: plan.begun_us,
        index: plan.index,
        slices: plan.slices,
        peers: plan.peers.clone(),
        listener: None,
        checkpoints,
        restore,
        base_dir: PathBuf::from(&body.base_dir),
        tables_endpoint: Some(plan.runner.clone()),
        token: token.map(|token| token.reveal().to_string()),
        dead_letter_dir: PathBuf::from(&plan.dead_letter_dir),
        state_memory: body.state_memory_bytes.unwrap_or(local::STATE_MEMORY),
        spill_dir: sandbox.join("spill"),
        connectors: connectors::find,
    };
    let (reports, said) = crossbeam_channel::bounded(REPORTS_MAX);
    let speaker = {
        let link = link.clone();
        std::thread::Builder::new().name("reports".to_string()).spawn(move || {
            for report in said {
                match convert::stream_report_to_wire(&report) {
                    Ok(report) => link.report(report),
                    Err(error) => tracing::error!(%error, "a report cannot be written down"),
                }
            }
        })
    }
    .map_err(|error| Failure::Passing(format!("start the thread of reports: {error}")))?;
    let outcome = runtime::run_task(dataflow, config, orders, reports, None);
    // It ends when the last report was handed to the line.
    let _ = speaker.join();
    match outcome {
        Ok(outcome) => {
            tracing::info!(?outcome, "task ended");
            Ok(())
        }
        Err(error) => Err(judged(&error)),
    }
}

/// Plans the file again and compares: a task that understands it differently from the desk must not touch its state.
fn dataflow(body: &StreamBody, model_dir: &Path, versions: &Versions) -> Result<Dataflow, Failure> {
    let fatal = |wrong: Vec<jobs::Diagnostic>| {
        let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Failure::Fatal(format!("plan the job's SQL: {}", all.join("; ")))
    };
    let script = crate::functions::parse(&body.sql).map_err(fatal)?;
    let functions = crate::predict::functions(model_dir, &body.models, versions).map_err(Failure::Passing)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Failure::Passing(format!("start a runtime for planning: {error}")))?;
    let dataflow = runtime.block_on(streaming::sql::plan(&script, &body.statements, &functions)).map_err(fatal)?;
    let fingerprint = dataflow.fingerprint();
    if fingerprint != body.fingerprint {
        return Err(Failure::Fatal(format!(
            "start with the plan {fingerprint} where the job was submitted with {}: this agent runs another version of \
             smack; bring both to one version and submit again",
            body.fingerprint
        )));
    }
    Ok(dataflow)
}

fn read_manifest(checkpoints: &Folder, epoch: u64) -> Result<streaming::control::Manifest, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Passing(format!("start a runtime for restoring: {error}")))?;
    runtime
        .block_on(manifest::read(checkpoints, epoch))
        .map_err(|error| Failure::Passing(format!("read checkpoint {epoch}: {}", chain(&error))))
}

/// Whether another generation could do better.
fn judged(error: &runtime::Error) -> Failure {
    let text = chain(error);
    match error {
        runtime::Error::Connector { .. }
        | runtime::Error::Plan { .. }
        | runtime::Error::Manifest { .. }
        | runtime::Error::Operator { .. } => Failure::Fatal(text),
        runtime::Error::Connect { .. }
        | runtime::Error::Peer { .. }
        | runtime::Error::Restore { .. }
        | runtime::Error::Version { .. }
        | runtime::Error::DeadLetters { .. }
        | runtime::Error::Panic { .. }
        | runtime::Error::Threads { .. }
        | runtime::Error::Stopped => Failure::Passing(text),
    }
}
