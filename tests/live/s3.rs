//! Checkpoints and files on a real store that speaks S3.
//!
//! Run with `tests/live/run`, which starts a server for the time of the run; or give the address of a running one as
//! SMACK_S3, and the environment that programs for S3 go by (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
//! AWS_SECRET_ACCESS_KEY), with a bucket `smack`.

use connectors::{Context, Sink, TableDef};
use futures::TryStreamExt;
use object_store::ObjectStore;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use streaming::control::Manifest;
use streaming::coordinator::manifest::{self, Error};
use streaming::coordinator::{garbage, savepoints};
use streaming::functions::Functions;
use streaming::runtime::local::{LocalConfig, LocalRun, run};
use streaming::runtime::{Folder, Outcome};
use streaming::sql::{StatementBody, parse, plan};
use tokio::runtime::Runtime;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn location(name: &str) -> String {
    assert!(std::env::var_os("SMACK_S3").is_some(), "SMACK_S3 is not set; run tests/live/run, which starts a server");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    format!("s3://smack/{name}-{}", now.as_nanos())
}

fn manifest_of(epoch: u64, claimed_us: i64) -> Manifest {
    Manifest {
        format: manifest::FORMAT,
        job: "live/s3".to_string(),
        generation: 1,
        epoch,
        fingerprint: "f".to_string(),
        claimed_us,
        finished: false,
        tasks: Vec::new(),
        versions: Default::default(),
    }
}

