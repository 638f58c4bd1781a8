//! Suite `cassandra`: rows into Cassandra, beside loops over the same driver that do nothing else.
//!
//! Rows of 4 columns, 50 to a partition. One bare loop inserts each row by itself, the other sends the rows of a partition in
//! one unlogged batch; both keep as many requests on their way as our sink does.
//!
//! Invariant: what is compared has the same rows, node and driver, and each is measured several times, in turn, into a table
//! that is emptied before.

use super::nexmark::told;
use super::{Figure, median};
use anyhow::{Context as _, bail};
use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use connectors::TableDef;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::batch::{Batch, BatchType};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub const ROWS: u64 = 200_000;
const RUNS: usize = 3;
const BATCH_ROWS: u64 = 8_192;
const OF_A_PARTITION: u64 = 50;
/// Requests on their way at once; as our sink's default.
const IN_FLIGHT: usize = 256;
const KEYSPACE: &str = "smack_bench";
const TABLE: &str = "rows";
const INSERT: &str = "INSERT INTO smack_bench.rows (p, c, v, note) VALUES (?, ?, ?, ?)";

type Row = (i64, i32, f64, String);

pub async fn measure(node: Option<String>, rows: u64) -> anyhow::Result<Vec<Figure>> {
    let node = node.context("failed to find a Cassandra node: say which with --cassandra HOST:PORT")?;
    let def = declared(&node)?;
    let batches: Arc<Vec<RecordBatch>> = Arc::new(batches(&def, rows)?);
    // Makes the keyspace and the table.
    written(&def, &Arc::new(vec![batches[0].slice(0, 1)])).await?;
    let session = SessionBuilder::new().known_node(&node).build().await;
    let session = session.with_context(|| format!("failed to reach Cassandra at {node}"))?;
    let (mut ours, mut single, mut batched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for (values, way) in [(&mut single, 0), (&mut batched, 1), (&mut ours, 2)] {
            session
                .query_unpaged(format!("TRUNCATE {KEYSPACE}.{TABLE}"), ())
                .await
                .context("failed to empty the table")?;
            let began = Instant::now();
            match way {
                0 => insert_each(&session, rows).await?,
                1 => insert_batches(&session, rows).await?,
                _ => written(&def, &batches).await?,
            }
            values.push(rows as f64 / began.elapsed().as_secs_f64());
            check(&session, rows).await?;
        }
    }
    session
        .query_unpaged(format!("DROP KEYSPACE {KEYSPACE}"), ())
        .await
        .context("failed to remove what was written")?;
    let (single, batched) = (median(single), median(batched));
    let (name, best) = if batched > single { ("bare batches of 50", batched) } else { ("bare inserts", single) };
    let goal = Some((0.9 * best).round());
    Ok(vec![
        Figure::higher("cassandra", "rows written, 4 columns", median(ours), "rows/s", goal).beside(name, best),
        Figure::higher("cassandra", "bare single inserts", single, "rows/s", None),
        Figure::higher("cassandra", "bare unlogged batches of 50", batched, "rows/s", None),
    ])
}

fn declared(node: &str) -> anyhow::Result<TableDef> {
    let text = format!(
        "CREATE TABLE rows (p BIGINT, c INT, v DOUBLE, note VARCHAR, PRIMARY KEY (p, c) NOT ENFORCED) WITH (connector = \
         'cassandra', contact_points = '{node}', keyspace = '{KEYSPACE}', table = '{TABLE}', create_keyspace = 'true', \
         create_table = 'true', consistency = 'one', max_in_flight = '{IN_FLIGHT}')"
    );
    let script = streaming::sql::parse(&text).map_err(told)?;
    Ok(script.table("rows").context("failed to declare the rows")?.def.clone())
}

fn row(id: u64) -> Row {
    let (p, c) = (id / OF_A_PARTITION, id % OF_A_PARTITION);
    (p as i64, c as i32, (id * 31 % 4000) as f64 * 0.25, format!("note of row {id:08}"))
}

fn batches(def: &TableDef, rows: u64) -> anyhow::Result<Vec<RecordBatch>> {
    let of = |from: u64| {
        let rows: Vec<Row> = (from..rows.min(from + BATCH_ROWS)).map(row).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.3))),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&def.schema), columns)?)
    };
    (0..rows).step_by(BATCH_ROWS as usize).map(of).collect()
}

/// By our sink, to the end of an epoch.
async fn written(def: &TableDef, batches: &Arc<Vec<RecordBatch>>) -> anyhow::Result<()> {
    let (def, batches) = (def.clone(), Arc::clone(batches));
    let write = move || -> anyhow::Result<()> {
        let context = connectors::Context {
            job: "bench/cassandra".to_string(),
            generation: 1,
            claimed_us: 0,
            begun_us: 0,
            slot: 0,
            n_slots: 1,
            base_dir: PathBuf::new(),
            tables_endpoint: None,
            token: None,
        };
        let cassandra = connectors::find("cassandra").context("failed to find connector 'cassandra'")?;
        let mut sink = cassandra.open_sink(&def, &context)?;
        for batch in batches.iter() {
            sink.write(batch)?;
        }
        sink.prepare(1)?;
        Ok(sink.commit(1)?)
    };
    tokio::task::spawn_blocking(write).await?
}

async fn insert_each(session: &Session, rows: u64) -> anyhow::Result<()> {
    let insert = session.prepare(INSERT).await?;
    let inserted =
        stream::iter(0..rows).map(|id| session.execute_unpaged(&insert, row(id))).buffer_unordered(IN_FLIGHT);
    Ok(inserted.try_for_each(|_| async { Ok(()) }).await?)
}

async fn insert_batches(session: &Session, rows: u64) -> anyhow::Result<()> {
    let insert = session.prepare(INSERT).await?;
    let partition = |from: u64| {
        let values: Vec<Row> = (from..rows.min(from + OF_A_PARTITION)).map(row).collect();
        let mut batch = Batch::new(BatchType::Unlogged);
        for _ in &values {
            batch.append_statement(insert.clone());
        }
        async move { session.batch(&batch, values).await }
    };
    let sent = stream::iter((0..rows).step_by(OF_A_PARTITION as usize)).map(partition).buffer_unordered(IN_FLIGHT);
    Ok(sent.try_for_each(|_| async { Ok(()) }).await?)
}

/// The first row of the last partition, and how many the node has of it.
async fn check(session: &Session, rows: u64) -> anyhow::Result<()> {
    let (p, ..) = row(rows - 1);
    let count = format!("SELECT COUNT(*) FROM {KEYSPACE}.{TABLE} WHERE p = {p}");
    let found = session.query_unpaged(count, ()).await?.into_rows_result()?;
    let (n,): (i64,) = found.single_row()?;
    let expected = (rows - 1) % OF_A_PARTITION + 1;
    if u64::try_from(n) != Ok(expected) {
        bail!("failed to write all: the last partition has {n} of {expected} rows");
    }
    Ok(())
}
