//! A dataflow as a tree for people: what ends it on top, what feeds it below.

use super::window::describe;
use crate::dataflow::{Dataflow, Node, Operator};
use arrow::datatypes::Schema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

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

fn tree(dataflow: &Dataflow, index: usize, depth: usize, shown: &mut BTreeSet<usize>, text: &mut String) {
    let node = &dataflow.nodes[index];
    let indent = "  ".repeat(depth);
    if !shown.insert(index) && !node.inputs.is_empty() {
        let _ = writeln!(text, "{indent}{} (as above)", node.id);
        return;
    }
    let input = node.inputs.first().map(|input| dataflow.nodes[*input].schema.as_ref());
    // Writing to a String does not fail.
    let _ = writeln!(text, "{indent}{}: {}", node.id, describe_node(node, input));
    for input in &node.inputs {
        tree(dataflow, *input, depth + 1, shown, text);
    }
}

fn describe_node(node: &Node, input: Option<&Schema>) -> String {
    let names = |columns: &[usize]| {
        let names = columns.iter().map(|column| input.map_or("?", |schema| schema.field(*column).name().as_str()));
        names.collect::<Vec<_>>().join(", ")
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
        Operator::Exchange { keys } if keys.is_empty() => "all to one".into(),
        Operator::Exchange { keys } => format!("by {}", names(keys)),
        Operator::WindowAggregate { window, keys, aggregates, .. } => {
            // The name of a call tells its filter too.
            let calls = aggregates.iter().map(|aggregate| aggregate.name()).collect::<Vec<_>>().join(", ");
            let keys = if keys.is_empty() { String::new() } else { format!(" by {}", names(keys)) };
            format!("{}{keys}: {calls}", describe(*window))
        }
        Operator::Union => "all rows".into(),
        Operator::Sink { table } => format!("{} {}", table.connector(), table.name),
        Operator::Collect => {
            node.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
        }
    }
}

fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    short_intervals(&fmt_sql(expr.as_ref()).to_string())
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
