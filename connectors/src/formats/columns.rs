//! The columns of a table whose records are by a schema, for one that declares none: those of the schema that the table gives,
//! else of the last version that the registry has for its topic.
//!
//! May ask the registry, and blocks meanwhile.

use super::protobuf::{self, Source};
use super::schema_registry::{Registered, SchemaRegistry};
use super::schemas::{self, PROTOBUF_MESSAGE, Settings};
use super::{Format, avro};
use crate::{Columns, Error, Result, TableDef};

/// Of the values in `topic`; nothing where no schema says it.
pub fn columns(table: &TableDef, topic: &str) -> Result<Option<Columns>> {
    let format = Format::of(table)?;
    let columns = match format {
        Format::Avro => match schemas::avro_text(table)? {
            Some(text) => of_avro(&text, &[]),
            None => match registered(table, topic, "AVRO")? {
                Some(schema) => {
                    let references: Vec<String> = schema.references.iter().map(|(_, text)| text.clone()).collect();
                    of_avro(&schema.text, &references)
                }
                None => return Ok(None),
            },
        },
        Format::Protobuf => match schemas::protobuf_source(table)? {
            Some(source) => protobuf::columns(&schemas::message_of(table, &source)?),
            None => match registered(table, topic, "PROTOBUF")? {
                Some(schema) => of_protobuf(table, &schema),
                None => return Ok(None),
            },
        },
        Format::Json | Format::Csv | Format::Raw => return Ok(None),
    };
    let columns = columns.map_err(|why| Error::Fatal(format!("the schema of table '{}' {why}", table.name)))?;
    Ok(Some(Columns { columns, primary_key: Vec::new() }))
}

type Found = std::result::Result<Vec<(String, arrow::datatypes::DataType)>, String>;

fn of_avro(text: &str, references: &[String]) -> Found {
    avro::columns(&avro::Schema::parse(text, references)?)
}

fn of_protobuf(table: &TableDef, schema: &Registered) -> Found {
    let (pool, file) = protobuf::pool_of(&Source::Text(schema.text.clone()), &schema.references)?;
    let message = match table.option(PROTOBUF_MESSAGE.name) {
        Some(name) => pool.get_message_by_name(name).ok_or_else(|| format!("has no message '{name}'"))?,
        None => match (file.messages().next(), file.messages().len()) {
            (Some(message), 1) => message,
            (_, n) => {
                let names: Vec<String> = file.messages().map(|message| message.full_name().to_owned()).collect();
                return Err(format!("holds {n} messages ({}); name one with protobuf.message", names.join(", ")));
            }
        },
    };
    protobuf::columns(&message)
}

/// What the registry has last; nothing without a registry.
fn registered(table: &TableDef, topic: &str, kind: &str) -> Result<Option<Registered>> {
    let settings = Settings::of(table)?;
    let Some(access) = settings.registry else { return Ok(None) };
    let registry = SchemaRegistry::of(access);
    let subject = settings.subject.unwrap_or_else(|| format!("{topic}-value"));
    let Some(kept) = registry.latest(&subject)? else {
        return Err(Error::Fatal(format!(
            "table '{}' declares no columns, and {} knows no subject '{subject}' that would say them; declare them, or name \
             the subject with schema.registry.subject",
            table.name,
            registry.name()
        )));
    };
    if kept.schema.kind != kind {
        return Err(Error::Fatal(format!(
            "subject '{subject}' of {} is of type {}, and table '{}' has format = '{}'",
            registry.name(),
            kept.schema.kind,
            table.name,
            kind.to_lowercase()
        )));
    }
    Ok(Some(kept.schema))
}
