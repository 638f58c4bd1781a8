//! A side's rows as a table, and back.
//!
//! ```text
//! key_hash UInt64 | until_us Int64, where rows expire | weight Int64, of a changelog | matches Int64, where they are counted
//!   | column_0 | column_1 | …
//! ```

use super::arrival::Arrival;
use super::lifetime::UNDATED;
use super::rows::NONE;
use super::{Join, SIDES};
use crate::runtime::operators::stateful::{Table, expect_schema};
use crate::runtime::operators::touched::{Selection, selected};
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::chain::with_until;
use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By side.
const TABLES: [&str; 2] = ["left", "right"];

/// The same where rows have a time to live: tables of their own, so that one chain may hold rows from before it was set,
/// or from before it was taken away.
const LIVING_TABLES: [&str; 2] = ["left_living", "right_living"];

impl Join {
    /// Of all keys, or of those that are selected.
    pub(super) fn tables(&self, selection: Option<&Selection>) -> Result<Vec<Table>> {
        SIDES.into_iter().map(|side| self.table(side, selection)).collect()
    }

    fn table(&self, side: usize, selection: Option<&Selection>) -> Result<Table> {
        let store = &self.stores[side];
        let layout = store.layout();
        let schema = self.state_schema(side, layout.expires());
        let hash_of = |slot: u32| self.hashes[store.group(slot)];
        // One bit a key, which stays in the cache while all rows are looked at.
        let selected = selection.map(|selection| {
            let mut bits = BooleanBufferBuilder::new(self.hashes.len());
            bits.append_n(self.hashes.len(), false);
            selected(Some(selection), &self.hashes).into_iter().for_each(|group| bits.set_bit(group, true));
            bits.finish()
        });
        let is_selected =
            |slot: u32| slot != NONE && selected.as_ref().is_none_or(|selected| selected.value(store.group(slot)));
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
            if layout.expires() {
                // A row goes once the watermark has passed its deadline.
                let until = slots.iter().map(|slot| layout.deadline_us(store.time_us(*slot)).saturating_add(1));
                all.push(Arc::new(Int64Array::from_iter_values(until)));
            }
            if layout.changes {
                all.push(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| store.weight(*slot)))));
            }
            if layout.counted {
                all.push(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| store.matches(*slot)))));
            }
            all.extend(columns);
            batches.push(RecordBatch::try_new(SchemaRef::clone(&schema), all)?);
        }
        let name = if layout.ttl_us.is_some() { LIVING_TABLES[side] } else { TABLES[side] };
        Ok(Table { name, schema, batches })
    }

    pub(super) fn take_back(&mut self, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        for side in SIDES {
            let is_bound = self.stores[side].layout().horizon.is_some();
            for (name, has_until) in [(TABLES[side], is_bound), (LIVING_TABLES[side], true)] {
                let Some(own) = tables.remove(name) else { continue };
                expect_schema(&own, &self.state_schema(side, has_until))?;
                for offset in (0..own.num_rows()).step_by(BATCH_ROWS) {
                    let part = own.slice(offset, BATCH_ROWS.min(own.num_rows() - offset));
                    self.take_back_part(side, &part, has_until)?;
                }
            }
        }
        Ok(())
    }

    /// `has_until`: the rows are written with the moment at which they are void.
    fn take_back_part(&mut self, side: usize, part: &RecordBatch, has_until: bool) -> Result<()> {
        let layout = self.stores[side].layout();
        let mut columns = part.columns()[1 + usize::from(has_until)..].iter().cloned();
        let mut numbers = |there: bool| match there {
            true => {
                columns.next().map(|column| column.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default()
            }
            false => Vec::new(),
        };
        let (weights, matches) = (numbers(layout.changes), numbers(layout.counted));
        let columns: Vec<ArrayRef> = columns.collect();
        let n_rows = part.num_rows();
        let times = match (&layout.horizon, layout.ttl_us) {
            (Some(horizon), _) => {
                let times = columns[horizon.times[side]].as_primitive::<TimestampMicrosecondType>();
                times.values().to_vec()
            }
            (None, Some(_)) if has_until => part.column(1).as_primitive::<Int64Type>().values().to_vec(),
            (None, Some(_)) => vec![UNDATED; n_rows],
            (None, None) => Vec::new(),
        };
        // What is not dated is to be written again once it is.
        let is_written_otherwise =
            has_until != layout.expires() || (layout.ttl_us.is_some() && times.contains(&UNDATED));
        let mut arrival = Arrival { columns, n_rows, weights, times, matches, groups: Vec::new() };
        self.intern(side, &mut arrival)?;
        if is_written_otherwise {
            self.touched.mark_each(arrival.groups.iter().copied(), self.keys.n_groups());
        }
        self.stores[side].insert(&arrival, (0..n_rows as u32).collect())?;
        self.stores[side].tidy()
    }

    fn state_schema(&self, side: usize, has_until: bool) -> SchemaRef {
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
        if has_until { with_until(&schema) } else { schema }
    }
}
