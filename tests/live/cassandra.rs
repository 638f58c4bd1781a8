//! Writing and reading Cassandra.

use crate::support::{address, connector, context, fresh, read, table};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit};
use connectors::{Context, Error, OneOf, Polled, Sink, TableDef, Takes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

pub const KEYSPACE: &str = "smack_live";

pub fn options<'a>(points: &'a str, name: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("connector", "cassandra"),
        ("contact_points", points),
        ("keyspace", KEYSPACE),
        ("table", name),
        ("create_keyspace", "true"),
        ("create_table", "true"),
    ]
}

pub fn features(name: &str) -> TableDef {
    let points = address("SMACK_CASSANDRA");
    table("features", &[("user", DataType::Utf8), ("n", DataType::Int64)], 1, &options(&points, name))
}

fn rows(pairs: &[(&str, i64)]) -> RecordBatch {
    let users: ArrayRef = Arc::new(StringArray::from_iter_values(pairs.iter().map(|(user, _)| *user)));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(_, n)| *n)));
    RecordBatch::try_from_iter([("user", users), ("n", numbers)]).expect("a batch")
}

fn claimed(claimed_us: i64) -> Context {
    Context { claimed_us, begun_us: claimed_us, ..context(0) }
}

pub fn sink(table: &TableDef, context: &Context) -> Box<dyn Sink> {
    connector("cassandra").open_sink(table, context).expect("a sink")
}

fn stored(table: &TableDef) -> BTreeMap<String, i64> {
    let all = read(table, &[0, 1], &BTreeMap::new()).expect("read").all();
    let (users, numbers) = (all.column(0).as_string::<i32>(), all.column(1).as_primitive::<Int64Type>());
    let stored: BTreeMap<String, i64> =
        (0..all.num_rows()).map(|row| (users.value(row).to_owned(), numbers.value(row))).collect();
    assert_eq!(stored.len(), all.num_rows(), "a key came twice");
    stored
}

fn fatal<T>(result: connectors::Result<T>) -> String {
    match result {
        Err(Error::Fatal(why)) => why,
        Err(Error::Transient(why)) => panic!("only transient: {why}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn every_type_comes_back_as_it_was() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("types");
    let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(7), None]))),
        ("small", Arc::new(Int16Array::from(vec![Some(i16::MAX), Some(-7), None]))),
        ("plain", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(0), None]))),
        ("big", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("real", Arc::new(Float32Array::from(vec![Some(1.5), Some(f32::NEG_INFINITY), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(-0.1), Some(f64::MAX), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("grüße ☂"), Some(""), None]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_000), Some(-1_000), None])
                    .with_data_type(at.clone()),
            ),
        ),
        ("day", Arc::new(Date32Array::from(vec![Some(19_000), Some(-1), None]))),
        ("clock", Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), Some(0), None]))),
        (
            "price",
            Arc::new(
                Decimal128Array::from(vec![Some(-129), Some(10_000_000_000_000_000_000_000_000), None])
                    .with_precision_and_scale(30, 2)
                    .expect("a decimal"),
            ),
        ),
        ("raw", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), Some(b""), None]))),
    ];
    let kinds: Vec<(&str, DataType)> = columns.iter().map(|(name, array)| (*name, array.data_type().clone())).collect();
    let table = table("types", &kinds, 1, &options(&points, &name));
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns.into_iter().map(|(_, array)| array).collect())
        .expect("a batch");
    let mut sink = sink(&table, &context(0));
    sink.write(&batch).expect("written");
    sink.prepare(1).expect("acknowledged");

    let everything: Vec<usize> = (0..kinds.len()).collect();
    let back = read(&table, &everything, &BTreeMap::new()).expect("read").all();
    let by_id = arrow::compute::SortColumn { values: Arc::clone(back.column(0)), options: None };
    let order: UInt32Array = lexsort_to_indices(&[by_id], None).expect("sorted");
    assert_eq!(take_record_batch(&back, &order).expect("sorted"), batch);

    let some = read(&table, &[8, 0], &BTreeMap::new()).expect("read");
    assert_eq!(some.all().schema().field(0).name(), "text");
    let none = read(&table, &[], &BTreeMap::new()).expect("read");
    assert_eq!(none.rows(), 3);
}

