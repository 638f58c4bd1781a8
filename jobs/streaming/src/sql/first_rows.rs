//! `ORDER BY … LIMIT n` as the first n rows by ROW_NUMBER, which a stream can keep.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, Sort, lit,
};
use std::sync::Arc;

/// The column with the number, which no file can write.
const RANK: &str = "#rank";

pub(crate) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let expanded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(limit) => match first_rows(&limit)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Limit(limit))),
        },
        node => Ok(Transformed::no(node)),
    })?;
    Ok(expanded.data)
}

fn first_rows(limit: &Limit) -> Result<Option<LogicalPlan>> {
    let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) = (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        return Ok(None);
    };
    let Some((above, sort)) = sorted(&limit.input) else { return Ok(None) };
    let numbered = row_number().order_by(sort.expr.clone()).build()?.alias(RANK);
    let number = |n: usize| lit(ScalarValue::UInt64(Some(n as u64)));
    let rank = || Expr::Column(Column::new_unqualified(RANK));
    let mut kept = rank().lt_eq(number(skip.saturating_add(fetch)));
    if skip > 0 {
        kept = kept.and(rank().gt(number(skip)));
    }
    let columns: Vec<Expr> = sort.input.schema().columns().into_iter().map(Expr::Column).collect();
    let rows = LogicalPlanBuilder::from(sort.input.as_ref().clone()).window(vec![numbered])?.filter(kept)?;
    let mut plan = rows.project(columns)?.build()?;
    for projection in above.into_iter().rev() {
        plan = LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(plan))?);
    }
    Ok(Some(plan))
}

/// The order of a plan's rows, and the projections above it, the topmost first.
fn sorted(plan: &LogicalPlan) -> Option<(Vec<&Projection>, &Sort)> {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => Some((Vec::new(), sort)),
        LogicalPlan::Projection(projection) => {
            let (mut above, sort) = sorted(&projection.input)?;
            above.insert(0, projection);
            Some((above, sort))
        }
        _ => None,
    }
}
