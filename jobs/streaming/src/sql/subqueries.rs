//! Subqueries in expressions, as joins.
//!
//! In WHERE, beside AND alone, `IN` and `EXISTS` choose rows: semi and anti joins. `x NOT IN (S)` is true where S is empty, or
//! x is not null, S has no null and no row of S equals x. The last part is an ordinary join by key. Whether S is empty, and
//! whether it has a null, are two flags that change at most a few times in a stream's life, so the rows that pass the join
//! are held beside one row of flags. Where S depends on the row, the whole condition goes into the join: no row of S is
//! there for which `x = s` is not false. `x > ANY (S)` is: there is a row of S with `x > s`; `x > ALL (S)`: there is none
//! for which `x > s` is not true.
//!
//! Anywhere else they are values, and may be unknown. `x IN (S)` is true where S has a row that equals x, else unknown where S
//! has a null, or x is null and S has a row, else false: three times EXISTS. An EXISTS that depends on the row is the mark
//! of a mark join; one that does not is one row for all, an aggregation.

mod marks;

pub(crate) use marks::Marks;

use super::row_values;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, NullEquality, Result, ScalarValue, TableReference};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, Window,
    lit, not, when,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Says every subquery that is a value, and `ANY` and `ALL`, by EXISTS and scalar subqueries.
pub(crate) fn exists(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => {
            let schema = Arc::clone(filter.input.schema());
            let conjuncts = split_conjunction_owned(filter.predicate.clone()).into_iter();
            let conjuncts = conjuncts.map(|conjunct| of_where(conjunct, &schema));
            let predicate = conjunction(conjuncts.collect::<Result<Vec<Expr>>>()?).unwrap_or_else(|| lit(true));
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
        }
        LogicalPlan::Projection(projection) if projection.expr.iter().any(has_subquery) => {
            let names = NamePreserver::new_for_projection();
            let schema = Arc::clone(projection.input.schema());
            let exprs = projection.expr.into_iter().map(|expr| {
                let name = names.save(&expr);
                Ok(name.restore(value(expr, &schema, false)?))
            });
            let exprs = exprs.collect::<Result<Vec<Expr>>>()?;
            Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, projection.input)?)))
        }
        // What its rows compare with the row outside can be pulled through a projection, and not through a name.
        LogicalPlan::SubqueryAlias(alias) if alias.alias.table() == row_values::ROW => {
            let columns = alias.input.schema().columns();
            let named = columns.into_iter().zip(alias.schema.fields());
            let exprs: Vec<Expr> = named
                .map(|(column, field)| Expr::Column(column).alias_qualified(Some(row_values::ROW), field.name()))
                .collect();
            Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, alias.input)?)))
        }
        LogicalPlan::Aggregate(aggregate)
            if holds_subquery(aggregate.group_expr.iter().chain(&aggregate.aggr_expr)) =>
        {
            let n_groups = aggregate.group_expr.len();
            let exprs = aggregate.group_expr.into_iter().chain(aggregate.aggr_expr).collect();
            let (input, mut exprs) = lifted(aggregate.input, exprs)?;
            let aggregates = exprs.split_off(n_groups);
            Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), exprs, aggregates)?)))
        }
        LogicalPlan::Window(window) if holds_subquery(window.window_expr.iter()) => {
            let columns: Vec<Expr> = window.schema.columns().into_iter().map(Expr::Column).collect();
            let (input, exprs) = lifted(window.input, window.window_expr)?;
            let plan = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
            Ok(Transformed::yes(LogicalPlanBuilder::from(plan).project(columns)?.build()?))
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(rewritten.data)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::SetComparison(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_))
}

fn holds_subquery<'a>(mut exprs: impl Iterator<Item = &'a Expr>) -> bool {
    // The closure never fails, so neither does the walk.
    exprs.any(|expr| expr.exists(|expr| Ok(is_subquery(expr))).unwrap_or(true))
}

/// Subqueries in the expressions of a node that is no place for them, as columns that are computed below it.
fn lifted(input: Arc<LogicalPlan>, exprs: Vec<Expr>) -> Result<(LogicalPlan, Vec<Expr>)> {
    let names = NamePreserver::new_for_projection();
    let schema = Arc::clone(input.schema());
    let mut values: Vec<Expr> = Vec::new();
    let column = |at: usize| format!("#value_{at}");
    let mut replaced = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let name = names.save(&expr);
        let outside = expr.transform_down(|expr| {
            if !is_subquery(&expr) {
                return Ok(Transformed::no(expr));
            }
            let at = values.iter().position(|known| *known == expr).unwrap_or_else(|| {
                values.push(expr);
                values.len() - 1
            });
            Ok(Transformed::new(Expr::Column(Column::new_unqualified(column(at))), true, TreeNodeRecursion::Jump))
        })?;
        replaced.push(name.restore(outside.data));
    }
    let mut below: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    for (at, expr) in values.into_iter().enumerate() {
        below.push(value(expr, &schema, false)?.alias(column(at)));
    }
    Ok((LogicalPlan::Projection(Projection::try_new(below, input)?), replaced))
}

/// Whether something is asked of a subquery other than its one value.
pub(crate) fn has_subquery(expr: &Expr) -> bool {
    let asks = |expr: &Expr| Ok(matches!(expr, Expr::SetComparison(_) | Expr::InSubquery(_) | Expr::Exists(_)));
    // The closure never fails, so neither does the walk.
    expr.exists(asks).unwrap_or(true)
}

