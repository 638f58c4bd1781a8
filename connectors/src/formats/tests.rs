//! Round trips and corruption over all formats.

use super::*;
use crate::testing::table;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, TimeUnit};
use proptest::prelude::*;
use std::sync::Arc;

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("id", DataType::Int64),
        ("Name", DataType::Utf8),
        ("x", DataType::Float64),
        ("ok", DataType::Boolean),
        ("ts", utc()),
    ]
}

fn decode(decoder: &mut Decoder, records: &[&str]) -> (RecordBatch, Vec<Rejected>) {
    for (at, record) in records.iter().enumerate() {
        decoder.push(record.as_bytes(), 100 + at as u64);
    }
    decoder.flush()
}

#[test]
fn json_binds_by_case_and_sets_bad_records_aside_in_order() {
    let table = table(&columns(), &[]);
    let mut decoder = Decoder::new(table.schema.clone(), &table).unwrap();
    let records = [
        r#"{"id":1,"Name":"a","ts":"2026-01-01 00:00:00.5","extra":[{"deep":1}]}"#,
        r#"{"id":"#,
        r#"{"id":2,"name":"lower case is another field","ts":1767225600000}"#,
        r#"{"id":3} {"id":4}"#,
        r#"{"id":"five"}"#,
        "",
        "[]",
        r#"{"id":6,"ts":"yesterday"}"#,
        r#"{"Name":7,"ok":true}"#,
    ];
    let (batch, bad) = decode(&mut decoder, &records);
    let ids: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
    assert_eq!(ids, &Int64Array::from(vec![Some(1), Some(2), None]));
    let names: &StringArray = batch.column(1).as_any().downcast_ref().unwrap();
    assert_eq!(names, &StringArray::from(vec![Some("a"), None, Some("7")]));
    let times: &TimestampMicrosecondArray = batch.column(4).as_any().downcast_ref().unwrap();
    assert_eq!(times.value(0), 1_767_225_600_500_000);
    assert_eq!(times.value(1), 1_767_225_600_000_000);
    assert_eq!(bad.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [101, 103, 104, 105, 106, 107]);
    assert!(bad[5].2.contains("'yesterday' is not a timestamp"), "{}", bad[5].2);
    for (at, bytes, error) in &bad {
        assert_eq!(bytes, records[*at as usize - 100].as_bytes());
        assert!(!error.is_empty());
    }
}

