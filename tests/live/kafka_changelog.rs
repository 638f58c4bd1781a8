//! Changelogs in a topic, as a plain client reads them back: tombstones in both deliveries, through crashes, and
//! Debezium's envelopes; and as the source reads them.

use crate::support::{address, connector, context, fresh, outside_records, read, table};
use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int8Type, Int64Type};
use connectors::{Gives, Sink, TableDef, Takes};
use std::collections::BTreeMap;
use std::sync::Arc;

fn totals(topic: &str, changelog: &str, delivery: &str) -> TableDef {
    let brokers = address("SMACK_KAFKA");
    let options = [
        ("connector", "kafka"),
        ("topic", topic),
        ("bootstrap.servers", brokers.as_str()),
        ("create_topic", "true"),
        ("partitions", "3"),
        ("changelog", changelog),
        ("delivery", delivery),
        ("scan.bounded", "latest"),
    ];
    table("totals", &[("user", DataType::Utf8), ("n", DataType::Int64)], 1, &options)
}

/// `Some(n)` is there now; `None` is there no longer.
fn change(sink: &mut Box<dyn Sink>, rows: &[(&str, Option<i64>)]) {
    let weights = Int8Array::from_iter_values(rows.iter().map(|(_, n)| if n.is_some() { 1 } else { -1 }));
    let rows: Vec<(&str, i64)> = rows.iter().map(|(user, n)| (*user, n.unwrap_or(-1))).collect();
    sink.change(&batch(&rows), &weights).expect("changed");
}

fn batch(rows: &[(&str, i64)]) -> RecordBatch {
    let users: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(user, _)| *user)));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n)));
    RecordBatch::try_from_iter([("user", users), ("n", numbers)]).expect("a batch")
}

fn sink(table: &TableDef, slot: u32) -> Box<dyn Sink> {
    connector("kafka").open_sink(table, &context(slot)).expect("a sink")
}

/// What each key's records say, in order; no value is a tombstone.
fn told(table: &TableDef) -> BTreeMap<String, Vec<Option<String>>> {
    let mut told: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (key, value) in outside_records(table.option("topic").expect("a topic")) {
        told.entry(key.expect("a record without a key")).or_default().push(value);
    }
    told
}

fn wanted(keys: &[(&str, &[Option<i64>])]) -> BTreeMap<String, Vec<Option<String>>> {
    let of = |user: &str, n: i64| format!("{{\"user\":\"{user}\",\"n\":{n}}}");
    let key = |(user, numbers): &(&str, &[Option<i64>])| {
        ((*user).to_owned(), numbers.iter().map(|n| n.map(|n| of(user, n))).collect())
    };
    keys.iter().map(key).collect()
}

#[test]
fn rows_and_tombstones_come_in_order_in_both_deliveries() {
    for delivery in ["exactly_once", "at_least_once"] {
        let table = totals(&fresh("upsert"), "upsert", delivery);
        assert_eq!(connector("kafka").takes(&table), Takes::Upsert);
        let mut sink = sink(&table, 0);
        change(&mut sink, &[("a", Some(1)), ("b", Some(1)), ("c", None)]);
        change(&mut sink, &[("a", None), ("b", Some(2))]);
        sink.prepare(1).expect("prepared");
        change(&mut sink, &[("a", Some(3))]);
        sink.commit(1).expect("committed");
        sink.prepare(2).expect("prepared");
        sink.commit(2).expect("committed");
        let wanted = wanted(&[("a", &[Some(1), None, Some(3)]), ("b", &[Some(1), Some(2)]), ("c", &[None])]);
        assert_eq!(told(&table), wanted, "{delivery}");
    }
}

#[test]
fn tombstones_of_a_writer_that_died_are_sent_once() {
    let table = totals(&fresh("upsert_crash"), "upsert", "exactly_once");
    let mut first = sink(&table, 0);
    change(&mut first, &[("a", Some(1)), ("b", Some(1))]);
    first.prepare(1).expect("prepared");
    first.commit(1).expect("committed");
    change(&mut first, &[("a", None), ("b", Some(2))]);
    let state = first.prepare(2).expect("prepared");
    change(&mut first, &[("b", None)]);
    drop(first);
    assert_eq!(told(&table), wanted(&[("a", &[Some(1)]), ("b", &[Some(1)])]));
    for _ in 0..2 {
        let mut second = sink(&table, 1);
        second.restore(2, vec![state.clone()]).expect("restored");
        assert_eq!(told(&table), wanted(&[("a", &[Some(1), None]), ("b", &[Some(1), Some(2)])]));
    }
}

