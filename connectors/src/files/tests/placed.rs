//! Files in directories by their columns, rolled by size, on a store, and all of these killed at any moment.

use super::*;
use futures::TryStreamExt;
use object_store::ObjectStore;
use objects::Bucket;
use std::collections::BTreeSet;

/// Tables of three columns, `id`, `name` and `part`, of which the last stands in the path.
fn partitioned(path: &str, options: &[(&str, &str)]) -> TableDef {
    let columns = [("id", DataType::Int64), ("name", DataType::Utf8), ("part", DataType::Utf8)];
    table(&columns, &[&[("path", path), ("partitioned_by", "part")], options].concat())
}

fn partitioned_rows(table: &TableDef, ids: std::ops::Range<i64>) -> RecordBatch {
    let parts: StringArray = ids.clone().map(|id| (id % 5 > 0).then(|| format!("p/{}", id % 3))).collect();
    let plain = rows(ids);
    let columns = [plain.columns(), &[Arc::new(parts)]].concat();
    RecordBatch::try_new(table.schema.clone(), columns).unwrap()
}

/// By id: the part that it came with.
fn read_parts(table: &TableDef, base: &Path) -> Vec<(i64, Option<String>)> {
    let mut reader = CONNECTOR.open_source(table, &[2, 0], &starts(table, base), &context(base)).unwrap();
    let mut found = Vec::new();
    loop {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Batch { batch, .. } => {
                let parts = batch.column(0).as_string::<i32>().iter().map(|part| part.map(str::to_owned));
                found.extend(batch.column(1).as_primitive::<Int64Type>().values().iter().copied().zip(parts));
            }
            Polled::End => break,
            Polled::SplitEnd { .. } | Polled::Idle => {}
        }
    }
    found.sort_unstable();
    found
}

fn expected(ids: std::ops::Range<i64>) -> Vec<(i64, Option<String>)> {
    ids.map(|id| (id, (id % 5 > 0).then(|| format!("p/{}", id % 3)))).collect()
}

#[test]
fn every_epoch_appears_once_in_its_directories_wherever_the_crash_falls() {
    for (place, format) in [("out", "parquet"), ("out", "csv"), ("s3://crash", "parquet"), ("s3://crash", "json")] {
        for crash in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let mut path = place.to_owned();
            if place != "out" {
                path = format!("{place}-{format}-{crash}/deep/out");
                Bucket::in_memory(objects::split(&path).unwrap().0).unwrap();
            }
            let table = partitioned(&path, &[("format", format), ("rolling.size", "1k")]);
            assert_eq!(CONNECTOR.check(&table), vec![]);
            let rows = |ids| partitioned_rows(&table, ids);
            let mut context = context(dir.path());
            let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
            sink.write(&rows(0..30)).unwrap();
            let first = sink.prepare(1).unwrap();
            sink.write(&rows(30..50)).unwrap();
            if crash >= 1 {
                sink.commit(1).unwrap();
            }
            if crash >= 2 {
                // Epoch 2 is prepared, but its manifest never comes; epoch 3 holds it too.
                sink.prepare(2).unwrap();
                sink.write(&rows(50..90)).unwrap();
            }
            let (epoch, state) = if crash >= 3 { (3, sink.prepare(3).unwrap()) } else { (1, first) };
            sink.write(&rows(200..210)).unwrap();
            if crash >= 4 {
                sink.commit(3).unwrap();
            }
            drop(sink);
            (context.generation, context.claimed_us, context.begun_us) = (2, 2, 2);
            (context.slot, context.n_slots) = (1, 2);
            let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
            sink.restore(epoch, vec![state.clone()]).unwrap();
            // A task that dies now leads to the same once more.
            sink.restore(epoch, vec![state]).unwrap();
            let replayed = if epoch == 3 { 90..120 } else { 30..120 };
            sink.write(&rows(replayed)).unwrap();
            sink.prepare(epoch + 1).unwrap();
            sink.commit(epoch + 1).unwrap();
            sink.commit(epoch + 1).unwrap();
            assert_eq!(read_parts(&table, dir.path()), expected(0..120), "{path} {format} crash {crash}");
            assert_eq!(hidden(&path, dir.path()), BTreeSet::new(), "{path} {format} crash {crash}");
        }
    }
}

/// Unfinished files, or what tells of unfinished uploads.
fn hidden(path: &str, base: &Path) -> BTreeSet<String> {
    let Some((bucket, _)) = objects::split(path) else {
        let names = std::fs::read_dir(base.join(path)).unwrap().map(|entry| entry.unwrap().file_name());
        return names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with('.')).collect();
    };
    let bucket = Bucket::open(bucket).unwrap();
    let all: Vec<_> = bucket.block_on(bucket.store.list(None).try_collect()).unwrap();
    let names = all.into_iter().map(|about: object_store::ObjectMeta| about.location.to_string());
    names.filter(|name| name.contains("/.")).collect()
}

