//! The keys of all groups, numbered from 0 in the order in which they were seen.
//!
//! DataFusion's group tables find the number of a key, a whole batch at once, but give keys back only by giving all of them
//! away; so each key is kept a second time, as a row that can be read.

use crate::runtime::operators::stateful::external;
use crate::state::hash;
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use std::sync::Arc;

pub struct Keys {
    schema: SchemaRef,
    /// Absent without keys: there is one group then.
    table: Option<Table>,
    n_groups: usize,
    /// By group: the hash that says which slice owns the key.
    hashes: Vec<u64>,
    /// By row of the batch at hand: its group.
    groups: Vec<usize>,
}

struct Table {
    numbers: Box<dyn GroupValues>,
    converter: RowConverter,
    /// By group: its key.
    rows: Rows,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("n_groups", &self.n_groups).finish_non_exhaustive()
    }
}

impl Table {
    fn new(schema: &SchemaRef) -> Result<Self> {
        let numbers = new_group_values(Arc::clone(schema), &GroupOrdering::None)?;
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let rows = converter.empty_rows(0, 0);
        Ok(Self { numbers, converter, rows })
    }

    /// Keeps the keys of groups from `n_known` on, whose first rows are in these columns; gives their hashes.
    fn add(&mut self, columns: &[ArrayRef], groups: &[usize], n_known: usize) -> Result<Vec<u64>> {
        let n_new = self.numbers.len() - n_known;
        if n_new == 0 {
            return Ok(Vec::new());
        }
        let mut firsts = vec![None; n_new];
        for (row, group) in groups.iter().enumerate() {
            if let Some(first) = group.checked_sub(n_known).and_then(|at| firsts.get_mut(at)) {
                first.get_or_insert(row as u32);
            }
        }
        let firsts = UInt32Array::from(firsts);
        if firsts.null_count() > 0 {
            return Err(DataFusionError::Internal("a group without a row".into()));
        }
        let columns = columns.iter().map(|column| Ok(take(column, &firsts, None)?)).collect::<Result<Vec<_>>>()?;
        self.converter.append(&mut self.rows, &columns)?;
        hash::hash_rows(&columns, n_new).map_err(external)
    }
}

impl Keys {
    pub fn new(types: impl Iterator<Item = DataType>) -> Result<Self> {
        let fields = types.enumerate().map(|(at, data_type)| Field::new(format!("key_{at}"), plain(&data_type), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let table = if schema.fields().is_empty() { None } else { Some(Table::new(&schema)?) };
        Ok(Self { schema, table, n_groups: 0, hashes: Vec::new(), groups: Vec::new() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn len(&self) -> usize {
        self.n_groups
    }

    /// By row of the batch that was numbered last.
    pub fn groups(&self) -> &[usize] {
        &self.groups
    }

    /// Numbers the keys of a batch.
    pub fn number(&mut self, columns: &[ArrayRef], n_rows: usize) -> Result<()> {
        let Some(table) = &mut self.table else {
            self.groups.clear();
            self.groups.resize(n_rows, 0);
            if self.n_groups == 0 {
                self.hashes = hash::hash_rows(&[], 1).map_err(external)?;
                self.n_groups = 1;
            }
            return Ok(());
        };
        let fields = self.schema.fields().iter();
        let columns = columns.iter().zip(fields).map(|(column, field)| typed(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        table.numbers.intern(&columns, &mut self.groups)?;
        self.hashes.extend(table.add(&columns, &self.groups, self.n_groups)?);
        self.n_groups = table.numbers.len();
        if u32::try_from(self.n_groups).is_err() {
            return Err(DataFusionError::ResourcesExhausted(format!("{} groups on one slice", self.n_groups)));
        }
        Ok(())
    }

    /// The key columns of these groups.
    pub fn columns(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        match &self.table {
            Some(table) => Ok(table.converter.convert_rows(groups.iter().map(|group| table.rows.row(*group)))?),
            None => Ok(Vec::new()),
        }
    }

    /// By group: the hash that says which slice owns the key.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Keeps these groups and gives their old numbers in the order of their new ones.
    pub fn keep(&mut self, groups: Vec<usize>) -> Result<Vec<usize>> {
        let columns = self.columns(&groups)?;
        let Some(before) = self.table.take() else { return Ok(groups) };
        let mut table = Table::new(&self.schema)?;
        table.numbers.intern(&columns, &mut self.groups)?;
        if table.numbers.len() != groups.len() {
            return Err(DataFusionError::Internal("two groups with the same key".into()));
        }
        self.hashes = table.add(&columns, &self.groups, 0)?;
        drop(before);
        let mut old = vec![0; groups.len()];
        self.groups.iter().zip(groups).for_each(|(now, group)| old[*now] = group);
        self.groups = Vec::new();
        self.n_groups = table.numbers.len();
        self.table = Some(table);
        Ok(old)
    }

    pub fn memory_bytes(&self) -> usize {
        let table =
            self.table.as_ref().map_or(0, |table| table.numbers.size() + table.converter.size() + table.rows.size());
        table + self.groups.capacity() * size_of::<usize>() + self.hashes.capacity() * size_of::<u64>()
    }
}

/// The type without a dictionary.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

/// The column as this type, which differs at most by a dictionary.
pub fn typed(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    Ok(if column.data_type() == data_type { Arc::clone(column) } else { cast(column, data_type)? })
}