#[test]
fn debezium_envelopes_are_read_back() {
    let table = totals(&fresh("debezium"), "debezium", "exactly_once");
    assert_eq!(connector("kafka").takes(&table), Takes::Changes);
    let mut sink = sink(&table, 0);
    let rows = batch(&[("a", 1), ("b", 7), ("a", 2)]);
    sink.change(&rows.slice(0, 2), &Int8Array::from(vec![1, 1])).expect("changed");
    sink.change(&rows, &Int8Array::from(vec![-1, -1, 1])).expect("changed");
    sink.prepare(1).expect("prepared");
    sink.commit(1).expect("committed");
    let told: BTreeMap<String, Vec<String>> = told(&table)
        .into_iter()
        .map(|(key, values)| {
            let without_time = |value: Option<String>| {
                let value = value.expect("a value");
                value.split_once(",\"ts_ms\":").expect("a time").0.to_owned()
            };
            (key, values.into_iter().map(without_time).collect())
        })
        .collect();
    let row = |user: &str, n: i64| format!("{{\"user\":\"{user}\",\"n\":{n}}}");
    let a = [
        format!("{{\"before\":null,\"after\":{},\"op\":\"c\"", row("a", 1)),
        format!("{{\"before\":{},\"after\":{},\"op\":\"u\"", row("a", 1), row("a", 2)),
    ];
    let b = [
        format!("{{\"before\":null,\"after\":{},\"op\":\"c\"", row("b", 7)),
        format!("{{\"before\":{},\"after\":null,\"op\":\"d\"", row("b", 7)),
    ];
    assert_eq!(told, BTreeMap::from([("a".to_owned(), a.to_vec()), ("b".to_owned(), b.to_vec())]));
}

/// What a table that is read as changes says, in order by user: the weight and the number.
fn changes(table: &TableDef) -> BTreeMap<String, Vec<(i8, Option<i64>)>> {
    let read = read(table, &[0, 1], &BTreeMap::new()).expect("it is read");
    assert_eq!(read.bad, vec![]);
    let mut changes: BTreeMap<String, Vec<(i8, Option<i64>)>> = BTreeMap::new();
    for batch in read.batches.values().flatten() {
        let (users, numbers) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        for (row, weight) in batch.column(2).as_primitive::<Int8Type>().values().iter().enumerate() {
            let number = numbers.is_valid(row).then(|| numbers.value(row));
            changes.entry(users.value(row).to_owned()).or_default().push((*weight, number));
        }
    }
    changes
}

/// What a sink writes as changes a source reads as the same, in both forms, also through a tombstone.
#[test]
fn a_changelog_that_is_written_is_read_back() {
    let written = |changelog: &str, n_key: usize| {
        let mut table = totals(&fresh("back"), changelog, "exactly_once");
        table.primary_key.truncate(n_key);
        let mut sink = sink(&table, 0);
        change(&mut sink, &[("a", Some(1)), ("b", Some(7))]);
        let update = batch(&[("a", 1), ("a", 2)]);
        match changelog {
            "upsert" => change(&mut sink, &[("a", Some(2))]),
            _ => sink.change(&update, &Int8Array::from(vec![-1, 1])).expect("changed"),
        }
        sink.change(&batch(&[("b", 7)]), &Int8Array::from(vec![-1])).expect("changed");
        sink.prepare(1).expect("prepared");
        sink.commit(1).expect("committed");
        table
    };
    let upserts = written("upsert", 1);
    assert_eq!(connector("kafka").gives(&upserts), Gives::Upserts);
    let a_by_key = vec![(1, Some(1)), (1, Some(2))];
    let b_by_key = vec![(1, Some(7)), (-1, None)];
    let by_key = BTreeMap::from([("a".to_owned(), a_by_key), ("b".to_owned(), b_by_key)]);
    assert_eq!(changes(&upserts), by_key);

    let envelopes = written("debezium", 1);
    assert_eq!(connector("kafka").gives(&envelopes), Gives::Upserts);
    assert_eq!(changes(&envelopes), by_key);

    // Without a key in the declaration every change is told whole.
    let whole = TableDef { primary_key: Vec::new(), ..envelopes };
    assert_eq!(connector("kafka").gives(&whole), Gives::Changes);
    let a = vec![(1, Some(1)), (-1, Some(1)), (1, Some(2))];
    let b = vec![(1, Some(7)), (-1, Some(7))];
    assert_eq!(changes(&whole), BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]));
}

/// Debezium puts a tombstone behind a deletion, which says nothing new.
#[test]
fn a_tombstone_behind_a_deletion_is_passed_over() {
    let table = totals(&fresh("tombstone"), "debezium", "exactly_once");
    drop(sink(&table, 0));
    let upserts = totals(table.option("topic").expect("a topic"), "upsert", "exactly_once");
    let mut tombstones = sink(&upserts, 1);
    change(&mut tombstones, &[("a", None)]);
    tombstones.prepare(1).expect("prepared");
    tombstones.commit(1).expect("committed");
    assert_eq!(changes(&table), BTreeMap::new());
    assert_eq!(changes(&upserts), BTreeMap::from([("a".to_owned(), vec![(-1, None)])]));
}
