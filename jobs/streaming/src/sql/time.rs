//! Follows the event-time column through a plan, from the table that declares its watermark.
//!
//! Invariant: a column is called event time only when every value in it is, unchanged, a row's event time under the
//! table's watermark, or the time of a window that the watermark has passed. Whatever is computed from it is not.

use super::as_of::AsOfNode;
use super::catalog::script_table;
use super::join::bounds;
use super::shared::SharedNode;
use super::statements::TableStatement;
use super::unnest::passed_on;
use super::window::WindowNode;
use connectors::Gives;
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use std::sync::Arc;

/// Whether output column `index` of `plan` is event time.
pub(crate) fn is_event_time(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => script_table(scan).is_some_and(|table| {
            let name = plan.schema().field(index).name();
            table.statement.watermark.as_ref().is_some_and(|watermark| watermark.column.key() == *name)
        }),
        LogicalPlan::Projection(projection) => {
            // The projection that computes a table's columns is the only one right above such a table.
            if let LogicalPlan::TableScan(scan) = projection.input.as_ref()
                && let Some(table) = script_table(scan).filter(|table| table.has_computed())
            {
                let name = plan.schema().field(index).name();
                return table.statement.watermark.as_ref().is_some_and(|watermark| watermark.column.key() == *name);
            }
            below(&projection.expr[index], &projection.input).is_some_and(|at| is_event_time(&projection.input, at))
        }
        LogicalPlan::SubqueryAlias(alias) => is_event_time(&alias.input, index),
        LogicalPlan::Filter(filter) => is_event_time(&filter.input, index),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| is_event_time(input, index)),
        LogicalPlan::Unnest(unnest) => passed_on(unnest, index).is_some_and(|at| is_event_time(&unnest.input, at)),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.get(index).is_some_and(|expr| {
            below(expr, &aggregate.input)
                .is_some_and(|at| window_column(&aggregate.input, at) == Some(2) || is_event_time(&aggregate.input, at))
        }),
        LogicalPlan::Join(join) => bounded_side(join, index).is_some_and(|(side, at)| is_event_time(side, at)),
        // What such a join adds is of any time.
        LogicalPlan::Extension(_) if let Some(node) = AsOfNode::of(plan) => {
            node.of_left(index).is_some_and(|index| is_event_time(&node.left, index))
        }
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) => index < node.input.schema().fields().len() && is_event_time(&node.input, index),
            (None, Some(node)) => is_event_time(&node.input, index),
            (None, None) => false,
        },
    }
}

/// For how long rows of the event time in output column `index` may come late and still count. What waits for them
/// already (an aggregation, a join with bounds) leaves no more to wait for.
pub(crate) fn lateness_us(plan: &LogicalPlan, index: usize) -> i64 {
    match plan {
        LogicalPlan::TableScan(scan) => script_table(scan).map_or(0, |table| table.statement.lateness_us),
        LogicalPlan::Projection(projection) => match below(&projection.expr[index], &projection.input) {
            Some(at) => lateness_us(&projection.input, at),
            None => computed_from(&projection.input).map_or(0, |table| table.lateness_us),
        },
        LogicalPlan::SubqueryAlias(alias) => lateness_us(&alias.input, index),
        LogicalPlan::Filter(filter) => lateness_us(&filter.input, index),
        LogicalPlan::Union(union) => union.inputs.iter().map(|input| lateness_us(input, index)).max().unwrap_or(0),
        LogicalPlan::Unnest(unnest) => passed_on(unnest, index).map_or(0, |at| lateness_us(&unnest.input, at)),
        LogicalPlan::Extension(_) if let Some((left, at)) = looked_up(plan, index) => lateness_us(left, at),
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) if index < node.input.schema().fields().len() => lateness_us(&node.input, index),
            (None, Some(node)) => lateness_us(&node.input, index),
            _ => 0,
        },
    }
}

