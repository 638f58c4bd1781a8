//! Reading to the end with bad records and restarts; writing through crashes.

use super::*;
use crate::testing::{context, table};
use crate::{BadRecord, Polled};
use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod avro;
mod columnar;
mod placed;
mod told;

fn columns() -> Vec<(&'static str, DataType)> {
    vec![("id", DataType::Int64), ("name", DataType::Utf8)]
}

fn read(table: &TableDef, starts: &[SplitStart], base: &Path) -> (Vec<Option<i64>>, Vec<BadRecord>, u64) {
    let mut reader = CONNECTOR.open_source(table, &[0], starts, &context(base)).unwrap();
    let (mut ids, mut all_bad, mut last) = (Vec::new(), Vec::new(), 0);
    loop {
        match reader.poll(Duration::from_secs(1)).unwrap() {
            Polled::Batch { batch, bad, next, .. } => {
                ids.extend(batch.column(0).as_primitive::<Int64Type>().iter());
                all_bad.extend(bad);
                last = next;
            }
            Polled::SplitEnd { .. } => {}
            Polled::Idle => panic!("files never idle"),
            Polled::End => return (ids, all_bad, last),
        }
    }
}

fn starts(table: &TableDef, base: &Path) -> Vec<SplitStart> {
    let splits = CONNECTOR.splits(table, &context(base)).unwrap();
    splits.into_iter().map(|split| SplitStart { split, from: None }).collect()
}

#[test]
fn json_files_are_read_in_order_also_packed_and_from_a_position() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "\u{feff}{\"id\":1}\n\n{\"id\":2}\nbroken\n{\"id\":3}";
    std::fs::write(dir.path().join("a.json"), lines).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"id\":4}\r\n{\"id\":5,\"name\":\"x\"}\r\n").unwrap();
    std::fs::write(dir.path().join("b.json.gz"), packed.finish().unwrap()).unwrap();
    let table = table(&columns(), &[("connector", "files"), ("path", ".")]);
    let starts = starts(&table, dir.path());
    let (ids, bad, _) = read(&table, &starts, dir.path());
    assert_eq!(ids, [1, 2, 3, 4, 5].map(Some));
    assert_eq!((bad[0].split.as_str(), bad[0].position, bad[0].bytes.as_slice()), ("./a.json", 3, &b"broken"[..]));
    let from = SplitStart { from: Some(3), ..starts[0].clone() };
    let (ids, bad, next) = read(&table, &[from], dir.path());
    assert_eq!((ids, bad.len(), next), (vec![Some(3)], 1, 5));
    let beyond = SplitStart { from: Some(6), ..starts[0].clone() };
    let mut reader = CONNECTOR.open_source(&table, &[0], &[beyond], &context(dir.path())).unwrap();
    assert!(reader.poll(Duration::ZERO).unwrap_err().to_string().contains("has 5 records"));
}

#[test]
fn csv_files_bind_by_their_header() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "name;id\n\"x;\n\";7\n;8\nonly one\n").unwrap();
    std::fs::write(dir.path().join("empty.csv"), "").unwrap();
    let options = [("connector", "files"), ("path", "*.csv"), ("format", "csv"), ("csv.delimiter", ";")];
    let table = table(&columns(), &options);
    let (ids, bad, next) = read(&table, &starts(&table, dir.path()), dir.path());
    assert_eq!((ids, bad.len(), next), (vec![Some(7), Some(8)], 1, 3));
    std::fs::write(dir.path().join("b.csv"), "nmae;number\n").unwrap();
    let starts = [SplitStart { split: "b.csv".to_owned(), from: None }];
    let mut reader = CONNECTOR.open_source(&table, &[0], &starts, &context(dir.path())).unwrap();
    let why = reader.poll(Duration::ZERO).unwrap_err().to_string();
    assert!(why.contains("b.csv") && why.contains("'id'"), "{why}");
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: StringArray = ids.clone().map(|id| Some(format!("n,{id}\n"))).collect();
    let schema = table(&columns(), &[]).schema;
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)]).unwrap()
}

