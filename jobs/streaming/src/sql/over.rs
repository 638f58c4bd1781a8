//! Functions OVER rows in an order, and the first rows in an order:
//! [columns] -> exchange by PARTITION BY -> over, or top n where only the first ROW_NUMBERs are asked for.

use super::aggregate::{bind, incomputable, output_column, takes_different_rightly, types};
use super::errors::Place;
use super::lower::{Lowered, Lowering, Outputs, Slot, Stream, defect, planner};
use super::time::{below, is_event_time, wait_us};
use crate::dataflow::{Operator, Order};
use crate::runtime::operators::gathered::{gathered, retracts_rightly};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator as Op, Window, WindowFrameBound,
    WindowFunctionDefinition, lit,
};
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_planner::create_window_expr_with_name;
use std::sync::Arc;

/// A filter that keeps the first rows of a ROW_NUMBER, and what else it asks.
pub(crate) struct First<'a> {
    window: &'a Window,
    call: &'a WindowFunction,
    limit: usize,
    rest: Option<Expr>,
}

impl<'a> First<'a> {
    pub(crate) fn of(filter: &'a Filter) -> Option<Self> {
        let LogicalPlan::Window(window) = filter.input.as_ref() else { return None };
        let [expr] = window.window_expr.as_slice() else { return None };
        let Expr::WindowFunction(call) = unaliased(expr) else { return None };
        let numbers = matches!(&call.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number");
        if !numbers || call.params.order_by.is_empty() {
            return None;
        }
        let number = window.schema.fields().len() - 1;
        let (mut limit, mut rest) = (None::<u64>, Vec::new());
        for conjunct in split_conjunction(&filter.predicate) {
            match upper_bound(conjunct, &window.schema, number) {
                Some(bound) => limit = Some(limit.map_or(bound, |limit| limit.min(bound))),
                None => rest.push(conjunct.clone()),
            }
        }
        let limit = usize::try_from(limit?).ok()?;
        Some(Self { window, call, limit, rest: conjunction(rest) })
    }

    pub(crate) fn input(&self) -> &'a LogicalPlan {
        &self.window.input
    }

    pub(crate) fn partition(&self) -> &'a [Expr] {
        &self.call.params.partition_by
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The column of event time by which it is settled which rows are the first ones, once the watermark has passed
    /// them: where no row of the input is taken back. A row without a time is the last one, and never settled.
    pub(crate) fn settling_column(&self) -> Option<usize> {
        let input = self.input();
        let by = self.call.params.order_by.first().filter(|by| by.asc && !by.nulls_first)?;
        below(&by.expr, input).filter(|column| is_event_time(input, *column))
    }

    /// Whether one of these expressions, over the filter's columns, asks for the number itself.
    pub(crate) fn number_used(&self, exprs: &[Expr]) -> bool {
        let number = self.window.schema.fields().len() - 1;
        let asks = |expr: &Expr| {
            let columns = expr.column_refs();
            columns.iter().any(|column| self.window.schema.maybe_index_of_column(column) == Some(number))
        };
        exprs.iter().any(asks) || self.rest.iter().any(asks)
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

/// The highest value that `expr` leaves to column `number`, where that is all it says.
fn upper_bound(expr: &Expr, schema: &DFSchemaRef, number: usize) -> Option<u64> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    let is_number = |expr: &Expr| match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column) == Some(number),
        _ => false,
    };
    let (op, value) = match (left.as_ref(), right.as_ref()) {
        (a, Expr::Literal(value, _)) if is_number(a) => (*op, value),
        (Expr::Literal(value, _), b) if is_number(b) => (op.swap()?, value),
        _ => return None,
    };
    let value = match value {
        ScalarValue::UInt64(Some(value)) => *value,
        ScalarValue::Int64(Some(value)) => u64::try_from(*value).ok()?,
        _ => return None,
    };
    match op {
        Op::LtEq => Some(value),
        Op::Lt => Some(value.saturating_sub(1)),
        Op::Eq if value == 1 => Some(1),
        _ => None,
    }
}