#[test]
fn the_last_of_two_updates_of_one_key_wins_in_a_batch_and_after_it() {
    let table = features(&fresh("updates"));
    let mut sink = sink(&table, &context(0));
    // The larger value comes first: between equal timestamps Cassandra would keep it.
    sink.write(&rows(&[("a", 9), ("b", 9), ("a", 1)])).expect("written");
    sink.write(&rows(&[("b", 1), ("c", 9)])).expect("written");
    sink.write(&rows(&[("c", 1)])).expect("written");
    sink.prepare(1).expect("acknowledged");
    let wanted = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
    assert_eq!(stored(&table), wanted);
}

#[test]
fn a_stale_generation_cannot_overwrite_a_newer_one() {
    let table = features(&fresh("stale"));
    let now = context(0).claimed_us;
    let mut stale = sink(&table, &claimed(now));
    stale.write(&rows(&[("a", 1), ("only_stale", 1)])).expect("written");
    stale.prepare(1).expect("acknowledged");
    let mut newer = sink(&table, &claimed(now + 1_000_000));
    newer.write(&rows(&[("a", 2)])).expect("written");
    newer.prepare(2).expect("acknowledged");
    for _ in 0..10 {
        stale.write(&rows(&[("a", 99)])).expect("written in vain");
    }
    stale.prepare(2).expect("acknowledged");
    assert_eq!(stored(&table), BTreeMap::from([("a".to_owned(), 2), ("only_stale".to_owned(), 1)]));
}

/// `Some(n)` is there now; `None` is there no longer.
fn change(sink: &mut Box<dyn Sink>, changes: &[(&str, Option<i64>)]) {
    let weights = Int8Array::from_iter_values(changes.iter().map(|(_, n)| if n.is_some() { 1 } else { -1 }));
    let pairs: Vec<(&str, i64)> = changes.iter().map(|(user, n)| (*user, n.unwrap_or(i64::MAX))).collect();
    sink.change(&rows(&pairs), &weights).expect("changed");
}

fn kept(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(user, n)| ((*user).to_owned(), *n)).collect()
}

#[test]
fn deletions_and_insertions_of_a_key_take_effect_in_their_order() {
    let table = features(&fresh("changes"));
    assert_eq!(connector("cassandra").takes(&table), Takes::Upsert);
    let mut sink = sink(&table, &context(0));
    // Without a wait in between, all in one epoch.
    change(&mut sink, &[("back", Some(1)), ("gone", Some(1)), ("stays", Some(1)), ("never", None)]);
    change(&mut sink, &[("back", None), ("gone", Some(2))]);
    change(&mut sink, &[("back", Some(2)), ("gone", None)]);
    change(&mut sink, &[("back", None)]);
    change(&mut sink, &[("back", Some(0)), ("short", Some(1))]);
    change(&mut sink, &[("short", None)]);
    sink.prepare(1).expect("acknowledged");
    sink.commit(1).expect("committed");
    assert_eq!(stored(&table), kept(&[("back", 0), ("stays", 1)]));
    change(&mut sink, &[("back", None), ("gone", Some(3))]);
    sink.prepare(2).expect("acknowledged");
    sink.commit(2).expect("committed");
    assert_eq!(stored(&table), kept(&[("gone", 3), ("stays", 1)]));
}

#[test]
fn many_deletions_under_way_leave_what_came_last() {
    let table = features(&fresh("churn"));
    let names: Vec<String> = (0..500).map(|n| format!("user-{n}")).collect();
    let mut sink = sink(&table, &context(0));
    for round in 0..7 {
        // Every other round takes all away; the last one brings the even ones back.
        let number = |at: usize| (round % 2 == 0 && (round < 6 || at % 2 == 0)).then_some(round);
        let changes: Vec<(&str, Option<i64>)> =
            names.iter().enumerate().map(|(at, name)| (name.as_str(), number(at))).collect();
        change(&mut sink, &changes);
    }
    sink.prepare(1).expect("acknowledged");
    sink.commit(1).expect("committed");
    let stored = stored(&table);
    assert!(stored.values().all(|n| *n == 6), "{stored:?}");
    assert_eq!(stored.len(), 250);
}