#[test]
fn a_missing_value_of_a_column_that_must_have_one_is_a_bad_record() {
    let table = table(&[("id", DataType::Int64)], &[]);
    let strict = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let mut decoder = Decoder::new(strict, &table).unwrap();
    let (batch, bad) = decode(&mut decoder, &[r#"{"id":1}"#, "{}", r#"{"id":2}"#]);
    assert_eq!((batch.num_rows(), bad.len()), (2, 1));
}

#[test]
fn no_column_wanted_still_counts_and_checks() {
    for (format, good) in [("json", "{\"a\":1}"), ("csv", "1"), ("raw", "x")] {
        let table = table(&[("a", DataType::Utf8)], &[("format", format)]);
        let mut decoder = Decoder::new(Arc::new(Schema::empty()), &table).unwrap();
        let bad = if format == "raw" { good } else { "\"" };
        let (batch, rejected) = decode(&mut decoder, &[good, bad, good]);
        assert_eq!(batch.num_rows() + rejected.len(), 3, "{format}");
        assert_eq!(rejected.len(), usize::from(format != "raw"), "{format}");
    }
}

#[test]
fn nested_timestamps_and_hostile_nesting() {
    let inner = DataType::Struct(vec![Field::new("at", utc(), true)].into());
    let list = DataType::List(Arc::new(Field::new("item", utc(), true)));
    let table = table(&[("s", inner), ("l", list)], &[("json.timestamp_format", "seconds")]);
    let mut decoder = Decoder::new(table.schema.clone(), &table).unwrap();
    let deep = format!("{{\"s\":{}", "[".repeat(2_000_000));
    let (batch, bad) = decode(&mut decoder, &[r#"{"s":{"at":1},"l":[2,null]}"#, &deep, r#"{"s":null}"#]);
    assert_eq!((batch.num_rows(), bad.len()), (2, 1));
    assert_eq!(batch.schema(), table.schema);
    let encoder = Encoder::new(&table).unwrap();
    assert_eq!(
        encoder.encode_rows(&batch).unwrap()[0],
        br#"{"s":{"at":"1970-01-01T00:00:01Z"},"l":["1970-01-01T00:00:02Z",null]}"#
    );
}

#[test]
fn mistakes_in_options_are_found() {
    let wrong = check(&table(&[], &[("format", "jsn"), ("json.timestamp_format", "nanos"), ("csv.delimiter", "::")]));
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(!check(&table(&[("a", DataType::Int64)], &[("format", "raw")])).is_empty());
    assert!(check(&table(&columns(), &[("format", "csv"), ("csv.delimiter", "\\t")])).is_empty());
}

#[test]
fn csv_columns_are_bound_by_header_and_projected() {
    let table = table(&columns(), &[("format", "csv"), ("csv.delimiter", ";")]);
    let names = ["ts", "other", "id"].map(str::to_owned);
    let wanted = Arc::new(table.schema.project(&[0, 4]).unwrap());
    let mut decoder = Decoder::with_csv_columns(wanted, &table, &names).unwrap();
    let records = ["2026-01-01T00:00:00Z;\"a;\"\"\nb\";1", "x;y", ";;2", "\"open;;3", ";;4\n;;5", ";;6\n;\"", ";;7"];
    let (batch, bad) = decode(&mut decoder, &records);
    let ids: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
    assert_eq!(ids.values().as_ref(), &[1, 2, 7]);
    assert_eq!(bad.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [101, 103, 104, 105]);
    let missing = Decoder::with_csv_columns(table.schema.clone(), &table, &names).unwrap_err();
    assert!(missing.message.contains("'Name'"), "{missing}");
}

fn batches() -> impl Strategy<Value = RecordBatch> {
    let row = (
        prop::option::of(any::<i64>()),
        prop::option::of("\\PC{0,12}"),
        prop::option::of(any::<f64>().prop_filter("JSON has no such number", |x| x.is_finite())),
        prop::option::of(any::<bool>()),
        prop::option::of(-62_000_000_000_000_000i64..250_000_000_000_000_000),
    );
    prop::collection::vec(row, 1..40).prop_map(|rows| {
        let schema =
            Schema::new(columns().into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>());
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| row.4).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ];
        RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
    })
}

/// CSV cannot tell an empty text from none.
fn without_empty_text(batch: &RecordBatch) -> RecordBatch {
    let mut arrays = batch.columns().to_vec();
    let names: &StringArray = arrays[1].as_any().downcast_ref().unwrap();
    arrays[1] = Arc::new(names.iter().map(|name| name.filter(|text| !text.is_empty())).collect::<StringArray>());
    RecordBatch::try_new(batch.schema(), arrays).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_decoded_to_the_same(batch in batches(), format in prop::sample::select(vec!["json", "csv"])) {
        let table = table(&columns(), &[("format", format)]);
        let records = Encoder::new(&table).unwrap().encode_rows(&batch).unwrap();
        let mut decoder = Decoder::new(table.schema.clone(), &table).unwrap();
        for _ in 0..2 {
            for (at, record) in records.iter().enumerate() {
                decoder.push(record, at as u64);
            }
            let (decoded, bad) = decoder.flush();
            prop_assert_eq!(&bad, &vec![]);
            let expected = if format == "csv" { without_empty_text(&batch) } else { batch.clone() };
            prop_assert_eq!(&decoded, &expected);
        }
    }

    /// Flipped bytes, cuts and joins: nothing panics, every record is accounted for, and untouched ones survive.
    #[test]
    fn corruption_costs_only_the_records_it_touched(
        batch in batches(),
        format in prop::sample::select(vec!["json", "csv", "raw"]),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6),
    ) {
        let table = if format == "raw" {
            table(&[("line", DataType::Utf8)], &[("format", "raw")])
        } else {
            table(&columns(), &[("format", format)])
        };
        let as_json = table_like(format);
        let mut records = Encoder::new(&as_json).unwrap().encode_rows(&batch).unwrap();
        let mut touched = vec![false; records.len()];
        for (record, byte, value, how) in &hits {
            let at = record.index(records.len());
            touched[at] = true;
            if records[at].is_empty() {
                continue;
            }
            let byte = byte.index(records[at].len());
            match how {
                0 => records[at][byte] = *value,
                1 => records[at].truncate(byte),
                _ => {
                    let copy = records[at].clone();
                    records[at].extend_from_slice(&copy[byte..]);
                }
            }
        }
        let mut decoder = Decoder::new(table.schema.clone(), &table).unwrap();
        for (at, record) in records.iter().enumerate() {
            decoder.push(record, at as u64);
        }
        let (decoded, bad) = decoder.flush();
        prop_assert_eq!(decoded.num_rows() + bad.len(), records.len());
        prop_assert!(bad.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let rejected: Vec<usize> = bad.iter().map(|(at, ..)| *at as usize).collect();
        prop_assert!(rejected.iter().all(|at| touched[*at]), "{:?} of {:?}", bad, touched);
        if format == "raw" {
            return Ok(());
        }
        let expected = if format == "csv" { without_empty_text(&batch) } else { batch };
        let kept: Vec<usize> = (0..records.len()).filter(|at| !rejected.contains(at)).collect();
        for (row, at) in kept.into_iter().enumerate().filter(|(_, at)| !touched[*at]) {
            prop_assert_eq!(decoded.slice(row, 1), expected.slice(at, 1));
        }
    }
}

fn table_like(format: &str) -> TableDef {
    table(&columns(), &[("format", if format == "csv" { "csv" } else { "json" })])
}
