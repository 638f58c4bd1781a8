//! `CREATE TABLE`, `CREATE VIEW` and `CREATE MODEL`.

use super::cursor::{Cursor, Parsed};
use super::parse::select;
use super::settings::option_key;
use super::statements::{
    Column, ColumnKind, InsertStatement, ModelStatement, StatementBody, TableAsStatement, TableStatement,
    ViewStatement, WatermarkClause,
};
use super::text::{Name, Span, Tok};
use super::types::arrow_type;
use crate::dataflow::LookupCache;
use arrow::datatypes::{Field, Schema};
use connectors::{METADATA, OptionEntry, TableDef};
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;
use std::sync::Arc;
use std::time::Duration;

/// Event time is counted in microseconds, and has room for a thousand years beside it.
const LONGEST: Duration = Duration::from_secs(366_000 * 86_400);

const KINDS: [&str; 3] = ["TABLE", "VIEW", "MODEL"];

/// After `CREATE`.
pub(crate) fn create(cursor: &mut Cursor<'_>, errors: &mut Vec<Diagnostic>) -> Parsed<StatementBody> {
    let start = cursor.toks[0].span.0;
    if cursor.peek_all(&["OR", "REPLACE"]) {
        return Err(Diagnostic::new("CREATE OR REPLACE is not supported yet").at(cursor.here()));
    }
    if cursor.accept(&["MATERIALIZED"]) {
        cursor.expect("VIEW")?;
        return materialized_view(cursor, start, errors);
    }
    let here = cursor.here();
    let temporary = (cursor.accept(&["TEMPORARY"]) || cursor.accept(&["TEMP"])).then_some(here);
    if cursor.accept(&["TABLE"]) {
        table(cursor, start, errors).map(|body| marked(body, temporary))
    } else if cursor.accept(&["VIEW"]) {
        view(cursor).map(StatementBody::View)
    } else if let (Some(span), true) = (temporary, cursor.peek_is("MODEL")) {
        Err(Diagnostic::new("a model is kept, and so is never TEMPORARY").at(span))
    } else if cursor.accept(&["MODEL"]) {
        model(cursor, start, errors).map(StatementBody::Model)
    } else {
        Err(cursor.expected_one_of(&KINDS))
    }
}

/// The names of a file live as long as it anyway; what a temporary table holds is another matter.
fn marked(body: StatementBody, temporary: Option<Span>) -> StatementBody {
    let mark = |table: &Arc<TableStatement>| Arc::new(TableStatement { temporary, ..table.as_ref().clone() });
    match body {
        StatementBody::Table(table) => StatementBody::Table(mark(&table)),
        StatementBody::TableAs(made) => {
            let table = mark(&made.table);
            StatementBody::TableAs(Box::new(TableAsStatement { table, ..*made }))
        }
        body => body,
    }
}

fn view(cursor: &mut Cursor<'_>) -> Parsed<ViewStatement> {
    cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name("the view's name")?;
    let columns = if cursor.peek().is_some_and(|tok| tok.is_token(&Token::LParen)) {
        cursor.names("a column's name")?
    } else {
        Vec::new()
    };
    cursor.expect("AS")?;
    Ok(ViewStatement { name, columns, query: select(cursor)? })
}

fn materialized_view(cursor: &mut Cursor<'_>, start: usize, errors: &mut Vec<Diagnostic>) -> Parsed<StatementBody> {
    cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name("the view's name")?;
    let columns = if cursor.peek().is_some_and(|tok| tok.is_token(&Token::LParen)) {
        cursor.names("a column's name")?
    } else {
        Vec::new()
    };
    let options = if cursor.accept(&["WITH"]) { options(cursor, errors)? } else { Vec::new() };
    table_as(cursor, start, true, ViewHead { name, columns, options })
}

/// What stands before AS.
struct ViewHead {
    name: Name,
    columns: Vec<Name>,
    options: Vec<OptionEntry>,
}

