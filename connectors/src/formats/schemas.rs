//! The schemas of a table whose records are Avro or Protobuf: where they come from, and who may make them known.
//!
//! - A registry, `schema.registry.url`: each record names its schema, and what is written is named alike. A schema that
//!   the table gives is then the reader's, and what is written is written by it.
//! - Without a registry all records are by one schema: the one that the table gives, or one derived from its columns.
//!
//! Invariant: nothing is asked and no file is opened before a table is.

use super::binary::{BinaryEngine, Plans, Wire, columns_of};
use super::framing::Frame;
use super::json::Object;
use super::json::walk::Result as Read;
use super::protobuf::{self, Source};
use super::records::Engine;
use super::schema_registry::{Access, Registered, SchemaRegistry};
use super::{Format, avro};
use crate::{OptionInfo, Options, TableDef};
use arrow::datatypes::{Fields, SchemaRef};
use jobs::Diagnostic;
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const fn text(name: &'static str, doc: &'static str) -> OptionInfo {
    OptionInfo { name, kind: "text", default: None, required: false, doc }
}

pub const AVRO_SCHEMA: OptionInfo = text(
    "avro.schema",
    "the schema of values, as JSON: with a registry that of the reader, with aliases and defaults, by which rows are written, \
     too; default from the columns",
);
pub const AVRO_SCHEMA_FILE: OptionInfo =
    text("avro.schema.file", "a file that holds avro.schema; relative to the job file");
pub const AVRO_RECORD: OptionInfo = text(
    "avro.record",
    "sink: the full name of the record in a schema made from the columns; default the table's name",
);
pub const PROTOBUF_SCHEMA: OptionInfo = text("protobuf.schema", "the text of a .proto file that holds the message");
pub const PROTOBUF_SCHEMA_FILE: OptionInfo = text(
    "protobuf.schema.file",
    "a .proto file that imports no others than Google's, or a compiled FileDescriptorSet; relative to the job file",
);
pub const PROTOBUF_MESSAGE: OptionInfo = text(
    "protobuf.message",
    "the full name of the message; needed where a file holds several; with a registry, records of others are bad ones",
);
pub const REGISTRY_URL: OptionInfo = text(
    "schema.registry.url",
    "avro, protobuf: the address of a schema registry before /subjects and /schemas; several with commas; without it \
     records are nothing but their payload",
);
pub const REGISTRY_USER: OptionInfo = text("schema.registry.user", "whom the registry knows");
pub const REGISTRY_PASSWORD: OptionInfo = text("schema.registry.password", "the password of schema.registry.user");
pub const REGISTRY_CA: OptionInfo = text(
    "schema.registry.ssl.ca.location",
    "a file of certificates (PEM) that vouch for the registry, for https; default those that the system trusts; relative to the \
     job file",
);
pub const REGISTRY_CERTIFICATE: OptionInfo = text(
    "schema.registry.ssl.certificate.location",
    "the certificate (PEM) that is shown to the registry, with schema.registry.ssl.key.location; relative to the job file",
);
pub const REGISTRY_KEY: OptionInfo =
    text("schema.registry.ssl.key.location", "the key (PEM) of that certificate; relative to the job file");
pub const REGISTRY_AUTO: OptionInfo = OptionInfo {
    name: "schema.registry.auto_register",
    kind: "bool",
    default: Some("true"),
    required: false,
    doc: "sink: whether the schema of rows is made known to the registry; else the one given must be known there, and \
          without one rows are written by the last version of the subject",
};
pub const REGISTRY_SUBJECT: OptionInfo = text("schema.registry.subject", "sink: the subject of values");
pub const REGISTRY_STRATEGY: OptionInfo = OptionInfo {
    name: "schema.registry.subject_strategy",
    kind: "topic|record|topic_record",
    default: Some("topic"),
    required: false,
    doc: "sink: what a subject is named by: topic, TOPIC-value and TOPIC-key; record, the full name of the record; \
          topic_record, TOPIC-NAME",
};
pub const REGISTRY_PLACE: OptionInfo = OptionInfo {
    name: "schema.registry.id_location",
    kind: "payload|header",
    default: Some("payload"),
    required: false,
    doc: "sink: where the schema's id stands: before the payload, or its GUID in the header __value_schema_id or \
          __key_schema_id; a source finds either",
};

/// All that are about schemas, in the order in which they are listed.
pub const ALL: [OptionInfo; 16] = [
    AVRO_SCHEMA,
    AVRO_SCHEMA_FILE,
    AVRO_RECORD,
    PROTOBUF_SCHEMA,
    PROTOBUF_SCHEMA_FILE,
    PROTOBUF_MESSAGE,
    REGISTRY_URL,
    REGISTRY_USER,
    REGISTRY_PASSWORD,
    REGISTRY_CA,
    REGISTRY_CERTIFICATE,
    REGISTRY_KEY,
    REGISTRY_AUTO,
    REGISTRY_SUBJECT,
    REGISTRY_STRATEGY,
    REGISTRY_PLACE,
];

