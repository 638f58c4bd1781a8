//! The keys of records: one column as its plain text, several as one record of the table's format, or both as a record of
//! the format that the table names for its keys.
//!
//! Invariant: equal values give equal bytes, so one key stays in one partition; a null key is no key.

use crate::api::{Error, Result, TableDef};
use crate::formats::{BinaryEncoder, Encoded, Encoder, Format, Part};
use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;

pub struct KeyEncoder {
    columns: Vec<usize>,
    encoder: Encoder,
    binary: Option<BinaryEncoder>,
    table: String,
}

/// The keys of one batch.
pub enum Keys {
    None,
    /// Of one column.
    Plain(BinaryArray),
    Records(Vec<Vec<u8>>),
    /// The nulls are rows of which some column of the key is null.
    Binary(Encoded, Option<NullBuffer>, usize),
}

impl KeyEncoder {
    pub fn new(table: &TableDef, columns: &[usize]) -> Result<Self> {
        let binary = match Format::of_keys(table, columns.len())? {
            Some(format) if !columns.is_empty() => {
                let schema = table.schema.project(columns);
                let schema = schema.map_err(|why| Error::Fatal(format!("the key of table '{}': {why}", table.name)))?;
                Some(BinaryEncoder::open(format, Part::Key, table, &schema)?)
            }
            _ => None,
        };
        Ok(Self { columns: columns.to_vec(), encoder: Encoder::new(table)?, binary, table: table.name.clone() })
    }

    /// The header of each record that names the schema of its key.
    pub fn header(&self) -> Option<(&'static str, &[u8])> {
        self.binary.as_ref().and_then(BinaryEncoder::header)
    }

    pub fn encode(&self, batch: &RecordBatch) -> Result<Keys> {
        let failed = |why| Error::Fatal(format!("the key of table '{}' cannot be written: {why}", self.table));
        match self.columns.as_slice() {
            [] => Ok(Keys::None),
            columns if let Some(binary) = &self.binary => {
                let batch = batch.project(columns).map_err(failed)?;
                let mut records = Encoded::default();
                binary.encode(&batch, &mut records)?;
                let nulls = batch.columns().iter().fold(None, |nulls: Option<NullBuffer>, column| {
                    NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
                });
                Ok(Keys::Binary(records, nulls, columns.len()))
            }
            [column] => {
                let column = batch.column(*column);
                let bytes = match column.data_type() {
                    DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                        cast(column, &DataType::Binary)
                    }
                    _ => cast(column, &DataType::Utf8).and_then(|text| cast(&text, &DataType::Binary)),
                };
                Ok(Keys::Plain(bytes.map_err(failed)?.as_binary::<i32>().clone()))
            }
            columns => Ok(Keys::Records(self.encoder.encode_rows(&batch.project(columns).map_err(failed)?)?)),
        }
    }
}

impl Keys {
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Plain(keys) => keys.is_valid(row).then(|| keys.value(row)),
            Self::Records(keys) => Some(&keys[row]),
            Self::Binary(_, Some(nulls), 1) if nulls.is_null(row) => None,
            Self::Binary(keys, ..) => Some(keys.get(row)),
        }
    }

    /// Rows whose key is null, which is no key.
    pub fn n_null(&self) -> usize {
        match self {
            Self::Plain(keys) => keys.null_count(),
            Self::Binary(_, nulls, _) => nulls.as_ref().map_or(0, NullBuffer::null_count),
            Self::None | Self::Records(_) => 0,
        }
    }
}