/// From AS on. The table's columns are settled when its query is planned.
fn table_as(cursor: &mut Cursor<'_>, start: usize, materialized: bool, head: ViewHead) -> Parsed<StatementBody> {
    cursor.expect("AS")?;
    let ViewHead { name, columns, mut options } = head;
    cursor.defaults.complete(&mut options);
    let query = select(cursor)?;
    let table = TableStatement {
        name: name.clone(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        span: (start, cursor.last_end()),
        def: TableDef { name: name.text.clone(), schema: Arc::new(Schema::empty()), primary_key: Vec::new(), options },
        idle_ms: None,
        lateness_us: 0,
        late_rows: None,
        lookup_cache: None,
        not_null: Vec::new(),
        temporary: None,
    };
    let insert = InsertStatement { table: name.clone(), columns: Vec::new(), query: query.clone() };
    let view = ViewStatement { name, columns, query };
    Ok(StatementBody::TableAs(Box::new(TableAsStatement { materialized, view, insert, table: Arc::new(table) })))
}

fn model(cursor: &mut Cursor<'_>, start: usize, errors: &mut Vec<Diagnostic>) -> Parsed<ModelStatement> {
    let name = cursor.name("the model's name")?;
    let options = if cursor.accept(&["WITH"]) { options(cursor, errors)? } else { Vec::new() };
    cursor.expect("AS")?;
    let query = select(cursor)?;
    let query_text = cursor.text(query.span).to_string();
    Ok(ModelStatement { name, options, query_text, query, span: (start, cursor.last_end()) })
}

/// The columns of a table as they are found.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: Vec<Name>,
    pub(crate) watermark: Option<WatermarkClause>,
    pub(crate) metadata: Vec<OptionEntry>,
    pub(crate) not_null: Vec<Name>,
}

fn table(cursor: &mut Cursor<'_>, start: usize, errors: &mut Vec<Diagnostic>) -> Parsed<StatementBody> {
    cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name("the table's name")?;
    if cursor.peek_is("AS") || cursor.peek_is("WITH") {
        let options = if cursor.accept(&["WITH"]) { options(cursor, errors)? } else { Vec::new() };
        if cursor.done() && !options.is_empty() {
            let lacking = Diagnostic::new(format!("table '{}' has neither columns nor a query", name.text));
            let help = "declare the columns, (name TYPE, …), or give a query with AS; files, Cassandra's tables, and topics whose \
                        schema a registry has tell theirs";
            return Err(lacking.at(name.span).help(help));
        }
        return table_as(cursor, start, false, ViewHead { name, columns: Vec::new(), options });
    }
    let (items, close) = cursor.parenthesized()?;
    let mut found = Columns::default();
    for (at, item) in items.iter().enumerate() {
        let end = items.get(at + 1).and_then(|next| next.first()).map_or(close, |tok| tok.span.0);
        let mut part = cursor.part(item, item.last().map_or(end, |tok| tok.span.1));
        if let Err(error) = column(&mut part, &mut found) {
            errors.push(error);
        }
    }
    let mut partitioned_by = Vec::new();
    let mut entries = Vec::new();
    while !cursor.done() {
        if cursor.accept(&["PARTITIONED", "BY"]) {
            partitioned_by = cursor.names("a column's name")?;
        } else if cursor.accept(&["COMMENT"]) {
            cursor.at += 1;
        } else if cursor.accept(&["WITH"]) {
            entries = options(cursor, errors)?;
        } else {
            return Err(cursor.expected_one_of(&["WITH", "PARTITIONED"]));
        }
    }
    entries.extend(partitions(&partitioned_by));
    cursor.defaults.complete(&mut entries);
    let table = settle(name, found, partitioned_by, entries, (start, cursor.last_end()), errors)?;
    Ok(StatementBody::Table(Arc::new(table)))
}

/// `PARTITIONED BY (…)` is an option of connectors that have directories; the others refuse it like any that they do not know.
pub(crate) fn partitions(columns: &[Name]) -> Option<OptionEntry> {
    let span = (columns.first()?.span.0, columns.last()?.span.1);
    let names: Vec<&str> = columns.iter().map(|column| column.text.as_str()).collect();
    let key = "partitioned_by".to_string();
    Some(OptionEntry { key, value: names.join(","), key_span: Some(span), value_span: Some(span) })
}

