//! Joins: [columns of each side] -> exchange by key -> join.
//!
//! A join whose condition bounds how far apart in event time its rows can be forgets rows by the watermark; equal
//! windows, or equal event times, are the narrowest such bound.

use super::errors::Place;
use super::lower::{Lowered, Lowering, Outputs, Slot, Stream, planner};
use super::nested::with_nulls;
use super::physical::physical;
use super::plan::group_by_place;
use super::refuse::{at, find};
use super::time::{follows_watermark, wait_us};
use super::types::sql_name;
use super::window::fixed_interval_us;
use crate::dataflow::{Bounds, Join as JoinPlan, Operator};
use crate::state::hash;
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator as Op, cast};
use jobs::Diagnostic;
use std::collections::HashMap;
use std::sync::Arc;

/// One side, with its columns and keys as columns of a node.
struct Side {
    node: usize,
    /// By logical column: the node's.
    columns: Vec<usize>,
    keys: Vec<usize>,
}

impl Lowering<'_> {
    pub(crate) fn join(&mut self, join: &Join, places: &[Place<'_>]) -> Lowered<Stream> {
        if join.null_aware {
            let error = Diagnostic::new("NOT IN of this form is not supported in a stream yet");
            let error = error.help("write NOT EXISTS (SELECT … WHERE a = b), which says what to do with nulls");
            return Err(at(error, find(places, &[&["NOT", "IN"]])));
        }
        let only_left = match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => false,
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => true,
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                let swapped = swapped(join).map_err(|error| planner(&error, places))?;
                return self.join(&swapped, places);
            }
        };
        let left = self.lower(&join.left, places)?;
        let right = self.lower(&join.right, places)?;
        let appended = !self.graph.changes(left.node) && !self.graph.changes(right.node);
        let (left_keys, right_keys): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(l, r)| (l, r)).unzip();
        let mut left = self.side(left, &left_keys, places)?;
        let mut right = self.side(right, &right_keys, places)?;
        let (left_fields, right_fields) = (self.graph.fields(left.node), self.graph.fields(right.node));
        for (l, r) in left.keys.iter().zip(&right.keys) {
            let (l, r) = (left_fields[*l].data_type(), right_fields[*r].data_type());
            if l != r {
                let text = format!("a join of {} with {} is not possible", sql_name(l), sql_name(r));
                return Err(at(Diagnostic::new(text).help("write a CAST"), find(places, &[&["JOIN"], &["ON"]])));
            }
        }
        let settles = matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi);
        let (bounds, filter) = match appended {
            true => bounds(join, settles),
            false => (None, join.filter.clone()),
        };
        if let Some(bounds) = &bounds {
            left.node = self.hold_back(left.node, wait_us(&join.left, bounds.left_time), places)?;
            right.node = self.hold_back(right.node, wait_us(&join.right, bounds.right_time), places)?;
        }
        let bounds = bounds.map(|bounds| Bounds {
            left_time: left.columns[bounds.left_time],
            right_time: right.columns[bounds.right_time],
            ..bounds
        });

        let both = both_sides(&left_fields, &right_fields).map_err(|error| planner(&error, places))?;
        let n_left = left_fields.len();
        let (mut residual, mut residual_text) = (None, String::new());
        if let Some(filter) = filter {
            let place = |index: usize| match index.checked_sub(left.columns.len()) {
                None => left.columns[index],
                Some(index) => n_left + right.columns[index],
            };
            let filter = filter.transform_up(|expr| match &expr {
                Expr::Column(column) => {
                    let index = pair_schema(join)?.index_of_column(column)?;
                    Ok(Transformed::yes(Expr::Column(Column::new_unqualified(both.field(place(index)).name()))))
                }
                _ => Ok(Transformed::no(expr)),
            });
            let filter = filter.map_err(|error| planner(&error, places))?.data;
            residual_text = filter.to_string();
            residual = Some(physical(&filter, &both).map_err(|error| planner(&error, places))?);
        }
        let nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        let does =
            format!("{} {:?} {:?} {nulls_equal} {bounds:?} {residual_text}", join.join_type, left.keys, right.keys);
        let (columns, fields): (Vec<usize>, Vec<Field>) = match only_left {
            true if join.join_type == JoinType::LeftMark => {
                let mark = Field::new("mark", DataType::Boolean, true);
                let columns = left.columns.into_iter().chain([n_left]);
                (columns.collect(), left_fields.into_iter().chain([mark]).collect())
            }
            true => (left.columns, left_fields),
            false => {
                let columns = left.columns.into_iter().chain(right.columns.iter().map(|column| n_left + column));
                (columns.collect(), left_fields.into_iter().chain(right_fields).collect())
            }
        };
        let fields = fields.into_iter().map(|field| field.with_nullable(true)).collect();
        let operator = Operator::Join(JoinPlan {
            kind: join.join_type,
            left_keys: left.keys,
            right_keys: right.keys,
            nulls_equal,
            residual,
            bounds,
        });
        let node = self.graph.add("join", &does, vec![left.node, right.node], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        let slots = columns.into_iter().map(Slot::Column).collect();
        Ok(Stream { node, schema: Arc::clone(&join.schema), slots, open: None, row: None })
    }

    fn side(&mut self, stream: Stream, keys: &[&Expr], places: &[Place<'_>]) -> Lowered<Side> {
        let mut outputs = Outputs::default();
        let columns = self.all_columns(&stream, &mut outputs, places)?;
        let mut key_columns = Vec::new();
        for key in keys {
            let expr = self.resolve(key, &stream, places)?;
            let data_type = expr.get_type(self.graph.columns(stream.node)).map_err(|error| planner(&error, places))?;
            if !hash::supported(&data_type) {
                let text = format!("a join by {key}, which is {}, is not supported", sql_name(&data_type));
                let help = "join by numbers, texts, times, or structs and arrays of these";
                return Err(at(Diagnostic::new(text).help(help), find(places, &[&["JOIN"], &["FROM"]])));
            }
            // Types of the same values may differ in what they say of nulls within.
            let plain = with_nulls(&data_type);
            let expr = if plain == data_type { expr } else { cast(expr, plain) };
            key_columns.push(outputs.push(expr, &key.schema_name().to_string()));
        }
        let node = self.outputs(stream.node, outputs, places)?;
        let node = self.exchange(node, key_columns.clone(), places)?;
        Ok(Side { node, columns, keys: key_columns })
    }
}

