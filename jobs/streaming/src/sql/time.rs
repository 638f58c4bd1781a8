//! Follows event time through a plan, from the table that declares its watermark.
//!
//! Invariant: a column is called event time only when every value in it is, unchanged, a row's event time under the
//! table's watermark, or the time of a window that the watermark has passed. A column that is known to lie near event time
//! says how far behind the watermark its values come; one whose rows may come, or be taken back, at any time after the
//! watermark says that it is rewritten, and nothing is ever answered once by it.

mod near;
mod why;

pub(crate) use why::why_no_time;

use super::as_of::AsOfNode;
use super::catalog::script_table;
use super::join::bounds;
use super::over::{First, all_partitioned_by, settling_column};
use super::plan::for_each_scan;
use super::shared::SharedNode;
use super::statements::TableStatement;
use super::unnest::passed_on;
use super::window::{Bound, WindowNode, opened};
use connectors::Gives;
use datafusion::common::JoinType;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Filter, Join, LogicalPlan};
use near::near;
use std::sync::Arc;

/// What is known of a column that holds event time, or a time near it.
#[derive(Clone, Debug)]
pub(crate) struct EventTime {
    /// Values are event time, unchanged.
    pub(crate) is_exact: bool,
    /// A value may be so much earlier than the watermark and still have come in time; negative: later.
    behind_us: i64,
    /// For how long rows may come late and still count. What waits for them already (an aggregation in windows, a join
    /// with bounds) leaves no more to wait for.
    pub(crate) lateness_us: i64,
    /// Rows may come, or be taken back, whose time the watermark has passed long ago: out of a join without bounds of
    /// tables that go on, and out of a table that is a changelog, an update of which takes back a row of any age.
    pub(crate) is_rewritten: bool,
    /// No watermark passes a null.
    is_nullable: bool,
    /// It is a bound of a window that the watermark has passed.
    is_closed: bool,
    /// The tables whose late rows are wanted and come through to here.
    pub(crate) late_rows: Vec<Arc<TableStatement>>,
    /// Filters for first rows that must be settled before they are said for all of this to hold.
    pub(crate) firsts: Vec<Filter>,
}

impl EventTime {
    fn of_table(table: &Arc<TableStatement>) -> Self {
        Self {
            is_exact: true,
            behind_us: 0,
            lateness_us: table.lateness_us,
            is_rewritten: connectors::gives(&table.def) != Gives::Rows,
            is_nullable: true,
            is_closed: false,
            late_rows: if table.late_rows.is_some() { vec![Arc::clone(table)] } else { Vec::new() },
            firsts: Vec::new(),
        }
    }

    fn is_right(&self) -> bool {
        self.is_exact && !self.is_rewritten
    }

    /// By how much the watermark must be held back for none of its values to be earlier.
    pub(crate) fn behind_us(&self) -> i64 {
        self.behind_us.max(0)
    }

    fn moved(self, by_us: i64) -> Self {
        Self { is_exact: false, behind_us: self.behind_us.saturating_add(by_us), ..self }
    }

    /// Behind what has waited until the watermark passed it.
    fn waited_for(self) -> Self {
        Self { behind_us: 0, lateness_us: 0, late_rows: Vec::new(), ..self }
    }

    fn rewritten(self) -> Self {
        Self { is_rewritten: true, ..self }
    }

    fn united(mut self, other: Self) -> Self {
        self.late_rows.extend(other.late_rows);
        self.firsts.extend(other.firsts);
        Self {
            is_exact: self.is_exact && other.is_exact,
            behind_us: self.behind_us.max(other.behind_us),
            lateness_us: self.lateness_us.max(other.lateness_us),
            is_rewritten: self.is_rewritten || other.is_rewritten,
            is_nullable: self.is_nullable || other.is_nullable,
            is_closed: self.is_closed && other.is_closed,
            ..self
        }
    }
}

/// What is asked of a plan.
#[derive(Clone, Copy)]
struct Asked {
    /// Rows may be taken back where the plan ends. Where they may not, neither may they on the way to there, up to a
    /// window that answers once.
    changes: bool,
    /// The column is known to be an event time, however a rewrite has spelled it.
    known: bool,
}

/// Whether output column `index` of `plan` is event time, where its rows are never taken back.
pub(crate) fn is_event_time(plan: &LogicalPlan, index: usize) -> bool {
    trace(plan, index, Asked { changes: false, known: false }).is_some_and(|time| time.is_right())
}

/// Whether output column `index` of `plan` is event time, and rows are taken back only before the watermark has passed it.
pub(crate) fn settles_in_time(plan: &LogicalPlan, index: usize) -> bool {
    trace(plan, index, Asked { changes: true, known: true }).is_some_and(|time| time.is_right())
}

/// What is known of a column of a plan as it is written.
pub(crate) fn written(plan: &LogicalPlan, index: usize) -> Option<EventTime> {
    trace(plan, index, Asked { changes: false, known: false })
}

