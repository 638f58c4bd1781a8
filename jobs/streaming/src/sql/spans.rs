//! Where in the file an operator comes from: the places of the columns that it names, or the clause that names them.

use super::errors::Place;
use super::statements::Script;
use super::text::{Span, Tok};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::collections::BTreeSet;

/// Words with which the clauses of a query begin.
const CLAUSES: [&str; 16] = [
    "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "ON", "USING", "JOIN", "INNER", "LEFT",
    "RIGHT", "FULL", "QUALIFY",
];

/// Of this node of a plan, in rising order; none where nothing says.
pub(crate) fn of(plan: &LogicalPlan, script: &Script, places: &[Place<'_>]) -> Vec<Span> {
    let (mut spans, mut names) = (Vec::new(), BTreeSet::new());
    for expr in plan.expressions() {
        // The closure never fails, so neither does the walk.
        let _ = expr.apply(|expr| {
            if let Expr::Column(column) = expr {
                names.insert(column.name.to_lowercase());
                spans.extend(column.spans.iter().map(|span| {
                    let at = |place: datafusion::common::Location| script.positions.offset(place.line, place.column);
                    (at(span.start), at(span.end))
                }));
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
    if spans.is_empty() {
        // A rewritten expression has lost its places.
        let clauses: &[&str] = match plan {
            LogicalPlan::Filter(_) => &["WHERE", "HAVING", "ON", "QUALIFY"],
            LogicalPlan::Aggregate(_) => &["GROUP"],
            LogicalPlan::Join(_) => &["ON", "USING"],
            _ => &[],
        };
        spans.extend(places.iter().find_map(|place| clause(place.tokens, clauses, &names)));
    }
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// The first clause that begins with one of these words and has all of these names in it.
fn clause(tokens: &[Tok], begin: &[&str], names: &BTreeSet<String>) -> Option<Span> {
    let begins = (0..tokens.len()).filter(|at| begin.iter().any(|word| tokens[*at].is(word)));
    begins.into_iter().find_map(|from| {
        let mut depth = 0;
        let goes_on = |tok: &&Tok| {
            depth += i32::from(tok.is_token(&Token::LParen)) - i32::from(tok.is_token(&Token::RParen));
            depth >= 0 && !(depth == 0 && CLAUSES.iter().any(|word| tok.is(word)))
        };
        let within: Vec<&Tok> = tokens[from + 1..].iter().take_while(goes_on).collect();
        let words: BTreeSet<String> =
            within.iter().filter_map(|tok| tok.word().map(|word| word.value.to_lowercase())).collect();
        let last = within.last()?;
        names.is_subset(&words).then_some((tokens[from].span.0, last.span.1))
    })
}
