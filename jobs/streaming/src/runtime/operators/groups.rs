//! Keys and their aggregates: a thin layer over DataFusion's group tables and vectorised accumulators.
//!
//! The accumulators hand out their state or result only by giving it away. So a group table has two forms: [`Live`]
//! takes rows, [`Frozen`] is plain columns, which can be written to a checkpoint, merged any number of times, and come
//! back to life when another row arrives. Freezing for a checkpoint costs a table that gets no more rows nothing later.

use crate::runtime::operators::{evaluate, evaluate_predicate};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use std::sync::Arc;

/// What is grouped and what is computed.
#[derive(Debug)]
pub struct Aggregation {
    keys: SchemaRef,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// By aggregate: the columns that its state consists of.
    states: Vec<Vec<DataType>>,
}

impl Aggregation {
    pub fn new(input: &Schema, keys: &[usize], aggregates: Vec<Arc<AggregateFunctionExpr>>) -> Result<Self> {
        let keys = Schema::new(keys.iter().map(|key| input.field(*key).clone()).collect::<Vec<_>>());
        let states = aggregates
            .iter()
            .map(|aggregate| {
                let fields = aggregate.state_fields()?;
                Ok(fields.iter().map(|field| field.data_type().clone()).collect())
            })
            .collect::<Result<_>>()?;
        Ok(Self { keys: Arc::new(keys), aggregates, states })
    }

    pub fn n_keys(&self) -> usize {
        self.keys.fields().len()
    }

    /// The expressions whose values [`Live::update`] wants, by aggregate.
    pub fn arguments(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        let of = |aggregate: &Arc<AggregateFunctionExpr>| {
            let mut arguments = aggregate.expressions();
            arguments.extend(aggregate.order_bys().iter().map(|by| Arc::clone(&by.expr)));
            arguments
        };
        self.aggregates.iter().map(of).collect()
    }

    /// The columns of [`Frozen`], keys first. Names are positions: a checkpoint must not depend on how the query or a
    /// release of DataFusion calls them.
    pub fn frozen_fields(&self) -> Vec<Field> {
        let keys = self.keys.fields().iter().map(|field| field.data_type().clone());
        let keys = keys.enumerate().map(|(at, data_type)| Field::new(format!("key_{at}"), data_type, true));
        let states = self.states.iter().enumerate().flat_map(|(of, states)| {
            let name = move |at: usize| format!("state_{of}_{at}");
            states.iter().enumerate().map(move |(at, data_type)| Field::new(name(at), data_type.clone(), true))
        });
        keys.chain(states).collect()
    }
}

/// Groups as columns: keys, then the states of each aggregate.
#[derive(Clone, Debug)]
pub struct Frozen {
    pub columns: Vec<ArrayRef>,
    pub n_groups: usize,
}

impl Frozen {
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.get_array_memory_size()).sum()
    }
}

/// The rows of a batch, as groups take them.
#[derive(Debug)]
pub struct Inputs {
    keys: Vec<ArrayRef>,
    n_rows: usize,
    /// By aggregate, see [`Aggregation::arguments`].
    arguments: Vec<Vec<ArrayRef>>,
    /// By aggregate; they hold no nulls.
    filters: Vec<Option<BooleanArray>>,
}

impl Inputs {
    pub fn evaluate(
        batch: &RecordBatch,
        keys: &[usize],
        arguments: &[Vec<Arc<dyn PhysicalExpr>>],
        filters: &[Option<Arc<dyn PhysicalExpr>>],
    ) -> Result<Self> {
        let all = |exprs: &Vec<Arc<dyn PhysicalExpr>>| exprs.iter().map(|expr| evaluate(expr, batch)).collect();
        let filter = |filter: &Option<Arc<dyn PhysicalExpr>>| {
            filter.as_ref().map(|predicate| evaluate_predicate(predicate, batch)).transpose()
        };
        Ok(Self {
            keys: keys.iter().map(|key| Arc::clone(batch.column(*key))).collect(),
            n_rows: batch.num_rows(),
            arguments: arguments.iter().map(all).collect::<Result<_>>()?,
            filters: filters.iter().map(filter).collect::<Result<_>>()?,
        })
    }

    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The same rows by other keys.
    pub fn with_keys(self, keys: Vec<ArrayRef>) -> Self {
        Self { keys, ..self }
    }