const FILES: [&str; 2] = [AVRO_SCHEMA_FILE.name, PROTOBUF_SCHEMA_FILE.name];
const CERTIFICATES: [&str; 3] = [REGISTRY_CA.name, REGISTRY_CERTIFICATE.name, REGISTRY_KEY.name];

/// What a record has a schema for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Value,
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Topic,
    Record,
    TopicRecord,
}

/// The options about schemas, typed.
pub struct Settings {
    pub registry: Option<Access>,
    pub auto_register: bool,
    pub subject: Option<String>,
    pub strategy: Strategy,
    pub in_header: bool,
}

impl Settings {
    pub fn of(table: &TableDef) -> Result<Self, Diagnostic> {
        let options = Options::new(table);
        let registry = access(&options)?;
        let auto_register = options.bool(REGISTRY_AUTO.name)?.unwrap_or(true);
        let strategy = match options.one_of(REGISTRY_STRATEGY.name, &["topic", "record", "topic_record"])? {
            Some("record") => Strategy::Record,
            Some("topic_record") => Strategy::TopicRecord,
            _ => Strategy::Topic,
        };
        let in_header = options.one_of(REGISTRY_PLACE.name, &["payload", "header"])? == Some("header");
        Ok(Self {
            registry,
            auto_register,
            subject: options.text(REGISTRY_SUBJECT.name).map(str::to_owned),
            strategy,
            in_header,
        })
    }
}

fn access(options: &Options<'_>) -> Result<Option<Access>, Diagnostic> {
    let name = REGISTRY_URL.name;
    let lone = ALL.iter().filter(|info| info.name.starts_with("schema.registry.") && info.name != name);
    let Some(text) = options.text(name) else {
        return match lone.into_iter().find(|info| options.entry(info.name).is_some()) {
            Some(info) => Err(options
                .wrong(info.name, format!("option '{}' is about a schema registry, and none is given", info.name))
                .help("add schema.registry.url = 'http://host:8081'")),
            None => Ok(None),
        };
    };
    let mut urls = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let url = Url::parse(part).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let Some(url) = url else {
            return Err(options
                .wrong(name, "option 'schema.registry.url' is no address of a schema registry")
                .help("write for example http://host:8081"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(options
                .wrong(name, "option 'schema.registry.url' has a user in it")
                .help("use schema.registry.user and schema.registry.password"));
        }
        urls.push(url);
    }
    if urls.is_empty() {
        return Err(options.wrong(name, "option 'schema.registry.url' is empty"));
    }
    let (user, password) = (options.text(REGISTRY_USER.name), options.text(REGISTRY_PASSWORD.name));
    if user.is_none() && password.is_some() {
        return Err(options.wrong(REGISTRY_PASSWORD.name, "a password is given, and no schema.registry.user"));
    }
    let file = |info: &OptionInfo| options.text(info.name).map(PathBuf::from);
    let certificate = match (file(&REGISTRY_CERTIFICATE), file(&REGISTRY_KEY)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (one, _) => {
            let given = if one.is_some() { REGISTRY_CERTIFICATE } else { REGISTRY_KEY };
            let wrong = options.wrong(given.name, "a certificate is shown together with its key");
            return Err(wrong.help(format!("give both {} and {}", REGISTRY_CERTIFICATE.name, REGISTRY_KEY.name)));
        }
    };
    let lone = CERTIFICATES.iter().find(|name| options.entry(name).is_some());
    if let (Some(name), false) = (lone, urls.iter().any(|url| url.scheme() == "https")) {
        let wrong = options.wrong(name, format!("option '{name}' is for a registry that is reached by https"));
        return Err(wrong.help("write schema.registry.url = 'https://…'"));
    }
    let (user, password) = (user.map(str::to_owned), password.map(str::to_owned));
    Ok(Some(Access { urls, user, password, authorities: file(&REGISTRY_CA), certificate }))
}

/// The table with its files of schemas and certificates found beside the job file.
pub fn beside(table: &TableDef, folder: &Path) -> TableDef {
    let mut table = table.clone();
    let files: Vec<&str> = [&FILES[..], &CERTIFICATES[..]].concat();
    for entry in table.options.iter_mut().filter(|entry| files.contains(&entry.key.as_str())) {
        entry.value = folder.join(&entry.value).to_string_lossy().into_owned();
    }
    table
}

/// The mistakes that the declaration alone shows.
pub fn check(table: &TableDef, format: Format) -> Option<Diagnostic> {
    let options = Options::new(table);
    let key_is = |word: &str| options.text(super::KEY_FORMAT.name).is_some_and(|key| key.eq_ignore_ascii_case(word));
    let (avro, protobuf) = (format == Format::Avro, format == Format::Protobuf);
    let (avro, protobuf) = (avro || key_is("avro"), protobuf || key_is("protobuf"));
    for info in ALL.iter().filter(|info| options.entry(info.name).is_some()) {
        let fits = match info.name.split('.').next() {
            Some("avro") => avro,
            Some("protobuf") => protobuf,
            _ => avro || protobuf,
        };
        if !fits {
            let text = format!("option '{}' is about another format than the table has", info.name);
            return Some(options.wrong(info.name, text).help("set option 'format', or leave it out"));
        }
    }
    for (inline, file) in [(AVRO_SCHEMA, AVRO_SCHEMA_FILE), (PROTOBUF_SCHEMA, PROTOBUF_SCHEMA_FILE)] {
        if options.entry(inline.name).is_some() && options.entry(file.name).is_some() {
            return Some(options.wrong(file.name, format!("both '{}' and '{}' are given", inline.name, file.name)));
        }
    }
    Settings::of(table).err()
}

/// Whether a schema can be looked into before files are opened.
pub fn is_at_hand(table: &TableDef) -> bool {
    FILES.iter().all(|name| table.option(name).is_none())
}

/// The Avro schema that the table gives for its values.
pub fn avro_text(table: &TableDef) -> Result<Option<String>, Diagnostic> {
    let options = Options::new(table);
    match (options.text(AVRO_SCHEMA.name), options.text(AVRO_SCHEMA_FILE.name)) {
        (Some(text), _) => Ok(Some(text.to_owned())),
        (None, None) => Ok(None),
        (None, Some(path)) => std::fs::read_to_string(path).map(Some).map_err(|why| {
            options.wrong(AVRO_SCHEMA_FILE.name, format!("the schema file {path} cannot be read: {why}"))
        }),
    }
}

/// The Protobuf schema that the table gives for its values.
pub fn protobuf_source(table: &TableDef) -> Result<Option<Source>, Diagnostic> {
    let options = Options::new(table);
    match (options.text(PROTOBUF_SCHEMA.name), options.text(PROTOBUF_SCHEMA_FILE.name)) {
        (Some(text), _) => Ok(Some(Source::Text(text.to_owned()))),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let failed =
                |why: String| options.wrong(PROTOBUF_SCHEMA_FILE.name, format!("the schema file {path} {why}"));
            let bytes = std::fs::read(path).map_err(|why| failed(format!("cannot be read: {why}")))?;
            match path.ends_with(".proto") {
                true => {
                    String::from_utf8(bytes).map(Source::Text).map(Some).map_err(|_| failed("is no text".to_owned()))
                }
                false => Ok(Some(Source::Compiled(bytes))),
            }
        }
    }
}

