//! Changelogs in a topic, as a plain client reads them back: tombstones in both deliveries, through crashes, and
//! Debezium's envelopes.

use crate::support::{address, connector, context, fresh, outside_records, read, table};
use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use connectors::{Error, Sink, TableDef, Takes};
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

#[test]
fn a_changelog_is_not_read_as_rows() {
    let table = totals(&fresh("unread"), "upsert", "exactly_once");
    drop(sink(&table, 0));
    let Err(Error::Fatal(why)) = read(&table, &[0], &BTreeMap::new()) else { panic!("it was read") };
    assert!(why.contains("'changelog'"), "{why}");
}
