//! A dataflow as a tree for people: what ends it on top, what feeds it below; for programs as a list of its operators.

use super::window::describe;
use crate::dataflow::{Bounds, Dataflow, Join, Lookup, Node, Operator, Order, Temporal};
use arrow::datatypes::{IntervalMonthDayNano, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// Characters of an operator's text in an error.
const MOST_TOLD: usize = 300;

/// One tree per sink; a node that several read is shown in full once.
pub fn explain(dataflow: &Dataflow) -> String {
    let mut text = String::new();
    let mut shown = BTreeSet::new();
    let read: BTreeSet<usize> = dataflow.nodes.iter().flat_map(|node| node.inputs.iter().copied()).collect();
    for root in (0..dataflow.nodes.len()).filter(|node| !read.contains(node)) {
        tree(dataflow, root, 0, &mut shown, &mut text);
    }
    text
}

/// The dataflow for programs: each operator with what it reads, inputs before their readers.
pub fn explain_json(dataflow: &Dataflow) -> serde_json::Value {
    let nodes = dataflow.nodes.iter().map(|node| {
        let inputs: Vec<&Node> = node.inputs.iter().map(|input| &dataflow.nodes[*input]).collect();
        let schemas: Vec<&Schema> = inputs.iter().map(|input| input.schema.as_ref()).collect();
        serde_json::json!({
            "id": node.id,
            "kind": kind(&node.operator),
            "text": describe_node(node, &schemas),
            "inputs": inputs.iter().map(|input| input.id.as_str()).collect::<Vec<_>>(),
            "changes": node.changes,
        })
    });
    serde_json::json!({ "nodes": nodes.collect::<Vec<_>>() })
}

/// The dataflow as a graph in Graphviz' language; edges on which rows may be taken back are dashed.
pub fn explain_dot(dataflow: &Dataflow) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = String::from("digraph dataflow {\n  rankdir=LR;\n  node [shape=box];\n");
    for (at, node) in dataflow.nodes.iter().enumerate() {
        let inputs: Vec<&Schema> = node.inputs.iter().map(|input| dataflow.nodes[*input].schema.as_ref()).collect();
        let label = format!("{}\\n{}", quoted(&node.id), quoted(&describe_node(node, &inputs)));
        // Writing to a String does not fail.
        let _ = writeln!(text, "  n{at} [label=\"{label}\"];");
        for input in &node.inputs {
            let style = if dataflow.nodes[*input].changes { " [style=dashed]" } else { "" };
            let _ = writeln!(text, "  n{input} -> n{at}{style};");
        }
    }
    text.push_str("}\n");
    text
}

/// An operator for those who wrote the SQL: what it does, and to the rows of which tables.
pub(crate) fn told(dataflow: &Dataflow, index: usize) -> String {
    let node = &dataflow.nodes[index];
    let inputs: Vec<&Schema> = node.inputs.iter().map(|input| dataflow.nodes[*input].schema.as_ref()).collect();
    let mut does = describe_node(node, &inputs);
    if let Some((end, _)) = does.char_indices().nth(MOST_TOLD) {
        does.truncate(end);
        does.push('…');
    }
    let (mut waiting, mut seen, mut tables) = (vec![index], BTreeSet::new(), BTreeSet::new());
    while let Some(at) = waiting.pop() {
        if !seen.insert(at) {
            continue;
        }
        waiting.extend(&dataflow.nodes[at].inputs);
        if let Operator::Source { table, .. } = &dataflow.nodes[at].operator {
            tables.insert(table.name.as_str());
        }
    }
    let tables = tables.into_iter().collect::<Vec<_>>().join(", ");
    format!("{} ({does}, of rows of {tables})", node.id)
}

fn kind(operator: &Operator) -> &'static str {
    match operator {
        Operator::Source { .. } => "source",
        Operator::Project { .. } => "project",
        Operator::Filter { .. } => "filter",
        Operator::Exchange { .. } => "exchange",
        Operator::LocalAggregate { .. } => "local",
        Operator::LateRows { .. } => "late",
        Operator::HoldBack { .. } => "hold",
        Operator::WindowAggregate { .. } => "window",
        Operator::GroupAggregate { .. } => "group",
        Operator::Join(_) => "join",
        Operator::Temporal(_) => "temporal",
        Operator::Lookup(_) => "lookup",
        Operator::TopN { .. } => "top",
        Operator::Over { .. } => "over",
        Operator::Upsert { .. } => "upsert",
        Operator::Unnest { .. } => "unnest",
        Operator::Normalize { .. } => "normalize",
        Operator::Union => "union",
        Operator::Sink { .. } => "sink",
        Operator::Collect => "collect",
    }
}

