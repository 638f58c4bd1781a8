//! Avro and Protobuf with a real schema registry, and Confluent's own serializers on the other side.

use crate::support::{address, connector, context, fresh, read, table};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int8Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use connectors::TableDef;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

const START_US: i64 = 1_767_225_600_000_000;

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn list_of_text() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// Runs the witness and gives what it printed.
fn witness(arguments: &[&str]) -> String {
    let output = Command::new(address("SMACK_LIVE_PYTHON"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/live/confluent.py"))
        .args(arguments)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn create(topic: &str) {
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", address("SMACK_KAFKA")).create().expect("a client");
    let topics = [NewTopic::new(topic, 1, TopicReplication::Fixed(1))];
    let made = futures::executor::block_on(client.create_topics(&topics, &AdminOptions::new())).expect("asked");
    made.into_iter().for_each(|made| drop(made.expect("made")));
}

fn orders(topic: &str, columns: &[(&str, DataType)], n_key: usize, options: &[(&str, &str)]) -> TableDef {
    let (brokers, registry) = (address("SMACK_KAFKA"), address("SMACK_REGISTRY"));
    let mut all = vec![
        ("connector", "kafka"),
        ("topic", topic),
        ("bootstrap.servers", brokers.as_str()),
        ("scan.bounded", "latest"),
        ("schema.registry.url", registry.as_str()),
    ];
    all.extend(options);
    let table = table("orders", columns, n_key, &all);
    assert_eq!(connectors::check_table(&table), vec![]);
    table
}

/// The rows of `confluent.py`, number by number.
fn check_orders(batch: &RecordBatch) {
    assert_eq!(batch.num_rows(), 100);
    let column = |name: &str| Arc::clone(batch.column_by_name(name).expect("a column"));
    for n in 0..100_i64 {
        let row = n as usize;
        assert_eq!(column("id").as_primitive::<Int64Type>().value(row), n);
        assert_eq!(column("name").as_string::<i32>().value(row), format!("näme {n}"));
        assert_eq!(column("at").as_primitive::<TimestampMicrosecondType>().value(row), START_US + n * 1_500_000);
        assert_eq!(column("state").as_string::<i32>().value(row), if n % 3 == 0 { "NEW" } else { "PAID" });
        let tags = column("tags").as_list::<i32>().value(row);
        let tags: Vec<&str> = tags.as_string::<i32>().iter().flatten().collect();
        assert_eq!(tags, ["t0", "t1", "t2"][..row % 4]);
    }
}

#[test]
fn avro_of_confluents_serializer_is_read_by_both_of_its_schemas() {
    let topic = fresh("avro_in");
    create(&topic);
    witness(&["write", "avro", &topic]);
    let of_address = DataType::Struct(Fields::from(vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("zip", DataType::Int32, true),
    ]));
    let columns = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("price", DataType::Decimal128(12, 4)),
        ("at", utc()),
        ("state", DataType::Utf8),
        ("tags", list_of_text()),
        ("address", of_address),
        ("nowhere", DataType::Utf8),
    ];
    let table = orders(&topic, &columns, 0, &[("format", "avro")]);
    let everything = read(&table, &(0..columns.len()).collect::<Vec<_>>(), &BTreeMap::new()).expect("read");
    assert_eq!(everything.bad, vec![]);
    let batch = everything.all();
    check_orders(&batch);
    let (prices, addresses) = (batch.column(2).as_primitive::<Decimal128Type>(), batch.column(6).as_struct());
    for n in 0..100_usize {
        assert_eq!(prices.value(n), (n as i128 * 7 - 300) * 100);
        // Only the second schema has addresses.
        let there = n / 2 % 2 == 1 && n % 2 == 0;
        assert_eq!(addresses.is_valid(n), there, "{n}");
        if there {
            assert_eq!(addresses.column(0).as_string::<i32>().value(n), "Zürich");
            let zip = addresses.column(1).as_primitive::<Int32Type>();
            assert_eq!(zip.is_valid(n).then(|| zip.value(n)), (n % 5 == 0).then_some(n as i32));
        }
    }
    assert_eq!(batch.column(7).null_count(), 100);
}

#[test]
fn columns_that_nobody_declared_are_those_of_the_registry() {
    for format in ["avro", "protobuf"] {
        let topic = fresh(&format!("{format}_told"));
        create(&topic);
        witness(&["write", format, &topic]);
        let (brokers, registry) = (address("SMACK_KAFKA"), address("SMACK_REGISTRY"));
        // Its file holds two.
        let message = [("protobuf.message", "shop.Order")];
        let message = if format == "protobuf" { &message[..] } else { &[] };
        let options = |topic: &str, more: &[(&str, &str)]| -> TableDef {
            let all = [
                ("connector", "kafka"),
                ("topic", topic),
                ("bootstrap.servers", brokers.as_str()),
                ("schema.registry.url", registry.as_str()),
                ("format", format),
            ];
            table("told", &[], 0, &[&all[..], more].concat())
        };
        let told =
            connectors::columns(&options(&topic, message), &context(0)).expect("it answers").expect("it tells them");
        let kinds: Vec<(&str, DataType)> =
            told.columns.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
        let of = |name: &str| kinds.iter().find(|(known, _)| *known == name).map(|(_, kind)| kind.clone());
        assert_eq!([of("id"), of("name"), of("at")], [DataType::Int64, DataType::Utf8, utc()].map(Some), "{format}");
        // The last version is the one that has addresses.
        assert!(matches!(of("address"), Some(DataType::Struct(_))), "{format}: {kinds:?}");
        let declared = orders(&topic, &kinds, 0, &[&[("format", format)], message].concat());
        let all = read(&declared, &(0..kinds.len()).collect::<Vec<_>>(), &BTreeMap::new()).expect("read");
        assert_eq!(all.bad, vec![], "{format}");
        check_orders(&all.all());
        let nowhere = fresh("nowhere");
        let why = connectors::columns(&options(&nowhere, message), &context(0))
            .expect_err("there is no such subject")
            .to_string();
        assert!(why.contains(&format!("'{nowhere}-value'")) && why.contains("declare them"), "{why}");
        if format == "protobuf" {
            let why =
                connectors::columns(&options(&topic, &[]), &context(0)).expect_err("it may be either").to_string();
            assert!(why.contains("(shop.Unused, shop.Order); name one with protobuf.message"), "{why}");
        }
    }
}

#[test]
fn protobuf_of_confluents_serializer_is_read() {
    let topic = fresh("protobuf_in");
    create(&topic);
    witness(&["write", "protobuf", &topic]);
    let of_address = DataType::Struct(Fields::from(vec![Field::new("city", DataType::Utf8, true)]));
    let columns = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("at", utc()),
        ("state", DataType::Utf8),
        ("tags", list_of_text()),
        ("address", of_address),
    ];
    let table = orders(&topic, &columns, 0, &[("format", "protobuf"), ("protobuf.message", "shop.Order")]);
    let everything = read(&table, &[0, 1, 2, 3, 4, 5], &BTreeMap::new()).expect("read");
    assert_eq!(everything.bad, vec![]);
    check_orders(&everything.all());
    let batch = everything.all();
    assert!((0..100).all(|n| batch.column(5).is_valid(n) == (n % 2 == 0)));
    // Another message than that of the records.
    let other = orders(&topic, &columns[..1], 0, &[("format", "protobuf"), ("protobuf.message", "shop.Unused")]);
    let nothing = read(&other, &[0], &BTreeMap::new()).expect("read");
    assert!(nothing.bad.len() == 100 && nothing.bad[0].error.contains("shop.Order"), "{:?}", nothing.bad.first());
}

