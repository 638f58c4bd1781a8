//! Finding rows by key, a batch of keys at a time.
//!
//! A key is the first columns of the primary key, all of them or fewer. Keys are kept in an encoding that is one column
//! after another, so the rows of fewer columns are those whose bytes begin with theirs.
//!
//! Invariant: all keys are answered as the table was when the lookup began.

use crate::codec::{EncodedRows, Purpose, decode, encode};
use crate::schema::{TableInfo, stored_type};
use crate::store::{RowsDefinition, Store, rows_name};
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use redb::{AccessGuard, Range, ReadOnlyTable, ReadableDatabase};
use std::collections::VecDeque;
use std::sync::Arc;

const BATCH_ROWS: usize = 8192;

/// An iterator of batches: the number of a row's key, and the row's columns. Keys come in rising order.
pub struct Lookup {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    stored: SchemaRef,
    columns: Vec<usize>,
    schema: SchemaRef,
    keys: EncodedRows,
    /// Whether a key is the whole primary key.
    whole: bool,
    next: usize,
    /// Of the key before `next`, what is not given yet.
    range: Option<Range<'static, &'static [u8], &'static [u8]>>,
}

impl Store {
    /// The rows of these keys, whose columns are the first ones of the table's primary key by name. `columns` are indices
    /// into the schema.
    pub fn lookup(&self, name: &str, keys: &RecordBatch, columns: &[usize]) -> Result<Lookup> {
        let info = self.describe(name)?;
        let rows = rows_name(info.id);
        let table = self.db.begin_read()?.open_table(RowsDefinition::new(&rows))?;
        let wanted = info.schema.project(columns).map_err(|why| Error::Invalid(why.to_string()))?;
        let number = Arc::new(Field::new("key", DataType::UInt32, false));
        let fields: Vec<_> = std::iter::once(number).chain(wanted.fields().iter().cloned()).collect();
        let encoded = encode(&fitting(&info, keys)?, keys.num_rows(), Purpose::Key)?;
        Ok(Lookup {
            table,
            stored: info.schema.clone(),
            columns: columns.to_vec(),
            schema: Arc::new(Schema::new(fields)),
            keys: encoded,
            whole: keys.num_columns() == info.primary_key.len(),
            next: 0,
            range: None,
        })
    }
}

/// The columns of the keys, as the table keeps them.
fn fitting(info: &TableInfo, keys: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let names: Vec<&str> = info.primary_key.iter().map(|at| info.schema.field(*at).name().as_str()).collect();
    let schema = keys.schema_ref();
    let asked: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let unfit = |why: String| Error::Unfit { table: info.name.clone(), why };
    if asked.is_empty() || !names.starts_with(&asked) {
        return Err(unfit(format!(
            "it was asked by ({}), and its rows are found by the first columns of its primary key ({})",
            asked.join(", "),
            names.join(", ")
        )));
    }
    let fit = |(at, column): (&usize, &ArrayRef)| {
        let kind = info.schema.field(*at).data_type();
        match stored_type(column.data_type()) == *kind {
            true => cast(column, kind).map_err(|why| unfit(why.to_string())),
            false => Err(unfit(format!("a key of type {} was sent for {info}", column.data_type()))),
        }
    };
    info.primary_key.iter().zip(keys.columns()).map(fit).collect()
}

impl Lookup {
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut guards: Vec<AccessGuard<'_, &'static [u8]>> = Vec::new();
        let mut numbers: Vec<u32> = Vec::new();
        while guards.len() < BATCH_ROWS {
            if let Some(range) = &mut self.range {
                match range.next() {
                    Some(entry) => {
                        guards.push(entry?.1);
                        numbers.push(self.next as u32 - 1);
                    }
                    None => self.range = None,
                }
                continue;
            }
            if self.next == self.keys.len() {
                break;
            }
            let key = self.keys.row(self.next);
            self.next += 1;
            if self.whole {
                if let Some(row) = self.table.get(key)? {
                    guards.push(row);
                    numbers.push(self.next as u32 - 1);
                }
                continue;
            }
            // An encoded column never ends in a byte that is all ones throughout: there is a next one.
            self.range = Some(match after(key) {
                Some(end) => self.table.range::<&[u8]>(key..end.as_slice())?,
                None => self.table.range::<&[u8]>(key..)?,
            });
        }
        if guards.is_empty() {
            return Ok(None);
        }
        let rows: Vec<&[u8]> = guards.iter().map(AccessGuard::value).collect();
        let mut arrays: VecDeque<ArrayRef> = decode(&rows, &self.stored, &self.columns)?.into();
        arrays.push_front(Arc::new(UInt32Array::from(numbers)));
        let batch = RecordBatch::try_new(self.schema.clone(), arrays.into());
        batch.map(Some).map_err(|why| Error::Corrupt(why.to_string()))
    }
}

/// The first bytes that are greater than all that begin with these.
fn after(bytes: &[u8]) -> Option<Vec<u8>> {
    let last = bytes.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = bytes[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

impl Iterator for Lookup {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}

#[cfg(test)]
mod tests;
