//! Against walking over all rows.

use crate::{Commit, Error, Store};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type};
use proptest::prelude::*;
use std::sync::Arc;

type Row = (Option<String>, Option<i64>, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("value", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]);
    let texts: StringArray = rows.iter().map(|(text, ..)| text.as_deref()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(.., value)| Some(*value)).collect::<Int64Array>()),
        Arc::new(texts),
        Arc::new(rows.iter().map(|(_, n, _)| *n).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// A table keyed by (text, n) with these rows.
fn store(rows: &[Row]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let batch = batch(rows);
    store.create("t", &batch.schema(), &[1, 2]).unwrap();
    let commit = Commit {
        table: "t".to_owned(),
        job: "j".to_owned(),
        writer: "w".to_owned(),
        generation: 1,
        epoch: 1,
        part: 0,
        changes: false,
        batches: vec![batch],
    };
    store.commit(commit).unwrap();
    (dir, store)
}

fn answers(store: &Store, keys: &RecordBatch) -> Vec<(u32, i64)> {
    let mut found = Vec::new();
    for batch in store.lookup("t", keys, &[0]).unwrap() {
        let batch = batch.unwrap();
        let (numbers, values) =
            (batch.column(0).as_primitive::<UInt32Type>(), batch.column(1).as_primitive::<Int64Type>());
        found.extend(numbers.values().iter().copied().zip(values.values().iter().copied()));
    }
    found
}

fn texts() -> impl Strategy<Value = Option<String>> {
    // Bytes that the encoding treats apart: zero, its escape, and prefixes of each other.
    proptest::option::weighted(0.9, "[a\u{0}\u{1}\u{ff}]{0,3}")
}

proptest! {
    #[test]
    fn rows_are_found_by_the_key_or_its_beginning(
        rows in proptest::collection::vec((texts(), proptest::option::weighted(0.9, -2_i64..3), 0_i64..1000), 0..60),
        asked in proptest::collection::vec((texts(), -3_i64..4), 1..30),
    ) {
        let (_dir, store) = store(&rows);
        // A later row replaces the earlier one of its key.
        let mut kept = std::collections::BTreeMap::new();
        kept.extend(rows.iter().map(|(text, n, value)| ((text.clone(), *n), *value)));
        let texts: ArrayRef = Arc::new(asked.iter().map(|(text, _)| text.as_deref()).collect::<StringViewArray>());
        let numbers: ArrayRef = Arc::new(asked.iter().map(|(_, n)| Some(*n)).collect::<Int64Array>());
        let whole = RecordBatch::try_from_iter([("text", Arc::clone(&texts)), ("n", numbers)]).unwrap();
        let by_text = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let mut wanted = (Vec::new(), Vec::new());
        for (at, (text, n)) in asked.iter().enumerate() {
            for ((of, number), value) in &kept {
                if of == text {
                    wanted.1.push((at as u32, *value));
                    wanted.0.extend((*number == Some(*n)).then_some((at as u32, *value)));
                }
            }
        }
        prop_assert_eq!(answers(&store, &whole), wanted.0);
        prop_assert_eq!(answers(&store, &by_text), wanted.1);
    }
}

#[test]
fn an_answer_may_be_longer_than_a_batch() {
    let rows: Vec<Row> = (0..20_000).map(|n| (Some("all".to_owned()), Some(n), n)).collect();
    let (_dir, store) = store(&rows);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["none", "all", "al"]));
    let keys = RecordBatch::try_from_iter([("text", texts)]).unwrap();
    let wanted: Vec<(u32, i64)> = (0..20_000).map(|n| (1, n)).collect();
    assert_eq!(answers(&store, &keys), wanted);
}

#[test]
fn other_columns_than_the_first_of_the_key_are_refused_by_name() {
    let (_dir, store) = store(&[]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for name in ["n", "value", "text"] {
        let keys = RecordBatch::try_from_iter([(name, Arc::clone(&numbers))]).unwrap();
        let why = store.lookup("t", &keys, &[0]).map(drop).unwrap_err();
        assert!(matches!(why, Error::Unfit { .. }), "{why}");
        let wanted = if name == "text" { "Int64" } else { "primary key (text, n)" };
        assert!(why.to_string().contains(wanted), "{why}");
    }
}
