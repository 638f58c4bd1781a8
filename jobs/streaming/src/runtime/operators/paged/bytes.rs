//! Tables and rows as bytes for the disk.
//!
//! Invariant: only the process that wrote them reads them, so they may be what this release of Arrow makes of them.

use crate::runtime::operators::stateful::{external, joined};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

/// Batches by the name of their table.
pub type Parts = BTreeMap<String, Vec<RecordBatch>>;

/// The tables that have rows, one after the other; nothing at all where none has.
pub fn encode_tables<'a>(tables: impl Iterator<Item = (&'a str, &'a [RecordBatch])>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, batches) in tables {
        let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { continue };
        put_number(&mut bytes, name.len() as u64);
        bytes.extend_from_slice(name.as_bytes());
        let at = bytes.len();
        put_number(&mut bytes, 0);
        let mut writer = StreamWriter::try_new(&mut bytes, &first.schema())?;
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            writer.write(batch)?;
        }
        writer.finish()?;
        drop(writer);
        let length = bytes.len() - at - NUMBER_BYTES;
        bytes[at..at + NUMBER_BYTES].copy_from_slice(&(length as u64).to_le_bytes());
    }
    Ok(bytes)
}

/// Adds to `parts` what [`encode_tables`] made bytes of.
pub fn decode_tables(mut bytes: &[u8], parts: &mut Parts) -> Result<()> {
    while !bytes.is_empty() {
        let length = take_number(&mut bytes)?;
        let name = std::str::from_utf8(take_bytes(&mut bytes, length)?).map_err(external)?.to_string();
        let length = take_number(&mut bytes)?;
        let rows = decode_rows(take_bytes(&mut bytes, length)?)?;
        parts.entry(name).or_default().extend(rows);
    }
    Ok(())
}

/// Batches of one schema as one.
pub fn encode_rows(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let Some(rows) = joined(batches)? else { return Ok(Vec::new()) };
    let rows = compacted(rows)?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema())?;
    writer.write(&rows)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

pub fn decode_rows(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    Ok(reader.collect::<std::result::Result<Vec<_>, _>>()?)
}

/// Views of a few rows would take the buffers of all the rows along that they were taken from.
fn compacted(rows: RecordBatch) -> Result<RecordBatch> {
    let compact = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    };
    let columns = rows.columns().iter().map(compact).collect();
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

pub const NUMBER_BYTES: usize = 8;

pub fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

pub fn take_number(bytes: &mut &[u8]) -> Result<u64> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>().ok_or_else(cut_short)?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*number))
}

pub fn take_bytes<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length as usize).ok_or_else(cut_short)?;
    *bytes = rest;
    Ok(taken)
}

fn cut_short() -> DataFusionError {
    DataFusionError::Internal("state on disk ends before its rows do".to_string())
}
