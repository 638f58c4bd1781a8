//! The groups of rows with equal keys, which both sides share.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::rows::NONE;

/// Numbers keys from zero on.
pub struct Keys {
    schema: SchemaRef,
    /// Absent without keys: there is one group then.
    values: Option<Box<dyn GroupValues>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("n_groups", &self.n_groups()).finish_non_exhaustive()
    }
}

impl Keys {
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let values = match schema.fields().is_empty() {
            true => None,
            false => Some(new_group_values(SchemaRef::clone(&schema), &GroupOrdering::None)?),
        };
        Ok(Self { schema, values })
    }

    /// As if no key had been seen yet.
    pub fn fresh(&self) -> Result<Self> {
        Self::new(SchemaRef::clone(&self.schema))
    }

    /// By row: the group of its key.
    pub fn intern(&mut self, columns: &[ArrayRef], n_rows: usize, groups: &mut Vec<usize>) -> Result<()> {
        match &mut self.values {
            Some(values) => values.intern(columns, groups)?,
            None => {
                groups.clear();
                groups.resize(n_rows, 0);
            }
        }
        if self.n_groups() >= NONE as usize {
            return Err(DataFusionError::ResourcesExhausted("a join of more than 2^32 keys on one slice".into()));
        }
        Ok(())
    }

    pub fn n_groups(&self) -> usize {
        self.values.as_ref().map_or(1, |values| values.len())
    }

    pub fn memory_bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.size())
    }
}
