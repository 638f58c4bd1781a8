//! Reads the text of a job file into its statements, with all mistakes at once.

use super::create::create;
use super::cursor::{Cursor, Parsed};
use super::depth;
use super::dialect::StreamDialect;
use super::nested::for_each_name;
use super::parameters;
use super::row_values;
use super::settings::setting;
use super::statements::{InsertStatement, Script, SelectQuery, Setting, ShowWhat, Statement, StatementBody};
use super::table_as::settle_tables;
use super::target::Defaults;
use super::text::{Positions, Tok, tokenize};
use super::uses;
use crate::functions::Functions;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

const STATEMENTS: [&str; 8] = ["CREATE", "INSERT", "SELECT", "SET", "EXPLAIN", "DESCRIBE", "SHOW", "WITH"];

/// Reads a job file.
pub fn parse(text: &str) -> Result<Script, Vec<Diagnostic>> {
    parse_with(text, &Functions::new())
}

/// Reads a job file whose tables may be filled by queries that call these functions.
pub fn parse_with(text: &str, functions: &Functions) -> Result<Script, Vec<Diagnostic>> {
    depth::with_room(|| parse_here(text, functions))
}

fn parse_here(text: &str, functions: &Functions) -> Result<Script, Vec<Diagnostic>> {
    let positions = Positions::new(text);
    let toks = tokenize(&positions).map_err(|error| vec![error])?;
    let defaults = Defaults::of(&positions, &toks);
    let mut statements: Vec<Statement> = Vec::new();
    let mut errors = Vec::new();
    for toks in toks.split(|tok| tok.is_token(&Token::SemiColon)).filter(|toks| !toks.is_empty()) {
        let span = (toks[0].span.0, toks[toks.len() - 1].span.1);
        let toks = match depth::mistake(toks).map_or_else(|| parameters::numbered(toks), Err) {
            Ok(toks) => toks,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let mut cursor = Cursor::new(&positions, &defaults, &toks, span.1);
        let mut found = Vec::new();
        let body = statement(&mut cursor, &mut found).and_then(|body| cursor.finish().map(|()| body));
        match body {
            Ok(body) => {
                if !matches!(body, StatementBody::Query(_)) {
                    found.extend(parameters::refused(&toks));
                }
                statements.push(Statement { span, body, tokens: toks.as_ref().into() });
            }
            Err(error) => found.push(error),
        }
        errors.append(&mut found);
    }
    errors.extend(declared_twice(&statements));
    if !errors.is_empty() {
        return Err(errors);
    }
    let settings: Vec<Setting> = statements
        .iter()
        .filter_map(|statement| match &statement.body {
            StatementBody::Set(setting) => Some(setting.clone()),
            _ => None,
        })
        .collect();
    let spelling = spelling(&statements);
    let mut script = Script { statements, settings, positions, spelling };
    settle_tables(&mut script, functions)?;
    Ok(script)
}

fn statement(cursor: &mut Cursor<'_>, errors: &mut Vec<Diagnostic>) -> Parsed<StatementBody> {
    if cursor.accept(&["SET"]) {
        setting(cursor).map(StatementBody::Set)
    } else if cursor.accept(&["CREATE"]) {
        create(cursor, errors)
    } else if cursor.accept(&["EXPLAIN"]) {
        explained(cursor, errors).map(|body| StatementBody::Explain(Box::new(body)))
    } else if cursor.accept(&["DESCRIBE"]) || cursor.accept(&["DESC"]) {
        cursor.accept(&["TABLE"]);
        cursor.name("a table's or view's name").map(StatementBody::Describe)
    } else if cursor.accept(&["SHOW"]) {
        show(cursor).map(StatementBody::Show)
    } else if cursor.accept(&["INSERT"]) {
        insert(cursor)
    } else if starts_query(cursor) {
        select(cursor).map(StatementBody::Query)
    } else {
        let word = cursor.text(cursor.here());
        let error = Diagnostic::new(format!("a statement does not begin with '{word}'")).at(cursor.here());
        Err(match super::cursor::near_keyword(word, &STATEMENTS) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error.help(format!("known: {}", STATEMENTS.join(", "))),
        })
    }
}

/// After EXPLAIN. A view, or a table that is declared by a query, is shown as its query.
fn explained(cursor: &mut Cursor<'_>, errors: &mut Vec<Diagnostic>) -> Parsed<StatementBody> {
    if cursor.peek_is("INSERT") || starts_query(cursor) {
        return statement(cursor, errors);
    }
    if cursor.peek_is("CREATE") {
        let span = cursor.here();
        return match statement(cursor, errors)? {
            StatementBody::View(view) => Ok(StatementBody::Query(view.query)),
            StatementBody::TableAs(table) => Ok(StatementBody::Query(table.view.query)),
            _ => Err(Diagnostic::new("EXPLAIN CREATE is for what is declared by a query").at(span)),
        };
    }
    if cursor.toks.len() != cursor.at + 1 || cursor.peek().is_none_or(|tok| tok.word().is_none()) {
        return Err(cursor.expected_one_of(&["INSERT", "SELECT", "CREATE", "a view's name"]));
    }
    let name = cursor.name("a view's name")?;
    let text = format!("SELECT * FROM \"{}\"", name.key().replace('"', "\"\""));
    let parsed = Parser::new(&StreamDialect { versions: false }).try_with_sql(&text);
    let ast = parsed.and_then(|mut parser| parser.parse_query());
    let ast = ast.map_err(|error| Diagnostic::new(error.to_string()).at(name.span))?;
    let (relations, models) = ([name.key()].into(), BTreeSet::new());
    Ok(StatementBody::Query(SelectQuery { ast, span: name.span, relations, models, as_of: false }))
}

