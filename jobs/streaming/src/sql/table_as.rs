//! Tables that are declared by a query: their columns, and the key by which rows that are taken back are found again.
//!
//! Invariant: a key is read off the query or there is none; none is made up.

use super::catalog::Catalog;
use super::create::{Columns, settle};
use super::nested::spelled_field;
use super::plan::{Planned, rules};
use super::statements::{Column, ColumnKind, Script, StatementBody, TableAsStatement, TableStatement};
use super::text::{Name, Span};
use super::types::{canonical, sql_name};
use super::unique::unique_keys;
use crate::functions::{Functions, declared_predict};
use arrow::datatypes::{DataType, Field, FieldRef};
use connectors::{TableDef, Takes};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Spanned};
use jobs::Diagnostic;
use std::sync::Arc;

/// Plans the queries of all such tables and settles their declarations.
pub(crate) fn settle_tables(script: &mut Script, functions: &Functions) -> Result<(), Vec<Diagnostic>> {
    let waits = |body: &StatementBody| matches!(body, StatementBody::TableAs(_));
    if !script.statements.iter().any(|statement| waits(&statement.body)) {
        return Ok(());
    }
    // Names, types and keys do not depend on what a model says.
    let functions = declared_predict().and(functions);
    let catalog = Catalog::new(script, &functions, Some(rules()), None)?;
    let (mut settled, mut errors) = (Vec::new(), Vec::new());
    for (at, statement) in script.statements.iter().enumerate() {
        let StatementBody::TableAs(table) = &statement.body else { continue };
        let planned = Planned::new(script, &catalog, statement);
        match planned.and_then(|planned| declared(script, &catalog, table, &planned)) {
            Ok(table) => settled.push((at, table)),
            Err(found) => errors.extend(found),
        }
    }
    for (at, declared) in settled {
        if let StatementBody::TableAs(table) = &mut script.statements[at].body {
            table.table = Arc::new(TableStatement { temporary: table.table.temporary, ..declared });
        }
    }
    errors.dedup();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn declared(
    script: &Script,
    catalog: &Catalog,
    table: &TableAsStatement,
    planned: &Planned<'_>,
) -> Result<TableStatement, Vec<Diagnostic>> {
    let names = names(script, table, planned)?;
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for (name, field) in names.into_iter().zip(planned.plan.schema().fields()) {
        match kept_type(field.data_type()) {
            Some(data_type) => {
                let data_type = spelled_field(&Field::new("", data_type, true), script).data_type().clone();
                columns.push(Column { name, kind: ColumnKind::Physical(data_type) });
            }
            None => {
                let text = format!("'{}' is {}, which no table holds", name.text, sql_name(field.data_type()));
                errors.push(Diagnostic::new(text).at(name.span).help("write a CAST"));
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let changes = planned.gives_changes(script, catalog).map_err(|error| vec![error])?;
    let primary_key = if changes { key(table, planned, &columns)? } else { Vec::new() };
    let found = Columns { columns, primary_key, ..Columns::default() };
    let options = table.table.def.options.clone();
    let settled = settle(table.view.name.clone(), found, Vec::new(), options, table.table.span, &mut errors);
    let settled = settled.map_err(|error| vec![error])?;
    if errors.is_empty() { Ok(settled) } else { Err(errors) }
}

/// The names of the table's columns: those that are listed, else those of the query.
fn names(script: &Script, table: &TableAsStatement, planned: &Planned<'_>) -> Result<Vec<Name>, Vec<Diagnostic>> {
    if !table.view.columns.is_empty() {
        // That there are as many as the query has, is known since it is in the catalog.
        return Ok(table.view.columns.clone());
    }
    let items = items(&table.view.query.ast.body);
    let place = |index: usize| -> Option<Span> {
        let span = items.get(index)?.span();
        (span.start.line > 0).then(|| script.positions.span(span.start, span.end))
    };
    let mut errors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if !named(item, &planned.plan) {
            let text = format!("column {} of '{}' has no name", index + 1, table.view.name.text);
            errors.push(
                Diagnostic::new(text).at(place(index).unwrap_or(table.view.query.span)).help("give it a name with AS"),
            );
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // A wildcard stands for many columns.
    let one_each = items.len() == planned.plan.schema().fields().len();
    let span = |index: usize| if one_each { place(index) } else { None }.unwrap_or(table.view.name.span);
    // What is written behind AS here counts, however other statements write it.
    let written = |index: usize| match items.get(index) {
        Some(SelectItem::ExprWithAlias { alias, .. }) if one_each && alias.span.start.line > 0 => {
            let (start, end) = script.positions.span(alias.span.start, alias.span.end);
            Some(unquoted(&script.text()[start..end]))
        }
        _ => None,
    };
    let name = |(at, field): (usize, &FieldRef)| {
        let text = written(at).filter(|written| written.to_lowercase() == *field.name());
        Name { text: text.unwrap_or_else(|| script.spelled(field.name()).to_string()), span: span(at) }
    };
    Ok(planned.plan.schema().fields().iter().enumerate().map(name).collect())
}

/// A name without the quotes around it.
fn unquoted(written: &str) -> String {
    for quote in ['"', '`'] {
        if let Some(inner) = written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.replace(&format!("{quote}{quote}"), &quote.to_string());
        }
    }
    written.to_string()
}

/// The SELECT list that names the columns.
fn items(body: &SetExpr) -> &[SelectItem] {
    match body {
        SetExpr::Select(select) => &select.projection,
        SetExpr::SetOperation { left, .. } => items(left),
        SetExpr::Query(query) => items(&query.body),
        _ => &[],
    }
}

/// Whether the author, and not the planner, gave the column its name.
fn named(item: &SelectItem, plan: &LogicalPlan) -> bool {
    let known = |name: &str| {
        let name = name.to_lowercase();
        plan.schema().fields().iter().any(|field| *field.name() == name)
    };
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => known(&name.value),
        // The last part may be a field within a struct, which is no name of a column.
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().is_some_and(|name| known(&name.value)),
        SelectItem::UnnamedExpr(_) => false,
        _ => true,
    }
}

fn key(table: &TableAsStatement, planned: &Planned<'_>, columns: &[Column]) -> Result<Vec<Name>, Vec<Diagnostic>> {
    let keys = unique_keys(&planned.plan);
    if let Some(key) = keys.iter().find(|key| !key.is_empty()) {
        return Ok(key.iter().map(|column| columns[*column].name.clone()).collect());
    }
    let keyless = TableDef { primary_key: Vec::new(), ..table.table.def.clone() };
    let takes = connectors::find(keyless.connector()).map(|connector| connector.takes(&keyless));
    if takes == Some(Takes::Changes) {
        return Ok(Vec::new());
    }
    let name = &table.view.name;
    let what = match keys.is_empty() {
        true => format!("'{}' takes rows back, and no columns of its query tell the rows apart", name.text),
        false => format!("'{}' has one row that is taken back again and again, and no column to be its key", name.text),
    };
    let way_out =
        format!("declare it with CREATE TABLE {} (…, PRIMARY KEY (…) NOT ENFORCED), then INSERT INTO it", name.text);
    Err(vec![Diagnostic::new(what).at(name.span).help(way_out)])
}

/// The type of a column that holds values of this one: one that a file can declare.
fn kept_type(data_type: &DataType) -> Option<DataType> {
    use DataType as D;
    Some(match canonical(data_type) {
        D::Null => D::Utf8,
        D::UInt8 => D::Int16,
        D::UInt16 => D::Int32,
        D::UInt32 | D::UInt64 => D::Int64,
        D::Float16 => D::Float32,
        D::Interval(_)
        | D::Duration(_)
        | D::Time32(_)
        | D::Time64(_)
        | D::Decimal256(..)
        | D::Map(..)
        | D::Union(..) => {
            return None;
        }
        other => other,
    })
}
