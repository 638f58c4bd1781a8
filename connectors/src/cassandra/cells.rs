//! The rows of a batch as values of a prepared statement, written straight from the columns into the request.
//!
//! Invariant: a value is written in the server's type, as [`super::types::fits`] allowed it; one that the server cannot
//! hold is an error that names column and value.

use super::values::Cells;
use crate::api::{Error, Result};
use arrow::array::RecordBatch;
use scylla::cluster::metadata::ColumnType;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;

/// The columns of one batch.
pub struct Columns {
    cells: Vec<(String, Cells)>,
}

/// The values of one row as bytes, so that it can be sent, and sent again, when its batch is long gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encoded {
    bytes: Vec<u8>,
    /// Where each value ends; nothing for null.
    ends: Vec<Option<usize>>,
}

impl Encoded {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// One row of them, as the values of a key.
pub struct Key<'a> {
    pub columns: &'a Columns,
    pub row: usize,
}

impl Columns {
    /// `there` are the server's types, in the order of the batch's columns.
    pub fn new(batch: &RecordBatch, there: &[ColumnType<'static>]) -> Result<Self> {
        assert_eq!(batch.num_columns(), there.len(), "columns of a batch and of a prepared statement");
        let mut cells = Vec::with_capacity(there.len());
        for ((field, column), kind) in batch.schema().fields().iter().zip(batch.columns()).zip(there) {
            let unfit = |why: String| Error::Fatal(format!("column '{}' cannot be written: {why}", field.name()));
            let column = Cells::new(column, kind).map_err(unfit)?;
            cells.push((field.name().clone(), column));
        }
        Ok(Self { cells })
    }

    /// Whether the server can hold just these values: else no row there is equal to this one.
    pub fn can_be_there(&self, row: usize) -> bool {
        self.cells.iter().all(|(_, cells)| cells.can_be_there(row))
    }

    /// Whether the row's first value is of no bytes: the server takes no such partition key of one column.
    pub fn begins_empty(&self, row: usize) -> bool {
        self.cells.first().is_some_and(|(_, cells)| cells.is_empty(row))
    }

    /// A row with its write timestamp: before the values in a DELETE, which names it before the key, else behind them.
    pub fn encode(
        &self,
        row: usize,
        timestamp_us: i64,
        timestamp_first: bool,
    ) -> std::result::Result<Encoded, BadValue> {
        let mut encoded = Encoded { bytes: Vec::new(), ends: Vec::with_capacity(self.cells.len() + 1) };
        let stamp = |encoded: &mut Encoded| {
            encoded.bytes.extend_from_slice(&timestamp_us.to_be_bytes());
            encoded.ends.push(Some(encoded.bytes.len()));
        };
        if timestamp_first {
            stamp(&mut encoded);
        }
        for (name, cells) in &self.cells {
            let there = cells.encode(row, &mut encoded.bytes).map_err(|why| BadValue { column: name.clone(), why })?;
            encoded.ends.push(there.then_some(encoded.bytes.len()));
        }
        if !timestamp_first {
            stamp(&mut encoded);
        }
        Ok(encoded)
    }

    /// Appends all values of a row.
    fn write(&self, row: usize, writer: &mut RowWriter<'_>) -> std::result::Result<(), SerializationError> {
        let mut bytes = Vec::new();
        for (name, cells) in &self.cells {
            bytes.clear();
            let bad = |why: String| SerializationError::new(BadValue { column: name.clone(), why });
            let there = cells.encode(row, &mut bytes).map_err(bad)?;
            put(writer, there.then_some(bytes.as_slice()))?;
        }
        Ok(())
    }
}

fn put(writer: &mut RowWriter<'_>, bytes: Option<&[u8]>) -> std::result::Result<(), SerializationError> {
    let cell = writer.make_cell_writer();
    match bytes {
        Some(bytes) => cell.set_value(bytes).map(|_| ()).map_err(SerializationError::new),
        None => {
            cell.set_null();
            Ok(())
        }
    }
}

/// A value that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("column '{column}': {why}")]
pub struct BadValue {
    column: String,
    why: String,
}

impl SerializeRow for Encoded {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> std::result::Result<(), SerializationError> {
        assert_eq!(context.columns().len(), self.ends.len(), "values of a prepared statement");
        let mut from = 0;
        for end in &self.ends {
            put(writer, end.map(|end| &self.bytes[from..end]))?;
            from = end.unwrap_or(from);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl SerializeRow for Key<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> std::result::Result<(), SerializationError> {
        assert_eq!(context.columns().len(), self.columns.cells.len(), "values of a prepared statement");
        self.columns.write(self.row, writer)
    }

    fn is_empty(&self) -> bool {
        false
    }
}
