//! Rows to Avro or Protobuf, with what names their schema.
//!
//! Invariant: all records of an encoder are by one schema, which was settled when it was opened: found in the registry, or
//! made known to it.

use super::framing::{Frame, SchemaId};
use super::protobuf::{self, Source};
use super::schema_registry::{Kept, SchemaRegistry};
use super::schemas::{self, Part, Settings, Strategy};
use super::{Format, avro};
use crate::{Error, Result, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, Schema};
use std::sync::Arc;

pub struct BinaryEncoder {
    table: String,
    writing: Writing,
    /// Before each payload.
    prefix: Vec<u8>,
    /// Of each record.
    header: Option<(&'static str, Vec<u8>)>,
}

enum Writing {
    Avro(avro::Writing),
    Protobuf(protobuf::Writing),
}

/// Records, end to end.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, row: usize) -> &[u8] {
        let begin = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[begin..self.ends[row]]
    }
}

impl BinaryEncoder {
    /// For the table's values, or keys of these columns. May ask the registry.
    pub fn open(format: Format, part: Part, table: &TableDef, columns: &Schema) -> Result<Self> {
        let settings = Settings::of(table)?;
        let opening = Opening { settings, part, table, columns: columns.fields() };
        match format {
            Format::Protobuf => opening.protobuf(),
            _ => opening.avro(),
        }
    }

    /// The header of each record, if there is one.
    pub fn header(&self) -> Option<(&'static str, &[u8])> {
        self.header.as_ref().map(|(name, value)| (*name, value.as_slice()))
    }

    /// Writes each row of a batch, whose columns are those that were opened with. `out` is emptied first.
    pub fn encode(&self, batch: &RecordBatch, out: &mut Encoded) -> Result<()> {
        out.bytes.clear();
        out.ends.clear();
        let written = match &self.writing {
            Writing::Avro(writing) => writing.rows(batch, &self.prefix, &mut out.bytes, &mut out.ends),
            Writing::Protobuf(writing) => writing.rows(batch, &self.prefix, &mut out.bytes, &mut out.ends),
        };
        written.map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be written: {why}", self.table)))
    }
}

struct Opening<'a> {
    settings: Settings,
    part: Part,
    table: &'a TableDef,
    columns: &'a Fields,
}

