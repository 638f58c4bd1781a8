//! Which records are read, of which topics, and what comes with them beside their values.

use crate::support::{PATIENCE, address, connector, context, fresh, read, table};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use connectors::{Error, FROM_THE_BEGINNING, Polled, SourceReader, SplitStart, TableDef};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn declared(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDef {
    let brokers = address("SMACK_KAFKA");
    let mut all = vec![("connector", "kafka"), ("bootstrap.servers", brokers.as_str())];
    all.extend_from_slice(options);
    table("clicks", columns, 0, &all)
}

fn numbers(options: &[(&str, &str)]) -> TableDef {
    declared(&[("n", DataType::Int64)], options)
}

fn create(topic: &str, partitions: i32) {
    let admin = admin();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for made in futures_now(admin.create_topics([&new], &AdminOptions::new())).expect("an answer") {
        made.expect("created");
    }
    wait_for_partitions(topic, partitions as usize, Instant::now() + PATIENCE);
}

/// Known to the controller is not yet known to the broker that is asked.
fn wait_for_partitions(topic: &str, partitions: usize, until: Instant) {
    let consumer: BaseConsumer = client().create().expect("a consumer");
    let seen = || consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata").topics()[0].partitions().len();
    while seen() != partitions {
        assert!(Instant::now() < until, "{topic} is not seen with {partitions} partitions");
    }
}

fn admin() -> AdminClient<DefaultClientContext> {
    client().create().expect("an admin client")
}

fn futures_now<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address("SMACK_KAFKA"));
    config
}

/// One record for each number, at a time in milliseconds that is the number.
fn produce(topic: &str, partition: i32, numbers: std::ops::Range<i64>) {
    let producer: BaseProducer = client().create().expect("a producer");
    for n in numbers {
        let (key, value) = (format!("k{n}"), format!("{{\"n\":{n}}}"));
        let headers = OwnedHeaders::new()
            .insert(Header { key: "trace", value: Some("old") })
            .insert(Header { key: "trace", value: Some(&format!("t{n}")) });
        let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value).timestamp(n).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("sent");
    }
    producer.flush(PATIENCE).expect("flushed");
}

fn sorted(batch: &RecordBatch) -> Vec<i64> {
    let mut numbers = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    numbers.sort_unstable();
    numbers
}

fn all(table: &TableDef) -> Vec<i64> {
    let read = read(table, &[0], &BTreeMap::new()).expect("read");
    if read.rows() == 0 { Vec::new() } else { sorted(&read.all()) }
}

/// Polls until so many rows have come.
fn take(reader: &mut dyn SourceReader, rows: usize) -> Vec<i64> {
    let (mut batches, until) = (Vec::new(), Instant::now() + PATIENCE);
    while batches.iter().map(RecordBatch::num_rows).sum::<usize>() < rows {
        if let Polled::Batch { batch, .. } = reader.poll(Duration::from_millis(100)).expect("polled") {
            batches.push(batch);
        }
        assert!(Instant::now() < until, "{batches:?}");
    }
    sorted(&concat_batches(&batches[0].schema(), &batches).expect("batches of one schema"))
}

#[test]
fn reading_begins_and_ends_where_the_options_say() {
    let topic = fresh("bounds");
    create(&topic, 2);
    produce(&topic, 0, 1000..1010);
    produce(&topic, 1, 2000..2010);
    let with = |options: &[(&str, &str)]| all(&numbers(&[&[("topic", topic.as_str())], options].concat()));
    let both = |a: std::ops::Range<i64>, b: std::ops::Range<i64>| a.chain(b).collect::<Vec<i64>>();
    let latest = ("scan.bounded", "latest");
    assert_eq!(with(&[latest]), both(1000..1010, 2000..2010));
    assert_eq!(with(&[latest, ("scan.startup", "specific:0=4,1=8")]), both(1004..1010, 2008..2010));
    assert_eq!(with(&[latest, ("scan.startup", "specific:1=8")]), both(1000..1010, 2008..2010));
    assert_eq!(with(&[latest, ("scan.startup", "timestamp:2005")]), both(0..0, 2005..2010));
    assert_eq!(with(&[("scan.bounded", "timestamp:2005")]), both(1000..1010, 2000..2005));
    assert_eq!(with(&[("scan.bounded", "specific:0=3,1=0")]), both(1000..1003, 0..0));

    // What a group has committed, and of the other partition what is asked.
    let group = fresh("group");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 1, Offset::Offset(7)).expect("an offset");
    let consumer: BaseConsumer = client().set("group.id", &group).create().expect("a consumer");
    consumer.commit(&offsets, CommitMode::Sync).expect("committed");
    let of_group = [latest, ("scan.startup", "group"), ("group.id", group.as_str())];
    assert_eq!(with(&of_group), both(1000..1010, 2007..2010));
    assert_eq!(with(&[&of_group[..], &[("group.else", "latest")]].concat()), both(0..0, 2007..2010));

    // An end that has yet to come is waited for.
    let table = numbers(&[("topic", &topic), ("scan.bounded", "specific:0=12,1=0")]);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| all(&table));
        std::thread::sleep(Duration::from_millis(500));
        produce(&topic, 0, 1010..1020);
        assert_eq!(reading.join().expect("read"), both(1000..1012, 0..0));
    });
    for (option, value) in [("scan.startup", "specific:7=1"), ("scan.bounded", "specific:0=1")] {
        let table = numbers(&[("topic", &topic), latest, (option, value)]);
        let table = if option == latest.0 { numbers(&[("topic", &topic), (option, value)]) } else { table };
        let Err(Error::Fatal(why)) = read(&table, &[0], &BTreeMap::new()) else { panic!("{option} {value} was read") };
        assert!(why.contains(option) && why.contains("partition"), "{why}");
    }
}

