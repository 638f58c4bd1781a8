//! Why a column is no time for a window.

use super::near::near;
use super::written;
use crate::sql::shared::SharedNode;
use crate::sql::window::WindowNode;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// Why nothing is known of a column's time.
pub(crate) enum NoTime {
    /// It has nothing to do with event time.
    Plain,
    /// It is computed from event time.
    Computed,
    /// It is the result of a function over several rows.
    Aggregated,
}

impl NoTime {
    /// What the column is, and the way out.
    pub(crate) fn reason(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Plain => None,
            Self::Computed => Some((
                "is computed from event time, and nothing says how far from it",
                "window the event time itself, or a time that differs from it by a constant, as ts - INTERVAL '1 hour' and \
                 date_trunc('minute', ts) do",
            )),
            Self::Aggregated => Some((
                "is the result of a function over several rows, which no watermark follows",
                "carry the event time itself through, or group by a window and use its window_time",
            )),
        }
    }
}

pub(crate) fn why_no_time(plan: &LogicalPlan, index: usize) -> NoTime {
    let of_expr = |expr: &Expr, input: &LogicalPlan, of_several: bool| {
        if let Some((at, ..)) = near(expr, input) {
            return why_no_time(input, at);
        }
        let columns = expr.column_refs();
        let mut columns = columns.iter().filter_map(|column| input.schema().maybe_index_of_column(column));
        match columns.any(|at| written(input, at).is_some()) {
            true if of_several => NoTime::Aggregated,
            true => NoTime::Computed,
            false => NoTime::Plain,
        }
    };
    match plan {
        LogicalPlan::Projection(projection) => of_expr(&projection.expr[index], &projection.input, false),
        LogicalPlan::SubqueryAlias(alias) => why_no_time(&alias.input, index),
        LogicalPlan::Filter(filter) => why_no_time(&filter.input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => why_no_time(input, index),
        LogicalPlan::Union(union) => {
            let timeless = union.inputs.iter().find(|input| written(input, index).is_none());
            timeless.map_or(NoTime::Plain, |input| why_no_time(input, index))
        }
        LogicalPlan::Aggregate(aggregate) => match index.checked_sub(aggregate.group_expr.len()) {
            None => of_expr(&aggregate.group_expr[index], &aggregate.input, false),
            Some(at) => aggregate.aggr_expr.get(at).map_or(NoTime::Plain, |expr| of_expr(expr, &aggregate.input, true)),
        },
        LogicalPlan::Window(window) => match index.checked_sub(window.input.schema().fields().len()) {
            None => why_no_time(&window.input, index),
            Some(at) => window.window_expr.get(at).map_or(NoTime::Plain, |expr| of_expr(expr, &window.input, true)),
        },
        LogicalPlan::Join(join) => match index.checked_sub(join.left.schema().fields().len()) {
            None => why_no_time(&join.left, index),
            Some(at) => why_no_time(&join.right, at),
        },
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) if node.bound(index).is_none() => why_no_time(&node.input, index),
            (None, Some(node)) => why_no_time(&node.input, index),
            _ => NoTime::Plain,
        },
    }
}
