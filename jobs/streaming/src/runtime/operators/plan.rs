//! Makes the operators with state as a dataflow plans them.

use super::changes;
use super::expiring::{self, Expiring};
use super::group_aggregate::{self, GroupAggregate};
use super::join::{self, Join};
use super::local_aggregate::{self, LocalAggregate};
use super::normalize::{self, Normalize};
use super::over::{self, Over};
use super::session::updating::UpdatingSessions;
use super::session::{self, SessionAggregate};
use super::stateful::{Forgets, Stateful};
use super::temporal::{self, TemporalJoin};
use super::top_n::settled::{self, Settled};
use super::top_n::{self, TopN};
use super::upsert::{self, Upsert};
use super::window::updating::{self, UpdatingWindows};
use super::window::{self, WindowAggregate};
use crate::dataflow::{Dataflow, Node, Operator, Window};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result;
use std::sync::Arc;

/// The operator of node `at` on slice `slot`, empty; nothing where the node has no state.
pub fn make(dataflow: &Dataflow, at: usize, slot: u32) -> Result<Option<Box<dyn Stateful>>> {
    let node = &dataflow.nodes[at];
    let output = || Arc::clone(&node.schema);
    let from = |input: usize| &dataflow.nodes[node.inputs[input]];
    let operator: Box<dyn Stateful> = match &node.operator {
        Operator::WindowAggregate {
            window: Window::Session { gap_us },
            time,
            keys,
            aggregates,
            filters,
            lateness_us,
            ..
        } => {
            let spec = session::Spec {
                gap_us: *gap_us,
                time: *time,
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                filters: filters.clone(),
                lateness_us: *lateness_us,
                input: Arc::clone(&from(0).schema),
                output: if from(0).changes { with_weight(node) } else { output() },
            };
            match from(0).changes {
                true => Box::new(UpdatingSessions::new(spec)?),
                false => Box::new(SessionAggregate::new(spec)?),
            }
        }
        Operator::WindowAggregate { window, time, keys, aggregates, filters, lateness_us, .. }
            if *lateness_us > 0 || from(0).changes =>
        {
            Box::new(UpdatingWindows::new(updating::Spec {
                window: *window,
                time: *time,
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                filters: filters.clone(),
                lateness_us: *lateness_us,
                input: Arc::clone(&from(0).schema),
                changes: from(0).changes,
                output: with_weight(node),
            })?)
        }
        Operator::WindowAggregate { window, time, keys, aggregates, filters, partial, .. } => {
            Box::new(WindowAggregate::new(window::Spec {
                window: *window,
                time: *time,
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                filters: filters.clone(),
                partial: *partial,
                input: Arc::clone(&from(0).schema),
                output: output(),
            })?)
        }
        Operator::LocalAggregate { window, keys, aggregates, filters } => {
            Box::new(LocalAggregate::new(local_aggregate::Spec {
                window: *window,
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                filters: filters.clone(),
                input: Arc::clone(&from(0).schema),
                output: output(),
            })?)
        }
        Operator::GroupAggregate { keys, aggregates, filters } => living(
            dataflow,
            at,
            GroupAggregate::new(group_aggregate::Spec {
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                filters: filters.clone(),
                input: Arc::clone(&from(0).schema),
                changes: from(0).changes,
                output: with_weight(node),
                owns_empty_key: slot == 0,
                said_later: false,
            })?,
        ),
        Operator::Join(planned) => {
            let side =
                |input: usize| join::Side { schema: Arc::clone(&from(input).schema), changes: from(input).changes };
            Box::new(Join::new(join::Spec {
                join: planned.clone(),
                left: side(0),
                right: side(1),
                output: output(),
                changes: node.changes,
                lifetime: node.lifetime.clone(),
            })?)
        }
        Operator::Temporal(planned) => living(
            dataflow,
            at,
            TemporalJoin::new(temporal::Spec {
                join: planned.clone(),
                left: Arc::clone(&from(0).schema),
                left_changes: from(0).changes,
                right: Arc::clone(&from(1).schema),
                output: output(),
            })?,
        ),
        Operator::TopN { keys, order, limit, rank, time: Some(time) } => living(
            dataflow,
            at,
            Settled::new(settled::Spec {
                keys: keys.clone(),
                order: order.clone(),
                limit: *limit,
                rank: *rank,
                time: *time,
                input: Arc::clone(&from(0).schema),
                output: output(),
            })?,
        ),
        Operator::TopN { keys, order, limit, rank, time: None } => living(
            dataflow,
            at,
            TopN::new(top_n::Spec {
                keys: keys.clone(),
                order: order.clone(),
                limit: *limit,
                rank: *rank,
                input: Arc::clone(&from(0).schema),
                changes: from(0).changes,
                output: output(),
            })?,
        ),
        Operator::Over { keys, order, functions, time } => living(
            dataflow,
            at,
            Over::new(over::Spec {
                keys: keys.clone(),
                order: order.clone(),
                functions: functions.clone(),
                time: *time,
                input: Arc::clone(&from(0).schema),
                changes: from(0).changes,
                output: output(),
            })?,
        ),
        Operator::Upsert { keys } => living(
            dataflow,
            at,
            Upsert::new(upsert::Spec {
                keys: keys.clone(),
                input: Arc::clone(&from(0).schema),
                changes: from(0).changes,
                output: output(),
            })?,
        ),
        Operator::Normalize { keys } => living(
            dataflow,
            at,
            Normalize::new(normalize::Spec {
                keys: keys.clone(),
                input: Arc::clone(&from(0).schema),
                output: output(),
            })?,
        ),
        Operator::Source { .. }
        | Operator::Project { .. }
        | Operator::Filter { .. }
        | Operator::Unnest { .. }
        | Operator::Exchange { .. }
        | Operator::LateRows { .. }
        | Operator::HoldBack { .. }
        | Operator::Lookup(_)
        | Operator::Union
        | Operator::Sink { .. }
        | Operator::Collect => return Ok(None),
    };
    Ok(Some(operator))
}

