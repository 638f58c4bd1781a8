//! Protobuf beside prost-reflect's own messages, what the format leaves open, and hostile records.

use super::*;
use crate::formats::binary::tests::{
    batch_of, common_columns, common_row, decoded, encoded, kafka, list_of, map_of, struct_of, utc,
};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use proptest::prelude::*;
use protox::prost_reflect::prost::Message as _;
use protox::prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value as Witnessed};
use serde_json::{Value, json};

fn descriptor(text: &str, name: &str) -> MessageDescriptor {
    let (pool, _) = pool_of(&Source::Text(text.to_owned()), &[]).unwrap_or_else(|why| panic!("{why}"));
    pool.get_message_by_name(name).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What we write, prost-reflect reads; what it writes of that, we read as the same rows.
    #[test]
    fn prost_reads_what_we_write_and_writes_what_we_read(rows in prop::collection::vec(common_row(), 1..12)) {
        let table = kafka(&common_columns(), &[("format", "protobuf")]);
        let batch = batch_of(&common_columns(), &rows);
        let records = encoded(&table, &batch).unwrap();
        let message = descriptor(&proto_of("t", table.schema.fields()).unwrap(), "t");
        let mut again = Vec::new();
        for (record, row) in records.iter().zip(&rows) {
            let read = DynamicMessage::decode(message.clone(), record.as_slice()).unwrap();
            prop_assert_eq!(read.unknown_fields().count(), 0);
            prop_assert_eq!(read.has_field_by_name("i"), !row["i"].is_null());
            if let Some(i) = row["i"].as_i64() {
                let got = read.get_field_by_name("i").unwrap();
                prop_assert_eq!(got.as_ref(), &Witnessed::I64(i));
            }
            again.push(read.encode_to_vec());
        }
        let (back, bad) = decoded(&table, &again);
        prop_assert_eq!(bad, vec![]);
        prop_assert_eq!(back, batch);
    }
}

const FILE: &str = r#"syntax = "proto3";
    package a.b;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    enum Color { RED = 0; GREEN = 5; }
    message Other { int32 x = 1; }
    message All {
        int32 i32 = 1; sint64 s64 = 2; fixed32 f32 = 3; sfixed64 sf64 = 4; uint64 u64 = 5; float fl = 6;
        optional int32 maybe = 7; Color color = 8; repeated sint32 packed = 9; repeated string texts = 10;
        google.protobuf.Timestamp at = 11; google.protobuf.Int64Value wrapped = 12;
        oneof which { string left = 13; Inner right = 14; }
        map<string, Inner> inners = 15; Inner inner = 16; bool ok = 17; bytes raw = 300;
        message Inner { int64 n = 1; repeated int64 ns = 2; string camelCase = 3; }
    }"#;

fn columns() -> Vec<(&'static str, DataType)> {
    let inner = struct_of(&[("n", DataType::Int64), ("ns", list_of(DataType::Int64)), ("camelCase", DataType::Utf8)]);
    vec![
        ("i32", DataType::Int64),
        ("s64", DataType::Int64),
        ("f32", DataType::Int64),
        ("sf64", DataType::Int64),
        ("u64", DataType::Decimal128(20, 0)),
        ("fl", DataType::Float64),
        ("maybe", DataType::Int32),
        ("color", DataType::Utf8),
        ("packed", list_of(DataType::Int32)),
        ("texts", list_of(DataType::Utf8)),
        ("at", utc()),
        ("wrapped", DataType::Int64),
        ("left", DataType::Utf8),
        ("right", inner.clone()),
        ("inners", map_of(inner.clone())),
        ("inner", inner),
        ("ok", DataType::Boolean),
        ("raw", DataType::Binary),
        ("absent", DataType::Utf8),
    ]
}

fn read(columns: &[(&str, DataType)], records: &[Vec<u8>]) -> (RecordBatch, Vec<String>) {
    let options = [("format", "protobuf"), ("protobuf.schema", FILE), ("protobuf.message", "a.b.All")];
    let (batch, bad) = decoded(&kafka(columns, &options), records);
    (batch, bad.into_iter().map(|(.., why)| why).collect())
}

fn inner(n: i64, ns: &[i64]) -> DynamicMessage {
    let mut inner = DynamicMessage::new(descriptor(FILE, "a.b.All.Inner"));
    inner.set_field_by_name("n", Witnessed::I64(n));
    inner.set_field_by_name("ns", Witnessed::List(ns.iter().map(|n| Witnessed::I64(*n)).collect()));
    inner
}

