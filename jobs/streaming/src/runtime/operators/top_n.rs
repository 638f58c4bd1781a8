//! Of the rows of each key the first ones in an order, as a changelog.
//!
//! A flush says, for each key that has changed, the difference between what was said before and what holds now. Rows
//! that are equal in the order are ranked by all they hold.
//!
//! Where no row is ever taken back, a row that is not among the first ones can never become one of them: only as many
//! rows as the limit are kept per key ([`best`]), and a row that is worse than all of these costs one comparison of the
//! columns of the order. Otherwise all rows are kept ([`all`]). Where besides the order rises with event time, rows may be
//! said once, when the watermark has passed them, by an operator of its own ([`settled`]).
//!
//! Invariant: what is said, in sum, depends on the rows alone, not on the order in which they came, on batches, flushes,
//! the number of slices, or a checkpoint and restore in between.
//!
//! Snapshots: a key is touched when a row comes to it, goes from it or displaces another one; a row that is worse than the
//! kept ones touches nothing. Nothing goes with event time.

use crate::dataflow::Order;
use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, RowBytes};
use crate::runtime::operators::partitions::Partitions;
use crate::runtime::operators::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema};
use crate::runtime::operators::touched::Selection;
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::hashes::Hashes;
use all::All;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use best::Best;
use datafusion::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod all;
mod best;
pub mod settled;

/// The state's only table.
const ROWS: &str = "rows";

/// How the operator was planned; see `Operator::TopN`.
#[derive(Debug)]
pub struct Spec {
    pub keys: Vec<usize>,
    pub order: Vec<Order>,
    pub limit: usize,
    pub rank: bool,
    pub input: SchemaRef,
    /// Whether rows of the input may be taken back.
    pub changes: bool,
    /// The input's columns without its weight, then the rank where it is asked for, then the weight.
    pub output: SchemaRef,
}

/// A row and its rank, counted from 1.
type Ranked = (RowBytes, u64);

/// The difference that a flush says.
#[derive(Debug, Default)]
struct Difference {
    gone: Vec<Ranked>,
    come: Vec<Ranked>,
}

#[derive(Debug)]
enum Kept {
    Best(Partitions<Best>),
    All(Partitions<All>),
}

#[derive(Debug)]
pub struct TopN {
    spec: Spec,
    encoding: Encoding,
    /// Of the first columns of the order alone, as many as have a fixed width: texts would be encoded twice to settle few ties.
    order: Option<Encoding>,
    kept: Kept,
    /// Rows that were said and have been displaced since then.
    displaced: Vec<Ranked>,
    n_pending: usize,
    rows_bytes: usize,
    watermark_us: i64,
    /// What the watermark was when all was said.
    said_us: i64,
}

impl TopN {
    pub fn new(mut spec: Spec) -> Result<Self> {
        // A column that comes a second time decides nothing.
        let mut seen = BTreeSet::new();
        spec.order.retain(|by| seen.insert(by.column));
        let n_columns = spec.input.fields().len() - usize::from(spec.changes);
        let types: Vec<DataType> =
            spec.input.fields().iter().take(n_columns).map(|field| field.data_type().clone()).collect();
        let encoding = Encoding::new(types.clone(), &spec.order)?;
        let order_types: Vec<DataType> =
            spec.order.iter().map(|by| types[by.column].clone()).take_while(DataType::is_primitive).collect();
        let order = spec.order.iter().take(order_types.len()).enumerate();
        let order = order.map(|(column, by)| Order { column, options: by.options });
        let order = match order_types.is_empty() {
            true => None,
            false => Some(Encoding::new(order_types, &order.collect::<Vec<_>>())?),
        };
        let kept = match spec.changes {
            true => Kept::All(Partitions::new(&spec.input, &spec.keys)?),
            false => Kept::Best(Partitions::new(&spec.input, &spec.keys)?),
        };
        Ok(Self {
            spec,
            encoding,
            order,
            kept,
            displaced: Vec::new(),
            n_pending: 0,
            rows_bytes: 0,
            watermark_us: i64::MIN,
            said_us: i64::MIN,
        })
    }
}

