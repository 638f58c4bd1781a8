//! The options of one Kafka table as typed values, and librdkafka's own settings made from them.
//!
//! Invariant: no value of a passed-through option is ever part of a text: it may be a password.

use super::changelog::Changelog;
use super::metadata::{self, Column};
use super::startup::{self, Bounded, Startup};
use super::topics::Topics;
use super::usual;
use crate::api::{Context, Delivery, Error, Result, TableDef};
use crate::formats::{self, Format};
use crate::options::Options;
use jobs::Diagnostic;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const BROKERS: &str = "properties.bootstrap.servers";
pub const BROKERS_ALIAS: &str = "bootstrap.servers";
pub const PASSED_THROUGH: [&str; 2] = ["librdkafka.", "properties."];

pub const DISCOVERY: &str = "scan.discovery";

const GROUP_ALIAS: &str = "properties.group.id";
const DISCOVER_EVERY: Duration = Duration::from_secs(30);
const BUFFER_MIB: f64 = 256.0;

/// Settings that carry what the connector promises, with what to write instead.
const RESERVED: [(&str, &str); 11] = [
    ("acks", "it is always all"),
    ("request.required.acks", "it is always all"),
    ("auto.offset.reset", "use option 'scan.startup'"),
    ("delivery.report.only.error", "leave it out"),
    ("enable.auto.commit", "positions live in checkpoints; leave it out"),
    ("enable.idempotence", "it is always on; leave it out"),
    ("enable.partition.eof", "use option 'scan.bounded'"),
    ("group.id", "use option 'group.id'"),
    ("isolation.level", "use option 'isolation'"),
    ("transaction.timeout.ms", "use option 'transaction.timeout'"),
    ("transactional.id", "it is chosen for each writer; leave it out"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadData {
    DeadLetter,
    Drop,
    Fail,
}

/// Partitions and replication of a topic to be created; `None` is the broker's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub partitions: Option<i32>,
    pub replication: Option<i32>,
}

#[derive(Clone)]
pub struct Settings {
    /// The table's name, for messages.
    pub table: String,
    /// The table without its metadata columns: what values are made of.
    pub values: TableDef,
    pub metadata: Vec<Column>,
    /// The topic that is written; for messages also the pattern, or the names of several that are read.
    pub topic: String,
    pub topics: Topics,
    pub brokers: String,
    pub startup: Startup,
    pub bounded: Bounded,
    /// How often new partitions and topics are looked for.
    pub discovery: Option<Duration>,
    pub read_committed: bool,
    pub bad_data: BadData,
    pub group: Option<String>,
    /// Indices into the schema of `values`; empty is no key.
    pub key_columns: Vec<usize>,
    pub changelog: Changelog,
    pub delivery: Delivery,
    pub transaction_timeout: Duration,
    pub buffer_bytes: usize,
    pub create_topic: Option<NewTopic>,
    /// Whether headers may name the schemas of records.
    pub schemas_in_headers: bool,
    passed_through: Vec<(String, String)>,
}

impl Settings {
    /// All that the declaration alone tells, or all that is wrong with it.
    pub fn of(declared: &TableDef) -> std::result::Result<Self, Vec<Diagnostic>> {
        let options = Options::new(declared);
        let mut wrong = Vec::new();
        let (values, metadata) = metadata::split(declared).unwrap_or_else(|mistakes| {
            wrong.extend(mistakes);
            (declared.clone(), Vec::new())
        });
        let table = &values;
        let topics = Topics::of(table).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            Topics::One(String::new())
        });
        let written = options.text(BROKERS).or(options.text(BROKERS_ALIAS)).unwrap_or_default().trim().to_owned();
        let brokers = if written.is_empty() { usual::brokers().unwrap_or_default() } else { written };
        if brokers.is_empty() {
            let lacking = format!("table '{}' lacks option '{BROKERS}', which connector 'kafka' needs", table.name);
            let help = format!(
                "add {BROKERS} = 'host:9092'; on the cluster of `smack dev` its own broker is meant without it"
            );
            wrong.push(options.wrong("connector", lacking).help(help));
        }
        let key_columns = key_columns(table).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            Vec::new()
        });
        let group = options.text("group.id").or(options.text(GROUP_ALIAS)).map(str::to_owned);
        let startup = startup::startup(&options, &topics, group.is_some()).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            Startup::Earliest
        });
        let bounded = startup::bounded(&options, &topics).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            Bounded::No
        });
        let discovery = discovery(&options, &bounded).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            None
        });
        let mut word = |key: &str, words: &[&'static str]| match options.one_of(key, words) {
            Ok(word) => word.unwrap_or(words[0]),
            Err(mistake) => {
                wrong.push(mistake);
                words[0]
            }
        };
        let read_committed = word("isolation", &["read_committed", "read_uncommitted"]) == "read_committed";
        let bad_data = match word("bad_data", &["dead_letter", "drop", "fail"]) {
            "drop" => BadData::Drop,
            "fail" => BadData::Fail,
            _ => BadData::DeadLetter,
        };
        let delivery = match word("delivery", &["exactly_once", "at_least_once"]) {
            "at_least_once" => Delivery::AtLeastOnce,
            _ => Delivery::ExactlyOnce,
        };
        let changelog = match options.text("changelog") {
            None => Changelog::None,
            Some(_) => match word("changelog", &["upsert", "debezium"]) {
                "debezium" => Changelog::Debezium,
                _ => Changelog::Upsert,
            },
        };
        let create = word("create_topic", &["false", "true"]) == "true";
        let mut count = |key: &str, most: i32| match options.number_within(key, 1, most) {
            Ok(count) => count,
            Err(mistake) => {
                wrong.push(mistake);
                None
            }
        };
        let new_topic =
            NewTopic { partitions: count("partitions", 1_000_000), replication: count("replication", 32_767) };
        if !create && (new_topic.partitions.is_some() || new_topic.replication.is_some()) {
            let key = if new_topic.partitions.is_some() { "partitions" } else { "replication" };
            wrong.push(
                options
                    .wrong(key, format!("option '{key}' is for a topic that is created here"))
                    .help("add create_topic = 'true', or remove it"),
            );
        }
        let transaction_timeout = options.duration("transaction.timeout").unwrap_or_else(|mistake| {
            wrong.push(mistake);
            None
        });
        let transaction_timeout = transaction_timeout.unwrap_or(Duration::from_secs(60));
        if transaction_timeout < Duration::from_secs(1) || transaction_timeout > Duration::from_secs(86_400) {
            wrong.push(options.wrong("transaction.timeout", "option 'transaction.timeout' must be from 1s to 24h"));
        }
        let buffer_mib = match options.text("buffer.memory").map(jobs::text::parse_mem_mib) {
            Some(Err(why)) => {
                wrong.push(options.wrong("buffer.memory", format!("option 'buffer.memory' is not a size: {why}")));
                BUFFER_MIB
            }
            Some(Ok(mib)) if !(0.001..=1_048_576.0).contains(&mib) => {
                wrong.push(options.wrong("buffer.memory", "option 'buffer.memory' must be from 1KiB to 1TiB"));
                BUFFER_MIB
            }
            Some(Ok(mib)) => mib,
            None => BUFFER_MIB,
        };
        wrong.extend(unfit_changelog(table, changelog, &key_columns));
        wrong.extend(unfit_key_format(table, changelog, &key_columns));
        wrong.extend(unfit_metadata(&options, changelog, &metadata));
        let passed_through = passed_through(table, &mut wrong);
        let settings = Self {
            table: table.name.clone(),
            topic: topics.shown(),
            topics,
            metadata,
            brokers,
            startup,
            bounded,
            discovery,
            read_committed,
            bad_data,
            group,
            key_columns,
            changelog,
            delivery,
            transaction_timeout,
            buffer_bytes: (buffer_mib * 1_048_576.0) as usize,
            create_topic: create.then_some(new_topic),
            schemas_in_headers: options.entry("schema.registry.url").is_some(),
            passed_through,
            values: values.clone(),
        };
        if wrong.is_empty() {
            return Ok(settings);
        }
        Err(wrong)
    }

    /// The same for opening: a mistake is fatal, and files are found beside the job file.
    pub fn open(table: &TableDef, context: &Context) -> Result<Self> {
        let mut settings = Self::of(table).map_err(|wrong| {
            let all: Vec<String> = wrong.iter().map(Diagnostic::to_string).collect();
            Error::Fatal(all.join("; "))
        })?;
        for (key, value) in &mut settings.passed_through {
            if key.ends_with(".location") {
                *value = beside(&context.base_dir, value);
            }
        }
        settings.values = formats::beside(&settings.values, &context.base_dir);
        Ok(settings)
    }

    /// What all clients have in common.
    pub fn client(&self) -> ClientConfig {
        self.client_with(&[])
    }

    /// With defaults of ours, which the table's options may change. (Nothing is copied out of a `ClientConfig`: it gives its
    /// secrets to nobody but librdkafka.)
    fn client_with(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "smack");
        let passed_through = self.passed_through.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in defaults.iter().copied().chain(passed_through) {
            config.set(key, value);
        }
        config
    }

    /// A consumer, in a group that it does not join.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client_with(&[
            // Fetched ahead over all partitions; beyond it the next fetch of a partition waits until there is room again,
            // which is looked at so often.
            ("queued.max.messages.kbytes", "65536"),
            ("fetch.queue.backoff.ms", "10"),
        ]);
        config.set("group.id", group);
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        // A checkpoint's offset that retention has removed must be told, not jumped over.
        config.set("auto.offset.reset", "error");
        config.set("enable.partition.eof", if self.bounded == Bounded::No { "false" } else { "true" });
        config.set("isolation.level", if self.read_committed { "read_committed" } else { "read_uncommitted" });
        config
    }

    /// An idempotent producer. Keys go to the partitions to which Java's default partitioner sends them.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client_with(&[
            ("partitioner", "murmur2_random"),
            // Bounds what waits inside librdkafka; a million small records at most, 64 MiB whatever their size.
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "65536"),
        ]);
        config.set("enable.idempotence", "true");
        config.set("delivery.report.only.error", "true");
        config
    }
}

