//! Groups that share partitions out, and their offsets.

use crate::world::{PATIENCE, World, as_texts, names, send, wait_for};
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::Duration;

fn partitions(consumer: &BaseConsumer) -> usize {
    consumer.assignment().map_or(0, |list| list.count())
}

#[test]
fn two_members_share_and_one_takes_over() {
    for strategy in ["range", "cooperative-sticky"] {
        let world = World::start();
        world.create("t", 4, &[]);
        let values = names(0..40);
        let producer = world.producer(&[]);
        for partition in 0..4 {
            send(&producer, "t", partition, &as_texts(&values[partition as usize * 10..][..10]));
        }
        let member = || {
            let options = [
                ("partition.assignment.strategy", strategy),
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "200"),
            ];
            let consumer = world.consumer(&options);
            consumer.subscribe(&["t"]).expect("subscribed");
            consumer
        };
        let found = std::cell::RefCell::new(BTreeSet::new());
        let take = |consumer: &BaseConsumer| {
            if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                let message = message.expect("a record");
                found.borrow_mut().insert(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
                consumer.store_offset_from_message(&message).ok();
            }
        };
        let first = member();
        wait_for("all partitions for one", || {
            take(&first);
            (partitions(&first) == 4).then_some(())
        });
        let second = member();
        wait_for("two partitions for each", || {
            take(&first);
            take(&second);
            (partitions(&first) == 2 && partitions(&second) == 2).then_some(())
        });
        drop(first);
        wait_for("all partitions for the one that is left", || {
            take(&second);
            (partitions(&second) == 4).then_some(())
        });
        wait_for("every value", || {
            take(&second);
            // What was read and not committed is read again.
            (found.borrow().len() == 40).then_some(())
        });
    }
}

#[test]
fn committed_offsets_are_where_a_group_goes_on() {
    let mut world = World::start();
    world.create("t", 1, &[]);
    send(&world.producer(&[]), "t", 0, &as_texts(&names(0..10)));
    {
        let consumer = world.consumer(&[]);
        consumer.subscribe(&["t"]).expect("subscribed");
        let mut n = 0;
        wait_for("four records", || {
            let message = consumer.poll(Duration::from_millis(100))?.expect("a record");
            n += 1;
            if n == 4 {
                consumer.commit_message(&message, CommitMode::Sync).expect("committed");
            }
            (n == 4).then_some(())
        });
    }
    for crashes in [false, true] {
        if crashes {
            world.crash()
        } else {
            world.restart()
        }
        let consumer = world.consumer(&[]);
        consumer.subscribe(&["t"]).expect("subscribed");
        let offset =
            wait_for("the next record", || consumer.poll(Duration::from_millis(100))).expect("a record").offset();
        assert_eq!(offset, 4);
    }
}

#[test]
fn who_assigns_itself_commits_without_a_group() {
    let world = World::start();
    world.create("t", 2, &[]);
    let consumer = world.consumer(&[("group.id", "alone")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 1, Offset::Offset(17)).expect("an offset");
    consumer.commit(&list, CommitMode::Sync).expect("committed");
    let mut asked = TopicPartitionList::new();
    asked.add_partition("t", 0);
    asked.add_partition("t", 1);
    let committed = consumer.committed_offsets(asked, PATIENCE).expect("offsets");
    let offsets: Vec<Offset> = committed.elements().iter().map(|element| element.offset()).collect();
    assert_eq!(offsets, [Offset::Invalid, Offset::Offset(17)]);
}

#[test]
fn groups_are_listed_and_deleted() {
    let world = World::start();
    world.create("t", 1, &[]);
    let consumer = world.consumer(&[("group.id", "seen")]);
    consumer.subscribe(&["t"]).expect("subscribed");
    wait_for("an assignment", || {
        let _ = consumer.poll(Duration::from_millis(50));
        (partitions(&consumer) == 1).then_some(())
    });
    let groups = consumer.fetch_group_list(Some("seen"), PATIENCE).expect("groups");
    assert_eq!((groups.groups()[0].state(), groups.groups()[0].members().len()), ("Stable", 1));
    let admin = world.admin();
    let deleted = world.block_on(admin.delete_groups(&["seen"], &AdminOptions::new())).expect("an answer");
    assert!(deleted[0].is_err(), "it has a member");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(3)).expect("an offset");
    consumer.commit(&list, CommitMode::Sync).expect("committed");
    drop(consumer);
    wait_for("deletion", || {
        let deleted = world.block_on(admin.delete_groups(&["seen"], &AdminOptions::new())).expect("an answer");
        deleted[0].is_ok().then_some(())
    });
    let consumer = world.consumer(&[("group.id", "seen")]);
    let committed = consumer.committed_offsets(list, PATIENCE).expect("offsets");
    assert_eq!(committed.elements()[0].offset(), Offset::Invalid);
}