#[test]
fn every_kind_of_field_is_read() {
    let mut all = DynamicMessage::new(descriptor(FILE, "a.b.All"));
    let time = descriptor(FILE, "a.b.All").get_field_by_name("at").unwrap().kind().as_message().unwrap().clone();
    let mut at = DynamicMessage::new(time);
    at.set_field_by_name("seconds", Witnessed::I64(-2));
    at.set_field_by_name("nanos", Witnessed::I32(500_000_999));
    let wrapper =
        descriptor(FILE, "a.b.All").get_field_by_name("wrapped").unwrap().kind().as_message().unwrap().clone();
    let fields = [
        ("i32", Witnessed::I32(-1)),
        ("s64", Witnessed::I64(i64::MIN)),
        ("f32", Witnessed::U32(u32::MAX)),
        ("sf64", Witnessed::I64(-3)),
        ("u64", Witnessed::U64(u64::MAX)),
        ("fl", Witnessed::F32(0.5)),
        ("maybe", Witnessed::I32(0)),
        ("color", Witnessed::EnumNumber(5)),
        ("packed", Witnessed::List(vec![Witnessed::I32(-1), Witnessed::I32(2)])),
        ("texts", Witnessed::List(vec![Witnessed::String("a".into()), Witnessed::String(String::new())])),
        ("at", Witnessed::Message(at)),
        ("wrapped", Witnessed::Message(DynamicMessage::new(wrapper))),
        ("right", Witnessed::Message(inner(7, &[]))),
        ("inners", Witnessed::Map([(MapKey::String("k".into()), Witnessed::Message(inner(0, &[1, 2])))].into())),
        ("ok", Witnessed::Bool(true)),
        ("raw", Witnessed::Bytes(vec![0, 255].into())),
    ];
    for (name, value) in fields {
        all.set_field_by_name(name, value);
    }
    let (batch, bad) = read(&columns(), &[all.encode_to_vec(), vec![]]);
    assert_eq!(bad, Vec::<String>::new());
    let full = json!({"i32": -1, "s64": i64::MIN, "f32": u32::MAX, "sf64": -3, "u64": "18446744073709551615", "fl": 0.5,
        "maybe": 0, "color": "GREEN", "packed": [-1, 2], "texts": ["a", ""], "at": "1969-12-31T23:59:58.5Z", "wrapped": 0,
        "right": {"n": 7, "ns": [], "camelCase": ""}, "inners": {"k": {"n": 0, "ns": [1, 2], "camelCase": ""}},
        "ok": true, "raw": "00ff"});
    // What is not sent is the type's default, where the schema cannot tell it from null.
    let empty = json!({"i32": 0, "s64": 0, "f32": 0, "sf64": 0, "u64": "0", "fl": 0.0, "color": "RED", "packed": [],
        "texts": [], "inners": {}, "ok": false, "raw": ""});
    assert_eq!(batch, batch_of(&columns(), &[full, empty]));
}

/// A field of a message, by its number and wire type.
fn field(number: u32, wire: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::formats::wire::put_varint(u64::from(number << 3 | wire), &mut out);
    if wire == 2 {
        crate::formats::wire::put_varint(bytes.len() as u64, &mut out);
    }
    out.extend_from_slice(bytes);
    out
}

#[test]
fn fields_may_come_again_apart_and_in_any_order() {
    let columns: Vec<_> = columns()
        .into_iter()
        .filter(|(name, _)| ["packed", "left", "right", "inner", "color"].contains(name))
        .collect();
    let one =
        [field(9, 2, &[1, 4]), field(13, 2, b"l"), field(9, 0, &[5]), field(16, 2, &[8, 1, 16, 5]), field(9, 2, &[])];
    let two =
        [field(14, 2, &[8, 9]), field(16, 2, &[8, 2]), field(16, 2, &[16, 6]), field(8, 0, &[9]), field(8, 5, &[0; 4])];
    // Unknown fields of every wire type, groups within groups among them.
    let group = [field(900, 3, &[]), field(1, 3, &[]), field(2, 1, &[0; 8]), field(1, 4, &[]), field(900, 4, &[])];
    let message = [one.concat(), group.concat(), two.concat()].concat();
    let (batch, bad) = read(&columns, &[message]);
    assert_eq!(bad, Vec::<String>::new());
    let row = json!({"packed": [-1, 2, -3], "right": {"n": 9, "ns": [], "camelCase": ""},
        "inner": {"n": 2, "ns": [5, 6], "camelCase": ""}, "color": "9"});
    assert_eq!(batch, batch_of(&columns, &[row]));
}

