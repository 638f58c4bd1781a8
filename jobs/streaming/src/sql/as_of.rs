//! Joins with a table as it is at the moment of each row: `a JOIN t FOR SYSTEM_TIME AS OF moment ON …`.
//!
//! A moment that is `PROCTIME()`, or a column computed by it, means the table outside at the time of processing: a lookup
//! ([`super::lookup`]). The event time of a stream means the version that was valid then ([`super::temporal`]).
//!
//! Invariant: no rewrite of a query moves a condition from such a join into its right side, where it would choose among
//! versions; what concerns the left side alone is applied before it.

use super::catalog::{ScriptTable, script_table};
use super::errors::{Place, external};
use super::lower::{Lowered, Lowering, Stream};
use super::refuse::{at, find};
use super::shared::SharedNode;
use super::text::Span;
use super::time::{is_event_time, settles_in_time, written};
use super::version::{Moment, VersionNode};
use super::window::WindowNode;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, DataFusionError, JoinType, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Filter, Join, LogicalPlan, SubqueryAlias, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use jobs::Diagnostic;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The refusal of rows whose event time the watermark may have passed long ago, and the way out.
const ANSWERED_ONCE: (&str, &str) = (
    "a join with versions is answered once, and what stands before it gives or takes back rows of any age: a join, first rows, or \
     a table with option 'changelog'",
    "put it before what takes rows back, or take them back by groups of the event time alone",
);

#[derive(Clone, Debug)]
pub(crate) struct AsOfNode {
    pub(crate) left: LogicalPlan,
    pub(crate) right: LogicalPlan,
    /// Left rows without a match stay.
    pub(crate) outer: bool,
    /// Event time of the left and of the right side; without it the moment is now.
    pub(crate) times: Option<(Column, Column)>,
    /// All must hold.
    pub(crate) conditions: Vec<Expr>,
    /// Of the moment.
    pub(crate) place: Option<Span>,
    schema: DFSchemaRef,
}

/// All that one node can differ from another in.
type Parts<'a> = (&'a LogicalPlan, &'a LogicalPlan, bool, &'a Option<(Column, Column)>, &'a [Expr]);

impl AsOfNode {
    fn try_new(
        sides: (LogicalPlan, LogicalPlan),
        outer: bool,
        times: Option<(Column, Column)>,
        conditions: Vec<Expr>,
        place: Option<Span>,
    ) -> Result<Self> {
        let (left, right) = sides;
        let schema = Arc::new(left.schema().join(right.schema())?);
        Ok(Self { left, right, outer, times, conditions, place, schema })
    }

    /// The node that `plan` is, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The left side's column behind output column `index`.
    pub(crate) fn of_left(&self, index: usize) -> Option<usize> {
        (index < self.left.schema().fields().len()).then_some(index)
    }

    fn parts(&self) -> Parts<'_> {
        (&self.left, &self.right, self.outer, &self.times, &self.conditions)
    }
}

impl PartialEq for AsOfNode {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for AsOfNode {}

impl PartialOrd for AsOfNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.parts().partial_cmp(&other.parts())
    }
}

impl Hash for AsOfNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for AsOfNode {
    fn name(&self) -> &str {
        "AsOf"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let times = self.times.iter().flat_map(|(left, right)| [left, right]);
        times.cloned().map(Expr::Column).chain(self.conditions.iter().cloned()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = self.conditions.iter().map(ToString::to_string).collect();
        write!(f, "AsOf: {}", conditions.join(" AND "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let mut column = |of: &Column| match exprs.next() {
            Some(Expr::Column(column)) => Ok(column),
            other => Err(DataFusionError::Plan(format!("a temporal join needs the column {of}, not {other:?}"))),
        };
        let times = match &self.times {
            Some((left, right)) => Some((column(left)?, column(right)?)),
            None => None,
        };
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return Err(DataFusionError::Plan("a temporal join has two sides".into()));
        };
        Self::try_new((left, right), self.outer, times, exprs.collect(), self.place)
    }

    /// The columns of the sides; those in conditions are added by the caller.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let n_left = self.left.schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|column| **column < n_left);
        Some(vec![left, right.into_iter().map(|column| column - n_left).collect()])
    }
}

/// Puts the joins of a plan that is as it was written in place.
pub(crate) fn convert(plan: LogicalPlan) -> Result<LogicalPlan> {
    let converted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match unversioned(&join.right) {
            Some((right, version)) => of_join(join, right, version).map(Transformed::yes),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        node => Ok(Transformed::no(node)),
    })?;
    let mut left_over = None;
    converted.data.apply_with_subqueries(|node| {
        left_over = left_over.take().or_else(|| VersionNode::of(node).map(|version| version.place));
        Ok(TreeNodeRecursion::Continue)
    })?;
    match left_over {
        Some(place) => Err(refuse(
            "FOR SYSTEM_TIME AS OF belongs behind the right table of a JOIN",
            "write stream JOIN table FOR SYSTEM_TIME AS OF … ON …",
            place,
        )),
        None => Ok(converted.data),
    }
}