/// The call, if DataFusion passes over its DISTINCT or does not get rows out of its frame without a trace, by a function
/// that is computed anew.
fn exact(call: Expr, schema: &DFSchema) -> PlanResult<Expr> {
    let result = call.get_type(schema)?;
    let Expr::WindowFunction(mut call) = call else { return Ok(call) };
    if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun {
        let params = &mut call.params;
        let distinct = params.distinct && !takes_different_rightly(function, &types(&params.args, schema)?);
        let slides = !params.window_frame.is_ever_expanding();
        if distinct || slides && !retracts_rightly(function, &result) {
            params.distinct = false;
            call.fun = WindowFunctionDefinition::AggregateUDF(gathered(function, distinct));
        }
    }
    Ok(Expr::WindowFunction(call))
}

fn calls(window: &Window) -> impl Iterator<Item = Option<&WindowFunction>> {
    window.window_expr.iter().map(|expr| match unaliased(expr) {
        Expr::WindowFunction(call) => Some(call.as_ref()),
        _ => None,
    })
}

/// Whether all functions are over rows that have the same value in this column of the input.
pub(crate) fn all_partitioned_by(window: &Window, column: usize) -> bool {
    calls(window).all(|call| {
        let by = call.map_or(&[][..], |call| &call.params.partition_by);
        by.iter().any(|expr| below(expr, &window.input) == Some(column))
    })
}

/// The column of event time when a row's values are final once the watermark has passed it: where no row of the input is
/// taken back.
pub(crate) fn settling_column(window: &Window) -> Option<usize> {
    let calls = calls(window).collect::<Option<Vec<_>>>()?;
    let [Sort { expr: Expr::Column(column), asc: true, .. }] = calls.first()?.params.order_by.as_slice() else {
        return None;
    };
    let index = window.input.schema().maybe_index_of_column(column)?;
    let looks_back = |call: &&WindowFunction| {
        let causal = match &call.fun {
            WindowFunctionDefinition::AggregateUDF(_) => true,
            WindowFunctionDefinition::WindowUDF(udf) => matches!(
                udf.name(),
                "row_number" | "rank" | "dense_rank" | "lag" | "first_value" | "last_value" | "nth_value"
            ),
        };
        let end = &call.params.window_frame.end_bound;
        causal && matches!(end, WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_))
    };
    (is_event_time(&window.input, index) && calls.iter().all(looks_back)).then_some(index)
}

