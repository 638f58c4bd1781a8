//! The `table` connector: tables kept by the embedded table store, which the runner's process hosts.
//!
//! Promise: exactly once. A sink sends an epoch's rows when its checkpoint is durable, under the name of the life that
//! wrote them; the store applies each (writer, epoch, part) once, so sending again after a crash changes nothing. By
//! primary key a changelog's rows replace each other and go; removals travel with the rows, in their order, and take effect
//! in the same transaction.
//! A source reads the table once, as it is when the reading begins.
//! A lookup finds rows by the primary key, or by its first columns, as they are committed when it asks; a table that is not
//! there yet is made, empty.

mod client;
mod lookup;
mod read;
mod write;

use crate::{
    Connector, Context, Delivery, Error, Lookup, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef,
    Takes,
};
use arrow::datatypes::DataType;
use client::Client;
use jobs::Diagnostic;

const NAME: OptionInfo = OptionInfo {
    name: "name",
    kind: "text",
    default: None,
    required: false,
    doc: "the table's name in the store, where it differs",
};

static OPTIONS: [OptionInfo; 1] = [NAME];

pub static CONNECTOR: TableConnector = TableConnector;

#[derive(Debug)]
pub struct TableConnector;

fn stored_name(table: &TableDef) -> &str {
    table.option(NAME.name).unwrap_or(&table.name)
}

/// Types that the store cannot hold; it would say so itself, but only once the job runs.
fn is_kept(kind: &DataType) -> bool {
    !kind.is_nested()
        && !matches!(
            kind,
            DataType::Null
                | DataType::Float16
                | DataType::Interval(_)
                | DataType::Duration(_)
                | DataType::FixedSizeBinary(_)
                | DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal256(..)
        )
}

impl Connector for TableConnector {
    fn name(&self) -> &'static str {
        "table"
    }

    fn doc(&self) -> &'static str {
        "the embedded table store; what a table without a connector uses"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong: Vec<Diagnostic> = table
            .schema
            .fields()
            .iter()
            .filter(|field| !is_kept(field.data_type()))
            .map(|field| {
                Diagnostic::new(format!(
                    "column '{}' of table '{}' has type {}, which the table store cannot hold",
                    field.name(),
                    table.name,
                    field.data_type()
                ))
                .help("use plain types: numbers, BOOLEAN, VARCHAR, VARBINARY, DATE, TIME, TIMESTAMP, DECIMAL")
            })
            .collect();
        let name = stored_name(table);
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            wrong.push(Options::new(table).wrong(NAME.name, "a table's name has 1 to 255 printable bytes"));
        }
        wrong
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn takes(&self, table: &TableDef) -> Takes {
        if table.primary_key.is_empty() { Takes::Append } else { Takes::Upsert }
    }

    fn to_take_changes(&self, _table: &TableDef) -> Option<&'static str> {
        Some("declare PRIMARY KEY (…) NOT ENFORCED")
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(vec!["0".to_owned()])
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let client = Client::new(stored_name(table), context)?;
        let wanted = table.schema.project(projection).map_err(|why| Error::Fatal(why.to_string()))?;
        Ok(Box::new(read::TableReader::new(client, wanted, splits)?))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        let client = Client::new(stored_name(table), context)?;
        client.create(&table.schema, &table.primary_key)?;
        Ok(Box::new(write::TableSink::new(client, table, context)))
    }

    fn lookup_keys(&self, table: &TableDef, equal: &[usize]) -> std::result::Result<Vec<usize>, Diagnostic> {
        if table.primary_key.is_empty() {
            let text = format!("'{}' cannot be looked up: it has no primary key, by which rows are found", table.name);
            return Err(Diagnostic::new(text).help("declare PRIMARY KEY (…) NOT ENFORCED, as the table was written"));
        }
        let keys: Vec<usize> = table.primary_key.iter().copied().take_while(|column| equal.contains(column)).collect();
        if keys.is_empty() {
            let name = |column: &usize| table.schema.field(*column).name().as_str();
            let names: Vec<&str> = table.primary_key.iter().map(name).collect();
            let text = format!(
                "'{}' cannot be looked up by these columns: its rows are found by its primary key ({})",
                table.name,
                names.join(", ")
            );
            return Err(Diagnostic::new(text).help(format!("join with ON … = {}", names[0])));
        }
        Ok(keys)
    }

    fn open_lookup(
        &self,
        table: &TableDef,
        keys: &[usize],
        projection: &[usize],
        context: &Context,
    ) -> Result<Box<dyn Lookup>> {
        let client = Client::new(stored_name(table), context)?;
        let columns = |columns: &[usize]| table.schema.project(columns).map_err(|why| Error::Fatal(why.to_string()));
        let mut lookup = lookup::TableLookup::new(client, columns(keys)?, columns(projection)?);
        lookup.begin(table)?;
        Ok(Box::new(lookup))
    }
}

#[cfg(test)]
mod tests;