/// Whether a plan, as it was written, has such a join.
pub(crate) fn place_of(plan: &LogicalPlan) -> Option<Option<Span>> {
    let mut found = None;
    // The closure never fails, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        found = found.take().or_else(|| AsOfNode::of(node).map(|node| node.place));
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The side of a join without its version, if it has one.
fn unversioned(plan: &LogicalPlan) -> Option<(LogicalPlan, VersionNode)> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, version) = unversioned(&alias.input)?;
            let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()).ok()?;
            Some((LogicalPlan::SubqueryAlias(alias), version))
        }
        plan => VersionNode::of(plan).map(|version| (version.input.clone(), version.clone())),
    }
}

fn refuse(message: &str, help: &str, place: Option<Span>) -> DataFusionError {
    external(Diagnostic { span: place, ..Diagnostic::new(message).help(help) })
}

fn of_join(join: Join, right: LogicalPlan, version: VersionNode) -> Result<LogicalPlan> {
    let place = version.place;
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        other => {
            let message =
                format!("a {} JOIN with FOR SYSTEM_TIME AS OF is not supported", other.to_string().to_uppercase());
            return Err(refuse(&message, "write JOIN or LEFT JOIN: each row of the stream asks the table", place));
        }
    };
    let on = join.on.into_iter().map(|(left, right)| left.eq(right));
    let filter = join.filter.map(split_conjunction_owned).unwrap_or_default();
    let conditions: Vec<Expr> = on.chain(filter).collect();
    if conditions.is_empty() {
        let help = "write JOIN … FOR SYSTEM_TIME AS OF … ON a = b";
        return Err(refuse("a join with FOR SYSTEM_TIME AS OF needs an ON", help, place));
    }
    let left = Arc::unwrap_or_clone(join.left);
    let Some((table, outputs)) = over_table(&right) else {
        let message = "FOR SYSTEM_TIME AS OF belongs to a table, and this is a query";
        return Err(refuse(message, "write the table's name, and put its conditions into ON", place));
    };
    let times = match &version.moment {
        Moment::Now => None,
        Moment::Column { relation, name } => {
            let column = Column::new(relation.clone(), name.clone());
            let index = left.schema().maybe_index_of_column(&column).ok_or_else(|| {
                let message = format!("'{}' is no column of what stands before JOIN", column.flat_name());
                refuse(&message, "the moment is a column of the stream, or PROCTIME()", place)
            })?;
            let column = Column::from(left.schema().qualified_field(index));
            if is_proctime(&left, index) {
                None
            } else if is_event_time(&left, index) {
                Some((column, versions_time(&table, &outputs, &right, place)?))
            } else if written(&left, index).is_some_and(|time| time.is_exact) {
                return Err(refuse(ANSWERED_ONCE.0, ANSWERED_ONCE.1, place));
            } else {
                let message = format!("'{}' is neither PROCTIME() nor the event time of its stream", column.name());
                let help = format!(
                    "declare p AS PROCTIME() and write FOR SYSTEM_TIME AS OF p, or declare WATERMARK FOR {} AS …",
                    column.name()
                );
                return Err(refuse(&message, &help, place));
            }
        }
    };
    let node = AsOfNode::try_new((left, right), outer, times, conditions, place)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The event time of a versioned table.
fn versions_time(table: &ScriptTable, outputs: &[Expr], right: &LogicalPlan, place: Option<Span>) -> Result<Column> {
    let name = &table.statement.name.text;
    if table.statement.def.primary_key.is_empty() {
        let message = format!("'{name}' has no versions to join by event time: it has no primary key");
        return Err(refuse(
            &message,
            "declare PRIMARY KEY (…) NOT ENFORCED: each row is the version of its key from its time on",
            place,
        ));
    }
    if table.statement.watermark.is_none() {
        let message = format!("'{name}' has no versions to join by event time: it has no watermark");
        return Err(refuse(
            &message,
            "declare WATERMARK FOR … AS …: a row is answered when all versions of its time are there",
            place,
        ));
    }
    // Of a table whose rows may be taken back, too, which is refused with the rest of what is known then.
    let time = (0..outputs.len()).find(|index| written(right, *index).is_some_and(|time| time.is_exact));
    let time = time.map(|index| Column::from(right.schema().qualified_field(index)));
    time.ok_or_else(|| {
        let message = format!("the event time of '{name}' does not come through to this join");
        refuse(&message, "join with the table itself", place)
    })
}

