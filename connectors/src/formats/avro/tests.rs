//! Avro beside `apache-avro`, resolution by its rules, and hostile records.

use super::*;
use crate::formats::binary::tests::{
    batch_of, common_columns, common_row, decoded, encoded, kafka, list_of, map_of, struct_of, utc,
};
use crate::formats::{BinaryEncoder, Part, check};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Witnessed;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use proptest::prelude::*;
use serde_json::{Value, json};

fn all_columns() -> Vec<(&'static str, DataType)> {
    let mut columns = common_columns();
    columns.push(("d", DataType::Date32));
    columns.push(("t", DataType::Time64(TimeUnit::Microsecond)));
    columns.push(("dec", DataType::Decimal128(12, 3)));
    columns.push(("ll", list_of(list_of(DataType::Int32))));
    columns.push(("ml", map_of(list_of(DataType::Utf8))));
    columns
}

fn all_rows() -> impl Strategy<Value = Vec<Value>> {
    let more = (
        prop::option::of(-100_000i32..100_000),
        prop::option::of(0..86_400_000_000i64),
        prop::option::of(-999_999_999_999i64..=999_999_999_999),
        prop::option::of(prop::collection::vec(prop::option::of(prop::collection::vec(any::<i32>(), 0..3)), 0..3)),
        prop::option::of(prop::option::of("[a-z]{0,3}")),
    );
    prop::collection::vec((common_row(), more), 1..12).prop_map(|rows| {
        type More = (Option<i32>, Option<i64>, Option<i64>, Option<Vec<Option<Vec<i32>>>>, Option<Option<String>>);
        let with = |(mut row, (d, t, dec, ll, ml)): (Value, More)| {
            row["d"] = json!(d);
            row["t"] = json!(t);
            row["dec"] =
                json!(dec.map(|n| format!("{}{}.{:03}", if n < 0 { "-" } else { "" }, n.abs() / 1000, n.abs() % 1000)));
            row["ll"] = json!(ll);
            row["ml"] = json!(ml.map(|item| json!({"k": [item]})));
            row
        };
        rows.into_iter().map(with).collect()
    })
}

fn schema(text: &str) -> apache_avro::Schema {
    apache_avro::Schema::parse_str(text).unwrap()
}

