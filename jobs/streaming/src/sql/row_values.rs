//! `(a, b) IN (SELECT c, d …)`, which the planner does not know, by EXISTS.
//!
//! `(a, b) = (c, d)` is `a = c AND b = d`. A row is among others where that is true for one of them, unknown where it is so for
//! one and true for none, else not among them. In WHERE, beside AND and OR alone, unknown is as good as false.

use super::dialect::StreamDialect;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Query, Select, SetExpr, TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use jobs::Diagnostic;
use std::ops::ControlFlow;

/// The name of the subquery's rows, which no file can write.
pub(crate) const ROW: &str = "#row";

/// Mends all expressions of a query.
pub(crate) fn expand(query: &mut Query) -> Result<(), Diagnostic> {
    match query.visit(&mut Expand) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Expand;

impl VisitorMut for Expand {
    type Break = Diagnostic;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Diagnostic> {
        in_body(&mut query.body)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Diagnostic> {
        broken(replace(expr, false))
    }
}

fn broken(result: Result<(), Diagnostic>) -> ControlFlow<Diagnostic> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

/// A nested query is visited as one of its own.
fn in_body(body: &mut SetExpr) -> ControlFlow<Diagnostic> {
    match body {
        SetExpr::Select(select) => {
            let Select { selection, having, .. } = select.as_mut();
            broken(selection.iter_mut().chain(having).try_for_each(choose))
        }
        SetExpr::SetOperation { left, right, .. } => {
            in_body(left)?;
            in_body(right)
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Replaces what stands beside AND and OR alone.
fn choose(expr: &mut Expr) -> Result<(), Diagnostic> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            choose(left)?;
            choose(right)
        }
        Expr::Nested(inner) => choose(inner),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } if row_of(inner).is_some() => {
            if let Expr::InSubquery { negated, .. } = inner.as_mut() {
                *negated = !*negated;
            }
            *expr = std::mem::replace(inner, null());
            replace(expr, true)
        }
        expr => replace(expr, true),
    }
}

/// The items of a row that is asked for in a subquery.
fn row_of(expr: &Expr) -> Option<&[Expr]> {
    fn tuple(expr: &Expr) -> Option<&[Expr]> {
        match expr {
            Expr::Tuple(items) => Some(items),
            Expr::Nested(inner) => tuple(inner),
            _ => None,
        }
    }
    match expr {
        Expr::InSubquery { expr, .. } => tuple(expr),
        _ => None,
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

fn replace(expr: &mut Expr, chooses: bool) -> Result<(), Diagnostic> {
    let Some(items) = row_of(expr).map(<[Expr]>::to_vec) else { return Ok(()) };
    let Expr::InSubquery { subquery, negated, .. } = expr else { return Ok(()) };
    let (subquery, negated) = (std::mem::replace(subquery.as_mut(), template(1, "TRUE")?), *negated);
    let equal = items.into_iter().enumerate().map(|(at, item)| {
        let names = vec![Ident::with_quote('"', ROW), Ident::with_quote('"', column(at))];
        let own = Expr::CompoundIdentifier(names);
        binary(item, BinaryOperator::Eq, own)
    });
    let equal: Vec<Expr> = equal.collect();
    let n_columns = equal.len();
    let Some(equal) = equal.into_iter().reduce(|all, one| binary(all, BinaryOperator::And, one)) else { return Ok(()) };
    let exists = |condition: Expr, negated: bool| -> Result<Expr, Diagnostic> {
        let mut query = template(n_columns, "TRUE")?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.selection = Some(condition);
            if let Some(TableFactor::Derived { subquery: rows, .. }) =
                select.from.first_mut().map(|from| &mut from.relation)
            {
                **rows = subquery.clone();
            }
        }
        Ok(Expr::Exists { subquery: Box::new(query), negated })
    };
    let nested = |expr: Expr| Box::new(Expr::Nested(Box::new(expr)));
    *expr = match (chooses, negated) {
        (true, false) => exists(equal, false)?,
        (true, true) => exists(Expr::IsNotFalse(nested(equal)), true)?,
        (false, negated) => {
            let when = |condition, result| datafusion::sql::sqlparser::ast::CaseWhen { condition, result };
            let truth = |value: bool| Expr::Value(Value::Boolean(value).into());
            let found = exists(equal.clone(), false)?;
            let unknown = exists(Expr::IsNull(nested(equal)), false)?;
            Expr::Case {
                case_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
                end_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![when(found, truth(!negated)), when(unknown, null())],
                else_result: Some(Box::new(truth(negated))),
            }
        }
    };
    Ok(())
}

fn column(at: usize) -> String {
    format!("#{at}")
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// `SELECT 1 FROM (…) AS "#row" ("#0", …) WHERE condition`.
fn template(n_columns: usize, condition: &str) -> Result<Query, Diagnostic> {
    let names: Vec<String> = (0..n_columns).map(|at| format!("\"{}\"", column(at))).collect();
    let text = format!("SELECT 1 FROM (SELECT 1) AS \"{ROW}\" ({}) WHERE {condition}", names.join(", "));
    let parsed = Parser::new(&StreamDialect { versions: false }).try_with_sql(&text);
    let parsed = parsed.and_then(|mut parser| parser.parse_query());
    parsed.map(|query| *query).map_err(|error| Diagnostic::new(error.to_string()))
}
