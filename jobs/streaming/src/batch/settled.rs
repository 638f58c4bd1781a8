//! What the changes of a table come to once all are read.
//!
//! Invariant: a row that is taken back more often than it came is an error; the rest is the same in whatever order
//! changes came.

use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, RowBytes};
use crate::runtime::operators::normalize::{Normalize, Spec};
use crate::runtime::operators::relabel;
use crate::runtime::operators::stateful::{Output, Stateful};
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use connectors::{Gives, TableDef};
use datafusion::common::{Result, exec_err};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Settled {
    table: String,
    /// The columns that are read and the weight.
    schema: SchemaRef,
    rows: Rows,
}

enum Rows {
    /// How often each row is there.
    Counts {
        encoding: Encoding,
        counts: BTreeMap<RowBytes, i64>,
    },
    ByKey(Box<Normalize>),
}

impl Settled {
    /// `read`: the table's columns that are read.
    pub fn new(table: &TableDef, read: &[usize], gives: Gives) -> Result<Self> {
        let mut fields: Vec<Field> = read.iter().map(|column| table.schema.field(*column).clone()).collect();
        let types = fields.iter().map(|field| field.data_type().clone()).collect();
        fields.push(changes::weight_field());
        let schema = Arc::new(Schema::new(fields));
        let rows = match gives {
            Gives::Upserts => {
                let place = |key: &usize| read.iter().position(|column| column == key);
                let keys = table.primary_key.iter().filter_map(place).collect();
                let (input, output) = (Arc::clone(&schema), Arc::clone(&schema));
                Rows::ByKey(Box::new(Normalize::new(Spec { keys, input, output })?))
            }
            Gives::Rows | Gives::Changes => {
                Rows::Counts { encoding: Encoding::new(types, &[])?, counts: BTreeMap::new() }
            }
        };
        Ok(Self { table: table.name.clone(), schema, rows })
    }

    pub fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = relabel(&self.schema, batch)?;
        match &mut self.rows {
            // Nothing is said before the end, so that no row is told that goes later.
            Rows::ByKey(normalize) => normalize.process(0, &batch, &mut Output::default()),
            Rows::Counts { encoding, counts } => {
                let rows = encoding.encode(&batch.columns()[..batch.num_columns() - 1])?;
                for (row, weight) in rows.iter().zip(changes::weights(&batch)?.values()) {
                    let count = match counts.get_mut(row.data()) {
                        Some(count) => count,
                        None => counts.entry(RowBytes::from(row.data())).or_default(),
                    };
                    *count += i64::from(*weight);
                    if *count == 0 {
                        counts.remove(row.data());
                    }
                }
                Ok(())
            }
        }
    }

    /// The rows that are left, without a weight.
    pub fn finish(self) -> Result<Vec<RecordBatch>> {
        let n_columns = self.schema.fields().len() - 1;
        let plain = Arc::new(self.schema.project(&(0..n_columns).collect::<Vec<_>>())?);
        match self.rows {
            Rows::ByKey(mut normalize) => {
                let mut out = Output::default();
                normalize.flush(&mut out)?;
                let rows = |batch: RecordBatch| {
                    Ok(RecordBatch::try_new(Arc::clone(&plain), batch.columns()[..n_columns].to_vec())?)
                };
                out.batches.into_iter().map(rows).collect()
            }
            Rows::Counts { encoding, counts } => {
                if counts.values().any(|count| *count < 0) {
                    return exec_err!("table '{}' takes back a row that never came", self.table);
                }
                let rows: Vec<&RowBytes> =
                    counts.iter().flat_map(|(row, count)| std::iter::repeat_n(row, *count as usize)).collect();
                let batch = |rows: &[&RowBytes]| {
                    let columns = encoding.decode(rows.iter().map(|row| &***row))?;
                    Ok(RecordBatch::try_new(Arc::clone(&plain), columns)?)
                };
                rows.chunks(BATCH_ROWS).map(batch).collect()
            }
        }
    }
}
