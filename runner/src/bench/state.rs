//! What a large state costs: checkpoints while it is worked on, and the time until a killed task goes on with it.
//!
//! The state is a count and a text for each of many keys, about a hundred bytes a key. After it is built, rows touch a small
//! part of the keys that moves on with the clock, so that the same number of different keys is touched in each second,
//! however many rows there are.

use super::Figure;
use super::processes::{task_pids, two_cores};
use super::threads::Spent;
use crate::client::Client;
use crate::dev::Tree;
use crate::view::SubmitRequest;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use streaming::functions::Functions;
use streaming::runtime::local::{self, LocalConfig};
use streaming::runtime::store::Folder;

pub const KEYS: u64 = 10_000_000;
/// Different keys that rows touch within any second: half of them at a time, while these move on by as many a second.
const TOUCHED: u64 = 50_000;
/// Microseconds after which the keys have moved on a little.
const STEP_US: u64 = 10_000;
/// Memory for the state of a task: more than it needs, because an operator that takes more than about a third of its share
/// is cut into pages, which is not what is measured here.
const STATE_GIB: u64 = 8;
/// How long and how often it is measured with checkpoints, and as long without.
const MEASURED: Duration = Duration::from_secs(10);
const TURNS: usize = 3;
/// What a turn has begun in the background may end before the next.
const SETTLE: Duration = Duration::from_secs(1);
const BUILD_WITHIN: Duration = Duration::from_secs(600);

fn query(keys: u64) -> String {
    let at_once = (TOUCHED / 2).min(keys);
    let step = (TOUCHED / 2) * STEP_US / 1_000_000;
    format!(
        "CREATE TABLE rows_made (id BIGINT, at AS PROCTIME()) WITH (connector = 'datagen', rows = '1000000000000', \
         splits = '2', 'fields.id.kind' = 'sequence');\n\
         CREATE TABLE told (key BIGINT, n BIGINT, label VARCHAR) WITH (connector = 'blackhole');\n\
         INSERT INTO told SELECT key, COUNT(*), MAX(label) FROM (\n\
           SELECT key, LPAD(CAST(key AS VARCHAR), 80, '-') AS label FROM (\n\
             SELECT CASE WHEN id < {keys} THEN id\n\
               ELSE (CAST(at AS BIGINT) / {STEP_US} * {step} + id % {at_once}) % {keys} END AS key FROM rows_made\n\
           )\n\
         ) GROUP BY key;\n"
    )
}

pub async fn measure(keys: u64) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-state-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let result = measure_in(&folder, keys).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

async fn measure_in(folder: &Path, keys: u64) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let here = folder.to_path_buf();
    let Rates { without, with } = tokio::task::spawn_blocking(move || rates(&here, keys)).await??;
    let of = format!("{:.0} M keys x 100 bytes", keys as f64 / 1e6);
    figures.push(Figure::higher("state", format!("{of}, without checkpoints"), without / 1000.0, "k rows/s", None));
    figures.push(Figure::higher("state", format!("{of}, a checkpoint each second"), with / 1000.0, "k rows/s", None));
    let loss = (1.0 - with / without) * 100.0;
    figures.push(Figure::lower("state", "loss of throughput by checkpoints", loss, "%", Some(5.0)));
    let recovered = recovery(folder, keys).await?;
    let goal = (keys == KEYS).then_some(3.0);
    figures.push(Figure::lower("state", format!("{of}: SIGKILL of its task to the next row"), recovered, "s", goal));
    Ok(figures)
}

/// Rows per second of one run, once its state is built.
struct Rates {
    without: f64,
    with: f64,
}

