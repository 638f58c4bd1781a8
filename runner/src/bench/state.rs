//! What a large state costs: checkpoints while it is worked on, and the time until a killed task goes on with it.
//!
//! The state is a count and a text for each of many keys, about a hundred bytes a key. After it is built, rows touch one
//! small part of the keys after the other, so that about the same number of different keys is touched each second.

use super::Figure;
use crate::client::Client;
use crate::dev::{DevConfig, Tree};
use crate::view::SubmitRequest;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use streaming::functions::Functions;
use streaming::runtime::local::{self, LocalConfig};
use streaming::runtime::store::Folder;

pub const KEYS: u64 = 10_000_000;
/// Different keys among so many rows; how many that are in a second is told.
const TOUCHED: u64 = 50_000;
const ROWS_PER_TOUCHED: u64 = 5_000_000;
const MEASURED: Duration = Duration::from_secs(20);
const BUILD_WITHIN: Duration = Duration::from_secs(600);

fn query(keys: u64) -> String {
    let touched = TOUCHED.min(keys);
    format!(
        "CREATE TABLE rows_made (id BIGINT) WITH (connector = 'datagen', rows = '1000000000000', splits = '2', \
         'fields.id.kind' = 'sequence');\n\
         CREATE TABLE told (key BIGINT, n BIGINT, label VARCHAR) WITH (connector = 'blackhole');\n\
         INSERT INTO told SELECT key, COUNT(*), MAX(label) FROM (\n\
           SELECT key, LPAD(CAST(key AS VARCHAR), 80, '-') AS label FROM (\n\
             SELECT CASE WHEN id < {keys} THEN id\n\
               ELSE (id / {ROWS_PER_TOUCHED} * {touched} + id % {touched}) % {keys} END AS key FROM rows_made\n\
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
    let without = {
        let here = here.clone();
        tokio::task::spawn_blocking(move || throughput(&here, keys, 0)).await??
    };
    let with = tokio::task::spawn_blocking(move || throughput(&here, keys, 1_000)).await??;
    let of = format!("{:.0} M keys x 100 bytes", keys as f64 / 1e6);
    figures.push(Figure::higher("state", format!("{of}, without checkpoints"), without / 1000.0, "k rows/s", None));
    figures.push(Figure::higher("state", format!("{of}, a checkpoint each second"), with / 1000.0, "k rows/s", None));
    let touched = with / ROWS_PER_TOUCHED as f64 * TOUCHED as f64 / 1000.0;
    eprintln!("with checkpoints about {touched:.0} thousand different keys were touched each second");
    let loss = (1.0 - with / without) * 100.0;
    figures.push(Figure::lower("state", "loss of throughput by checkpoints", loss, "%", Some(5.0)));
    let recovered = recovery(folder, keys).await?;
    let goal = (keys == KEYS).then_some(3.0);
    figures.push(Figure::lower("state", format!("{of}: SIGKILL of its task to the next row"), recovered, "s", goal));
    Ok(figures)
}

/// Rows per second once the state is built.
fn throughput(folder: &Path, keys: u64, checkpoint_interval_ms: u64) -> anyhow::Result<f64> {
    let script = streaming::sql::parse(&query(keys)).map_err(super::nexmark::told)?;
    let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let planned = runtime.block_on(streaming::sql::plan(&script, &inserts, &Functions::new()));
    let mut config = LocalConfig::new("bench/state", folder.to_path_buf(), folder.join("dead-letter"));
    config.slices = 2;
    config.checkpoint_interval_ms = checkpoint_interval_ms;
    let checkpoints = folder.join(format!("checkpoints-{checkpoint_interval_ms}"));
    config.checkpoints = Some(Folder::local(&checkpoints)?);
    let run = local::run(planned.map_err(super::nexmark::told)?, config)?;
    let rows_in = || run.status().metrics.rows_in;
    let building = Instant::now();
    while rows_in() < keys + keys / 10 {
        if building.elapsed() > BUILD_WITHIN {
            bail!("{} of {keys} keys came within {} s", rows_in(), BUILD_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Totals come once a second: from one of their changes to another.
    let next_total = || {
        let before = rows_in();
        while rows_in() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        (Instant::now(), rows_in())
    };
    let (began, before) = next_total();
    std::thread::sleep(MEASURED);
    let (ended, after) = next_total();
    for (_, text) in run.notices.try_iter() {
        eprintln!("{text}");
    }
    eprintln!("{:?}", run.status().view);
    run.stop();
    run.wait()?;
    std::fs::remove_dir_all(&checkpoints).with_context(|| format!("failed to remove {}", checkpoints.display()))?;
    Ok((after - before) as f64 / (ended - began).as_secs_f64())
}

/// Seconds from SIGKILL of the task to the first row that its successor prints.
async fn recovery(folder: &Path, keys: u64) -> anyhow::Result<f64> {
    let config = DevConfig {
        data_dir: folder.join("dev"),
        agents: 1,
        cpus_per_agent: Some(2.0),
        isolation: "off",
        listen_port: 0,
        kafka_port: None,
        token_file: None,
    };
    let tree = Tree::start(&config).await?;
    let result = recovery_in(&tree, keys).await;
    tree.end().await;
    result
}

async fn recovery_in(tree: &Tree, keys: u64) -> anyhow::Result<f64> {
    let client = Client::new(Some(&tree.runner), None)?;
    let settings =
        "SET job.name = 'state';\nSET job.cpus = '2';\nSET job.mem = '8GiB';\nSET checkpoint.interval = '1s';\n";
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
    let pid = task_pid(&tree.data_dir)?;
    let killed = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
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

/// The process of the only task whose plan lies in this folder.
fn task_pid(data_dir: &Path) -> anyhow::Result<i32> {
    let folder = data_dir.display().to_string();
    for entry in std::fs::read_dir("/proc").context("failed to read /proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let mut words = line.split(|byte| *byte == 0);
        let is_task = words.nth(1) == Some(b"task");
        if is_task && words.any(|word| String::from_utf8_lossy(word).starts_with(&folder)) {
            return Ok(pid);
        }
    }
    bail!("failed to find the task's process")
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
