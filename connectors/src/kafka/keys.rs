//! The keys of records: one column as its plain text, several as one record of the table's format.
//!
//! Invariant: equal values give equal bytes, so one key stays in one partition; a null key is no key.

use crate::api::{Error, Result, TableDef};
use crate::formats::Encoder;
use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

pub struct KeyEncoder {
    columns: Vec<usize>,
    encoder: Encoder,
    table: String,
}

/// The keys of one batch.
pub enum Keys {
    None,
    /// Of one column.
    Plain(BinaryArray),
    Records(Vec<Vec<u8>>),
}

impl KeyEncoder {
    pub fn new(table: &TableDef, columns: &[usize]) -> Result<Self> {
        Ok(Self { columns: columns.to_vec(), encoder: Encoder::new(table)?, table: table.name.clone() })
    }

    pub fn encode(&self, batch: &RecordBatch) -> Result<Keys> {
        let failed = |why| Error::Fatal(format!("the key of table '{}' cannot be written: {why}", self.table));
        match self.columns.as_slice() {
            [] => Ok(Keys::None),
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
        }
    }

    /// Rows whose key is null, which is no key.
    pub fn n_null(&self) -> usize {
        match self {
            Self::Plain(keys) => keys.null_count(),
            Self::None | Self::Records(_) => 0,
        }
    }
}
