//! Event-time windows in GROUP BY: `GROUP BY tumble(INTERVAL '10 seconds')`, `hop(slide, width)`, `cumulate(step, width)` and
//! `session(gap)`; a session is one of the other columns that are grouped by. All but sessions may be given an offset last.
//!
//! The call is a function that exists only for the planner; its value is a struct of `start` and `end`. An aggregation
//! that groups by it is rewritten to one that groups by the columns of a window in FROM.

use super::errors::{external, in_call};
use super::time::{EventTime, why_no_time, written};
use super::types::event_time;
use super::window::{KINDS, WindowNode, interval_us, offset_us, widths_of, window_of};
use crate::dataflow::Window;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, exec_err};
use datafusion::functions::core::named_struct;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use jobs::Diagnostic;
use std::sync::Arc;

pub(crate) fn grouping_functions() -> [ScalarUDF; 4] {
    KINDS.map(|name| {
        ScalarUDF::new_from_impl(GroupingWindow { name, signature: Signature::variadic_any(Volatility::Volatile) })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupingWindow {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for GroupingWindow {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        let field = |name: &str| Field::new(name, event_time(), true);
        Ok(DataType::Struct(Fields::from(vec![field("start"), field("end")])))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} belongs in GROUP BY", self.name)
    }
}

/// The arguments when `expr` is one of the calls.
pub(crate) fn grouping_call(expr: &Expr) -> Option<(&str, &[Expr])> {
    match expr {
        Expr::Alias(alias) => grouping_call(&alias.expr),
        Expr::ScalarFunction(call) => {
            let name = call.func.name();
            KINDS.contains(&name).then_some((name, &call.args))
        }
        _ => None,
    }
}

/// Rewrites all aggregations that group by one of the calls.
pub(crate) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let expanded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(|expr| grouping_call(expr).is_some()) => {
            rewrite(aggregate).map(Transformed::yes)
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(expanded.data)
}

fn rewrite(aggregate: Aggregate) -> Result<LogicalPlan> {
    let calls: Vec<(&str, &[Expr])> = aggregate.group_expr.iter().filter_map(grouping_call).collect();
    let [(name, args)] = calls.as_slice() else {
        return Err(external(Diagnostic::new("an aggregation has one window")));
    };
    let wrong = |error: Diagnostic| in_call(error, name);
    let refuse = |error: Diagnostic| Err(wrong(error));
    let (widths, rest) = args.split_at(args.len().min(widths_of(name)));
    let widths: std::result::Result<Vec<i64>, Diagnostic> = widths.iter().map(interval_us).collect();
    let offset = match rest {
        [] => Ok(0),
        [offset] if *name != "session" => offset_us(offset),
        // Says how many there may be.
        _ => window_of(name, &[], 0).map(|_| 0),
    };
    let window = widths.and_then(|widths| window_of(name, &widths, offset?)).map_err(wrong)?;
    let input = &aggregate.input;
    let times = times(input);
    let (time, behind_us) = match times.as_slice() {
        [(index, time)] => (Column::from(input.schema().qualified_field(*index)), time.behind_us()),
        [] => {
            let error = Diagnostic::new(format!("{name} needs an event time, and none of these columns is one"));
            let fields = input.schema().fields();
            let reasons = (0..fields.len()).filter_map(|index| Some((index, why_no_time(input, index).reason()?)));
            let help = reasons.map(|(index, (what, help))| format!("'{}' {what}: {help}", fields[index].name())).next();
            return refuse(error.help(help.unwrap_or_else(|| "declare WATERMARK FOR column AS … on the table".into())));
        }
        _ => {
            let error = Diagnostic::new(format!("{name} finds more than one event time"));
            return refuse(error.help("write TABLE(TUMBLE(TABLE t, DESCRIPTOR(column), width)) to choose"));
        }
    };
    let qualifier = time.relation.clone();
    let mut partition = Vec::new();
    if matches!(window, Window::Session { .. }) {
        for expr in aggregate.group_expr.iter().filter(|expr| grouping_call(expr).is_none()) {
            match expr {
                Expr::Column(column) => partition.push(column.clone()),
                _ => {
                    return refuse(
                        Diagnostic::new("sessions are grouped by columns").help("name the expression in a view"),
                    );
                }
            }
        }
    }
    let windowed = WindowNode::try_new(input.as_ref().clone(), window, (time, behind_us), partition)?;
    let [start, end] = [0, 1].map(|at| Expr::Column(Column::new(qualifier.clone(), windowed.names[at])));
    let windowed = windowed.into_plan();
    let mut group: Vec<Expr> =
        aggregate.group_expr.iter().filter(|expr| grouping_call(expr).is_none()).cloned().collect();
    group.extend([start.clone(), end.clone()]);
    let grouped = Aggregate::try_new(Arc::new(windowed), group, aggregate.aggr_expr.clone())?;
    // The columns that the nodes above know, in their order.
    let exprs = aggregate.schema.iter().enumerate().map(|(at, (qualifier, field))| {
        match aggregate.group_expr.get(at).and_then(grouping_call) {
            Some(_) => named_struct()
                .call(vec![lit("start"), start.clone(), lit("end"), end.clone()])
                .alias_qualified(qualifier.cloned(), field.name()),
            None => Expr::Column(Column::new(qualifier.cloned(), field.name())),
        }
    });
    let exprs: Vec<Expr> = exprs.collect();
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(grouped)).project(exprs)?.build()
}

/// The columns that may be the time of a window: those that are event time; if there are none those that were, but come, or
/// are taken back, later; and else those that are near one.
fn times(input: &LogicalPlan) -> Vec<(usize, EventTime)> {
    let columns = 0..input.schema().fields().len();
    let known: Vec<(usize, EventTime)> = columns.filter_map(|index| Some((index, written(input, index)?))).collect();
    let kinds: [fn(&EventTime) -> bool; 3] =
        [|time| time.is_exact && !time.is_rewritten, |time| time.is_exact, |_| true];
    let of = |kind: &fn(&EventTime) -> bool| known.iter().filter(|(_, time)| kind(time)).cloned().collect::<Vec<_>>();
    kinds.iter().map(of).find(|times| !times.is_empty()).unwrap_or_default()
}