/// What is known of the time of a window, whose input takes rows back or does not.
pub(crate) fn of_window(window: &WindowNode, changes: bool) -> Option<EventTime> {
    let time = window.input.schema().maybe_index_of_column(&window.time)?;
    let traced = trace(&window.input, time, Asked { changes, known: true })?;
    Some(EventTime { behind_us: traced.behind_us.max(window.behind_us), ..traced })
}

/// Whether rows with a smaller value in output column `index` are over some while after the watermark has passed it: event
/// time, and the bounds of windows.
pub(crate) fn follows_watermark(plan: &LogicalPlan, index: usize) -> bool {
    trace(plan, index, Asked { changes: false, known: false }).is_some_and(|time| !time.is_rewritten)
}

/// For how long: what the watermark must be held back by for those who answer once.
pub(crate) fn wait_us(plan: &LogicalPlan, index: usize) -> i64 {
    let time = trace(plan, index, Asked { changes: false, known: true });
    time.map_or(0, |time| time.behind_us().saturating_add(time.lateness_us))
}

/// As [`wait_us`], of a column that follows the watermark and is never null: the bounds of a window. An event time may be
/// null, and then no watermark passes it.
pub(crate) fn always_follows_after_us(plan: &LogicalPlan, index: usize) -> Option<i64> {
    let time = trace(plan, index, Asked { changes: false, known: false })?;
    (!time.is_rewritten && !time.is_nullable).then(|| time.behind_us().saturating_add(time.lateness_us))
}

fn trace(plan: &LogicalPlan, index: usize, asked: Asked) -> Option<EventTime> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let table = script_table(scan)?;
            declares(&table.statement, plan.schema().field(index).name()).then(|| EventTime::of_table(&table.statement))
        }
        LogicalPlan::Projection(projection) => {
            let input = projection.input.as_ref();
            // The projection that computes a table's columns is the only one right above such a table.
            if let LogicalPlan::TableScan(scan) = input
                && let Some(table) = script_table(scan).filter(|table| table.has_computed())
                && declares(&table.statement, plan.schema().field(index).name())
            {
                return Some(EventTime::of_table(&table.statement));
            }
            let found = near(&projection.expr[index], input).and_then(|(at, by_us, unchanged)| {
                let time = trace(input, at, asked)?;
                Some(if unchanged { time } else { time.moved(by_us) })
            });
            let computed = || asked.known.then(|| computed_from(input)).flatten();
            found.or_else(|| computed().map(|table| EventTime::of_table(&table)))
        }
        LogicalPlan::SubqueryAlias(alias) => trace(&alias.input, index, asked),
        LogicalPlan::Filter(filter) => match First::of(filter) {
            Some(first) => of_first(filter, &first, index, asked),
            None => trace(&filter.input, index, asked),
        },
        LogicalPlan::Union(union) => {
            let times = union.inputs.iter().map(|input| trace(input, index, asked));
            times.collect::<Option<Vec<_>>>()?.into_iter().reduce(EventTime::united)
        }
        LogicalPlan::Unnest(unnest) => trace(&unnest.input, passed_on(unnest, index)?, asked),
        LogicalPlan::Distinct(Distinct::All(input)) => trace(input, index, asked),
        LogicalPlan::Aggregate(aggregate) => of_group(aggregate, index, asked),
        LogicalPlan::Join(join) => of_join(join, index, asked),
        LogicalPlan::Window(window) => {
            if index >= window.input.schema().fields().len() {
                return None;
            }
            let time = trace(&window.input, index, asked)?;
            // A row changes what was said of its own partition, whose rows have the same time.
            if all_partitioned_by(window, index) {
                return Some(time);
            }
            Some(match !asked.changes && settling_column(window) == Some(index) {
                true => time.waited_for(),
                false => time.rewritten(),
            })
        }
        LogicalPlan::Extension(_) if let Some(node) = AsOfNode::of(plan) => {
            // What such a join adds is of any time.
            let at = node.of_left(index)?;
            let time = trace(&node.left, at, asked)?;
            let Some((left, _)) = &node.times else { return Some(time) };
            let waits_for_it = node.left.schema().maybe_index_of_column(left) == Some(at);
            Some(if waits_for_it || time.is_closed { time.waited_for() } else { time.rewritten() })
        }
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) => match node.bound(index) {
                None => trace(&node.input, index, asked),
                Some(bound) => {
                    let time = of_window(node, asked.changes)?;
                    Some(EventTime { is_nullable: false, ..time.moved(node.window.behind_us(bound)) })
                }
            },
            (None, Some(node)) => trace(&node.input, index, asked),
            (None, None) => None,
        },
    }
}

