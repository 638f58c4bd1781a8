//! Apache Kafka: topics as tables to read and to write.
//!
//! Promises: a source's splits are the partitions of its topics, assigned explicitly, and its positions are Kafka's own
//! offsets; they live in the job's checkpoints, so a consumer group is told of them, and asked at a first start at most. A sink is exactly
//! once through transactions that are opened only when the checkpoint is durable (see [`exactly_once`]), or at least
//! once through an idempotent producer.
//!
//! Does not know: formats (see [`crate::formats`]), and which slice reads what.
//!
//! Memory: a reader holds at most `queued.max.messages.kbytes` (64 MiB) fetched ahead over all its partitions, of which one
//! fetch (`fetch.message.max.bytes`, 1 MiB) each may go beyond, and per partition the batch being built, 4 MiB. A partition
//! is not fetched while there is no room, so a job that stands still holds no more. A sink holds 64 MiB in librdkafka, and
//! an exactly-once sink one `buffer.memory` more.

mod at_least_once;
mod changelog;
mod cluster;
mod debezium;
mod discovery;
mod exactly_once;
mod fetched;
mod keys;
mod metadata;
mod outbox;
mod producer;
mod record;
mod settings;
mod source;
mod startup;
mod topics;
pub mod usual;
mod values;

use crate::api::{
    Columns, Connector, Context, Delivery, Error, Gives, MetadataInfo, OptionInfo, Result, Sink, SourceReader,
    SplitStart, TableDef, Takes,
};
use crate::formats;
use at_least_once::AtLeastOnceSink;
use exactly_once::ExactlyOnceSink;
use jobs::Diagnostic;
use settings::Settings;
use source::Source;
use startup::{Bounded, Startup};
use topics::Topics;

pub struct Kafka;

pub static CONNECTOR: Kafka = Kafka;

const fn option(
    name: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    required: bool,
    doc: &'static str,
) -> OptionInfo {
    OptionInfo { name, kind, default, required, doc }
}

static OPTIONS: [OptionInfo; N_OPTIONS] = {
    let mut all = [formats::SCHEMA_OPTIONS[0]; N_OPTIONS];
    let mut at = 0;
    while at < N_OPTIONS {
        all[at] = if at < OWN.len() { OWN[at] } else { formats::SCHEMA_OPTIONS[at - OWN.len()] };
        at += 1;
    }
    all
};
const N_OPTIONS: usize = OWN.len() + formats::SCHEMA_OPTIONS.len();

