//! Event-time windows in FROM: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10 seconds'))`, and `HOP`, `CUMULATE` and
//! `SESSION` alike.
//!
//! The call ([`call`]) becomes a [`WindowNode`] above the table's plan, which adds window_start, window_end and window_time.
//! The streaming planner turns it, together with the aggregation above it, into one operator, and where there is none into
//! rows with these columns ([`rows`]); the batch planner into a projection.

mod call;
mod rows;

pub(crate) use call::{WindowPlanner, fixed_interval_us, interval_us, offset_us, widths_of, window_of};

use super::errors::external;
use super::shared::SharedNode;
use super::time::{below, bound};
use super::types::event_time;
use crate::dataflow::Window;
use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use jobs::Diagnostic;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub(crate) const KINDS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// The columns that a window adds, in this order.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// Their names where the input has columns of those names: such as no file can write.
const OTHER_COLUMNS: [&str; 3] = ["#window_start", "#window_end", "#window_time"];

/// What a window adds to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Start,
    End,
    /// One millisecond before the end, as in Flink: inside the window, and after all its rows.
    Time,
}

impl Bound {
    pub(crate) const ALL: [Self; 3] = [Self::Start, Self::End, Self::Time];
}

/// How long before its end the time of a window is.
pub(crate) const TIME_BEFORE_END_US: i64 = 1000;

impl Window {
    /// By how much a bound may lie before the time of a row in the window.
    pub(crate) fn behind_us(self, bound: Bound) -> i64 {
        match (bound, self) {
            (Bound::End, _) => 0,
            (Bound::Time, _) => TIME_BEFORE_END_US,
            (
                Bound::Start,
                Self::Tumble { width_us, .. } | Self::Hop { width_us, .. } | Self::Cumulate { width_us, .. },
            ) => width_us,
            // Known when the session is over.
            (Bound::Start, Self::Session { .. }) => i64::MAX,
        }
    }
}

/// Rows of `input`, once for each window in which their event time lies.
#[derive(Clone, Debug)]
pub(crate) struct WindowNode {
    pub(crate) input: LogicalPlan,
    pub(crate) window: Window,
    pub(crate) time: Column,
    /// How far before the watermark the time may be.
    pub(crate) behind_us: i64,
    /// Of sessions: whose rows are apart from others'.
    pub(crate) partition: Vec<Column>,
    /// Of the columns that it adds.
    pub(crate) names: [&'static str; 3],
    schema: DFSchemaRef,
}

/// All that one node can differ from another in, but for the input.
type Parts<'a> = (Window, &'a Column, i64, &'a [Column], [&'static str; 3]);

impl WindowNode {
    /// `time`: a column and how far before the watermark its values may be.
    pub(crate) fn try_new(
        input: LogicalPlan,
        window: Window,
        (time, behind_us): (Column, i64),
        partition: Vec<Column>,
    ) -> Result<Self> {
        let has_column = |name: &&str| input.schema().fields().iter().any(|field| field.name() == *name);
        let names = if WINDOW_COLUMNS.iter().any(has_column) { OTHER_COLUMNS } else { WINDOW_COLUMNS };
        Self::named(input, window, (time, behind_us), partition, names)
    }