/// A right semi, anti or mark join as a left one.
fn swapped(join: &Join) -> datafusion::common::Result<Join> {
    let on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    Join::try_new(
        Arc::clone(&join.right),
        Arc::clone(&join.left),
        on,
        join.filter.clone(),
        join.join_type.swap(),
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
}

/// The columns of both sides for the residual, by side and place, so that none is meant for another.
pub(crate) fn both_sides(left: &[Field], right: &[Field]) -> datafusion::common::Result<DFSchema> {
    let named = |side: &'static str, fields: &[Field]| -> Vec<_> {
        let fields = fields.iter().enumerate();
        fields.map(|(at, field)| (None, Arc::new(field.clone().with_name(format!("{side}{at}"))))).collect()
    };
    let fields = named("left", left).into_iter().chain(named("right", right)).collect();
    DFSchema::new_with_metadata(fields, HashMap::new())
}

/// The logical columns of both sides, also where the join gives those of one.
fn pair_schema(join: &Join) -> datafusion::common::Result<DFSchema> {
    join.left.schema().join(join.right.schema())
}

/// How far apart in event time rows are that meet, and what of the join's filter that does not say. Columns are the
/// logical ones of each side. `open`: a bound on one side is of use too.
pub(crate) fn bounds(join: &Join, open: bool) -> (Option<Bounds>, Option<Expr>) {
    if matches!(join.join_type, JoinType::LeftMark | JoinType::RightMark) {
        // What has no match yet may get one at any time.
        return (None, join.filter.clone());
    }
    let follows = |plan: &LogicalPlan, expr: &Expr| match expr {
        Expr::Column(column) => {
            plan.schema().maybe_index_of_column(column).filter(|index| follows_watermark(plan, *index))
        }
        _ => None,
    };
    for (left, right) in &join.on {
        if let (Some(left_time), Some(right_time)) = (follows(&join.left, left), follows(&join.right, right)) {
            let bounds = Bounds { left_time, right_time, lower_us: 0, upper_us: 0 };
            return (Some(bounds), join.filter.clone());
        }
    }
    let mut found: Option<Bounds> = None;
    let mut rest = Vec::new();
    for conjunct in join.filter.clone().map(split_conjunction_owned).unwrap_or_default() {
        let parts = comparisons(&conjunct);
        let limits: Vec<Option<Bounds>> = parts.iter().map(|part| limit(join, part, &follows)).collect();
        let fits = |limit: &Option<Bounds>| {
            limit.is_some_and(|limit| {
                found.is_none_or(|f| (f.left_time, f.right_time) == (limit.left_time, limit.right_time))
            })
        };
        if limits.is_empty() || !limits.iter().all(fits) {
            rest.push(conjunct);
            continue;
        }
        for limit in limits.into_iter().flatten() {
            found = Some(match found {
                None => limit,
                Some(found) => Bounds {
                    lower_us: found.lower_us.max(limit.lower_us),
                    upper_us: found.upper_us.min(limit.upper_us),
                    ..found
                },
            });
        }
    }
    match found {
        Some(bounds) if open || (bounds.lower_us > i64::MIN && bounds.upper_us < i64::MAX) => {
            (Some(bounds), conjunction(rest))
        }
        _ => (None, join.filter.clone()),
    }
}

/// A conjunct as comparisons of two terms; none where it is something else.
fn comparisons(expr: &Expr) -> Vec<(Expr, Op, Expr)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => vec![(left.as_ref().clone(), *op, right.as_ref().clone())],
        Expr::Between(between) if !between.negated => {
            let of = |op, bound: &Expr| (between.expr.as_ref().clone(), op, bound.clone());
            vec![of(Op::GtEq, &between.low), of(Op::LtEq, &between.high)]
        }
        _ => Vec::new(),
    }
}