#[test]
fn hostile_records_are_bad_ones() {
    let deep: Vec<u8> = field(900, 3, &[]).repeat(100_000);
    let records = [
        vec![8],
        vec![0],
        vec![7 << 3 | 7, 0],
        field(300, 2, &[1; 10])[..6].to_vec(),
        [field(300, 2, &[])[..2].to_vec(), vec![0xff; 9], vec![1]].concat(),
        field(10, 2, &[0xff]),
        field(15, 2, &[10, 1, 0xff]),
        [field(15, 2, &[10, 1, b'k']), field(15, 2, &[10, 1, b'k'])].concat(),
        field(11, 2, &field(2, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        field(900, 4, &[]),
        deep,
        [field(900, 3, &[]), field(901, 4, &[])].concat(),
    ];
    let (batch, bad) = read(&columns(), &records);
    assert_eq!((batch.num_rows(), bad.len()), (0, records.len()), "{bad:?}");
}

#[test]
fn rows_are_written_by_a_given_message_or_refused() {
    let options = [("format", "protobuf"), ("protobuf.schema", FILE), ("protobuf.message", "a.b.All")];
    let columns: Vec<_> =
        columns().into_iter().filter(|(name, _)| !["u64", "fl", "absent", "left"].contains(name)).collect();
    let table = kafka(&columns, &options);
    let inner = json!({"n": 0, "ns": [1, 2], "camelCase": "x"});
    let row = json!({"i32": -1, "s64": i64::MIN, "f32": u32::MAX, "sf64": -3, "maybe": null, "color": "GREEN",
        "packed": [-1, 2], "texts": ["a", ""], "at": "1969-12-31T23:59:58.5Z", "wrapped": 0, "right": inner,
        "inners": {"k": inner}, "inner": inner, "ok": true, "raw": "00ff"});
    let batch = batch_of(&columns, std::slice::from_ref(&row));
    let records = encoded(&table, &batch).unwrap();
    let read = DynamicMessage::decode(descriptor(FILE, "a.b.All"), records[0].as_slice()).unwrap();
    assert_eq!(read.get_field_by_name("color").unwrap().as_ref(), &Witnessed::EnumNumber(5));
    let (back, bad) = decoded(&table, &[read.encode_to_vec()]);
    assert_eq!((back, bad), (batch, vec![]));
    let with = |column: &str, value: Value| {
        let mut row = row.clone();
        row[column] = value;
        encoded(&table, &batch_of(&columns, &[row])).unwrap_err().to_string()
    };
    for (column, value, part) in [
        ("i32", json!(1_i64 << 40), "out of range"),
        ("i32", json!(null), "'optional'"),
        ("color", json!("BLUE"), "'BLUE'"),
        ("texts", json!(["a", null]), "item that is null"),
    ] {
        let why = with(column, value);
        assert!(why.contains(part) && why.contains(column), "{why}");
    }
    for (column, part) in [
        (("fl", DataType::Float64), "'fl'"),
        (("u64", DataType::Decimal128(20, 0)), "'u64'"),
        (("no", DataType::Utf8), "'no'"),
    ] {
        let table = kafka(&[column], &options);
        let why = Writing::new(&descriptor(FILE, "a.b.All"), table.schema.fields()).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn compiled_files_are_as_good_as_text() {
    let message = descriptor(FILE, "a.b.All.Inner");
    // The entries of the map are a message there, too.
    let (place, file) = (place_of(&message), message.parent_file());
    assert!(place.len() == 2 && place[0] == 1, "{place:?}");
    assert_eq!(message_at(&file, &place).as_ref(), Some(&message));
    assert_eq!(message_at(&file, &[1, 9]), None);
    let (_, again) = pool_of(&Source::Text(base64_of(&file)), &[]).unwrap();
    assert_eq!(message_at(&again, &[0]).unwrap().full_name(), "a.b.Other");
    let compiled = message.parent_pool().encode_to_vec();
    let (pool, _) = pool_of(&Source::Compiled(compiled), &[]).unwrap();
    assert!(pool.get_message_by_name("a.b.All").is_some());
    let imports = [("x/other.proto".to_owned(), "syntax = \"proto3\"; package o; message O {}".to_owned())];
    let text = "syntax = \"proto3\"; import \"x/other.proto\"; message M { o.O o = 1; }";
    assert!(pool_of(&Source::Text(text.to_owned()), &imports).is_ok());
    assert!(pool_of(&Source::Text(text.to_owned()), &[]).unwrap_err().contains("x/other.proto"));
    assert!(pool_of(&Source::Compiled(vec![9, 9]), &[]).is_err());
}

#[test]
fn columns_follow_from_a_message() {
    let message = descriptor(FILE, "a.b.All");
    let told = super::columns(&message).unwrap();
    // As they are declared above, in the order of the file, but for numbers of 32 bits, which are those.
    let mut expected: Vec<(String, DataType)> =
        columns().into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
    expected.retain(|(name, _)| name != "absent");
    for (name, kind) in &mut expected {
        match name.as_str() {
            "i32" => *kind = DataType::Int32,
            "fl" => *kind = DataType::Float32,
            _ => {}
        }
    }
    assert_eq!(told, expected);
    let kinds: Vec<(&str, DataType)> = told.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
    message_of(&message, kafka(&kinds, &[("format", "protobuf")]).schema.fields()).unwrap();
    for (text, part) in [
        ("message A { A again = 1; }", "has the field 'again', which is a message A within itself"),
        ("message A { map<int32, string> m = 1; }", "keys are no text"),
        ("message A {}", "without fields"),
    ] {
        let why = super::columns(&descriptor(&format!("syntax = \"proto3\"; {text}"), "A")).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}
