//! Aggregation in two phases: [columns it needs] -> local aggregation -> exchange by key -> the sum of the parts.
//!
//! Where many rows have the same key, the slice that owns it gets one row per flush of each slice, and not all of them. Only
//! what can be put together again without a change of the answer is split: not floating sums outside windows, which there
//! are exact over all rows.

use super::aggregate::{Built, Group};
use super::errors::Place;
use super::lower::{Lowered, Lowering, Slot, Stream, planner};
use super::settings::TWO_PHASE;
use super::statements::Script;
use super::types::event_time;
use crate::dataflow::{Operator, Window};
use crate::runtime::operators::groups::Aggregation;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result as PlanResult;
use datafusion::functions_aggregate::expr_fn::{max, min, sum};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, lit, when};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

/// An aggregation after its first phase.
pub(crate) struct Split {
    /// The exchange behind it: keys, then with a window the pane's start, states, and with a window how many rows.
    exchange: usize,
    n_keys: usize,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    does: String,
}

/// Whether the file wants aggregations in two phases; `auto`: where it wants more than one slice.
pub(crate) fn wanted(script: &Script) -> bool {
    let number = |key: &str| script.setting(key).and_then(|setting| setting.value.parse::<f64>().ok()).unwrap_or(1.0);
    match script.setting(TWO_PHASE).map(|setting| setting.value.to_ascii_lowercase()).as_deref() {
        Some("on") => true,
        Some("auto") => number("job.parallelism") * number("job.cpus").round().max(1.0) > 1.0,
        _ => false,
    }
}

impl Lowering<'_> {
    /// The first phase over `node` and the exchange behind it, where the aggregation can be split.
    pub(crate) fn split(
        &mut self,
        node: usize,
        keys: &[usize],
        window: Option<(Window, usize)>,
        calls: &[(Expr, String)],
        does: &str,
        places: &[Place<'_>],
    ) -> Lowered<Option<Split>> {
        let session = matches!(window, Some((Window::Session { .. }, _)));
        // Without a window a first phase keeps rows back beyond watermarks, and its key might be forgotten meanwhile.
        let overtaken = window.is_none() && self.forgets;
        // What is together already is passed to nobody.
        let together = self.graph.is_dealt_by(node, keys);
        if !self.two_phase || session || overtaken || together || self.graph.changes(node) {
            return Ok(None);
        }
        let built =
            calls.iter().map(|call| self.build(call, node, window.is_some())).collect::<PlanResult<Vec<Built>>>();
        let (aggregates, filters): (Vec<_>, Vec<_>) =
            built.map_err(|error| planner(&error, places))?.into_iter().unzip();
        let splits = |(call, aggregate): (&(Expr, String), &Arc<AggregateFunctionExpr>)| match &call.0 {
            Expr::AggregateFunction(call) => splits(call, aggregate, window.is_some()),
            _ => false,
        };
        if !calls.iter().zip(&aggregates).all(splits) {
            return Ok(None);
        }
        let there = self.graph.fields(node);
        let n_keys = keys.len();
        let states = Aggregation::new(&Schema::new(there.clone()), keys, aggregates.clone())
            .map_err(|error| planner(&error, places))?
            .frozen_fields();
        let mut fields: Vec<Field> = keys.iter().map(|key| there[*key].clone()).collect();
        fields.extend(window.map(|_| Field::new("pane_start", event_time(), true)));
        fields.extend(states.into_iter().skip(n_keys));
        fields.extend(window.map(|_| Field::new("n_rows", DataType::Int64, true)));
        let operator = Operator::LocalAggregate {
            window,
            keys: keys.to_vec(),
            aggregates: aggregates.clone(),
            filters: filters.clone(),
        };
        let local = self.graph.add("local", does, vec![node], fields, operator);
        let local = local.map_err(|error| planner(&error, places))?;
        let exchange = self.exchange(local, (0..n_keys).collect(), places)?;
        Ok(Some(Split { exchange, n_keys, aggregates, filters, does: does.to_string() }))
    }

    /// The second phase.
    pub(crate) fn merged(
        &mut self,
        split: Split,
        window: Option<(Window, usize)>,
        aggregate: &Aggregate,
        groups: &[Group],
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let Split { exchange, n_keys, aggregates, filters, does } = split;
        let does = format!("parts of\n{does}");
        let keys: Vec<usize> = (0..n_keys).collect();
        let mut fields = self.graph.fields(exchange);
        fields.truncate(n_keys);
        let n_aggregates = aggregates.len();
        let Some((window, _)) = window else {
            let parts: Vec<(Expr, String)> = aggregates
                .iter()
                .enumerate()
                .map(|(at, of)| {
                    let part = self.graph.column(exchange, n_keys + at);
                    let whole = match of.fun().name() {
                        "min" => min(part),
                        "max" => max(part),
                        _ => sum(part),
                    };
                    (whole, of.name().to_string())
                })
                .collect();
            let built = parts.iter().map(|part| self.build(part, exchange, false)).collect::<PlanResult<Vec<Built>>>();
            let (wholes, none): (Vec<_>, Vec<_>) = built.map_err(|error| planner(&error, places))?.into_iter().unzip();
            fields.extend(wholes.iter().map(|whole| whole.field().as_ref().clone().with_nullable(true)));
            let operator = Operator::GroupAggregate { keys, aggregates: wholes, filters: none };
            let node = self.graph.add("group", &does, vec![exchange], fields, operator);
            let node = node.map_err(|error| planner(&error, places))?;
            let mut slots = self.group_slots(node, n_keys, groups);
            for (at, of) in aggregates.iter().enumerate() {
                let column = n_keys + at;
                // The sum of no counts is null, and a count of nothing is none.
                slots.push(match of.fun().name() {
                    "count" => {
                        let value = self.graph.column(node, column);
                        let counted = when(value.clone().is_null(), lit(0_i64)).otherwise(value);
                        Slot::Lazy(counted.map_err(|error| planner(&error, places))?)
                    }
                    _ => Slot::Column(column),
                });
            }
            return Ok(Stream { node, schema: Arc::clone(&aggregate.schema), slots, open: None, row: None });
        };
        fields.extend(["window_start", "window_end"].map(|name| Field::new(name, event_time(), true)));
        fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
        let operator = Operator::WindowAggregate {
            window,
            time: n_keys,
            keys,
            // Where rows are filtered is the first phase.
            filters: vec![None; filters.len()],
            aggregates,
            lateness_us: 0,
            partial: true,
        };
        let node = self.graph.add("window", &does, vec![exchange], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        let slots = self.group_slots(node, n_keys, groups).into_iter();
        let slots = slots.chain((0..n_aggregates).map(|at| Slot::Column(n_keys + 2 + at))).collect();
        Ok(Stream { node, schema: Arc::clone(&aggregate.schema), slots, open: None, row: None })
    }
}

/// Whether the parts of a call can be put together.
fn splits(call: &AggregateFunction, built: &AggregateFunctionExpr, in_window: bool) -> bool {
    let plain = !call.params.distinct && call.params.order_by.is_empty() && call.params.null_treatment.is_none();
    plain
        && match call.func.name() {
            "count" | "min" | "max" => true,
            "sum" => in_window || *built.field().data_type() == DataType::Int64,
            "avg" => in_window,
            _ => false,
        }
}
