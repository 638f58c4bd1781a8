//! Against Arrow's decoder, record by record, and under damage.

mod scalars;
mod tape;
mod written;

use super::*;
use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, TimeUnit};
use proptest::prelude::*;
use std::sync::Arc;
use tape::TapeEngine;
use written::{document, record};

fn structure(fields: Vec<(&str, DataType)>) -> Fields {
    fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect()
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn point() -> DataType {
    DataType::Struct(structure(vec![("a", DataType::Int32), ("b", DataType::Utf8), ("l", list(DataType::Int64))]))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(structure(vec![
        ("a", DataType::Int64),
        ("b", DataType::Utf8),
        ("x", DataType::Float64),
        ("y", DataType::Float32),
        ("ok", DataType::Boolean),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
        ("s", point()),
        ("l", list(DataType::Utf8)),
        ("p", list(point())),
        ("small", DataType::UInt8),
        ("é\n", DataType::LargeUtf8),
    ])))
}

fn walker(schema: &SchemaRef) -> JsonEngine {
    JsonEngine::new(schema.clone(), TimestampForm::Auto).unwrap()
}

fn buffered(records: &[Vec<u8>]) -> Records {
    let mut all = Records::default();
    for (at, record) in records.iter().enumerate() {
        all.push(&[], record, at as u64);
    }
    all
}

fn decode(engine: &mut dyn Engine, records: &[Vec<u8>]) -> (RecordBatch, Vec<(usize, String)>) {
    let mut rejected = Vec::new();
    let batch = match engine.decode(&buffered(records), 0..records.len(), &mut rejected) {
        Ok(batch) => batch,
        Err(failure) => panic!("{}", failure.error),
    };
    (batch, rejected)
}

fn texts(records: &[&str]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.as_bytes().to_vec()).collect()
}

fn columns(fields: Vec<(&str, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(structure(fields)))
}

