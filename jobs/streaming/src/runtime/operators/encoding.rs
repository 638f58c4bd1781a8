//! Rows as bytes: equal rows have equal bytes, and bytes sort as the rows do.
//!
//! The columns of an order come first, each in its direction, then all the others. So one comparison of bytes settles
//! ties as well, by what the rows hold and not by when they came; and the bytes of the order's columns alone are the
//! beginning of the row's.
//!
//! Invariant: bytes are for memory only. What goes to a checkpoint is decoded to columns first, because the encoding is
//! that of a release of Arrow.

use crate::dataflow::Order;
use crate::runtime::operators::stateful::external;
use crate::state::hash;
use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::row::{RowConverter, RowParser, Rows, SortField};
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

/// A row, shared by those that hold it.
pub type RowBytes = Arc<[u8]>;

/// What a row in memory costs beyond its bytes: the counts of its pointer and the allocator's share.
pub const ROW_OVERHEAD_BYTES: usize = 32;

#[derive(Debug)]
pub struct Encoding {
    types: Vec<DataType>,
    /// By place in the bytes: the column.
    columns: Vec<usize>,
    /// By column: its place in the bytes.
    places: Vec<usize>,
    converter: RowConverter,
    parser: RowParser,
}

impl Encoding {
    /// For rows of these types, sorted by `order`.
    pub fn new(types: Vec<DataType>, order: &[Order]) -> Result<Self> {
        let mut columns = Vec::with_capacity(types.len());
        let mut fields = Vec::with_capacity(types.len());
        for Order { column, options } in order {
            let Some(data_type) = types.get(*column) else {
                return Err(DataFusionError::Plan(format!("order by column {column} of {}", types.len())));
            };
            // A column that comes a second time decides nothing.
            if !columns.contains(column) {
                columns.push(*column);
                fields.push(SortField::new_with_options(data_type.clone(), *options));
            }
        }
        let rest: Vec<usize> = (0..types.len()).filter(|column| !columns.contains(column)).collect();
        fields.extend(rest.iter().map(|column| SortField::new(types[*column].clone())));
        columns.extend(rest);
        if columns.is_empty() {
            return Err(DataFusionError::Plan("rows without columns cannot be kept".to_string()));
        }
        let mut places = vec![0; columns.len()];
        for (place, column) in columns.iter().enumerate() {
            places[*column] = place;
        }
        let converter = RowConverter::new(fields)?;
        Ok(Self { types, columns, places, parser: converter.parser(), converter })
    }

    pub fn n_columns(&self) -> usize {
        self.types.len()
    }

    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| Arc::clone(&columns[*column])).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// The columns of rows that this encoding made.
    pub fn decode<'a>(&'a self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let columns = self.converter.convert_rows(rows.into_iter().map(|row| self.parser.parse(row)))?;
        let column = |(place, data_type): (&usize, &DataType)| {
            let column = &columns[*place];
            // Dictionaries come back as their values.
            Ok(if column.data_type() == data_type { Arc::clone(column) } else { cast(column, data_type)? })
        };
        self.places.iter().zip(&self.types).map(column).collect()
    }

    /// The fields of a state table of such rows: the hash of the key, the row, and then what the operator adds.
    pub fn stored_fields(&self, extra: impl IntoIterator<Item = Field>) -> Vec<Field> {
        let mut fields = vec![Field::new("key_hash", DataType::UInt64, false)];
        let columns = self.types.iter().enumerate();
        fields.extend(columns.map(|(at, data_type)| Field::new(format!("column_{at}"), data_type.clone(), true)));
        fields.extend(extra);
        fields
    }

    /// Rows of such a table.
    pub fn stored<'a>(
        &'a self,
        schema: &SchemaRef,
        keys: &[usize],
        rows: impl ExactSizeIterator<Item = &'a [u8]>,
        extra: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let n_rows = rows.len();
        let columns = self.decode(rows)?;
        let keys: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let hashes = hash::hash_rows(&keys, n_rows).map_err(external)?;
        let mut stored: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(hashes))];
        stored.extend(columns);
        stored.extend(extra);
        Ok(RecordBatch::try_new(Arc::clone(schema), stored)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::compute::SortOptions;
    use arrow::datatypes::Int64Type;

    #[test]
    fn bytes_sort_by_the_order_and_then_by_the_rest() {
        let order = Order { column: 1, options: SortOptions { descending: true, nulls_first: false } };
        let encoding = Encoding::new(vec![DataType::Utf8, DataType::Int64], &[order, order]).expect("encoding");
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some("a"), Some("c"), None, None]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(7), Some(1), None]));
        let rows = encoding.encode(&[texts, numbers]).expect("rows");
        let mut rows: Vec<&[u8]> = rows.iter().map(|row| row.data()).collect();
        rows.sort();
        let columns = encoding.decode(rows).expect("columns");
        let texts: Vec<Option<&str>> = columns[0].as_string::<i32>().iter().collect();
        let numbers: Vec<Option<i64>> = columns[1].as_primitive::<Int64Type>().iter().collect();
        assert_eq!(texts, [Some("c"), None, Some("a"), Some("b"), None]);
        assert_eq!(numbers, [Some(7), Some(1), Some(1), Some(1), None]);
    }
}
