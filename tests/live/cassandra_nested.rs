//! Cassandra's types with others within: collections, vectors, tuples and user-defined types, in tables that we make and in
//! those that are there; and durations.

use crate::cassandra::{KEYSPACE, cql, features, options, sink};
use crate::support::{address, connector, context, fresh, read, table};
use arrow::array::{
    Array, ArrayRef, Float32Array, Float64Builder, Int64Array, Int64Builder, ListArray, ListBuilder, MapBuilder,
    MapFieldNames, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields};
use connectors::Error;
use std::collections::BTreeMap;
use std::sync::Arc;

fn by_id(batch: &RecordBatch) -> RecordBatch {
    let id = arrow::compute::SortColumn { values: Arc::clone(batch.column(0)), options: None };
    let order = lexsort_to_indices(&[id], None).expect("sorted");
    take_record_batch(batch, &order).expect("sorted")
}

fn ids() -> ArrayRef {
    Arc::new(Int64Array::from(vec![1, 2, 3]))
}

/// `[["a", "b"], ["c"], NULL]`
fn words() -> ListArray {
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("a"), Some("b")]);
    words.append_value([Some("c")]);
    words.append_null();
    words.finish()
}

/// Names and numbers, with a null within and a null of the whole.
fn pairs() -> StructArray {
    let fields: Fields = vec![
        Field::new("Name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("words", words().data_type().clone(), true),
    ]
    .into();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("x"), None, None])),
        Arc::new(Int64Array::from(vec![Some(-1), Some(2), None])),
        Arc::new(words()),
    ];
    StructArray::new(fields, columns, Some(NullBuffer::from(vec![true, true, false])))
}

fn counts() -> ArrayRef {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut counts = MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new());
    for key in ["k", "l"] {
        counts.keys().append_value(key);
        counts.values().append_value(key.len() as i64);
    }
    counts.append(true).expect("a map");
    counts.keys().append_value("m");
    counts.values().append_value(i64::MIN);
    counts.append(true).expect("a map");
    counts.append(false).expect("a map");
    Arc::new(counts.finish())
}

fn written_and_read(name: &str, columns: Vec<(&str, ArrayRef)>) -> (RecordBatch, RecordBatch) {
    let points = address("SMACK_CASSANDRA");
    let kinds: Vec<(&str, DataType)> = columns.iter().map(|(name, array)| (*name, array.data_type().clone())).collect();
    let table = table("nested", &kinds, 1, &options(&points, name));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), arrays).expect("a batch");
    let mut sink = sink(&table, &context(0));
    sink.write(&batch).expect("written");
    sink.prepare(1).expect("acknowledged");
    let everything: Vec<usize> = (0..kinds.len()).collect();
    let back = read(&table, &everything, &BTreeMap::new()).expect("read").all();
    (batch, by_id(&back))
}

#[test]
fn nested_types_come_back_from_a_table_that_we_made() {
    let mut numbers = ListBuilder::new(Float64Builder::new());
    numbers.append_value([Some(1.5), Some(-2.5)]);
    numbers.append_value([Some(f64::MAX)]);
    numbers.append_null();
    let item = Arc::new(Field::new("item", pairs().data_type().clone(), true));
    let valid = NullBuffer::from(vec![true, true, false]);
    let of_structures = pairs().slice(0, 2);
    let structures = ListArray::new(item, OffsetBuffer::from_lengths([1, 1, 0]), Arc::new(of_structures), Some(valid));
    let (batch, back) = written_and_read(
        &fresh("nested"),
        vec![
            ("id", ids()),
            ("words", Arc::new(words())),
            ("numbers", Arc::new(numbers.finish())),
            ("counts", counts()),
            ("Pair", Arc::new(pairs())),
            ("pairs", Arc::new(structures)),
        ],
    );
    assert_eq!(back, batch);
}

#[test]
fn sets_tuples_vectors_and_durations_of_the_server_are_written_and_read() {
    drop(sink(&features(&fresh("keyspace")), &context(0)));
    let (name, kind) = (fresh("theirs"), fresh("kind"));
    cql(&format!("CREATE TYPE {KEYSPACE}.{kind} (added text, n bigint, \"Name\" text, words frozen<list<text>>)"));
    cql(&format!(
        "CREATE TABLE {KEYSPACE}.{name} (id bigint PRIMARY KEY, words set<text>, spent duration, place vector<float, 2>, \
         both frozen<tuple<text, bigint, list<text>>>, pair {kind})"
    ));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let places = ListArray::new(
        item,
        OffsetBuffer::from_lengths([2, 2, 0]),
        Arc::new(Float32Array::from(vec![0.5, -1.5, 2.0, 3.0])),
        Some(NullBuffer::from(vec![true, true, false])),
    );
    let (batch, back) = written_and_read(
        &name,
        vec![
            ("id", ids()),
            ("words", Arc::new(words())),
            ("spent", Arc::new(StringArray::from(vec![Some("1y2mo3d4h5ns"), Some("-14d"), None]))),
            ("place", Arc::new(places)),
            ("both", Arc::new(pairs())),
            ("pair", Arc::new(pairs())),
        ],
    );
    assert_eq!(back, batch);
}

#[test]
fn what_a_nested_type_cannot_hold_is_told_by_column() {
    let points = address("SMACK_CASSANDRA");
    let kinds = [("id", DataType::Int64), ("words", words().data_type().clone())];
    let table = table("nulls", &kinds, 1, &options(&points, &fresh("nulls")));
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("a"), None]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1])), Arc::new(list.finish())];
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).expect("a batch");
    match sink(&table, &context(0)).write(&batch) {
        Err(Error::Fatal(why)) => assert!(why.contains("'words'") && why.contains("no NULL"), "{why}"),
        other => panic!("{other:?}"),
    }
    let kinds = [("id", DataType::Int64), ("gap", DataType::Duration(arrow::datatypes::TimeUnit::Second))];
    let wrong = connector("cassandra").check(&crate::support::table("gap", &kinds, 1, &options(&points, "gap")));
    assert!(wrong.iter().any(|wrong| wrong.message.contains("'gap'")), "{wrong:?}");
}