/// Rows with a key, of which one goes again; written once, exactly.
fn written(topic: &str, format: &str) -> TableDef {
    let price = if format == "avro" { DataType::Decimal128(9, 2) } else { DataType::Float64 };
    let columns = [("id", DataType::Int64), ("name", DataType::Utf8), ("at", utc()), ("price", price.clone())];
    let options = [
        ("format", format),
        ("key.format", format),
        ("changelog", "upsert"),
        ("create_topic", "true"),
        ("partitions", "1"),
    ];
    let table = orders(topic, &columns, 1, &options);
    let rows = |numbers: &[i64]| {
        let times = numbers.iter().map(|n| Some(START_US + n));
        let prices: ArrayRef = match price {
            DataType::Float64 => {
                Arc::new(arrow::array::Float64Array::from_iter_values(numbers.iter().map(|n| *n as f64 / 4.0)))
            }
            _ => {
                let prices = Decimal128Array::from_iter_values(numbers.iter().map(|n| i128::from(*n) * 25));
                Arc::new(prices.with_precision_and_scale(9, 2).expect("decimals"))
            }
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(numbers.to_vec())),
            Arc::new(numbers.iter().map(|n| (n % 2 == 0).then(|| format!("näme {n}"))).collect::<StringArray>()),
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            prices,
        ];
        RecordBatch::try_new(Arc::clone(&table.schema), columns).expect("a batch")
    };
    let mut sink = connector("kafka").open_sink(&table, &context(0)).expect("a sink");
    sink.change(&rows(&[-1, 2, 3]), &Int8Array::from(vec![1, 1, 1])).expect("written");
    sink.change(&rows(&[2]), &Int8Array::from(vec![-1])).expect("written");
    sink.prepare(1).expect("prepared");
    sink.commit(1).expect("committed");
    table
}

