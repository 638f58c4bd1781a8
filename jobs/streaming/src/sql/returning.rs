//! `json_value(x, '$.a' RETURNING BIGINT)` is a cast of `json_value(x, '$.a')`, which gives null where it cannot.

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, FunctionArgumentClause, FunctionArguments, JsonReturningClause, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// Mends all expressions of a parsed piece.
pub(crate) fn settle(parsed: &mut impl VisitMut) {
    let _ = parsed.visit(&mut Settle);
}

struct Settle;

impl VisitorMut for Settle {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        if !call.name.to_string().eq_ignore_ascii_case("json_value") {
            return ControlFlow::Continue(());
        }
        let FunctionArguments::List(list) = &mut call.args else { return ControlFlow::Continue(()) };
        let [FunctionArgumentClause::JsonReturningClause(JsonReturningClause { data_type })] = list.clauses.as_slice()
        else {
            return ControlFlow::Continue(());
        };
        let data_type = data_type.clone();
        list.clauses.clear();
        let call = Box::new(expr.clone());
        *expr = Expr::Cast { kind: CastKind::TryCast, expr: call, data_type, array: false, format: None };
        ControlFlow::Continue(())
    }
}
