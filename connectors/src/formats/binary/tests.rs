//! What holds of both binary formats: round trips, the frames of a registry, rubbish, and mistakes in options.

use super::*;
use crate::TableDef;
use crate::formats::schema_registry::tests::registry;
use crate::formats::{BinaryEncoder, Decoder, Encoded, Format, Part, Rejected, check};
use crate::testing::table;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, TimeUnit};
use proptest::prelude::*;
use serde_json::{Value, json};

pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

pub fn map_of(value: DataType) -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

pub fn struct_of(fields: &[(&str, DataType)]) -> DataType {
    let fields: Vec<Field> = fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    DataType::Struct(fields.into())
}

pub fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Columns that both formats have a form for.
pub fn common_columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("i", DataType::Int64),
        ("n", DataType::Int32),
        ("x", DataType::Float64),
        ("f", DataType::Float32),
        ("ok", DataType::Boolean),
        ("s", DataType::Utf8),
        ("b", DataType::Binary),
        ("ts", utc()),
        ("st", struct_of(&[("a", DataType::Int64), ("b", DataType::Utf8), ("at", utc())])),
        ("l", list_of(DataType::Utf8)),
        ("ln", list_of(DataType::Int64)),
        ("ls", list_of(struct_of(&[("x", DataType::Float64)]))),
        ("m", map_of(DataType::Int64)),
    ]
}

/// A row of these columns as JSON.
pub fn common_row() -> impl Strategy<Value = Value> {
    let scalars = (
        prop::option::of(any::<i64>()),
        prop::option::of(any::<i32>()),
        prop::option::of(any::<f64>().prop_filter("JSON has no such number", |x| x.is_finite())),
        prop::option::of(-1000i16..1000),
        prop::option::of(any::<bool>()),
        prop::option::of("\\PC{0,12}"),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..6)),
        prop::option::of(-62_000_000_000_000_000i64..250_000_000_000_000_000),
    );
    let nested = (
        prop::option::of((any::<i64>(), prop::option::of("[a-z]{0,9}"))),
        prop::collection::vec("\\PC{0,5}", 0..4),
        prop::collection::vec(any::<i64>(), 0..4),
        prop::collection::vec(-5i8..5, 0..3),
        prop::option::of(("[a-z]{0,3}", any::<i64>())),
    );
    (scalars, nested).prop_map(|((i, n, x, f, ok, s, b, ts), (st, l, ln, ls, m))| {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let micros = |us: i64| {
            let mut text = Vec::new();
            crate::formats::timestamp::write(us, &mut text);
            String::from_utf8(text).unwrap()
        };
        json!({
            "i": i, "n": n, "x": x, "f": f, "ok": ok, "s": s, "b": b.map(hex), "ts": ts.map(micros),
            "st": st.map(|(a, b)| json!({"a": a, "b": b, "at": if a % 2 == 0 { Some(micros(a >> 12)) } else { None }})),
            "l": l, "ln": ln,
            "ls": ls.into_iter().map(|x| json!({"x": x})).collect::<Vec<_>>(),
            "m": m.map(|(key, value)| json!({key: value})).unwrap_or_else(|| json!({})),
        })
    })
}

/// Rows of JSON as a batch.
pub fn batch_of(columns: &[(&str, DataType)], rows: &[Value]) -> RecordBatch {
    let of_json = table(columns, &[]);
    let mut decoder = Decoder::new(of_json.schema.clone(), &of_json).unwrap();
    rows.iter().enumerate().for_each(|(at, row)| decoder.push(row.to_string().as_bytes(), at as u64));
    let (batch, bad) = decoder.flush();
    assert_eq!(bad, vec![]);
    batch
}