fn by_witness(schema: &apache_avro::Schema, value: Witnessed) -> Vec<u8> {
    GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(value).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What we write, apache-avro reads and writes again as the very same bytes; and we read what it writes.
    #[test]
    fn apache_avro_reads_what_we_write_and_writes_what_we_read(rows in all_rows()) {
        let table = kafka(&all_columns(), &[("format", "avro")]);
        let batch = batch_of(&all_columns(), &rows);
        let records = encoded(&table, &batch).unwrap();
        let schema = schema(&schema_of("t", table.schema.fields()).unwrap());
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let mut again = Vec::new();
        for record in &records {
            let mut rest = record.as_slice();
            let value = reader.read_value(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            again.push(by_witness(&schema, value));
        }
        prop_assert_eq!(&again, &records);
        let (back, bad) = decoded(&table, &again);
        prop_assert_eq!(bad, vec![]);
        prop_assert_eq!(back, batch);
    }
}

/// What records of a writer's schema become in columns, perhaps by a reader's schema.
fn resolved(
    writer: &str,
    reader: Option<&str>,
    columns: &[(&str, DataType)],
    records: &[Vec<u8>],
) -> (RecordBatch, Vec<String>) {
    let answer = json!({"schema": writer}).to_string();
    let (url, _questions) = crate::formats::schema_registry::tests::registry(vec![(200, &*answer.leak())]);
    let mut options = vec![("format", "avro"), ("schema.registry.url", url.as_str())];
    options.extend(reader.map(|reader| ("avro.schema", reader)));
    let table = kafka(columns, &options);
    assert_eq!(check(&table), vec![]);
    let framed: Vec<Vec<u8>> =
        records.iter().map(|record| [[0u8, 0, 0, 0, 1].as_slice(), record.as_slice()].concat()).collect();
    let (batch, bad) = decoded(&table, &framed);
    (batch, bad.into_iter().map(|(.., why)| why).collect())
}

const WRITER: &str = r#"{"type":"record","name":"W","fields":[
    {"name":"i","type":"int"},
    {"name":"skipped","type":{"type":"map","values":{"type":"array","items":["null","W"]}}},
    {"name":"l","type":"long"},
    {"name":"f","type":"float"},
    {"name":"old","type":["null","string"]},
    {"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"ns","type":["null",{"type":"long","logicalType":"timestamp-nanos"}]},
    {"name":"tm","type":{"type":"int","logicalType":"time-millis"}},
    {"name":"dec","type":{"type":"fixed","name":"Dec","size":5,"logicalType":"decimal","precision":9,"scale":2}},
    {"name":"id","type":{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}},
    {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B","C"]}},
    {"name":"u","type":["string","int","null"]}]}"#;

fn written(i: i32, e: (u32, &str), u: (u32, Witnessed)) -> Vec<u8> {
    let record = |fields: Vec<(&str, Witnessed)>| {
        Witnessed::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let value = record(vec![
        ("i", Witnessed::Int(i)),
        (
            "skipped",
            Witnessed::Map(
                [("k".to_owned(), Witnessed::Array(vec![Witnessed::Union(0, Box::new(Witnessed::Null))]))].into(),
            ),
        ),
        ("l", Witnessed::Long(7)),
        ("f", Witnessed::Float(0.5)),
        ("old", Witnessed::Union(1, Box::new(Witnessed::String("name".to_owned())))),
        ("ms", Witnessed::TimestampMillis(1_500)),
        ("ns", Witnessed::Union(1, Box::new(Witnessed::TimestampNanos(-1)))),
        ("tm", Witnessed::TimeMillis(2)),
        ("dec", Witnessed::Decimal(apache_avro::Decimal::from((-12_345i64).to_be_bytes()[3..].to_vec()))),
        ("id", Witnessed::Uuid(apache_avro::Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10))),
        ("e", Witnessed::Enum(e.0, e.1.to_owned())),
        ("u", Witnessed::Union(u.0, Box::new(u.1))),
    ]);
    by_witness(&schema(WRITER), value)
}

#[test]
fn values_are_promoted_renamed_and_filled_in() {
    let columns = [
        ("i", DataType::Int64),
        ("l", DataType::Float64),
        ("f", DataType::Float64),
        ("name", DataType::Utf8),
        ("ms", utc()),
        ("ns", utc()),
        ("tm", DataType::Time64(TimeUnit::Microsecond)),
        ("dec", DataType::Decimal128(20, 4)),
        ("id", DataType::Utf8),
        ("e", DataType::Utf8),
        ("u", DataType::Int32),
        ("new", struct_of(&[("a", DataType::Int64), ("b", list_of(DataType::Utf8))])),
        ("none", DataType::Utf8),
    ];
    let reader = r#"{"type":"record","name":"Other","fields":[
        {"name":"i","type":"long"},{"name":"l","type":"double"},{"name":"f","type":"double"},
        {"name":"name","type":["null","string"],"aliases":["older","old"]},
        {"name":"ms","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"ns","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
        {"name":"tm","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":4}},
        {"name":"id","type":"string"},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"B"}},
        {"name":"u","type":["null","int"]},
        {"name":"new","type":{"type":"record","name":"N","fields":[
            {"name":"a","type":["long","null"]},{"name":"b","type":{"type":"array","items":"string"},"default":["x","y"]}]},
            "default":{"a":5}},
        {"name":"none","type":["null","string"],"default":null}]}"#;
    let records = [
        written(1, (1, "B"), (1, Witnessed::Int(9))),
        written(2, (2, "C"), (2, Witnessed::Null)),
        written(3, (0, "A"), (0, Witnessed::String("no number".to_owned()))),
        written(4, (0, "A"), (1, Witnessed::Int(-9))),
    ];
    let (batch, bad) = resolved(WRITER, Some(reader), &columns, &records);
    let row = |i: i64, e: &str, u: Option<i64>| {
        json!({"i": i, "l": 7.0, "f": 0.5, "name": "name", "ms": "1970-01-01T00:00:01.5Z",
            "ns": "1969-12-31T23:59:59.999999Z", "tm": 2000, "dec": "-123.4500",
            "id": "01020304-0506-0708-090a-0b0c0d0e0f10", "e": e, "u": u, "new": {"a": 5, "b": ["x", "y"]}})
    };
    assert_eq!(batch, batch_of(&columns, &[row(1, "B", Some(9)), row(2, "B", None), row(4, "A", Some(-9))]));
    assert!(bad.len() == 1 && bad[0].contains("'u'") && bad[0].contains("string"), "{bad:?}");

    // Without a reader's schema columns are bound by name alone, and a symbol is what it is.
    let (batch, bad) = resolved(WRITER, None, &columns[8..11], &records[1..2]);
    let id = "01020304-0506-0708-090a-0b0c0d0e0f10";
    assert_eq!((batch, bad), (batch_of(&columns[8..11], &[json!({"id": id, "e": "C"})]), vec![]));
    let (batch, _) = resolved(WRITER, None, &[("name", DataType::Utf8)], &records[..1]);
    assert_eq!(batch.column(0).null_count(), 1);
    // A number that does not fit is the record's fault.
    let (batch, bad) = resolved(WRITER, None, &[("ms", DataType::Int8)], &records[..1]);
    assert!(batch.num_rows() == 0 && bad[0].contains("1500 is not within"), "{bad:?}");
    // Types that do not fit are the schema's.
    let (_, bad) = resolved(WRITER, None, &[("f", DataType::Int64)], &records[..1]);
    assert!(bad[0].contains("'f': it is float"), "{bad:?}");
}

