//! Comparisons with subqueries that are joins of their own kind: `NOT IN`, and `ANY` and `ALL` in WHERE.
//!
//! `x NOT IN (S)` is true where S is empty, or x is not null, S has no null and no row of S equals x. The last part is an
//! ordinary join by key. Whether S is empty, and whether it has a null, are two flags that change at most a few times in
//! a stream's life, so the rows that pass the join are held beside one row of flags. Where S depends on the row, the whole
//! condition goes into the join: no row of S is there for which `x = s` is not false.
//!
//! `x > ANY (S)` in WHERE is: there is a row of S with `x > s`; `x > ALL (S)`: there is none for which `x > s` is not true.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, NullEquality, Result, TableReference};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// `ANY` and `ALL` that stand in WHERE beside AND alone, as EXISTS.
pub(crate) fn exists(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let conjuncts = split_conjunction_owned(filter.predicate.clone());
        if !conjuncts.iter().any(|conjunct| matches!(conjunct, Expr::SetComparison(_))) {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let rewritten = conjuncts.into_iter().map(|conjunct| match conjunct {
            Expr::SetComparison(comparison) => as_exists(comparison, filter.input.schema()),
            conjunct => Ok(conjunct),
        });
        let predicate = conjunction(rewritten.collect::<Result<Vec<Expr>>>()?).unwrap_or_else(|| lit(true));
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
    })?;
    Ok(rewritten.data)
}

fn as_exists(comparison: SetComparison, outer: &DFSchema) -> Result<Expr> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    let left = outer_reference(*expr, outer)?;
    let right = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let compared = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let (predicate, negated) = match quantifier {
        SetQuantifier::Any => (compared, false),
        SetQuantifier::All => (Expr::IsNotTrue(Box::new(compared)), true),
    };
    let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).filter(predicate)?.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans };
    Ok(Expr::Exists(Exists { subquery, negated }))
}

fn outer_reference(expr: Expr, outer: &DFSchema) -> Result<Expr> {
    let referred = expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = outer.field_from_column(&column)?;
            Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)))
        }
        expr => Ok(Transformed::no(expr)),
    })?;
    Ok(referred.data)
}

/// Makes ordinary joins of DataFusion's null-aware ones.
#[derive(Debug)]
pub(crate) struct NotIn;

impl OptimizerRule for NotIn {
    fn name(&self) -> &str {
        "not_in"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        // The predicate of NOT IN comes first, and then what else the subquery says of the row.
        let mut conjuncts = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
        let predicate = if conjuncts.is_empty() { None } else { Some(conjuncts.remove(0)) };
        let (true, JoinType::LeftAnti, true, Some(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }))) =
            (join.null_aware, join.join_type, join.on.is_empty(), predicate)
        else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let (left, right) = (*left, *right);
        let rewritten = match conjunction(conjuncts) {
            Some(of_row) => {
                let unknown = left.clone().is_null().or(right.clone().is_null());
                plain(&join, of_row.and(left.eq(right).or(unknown)))?
            }
            None => of_all_rows(&join, left, right, config.alias_generator().next("#not_in"))?,
        };
        Ok(Transformed::new(rewritten, true, TreeNodeRecursion::Jump))
    }
}

fn plain(join: &Join, filter: Expr) -> Result<LogicalPlan> {
    let join = Join::try_new(
        Arc::clone(&join.left),
        Arc::clone(&join.right),
        Vec::new(),
        Some(filter),
        JoinType::LeftAnti,
        join.join_constraint,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    Ok(LogicalPlan::Join(join))
}

fn of_all_rows(join: &Join, left: Expr, right: Expr, alias: String) -> Result<LogicalPlan> {
    let unequal = plain(join, left.clone().eq(right.clone()))?;
    let flag = |name: &str| Expr::Column(Column::new(Some(TableReference::bare(alias.as_str())), name));
    let column = |plan: &LogicalPlan, at: usize| Expr::Column(Column::from(plan.schema().qualified_field(at)));
    let counts = LogicalPlanBuilder::from(join.right.as_ref().clone())
        .aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias("rows"), count(right).alias("values")])?
        .build()?;
    let (rows, values) = (column(&counts, 0), column(&counts, 1));
    // Counts change with every row; flags alone are told when they change.
    let flags = LogicalPlanBuilder::from(counts)
        .project(vec![rows.clone().eq(lit(0_i64)).alias("empty"), values.lt(rows).alias("has_null")])?;
    let distinct: Vec<Expr> = (0..2).map(|at| column(flags.plan(), at)).collect();
    let flags = flags.aggregate(distinct, Vec::<Expr>::new())?.alias(alias.as_str())?.build()?;
    let passes = flag("empty").or(left.is_not_null().and(not(flag("has_null"))));
    let columns: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::from(unequal).join_on(flags, JoinType::Inner, [passes])?.project(columns)?.build()
}