/// An operator that forgets keys, if there is a time after which it does.
fn living(dataflow: &Dataflow, at: usize, operator: impl Forgets + 'static) -> Box<dyn Stateful> {
    let node = &dataflow.nodes[at];
    let (Some(lifetime), Some(keys)) = (&node.lifetime, key_columns(dataflow, at)) else { return Box::new(operator) };
    // Upserts say what is there now, and need not have come to be taken back.
    let is_told_whole = !matches!(node.operator, Operator::Normalize { .. });
    // What waits for its event time must not be forgotten before that has come.
    let waits_for = |input: usize| match &node.operator {
        Operator::Over { time, .. } | Operator::TopN { time, .. } => *time,
        Operator::Temporal(join) => Some(if input == 0 { join.left_time } else { join.right_time }),
        _ => None,
    };
    let inputs = keys.into_iter().enumerate().map(|(input, keys)| expiring::Input {
        keys,
        times: lifetime.times.get(input).into_iter().flatten().copied().chain(waits_for(input)).collect(),
        counted: is_told_whole && dataflow.nodes[node.inputs[input]].changes,
    });
    let spec = expiring::Spec { ttl_us: lifetime.ttl_us, inputs: inputs.collect() };
    Box::new(Expiring::new(Box::new(operator), spec))
}

/// By input: the key columns of node `at`, if its state can be told apart by key; nothing where the node holds no state
/// beyond a flush, or all of it belongs to one key.
pub fn keys(dataflow: &Dataflow, at: usize) -> Option<Vec<Vec<usize>>> {
    key_columns(dataflow, at).filter(|keys| keys.iter().all(|keys| !keys.is_empty()))
}

/// By input: the columns that tell the state of node `at` apart, perhaps none; nothing where it holds none beyond a flush.
fn key_columns(dataflow: &Dataflow, at: usize) -> Option<Vec<Vec<usize>>> {
    let node = &dataflow.nodes[at];
    Some(match &node.operator {
        Operator::WindowAggregate { keys, .. }
        | Operator::GroupAggregate { keys, .. }
        | Operator::TopN { keys, .. }
        | Operator::Over { keys, .. }
        | Operator::Normalize { keys } => vec![keys.clone()],
        Operator::Join(join) => vec![join.left_keys.clone(), join.right_keys.clone()],
        Operator::Temporal(join) => vec![join.left_keys.clone(), join.right_keys.clone()],
        Operator::Upsert { keys } if dataflow.nodes[node.inputs[0]].changes => vec![keys.clone()],
        Operator::Upsert { .. }
        | Operator::Source { .. }
        | Operator::Project { .. }
        | Operator::Filter { .. }
        | Operator::Unnest { .. }
        | Operator::Exchange { .. }
        | Operator::LocalAggregate { .. }
        | Operator::LateRows { .. }
        | Operator::HoldBack { .. }
        | Operator::Lookup(_)
        | Operator::Union
        | Operator::Sink { .. }
        | Operator::Collect => return None,
    })
}

/// The columns of a node whose operator always tells weights.
fn with_weight(node: &Node) -> SchemaRef {
    if node.changes {
        return Arc::clone(&node.schema);
    }
    let fields = node.schema.fields().iter().map(|field| field.as_ref().clone());
    Arc::new(Schema::new(fields.chain([changes::weight_field()]).collect::<Vec<_>>()))
}