impl Lowering<'_> {
    /// `number`: whether the rank is asked for further on; `settled`: whether rows are said once, and only when the
    /// watermark has passed them.
    pub(crate) fn first(
        &mut self,
        first: &First<'_>,
        number: bool,
        settled: bool,
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let input = self.lower(&first.window.input, places)?;
        let params = &first.call.params;
        let mut outputs = Outputs::default();
        let columns = self.all_columns(&input, &mut outputs, places)?;
        let keys = self.pushed(&params.partition_by, &input, &mut outputs, places)?;
        let order = self.order(&params.order_by, &input, &mut outputs, places)?;
        let settling = first.settling_column().filter(|_| settled && !self.graph.changes(input.node));
        let time = settling.map(|column| columns[column]);
        let node = self.outputs(input.node, outputs, places)?;
        let node = self.exchange(node, keys.clone(), places)?;
        let node = match settling {
            Some(column) => self.hold_back(node, wait_us(first.input(), column), places)?,
            None => node,
        };
        let mut fields = self.graph.fields(node);
        // The first of one row needs no column to say so.
        let rank = number && first.limit > 1;
        let n_columns = fields.len();
        if rank {
            fields.push(Field::new("row_number", DataType::UInt64, true));
        }
        let mut does = format!("{keys:?} {order:?} {} {rank}", first.limit);
        if let Some(time) = time {
            does.push_str(&format!(" settled by {time}"));
        }
        let operator = Operator::TopN { keys, order, limit: first.limit, rank, time };
        let node = self.graph.add("top", &does, vec![node], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        let last = if rank { Slot::Column(n_columns) } else { Slot::Lazy(lit(1_u64)) };
        let slots = columns.into_iter().map(Slot::Column).chain([last]).collect();
        let stream = Stream { node, schema: Arc::clone(&first.window.schema), slots, open: None, row: None };
        match &first.rest {
            Some(rest) => self.filter(stream, rest, places),
            None => Ok(stream),
        }
    }

    pub(crate) fn over(&mut self, window: &Window, places: &[Place<'_>]) -> Lowered<Stream> {
        let input = self.lower(&window.input, places)?;
        let mut calls = Vec::new();
        for expr in &window.window_expr {
            let Expr::WindowFunction(call) = unaliased(expr) else {
                return Err(defect("a window function of this form", places));
            };
            calls.push((call.as_ref(), expr.schema_name().to_string()));
        }
        let Some(((first, _), others)) = calls.split_first() else {
            return Err(defect("OVER without a function", places));
        };
        let alike = |(call, _): &(&WindowFunction, String)| {
            call.params.partition_by == first.params.partition_by && call.params.order_by == first.params.order_by
        };
        if !others.iter().all(alike) {
            return Err(defect("functions over different orders in one step", places));
        }
        let mut outputs = Outputs::default();
        let columns = self.all_columns(&input, &mut outputs, places)?;
        let keys = self.pushed(&first.params.partition_by, &input, &mut outputs, places)?;
        let order = self.order(&first.params.order_by, &input, &mut outputs, places)?;
        let settling = settling_column(window).filter(|_| !self.graph.changes(input.node));
        let time = settling.and(order.first()).map(|by| by.column);
        let late_us = settling.map_or(0, |column| wait_us(&window.input, column));
        let mut does = format!("{keys:?} {order:?} {time:?}");
        let mut placed = Vec::new();
        for (call, name) in &calls {
            let mut call = (*call).clone();
            let mut texts = Vec::new();
            let WindowFunctionParams { args, partition_by, order_by, filter, window_frame, .. } = &mut call.params;
            let exprs = args.iter_mut().chain(partition_by.iter_mut());
            let exprs = exprs.chain(order_by.iter_mut().map(|sort| &mut sort.expr));
            for expr in exprs.chain(filter.iter_mut().map(AsMut::as_mut)) {
                let resolved = self.resolve(expr, &input, places)?;
                texts.push(self.graph.text(input.node, &resolved));
                *expr = match resolved {
                    resolved @ Expr::Literal(..) => resolved,
                    resolved => output_column(outputs.push(resolved, &expr.schema_name().to_string())),
                };
            }
            does.push_str(&format!("\n{}({}) {window_frame}", call.fun.name(), texts.join(", ")));
            placed.push((call, name.clone()));
        }
        let node = self.outputs(input.node, outputs, places)?;
        let node = self.exchange(node, keys.clone(), places)?;
        let node = self.hold_back(node, late_us, places)?;
        let mut functions = Vec::new();
        for (call, name) in placed {
            let function = self.function(call, name, node);
            functions.push(function.map_err(|error| planner(&error, places))?);
        }
        let mut fields = self.graph.fields(node);
        let n_columns = fields.len();
        let added = functions.iter().map(|function| Ok(function.field()?.as_ref().clone().with_nullable(true)));
        fields.extend(added.collect::<PlanResult<Vec<Field>>>().map_err(|error| planner(&error, places))?);
        let slots = columns.into_iter().chain((0..functions.len()).map(|at| n_columns + at));
        let slots = slots.map(Slot::Column).collect();
        let operator = Operator::Over { keys, order, functions, time };
        let node = self.graph.add("over", &does, vec![node], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        Ok(Stream { node, schema: Arc::clone(&window.schema), slots, open: None, row: None })
    }

    fn function(&self, call: WindowFunction, name: String, node: usize) -> PlanResult<Arc<dyn WindowExpr>> {
        let columns = self.graph.columns(node);
        let called = call.fun.name().to_string();
        let call = exact(bind(Expr::from(call), |index| self.graph.column(node, index))?, columns)?;
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let function = create_window_expr_with_name(&call, name.clone(), columns, &props, &context)?;
        function.create_window_fn().map_err(|error| incomputable(&name, &called, &error))?;
        Ok(function)
    }

    fn pushed(
        &self,
        exprs: &[Expr],
        input: &Stream,
        outputs: &mut Outputs,
        places: &[Place<'_>],
    ) -> Lowered<Vec<usize>> {
        let push = |expr: &Expr| {
            let resolved = self.resolve(expr, input, places)?;
            Ok(outputs.push(resolved, &expr.schema_name().to_string()))
        };
        exprs.iter().map(push).collect()
    }

    fn order(
        &self,
        order: &[Sort],
        input: &Stream,
        outputs: &mut Outputs,
        places: &[Place<'_>],
    ) -> Lowered<Vec<Order>> {
        let one = |sort: &Sort| {
            let resolved = self.resolve(&sort.expr, input, places)?;
            let column = outputs.push(resolved, &sort.expr.schema_name().to_string());
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            Ok(Order { column, options })
        };
        order.iter().map(one).collect()
    }
}
