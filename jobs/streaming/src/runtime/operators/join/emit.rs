//! Rows that go out.

use super::{LEFT, Spec};
use crate::runtime::operators::stateful::Output;
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{ArrayRef, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::Result;
use std::sync::Arc;

/// Rows that are chosen to go out, each as often as its weight says.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Rows of a batch or slots of a side.
    pub rows: Vec<u32>,
    signs: Vec<i8>,
    /// Whether each has a match; empty where nobody asks.
    marks: Vec<bool>,
}

impl Chosen {
    pub fn push(&mut self, row: u32, weight: i64) {
        for _ in 0..weight.unsigned_abs() {
            self.rows.push(row);
            self.signs.push(weight.signum() as i8);
        }
    }

    pub fn push_marked(&mut self, row: u32, weight: i64, mark: bool) {
        self.push(row, weight);
        self.marks.resize(self.rows.len(), mark);
    }
}

/// Gives batches of the join's output, none longer than [`BATCH_ROWS`].
#[derive(Debug)]
pub struct Emitter {
    schema: SchemaRef,
    changes: bool,
    /// By side: the types of its columns.
    types: [Vec<DataType>; 2],
    /// Whether a row that goes out alone gets the columns of the other side, as nulls.
    pads: bool,
}

impl Emitter {
    pub fn new(spec: &Spec, pads: bool) -> Self {
        let types = |side: &super::Side| side.data_fields().iter().map(|field| field.data_type().clone()).collect();
        Self {
            schema: SchemaRef::clone(&spec.output),
            changes: spec.changes,
            types: [types(&spec.left), types(&spec.right)],
            pads,
        }
    }

    pub fn pairs(&self, left: Vec<ArrayRef>, right: Vec<ArrayRef>, signs: &[i8], out: &mut Output) -> Result<()> {
        self.emit(left.into_iter().chain(right).collect(), signs, out)
    }

    /// Rows of one side without a partner. `gather`: the columns of some of the chosen rows.
    pub fn alone(
        &self,
        side: usize,
        chosen: &Chosen,
        gather: impl Fn(&[u32], &[usize]) -> Result<Vec<ArrayRef>>,
        out: &mut Output,
    ) -> Result<()> {
        let all: Vec<usize> = (0..self.types[side].len()).collect();
        let mut marks = chosen.marks.chunks(BATCH_ROWS);
        for (rows, signs) in chosen.rows.chunks(BATCH_ROWS).zip(chosen.signs.chunks(BATCH_ROWS)) {
            let mut own = gather(rows, &all)?;
            own.extend(marks.next().map(|marks| Arc::new(BooleanArray::from(marks.to_vec())) as ArrayRef));
            let columns = match self.pads {
                false => own,
                true => {
                    let nulls = self.types[1 - side].iter().map(|data_type| new_null_array(data_type, rows.len()));
                    match side {
                        LEFT => own.into_iter().chain(nulls).collect(),
                        _ => nulls.chain(own).collect(),
                    }
                }
            };
            self.emit(columns, signs, out)?;
        }
        Ok(())
    }

    fn emit(&self, mut columns: Vec<ArrayRef>, signs: &[i8], out: &mut Output) -> Result<()> {
        if self.changes {
            columns.push(Arc::new(Int8Array::from(signs.to_vec())));
        }
        // The count is given because a join may have no columns at all.
        let options = RecordBatchOptions::new().with_row_count(Some(signs.len()));
        out.batches.push(RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?);
        Ok(())
    }
}