#[test]
fn a_stale_generation_can_neither_delete_nor_bring_back() {
    let table = features(&fresh("stale_changes"));
    let now = context(0).claimed_us;
    let mut stale = sink(&table, &claimed(now));
    change(&mut stale, &[("kept", Some(1)), ("gone", Some(1)), ("stale", Some(1))]);
    stale.prepare(1).expect("acknowledged");
    stale.commit(1).expect("committed");
    let mut newer = sink(&table, &claimed(now + 1_000_000));
    change(&mut newer, &[("kept", Some(2)), ("gone", None)]);
    newer.prepare(2).expect("acknowledged");
    newer.commit(2).expect("committed");
    for _ in 0..10 {
        change(&mut stale, &[("kept", None), ("gone", Some(99))]);
    }
    stale.prepare(2).expect("acknowledged");
    stale.commit(2).expect("committed");
    assert_eq!(stored(&table), kept(&[("kept", 2), ("stale", 1)]));
}

#[test]
fn a_row_is_deleted_by_its_whole_key_and_written_again_changes_nothing() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("whole_key");
    let kinds = [("user", DataType::Utf8), ("day", DataType::Date32), ("n", DataType::Int64)];
    let table = table("whole_key", &kinds, 2, &options(&points, &name));
    let batch = |days: &[i32]| {
        let users: ArrayRef = Arc::new(StringArray::from_iter_values(days.iter().map(|_| "a")));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(days.iter().map(|day| i64::from(*day))));
        let days: ArrayRef = Arc::new(Date32Array::from_iter_values(days.iter().copied()));
        RecordBatch::try_new(Arc::clone(&table.schema), vec![users, days, numbers]).expect("a batch")
    };
    let days = || {
        let all = read(&table, &[1], &BTreeMap::new()).expect("read").all();
        let days: BTreeSet<i32> =
            all.column(0).as_primitive::<arrow::datatypes::Date32Type>().values().iter().copied().collect();
        days
    };
    let mut sink = sink(&table, &context(0));
    sink.write(&batch(&[1, 2, 3])).expect("written");
    for _ in 0..2 {
        sink.change(&batch(&[2, 4]), &Int8Array::from(vec![-1, 1])).expect("changed");
        sink.prepare(1).expect("acknowledged");
        sink.commit(1).expect("committed");
        assert_eq!(days(), BTreeSet::from([1, 3, 4]));
    }
}

#[test]
fn many_rows_are_written_and_read_once() {
    let table = features(&fresh("many"));
    let names: Vec<String> = (0..20_000).map(|n| format!("user-{n}")).collect();
    let pairs: Vec<(&str, i64)> = names.iter().zip(0..).map(|(name, n)| (name.as_str(), n)).collect();
    let mut sink = sink(&table, &context(0));
    let begun = Instant::now();
    for chunk in pairs.chunks(1000) {
        sink.write(&rows(chunk)).expect("written");
    }
    sink.prepare(1).expect("acknowledged");
    eprintln!("{} rows written in {:?}", pairs.len(), begun.elapsed());
    let begun = Instant::now();
    let everything = read(&table, &[1], &BTreeMap::new()).expect("read");
    eprintln!("{} rows read in {:?}", pairs.len(), begun.elapsed());
    let seen: BTreeSet<i64> = everything.all().column(0).as_primitive::<Int64Type>().values().iter().copied().collect();
    assert_eq!(seen, (0..20_000).collect());
    assert_eq!(everything.rows(), 20_000);
    // Going on in the middle of each range gives the rest of it.
    let half: BTreeMap<usize, u64> = everything.next.iter().map(|(split, next)| (*split, next / 2)).collect();
    let wanted: u64 = everything.next.iter().map(|(split, next)| next - half[split]).sum();
    assert_eq!(read(&table, &[1], &half).expect("read on").rows() as u64, wanted);
}