/// The table of a plan that only names and computes columns of one, and what its columns are over the table's own, which
/// are known by their lower case.
pub(crate) fn over_table(plan: &LogicalPlan) -> Option<(Arc<ScriptTable>, Vec<Expr>)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let columns = scan.projected_schema.fields().iter();
            let columns = columns.map(|field| Expr::Column(Column::new_unqualified(field.name())));
            Some((script_table(scan)?, columns.collect()))
        }
        LogicalPlan::SubqueryAlias(alias) => over_table(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (table, below) = over_table(&projection.input)?;
            let over = |expr: &Expr| {
                let replaced = expr.clone().unalias().transform_up(|expr| match &expr {
                    Expr::Column(column) => {
                        let index = projection.input.schema().index_of_column(column)?;
                        Ok(Transformed::yes(below[index].clone()))
                    }
                    _ => Ok(Transformed::no(expr)),
                });
                replaced.ok().map(|replaced| replaced.data)
            };
            let exprs = projection.expr.iter().map(over).collect::<Option<Vec<Expr>>>()?;
            Some((table, exprs))
        }
        _ => None,
    }
}

/// Whether output column `index` of `plan` is the moment at which a row is read.
fn is_proctime(plan: &LogicalPlan, index: usize) -> bool {
    let below = |input: &LogicalPlan, column: &Column| {
        input.schema().maybe_index_of_column(column).is_some_and(|index| is_proctime(input, index))
    };
    match plan {
        LogicalPlan::Projection(projection) => match projection.expr[index].clone().unalias() {
            Expr::ScalarFunction(call) => call.func.name() == "proctime",
            Expr::Column(column) => below(&projection.input, &column),
            _ => false,
        },
        LogicalPlan::SubqueryAlias(alias) => is_proctime(&alias.input, index),
        LogicalPlan::Filter(filter) => is_proctime(&filter.input, index),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| is_proctime(input, index)),
        LogicalPlan::Join(join) => {
            let n_left = join.left.schema().fields().len();
            match index.checked_sub(n_left) {
                None => is_proctime(&join.left, index),
                Some(index) => is_proctime(&join.right, index),
            }
        }
        plan => match (AsOfNode::of(plan), SharedNode::of(plan), WindowNode::of(plan)) {
            (Some(node), ..) => node.of_left(index).is_some_and(|index| is_proctime(&node.left, index)),
            (_, Some(node), _) => is_proctime(&node.input, index),
            (.., Some(node)) => index < node.input.schema().fields().len() && is_proctime(&node.input, index),
            _ => false,
        },
    }
}

/// Conditions on the left side alone hold before the join as well as after it.
#[derive(Debug)]
pub(crate) struct PushThroughAsOf;

impl OptimizerRule for PushThroughAsOf {
    fn name(&self) -> &str {
        "push_through_as_of"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let Some(node) = AsOfNode::of(&filter.input) else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let of_left = |expr: &Expr| {
            let columns = expr.column_refs();
            !expr.is_volatile()
                && !columns.is_empty()
                && columns.iter().all(|column| node.left.schema().has_column(column))
        };
        let (before, after): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(of_left);
        let Some(before) = conjunction(before) else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let left = LogicalPlan::Filter(Filter::try_new(before, Arc::new(node.left.clone()))?);
        let node = AsOfNode { left, ..node.clone() };
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let plan = match conjunction(after) {
            Some(after) => LogicalPlan::Filter(Filter::try_new(after, Arc::new(plan))?),
            None => plan,
        };
        Ok(Transformed::yes(plan))
    }
}

impl Lowering<'_> {
    pub(crate) fn as_of(&mut self, node: &AsOfNode, places: &[Place<'_>]) -> Lowered<Stream> {
        let left = self.lower(&node.left, places)?;
        let settles = |(time, _): &(Column, Column)| {
            let at = left.schema.maybe_index_of_column(time);
            at.is_some_and(|at| settles_in_time(&node.left, at))
        };
        if self.graph.changes(left.node) && node.times.as_ref().is_some_and(|times| !settles(times)) {
            let (text, help) = ANSWERED_ONCE;
            return Err(at(Diagnostic::new(text).help(help), node.place.or_else(|| find(places, &[&["JOIN"]]))));
        }
        if self.graph.changes(left.node) && node.times.is_none() {
            let text = "a join with FOR SYSTEM_TIME AS OF of rows that may be taken back is not supported: what takes a row \
                        back could find another row of the table than it did";
            let help = "put it before the join or aggregation that takes rows back";
            return Err(at(Diagnostic::new(text).help(help), node.place.or_else(|| find(places, &[&["JOIN"]]))));
        }
        match &node.times {
            None => self.lookup(node, left, places),
            Some(times) => self.temporal(node, times, left, places),
        }
    }
}