pub fn kafka(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDef {
    let base = [("connector", "kafka"), ("topic", "t"), ("bootstrap.servers", "localhost:9092")];
    table(columns, &base.iter().chain(options).copied().collect::<Vec<_>>())
}

pub fn encoded(table: &TableDef, batch: &RecordBatch) -> crate::Result<Vec<Vec<u8>>> {
    let format = Format::of(table).unwrap();
    let encoder = BinaryEncoder::open(format, Part::Value, table, &table.schema)?;
    let mut out = Encoded::default();
    encoder.encode(batch, &mut out)?;
    Ok((0..out.len()).map(|row| out.get(row).to_vec()).collect())
}

pub fn decoded(table: &TableDef, records: &[Vec<u8>]) -> (RecordBatch, Vec<Rejected>) {
    let mut decoder = Decoder::new(table.schema.clone(), table).unwrap_or_else(|wrong| panic!("{wrong}"));
    records.iter().enumerate().for_each(|(at, record)| decoder.push(record, at as u64));
    decoder.prepare().unwrap();
    decoder.flush()
}

fn both() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["avro", "protobuf"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_decoded_to_the_same(rows in prop::collection::vec(common_row(), 1..20), format in both()) {
        let table = kafka(&common_columns(), &[("format", format)]);
        let batch = batch_of(&common_columns(), &rows);
        let records = encoded(&table, &batch).unwrap();
        let (back, bad) = decoded(&table, &records);
        prop_assert_eq!(bad, vec![]);
        prop_assert_eq!(&back, &batch);
    }

    /// Flipped bytes, cuts and joins: nothing panics, every record is accounted for, and untouched ones survive.
    #[test]
    fn corruption_costs_only_the_records_it_touched(
        rows in prop::collection::vec(common_row(), 1..20),
        format in both(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let table = kafka(&common_columns(), &[("format", format)]);
        let batch = batch_of(&common_columns(), &rows);
        let mut records = encoded(&table, &batch).unwrap();
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
        let (back, bad) = decoded(&table, &records);
        prop_assert_eq!(back.num_rows() + bad.len(), records.len());
        let rejected: Vec<usize> = bad.iter().map(|(at, ..)| *at as usize).collect();
        prop_assert!(rejected.iter().all(|at| touched[*at]), "{:?} of {:?}", bad, touched);
        let kept: Vec<usize> = (0..records.len()).filter(|at| !rejected.contains(at)).collect();
        for (row, at) in kept.into_iter().enumerate().filter(|(_, at)| !touched[*at]) {
            prop_assert_eq!(back.slice(row, 1), batch.slice(at, 1));
        }
    }

    #[test]
    fn rubbish_is_rejected_or_read_and_never_more(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..30),
        format in both(),
        few in any::<bool>(),
    ) {
        let columns = common_columns();
        let table = kafka(&columns, &[("format", format)]);
        // Few columns: most is passed over instead of being taken.
        let wanted = if few { Arc::new(table.schema.project(&[12, 1]).unwrap()) } else { table.schema.clone() };
        let mut decoder = Decoder::new(wanted, &table).unwrap();
        for _ in 0..2 {
            records.iter().enumerate().for_each(|(at, record)| decoder.push(record, at as u64));
            let (batch, bad) = decoder.flush();
            prop_assert_eq!(batch.num_rows() + bad.len(), records.len());
            // Nothing is held that no byte stood for.
            let bytes: usize = records.iter().map(Vec::len).sum();
            prop_assert!(batch.get_array_memory_size() < (1 << 18) + 4000 * (bytes + records.len()));
        }
    }
}

/// `[id][payload]` of the only record.
fn framed(id: u32, indexes: &[u8], payload: &[u8]) -> Vec<u8> {
    [[0u8].as_slice(), &id.to_be_bytes(), indexes, payload].concat()
}

#[test]
fn records_of_several_schemas_come_in_their_order_and_those_without_one_are_bad() {
    let (url, questions) = registry(vec![
        (200, r#"{"schema":"{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"n\",\"type\":\"int\"}]}"}"#),
        (
            200,
            r#"{"schema":"{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"s\",\"type\":\"string\"},{\"name\":\"n\",\"type\":\"long\"}]}"}"#,
        ),
        (404, r#"{"error_code":40403,"message":"no such schema"}"#),
        (200, r#"{"schema":"{}","schemaType":"JSON"}"#),
        (200, r#"{"schema":"{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"n\",\"type\":\"string\"}]}"}"#),
        (200, r#"{"schema":"{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"n\",\"type\":\"int\"}]}"}"#),
    ]);
    let columns = [("n", DataType::Int64), ("s", DataType::Utf8)];
    let table = kafka(&columns, &[("format", "avro"), ("schema.registry.url", url.as_str())]);
    assert_eq!(check(&table), vec![]);
    let records = [
        framed(1, &[], &[4]),
        framed(2, &[], &[2, b'x', 6]),
        framed(3, &[], &[4]),
        framed(1, &[], &[8, 8]),
        vec![],
        vec![7, 0, 0, 0, 1, 4],
        framed(4, &[], &[4]),
        framed(5, &[], &[2, b'x']),
        framed(1, &[], &[10]),
    ];
    let (batch, bad) = decoded(&table, &records);
    let rows = [json!({"n": 2}), json!({"n": 3, "s": "x"}), json!({"n": 5})];
    assert_eq!(batch, batch_of(&columns, &rows));
    let told: Vec<(u64, &str)> = bad.iter().map(|(at, _, why)| (*at, why.as_str())).collect();
    let parts = ["does not have", "1 bytes after", "is empty", "begins with 7", "JSON, not Avro", "'n': it is string"];
    assert_eq!(told.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    for ((_, why), part) in told.iter().zip(parts) {
        assert!(why.contains(part), "{why} has no '{part}'");
    }
    // What stands in a header is as good as what stands before the payload.
    let mut decoder = Decoder::new(table.schema.clone(), &table).unwrap();
    decoder.push_headed(&[[1u8].as_slice(), &[9; 16]].concat(), &[12], 0);
    decoder.prepare().unwrap();
    assert_eq!(decoder.flush(), (batch_of(&columns, &[json!({"n": 6})]), vec![]));
    let asked: Vec<String> = questions.try_iter().collect();
    assert_eq!(asked.len(), 6);
    assert!(asked[5].contains("/schemas/guids/09090909-0909-0909-0909-090909090909 "), "{}", asked[5]);
}

#[test]
fn while_the_registry_is_away_records_wait() {
    let text = r#"{"schema":"syntax = \"proto3\"; message A {} message B { message C { int64 n = 1; } }","schemaType":"PROTOBUF"}"#;
    let (url, _questions) = registry(vec![(503, ""), (200, text)]);
    let columns = [("n", DataType::Int64)];
    let table = kafka(&columns, &[("format", "protobuf"), ("schema.registry.url", url.as_str())]);
    let mut decoder = Decoder::new(table.schema.clone(), &table).unwrap();
    decoder.push(&framed(1, &[4, 2, 0], &[8, 7]), 0);
    decoder.push(&framed(1, &[0], &[]), 1);
    decoder.push(&framed(1, &[2, 4], &[]), 2);
    let why = decoder.prepare().unwrap_err();
    assert!(
        matches!(&why, crate::Error::Transient(text) if text.contains("503") && text.contains("127.0.0.1")),
        "{why}"
    );
    assert_eq!(decoder.len(), 3);
    decoder.prepare().unwrap();
    let (batch, bad) = decoder.flush();
    // A message without the column has none of it; one that is not there is none.
    assert_eq!(batch, batch_of(&columns, &[json!({"n": 7}), json!({})]));
    assert!(bad.len() == 1 && bad[0].2.contains("no message at [2]"), "{bad:?}");
}

#[test]
fn rows_are_written_by_what_the_registry_has() {
    let columns = [("n", DataType::Int64)];
    let batch = batch_of(&columns, &[json!({"n": 3})]);
    let written = |answers: Vec<(u16, &'static str)>, options: &[(&str, &str)]| {
        let (url, questions) = registry(answers);
        let base = [("schema.registry.url", url.as_str())];
        let table = kafka(&columns, &base.iter().chain(options).copied().collect::<Vec<_>>());
        let format = Format::of(&table).unwrap();
        let opened = BinaryEncoder::open(format, Part::Value, &table, &table.schema);
        let result = opened.and_then(|encoder| {
            let mut out = Encoded::default();
            encoder.encode(&batch, &mut out)?;
            Ok((out.get(0).to_vec(), encoder.header().map(|(name, value)| (name, value.to_vec()))))
        });
        (result.map_err(|why| why.to_string()), questions.try_iter().collect::<Vec<_>>())
    };
    let (result, asked) = written(vec![(200, r#"{"id":9}"#)], &[("format", "avro"), ("avro.record", "a.b.Hit")]);
    assert_eq!(result, Ok((framed(9, &[], &[2, 6]), None)));
    assert!(asked[0].starts_with("POST /apis/ccompat/v7/subjects/t-value/versions "), "{}", asked[0]);
    assert!(asked[0].contains(r#"\"namespace\":\"a.b\""#), "{}", asked[0]);
    let record = [("schema.registry.subject_strategy", "topic_record"), ("format", "protobuf")];
    let (result, asked) = written(vec![(200, r#"{"id":9}"#)], &record);
    assert_eq!(result, Ok((framed(9, &[0], &[8, 3]), None)));
    assert!(asked[0].contains("/subjects/t-t/versions ") && asked[0].contains("PROTOBUF"), "{}", asked[0]);

    let by_latest = [("format", "avro"), ("schema.registry.auto_register", "false")];
    let latest = r#"{"id":4,"schema":"{\"type\":\"record\",\"name\":\"X\",\"fields\":[{\"name\":\"v\",\"type\":\"int\",\"default\":1},{\"name\":\"n\",\"type\":\"long\"}]}"}"#;
    let (result, asked) = written(vec![(200, latest)], &by_latest);
    assert_eq!(result, Ok((framed(4, &[], &[2, 6]), None)));
    assert!(asked[0].starts_with("GET /apis/ccompat/v7/subjects/t-value/versions/latest "), "{}", asked[0]);
    let (result, _) = written(vec![(404, r#"{"error_code":40401,"message":"no"}"#)], &by_latest);
    assert!(result.as_ref().unwrap_err().contains("auto_register"), "{result:?}");
    let (result, _) = written(vec![(409, r#"{"error_code":409,"message":"incompatible"}"#)], &[("format", "avro")]);
    assert!(result.as_ref().unwrap_err().contains("incompatible"), "{result:?}");

    let in_header = [("format", "avro"), ("schema.registry.id_location", "header")];
    let guid = r#"{"id":9,"guid":"01010101-0101-0101-0101-010101010101"}"#;
    let (result, _) = written(vec![(200, r#"{"id":9}"#), (200, guid)], &in_header);
    let header = ("__value_schema_id", [1; 17].to_vec());
    assert_eq!(result, Ok((vec![2, 6], Some(header))));
    let (result, _) = written(vec![(200, r#"{"id":9}"#), (200, r#"{"id":9}"#)], &in_header);
    assert!(result.as_ref().unwrap_err().contains("no GUIDs"), "{result:?}");
}

#[test]
fn mistakes_in_options_are_found() {
    let told = |columns: &[(&str, DataType)], options: &[(&str, &str)]| {
        check(&kafka(columns, options)).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let n = [("n", DataType::Int64)];
    let registry = ("schema.registry.url", "http://localhost:8081");
    for (options, part) in [
        (&[("format", "avor")][..], "'avro'"),
        (&[("avro.schema", "{}")], "another format"),
        (&[("format", "avro"), ("schema.registry.user", "me")], "none is given"),
        (&[("format", "avro"), ("schema.registry.url", "localhost:8081")], "no address"),
        (&[("format", "avro"), ("schema.registry.url", "http://me:secret@localhost")], "has a user in it"),
        (&[("format", "avro"), registry, ("schema.registry.password", "x")], "no schema.registry.user"),
        (&[("format", "avro"), registry, ("schema.registry.subject_strategy", "topics")], "'topic'"),
        (&[("format", "avro"), ("avro.schema", "{"), ("avro.schema.file", "x")], "both"),
        (&[("format", "avro"), ("avro.schema", "{")], "no JSON"),
        (
            &[
                ("format", "avro"),
                ("avro.schema", r#"{"type":"record","name":"A","fields":[{"name":"n","type":"string"}]}"#),
            ],
            "is string",
        ),
        (&[("format", "avro"), registry, ("avro.schema", r#"{"type":"record","name":"A","fields":[]}"#)], "column 'n'"),
        (&[("format", "protobuf"), ("protobuf.schema", "message {")], "does not compile"),
        (
            &[("format", "protobuf"), ("protobuf.schema", "syntax = \"proto3\"; message A {} message B {}")],
            "2 messages",
        ),
        (&[("format", "protobuf"), ("protobuf.schema", "message A {}"), ("protobuf.message", "B")], "no message 'B'"),
        (&[("format", "protobuf"), ("protobuf.schema", "syntax = \"proto3\"; message A { string n = 1; }")], "'n'"),
    ] {
        let told = told(&n, options);
        assert!(told.contains(part), "{options:?}: '{part}' is not in: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
    assert_eq!(told(&n, &[("format", "avro")]), "");
    assert_eq!(told(&n, &[("format", "avro"), ("avro.schema.file", "opened later")]), "");
    assert_eq!(told(&n, &[("format", "protobuf"), registry]), "");
    assert!(told(&[("day", DataType::Date32)], &[("format", "protobuf")]).contains("no form in Protobuf"));
    assert!(told(&[("a b", DataType::Int64)], &[("format", "avro")]).contains("'a b'"));
    // In files records have other bounds.
    let files = table(&n, &[("connector", "files"), ("path", "x"), ("format", "avro")]);
    assert!(!check(&files).is_empty());
}

#[test]
fn no_column_wanted_still_counts_and_checks() {
    for format in ["avro", "protobuf"] {
        let table = kafka(&common_columns(), &[("format", format)]);
        let batch = batch_of(&common_columns(), &[json!({"i": 1, "s": "x"}), json!({"l": ["y"]})]);
        let lists: Vec<RecordBatch> = vec![batch.slice(0, 1), batch.slice(1, 1)];
        let batch = concat_batches(&batch.schema(), &lists).unwrap();
        let mut records = encoded(&table, &batch).unwrap();
        records.push(vec![0xff]);
        let mut decoder = Decoder::new(Arc::new(Schema::empty()), &table).unwrap();
        records.iter().enumerate().for_each(|(at, record)| decoder.push(record, at as u64));
        let (batch, bad) = decoder.flush();
        assert_eq!((batch.num_rows(), bad.len()), (2, 1), "{format}");
    }
}