    fn named(
        input: LogicalPlan,
        window: Window,
        (time, behind_us): (Column, i64),
        partition: Vec<Column>,
        names: [&'static str; 3],
    ) -> Result<Self> {
        let (qualifier, _) = input.schema().qualified_field_from_column(&time)?;
        let qualifier = qualifier.cloned();
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for name in names {
            fields.push((qualifier.clone(), Arc::new(Field::new(name, event_time(), true))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { input, window, time, behind_us, partition, names, schema })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The window node that `plan` is, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// Which of the columns that it adds output column `index` is.
    pub(crate) fn bound(&self, index: usize) -> Option<Bound> {
        Bound::ALL.get(index.checked_sub(self.input.schema().fields().len())?).copied()
    }

    fn parts(&self) -> Parts<'_> {
        (self.window, &self.time, self.behind_us, &self.partition, self.names)
    }
}

/// The window whose rows an aggregation takes and groups by: both become one operator. Between them there are only columns
/// that are passed on, and conditions on others than the window's, or the window is one that a row's time alone tells.
pub(crate) fn opened(aggregate: &Aggregate) -> Option<&WindowNode> {
    let groups = aggregate.group_expr.iter();
    let groups =
        groups.filter_map(|expr| below(expr, &aggregate.input)).any(|at| bound(&aggregate.input, at).is_some());
    let mut uses = false;
    let window = windowed(&aggregate.input, &mut uses).filter(|_| groups)?;
    (!uses || matches!(window.window, Window::Tumble { .. })).then_some(window)
}

/// Whether an aggregation takes the rows of a window and does not group by it.
pub(crate) fn passes_over_window(aggregate: &Aggregate) -> bool {
    let mut groups = aggregate.group_expr.iter().filter_map(|expr| below(expr, &aggregate.input));
    windowed(&aggregate.input, &mut false).is_some() && !groups.any(|at| bound(&aggregate.input, at).is_some())
}

/// The window whose rows a plan gives; `uses`: whether expressions on the way use the window's columns.
fn windowed<'p>(plan: &'p LogicalPlan, uses: &mut bool) -> Option<&'p WindowNode> {
    let mut used = |expr: &Expr, input: &LogicalPlan| {
        let columns = expr.column_refs();
        let mut columns = columns.iter().filter_map(|column| input.schema().maybe_index_of_column(column));
        *uses |= below(expr, input).is_none() && columns.any(|at| bound(input, at).is_some());
    };
    match plan {
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().for_each(|expr| used(expr, &projection.input));
            windowed(&projection.input, uses)
        }
        LogicalPlan::Filter(filter) => {
            used(&filter.predicate, &filter.input);
            windowed(&filter.input, uses)
        }
        LogicalPlan::SubqueryAlias(alias) => windowed(&alias.input, uses),
        LogicalPlan::Unnest(unnest) => windowed(&unnest.input, uses),
        _ => match (WindowNode::of(plan), SharedNode::of(plan)) {
            (Some(node), _) => Some(node),
            (None, Some(node)) => windowed(&node.input, uses),
            (None, None) => None,
        },
    }
}

pub(crate) fn describe(window: Window) -> String {
    let text = |us: i64| {
        if us % 1_000_000 == 0 { format!("{}s", us / 1_000_000) } else { format!("{}ms", us as f64 / 1000.0) }
    };
    let (aligned, offset_us) = match window {
        Window::Tumble { width_us, offset_us } => (format!("tumble {}", text(width_us)), offset_us),
        Window::Hop { width_us, slide_us, offset_us } => {
            (format!("hop {} every {}", text(width_us), text(slide_us)), offset_us)
        }
        Window::Cumulate { width_us, step_us, offset_us } => {
            (format!("cumulate {} by {}", text(width_us), text(step_us)), offset_us)
        }
        Window::Session { gap_us } => (format!("session {}", text(gap_us)), 0),
    };
    if offset_us == 0 { aligned } else { format!("{aligned} from {}", text(offset_us)) }
}

impl PartialEq for WindowNode {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.parts() == other.parts()
    }
}

impl Eq for WindowNode {}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => self.parts().partial_cmp(&other.parts()),
            order => order,
        }
    }
}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.parts().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition).cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {} of {}", describe(self.window), self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let columns = exprs.into_iter().map(|expr| match expr {
            Expr::Column(column) => Ok(column),
            expr => Err(external(Diagnostic::new(format!("a window is over columns, not over {expr}")))),
        });
        let mut columns = columns.collect::<Result<Vec<Column>>>()?.into_iter();
        match (columns.next(), inputs.pop()) {
            (Some(time), Some(input)) => {
                let time = (time, self.behind_us);
                // The input may have lost the columns for which others names were taken, and the nodes above know these.
                Self::named(input, self.window, time, columns.collect(), self.names)
            }
            _ => Err(external(Diagnostic::new("a window needs an input and a column as its time"))),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let n = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < n).collect()])
    }
}
