//! Gives `SET state.ttl` to the operators whose state event time does not bound by itself.
//!
//! What a row touches lives on from the row's event time, where the row still has it: here it is followed through the
//! operators as a column, and that is not the question of [`super::time`]. There a column must be what the watermark says
//! of it; here one that was an event time once is good enough, since an old one makes nothing live shorter than the
//! watermark does.

use super::settings::STATE_TTL;
use super::statements::Script;
use crate::dataflow::{Dataflow, Lifetime, Operator};
use crate::runtime::operators::over;
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use jobs::Diagnostic;
use std::sync::Arc;

/// Refuses a time to live where no watermark would ever end it.
pub(crate) fn give(dataflow: &mut Dataflow, script: &Script) -> Result<(), Diagnostic> {
    let Some(setting) = script.setting(STATE_TTL) else { return Ok(()) };
    let ttl =
        jobs::text::parse_duration(&setting.value).map_err(|error| Diagnostic::new(error).at(setting.value_span))?;
    let ttl_us = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    let times = times(dataflow);
    for at in 0..dataflow.nodes.len() {
        if is_bounded(dataflow, at) {
            continue;
        }
        if let Some(table) = timeless(dataflow, at) {
            let text =
                format!("state cannot be forgotten after a time: table '{table}' that feeds it has no event time");
            let help = "declare its WATERMARK FOR a column, or leave 'state.ttl' out";
            return Err(Diagnostic::new(text).at(setting.value_span).help(help));
        }
        let of_inputs = dataflow.nodes[at].inputs.iter().map(|input| times[*input].clone()).collect();
        dataflow.nodes[at].lifetime = Some(Lifetime { ttl_us, times: of_inputs });
    }
    Ok(())
}

/// Whether an operator has no state, or one that does not grow with the keys and rows that ever came.
fn is_bounded(dataflow: &Dataflow, at: usize) -> bool {
    let node = &dataflow.nodes[at];
    match &node.operator {
        // Without keys there is one row.
        Operator::GroupAggregate { keys, .. } => keys.is_empty(),
        Operator::Join(join) => join.bounds.is_some(),
        Operator::Over { functions, time, .. } => time.is_some() && over::forgets(functions),
        Operator::Upsert { .. } => !dataflow.nodes[node.inputs[0]].changes,
        Operator::Temporal(_) | Operator::TopN { .. } | Operator::Normalize { .. } => false,
        Operator::WindowAggregate { .. }
        | Operator::LocalAggregate { .. }
        | Operator::Source { .. }
        | Operator::Project { .. }
        | Operator::Filter { .. }
        | Operator::Unnest { .. }
        | Operator::Exchange { .. }
        | Operator::LateRows { .. }
        | Operator::HoldBack { .. }
        | Operator::Lookup(_)
        | Operator::Union
        | Operator::Sink { .. }
        | Operator::Collect => true,
    }
}

/// A table before a node that keeps its event time from going on: one without a watermark that does not end; or any, if
/// there is no watermark at all.
fn timeless(dataflow: &Dataflow, at: usize) -> Option<&str> {
    let (mut waiting, mut seen) = (vec![at], vec![false; dataflow.nodes.len()]);
    let (mut unending, mut ending, mut has_watermark) = (None, None, false);
    while let Some(at) = waiting.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let node = &dataflow.nodes[at];
        waiting.extend(&node.inputs);
        if let Operator::Source { table, watermark, .. } = &node.operator {
            let bounded = connectors::find(table.connector()).is_some_and(|connector| connector.bounded(table));
            match (watermark.is_some(), bounded) {
                (true, _) => has_watermark = true,
                (false, false) => unending = Some(table.name.as_str()),
                (false, true) => ending = Some(table.name.as_str()),
            }
        }
    }
    unending.or(ending.filter(|_| !has_watermark))
}

/// By node: its columns that are the event time of a table's row, unchanged.
fn times(dataflow: &Dataflow) -> Vec<Vec<usize>> {
    let mut times: Vec<Vec<usize>> = Vec::with_capacity(dataflow.nodes.len());
    for node in &dataflow.nodes {
        let of = |input: usize| times[node.inputs[input]].clone();
        let column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().map(Column::index);
        let found = match &node.operator {
            Operator::Source { watermark, .. } => {
                watermark.iter().filter_map(|watermark| column(&watermark.time)).collect()
            }
            Operator::Project { exprs } => {
                // An event time that is computed is so right above its table.
                let computed = match &dataflow.nodes[node.inputs[0]].operator {
                    Operator::Source { watermark: Some(watermark), .. } => Some(&watermark.time),
                    _ => None,
                };
                let before = of(0);
                let is_time = |(_, expr): &(usize, &Arc<dyn PhysicalExpr>)| {
                    column(expr).is_some_and(|at| before.contains(&at)) || computed.is_some_and(|time| time == *expr)
                };
                exprs.iter().enumerate().filter(is_time).map(|(at, _)| at).collect()
            }
            Operator::Filter { .. }
            | Operator::Unnest { .. }
            | Operator::Exchange { .. }
            | Operator::HoldBack { .. }
            | Operator::Lookup(_)
            | Operator::TopN { .. }
            | Operator::Over { .. }
            | Operator::Upsert { .. }
            | Operator::Normalize { .. }
            | Operator::Temporal(_) => of(0),
            Operator::Join(join) => {
                let mut all = of(0);
                if !matches!(join.kind, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark) {
                    let left = &dataflow.nodes[node.inputs[0]];
                    let n_left = left.schema.fields().len() - usize::from(left.changes);
                    all.extend(of(1).into_iter().map(|at| n_left + at));
                }
                all
            }
            Operator::GroupAggregate { keys, .. } => {
                let before = of(0);
                keys.iter().enumerate().filter(|(_, key)| before.contains(key)).map(|(at, _)| at).collect()
            }
            Operator::Union => {
                let mut all = of(0);
                all.retain(|at| node.inputs.iter().all(|input| times[*input].contains(at)));
                all
            }
            Operator::WindowAggregate { .. }
            | Operator::LocalAggregate { .. }
            | Operator::LateRows { .. }
            | Operator::Sink { .. }
            | Operator::Collect => Vec::new(),
        };
        times.push(found);
    }
    times
}
