//! The queries of Nexmark over two files of JSON lines, or of Parquet, read side by side, or over the generator inside the
//! job: thousand events per second.
//!
//! Invariant: a figure is of the streaming operators alone, from start to the last row in a blackhole, on two slices and
//! without checkpoints; DataFusion's own batch engine answers the same query over the same files beside it. A query that
//! does not run is told with its reason, and has no figure.

pub(super) mod generated;
pub(super) mod input;
mod parquet;
pub(super) mod queries;

use super::{Figure, median};
use anyhow::{Context as _, anyhow, bail};
use futures::StreamExt;
use input::Input;
use queries::{QUERIES, Query};
use std::path::Path;
use std::time::Instant;
use streaming::batch::{self, BatchContext};
use streaming::dataflow::Dataflow;
use streaming::functions::Functions;
use streaming::runtime::Outcome;
use streaming::runtime::local::{self, LocalConfig};
use streaming::runtime::store::Folder;

/// As many events as the goals were set for.
pub const EVENTS: u64 = 1_000_000;
/// Enough for some seconds, each of which has a checkpoint.
const CHECKPOINTED_EVENTS: u64 = 20_000_000;

/// Slices of the stream, and threads of the batch query.
const THREADS: u32 = 2;

/// Where the events come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    #[default]
    Files,
    Generator,
    Checkpointed,
    Parquet,
}

pub async fn measure(events: Option<u64>, from: From) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-nexmark-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let here = folder.clone();
    let events = events.unwrap_or(if from == From::Checkpointed { CHECKPOINTED_EVENTS } else { EVENTS });
    let result = tokio::task::spawn_blocking(move || {
        std::fs::write(here.join("side_input.csv"), queries::SIDE_INPUT)?;
        match from {
            From::Files => over_files(&here, events),
            From::Parquet => parquet::measure(&here, events),
            From::Generator => Ok(generated::measure(&here, events, THREADS)),
            From::Checkpointed => Ok(generated::measure_checkpointed(&here, events, THREADS)),
        }
    });
    let result = result.await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

fn over_files(folder: &Path, events: u64) -> anyhow::Result<Vec<Figure>> {
    let input = input::kept(events)?;
    eprintln!(
        "{events} events of {} bytes in {}; streaming operators on {THREADS} slices, no checkpoints",
        input.bytes / events.max(1),
        input.folder.display()
    );
    let mut figures = Vec::new();
    for query in &QUERIES {
        let text = queries::over_files(query.text, &input.folder, input::PATTERN)?;
        match streamed(&text, folder) {
            Ok(seconds) => figures.push(figure(query, "two JSON files", &text, folder, &input, seconds)),
            Err(why) => eprintln!("{} is left out: {why:#}", query.name),
        }
    }
    Ok(figures)
}

fn figure(query: &Query, files: &str, text: &str, folder: &Path, input: &Input, seconds: f64) -> Figure {
    let rate = |seconds: f64| input.events as f64 / seconds / 1000.0;
    let figure =
        Figure::higher("nexmark", format!("{}: streamed from {files}", query.name), rate(seconds), "k/s", query.goal);
    match typical(|| in_batch(text, folder)) {
        Ok(seconds) => figure.beside("DataFusion, batch", rate(seconds)),
        Err(why) => {
            eprintln!("{} has no batch answer: {why:#}", query.name);
            figure
        }
    }
}

/// The first reading of a file is slower than the next ones, and a machine is not equally fast all the time.
const ROUNDS: usize = 3;

/// The median of some rounds, in seconds.
fn typical(round: impl Fn() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    Ok(median((0..ROUNDS).map(|_| round()).collect::<anyhow::Result<_>>()?))
}

/// Seconds from the start of the job to its end.
fn streamed(text: &str, folder: &Path) -> anyhow::Result<f64> {
    typical(|| streamed_flow(generated::planned(text)?, folder, None))
}

/// With a checkpoint each second where there is a folder for them.
fn streamed_flow(dataflow: Dataflow, folder: &Path, checkpoints: Option<&Path>) -> anyhow::Result<f64> {
    let mut config = LocalConfig::new("bench/nexmark", folder.to_path_buf(), folder.join("dead-letter"));
    config.slices = THREADS;
    config.checkpoint_interval_ms = if checkpoints.is_some() { 1_000 } else { 0 };
    config.checkpoints = checkpoints.map(Folder::local).transpose()?;
    let started = Instant::now();
    let run = local::run(dataflow, config)?;
    let notices = run.notices.clone();
    let outcome = run.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    for (_, text) in notices.try_iter() {
        eprintln!("{text}");
    }
    if outcome != Outcome::Finished {
        bail!("it ended before its input: {outcome:?}");
    }
    Ok(seconds)
}

/// Seconds until DataFusion has answered the query.
fn in_batch(text: &str, folder: &Path) -> anyhow::Result<f64> {
    let script = streaming::sql::parse(text).map_err(told)?;
    let (_, insert) = script.inserts().next().context("there is no INSERT")?;
    let (from, to) = insert.query.span;
    let query = &script.text()[from..to];
    let mut open = BatchContext::new(input::context(folder));
    open.target_partitions = THREADS as usize;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS as usize).enable_all().build()?;
    let started = Instant::now();
    runtime.block_on(async {
        let mut rows = batch::query(&script, query, &Functions::new(), open).await?;
        while let Some(batch) = rows.next().await {
            batch?;
        }
        anyhow::Ok(())
    })?;
    Ok(started.elapsed().as_secs_f64())
}

pub(super) fn told(wrong: Vec<jobs::Diagnostic>) -> anyhow::Error {
    let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    anyhow!(all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_read_from_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let events = 2_500;
        let input = input::write(events, folder.path()).expect("the files are written");
        let lines = |at: usize| -> Vec<String> {
            let text = std::fs::read_to_string(folder.path().join(input::FILES[at])).expect("a file");
            text.lines().map(str::to_owned).collect()
        };
        // Fifty to the one, fifty to the other; each block begins with its person.
        assert_eq!((lines(0).len(), lines(1).len()), (1250, 1250));
        assert!(lines(1)[0].starts_with(r#"{"event_type":0,"person":{"id":1001,"#), "{}", lines(1)[0]);
        assert!(lines(0)[50].contains(r#""id":1002,"#) && lines(0)[50].contains(r#""auction":null"#));
        assert!((310..350).contains(&(input.bytes / events)), "{} bytes an event", input.bytes / events);
        std::fs::write(folder.path().join("side_input.csv"), queries::SIDE_INPUT).expect("a file");
        for query in &QUERIES {
            let text = queries::over_files(query.text, folder.path(), input::PATTERN).expect("a query over files");
            if query.name != "q12" {
                in_batch(&text, folder.path()).unwrap_or_else(|why| panic!("{}: {why:#}", query.name));
            }
            if ["q0", "q2", "q22"].contains(&query.name) {
                streamed(&text, folder.path()).unwrap_or_else(|why| panic!("{}: {why:#}", query.name));
            }
        }
    }
}
