//! Reading Kafka, and what is said when it cannot be read.

use crate::support::{PATIENCE, address, connector, context, fresh, outside_view, read, table};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use connectors::{Error, Polled, SplitStart, TableDef};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn clicks(topic: &str, options: &[(&str, &str)]) -> TableDef {
    let brokers = address("SMACK_KAFKA");
    let mut all = vec![
        ("connector", "kafka"),
        ("topic", topic),
        ("bootstrap.servers", brokers.as_str()),
        ("create_topic", "true"),
        ("partitions", "4"),
        ("scan.bounded", "latest"),
    ];
    for (key, value) in options {
        all.retain(|(given, _)| given != key);
        all.push((*key, *value));
    }
    if all.contains(&("create_topic", "false")) {
        all.retain(|(given, _)| *given != "partitions");
    }
    table("clicks", &[("user", DataType::Utf8), ("n", DataType::Int64)], 1, &all)
}

fn batch(table: &TableDef, numbers: std::ops::Range<i64>) -> RecordBatch {
    let users = StringArray::from_iter_values(numbers.clone().map(|n| format!("user-{}", n % 97)));
    let columns: [Arc<dyn Array>; 2] = [Arc::new(users), Arc::new(Int64Array::from_iter_values(numbers))];
    RecordBatch::try_new(Arc::clone(&table.schema), columns.to_vec()).expect("a batch")
}

fn produce(topic: &str, values: &[Option<&str>]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", address("SMACK_KAFKA")).create().expect("a producer");
    for value in values {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).key("k");
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error).expect("sent");
    }
    producer.flush(PATIENCE).expect("flushed");
}

#[test]
fn rows_come_back_once_from_four_partitions_with_each_key_in_one() {
    let rows = 50_000;
    let table = clicks(&fresh("clicks"), &[("delivery", "at_least_once"), ("group.id", "lag")]);
    let connector = connector("kafka");
    let begun = Instant::now();
    let mut sink = connector.open_sink(&table, &context(0)).expect("a sink");
    for from in (0..rows).step_by(5000) {
        sink.write(&batch(&table, from..from + 5000)).expect("written");
    }
    assert_eq!(sink.prepare(1).expect("prepared"), Vec::<u8>::new());
    sink.commit(1).expect("committed");
    eprintln!("{rows} rows written in {:?}", begun.elapsed());

    let begun = Instant::now();
    let everything = read(&table, &[0, 1], &BTreeMap::new()).expect("read");
    eprintln!("{rows} rows read in {:?}", begun.elapsed());
    assert_eq!(everything.batches.len(), 4);
    assert!(everything.bad.is_empty(), "{:?}", everything.bad);
    let mut seen = BTreeSet::new();
    let mut home: BTreeMap<String, usize> = BTreeMap::new();
    for (split, batches) in &everything.batches {
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        for batch in batches {
            let (users, numbers) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let (user, n) = (users.value(row).to_owned(), numbers.value(row));
                assert!(seen.insert(n), "row {n} came twice");
                assert_eq!(*home.entry(user.clone()).or_insert(*split), *split, "{user} is in two partitions");
                assert!(last.insert(user.clone(), n).is_none_or(|before| before < n), "{user} is out of order");
            }
        }
    }
    assert_eq!(seen, (0..rows).collect());

    // From the middle, one column of two: what was not yet read comes, and no more.
    let half: BTreeMap<usize, u64> = everything.next.iter().map(|(split, next)| (*split, next / 2)).collect();
    let rest = read(&table, &[1], &half).expect("read on");
    let wanted: u64 = everything.next.iter().map(|(split, next)| next - half[split]).sum();
    assert_eq!(rest.rows() as u64, wanted);
    assert_eq!(rest.all().num_columns(), 1);

    // No column at all is still so many rows.
    assert_eq!(read(&table, &[], &BTreeMap::new()).expect("counted").rows() as i64, rows);
}