pub(crate) fn column(cursor: &mut Cursor<'_>, found: &mut Columns) -> Parsed<()> {
    if cursor.peek_all(&["WATERMARK", "FOR"]) {
        let start = cursor.here().0;
        cursor.at += 2;
        let column = cursor.name("the event-time column")?;
        cursor.expect("AS")?;
        let (expr, _) = cursor.sql(|parser| parser.parse_expr())?;
        let span = (start, cursor.last_end());
        if found.watermark.is_some() {
            return Err(Diagnostic::new("a table has one WATERMARK").at(span));
        }
        found.watermark = Some(WatermarkClause { column, expr: Box::new(expr), span });
        return cursor.finish();
    }
    if cursor.accept(&["CONSTRAINT"]) {
        cursor.name("the constraint's name")?;
    }
    if cursor.peek_all(&["PRIMARY", "KEY"]) {
        let span = cursor.here();
        cursor.at += 2;
        if !found.primary_key.is_empty() {
            return Err(Diagnostic::new("a table has one PRIMARY KEY").at(span));
        }
        found.primary_key = cursor.names("a column's name")?;
        cursor.accept(&["NOT", "ENFORCED"]);
        return cursor.finish();
    }
    let name = cursor.name("a column's name")?;
    if cursor.accept(&["AS"]) {
        let (expr, span) = cursor.sql(|parser| parser.parse_expr())?;
        found.columns.push(Column { name, kind: ColumnKind::Computed(Box::new(expr), span) });
        return cursor.finish();
    }
    if cursor.done() {
        return Err(cursor.expected("a type"));
    }
    let (sql_type, span) = cursor.sql_type()?;
    let mut kind = ColumnKind::Physical(arrow_type(&sql_type).map_err(|error| error.at(span))?);
    while !cursor.done() {
        if cursor.accept(&["NOT", "NULL"]) {
            found.not_null.push(name.clone());
        } else if cursor.accept(&["NULL"]) {
            continue;
        } else if cursor.accept(&["PRIMARY", "KEY"]) {
            cursor.accept(&["NOT", "ENFORCED"]);
            found.primary_key.push(name.clone());
        } else if cursor.accept(&["COMMENT"]) {
            cursor.at += 1;
        } else if cursor.accept(&["GENERATED", "ALWAYS", "AS"]) {
            let (expr, span) = cursor.sql(|parser| parser.parse_expr())?;
            let _ = cursor.accept(&["STORED"]) || cursor.accept(&["VIRTUAL"]);
            kind = ColumnKind::Computed(Box::new(expr), span);
        } else if cursor.peek_is("METADATA") {
            found.metadata.push(metadata(cursor, &name)?);
        } else if cursor.peek_is("DEFAULT") {
            let word = cursor.text(cursor.here()).to_ascii_uppercase();
            return Err(Diagnostic::new(format!("{word} columns are not supported yet")).at(cursor.here()));
        } else {
            return Err(cursor.expected_one_of(&["NOT", "PRIMARY", "COMMENT", "GENERATED", "METADATA"]));
        }
    }
    found.columns.push(Column { name, kind });
    Ok(())
}

/// `METADATA [FROM 'name'] [VIRTUAL]`, as the option by which a connector knows of it. Without a name it is the column's.
fn metadata(cursor: &mut Cursor<'_>, column: &Name) -> Parsed<OptionEntry> {
    let start = cursor.here().0;
    cursor.at += 1;
    let mut value = column.text.clone();
    if cursor.accept(&["FROM"]) {
        let named = cursor.peek().and_then(|tok| match &tok.token.token {
            Token::SingleQuotedString(name) => Some(name.clone()),
            _ => None,
        });
        value = named.ok_or_else(|| cursor.expected("the metadata's name in quotes"))?;
        cursor.at += 1;
    }
    if cursor.accept(&["VIRTUAL"]) {
        value.push_str(" VIRTUAL");
    }
    let span = Some((start, cursor.last_end()));
    Ok(OptionEntry { key: format!("{METADATA}{}", column.text), value, key_span: span, value_span: span })
}

