//! Aggregation: [columns it needs] -> exchange by key -> windows, or groups without end.
//!
//! Rows that are grouped by the bounds of an earlier window are final when the watermark has passed them: they are windows
//! of one instant.

use super::errors::{Place, in_call};
use super::lower::{Lowered, Lowering, Open, Outputs, Slot, Stream, interval_us, planner};
use super::ordered::sorted_by_itself;
use super::plan::group_by_place;
use super::refuse::{at, find};
use super::time::settling_group;
use super::types::event_time;
use super::window::{Bound, TIME_BEFORE_END_US, describe, opened, passes_over_window};
use crate::dataflow::{Operator, Window};
use crate::runtime::operators::gathered::{counts_rightly, gathered, is_idempotent};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DataFusionError, Result as PlanResult};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, Cast};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use jobs::Diagnostic;
use std::sync::Arc;

/// Marks a call with an order of its own in the text of what it does.
const ORDERED: &str = " ordered";

/// Where a group expression's value is in what the windows emit.
pub(crate) enum Group {
    Key(usize),
    Window(Bound),
}

pub(crate) type Built = (Arc<AggregateFunctionExpr>, Option<Arc<dyn PhysicalExpr>>);

impl Lowering<'_> {
    pub(crate) fn aggregate(&mut self, aggregate: &Aggregate, places: &[Place<'_>]) -> Lowered<Stream> {
        if passes_over_window(aggregate) {
            let error = Diagnostic::new("an aggregation of a window's rows that does not group by the window");
            let error = error.help("group by window_start and window_end, or leave the window out");
            return Err(at(error, group_by_place(places)));
        }
        self.opens = opened(aggregate).is_some();
        let input = self.lower(&aggregate.input, places)?;
        // Rows of one instant: final once the watermark has passed it.
        let settling = match input.open.is_some() || self.graph.changes(input.node) {
            true => None,
            false => settling_group(aggregate),
        };
        let mut outputs = Outputs::default();
        let mut keys = Vec::new();
        let mut groups = Vec::new();
        // The column of event time and the window by which rows are settled.
        let mut settled = None;
        for (index, expr) in aggregate.group_expr.iter().enumerate() {
            let expr = expr.clone().unalias();
            if let Expr::Column(column) = &expr {
                let slot = input.schema.index_of_column(column).map_err(|error| planner(&error, places))?;
                if let (Slot::Window(which), Some(open)) = (&input.slots[slot], &input.open) {
                    settled = Some((open.window, self.graph.column(input.node, open.time), open.lateness_us));
                    groups.push(Group::Window(*which));
                    continue;
                }
                if settling.is_some_and(|(settling, _)| settling == index) {
                    let instant = Window::Tumble { width_us: 1, offset_us: 0 };
                    settled = Some((instant, self.slot(&input, slot, places)?, 0));
                }
            }
            let expr = self.resolve(&expr, &input, places)?;
            groups.push(Group::Key(keys.len()));
            keys.push(outputs.push(expr, aggregate.schema.field(index).name()));
        }
        let in_window = groups.iter().any(|group| matches!(group, Group::Window(_)));
        if let Some(Open { window: Window::Session { .. }, partition, .. }) = &input.open {
            let mut wanted: Vec<Expr> = partition.iter().map(|column| self.graph.column(input.node, *column)).collect();
            let grouped: Vec<&Expr> = keys.iter().map(|key| &outputs.exprs[*key]).collect();
            wanted.retain(|column| !grouped.contains(&column));
            if !wanted.is_empty() || grouped.len() != partition.len() {
                let error =
                    Diagnostic::new("sessions are grouped by the columns of their PARTITION BY, and by those alone");
                return Err(at(error, find(places, &[&["SESSION"], &["GROUP", "BY"]])));
            }
        }
        let settled = settled.map(|(window, time, late_us)| (window, outputs.push(time, "event_time"), late_us));
        let mut does = match settled {
            Some((window, time, 0)) => format!("{} time {time} keys {keys:?}", describe(window)),
            Some((window, time, late_us)) => {
                format!("{} time {time} late {late_us} keys {keys:?}", describe(window))
            }
            None => format!("keys {keys:?}"),
        };
        let mut calls = Vec::new();
        for expr in &aggregate.aggr_expr {
            let (call, text) = self.call(expr, &input, &mut outputs, places)?;
            does.push('\n');
            does.push_str(&text);
            calls.push(call);
        }
        // Late rows are told as they came, and so go with the others to where it is known that they are late.
        let row = input.row.clone().filter(|_| in_window);
        let row = row.map(|row| row.through(input.node, &mut outputs, &self.graph));
        let node = self.outputs(input.node, outputs, places)?;
        let node = self.hold_back(node, settling.map_or(0, |(_, after_us)| after_us), places)?;
        let window = settled.map(|(window, time, _)| (window, time));
        if row.is_none()
            && settled.is_none_or(|(_, _, late_us)| late_us == 0)
            && let Some(split) = self.split(node, &keys, window, &calls, &does, places)?
        {
            return self.merged(split, window, aggregate, &groups, places);
        }
        let exchange = self.exchange(node, keys.clone(), places)?;
        // Windows that answer again are groups without end as to their states.
        let in_window = settled.is_some_and(|(window, _, late_us)| {
            matches!(window, Window::Session { .. }) || late_us == 0 && !self.graph.changes(node)
        });
        let built = calls.iter().map(|call| self.build(call, exchange, in_window)).collect::<PlanResult<Vec<Built>>>();
        let (aggregates, filters): (Vec<_>, Vec<_>) =
            built.map_err(|error| planner(&error, places))?.into_iter().unzip();

        let n_keys = keys.len();
        let columns = self.graph.fields(exchange);
        let mut fields: Vec<Field> = keys.iter().map(|key| columns[*key].clone()).collect();
        if settled.is_some() {
            fields.extend(["window_start", "window_end"].map(|name| Field::new(name, event_time(), true)));
        }
        let n_before = fields.len();
        fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
        let (kind, operator) = match settled {
            Some((window, time, lateness_us)) => {
                let partial = false;
                ("window", Operator::WindowAggregate { window, time, keys, aggregates, filters, lateness_us, partial })
            }
            None => ("group", Operator::GroupAggregate { keys, aggregates, filters }),
        };
        let node = self.graph.add(kind, &does, vec![exchange], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        if let Some(row) = row {
            self.late_rows(node, exchange, row, places)?;
        }
        let slots = self.group_slots(node, n_keys, &groups);
        let slots = slots.into_iter().chain((0..aggregate.aggr_expr.len()).map(|at| Slot::Column(n_before + at)));
        let slots = slots.collect();
        Ok(Stream { node, schema: Arc::clone(&aggregate.schema), slots, open: None, row: None })
    }

    /// What is grouped by, as columns of an aggregation that begin with the keys and then the window.
    pub(crate) fn group_slots(&self, node: usize, n_keys: usize, groups: &[Group]) -> Vec<Slot> {
        let of = |group: &Group| match group {
            Group::Key(key) => Slot::Column(*key),
            Group::Window(Bound::Start) => Slot::Column(n_keys),
            Group::Window(Bound::End) => Slot::Column(n_keys + 1),
            Group::Window(Bound::Time) => {
                Slot::Lazy(self.graph.column(node, n_keys + 1) - interval_us(TIME_BEFORE_END_US))
            }
        };
        groups.iter().map(of).collect()
    }

    /// The call with its arguments and filter taken from `outputs`, and a stable text of it.
    fn call(
        &self,
        expr: &Expr,
        input: &Stream,
        outputs: &mut Outputs,
        places: &[Place<'_>],
    ) -> Lowered<((Expr, String), String)> {
        let name = expr.schema_name().to_string();
        let Expr::AggregateFunction(mut call) = expr.clone().unalias_nested().data else {
            return Err(super::lower::defect("an aggregation of this form", places));
        };
        if orders_by_other_than_different(&call) {
            let error = Diagnostic::new(format!("{name} orders by what is not among its DISTINCT arguments"));
            return Err(at(error, find(places, &[&["WITHIN", "GROUP"], &["ORDER", "BY"]])));
        }
        let AggregateFunctionParams { args, filter, order_by, .. } = &mut call.params;
        let mut texts = Vec::new();
        let filter = filter.iter_mut().map(|filter| filter.as_mut());
        let ordered: Vec<String> =
            order_by.iter().map(|sort| format!("{ORDERED} {} {}", sort.asc, sort.nulls_first)).collect();
        let order = order_by.iter_mut().map(|sort| &mut sort.expr);
        for arg in args.iter_mut().chain(filter).chain(order) {
            let resolved = self.resolve(arg, input, places)?;
            texts.push(self.graph.text(input.node, &resolved));
            if !matches!(resolved, Expr::Literal(..)) {
                let column = outputs.push(resolved, &arg.schema_name().to_string());
                // The placeholder is bound when the projection exists.
                *arg = output_column(column);
            } else {
                *arg = resolved;
            }
        }
        let text = format!(
            "{}({}{}) {} {:?}",
            call.func.name(),
            texts.join(", "),
            ordered.join(""),
            call.params.distinct,
            call.params.null_treatment
        );
        Ok(((Expr::AggregateFunction(call), name), text))
    }

    /// `in_window`: the states are those of windows, which are merged, and not of groups without end.
    pub(crate) fn build(&self, (call, name): &(Expr, String), node: usize, in_window: bool) -> PlanResult<Built> {
        let columns = self.graph.columns(node);
        let bound = bind(call.clone(), |index| self.graph.column(node, index))?;
        let bound = if in_window { sorted_by_itself(bound, columns)? } else { bound };
        let bound = over_different(bound, columns, in_window)?;
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let lowered = LoweredAggregateBuilder::new(&bound, columns, columns.as_arrow(), &props, &context);
        let lowered = lowered.with_name(name.clone()).build()?;
        let aggregate = lowered.aggregate;
        aggregate.create_accumulator().map_err(|error| incomputable(name, aggregate.fun().name(), &error))?;
        Ok((aggregate, lowered.filter))
    }
}

/// A call that would end the job with its first row.
pub(crate) fn incomputable(call: &str, function: &str, error: &DataFusionError) -> DataFusionError {
    let text = format!("{call} is not supported in a stream yet: {}", error.strip_backtrace());
    in_call(Diagnostic::new(text), function)
}

/// The types of a call's arguments.
pub(crate) fn types(args: &[Expr], schema: &DFSchema) -> PlanResult<Vec<DataType>> {
    args.iter().map(|arg| arg.get_type(schema)).collect()
}

/// The call, if it is over different values, by a function that takes each of them once. Groups without end count the
/// values of one column by themselves.
fn over_different(call: Expr, schema: &DFSchema, in_window: bool) -> PlanResult<Expr> {
    let Expr::AggregateFunction(mut call) = call else { return Ok(call) };
    let types = types(&call.params.args, schema)?;
    let counts = call.func.name() == "count" && types.len() == 1 && !in_window;
    if call.params.distinct && !counts && !takes_different_rightly(&call.func, &types) {
        call.params.distinct = false;
        call.func = gathered(&call.func, true);
    }
    Ok(Expr::AggregateFunction(call))
}

/// Whether a call with DISTINCT can be left to DataFusion.
pub(crate) fn takes_different_rightly(function: &AggregateUDF, types: &[DataType]) -> bool {
    is_idempotent(function) || counts_rightly(function, types)
}

/// Whether it is not said which of several rows with the same arguments gives a value its place.
fn orders_by_other_than_different(call: &AggregateFunction) -> bool {
    let AggregateFunctionParams { args, distinct, order_by, .. } = &call.params;
    let among = |expr: &Expr| args.iter().any(|arg| widened(arg) == widened(expr));
    *distinct && !is_idempotent(&call.func) && !order_by.iter().all(|sort| among(&sort.expr))
}

/// The expression without a cast that the function's signature asks for.
fn widened(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr: inner, field }) => match field.data_type() {
            DataType::Float64 | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => inner,
            _ => expr,
        },
        expr => expr,
    }
}

/// Stands for output `index` until its node exists.
pub(crate) fn output_column(index: usize) -> Expr {
    Expr::Column(datafusion::common::Column::new(Some("output"), index.to_string()))
}

pub(crate) fn bind(expr: Expr, column: impl Fn(usize) -> Expr) -> PlanResult<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let bound = expr.transform_up(|expr| match &expr {
        Expr::Column(placeholder) => match placeholder.name.parse() {
            Ok(index) => Ok(Transformed::yes(column(index))),
            Err(_) => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(bound.data)
}