fn declares(table: &TableStatement, column: &str) -> bool {
    table.watermark.as_ref().is_some_and(|watermark| watermark.column.key() == column)
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

/// Of the first rows of each key.
fn of_first(filter: &Filter, first: &First<'_>, index: usize, asked: Asked) -> Option<EventTime> {
    if index >= first.input().schema().fields().len() {
        return None;
    }
    let mut time = trace(first.input(), index, asked)?;
    let is_column = |expr: &Expr| below(expr, first.input()) == Some(index);
    if first.partition().iter().any(is_column) {
        return Some(time);
    }
    if asked.changes || first.settling_column() != Some(index) {
        return Some(time.rewritten());
    }
    time.firsts.push(filter.clone());
    Some(time.waited_for())
}

/// Of what is grouped by.
fn of_group(aggregate: &Aggregate, index: usize, asked: Asked) -> Option<EventTime> {
    let input = aggregate.input.as_ref();
    let at = below(aggregate.group_expr.get(index)?, input)?;
    if let Some(window) = opened(aggregate)
        && let Some(of_window) = of_window(window, asked.changes).filter(|time| !time.is_rewritten)
    {
        return match bound(input, at) {
            Some(bound) => Some(EventTime {
                is_exact: bound == Bound::Time,
                is_nullable: false,
                is_closed: true,
                ..of_window.waited_for()
            }),
            None => trace(input, at, asked).map(EventTime::waited_for),
        };
    }
    let time = trace(input, at, asked)?;
    if asked.changes || time.is_rewritten {
        return Some(time);
    }
    match settling_group(aggregate) {
        None => Some(time),
        Some((settling, _)) if settling == index => Some(time.waited_for()),
        // The other bounds of windows that were passed are as good; those of windows that were not may lie before it.
        Some((_, 0)) if time.behind_us() == 0 => Some(time.waited_for()),
        Some(_) => Some(time.rewritten()),
    }
}

/// What an aggregation of rows that stay groups by that follows the watermark and is never null, and how long after it.
pub(crate) fn settling_group(aggregate: &Aggregate) -> Option<(usize, i64)> {
    let groups = aggregate.group_expr.iter().enumerate();
    let follows = groups.filter_map(|(index, expr)| {
        let at = below(expr, &aggregate.input)?;
        Some((index, always_follows_after_us(&aggregate.input, at)?))
    });
    follows.min_by_key(|(_, after_us)| *after_us)
}

/// Of a side of a join. What a join without bounds emits may be of any time, and so may be what an outer join fills with
/// nulls: of those a null is no time.
fn of_join(join: &Join, index: usize, asked: Asked) -> Option<EventTime> {
    let n_left = join.left.schema().fields().len();
    let (is_left, at) = match index.checked_sub(n_left) {
        _ if matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti) => (false, index),
        None => (true, index),
        Some(at) => (false, at),
    };
    let side = |is_left: bool| if is_left { &join.left } else { &join.right };
    let mut time = trace(side(is_left), at, asked)?;
    time.is_nullable |= match join.join_type {
        JoinType::Full => true,
        JoinType::Left => !is_left,
        JoinType::Right => is_left,
        _ => false,
    };
    // Until such a side has ended there is no watermark, and then it gives nothing that could make a row of any age.
    if ends_without_time(side(!is_left)) {
        return Some(time);
    }
    let Some(bounds) = bounds(join, false).0 else { return Some(time.rewritten()) };
    let (own, others) = match is_left {
        true => (bounds.left_time, bounds.right_time),
        false => (bounds.right_time, bounds.left_time),
    };
    let is_bounded = own == at;
    let other = trace(side(!is_left), others, asked)?;
    if !asked.changes {
        time.firsts.extend(other.firsts);
        return Some(if is_bounded || time.is_closed { time.waited_for() } else { time.rewritten() });
    }
    // It is planned without bounds; but a row meets only rows of its own time where that is asked for.
    Some(match is_bounded && (bounds.lower_us, bounds.upper_us) == (0, 0) {
        true => EventTime { is_exact: time.is_exact, is_nullable: time.is_nullable, ..time.united(other) },
        false => time.rewritten(),
    })
}

/// Whether all tables of a plan come to an end by themselves and have no watermark.
fn ends_without_time(plan: &LogicalPlan) -> bool {
    let mut ends = true;
    for_each_scan(plan, |table, _| {
        let bounded = connectors::find(table.def.connector()).is_some_and(|connector| connector.bounded(&table.def));
        ends &= bounded && table.watermark.is_none();
    });
    ends
}

/// Which bound of a window output column `index` is, whose rows are not aggregated.
pub(crate) fn bound(plan: &LogicalPlan, index: usize) -> Option<Bound> {
    match plan {
        LogicalPlan::Projection(projection) => {
            bound(&projection.input, below(&projection.expr[index], &projection.input)?)
        }
        LogicalPlan::SubqueryAlias(alias) => bound(&alias.input, index),
        LogicalPlan::Filter(filter) => bound(&filter.input, index),
        LogicalPlan::Unnest(unnest) => bound(&unnest.input, passed_on(unnest, index)?),
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) => node.bound(index),
            (None, Some(node)) => bound(&node.input, index),
            (None, None) => None,
        },
    }
}

/// The column of `input` that `expr` passes on unchanged.
pub(crate) fn below(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => below(&alias.expr, input),
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    }
}
