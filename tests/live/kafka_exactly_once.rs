//! Every row once, wherever the writer dies: between `prepare` and `commit`, during it, or before anybody hears of it.

use crate::support::{address, connector, context, fresh, outside_view, read, table};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use connectors::{Delivery, Error, Sink, TableDef};
use std::collections::BTreeMap;
use std::sync::Arc;

fn hits(topic: &str) -> TableDef {
    let brokers = address("SMACK_KAFKA");
    let options = [
        ("connector", "kafka"),
        ("topic", topic),
        ("bootstrap.servers", brokers.as_str()),
        ("create_topic", "true"),
        ("partitions", "3"),
        ("scan.bounded", "latest"),
    ];
    table("hits", &[("n", DataType::Int64)], 1, &options)
}

fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
    let column: Arc<dyn Array> = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).expect("a batch")
}

fn sink(table: &TableDef, slot: u32) -> Box<dyn Sink> {
    connector("kafka").open_sink(table, &context(slot)).expect("a sink")
}

/// What a new generation does with the states of an earlier one.
fn restore(table: &TableDef, epoch: u64, states: Vec<Vec<u8>>) -> Box<dyn Sink> {
    let mut sink = sink(table, 0);
    sink.restore(epoch, states).expect("restored");
    sink
}

/// The numbers in the topic, as an outside client sees them, and as our own source does.
fn visible(table: &TableDef) -> Vec<i64> {
    let topic = table.option("topic").expect("a topic");
    let parse =
        |text: &String| text.trim_start_matches("{\"n\":").trim_end_matches('}').parse::<i64>().expect("a number");
    let mut outside: Vec<i64> = outside_view(topic).iter().map(parse).collect();
    outside.sort_unstable();
    let ours = read(table, &[0], &BTreeMap::new()).expect("read");
    let mut inside: Vec<i64> = ours
        .batches
        .values()
        .flatten()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    inside.sort_unstable();
    assert_eq!(inside, outside, "our source and a plain client differ");
    outside
}

fn numbers(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

#[test]
fn rows_are_seen_when_their_epoch_is_committed_and_not_before() {
    let table = hits(&fresh("seen"));
    assert_eq!(connector("kafka").delivery(&table), Delivery::ExactlyOnce);
    let mut sink = sink(&table, 0);
    assert_eq!(sink.prepare(1).expect("prepared"), Vec::<u8>::new(), "nothing to keep");
    sink.commit(1).expect("nothing to commit");
    sink.write(&batch(0..1000)).expect("written");
    let state = sink.prepare(2).expect("prepared");
    assert!(!state.is_empty());
    sink.write(&batch(1000..1500)).expect("the next epoch's rows come before the commit");
    assert_eq!(visible(&table), numbers(0..0));
    sink.commit(2).expect("committed");
    assert_eq!(visible(&table), numbers(0..1000));
    sink.commit(2).expect("again, without effect");
    sink.prepare(3).expect("prepared");
    sink.commit(3).expect("committed");
    assert_eq!(visible(&table), numbers(0..1500));
}

#[test]
fn a_writer_that_dies_before_its_commit_is_finished() {
    let table = hits(&fresh("before"));
    let mut first = sink(&table, 0);
    first.write(&batch(0..500)).expect("written");
    let state = first.prepare(1).expect("prepared");
    first.write(&batch(500..600)).expect("rows after the barrier die with it");
    drop(first);
    let mut second = restore(&table, 1, vec![state.clone()]);
    assert_eq!(visible(&table), numbers(0..500));
    // Dying again right after, before any checkpoint of its own, restores the same state.
    drop(second);
    second = restore(&table, 1, vec![state]);
    assert_eq!(visible(&table), numbers(0..500));
    second.write(&batch(500..600)).expect("written again from the source");
    second.prepare(2).expect("prepared");
    second.commit(2).expect("committed");
    assert_eq!(visible(&table), numbers(0..600));
}

#[test]
fn a_writer_that_dies_after_its_commit_is_not_repeated() {
    let table = hits(&fresh("after"));
    let mut first = sink(&table, 0);
    first.write(&batch(0..500)).expect("written");
    let state = first.prepare(1).expect("prepared");
    first.commit(1).expect("committed, but nobody heard of it");
    drop(first);
    drop(restore(&table, 1, vec![state]));
    assert_eq!(visible(&table), numbers(0..500));
}

#[test]
fn an_epoch_without_a_manifest_is_carried_on_by_the_next() {
    let table = hits(&fresh("carried"));
    let mut first = sink(&table, 0);
    first.write(&batch(0..100)).expect("written");
    first.prepare(1).expect("prepared, but its manifest never came");
    first.write(&batch(100..200)).expect("written");
    let state = first.prepare(2).expect("prepared");
    drop(first);
    drop(restore(&table, 2, vec![state]));
    assert_eq!(visible(&table), numbers(0..200));
}

#[test]
fn fewer_slices_finish_what_more_had_prepared() {
    let table = hits(&fresh("fewer"));
    let mut states = Vec::new();
    for slot in 0..3 {
        let mut writer = sink(&table, slot);
        let from = i64::from(slot) * 100;
        writer.write(&batch(from..from + 100)).expect("written");
        states.push(writer.prepare(1).expect("prepared"));
        if slot == 1 {
            writer.commit(1).expect("this one had come further");
        }
    }
    drop(restore(&table, 1, states));
    assert_eq!(visible(&table), numbers(0..300));
}

#[test]
fn a_zombie_that_wakes_up_cannot_commit() {
    let table = hits(&fresh("zombie"));
    let mut zombie = sink(&table, 0);
    zombie.write(&batch(0..10)).expect("written");
    zombie.prepare(1).expect("prepared");
    zombie.commit(1).expect("committed");
    zombie.write(&batch(10..20)).expect("written");
    let state = zombie.prepare(2).expect("prepared");
    drop(restore(&table, 2, vec![state]));
    let Err(Error::Fatal(why)) = zombie.commit(2) else { panic!("the zombie committed") };
    assert!(why.contains("taken over"), "{why}");
    assert_eq!(visible(&table), numbers(0..20));
}

#[test]
fn a_zombie_that_had_not_yet_written_finds_its_work_done() {
    let table = hits(&fresh("late_zombie"));
    let mut zombie = sink(&table, 0);
    zombie.write(&batch(0..10)).expect("written");
    let state = zombie.prepare(1).expect("prepared");
    drop(restore(&table, 1, vec![state]));
    // It has no producer yet, so there is nothing to fence; it must see the number that the other one noted.
    zombie.commit(1).expect("nothing left to do");
    assert_eq!(visible(&table), numbers(0..10));
}

#[test]
fn a_state_that_was_damaged_is_refused() {
    let table = hits(&fresh("damaged"));
    let mut writer = sink(&table, 0);
    writer.write(&batch(0..10)).expect("written");
    let mut state = writer.prepare(1).expect("prepared");
    let middle = state.len() / 2;
    state[middle] ^= 1;
    let Err(Error::Fatal(why)) = sink(&table, 0).restore(1, vec![state]) else { panic!("it was taken") };
    assert!(why.contains("checksum"), "{why}");
}
