//! An argument of the first or last row of a group in an order.

use super::coding::{Bytes, Coding};
use super::multiset::Multisets;
use super::state::{EntryPart, Rows, State, mask};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::Result;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use std::cmp::Ordering;
use std::sync::Arc;

type Expr = Arc<dyn PhysicalExpr>;

/// All rows that may be taken back, in order; where none are, the one that counts.
#[derive(Debug)]
pub struct Edge {
    last: bool,
    changes: bool,
    /// Rows whose argument is null do not count.
    skips_nulls: bool,
    /// The column of the argument.
    argument: usize,
    data_type: DataType,
    sets: Multisets<Bytes>,
}

impl Edge {
    /// The state, and the expressions whose values it wants; nothing if the call is of another form.
    pub fn new(
        aggregate: &AggregateFunctionExpr,
        input: &SchemaRef,
        changes: bool,
    ) -> Result<Option<(Self, Vec<Expr>)>> {
        let last = *aggregate.fun() == *last_value_udaf();
        let arguments = aggregate.expressions();
        let [argument] = &arguments[..] else { return Ok(None) };
        if !last && *aggregate.fun() != *first_value_udaf() || argument.is::<Literal>() {
            return Ok(None);
        }
        let mut columns: Vec<(Expr, SortOptions)> = Vec::new();
        for by in aggregate.order_bys() {
            if columns.iter().all(|(known, _)| known != &by.expr) {
                columns.push((Arc::clone(&by.expr), by.options));
            }
        }
        let place = columns.iter().position(|(known, _)| known == argument).unwrap_or(columns.len());
        if place == columns.len() {
            columns.push((Arc::clone(argument), SortOptions::default()));
        }
        let typed = columns.iter().map(|(expr, options)| Ok((expr.data_type(input)?, *options)));
        let sets = Multisets::new(Bytes::new(typed.collect::<Result<_>>()?)?);
        let data_type = aggregate.field().data_type().clone();
        let skips_nulls = aggregate.ignore_nulls();
        let state = Self { last, changes, skips_nulls, argument: place, data_type, sets };
        Ok(Some((state, columns.into_iter().map(|(expr, _)| expr).collect())))
    }

    fn row(&self, group: usize) -> Option<&[u8]> {
        let mut rows = self.sets.values(group);
        let row = if self.last { rows.next_back() } else { rows.next() };
        row.map(|(row, _)| row)
    }
}

impl State for Edge {
    fn grow(&mut self, n_groups: usize) {
        self.sets.grow(n_groups);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let argument = std::slice::from_ref(&arguments[self.argument]);
        let mask = mask(filters[0], if self.skips_nulls { argument } else { &[] });
        let column = self.sets.coding().encode(arguments)?;
        rows.each(mask.as_ref(), |group, row, weight| {
            let row = Bytes::value(&column, row);
            if !self.changes {
                let better = if self.last { Ordering::Greater } else { Ordering::Less };
                if self.row(group).is_some_and(|best| row.cmp(best) != better) {
                    return;
                }
                self.sets.clear(group);
            }
            self.sets.add(group, row, weight);
        });
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let columns = self.sets.coding().decode(groups.iter().map(|group| self.row(*group)))?;
        let column = &columns[self.argument];
        Ok(vec![if *column.data_type() == self.data_type {
            Arc::clone(column)
        } else {
            cast(column, &self.data_type)?
        }])
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