/// The message that a table's values are, if it says which.
pub fn message_of(table: &TableDef, source: &Source) -> Result<protox::prost_reflect::MessageDescriptor, Diagnostic> {
    let options = Options::new(table);
    let about = if options.entry(PROTOBUF_SCHEMA.name).is_some() { PROTOBUF_SCHEMA } else { PROTOBUF_SCHEMA_FILE };
    let wrong = |why: String| options.wrong(about.name, format!("the schema of table '{}' {why}", table.name));
    let (pool, file) = protobuf::pool_of(source, &[]).map_err(wrong)?;
    match options.text(PROTOBUF_MESSAGE.name) {
        Some(name) => pool.get_message_by_name(name).ok_or_else(|| {
            let all: Vec<String> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
            options
                .wrong(PROTOBUF_MESSAGE.name, format!("the schema of table '{}' has no message '{name}'", table.name))
                .suggest(name, all.iter().map(String::as_str))
        }),
        None => match (file.messages().next(), file.messages().len()) {
            (Some(message), 1) => Ok(message),
            (_, n) => Err(wrong(format!("holds {n} messages")).help("name one with protobuf.message")),
        },
    }
}

/// The name of a schema that is made from columns.
pub fn derived_name(table: &TableDef, part: Part) -> String {
    let options = Options::new(table);
    let given = options.text(AVRO_RECORD.name).or_else(|| options.text(PROTOBUF_MESSAGE.name));
    let name = given.unwrap_or(&table.name);
    if part == Part::Key { format!("{name}_key") } else { name.to_owned() }
}

