//! A side's rows as a table, and back.
//!
//! ```text
//! key_hash UInt64 | until_us Int64, where rows expire | weight Int64, of a changelog | matches Int64, where they are counted
//!   | column_0 | column_1 | …
//! ```

use super::arrival::Arrival;
use super::rows::NONE;
use super::{Join, SIDES};
use crate::runtime::operators::stateful::{Table, expect_schema};
use crate::runtime::operators::touched::{Selection, selects};
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::chain::with_until;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By side.
const TABLES: [&str; 2] = ["left", "right"];

impl Join {
    /// Of all keys, or of those that are selected.
    pub(super) fn tables(&self, selection: Option<&Selection>) -> Result<Vec<Table>> {
        SIDES.into_iter().map(|side| self.table(side, selection)).collect()
    }

    fn table(&self, side: usize, selection: Option<&Selection>) -> Result<Table> {
        let (store, schema) = (&self.stores[side], self.state_schema(side));
        let horizon = &store.layout().horizon;
        let hash_of = |slot: u32| self.hashes[store.group(slot)];
        let is_selected = |slot: u32| slot != NONE && selects(selection, hash_of(slot));
        let mut batches = Vec::new();
        for (columns, slots) in store.parts() {
            let rows: Vec<u32> = (0..slots.len() as u32).filter(|row| is_selected(slots[*row as usize])).collect();
            if rows.is_empty() {
                continue;
            }
            let slots: Vec<u32> = rows.iter().map(|row| slots[*row as usize]).collect();
            let columns: Vec<ArrayRef> = match columns.first().is_none_or(|column| column.len() == rows.len()) {
                true => columns.to_vec(),
                false => {
                    let rows = UInt32Array::from(rows);
                    columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?
                }
            };
            let hashes = UInt64Array::from_iter_values(slots.iter().map(|slot| hash_of(*slot)));
            let mut all: Vec<ArrayRef> = vec![Arc::new(hashes)];
            if let Some(horizon) = horizon {
                // A row goes once the watermark has passed its deadline.
                let until = slots.iter().map(|slot| horizon.deadline_us(side, store.time_us(*slot)).saturating_add(1));
                all.push(Arc::new(Int64Array::from_iter_values(until)));
            }
            if store.layout().changes {
                all.push(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| store.weight(*slot)))));
            }
            if store.layout().counted {
                all.push(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| store.matches(*slot)))));
            }
            all.extend(columns);
            batches.push(RecordBatch::try_new(SchemaRef::clone(&schema), all)?);
        }
        Ok(Table { name: TABLES[side], schema, batches })
    }

    pub(super) fn take_back(&mut self, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        for side in SIDES {
            let Some(own) = tables.remove(TABLES[side]) else { continue };
            expect_schema(&own, &self.state_schema(side))?;
            for offset in (0..own.num_rows()).step_by(BATCH_ROWS) {
                self.take_back_part(side, &own.slice(offset, BATCH_ROWS.min(own.num_rows() - offset)))?;
            }
        }
        Ok(())
    }

    fn take_back_part(&mut self, side: usize, part: &RecordBatch) -> Result<()> {
        let layout = self.stores[side].layout();
        let mut columns = part.columns()[1 + usize::from(layout.horizon.is_some())..].iter().cloned();
        let mut numbers = |there: bool| match there {
            true => {
                columns.next().map(|column| column.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default()
            }
            false => Vec::new(),
        };
        let (weights, matches) = (numbers(layout.changes), numbers(layout.counted));
        let columns: Vec<ArrayRef> = columns.collect();
        let times = match &layout.horizon {
            Some(horizon) => {
                let times = columns[horizon.times[side]].as_primitive::<TimestampMicrosecondType>();
                times.values().to_vec()
            }
            None => Vec::new(),
        };
        let n_rows = part.num_rows();
        let mut arrival = Arrival { columns, n_rows, weights, times, matches, groups: Vec::new() };
        self.intern(side, &mut arrival)?;
        self.stores[side].insert(&arrival, (0..n_rows as u32).collect())?;
        self.stores[side].tidy()
    }

    fn state_schema(&self, side: usize) -> SchemaRef {
        let layout = self.stores[side].layout();
        let mut fields = vec![Field::new("key_hash", DataType::UInt64, false)];
        if layout.changes {
            fields.push(Field::new("weight", DataType::Int64, false));
        }
        if layout.counted {
            fields.push(Field::new("matches", DataType::Int64, false));
        }
        let columns = layout.types.iter().enumerate();
        fields.extend(columns.map(|(at, data_type)| Field::new(format!("column_{at}"), data_type.clone(), true)));
        let schema = Arc::new(Schema::new(fields));
        if layout.horizon.is_some() { with_until(&schema) } else { schema }
    }
}