fn beside(folder: &Path, path: &str) -> String {
    let path = PathBuf::from(path);
    if path.is_absolute() { path } else { folder.join(path) }.to_string_lossy().into_owned()
}

fn discovery(options: &Options<'_>, bounded: &Bounded) -> std::result::Result<Option<Duration>, Diagnostic> {
    match options.text(DISCOVERY) {
        Some("off") => return Ok(None),
        Some(_) if *bounded != Bounded::No => {
            return Err(options
                .wrong(DISCOVERY, format!("option '{DISCOVERY}' is for tables without an end"))
                .help("leave it out: a bounded table is what is there when it is opened"));
        }
        _ => {}
    }
    match options.duration(DISCOVERY)? {
        Some(every) if every < Duration::from_millis(100) => {
            Err(options.wrong(DISCOVERY, format!("option '{DISCOVERY}' must be at least 100ms, or off")))
        }
        every => Ok((*bounded == Bounded::No).then(|| every.unwrap_or(DISCOVER_EVERY))),
    }
}

/// Metadata columns where changes are read or written in a way that has no place for them.
fn unfit_metadata(options: &Options<'_>, changelog: Changelog, metadata: &[Column]) -> Option<Diagnostic> {
    let column = metadata.first().filter(|_| changelog == Changelog::Debezium)?;
    Some(
        options
            .wrong(
                "changelog",
                format!("column '{}' holds metadata, which changelog = 'debezium' does not read", column.name),
            )
            .help("leave the column out: Debezium's own are fields of its envelope"),
    )
}