#[test]
fn of_two_writers_one_publishes_and_one_claims() {
    let folder = Folder::open(&location("race")).expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for generation in 1..=5 {
            let claims = (0..2).map(|claimed_us| {
                let folder = folder.clone();
                tokio::spawn(async move { manifest::claim_generation(&folder, generation, claimed_us).await })
            });
            let mut n_claimed = 0;
            for claim in claims.collect::<Vec<_>>() {
                match claim.await.expect("no panic") {
                    Ok(_) => n_claimed += 1,
                    Err(Error::Superseded { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(n_claimed, 1, "generation {generation}");
        }
        let folder = Folder { prefix: folder.path("manifests-alone"), ..folder };
        for epoch in 1..=20 {
            let writers = (0..2).map(|writer| {
                let folder = folder.clone();
                tokio::spawn(async move { manifest::write(&folder, &manifest_of(epoch, writer)).await })
            });
            let mut n_published = 0;
            for writer in writers.collect::<Vec<_>>() {
                match writer.await.expect("no panic") {
                    Ok(()) => n_published += 1,
                    Err(Error::Taken { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(n_published, 1, "epoch {epoch}");
        }
        savepoints::make(&folder, "mine", 18).await.expect("a savepoint");
        garbage::collect(&folder, 2).await.expect("collected");
        assert_eq!(manifest::epochs(&folder).await.expect("listed"), [19, 20]);
        assert_eq!(savepoints::find(&folder, "mine").await.expect("found").epoch, 18);
        let listed = savepoints::list(&folder).await.expect("listed");
        assert!(listed.len() == 3 && listed.iter().all(|listed| listed.written_ms > 0), "{listed:?}");
    });
}

const JOB: &str = "
CREATE TABLE payments (id BIGINT, card BIGINT, ts TIMESTAMP, amount DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
WITH (connector = 'cards', rows = '6000', rate = '2000');
CREATE TABLE sums (card BIGINT, since TIMESTAMP, n BIGINT, largest DOUBLE) WITH (connector = 'files', path = 'sums', format = 'json');
INSERT INTO sums SELECT card, window_start, COUNT(*), MAX(amount)
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10 days')) GROUP BY card, window_start;";

fn start(folder: &Path, checkpoints: Option<Folder>, slices: u32) -> LocalRun {
    start_job(JOB, folder, checkpoints, slices)
}

fn start_job(text: &str, folder: &Path, checkpoints: Option<Folder>, slices: u32) -> LocalRun {
    let script = parse(text).expect("the file is right");
    let statements = script.statements.iter().enumerate();
    let inserts = statements.filter(|(_, statement)| matches!(statement.body, StatementBody::Insert(_)));
    let statements: Vec<usize> = inserts.map(|(at, _)| at).collect();
    let planned = Runtime::new().expect("a runtime").block_on(plan(&script, &statements, &Functions::new()));
    let config = LocalConfig {
        slices,
        checkpoints,
        checkpoint_interval_ms: 50,
        ..LocalConfig::new("live/s3", folder.into(), folder.join("dead"))
    };
    run(planned.expect("a dataflow"), config).expect("the job starts")
}

/// The lines of all files that are there for good.
fn rows(folder: &Path) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for entry in std::fs::read_dir(folder.join("sums")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            let text = std::fs::read_to_string(path).expect("a file");
            for line in text.lines() {
                assert!(rows.insert(line.to_string()), "{line} twice");
            }
        }
    }
    rows
}

fn stop_in_the_middle(job: LocalRun) {
    let began = Instant::now();
    let first = job.status().view.epoch;
    while job.status().view.epoch < first.map(|epoch| epoch + 3).or(Some(3)) {
        assert!(began.elapsed() < PATIENCE, "{:?}", job.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    job.stop();
    assert_eq!(job.wait().expect("it stops"), Outcome::Stopped);
}

#[test]
fn a_job_goes_on_from_checkpoints_on_s3() {
    let (quiet, killed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    assert_eq!(start(quiet.path(), None, 1).wait().expect("it ends"), Outcome::Finished);
    let folder = Folder::open(&location("job")).expect("a folder");
    for slices in [2, 2, 1] {
        stop_in_the_middle(start(killed.path(), Some(folder.clone()), slices));
    }
    assert_eq!(start(killed.path(), Some(folder.clone()), 1).wait().expect("it ends"), Outcome::Finished);
    assert_eq!(rows(killed.path()), rows(quiet.path()));
    let latest = Runtime::new().expect("a runtime").block_on(manifest::latest(&folder)).expect("read");
    assert!(latest.is_some_and(|manifest| manifest.finished && manifest.bytes() > 0));
}

/// A table of the store, in directories by card.
fn payments(location: &str, rest: &str) -> String {
    format!(
        "CREATE TABLE payments (id BIGINT, card BIGINT, amount DOUBLE) PARTITIONED BY (card)
         WITH (connector = 'files', path = '{location}', format = 'parquet', {rest});"
    )
}

/// The ids in the table, each of which is there once.
fn ids(location: &str) -> BTreeSet<i64> {
    let script = parse(&payments(location, "'rolling.size' = '64k'")).expect("the file is right");
    let context = context(1, 1);
    let open = streaming::batch::BatchContext::new(context);
    let query = "SELECT id FROM payments WHERE card IS NOT NULL";
    let runtime = Runtime::new().expect("a runtime");
    let rows = runtime.block_on(streaming::batch::collect(&script, query, &Functions::new(), open)).expect("rows");
    let mut ids = BTreeSet::new();
    for batch in rows {
        let column = batch.column(0).as_any().downcast_ref::<arrow::array::Int64Array>().expect("numbers");
        for id in column.values() {
            assert!(ids.insert(*id), "{id} twice");
        }
    }
    ids
}

fn context(generation: u64, began_us: i64) -> Context {
    Context {
        job: "live/s3".to_string(),
        generation,
        claimed_us: began_us,
        begun_us: began_us,
        slot: 0,
        n_slots: 1,
        base_dir: std::path::PathBuf::from("/nowhere"),
        tables_endpoint: None,
        token: None,
    }
}

/// The keys below a location that tell of unfinished uploads.
fn unfinished(location: &str) -> Vec<String> {
    let folder = Folder::open(location).expect("a folder");
    let found = Runtime::new().expect("a runtime").block_on(folder.store.list(Some(&folder.prefix)).try_collect());
    let found: Vec<object_store::ObjectMeta> = found.expect("listed");
    found.into_iter().map(|about| about.location.to_string()).filter(|key| key.contains("/.uploads/")).collect()
}

#[test]
fn a_job_writes_parquet_once_through_stops_and_reads_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (location, checkpoints) = (location("files"), Folder::open(&location("files-kept")).expect("a folder"));
    let job = format!(
        "CREATE TABLE made (id BIGINT, card BIGINT, amount DOUBLE) WITH (connector = 'cards', rows = '6000', rate = '2000');
         {} INSERT INTO payments SELECT id, card % 5, amount FROM made;",
        payments(&location, "'rolling.size' = '64k', compression = 'zstd'")
    );
    for slices in [2, 1] {
        stop_in_the_middle(start_job(&job, folder.path(), Some(checkpoints.clone()), slices));
    }
    let last = start_job(&job, folder.path(), Some(checkpoints), 2);
    assert_eq!(last.wait().expect("it ends"), Outcome::Finished);
    assert_eq!(ids(&location).len(), 6000);
    assert_eq!(unfinished(&location), Vec::<String>::new());
    if let Ok(python) = std::env::var("SMACK_PYARROW") {
        // An outside witness: any Python that has pyarrow.
        let script = format!(
            "import os, pyarrow.dataset as d, pyarrow.fs as f
endpoint = os.environ['AWS_ENDPOINT_URL']
s3 = f.S3FileSystem(endpoint_override=endpoint, region=os.environ['AWS_REGION'])
rows = d.dataset('{}', filesystem=s3, format='parquet', partitioning='hive', ignore_prefixes=['.']).to_table()
assert rows.num_rows == 6000 and sorted(rows['id'].to_pylist()) == sorted(set(rows['id'].to_pylist())), rows
assert sorted(set(rows['card'].to_pylist())) == [0, 1, 2, 3, 4], rows['card']
print(rows.schema)",
            location.trim_start_matches("s3://")
        );
        let witness = std::process::Command::new(python).args(["-c", &script]).status().expect("it starts");
        assert!(witness.success());
    } else {
        println!("SMACK_PYARROW names no Python with pyarrow: no outside witness read the files");
    }
}

#[test]
fn of_two_writers_of_files_the_older_one_adds_nothing() {
    let location = location("fenced");
    let script = parse(&payments(&location, "'rolling.interval' = '1h'")).expect("the file is right");
    let table: TableDef = script.table("payments").expect("the table").def.clone();
    let open = |generation: u64| -> Box<dyn Sink> {
        let connector = connectors::find("files").expect("the connector");
        connector.open_sink(&table, &context(generation, generation as i64)).expect("a sink")
    };
    let rows = |ids: std::ops::Range<i64>| {
        let columns: Vec<arrow::array::ArrayRef> = vec![
            std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(ids.clone())),
            std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(ids.clone().map(|id| id % 3))),
            std::sync::Arc::new(arrow::array::Float64Array::from_iter_values(ids.map(|id| id as f64))),
        ];
        arrow::array::RecordBatch::try_new(table.schema.clone(), columns).expect("rows")
    };
    let mut older = open(1);
    older.write(&rows(0..10)).expect("written");
    let kept = older.prepare(1).expect("prepared");
    older.write(&rows(10..20)).expect("written");
    // The newer one finishes what the checkpoint holds and gives up what came after it …
    let mut newer = open(2);
    newer.restore(1, vec![kept]).expect("restored");
    assert_eq!(ids(&location), (0..10).collect());
    // … so that the older one, which does not know yet, can repeat its commit and add nothing.
    older.commit(1).expect("idempotent");
    if older.prepare(2).is_ok() {
        assert!(older.commit(2).is_err(), "its upload was given up");
    }
    newer.write(&rows(10..30)).expect("written");
    newer.prepare(2).expect("prepared");
    newer.commit(2).expect("committed");
    assert_eq!(ids(&location), (0..30).collect());
    assert_eq!(unfinished(&location), Vec::<String>::new());
}
