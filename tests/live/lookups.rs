//! Looking rows of Cassandra up by key.

use crate::support::{address, connector, context, fresh, table};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use connectors::{Error, Found, Lookup, TableDef};
use std::sync::Arc;
use std::time::Instant;

const N_ROWS: i64 = 100_000;

/// Keyed by (shop, day).
pub fn sales(points: &str, name: &str) -> TableDef {
    let options = [
        ("connector", "cassandra"),
        ("contact_points", points),
        ("keyspace", "smack_live"),
        ("table", name),
        ("create_keyspace", "true"),
        ("create_table", "true"),
        ("consistency", "one"),
    ];
    let columns = [("shop", DataType::Int64), ("day", DataType::Int64), ("note", DataType::Utf8)];
    table("sales", &columns, 2, &options)
}

fn numbers(numbers: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(numbers))
}

/// Two days of each shop.
pub fn fill(table: &TableDef, n_rows: i64) {
    let mut sink = connector("cassandra").open_sink(table, &context(0)).expect("a sink");
    for first in (0..n_rows).step_by(5000) {
        let ids = || first..(first + 5000).min(n_rows);
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values(ids().map(|id| format!("n{id}"))));
        let columns = vec![numbers(ids().map(|id| id / 2)), numbers(ids().map(|id| id % 2)), notes];
        sink.write(&RecordBatch::try_new(Arc::clone(&table.schema), columns).expect("a batch")).expect("written");
    }
    sink.prepare(1).expect("acknowledged");
}

pub fn keys(shops: impl Iterator<Item = i64>, days: Option<i64>) -> RecordBatch {
    let shops: Vec<i64> = shops.collect();
    let n = shops.len();
    let shops = numbers(shops.into_iter());
    match days {
        None => RecordBatch::try_from_iter([("shop", shops)]).expect("keys"),
        Some(day) => {
            RecordBatch::try_from_iter([("shop", shops), ("day", numbers(std::iter::repeat_n(day, n)))]).expect("keys")
        }
    }
}

/// By key, in order: the notes that were found.
pub fn notes(found: &Found) -> Vec<(u32, String)> {
    let notes = found.rows.column(0).as_string::<i32>();
    let mut all: Vec<(u32, String)> =
        found.keys.iter().enumerate().map(|(row, key)| (*key, notes.value(row).to_owned())).collect();
    all.sort();
    all
}

fn open(table: &TableDef, by: &[usize], wanted: &[usize]) -> connectors::Result<Box<dyn Lookup>> {
    connector("cassandra").open_lookup(table, by, wanted, &context(0))
}

#[test]
fn ten_thousand_keys_among_a_hundred_thousand_rows() {
    let table = sales(&address("SMACK_CASSANDRA"), &fresh("sales"));
    fill(&table, N_ROWS);
    let mut whole = open(&table, &[0, 1], &[2]).expect("a lookup");
    // Every fifth shop, and as many that are not there.
    let asked = keys((0..10_000).map(|at| at * 10), Some(1));
    let began = Instant::now();
    let found = whole.get(&asked).expect("found");
    eprintln!("{} keys in {:?}", asked.num_rows(), began.elapsed());
    let wanted: Vec<(u32, String)> = (0..5_000).map(|at| (at as u32, format!("n{}", at * 20 + 1))).collect();
    assert_eq!(notes(&found), wanted);

    // The partition key alone has the rows of both days, in their order.
    let mut by_shop = open(&table, &[0], &[2, 1]).expect("a lookup");
    let found = by_shop.get(&keys([7, 900_000, 3].into_iter(), None)).expect("found");
    let wanted = [(0, "n14"), (0, "n15"), (2, "n6"), (2, "n7")].map(|(key, note)| (key, note.to_owned()));
    assert_eq!(notes(&found), wanted);
    let days = found.rows.column(1).as_primitive::<Int64Type>();
    let of_first: Vec<i64> = (0..4).filter(|row| found.keys[*row] == 0).map(|row| days.value(row)).collect();
    assert_eq!(of_first, [0, 1]);
}

#[test]
fn other_columns_than_the_key_are_refused_with_the_servers_key() {
    let table = sales(&address("SMACK_CASSANDRA"), &fresh("sales"));
    fill(&table, 10);
    for by in [[1], [2]] {
        let Err(Error::Fatal(why)) = open(&table, &by, &[0]).map(drop) else { panic!("no refusal of {by:?}") };
        assert!(why.contains("PRIMARY KEY ((shop), day)"), "{why}");
    }
}

#[test]
fn texts_that_cannot_be_there_have_no_rows() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("texts");
    let options = [
        ("connector", "cassandra"),
        ("contact_points", points.as_str()),
        ("keyspace", "smack_live"),
        ("table", name.as_str()),
        ("create_keyspace", "true"),
        ("create_table", "true"),
    ];
    let table = table("texts", &[("name", DataType::Utf8), ("n", DataType::Int64)], 1, &options);
    let texts = |texts: &[&str]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let mut sink = connector("cassandra").open_sink(&table, &context(0)).expect("a sink");
    let rows = vec![texts(&["a", "b"]), numbers(1..3)];
    sink.write(&RecordBatch::try_new(Arc::clone(&table.schema), rows).expect("a batch")).expect("written");
    sink.prepare(1).expect("acknowledged");
    let mut lookup = open(&table, &[0], &[1]).expect("a lookup");
    // The server refuses an empty partition key.
    let asked = RecordBatch::try_from_iter([("name", texts(&["", "b", "zz"]))]).expect("keys");
    let found = lookup.get(&asked).expect("found");
    assert_eq!((found.keys, found.rows.column(0).as_primitive::<Int64Type>().value(0)), (vec![1], 2));
}