fn tree(dataflow: &Dataflow, index: usize, depth: usize, shown: &mut BTreeSet<usize>, text: &mut String) {
    let node = &dataflow.nodes[index];
    let indent = "  ".repeat(depth);
    if !shown.insert(index) && !node.inputs.is_empty() {
        let _ = writeln!(text, "{indent}{} (as above)", node.id);
        return;
    }
    let inputs: Vec<&Schema> = node.inputs.iter().map(|input| dataflow.nodes[*input].schema.as_ref()).collect();
    // Writing to a String does not fail.
    let changes = if node.changes { " [changes]" } else { "" };
    let _ = writeln!(text, "{indent}{}: {}{changes}", node.id, describe_node(node, &inputs));
    for input in &node.inputs {
        tree(dataflow, *input, depth + 1, shown, text);
    }
}

fn seconds(us: i64) -> String {
    format!("{}s", us as f64 / 1e6)
}

fn names_in(schema: Option<&&Schema>, columns: &[usize]) -> String {
    let names = columns.iter().map(|column| schema.map_or("?", |schema| schema.field(*column).name().as_str()));
    names.collect::<Vec<_>>().join(", ")
}

fn describe_order(order: &[Order], input: Option<&&Schema>) -> String {
    let each = order.iter().map(|order| {
        let name = names_in(input, &[order.column]);
        if order.options.descending { format!("{name} DESC") } else { name }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn describe_join(join: &Join, inputs: &[&Schema]) -> String {
    let pairs = join.left_keys.iter().zip(&join.right_keys).map(|(left, right)| {
        format!("{} = {}", names_in(inputs.first(), &[*left]), names_in(inputs.get(1), &[*right]))
    });
    let mut text = format!("{} on {}", join.kind.to_string().to_lowercase(), pairs.collect::<Vec<_>>().join(" and "));
    if join.left_keys.is_empty() {
        text = format!("{}, every row with every row", join.kind.to_string().to_lowercase());
    }
    if let Some(Bounds { lower_us, upper_us, .. }) = join.bounds {
        let _ = write!(text, " within {} to {}", seconds(lower_us), seconds(upper_us));
    }
    if let Some(residual) = &join.residual {
        let _ = write!(text, " where {}", sql(residual));
    }
    text
}

fn describe_temporal(join: &Temporal, inputs: &[&Schema]) -> String {
    let pairs = join.left_keys.iter().zip(&join.right_keys).map(|(left, right)| {
        format!("{} = {}", names_in(inputs.first(), &[*left]), names_in(inputs.get(1), &[*right]))
    });
    let kind = if join.outer { "left" } else { "inner" };
    let on = pairs.collect::<Vec<_>>().join(" and ");
    let (time, since) = (names_in(inputs.first(), &[join.left_time]), names_in(inputs.get(1), &[join.right_time]));
    let mut text =
        format!("TemporalJoin {kind} on {on}, the version of {since} at {time}, once the watermark has passed");
    if let Some(residual) = &join.residual {
        let _ = write!(text, " where {}", sql(residual));
    }
    text
}

fn describe_lookup(lookup: &Lookup, input: Option<&&Schema>) -> String {
    let table = &lookup.table;
    let name = |column: &usize| table.schema.field(*column).name().as_str();
    let pairs = lookup.input_keys.iter().zip(&lookup.table_keys);
    let pairs: Vec<String> = pairs.map(|(own, of)| format!("{} = {}", names_in(input, &[*own]), name(of))).collect();
    let read: Vec<&str> = lookup.projection.iter().map(name).collect();
    let kind = if lookup.outer { "left" } else { "inner" };
    let on = pairs.join(" and ");
    let mut text = format!("LookupJoin {kind} {} {} ({}) on {on}", table.connector(), table.name, read.join(", "));
    if let Some(residual) = &lookup.residual {
        let _ = write!(text, " where {}", sql(residual));
    }
    if let Some(cache) = lookup.cache {
        let _ = write!(text, ", cache of {} rows for {:?}", cache.max_rows, cache.ttl);
    }
    text
}

fn describe_node(node: &Node, inputs: &[&Schema]) -> String {
    let text = describe_operator(node, inputs);
    match &node.lifetime {
        Some(lifetime) => format!("{text}, forgotten after {} without a row", seconds(lifetime.ttl_us)),
        None => text,
    }
}

fn describe_operator(node: &Node, inputs: &[&Schema]) -> String {
    let input = inputs.first();
    let names = |columns: &[usize]| names_in(input, columns);
    let by = |keys: &[usize]| if keys.is_empty() { String::new() } else { format!(" by {}", names(keys)) };
    // The name of a call tells its filter too.
    let calls = |aggregates: &[Arc<AggregateFunctionExpr>]| {
        aggregates.iter().map(|aggregate| aggregate.name()).collect::<Vec<_>>().join(", ")
    };
    match &node.operator {
        Operator::Source { table, watermark, .. } => {
            let columns: Vec<&str> = node.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let mut text = format!("{} {} ({})", table.connector(), table.name, columns.join(", "));
            if let Some(watermark) = watermark {
                let _ = write!(text, " time {} watermark {}", sql(&watermark.time), sql(&watermark.watermark));
            }
            text
        }
        Operator::Project { exprs } => {
            let exprs = exprs.iter().zip(node.schema.fields()).map(|(expr, field)| {
                let text = sql(expr);
                if text.eq_ignore_ascii_case(field.name()) { text } else { format!("{text} AS {}", field.name()) }
            });
            exprs.collect::<Vec<_>>().join(", ")
        }
        Operator::Filter { predicate } => sql(predicate),
        Operator::Unnest { n_lists, outer } => {
            let end = node.schema.fields().len() - usize::from(node.changes);
            let kept = if *outer { ", rows without items too" } else { "" };
            format!("items of {}{kept}", names(&(end - n_lists..end).collect::<Vec<_>>()))
        }
        Operator::Exchange { keys } if keys.is_empty() => "all to one".into(),
        Operator::Exchange { keys } => format!("by {}", names(keys)),
        Operator::LateRows { .. } => "rows that came too late".into(),
        Operator::HoldBack { by_us } => format!("event time {} behind", seconds(*by_us)),
        Operator::WindowAggregate { window, keys, aggregates, lateness_us, .. } => {
            let again = match lateness_us {
                0 => String::new(),
                late_us => format!(", again for rows that are {} late", seconds(*late_us)),
            };
            format!("{}{}: {}{again}", describe(*window), by(keys), calls(aggregates))
        }
        Operator::LocalAggregate { window, keys, aggregates, .. } => {
            let window = window.map_or_else(|| "all rows".to_string(), |(window, _)| describe(window));
            format!("{window}{} of this slice: {}", by(keys), calls(aggregates))
        }
        Operator::GroupAggregate { keys, aggregates, .. } => {
            let keys = if keys.is_empty() { "all rows".into() } else { format!("by {}", names(keys)) };
            format!("{keys}: {}", calls(aggregates))
        }
        Operator::Join(join) => describe_join(join, inputs),
        Operator::Temporal(join) => describe_temporal(join, inputs),
        Operator::Lookup(lookup) => describe_lookup(lookup, input),
        Operator::TopN { keys, order, limit, time, .. } => {
            let when = if time.is_some() { ", once the watermark has passed" } else { "" };
            format!("first {limit}{} in order of {}{when}", by(keys), describe_order(order, input))
        }
        Operator::Over { keys, order, functions, time } => {
            let calls = functions.iter().map(|function| function.name()).collect::<Vec<_>>().join(", ");
            let when = if time.is_some() { ", once the watermark has passed" } else { "" };
            format!("{calls}{} in order of {}{when}", by(keys), describe_order(order, input))
        }
        Operator::Upsert { keys } => format!("latest by {}", names(keys)),
        Operator::Normalize { keys } => format!("changes of the row by {}", names(keys)),
        Operator::Union => "all rows".into(),
        Operator::Sink { table } => format!("{} {}", table.connector(), table.name),
        Operator::Collect => {
            node.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
        }
    }
}

fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    let spans = Arc::clone(expr).transform_up(|expr| Ok(as_interval(expr)));
    spans.map_or_else(|_| expr.to_string(), |spans| short_intervals(&fmt_sql(spans.data.as_ref()).to_string()))
}

/// A span that is added as a number, as the interval that it was.
fn as_interval(expr: Arc<dyn PhysicalExpr>) -> Transformed<Arc<dyn PhysicalExpr>> {
    let literal = expr.downcast_ref::<Literal>().map(Literal::value);
    let Some(ScalarValue::DurationMicrosecond(Some(span))) = literal else { return Transformed::no(expr) };
    let interval = IntervalMonthDayNano { months: 0, days: 0, nanoseconds: span.saturating_mul(1000) };
    Transformed::yes(Arc::new(Literal::new(ScalarValue::IntervalMonthDayNano(Some(interval)))))
}

/// Intervals print as their parts; a person wants seconds.
fn short_intervals(text: &str) -> String {
    const OPEN: &str = "IntervalMonthDayNano { months: 0, days: 0, nanoseconds: ";
    let mut short = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((nanos, after)) = after.split_once(" }") else { break };
        short.push_str(before);
        match nanos.parse::<f64>() {
            Ok(nanos) => short.push_str(&format!("{}s", nanos / 1e9)),
            Err(_) => short.push_str(nanos),
        }
        rest = after;
    }
    short.push_str(rest);
    short
}