#[test]
fn the_group_is_told_how_far_the_job_has_come() {
    let group = fresh("lag");
    let topic = fresh("told");
    let table = clicks(&topic, &[("group.id", &group)]);
    let connector = connector("kafka");
    connector.splits(&table, &context(0)).expect("created");
    produce(&topic, &[Some("{\"n\":1}"), Some("{\"n\":2}")]);
    let start = SplitStart { split: "0".to_owned(), from: None };
    let mut reader = connector.open_source(&table, &[1], &[start], &context(0)).expect("a reader");
    while !matches!(reader.poll(Duration::from_millis(100)).expect("polled"), Polled::Batch { next: 2, .. }) {}
    let brokers = address("SMACK_KAFKA");
    let outside: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &brokers).set("group.id", &group).create().expect("a consumer");
    let until = Instant::now() + PATIENCE;
    loop {
        reader.checkpointed(&[(0, 2)]);
        let mut question = rdkafka::TopicPartitionList::new();
        question.add_partition(&topic, 0);
        let answer = outside.committed_offsets(question, PATIENCE).expect("offsets");
        if answer.elements()[0].offset() == rdkafka::Offset::Offset(2) {
            break;
        }
        assert!(Instant::now() < until, "the group was not told");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn records_that_do_not_decode_are_set_aside_with_their_place() {
    let topic = fresh("dirty");
    let table = clicks(&topic, &[]);
    connector("kafka").splits(&table, &context(0)).expect("created");
    produce(&topic, &[Some("{\"user\":\"a\",\"n\":1}"), Some("{\"n\":"), None, Some("{\"user\":\"b\",\"n\":2}")]);
    let got = read(&table, &[0, 1], &BTreeMap::new()).expect("read");
    assert_eq!(got.rows(), 2);
    let bad: Vec<(u64, &[u8])> = got.bad.iter().map(|bad| (bad.position, bad.bytes.as_slice())).collect();
    assert_eq!(bad, [(1, b"{\"n\":".as_slice()), (2, b"".as_slice())]);
    assert!(got.bad[1].error.contains("tombstone"), "{}", got.bad[1].error);
    assert_eq!(got.next[&0], 4);

    let strict = clicks(&topic, &[("bad_data", "fail")]);
    let Err(Error::Fatal(why)) = read(&strict, &[0, 1], &BTreeMap::new()) else { panic!("it did not fail") };
    assert!(why.contains("offset 1 of partition 0") && why.contains(&topic), "{why}");
    assert!(read(&clicks(&topic, &[("bad_data", "drop")]), &[1], &BTreeMap::new()).expect("read").bad.is_empty());
}

#[test]
fn a_start_at_latest_or_at_a_time_is_remembered_before_the_first_row() {
    let topic = fresh("late");
    let bounded = clicks(&topic, &[]);
    let connector = connector("kafka");
    connector.splits(&bounded, &context(0)).expect("created");
    produce(&topic, &[Some("{\"n\":1}")]);
    for startup in ["latest", "timestamp:4102444800000"] {
        let table = clicks(&topic, &[("scan.startup", startup), ("scan.bounded", "none")]);
        let start = SplitStart { split: "0".to_owned(), from: None };
        let mut reader = connector.open_source(&table, &[1], &[start], &context(0)).expect("a reader");
        let Polled::Batch { batch, next, .. } = reader.poll(PATIENCE).expect("polled") else { panic!("no position") };
        assert_eq!((batch.num_rows(), next), (0, 1));
    }
    produce(&topic, &[Some("{\"n\":2}")]);
    let rest = read(&bounded, &[1], &BTreeMap::from([(0, 1)])).expect("read on");
    assert_eq!(rest.all().column(0).as_primitive::<Int64Type>().values(), &[2]);
    let all = clicks(&topic, &[("scan.startup", "timestamp:0")]);
    assert_eq!(read(&all, &[1], &BTreeMap::new()).expect("read").rows(), 2);
}

#[test]
fn an_offset_that_is_gone_is_an_error_and_not_a_jump() {
    let topic = fresh("short");
    let table = clicks(&topic, &[("scan.bounded", "none")]);
    let connector = connector("kafka");
    connector.splits(&table, &context(0)).expect("created");
    let start = SplitStart { split: "0".to_owned(), from: Some(1000) };
    let mut reader = connector.open_source(&table, &[1], &[start], &context(0)).expect("a reader");
    let until = Instant::now() + PATIENCE;
    let why = loop {
        match reader.poll(Duration::from_millis(100)) {
            Err(Error::Fatal(why)) => break why,
            Ok(Polled::Idle) => assert!(Instant::now() < until, "nothing was said"),
            other => panic!("{other:?}"),
        }
    };
    assert!(why.contains("no longer there") && why.contains(&topic), "{why}");
    let bounded = clicks(&topic, &[]);
    assert!(matches!(read(&bounded, &[1], &BTreeMap::from([(0, 1000)])), Err(Error::Fatal(_))));
}

#[test]
fn an_unknown_topic_is_named_with_its_nearest_neighbour() {
    let there = fresh("payments");
    let connector = connector("kafka");
    connector.splits(&clicks(&there, &[]), &context(0)).expect("created");
    let typo = there.replace("payments", "paymnets");
    let table = clicks(&typo, &[("create_topic", "false")]);
    for why in [connector.splits(&table, &context(0)).err(), connector.open_sink(&table, &context(0)).err()] {
        let Some(Error::Fatal(why)) = why else { panic!("{why:?}") };
        assert!(why.contains(&typo) && why.contains(&there) && why.contains(&address("SMACK_KAFKA")), "{why}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_transient_and_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let table = clicks("any", &[("bootstrap.servers", &closed.to_string())]);
    let Err(Error::Transient(why)) = connector("kafka").splits(&table, &context(0)) else { panic!("not transient") };
    assert!(why.contains(&closed.to_string()) && why.contains("refused"), "{why}");
}

#[test]
fn the_outside_view_sees_what_an_at_least_once_sink_wrote() {
    let topic = fresh("plain");
    let table = clicks(&topic, &[("delivery", "at_least_once")]);
    let mut sink = connector("kafka").open_sink(&table, &context(0)).expect("a sink");
    sink.write(&batch(&table, 0..2)).expect("written");
    sink.prepare(1).expect("prepared");
    let mut values = outside_view(&topic);
    values.sort();
    assert_eq!(values, ["{\"user\":\"user-0\",\"n\":0}", "{\"user\":\"user-1\",\"n\":1}"]);
}
