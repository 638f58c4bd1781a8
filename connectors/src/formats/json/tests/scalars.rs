//! Dates, times of day, decimals, bytes and maps: what is read exactly, and what is bad.

use super::{columns, decode, list, structure, texts, walker};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Time64MicrosecondType, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use std::sync::Arc;

/// What values of this type are read as; `None` is a bad record.
fn read(kind: DataType, values: &[&str]) -> Vec<Option<String>> {
    let records: Vec<Vec<u8>> = values.iter().map(|value| format!("{{\"v\":{value}}}").into_bytes()).collect();
    let (batch, bad) = decode(&mut walker(&columns(vec![("v", kind)])), &records);
    let mut row = 0;
    let mut found = Vec::new();
    for at in 0..records.len() {
        let is_bad = bad.iter().any(|(of, _)| *of == at);
        found.push((!is_bad).then(|| array_value_to_string(batch.column(0), row).unwrap()));
        row += usize::from(!is_bad);
    }
    found
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

fn none(n: usize) -> Vec<Option<String>> {
    vec![None; n]
}

#[test]
fn dates() {
    let good = [r#""2026-02-28""#, r#"" 1969-12-31 ""#, "0", "-1", r#""0001-01-01""#, "null"];
    assert_eq!(
        read(DataType::Date32, &good),
        some(&["2026-02-28", "1969-12-31", "1970-01-01", "1969-12-31", "0001-01-01", ""])
    );
    let bad = [
        r#""2026-02-29""#,
        r#""2026-2-1""#,
        r#""2026-02-01T00:00:00Z""#,
        "1.5",
        "99999999999",
        "true",
        r#""x""#,
        r#""""#,
    ];
    assert_eq!(read(DataType::Date32, &bad), none(bad.len()));
}

#[test]
fn times_of_day() {
    let kind = DataType::Time64(TimeUnit::Microsecond);
    let good = [r#""12:30""#, r#""23:59:59""#, r#""00:00:00.000001""#, "1000000"];
    assert_eq!(read(kind.clone(), &good), some(&["12:30:00", "23:59:59", "00:00:00.000001", "00:00:01"]));
    let bad = [r#""24:00""#, r#""12""#, r#""12:00:00Z""#, r#""12:00:00+01""#, "-1", "86400000000", "1.5", r#""noon""#];
    assert_eq!(read(kind, &bad), none(bad.len()));
    // A second holds no half of one.
    let seconds = DataType::Time32(TimeUnit::Second);
    assert_eq!(read(seconds, &[r#""12:00:01""#, r#""12:00:01.5""#]), [Some("12:00:01".to_owned()), None]);
}

#[test]
fn decimals_are_exact() {
    let kind = DataType::Decimal128(6, 2);
    let good = [
        "1",
        "-1.5",
        r#""12.34""#,
        "1e2",
        "12.3400",
        "0.01",
        "9999.99",
        "1200e-3",
        r#""-0.0""#,
        "0e999999999",
        r#""+7""#,
    ];
    assert_eq!(
        read(kind.clone(), &good),
        some(&["1.00", "-1.50", "12.34", "100.00", "12.34", "0.01", "9999.99", "1.20", "0.00", "0.00", "7.00"])
    );
    let bad = [
        "0.001",
        "10000",
        "1e9",
        "1e-3",
        r#""1.2.3""#,
        r#""""#,
        r#"".""#,
        r#""abc""#,
        r#""1e""#,
        r#""NaN""#,
        "true",
        "[1]",
        "1e999999999999",
        "123456789012345678901234567890123456789012345",
    ];
    assert_eq!(read(kind, &bad), none(bad.len()));
    let most = "99999999999999999999999999999999999999";
    assert_eq!(read(DataType::Decimal128(38, 0), &[most]), some(&[most]));
}

#[test]
fn bytes_are_pairs_of_hexadecimal_digits() {
    for kind in [DataType::Binary, DataType::LargeBinary] {
        assert_eq!(read(kind.clone(), &[r#""00fFa0""#, r#""""#, "null"]), some(&["00ffa0", "", ""]));
        assert_eq!(read(kind, &[r#""0""#, r#""0g""#, r#""é""#, "12", "[0]"]), none(5));
    }
}

fn map(value: DataType) -> DataType {
    let entries =
        DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)].into());
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

#[test]
fn maps_hold_what_their_objects_hold() {
    let good = [r#"{"a":1,"b":null}"#, "{}", "null", r#"{"\u0061":2}"#, r#"{"":-3}"#];
    assert_eq!(read(map(DataType::Int64), &good), some(&["{a: 1, b: }", "{}", "", "{a: 2}", "{: -3}"]));
    let bad = [r#"{"a":1,"a":2}"#, r#"{"a":1.5}"#, "[]", r#"{"a":1,}"#, r#"{"a"}"#];
    assert_eq!(read(map(DataType::Int64), &bad), none(bad.len()));
}

/// A bad value deep within takes its record alone, and nothing of it is left behind.
#[test]
fn nested_values_are_as_strict() {
    let inner = DataType::Struct(structure(vec![
        ("n", DataType::Int64),
        ("d", DataType::Date32),
        ("m", map(list(DataType::Decimal128(4, 1)))),
    ]));
    let schema = columns(vec![("l", list(inner)), ("b", list(DataType::Binary))]);
    let good = r#"{"l":[{"n":1,"d":"2026-01-01","m":{"x":[1.5,null],"y":[]}},{"n":2}],"b":["0a",null]}"#;
    let bad = [
        r#"{"l":[{"n":1},{"n":1.5}],"b":["ff"]}"#,
        r#"{"l":[{"d":"2026-01-01"},{"d":"2026-13-01"}]}"#,
        r#"{"b":["00","0"],"l":[{"m":{"x":[1.5]}}]}"#,
        r#"{"l":[{"m":{"x":[1.5],"y":[1.55]}}]}"#,
    ];
    let mut records = texts(&[good]);
    for record in bad {
        records.extend(texts(&[record, good]));
    }
    let (batch, rejected) = decode(&mut walker(&schema), &records);
    assert_eq!(rejected.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3, 5, 7]);
    let alone: RecordBatch = decode(&mut walker(&schema), &texts(&[good])).0;
    for row in 0..5 {
        assert_eq!(batch.slice(row, 1), alone, "row {row}");
    }
}

proptest! {
    /// What is written in the usual way is read as itself, whatever stands beside it.
    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec((prop::option::of(-100_000..100_000i32), prop::option::of(0..86_400_000_000i64),
            prop::option::of(-999_999_999i128..999_999_999), prop::option::of(prop::collection::vec(any::<u8>(), 0..6))), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let date = |days: i32| (chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()
            + chrono::Duration::days(i64::from(days))).to_string();
        let time = |us: i64| format!("{:02}:{:02}:{:02}.{:06}", us / 3_600_000_000, us / 60_000_000 % 60, us / 1_000_000 % 60, us % 1_000_000);
        let decimal = |value: i128| format!("{}{}.{:03}", if value < 0 { "-" } else { "" }, value.abs() / 1000, value.abs() % 1000);
        let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let quoted = |text: Option<String>| text.map_or("null".to_owned(), |text| format!("\"{text}\""));
        let records: Vec<Vec<u8>> = rows.iter().map(|(d, t, n, b)| format!(
            "{{\"d\":{},\"t\":{},\"n\":{},\"b\":{}}}",
            quoted(d.map(date)), quoted(t.map(time)), n.map_or("null".to_owned(), decimal), quoted(b.as_ref().map(hex)),
        ).into_bytes()).collect();
        let schema = columns(vec![
            ("d", DataType::Date32), ("t", DataType::Time64(TimeUnit::Microsecond)),
            ("n", DataType::Decimal128(12, 3)), ("b", DataType::Binary),
        ]);
        // A record that breaks off somewhere is bad, and the others are as they were.
        let mut all = records.clone();
        let broken = cut.index(records.len());
        all.insert(broken, records[broken][..records[broken].len() - 2].to_vec());
        let (batch, bad) = decode(&mut walker(&schema), &all);
        prop_assert_eq!(bad.len(), 1);
        let column = |at: usize| -> &ArrayRef { batch.column(at) };
        let dates: Vec<Option<i32>> = column(0).as_primitive::<Date32Type>().iter().collect();
        let times: Vec<Option<i64>> = column(1).as_primitive::<Time64MicrosecondType>().iter().collect();
        let numbers: Vec<Option<i128>> = column(2).as_primitive::<Decimal128Type>().iter().collect();
        let bytes: Vec<Option<Vec<u8>>> = column(3).as_binary::<i32>().iter().map(|of| of.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(dates, rows.iter().map(|row| row.0).collect::<Vec<_>>());
        prop_assert_eq!(times, rows.iter().map(|row| row.1).collect::<Vec<_>>());
        prop_assert_eq!(numbers, rows.iter().map(|row| row.2).collect::<Vec<_>>());
        prop_assert_eq!(bytes, rows.iter().map(|row| row.3.clone()).collect::<Vec<_>>());
    }
}
