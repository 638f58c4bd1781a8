//! What streams cannot do yet, refused by the construct's name and place.
//!
//! Invariant: what is not known to be right is refused; the planner behind this never has to guess.

use super::errors::Place;
use super::group_window::grouping_call;
use super::parameters::no_value;
use super::text::Span;
use super::time::is_event_time;
use super::unique::unique_keys;
use crate::functions::{CURRENT_WATERMARK, names_versions};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, Operator, Subquery};
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
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Extension(_) => return None,
        // What it compares with the row would be taken out of it, and other rows be the first.
        LogicalPlan::Window(window) if refers_outside(&window.input) => {
            let error = refuse("OVER, or ORDER BY … LIMIT, in a subquery that depends on the row", subquery(places));
            let error = error.help("compare with the row above it, or write a join");
            return Some(at(error.clone(), error.span.or_else(|| find(places, &[&["LATERAL"]]))));
        }
        LogicalPlan::Window(_) => return None,
        LogicalPlan::Sort(_) => {
            let error = refuse("ORDER BY without LIMIT", find(places, &[&["ORDER", "BY"]]));
            return Some(error.help("add LIMIT n, for the first rows in this order"));
        }
        LogicalPlan::Limit(limit) if limit.fetch.is_none() => {
            let error = refuse("OFFSET without LIMIT", find(places, &[&["OFFSET"]]));
            return Some(error.help("write ORDER BY … LIMIT n OFFSET m"));
        }
        LogicalPlan::Limit(_) => {
            let error = refuse("LIMIT without ORDER BY", find(places, &[&["LIMIT"], &["FETCH"], &["OFFSET"]]));
            return Some(error.help("write ORDER BY … LIMIT n, so that it is settled which rows are the first"));
        }
        LogicalPlan::Distinct(Distinct::On(_)) => ("DISTINCT ON", &[&["DISTINCT", "ON"]]),
        LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE", &[&["RECURSIVE"]]),
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

/// Whether a part of a subquery refers to the row outside.
fn refers_outside(plan: &LogicalPlan) -> bool {
    let mut refers = false;
    // The closure never fails, so neither does the walk.
    let _ = plan.apply(|node| {
        if matches!(node, LogicalPlan::Subquery(_)) {
            // What a LATERAL in it refers to is in it as well.
            return Ok(TreeNodeRecursion::Jump);
        }
        node.apply_expressions(|expr| {
            refers |= expr.contains_outer();
            Ok(TreeNodeRecursion::Continue)
        })
    });
    refers
}

/// A subquery that no rule could make a join of.
pub(crate) fn left_over(plan: &LogicalPlan, places: &[Place<'_>]) -> Option<Diagnostic> {
    let (mut lateral, mut in_expr) = (false, false);
    // The closure never fails, so neither does the walk.
    let _ = plan.apply(|node| {
        node.apply_expressions(|expr| {
            in_expr |= expr.exists(|expr| {
                Ok(matches!(
                    expr,
                    Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
                ))
            })?;
            lateral |= expr.contains_outer();
            Ok(TreeNodeRecursion::Continue)
        })
    });
    let (what, span) = match (in_expr, lateral) {
        (true, _) => ("a subquery in this place", subquery(places)),
        (false, true) => ("a LATERAL subquery of this form", find(places, &[&["LATERAL"]])),
        (false, false) => return None,
    };
    let error = refuse(what, span.or_else(|| find(places, &[])));
    Some(error.help("write it as a join, with what it compares in ON"))
}

/// The first row of an order is one, where the order is that of all rows; of a row outside it is not known to be.
fn gives_one_row(scalar: &Subquery) -> bool {
    let first = || scalar.outer_ref_columns.is_empty() && unique_keys(&scalar.subquery).iter().any(Vec::is_empty);
    scalar.subquery.max_rows() == Some(1) || first()
}

fn of_expr(expr: &Expr, places: &[Place<'_>]) -> Option<Diagnostic> {
    match expr {
        Expr::SetComparison(_) => {
            Some(refuse("a comparison with ANY or ALL of a subquery", subquery(places).or_else(|| find(places, &[]))))
        }
        Expr::ScalarSubquery(scalar) if !gives_one_row(scalar) => {
            let error = refuse("a subquery that may give several rows, as a value,", subquery(places));
            let span = error.span.or_else(|| find(places, &[]));
            Some(at(error.help("aggregate it, for example with MAX(…), write ORDER BY … LIMIT 1, or join"), span))
        }
        Expr::BinaryExpr(BinaryExpr { op, .. }) if is_never_computed(*op) => {
            let text = op.to_string();
            Some(refuse(&format!("the operator {text}"), symbol(places, &text).or_else(|| find(places, &[]))))
        }
        Expr::Placeholder(parameter) => {
            let span = places.iter().find_map(|place| place.find_parameter(&parameter.id));
            Some(no_value(&parameter.id, span))
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
