//! Apache Kafka: topics as tables to read and to write.
//!
//! Promises: a source's splits are the topic's partitions, assigned explicitly, and its positions are Kafka's own
//! offsets; they live in the job's checkpoints, so a consumer group is told of them but never asked. A sink is exactly
//! once through transactions that are opened only when the checkpoint is durable (see [`exactly_once`]), or at least
//! once through an idempotent producer.
//!
//! Does not know: formats (see [`crate::formats`]), and which slice reads what.
//!
//! Memory: a source holds at most `queued.max.messages.kbytes` (64 MiB) fetched ahead plus, per partition, the batch
//! being built; a sink holds 64 MiB in librdkafka, and an exactly-once sink one `buffer.memory` more.

mod at_least_once;
mod changelog;
mod cluster;
mod debezium;
mod exactly_once;
mod keys;
mod outbox;
mod producer;
mod settings;
mod source;
pub mod usual;
mod values;

use crate::api::{
    Connector, Context, Delivery, Gives, OptionInfo, Result, Sink, SourceReader, SplitStart, TableDef, Takes,
};
use crate::formats;
use at_least_once::AtLeastOnceSink;
use exactly_once::ExactlyOnceSink;
use jobs::Diagnostic;
use settings::Settings;
use source::Source;

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
    option("topic", "text", None, true, "the topic to read or write"),
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
        "scan.startup",
        "earliest|latest|timestamp:<ms>",
        Some("earliest"),
        false,
        "source: where a job without a checkpoint begins; a timestamp is milliseconds since 1970",
    ),
    option(
        "scan.bounded",
        "none|latest",
        Some("none"),
        false,
        "source: latest ends each partition at what was in it, committed, when it was opened",
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
        "source: consumer group that is told how far the job has come, for lag tools; never read",
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

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = Settings::of(table).err().unwrap_or_default();
        wrong.extend(formats::check(table));
        wrong
    }

    fn bounded(&self, table: &TableDef) -> bool {
        Settings::of(table).is_ok_and(|settings| settings.bounded)
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
        let partitions = cluster::partitions(&settings)?;
        Ok(partitions.iter().map(i32::to_string).collect())
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let settings = Settings::open(table, context)?;
        let table = formats::beside(table, &context.base_dir);
        Ok(Box::new(Source::open(settings, &table, projection, splits)?))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        let settings = Settings::open(table, context)?;
        cluster::partitions(&settings)?;
        let table = &formats::beside(table, &context.base_dir);
        Ok(match settings.delivery {
            Delivery::ExactlyOnce => Box::new(ExactlyOnceSink::open(settings, table, context)?),
            _ => Box::new(AtLeastOnceSink::open(settings, table)?),
        })
    }
}