    pub fn take(&self, rows: Vec<u32>) -> Result<Self> {
        let n_rows = rows.len();
        let rows = UInt32Array::from(rows);
        let some = |column: &ArrayRef| Ok(take(column, &rows, None)?);
        let mask = |mask: &Option<BooleanArray>| {
            mask.as_ref().map(|mask| Ok(take(mask, &rows, None)?.as_boolean().clone())).transpose()
        };
        Ok(Self {
            keys: self.keys.iter().map(some).collect::<Result<_>>()?,
            n_rows,
            arguments: self.arguments.iter().map(|of| of.iter().map(some).collect()).collect::<Result<_>>()?,
            filters: self.filters.iter().map(mask).collect::<Result<_>>()?,
        })
    }
}

/// Groups that take rows.
pub struct Live {
    aggregation: Arc<Aggregation>,
    /// Absent without keys: there is one group then.
    values: Option<Box<dyn GroupValues>>,
    n_groups: usize,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// By row of the batch at hand: its group.
    groups: Vec<usize>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("n_groups", &self.n_groups).finish_non_exhaustive()
    }
}

impl Live {
    pub fn new(aggregation: &Arc<Aggregation>) -> Result<Self> {
        let values = match aggregation.n_keys() {
            0 => None,
            _ => Some(new_group_values(Arc::clone(&aggregation.keys), &GroupOrdering::None)?),
        };
        let accumulators = aggregation.aggregates.iter().map(accumulator).collect::<Result<_>>()?;
        Ok(Self { aggregation: Arc::clone(aggregation), values, n_groups: 0, accumulators, groups: Vec::new() })
    }

    pub fn thaw(aggregation: &Arc<Aggregation>, frozen: &Frozen) -> Result<Self> {
        let mut live = Self::new(aggregation)?;
        live.merge(frozen)?;
        Ok(live)
    }

    /// `arguments` and `filters` by aggregate, see [`Aggregation::arguments`]. Filters hold no nulls.
    pub fn update(
        &mut self,
        keys: &[ArrayRef],
        n_rows: usize,
        arguments: &[Vec<ArrayRef>],
        filters: &[Option<BooleanArray>],
    ) -> Result<()> {
        self.intern(keys, n_rows)?;
        for ((accumulator, arguments), filter) in self.accumulators.iter_mut().zip(arguments).zip(filters) {
            accumulator.update_batch(arguments, &self.groups, filter.as_ref(), self.n_groups)?;
        }
        Ok(())
    }

    pub fn update_with(&mut self, inputs: &Inputs) -> Result<()> {
        self.update(&inputs.keys, inputs.n_rows, &inputs.arguments, &inputs.filters)
    }

    /// By row of what came last: its group, counted from 0 in the order in which groups were first seen.
    pub fn groups(&self) -> &[usize] {
        &self.groups
    }

    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    pub fn merge(&mut self, frozen: &Frozen) -> Result<()> {
        if frozen.n_groups == 0 {
            return Ok(());
        }
        let (keys, mut states) = frozen.columns.split_at(self.aggregation.n_keys());
        self.intern(keys, frozen.n_groups)?;
        for (accumulator, types) in self.accumulators.iter_mut().zip(&self.aggregation.states) {
            let (own, rest) = states.split_at(types.len());
            accumulator.merge_batch(own, &self.groups, self.n_groups)?;
            states = rest;
        }
        Ok(())
    }

    pub fn freeze(mut self) -> Result<Frozen> {
        let n_groups = self.n_groups;
        let mut columns = self.emit_keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(Frozen { columns, n_groups })
    }

    /// Keys, results by aggregate, and how many groups there were.
    pub fn finish(mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize)> {
        let keys = self.emit_keys()?;
        let results = self.accumulators.iter_mut().map(|each| each.evaluate(EmitTo::All)).collect::<Result<_>>()?;
        Ok((keys, results, self.n_groups))
    }

    pub fn memory_bytes(&self) -> usize {
        let keys = self.values.as_ref().map_or(0, |values| values.size());
        keys + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
    }

    fn emit_keys(&mut self) -> Result<Vec<ArrayRef>> {
        match &mut self.values {
            Some(values) if self.n_groups > 0 => values.emit(EmitTo::All),
            _ => Ok(Vec::new()),
        }
    }

    fn intern(&mut self, keys: &[ArrayRef], n_rows: usize) -> Result<()> {
        match &mut self.values {
            Some(values) => {
                values.intern(keys, &mut self.groups)?;
                self.n_groups = values.len();
            }
            None => {
                self.groups.clear();
                self.groups.resize(n_rows, 0);
                self.n_groups = 1;
            }
        }
        Ok(())
    }
}

fn accumulator(aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if aggregate.groups_accumulator_supported() {
        return aggregate.create_groups_accumulator();
    }
    let aggregate = Arc::clone(aggregate);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}
