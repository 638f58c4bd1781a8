//! What the live tests share: addresses, tables in one line, and reading a table to its end.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use connectors::{BadRecord, Connector, Context, OptionEntry, Polled, Position, SplitStart, TableDef};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The end of a transaction reaches all of its partitions long before.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

pub fn address(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; run tests/live/run, which starts the servers"))
}

/// A name that nothing else on the server has.
pub fn fresh(stem: &str) -> String {
    format!("{stem}_{}", uuid::Uuid::new_v4().simple())
}

pub fn connector(name: &str) -> &'static dyn Connector {
    connectors::find(name).unwrap_or_else(|| panic!("no connector '{name}'"))
}

pub fn context(slot: u32) -> Context {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Context {
        job: "live/job".to_owned(),
        generation: 1,
        claimed_us: now.as_micros() as i64,
        begun_us: now.as_micros() as i64,
        slot,
        n_slots: slot + 1,
        base_dir: std::env::temp_dir(),
        tables_endpoint: None,
        token: None,
    }
}

/// The first columns are the primary key, as many as `n_key`.
pub fn table(name: &str, columns: &[(&str, DataType)], n_key: usize, options: &[(&str, &str)]) -> TableDef {
    let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    let entry = |(key, value): &(&str, &str)| OptionEntry {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
        key_span: None,
        value_span: None,
    };
    TableDef {
        name: name.to_owned(),
        schema: Arc::new(Schema::new(fields)),
        primary_key: (0..n_key).collect(),
        options: options.iter().map(entry).collect(),
    }
}

/// What a reader gave until it ended.
#[derive(Debug, Default)]
pub struct Read {
    pub batches: BTreeMap<usize, Vec<RecordBatch>>,
    pub next: BTreeMap<usize, Position>,
    pub bad: Vec<BadRecord>,
}

impl Read {
    pub fn rows(&self) -> usize {
        self.batches.values().flatten().map(RecordBatch::num_rows).sum()
    }

    pub fn all(&self) -> RecordBatch {
        let batches: Vec<&RecordBatch> = self.batches.values().flatten().collect();
        let schema = batches.first().expect("at least one batch").schema();
        concat_batches(&schema, batches).expect("batches of one schema")
    }
}

/// Waits until the transactions of a topic are over: a broker answers a commit before its partitions have heard of it, and
/// until then readers of committed records stop before them. One that was left open on purpose is waited for in vain.
fn settle(topic: &str) {
    let ends = |isolation: &str| -> Vec<i64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", address("SMACK_KAFKA"))
            .set("isolation.level", isolation)
            .create()
            .expect("a consumer");
        let end = |id: i32| consumer.fetch_watermarks(topic, id, SETTLES_WITHIN).map_or(-1, |(_, end)| end);
        // A topic, or a broker, that is not there is for the reader to say.
        consumer.fetch_metadata(Some(topic), SETTLES_WITHIN).map_or_else(
            |_| Vec::new(),
            |metadata| {
                let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                partitions.map(|partition| end(partition.id())).collect()
            },
        )
    };
    let until = Instant::now() + SETTLES_WITHIN;
    while Instant::now() < until && ends("read_committed") != ends("read_uncommitted") {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads a bounded table to its end; `from` says where to go on, split by split, and is the default for all others.
pub fn read(table: &TableDef, projection: &[usize], from: &BTreeMap<usize, Position>) -> connectors::Result<Read> {
    if let ("kafka", Some(topic)) = (table.connector(), table.option("topic")) {
        settle(topic);
    }
    let connector = connector(table.connector());
    let splits = connector.splits(table, &context(0))?;
    let starts: Vec<SplitStart> =
        splits.into_iter().enumerate().map(|(at, split)| SplitStart { split, from: from.get(&at).copied() }).collect();
    let mut reader = connector.open_source(table, projection, &starts, &context(0))?;
    let mut read = Read::default();
    let mut ended = Vec::new();
    let until = Instant::now() + PATIENCE;
    loop {
        match reader.poll(Duration::from_millis(200))? {
            Polled::Batch { split, batch, next, bad } => {
                assert!(!ended.contains(&split), "split {split} gave rows after its end");
                read.batches.entry(split).or_default().push(batch);
                let before = read.next.insert(split, next).unwrap_or(0);
                assert!(next >= before, "split {split} went back from {before} to {next}");
                read.bad.extend(bad);
            }
            Polled::SplitEnd { split } => ended.push(split),
            Polled::End => break,
            Polled::Idle => {}
        }
        assert!(Instant::now() < until, "the table has not ended; so far {read:?}");
    }
    assert_eq!(ended.len(), starts.len(), "splits that ended");
    Ok(read)
}

/// All values of a topic that a plain client sees in committed transactions, partition by partition.
pub fn outside_view(topic: &str) -> Vec<String> {
    outside_records(topic).into_iter().map(|(_, value)| value.unwrap_or_default()).collect()
}

/// The same with keys; a record without a value is a tombstone.
pub fn outside_records(topic: &str) -> Vec<(Option<String>, Option<String>)> {
    settle(topic);
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address("SMACK_KAFKA"))
        .set("group.id", "outside")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let n_partitions = metadata.topics()[0].partitions().len();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_range(topic, 0, n_partitions as i32 - 1);
    assignment.set_all_offsets(Offset::Beginning).expect("offsets");
    consumer.assign(&assignment).expect("assign");
    let mut records = Vec::new();
    let mut ends = 0;
    while ends < n_partitions {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => records.push((text(message.key()), text(message.payload()))),
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => panic!("outside view of {topic}: {error}"),
            None => panic!("outside view of {topic}: nothing within {PATIENCE:?}"),
        }
    }
    records
}