fn key_columns(table: &TableDef) -> std::result::Result<Vec<usize>, Diagnostic> {
    let options = Options::new(table);
    let Some(text) = options.text("key.fields") else { return Ok(table.primary_key.clone()) };
    let mut columns = Vec::new();
    for name in text.split([',', ';']).map(str::trim).filter(|name| !name.is_empty()) {
        let at = table.schema.index_of(name).map_err(|_| {
            let all: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
            options
                .wrong(
                    "key.fields",
                    format!("option 'key.fields' names '{name}', which table '{}' has not", table.name),
                )
                .suggest(name, all)
        })?;
        columns.push(at);
    }
    Ok(columns)
}

/// What keeps a table from being the changelog that it is declared to be.
fn unfit_changelog(table: &TableDef, changelog: Changelog, key_columns: &[usize]) -> Option<Diagnostic> {
    let options = Options::new(table);
    match changelog {
        Changelog::None => None,
        Changelog::Upsert if table.primary_key.is_empty() => Some(
            options
                .wrong("changelog", format!("table '{}' has no primary key, by which 'upsert' writes", table.name))
                .help("add PRIMARY KEY (…) NOT ENFORCED"),
        ),
        Changelog::Upsert => {
            let sorted = |columns: &[usize]| {
                let mut columns = columns.to_vec();
                columns.sort_unstable();
                columns
            };
            let unequal = sorted(key_columns) != sorted(&table.primary_key);
            // A name that is no column was told already.
            (unequal && self::key_columns(table).is_ok()).then(|| {
                options
                    .wrong(
                        "key.fields",
                        "with changelog = 'upsert' option 'key.fields' must be the primary key's columns",
                    )
                    .help("leave it out")
            })
        }
        Changelog::Debezium => (Format::of(table).is_ok_and(|format| format != Format::Json)).then(|| {
            options
                .wrong(formats::FORMAT.name, "changelog = 'debezium' is written as JSON")
                .help("leave out option 'format'")
        }),
    }
}

