//! Which relations and models a query names, read off its syntax before anything is planned.

use super::dialect::TABLE_ARGUMENT;
use crate::functions::names_versions;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Join, JoinConstraint, JoinOperator, ObjectName, Query,
    SetExpr, SetOperator, SetQuantifier, TableFactor, TableWithJoins, Value, Visit, Visitor, visit_expressions,
};
use jobs::Diagnostic;
use jobs::text::model_reference;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// In lower case the relations, as written the models.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) relations: BTreeSet<String>,
    pub(crate) models: BTreeSet<String>,
    /// Whether a table is joined as it is at a moment.
    pub(crate) as_of: bool,
}

pub(crate) fn of(query: &Query) -> Result<Uses, Diagnostic> {
    let mut collect = Collect::default();
    match query.visit(&mut collect) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => {
            let Collect { mut uses, own } = collect;
            uses.relations.retain(|name| !own.contains(name));
            Ok(uses)
        }
    }
}

/// Clauses that the parser reads and the planner passes over: the answer would be that of another query.
fn passed_over(query: &Query) -> Option<&'static str> {
    let of_query = [
        (!query.locks.is_empty(), "FOR UPDATE"),
        (query.for_clause.is_some(), "FOR"),
        (query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties), "WITH TIES (write RANK() OVER (ORDER BY …) <= n)"),
        (query.settings.is_some(), "SETTINGS"),
        (query.format_clause.is_some(), "FORMAT"),
    ];
    of_query.into_iter().find(|(written, _)| *written).map(|(_, name)| name).or_else(|| in_body(&query.body))
}

fn in_body(body: &SetExpr) -> Option<&'static str> {
    match body {
        SetExpr::Select(select) => {
            let of_select = [
                (select.into.is_some(), "SELECT INTO"),
                (select.top.is_some(), "TOP (write ORDER BY … LIMIT n)"),
                (select.prewhere.is_some(), "PREWHERE"),
                (!select.connect_by.is_empty(), "CONNECT BY"),
                (select.value_table_mode.is_some(), "SELECT AS STRUCT"),
                (select.select_modifiers.is_some(), "this SELECT modifier"),
                (select.exclude.is_some(), "EXCLUDE after the SELECT list"),
            ];
            let of_select = of_select.into_iter().find(|(written, _)| *written).map(|(_, name)| name);
            of_select.or_else(|| select.from.iter().find_map(in_from))
        }
        SetExpr::SetOperation { op, set_quantifier, left, right } => {
            let counts = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
            match op {
                SetOperator::Except if counts => Some("EXCEPT ALL"),
                SetOperator::Intersect if counts => Some("INTERSECT ALL"),
                _ => in_body(left).or_else(|| in_body(right)),
            }
        }
        // Visited as a query of its own.
        SetExpr::Query(_) | SetExpr::Values(_) => None,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) | SetExpr::Table(_) => {
            Some("this form of a query")
        }
    }
}

/// A column of USING is that of whichever side has the row; the planner takes the left side's, which may have none.
fn in_from(from: &TableWithJoins) -> Option<&'static str> {
    let of_join = |join: &Join| match &join.join_operator {
        JoinOperator::Right(by) | JoinOperator::RightOuter(by) => {
            merges(by).then_some("USING or NATURAL in a RIGHT JOIN (write ON, or a LEFT JOIN the other way round)")
        }
        JoinOperator::CrossApply => Some("CROSS APPLY (write CROSS JOIN LATERAL)"),
        JoinOperator::OuterApply => Some("OUTER APPLY (write LEFT JOIN LATERAL … ON TRUE)"),
        JoinOperator::FullOuter(by) => {
            merges(by).then_some("USING or NATURAL in a FULL JOIN (write ON, and coalesce(left.column, right.column))")
        }
        _ => None,
    };
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => in_from(table_with_joins),
        TableFactor::Pivot { .. } => Some("PIVOT (write SUM(…) FILTER (WHERE column = value) for each value)"),
        TableFactor::Unpivot { .. } => Some("UNPIVOT (write a UNION ALL of a SELECT for each column)"),
        TableFactor::MatchRecognize { .. } => {
            Some("MATCH_RECOGNIZE (compare rows by LAG(…) OVER, or join the table with itself)")
        }
        _ => None,
    };
    nested(&from.relation).or_else(|| {
        let of_join = |join: &Join| of_join(join).or_else(|| asks_in_on(join)).or_else(|| nested(&join.relation));
        from.joins.iter().find_map(of_join)
    })
}

/// A subquery in ON would be one of the row that both sides make.
fn asks_in_on(join: &Join) -> Option<&'static str> {
    let (JoinOperator::Left(by)
    | JoinOperator::LeftOuter(by)
    | JoinOperator::Right(by)
    | JoinOperator::RightOuter(by)
    | JoinOperator::FullOuter(by)
    | JoinOperator::Join(by)
    | JoinOperator::Inner(by)) = &join.join_operator
    else {
        return None;
    };
    let JoinConstraint::On(condition) = by else { return None };
    let inner = matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_));
    let asks = |expr: &Expr| match expr {
        Expr::Exists { .. } | Expr::Subquery(_) => true,
        Expr::InSubquery { .. } => !inner,
        _ => false,
    };
    let found = visit_expressions(condition, |expr| match asks(expr) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_break().then_some(match inner {
        true => "a subquery in ON (write it in WHERE)",
        false => "a subquery in the ON of an outer join (join with a SELECT that has the condition in its WHERE)",
    })
}

fn merges(by: &JoinConstraint) -> bool {
    matches!(by, JoinConstraint::Using(_) | JoinConstraint::Natural)
}

#[derive(Default)]
struct Collect {
    uses: Uses,
    /// Common table expressions.
    own: BTreeSet<String>,
}

impl Visitor for Collect {
    type Break = Diagnostic;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Diagnostic> {
        if let Some(construct) = passed_over(query) {
            let (what, help) = construct.split_once(" (").unwrap_or((construct, ""));
            let error = Diagnostic::new(format!("{what} is not supported"));
            return ControlFlow::Break(match help.strip_suffix(')') {
                Some(help) => error.help(help),
                None => error,
            });
        }
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.own.extend(ctes.map(|cte| cte.alias.name.value.to_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Diagnostic> {
        if let [part] = relation.0.as_slice()
            && let Some(name) = part.as_ident()
        {
            self.uses.relations.insert(name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Diagnostic> {
        self.uses.as_of |= matches!(factor, TableFactor::Table { version: Some(_), .. });
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Diagnostic> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        let first = match &function.args {
            FunctionArguments::List(list) => list.args.first(),
            _ => None,
        };
        let first = match first {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) => Some(first),
            _ => None,
        };
        if name == TABLE_ARGUMENT
            && let Some(Expr::Identifier(table)) = first
        {
            self.uses.relations.insert(table.value.to_lowercase());
        }
        if names_versions(&name) {
            let literal = match first {
                Some(Expr::Value(literal)) => Some(&literal.value),
                _ => None,
            };
            let Some(Value::SingleQuotedString(model)) = literal else {
                let message = format!("the first argument of {name} is the model's name as a string");
                return ControlFlow::Break(Diagnostic::new(message));
            };
            if let (_, Some("")) | ("", _) = model_reference(model) {
                let message = format!("'{model}' in {name} is no model: it is 'name', 'name@3' or 'name@alias'");
                return ControlFlow::Break(Diagnostic::new(message));
            }
            self.uses.models.insert(model.clone());
        }
        ControlFlow::Continue(())
    }
}