impl Opening<'_> {
    fn wrong(&self, why: String) -> Error {
        let part = if self.part == Part::Key { "keys" } else { "values" };
        Error::Fatal(format!("the schema of the {part} of table '{}' {why}", self.table.name))
    }

    fn avro(&self) -> Result<BinaryEncoder> {
        let given = if self.part == Part::Value { schemas::avro_text(self.table)? } else { None };
        let derived = |opening: &Self| {
            let name = schemas::derived_name(opening.table, opening.part);
            avro::schema_of(&name, opening.columns).map_err(|why| opening.wrong(why))
        };
        let Some(registry) = self.registry() else {
            let text = given.map_or_else(|| derived(self), Ok)?;
            return self.encoder_of_avro(&text, &[], None);
        };
        // A name for the subject can be had without the schema that is there.
        let text = match given {
            Some(text) => Some(text),
            None if self.settings.auto_register => Some(derived(self)?),
            None => None,
        };
        let name = match &text {
            None => schemas::derived_name(self.table, self.part),
            Some(text) => {
                let schema = avro::Schema::parse(text, &[]).map_err(|why| self.wrong(why))?;
                schema.name().unwrap_or_default().to_owned()
            }
        };
        let kept = self.kept(&registry, "AVRO", text.as_deref(), &name)?;
        let references: Vec<String> = kept.schema.references.iter().map(|(_, text)| text.clone()).collect();
        let text = kept.schema.text.clone();
        self.encoder_of_avro(&text, &references, Some((&registry, kept)))
    }

    fn encoder_of_avro(
        &self,
        text: &str,
        references: &[String],
        kept: Option<(&SchemaRegistry, Kept)>,
    ) -> Result<BinaryEncoder> {
        let schema = avro::Schema::parse(text, references).map_err(|why| self.wrong(why))?;
        let writing = avro::Writing::new(&schema, self.columns).map_err(|why| self.wrong(why))?;
        self.encoder(Writing::Avro(writing), kept, None)
    }

    fn protobuf(&self) -> Result<BinaryEncoder> {
        let given = if self.part == Part::Value { schemas::protobuf_source(self.table)? } else { None };
        let derived = |opening: &Self| {
            let name = schemas::derived_name(opening.table, opening.part);
            protobuf::proto_of(&name, opening.columns).map_err(|why| opening.wrong(why)).map(Source::Text)
        };
        let registry = self.registry();
        let source = match given {
            Some(source) => Some(source),
            None if registry.is_none() || self.settings.auto_register => Some(derived(self)?),
            None => None,
        };
        let message = match &source {
            None => None,
            Some(source) if self.part == Part::Value => Some(schemas::message_of(self.table, source)?),
            Some(source) => {
                let (_, file) = protobuf::pool_of(source, &[]).map_err(|why| self.wrong(why))?;
                file.messages().next()
            }
        };
        let Some(registry) = registry else {
            let message = message.ok_or_else(|| self.wrong("holds no message".to_owned()))?;
            return self.encoder_of_message(&message, None);
        };
        let text = match (&source, &message) {
            (Some(Source::Text(text)), _) => Some(text.clone()),
            (Some(Source::Compiled(_)), Some(message)) => Some(protobuf::base64_of(&message.parent_file())),
            _ => None,
        };
        let name = match &message {
            Some(message) => message.full_name().to_owned(),
            None => schemas::derived_name(self.table, self.part),
        };
        let kept = self.kept(&registry, "PROTOBUF", text.as_deref(), &name)?;
        let message = match message {
            Some(message) => message,
            None => {
                let source = Source::Text(kept.schema.text.clone());
                let (pool, file) =
                    protobuf::pool_of(&source, &kept.schema.references).map_err(|why| self.wrong(why))?;
                let wanted =
                    if self.part == Part::Value { self.table.option(schemas::PROTOBUF_MESSAGE.name) } else { None };
                match wanted {
                    Some(name) => pool.get_message_by_name(name),
                    None => file.messages().next(),
                }
                .ok_or_else(|| self.wrong("does not hold the message".to_owned()))?
            }
        };
        self.encoder_of_message(&message, Some((&registry, kept)))
    }

    fn encoder_of_message(
        &self,
        message: &protox::prost_reflect::MessageDescriptor,
        kept: Option<(&SchemaRegistry, Kept)>,
    ) -> Result<BinaryEncoder> {
        let writing = protobuf::Writing::new(message, self.columns).map_err(|why| self.wrong(why))?;
        self.encoder(Writing::Protobuf(writing), kept, Some(protobuf::place_of(message)))
    }

    fn registry(&self) -> Option<Arc<SchemaRegistry>> {
        self.settings.registry.clone().map(SchemaRegistry::of)
    }

    fn subject(&self, name: &str) -> String {
        let topic = self.table.option("topic").unwrap_or_default();
        match (&self.settings.subject, self.settings.strategy, self.part) {
            (Some(subject), _, Part::Value) => subject.clone(),
            (_, Strategy::Topic, Part::Value) => format!("{topic}-value"),
            (_, Strategy::Topic, Part::Key) => format!("{topic}-key"),
            (_, Strategy::Record, _) => name.to_owned(),
            (_, Strategy::TopicRecord, _) => format!("{topic}-{name}"),
        }
    }

    /// The schema under its subject, as the options say.
    fn kept(&self, registry: &SchemaRegistry, kind: &str, text: Option<&str>, name: &str) -> Result<Kept> {
        let subject = self.subject(name);
        let auto = self.settings.auto_register;
        let found = match text {
            Some(text) => registry.ids(&subject, kind, text, auto)?,
            None => registry.latest(&subject)?,
        };
        let mut kept = found.ok_or_else(|| {
            self.wrong(format!(
                "is not under subject '{subject}' of {}; register it, or set schema.registry.auto_register = 'true'",
                registry.name()
            ))
        })?;
        if kept.schema.kind != kind {
            return Err(self.wrong(format!("is of type {} under subject '{subject}', not {kind}", kept.schema.kind)));
        }
        if self.settings.in_header && kept.guid.is_none() {
            // Not every answer that registers a schema names its GUID.
            let text = kept.schema.text.clone();
            kept.guid = registry.ids(&subject, kind, &text, false)?.and_then(|again| again.guid);
        }
        Ok(kept)
    }

    fn encoder(
        &self,
        writing: Writing,
        kept: Option<(&SchemaRegistry, Kept)>,
        indexes: Option<Vec<usize>>,
    ) -> Result<BinaryEncoder> {
        let table = self.table.name.clone();
        let Some((registry, kept)) = kept else {
            return Ok(BinaryEncoder { table, writing, prefix: Vec::new(), header: None });
        };
        let with_indexes = indexes.is_some();
        let frame = |id| Frame { id, indexes: indexes.clone().unwrap_or_default() }.write(with_indexes);
        if !self.settings.in_header {
            return Ok(BinaryEncoder { table, writing, prefix: frame(SchemaId::Number(kept.id)), header: None });
        }
        let guid = kept.guid.ok_or_else(|| {
            Error::Fatal(format!(
                "{} gives no GUIDs, which schema.registry.id_location = 'header' writes; leave that option out",
                registry.name()
            ))
        })?;
        let name = header_name(self.part);
        Ok(BinaryEncoder { table, writing, prefix: Vec::new(), header: Some((name, frame(SchemaId::Guid(guid)))) })
    }
}

/// The header in which newer clients of Confluent's name a schema.
pub fn header_name(part: Part) -> &'static str {
    match part {
        Part::Value => "__value_schema_id",
        Part::Key => "__key_schema_id",
    }
}
