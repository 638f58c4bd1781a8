//! Windowed aggregation: [columns it needs] -> exchange by key -> windows.

use super::errors::Place;
use super::lower::{Lowered, Lowering, Open, Outputs, Slot, Stream, fields_of, interval_us, planner};
use super::types::event_time;
use super::window::describe;
use crate::dataflow::Operator;
use arrow::datatypes::Field;
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use std::sync::Arc;

/// Where a group expression's value is in what the windows emit.
enum Group {
    Key(usize),
    Window(usize),
}

type Built = (Arc<AggregateFunctionExpr>, Option<Arc<dyn PhysicalExpr>>);

impl Lowering<'_> {
    pub(crate) fn aggregate(&mut self, aggregate: &Aggregate, places: &[Place<'_>]) -> Lowered<Stream> {
        let input = self.lower(&aggregate.input, places)?;
        let Some(open) = input.open else { return Err(self.no_window(places)) };
        let mut outputs = Outputs::default();
        let mut keys = Vec::new();
        let mut groups = Vec::new();
        for (index, expr) in aggregate.group_expr.iter().enumerate() {
            let expr = expr.clone().unalias();
            if let Expr::Column(column) = &expr {
                let slot = input.schema.index_of_column(column).map_err(|error| planner(&error, places))?;
                if let Slot::Window(which) = input.slots[slot] {
                    groups.push(Group::Window(which));
                    continue;
                }
            }
            let expr = self.resolve(&expr, &input, places)?;
            groups.push(Group::Key(keys.len()));
            keys.push(outputs.push(expr, aggregate.schema.field(index).name()));
        }
        if !groups.iter().any(|group| matches!(group, Group::Window(_))) {
            return Err(self.no_window(places));
        }
        let time = outputs.push(self.graph.column(input.node, open.time), "event_time");
        let mut calls = Vec::new();
        let mut does = format!("{} time {time} keys {keys:?}", describe(open.window));
        for expr in &aggregate.aggr_expr {
            let (call, text) = self.call(expr, &input, &mut outputs, places)?;
            does.push('\n');
            does.push_str(&text);
            calls.push(call);
        }
        let node = self.outputs(input.node, outputs, places)?;
        let fields = fields_of(self.graph.schema(node).fields());
        let text = format!("{keys:?}");
        let exchange = self.graph.add("exchange", &text, vec![node], fields, Operator::Exchange { keys: keys.clone() });
        let exchange = exchange.map_err(|error| planner(&error, places))?;
        let built = calls.iter().map(|call| self.build(call, exchange)).collect::<PlanResult<Vec<Built>>>();
        let (aggregates, filters): (Vec<_>, Vec<_>) =
            built.map_err(|error| planner(&error, places))?.into_iter().unzip();

        let n_keys = keys.len();
        let mut fields: Vec<Field> = keys.iter().map(|key| self.graph.schema(exchange).field(*key).clone()).collect();
        fields.extend(["window_start", "window_end"].map(|name| Field::new(name, event_time(), true)));
        fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
        let Open { window, .. } = open;
        let operator = Operator::WindowAggregate { window, time, keys, aggregates, filters };
        let node = self.graph.add("window", &does, vec![exchange], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        let grouped = groups.iter().map(|group| match group {
            Group::Key(key) => Slot::Column(*key),
            Group::Window(which @ (0 | 1)) => Slot::Column(n_keys + which),
            // One millisecond before the window's end, as in Flink: inside the window, and after all its rows.
            Group::Window(_) => Slot::Lazy(self.graph.column(node, n_keys + 1) - interval_us(1000)),
        });
        let slots = grouped.chain((0..aggregate.aggr_expr.len()).map(|at| Slot::Column(n_keys + 2 + at))).collect();
        Ok(Stream { node, schema: Arc::clone(&aggregate.schema), slots, open: None })
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
        let AggregateFunctionParams { args, filter, .. } = &mut call.params;
        let mut texts = Vec::new();
        let filter = filter.iter_mut().map(|filter| filter.as_mut());
        for arg in args.iter_mut().chain(filter) {
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
            "{}({}) {} {:?}",
            call.func.name(),
            texts.join(", "),
            call.params.distinct,
            call.params.null_treatment
        );
        Ok(((Expr::AggregateFunction(call), name), text))
    }

    fn build(&self, (call, name): &(Expr, String), node: usize) -> PlanResult<Built> {
        let bound = bind(call.clone(), |index| self.graph.column(node, index))?;
        let columns = self.graph.columns(node);
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let lowered = LoweredAggregateBuilder::new(&bound, columns, columns.as_arrow(), &props, &context);
        let lowered = lowered.with_name(name.clone()).build()?;
        Ok((lowered.aggregate, lowered.filter))
    }
}

/// Stands for output `index` until its node exists.
fn output_column(index: usize) -> Expr {
    Expr::Column(datafusion::common::Column::new(Some("output"), index.to_string()))
}

fn bind(expr: Expr, column: impl Fn(usize) -> Expr) -> PlanResult<Expr> {
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
