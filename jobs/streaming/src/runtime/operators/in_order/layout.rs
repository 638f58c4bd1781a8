//! Which columns of a call are kept, and what their order is.

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use std::sync::Arc;

/// Which rows of a group can still matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    All,
    /// So many from the beginning of the order.
    First(usize),
    /// So many before its end.
    Last(usize),
}

/// Where a column that comes is afterwards.
#[derive(Debug)]
pub enum Source {
    Kept(usize),
    Literal(ScalarValue),
}

#[derive(Debug)]
pub struct Layout {
    /// By column that comes: arguments, and then what is ordered by.
    pub sources: Vec<Source>,
    pub n_arguments: usize,
    /// Of the columns that come.
    pub came: Vec<DataType>,
    /// By column that is kept: its place among those that come.
    pub from: Vec<usize>,
    pub types: Vec<DataType>,
    /// Of the kept columns: what is ordered by comes first, and the arguments settle ties, so that the order is a matter of
    /// the rows alone.
    order: Vec<usize>,
    sorts: RowConverter,
    /// The arguments alone, where rows with the same ones are one row.
    different: Option<(Vec<usize>, RowConverter)>,
    pub keep: Keep,
    /// Rows whose first argument is null do not count.
    pub skips_nulls: bool,
}

/// The columns that are kept, each of them once.
#[derive(Default)]
struct Kept {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    from: Vec<usize>,
    types: Vec<DataType>,
}

impl Kept {
    /// The place of the column that comes at `at`.
    fn place(&mut self, at: usize, expr: &Arc<dyn PhysicalExpr>, args: &AccumulatorArgs<'_>) -> Result<usize> {
        if let Some(known) = self.exprs.iter().position(|known| known == expr) {
            return Ok(known);
        }
        self.types.push(match args.expr_fields.get(at) {
            Some(field) => field.data_type().clone(),
            None => expr.data_type(args.schema)?,
        });
        self.exprs.push(Arc::clone(expr));
        self.from.push(at);
        Ok(self.from.len() - 1)
    }
}

impl Layout {
    pub fn new(args: &AccumulatorArgs<'_>, distinct: bool, keep: Keep, skips_nulls: bool) -> Result<Self> {
        let n_arguments = args.exprs.len();
        let mut kept = Kept::default();
        let mut sources = Vec::new();
        for (at, expr) in args.exprs.iter().enumerate() {
            sources.push(match expr.downcast_ref::<Literal>() {
                // If all were constant nothing would tell how many rows there are.
                Some(literal) if at > 0 => Source::Literal(literal.value().clone()),
                _ => Source::Kept(kept.place(at, expr, args)?),
            });
        }
        let arguments: Vec<usize> = (0..kept.from.len()).collect();
        let mut order: Vec<(usize, SortOptions)> = Vec::new();
        let mut came: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        for (at, by) in args.order_bys.iter().enumerate() {
            came.push(by.expr.data_type(args.schema)?);
            let place = kept.place(n_arguments + at, &by.expr, args)?;
            sources.push(Source::Kept(place));
            // What is ordered by a second time decides nothing.
            if order.iter().all(|(known, _)| *known != place) {
                order.push((place, by.options));
            }
        }
        for place in &arguments {
            if order.iter().all(|(known, _)| known != place) {
                order.push((*place, SortOptions::default()));
            }
        }
        let Kept { from, types, .. } = kept;
        let field = |(at, options): &(usize, SortOptions)| SortField::new_with_options(types[*at].clone(), *options);
        let sorts = RowConverter::new(order.iter().map(field).collect())?;
        let order = order.into_iter().map(|(at, _)| at).collect();
        let plain = |at: &usize| SortField::new(types[*at].clone());
        let different = match distinct {
            true => Some((arguments.clone(), RowConverter::new(arguments.iter().map(plain).collect())?)),
            false => None,
        };
        Ok(Self { sources, n_arguments, came, from, types, order, sorts, different, keep, skips_nulls })
    }

    /// Rows that sort as their columns do.
    pub fn keys(&self, columns: &[ArrayRef]) -> Result<arrow::row::Rows> {
        Ok(self.sorts.convert_columns(&of(columns, &self.order))?)
    }

    /// What makes rows different, if not all count.
    pub fn differences(&self, columns: &[ArrayRef]) -> Result<Option<arrow::row::Rows>> {
        let Some((arguments, converter)) = &self.different else { return Ok(None) };
        Ok(Some(converter.convert_columns(&of(columns, arguments))?))
    }

    /// Whether rows go before the result is asked for.
    pub fn prunes(&self) -> bool {
        self.different.is_some() || self.keep != Keep::All
    }

    pub fn memory_bytes(&self) -> usize {
        self.sorts.size() + self.different.as_ref().map_or(0, |(_, converter)| converter.size())
    }
}

fn of(columns: &[ArrayRef], places: &[usize]) -> Vec<ArrayRef> {
    places.iter().map(|at| Arc::clone(&columns[*at])).collect()
}