#[test]
fn records_bring_what_they_have_beside_their_values() {
    let topic = fresh("beside");
    create(&topic, 1);
    produce(&topic, 0, 5000..5003);
    let producer: BaseProducer = client().create().expect("a producer");
    let bare: BaseRecord<'_, (), str> = BaseRecord::to(&topic).partition(0).payload("{\"n\":").timestamp(5003);
    producer.send(bare).map_err(|(error, _)| error).expect("sent");
    let bare: BaseRecord<'_, (), str> = BaseRecord::to(&topic).partition(0).payload("{\"n\":5004}").timestamp(5004);
    producer.send(bare).map_err(|(error, _)| error).expect("sent");
    producer.flush(PATIENCE).expect("flushed");

    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let headers = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false);
    let columns = [
        ("key", DataType::Utf8),
        ("n", DataType::Int64),
        ("at", DataType::Int64),
        ("partition", DataType::Int32),
        ("topic", DataType::Utf8),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("headers", headers),
        ("kind", DataType::Utf8),
    ];
    let options = [
        ("topic", topic.as_str()),
        ("scan.bounded", "latest"),
        ("metadata.key", "key"),
        ("metadata.at", "offset VIRTUAL"),
        ("metadata.partition", "partition"),
        ("metadata.topic", "topic"),
        ("metadata.ts", "timestamp"),
        ("metadata.headers", "headers"),
        ("metadata.kind", "timestamp-type"),
    ];
    let table = declared(&columns, &options);
    let got = read(&table, &[7, 2, 1, 0, 3, 4, 5, 6], &BTreeMap::new()).expect("read");
    assert_eq!(got.bad.iter().map(|bad| bad.position).collect::<Vec<_>>(), [3]);
    let rows = got.all();
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[0, 1, 2, 4]);
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[5000, 5001, 5002, 5004]);
    let keys: Vec<Option<&str>> = rows.column(3).as_string::<i32>().iter().collect();
    assert_eq!(keys, [Some("k5000"), Some("k5001"), Some("k5002"), None]);
    assert_eq!(rows.column(4).as_primitive::<Int32Type>().values(), &[0; 4]);
    assert!(rows.column(5).as_string::<i32>().iter().all(|name| name == Some(topic.as_str())));
    let times = rows.column(6).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[5_000_000, 5_001_000, 5_002_000, 5_004_000]);
    let maps = rows.column(7).as_map();
    assert_eq!(maps.value(1).column(1).as_string::<i32>().value(0), "t5001", "the last of a name");
    assert_eq!((maps.value_length(1), maps.value_length(3)), (1, 0));
    assert!(rows.column(0).as_string::<i32>().iter().all(|kind| kind == Some("CreateTime")));

    // Only metadata, and no column at all.
    assert_eq!(read(&table, &[2], &BTreeMap::new()).expect("read").rows(), 4);
    assert_eq!(read(&table, &[], &BTreeMap::new()).expect("read").rows(), 4);
}

