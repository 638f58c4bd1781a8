//! A query with the cluster's tables declared before it, as a file would declare them: those of the store, and those of
//! submitted files.

use super::QueryError;
use super::known::Known;
use jobs::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use streaming::batch;
use streaming::sql::{Script, Statement, StatementBody, sql_name};
use tables::{Store, TableInfo};

/// Which of the cluster's tables a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
    /// Those whose name is in its text, so that what others call their tables and columns is nothing to it; all for a
    /// query that asks what there is.
    Named,
    /// For a mistake, which may be in the name of one.
    All,
}

pub(super) struct Asked {
    /// The cluster's tables, and then the text.
    pub script: Script,
    /// What relative paths are relative to, where a file's tables are read.
    pub base_dir: Option<PathBuf>,
    /// Of the statement that asks.
    pub index: usize,
    /// Bytes before the text.
    before: usize,
    /// Of the text.
    length: usize,
}

impl Asked {
    /// `known`: tables of submitted files, by name in lower case.
    pub fn new(
        store: &Store,
        known: &BTreeMap<String, Known>,
        text: &str,
        tables: Tables,
    ) -> Result<Self, Vec<Diagnostic>> {
        // What the text declares itself is meant where it is named. A text that is wrong by itself may be one that makes a
        // table of the store's.
        let own = crate::functions::parse(text).ok();
        let mut names: BTreeSet<String> = own.iter().flat_map(own_names).map(str::to_lowercase).collect();
        let lists = own.iter().flat_map(|own| &own.statements).any(|of| matches!(of.body, StatementBody::Show(_)));
        let lower = text.to_lowercase();
        let is_named = |name: &str| tables == Tables::All || lists || lower.contains(&name.to_lowercase());
        let mut stored = store.list();
        // Of those that differ in upper and lower case alone the one that is spelled as in the text.
        stored.sort_by_key(|table| !text.contains(&table.name));
        let mut declared: String = stored
            .iter()
            .filter(|table| is_named(&table.name) && names.insert(table.name.to_lowercase()))
            .map(|table| declaration(table))
            // One that SQL has no words for is not there for it.
            .filter(|statement| crate::functions::parse(statement).is_ok())
            .collect();
        let mut base_dir = None;
        for (name, known) in known {
            if is_named(name) && names.insert(name.clone()) {
                declared.push_str(&known.declaration);
                // A query has one folder: that of the first.
                base_dir.get_or_insert_with(|| known.base_dir.clone());
            }
        }
        let of_text = |wrong| moved(wrong, declared.len(), text.len());
        let script = crate::functions::parse(&format!("{declared}{text}")).map_err(of_text)?;
        let n_tables = script.statements.iter().filter(|statement| statement.span.0 < declared.len()).count();
        refuse(&script.statements[n_tables..]).map_err(of_text)?;
        let index = script.statements.len() - 1;
        Ok(Self { script, base_dir, index, before: declared.len(), length: text.len() })
    }

    pub fn body(&self) -> &StatementBody {
        &self.script.statements[self.index].body
    }

    /// The text of the SELECT.
    pub fn query(&self) -> &str {
        let span = self.body().query().map_or(self.script.statements[self.index].span, |query| query.span);
        &self.script.text()[span.0..span.1]
    }

    pub fn wrong(&self, wrong: Vec<Diagnostic>) -> QueryError {
        QueryError::Wrong(moved(wrong, self.before, self.length))
    }

    pub fn failed(&self, error: batch::Error) -> QueryError {
        match error {
            batch::Error::Query(wrong) => self.wrong(wrong),
            other => QueryError::Failed(format!("failed to {other}")),
        }
    }
}

/// Places as they are in the text alone.
fn moved(wrong: Vec<Diagnostic>, before: usize, length: usize) -> Vec<Diagnostic> {
    let place = |at: usize| at.saturating_sub(before).min(length);
    wrong
        .into_iter()
        .map(|wrong| Diagnostic { span: wrong.span.map(|(from, to)| (place(from), place(to))), ..wrong })
        .collect()
}

/// Declarations, and then one statement that asks.
fn refuse(statements: &[Statement]) -> Result<(), Vec<Diagnostic>> {
    let Some((last, before)) = statements.split_last() else {
        return Err(vec![Diagnostic::new("there is no query")]);
    };
    let asks = |body: &StatementBody| {
        use StatementBody::{Describe, Explain, Query, Show};
        matches!(body, Query(_) | Explain(_) | Describe(_) | Show(_))
    };
    for statement in statements {
        let what = match &statement.body {
            StatementBody::Insert(_) => "INSERT INTO",
            StatementBody::TableAs(made) if made.materialized => "CREATE MATERIALIZED VIEW",
            StatementBody::TableAs(_) => "CREATE TABLE AS",
            StatementBody::Model(_) => "CREATE MODEL",
            _ => continue,
        };
        let error = Diagnostic::new(format!("{what} is a job, and this is for queries")).at(statement.span);
        return Err(vec![error.help("write it into a file and give that to `smack submit`")]);
    }
    if let Some(early) = before.iter().find(|statement| asks(&statement.body)) {
        return Err(vec![Diagnostic::new("one query at a time").at(early.span)]);
    }
    if !asks(&last.body) {
        return Err(vec![Diagnostic::new("there is no query behind what is declared").at(last.span)]);
    }
    Ok(())
}

fn own_names(script: &Script) -> impl Iterator<Item = &str> {
    script.statements.iter().filter_map(|statement| match &statement.body {
        StatementBody::Table(table) => Some(table.name.text.as_str()),
        StatementBody::View(view) => Some(view.name.text.as_str()),
        _ => None,
    })
}

fn declaration(table: &TableInfo) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let fields = table.schema.fields();
    let mut parts: Vec<String> =
        fields.iter().map(|field| format!("{} {}", quoted(field.name()), sql_name(field.data_type()))).collect();
    if !table.primary_key.is_empty() {
        let key: Vec<String> = table.primary_key.iter().map(|at| quoted(fields[*at].name())).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} ({});\n", quoted(&table.name), parts.join(", "))
}
