//! Checkpoints on a real store that speaks S3.
//!
//! Run with `tests/live/run`, which starts a server for the time of the run; or give the address of a running one as
//! SMACK_S3, and the environment that programs for S3 go by (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
//! AWS_SECRET_ACCESS_KEY), with a bucket `smack`.

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
    let script = parse(JOB).expect("the file is right");
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

#[test]
fn a_job_goes_on_from_checkpoints_on_s3() {
    let (quiet, killed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    assert_eq!(start(quiet.path(), None, 1).wait().expect("it ends"), Outcome::Finished);
    let folder = Folder::open(&location("job")).expect("a folder");
    for slices in [2, 2, 1] {
        let job = start(killed.path(), Some(folder.clone()), slices);
        let began = Instant::now();
        let first = job.status().view.epoch;
        while job.status().view.epoch < first.map(|epoch| epoch + 3).or(Some(3)) {
            assert!(began.elapsed() < PATIENCE, "{:?}", job.status());
            std::thread::sleep(Duration::from_millis(5));
        }
        job.stop();
        assert_eq!(job.wait().expect("it stops"), Outcome::Stopped);
    }
    assert_eq!(start(killed.path(), Some(folder.clone()), 1).wait().expect("it ends"), Outcome::Finished);
    assert_eq!(rows(killed.path()), rows(quiet.path()));
    let latest = Runtime::new().expect("a runtime").block_on(manifest::latest(&folder)).expect("read");
    assert!(latest.is_some_and(|manifest| manifest.finished && manifest.bytes() > 0));
}
