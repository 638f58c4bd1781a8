//! Produce and fetch.

use crate::world::{World, as_texts, names, send, wait_for};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

#[test]
fn every_codec_comes_back() {
    let world = World::start();
    let values = names(0..1000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("of-{codec}");
        world.create(&topic, 1, &[]);
        let producer = world.producer(&[("compression.codec", codec), ("linger.ms", "20")]);
        send(&producer, &topic, 0, &as_texts(&values));
        assert_eq!(world.values(&topic, 0, "read_uncommitted"), values, "{codec}");
        // Begins within a compressed batch.
        assert_eq!(world.read(&topic, 0, 990, "read_committed").len(), 10, "{codec}");
    }
    // It stays compressed: the broker never opened it.
    let size = |topic: &str| {
        let mut bytes = 0;
        for entry in walk(&world.dir.path().join("broker")) {
            let text = std::fs::read(&entry).unwrap_or_default();
            if text.windows(9).any(|window| window == b"value 999") && topic == "none" {
                bytes = text.len();
            }
        }
        bytes
    };
    assert!(size("none") > 0);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn keys_headers_and_timestamps_come_back() {
    let world = World::start();
    let producer = world.producer(&[]);
    let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("v") });
    let record = BaseRecord::to("t").key("k").payload("p").timestamp(1234).headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(crate::world::PATIENCE).expect("acknowledged");
    let consumer = world.consumer(&[]);
    consumer.subscribe(&["t"]).expect("subscribed");
    let found = wait_for("record", || {
        let message = consumer.poll(Duration::from_millis(100))?.expect("a record");
        let header = message.headers().and_then(|headers| headers.iter().next().map(|one| one.key.to_string()));
        Some((message.key().map(<[u8]>::to_vec), message.timestamp().to_millis(), header))
    });
    assert_eq!(found, (Some(b"k".to_vec()), Some(1234), Some("h".to_string())));
}

#[test]
fn a_reader_at_the_end_hears_of_new_records() {
    let world = World::start();
    world.create("t", 1, &[]);
    // Longer than this test waits for anything.
    let consumer = world.consumer(&[("fetch.wait.max.ms", "100000"), ("socket.timeout.ms", "120000")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    assert!(consumer.poll(Duration::from_millis(1000)).is_none());
    let started = std::time::Instant::now();
    send(&world.producer(&[("linger.ms", "0")]), "t", 0, &["now"]);
    let found = wait_for("record", || consumer.poll(Duration::from_millis(100)));
    assert_eq!(found.expect("a record").payload(), Some(&b"now"[..]));
    assert!(started.elapsed() < Duration::from_secs(60), "it waited for the end of its time");
}

#[test]
fn idempotent_producers_and_many_partitions() {
    let world = World::start();
    world.create("t", 8, &[("segment.bytes", "20000")]);
    let producer = world.producer(&[("enable.idempotence", "true"), ("linger.ms", "1"), ("batch.num.messages", "50")]);
    for at in 0..20_000 {
        let value = at.to_string();
        loop {
            let record = BaseRecord::<str, str>::to("t").key(&value).payload(&value);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            };
        }
    }
    producer.flush(crate::world::PATIENCE).expect("acknowledged");
    let mut all: Vec<usize> = (0..8)
        .flat_map(|partition| world.values("t", partition, "read_committed"))
        .map(|value| value.parse().expect("a number"))
        .collect();
    all.sort_unstable();
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_is_too_large_is_refused_by_name() {
    let world = World::start();
    world.create("t", 1, &[("max.message.bytes", "1000")]);
    let producer: rdkafka::producer::FutureProducer = world.config(&[]).create().expect("a producer");
    let long = "x".repeat(2_000);
    let record = rdkafka::producer::FutureRecord::<(), str>::to("t").payload(&long);
    let (error, _) = world.block_on(producer.send(record, crate::world::PATIENCE)).expect_err("refused");
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    let small = rdkafka::producer::FutureRecord::<(), str>::to("t").payload("small");
    world.block_on(producer.send(small, crate::world::PATIENCE)).map_err(|(error, _)| error).expect("taken");
    assert_eq!(world.values("t", 0, "read_committed"), ["small"]);
}

#[test]
fn large_batches_are_read_with_small_limits() {
    let world = World::start();
    world.create("t", 1, &[]);
    let long = "x".repeat(100_000);
    send(&world.producer(&[]), "t", 0, &[&long, "a", &long, "b"]);
    let consumer = world.consumer(&[("fetch.message.max.bytes", "100"), ("fetch.max.bytes", "1000000")]);
    consumer.subscribe(&["t"]).expect("subscribed");
    let mut lengths = Vec::new();
    wait_for("four records", || {
        let message = consumer.poll(Duration::from_millis(100))?.expect("a record");
        lengths.push(message.payload().map_or(0, <[u8]>::len));
        (lengths.len() == 4).then_some(())
    });
    assert_eq!(lengths, [100_000, 1, 100_000, 1]);
}

#[test]
fn offsets_by_time() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        offsets_by_time_of(codec);
    }
}

fn offsets_by_time_of(codec: &str) {
    let world = World::start();
    world.create("t", 1, &[("segment.bytes", "2000")]);
    let producer = world.producer(&[("linger.ms", "20"), ("compression.codec", codec)]);
    for at in 0..100i64 {
        let record = BaseRecord::<(), str>::to("t").payload("v").timestamp(1_000_000 + 10 * at);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        if at % 25 == 0 {
            producer.flush(crate::world::PATIENCE).expect("acknowledged");
        }
    }
    producer.flush(crate::world::PATIENCE).expect("acknowledged");
    let consumer = world.consumer(&[]);
    let at = |timestamp: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Offset(timestamp)).expect("an offset");
        let found = consumer.offsets_for_times(list, crate::world::PATIENCE).expect("offsets");
        found.elements()[0].offset()
    };
    assert_eq!(at(0), Offset::Offset(0));
    for record in [1, 33, 50, 99] {
        assert_eq!(at(1_000_000 + 10 * record), Offset::Offset(record), "{codec}");
        assert_eq!(at(1_000_000 + 10 * record - 5), Offset::Offset(record), "{codec}");
    }
    assert_eq!(at(2_000_000), Offset::End);
    let (low, high) = consumer.fetch_watermarks("t", 0, crate::world::PATIENCE).expect("watermarks");
    assert_eq!((low, high), (0, 100));
}

#[test]
fn topics_come_to_be_when_they_are_asked_for() {
    let world = World::start_with(|config| config.partitions = 3);
    send(&world.producer(&[]), "new", 2, &["a"]);
    let metadata = world.consumer(&[]).fetch_metadata(Some("new"), crate::world::PATIENCE).expect("metadata");
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
    let world = World::start_with(|config| config.auto_create = false);
    let producer: rdkafka::producer::FutureProducer =
        world.config(&[("topic.metadata.propagation.max.ms", "500")]).create().expect("a producer");
    let record = rdkafka::producer::FutureRecord::<(), str>::to("new").payload("a");
    let (error, _) = world.block_on(producer.send(record, crate::world::PATIENCE)).expect_err("refused");
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition));
}