#[test]
fn text_goes_into_uuid_and_address_columns_of_the_server() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("uuids");
    drop(sink(&features(&fresh("keyspace")), &context(0)));
    cql(&format!("CREATE TABLE {KEYSPACE}.{name} (id uuid PRIMARY KEY, host inet, n varint)"));
    let kinds = [("id", DataType::Utf8), ("host", DataType::Utf8), ("n", DataType::Decimal128(20, 0))];
    let table = table("uuids", &kinds, 1, &options(&points, &name));
    let rows = |id: &str| {
        let n = Decimal128Array::from(vec![-12345]).with_precision_and_scale(20, 0).expect("a decimal");
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec![id])), Arc::new(StringArray::from(vec!["2001:db8::1"])), Arc::new(n)];
        RecordBatch::try_new(Arc::clone(&table.schema), columns).expect("a batch")
    };
    let mut sink = sink(&table, &context(0));
    let batch = rows("6f2c1e9a-8f04-4a5d-9a53-0d6c1b1f3a77");
    sink.write(&batch).expect("written");
    sink.prepare(1).expect("acknowledged");
    assert_eq!(read(&table, &[0, 1, 2], &BTreeMap::new()).expect("read").all(), batch);
    let why = fatal(sink.write(&rows("no-uuid")));
    assert!(why.contains("'id'") && why.contains("'no-uuid'"), "{why}");
}

#[test]
fn columns_that_nobody_declared_are_those_of_the_server() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("told");
    drop(sink(&features(&fresh("keyspace")), &context(0)));
    cql(&format!("CREATE TYPE IF NOT EXISTS {KEYSPACE}.{name}_pair (n int, words frozen<list<text>>)"));
    cql(&format!(
        "CREATE TABLE {KEYSPACE}.{name} (day date, id uuid, \"Name\" text static, at timestamp, price decimal, n varint, \
         pair frozen<{name}_pair>, counts map<text, bigint>, tags set<int>, place frozen<tuple<text, double>>, raw blob, \
         clock time, PRIMARY KEY (day, id))"
    ));
    cql(&format!(
        "INSERT INTO {KEYSPACE}.{name} (day, id, \"Name\", at, price, n, pair, counts, tags, place) VALUES ('2026-01-31', \
         6f2c1e9a-8f04-4a5d-9a53-0d6c1b1f3a77, 'x', '2026-01-31T12:00:00Z', 1.25, 7, {{n: 1, words: ['w']}}, {{'k': 2}}, \
         {{3}}, ('here', 0.5))"
    ));
    let bare = table("told", &[], 0, &options(&points, &name));
    let told = connectors::columns(&bare, &context(0)).expect("it answers").expect("it tells them");
    let names: Vec<&str> = told.columns.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["day", "id", "Name", "at", "clock", "counts", "n", "pair", "place", "price", "raw", "tags"];
    assert_eq!((names.as_slice(), told.primary_key.as_slice()), (&expected[..], &[0, 1][..]));

    // What is told is read, nothing of it lost.
    let kinds: Vec<(&str, DataType)> = told.columns.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
    let declared = table("told", &kinds, 2, &options(&points, &name));
    let row = read(&declared, &(0..kinds.len()).collect::<Vec<_>>(), &BTreeMap::new()).expect("read").all();
    let shown = arrow::util::pretty::pretty_format_batches(&[row]).expect("it shows").to_string();
    for value in
        ["2026-01-31 ", "6f2c1e9a", "2026-01-31T12:00:00", "1.250000", "{n: 1, words: [w]}", "{k: 2}", "[3]", "here"]
    {
        assert!(shown.contains(value), "{value}:\n{shown}");
    }

    cql(&format!("CREATE TABLE {KEYSPACE}.{name}_c (id int PRIMARY KEY, n counter)"));
    let counting = format!("{name}_c");
    let bare = table("told", &[], 0, &options(&points, &counting));
    let why = fatal(connectors::columns(&bare, &context(0)));
    assert!(why.contains("column 'n'") && why.contains("counter") && why.contains("declare"), "{why}");
    let nowhere = format!("{name}x");
    let bare = table("told", &[], 0, &options(&points, &nowhere));
    let why = fatal(connectors::columns(&bare, &context(0)));
    assert!(why.contains("does not exist") && why.contains(&format!("did you mean '{name}'")), "{why}");
}