impl Stateful for TopN {
    fn process(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<()> {
        let (columns, weights) = changes::split(batch, self.spec.changes)?;
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        match &mut self.kept {
            Kept::All(partitions) => {
                let numbers = partitions.number(&keys, batch.num_rows())?;
                let rows = self.encoding.encode(columns)?;
                for (row, number) in numbers.into_iter().enumerate() {
                    let weight = weights.map_or(1, |weights| i64::from(weights.value(row)));
                    let grown = partitions.touch(number).change(rows.row(row).data(), weight);
                    self.rows_bytes = self.rows_bytes.saturating_add_signed(grown);
                }
                self.n_pending += batch.num_rows();
            }
            Kept::Best(partitions) => {
                let numbers = partitions.number(&keys, batch.num_rows())?;
                let Some((columns, numbers)) =
                    candidates(partitions, self.order.as_ref(), &self.spec, columns, numbers)?
                else {
                    return Ok(());
                };
                let rows = self.encoding.encode(&columns)?;
                for (row, number) in numbers.into_iter().enumerate() {
                    let row = rows.row(row);
                    let Some(at) = partitions.get(number).place(row.data(), self.spec.limit) else { continue };
                    let grown = partitions.touch(number).insert(at, row.data(), self.spec.limit, &mut self.displaced);
                    self.rows_bytes = self.rows_bytes.saturating_add_signed(grown);
                    self.n_pending += 1;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, watermark_us: i64, _: &mut Output) -> Result<()> {
        self.watermark_us = self.watermark_us.max(watermark_us);
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.n_pending = 0;
        self.said_us = self.watermark_us;
        let mut difference = Difference { gone: std::mem::take(&mut self.displaced), come: Vec::new() };
        let (limit, rank) = (self.spec.limit, self.spec.rank);
        match &mut self.kept {
            Kept::Best(partitions) => {
                let dirty = partitions.take_dirty();
                dirty.iter().for_each(|number| partitions.get_mut(*number).say(rank, &mut difference));
                partitions.settle(&dirty)?;
            }
            Kept::All(partitions) => {
                let dirty = partitions.take_dirty();
                dirty.iter().for_each(|number| partitions.get_mut(*number).say(limit, rank, &mut difference));
                partitions.settle(&dirty)?;
            }
        }
        self.emit(&difference.gone, -1, out)?;
        self.emit(&difference.come, 1, out)
    }

    fn n_pending(&self) -> usize {
        self.n_pending
    }

    /// What is kept back may be as old as the last flush. A row that is taken back may be of any age.
    fn output_watermark_us(&self) -> i64 {
        if self.n_pending > 0 { self.said_us } else { self.watermark_us }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let schema = self.state_schema();
        let selection = match &mut self.kept {
            Kept::Best(partitions) => partitions.take_touched(scope, 0),
            Kept::All(partitions) => partitions.take_touched(scope, 0),
        };
        let selected = selection.as_ref();
        let rows: Vec<(&[u8], i64)> = match &self.kept {
            Kept::Best(partitions) => partitions.selected(selected).flat_map(|best| best.rows()).collect(),
            Kept::All(partitions) => partitions.selected(selected).flat_map(|all| all.rows()).collect(),
        };
        let batch = |rows: &[(&[u8], i64)]| {
            let counts: ArrayRef = Arc::new(rows.iter().map(|(_, count)| Some(*count)).collect::<Int64Array>());
            self.encoding.stored(&schema, &self.spec.keys, rows.iter().map(|(row, _)| *row), vec![counts])
        };
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
        let tables = vec![Table { name: ROWS, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    /// What was said before the checkpoint are the first rows of what was there.
    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        (self.watermark_us, self.said_us) = (watermark_us, watermark_us);
        let Some(own) = tables.remove(ROWS) else { return Ok(()) };
        expect_schema(&own, &self.state_schema())?;
        let columns = &own.columns()[1..=self.encoding.n_columns()];
        let counts = own.column(self.encoding.n_columns() + 1).as_primitive::<Int64Type>();
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let rows = self.encoding.encode(columns)?;
        let (limit, rank) = (self.spec.limit, self.spec.rank);
        let mut said = Difference::default();
        match &mut self.kept {
            Kept::Best(partitions) => {
                for (row, number) in partitions.number(&keys, own.num_rows())?.into_iter().enumerate() {
                    for _ in 0..counts.value(row).clamp(0, i64::try_from(limit).unwrap_or(i64::MAX)) {
                        let bytes = rows.row(row).data();
                        let Some(at) = partitions.get(number).place(bytes, limit) else { continue };
                        let grown = partitions.touch(number).insert(at, bytes, limit, &mut said.gone);
                        self.rows_bytes = self.rows_bytes.saturating_add_signed(grown);
                    }
                }
                let dirty = partitions.take_dirty();
                dirty.iter().for_each(|number| partitions.get_mut(*number).say(rank, &mut said));
                partitions.forget_touched();
                partitions.settle(&dirty)
            }
            Kept::All(partitions) => {
                for (row, number) in partitions.number(&keys, own.num_rows())?.into_iter().enumerate() {
                    let grown = partitions.touch(number).change(rows.row(row).data(), counts.value(row));
                    self.rows_bytes = self.rows_bytes.saturating_add_signed(grown);
                }
                let dirty = partitions.take_dirty();
                dirty.iter().for_each(|number| partitions.get_mut(*number).say(limit, rank, &mut said));
                partitions.forget_touched();
                partitions.settle(&dirty)
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let table = match &self.kept {
            Kept::Best(partitions) => partitions.memory_bytes(),
            Kept::All(partitions) => partitions.memory_bytes(),
        };
        table + self.rows_bytes
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn timing(&self) -> Timing {
        Timing::NONE
    }
}

impl Forgets for TopN {
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let rows_bytes = &mut self.rows_bytes;
        match &mut self.kept {
            Kept::Best(partitions) => partitions.forget(keys, |best| *rows_bytes -= best.bytes()),
            Kept::All(partitions) => partitions.forget(keys, |all| *rows_bytes -= all.bytes()),
        }
    }

    fn note_touched(&mut self, keys: &[u64]) {
        match &mut self.kept {
            Kept::Best(partitions) => partitions.note_all_touched(keys),
            Kept::All(partitions) => partitions.note_all_touched(keys),
        }
    }
}

/// The rows that may be among the best of their key, and the numbers of their keys. They are sought by the first columns
/// of the order alone, against what is kept so far, so that most rows of a long stream are never encoded as a whole.
fn candidates(
    partitions: &Partitions<Best>,
    order: Option<&Encoding>,
    spec: &Spec,
    columns: &[ArrayRef],
    mut numbers: Vec<usize>,
) -> Result<Option<(Vec<ArrayRef>, Vec<usize>)>> {
    let Some(order) = order else { return Ok(Some((columns.to_vec(), numbers))) };
    let n_rows = numbers.len();
    let by = spec.order.iter().take(order.n_columns());
    let by = order.encode(&by.map(|by| Arc::clone(&columns[by.column])).collect::<Vec<_>>())?;
    let mut rows: Vec<u32> = Vec::with_capacity(n_rows);
    for (row, number) in numbers.iter().enumerate() {
        if !partitions.get(*number).refuses(by.row(row).data(), spec.limit) {
            rows.push(row as u32);
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    if rows.len() == n_rows {
        return Ok(Some((columns.to_vec(), numbers)));
    }
    numbers = rows.iter().map(|row| numbers[*row as usize]).collect();
    let rows = UInt32Array::from(rows);
    let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?;
    Ok(Some((columns, numbers)))
}

impl TopN {
    fn emit(&self, rows: &[Ranked], weight: i8, out: &mut Output) -> Result<()> {
        for rows in rows.chunks(BATCH_ROWS) {
            let mut columns = self.encoding.decode(rows.iter().map(|(row, _)| &**row))?;
            if self.spec.rank {
                columns.push(Arc::new(rows.iter().map(|(_, rank)| Some(*rank)).collect::<UInt64Array>()));
            }
            columns.push(changes::all(weight, rows.len()));
            out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
        }
        Ok(())
    }

    fn state_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.encoding.stored_fields([Field::new("count", DataType::Int64, false)])))
    }
}

#[cfg(test)]
mod tests;