/// `(key = value, …)`; a value is a string, or whatever stands up to the next comma.
pub(crate) fn options(cursor: &mut Cursor<'_>, errors: &mut Vec<Diagnostic>) -> Parsed<Vec<OptionEntry>> {
    let (items, close) = cursor.parenthesized()?;
    let mut entries: Vec<OptionEntry> = Vec::new();
    for item in items {
        match option(cursor, item, close) {
            Ok(entry) => {
                if entries.iter().any(|earlier| earlier.key == entry.key) {
                    let error = Diagnostic::new(format!("option '{}' is given twice", entry.key));
                    errors.push(Diagnostic { span: entry.key_span, ..error });
                } else {
                    entries.push(entry);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    Ok(entries)
}

fn option<'a>(cursor: &Cursor<'a>, item: &'a [Tok], close: usize) -> Parsed<OptionEntry> {
    let mut part = cursor.part(item, item.last().map_or(close, |tok| tok.span.1));
    let start = part.here().0;
    let key = option_key(&mut part)?;
    let key_span = (start, part.last_end());
    part.expect_token(&Token::Eq)?;
    let value_start = part.here();
    if part.done() {
        return Err(part.expected("a value"));
    }
    let span = (value_start.0, item.last().map_or(value_start.1, |tok| tok.span.1));
    let value = match &item[part.at..] {
        [Tok { token, .. }] => match &token.token {
            Token::SingleQuotedString(value) => value.clone(),
            _ => part.text(span).to_string(),
        },
        [first, second, ..] if matches!(first.token.token, Token::SingleQuotedString(_)) => {
            return Err(
                Diagnostic::new(format!("expected ',' or ')', found '{}'", part.text(second.span))).at(second.span)
            );
        }
        _ => part.text(span).to_string(),
    };
    Ok(OptionEntry { key, value, key_span: Some(key_span), value_span: Some(span) })
}

pub(crate) fn settle(
    name: Name,
    found: Columns,
    partitioned_by: Vec<Name>,
    mut options: Vec<OptionEntry>,
    span: Span,
    errors: &mut Vec<Diagnostic>,
) -> Parsed<TableStatement> {
    let Columns { columns, primary_key, watermark, metadata, not_null } = found;
    options.extend(metadata);
    for (at, column) in columns.iter().enumerate() {
        if let Some(earlier) = columns[..at].iter().find(|earlier| earlier.name.key() == column.name.key()) {
            let same = earlier.name.text == column.name.text;
            let message = format!("column '{}' is declared twice", column.name.text);
            let error = Diagnostic::new(message).at(column.name.span);
            errors.push(if same {
                error
            } else {
                error.help(format!("'{}' is the same name: names match without regard to case", earlier.name.text))
            });
        }
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.text.as_str()).collect();
    let unknown = |wanted: &Name| {
        Diagnostic::new(format!("unknown column '{}'", wanted.text))
            .at(wanted.span)
            .suggest(&wanted.text, names.clone())
    };
    let physical: Vec<(&Name, &arrow::datatypes::DataType)> = columns
        .iter()
        .filter_map(|column| match &column.kind {
            ColumnKind::Physical(data_type) => Some((&column.name, data_type)),
            ColumnKind::Computed(..) => None,
        })
        .collect();
    let place = |wanted: &Name| physical.iter().position(|(name, _)| name.key() == wanted.key());
    let not_null = not_null.iter().filter_map(place).collect();
    let mut key = Vec::new();
    for wanted in &primary_key {
        match physical.iter().position(|(name, _)| name.key() == wanted.key()) {
            Some(at) => key.push(at),
            None if columns.iter().any(|column| column.name.key() == wanted.key()) => {
                errors.push(
                    Diagnostic::new(format!("'{}' is computed and cannot be a key", wanted.text)).at(wanted.span),
                );
            }
            None => errors.push(unknown(wanted)),
        }
    }
    let has = |wanted: &Name| columns.iter().any(|column| column.name.key() == wanted.key());
    errors.extend(partitioned_by.iter().chain(watermark.iter().map(|w| &w.column)).filter(|n| !has(n)).map(unknown));
    let mut own = |key: &str| options.iter().position(|entry| entry.key == key).map(|at| options.remove(at));
    let (idle, lateness, late) = (own("watermark.idle"), own("allowed_lateness"), own("late_rows"));
    for entry in lateness.iter().chain(&late).filter(|_| watermark.is_none()) {
        let error = Diagnostic::new(format!("'{}' has no WATERMARK, so none of its rows are late", name.text));
        errors.push(Diagnostic { span: entry.key_span, ..error });
    }
    let mut duration = |entry: &OptionEntry| {
        let parsed = jobs::text::parse_duration(&entry.value).map_err(Diagnostic::new);
        let parsed = parsed.and_then(|duration| match duration > LONGEST {
            true => Err(Diagnostic::new(format!("'{}' is more than {} days", entry.value, LONGEST.as_secs() / 86_400))),
            false => Ok(duration),
        });
        parsed.map_err(|error| errors.push(Diagnostic { span: entry.value_span, ..error })).ok()
    };
    let idle_ms = idle.as_ref().and_then(&mut duration).map(|idle| idle.as_millis() as u64);
    let lateness_us = lateness.as_ref().and_then(&mut duration).map_or(0, |lateness| lateness.as_micros() as i64);
    let late_rows = late.map(|entry| Name { span: entry.value_span.unwrap_or(span), text: entry.value });
    let lookup_cache = lookup_cache(&mut options, errors);
    // Every column may be NULL: a record that lacks a field must not make a batch that contradicts its own schema.
    let fields: Vec<Field> =
        physical.iter().map(|(name, data_type)| Field::new(&name.text, (*data_type).clone(), true)).collect();
    if fields.is_empty() && errors.is_empty() {
        errors.push(Diagnostic::new(format!("table '{}' has no columns of its own", name.text)).at(name.span));
    }
    let schema = Arc::new(Schema::new(fields));
    let def = TableDef { name: name.text.clone(), schema, primary_key: key, options };
    if errors.is_empty() {
        errors.extend(connectors::check_table(&def).into_iter().map(|error| match error.span {
            Some(_) => error,
            None => error.at(name.span),
        }));
    }
    Ok(TableStatement {
        name,
        columns,
        watermark,
        partitioned_by,
        span,
        def,
        idle_ms,
        lateness_us,
        late_rows,
        lookup_cache,
        not_null,
        temporary: None,
    })
}

/// Takes the options of the cache out of those of the connector. There is one if either is given.
fn lookup_cache(options: &mut Vec<OptionEntry>, errors: &mut Vec<Diagnostic>) -> Option<LookupCache> {
    let mut take = |key: &str| options.iter().position(|entry| entry.key == key).map(|at| options.remove(at));
    let (rows, ttl) = (take("lookup.cache.max_rows"), take("lookup.cache.ttl"));
    if rows.is_none() && ttl.is_none() {
        return None;
    }
    let mut cache = LookupCache::DEFAULT;
    if let Some(entry) = rows {
        match entry.value.replace('_', "").parse() {
            Ok(max_rows) => cache.max_rows = max_rows,
            Err(_) => {
                let error = format!("option '{}' is '{}', which is no number of rows", entry.key, entry.value);
                errors.push(Diagnostic { span: entry.value_span, ..Diagnostic::new(error) });
            }
        }
    }
    if let Some(entry) = ttl {
        match jobs::text::parse_duration(&entry.value) {
            Ok(ttl) => cache.ttl = ttl,
            Err(error) => errors.push(Diagnostic { span: entry.value_span, ..Diagnostic::new(error) }),
        }
    }
    (cache.max_rows > 0).then_some(cache)
}