#[test]
fn rows_are_found_by_their_key_and_by_nothing_else() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("found");
    drop(sink(&features(&fresh("keyspace")), &context(0)));
    cql(&format!("CREATE TABLE {KEYSPACE}.{name} (id uuid, n int, city text, x double, PRIMARY KEY (id, n))"));
    cql(&format!("CREATE INDEX ON {KEYSPACE}.{name} (city)"));
    let ids = ["6f2c1e9a-8f04-4a5d-9a53-0d6c1b1f3a77", "00000000-0000-4000-8000-000000000001"];
    for (at, id) in ids.iter().enumerate() {
        for n in 0..3 {
            let city = if n == 2 { "Bern" } else { "Rome" };
            let values = format!("({id}, {n}, '{city}', {at}.5)");
            cql(&format!("INSERT INTO {KEYSPACE}.{name} (id, n, city, x) VALUES {values}"));
        }
    }
    let kinds = [("id", DataType::Utf8), ("n", DataType::Int32), ("city", DataType::Utf8), ("x", DataType::Float64)];
    let table = table("found", &kinds, 2, &options(&points, &name));
    let texts = |column: usize, texts: &[&str]| OneOf { column, values: Arc::new(StringArray::from(texts.to_vec())) };
    let whole = |column: usize, numbers: &[i32]| OneOf { column, values: Arc::new(Int32Array::from(numbers.to_vec())) };
    // Each row as the last four letters of its id and its number.
    let found = |wanted: &[OneOf]| -> Option<BTreeSet<(String, i32)>> {
        let reader = connector("cassandra").open_found(&table, &[0, 1], wanted, &context(0)).expect("opens");
        let mut reader = reader?;
        let mut rows = Vec::new();
        loop {
            match reader.poll(std::time::Duration::from_secs(1)).expect("polled") {
                Polled::Batch { batch, .. } => {
                    let (ids, n) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int32Type>());
                    rows.extend((0..batch.num_rows()).map(|row| (ids.value(row)[32..].to_string(), n.value(row))));
                }
                Polled::End => break,
                _ => {}
            }
        }
        let n_rows = rows.len();
        let rows: BTreeSet<(String, i32)> = rows.into_iter().collect();
        assert_eq!(rows.len(), n_rows, "a row came twice");
        Some(rows)
    };
    let set = |rows: &[(&str, i32)]| Some(rows.iter().map(|(id, n)| ((*id).to_string(), *n)).collect());
    assert_eq!(found(&[texts(0, &ids[..1])]), set(&[("3a77", 0), ("3a77", 1), ("3a77", 2)]));
    assert_eq!(found(&[whole(1, &[1, 7]), texts(0, &ids)]), set(&[("3a77", 1), ("0001", 1)]));
    let upper = ids[0].to_uppercase();
    assert_eq!(found(&[whole(1, &[0]), texts(0, &[ids[0], &upper, "no uuid"])]), set(&[("3a77", 0)]));
    assert_eq!(found(&[texts(0, &["no uuid"])]), set(&[]));
    assert_eq!(found(&[texts(2, &["Bern"])]), None, "an index may lag behind");
    let number = OneOf { column: 3, values: Arc::new(Float64Array::from(vec![0.5])) };
    assert_eq!((found(&[whole(1, &[1])]), found(&[number])), (None, None), "these find nothing without reading all");
}

#[test]
fn what_does_not_fit_is_refused_with_both_declarations() {
    let points = address("SMACK_CASSANDRA");
    let name = fresh("fit");
    drop(sink(&features(&name), &context(0)));
    let open = |columns: &[(&str, DataType)], n_key, name: &str, create: &str| {
        let mut options = options(&points, name);
        options.retain(|(key, _)| *key != "create_table");
        options.push(("create_table", create));
        connector("cassandra").open_sink(&table("mine", columns, n_key, &options), &context(0))
    };
    let why = fatal(open(&[("user", DataType::Utf8), ("n", DataType::Utf8), ("m", DataType::Int32)], 1, &name, "true"));
    for part in [
        "'n' is VARCHAR here and bigint there",
        "'m' is not there",
        "here: (user VARCHAR, n VARCHAR, m INT, PRIMARY KEY (user))",
        "there: (user text, n bigint, PRIMARY KEY ((user)))",
    ] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    let why = fatal(open(&[("user", DataType::Utf8), ("n", DataType::Int64)], 2, &name, "true"));
    assert!(why.contains("primary keys differ"), "{why}");
    let why = fatal(open(&[("user", DataType::Utf8)], 0, &name, "true"));
    assert!(why.contains("no primary key"), "{why}");
    let typo = name.replacen("fit", "fti", 1);
    let why = fatal(open(&[("user", DataType::Utf8)], 1, &typo, "false"));
    assert!(why.contains(&typo) && why.contains(&name), "{why}");
}

