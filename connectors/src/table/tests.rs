//! Against the store itself, on a real port, through crashes at every step.

use super::*;
use crate::Polled;
use crate::testing::{context, table};
use arrow::array::{AsArray, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A store behind HTTP on a thread of its own; it ends with its runtime.
struct Server {
    endpoint: String,
    _runtime: tokio::runtime::Runtime,
}

fn serve(dir: &Path) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let router = tables::router(Arc::new(tables::Store::open(dir).unwrap()));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await });
    Server { endpoint, _runtime: runtime }
}

fn definition(key: bool) -> TableDef {
    let mut table = table(&[("id", DataType::Int64), ("name", DataType::Utf8)], &[]);
    table.primary_key = if key { vec![0] } else { Vec::new() };
    table
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: StringArray = ids.clone().map(|id| Some(format!("n{id}"))).collect();
    RecordBatch::try_new(definition(false).schema, vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)])
        .unwrap()
}

fn read(table: &TableDef, projection: &[usize], from: Option<u64>, context: &Context) -> Vec<RecordBatch> {
    let start = SplitStart { split: "0".to_owned(), from };
    let mut reader = CONNECTOR.open_source(table, projection, &[start], context).unwrap();
    let (mut batches, mut ended) = (Vec::new(), 0);
    loop {
        match reader.poll(Duration::from_secs(1)).unwrap() {
            Polled::Batch { batch, .. } => batches.push(batch),
            Polled::SplitEnd { .. } => ended += 1,
            Polled::Idle => {}
            Polled::End => {
                assert_eq!(ended, 1);
                return batches;
            }
        }
    }
}

fn ids(table: &TableDef, context: &Context) -> Vec<i64> {
    let batches = read(table, &[0], None, context);
    let mut ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn every_row_is_there_once_wherever_the_crash_falls() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    for crash in 0..5 {
        let mut table = definition(false);
        table.name = format!("crash {crash}/ä");
        let mut context = context(dir.path());
        context.tables_endpoint = Some(server.endpoint.clone());
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        sink.write(&rows(0..3)).unwrap();
        let first = sink.prepare(1).unwrap();
        sink.write(&rows(3..5)).unwrap();
        if crash >= 1 {
            sink.commit(1).unwrap();
        }
        if crash >= 2 {
            sink.prepare(2).unwrap();
            sink.write(&rows(5..9)).unwrap();
        }
        let (epoch, state) = if crash >= 3 { (3, sink.prepare(3).unwrap()) } else { (1, first) };
        if crash >= 4 {
            sink.commit(3).unwrap();
        }
        drop(sink);
        let empty =
            CONNECTOR.open_sink(&table, &Context { slot: 1, ..context.clone() }).unwrap().prepare(epoch).unwrap();
        (context.generation, context.claimed_us, context.begun_us, context.slot) = (2, 2, 2, 1);
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        sink.restore(epoch, vec![empty, state]).unwrap();
        sink.write(&rows(if epoch == 3 { 9..12 } else { 3..12 })).unwrap();
        sink.prepare(epoch + 1).unwrap();
        sink.commit(epoch + 1).unwrap();
        sink.commit(epoch + 1).unwrap();
        assert_eq!(ids(&table, &context), (0..12).collect::<Vec<_>>(), "crash {crash}");
        // A life that starts from nothing counts from 1 again, and its rows are not taken for repetitions.
        (context.claimed_us, context.begun_us) = (3, 3);
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        sink.write(&rows(12..13)).unwrap();
        sink.prepare(1).unwrap();
        sink.commit(1).unwrap();
        assert_eq!(ids(&table, &context).len(), 13);
    }
}

