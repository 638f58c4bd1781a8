//! How fast records become columns, on one core: megabytes of JSON per second, and rows of binary formats.
//!
//! Invariant: the records are in memory before the clock starts, and what is measured is all that a source does with
//! them: handing each to the decoder, and a batch whenever it is full. Arrow's decoder reads the same bytes to the same
//! columns, in turn with ours.

mod binary;

use super::nexmark::{input, told};
use super::{Figure, median};
use anyhow::{Context as _, bail};
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use connectors::TableDef;
use connectors::formats::Decoder;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const EVENTS: u64 = 300_000;
const RUNS: usize = 5;
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;

/// What most queries on bids read.
const FIVE: &str = "event_type INT, bid STRUCT<auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP>";

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-decode-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let here = folder.clone();
    let result = tokio::task::spawn_blocking(move || measure_in(&here)).await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

fn measure_in(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    input::write(EVENTS, folder)?;
    let mut bytes = Vec::new();
    for file in input::FILES {
        let path = folder.join(file);
        bytes.extend(std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?);
    }
    let records: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|record| !record.is_empty()).collect();
    let all = table(input::COLUMNS)?;
    let five = table(FIVE)?;
    let mut figures = vec![
        figure("all 26 fields of Nexmark's events", &records, &bytes, &all, 650.0)?,
        figure("5 of 26 fields", &records, &bytes, &five, 1000.0)?,
    ];
    figures.extend(binary::measure()?);
    Ok(figures)
}

fn table(columns: &str) -> anyhow::Result<TableDef> {
    let text = format!("CREATE TABLE events ({columns}) WITH (connector = 'files', path = 'events.jsonl')");
    let script = streaming::sql::parse(&text).map_err(told)?;
    Ok(script.table("events").context("failed to declare the events")?.def.clone())
}

fn figure(name: &str, records: &[&[u8]], bytes: &[u8], table: &TableDef, goal: f64) -> anyhow::Result<Figure> {
    let size: usize = records.iter().map(|record| record.len()).sum();
    let rate = |seconds: f64| size as f64 / seconds / 1e6;
    let (mut ours, mut arrows) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let started = Instant::now();
        let rows = decoded(records, table)?;
        ours.push(rate(started.elapsed().as_secs_f64()));
        let started = Instant::now();
        let by_arrow = decoded_by_arrow(bytes, &table.schema)?;
        arrows.push(rate(started.elapsed().as_secs_f64()));
        if rows != records.len() || by_arrow != rows {
            bail!("{} records became {rows} rows, and {by_arrow} with Arrow", records.len());
        }
    }
    let figure = Figure::higher("decode", format!("JSON, {name}, one core"), median(ours), "MB/s", Some(goal));
    Ok(figure.beside("arrow-json", median(arrows)))
}

fn decoded(records: &[&[u8]], table: &TableDef) -> anyhow::Result<usize> {
    let mut decoder = Decoder::new(table.schema.clone(), table).map_err(|wrong| told(vec![wrong]))?;
    let mut rows = 0;
    let mut flush = |decoder: &mut Decoder| {
        let (batch, _) = decoder.flush();
        rows += black_box(batch).num_rows();
    };
    for (at, record) in records.iter().enumerate() {
        decoder.push(record, at as u64);
        if decoder.len() >= BATCH_ROWS || decoder.buffered_bytes() >= BATCH_BYTES {
            flush(&mut decoder);
        }
    }
    flush(&mut decoder);
    Ok(rows)
}

fn decoded_by_arrow(mut bytes: &[u8], schema: &SchemaRef) -> anyhow::Result<usize> {
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS).build_decoder()?;
    let mut rows = 0;
    loop {
        let taken = decoder.decode(bytes)?;
        bytes = &bytes[taken..];
        if taken == 0 || decoder.len() >= BATCH_ROWS || bytes.is_empty() {
            let Some(batch) = decoder.flush()? else { break };
            rows += black_box(batch).num_rows();
        }
    }
    Ok(rows)
}
