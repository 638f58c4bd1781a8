//! `GROUPING SETS`, `ROLLUP` and `CUBE`, as one aggregation.
//!
//! Each row is repeated for every set, with the number of the set beside it and null for what the set leaves out, and then
//! grouped by all of it. So a stream keeps one operator, whatever the number of sets, and windows, changelogs and restores
//! know nothing of sets. The numbers are DataFusion's, from which its `grouping()` is worked out.
//!
//! Invariant: the set of nothing is an aggregation of its own, because it has a row even where there is none to aggregate.

use super::shared::SharedNode;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, NullHandling, Result, ScalarValue, UnnestOptions};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_nested::make_array::make_array;
use datafusion::logical_expr::expr::GroupingSet;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, when};

/// The column that holds the number of the set.
const SET: &str = "#set";

/// Rewrites all aggregations by sets.
pub(crate) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let expanded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(sets)] => rewrite(&aggregate, sets).map(Transformed::yes),
            _ => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        node => Ok(Transformed::no(node)),
    })?;
    Ok(expanded.data)
}

/// What is grouped by in one set, by expression, and its number.
struct Set {
    holds: Vec<bool>,
    number: Expr,
}

fn rewrite(aggregate: &Aggregate, grouping: &GroupingSet) -> Result<LogicalPlan> {
    let exprs: Vec<Expr> = grouping.distinct_expr().into_iter().cloned().collect();
    let id_type = aggregate.schema.field(exprs.len()).data_type();
    let (some, none): (Vec<Set>, Vec<Set>) =
        sets(grouping, &exprs, id_type)?.into_iter().partition(|set| set.holds.contains(&true));
    let mut parts = Vec::new();
    if !some.is_empty() {
        parts.push(of_sets(aggregate, &exprs, &some)?);
    }
    for set in none {
        parts.push(of_all(aggregate, exprs.len(), set.number)?);
    }
    let mut parts = parts.into_iter();
    let mut builder = LogicalPlanBuilder::from(match parts.next() {
        Some(first) => first,
        None => return Ok(LogicalPlan::Aggregate(aggregate.clone())),
    });
    for part in parts {
        builder = builder.union(part)?;
    }
    // The columns that the nodes above know.
    let places = builder.schema().columns().into_iter();
    let named = places
        .zip(aggregate.schema.iter())
        .map(|(place, (qualifier, field))| Expr::Column(place).alias_qualified(qualifier.cloned(), field.name()));
    let named: Vec<Expr> = named.collect();
    builder.project(named)?.build()
}

fn sets(grouping: &GroupingSet, exprs: &[Expr], id_type: &DataType) -> Result<Vec<Set>> {
    let n = exprs.len();
    let held: Vec<Vec<bool>> = match grouping {
        GroupingSet::GroupingSets(sets) => {
            sets.iter().map(|set| exprs.iter().map(|expr| set.contains(expr)).collect()).collect()
        }
        GroupingSet::Rollup(_) => (0..=n).map(|first| (0..n).map(|at| at < first).collect()).collect(),
        GroupingSet::Cube(_) => (0..1_u64 << n).map(|of| (0..n).map(|at| of >> at & 1 == 1).collect()).collect(),
    };
    let set = |(at, holds): (usize, &Vec<bool>)| {
        let left_out = holds.iter().fold(0_u64, |bits, holds| bits << 1 | u64::from(!holds));
        // A set that is given again is another one.
        let ordinal = held[..at].iter().filter(|earlier| *earlier == holds).count() as u64;
        let number = ScalarValue::UInt64(Some(left_out | ordinal << n)).cast_to(id_type)?;
        Ok(Set { holds: holds.clone(), number: lit(number) })
    };
    held.iter().enumerate().map(set).collect()
}

fn place(at: usize) -> String {
    format!("#{at}")
}

/// Columns in their order under names by place.
fn by_place(exprs: impl Iterator<Item = Expr>) -> Vec<Expr> {
    exprs.enumerate().map(|(at, expr)| expr.alias(place(at))).collect()
}

fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

fn of_sets(aggregate: &Aggregate, exprs: &[Expr], sets: &[Set]) -> Result<LogicalPlan> {
    let key = |at: usize| format!("#key_{at}");
    let own = |name: &str| Expr::Column(Column::new_unqualified(name));
    let of_input = columns(&aggregate.input);
    let keys = exprs.iter().enumerate().map(|(at, expr)| expr.clone().alias(key(at)));
    let numbers = make_array(sets.iter().map(|set| set.number.clone()).collect()).alias(SET);
    let repeated: Vec<Expr> = of_input.iter().cloned().chain(keys).chain([numbers]).collect();
    let options = UnnestOptions { null_handling: NullHandling::Drop, ..UnnestOptions::default() };
    let builder = LogicalPlanBuilder::from(aggregate.input.as_ref().clone())
        .project(repeated)?
        .unnest_column_with_options(Column::new_unqualified(SET), options)?;
    let of_set = |at: usize| -> Result<Expr> {
        let holding: Vec<Expr> = sets.iter().filter(|set| set.holds[at]).map(|set| set.number.clone()).collect();
        // What every set holds stays as it is: a window's bounds among them.
        Ok(match holding.len() == sets.len() {
            true => own(&key(at)),
            false => when(own(SET).in_list(holding, false), own(&key(at))).end()?.alias(key(at)),
        })
    };
    let keys = (0..exprs.len()).map(of_set).collect::<Result<Vec<Expr>>>()?;
    let grouped: Vec<Expr> = of_input.into_iter().chain(keys).chain([own(SET)]).collect();
    let by: Vec<Expr> = (0..exprs.len()).map(|at| own(&key(at))).chain([own(SET)]).collect();
    let builder = builder.project(grouped)?.aggregate(by, aggregate.aggr_expr.clone())?;
    let all = by_place(columns(builder.plan()).into_iter());
    builder.project(all)?.build()
}

/// The aggregation of all rows.
fn of_all(aggregate: &Aggregate, n_keys: usize, number: Expr) -> Result<LogicalPlan> {
    let calls = match aggregate.aggr_expr.is_empty() {
        // Something has to be aggregated for the row to be there.
        true => vec![count(lit(1_i64))],
        false => aggregate.aggr_expr.clone(),
    };
    let all =
        LogicalPlanBuilder::from(aggregate.input.as_ref().clone()).aggregate(Vec::<Expr>::new(), calls)?.build()?;
    // Whoever reads no result still reads the row, which changes with its results: no rule may leave them out.
    let builder = LogicalPlanBuilder::from(SharedNode::plan(all));
    let null = |at: usize| cast(lit(ScalarValue::Null), aggregate.schema.field(at).data_type().clone());
    let results = columns(builder.plan()).into_iter().take(aggregate.aggr_expr.len());
    let all = by_place((0..n_keys).map(null).chain([number]).chain(results));
    builder.project(all)?.build()
}
