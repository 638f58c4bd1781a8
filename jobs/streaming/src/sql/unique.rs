//! Columns by which the rows of a query can be told apart.
//!
//! Invariant: what is called a key here is one by the query itself, or of a table that is read by its key; that another
//! source declares a primary key says nothing, since every record of it is a row.

use super::catalog::script_table;
use super::over::First;
use super::shared::SharedNode;
use connectors::Gives;
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, TableScan};

/// Sets of output columns in which no two rows are alike, the plainest first. An empty set says that there is at most
/// one row.
pub(crate) fn unique_keys(plan: &LogicalPlan) -> Vec<Vec<usize>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let passes = |column: &usize| {
                projection.expr.iter().position(|expr| column_of(expr, &projection.input) == Some(*column))
            };
            let keys = unique_keys(&projection.input);
            keys.iter().filter_map(|key| key.iter().map(passes).collect()).collect()
        }
        LogicalPlan::Filter(filter) => match First::of(filter) {
            Some(first) => {
                let input = first.input();
                let by: Option<Vec<usize>> = first.partition().iter().map(|expr| column_of(expr, input)).collect();
                let number = input.schema().fields().len();
                let ranked = by.map(|by| by.into_iter().chain((first.limit() > 1).then_some(number)).collect());
                // What told the rows apart before their choice still does.
                ranked.into_iter().chain(unique_keys(input)).collect()
            }
            None => unique_keys(&filter.input),
        },
        LogicalPlan::Aggregate(aggregate) => vec![(0..aggregate.group_expr.len()).collect()],
        LogicalPlan::TableScan(scan) => of_table(scan).into_iter().collect(),
        LogicalPlan::SubqueryAlias(alias) => unique_keys(&alias.input),
        // Columns of an OVER come behind those of the input.
        LogicalPlan::Window(window) => unique_keys(&window.input),
        LogicalPlan::Join(join) => of_join(join),
        _ => SharedNode::of(plan).map(|node| unique_keys(&node.input)).unwrap_or_default(),
    }
}

/// The primary key of a table that holds one row for each.
fn of_table(scan: &TableScan) -> Option<Vec<usize>> {
    let table = script_table(scan)?;
    let def = &table.statement.def;
    if connectors::gives(def) != Gives::Upserts {
        return None;
    }
    let place = |column: &usize| match &scan.projection {
        Some(projection) => projection.iter().position(|wanted| wanted == column),
        None => Some(*column),
    };
    def.primary_key.iter().map(place).collect()
}

/// A row meets at most one row of a side whose key it is joined by. Columns that an outer join fills with nulls are no
/// key.
fn of_join(join: &Join) -> Vec<Vec<usize>> {
    let (left, right) = (unique_keys(&join.left), unique_keys(&join.right));
    let pairs = || join.on.iter();
    let by_left: Vec<usize> = pairs().filter_map(|(left, _)| column_of(left, &join.left)).collect();
    let by_right: Vec<usize> = pairs().filter_map(|(_, right)| column_of(right, &join.right)).collect();
    let within =
        |keys: &[Vec<usize>], by: &[usize]| keys.iter().any(|key| key.iter().all(|column| by.contains(column)));
    let n_left = join.left.schema().fields().len();
    let moved = || right.iter().map(|key| key.iter().map(|column| n_left + column).collect::<Vec<usize>>());
    match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
        JoinType::Left if within(&right, &by_right) => left,
        JoinType::Right if within(&left, &by_left) => moved().collect(),
        JoinType::Inner => {
            let mut keys = Vec::new();
            if within(&right, &by_right) {
                keys.extend(left.iter().cloned());
            }
            if within(&left, &by_left) {
                keys.extend(moved());
            }
            keys.extend(left.iter().flat_map(|left| moved().map(|right| [left.as_slice(), &right].concat())));
            keys
        }
        _ => Vec::new(),
    }
}

/// The column of `input` that `expr` passes on unchanged.
fn column_of(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => column_of(&alias.expr, input),
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    }
}
