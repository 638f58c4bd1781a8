//! Sessions that may be answered more than once: what is out for each, and what takes its place.
//!
//! The rows that are out are kept as they were said, until their session goes: so what is taken back is exactly what was
//! said, whatever an aggregate makes of the same rows in another order.

use super::SessionAggregate;
use super::open::{Asked, Open};
use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, RowBytes};
use crate::runtime::operators::stateful::{Output, Table, expect_schema};
use crate::runtime::operators::touched::Selection;
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

pub const TABLE: &str = "answers";

#[derive(Debug)]
pub struct Answers {
    /// Of the rows that are said, without their weight: keys, start, end, results.
    rows: Encoding,
    n_keys: usize,
    stored: SchemaRef,
}

impl Answers {
    /// `output`: with the weight.
    pub fn new(output: &SchemaRef, n_keys: usize) -> Result<Self> {
        let n_columns = output.fields().len().saturating_sub(1);
        let types = output.fields().iter().take(n_columns).map(|field| field.data_type().clone());
        let rows = Encoding::new(types.collect(), &[])?;
        let stored = Arc::new(Schema::new(rows.stored_fields([])));
        Ok(Self { rows, n_keys, stored })
    }

    pub fn save(&self, open: &Open, selection: Option<&Selection>) -> Result<Table> {
        let rows: Vec<&[u8]> = open.answers(selection).map(|row| &**row).collect();
        let keys: Vec<usize> = (0..self.n_keys).collect();
        let batches = match rows.is_empty() {
            true => Vec::new(),
            false => vec![self.rows.stored(&self.stored, &keys, rows.into_iter(), Vec::new())?],
        };
        Ok(Table { name: TABLE, schema: Arc::clone(&self.stored), batches })
    }

    /// Gives their answers back to the sessions that were restored before; those of sessions that went are left out.
    pub fn load(&self, rows: Option<RecordBatch>, keys: Option<&Encoding>, open: &mut Open) -> Result<()> {
        let Some(rows) = rows else { return Ok(()) };
        expect_schema(&rows, &self.stored)?;
        let columns = &rows.columns()[1..];
        let Some(starts) = columns[self.n_keys].as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Execution(format!("answers without their start: {}", rows.schema())));
        };
        let keys = keys.map(|encoding| encoding.encode(&columns[..self.n_keys])).transpose()?;
        let encoded = self.rows.encode(columns)?;
        for row in 0..rows.num_rows() {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            open.restore_said(key, starts.value(row), RowBytes::from(encoded.row(row).data()));
        }
        Ok(())
    }
}

impl SessionAggregate {
    /// Says what is there now in place of what is out, where they differ.
    pub(super) fn answer(&mut self, out: &mut Output) -> Result<()> {
        let asked = self.open.asked();
        for asked in asked.chunks(BATCH_ROWS) {
            let Some(answers) = &self.answers else { return Ok(()) };
            let over: Vec<&Asked> = asked.iter().filter(|asked| asked.over).collect();
            let mut fresh: Option<RecordBatch> = None;
            let mut rows: Vec<RowBytes> = Vec::new();
            if !over.is_empty() {
                let results = self.layers.finish(over.iter().map(|asked| asked.fragments.as_slice()))?;
                let times = over.iter().map(|asked| (asked.first, asked.last)).collect();
                let batch = self.output(over.iter().map(|asked| &*asked.key), times, results, Some(1))?;
                let (columns, _) = changes::split(&batch, true)?;
                rows = answers.rows.encode(columns)?.iter().map(|row| RowBytes::from(row.data())).collect();
                fresh = Some(batch);
            }
            // By session that is over: whether its answer is out already.
            let stays = |asked: &Asked, row: &RowBytes| matches!(asked.before.as_slice(), [only] if only == row);
            let same: Vec<bool> = over.iter().zip(&rows).map(|(asked, row)| stays(asked, row)).collect();
            let mut of_over = same.iter();
            let gone = asked.iter().filter(|asked| !(asked.over && of_over.next().is_some_and(|same| *same)));
            let gone: Vec<&[u8]> = gone.flat_map(|asked| asked.before.iter().map(|row| &**row)).collect();
            if !gone.is_empty() {
                let n_rows = gone.len();
                let mut columns: Vec<ArrayRef> = answers.rows.decode(gone)?;
                columns.push(changes::all(-1, n_rows));
                out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
            }
            if let Some(fresh) = fresh {
                let changed = same.iter().map(|same| Some(!same)).collect();
                let changed = arrow::compute::filter_record_batch(&fresh, &changed)?;
                if changed.num_rows() > 0 {
                    out.batches.push(changed);
                }
            }
            for (asked, row) in over.into_iter().zip(rows) {
                self.open.said(asked, row);
            }
        }
        Ok(())
    }
}
