//! EXISTS in a SELECT list: the mark of a mark join below it.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, not};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Asks DataFusion's rule for WHERE, which makes mark joins of what is not a condition by itself.
#[derive(Debug)]
pub(crate) struct Marks;

impl OptimizerRule for Marks {
    fn name(&self) -> &str {
        "marks"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(projection) = plan else { return Ok(Transformed::no(plan)) };
        if !projection.expr.iter().any(has_exists) {
            return Ok(Transformed::no(LogicalPlan::Projection(projection)));
        }
        let names = NamePreserver::new_for_projection();
        let mut input = Arc::unwrap_or_clone(projection.input);
        let mut exprs = Vec::with_capacity(projection.expr.len());
        for expr in projection.expr {
            let name = names.save(&expr);
            let marked = expr.transform_up(|expr| {
                let Expr::Exists(Exists { subquery, negated }) = expr else { return Ok(Transformed::no(expr)) };
                let plain = Expr::Exists(Exists { subquery: subquery.clone(), negated: false });
                match marked(plain, &input, config)? {
                    Some((joined, mark)) => {
                        input = joined;
                        Ok(Transformed::yes(if negated { not(mark) } else { mark }))
                    }
                    None => Ok(Transformed::no(Expr::Exists(Exists { subquery, negated }))),
                }
            })?;
            exprs.push(name.restore(marked.data));
        }
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)))
    }
}

fn has_exists(expr: &Expr) -> bool {
    // The closure never fails, so neither does the walk.
    expr.exists(|expr| Ok(matches!(expr, Expr::Exists(_)))).unwrap_or(true)
}

/// `input` joined with the subquery, and the column that says whether it has a row.
fn marked(exists: Expr, input: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<(LogicalPlan, Expr)>> {
    // A condition that is more than the EXISTS itself.
    let filter = Filter::try_new(Expr::IsTrue(Box::new(exists)), Arc::new(input.clone()))?;
    let rewritten = DecorrelatePredicateSubquery::new().rewrite(LogicalPlan::Filter(filter), config)?.data;
    let LogicalPlan::Projection(projection) = rewritten else { return Ok(None) };
    let LogicalPlan::Filter(Filter { predicate: Expr::IsTrue(mark), input, .. }) =
        Arc::unwrap_or_clone(projection.input)
    else {
        return Ok(None);
    };
    let is_mark = matches!(input.as_ref(), LogicalPlan::Join(join) if join.join_type == JoinType::LeftMark);
    Ok((is_mark && matches!(*mark, Expr::Column(_))).then(|| (Arc::unwrap_or_clone(input), *mark)))
}