#[test]
fn keys_that_are_no_records_and_unions_of_records() {
    let (batch, bad) = resolved("\"string\"", None, &[("k", DataType::Utf8)], &[vec![2, b'x'], vec![4, b'x']]);
    assert_eq!((batch, bad.len()), (batch_of(&[("k", DataType::Utf8)], &[json!({"k": "x"})]), 1));
    let union = r#"["null",{"type":"record","name":"A","fields":[{"name":"n","type":"int"}]},
        {"type":"record","name":"B","fields":[{"name":"s","type":"string"},{"name":"n","type":"int"}]},"int"]"#;
    let columns = [("n", DataType::Int64), ("s", DataType::Utf8)];
    let (batch, bad) =
        resolved(union, None, &columns, &[vec![2, 2], vec![4, 2, b'x', 4], vec![0], vec![6, 2], vec![8]]);
    assert_eq!(batch, batch_of(&columns, &[json!({"n": 1}), json!({"n": 2, "s": "x"})]));
    assert!(bad[0].contains("null") && bad[1].contains("is int, no record") && bad[2].contains("branch 4"), "{bad:?}");
}

#[test]
fn hostile_records_take_neither_memory_nor_the_stack() {
    // A record within itself without a byte, lists of items without a byte, huge counts and lengths.
    let schema = r#"{"type":"record","name":"W","fields":[
        {"name":"void","type":["null",{"type":"record","name":"V","fields":[{"name":"v","type":"V"}]}]},
        {"name":"nulls","type":{"type":"array","items":"null"}},
        {"name":"deep","type":["null","W"]},
        {"name":"l","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}},
        {"name":"s","type":"string"}]}"#;
    let columns = [("l", list_of(struct_of(&[("x", DataType::Int64)]))), ("s", DataType::Utf8)];
    let varint = |n: i64| {
        let mut out = Vec::new();
        crate::formats::wire::put_zigzag(n, &mut out);
        out
    };
    let good: Vec<u8> = vec![0, 0, 0, 0, 2, b'x'];
    let deep: Vec<u8> = [0, 0, 2].repeat(100_000);
    let many = [&[0][..], &varint(i64::MAX), &[0, 0, 0, 2, b'x']].concat();
    let items = [&[0, 0, 0][..], &varint(1 << 40), &[0, 2, b'x']].concat();
    let least = [&[0, 0, 0][..], &varint(i64::MIN), &[0, 0, 2, b'x']].concat();
    let long = [&[0, 0, 0, 0][..], &varint(1 << 60), b"x"].concat();
    let negative = [&[0, 0, 0, 0][..], &varint(-5), b"x"].concat();
    let records =
        [good.clone(), vec![2, 0], many, deep, items, least, long, negative, good.clone(), good[..3].to_vec()];
    let (batch, bad) = resolved(schema, None, &columns, &records);
    assert_eq!((batch.num_rows(), bad.len()), (2, 8), "{bad:?}");
    assert!(
        bad[0].contains("too deeply") && bad[1].contains("without a byte") && bad[2].contains("too deeply"),
        "{bad:?}"
    );
}

