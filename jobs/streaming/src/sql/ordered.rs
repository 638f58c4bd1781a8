//! Calls with an order of their own in windows: `array_agg(x ORDER BY y)`.
//!
//! The states of windows are merged, so what comes in an order for DataFusion comes in none here: such a call is one of a
//! function that sorts its rows itself.

use crate::functions::is_of_set;
use crate::runtime::operators::in_order::in_order;
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable};

/// The call as states that are merged can answer it.
pub(crate) fn sorted_by_itself(call: Expr, schema: &DFSchema) -> PlanResult<Expr> {
    let result = call.get_type(schema)?;
    let Expr::AggregateFunction(mut call) = call else { return Ok(call) };
    if call.params.order_by.is_empty() || is_of_set(&call.func) {
        return Ok(Expr::AggregateFunction(call));
    }
    // Percentiles sort their values, whatever comes; of different values they would be those of DataFusion's sets.
    if call.func.supports_within_group_clause() && !call.params.distinct {
        return Ok(Expr::AggregateFunction(call));
    }
    if !call.func.supports_within_group_clause() && !order_shows(&call.func, result.is_floating()) {
        call.params.order_by.clear();
        return Ok(Expr::AggregateFunction(call));
    }
    let distinct = call.params.distinct && *call.func != *first_value_udaf() && *call.func != *last_value_udaf();
    call.func = in_order(&call.func, distinct);
    call.params.distinct = false;
    Ok(Expr::AggregateFunction(call))
}

/// Whether it can be told from the result in which order the rows came.
fn order_shows(function: &AggregateUDF, is_floating: bool) -> bool {
    match function.name() {
        "count" => false,
        "sum" | "avg" => is_floating,
        _ => function.order_sensitivity() != AggregateOrderSensitivity::Insensitive,
    }
}