#[test]
fn several_topics_and_such_as_fit_a_pattern_are_one_table() {
    let stem = fresh("many");
    let names: Vec<String> = ["a", "b", "other"].iter().map(|name| format!("{stem}-{name}")).collect();
    for (at, name) in names.iter().enumerate() {
        create(name, 2);
        let from = 10 * at as i64 + 1;
        produce(name, 0, from..from + 2);
        produce(name, 1, from + 2..from + 4);
    }
    let listed = format!("{}, {}", names[1], names[0]);
    assert_eq!(all(&numbers(&[("topic", &listed), ("scan.bounded", "latest")])), [1, 2, 3, 4, 11, 12, 13, 14]);
    let pattern = format!("{stem}-[ab]");
    let table = numbers(&[("topic.pattern", &pattern), ("scan.bounded", "latest")]);
    assert_eq!(all(&table), [1, 2, 3, 4, 11, 12, 13, 14]);
    let splits = connector("kafka").splits(&table, &context(0)).expect("splits");
    assert_eq!(splits, [format!("{stem}-a/0"), format!("{stem}-a/1"), format!("{stem}-b/0"), format!("{stem}-b/1")]);
    let none = numbers(&[("topic.pattern", &format!("{stem}-none")), ("scan.bounded", "latest")]);
    let Err(Error::Fatal(why)) = connector("kafka").splits(&none, &context(0)) else { panic!("nothing was found") };
    assert!(why.contains("no topic"), "{why}");
    let missing = numbers(&[("topic", &format!("{},{stem}-c", names[0])), ("scan.bounded", "latest")]);
    let Err(Error::Fatal(why)) = connector("kafka").splits(&missing, &context(0)) else { panic!("it is not missing") };
    assert!(why.contains(&format!("{stem}-c")), "{why}");
}

/// Two readers of two slots: whatever comes into being is read by one of them, from its beginning, whatever the first
/// start was.
#[test]
fn partitions_and_topics_that_come_into_being_are_read_once() {
    let stem = fresh("grown");
    let (first, second) = (format!("{stem}-1"), format!("{stem}-2"));
    create(&first, 1);
    produce(&first, 0, 1..5);
    let pattern = format!("{stem}-.*");
    let options = [("topic.pattern", pattern.as_str()), ("scan.startup", "latest"), ("scan.discovery", "200ms")];
    let table = numbers(&options);
    let kafka = connector("kafka");
    let splits = kafka.splits(&table, &context(0)).expect("splits");
    let mut readers: Vec<Box<dyn SourceReader>> = (0..2)
        .map(|slot| {
            let own = |(at, split): &(usize, &String)| kafka.slot_of(&table, split, *at, 2) == slot;
            let starts: Vec<SplitStart> = splits
                .iter()
                .enumerate()
                .filter(own)
                .map(|(_, split)| SplitStart { split: split.clone(), from: None })
                .collect();
            let context = connectors::Context { n_slots: 2, ..context(slot) };
            kafka.open_source(&table, &[0], &starts, &context).expect("a reader")
        })
        .collect();
    let admin = admin();
    let mut grow = Some(());
    let (mut seen, mut found, mut behind) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let until = Instant::now() + PATIENCE;
    while seen.len() < 25 {
        for reader in &mut readers {
            let polled = reader.poll(Duration::from_millis(50)).expect("polled");
            for split in reader.found() {
                assert!(found.insert(split.clone()), "{split} was found twice");
            }
            behind.extend(reader.behind());
            if let Polled::Batch { batch, .. } = polled {
                for n in sorted(&batch) {
                    assert!(seen.insert(n), "{n} came twice");
                }
            }
        }
        if grow.take().is_some() {
            let more = NewPartitions::new(&first, 3);
            for grown in futures_now(admin.create_partitions([&more], &AdminOptions::new())).expect("an answer") {
                grown.expect("grown");
            }
            create(&second, 2);
            wait_for_partitions(&first, 3, until);
            produce(&first, 0, 5..10);
            produce(&first, 1, 10..15);
            produce(&first, 2, 15..20);
            produce(&second, 0, 20..25);
            produce(&second, 1, 25..30);
        }
        assert!(Instant::now() < until, "seen {seen:?}, found {found:?}");
    }
    assert_eq!(seen, (5..30).collect(), "what was there before a start at latest is not read");
    let wanted = [format!("{first}/1"), format!("{first}/2"), format!("{second}/0"), format!("{second}/1")];
    assert_eq!(found, BTreeSet::from(wanted));
    assert!(behind.contains(&Some(0)), "{behind:?}");

    // A job that goes on from a checkpoint reads what it does not know from the beginning.
    let start = SplitStart { split: format!("{second}/1"), from: Some(FROM_THE_BEGINNING) };
    let alone = numbers(&[options[0], options[1], ("scan.discovery", "off")]);
    let mut reader = kafka.open_source(&alone, &[0], &[start.clone()], &context(0)).expect("a reader");
    assert_eq!(take(reader.as_mut(), 5), (25..30).collect::<Vec<i64>>());
    let mut reader = kafka.open_source(&table, &[0], &[start], &context(0)).expect("a reader");
    drop(readers);

    // A topic that goes is told, not waited for.
    futures_now(admin.delete_topics(&[second.as_str()], &AdminOptions::new())).expect("an answer");
    let until = Instant::now() + PATIENCE;
    let why = loop {
        match reader.poll(Duration::from_millis(100)) {
            Err(Error::Fatal(why)) => break why,
            Err(Error::Transient(_)) | Ok(_) => assert!(Instant::now() < until, "nothing was said"),
        }
    };
    assert!(why.contains("no longer there"), "{why}");
}