/// A form of keys that is chosen for nothing, or that does not fit.
fn unfit_key_format(table: &TableDef, changelog: Changelog, key_columns: &[usize]) -> Option<Diagnostic> {
    let options = Options::new(table);
    let key = formats::KEY_FORMAT.name;
    match (options.one_of(key, &["plain", "json", "avro", "protobuf"]), changelog) {
        (Err(wrong), _) => Some(wrong),
        (Ok(None), _) => None,
        (Ok(Some("avro" | "protobuf")), _) if key_columns.is_empty() => Some(
            options
                .wrong(key, format!("table '{}' has no key that could be written as a record", table.name))
                .help("name its columns with key.fields, or declare a PRIMARY KEY"),
        ),
        (Ok(Some("avro" | "protobuf")), _) => None,
        (Ok(Some("plain")), Changelog::Upsert) if key_columns.len() > 1 => Some(
            options
                .wrong(key, format!("a key of {} columns has no plain text", key_columns.len()))
                .help("use key.format = 'json'"),
        ),
        (Ok(Some(_)), Changelog::Upsert) => None,
        (Ok(Some(_)), _) => {
            Some(options.wrong(key, "option 'key.format' is for changelog = 'upsert'").help("leave it out"))
        }
    }
}

fn passed_through(table: &TableDef, wrong: &mut Vec<Diagnostic>) -> Vec<(String, String)> {
    let mut passed = Vec::new();
    for entry in table.options.iter().filter(|entry| ![BROKERS, GROUP_ALIAS].contains(&entry.key.as_str())) {
        let Some(key) = PASSED_THROUGH.iter().find_map(|prefix| entry.key.strip_prefix(prefix)) else { continue };
        let mut mistake = RESERVED
            .iter()
            .find(|(reserved, _)| *reserved == key)
            .map(|(_, instead)| Diagnostic::new(format!("option '{}' cannot be set", entry.key)).help(*instead));
        if mistake.is_none() {
            let mut config = ClientConfig::new();
            config.set(key, &entry.value);
            mistake = config.create_native_config().err().map(|error| refused(&entry.key, &error));
        }
        match mistake {
            Some(mut mistake) => {
                mistake.span = entry.key_span;
                wrong.push(mistake);
            }
            None => passed.push((key.to_owned(), entry.value.clone())),
        }
    }
    passed
}