/// A column and what is added to it.
fn shifted(expr: &Expr) -> Option<(&Expr, i64)> {
    match expr {
        Expr::Column(_) => Some((expr, 0)),
        Expr::Alias(alias) => shifted(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Op::Plus if fixed_interval_us(right).is_some() => {
                let (column, by) = shifted(left)?;
                Some((column, by.checked_add(fixed_interval_us(right)?)?))
            }
            Op::Plus => {
                let (column, by) = shifted(right)?;
                Some((column, by.checked_add(fixed_interval_us(left)?)?))
            }
            Op::Minus => {
                let (column, by) = shifted(left)?;
                Some((column, by.checked_sub(fixed_interval_us(right)?)?))
            }
            _ => None,
        },
        _ => None,
    }
}

fn limit(
    join: &Join,
    (a, op, b): &(Expr, Op, Expr),
    follows: &impl Fn(&LogicalPlan, &Expr) -> Option<usize>,
) -> Option<Bounds> {
    let ((a, a_by), (b, b_by)) = (shifted(a)?, shifted(b)?);
    let (left_time, right_time, op, by) = match (follows(&join.left, a), follows(&join.right, b)) {
        (Some(left), Some(right)) => (left, right, *op, a_by.checked_sub(b_by)?),
        _ => (follows(&join.left, b)?, follows(&join.right, a)?, op.swap()?, b_by.checked_sub(a_by)?),
    };
    // left + a_by op right + b_by, so: right - left is on the other side of a_by - b_by.
    let (lower_us, upper_us) = match op {
        Op::LtEq => (by, i64::MAX),
        Op::Lt => (by.checked_add(1)?, i64::MAX),
        Op::GtEq => (i64::MIN, by),
        Op::Gt => (i64::MIN, by.checked_sub(1)?),
        Op::Eq => (by, by),
        _ => return None,
    };
    Some(Bounds { left_time, right_time, lower_us, upper_us })
}

impl Lowering<'_> {
    /// Every logical column of `stream` among `outputs`: by column, its place there.
    pub(crate) fn all_columns(
        &self,
        stream: &Stream,
        outputs: &mut Outputs,
        places: &[Place<'_>],
    ) -> Lowered<Vec<usize>> {
        let column = |index: usize| {
            let expr = self.slot(stream, index, places)?;
            Ok(outputs.push(expr, stream.schema.field(index).name()))
        };
        (0..stream.slots.len()).map(column).collect()
    }

    /// Rows with equal keys on the same slice: the node where they are.
    pub(crate) fn exchange(&mut self, node: usize, keys: Vec<usize>, places: &[Place<'_>]) -> Lowered<usize> {
        let fields = self.graph.fields(node);
        if let Some(key) = keys.iter().map(|key| &fields[*key]).find(|key| !hash::supported(key.data_type())) {
            let text = format!("'{}' is a {}, which cannot be a key", key.name(), sql_name(key.data_type()));
            let help = "group or partition by numbers, texts, times, or structs and arrays of these";
            return Err(at(Diagnostic::new(text).help(help), group_by_place(places)));
        }
        if self.graph.is_dealt_by(node, &keys) {
            return Ok(node);
        }
        let text = format!("{keys:?}");
        let exchange = self.graph.add("exchange", &text, vec![node], fields, Operator::Exchange { keys });
        exchange.map_err(|error| planner(&error, places))
    }

    /// The node for those who answer once, but not before rows that are late by so much.
    pub(crate) fn hold_back(&mut self, node: usize, by_us: i64, places: &[Place<'_>]) -> Lowered<usize> {
        if by_us == 0 {
            return Ok(node);
        }
        let fields = self.graph.fields(node);
        let node = self.graph.add("hold", &by_us.to_string(), vec![node], fields, Operator::HoldBack { by_us });
        node.map_err(|error| planner(&error, places))
    }

    /// Before a table that is written by key: the latest row of each key.
    pub(crate) fn upsert(&mut self, node: usize, keys: &[usize], places: &[Place<'_>]) -> Lowered<usize> {
        let node = self.exchange(node, keys.to_vec(), places)?;
        let fields = self.graph.fields(node);
        let operator = Operator::Upsert { keys: keys.to_vec() };
        let upsert = self.graph.add("upsert", &format!("{keys:?}"), vec![node], fields, operator);
        upsert.map_err(|error| planner(&error, places))
    }

    /// Upserts by key as a changelog. What it does is told by the names of columns: the places of a source's columns are
    /// those of all that the file reads.
    pub(crate) fn normalize(&mut self, source: usize, keys: Vec<usize>, places: &[Place<'_>]) -> Lowered<usize> {
        let node = self.exchange(source, keys.clone(), places)?;
        let fields = self.graph.fields(node);
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let does = format!("{} by {keys:?}", names.join(","));
        let node = self.graph.add("normalize", &does, vec![node], fields, Operator::Normalize { keys });
        node.map_err(|error| planner(&error, places))
    }
}
