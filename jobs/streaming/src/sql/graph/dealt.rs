//! Where rows with equal keys already are on one slice, so that no exchange needs to bring them there.
//!
//! Invariant: only the same columns in the same order count. The slice that owns a key's state is found by the hash of
//! all its columns; rows that are together by a part of them may be on another slice than that.

use super::Graph;
use crate::dataflow::{Join, Operator};
use datafusion::common::JoinType;
use datafusion::physical_expr::expressions::Column;

impl Graph {
    /// Whether each row that comes out of `node` is on the slice that the hash of these columns says.
    pub(crate) fn is_dealt_by(&self, node: usize, keys: &[usize]) -> bool {
        let of = &self.nodes[node];
        let input = |keys: &[usize]| {
            let there = self.fields(of.inputs[0]).len();
            keys.iter().all(|key| *key < there) && self.is_dealt_by(of.inputs[0], keys)
        };
        let through = |place: &dyn Fn(usize) -> Option<usize>| {
            keys.iter().map(|key| place(*key)).collect::<Option<Vec<usize>>>().is_some_and(|keys| input(&keys))
        };
        match &of.operator {
            Operator::Exchange { keys: by } => by == keys,
            Operator::Project { exprs } => through(&|key| Some(exprs[key].downcast_ref::<Column>()?.index())),
            Operator::GroupAggregate { keys: groups, .. } | Operator::WindowAggregate { keys: groups, .. } => {
                through(&|key| groups.get(key).copied())
            }
            Operator::Join(join) => self.is_joined_by(join, &of.inputs, keys),
            Operator::Filter { .. }
            | Operator::HoldBack { .. }
            | Operator::TopN { .. }
            | Operator::Over { .. }
            | Operator::Upsert { .. }
            | Operator::Normalize { .. }
            | Operator::Temporal(_)
            | Operator::Lookup(_) => input(keys),
            Operator::Union => of.inputs.iter().all(|input| self.is_dealt_by(*input, keys)),
            Operator::Source { .. }
            | Operator::Unnest { .. }
            | Operator::LateRows { .. }
            | Operator::LocalAggregate { .. }
            | Operator::Sink { .. }
            | Operator::Collect => false,
        }
    }

    /// The columns of a side that a join fills up with nulls are not what its rows were dealt by.
    fn is_joined_by(&self, join: &Join, inputs: &[usize], keys: &[usize]) -> bool {
        let n_left = self.fields(inputs[0]).len();
        let keeps_left = !matches!(join.kind, JoinType::Right | JoinType::Full);
        if keeps_left && keys.iter().all(|key| *key < n_left) {
            return self.is_dealt_by(inputs[0], keys);
        }
        let right: Option<Vec<usize>> = keys.iter().map(|key| key.checked_sub(n_left)).collect();
        let keeps_right = matches!(join.kind, JoinType::Inner | JoinType::Right);
        right.is_some_and(|keys| keeps_right && self.is_dealt_by(inputs[1], &keys))
    }
}