#[test]
fn nodes_are_spoken_to_in_secret_and_trusted_by_their_certificate() {
    let (points, tls) = (address("SMACK_CASSANDRA"), address("SMACK_CASSANDRA_TLS"));
    let name = fresh("secret");
    let file = |name: &str| format!("{tls}/{name}");
    let (known, stranger, missing) = (file("ca.pem"), file("stranger.pem"), file("none.pem"));
    let (certificate, key) = (file("client.pem"), file("client.key"));
    let secret = |more: &[(&str, &str)]| -> TableDef {
        let kinds = [("user", DataType::Utf8), ("n", DataType::Int64)];
        table("secret", &kinds, 1, &[&options(&points, &name)[..], more].concat())
    };
    let shown = [
        ("ssl.ca.location", known.as_str()),
        ("ssl.certificate.location", certificate.as_str()),
        ("ssl.key.location", key.as_str()),
    ];
    for options in [&shown[..1], &shown[..]] {
        let table = secret(options);
        let mut sink = sink(&table, &context(0));
        sink.write(&rows(&[("a", 1)])).expect("written");
        sink.prepare(1).expect("acknowledged");
        assert_eq!(read(&table, &[1], &BTreeMap::new()).expect("read").rows(), 1);
    }
    for (ca, part) in [(&stranger, "ssl.ca.location"), (&missing, "none.pem")] {
        let table = secret(&[("ssl.ca.location", ca.as_str())]);
        let why = fatal(connector("cassandra").open_sink(&table, &context(0)));
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn requests_are_tried_again_and_twice_as_the_table_says() {
    let points = address("SMACK_CASSANDRA");
    for policies in [
        [("retry.policy", "never"), ("speculative.after", "1ms"), ("speculative.most", "2")],
        [("retry.policy", "downgrade_consistency"), ("consistency", "one"), ("max_in_flight", "64")],
    ] {
        let name = fresh("policies");
        let kinds = [("user", DataType::Utf8), ("n", DataType::Int64)];
        let table = table("policies", &kinds, 1, &[&options(&points, &name)[..], &policies[..]].concat());
        let mut sink = sink(&table, &context(0));
        for round in 0..20 {
            let ids: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
            let pairs: Vec<(&str, i64)> = ids.iter().map(|id| (id.as_str(), round)).collect();
            sink.write(&rows(&pairs)).expect("written");
        }
        sink.prepare(1).expect("acknowledged");
        let stored = stored(&table);
        assert!(stored.len() == 200 && stored.values().all(|n| *n == 19), "{stored:?}");
    }
}

#[test]
fn a_null_in_the_primary_key_names_its_column() {
    let table = features(&fresh("nulls"));
    let users: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("user", users), ("n", numbers)]).expect("a batch");
    let why = fatal(sink(&table, &context(0)).write(&batch));
    assert!(why.contains("'user'") && why.contains("null in 1 of 2 rows"), "{why}");
}

#[test]
fn slices_that_open_together_find_one_table() {
    let table = features(&fresh("together"));
    std::thread::scope(|scope| {
        for slot in 0..4 {
            let table = &table;
            scope.spawn(move || {
                let mut sink = sink(table, &context(slot));
                sink.write(&rows(&[(&format!("slot-{slot}"), i64::from(slot))])).expect("written");
                sink.prepare(1).expect("acknowledged");
            });
        }
    });
    assert_eq!(stored(&table).len(), 4);
}

#[test]
fn a_node_that_is_not_there_is_transient_and_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let points = closed.to_string();
    let table = table("any", &[("user", DataType::Utf8)], 1, &options(&points, "any"));
    let Err(Error::Transient(why)) = connector("cassandra").open_sink(&table, &context(0)) else {
        panic!("not transient")
    };
    assert!(why.contains(&closed.to_string()), "{why}");
}

/// One statement by a session of our own.
pub fn cql(statement: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let builder = scylla::client::session_builder::SessionBuilder::new().known_node(address("SMACK_CASSANDRA"));
        let session = builder.build().await.expect("a session");
        session.query_unpaged(statement, ()).await.expect("executed");
    });
}
