//! Topics made, grown, described, emptied and deleted.

use crate::world::{PATIENCE, World, as_texts, names, send, wait_for};
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

#[test]
fn topics_are_made_grown_and_deleted() {
    let mut world = World::start_with(|config| config.auto_create = false);
    world.create("t", 2, &[]);
    let options = AdminOptions::new();
    let again = NewTopic::new("t", 2, TopicReplication::Fixed(1));
    let results = world.block_on(world.admin().create_topics(&[again], &options)).expect("an answer");
    assert_eq!(results[0].as_ref().unwrap_err().1, RDKafkaErrorCode::TopicAlreadyExists);
    let grown =
        world.block_on(world.admin().create_partitions(&[NewPartitions::new("t", 5)], &options)).expect("an answer");
    grown[0].as_ref().expect("grown");
    let fewer =
        world.block_on(world.admin().create_partitions(&[NewPartitions::new("t", 3)], &options)).expect("an answer");
    assert_eq!(fewer[0].as_ref().unwrap_err().1, RDKafkaErrorCode::InvalidPartitions);
    send(&world.producer(&[]), "t", 4, &["a"]);
    world.restart();
    assert_eq!(world.values("t", 4, "read_committed"), ["a"]);
    let deleted = world.block_on(world.admin().delete_topics(&["t", "none"], &options)).expect("an answer");
    deleted[0].as_ref().expect("deleted");
    assert_eq!(deleted[1].as_ref().unwrap_err().1, RDKafkaErrorCode::UnknownTopicOrPartition);
    world.restart();
    let metadata = world.consumer(&[]).fetch_metadata(None, PATIENCE).expect("metadata");
    assert!(metadata.topics().is_empty());
    // The same name is another topic.
    world.create("t", 1, &[]);
    assert!(world.values("t", 0, "read_committed").is_empty());
}

#[test]
fn bad_topics_are_refused() {
    let world = World::start();
    let refused = |topic: NewTopic<'_>| {
        let results = world.block_on(world.admin().create_topics(&[topic], &AdminOptions::new())).expect("an answer");
        results[0].as_ref().expect_err("refused").1
    };
    let one = || TopicReplication::Fixed(1);
    assert_eq!(refused(NewTopic::new("a b", 1, one())), RDKafkaErrorCode::InvalidTopic);
    assert_eq!(refused(NewTopic::new("t", 1, TopicReplication::Fixed(3))), RDKafkaErrorCode::InvalidReplicationFactor);
    assert_eq!(refused(NewTopic::new("t", 20_000, one())), RDKafkaErrorCode::PolicyViolation);
    assert_eq!(refused(NewTopic::new("t", 1, one()).set("no.such", "1")), RDKafkaErrorCode::InvalidConfig);
    assert_eq!(refused(NewTopic::new("t", 1, one()).set("retention.ms", "long")), RDKafkaErrorCode::InvalidConfig);
}

#[test]
fn settings_are_shown_and_changed() {
    let mut world = World::start();
    world.create("t", 1, &[("retention.ms", "5000")]);
    let value = |world: &World, name: &str| {
        let asked = [ResourceSpecifier::Topic("t")];
        let results = world.block_on(world.admin().describe_configs(&asked, &AdminOptions::new())).expect("an answer");
        let configs = results.into_iter().next().expect("one").expect("settings");
        configs.get(name).and_then(|entry| entry.value.clone())
    };
    assert_eq!(value(&world, "retention.ms").as_deref(), Some("5000"));
    assert_eq!(value(&world, "cleanup.policy").as_deref(), Some("delete"));
    let change = AlterConfig::new(ResourceSpecifier::Topic("t")).set("retention.bytes", "12345");
    world.block_on(world.admin().alter_configs(&[change], &AdminOptions::new())).expect("an answer")[0]
        .as_ref()
        .expect("changed");
    world.restart();
    assert_eq!(value(&world, "retention.bytes").as_deref(), Some("12345"));
    let broker = [ResourceSpecifier::Broker(1)];
    let results = world.block_on(world.admin().describe_configs(&broker, &AdminOptions::new())).expect("an answer");
    let configs = results.into_iter().next().expect("one").expect("settings");
    assert_eq!(configs.get("num.partitions").and_then(|entry| entry.value.clone()).as_deref(), Some("1"));
}

#[test]
fn records_are_deleted_and_old_ones_go() {
    let mut world = World::start_with(|config| config.retention_check = Duration::from_millis(100));
    world.create("t", 1, &[]);
    send(&world.producer(&[]), "t", 0, &as_texts(&names(0..10)));
    let mut before = TopicPartitionList::new();
    before.add_partition_offset("t", 0, Offset::Offset(6)).expect("an offset");
    let admin = world.admin();
    world.block_on(admin.delete_records(&before, &AdminOptions::new())).expect("deleted");
    for reopened in [false, true] {
        if reopened {
            world.crash();
        }
        let consumer = world.consumer(&[]);
        assert_eq!(consumer.fetch_watermarks("t", 0, PATIENCE).expect("watermarks"), (6, 10));
        assert_eq!(world.read("t", 0, 6, "read_committed").len(), 4);
    }
    world.create("short", 1, &[("retention.ms", "500"), ("segment.bytes", "1000")]);
    send(&world.producer(&[]), "short", 0, &as_texts(&names(0..100)));
    let consumer = world.consumer(&[]);
    wait_for("deletion of old records", || {
        (consumer.fetch_watermarks("short", 0, PATIENCE).expect("watermarks") == (100, 100)).then_some(())
    });
}
