//! What state on disk costs: the same query once with memory for all of its state, and once with a quarter of that.
//!
//! Invariant: the budget is a quarter of what the first run was seen to hold, both runs read the same generated rows on as
//! many slices, and the second one must have had state on disk.

use super::Figure;
use super::nexmark::told;
use anyhow::{Context as _, bail};
use std::path::Path;
use std::time::{Duration, Instant};
use streaming::dataflow::Dataflow;
use streaming::functions::Functions;
use streaming::runtime::Outcome;
use streaming::runtime::local::{self, LocalConfig};

/// Rows that each table has.
pub const ROWS: u64 = 4_000_000;
const SLICES: u32 = 2;

/// State may be this many times as large as its memory.
const TIMES: u64 = 4;

/// Of the speed in memory.
const GOAL_PERCENT: f64 = 25.0;

/// Totals come once a second: with less than this the first of them came when all was over.
const STATE_SEEN: u64 = 1 << 20;

const LOOK_EVERY: Duration = Duration::from_millis(20);

const QUERIES: [(&str, &str); 3] = [
    ("GROUP BY of many keys", "SELECT k, count(*) AS n, sum(v) AS total, max(v) AS best FROM t GROUP BY k"),
    ("join of two streams", "SELECT t.k, t.v, u.v AS w FROM t JOIN u ON t.k = u.k"),
    (
        "windows of many keys",
        "SELECT k, window_end, count(*) AS n, sum(v) AS total FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' \
         HOUR)) GROUP BY k, window_start, window_end",
    ),
];

/// One run of a query.
struct Run {
    seconds: f64,
    /// The most that was seen.
    state_bytes: u64,
    spilled_bytes: u64,
}

pub async fn measure(rows: u64) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-spill-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let here = folder.clone();
    let result = tokio::task::spawn_blocking(move || {
        let figures = QUERIES.iter().map(|(name, query)| figure(name, query, rows, &here));
        figures.filter_map(Result::transpose).collect::<anyhow::Result<Vec<_>>>()
    });
    let result = result.await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

fn figure(name: &str, query: &str, rows: u64, folder: &Path) -> anyhow::Result<Option<Figure>> {
    let dataflow = planned(query, rows)?;
    let all = run(&dataflow, u64::MAX, folder)?;
    if all.state_bytes < STATE_SEEN {
        eprintln!(
            "{name} is left out: it was over in {:.2} s, before its state was seen; more --events help",
            all.seconds
        );
        return Ok(None);
    }
    let budget = all.state_bytes / TIMES;
    let some = run(&dataflow, budget, folder)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    eprintln!(
        "{name}: {:.2} s with {:.0} MiB of state in memory, {:.2} s with a budget of {:.0} MiB ({:.0} held, {:.0} on disk)",
        all.seconds,
        mib(all.state_bytes),
        some.seconds,
        mib(budget),
        mib(some.state_bytes),
        mib(some.spilled_bytes)
    );
    if some.spilled_bytes == 0 {
        bail!("{name} had no state on disk: {rows} rows are too few");
    }
    let share = all.seconds / some.seconds * 100.0;
    let figure = format!("{name}, state {TIMES} times its memory");
    Ok(Some(Figure::higher("spill", figure, share, "%", Some(GOAL_PERCENT))))
}

fn planned(query: &str, rows: u64) -> anyhow::Result<Dataflow> {
    // Every key comes a few times.
    let keys = (rows / 4).max(1);
    let table = |name: &str, seed: u64| {
        format!(
            "CREATE TABLE {name} (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) \
             WITH (connector = 'datagen', rows = {rows}, splits = 2, seed = {seed}, fields.k.min = 0, fields.k.max = {keys}, \
             fields.s.length = 20)"
        )
    };
    let sink = "CREATE TABLE nowhere WITH (connector = 'blackhole')";
    let text = format!("{};{};{sink} AS {query}", table("t", 1), table("u", 2));
    let script = streaming::sql::parse(&text).map_err(told)?;
    let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(streaming::sql::plan(&script, &inserts, &Functions::new())).map_err(told)
}

fn run(dataflow: &Dataflow, state_memory: u64, folder: &Path) -> anyhow::Result<Run> {
    let mut config = LocalConfig::new("bench/spill", folder.to_path_buf(), folder.join("dead-letter"));
    config.slices = SLICES;
    config.checkpoint_interval_ms = 0;
    config.state_memory = state_memory;
    config.spill_dir = folder.join("spill");
    let started = Instant::now();
    let run = local::run(dataflow.clone(), config)?;
    let (mut state_bytes, mut spilled_bytes) = (0, 0);
    let mut is_over = false;
    while !is_over {
        // No rows come here; the queue ends with the job.
        is_over = run.results.recv_timeout(LOOK_EVERY) == Err(crossbeam_channel::RecvTimeoutError::Disconnected);
        let metrics = run.status().metrics;
        state_bytes = state_bytes.max(metrics.state_bytes);
        let spilled: u64 = metrics.operators.iter().map(|operator| operator.spilled_bytes).sum();
        spilled_bytes = spilled_bytes.max(spilled);
    }
    let outcome = run.wait()?;
    if outcome != Outcome::Finished {
        bail!("it ended before its input: {outcome:?}");
    }
    Ok(Run { seconds: started.elapsed().as_secs_f64(), state_bytes, spilled_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_runs_with_a_quarter_of_its_state_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, query) in QUERIES {
            let dataflow = planned(query, 20_000).expect("it is planned");
            let some = run(&dataflow, 64 << 10, folder.path()).unwrap_or_else(|why| panic!("{name}: {why:#}"));
            assert!(some.seconds > 0.0);
        }
    }
}
