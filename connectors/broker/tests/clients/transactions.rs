//! Transactions: all or nothing, hidden until then, and only for the latest producer.

use crate::world::{PATIENCE, World, as_texts, names, send, wait_for};
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

#[test]
fn an_aborted_transaction_is_hidden() {
    let mut world = World::start();
    world.create("t", 2, &[]);
    let producer = world.transactional("x");
    for (value, commit) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        producer.begin_transaction().expect("begun");
        for partition in 0..2 {
            send(&producer, "t", partition, &[value]);
        }
        if commit {
            producer.commit_transaction(PATIENCE).expect("committed");
        } else {
            producer.abort_transaction(PATIENCE).expect("aborted");
        }
    }
    for reopened in [false, true] {
        if reopened {
            world.crash();
        }
        for partition in 0..2 {
            assert_eq!(world.values("t", partition, "read_committed"), ["a", "c"]);
            assert_eq!(world.values("t", partition, "read_uncommitted"), ["a", "b", "c", "d"]);
        }
    }
}

#[test]
fn an_open_transaction_holds_committed_readers_back() {
    let world = World::start();
    world.create("t", 1, &[]);
    let producer = world.transactional("x");
    producer.begin_transaction().expect("begun");
    send(&producer, "t", 0, &["open"]);
    send(&world.producer(&[]), "t", 0, &["plain"]);
    assert!(world.values("t", 0, "read_committed").is_empty());
    assert_eq!(world.values("t", 0, "read_uncommitted"), ["open", "plain"]);
    let consumer = world.consumer(&[("isolation.level", "read_committed"), ("fetch.wait.max.ms", "10000")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    assert!(consumer.poll(Duration::from_millis(500)).is_none());
    producer.commit_transaction(PATIENCE).expect("committed");
    wait_for("record after the commit", || consumer.poll(Duration::from_millis(100))).expect("a record");
    assert_eq!(world.values("t", 0, "read_committed"), ["open", "plain"]);
}

#[test]
fn an_earlier_producer_is_fenced() {
    let world = World::start();
    world.create("t", 1, &[]);
    let zombie = world.transactional("x");
    zombie.begin_transaction().expect("begun");
    send(&zombie, "t", 0, &["of the zombie"]);
    let next = world.transactional("x");
    next.begin_transaction().expect("begun");
    send(&next, "t", 0, &["of the next"]);
    let record = BaseRecord::<(), str>::to("t").partition(0).payload("too late");
    // It may hear of it only when it sends.
    let _ = zombie.send(record);
    let error = zombie.commit_transaction(PATIENCE).expect_err("fenced");
    assert!(error.to_string().to_lowercase().contains("fence"), "{error}");
    next.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(world.values("t", 0, "read_committed"), ["of the next"]);
}

#[test]
fn offsets_move_with_their_transaction() {
    let world = World::start();
    world.create("in", 1, &[]);
    world.create("out", 1, &[]);
    send(&world.producer(&[]), "in", 0, &as_texts(&names(0..10)));
    let consumer = world.consumer(&[("group.id", "copy")]);
    consumer.subscribe(&["in"]).expect("subscribed");
    wait_for("a record", || consumer.poll(Duration::from_millis(100))).expect("a record");
    let committed = || {
        let mut asked = TopicPartitionList::new();
        asked.add_partition("in", 0);
        consumer.committed_offsets(asked, PATIENCE).expect("offsets").elements()[0].offset()
    };
    let producer = world.transactional("copy");
    let group = consumer.group_metadata().expect("a member");
    for (offset, commit) in [(5, false), (7, true)] {
        producer.begin_transaction().expect("begun");
        send(&producer, "out", 0, &["copied"]);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("in", 0, Offset::Offset(offset)).expect("an offset");
        producer.send_offsets_to_transaction(&list, &group, PATIENCE).expect("sent");
        if commit {
            producer.commit_transaction(PATIENCE).expect("committed");
        } else {
            producer.abort_transaction(PATIENCE).expect("aborted");
        }
        let expected = if commit { Offset::Offset(offset) } else { Offset::Invalid };
        assert_eq!(committed(), expected);
    }
    assert_eq!(world.values("out", 0, "read_committed"), ["copied"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let world = World::start();
    world.create("t", 1, &[]);
    let producer = world.producer(&[("transactional.id", "slow"), ("transaction.timeout.ms", "1000")]);
    producer.init_transactions(PATIENCE).expect("a transactional producer");
    producer.begin_transaction().expect("begun");
    send(&producer, "t", 0, &["forgotten"]);
    send(&world.producer(&[]), "t", 0, &["plain"]);
    wait_for("abort", || (world.values("t", 0, "read_committed") == ["plain"]).then_some(()));
    assert!(producer.commit_transaction(PATIENCE).is_err());
}

#[test]
fn a_transaction_survives_a_crash_of_the_broker() {
    let mut world = World::start();
    world.create("t", 1, &[]);
    let producer = world.transactional("x");
    producer.begin_transaction().expect("begun");
    send(&producer, "t", 0, &["before"]);
    world.crash();
    send(&producer, "t", 0, &["after"]);
    producer.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(world.values("t", 0, "read_committed"), ["before", "after"]);
}
