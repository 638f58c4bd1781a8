//! Brokers that go and come back: one of three is killed, then all are, and start again.

use crate::kafka_secure::Brokers;
use crate::support::{PATIENCE, connector, context, fresh, read, table};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use connectors::{Error, Polled, Sink, SourceReader, SplitStart, TableDef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS: i64 = 20_000;

fn declared(brokers: &str, topic: &str, options: &[(&str, &str)]) -> TableDef {
    let base = [
        ("connector", "kafka"),
        ("topic", topic),
        ("bootstrap.servers", brokers),
        ("create_topic", "true"),
        ("partitions", "4"),
    ];
    table("rows", &[("n", DataType::Int64)], 1, &base.iter().chain(options).copied().collect::<Vec<_>>())
}

fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
    let column: Arc<dyn Array> = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).expect("a batch")
}

/// What the runtime does with a transient error.
fn until_done<T>(mut work: impl FnMut() -> connectors::Result<T>) -> T {
    let until = Instant::now() + 2 * PATIENCE;
    loop {
        match work() {
            Ok(done) => return done,
            Err(Error::Transient(why)) => assert!(Instant::now() < until, "{why}"),
            Err(Error::Fatal(why)) => panic!("{why}"),
        }
    }
}

fn write(sink: &mut dyn Sink, epoch: u64, rows: std::ops::Range<i64>) {
    for from in rows.clone().step_by(1000) {
        until_done(|| sink.write(&batch(from..rows.end.min(from + 1000))));
    }
    until_done(|| sink.prepare(epoch));
    until_done(|| sink.commit(epoch));
}

fn numbers(table: &TableDef) -> Vec<i64> {
    let all = until_done(|| read(table, &[0], &BTreeMap::new())).all();
    let mut numbers = all.column(0).as_primitive::<Int64Type>().values().to_vec();
    numbers.sort_unstable();
    numbers
}

fn reader(table: &TableDef) -> Box<dyn SourceReader> {
    let splits = until_done(|| connector("kafka").splits(table, &context(0)));
    let starts: Vec<SplitStart> = splits.into_iter().map(|split| SplitStart { split, from: None }).collect();
    until_done(|| connector("kafka").open_source(table, &[0], &starts, &context(0)))
}

/// Takes each row once until all are there.
fn take(reader: &mut dyn SourceReader, seen: &mut BTreeSet<i64>, wanted: i64) {
    let until = Instant::now() + 2 * PATIENCE;
    while (seen.len() as i64) < wanted {
        if let Polled::Batch { batch, .. } = until_done(|| reader.poll(Duration::from_millis(100))) {
            for n in batch.column(0).as_primitive::<Int64Type>().values() {
                assert!(seen.insert(*n), "{n} came twice");
            }
        }
        assert!(Instant::now() < until, "{} of {wanted} came", seen.len());
    }
}

#[test]
fn brokers_are_killed_and_come_back_and_no_row_is_missed_or_doubled() {
    let brokers = &Brokers::start("three");
    let address = brokers.told["BROKERS"].as_str();
    let topics = [fresh("once"), fresh("least")];
    let (once, least) = (
        declared(address, &topics[0], &[("scan.bounded", "latest")]),
        declared(address, &topics[1], &[("scan.bounded", "latest"), ("delivery", "at_least_once")]),
    );
    let mut sinks: Vec<Box<dyn Sink>> =
        [&once, &least].iter().map(|table| until_done(|| connector("kafka").open_sink(table, &context(0)))).collect();
    let mut reading = reader(&declared(address, &topics[0], &[]));
    let mut seen = BTreeSet::new();
    for sink in &mut sinks {
        write(sink.as_mut(), 1, 0..ROWS);
    }
    take(reading.as_mut(), &mut seen, ROWS);
    // In the middle of writing, the broker that was the first to be asked.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            brokers.signal(1, "-9");
        });
        for sink in &mut sinks {
            write(sink.as_mut(), 2, ROWS..2 * ROWS);
        }
    });
    take(reading.as_mut(), &mut seen, 2 * ROWS);

    // All of them, and back again.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            (2..=3).for_each(|broker| brokers.signal(broker, "-9"));
            std::thread::scope(|scope| {
                (1..=3).for_each(|broker| drop(scope.spawn(move || brokers.again(broker))));
            });
        });
        for sink in &mut sinks {
            write(sink.as_mut(), 3, 2 * ROWS..3 * ROWS);
        }
    });
    take(reading.as_mut(), &mut seen, 3 * ROWS);
    let all: Vec<i64> = (0..3 * ROWS).collect();
    assert_eq!(numbers(&once), all);
    assert_eq!(numbers(&least), all, "an idempotent producer that lives doubles nothing");
}
