//! Rows on standard output: aligned columns for people, one JSON object a line for programs.

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::{ErrorKind, Write};

/// Rows shown of each table that a run leaves behind.
const SAMPLE: u64 = 20;

/// Prints batch after batch of one result.
pub struct Printer {
    json: bool,
    /// Settled by the first batch; later rows that are wider push their neighbours.
    widths: Vec<usize>,
}

impl Printer {
    pub fn new(json: bool) -> Self {
        Self { json, widths: Vec::new() }
    }

    pub fn print(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut text: Vec<u8> = Vec::new();
        if self.json {
            let mut writer = with_nulls().build::<_, LineDelimited>(&mut text);
            writer.write(batch)?;
            writer.finish()?;
        } else {
            self.rows(batch, &mut text)?;
        }
        write(&text)
    }

    fn rows(&mut self, batch: &RecordBatch, text: &mut Vec<u8>) -> anyhow::Result<()> {
        let options = FormatOptions::default().with_null("null");
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        let cells: Vec<Vec<String>> = (0..batch.num_rows())
            .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect())
            .collect();
        if self.widths.is_empty() {
            let schema = batch.schema();
            let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            self.widths = names
                .iter()
                .enumerate()
                .map(|(at, name)| {
                    cells.iter().map(|row| row[at].chars().count()).chain([name.chars().count()]).max().unwrap_or(0)
                })
                .collect();
            self.line(&names, text)?;
        }
        for row in &cells {
            self.line(row, text)?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String], text: &mut Vec<u8>) -> std::io::Result<()> {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(text, "{}", line.trim_end())
    }
}

/// What a run left in tables without a connector: how many rows, and the first of them.
pub fn tables(store: &tables::Store, json: bool) -> anyhow::Result<()> {
    for table in store.list() {
        let name = &table.name;
        let count = store.count(name)?;
        let sample = store.scan(name, None, 0, Some(SAMPLE))?.collect::<Result<Vec<RecordBatch>, _>>()?;
        if json {
            let mut rows: Vec<u8> = Vec::new();
            let mut writer = with_nulls().build::<_, JsonArray>(&mut rows);
            for batch in &sample {
                writer.write(batch)?;
            }
            writer.finish()?;
            let rows: serde_json::Value =
                if rows.is_empty() { serde_json::Value::Array(Vec::new()) } else { serde_json::from_slice(&rows)? };
            write(format!("{}\n", serde_json::json!({"table": name, "rows": count, "first": rows})).as_bytes())?;
        } else {
            write(format!("\ntable {name}: {count} rows\n").as_bytes())?;
            let mut printer = Printer::new(false);
            for batch in &sample {
                printer.print(batch)?;
            }
            if count > SAMPLE {
                write(b"...\n")?;
            }
        }
    }
    Ok(())
}

/// A column is there in every row.
fn with_nulls() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true)
}

/// Lines that are shown as they are.
pub fn text(text: &str) -> anyhow::Result<()> {
    write(format!("{}\n", text.trim_end()).as_bytes())
}

/// Nobody reads standard output any more (`| head`): whoever gets this has shown enough and ends well.
#[derive(Debug, thiserror::Error)]
#[error("write to standard output: its reader has gone")]
pub struct OutputClosed;

fn write(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => Ok(other?),
    }
}