/// Reads records of a table; `all` are the columns that a record has, of which `schema` has the wanted ones.
pub fn engine(
    format: Format,
    part: Part,
    schema: SchemaRef,
    all: &Fields,
    table: &TableDef,
) -> Result<Box<dyn Engine>, Diagnostic> {
    let settings = Settings::of(table)?;
    let columns = columns_of(&schema).map_err(|(name, kind)| {
        Diagnostic::new(format!("column '{name}' cannot be read from a binary format: {kind} has no form there"))
    })?;
    let registry = settings.registry.map(SchemaRegistry::of);
    let fields = schema.fields().clone();
    if format == Format::Avro {
        let options = Options::new(table);
        let about = if options.entry(AVRO_SCHEMA.name).is_some() { AVRO_SCHEMA } else { AVRO_SCHEMA_FILE };
        let wrong = |why: String| options.wrong(about.name, format!("the schema of table '{}' {why}", table.name));
        let given = if part == Part::Value { avro_text(table)? } else { None };
        let parse = |text: &str| avro::Schema::parse(text, &[]).map(Arc::new).map_err(wrong);
        let reader = given.as_deref().map(parse).transpose()?;
        let Some(registry) = registry else {
            let writer = match reader {
                Some(reader) => reader,
                None => parse(&avro::schema_of(&derived_name(table, part), all).map_err(wrong)?)?,
            };
            let plan = avro::Reading { writer: &writer, reader: None }.of_columns(&fields).map_err(wrong)?;
            let wire = AvroWire { fields, reader: None };
            return Ok(Box::new(BinaryEngine::new(schema, columns, wire, Plans::One(plan))));
        };
        if let Some(reader) = &reader {
            // Whether the columns fit it can be told before a record comes.
            avro::Reading { writer: reader, reader: Some(reader) }.of_columns(&fields).map_err(wrong)?;
        }
        let wire = AvroWire { fields, reader };
        let plans = Plans::ByFrame { registry, known: Default::default() };
        return Ok(Box::new(BinaryEngine::new(schema, columns, wire, plans)));
    }
    let source = if part == Part::Value { protobuf_source(table)? } else { None };
    let options = Options::new(table);
    let wanted = if part == Part::Value { options.text(PROTOBUF_MESSAGE.name).map(str::to_owned) } else { None };
    let wrong = |why: String| Diagnostic::new(format!("the schema of table '{}' {why}", table.name));
    let Some(registry) = registry else {
        let message = match &source {
            Some(source) => message_of(table, source)?,
            None => {
                let text = protobuf::proto_of(&derived_name(table, part), all).map_err(wrong)?;
                let (_, file) = protobuf::pool_of(&Source::Text(text), &[]).map_err(wrong)?;
                file.messages().next().ok_or_else(|| wrong("holds no message".to_owned()))?
            }
        };
        let plan = protobuf::message_of(&message, &fields).map_err(wrong)?;
        let wire = ProtobufWire { fields, wanted: None };
        return Ok(Box::new(BinaryEngine::new(schema, columns, wire, Plans::One(plan))));
    };
    let wire = ProtobufWire { fields, wanted };
    let plans = Plans::ByFrame { registry, known: Default::default() };
    Ok(Box::new(BinaryEngine::new(schema, columns, wire, plans)))
}

struct AvroWire {
    fields: Fields,
    reader: Option<Arc<avro::Schema>>,
}

impl Wire for AvroWire {
    type Plan = avro::Root;
    const INDEXES: bool = false;

    fn plan(&self, schema: &Registered, _frame: &Frame) -> Result<avro::Root, String> {
        if schema.kind != "AVRO" {
            return Err(format!("is of type {}, not Avro", schema.kind));
        }
        let references: Vec<String> = schema.references.iter().map(|(_, text)| text.clone()).collect();
        let writer = Arc::new(avro::Schema::parse(&schema.text, &references)?);
        avro::Reading { writer: &writer, reader: self.reader.as_ref() }.of_columns(&self.fields)
    }

    fn read(&self, plan: &avro::Root, columns: &mut Object, record: &[u8], row: usize) -> Read<()> {
        avro::read_record(plan, columns, record, row)
    }
}

struct ProtobufWire {
    fields: Fields,
    /// The full name of the message.
    wanted: Option<String>,
}

impl Wire for ProtobufWire {
    type Plan = protobuf::Message;
    const INDEXES: bool = true;

    fn plan(&self, schema: &Registered, frame: &Frame) -> Result<protobuf::Message, String> {
        if schema.kind != "PROTOBUF" {
            return Err(format!("is of type {}, not Protobuf", schema.kind));
        }
        let (_, file) = protobuf::pool_of(&Source::Text(schema.text.clone()), &schema.references)?;
        let message = protobuf::message_at(&file, &frame.indexes)
            .ok_or_else(|| format!("holds no message at {:?}", frame.indexes))?;
        match &self.wanted {
            Some(wanted) if wanted != message.full_name() => {
                Err(format!("has the message {} there, not {wanted}", message.full_name()))
            }
            _ => protobuf::message_of(&message, &self.fields),
        }
    }

    fn read(&self, plan: &protobuf::Message, columns: &mut Object, record: &[u8], row: usize) -> Read<()> {
        protobuf::read_message(plan, columns, record, row)
    }
}
