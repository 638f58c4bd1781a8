//! `min_by(x, y)` and `max_by(x, y)`, also `arg_min` and `arg_max`: the x of the row with the least or greatest y. Rows
//! without a y do not count; of several rows with this y it is the least x.
//!
//! Over groups they are another form of `first_value(x ORDER BY y)`, which needs no state of its own; OVER a frame, whose
//! order is another one, they are accumulators.

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) fn min_by() -> AggregateUDF {
    function(false, "arg_min")
}

pub(super) fn max_by() -> AggregateUDF {
    function(true, "arg_max")
}

fn function(greatest: bool, alias: &str) -> AggregateUDF {
    let signature = Signature::any(2, Volatility::Immutable);
    AggregateUDF::new_from_impl(ExtremeBy { greatest, aliases: vec![alias.to_string()], signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExtremeBy {
    greatest: bool,
    aliases: Vec<String>,
    signature: Signature,
}

impl AggregateUDFImpl for ExtremeBy {
    fn name(&self) -> &str {
        if self.greatest { "max_by" } else { "min_by" }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value, _] => Ok(value.clone()),
            _ => plan_err!("{} takes two arguments, not {}", self.name(), types.len()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |(at, field): (usize, &FieldRef)| {
            Arc::new(Field::new(format!("{}[{at}]", args.name), field.data_type().clone(), true))
        };
        Ok(args.input_fields.iter().enumerate().map(field).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let empty = args.expr_fields.iter().map(|field| ScalarValue::try_from(field.data_type()));
        let best = empty.map(|value| value?.to_array()).collect::<Result<_>>()?;
        Ok(Box::new(Best { greatest: self.greatest, best }))
    }
}

/// Calls over groups, as calls of `first_value`; and `count` without an order, which DataFusion's accumulators do not know
/// what to do with.
#[derive(Debug)]
pub(crate) struct ValueAtExtreme;

impl ExprPlanner for ValueAtExtreme {
    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if *call.func == *count_udaf() {
            call.order_by.clear();
        }
        let greatest = *call.func == max_by();
        if !greatest && *call.func != min_by() {
            return Ok(PlannerResult::Original(call));
        }
        let name = call.func.name().to_string();
        if !call.order_by.is_empty() {
            return plan_err!("{name} has its order in its second argument, and takes no ORDER BY");
        }
        let written = AggregateFunction::new_udf(
            Arc::clone(&call.func),
            call.args.clone(),
            call.distinct,
            call.filter.clone(),
            Vec::new(),
            None,
        );
        let written = Expr::AggregateFunction(written).schema_name().to_string();
        let n_args = call.args.len();
        let Ok([value, by]) = <[Expr; 2]>::try_from(call.args) else {
            return plan_err!("{name} takes two arguments, {name}(x, y), not {n_args}");
        };
        let there = by.clone().is_not_null();
        let filter = match call.filter {
            Some(filter) => filter.and(there),
            None => there,
        };
        let order = vec![Sort::new(by, !greatest, false)];
        let first =
            AggregateFunction::new_udf(first_value_udaf(), vec![value], false, Some(Box::new(filter)), order, None);
        Ok(PlannerResult::Planned(Expr::AggregateFunction(first).alias(written)))
    }
}

/// The best row so far: its x and y; without one both are null.
#[derive(Debug)]
struct Best {
    greatest: bool,
    best: Vec<ArrayRef>,
}

impl Best {
    /// Of the rows of two batches: whether a row of the first is better than one of the second.
    fn compares(&self, one: &[ArrayRef], other: &[ArrayRef]) -> Result<impl Fn(usize, usize) -> bool + use<>> {
        let options = SortOptions { descending: self.greatest, nulls_first: false };
        let by = make_comparator(&one[1], &other[1], options)?;
        let value = make_comparator(&one[0], &other[0], SortOptions { descending: false, nulls_first: false })?;
        Ok(move |a, b| by(a, b).then_with(|| value(a, b)) == Ordering::Less)
    }
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [_, by, ..] = values else { return Ok(()) };
        let nulls = by.logical_nulls();
        let mut there = (0..by.len()).filter(|row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row)));
        let Some(first) = there.next() else { return Ok(()) };
        let better = self.compares(values, values)?;
        let row = there.fold(first, |best, row| if better(row, best) { row } else { best });
        if self.best[1].is_null(0) || self.compares(values, &self.best)?(row, 0) {
            let one = |column: &ArrayRef| ScalarValue::try_from_array(column, row)?.to_array();
            self.best = values[..2].iter().map(one).collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.best[0], 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.best.iter().map(|column| column.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.best.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