/// It finishes what its predecessor had prepared, and shuts nobody out who began before it.
#[test]
fn a_later_life_of_one_slot_takes_its_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let table = definition(false);
    let of = |slot, begun_us| Context {
        slot,
        begun_us,
        tables_endpoint: Some(server.endpoint.clone()),
        ..context(dir.path())
    };
    let mut other = CONNECTOR.open_sink(&table, &of(0, 1)).unwrap();
    let mut first = CONNECTOR.open_sink(&table, &of(1, 1)).unwrap();
    other.write(&rows(0..2)).unwrap();
    first.write(&rows(10..12)).unwrap();
    other.prepare(1).unwrap();
    let state = first.prepare(1).unwrap();
    other.commit(1).unwrap();
    // Its process dies before it commits, in the middle of epoch 2, which is never published.
    first.write(&rows(12..14)).unwrap();
    first.prepare(2).unwrap();
    drop(first);
    other.write(&rows(2..4)).unwrap();
    other.prepare(2).unwrap();
    let mut second = CONNECTOR.open_sink(&table, &of(1, 7)).unwrap();
    second.restore(1, vec![state]).unwrap();
    second.write(&rows(12..15)).unwrap();
    for sink in [&mut second, &mut other] {
        sink.prepare(3).unwrap();
        sink.commit(3).unwrap();
    }
    let mut found = ids(&table, &of(0, 1));
    found.sort_unstable();
    assert_eq!(found, (0..4).chain(10..15).collect::<Vec<_>>());
}

#[test]
fn keys_replace_rows_and_large_epochs_go_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let table = definition(true);
    let context = Context { tables_endpoint: Some(server.endpoint.clone()), ..context(dir.path()) };
    let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
    let long: StringArray = (0..40).map(|id| Some(format!("{id}").repeat(1 << 19))).collect();
    let large =
        RecordBatch::try_new(table.schema.clone(), vec![Arc::new(Int64Array::from_iter_values(0..40)), Arc::new(long)]);
    sink.write(&large.unwrap()).unwrap();
    sink.write(&rows(0..10)).unwrap();
    sink.prepare(1).unwrap();
    sink.commit(1).unwrap();
    let batches = read(&table, &[1, 0], Some(5), &context);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 35);
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0), "n5");
    assert_eq!(read(&table, &[], None, &context).iter().map(RecordBatch::num_rows).sum::<usize>(), 40);
}

/// The name of each id in the table.
fn names(table: &TableDef, context: &Context) -> Vec<(i64, String)> {
    let row = |batch: &RecordBatch, row: usize| {
        (
            batch.column(0).as_primitive::<Int64Type>().value(row),
            batch.column(1).as_string::<i32>().value(row).to_owned(),
        )
    };
    let batches = read(table, &[0, 1], None, context);
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>()).collect()
}

/// `Some(name)` is there now, `None` is there no longer.
fn change(sink: &mut Box<dyn Sink>, rows: &[(i64, Option<&str>)]) {
    let ids = Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id));
    let names: StringArray = rows.iter().map(|(_, name)| Some(name.unwrap_or("gone"))).collect();
    let batch = RecordBatch::try_new(definition(true).schema, vec![Arc::new(ids), Arc::new(names)]).unwrap();
    let weights = Int8Array::from_iter_values(rows.iter().map(|(_, name)| if name.is_some() { 1 } else { -1 }));
    sink.change(&batch, &weights).unwrap();
}