/// The table whose computed column an event time is, right above `plan`; filters may have been put in between.
fn computed_from(plan: &LogicalPlan) -> Option<Arc<TableStatement>> {
    match plan {
        LogicalPlan::TableScan(scan) => script_table(scan).map(|table| Arc::clone(&table.statement)),
        LogicalPlan::Filter(filter) => computed_from(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => computed_from(&alias.input),
        _ => None,
    }
}

/// Where a column comes from that passes a lookup, which answers every row as it comes. A join with versions answers a row
/// once, when the watermark has passed it.
fn looked_up(plan: &LogicalPlan, index: usize) -> Option<(&LogicalPlan, usize)> {
    let node = AsOfNode::of(plan).filter(|node| node.times.is_none())?;
    Some((&node.left, node.of_left(index)?))
}

/// The tables whose event time output column `index` is and whose late rows are wanted.
pub(crate) fn late_rows_of(plan: &LogicalPlan, index: usize) -> Vec<Arc<TableStatement>> {
    let of_scan =
        |plan: &LogicalPlan| computed_from(plan).into_iter().filter(|table| table.late_rows.is_some()).collect();
    match plan {
        LogicalPlan::TableScan(_) => of_scan(plan),
        LogicalPlan::Projection(projection) => match below(&projection.expr[index], &projection.input) {
            Some(at) => late_rows_of(&projection.input, at),
            None => of_scan(&projection.input),
        },
        LogicalPlan::SubqueryAlias(alias) => late_rows_of(&alias.input, index),
        LogicalPlan::Filter(filter) => late_rows_of(&filter.input, index),
        LogicalPlan::Union(union) => union.inputs.iter().flat_map(|input| late_rows_of(input, index)).collect(),
        LogicalPlan::Unnest(unnest) => match passed_on(unnest, index) {
            Some(at) => late_rows_of(&unnest.input, at),
            None => Vec::new(),
        },
        LogicalPlan::Extension(_) if let Some((left, at)) = looked_up(plan, index) => late_rows_of(left, at),
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) if index < node.input.schema().fields().len() => late_rows_of(&node.input, index),
            (None, Some(node)) => late_rows_of(&node.input, index),
            _ => Vec::new(),
        },
    }
}

/// Whether rows may be taken back whose event time, in output column `index`, the watermark has passed long ago: out of a
/// join, and out of a table that is a changelog, an update of which takes back a row of any age.
pub(crate) fn rewrites_the_past(plan: &LogicalPlan, index: usize) -> bool {
    let of_scan =
        |plan: &LogicalPlan| computed_from(plan).is_some_and(|table| connectors::gives(&table.def) != Gives::Rows);
    match plan {
        LogicalPlan::TableScan(_) => of_scan(plan),
        LogicalPlan::Projection(projection) => match below(&projection.expr[index], &projection.input) {
            Some(at) => rewrites_the_past(&projection.input, at),
            None => of_scan(&projection.input),
        },
        LogicalPlan::SubqueryAlias(alias) => rewrites_the_past(&alias.input, index),
        LogicalPlan::Filter(filter) => rewrites_the_past(&filter.input, index),
        LogicalPlan::Union(union) => union.inputs.iter().any(|input| rewrites_the_past(input, index)),
        LogicalPlan::Unnest(unnest) => passed_on(unnest, index).is_some_and(|at| rewrites_the_past(&unnest.input, at)),
        LogicalPlan::Aggregate(aggregate) => {
            let column = aggregate.group_expr.get(index).and_then(|expr| below(expr, &aggregate.input));
            column.is_some_and(|at| rewrites_the_past(&aggregate.input, at))
        }
        LogicalPlan::Join(_) => true,
        LogicalPlan::Extension(_) if let Some(node) = AsOfNode::of(plan) => {
            node.of_left(index).is_some_and(|at| rewrites_the_past(&node.left, at))
        }
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) => {
                let n_columns = node.input.schema().fields().len();
                let time = node.input.schema().maybe_index_of_column(&node.time);
                let at = if index < n_columns { Some(index) } else { time };
                at.is_some_and(|at| rewrites_the_past(&node.input, at))
            }
            (None, Some(node)) => rewrites_the_past(&node.input, index),
            (None, None) => false,
        },
    }
}