/// A conjunct of WHERE: what stands by itself chooses rows.
fn of_where(conjunct: Expr, schema: &DFSchema) -> Result<Expr> {
    match conjunct {
        Expr::SetComparison(comparison) => as_exists(comparison, schema),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let subquery = projected(subquery)?;
            Ok(Expr::InSubquery(InSubquery { expr, subquery, negated }))
        }
        Expr::Exists(_) => Ok(conjunct),
        Expr::Not(inner) if matches!(*inner, Expr::InSubquery(_) | Expr::Exists(_)) => {
            Ok(Expr::Not(Box::new(of_where(*inner, schema)?)))
        }
        conjunct => value(conjunct, schema, true),
    }
}

/// The planner asks the topmost node for its first expression, and VALUES has none.
fn projected(subquery: Subquery) -> Result<Subquery> {
    if !matches!(subquery.subquery.as_ref(), LogicalPlan::Values(_)) {
        return Ok(subquery);
    }
    let columns: Vec<Expr> = subquery.subquery.schema().columns().into_iter().map(Expr::Column).collect();
    let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project(columns)?.build()?;
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}

/// The expression with its subqueries as EXISTS and scalar subqueries. `chooses`: unknown is as good as false.
fn value(expr: Expr, schema: &DFSchema, chooses: bool) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) if chooses => {
            let (left, right) = (value(*left, schema, true)?, value(*right, schema, true)?);
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                value(Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }), schema, chooses)
            }
            inner => Ok(not(value(inner, schema, false)?)),
        },
        Expr::Exists(Exists { subquery, negated }) => {
            let there = any(&subquery, subquery.subquery.as_ref().clone(), None)?;
            Ok(if negated { not(there) } else { there })
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let tested = value(*expr, schema, false)?;
            let (rows, item) = rows_of(&subquery)?;
            let outer = outer_reference(tested.clone(), schema)?;
            let equal = any(&subquery, rows.clone(), Some(outer.eq(item.clone())))?;
            if chooses && !negated {
                return Ok(equal);
            }
            let one = any(&subquery, rows.clone(), None)?;
            let unknown = tested.is_null().and(one).or(any(&subquery, rows, Some(item.is_null()))?);
            match chooses {
                true => Ok(not(equal).and(not(unknown))),
                false => known(equal, unknown, negated),
            }
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            let outer = outer_reference(value(*expr, schema, false)?, schema)?;
            let (rows, item) = rows_of(&subquery)?;
            let compared = Expr::BinaryExpr(BinaryExpr::new(Box::new(outer), op, Box::new(item)));
            let unknown = any(&subquery, rows.clone(), Some(compared.clone().is_null()))?;
            match quantifier {
                SetQuantifier::Any => known(any(&subquery, rows, Some(compared))?, unknown, false),
                // True for all is: not false for any.
                SetQuantifier::All => known(any(&subquery, rows, Some(not(compared)))?, unknown, true),
            }
        }
        expr => Ok(expr.map_children(|child| Ok(Transformed::yes(value(child, schema, false)?)))?.data),
    }
}

/// Whether something is found, where that is known; the opposite where `negated`.
fn known(found: Expr, unknown: Expr, negated: bool) -> Result<Expr> {
    when(found, lit(!negated)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(negated))
}

/// The rows of a subquery of one column, and that column. It has a name of its own, which no file can write: that of a table
/// may be asked for in a row of the same one.
fn rows_of(subquery: &Subquery) -> Result<(LogicalPlan, Expr)> {
    let column = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let rows = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project(vec![column.alias("#item")])?;
    Ok((rows.build()?, Expr::Column(Column::new_unqualified("#item"))))
}

/// Whether the subquery has a row, for which `condition` holds. One that does not depend on the row outside is one value,
/// which changes with the first row and the last.
fn any(subquery: &Subquery, rows: LogicalPlan, condition: Option<Expr>) -> Result<Expr> {
    let rows = match condition {
        Some(condition) => LogicalPlanBuilder::from(rows).filter(condition)?.build()?,
        None => rows,
    };
    let outer_ref_columns = rows.all_out_ref_exprs();
    let spans = subquery.spans.clone();
    if !outer_ref_columns.is_empty() {
        let subquery = Subquery { subquery: Arc::new(rows), outer_ref_columns, spans };
        return Ok(Expr::Exists(Exists { subquery, negated: false }));
    }
    let one = LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), vec![max(lit(1_i64)).alias("one")])?;
    let there = Expr::Column(Column::new_unqualified("one")).is_not_null().alias("there");
    let subquery = Arc::new(one.project(vec![there])?.build()?);
    Ok(Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans }))
}

fn as_exists(comparison: SetComparison, outer: &DFSchema) -> Result<Expr> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    let left = outer_reference(*expr, outer)?;
    let (rows, right) = rows_of(&subquery)?;
    let compared = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let (predicate, negated) = match quantifier {
        SetQuantifier::Any => (compared, false),
        SetQuantifier::All => (Expr::IsNotTrue(Box::new(compared)), true),
    };
    let plan = LogicalPlanBuilder::from(rows).filter(predicate)?.build()?;
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
