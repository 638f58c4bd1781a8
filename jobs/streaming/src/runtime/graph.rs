//! The shape of a dataflow inside one slice.
//!
//! An exchange cuts the slice: rows that reach it leave the slice, and rows that other slices sent enter behind it.
//! Places where rows enter (sources, and the receiving half of exchanges) are *entries*. Everything that follows from
//! the shape alone is computed here once.

use crate::dataflow::{Dataflow, Operator};
use crate::runtime::operators::stateful::Output;

/// A place where rows enter a slice.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The source, or the exchange whose receiving half this is.
    pub node: usize,
    /// Nodes that rows from here reach before they leave the slice; an exchange here means its sending half. Sources
    /// count themselves. In topological order.
    pub reaches: Vec<usize>,
    /// The exchanges among `reaches`.
    pub exchanges: Vec<usize>,
    /// Whether all that it reaches goes on through one of them.
    pub leaves: bool,
}

#[derive(Clone, Debug)]
pub struct Graph {
    /// By node: who reads its output, and as which of its inputs.
    pub readers: Vec<Vec<(usize, usize)>>,
    /// By node: who reads the rows that came too late for it.
    pub late: Vec<Option<usize>>,
    /// Later entries first: what is nearer to the sinks is polled first, so that rows leave before new ones come in.
    pub entries: Vec<Entry>,
    /// By node: the entries that reach it.
    pub reached_from: Vec<Vec<usize>>,
}

impl Graph {
    /// Whether rows that pass this exchange are kept behind it until event time passes them.
    pub fn is_awaited(&self, dataflow: &Dataflow, exchange: usize) -> bool {
        self.readers[exchange].iter().any(|(reader, _)| match &dataflow.nodes[*reader].operator {
            Operator::WindowAggregate { .. } | Operator::Temporal(_) => true,
            Operator::Join(join) => join.bounds.is_some(),
            Operator::TopN { time, .. } | Operator::Over { time, .. } => time.is_some(),
            Operator::HoldBack { .. } => self.is_awaited(dataflow, *reader),
            _ => false,
        })
    }

    /// For what an operator gives.
    pub fn output(&self, node: usize) -> Output {
        Output { wants_late: self.late[node].is_some(), ..Output::default() }
    }

    pub fn of(dataflow: &Dataflow) -> Self {
        let nodes = &dataflow.nodes;
        let mut readers = vec![Vec::new(); nodes.len()];
        let mut late = vec![None; nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            for (place, input) in node.inputs.iter().enumerate() {
                assert!(*input < at, "node {at} ({}) reads node {input}, which is not before it", node.id);
                match node.operator {
                    Operator::LateRows { .. } => late[*input] = Some(at),
                    _ => readers[*input].push((at, place)),
                }
            }
        }
        let is_exchange = |at: usize| matches!(nodes[at].operator, Operator::Exchange { .. });
        let mut entries = Vec::new();
        for (at, node) in nodes.iter().enumerate().rev() {
            let is_source = matches!(node.operator, Operator::Source { .. });
            if !is_source && !is_exchange(at) {
                continue;
            }
            let mut reached = vec![false; nodes.len()];
            reached[at] = true;
            for next in at..nodes.len() {
                if reached[next] && (next == at || !is_exchange(next)) {
                    let all = readers[next].iter().map(|(reader, _)| *reader).chain(late[next]);
                    all.for_each(|reader| reached[reader] = true);
                }
            }
            reached[at] = is_source;
            let reaches: Vec<usize> = (0..nodes.len()).filter(|next| reached[*next]).collect();
            let exchanges = reaches.iter().copied().filter(|next| is_exchange(*next)).collect();
            let ends = |next: &usize| matches!(nodes[*next].operator, Operator::Sink { .. } | Operator::Collect);
            let leaves = !reaches.iter().any(ends);
            entries.push(Entry { node: at, reaches, exchanges, leaves });
        }
        let mut reached_from = vec![Vec::new(); nodes.len()];
        for (at, entry) in entries.iter().enumerate() {
            entry.reaches.iter().for_each(|node| reached_from[*node].push(at));
        }
        Self { readers, late, entries, reached_from }
    }
}
