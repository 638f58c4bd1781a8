//! `IS [NOT] DISTINCT FROM` binds tighter than AND, OR and NOT, as `IS NULL` does; the SQL parser reads all that follows it as
//! its right side.
//!
//! Invariant: a tree that says what the parser should have read is left as it is. What stands in parentheses is a node of
//! its own there, so only what the parser took too much is moved.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitMut, VisitorMut};
use std::ops::ControlFlow;

/// Mends all expressions of a parsed piece.
pub(crate) fn settle(parsed: &mut impl VisitMut) {
    let _ = parsed.visit(&mut Settle);
}

struct Settle;

impl VisitorMut for Settle {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some((right, than)) = last(expr)
            && is_looser(right, than)
        {
            lift(expr);
        }
        ControlFlow::Continue(())
    }
}

/// The last operand of what may have taken too much, and how tightly that binds.
fn last(expr: &mut Expr) -> Option<(&mut Expr, Binds)> {
    match expr {
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => Some((right, Binds::Not)),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Some((expr, Binds::Not)),
        Expr::BinaryOp { op: BinaryOperator::And, right, .. } => Some((right, Binds::And)),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    Or,
    And,
    Not,
}

fn binds(expr: &Expr) -> Option<Binds> {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Or, .. } => Some(Binds::Or),
        Expr::BinaryOp { op: BinaryOperator::And, .. } => Some(Binds::And),
        _ => None,
    }
}

fn is_looser(expr: &Expr, than: Binds) -> bool {
    binds(expr).is_some_and(|binds| binds < than)
}

/// Puts `expr` around the leftmost operand of its last one, and what that was in the place of `expr`.
fn lift(expr: &mut Expr) {
    let hole = || Expr::Value(Value::Null.into());
    let Some((right, than)) = last(expr) else { return };
    let mut above = std::mem::replace(right, hole());
    let mut leaf = &mut above;
    while is_looser(leaf, than) {
        let Expr::BinaryOp { left, .. } = leaf else { unreachable!("only these are looser") };
        leaf = left;
    }
    std::mem::swap(right, leaf);
    *leaf = std::mem::replace(expr, hole());
    *expr = above;
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn read(text: &str) -> Expr {
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).expect("tokens");
        let mut expr = parser.parse_expr().expect(text);
        settle(&mut expr);
        expr
    }

    /// With parentheses around every operator, and no others.
    fn told(mut expr: Expr) -> String {
        struct Wrap;
        impl VisitorMut for Wrap {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                *expr = match &*expr {
                    Expr::Nested(inner) => (**inner).clone(),
                    Expr::BinaryOp { .. }
                    | Expr::UnaryOp { .. }
                    | Expr::IsDistinctFrom(..)
                    | Expr::IsNotDistinctFrom(..) => Expr::Nested(Box::new(expr.clone())),
                    other => other.clone(),
                };
                ControlFlow::Continue(())
            }
        }
        let _ = expr.visit(&mut Wrap);
        expr.to_string()
    }

    #[test]
    fn what_follows_is_no_part_of_it() {
        for (text, meant) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("a IS NOT DISTINCT FROM b OR c AND d", "(a IS NOT DISTINCT FROM b) OR (c AND d)"),
            ("x AND a IS DISTINCT FROM b OR c", "(x AND (a IS DISTINCT FROM b)) OR c"),
            ("x OR a IS DISTINCT FROM b AND c", "x OR ((a IS DISTINCT FROM b) AND c)"),
            ("NOT a IS DISTINCT FROM b AND c OR d", "((NOT (a IS DISTINCT FROM b)) AND c) OR d"),
            ("a IS DISTINCT FROM b + 1 AND c > 2", "(a IS DISTINCT FROM (b + 1)) AND (c > 2)"),
            ("a IS DISTINCT FROM (b AND c) OR d", "(a IS DISTINCT FROM (b AND c)) OR d"),
            ("x AND (a OR b) AND NOT (c OR d)", "(x AND (a OR b)) AND (NOT (c OR d))"),
            (
                "CASE WHEN a IS DISTINCT FROM b AND c THEN 1 END = 1 AND d",
                "(CASE WHEN (a IS DISTINCT FROM b) AND c THEN 1 END = 1) AND d",
            ),
        ] {
            assert_eq!(told(read(text)), told(read(meant)), "{text}");
        }
    }
}