#[test]
fn uploads_that_no_checkpoint_knows_are_given_up_and_those_of_others_left() {
    let dir = tempfile::tempdir().unwrap();
    Bucket::in_memory("orphans").unwrap();
    let table = table(&columns(), &[("path", "s3://orphans/out"), ("format", "parquet")]);
    let mut context = context(dir.path());
    for (job, begun_us) in [("group/job", 10), ("group/other", 10), ("group/job", 20)] {
        (context.job, context.begun_us) = (job.to_owned(), begun_us);
        let mut sink = CONNECTOR.open_sink(&table, &context).unwrap();
        sink.write(&rows(0..10)).unwrap();
    }
    let left = hidden("s3://orphans/out", dir.path());
    let own: Vec<&str> = left.iter().map(|name| name.rsplit('/').next().unwrap()).collect();
    assert_eq!(own, [".part-group_job-0-20-0", ".part-group_other-0-10-0"]);
}

#[test]
fn an_upload_that_the_store_has_given_up_is_told_and_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::in_memory("lost").unwrap();
    let table = table(&columns(), &[("path", "s3://lost/out"), ("format", "arrow")]);
    let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
    sink.write(&rows(0..10)).unwrap();
    let state = sink.prepare(1).unwrap();
    let held: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let upload = &held["parts"][0]["upload"];
    let (key, id) = (upload["key"].as_str().unwrap(), upload["id"].as_str().unwrap().to_owned());
    let key = object_store::path::Path::from(key);
    bucket.block_on(bucket.store.abort_multipart(&key, &id)).unwrap();
    let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
    let why = sink.restore(1, vec![state]).unwrap_err().to_string();
    assert!(why.contains("s3://lost/out/part-") && why.contains("cannot be committed"), "{why}");
}

#[test]
fn files_are_ended_by_size_and_by_age() {
    for (option, value, least) in [("rolling.size", "2k", 3), ("rolling.interval", "1ms", 3)] {
        let dir = tempfile::tempdir().unwrap();
        let table = table(&columns(), &[("path", "out"), (option, value)]);
        assert_eq!(CONNECTOR.check(&table), vec![]);
        let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
        for at in 0..5 {
            sink.write(&rows(at * 40..at * 40 + 40)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(visible(&dir.path().join("out")), Vec::<String>::new());
        sink.prepare(1).unwrap();
        sink.commit(1).unwrap();
        let names = visible(&dir.path().join("out"));
        assert!(names.len() >= least && names.len() <= 5, "{option} {names:?}");
        assert_eq!(read(&table, &starts(&table, dir.path()), dir.path()).0.len(), 200);
    }
}

#[test]
fn many_directories_keep_few_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let columns = [("id", DataType::Int64), ("name", DataType::Utf8)];
    let table = table(&columns, &[("path", "out"), ("partitioned_by", "id"), ("format", "raw")]);
    assert_eq!(CONNECTOR.check(&table), vec![]);
    let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
    sink.write(&rows(0..200)).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let ours = open.filter(|path| path.starts_with(dir.path())).count();
    assert!(ours <= 64, "{ours}");
    sink.prepare(1).unwrap();
    sink.commit(1).unwrap();
    assert_eq!(visible(&dir.path().join("out")).len(), 200);
}

#[test]
fn options_that_cannot_be_are_refused() {
    for (options, why) in [
        (vec![("path", "gs://b/x")], "there is no store 'gs://'"),
        (vec![("path", "s3:///x")], "names no bucket"),
        (vec![("path", "x"), ("format", "orc")], "must be one of json, csv, raw, parquet, avro, arrow"),
        (vec![("path", "x"), ("compression", "rar")], "must be one of none, gzip"),
        (vec![("path", "x.arrow"), ("compression", "zstd")], "Arrow files are written without compression"),
        (vec![("path", "x"), ("rolling.size", "much")], "is no size"),
        (vec![("path", "x"), ("rolling.interval", "5")], "is not a duration"),
        (vec![("path", "x"), ("partitioned_by", "none")], "unknown column 'none'"),
        (vec![("path", "x"), ("partitioned_by", "id"), ("changelog", "debezium")], "hold all of their columns"),
        (vec![("path", "x.parquet"), ("changelog", "debezium")], "written as JSON"),
    ] {
        let wrong = CONNECTOR.check(&table(&columns(), &options));
        assert!(wrong.iter().any(|wrong| wrong.message.contains(why)), "{options:?}: {wrong:?}");
    }
}