/// Whether rows with a smaller value in output column `index` are over once the watermark has passed it: event time,
/// and the bounds of a window whose rows were aggregated.
pub(crate) fn follows_watermark(plan: &LogicalPlan, index: usize) -> bool {
    follows(plan, index, true)
}

/// The same, and never null: the bounds of a window whose rows were aggregated. An event time may be null, and then no
/// watermark passes it.
pub(crate) fn always_follows_watermark(plan: &LogicalPlan, index: usize) -> bool {
    follows(plan, index, false)
}

/// `nullable`: whether the column may be null.
fn follows(plan: &LogicalPlan, index: usize, nullable: bool) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            (nullable && is_event_time(plan, index))
                || below(&projection.expr[index], &projection.input)
                    .is_some_and(|at| follows(&projection.input, at, nullable))
        }
        LogicalPlan::SubqueryAlias(alias) => follows(&alias.input, index, nullable),
        LogicalPlan::Filter(filter) => follows(&filter.input, index, nullable),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| follows(input, index, nullable)),
        LogicalPlan::Unnest(unnest) => passed_on(unnest, index).is_some_and(|at| follows(&unnest.input, at, nullable)),
        LogicalPlan::Join(join) => bounded_side(join, index)
            .is_some_and(|(side, at)| (nullable || !pads(join, index)) && follows(side, at, nullable)),
        LogicalPlan::Aggregate(aggregate) => {
            let input = &aggregate.input;
            let column = aggregate.group_expr.get(index).and_then(|expr| below(expr, input));
            column.is_some_and(|at| window_column(input, at).is_some() || follows(input, at, nullable))
        }
        LogicalPlan::Extension(_) if let Some(node) = AsOfNode::of(plan) => {
            node.of_left(index).is_some_and(|index| follows(&node.left, index, nullable))
        }
        _ => match SharedNode::of(plan) {
            Some(node) => follows(&node.input, index, nullable),
            None => nullable && is_event_time(plan, index),
        },
    }
}

/// The side of a join, bounded in event time, that output column `index` comes from, and its column there. What a join
/// without bounds emits may be of any time, and so may be a side that an outer join fills with nulls: of those a null
/// is no time.
fn bounded_side(join: &Join, index: usize) -> Option<(&LogicalPlan, usize)> {
    let (bounds, _) = bounds(join, false);
    bounds?;
    if matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti) {
        return Some((&join.right, index));
    }
    let n_left = join.left.schema().fields().len();
    match index.checked_sub(n_left) {
        None => Some((&join.left, index)),
        Some(index) => Some((&join.right, index)),
    }
}

/// Whether a join may fill output column `index` with nulls.
fn pads(join: &Join, index: usize) -> bool {
    let of_left = index < join.left.schema().fields().len();
    match join.join_type {
        JoinType::Full => true,
        JoinType::Left => !of_left,
        JoinType::Right => of_left,
        _ => false,
    }
}

/// Which of the columns that a window adds (start, end, time) output column `index` is.
fn window_column(plan: &LogicalPlan, index: usize) -> Option<usize> {
    match plan {
        LogicalPlan::Projection(projection) => {
            below(&projection.expr[index], &projection.input).and_then(|at| window_column(&projection.input, at))
        }
        LogicalPlan::SubqueryAlias(alias) => window_column(&alias.input, index),
        LogicalPlan::Filter(filter) => window_column(&filter.input, index),
        LogicalPlan::Unnest(unnest) => passed_on(unnest, index).and_then(|at| window_column(&unnest.input, at)),
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) => index.checked_sub(node.input.schema().fields().len()),
            (None, Some(node)) => window_column(&node.input, index),
            (None, None) => None,
        },
    }
}

/// The column of `input` that `expr` passes on unchanged.
fn below(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => below(&alias.expr, input),
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    }
}
