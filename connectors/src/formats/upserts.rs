//! Records by key: a value is the row of its primary key from now on, a record with a key and no value says that there is
//! none.
//!
//! Values and keys are decoded apart, each in whole columns, and put together again by their positions.
//!
//! Invariant: no row is without its whole primary key, since nothing could replace or remove it.

use super::plain_key::PlainKeyEngine;
use super::records::{self, Engine, Records};
use super::{Format, KEY_FORMAT, Part, Rejected, engine, json, schemas, timestamp::TimestampForm};
use crate::changes::weight_field;
use crate::{Options, TableDef};
use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, RecordBatch, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter_record_batch, interleave};
use arrow::datatypes::{Field, Schema, SchemaRef};
use jobs::Diagnostic;
use std::sync::Arc;

pub struct Upserts {
    /// Keys of records without a value.
    pub removals: Records,
    keys: Box<dyn Engine>,
    /// Places of the primary key among the columns wanted.
    primary_key: Vec<usize>,
    /// The columns wanted and the weight.
    schema: SchemaRef,
}

/// Where the columns of the primary key are among those that are wanted.
pub fn key_places(wanted: &SchemaRef, table: &TableDef) -> Result<Vec<usize>, Diagnostic> {
    let place = |column: &usize| {
        let name = table.schema.field(*column).name();
        wanted.index_of(name).map_err(|_| {
            Diagnostic::new(format!("table '{}' is read without column '{name}' of its primary key", table.name))
        })
    };
    table.primary_key.iter().map(place).collect()
}

/// The columns wanted, and behind them the weight.
pub fn with_weight(wanted: &Schema) -> SchemaRef {
    let fields = wanted.fields().iter().map(|field| field.as_ref().clone());
    Arc::new(Schema::new(fields.chain([weight_field()]).collect::<Vec<Field>>()))
}

impl Upserts {
    pub fn new(wanted: &SchemaRef, table: &TableDef, key_columns: &[usize]) -> Result<Self, Diagnostic> {
        let fields: Vec<Field> = key_columns.iter().map(|column| table.schema.field(*column).clone()).collect();
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let key_schema = Arc::new(Schema::new(fields));
        let options = Options::new(table);
        let form = options.one_of(KEY_FORMAT.name, &["plain", "json", "avro", "protobuf"])?;
        let binary = Format::of_keys(table, key_columns.len())?;
        let keys: Box<dyn Engine> = match (form, key_columns.len()) {
            _ if let Some(format) = binary => {
                let all = key_schema.fields().clone();
                schemas::engine(format, Part::Key, key_schema, &all, table)?
            }
            (Some("json"), _) => json::engine(key_schema, TimestampForm::of(table)?)?,
            (_, 1) => Box::new(PlainKeyEngine::new(key_schema)),
            (None, _) if Format::of(table)? != Format::Raw => engine(key_schema, table, &names)?,
            (_, n) => {
                return Err(options
                    .wrong(KEY_FORMAT.name, format!("a key of {n} columns has no plain text"))
                    .help("use key.format = 'json'"));
            }
        };
        let primary_key = key_places(wanted, table)?;
        Ok(Self { removals: Records::default(), keys, primary_key, schema: with_weight(wanted) })
    }

    pub fn prepare(&mut self) -> crate::Result<()> {
        self.keys.prepare(&self.removals)
    }

    /// Rows of values and removals, in the order in which they came.
    pub fn merged(
        &mut self,
        values: &Records,
        (rows, mut rejected): (RecordBatch, Vec<Rejected>),
    ) -> (RecordBatch, Vec<Rejected>) {
        let (keys, bad_keys) = records::decode_all(&self.removals, self.keys.as_mut());
        let (row_positions, key_positions) =
            (values.good_positions(&rejected), self.removals.good_positions(&bad_keys));
        let places: Vec<usize> = self.primary_key.clone();
        let (rows, row_positions, keyless) = with_keys(rows, row_positions, &places);
        rejected.extend(keyless.into_iter().map(|position| keyless_record(values, position)));
        let all: Vec<usize> = (0..keys.num_columns()).collect();
        let (keys, key_positions, keyless) = with_keys(keys, key_positions, &all);
        rejected.extend(bad_keys);
        rejected.extend(keyless.into_iter().map(|position| keyless_record(&self.removals, position)));
        rejected.sort_by_key(|(position, ..)| *position);
        self.removals.clear();

        let mut picks = Vec::with_capacity(row_positions.len() + key_positions.len());
        let mut next_key = 0;
        for (row, position) in row_positions.iter().enumerate() {
            while key_positions.get(next_key).is_some_and(|key| key < position) {
                picks.push((1, next_key));
                next_key += 1;
            }
            picks.push((0, row));
        }
        picks.extend((next_key..key_positions.len()).map(|key| (1, key)));
        (self.put_together(&rows, &keys, &picks), rejected)
    }

    fn put_together(&self, rows: &RecordBatch, keys: &RecordBatch, picks: &[(usize, usize)]) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = match keys.num_rows() {
            0 => rows.columns().to_vec(),
            n_keys => rows
                .schema_ref()
                .fields()
                .iter()
                .zip(rows.columns())
                .map(|(field, column)| {
                    let of_keys = match keys.schema_ref().index_of(field.name()) {
                        Ok(at) => Arc::clone(keys.column(at)),
                        Err(_) => new_null_array(field.data_type(), n_keys),
                    };
                    interleave(&[column.as_ref(), of_keys.as_ref()], picks)
                        .expect("a column of rows and keys has one type")
                })
                .collect(),
        };
        let weights = picks.iter().map(|(which, _)| if *which == 0 { 1 } else { -1 });
        columns.push(Arc::new(Int8Array::from_iter_values(weights)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("columns wanted and a weight")
    }
}

/// The rows whose columns `places` all have a value, with their positions, and the positions of the others.
fn with_keys(batch: RecordBatch, positions: Vec<u64>, places: &[usize]) -> (RecordBatch, Vec<u64>, Vec<u64>) {
    let nulls = places.iter().fold(None, |nulls: Option<NullBuffer>, place| {
        NullBuffer::union(nulls.as_ref(), batch.column(*place).logical_nulls().as_ref())
    });
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return (batch, positions, Vec::new()) };
    let kept = BooleanArray::new(nulls.inner().clone(), None);
    let batch = filter_record_batch(&batch, &kept).expect("a mask as long as its batch");
    let (good, bad): (Vec<_>, Vec<_>) = positions.into_iter().enumerate().partition(|(row, _)| nulls.is_valid(*row));
    let only = |pairs: Vec<(usize, u64)>| pairs.into_iter().map(|(_, position)| position).collect();
    (batch, only(good), only(bad))
}

fn keyless_record(records: &Records, position: u64) -> Rejected {
    let bytes = records.at_position(position).map_or_else(Vec::new, |at| records.get(at).to_vec());
    (position, bytes, "the primary key is null or not all there".to_owned())
}

#[cfg(test)]
mod tests;