fn check_written(table: &TableDef, topic: &str, format: &str, wanted: &[Value]) {
    let told = witness(&["read", format, topic, "4"]);
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(told, wanted);
    // And it is read back, the removal too.
    let everything = read(table, &[0, 1, 2, 3], &BTreeMap::new()).expect("read");
    assert_eq!(everything.bad, vec![]);
    let batch = everything.all();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values().as_ref(), &[-1, 2, 3, 2]);
    let weights = batch.column(4).as_primitive::<arrow::datatypes::Int8Type>();
    assert_eq!(weights.values().as_ref(), &[1, 1, 1, -1]);
    assert_eq!(batch.column(1).as_string::<i32>().value(1), "näme 2");
}

#[test]
fn avro_of_ours_is_read_by_confluents_deserializer() {
    let topic = fresh("avro_out");
    let table = written(&topic, "avro");
    let row = |n: i64, name: Option<&str>, at: &str, price: &str| json!({"key": {"id": n}, "value": {"id": n, "name": name, "at": at, "price": price}});
    check_written(
        &table,
        &topic,
        "avro",
        &[
            row(-1, None, "2025-12-31 23:59:59.999999+00:00", "-0.25"),
            row(2, Some("näme 2"), "2026-01-01 00:00:00.000002+00:00", "0.50"),
            row(3, None, "2026-01-01 00:00:00.000003+00:00", "0.75"),
            json!({"key": {"id": 2}, "value": null}),
        ],
    );
}

#[test]
fn protobuf_of_ours_is_read_by_confluents_deserializer() {
    let topic = fresh("protobuf_out");
    let table = written(&topic, "protobuf");
    check_written(
        &table,
        &topic,
        "protobuf",
        &[
            json!({"key": {"id": "-1"}, "value": {"id": "-1", "at": "2025-12-31T23:59:59.999999Z", "price": -0.25}}),
            json!({"key": {"id": "2"}, "value": {"id": "2", "name": "näme 2", "at": "2026-01-01T00:00:00.000002Z", "price": 0.5}}),
            json!({"key": {"id": "3"}, "value": {"id": "3", "at": "2026-01-01T00:00:00.000003Z", "price": 0.75}}),
            json!({"key": {"id": "2"}, "value": null}),
        ],
    );
}
