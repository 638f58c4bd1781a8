//! The dataflow as it grows: operators with their stable ids, each operator once.
//!
//! Invariant: two operators with the same inputs that do the same get the same id and are one node, so what two
//! statements share is computed once.
//! Invariant: an id says nothing about column positions of a source, names of inner columns, or other statements; state
//! is found by it after an edit elsewhere.

use super::text::Span;
use crate::dataflow::{Dataflow, Node, Operator, Watermark};
use crate::runtime::operators::changes::weight_field;
use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

mod dealt;

#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    /// Of each node, its columns under names of their own.
    columns: Vec<DFSchema>,
    by_id: BTreeMap<String, usize>,
    /// Of projections, their expressions over the columns of their input.
    projections: BTreeMap<usize, Vec<Expr>>,
    /// The parts of the file that what is added comes from.
    pub(crate) at: Vec<Span>,
}

impl Graph {
    /// Adds an operator, or finds it. `fields` are its columns without the weight. `does` says in a stable text what it does.
    pub(crate) fn add(
        &mut self,
        kind: &str,
        does: &str,
        inputs: Vec<usize>,
        fields: Vec<Field>,
        operator: Operator,
    ) -> Result<usize> {
        let types: Vec<String> = fields.iter().map(|field| field.data_type().to_string()).collect();
        let from: Vec<&str> = inputs.iter().map(|input| self.nodes[*input].id.as_str()).collect();
        let text = format!("{kind}\n{does}\n{}\n{}", types.join(","), from.join(","));
        let id = format!("{kind}-{:012x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()) >> 16);
        self.named(id, inputs, fields, operator)
    }

    /// Adds an operator whose id is settled, or finds it.
    pub(crate) fn named(
        &mut self,
        id: String,
        inputs: Vec<usize>,
        fields: Vec<Field>,
        operator: Operator,
    ) -> Result<usize> {
        if let Some(node) = self.by_id.get(&id).copied() {
            let spans = &mut self.nodes[node].spans;
            spans.extend(&self.at);
            spans.sort_unstable();
            spans.dedup();
            return Ok(node);
        }
        let source = matches!(operator, Operator::Source { .. });
        self.columns.push(unique_columns(&fields, source)?);
        let from: Vec<bool> = inputs.iter().map(|input| self.nodes[*input].changes).collect();
        let changes = operator.gives_changes(&from);
        let weight = changes.then(weight_field);
        let schema = Arc::new(Schema::new(fields.into_iter().chain(weight).collect::<Vec<_>>()));
        self.nodes.push(Node {
            id: id.clone(),
            inputs,
            operator,
            schema,
            changes,
            lifetime: None,
            spans: self.at.clone(),
        });
        self.by_id.insert(id, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// A source is made before its event time can be bound to its columns.
    pub(crate) fn set_watermark(&mut self, node: usize, settled: Watermark) {
        if let Operator::Source { watermark, .. } = &mut self.nodes[node].operator {
            *watermark = Some(settled);
        }
    }

    /// The node's columns, without the weight.
    pub(crate) fn fields(&self, node: usize) -> Vec<Field> {
        let Node { schema, changes, .. } = &self.nodes[node];
        let n_fields = schema.fields().len() - usize::from(*changes);
        schema.fields()[..n_fields].iter().map(|field| field.as_ref().clone()).collect()
    }

    /// Whether the node's rows may be taken back.
    pub(crate) fn changes(&self, node: usize) -> bool {
        self.nodes[node].changes
    }

    /// The node's columns as expressions over it see them.
    pub(crate) fn columns(&self, node: usize) -> &DFSchema {
        &self.columns[node]
    }

    pub(crate) fn column(&self, node: usize, index: usize) -> Expr {
        Expr::Column(Column::new_unqualified(self.columns[node].field(index).name()))
    }

    pub(crate) fn physical(&self, node: usize, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        super::physical::physical(expr, &self.columns[node])
    }

    /// Remembers what a projection's expressions are made of, so that one above it can take its place.
    pub(crate) fn set_projection(&mut self, node: usize, exprs: Vec<Expr>) {
        self.projections.insert(node, exprs);
    }

    /// `exprs` over `node`, said over the input of `node`, when that is a projection whose work they do not repeat.
    pub(crate) fn through_projection(&self, node: usize, exprs: &[Expr]) -> Option<(usize, Vec<Expr>)> {
        let inner = self.projections.get(&node)?;
        let input = *self.nodes[node].inputs.first()?;
        let mut uses = vec![0usize; inner.len()];
        let mut through = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let replaced = expr.clone().transform_up(|expr| match &expr {
                Expr::Column(column) => {
                    let index = self.columns[node].index_of_column(column)?;
                    uses[index] += 1;
                    Ok(Transformed::yes(inner[index].clone()))
                }
                _ => Ok(Transformed::no(expr)),
            });
            through.push(replaced.ok()?.data);
        }
        let plain = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
        // A volatile call (a model's prediction is one) may feed other readers of the projection: it stays there.
        let stays = inner
            .iter()
            .zip(&uses)
            .any(|(expr, uses)| (*uses > 1 && !plain(expr)) || (*uses > 0 && expr.is_volatile()));
        (!stays).then_some((input, through))
    }

    /// What an expression over a node does, in a text without names that may change: columns of a source by name,
    /// others by place.
    pub(crate) fn text(&self, node: usize, expr: &Expr) -> String {
        let source = matches!(self.nodes[node].operator, Operator::Source { .. });
        let neutral = expr.clone().unalias().transform_up(|expr| match &expr {
            Expr::Column(column) if !source => match self.columns[node].maybe_index_of_column(column) {
                Some(index) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(format!("#{index}"))))),
                None => Ok(Transformed::no(expr)),
            },
            _ => Ok(Transformed::no(expr)),
        });
        neutral.map_or_else(|_| expr.to_string(), |neutral| neutral.data.to_string())
    }

    /// The nodes that something reads, in the same order.
    pub(crate) fn finish(self) -> Dataflow {
        let ends = |node: &Node| matches!(node.operator, Operator::Sink { .. } | Operator::Collect);
        let mut read: Vec<bool> = self.nodes.iter().map(ends).collect();
        for index in (0..self.nodes.len()).rev() {
            if read[index] {
                self.nodes[index].inputs.iter().for_each(|input| read[*input] = true);
            }
        }
        let places: Vec<usize> =
            read.iter().scan(0, |next, read| Some(std::mem::replace(next, *next + usize::from(*read)))).collect();
        let kept = self.nodes.into_iter().zip(&read).filter(|(_, read)| **read).map(|(mut node, _)| {
            node.inputs.iter_mut().for_each(|input| *input = places[*input]);
            node
        });
        Dataflow { nodes: kept.collect() }
    }
}

/// Inner columns may have the same name twice; expressions need to tell them apart. Those of a source are known by
/// their lower case, as in the catalog.
fn unique_columns(fields: &[Field], source: bool) -> Result<DFSchema> {
    let name = |field: &Field| if source { field.name().to_lowercase() } else { field.name().clone() };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for field in fields {
        *seen.entry(name(field)).or_default() += 1;
    }
    let unique = fields.iter().enumerate().map(|(at, field)| {
        let name = name(field);
        let name = if seen[&name] > 1 { format!("{name}#{at}") } else { name };
        (None, Arc::new(field.clone().with_name(name)))
    });
    DFSchema::new_with_metadata(unique.collect(), HashMap::new())
}
