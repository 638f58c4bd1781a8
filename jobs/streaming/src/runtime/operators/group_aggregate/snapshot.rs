//! The operator's state as tables: one with a row per group, and one per aggregate that keeps any number of values in a group.

use super::GroupAggregate;
use super::aggregates::Slot;
use super::state::{PART_ENTRIES, primitive};
use crate::runtime::operators::stateful::{Table, expect_schema};
use crate::runtime::operators::touched::{Selection, selected};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::error::Result;
use std::sync::{Arc, Mutex, PoisonError};

/// The table with a row per group.
const GROUPS: &str = "groups";

/// The table of the values that this state keeps. Names last as long as the process; there are no more of them than a query
/// has aggregates.
fn entries_table(slot: usize) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    while names.len() <= slot {
        let name = format!("values_{}", names.len());
        names.push(name.leak());
    }
    names[slot]
}

impl GroupAggregate {
    /// Of all groups, or of those that are selected.
    pub fn save(&self, selection: Option<&Selection>) -> Result<Vec<Table>> {
        let mut groups = selected(selection, self.keys.hashes());
        groups.retain(|group| self.is_kept(*group));
        let schema = self.groups_schema();
        let parts = groups.chunks(PART_ENTRIES).map(|part| self.save_groups(&schema, part));
        let mut tables =
            vec![Table { name: GROUPS, schema: Arc::clone(&schema), batches: parts.collect::<Result<_>>()? }];
        let mut own = None;
        for (at, slot) in self.aggregates.slots().iter().enumerate() {
            let types = slot.state.entry_types();
            if types.is_empty() {
                continue;
            }
            let own: &Vec<ArrayRef> = match &own {
                Some(own) => own,
                None => own.insert(self.own_columns(&groups)?),
            };
            let (schema, mut batches) = (self.entries_schema(types), Vec::new());
            slot.state.save_entries(&groups, &mut |at, values| {
                let at = UInt32Array::from(at);
                let mut columns = own.iter().map(|column| Ok(take(column, &at, None)?)).collect::<Result<Vec<_>>>()?;
                columns.extend(values);
                batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
                Ok(())
            })?;
            tables.push(Table { name: entries_table(at), schema, batches });
        }
        tables.retain(|table| !table.batches.is_empty());
        Ok(tables)
    }

    /// What every table begins with: the hashes and keys of these groups.
    fn own_columns(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let hashes: UInt64Array = groups.iter().map(|group| Some(self.keys.hashes()[*group])).collect();
        let mut own: Vec<ArrayRef> = vec![Arc::new(hashes)];
        own.extend(self.keys.columns(groups)?);
        Ok(own)
    }

    fn save_groups(&self, schema: &SchemaRef, groups: &[usize]) -> Result<RecordBatch> {
        let mut columns = self.own_columns(groups)?;
        columns.push(Arc::new(groups.iter().map(|group| Some(self.rows[*group])).collect::<Int64Array>()));
        for slot in self.aggregates.slots() {
            columns.extend(slot.state.save(groups)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    /// Takes rows of a table back; gives false if there is no such table.
    pub(super) fn load(&mut self, table: &str, rows: &RecordBatch) -> Result<bool> {
        if table == GROUPS {
            self.load_groups(rows)?;
            return Ok(true);
        }
        let entry_types = |slot: &Slot| slot.state.entry_types();
        let slot = (0..self.aggregates.slots().len()).find(|at| entries_table(*at) == table);
        let types = slot.map(|at| (at, entry_types(&self.aggregates.slots()[at])));
        let Some((at, types)) = types.filter(|(_, types)| !types.is_empty()) else { return Ok(false) };
        expect_schema(rows, &self.entries_schema(types))?;
        let n_keys = self.keys.schema().fields().len();
        self.number(&rows.columns()[1..=n_keys], rows.num_rows())?;
        self.aggregates.slots_mut()[at].state.load_entries(self.keys.groups(), &rows.columns()[n_keys + 1..])?;
        Ok(true)
    }

    fn load_groups(&mut self, groups: &RecordBatch) -> Result<()> {
        expect_schema(groups, &self.groups_schema())?;
        if groups.num_rows() == 0 {
            return Ok(());
        }
        let n_keys = self.keys.schema().fields().len();
        self.number(&groups.columns()[1..=n_keys], groups.num_rows())?;
        let (counts, mut states) = groups.columns()[n_keys + 1..].split_at(1);
        for (group, count) in self.keys.groups().iter().zip(primitive::<Int64Type>(&counts[0])?.values()) {
            self.rows[*group] = *count;
        }
        for slot in self.aggregates.slots_mut() {
            let (own, rest) = states.split_at(slot.state.types().len());
            slot.state.load(self.keys.groups(), own)?;
            states = rest;
        }
        Ok(())
    }

    fn key_fields(&self) -> Vec<Field> {
        let keys = self.keys.schema().fields().iter().map(|field| field.as_ref().clone());
        std::iter::once(Field::new("key_hash", DataType::UInt64, false)).chain(keys).collect()
    }

    fn groups_schema(&self) -> SchemaRef {
        let mut fields = self.key_fields();
        fields.push(Field::new("rows", DataType::Int64, true));
        for (of, slot) in self.aggregates.slots().iter().enumerate() {
            let types = slot.state.types().into_iter().enumerate();
            fields.extend(types.map(|(at, data_type)| Field::new(format!("state_{of}_{at}"), data_type, true)));
        }
        Arc::new(Schema::new(fields))
    }

    fn entries_schema(&self, types: Vec<DataType>) -> SchemaRef {
        let mut fields = self.key_fields();
        let types = types.into_iter().enumerate();
        fields.extend(types.map(|(at, data_type)| Field::new(format!("value_{at}"), data_type, true)));
        Arc::new(Schema::new(fields))
    }
}
