//! `UNNEST` in FROM: the rows of arrays beside the rows that hold them.
//!
//! `t CROSS JOIN UNNEST(t.tags) AS u(tag)` is planned as a join with an [`UnnestNode`], whose arrays are columns of the other
//! side. A rewrite then makes one plan of it that has no join: the arrays become columns of `t`, which DataFusion's own
//! `Unnest` takes apart, and which both planners know. `SELECT unnest(tags)` is such a plan from the beginning.

mod lower;
mod ordinals;

pub(crate) use lower::passed_on;

use super::errors::external;
use super::text::{Positions, Span};
use super::types::{canonical, sql_name};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType, NullHandling, Result, ScalarValue, UnnestOptions};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, Join, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, lit,
};
use datafusion::sql::sqlparser::ast::{Spanned, TableAlias, TableFactor};
use jobs::Diagnostic;
use ordinals::ordinals;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The column that WITH ORDINALITY adds.
const ORDINALITY: &str = "ordinality";

/// Arrays of the other side of a join, side by side; the shorter ones are followed by nulls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UnnestNode {
    arrays: Vec<Array>,
    /// Whether a last column counts the rows of each array, from one.
    ordinality: bool,
    schema: DFSchemaRef,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
struct Array {
    expr: Expr,
    /// The columns that its items give: themselves, or their fields.
    columns: Items,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Items {
    Whole(DataType),
    Fields(Fields),
}

impl PartialOrd for Items {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        format!("{self:?}").partial_cmp(&format!("{other:?}"))
    }
}

impl PartialOrd for UnnestNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.arrays, self.ordinality).partial_cmp(&(&other.arrays, other.ordinality))
    }
}

impl UnnestNode {
    fn try_new(arrays: Vec<Array>, ordinality: bool) -> Result<Self> {
        let mut fields = Vec::new();
        for (at, array) in arrays.iter().enumerate() {
            match &array.columns {
                Items::Whole(data_type) => {
                    let name = if at == 0 { "unnest".to_owned() } else { format!("unnest_{}", at + 1) };
                    fields.push(Field::new(name, data_type.clone(), true));
                }
                Items::Fields(of) => fields.extend(of.iter().map(|field| field.as_ref().clone().with_nullable(true))),
            }
        }
        fields.extend(ordinality.then(|| Field::new(ORDINALITY, DataType::Int64, true)));
        let fields = fields.into_iter().map(|field| (None, Arc::new(field))).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { arrays, ordinality, schema })
    }

    fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl UserDefinedLogicalNodeCore for UnnestNode {
    fn name(&self) -> &str {
        "UnnestRelation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.arrays.iter().map(|array| array.expr.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unnest: {} arrays", self.arrays.len())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        let arrays = exprs.into_iter().zip(&self.arrays);
        let arrays = arrays.map(|(expr, array)| Array { expr, columns: array.columns.clone() }).collect();
        Self::try_new(arrays, self.ordinality)
    }
}

/// Plans `UNNEST(…)` where a table may stand.
#[derive(Debug)]
pub(crate) struct UnnestPlanner {
    pub(crate) positions: Arc<Positions>,
}

impl RelationPlanner for UnnestPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if with_offset || with_offset_alias.is_some() {
            let error = Diagnostic::new("UNNEST … WITH OFFSET is not supported");
            return Err(external(error.help("write WITH ORDINALITY, which counts from 1")));
        }
        let n_arrays = array_exprs.len();
        let mut arrays = Vec::with_capacity(n_arrays);
        for sql in array_exprs {
            let place = self.place(sql.span());
            let expr = context.sql_to_expr(sql, &DFSchema::empty())?;
            // Of outer columns the type is known without the other side.
            let data_type = expr.get_type(&DFSchema::empty())?;
            let DataType::List(item) = canonical(&data_type) else {
                let error = format!("UNNEST takes arrays, and {expr} is {}", sql_name(&data_type));
                return Err(external(Diagnostic { span: place, ..Diagnostic::new(error) }));
            };
            let columns = match item.data_type() {
                // One name for all of it is the struct's own.
                DataType::Struct(fields) if !names_whole(alias.as_ref(), n_arrays, with_ordinality, fields) => {
                    Items::Fields(fields.clone())
                }
                data_type => Items::Whole(data_type.clone()),
            };
            arrays.push(Array { expr, columns });
        }
        let node = UnnestNode::try_new(arrays, with_ordinality)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl UnnestPlanner {
    fn place(&self, span: datafusion::sql::sqlparser::tokenizer::Span) -> Option<Span> {
        (span.start.line > 0).then(|| self.positions.span(span.start, span.end))
    }
}

fn names_whole(alias: Option<&TableAlias>, n_arrays: usize, ordinality: bool, fields: &Fields) -> bool {
    let n_names = alias.map_or(0, |alias| alias.columns.len());
    n_arrays == 1 && fields.len() != 1 && n_names == 1 + usize::from(ordinality)
}

