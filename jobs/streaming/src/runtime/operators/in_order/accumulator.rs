//! Rows and what is made of them, as DataFusion's accumulators: of many groups, or of one.

use super::results::{Finish, only};
use super::rows::Rows;
use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

#[derive(Debug)]
pub struct InOrder {
    rows: Rows,
    finish: Finish,
    data_type: DataType,
}

impl InOrder {
    pub fn new(rows: Rows, finish: Finish, data_type: DataType) -> Self {
        Self { rows, finish, data_type }
    }

    fn n_emitted(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.rows.n_groups(),
            EmitTo::First(n) => n.min(self.rows.n_groups()),
        }
    }
}

impl GroupsAccumulator for InOrder {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.rows.add(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let n = self.n_emitted(emit_to);
        let results = self.finish.results(&mut self.rows, n, &self.data_type)?;
        self.rows.drop_first(n)?;
        Ok(results)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let n = self.n_emitted(emit_to);
        let lists = self.rows.lists(n)?;
        self.rows.drop_first(n)?;
        Ok(lists)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.rows.merge(values, group_indices, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.rows.lists_of_each(values, opt_filter)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.memory_bytes()
    }
}

/// Of one group, which may be asked for its result again and again.
#[derive(Debug)]
pub struct Alone(pub InOrder);

impl Accumulator for Alone {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let n_rows = values.first().map_or(0, |column| column.len());
        self.0.rows.add(values, &vec![0; n_rows], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.rows.has_groups(1);
        only(&self.0.finish.results(&mut self.0.rows, 1, &self.0.data_type)?)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.rows.has_groups(1);
        self.0.rows.lists(1)?.iter().map(only).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let n_states = states.first().map_or(0, |column| column.len());
        self.0.rows.merge(states, &vec![0; n_states], 1)
    }
}
