//! What it costs to look: rows over Flight SQL beside a bare loop of the same library, the answer to `smack ps` of a large
//! cluster, and a program that only says what it can.

mod bare;

use super::{Figure, median};
use crate::book::job::{Phase, Record, TaskRecord};
use crate::book::{Book, Config};
use crate::server::{flight, queries};
use crate::view::JobsView;
use anyhow::{Context, anyhow};
use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use jobs::{TaskId, TaskState};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Endpoint, Server};

const RUNS: usize = 5;
/// Pairs of 4,000 rows: 256 MB of two numbers each.
const QUERY: &str =
    "CREATE TABLE rolls (id BIGINT) WITH (connector = 'datagen', rows = '4000', fields.id.kind = 'sequence');
    SELECT a.id, b.id AS other FROM rolls a CROSS JOIN rolls b";

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let result = measure_in(&folder).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

async fn measure_in(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = over_flight(folder).await?;
    for (tasks, each, what, goal_ms) in [
        (10_000, 1_000, "answer to ps with 10,000 tasks", 100.0),
        (2_000, 50, "answer to the page with 2,000 tasks, once a second", 50.0),
    ] {
        figures.push(Figure::lower("api", what, listed(folder, tasks, each).await?, "ms", Some(goal_ms)));
    }
    figures.push(Figure::lower("api", "smack --help", help().await?, "ms", Some(10.0)));
    Ok(figures)
}

/// Bytes of rows a second, by either server to the same client; in turns, since machines vary.
async fn over_flight(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let store = Arc::new(tables::Store::open(&folder.join("tables"))?);
    let queries = queries::Queries::new(store, None, String::new(), None, folder.join("models"), folder.to_path_buf())?;
    let answer = queries.ask(QUERY.into()).await?;
    let schema = answer.schema;
    let batches: Vec<RecordBatch> = answer.rows.try_collect().await.map_err(|error| anyhow!("{error}"))?;
    let bytes: usize = batches.iter().map(|batch| batch.num_rows() * 16).sum();
    let ours = serve(Server::builder().add_service(flight::service(queries))).await?;
    let bare = serve(Server::builder().add_service(bare::service(schema, batches))).await?;
    let (mut rates, mut bare_rates) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        rates.push(bytes as f64 / 1e6 / seconds_for(&ours).await?);
        bare_rates.push(bytes as f64 / 1e6 / seconds_for(&bare).await?);
    }
    let (rate, bare_rate) = (median(rates), median(bare_rates));
    let goal = (0.7 * bare_rate).min(1_000.0);
    let figure = Figure::higher("api", "rows over Flight SQL, loopback", rate, "MB/s", Some(goal));
    Ok(vec![figure.beside("bare arrow-flight loop", bare_rate)])
}

async fn serve(router: Router) -> anyhow::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to listen")?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    Ok(address)
}

/// From the question to the last row.
async fn seconds_for(address: &str) -> anyhow::Result<f64> {
    let channel = Endpoint::from_shared(address.to_string())?.connect().await?;
    let mut client = FlightSqlServiceClient::new(channel);
    let began = Instant::now();
    let info = client.execute(QUERY.to_string(), None).await?;
    let mut n_rows = 0;
    for endpoint in info.endpoint {
        let mut rows = client.do_get(endpoint.ticket.context("failed to get a ticket")?).await?;
        while let Some(batch) = rows.try_next().await? {
            n_rows += batch.num_rows();
        }
    }
    anyhow::ensure!(n_rows == 16_000_000, "failed to measure: {n_rows} rows came");
    Ok(began.elapsed().as_secs_f64())
}

/// Milliseconds that the runner works for the list of all jobs with their tasks, so many in each.
async fn listed(folder: &Path, n_tasks: u32, each: u32) -> anyhow::Result<f64> {
    let mut records = Vec::new();
    for at in 0..n_tasks / each {
        let text = format!(
            "SET job.name = 'job{at}'; SET job.parallelism = '{each}';
             CREATE TABLE numbers (id BIGINT) WITH (connector = 'datagen', rate = '10');
             CREATE TABLE nowhere (id BIGINT) WITH (connector = 'blackhole');
             INSERT INTO nowhere SELECT id FROM numbers;"
        );
        let settled = crate::settle::settle_for_cluster(&text, "bench.sql", folder).await;
        let settled = settled.map_err(|wrong| anyhow!("failed to settle a job: {wrong:?}"))?;
        for spec in settled.jobs {
            let mut record = Record::new(spec, "bench", 0);
            record.phase = Phase::Running;
            record.tasks = (0..each).map(|index| task(&record, index)).collect();
            records.push((record, None));
        }
    }
    let config = Config { endpoint: String::new(), data_dir: folder.to_path_buf(), hold_ms: 1_000 };
    let book = Book::new(config, BTreeMap::new(), records);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let body = serde_json::to_vec(&JobsView { jobs: book.job_views(0) })?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(body.len() > n_tasks as usize * 100, "failed to measure: {} bytes were said", body.len());
    }
    Ok(median(times))
}

fn task(record: &Record, index: u32) -> TaskRecord {
    TaskRecord {
        id: TaskId::new(format!("{}.{}.1.{index}", record.spec.group, record.spec.name)),
        index,
        life: 0,
        agent: format!("agent-{}", index % 100).into(),
        offer: format!("o-1-{index}").into(),
        host: "127.0.0.1".to_string(),
        port: None,
        state: TaskState::Running,
        reason: None,
        message: String::new(),
    }
}

async fn help() -> anyhow::Result<f64> {
    let smack = std::env::current_exe().context("failed to find this program")?;
    let mut times = Vec::new();
    for _ in 0..4 * RUNS {
        let began = Instant::now();
        let said = tokio::process::Command::new(&smack).arg("--help").output().await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(said.status.success(), "failed to run smack --help");
    }
    Ok(median(times))
}