#[test]
fn rows_are_written_by_a_given_schema_or_refused() {
    let given = r#"{"type":"record","name":"G","fields":[
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
        {"name":"ms","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
        {"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":6,"scale":4}},
        {"name":"id","type":{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}},
        {"name":"more","type":"int","default":-1}]}"#;
    let columns = [("ms", utc()), ("e", DataType::Utf8), ("dec", DataType::Decimal128(9, 2)), ("id", DataType::Utf8)];
    let table = kafka(&columns, &[("format", "avro"), ("avro.schema", given)]);
    let id = "01020304-0506-0708-090a-0b0c0d0e0f10";
    let row = json!({"ms": "1970-01-01T00:00:01.5Z", "e": "B", "dec": "-1.05", "id": id});
    let good = batch_of(&columns, std::slice::from_ref(&row));
    let records = encoded(&table, &good).unwrap();
    let read =
        GenericDatumReader::builder(&schema(given)).build().unwrap().read_value(&mut records[0].as_slice()).unwrap();
    assert_eq!(by_witness(&schema(given), read), records[0]);
    let (back, bad) = decoded(&table, &records);
    assert_eq!((back, bad), (good, vec![]));
    for (column, value, part) in [
        ("e", json!("C"), "'C'"),
        ("e", json!(null), "null"),
        ("dec", json!("123.45"), "6 digits"),
        ("id", json!("x"), "no UUID"),
    ] {
        let mut row = row.clone();
        row[column] = value;
        let why = encoded(&table, &batch_of(&columns, &[row])).unwrap_err().to_string();
        assert!(why.contains(part) && why.contains(&format!("column '{column}'")), "{why}");
    }
    for (columns, part) in [
        (vec![("e", DataType::Utf8)], "'ms', which has neither"),
        ([columns.as_slice(), &[("x", DataType::Int64)]].concat(), "'x'"),
        (vec![("e", DataType::Int64)], "enum"),
    ] {
        let table = kafka(&columns, &[("format", "avro"), ("avro.schema", given)]);
        let opened = BinaryEncoder::open(crate::formats::Format::Avro, Part::Value, &table, &table.schema);
        let why = opened.err().map(|why| why.to_string()).unwrap_or_default();
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn columns_follow_from_the_schema_that_they_make() {
    let table = kafka(&all_columns(), &[("format", "avro")]);
    let text = schema_of("t", table.schema.fields()).unwrap();
    let told = columns(&Schema::parse(&text, &[]).unwrap()).unwrap();
    let declared: Vec<(String, DataType)> =
        table.schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    assert_eq!(told, declared);
}

#[test]
fn columns_hold_whatever_a_schema_allows_or_are_refused() {
    let text = r#"["null", {"type":"record","name":"R","fields":[
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
        {"name":"id","type":{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}},
        {"name":"raw","type":["null",{"type":"fixed","name":"Raw","size":4}]},
        {"name":"n","type":["null","int","long"]},
        {"name":"at","type":{"type":"long","logicalType":"local-timestamp-nanos"}},
        {"name":"in","type":["null",{"type":"record","name":"In","fields":[{"name":"x","type":"float"}]}]},
        {"name":"nothing","type":"null"}]}]"#;
    let parsed = std::sync::Arc::new(Schema::parse(text, &[]).unwrap());
    let told = columns(&parsed).unwrap();
    let kinds: Vec<(&str, DataType)> = told.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
    let expected = [
        ("e", DataType::Utf8),
        ("id", DataType::Utf8),
        ("raw", DataType::Binary),
        ("n", DataType::Int64),
        ("at", utc()),
        ("in", struct_of(&[("x", DataType::Float32)])),
        ("nothing", DataType::Utf8),
    ];
    assert_eq!(kinds, expected);
    let table = kafka(&kinds, &[("format", "avro")]);
    Reading { writer: &parsed, reader: None }.of_columns(table.schema.fields()).unwrap();
    for (field, part) in [
        (r#"["null","int","string"]"#, "of which no column holds all"),
        (r#""R""#, "within itself"),
        (r#"{"type":"record","name":"No","fields":[]}"#, "no fields"),
    ] {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{field}}}]}}"#);
        let why = columns(&Schema::parse(&text, &[]).unwrap()).unwrap_err();
        assert!(why.starts_with("has the field 'f', which ") && why.contains(part), "{why}");
    }
    assert_eq!(columns(&Schema::parse("\"int\"", &[]).unwrap()).unwrap_err(), "is int, no record");
}