/// Where Java's producers put these keys: murmur2 of the key, without its sign, modulo the number of partitions.
#[test]
fn keys_lie_where_javas_producers_put_them() {
    let topic = fresh("murmur");
    create(&topic, 100);
    let options = [("topic", topic.as_str()), ("delivery", "at_least_once"), ("key.fields", "key")];
    let table = declared(&[("key", DataType::Utf8)], &options);
    // From org.apache.kafka.common.utils.UtilsTest: murmur2 of some texts.
    let known: [(&str, i32); 5] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ];
    let keys: arrow::array::StringArray = known.iter().map(|(key, _)| Some(*key)).collect();
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), vec![Arc::new(keys)]).expect("a batch");
    let mut sink = connector("kafka").open_sink(&table, &context(0)).expect("a sink");
    sink.write(&batch).expect("written");
    sink.prepare(1).expect("prepared");
    let consumer: BaseConsumer = client().set("group.id", "outside").create().expect("a consumer");
    let mut everything = TopicPartitionList::new();
    everything.add_partition_range(&topic, 0, 99);
    everything.set_all_offsets(Offset::Beginning).expect("offsets");
    consumer.assign(&everything).expect("assigned");
    for _ in known {
        let message = consumer.poll(PATIENCE).expect("a record").expect("no error");
        let key = std::str::from_utf8(message.key().expect("a key")).expect("text");
        let (_, hash) = known.iter().find(|(known, _)| *known == key).expect("a known key");
        assert_eq!(message.partition(), (hash & 0x7fff_ffff) % 100, "{key}");
    }
}

#[test]
fn rows_say_where_they_go_and_what_goes_with_them() {
    let (own, other) = (fresh("own"), fresh("other"));
    create(&own, 3);
    create(&other, 3);
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)];
    let headers = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false);
    let columns = [
        ("n", DataType::Int64),
        ("t", DataType::Utf8),
        ("p", DataType::Int32),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("h", headers),
    ];
    for delivery in ["at_least_once", "exactly_once"] {
        let options = [
            ("topic", own.as_str()),
            ("delivery", delivery),
            ("metadata.t", "topic"),
            ("metadata.p", "partition"),
            ("metadata.ts", "timestamp"),
            ("metadata.h", "headers"),
        ];
        let table = declared(&columns, &options);
        let names = arrow::array::MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        let mut map = arrow::array::MapBuilder::new(
            Some(names),
            arrow::array::StringBuilder::new(),
            arrow::array::BinaryBuilder::new(),
        );
        map.keys().append_value("by");
        map.values().append_value(delivery);
        map.append(true).expect("an entry");
        map.append(false).expect("no entry");
        let arrays: Vec<Arc<dyn Array>> = vec![
            Arc::new(arrow::array::Int64Array::from(vec![1, 2])),
            Arc::new(arrow::array::StringArray::from(vec![Some(other.as_str()), None])),
            Arc::new(arrow::array::Int32Array::from(vec![Some(2), None])),
            Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![Some(7_000_000), None]).with_timezone("UTC")),
            Arc::new(map.finish()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&table.schema), arrays).expect("a batch");
        let mut sink = connector("kafka").open_sink(&table, &context(0)).expect("a sink");
        sink.write(&batch).expect("written");
        let state = sink.prepare(1).expect("prepared");
        if delivery == "exactly_once" {
            // Also by way of a checkpoint.
            drop(sink);
            sink = connector("kafka").open_sink(&table, &context(0)).expect("a sink");
            sink.restore(1, vec![state]).expect("restored");
        }
        let there = numbers(&[("topic", &other), ("scan.bounded", "latest"), ("scan.startup", "timestamp:7000")]);
        let seen = read(&there, &[0], &BTreeMap::new()).expect("read");
        assert_eq!(seen.next.keys().copied().collect::<Vec<_>>().len(), 3);
        assert!(seen.batches[&2].iter().any(|batch| batch.num_rows() > 0), "{delivery}: not in partition 2");
        drop(sink);
    }
    let own = numbers(&[("topic", &own), ("scan.bounded", "latest")]);
    assert_eq!(all(&own), [2, 2]);
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let headers = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false);
    let options = [("topic", other.as_str()), ("scan.bounded", "latest"), ("metadata.h", "headers")];
    let got = read(&declared(&[("n", DataType::Int64), ("h", headers)], &options), &[0, 1], &BTreeMap::new());
    let got = got.expect("read").all();
    assert_eq!(sorted(&got), [1, 1]);
    let maps = got.column(1).as_map();
    let by: BTreeSet<String> =
        (0..2).map(|row| maps.value(row).column(1).as_string::<i32>().value(0).to_owned()).collect();
    assert_eq!(by, BTreeSet::from(["at_least_once".to_owned(), "exactly_once".to_owned()]));
}
