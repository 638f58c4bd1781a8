//! `DESCRIBE` and `SHOW`: what a file declares, as rows.

use super::catalog::Catalog;
use super::depth;
use super::plan::rules;
use super::split::ScriptJob;
use super::statements::{ColumnKind, Script, ShowWhat, StatementBody, TableStatement};
use super::text::Name;
use super::types::{canonical, sql_name};
use crate::functions::Functions;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use jobs::Diagnostic;
use std::sync::Arc;

/// The rows that statement `index`, a DESCRIBE or a SHOW, asks for.
pub fn describe(script: &Script, index: usize, functions: &Functions) -> Result<RecordBatch, Vec<Diagnostic>> {
    match script.statements.get(index).map(|statement| &statement.body) {
        Some(StatementBody::Describe(name)) => depth::with_room(|| columns(script, name, functions)),
        Some(StatementBody::Show(what)) => Ok(match what {
            ShowWhat::Tables => tables(script),
            ShowWhat::Views => views(script),
            ShowWhat::Jobs => jobs(script),
        }),
        _ => Err(vec![Diagnostic::new(format!("statement {index} is neither DESCRIBE nor SHOW"))]),
    }
}

fn columns(script: &Script, name: &Name, functions: &Functions) -> Result<RecordBatch, Vec<Diagnostic>> {
    let mut rows = Rows::new(["column", "type", "note"]);
    // A view has no declared columns, and a computed column no declared type: both are what the planner finds.
    let catalog = Catalog::new(script, functions, Some(rules()), None)?;
    let Some(schema) = catalog.schema_of(&name.key()) else {
        let known: Vec<&str> = script.relations().collect();
        let error = Diagnostic::new(format!("unknown table '{}'", name.text)).at(name.span);
        return Err(vec![error.suggest(&name.text, known)]);
    };
    match script.table(&name.text) {
        Some(table) => {
            for column in &table.columns {
                let data_type = match &column.kind {
                    ColumnKind::Physical(data_type) => Some(data_type),
                    ColumnKind::Computed(..) => {
                        let named = |field: &&Arc<Field>| *field.name() == column.name.key();
                        schema.fields().iter().find(named).map(|field| field.data_type())
                    }
                };
                let written = data_type.map(sql_name).unwrap_or_default();
                rows.push([column.name.text.clone(), written, notes(script, table, &column.name, &column.kind)]);
            }
        }
        None => {
            // Types are settled by the analyzer: of a CASE, or of a UNION of other types.
            let analyzed = catalog.analyzed(&name.key()).map_err(|error| {
                let errors = vec![Diagnostic::new(error.strip_backtrace()).at(name.span)];
                script.view_place(name).map_or(errors, |place| place.diagnose(&error))
            })?;
            let settled = analyzed.as_ref().map_or(schema.fields(), |plan| plan.schema().fields());
            for (field, settled) in schema.fields().iter().zip(settled) {
                let written = sql_name(&canonical(settled.data_type()));
                rows.push([script.spelled(field.name()).to_string(), written, String::new()]);
            }
        }
    }
    Ok(rows.finish())
}

fn notes(script: &Script, table: &TableStatement, name: &Name, kind: &ColumnKind) -> String {
    let mut notes = Vec::new();
    let keys = table.def.primary_key.iter().map(|key| table.def.schema.field(*key).name());
    if keys.into_iter().any(|key| key.to_lowercase() == name.key()) {
        notes.push("primary key".to_string());
    }
    let mut required = table.not_null.iter().map(|column| table.def.schema.field(*column).name());
    if required.any(|column| column.to_lowercase() == name.key()) {
        notes.push("not null".to_string());
    }
    if let ColumnKind::Computed(_, (start, end)) = kind {
        notes.push(format!("computed: {}", &script.text()[*start..*end]));
    }
    if let Some(watermark) = table.watermark.as_ref().filter(|watermark| watermark.column.key() == name.key()) {
        let (start, end) = watermark.span;
        notes.push(script.text()[start..end].to_string());
    }
    notes.join(", ")
}

fn tables(script: &Script) -> RecordBatch {
    let mut rows = Rows::new(["table", "connector", "kind"]);
    for statement in &script.statements {
        let (table, kind) = match &statement.body {
            StatementBody::Table(table) => (table, "table"),
            StatementBody::TableAs(made) if made.materialized => (&made.table, "materialized view"),
            StatementBody::TableAs(made) => (&made.table, "table of a query"),
            _ => continue,
        };
        rows.push([table.name.text.clone(), table.def.connector().to_string(), kind.to_string()]);
    }
    rows.finish()
}

fn views(script: &Script) -> RecordBatch {
    let mut rows = Rows::new(["view", "kind"]);
    for statement in &script.statements {
        match &statement.body {
            StatementBody::View(view) => rows.push([view.name.text.clone(), "view".into()]),
            StatementBody::TableAs(made) if made.materialized => {
                rows.push([made.view.name.text.clone(), "materialized view".into()]);
            }
            _ => {}
        }
    }
    rows.finish()
}

/// A SELECT by itself is no job.
fn jobs(script: &Script) -> RecordBatch {
    let mut rows = Rows::new(["job", "kind", "reads", "writes", "models"]);
    for job in script.jobs() {
        let kind = match &job {
            ScriptJob::Inserts { .. } => "stream",
            ScriptJob::Model { .. } => "train",
            ScriptJob::Query { .. } => continue,
        };
        let name = job.name().unwrap_or_default().to_string();
        rows.push([name, kind.into(), job.reads().join(", "), job.writes().join(", "), job.models().join(", ")]);
    }
    rows.finish()
}

/// Rows of texts.
struct Rows<const N: usize> {
    names: [&'static str; N],
    columns: [Vec<String>; N],
}

impl<const N: usize> Rows<N> {
    fn new(names: [&'static str; N]) -> Self {
        Self { names, columns: std::array::from_fn(|_| Vec::new()) }
    }

    fn push(&mut self, row: [String; N]) {
        for (column, cell) in self.columns.iter_mut().zip(row) {
            column.push(cell);
        }
    }

    fn finish(self) -> RecordBatch {
        let fields: Vec<Field> = self.names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
        let schema = Arc::new(Schema::new(fields));
        let columns: Vec<ArrayRef> =
            self.columns.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef).collect();
        // Columns of one length and of their schema's type.
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap_or_else(|_| RecordBatch::new_empty(schema))
    }
}
