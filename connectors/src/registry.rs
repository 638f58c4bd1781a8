//! Every connector there is, by name, and the checks that are alike for all of them.
//!
//! Invariant: [`check_table`] looks at the declaration only; it opens nothing and asks nobody, so it serves the desk
//! as well as the task.

use crate::{Columns, Connector, Context, METADATA, OptionEntry, Result, TableDef};
use jobs::Diagnostic;
use std::sync::{PoisonError, RwLock};

static REGISTRY: &[&dyn Connector] = &[
    &crate::kafka::CONNECTOR,
    &crate::cassandra::CONNECTOR,
    &crate::files::CONNECTOR,
    &crate::http::CONNECTOR,
    &crate::table::CONNECTOR,
    &crate::generators::cards::CONNECTOR,
    &crate::generators::datagen::CONNECTOR,
    &crate::generators::nexmark::CONNECTOR,
    &crate::stdout::CONNECTOR,
    &crate::sse::CONNECTOR,
    &crate::blackhole::CONNECTOR,
];

/// All connectors, in the order in which they are listed for people.
pub fn registry() -> &'static [&'static dyn Connector] {
    REGISTRY
}

/// Connectors that a program adds to these, for tables that no person declares.
static ADDED: RwLock<Vec<&'static dyn Connector>> = RwLock::new(Vec::new());

/// Adds a connector of the program's own. Said before any table is looked at; the second word of one is as good as the first.
pub fn add(connector: &'static dyn Connector) {
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    if added.iter().all(|there| there.name() != connector.name()) {
        added.push(connector);
    }
}

pub fn find(name: &str) -> Option<&'static dyn Connector> {
    // Some are not listed, because no file declares a table of theirs.
    let all = REGISTRY.iter().copied().chain([&crate::values::CONNECTOR as &dyn Connector]);
    let added = || ADDED.read().unwrap_or_else(PoisonError::into_inner).iter().copied().find(|it| it.name() == name);
    all.into_iter().find(|connector| connector.name() == name).or_else(added)
}

/// What is wrong with a table's `WITH (…)`, all at once: names first, then what the connector itself finds.
pub fn check_table(table: &TableDef) -> Vec<Diagnostic> {
    let name = table.connector();
    let Some(connector) = find(name) else {
        let span = table.options.iter().find(|entry| entry.key == "connector").and_then(|entry| entry.value_span);
        let mut wrong = Diagnostic::new(format!("unknown connector '{name}'"))
            .suggest(name, REGISTRY.iter().map(|connector| connector.name()));
        wrong.span = span;
        return vec![wrong];
    };
    let mut wrong = check_names(table, connector);
    if wrong.is_empty() {
        wrong = connector.check(table);
    }
    wrong
}

/// The columns of a table that declares none, as whoever has its rows tells them; nothing where nobody does, or where
/// [`check_table`] says what is wrong. May ask the other end, and blocks meanwhile.
pub fn columns(table: &TableDef, context: &Context) -> Result<Option<Columns>> {
    match find(table.connector()) {
        Some(connector) if check_names(table, connector).is_empty() => connector.columns(table, context),
        _ => Ok(None),
    }
}

fn check_names(table: &TableDef, connector: &dyn Connector) -> Vec<Diagnostic> {
    let known = connector.options();
    let mut wrong = Vec::new();
    for (at, entry) in table.options.iter().enumerate() {
        if table.options[..at].iter().any(|earlier| earlier.key == entry.key) {
            let mut twice =
                Diagnostic::new(format!("option '{}' is given twice", entry.key)).help("remove one of them");
            twice.span = entry.key_span;
            wrong.push(twice);
            continue;
        }
        if let Some(column) = entry.key.strip_prefix(METADATA) {
            wrong.extend(unfit_metadata(table, connector, entry, column));
            continue;
        }
        let passed_through = connector.option_prefixes().iter().any(|prefix| entry.key.starts_with(prefix));
        if entry.key == "connector" || passed_through || known.iter().any(|option| option.name == entry.key) {
            continue;
        }
        let mut unknown =
            Diagnostic::new(format!("unknown option '{}' of connector '{}'", entry.key, connector.name()))
                .suggest(&entry.key, known.iter().map(|option| option.name));
        unknown.span = entry.key_span;
        wrong.push(unknown);
    }
    for option in known.iter().filter(|option| option.required && table.option(option.name).is_none()) {
        let mut missing = Diagnostic::new(format!(
            "table '{}' lacks option '{}', which connector '{}' needs",
            table.name,
            option.name,
            connector.name()
        ))
        .help(format!("add {} = '…' ({})", option.name, option.doc));
        missing.span = table.options.iter().find(|entry| entry.key == "connector").and_then(|entry| entry.value_span);
        wrong.push(missing);
    }
    wrong
}

/// What is wrong with a column that is declared to hold metadata.
fn unfit_metadata(
    table: &TableDef,
    connector: &dyn Connector,
    entry: &OptionEntry,
    column: &str,
) -> Option<Diagnostic> {
    let wanted = entry.value.split_whitespace().next().unwrap_or_default();
    let known = connector.metadata();
    let mut wrong = if known.is_empty() {
        Diagnostic::new(format!("connector '{}' has no metadata columns", connector.name()))
            .help("leave METADATA out, and the column is read from the record")
    } else if table.schema.index_of(column).is_err() {
        Diagnostic::new(format!("option '{}' names no column of table '{}'", entry.key, table.name))
            .help("declare the column as: name TYPE METADATA FROM '…'")
    } else if known.iter().all(|info| info.name != wanted) {
        Diagnostic::new(format!("connector '{}' knows no metadata '{wanted}'", connector.name()))
            .suggest(wanted, known.iter().map(|info| info.name))
    } else {
        return None;
    };
    wrong.span = entry.value_span.or(entry.key_span);
    Some(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    #[test]
    fn names_are_unique_and_documented() {
        for (at, connector) in registry().iter().enumerate() {
            assert!(registry()[..at].iter().all(|earlier| earlier.name() != connector.name()));
            assert!(std::ptr::eq(find(connector.name()).unwrap(), *connector));
            for option in connector.options() {
                assert!(!option.doc.is_empty(), "{option:?}");
                assert!(!option.required || option.default.is_none(), "{option:?}");
            }
        }
    }

    #[test]
    fn mistakes_are_found_under_the_word_with_the_nearest_name() {
        let unknown = check_table(&table(&[], &[("connector", "fils")]));
        assert_eq!(unknown[0].help.as_deref(), Some("did you mean 'files'?"));
        assert_eq!(unknown[0].span, Some((10, 14)));
        let wrong =
            check_table(&table(&[], &[("connector", "files"), ("pth", "x"), ("format", "json"), ("format", "csv")]));
        let messages: Vec<&str> = wrong.iter().map(|wrong| wrong.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "unknown option 'pth' of connector 'files'",
                "option 'format' is given twice",
                "table 't' lacks option 'path', which connector 'files' needs",
            ]
        );
        assert_eq!(wrong[0].help.as_deref(), Some("did you mean 'path'?"));
        assert_eq!(check_table(&table(&[], &[("connector", "blackhole")])), vec![]);
    }
}
