//! A model that learns from a topic as rows come: killed in the middle it ends with the bits that it would have had, and streams
//! score with its versions as they are published.

use crate::cluster::Cluster;
use crate::wait::wait_for;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const ROWS: u64 = 9_000;
const BATCH: u64 = 20;
/// Each is learned from before the next is sent, and has a whole number of steps.
const PARTS: u64 = 6;
const JOB: &str = "learn/likes";

const LEARN: &str = "
    SET job.name = 'learn'; SET job.cpus = '0.3'; SET checkpoint.interval = '200ms';
    CREATE TABLE clicks (a DOUBLE, b DOUBLE, y BIGINT) WITH (connector = 'kafka', topic = 'clicks', format = 'json');
    CREATE MODEL likes WITH (
        label = 'y', task = 'binary', mode = 'continuous', batch = '20', min_rows = '200', publish_steps = '1', hidden = '8',
        learning_rate = '0.01'
    ) AS SELECT a, b, y FROM clicks;";

const SCORE: &str = "
    SET job.cpus = '0.1'; SET job.mem = '128MiB'; SET checkpoint.interval = '300ms';
    CREATE TABLE arrives (id BIGINT, a DOUBLE, b DOUBLE) WITH (connector = 'datagen', rate = '100', splits = '1',
        fields.id.kind = 'sequence');
    CREATE TABLE scored (id BIGINT, v BIGINT, p DOUBLE, PRIMARY KEY (id) NOT ENFORCED);
    INSERT INTO scored SELECT id, predict_version('likes') AS v, predict('likes', a, b) AS p FROM arrives;";

/// Whether both numbers are on the same side of nought is to be learned.
fn send(cluster: &Cluster, rows: std::ops::Range<u64>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.kafka).set("enable.idempotence", "true");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
    for row in rows {
        let part = |factor: u64| (row.wrapping_mul(factor) % 2_001) as f64 / 1_000.0 - 1.0;
        let (a, b) = (part(7_919), part(104_729));
        let value = json!({"a": a, "b": b, "y": u8::from(a * b > 0.0)}).to_string();
        let record = BaseRecord::<(), str>::to("clicks").partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(Duration::from_secs(60)).expect("acknowledged");
}

/// What the latest version says of itself.
fn latest(cluster: &Cluster) -> Result<Value, String> {
    let shown = cluster.smack(&["model", "show", "likes", "-o", "json"]);
    if shown.code == Some(0) { Ok(shown.json()["manifest"].clone()) } else { Err(shown.err) }
}

fn wait_for_rows(cluster: &Cluster, at_least: u64) -> Value {
    wait_for(&format!("version of {at_least} rows"), || match latest(cluster)? {
        manifest if manifest["rows"].as_u64() >= Some(at_least) => Ok(manifest),
        manifest => Err(format!("{} rows", manifest["rows"])),
    })
}

fn weights(cluster: &Cluster, manifest: &Value) -> Vec<u8> {
    let path = cluster.path(&format!(".smack/runner/models/likes/{}/model.safetensors", manifest["version"]));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_killed_learner_has_exactly_the_rows_of_its_checkpoint_and_ends_with_the_same_weights() {
    let cluster = Cluster::start();
    cluster.smack(&["topics", "create", "clicks", "--partitions", "1"]).expect(0);
    assert_eq!(cluster.submit("learn.sql", LEARN), [JOB]);
    let part = ROWS / PARTS;
    for at in 0..PARTS {
        send(&cluster, at * part..(at + 1) * part);
        if at % 2 == 1 {
            let job = cluster.wait_for(JOB, "running task", |job| job.state == "running");
            cluster.task(&job.tasks[0].id).kill();
        }
        wait_for_rows(&cluster, (at + 1) * part);
        if at == 0 {
            // Streams take up its versions as they come.
            cluster.submit("score.sql", SCORE);
            cluster.wait_until("score/scored", "running");
        }
    }
    // Steps are of so many rows, so the last version has all of them, once each.
    let disturbed = wait_for_rows(&cluster, ROWS);
    assert_eq!((disturbed["rows"].as_u64(), disturbed["steps"].as_u64()), (Some(ROWS), Some(ROWS / BATCH)));
    let job = cluster.look(JOB).expect("the job");
    assert!(job.restarts >= 2 && job.told().contains("goes on from checkpoint"), "{}", job.told());
    let listed = cluster.smack(&["model", "ls", "likes", "-o", "json"]).expect(0).json();
    let steps: Vec<u64> =
        listed.as_array().expect("versions").iter().map(|one| one["rows"].as_u64().expect("rows")).collect();
    assert!(
        steps.len() as u64 >= PARTS && steps.is_sorted_by(|one, next| one < next),
        "each is published once: {steps:?}"
    );
    wait_for("scores of several versions", || {
        let rows = cluster.rows("scored");
        let mut versions: Vec<&str> =
            rows.iter().filter_map(|row| row.split(' ').find(|cell| cell.starts_with("v="))).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 { Ok(()) } else { Err(format!("{versions:?}")) }
    });

    // The same rows, undisturbed.
    cluster.smack(&["stop", "learn"]).expect(0);
    cluster.wait_until(JOB, "stopped");
    assert_eq!(cluster.submit("learn.sql", LEARN), [JOB]);
    let version = disturbed["version"].as_u64();
    let undisturbed = wait_for("all rows again", || match latest(&cluster)? {
        manifest if manifest["version"].as_u64() > version && manifest["rows"].as_u64() == Some(ROWS) => Ok(manifest),
        manifest => Err(format!("version {} of {} rows", manifest["version"], manifest["rows"])),
    });
    assert!(weights(&cluster, &disturbed) == weights(&cluster, &undisturbed), "kills change no bit");
    let auc = undisturbed["metrics"]["auc"].as_f64();
    assert!(auc > Some(0.8), "of rows that it had not seen when it scored them: {auc:?}");
    cluster.smack(&["stop", "learn"]).expect(0);
}