#[test]
fn removals_take_effect_in_order_and_once_wherever_the_crash_falls() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    for crash in 0..3 {
        let table = TableDef { name: format!("changes {crash}"), ..definition(true) };
        let mut context = Context { tables_endpoint: Some(server.endpoint.clone()), ..context(dir.path()) };
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        // Rows that were appended before and changes share an epoch, and their order holds across that border.
        sink.write(&rows(0..4)).unwrap();
        change(&mut sink, &[(0, None), (1, Some("a")), (9, None), (5, Some("a"))]);
        change(&mut sink, &[(0, Some("b")), (1, None), (5, None)]);
        sink.prepare(1).unwrap();
        change(&mut sink, &[(0, None), (2, None)]);
        change(&mut sink, &[(2, Some("c"))]);
        let state = sink.prepare(2).unwrap();
        // The crash finds nothing committed, the first epoch, or both.
        if crash >= 1 {
            sink.commit(1).unwrap();
            let wanted: &[(i64, &str)] = &[(0, "b"), (2, "n2"), (3, "n3")];
            assert_eq!(
                names(&table, &context),
                wanted.iter().map(|(id, n)| (*id, (*n).to_owned())).collect::<Vec<_>>()
            );
        }
        if crash >= 2 {
            sink.commit(2).unwrap();
        }
        drop(sink);
        (context.generation, context.claimed_us, context.begun_us, context.slot) = (2, 2, 2, 3);
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        sink.restore(2, vec![state.clone()]).unwrap();
        sink.restore(2, vec![state]).unwrap();
        let wanted: &[(i64, &str)] = &[(2, "c"), (3, "n3")];
        let wanted: Vec<(i64, String)> = wanted.iter().map(|(id, n)| (*id, (*n).to_owned())).collect();
        assert_eq!(names(&table, &context), wanted, "crash {crash}");
        change(&mut sink, &[(3, None), (0, Some("d"))]);
        sink.prepare(3).unwrap();
        sink.commit(3).unwrap();
        sink.commit(3).unwrap();
        assert_eq!(ids(&table, &context), [0, 2], "crash {crash}");
    }
}

#[test]
fn a_checkpoint_of_the_version_before_changes_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let table = definition(true);
    let context = Context { tables_endpoint: Some(server.endpoint.clone()), ..context(dir.path()) };
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &table.schema).unwrap();
    writer.write(&rows(0..3)).unwrap();
    let body = writer.into_inner().unwrap();
    let head = format!("{{\"writer\":\"0@0\",\"parts\":[[7,0,{}]]}}", body.len());
    let mut state = b"smktbl01".to_vec();
    state.extend_from_slice(&(head.len() as u32).to_be_bytes());
    state.extend_from_slice(head.as_bytes());
    state.extend_from_slice(&body);
    let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
    sink.restore(7, vec![state]).unwrap();
    change(&mut sink, &[(1, None)]);
    sink.prepare(8).unwrap();
    sink.commit(8).unwrap();
    assert_eq!(ids(&table, &context), [0, 2]);
}

#[test]
fn a_table_without_a_key_takes_no_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let table = definition(false);
    let context = Context { tables_endpoint: Some(server.endpoint.clone()), ..context(dir.path()) };
    let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
    let refused = sink.change(&rows(0..1), &Int8Array::from(vec![-1])).unwrap_err();
    assert!(matches!(&refused, Error::Fatal(why) if why.contains("PRIMARY KEY")), "{refused}");
    assert_eq!((CONNECTOR.takes(&table), CONNECTOR.takes(&definition(true))), (Takes::Append, Takes::Upsert));
}

#[test]
fn refusals_are_fatal_and_silence_is_transient() {
    let dir = tempfile::tempdir().unwrap();
    let mut context = context(dir.path());
    let table = definition(true);
    let without = CONNECTOR.open_sink(&table, &context).map(|_| ()).unwrap_err();
    assert!(matches!(&without, Error::Fatal(why) if why.contains("no table store")), "{without}");
    // A port that was free a moment ago.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    context.tables_endpoint = Some(format!("http://{gone}"));
    let silent = CONNECTOR.open_sink(&table, &context).map(|_| ()).unwrap_err();
    assert!(matches!(&silent, Error::Transient(why) if why.contains(&gone.to_string())), "{silent}");
    let server = serve(dir.path());
    context.tables_endpoint = Some(server.endpoint.clone());
    (context.claimed_us, context.begun_us) = (9, 9);
    let mut newer = CONNECTOR.open_sink(&table, &context).unwrap();
    let other = CONNECTOR.open_sink(&definition(false), &context).map(|_| ()).unwrap_err();
    assert!(matches!(&other, Error::Fatal(why) if why.contains("keyed by (id)")), "{other}");
    newer.write(&rows(0..1)).unwrap();
    newer.prepare(1).unwrap();
    newer.commit(1).unwrap();
    (context.claimed_us, context.begun_us) = (8, 8);
    let mut stale = CONNECTOR.open_sink(&table, &context).unwrap();
    stale.write(&rows(0..1)).unwrap();
    stale.prepare(1).unwrap();
    let refused = stale.commit(1).unwrap_err();
    assert!(matches!(&refused, Error::Fatal(why) if why.contains("stale")), "{refused}");
    assert!(stale.restore(1, vec![b"junk".to_vec()]).is_err());
}

