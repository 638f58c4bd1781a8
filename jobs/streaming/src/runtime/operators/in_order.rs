//! Aggregate functions over the rows of a group in an order: `array_agg(x ORDER BY y)`, `first_value(x ORDER BY y)`,
//! `percentile_disc(0.5) WITHIN GROUP (ORDER BY x)`.
//!
//! DataFusion's own take rows for ordered as they come, for which its plans sort before them; a stream's rows come in no
//! order, and states of panes, sessions and tasks are merged as they are at hand. So rows are kept as columns, for all
//! groups together, and are sorted when a result is asked for; the function gets them in order and needs no order of its
//! own. Those that look at one end of the order keep but the rows at that end.
//!
//! Invariant: a result is a matter of the rows alone: among rows that the order does not tell apart, the arguments do.

mod accumulator;
mod layout;
mod results;
mod rows;

pub use layout::Keep;
pub use results::{Finish, Pick};

use accumulator::{Alone, InOrder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::functions_aggregate::nth_value::nth_value_udaf;
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Literal;
use layout::Layout;
use rows::Rows;
use std::sync::Arc;

/// What a call does with its rows in order.
#[derive(Debug)]
pub struct Plan {
    pub finish: Finish,
    pub keep: Keep,
    pub distinct: bool,
    /// Rows whose first argument is null do not count.
    pub skips_nulls: bool,
}

impl Plan {
    fn made(self, args: &AccumulatorArgs<'_>) -> Result<InOrder> {
        let layout = Layout::new(args, self.distinct, self.keep, self.skips_nulls)?;
        Ok(InOrder::new(Rows::new(layout), self.finish, args.return_field.data_type().clone()))
    }

    /// For many groups.
    pub fn of_groups(self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.made(args)?))
    }

    /// For one.
    pub fn alone(self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Alone(self.made(args)?)))
    }
}

/// The states of such calls: lists of the arguments, and of what is ordered by, of all rows.
pub fn state_fields(args: &StateFieldsArgs<'_>) -> Vec<FieldRef> {
    let list = |(at, field): (usize, &FieldRef)| {
        let data_type = DataType::new_list(field.data_type().clone(), true);
        Arc::new(Field::new(format!("{}[rows {at}]", args.name), data_type, true))
    };
    args.input_fields.iter().chain(args.ordering_fields).enumerate().map(list).collect()
}

/// The function as a call of it with an order is to have it, over different arguments where `distinct`.
pub fn in_order(function: &AggregateUDF, distinct: bool) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Sorting { function: function.clone(), distinct }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sorting {
    function: AggregateUDF,
    distinct: bool,
}

impl Sorting {
    fn plan(&self, args: &AccumulatorArgs<'_>) -> Result<Plan> {
        let is = |other: Arc<AggregateUDF>| self.function == *other;
        let pick = |n: i64, keep: Keep| Plan {
            finish: Finish::Pick(Pick::Nth(n)),
            keep,
            distinct: self.distinct && n.unsigned_abs() > 1,
            skips_nulls: args.ignore_nulls,
        };
        if is(first_value_udaf()) {
            return Ok(pick(1, Keep::First(1)));
        }
        if is(last_value_udaf()) {
            return Ok(pick(-1, Keep::Last(1)));
        }
        let number = args.exprs.get(1).and_then(|n| n.downcast_ref::<Literal>()).map(Literal::value);
        if let Some(ScalarValue::Int64(Some(n))) = number
            && is(nth_value_udaf())
        {
            let n_kept = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
            return Ok(pick(*n, if *n < 0 { Keep::Last(n_kept) } else { Keep::First(n_kept) }));
        }
        let distinct = self.distinct;
        if is(array_agg_udaf()) {
            return Ok(Plan { finish: Finish::List, keep: Keep::All, distinct, skips_nulls: args.ignore_nulls });
        }
        let call = AggregateExprBuilder::new(Arc::new(self.function.clone()), args.exprs.to_vec());
        let mut call = call.schema(Arc::new(args.schema.clone())).alias(args.name).with_ignore_nulls(args.ignore_nulls);
        if self.function.supports_within_group_clause() {
            // It is no order of the rows alone: it says what a share of them is counted from.
            call = call.order_by(args.order_bys.to_vec());
        }
        let call = call.build()?;
        // What cannot be computed is said now and not with the first result.
        call.create_accumulator()?;
        Ok(Plan { finish: Finish::Call(Arc::new(call)), keep: Keep::All, distinct, skips_nulls: false })
    }
}

impl AggregateUDFImpl for Sorting {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.function.schema_name(params)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arg_types)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.function.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.function.supports_within_group_clause()
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.plan(&args)?.alone(&args)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.plan(&args)?.of_groups(&args)
    }
}

#[cfg(test)]
mod tests;
