//! What envelopes come to, with and without a primary key, and against a naive reading.

use super::*;
use crate::TableDef;
use crate::formats::{Decoder, Rejected};
use crate::testing::table;
use arrow::array::AsArray;
use arrow::datatypes::{Int8Type, Int64Type};
use proptest::prelude::*;
use serde_json::{Value, json};

fn declared(keyed: bool) -> TableDef {
    let columns = [("name", DataType::Utf8), ("id", DataType::Int64)];
    TableDef { primary_key: if keyed { vec![1] } else { Vec::new() }, ..table(&columns, &[]) }
}

type Change = (i8, Option<i64>, Option<String>);

fn decoded(keyed: bool, records: &[String]) -> (Vec<Change>, Vec<Rejected>) {
    let table = declared(keyed);
    let mut decoder = Decoder::for_envelopes(Arc::clone(&table.schema), &table).unwrap();
    records.iter().enumerate().for_each(|(at, record)| decoder.push(record.as_bytes(), 10 + at as u64));
    let (batch, rejected) = decoder.flush();
    let (names, ids) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
    let weights = batch.column(2).as_primitive::<Int8Type>();
    let change = |row: usize| {
        let name = names.is_valid(row).then(|| names.value(row).to_owned());
        (weights.value(row), ids.is_valid(row).then(|| ids.value(row)), name)
    };
    ((0..batch.num_rows()).map(change).collect(), rejected)
}

fn change(weight: i8, id: i64, name: Option<&str>) -> Change {
    (weight, Some(id), name.map(str::to_owned))
}

#[test]
fn each_op_is_the_rows_that_went_and_came() {
    let records = [
        r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c","ts_ms":1,"source":{"db":"x"}}"#,
        r#"{"schema":{"type":"struct"},"payload":{"before":null,"after":{"id":2,"name":"b"},"op":"r"}}"#,
        r#"{"op":"u","after":{"id":1,"name":"c"},"before":{"id":1,"name":"a"}}"#,
        r#"{"schema":null,"payload":{"op":"d","before":{"id":2,"name":"b"},"after":null}}"#,
        r#"{"op":"u","after":{"id":3,"name":"c"},"before":{"id":1,"name":"c"}}"#,
    ]
    .map(str::to_owned);
    let whole = [
        change(1, 1, Some("a")),
        change(1, 2, Some("b")),
        change(-1, 1, Some("a")),
        change(1, 1, Some("c")),
        change(-1, 2, Some("b")),
        change(-1, 1, Some("c")),
        change(1, 3, Some("c")),
    ];
    assert_eq!(decoded(false, &records), (whole.to_vec(), vec![]));
    // By key a row that is replaced needs no removal, and of one that goes the key alone is read.
    let by_key = [
        change(1, 1, Some("a")),
        change(1, 2, Some("b")),
        change(1, 1, Some("c")),
        change(-1, 2, None),
        change(-1, 1, None),
        change(1, 3, Some("c")),
    ];
    assert_eq!(decoded(true, &records), (by_key.to_vec(), vec![]));
}

#[test]
fn what_is_missing_is_told_with_the_way_out() {
    let records = [
        r#"{"op":"u","after":{"id":1,"name":"c"},"before":null}"#,
        r#"{"op":"d","before":null}"#,
        r#"{"op":"c","after":null}"#,
        r#"{"id":1,"name":"c"}"#,
        r#"{"op":"t"}"#,
        r#"{"op":"c","after":{"id":"x"}}"#,
        r#"{"op":"c","after":{"name":"y"}}"#,
    ]
    .map(str::to_owned);
    let (rows, rejected) = decoded(false, &records);
    assert_eq!(rows, [(1, None, Some("y".to_owned()))]);
    let positions: Vec<u64> = rejected.iter().map(|(position, ..)| *position).collect();
    assert_eq!(positions, [10, 11, 12, 13, 14, 15]);
    for (at, part) in [(0, "REPLICA IDENTITY FULL"), (1, "PRIMARY KEY"), (2, "'after'"), (3, "'op'"), (4, "op 't'")] {
        assert!(rejected[at].2.contains(part), "{part} is not in: {}", rejected[at].2);
        assert_eq!(rejected[at].1, records[at].as_bytes());
    }
    let (rows, rejected) = decoded(true, &records);
    assert_eq!(rows, [change(1, 1, Some("c"))]);
    let positions: Vec<u64> = rejected.iter().map(|(position, ..)| *position).collect();
    assert_eq!(positions, [11, 12, 13, 14, 15, 16]);
    assert!(rejected[5].2.contains("primary key"), "{}", rejected[5].2);
}

/// One record: its JSON, and what it says by a reading of its own (`None`: it is bad).
fn naive(keyed: bool, record: &Value) -> Option<Vec<Change>> {
    let envelope = if record["payload"].is_object() { &record["payload"] } else { record };
    let half = |name: &str| envelope[name].is_object().then(|| &envelope[name]);
    let there = |row: &Value| (1, row["id"].as_i64(), row["name"].as_str().map(str::to_owned));
    let gone =
        |row: &Value| (-1, row["id"].as_i64(), if keyed { None } else { row["name"].as_str().map(str::to_owned) });
    let fit = |row: &&Value| !keyed || row["id"].is_i64();
    let (before, after) = (half("before").filter(fit), half("after"));
    let after = match after {
        Some(row) if !fit(&row) => return (envelope["op"] == "d").then(|| before.map(|row| vec![gone(row)]))?,
        after => after,
    };
    match envelope["op"].as_str()? {
        "c" | "r" => Some(vec![there(after?)]),
        "d" => Some(vec![gone(before?)]),
        "u" if keyed => {
            let moved = before.filter(|row| row["id"] != after.map_or(Value::Null, |row| row["id"].clone()));
            Some(moved.map(gone).into_iter().chain([there(after?)]).collect())
        }
        "u" => Some(vec![gone(before?), there(after?)]),
        _ => None,
    }
}

fn record() -> impl Strategy<Value = Value> {
    let row = || {
        let row = (prop::option::weighted(0.8, 0..3i64), prop::option::of("[ab]"));
        prop_oneof![4 => row.prop_map(|(id, name)| json!({"id": id, "name": name})), 1 => Just(Value::Null)]
    };
    let op = prop::sample::select(vec![json!("c"), json!("r"), json!("u"), json!("d"), json!("t"), Value::Null]);
    (row(), row(), op, any::<bool>()).prop_map(|(before, after, op, wrapped)| {
        let envelope = json!({"before": before, "after": after, "op": op, "ts_ms": 5});
        if wrapped { json!({"schema": {"name": "s"}, "payload": envelope}) } else { envelope }
    })
}

proptest! {
    #[test]
    fn equals_a_reading_record_by_record(records in prop::collection::vec(record(), 0..20), keyed in any::<bool>()) {
        let texts: Vec<String> = records.iter().map(Value::to_string).collect();
        let (rows, rejected) = decoded(keyed, &texts);
        let told: Vec<Option<Vec<Change>>> = records.iter().map(|record| naive(keyed, record)).collect();
        let wanted: Vec<Change> = told.iter().flatten().flatten().cloned().collect();
        prop_assert_eq!(rows, wanted);
        let bad: Vec<u64> = (0..told.len()).filter(|at| told[*at].is_none()).map(|at| 10 + at as u64).collect();
        prop_assert_eq!(rejected.iter().map(|(position, ..)| *position).collect::<Vec<_>>(), bad);
    }
}
