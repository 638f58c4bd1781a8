//! What streams cannot do yet, refused by the construct's name and place.
//!
//! Invariant: what is not known to be right is refused; the planner behind this never has to guess.

use super::errors::Place;
use super::group_window::grouping_call;
use super::text::Span;
use super::time::is_event_time;
use crate::functions::{CURRENT_WATERMARK, names_versions};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, Operator};
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;

/// Functions whose value is the moment of planning: in a stream it would stand still.
const CLOCKS: [&str; 5] = ["now", "current_timestamp", "current_date", "current_time", "today"];

/// All of `plan` that a stream cannot do. `places` are the statement and the views that it uses, in that order.
pub(crate) fn refusals(plan: &LogicalPlan, places: &[Place<'_>]) -> Result<Vec<Diagnostic>> {
    let mut found: Vec<Diagnostic> = Vec::new();
    plan.apply(|node| {
        found.extend(of_node(node, places));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found.extend(of_expr(expr, places));
                found.extend(of_watermark(expr, node, places));
                found.extend(of_versions(expr, node, places));
                if let Expr::ScalarSubquery(subquery)
                | Expr::Exists(Exists { subquery, .. })
                | Expr::InSubquery(InSubquery { subquery, .. }) = expr
                {
                    found.extend(refusals(&subquery.subquery, places)?);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let mut kept: Vec<Diagnostic> = Vec::new();
    for error in found {
        if !kept.iter().any(|earlier| earlier.message == error.message) {
            kept.push(error);
        }
    }
    Ok(kept)
}

fn of_node(node: &LogicalPlan, places: &[Place<'_>]) -> Option<Diagnostic> {
    let (what, words): (&str, &[&[&str]]) = match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Extension(_) => return None,
        LogicalPlan::Sort(_) => ("ORDER BY", &[&["ORDER", "BY"]]),
        LogicalPlan::Limit(_) => ("LIMIT", &[&["LIMIT"], &["FETCH"], &["OFFSET"]]),
        LogicalPlan::Distinct(Distinct::On(_)) => ("DISTINCT ON", &[&["DISTINCT", "ON"]]),
        LogicalPlan::Values(_) => ("VALUES", &[&["VALUES"]]),
        LogicalPlan::EmptyRelation(_) => ("a query without a table", &[&["SELECT"]]),
        LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE", &[&["RECURSIVE"]]),
        LogicalPlan::Subquery(_) => ("a lateral subquery", &[&["LATERAL"]]),
        LogicalPlan::Repartition(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => ("this statement", &[]),
    };
    Some(refuse(what, find(places, words)))
}

fn of_expr(expr: &Expr, places: &[Place<'_>]) -> Option<Diagnostic> {
    match expr {
        Expr::SetComparison(_) => {
            Some(refuse("a comparison with ANY or ALL of a subquery", subquery(places).or_else(|| find(places, &[]))))
        }
        Expr::ScalarSubquery(scalar) if scalar.subquery.max_rows() != Some(1) => {
            let error = refuse("a subquery that may give several rows, as a value,", subquery(places));
            let span = error.span.or_else(|| find(places, &[]));
            Some(at(error.help("aggregate it, for example with MAX(…), or join"), span))
        }
        Expr::BinaryExpr(BinaryExpr { op, .. }) if is_never_computed(*op) => {
            let text = op.to_string();
            Some(refuse(&format!("the operator {text}"), symbol(places, &text).or_else(|| find(places, &[]))))
        }
        Expr::Unnest(_) => Some(refuse("UNNEST", find(places, &[&["UNNEST"]]))),
        Expr::ScalarFunction(call) if CLOCKS.contains(&call.func.name()) && call.args.is_empty() => {
            let name = call.func.name();
            let span = find(places, &[&[name], &["current_timestamp"], &["current_date"], &["today"]]);
            let message =
                format!("{name}() is not supported in a stream: it would be the time at which the job was planned");
            Some(at(Diagnostic::new(message).help("use the rows' event time"), span))
        }
        Expr::ScalarFunction(call) if grouping_call(expr).is_some() => {
            let name = call.func.name();
            let message = format!("{name} belongs in GROUP BY, or in FROM as TABLE({}(…))", name.to_uppercase());
            Some(at(Diagnostic::new(message), find(places, &[&[name]])))
        }
        _ => None,
    }
}

/// Operators that DataFusion plans, and has nothing to compute them by, where no function stands for them.
fn is_never_computed(op: Operator) -> bool {
    use Operator::{
        Arrow, ArrowAt, AtArrow, AtAt, AtQuestion, Colon, HashArrow, HashLongArrow, HashMinus, IntegerDivide,
        LongArrow, Question, QuestionAnd, QuestionPipe,
    };
    let json = matches!(op, Arrow | LongArrow | HashArrow | HashLongArrow | HashMinus | Colon);
    let contains = matches!(op, AtArrow | ArrowAt | AtAt | AtQuestion | Question | QuestionAnd | QuestionPipe);
    json || contains || op == IntegerDivide
}

/// Where this operator stands.
fn symbol(places: &[Place<'_>], text: &str) -> Option<Span> {
    places.iter().find_map(|place| {
        let found = place.tokens.iter().find(|tok| tok.token.token.to_string().eq_ignore_ascii_case(text))?;
        Some(found.span)
    })
}

/// A call of a function that has versions where no operator would learn of a newer one.
fn of_versions(expr: &Expr, node: &LogicalPlan, places: &[Place<'_>]) -> Option<Diagnostic> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let name = call.func.name();
    if !names_versions(name) || !matches!(node, LogicalPlan::Join(_)) {
        return None;
    }
    let error = Diagnostic::new(format!("{name} in the condition of a join is not supported in a stream"));
    let error = error.help("name it in the SELECT list of a view or subquery, and join by that name");
    Some(at(error, find(places, &[&[name], &["ml_predict"]])))
}

/// A call of CURRENT_WATERMARK where there is none to give, or of another column than event time.
fn of_watermark(expr: &Expr, node: &LogicalPlan, places: &[Place<'_>]) -> Option<Diagnostic> {
    let Expr::ScalarFunction(call) = expr else { return None };
    if call.func.name() != CURRENT_WATERMARK {
        return None;
    }
    let refuse = |error: Diagnostic| Some(at(error, find(places, &[&[CURRENT_WATERMARK]])));
    let input = match (node, node.inputs().as_slice()) {
        (LogicalPlan::Projection(_) | LogicalPlan::Filter(_), [input]) => *input,
        _ => {
            let error = Diagnostic::new("CURRENT_WATERMARK belongs in a SELECT list or in WHERE");
            return refuse(error.help("name it in the SELECT list of a view or subquery, and use that name"));
        }
    };
    let column = match call.args.as_slice() {
        [Expr::Column(column)] => input.schema().maybe_index_of_column(column),
        _ => None,
    };
    if column.is_some_and(|column| is_event_time(input, column)) {
        return None;
    }
    refuse(
        Diagnostic::new("the argument of CURRENT_WATERMARK is a column of event time")
            .help("it is the column of which a table declares WATERMARK FOR column AS …, or a window_time"),
    )
}

fn refuse(what: &str, span: Option<Span>) -> Diagnostic {
    at(Diagnostic::new(format!("{what} is not supported in a stream yet")), span)
}

pub(crate) fn at(error: Diagnostic, span: Option<Span>) -> Diagnostic {
    Diagnostic { span, ..error }
}

/// The first of the words that stands anywhere; else the whole statement.
pub(crate) fn find(places: &[Place<'_>], words: &[&[&str]]) -> Option<Span> {
    words
        .iter()
        .find_map(|words| places.iter().find_map(|place| place.find(words)))
        .or_else(|| places.first().map(Place::span))
}

/// A parenthesis with a query in it that does not stand where a table may.
pub(crate) fn subquery(places: &[Place<'_>]) -> Option<Span> {
    places.iter().find_map(|place| {
        place.tokens.windows(3).find_map(|toks| {
            let table = toks[0].is("FROM") || toks[0].is("JOIN") || toks[0].is("AS") || toks[0].is_token(&Token::Comma);
            let opens = toks[1].is_token(&Token::LParen) && (toks[2].is("SELECT") || toks[2].is("WITH"));
            (opens && !table).then(|| (toks[1].span.0, toks[2].span.1))
        })
    })
}
