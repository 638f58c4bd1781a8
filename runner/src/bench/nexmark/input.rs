//! The files that the queries read: every event once, blocks of fifty to the one file and to the other in turn.
//!
//! Invariant: the files of so many events are written once per version of their form, below the user's cache folder, and
//! are whole when they have their name.

use super::told;
use anyhow::Context as _;
use arrow::array::RecordBatch;
use connectors::formats::Encoder;
use connectors::{Polled, SplitStart, TableDef};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Goes up when the events or their form change.
const VERSION: u32 = 1;

/// Events that follow each other in one file: a person, three auctions and their bids.
const BLOCK: usize = 50;

/// What fits both of the files below.
pub const PATTERN: &str = "events-*.jsonl";
pub const FILES: [&str; 2] = ["events-0.jsonl", "events-1.jsonl"];

/// The structs of all events; their fields are those of the tables that the queries declare.
pub const COLUMNS: &str = "event_type INT,
  person STRUCT<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
    dateTime TIMESTAMP, extra VARCHAR>,
  auction STRUCT<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
    dateTime TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR>,
  bid STRUCT<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP,
    extra VARCHAR>";

#[derive(Debug)]
pub struct Input {
    pub folder: PathBuf,
    pub events: u64,
    /// Of all files.
    pub bytes: u64,
}

/// The files of so many events, written now if they are not there.
pub fn kept(events: u64) -> anyhow::Result<Input> {
    kept_as(&format!("{VERSION}-{events}"), events, |folder| write(events, folder).map(drop))
}

/// As [`kept`], in a form of another name.
pub(super) fn kept_as(
    name: &str,
    events: u64,
    write: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Input> {
    let folder = crate::bench::peers::cache_folder()?.join(format!("nexmark/{name}"));
    if folder.exists() {
        return sized(folder, events);
    }
    eprintln!("writing {events} events into {} …", folder.display());
    // Another name until all is there: an interrupted run leaves nothing that looks whole.
    let begun = folder.with_extension(std::process::id().to_string());
    std::fs::create_dir_all(&begun).with_context(|| format!("failed to make {}", begun.display()))?;
    write(&begun)?;
    std::fs::rename(&begun, &folder).with_context(|| format!("failed to make {}", folder.display()))?;
    sized(folder, events)
}

/// Counts the bytes of all files in the folder.
fn sized(folder: PathBuf, events: u64) -> anyhow::Result<Input> {
    let looked = || format!("failed to look into {}", folder.display());
    let mut bytes = 0;
    for entry in folder.read_dir().with_context(looked)? {
        bytes += entry.and_then(|entry| entry.metadata()).with_context(looked)?.len();
    }
    Ok(Input { folder, events, bytes })
}

pub(super) fn context(folder: &Path) -> connectors::Context {
    connectors::Context {
        job: "bench/nexmark".to_string(),
        generation: 1,
        claimed_us: 0,
        begun_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: folder.to_path_buf(),
        tables_endpoint: None,
        token: None,
    }
}

/// Gives every event as rows, in order, with the table that declares them.
pub(super) fn each_batch(
    events: u64,
    folder: &Path,
    mut give: impl FnMut(&TableDef, RecordBatch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let text = format!(
        "CREATE TABLE events ({COLUMNS}) WITH (connector = 'nexmark', events = '{events}', splits = '1', rate = '0')"
    );
    let script = streaming::sql::parse(&text).map_err(told)?;
    let table = &script.table("events").context("failed to declare the events")?.def;
    let connector = connectors::find(table.connector()).context("failed to find the generator")?;
    let all: Vec<usize> = (0..table.schema.fields().len()).collect();
    let start = SplitStart { split: "0".to_string(), from: None };
    let mut reader = connector.open_source(table, &all, &[start], &context(folder))?;
    loop {
        match reader.poll(Duration::from_secs(1))? {
            Polled::Batch { batch, .. } => give(table, batch)?,
            Polled::SplitEnd { .. } | Polled::Idle => {}
            Polled::End => return Ok(()),
        }
    }
}

/// Writes the files into a folder.
pub fn write(events: u64, folder: &Path) -> anyhow::Result<Input> {
    let create = |file: &str| {
        let path = folder.join(file);
        File::create(&path).map(BufWriter::new).with_context(|| format!("failed to write {}", path.display()))
    };
    let mut files = [create(FILES[0])?, create(FILES[1])?];
    let mut number = 0usize;
    each_batch(events, folder, |table, batch| {
        let encoder = Encoder::new(table).map_err(|wrong| told(vec![wrong]))?;
        for row in encoder.encode_rows(&batch)? {
            let file = &mut files[number / BLOCK % FILES.len()];
            file.write_all(&row)?;
            file.write_all(b"\n")?;
            number += 1;
        }
        Ok(())
    })?;
    for file in &mut files {
        file.flush()?;
    }
    sized(folder.to_path_buf(), events)
}
