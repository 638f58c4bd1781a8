//! Expressions as they are computed, batch by batch.
//!
//! Invariant: only how something is computed changes here, never what: texts, names and types are those of the expression that
//! came in.

use super::window::fixed_interval_us;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use std::sync::Arc;

/// What computes this expression over rows with these columns.
pub(crate) fn physical(expr: &Expr, columns: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let quick = expr.clone().transform_up(|expr| Ok(with_plain_spans(expr, columns)))?.data;
    create_physical_expr(&quick, columns, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

/// A time and an interval are added by way of calendar and time zone, row by row, which for a watermark costs more than the
/// rest of a source. Where the interval has no months, and the time zone no summer, it is a number that is added.
fn with_plain_spans(expr: Expr, columns: &DFSchema) -> Transformed<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Transformed::no(expr) };
    let (time, span) = match (op, fixed_interval_us(left), fixed_interval_us(right)) {
        (Operator::Plus | Operator::Minus, None, Some(span)) => (left, span),
        (Operator::Plus, Some(span), None) => (right, span),
        _ => return Transformed::no(expr),
    };
    if !time.get_type(columns).is_ok_and(|kind| has_plain_days(&kind)) {
        return Transformed::no(expr);
    }
    let span = Expr::Literal(ScalarValue::DurationMicrosecond(Some(span)), None);
    let quick = BinaryExpr { left: time.clone(), op: *op, right: Box::new(span) };
    Transformed::yes(Expr::BinaryExpr(quick))
}

fn has_plain_days(kind: &DataType) -> bool {
    match kind {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.as_deref().is_none_or(|zone| zone == "UTC"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::types::event_time;
    use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{Field, IntervalMonthDayNano, Schema, TimestampMicrosecondType};
    use datafusion::prelude::{col, lit};

    fn interval(months: i32, days: i32, nanoseconds: i64) -> Expr {
        lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds })))
    }

    #[test]
    fn a_span_is_added_as_the_calendar_adds_it() {
        let schema = Arc::new(Schema::new(vec![Field::new("ts", event_time(), true)]));
        let columns = DFSchema::try_from(schema.as_ref().clone()).unwrap();
        let times = TimestampMicrosecondArray::from(vec![Some(0), None, Some(-1), Some(1_709_164_800_123_456)]);
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![times]).unwrap();
        let of = |expr: &Arc<dyn PhysicalExpr>| {
            assert_eq!(expr.data_type(&schema).unwrap(), event_time());
            let values = expr.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            values.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>()
        };
        for (months, days, nanoseconds) in
            [(0, 0, 4_000_000_000), (0, -3, 7_000), (0, 400, -1_000), (1, 1, 1_000), (0, 0, 1)]
        {
            let span = || interval(months, days, nanoseconds);
            for expr in [col("ts") - span(), col("ts") + span(), span() + col("ts")] {
                let slow =
                    create_physical_expr(&expr, &columns, &ExecutionProps::new(), &PhysicalPlanningContext::default());
                let quick = physical(&expr, &columns).unwrap();
                assert_eq!(of(&quick), of(&slow.unwrap()), "{expr}");
                let is_plain = months == 0 && nanoseconds % 1000 == 0;
                assert_eq!(quick.to_string().contains("IntervalMonthDayNano"), !is_plain, "{quick}");
            }
        }
    }
}
