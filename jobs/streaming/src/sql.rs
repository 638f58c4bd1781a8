//! The SQL of job files: text -> [`Script`] -> [`Dataflow`](crate::dataflow::Dataflow).
//!
//! [`parse`] reads a file and finds every mistake in its statements; [`plan`] turns INSERTs or a bare SELECT into
//! operators; [`explain`] shows them. Built on DataFusion's SQL planner, without a fork: what it does not know (event
//! time, windows in FROM, models) is read by our own code around it.
//!
//! Invariant: what the streaming operators cannot do is refused here, with the construct's name and place.

mod aggregate;
mod as_of;
mod catalog;
mod create;
mod cursor;
mod depth;
mod describe;
mod dialect;
mod errors;
mod explain;
mod first_rows;
mod graph;
mod group_window;
mod grouping_sets;
mod join;
mod lacking;
mod late_rows;
mod lifetime;
mod lookup;
mod lower;
mod nested;
mod not_null;
mod ordered;
mod over;
mod parameters;
mod parse;
mod physical;
mod plan;
mod precedence;
mod prune;
mod refuse;
mod repeatable;
mod returning;
mod row_values;
mod settings;
mod shared;
mod spans;
mod split;
mod statements;
mod subqueries;
mod table_as;
mod target;
mod temporal;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod two_phase;
mod types;
mod unique;
mod unnest;
mod uses;
mod values;
mod version;
mod window;

pub use describe::describe;
pub(crate) use explain::told as told_operator;
pub use explain::{explain, explain_dot, explain_json};
pub use lacking::{Completed, Lacking, completed, lacking};
pub use parse::{parse, parse_with};
pub use plan::plan;
pub use settings::SETTINGS;
pub use split::ScriptJob;
pub use statements::{
    Column, ColumnKind, InsertStatement, ModelStatement, Script, SelectQuery, Setting, ShowWhat, Statement,
    StatementBody, TableAsStatement, TableStatement, ViewStatement, WatermarkClause,
};
pub use text::{Name, Span};
pub use types::sql_name;

pub(crate) use as_of::place_of as as_of_place;
pub(crate) use catalog::Catalog;
pub(crate) use depth::with_room;
pub(crate) use errors::Place;
pub(crate) use late_rows::mistakes as late_rows_mistakes;
pub(crate) use lower::interval_us;
pub(crate) use nested::{same_but_names, spelled_field};
pub(crate) use not_null::enforced as not_null_enforced;
pub(crate) use parameters::{bind, wanted as wanted_parameters};
pub(crate) use plan::{fit, for_each_scan, plan_now, settle, target};
pub(crate) use settings::EXECUTION_MODE;
pub(crate) use subqueries::exists as by_exists;
pub(crate) use unique::unique_keys;
pub(crate) use window::WindowNode;

use crate::batch::Mode;
use crate::functions::{Functions, declared_predict};
use jobs::Diagnostic;

/// Reads a file and plans all of it, as it would be at submission, with no model at hand.
pub fn check(text: &str) -> Result<Script, Vec<Diagnostic>> {
    check_with(text, &Functions::new())
}

/// The same, for a program that has functions of its own.
pub fn check_with(text: &str, functions: &Functions) -> Result<Script, Vec<Diagnostic>> {
    let script = parse_with(text, functions)?;
    let functions = declared_predict().and(functions);
    let mut errors = Vec::new();
    let mut checked = Vec::new();
    for (at, statement) in script.statements.iter().enumerate() {
        checked.push(match statement.body.explained() {
            StatementBody::Set(_) | StatementBody::Table(_) | StatementBody::View(_) | StatementBody::Explain(_) => {
                continue;
            }
            StatementBody::Insert(_) | StatementBody::TableAs(_) if Mode::of(&script) == Mode::Batch => {
                crate::batch::check_insert(&script, &[at], &functions)
            }
            StatementBody::Insert(_) | StatementBody::TableAs(_) => plan_now(&script, &[at], &functions).map(|_| ()),
            StatementBody::Describe(_) | StatementBody::Show(_) => describe(&script, at, &functions).map(|_| ()),
            StatementBody::Model(_) => crate::batch::check_statement(&script, at, &functions),
            StatementBody::Query(_) if crate::batch::bounded(&script, at) => {
                crate::batch::check_statement(&script, at, &functions)
            }
            StatementBody::Query(_) => plan_now(&script, &[at], &functions).map(|_| ()),
        });
    }
    let planned = !checked.is_empty();
    for result in checked {
        for error in result.err().into_iter().flatten() {
            // A mistake in a view is found by everything that is planned.
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
    }
    if !planned && let Err(found) = with_room(|| Catalog::new(&script, &functions, None, None).map(|_| ())) {
        errors = found;
    }
    if errors.is_empty() { Ok(script) } else { Err(errors) }
}
