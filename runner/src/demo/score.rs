//! How well the demo's model does: read from its result tables. Those of the cluster's own store are read over the API, what is
//! new each time; those elsewhere with SQL, and now and then as a whole.

use crate::client::Client;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use connectors::generators::{auc, cards};
use std::time::{Duration, Instant};
use streaming::batch::{self, BatchContext};
use streaming::sql::Script;

/// Rows asked for at once.
const PAGE: u64 = 50_000;

/// Events over which the best reachable score is measured: some hundred thousand windows, a second of work.
const EVENTS: u64 = 400_000;

const LATEST: u64 = 5;

/// Between readings of tables elsewhere, which are read from the beginning each time.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Where the result tables are.
pub enum Tables {
    Store,
    Elsewhere(Box<Script>),
}

impl Tables {
    pub fn of(sql: &str) -> anyhow::Result<Self> {
        let script = crate::functions::parse(sql)
            .map_err(|wrong| anyhow::anyhow!("{} mistakes in the demo's file", wrong.len()))?;
        let stored = script.table("scores").is_none_or(|table| table.def.connector() == "table");
        Ok(if stored { Self::Store } else { Self::Elsewhere(Box::new(script)) })
    }
}

#[derive(Default)]
pub struct Scored {
    pub scored: u64,
    pub after_cut_off: u64,
    pub alerts: u64,
    pub auc: Option<f64>,
    pub auc_amount: Option<f64>,
    pub latest_alerts: Vec<String>,
    cut_off_us: Option<i64>,
    read: Option<Instant>,
    scores: Vec<f64>,
    amounts: Vec<f64>,
    labels: Vec<bool>,
}

/// The AUC of a score that knows the hidden state of each card, for the source and the windows of this file.
pub fn best_reachable(sql: &str) -> anyhow::Result<f64> {
    let script =
        streaming::sql::parse(sql).map_err(|wrong| anyhow::anyhow!("{} mistakes in the demo's file", wrong.len()))?;
    let table =
        script.table("transactions").ok_or_else(|| anyhow::anyhow!("the demo's file has no table 'transactions'"))?;
    Ok(cards::best_reachable_auc(&table.def, EVENTS, Duration::from_secs(60))?.per_window)
}

impl Scored {
    /// Reads what is new. The tables may not be there yet; then there is nothing to know.
    pub async fn refresh(&mut self, client: &Client, tables: &Tables) {
        if self.cut_off_us.is_none()
            && let Ok(models) = client.models().await
        {
            self.cut_off_us =
                models.models.iter().find(|model| model.model == "fraud").and_then(|model| model.trained_through_us);
        }
        match tables {
            Tables::Store => self.read_store(client).await,
            Tables::Elsewhere(script) => {
                if self.read.is_none_or(|at| at.elapsed() >= READ_EVERY) {
                    self.read_all(script).await;
                    self.read = Some(Instant::now());
                }
            }
        }
        self.after_cut_off = self.scores.len() as u64;
        let (yes, no) =
            self.labels.iter().fold((0, 0), |(yes, no), label| if *label { (yes + 1, no) } else { (yes, no + 1) });
        if yes > 0 && no > 0 {
            self.auc = Some(auc(&self.scores, &self.labels));
            self.auc_amount = Some(auc(&self.amounts, &self.labels));
        }
    }

    async fn read_all(&mut self, script: &Script) {
        let count = query(script, "SELECT COUNT(*) AS n FROM alerts").await;
        let Some(count) = count.first().and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>().cloned())
        else {
            return;
        };
        self.alerts = count.values().first().map_or(0, |n| *n as u64);
        let latest = format!("SELECT * FROM alerts ORDER BY window_end DESC LIMIT {LATEST}");
        self.latest_alerts = query(script, &latest).await.iter().flat_map(lines).collect();
        let scores = query(script, "SELECT window_start, score, label, largest FROM scores").await;
        let Some(cut_off_us) = self.cut_off_us else { return };
        (self.scores, self.amounts, self.labels) = Default::default();
        self.scored = scores.iter().map(|batch| batch.num_rows() as u64).sum();
        for batch in &scores {
            self.take(batch, cut_off_us);
        }
    }

    async fn read_store(&mut self, client: &Client) {
        if let Ok(count) = client.count("alerts").await {
            self.alerts = count;
            if let Ok(batches) = client.rows("alerts", &[], count.saturating_sub(LATEST), LATEST).await {
                self.latest_alerts = batches.iter().flat_map(lines).rev().collect();
            }
        }
        let Some(cut_off_us) = self.cut_off_us else { return };
        // The key begins with the window's end, so what is new stands at the end.
        loop {
            let columns = ["window_start", "score", "label", "largest"];
            let Ok(batches) = client.rows("scores", &columns, self.scored, PAGE).await else { return };
            let n: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            if n == 0 {
                break;
            }
            self.scored += n;
            for batch in &batches {
                self.take(batch, cut_off_us);
            }
        }
    }

    fn take(&mut self, batch: &RecordBatch, cut_off_us: i64) {
        let column = |name: &str| batch.column_by_name(name);
        let (Some(start), Some(score), Some(label), Some(largest)) =
            (column("window_start"), column("score"), column("label"), column("largest"))
        else {
            return;
        };
        let (Some(start), Some(score), Some(largest)) = (
            start.as_primitive_opt::<TimestampMicrosecondType>(),
            score.as_primitive_opt::<Float64Type>(),
            largest.as_primitive_opt::<Float64Type>(),
        ) else {
            return;
        };
        let Ok(label) = arrow::compute::cast(label, &arrow::datatypes::DataType::Boolean) else { return };
        let label = label.as_boolean();
        for row in 0..batch.num_rows() {
            if start.value(row) >= cut_off_us && score.is_valid(row) && label.is_valid(row) {
                self.scores.push(score.value(row));
                self.amounts.push(largest.value(row));
                self.labels.push(label.value(row));
            }
        }
    }
}

/// Nothing where the tables are not there yet.
async fn query(script: &Script, sql: &str) -> Vec<RecordBatch> {
    let context = connectors::Context {
        job: "demo".to_string(),
        generation: 1,
        claimed_us: 0,
        begun_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: std::path::PathBuf::from("."),
        tables_endpoint: None,
        token: None,
    };
    let functions = crate::functions::declared();
    batch::collect(script, sql, &functions, BatchContext::new(context)).await.unwrap_or_default()
}

/// Each row as `name value, name value`.
fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default();
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .filter_map(|column| arrow::util::display::ArrayFormatter::try_new(column.as_ref(), &options).ok())
        .collect();
    if columns.len() != batch.num_columns() {
        return Vec::new();
    }
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<String> = batch
                .schema()
                .fields()
                .iter()
                .zip(&columns)
                .map(|(field, column)| format!("{} {}", field.name(), column.value(row)))
                .collect();
            cells.join("  ")
        })
        .collect()
}