#[test]
fn whole_numbers_are_whole_however_they_are_written() {
    let records = texts(&[
        r#"{"a":1.5}"#,
        r#"{"a":1e3}"#,
        r#"{"a":-20.00}"#,
        r#"{"a":9223372036854775807}"#,
        r#"{"a":9223372036854775808}"#,
        r#"{"a":-9223372036854775808}"#,
        r#"{"a":" +7 "}"#,
        r#"{"a":"7.5"}"#,
        r#"{"a":007}"#,
        r#"{"a":-}"#,
        r#"{"a":1.}"#,
        r#"{"a":12x}"#,
        r#"{"a":-0}"#,
    ]);
    let (batch, bad) = decode(&mut walker(&columns(vec![("a", DataType::Int64)])), &records);
    let values = batch.column(0).as_primitive::<Int64Type>();
    assert_eq!(values, &Int64Array::from(vec![1000, -20, i64::MAX, i64::MIN, 7, 0]));
    assert_eq!(bad.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 4, 7, 8, 9, 10, 11]);
    assert_eq!(bad[0].1, "whilst decoding field 'a': 1.5 is not a whole number of 64 bits");
    let (_, bad) = decode(&mut walker(&columns(vec![("a", DataType::Int8)])), &texts(&[r#"{"a":128}"#]));
    assert_eq!(bad[0].1, "whilst decoding field 'a': 128 is not within -128 and 127");
}

#[test]
fn skipped_values_must_be_well_formed() {
    let good = [
        r#"{"z":{"q":[1,{"w":"}\"]\\"}],"r":null},"a":1}"#,
        r#" { "z" : [ ] , "y" : { } , "a" : 1 } "#,
        r#"{"z":"\u12","a":1}"#,
    ];
    let bad = [
        r#"{"z":{"q":[1,2},"a":1}"#,
        r#"{"z":{"q":1,"a":1}"#,
        r#"{"z":tru,"a":1}"#,
        r#"{"z":"x,"a":1}"#,
        r#"{"z":"x\","a":1}"#,
        r#"{"z":[1,],"a":1}"#,
        r#"{"z":[1 2],"a":1}"#,
        r#"{"z":{"q" 1},"a":1}"#,
        r#"{"z":,"a":1}"#,
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a":1}}"#,
        r#"{"a":1"#,
        r#"{"a""#,
        r#"{"a":1}  x"#,
        "null",
        "",
        "\u{1}",
    ];
    let mut engine = walker(&columns(vec![("a", DataType::Int64)]));
    let (batch, rejected) = decode(&mut engine, &texts(&good));
    assert_eq!((batch.num_rows(), batch.column(0).null_count(), rejected), (3, 0, vec![]));
    let (batch, rejected) = decode(&mut engine, &texts(&bad));
    assert_eq!((batch.num_rows(), rejected.len()), (0, bad.len()), "{rejected:?}");
    let mut deep = texts(&[r#"{"a":1}"#]);
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        for depth in [MOST, MOST + 1] {
            deep.push(format!("{{\"z\":{}1{}}}", open.repeat(depth), close.repeat(depth)).into_bytes());
        }
    }
    let (batch, rejected) = decode(&mut engine, &deep);
    assert_eq!((batch.num_rows(), rejected.len()), (3, 2));
    assert!(rejected[0].1.contains("deeper than"), "{}", rejected[0].1);
}

const MOST: usize = walk::MOST_DEPTH as usize;

#[test]
fn bytes_that_are_no_utf8_are_bad_even_when_two_records_would_make_a_character() {
    let mut records = texts(&[r#"{"a":"é"}"#, r#"{"a":"x"}"#, "", r#"{"a":"y"}"#]);
    records[1][6] = 0xff;
    records[2] = "{\"z\":\"é".as_bytes()[..7].to_vec();
    records.insert(3, vec![0xa9, b'"', b'}']);
    let (batch, rejected) = decode(&mut walker(&columns(vec![("a", DataType::Utf8)])), &records);
    assert_eq!(batch.column(0).as_string::<i32>(), &StringArray::from(vec!["é", "y"]));
    assert_eq!(rejected.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn escapes_stand_for_their_characters() {
    let records = texts(&[
        r#"{"a":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00\uD86E\uDC20é"}"#,
        r#"{"\u0061":"named by an escape"}"#,
        r#"{"a":"\ud83d"}"#,
        r#"{"a":"\ude00\ud83d"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\x"}"#,
    ]);
    let (batch, rejected) = decode(&mut walker(&columns(vec![("a", DataType::Utf8)])), &records);
    let expected = StringArray::from(vec!["\"\\/\u{8}\u{c}\n\r\tAé€😀\u{2b820}é", "named by an escape"]);
    assert_eq!(batch.column(0).as_string::<i32>(), &expected);
    assert_eq!(rejected.len(), 4);
}

#[test]
fn a_field_that_comes_twice_counts_as_it_came_last() {
    let fields = vec![("a", DataType::Int64), ("s", point())];
    let records = texts(&[
        r#"{"a":1,"a":2,"s":{"a":1,"l":[1,2]},"s":{"b":"x"}}"#,
        r#"{"a":1,"a":null,"s":{"a":1},"s":null}"#,
        r#"{"s":{"a":5,"l":[3]}}"#,
    ]);
    let (batch, _) = decode(&mut walker(&columns(fields.clone())), &records);
    let expected = [r#"{"a":2,"s":{"b":"x"}}"#, "{}", r#"{"s":{"a":5,"l":[3]}}"#];
    assert_eq!(batch, decode(&mut walker(&columns(fields)), &texts(&expected)).0);
}

#[test]
fn a_field_that_must_have_a_value_has_one() {
    let inner: Fields = vec![Field::new("k", DataType::Int64, false)].into();
    let strict = Arc::new(Schema::new(vec![
        Field::new("s", DataType::Struct(inner), true),
        Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int64, false))), true),
    ]));
    let records = texts(&[
        r#"{"s":null}"#,
        r#"{"s":{}}"#,
        r#"{"s":{"k":null}}"#,
        r#"{"l":[1,null]}"#,
        r#"{"s":{"k":1},"l":[2]}"#,
    ]);
    let (batch, rejected) = decode(&mut walker(&strict), &records);
    assert_eq!((batch.num_rows(), rejected.len()), (2, 3));
    assert_eq!(batch.column(1).as_list::<i32>().value_length(1), 1);
}

#[test]
fn a_type_without_a_form_is_told_by_its_column() {
    let schema = columns(vec![("a", DataType::Int64), ("d", list(DataType::Duration(TimeUnit::Second)))]);
    let why = engine(schema, TimestampForm::Auto).err().unwrap();
    assert!(why.message.starts_with("column 'd' cannot be read from JSON"), "{why}");
}

/// What a record is by Arrow: a batch of one row, or an error.
fn by_arrow(record: &[u8]) -> Result<RecordBatch, String> {
    let mut engine = TapeEngine::new(schema(), TimestampForm::Auto).unwrap();
    let record = record.to_vec();
    engine.decode(&buffered(&[record]), 0..1, &mut Vec::new()).map_err(|failure| failure.error)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_are_what_arrow_makes_of_them(documents in prop::collection::vec(document(), 1..12)) {
        let (records, repeat): (Vec<Vec<u8>>, Vec<bool>) = documents.into_iter().unzip();
        let (batch, rejected) = decode(&mut walker(&schema()), &records);
        prop_assert_eq!(batch.num_rows() + rejected.len(), records.len());
        let mut row = 0;
        for (at, record) in records.iter().enumerate() {
            let shown = String::from_utf8_lossy(record);
            let ours = rejected.iter().find(|(bad, _)| *bad == at);
            match (by_arrow(record), ours) {
                (Err(_), Some(_)) => {}
                // Arrow cuts fractions off and takes the nearest of what is out of range.
                // Nor does it look at the first of two values.
                (Ok(_), Some((_, error))) => {
                    prop_assert!(error.contains("is not a whole number") || repeat[at], "{}: {}", error, shown);
                }
                (Err(error), None) => prop_assert!(false, "only Arrow refuses {}: {}", shown, error),
                (Ok(expected), None) => prop_assert_eq!(batch.slice(row, 1), expected, "{}", shown),
            }
            row += usize::from(ours.is_none());
        }
    }

    #[test]
    fn fewer_fields_are_a_smaller_schema(records in prop::collection::vec(record(), 1..12)) {
        let fewer = columns(vec![
            ("p", list(DataType::Struct(structure(vec![("l", list(DataType::Int64))])))),
            ("s", DataType::Struct(structure(vec![("b", DataType::Utf8)]))),
        ]);
        let (all, refused) = decode(&mut walker(&schema()), &records);
        let kept: Vec<Vec<u8>> = (0..records.len())
            .filter(|at| refused.iter().all(|(bad, _)| bad != at))
            .map(|at| records[at].clone())
            .collect();
        let (few, refused) = decode(&mut walker(&fewer), &kept);
        prop_assert_eq!(refused, vec![]);
        prop_assert_eq!(few.num_rows(), all.num_rows());
        let (whole, part) = (all.column(6).as_struct(), few.column(1).as_struct());
        prop_assert_eq!(whole.nulls(), part.nulls());
        prop_assert_eq!(whole.column(1), part.column(0));
        let (whole, part) = (all.column(8).as_list::<i32>(), few.column(0).as_list::<i32>());
        prop_assert_eq!(whole.offsets(), part.offsets());
        prop_assert_eq!(whole.values().as_struct().column(2), part.values().as_struct().column(0));
    }

    /// Any bytes changed, cut or doubled: the others come out as if the damaged ones were not there.
    #[test]
    fn damage_stays_where_it_is(
        records in prop::collection::vec(record(), 2..10),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let mut damaged = records.clone();
        let mut touched = vec![false; records.len()];
        for (record, byte, value, how) in &hits {
            let at = record.index(records.len());
            touched[at] = true;
            if damaged[at].is_empty() {
                continue;
            }
            let byte = byte.index(damaged[at].len());
            match how {
                0 => damaged[at][byte] = *value,
                1 => damaged[at].truncate(byte),
                _ => damaged[at].insert(byte, *value),
            }
        }
        let mut engine = walker(&schema());
        let (batch, rejected) = decode(&mut engine, &damaged);
        let row_of = |at: usize, rejected: &[(usize, String)]| {
            let bad = rejected.iter().filter(|(bad, _)| *bad < at).count();
            rejected.iter().all(|(bad, _)| *bad != at).then_some(at - bad)
        };
        let (clean, refused) = decode(&mut engine, &records);
        for at in (0..records.len()).filter(|at| !touched[*at]) {
            let (row, expected) = (row_of(at, &rejected), row_of(at, &refused));
            prop_assert_eq!(row.is_some(), expected.is_some());
            if let (Some(row), Some(expected)) = (row, expected) {
                prop_assert_eq!(batch.slice(row, 1), clean.slice(expected, 1));
            }
        }
    }
}
