//! Any aggregate: the rows of its arguments are kept, and the result of a group that changed is computed anew over them by
//! DataFusion's accumulator.
//!
//! Rows are kept in the order that the call asks for, equal ones by their other arguments, so that the result is a matter of
//! the rows alone. What a call takes back again later is what it had said.

use super::coding::{Bytes, Coding};
use super::multiset::Multisets;
use super::state::{EntryPart, Rows, State, mask};
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_empty_array};
use arrow::compute::{SortOptions, cast, concat, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use std::sync::Arc;

#[derive(Debug)]
pub struct General {
    aggregate: Arc<AggregateFunctionExpr>,
    data_type: DataType,
    /// By argument of the accumulator.
    sources: Vec<Source>,
    sets: Multisets<Bytes>,
}

/// Where an argument comes from.
#[derive(Debug)]
enum Source {
    Column(usize),
    Literal(ScalarValue),
}

impl General {
    /// The state, and the expressions whose values it wants.
    pub fn new(
        aggregate: &Arc<AggregateFunctionExpr>,
        input: &SchemaRef,
    ) -> Result<(Self, Vec<Arc<dyn PhysicalExpr>>)> {
        // What cannot be computed is said now and not with the first row.
        aggregate.create_accumulator()?;
        let mut columns: Vec<(Arc<dyn PhysicalExpr>, SortOptions)> = Vec::new();
        let mut place = |expr: &Arc<dyn PhysicalExpr>, options: SortOptions| {
            let known = columns.iter().position(|(known, _)| known == expr);
            known.unwrap_or_else(|| {
                columns.push((Arc::clone(expr), options));
                columns.len() - 1
            })
        };
        let order: Vec<usize> = aggregate.order_bys().iter().map(|by| place(&by.expr, by.options)).collect();
        let arguments = aggregate.expressions();
        let all_literal = order.is_empty() && arguments.iter().all(|argument| argument.is::<Literal>());
        let mut sources = Vec::new();
        for argument in &arguments {
            sources.push(match argument.downcast_ref::<Literal>() {
                Some(literal) if !all_literal => Source::Literal(literal.value().clone()),
                _ => Source::Column(place(argument, SortOptions::default())),
            });
        }
        sources.extend(order.into_iter().map(Source::Column));
        let typed = columns.iter().map(|(expr, options)| Ok((expr.data_type(input)?, *options)));
        let sets = Multisets::new(Bytes::new(typed.collect::<Result<_>>()?)?);
        let data_type = aggregate.field().data_type().clone();
        let exprs = columns.into_iter().map(|(expr, _)| expr).collect();
        Ok((Self { aggregate: Arc::clone(aggregate), data_type, sources, sets }, exprs))
    }

    /// The group's rows, equal ones as often as they are there.
    fn rows(&self, group: usize) -> impl Iterator<Item = &[u8]> {
        let rows = self.sets.values(group);
        rows.flat_map(|(row, count)| std::iter::repeat_n(row, count as usize))
    }

    fn arguments(&self, rows: &mut Vec<&[u8]>) -> Result<Vec<ArrayRef>> {
        let n_rows = rows.len();
        let columns = self.sets.coding().decode(rows.drain(..).map(Some))?;
        let argument = |source: &Source| match source {
            Source::Column(column) => Ok(Arc::clone(&columns[*column])),
            Source::Literal(value) => value.to_array_of_size(n_rows),
        };
        self.sources.iter().map(argument).collect()
    }

    fn evaluate_together(&self, groups: &[usize]) -> Result<ArrayRef> {
        let mut accumulator = self.aggregate.create_groups_accumulator()?;
        let (mut rows, mut of) = (Vec::new(), Vec::new());
        for (at, group) in groups.iter().enumerate() {
            // Where a group's rows are cut must not depend on the groups before it.
            let n_free = BATCH_ROWS - rows.len();
            if n_free < BATCH_ROWS && self.rows(*group).take(n_free + 1).count() > n_free {
                accumulator.update_batch(&self.arguments(&mut rows)?, &of, None, groups.len())?;
                of.clear();
            }
            for row in self.rows(*group) {
                rows.push(row);
                of.push(at);
                if rows.len() == BATCH_ROWS {
                    accumulator.update_batch(&self.arguments(&mut rows)?, &of, None, groups.len())?;
                    of.clear();
                }
            }
        }
        if !rows.is_empty() {
            accumulator.update_batch(&self.arguments(&mut rows)?, &of, None, groups.len())?;
        }
        accumulator.evaluate(EmitTo::All)
    }

    fn evaluate_each(&self, groups: &[usize]) -> Result<ArrayRef> {
        let mut results = Vec::with_capacity(groups.len());
        let mut rows = Vec::new();
        for group in groups {
            let mut accumulator = self.aggregate.create_accumulator()?;
            for row in self.rows(*group) {
                rows.push(row);
                if rows.len() == BATCH_ROWS {
                    accumulator.update_batch(&self.arguments(&mut rows)?)?;
                }
            }
            if !rows.is_empty() {
                accumulator.update_batch(&self.arguments(&mut rows)?)?;
            }
            results.push(accumulator.evaluate()?);
        }
        ScalarValue::iter_to_array(results)
    }

    /// The result over no rows.
    fn default(&self) -> Result<ArrayRef> {
        self.aggregate.create_accumulator()?.evaluate()?.to_array()
    }

    fn typed(&self, column: ArrayRef) -> Result<ArrayRef> {
        Ok(if *column.data_type() == self.data_type { column } else { cast(&column, &self.data_type)? })
    }
}

impl State for General {
    fn grow(&mut self, n_groups: usize) {
        self.sets.grow(n_groups);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let mask = mask(filters[0], &[]);
        let column = self.sets.coding().encode(arguments)?;
        rows.each(mask.as_ref(), |group, row, weight| self.sets.add(group, Bytes::value(&column, row), weight));
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut filled = Vec::new();
        let mut places = Vec::with_capacity(groups.len());
        for group in groups {
            places.push(self.sets.values(*group).next().map(|_| filled.len() as u32));
            if places.last() != Some(&None) {
                filled.push(*group);
            }
        }
        let results = match filled.is_empty() {
            true => new_empty_array(&self.data_type),
            false if self.aggregate.groups_accumulator_supported() => self.typed(self.evaluate_together(&filled)?)?,
            false => self.typed(self.evaluate_each(&filled)?)?,
        };
        if filled.len() == groups.len() {
            return Ok(vec![results]);
        }
        let default = self.typed(self.default()?)?;
        let results = concat(&[results.as_ref(), default.as_ref()])?;
        let places: UInt32Array = places.iter().map(|place| Some(place.unwrap_or(filled.len() as u32))).collect();
        Ok(vec![take(&results, &places, None)?])
    }

    fn holds(&self, group: usize) -> bool {
        self.sets.holds(group)
    }

    fn keep(&mut self, groups: &[usize]) {
        self.sets.keep(groups);
    }

    fn forget(&mut self, gone: &[bool]) {
        self.sets.forget(gone);
    }

    fn memory_bytes(&self) -> usize {
        self.sets.memory_bytes()
    }

    fn types(&self) -> Vec<DataType> {
        Vec::new()
    }

    fn save(&self, _: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn load(&mut self, _: &[usize], _: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn entry_types(&self) -> Vec<DataType> {
        self.sets.types()
    }

    fn save_entries(&self, groups: &[usize], part: &mut EntryPart<'_>) -> Result<()> {
        self.sets.save(groups, part)
    }

    fn load_entries(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        self.sets.load(groups, columns)
    }
}