fn starts_query(cursor: &Cursor<'_>) -> bool {
    cursor.peek_is("SELECT")
        || cursor.peek_is("WITH")
        || cursor.peek_is("VALUES")
        || cursor.peek().is_some_and(|tok| tok.is_token(&Token::LParen))
}

fn show(cursor: &mut Cursor<'_>) -> Parsed<ShowWhat> {
    let known = [("TABLES", ShowWhat::Tables), ("VIEWS", ShowWhat::Views), ("JOBS", ShowWhat::Jobs)];
    match known.iter().find(|(word, _)| cursor.accept(&[word])) {
        Some((_, what)) => Ok(*what),
        None => Err(cursor.expected_one_of(&known.map(|(word, _)| word))),
    }
}

fn insert(cursor: &mut Cursor<'_>) -> Parsed<StatementBody> {
    if cursor.peek_is("OVERWRITE") {
        return Err(Diagnostic::new("INSERT OVERWRITE is not supported").at(cursor.here()));
    }
    cursor.expect("INTO")?;
    let table = cursor.name("the table's name")?;
    // `INSERT INTO t (SELECT …)` has a parenthesis too.
    let listed = cursor.peek().is_some_and(|tok| tok.is_token(&Token::LParen))
        && !cursor.toks.get(cursor.at + 1).is_some_and(|tok| tok.is("SELECT") || tok.is("WITH"));
    let columns = if listed { cursor.names("a column's name")? } else { Vec::new() };
    if !starts_query(cursor) {
        return Err(cursor.expected_one_of(&["SELECT"]));
    }
    Ok(StatementBody::Insert(InsertStatement { table, columns, query: select(cursor)? }))
}

/// A query up to the end of the statement.
pub(crate) fn select(cursor: &mut Cursor<'_>) -> Parsed<SelectQuery> {
    if !starts_query(cursor) {
        return Err(cursor.expected_one_of(&["SELECT"]));
    }
    let (mut ast, span) = cursor.sql(|parser| parser.parse_query())?;
    cursor.finish()?;
    row_values::expand(&mut ast).map_err(|error| error.at(span))?;
    let uses = uses::of(&ast).map_err(|error| {
        let place = cursor.find_words(&error.message).unwrap_or(span);
        error.at(place)
    });
    let uses::Uses { relations, models, as_of } = uses?;
    Ok(SelectQuery { ast, span, relations, models, as_of })
}

/// Tables and views share one space of names, models have another.
fn declared_twice(statements: &[Statement]) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<(bool, String), String> = BTreeMap::new();
    let mut errors = Vec::new();
    for statement in statements {
        let (name, model) = match &statement.body {
            StatementBody::Table(table) => (&table.name, false),
            StatementBody::View(view) => (&view.name, false),
            StatementBody::TableAs(table) => (&table.view.name, false),
            StatementBody::Model(model) => (&model.name, true),
            _ => continue,
        };
        if let Some(earlier) = seen.insert((model, name.key()), name.text.clone()) {
            let error = Diagnostic::new(format!("'{}' is declared twice", name.text)).at(name.span);
            errors.push(if earlier == name.text {
                error
            } else {
                error.help(format!("'{earlier}' is the same name: names match without regard to case"))
            });
        }
    }
    errors
}

/// How declared names are written, so that results carry them as their author wrote them: columns, the
/// fields of structs, and what follows AS.
fn spelling(statements: &[Statement]) -> BTreeMap<String, String> {
    let mut spelling = BTreeMap::new();
    let mut keep = |text: &str| {
        spelling.entry(text.to_lowercase()).or_insert_with(|| text.to_string());
    };
    for statement in statements {
        match &statement.body {
            StatementBody::Table(table) => table.columns.iter().for_each(|column| keep(&column.name.text)),
            body => body.view().iter().flat_map(|view| &view.columns).for_each(|name| keep(&name.text)),
        }
    }
    for statement in statements {
        if let StatementBody::Table(table) = &statement.body {
            table.def.schema.fields().iter().for_each(|field| for_each_name(field.data_type(), &mut keep));
        }
    }
    for statement in statements {
        aliases(&statement.tokens).for_each(&mut keep);
    }
    spelling
}

/// The words after AS.
pub(crate) fn aliases(tokens: &[Tok]) -> impl Iterator<Item = &str> {
    tokens.windows(2).filter(|pair| pair[0].is("AS")).filter_map(|pair| pair[1].word()).map(|word| word.value.as_str())
}