const OWN: &[OptionInfo] = &[
    option(
        topics::TOPIC,
        "text",
        None,
        false,
        "the topic to read or write; source: or several, separated by commas; needed, but with topic.pattern",
    ),
    option(
        topics::PATTERN,
        "text",
        None,
        false,
        "source: a regular expression; all topics whose whole name fits are read, also such as come later",
    ),
    option(
        settings::BROKERS,
        "text",
        None,
        false,
        "brokers to ask first, host:port, separated by commas; under this name or as bootstrap.servers; needed, but on the \
         cluster of `smack dev`, which has a broker of its own",
    ),
    option(settings::BROKERS_ALIAS, "text", None, false, "the same as properties.bootstrap.servers"),
    formats::STREAM_FORMAT,
    formats::JSON_TIMESTAMP_FORMAT,
    formats::CSV_DELIMITER,
    formats::CSV_HEADER,
    option(
        startup::STARTUP,
        "earliest|latest|group|timestamp:<time>|specific:<partition>=<offset>,…",
        Some("earliest"),
        false,
        "source: where a job without a checkpoint begins; a time is milliseconds since 1970 or 2026-01-31T12:00:00Z; group is \
         what group.id has committed; partitions that specific does not name begin at their beginning, as do those that come \
         later",
    ),
    option(
        startup::GROUP_ELSE,
        "earliest|latest",
        Some("earliest"),
        false,
        "source, scan.startup = 'group': where a partition begins of which the group has committed nothing",
    ),
    option(
        startup::BOUNDED,
        "none|latest|timestamp:<time>|specific:<partition>=<offset>,…",
        Some("none"),
        false,
        "source: where reading ends: at what was in each partition, committed, when it was opened, or before that at the \
         first record that is not older, or before the given offset, even if it has yet to come",
    ),
    option(
        settings::DISCOVERY,
        "duration|off",
        Some("30s"),
        false,
        "source without an end: how often new partitions, and with topic.pattern new topics, are looked for; they are read \
         from their beginning",
    ),
    option(
        "isolation",
        "read_committed|read_uncommitted",
        Some("read_committed"),
        false,
        "source: whether records of open and aborted transactions are left out",
    ),
    option(
        "bad_data",
        "dead_letter|drop|fail",
        Some("dead_letter"),
        false,
        "source: what becomes of a record that does not decode; without option 'changelog' a record without a value (a \
         tombstone) is one",
    ),
    option(
        "group.id",
        "text",
        None,
        false,
        "source: consumer group that is told after each checkpoint how far the job has come, for lag tools; read at a first \
         start with scan.startup = 'group' only",
    ),
    option(
        "key.fields",
        "text",
        None,
        false,
        "sink: columns of the record's key, separated by commas; default the primary key, if there is one",
    ),
    option(
        "changelog",
        "upsert|debezium",
        None,
        false,
        "that records are changes of rows: upsert, a record is the row of its primary key, and one without a value (a \
         tombstone) says that the row is gone; debezium, every change is in Debezium's JSON envelope with before, after \
         and op; without it a query that takes rows back cannot be written, and every record that is read is a row",
    ),
    formats::KEY_FORMAT,
    option(
        "delivery",
        "exactly_once|at_least_once",
        Some("exactly_once"),
        false,
        "sink: transactions at each checkpoint, or records at once that may appear again after a crash",
    ),
    option(
        "transaction.timeout",
        "duration",
        Some("60s"),
        false,
        "sink, exactly_once: how long one commit may take; transactions are open only while committing, so the checkpoint \
         interval does not count; at most the broker's transaction.max.timeout.ms",
    ),
    option(
        "buffer.memory",
        "number",
        Some("256MiB"),
        false,
        "sink, exactly_once: most bytes of encoded records that one slice keeps until their checkpoint is durable",
    ),
    option("create_topic", "bool", Some("false"), false, "whether a missing topic is created"),
    option("partitions", "number", None, false, "with create_topic: number of partitions; default the broker's"),
    option("replication", "number", None, false, "with create_topic: replication factor; default the broker's"),
];

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn doc(&self) -> &'static str {
        "a topic of Apache Kafka, or of whatever speaks its protocol; properties.* and librdkafka.* reach the client as \
         they are (security.protocol, sasl.mechanism, sasl.username, ssl.ca.location, …)"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn option_prefixes(&self) -> &'static [&'static str] {
        &settings::PASSED_THROUGH
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn metadata(&self) -> &'static [MetadataInfo] {
        metadata::KNOWN
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = Settings::of(table).err().unwrap_or_default();
        if let Ok((values, _)) = metadata::split(table) {
            wrong.extend(formats::check(&values));
        }
        wrong
    }

    fn columns(&self, table: &TableDef, context: &Context) -> Result<Option<Columns>> {
        let topic = table.option(topics::TOPIC).and_then(|topics| topics.split(',').next()).unwrap_or_default().trim();
        formats::columns(&formats::beside(table, &context.base_dir), topic)
    }

    fn bounded(&self, table: &TableDef) -> bool {
        Settings::of(table).is_ok_and(|settings| settings.bounded != Bounded::No)
    }

    fn discovers(&self, table: &TableDef) -> bool {
        Settings::of(table).is_ok_and(|settings| settings.discovery.is_some())
    }

    fn refuses_writing(&self, table: &TableDef) -> Option<Diagnostic> {
        let settings = Settings::of(table).ok()?;
        if !matches!(settings.topics, Topics::One(_)) {
            let text = format!("'{}' cannot be written: it is of several topics", table.name);
            return Some(Diagnostic::new(text).help(
                "declare a table of one topic; which one a row goes to can be said by a column: name VARCHAR METADATA FROM 'topic'",
            ));
        }
        let column = settings.metadata.iter().find(|column| column.read_only);
        if let Some(column) = column {
            let text =
                format!("'{}' cannot be written: column '{}' is metadata that is only read", table.name, column.name);
            return Some(Diagnostic::new(text).help("declare another table of the topic, without that column"));
        }
        let column = settings.metadata.first().filter(|_| settings.changelog != changelog::Changelog::None)?;
        let text = format!(
            "'{}' cannot be written: column '{}' is metadata, which goes with appended rows only, not with a changelog",
            table.name, column.name
        );
        Some(Diagnostic::new(text).help("declare another table of the topic, without that column"))
    }

    fn reads_fields(&self, table: &TableDef) -> bool {
        formats::reads_fields(table)
    }

    fn delivery(&self, table: &TableDef) -> Delivery {
        Settings::of(table).map_or(Delivery::AtLeastOnce, |settings| settings.delivery)
    }

    fn takes(&self, table: &TableDef) -> Takes {
        Settings::of(table).map_or(Takes::Append, |settings| settings.changelog.takes())
    }

    fn gives(&self, table: &TableDef) -> Gives {
        Settings::of(table).map_or(Gives::Rows, |settings| settings.changelog.gives(table))
    }

    fn to_take_changes(&self, _table: &TableDef) -> Option<&'static str> {
        Some("add changelog = 'upsert' with PRIMARY KEY (…) NOT ENFORCED, or changelog = 'debezium'")
    }

    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>> {
        let settings = Settings::open(table, context)?;
        let splits = settings.topics.splits(&cluster::topics(&settings)?);
        let mut named = Vec::new();
        if let Startup::Specific(offsets) = &settings.startup {
            named.extend(offsets.keys().map(|partition| (startup::STARTUP, partition)));
        }
        if let Bounded::Specific(offsets) = &settings.bounded {
            named.extend(offsets.keys().map(|partition| (startup::BOUNDED, partition)));
        }
        if let Some((option, partition)) = named.iter().find(|(_, partition)| !splits.contains(partition)) {
            return Err(Error::Fatal(format!(
                "option '{option}' of table '{}' names partition {} of topic '{}', which Kafka at {} has not",
                settings.table, partition.number, partition.topic, settings.brokers
            )));
        }
        if splits.is_empty() && settings.discovery.is_none() {
            return Err(Error::Fatal(format!(
                "no topic of Kafka at {} fits '{}', which table '{}' reads, and no new ones are looked for",
                settings.brokers, settings.topic, settings.table
            )));
        }
        Ok(splits.iter().map(ToString::to_string).collect())
    }

    fn formerly(&self, table: &TableDef, split: &str) -> Option<String> {
        let topics = Topics::of(table).ok()?;
        matches!(topics, Topics::One(_)).then(|| topics.parse(split))?.map(|partition| partition.number.to_string())
    }

    fn slot_of(&self, table: &TableDef, split: &str, at: usize, n_slots: u32) -> u32 {
        // Tables that were opened were checked; the other way is for such as cannot be.
        let by_name = Topics::of(table).ok().and_then(|topics| Some(topics.slot_of(&topics.parse(split)?, n_slots)));
        by_name.unwrap_or((at as u64 % u64::from(n_slots)) as u32)
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let settings = Settings::open(table, context)?;
        Ok(Box::new(Source::open(settings, table, projection, splits, context)?))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        let settings = Settings::open(table, context)?;
        cluster::topics(&settings)?;
        Ok(match settings.delivery {
            Delivery::ExactlyOnce => Box::new(ExactlyOnceSink::open(settings, context)?),
            _ => Box::new(AtLeastOnceSink::open(settings)?),
        })
    }
}
