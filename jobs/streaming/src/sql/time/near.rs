//! Expressions whose values lie near a column: it with a constant added, cut to a unit of time, or cast.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Operator as Op};

/// The column of `input` that `expr` lies near, by how much it may be earlier, and whether it is that column unchanged.
pub(super) fn near(expr: &Expr, input: &LogicalPlan) -> Option<(usize, i64, bool)> {
    let moved = |expr: &Expr, by_us: i64| {
        let (at, before_us, _) = near(expr, input)?;
        Some((at, before_us.checked_add(by_us)?, false))
    };
    match expr {
        Expr::Alias(alias) => near(&alias.expr, input),
        Expr::Column(column) => Some((input.schema().maybe_index_of_column(column)?, 0, true)),
        Expr::BinaryExpr(binary) => match (binary.op, span_us(&binary.left), span_us(&binary.right)) {
            (Op::Plus, _, Some((least_us, _))) => moved(&binary.left, least_us.checked_neg()?),
            (Op::Plus, Some((least_us, _)), _) => moved(&binary.right, least_us.checked_neg()?),
            (Op::Minus, _, Some((_, most_us))) => moved(&binary.left, most_us),
            _ => None,
        },
        Expr::ScalarFunction(call) => match (call.func.name(), call.args.as_slice()) {
            ("date_trunc", [Expr::Literal(unit, _), time]) => moved(time, unit_us(unit)?),
            ("date_bin", [width, time]) => moved(time, span_us(width).filter(|(least_us, _)| *least_us > 0)?.1),
            _ => None,
        },
        Expr::Cast(Cast { expr, field }) => match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond | TimeUnit::Microsecond, _) => moved(expr, 0),
            DataType::Timestamp(TimeUnit::Millisecond, _) => moved(expr, 1000),
            DataType::Timestamp(TimeUnit::Second, _) => moved(expr, 1_000_000),
            _ => None,
        },
        _ => None,
    }
}

/// The shortest and the longest that a constant interval may be.
fn span_us(expr: &Expr) -> Option<(i64, i64)> {
    const DAY_US: i64 = 86_400_000_000;
    let Expr::Literal(value, _) = expr else { return None };
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            (i64::from(interval.months), i64::from(interval.days), interval.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            (0, i64::from(interval.days), i64::from(interval.milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (i64::from(*months), 0, 0),
        _ => return None,
    };
    let fixed_us = days * DAY_US + nanos.div_euclid(1000);
    let rest_us = i64::from(nanos.rem_euclid(1000) > 0);
    let (short_us, long_us) = (months * 28 * DAY_US, months * 31 * DAY_US);
    let (least_us, most_us) = (short_us.min(long_us), short_us.max(long_us));
    Some((least_us.checked_add(fixed_us)?, most_us.checked_add(fixed_us)?.checked_add(rest_us)?))
}

/// No unit of this name is longer.
fn unit_us(unit: &ScalarValue) -> Option<i64> {
    let text = unit.try_as_str().flatten()?.to_lowercase();
    let seconds = match text.as_str() {
        "microsecond" | "millisecond" | "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 7 * 86_400,
        "month" => 31 * 86_400,
        "quarter" => 92 * 86_400,
        "year" => 366 * 86_400,
        _ => return None,
    };
    Some(seconds * 1_000_000)
}