#[test]
fn types_that_cannot_be_kept_are_told_at_the_desk() {
    let wrong = CONNECTOR.check(&table(&[("a", DataType::Int64), ("b", DataType::Null)], &[("name", "")]));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert_eq!(CONNECTOR.check(&definition(true)), vec![]);
}

#[test]
fn rows_are_found_by_the_key_or_its_first_columns() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let mut table = table(&[("n", DataType::Int64), ("name", DataType::Utf8), ("id", DataType::Int64)], &[]);
    table.primary_key = vec![1, 2];
    let context = Context { tables_endpoint: Some(server.endpoint.clone()), ..context(dir.path()) };
    // Nobody has written it yet.
    let mut whole = CONNECTOR.open_lookup(&table, &[1, 2], &[0], &context).unwrap();
    let ids = |ids: std::ops::Range<i64>| Arc::new(Int64Array::from_iter_values(ids)) as arrow::array::ArrayRef;
    let names = |of: &dyn Fn(i64) -> String, ids: std::ops::Range<i64>| {
        Arc::new(StringArray::from_iter_values(ids.map(of))) as arrow::array::ArrayRef
    };
    let name = |id: i64| format!("n{}", id % 10);
    // More keys than one request takes, and names of the query's own.
    let keys = RecordBatch::try_from_iter([("a", names(&name, 0..10_000)), ("b", ids(0..10_000))]).unwrap();
    assert_eq!(whole.get(&keys).unwrap().rows.num_rows(), 0);
    let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
    let rows = [ids(0..30_000), names(&name, 0..30_000), ids(0..30_000)];
    sink.write(&RecordBatch::try_new(table.schema.clone(), rows.to_vec()).unwrap()).unwrap();
    sink.prepare(1).unwrap();
    sink.commit(1).unwrap();
    let found = whole.get(&keys).unwrap();
    let numbers = found.rows.column(0).as_primitive::<Int64Type>();
    assert_eq!(found.keys, (0..10_000).collect::<Vec<u32>>());
    assert_eq!(numbers.values().to_vec(), (0..10_000).collect::<Vec<i64>>());

    let mut by_name = CONNECTOR.open_lookup(&table, &[1], &[2, 1], &context).unwrap();
    let keys = RecordBatch::try_from_iter([("a", names(&|id| format!("n{id}"), 9..11))]).unwrap();
    let found = by_name.get(&keys).unwrap();
    assert_eq!((found.keys, found.rows.num_rows()), (vec![0; 3000], 3000));
    assert_eq!(found.rows.schema().field(1).name(), "name");

    // A declaration may have fewer columns than the store, but not another key.
    let mut fewer = crate::testing::table(&[("name", DataType::Utf8), ("n", DataType::Int64)], &[]);
    fewer.primary_key = vec![0];
    assert!(CONNECTOR.open_lookup(&fewer, &[0], &[1], &context).is_ok());
    let Err(Error::Fatal(why)) = CONNECTOR.open_lookup(&fewer, &[1], &[1], &context).map(drop) else {
        panic!("no refusal")
    };
    assert!(why.contains("primary key (name, id)"), "{why}");

    let why = CONNECTOR.lookup_keys(&table, &[2]).unwrap_err().to_string();
    assert!(why.contains("(name, id)") && why.contains("ON … = name"), "{why}");
    assert_eq!(CONNECTOR.lookup_keys(&table, &[0, 1]), Ok(vec![1]));
}
