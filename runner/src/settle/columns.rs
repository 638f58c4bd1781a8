//! Tables that declare no columns get those that their rows have where they are, before anything else is settled: what is
//! submitted says them, and whoever reads it later asks nobody again.

use connectors::{Columns, Context};
use jobs::Diagnostic;
use std::path::Path;
use streaming::sql::{Completed, Lacking, completed, lacking};

/// The text, with the columns in it that its tables lack. Waits for whoever has their rows: files, a server, a registry.
pub async fn complete<'a>(text: &'a str, base_dir: &str) -> Result<Completed<'a>, Vec<Diagnostic>> {
    // Its own connectors are known from here on.
    connectors::add(&crate::continuous::CONNECTOR);
    let tables = lacking(text);
    if tables.is_empty() {
        return Ok(completed(text, &[]));
    }
    let context = context(base_dir);
    let asked = tokio::task::spawn_blocking(move || ask(tables, &context)).await;
    let found =
        asked.unwrap_or_else(|gone| Err(vec![Diagnostic::new(format!("columns were not found out: {gone}"))]))?;
    Ok(completed(text, &found))
}

/// Where nobody can tell, the table stays as it is; what it lacks is told when it is read.
fn ask(tables: Vec<Lacking>, context: &Context) -> Result<Vec<(Lacking, Columns)>, Vec<Diagnostic>> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for table in tables {
        match connectors::columns(&table.def, context) {
            Ok(Some(columns)) => match unusable(&columns) {
                None => found.push((table, columns)),
                Some(why) => wrong.push(untold(&table, &why)),
            },
            Ok(None) => {}
            Err(error) => wrong.push(untold(&table, &error.to_string())),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

fn untold(table: &Lacking, why: &str) -> Diagnostic {
    let error = Diagnostic::new(format!("the columns of '{}' cannot be found out: {why}", table.def.name));
    error.at(table.span).help("mend that, or declare them: (name TYPE, …)")
}

/// Names in SQL match without regard to case.
fn unusable(columns: &Columns) -> Option<String> {
    if columns.columns.is_empty() {
        return Some("there are none".to_string());
    }
    let lower = |at: usize| columns.columns[at].0.to_lowercase();
    let twice = (0..columns.columns.len()).find(|at| (0..*at).any(|earlier| lower(earlier) == lower(*at)))?;
    Some(format!("'{}' is there twice, as names match without regard to case", columns.columns[twice].0))
}

/// At the desk there is no job yet.
fn context(base_dir: &str) -> Context {
    Context {
        job: String::new(),
        generation: 0,
        claimed_us: 0,
        begun_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: Path::new(base_dir).to_path_buf(),
        tables_endpoint: None,
        token: None,
    }
}
