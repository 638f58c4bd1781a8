//! `FOR SYSTEM_TIME AS OF` behind a table's name in FROM.
//!
//! The table becomes a [`VersionNode`], which stands in the plan until the join that it belongs to is found
//! ([`super::as_of`]): the moment is a column of the join's other side, which the planner of a table does not see.

use super::errors::external;
use super::text::{Positions, Span};
use datafusion::common::{DFSchemaRef, DataFusionError, Result};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, FunctionArguments, Ident, Spanned, TableFactor, TableVersion};
use jobs::Diagnostic;
use std::fmt;
use std::sync::Arc;

/// The moment as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) enum Moment {
    /// `PROCTIME()`.
    Now,
    /// A column, perhaps with the name of its table before it; in lower case.
    Column { relation: Option<String>, name: String },
}

/// A table as it was, or is, at a moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct VersionNode {
    pub(crate) input: LogicalPlan,
    pub(crate) moment: Moment,
    /// Of the moment.
    pub(crate) place: Option<Span>,
}

impl VersionNode {
    /// The version node that `plan` is, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl UserDefinedLogicalNodeCore for VersionNode {
    fn name(&self) -> &str {
        "Version"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Version")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => Ok(Self { input, ..self.clone() }),
            None => Err(DataFusionError::Plan("a version needs its table".into())),
        }
    }
}

/// Plans tables with a version.
#[derive(Debug)]
pub(crate) struct VersionPlanner {
    pub(crate) positions: Arc<Positions>,
}

impl RelationPlanner for VersionPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let mut relation = relation;
        let TableFactor::Table { version, alias, .. } = &mut relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let (version, name) = match version.take() {
            Some(version) => (version, alias.take()),
            None => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let TableVersion::ForSystemTimeAsOf(expr) = version else {
            let error = Diagnostic::new("this version of a table is not supported");
            return Err(external(error.help("write FOR SYSTEM_TIME AS OF")));
        };
        let span = expr.span();
        let place = (span.start.line > 0).then(|| self.positions.span(span.start, span.end));
        let Some(moment) = moment(&expr) else {
            let error = Diagnostic::new("FOR SYSTEM_TIME AS OF takes PROCTIME() or a column of the stream before JOIN");
            let error = error.help("name a column in a view, and write it here");
            return Err(external(Diagnostic { span: place, ..error }));
        };
        let input = context.plan(relation)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(VersionNode { input, moment, place }) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, name))))
    }
}

fn moment(expr: &SqlExpr) -> Option<Moment> {
    let key = |name: &Ident| name.value.to_lowercase();
    match expr {
        SqlExpr::Nested(inner) => moment(inner),
        SqlExpr::Identifier(name) => Some(Moment::Column { relation: None, name: key(name) }),
        SqlExpr::CompoundIdentifier(names) => match names.as_slice() {
            [relation, name] => Some(Moment::Column { relation: Some(key(relation)), name: key(name) }),
            _ => None,
        },
        SqlExpr::Function(call) if call.name.to_string().eq_ignore_ascii_case("proctime") => match &call.args {
            FunctionArguments::None => Some(Moment::Now),
            FunctionArguments::List(list) if list.args.is_empty() => Some(Moment::Now),
            _ => None,
        },
        _ => None,
    }
}
