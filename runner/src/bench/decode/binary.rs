//! How fast records of Avro and Protobuf become columns, on one core: rows of eight columns per second.
//!
//! Invariant: as for JSON, see the suite: the records are in memory before the clock starts, and each is handed to the
//! decoder as a source does it. They name no registry, which would be asked once.

use super::super::nexmark::told;
use super::super::{Figure, median};
use super::{RUNS, decoded};
use anyhow::{Context as _, bail};
use arrow::array::TimestampMicrosecondArray;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use connectors::TableDef;
use connectors::formats::{BinaryEncoder, Encoded, Format, Part};
use std::sync::Arc;
use std::time::Instant;

const ROWS: i64 = 500_000;
const GOAL: f64 = 1.5e6;
const COLUMNS: &str = "id BIGINT, amount DOUBLE, account VARCHAR, at TIMESTAMP, items INT, paid BOOLEAN, shop VARCHAR, \
    parent BIGINT";

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    [("avro", "Avro"), ("protobuf", "Protobuf")].into_iter().map(|(format, name)| figure(format, name)).collect()
}

fn figure(format: &str, name: &str) -> anyhow::Result<Figure> {
    let text = format!(
        "CREATE TABLE orders ({COLUMNS}) WITH (connector = 'kafka', topic = 't', bootstrap.servers = 'localhost:9092', \
         format = '{format}')"
    );
    let script = streaming::sql::parse(&text).map_err(told)?;
    let table = script.table("orders").context("failed to declare the orders")?.def.clone();
    let kind = Format::of(&table).map_err(|wrong| told(vec![wrong]))?;
    let encoder = BinaryEncoder::open(kind, Part::Value, &table, &table.schema)?;
    let mut encoded = Encoded::default();
    encoder.encode(&rows(&table)?, &mut encoded)?;
    let records: Vec<&[u8]> = (0..encoded.len()).map(|row| encoded.get(row)).collect();
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let rows = decoded(&records, &table)?;
        rates.push(rows as f64 / started.elapsed().as_secs_f64());
        if rows != records.len() {
            bail!("{} records became {rows} rows", records.len());
        }
    }
    let bytes = records.iter().map(|record| record.len()).sum::<usize>() / records.len();
    let told = format!("{name}, 8 columns, {bytes} bytes a record, one core");
    Ok(Figure::higher("decode", told, median(rates), "rows/s", Some(GOAL)))
}

fn rows(table: &TableDef) -> anyhow::Result<RecordBatch> {
    let all = || 0..ROWS;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(all().map(|n| n * 7919))),
        Arc::new(Float64Array::from_iter_values(all().map(|n| n as f64 / 100.0))),
        Arc::new(StringArray::from_iter_values(all().map(|n| format!("account-{:05}", n % 20_000)))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(all().map(|n| 1_767_225_600_000_000 + n * 1000))
                .with_timezone("UTC"),
        ),
        Arc::new(Int32Array::from_iter_values(all().map(|n| (n % 30) as i32))),
        Arc::new(all().map(|n| Some(n % 3 == 0)).collect::<BooleanArray>()),
        Arc::new(all().map(|n| (n % 10 != 0).then(|| format!("shop {}", n % 700))).collect::<StringArray>()),
        Arc::new(all().map(|n| (n % 4 == 0).then_some(n)).collect::<Int64Array>()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&table.schema), columns)?)
}