/// Without and with checkpoints in turn over the same state, so that neither has the better memory or the warmer machine.
fn rates(folder: &Path, keys: u64) -> anyhow::Result<Rates> {
    let script = streaming::sql::parse(&query(keys)).map_err(super::nexmark::told)?;
    let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let planned = runtime.block_on(streaming::sql::plan(&script, &inserts, &Functions::new()));
    let mut config = LocalConfig::new("bench/state", folder.to_path_buf(), folder.join("dead-letter"));
    config.slices = 2;
    config.checkpoint_interval_ms = 0;
    config.state_memory = STATE_GIB << 30;
    let checkpoints = folder.join("checkpoints");
    config.checkpoints = Some(Folder::local(&checkpoints)?);
    let run = local::run(planned.map_err(super::nexmark::told)?, config)?;
    let rows_in = || run.status().metrics.rows_in;
    let within = |what: &str, is_done: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_done() {
            if began.elapsed() > BUILD_WITHIN {
                bail!("{what} did not come within {} s; {} rows did", BUILD_WITHIN.as_secs(), rows_in());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(began.elapsed().as_secs_f64())
    };
    let built = within("the state", &|| rows_in() >= keys + keys / 10)?;
    // The first one writes all of the state, and is none of those that come each second.
    run.checkpoint();
    let based = within("the first checkpoint", &|| run.status().view.epoch.is_some())?;
    eprintln!("{keys} keys in {built:.1} s, their first checkpoint in {based:.1} s: {:?}", run.status().view);
    // Totals come once a second: from one of their changes to another.
    let next_total = || {
        let before = rows_in();
        while rows_in() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        (Instant::now(), rows_in())
    };
    let mut sums = [(0.0, 0.0); 2];
    for turn in 0..2 * TURNS {
        let with = turn % 2 == 1;
        std::thread::sleep(SETTLE);
        let (began, before) = next_total();
        let (spent, first) = (Spent::now()?, run.status().view.epoch);
        while began.elapsed() < MEASURED {
            if with {
                run.checkpoint();
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        let (ended, after) = next_total();
        let (seconds, rows) = ((ended - began).as_secs_f64(), (after - before) as f64);
        let view = run.status().view;
        let taken = view.epoch.unwrap_or(0) - first.unwrap_or(0);
        eprintln!(
            "{:.0} thousand rows/s with {taken} checkpoints in {seconds:.1} s: {view:?}",
            rows / seconds / 1000.0
        );
        let metrics = run.status().metrics;
        let spilled: u64 = metrics.operators.iter().map(|operator| operator.spilled_bytes).sum();
        eprintln!("  state: {} MiB in memory, {} MiB on disk", metrics.state_bytes >> 20, spilled >> 20);
        let cores = Spent::now()?.since(&spent).into_iter().filter(|(_, cores)| *cores >= 0.005);
        let cores: Vec<String> = cores.map(|(kind, cores)| format!("{kind} {cores:.2}")).collect();
        eprintln!("  cores: {}", cores.join(", "));
        let sum = &mut sums[usize::from(with)];
        *sum = (sum.0 + rows, sum.1 + seconds);
    }
    for (_, text) in run.notices.try_iter() {
        eprintln!("{text}");
    }
    run.stop();
    run.wait()?;
    std::fs::remove_dir_all(&checkpoints).with_context(|| format!("failed to remove {}", checkpoints.display()))?;
    let [without, with] = sums.map(|(rows, seconds)| rows / seconds);
    Ok(Rates { without, with })
}

/// Seconds from SIGKILL of the task to the first row that its successor prints.
async fn recovery(folder: &Path, keys: u64) -> anyhow::Result<f64> {
    let tree = two_cores(folder).await?;
    let result = recovery_in(&tree, keys).await;
    tree.end().await;
    result
}

async fn recovery_in(tree: &Tree, keys: u64) -> anyhow::Result<f64> {
    let client = Client::new(Some(&tree.runner), None)?;
    let settings = "SET job.name = 'state';\nSET job.cpus = '2';\nSET job.mem = '8GiB';\nSET checkpoint.interval = '1s';\n\
         SET state.memory = '8GiB';\n";
    // A few of the rows that come after the state is built are printed: by the same slices, so not before it is restored.
    let printed = format!(
        "CREATE TABLE seen (id BIGINT) WITH (connector = 'stdout');\n\
         INSERT INTO seen SELECT id FROM rows_made WHERE id >= {keys} AND id % 1000 = 0;\n"
    );
    let request = SubmitRequest {
        text: format!("{settings}{}{printed}", query(keys)),
        file: "state.sql".to_string(),
        base_dir: tree.data_dir.display().to_string(),
        resume: false,
        resume_from: None,
    };
    client.submit(&request).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let began = Instant::now();
    let built = loop {
        let jobs = client.jobs().await?.jobs;
        let Some(job) = jobs.first() else { bail!("the job is gone") };
        if job.state == "failed" {
            bail!("{}", job.why);
        }
        if job.metrics.rows_in > keys + keys / 10 && job.metrics.checkpoint_age_ms.is_some_and(|age| age < 3_000) {
            break job.metrics.checkpoint_epoch.unwrap_or(0);
        }
        if began.elapsed() > BUILD_WITHIN {
            bail!("{} of {keys} keys came within {} s", job.metrics.rows_in, BUILD_WITHIN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    eprintln!("killing the task after checkpoint {built}");
    let before = outputs(&tree.data_dir)?;
    let pid = task_pids(&tree.data_dir)?.pop().context("failed to find the task's process")?;
    let killed = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid)?), nix::sys::signal::Signal::SIGKILL)
        .context("failed to kill the task")?;
    while killed.elapsed() < Duration::from_secs(120) {
        let printed = outputs(&tree.data_dir)?.into_iter().filter(|path| !before.contains(path));
        if printed.into_iter().any(|path| std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0)) {
            return Ok(killed.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("no row came within 120 s of the kill")
}

/// What tasks print, one file each.
fn outputs(data_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let sandboxes = data_dir.join("agent-1").join("sandboxes");
    for framework in std::fs::read_dir(&sandboxes).with_context(|| format!("failed to read {}", sandboxes.display()))? {
        for task in std::fs::read_dir(framework?.path())? {
            found.push(task?.path().join("stdout"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_plans() {
        let script = streaming::sql::parse(&query(1000)).expect("it parses");
        let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(streaming::sql::plan(&script, &inserts, &Functions::new())).expect("it plans");
    }
}