/// Makes plans without a join of all joins with arrays.
pub(crate) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let expanded = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match Side::of(&join) {
            Some(side) => of_join(&join, side).map(Transformed::yes),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        node => match UnnestNode::of(&node) {
            // Arrays that are of no other row.
            Some(unnest) => {
                let one_row = LogicalPlanBuilder::empty(true).build()?;
                let columns = unnest.schema.columns();
                unnested(one_row, unnest, columns, false).map(Transformed::yes)
            }
            None => Ok(Transformed::no(node)),
        },
    })?;
    Ok(expanded.data)
}

/// The arrays that are the right side of a join.
struct Side {
    node: UnnestNode,
    /// What its columns are called above.
    columns: Vec<Column>,
    outer: bool,
}

impl Side {
    fn of(join: &Join) -> Option<Self> {
        let outer = match join.join_type {
            JoinType::Inner => false,
            JoinType::Left => true,
            _ => return None,
        };
        let mut plan = join.right.as_ref();
        // Names are given by projections that pass all columns on in their order.
        loop {
            plan = match plan {
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Subquery(subquery) => &subquery.subquery,
                LogicalPlan::Projection(projection) if renames(&projection.expr, projection.input.schema()) => {
                    &projection.input
                }
                _ => break,
            };
        }
        let node = UnnestNode::of(plan)?.clone();
        (join.on.is_empty()).then(|| Self { node, columns: join.right.schema().columns(), outer })
    }
}

fn renames(exprs: &[Expr], input: &DFSchema) -> bool {
    let passes = |(at, expr): (usize, &Expr)| match expr.clone().unalias() {
        Expr::Column(column) => input.maybe_index_of_column(&column) == Some(at),
        _ => false,
    };
    exprs.len() == input.fields().len() && exprs.iter().enumerate().all(passes)
}

fn of_join(join: &Join, side: Side) -> Result<LogicalPlan> {
    let always = |filter: &Expr| *filter == lit(true);
    let filter = join.filter.clone().filter(|filter| !always(filter));
    if side.outer && filter.is_some() {
        let error = Diagnostic::new("LEFT JOIN UNNEST ON another condition than TRUE is not supported");
        return Err(external(error.help("write ON TRUE, and put the condition into WHERE or a CASE")));
    }
    let plan = unnested(join.left.as_ref().clone(), &side.node, side.columns, side.outer)?;
    match filter {
        Some(filter) => LogicalPlanBuilder::from(plan).filter(filter)?.build(),
        None => Ok(plan),
    }
}

/// The rows of `left` with the items of the node's arrays, under these names. `outer`: a row without items stays, once.
fn unnested(left: LogicalPlan, node: &UnnestNode, columns: Vec<Column>, outer: bool) -> Result<LogicalPlan> {
    let of_left = |plan: &LogicalPlan| -> Vec<Expr> { plan.schema().columns().into_iter().map(Expr::Column).collect() };
    let kept = of_left(&left);
    let array = |at: usize| Column::new_unqualified(format!("#array_{at}"));
    let lists = node.arrays.iter().map(|array| inner(array.expr.clone())).collect::<Result<Vec<Expr>>>()?;
    let counted = node.ordinality.then(|| ordinals().call(lists.clone()));
    let n_lists = lists.len() + usize::from(node.ordinality);
    let lists = lists.into_iter().chain(counted).enumerate().map(|(at, list)| list.alias(array(at).name));
    let exprs: Vec<Expr> = kept.iter().cloned().chain(lists).collect();
    let null_handling = if outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
    let options = UnnestOptions { null_handling, ..UnnestOptions::default() };
    let builder = LogicalPlanBuilder::from(left).project(exprs)?;
    let builder = builder.unnest_columns_with_options((0..n_lists).map(array).collect(), options)?;
    let mut items = Vec::with_capacity(columns.len());
    for (at, of) in node.arrays.iter().enumerate() {
        let item = Expr::Column(array(at));
        match &of.columns {
            Items::Whole(_) => items.push(item),
            Items::Fields(fields) => {
                let field = |name: &str| get_field().call(vec![item.clone(), lit(ScalarValue::from(name))]);
                items.extend(fields.iter().map(|of| field(of.name())));
            }
        }
    }
    items.extend(node.ordinality.then(|| Expr::Column(array(node.arrays.len()))));
    let named = |(item, column): (Expr, Column)| item.alias_qualified(column.relation, column.name);
    let items = items.into_iter().zip(columns).map(named);
    builder.project(kept.into_iter().chain(items).collect::<Vec<Expr>>())?.build()
}

/// The expression over the other side's columns.
fn inner(expr: Expr) -> Result<Expr> {
    let inner = expr.transform_up(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
        expr => Ok(Transformed::no(expr)),
    })?;
    Ok(inner.data)
}