fn visible(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn hidden_count(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count() - visible(directory).len()
}

#[test]
fn every_epoch_appears_once_wherever_the_crash_falls() {
    for format in ["json", "csv", "avro"] {
        for crash in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            let table = table(&columns(), &[("connector", "files"), ("path", "out"), ("format", format)]);
            let mut context = context(dir.path());
            let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
            sink.write(&rows(0..3)).unwrap();
            let first = sink.prepare(1).unwrap();
            sink.write(&rows(3..5)).unwrap();
            if crash >= 1 {
                sink.commit(1).unwrap();
            }
            if crash >= 2 {
                // Epoch 2 is prepared, but its manifest never comes; epoch 3 holds it too.
                sink.prepare(2).unwrap();
                sink.write(&rows(5..9)).unwrap();
            }
            let (epoch, state) = if crash >= 3 { (3, sink.prepare(3).unwrap()) } else { (1, first) };
            if crash >= 4 {
                sink.commit(3).unwrap();
            }
            drop(sink);
            // The next life has one slot more and another owner for the state.
            (context.generation, context.claimed_us, context.begun_us) = (2, 2, 2);
            (context.slot, context.n_slots) = (1, 2);
            let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
            sink.restore(epoch, vec![state]).unwrap();
            assert_eq!(hidden_count(&out), 0, "crash {crash}");
            let replayed = if epoch == 3 { 9..12 } else { 3..12 };
            sink.write(&rows(replayed)).unwrap();
            sink.prepare(epoch + 1).unwrap();
            sink.commit(epoch + 1).unwrap();
            sink.commit(epoch + 1).unwrap();
            let (mut ids, bad, _) = read(&table, &starts(&table, dir.path()), dir.path());
            ids.sort_unstable();
            assert_eq!(ids, (0..12).map(Some).collect::<Vec<_>>(), "crash {crash}");
            assert_eq!(bad, vec![]);
        }
    }
}

#[test]
fn another_run_adds_files_and_overwrites_none() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&columns(), &[("connector", "files"), ("path", "out")]);
    for claimed_us in [10, 20] {
        let mut context = context(dir.path());
        (context.claimed_us, context.begun_us) = (claimed_us, claimed_us);
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        sink.write(&rows(0..2)).unwrap();
        sink.prepare(1).unwrap();
        sink.commit(1).unwrap();
        // What is never prepared is cleared away by the next run.
        sink.write(&rows(2..4)).unwrap();
    }
    let out = dir.path().join("out");
    assert_eq!(visible(&out), ["part-group_job-0-1-20-0.json", "part-group_job-0-1.json"]);
    assert_eq!(hidden_count(&out), 1);
    assert_eq!(read(&table, &starts(&table, dir.path()), dir.path()).0.len(), 4);
}

/// The other slot goes on meanwhile, and what it has prepared stays.
#[test]
fn a_later_life_of_one_slot_takes_its_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&columns(), &[("connector", "files"), ("path", "out")]);
    let context = |slot, begun_us| Context { slot, n_slots: 2, begun_us, ..context(dir.path()) };
    let mut other = CONNECTOR.open_sink(&table, &context(0, 1)).unwrap();
    let mut first = CONNECTOR.open_sink(&table, &context(1, 1)).unwrap();
    other.write(&rows(0..2)).unwrap();
    first.write(&rows(10..12)).unwrap();
    let states = [other.prepare(1).unwrap(), first.prepare(1).unwrap()];
    // Epoch 1 is published; then the slot's process dies in the middle of epoch 2, which never is.
    other.commit(1).unwrap();
    other.write(&rows(2..4)).unwrap();
    first.write(&rows(12..14)).unwrap();
    other.prepare(2).unwrap();
    first.prepare(2).unwrap();
    drop(first);
    let mut second = CONNECTOR.open_sink(&table, &context(1, 7)).unwrap();
    second.restore(1, vec![states[1].clone()]).unwrap();
    second.write(&rows(12..15)).unwrap();
    for sink in [&mut other, &mut second] {
        sink.prepare(3).unwrap();
        sink.commit(3).unwrap();
    }
    let (mut ids, bad, _) = read(&table, &starts(&table, dir.path()), dir.path());
    ids.sort_unstable();
    assert_eq!(ids, (0..4).chain(10..15).map(Some).collect::<Vec<_>>());
    assert_eq!((bad, hidden_count(&dir.path().join("out"))), (vec![], 0));
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pattern = table(&columns(), &[("path", "out/*.json")]);
    assert!(CONNECTOR.open_sink(&pattern, &context(dir.path())).is_err());
    std::fs::write(dir.path().join("file"), "").unwrap();
    let file = table(&columns(), &[("path", "file")]);
    let why = CONNECTOR.open_sink(&file, &context(dir.path())).map(|_| ()).unwrap_err().to_string();
    assert!(why.contains("file"), "{why}");
    assert!(!CONNECTOR.check(&table(&columns(), &[("path", "")])).is_empty());
}