fn refused(key: &str, error: &KafkaError) -> Diagnostic {
    let unknown = matches!(error, KafkaError::ClientConfig(_, text, ..) if text.starts_with("No such configuration"));
    let what = if unknown { "is not known to librdkafka" } else { "has a value that librdkafka refuses" };
    Diagnostic::new(format!("option '{key}' {what}"))
        .help("see librdkafka's CONFIGURATION.md for names and values; Java's names are often, not always, the same")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::datatypes::DataType;

    fn settings(options: &[(&str, &str)]) -> std::result::Result<Settings, Vec<Diagnostic>> {
        let base = [("topic", "clicks"), ("bootstrap.servers", "localhost:9092")];
        let all: Vec<(&str, &str)> = base.iter().chain(options).copied().collect();
        Settings::of(&table(&[("user", DataType::Utf8), ("n", DataType::Int64)], &all))
    }

    fn mistakes(options: &[(&str, &str)]) -> String {
        let wrong = settings(options).err().unwrap_or_default();
        wrong.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn options_become_settings() {
        let plain = settings(&[]).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        assert_eq!(
            (&plain.startup, &plain.bounded, plain.delivery),
            (&Startup::Earliest, &Bounded::No, Delivery::ExactlyOnce)
        );
        assert_eq!(plain.discovery, Some(DISCOVER_EVERY));
        let full = settings(&[
            ("scan.startup", "timestamp:1700000000000"),
            ("scan.bounded", "latest"),
            ("key.fields", "n; user"),
            ("delivery", "at_least_once"),
            ("create_topic", "true"),
            ("partitions", "4"),
            ("properties.sasl.username", "me"),
            ("properties.sasl.password", "hunter2"),
            ("librdkafka.linger.ms", "20"),
            ("librdkafka.queued.max.messages.kbytes", "1024"),
        ])
        .unwrap_or_else(|wrong| panic!("{wrong:?}"));
        assert_eq!((full.startup.clone(), full.discovery), (Startup::Timestamp(1_700_000_000_000), None));
        assert_eq!(full.key_columns, [1, 0]);
        assert_eq!(full.create_topic, Some(NewTopic { partitions: Some(4), replication: None }));
        assert_eq!(full.client().get("sasl.username"), Some("me"));
        assert_eq!(full.producer().get("linger.ms"), Some("20"));
        for config in [full.client(), full.consumer("g"), full.producer()] {
            assert_eq!(config.get("sasl.password"), Some("hunter2"), "a client that cannot log in");
        }
        assert_eq!(full.consumer("g").get("queued.max.messages.kbytes"), Some("1024"));
    }

    #[test]
    fn a_changelog_has_what_it_needs() {
        let keyed = |options: &[(&str, &str)]| {
            let base = [("topic", "clicks"), ("bootstrap.servers", "localhost:9092")];
            let all: Vec<(&str, &str)> = base.iter().chain(options).copied().collect();
            let mut table = table(&[("user", DataType::Utf8), ("n", DataType::Int64)], &all);
            table.primary_key = vec![0, 1];
            Settings::of(&table).map(|settings| (settings.changelog, settings.key_columns))
        };
        assert_eq!(keyed(&[]), Ok((Changelog::None, vec![0, 1])));
        assert_eq!(keyed(&[("changelog", "upsert")]), Ok((Changelog::Upsert, vec![0, 1])));
        let turned = [("changelog", "upsert"), ("key.fields", "n,user")];
        assert_eq!(keyed(&turned), Ok((Changelog::Upsert, vec![1, 0])));
        assert_eq!(keyed(&[("changelog", "Debezium"), ("key.fields", "n")]), Ok((Changelog::Debezium, vec![1])));
        let told = |options: &[(&str, &str)]| {
            let wrong = keyed(options).unwrap_err();
            wrong.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
        };
        assert!(told(&[("changelog", "upsert"), ("key.fields", "n")]).contains("primary key's columns"));
        assert!(told(&[("changelog", "debezium"), ("format", "csv")]).contains("JSON"));
        assert!(told(&[("changelog", "upserts")]).contains("'upsert'"));
        assert!(mistakes(&[("changelog", "upsert")]).contains("no primary key"));
    }

    #[test]
    fn mistakes_are_told_together_and_without_secrets() {
        let told = mistakes(&[
            ("scan.startup", "newest"),
            ("key.fields", "usr"),
            ("partitions", "3"),
            ("librdkafka.sasl.pasword", "hunter2"),
            ("properties.enable.idempotence", "false"),
            ("scan.discovery", "1ms"),
        ]);
        for part in [
            "'newest'",
            "'user'",
            "create_topic",
            "'librdkafka.sasl.pasword' is not known",
            "always on",
            "at least 100ms",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
}
