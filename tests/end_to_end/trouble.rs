//! Trouble with what a job reads or asks for: a clear state and one sentence with the reason, never a panic.

use crate::cluster::Cluster;

#[test]
fn bad_records_are_counted_and_kept() {
    let cluster = Cluster::start();
    cluster.write("in.json", "{\"a\": 1}\nnot JSON\n{\"a\": 2}\n{\"a\": \"three\"}\n{\"a\": 4}\n");
    let jobs = cluster.submit(
        "job.sql",
        "SET job.name = 'letters';
         CREATE TABLE records (a BIGINT) WITH (connector = 'files', path = 'in.json', format = 'json');
         CREATE TABLE good (a BIGINT, PRIMARY KEY (a) NOT ENFORCED);
         INSERT INTO good SELECT a FROM records;",
    );
    let job = cluster.wait_until(&jobs[0], "finished");
    assert_eq!(job.metrics.rows_bad, 2, "{job:?}");
    assert_eq!(cluster.rows("good"), ["a=1", "a=2", "a=4"]);
    let kept = std::process::Command::new("find")
        .arg(cluster.path(".smack/runner/jobs/letters"))
        .args(["-name", "records.jsonl"])
        .output()
        .expect("find");
    let path = String::from_utf8(kept.stdout).expect("a path");
    let text = std::fs::read_to_string(path.trim()).unwrap_or_else(|error| panic!("dead letters at '{path}': {error}"));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("not JSON") && text.contains("three") && text.contains("in.json"), "{text}");
}

#[test]
fn more_than_any_agent_has() {
    let cluster = Cluster::start();
    let jobs = cluster.submit(
        "job.sql",
        "SET job.name = 'large'; SET job.cpus = '64';
         CREATE TABLE numbers (a BIGINT) WITH (connector = 'datagen', rows = '100');
         CREATE TABLE nowhere (a BIGINT) WITH (connector = 'blackhole');
         INSERT INTO nowhere SELECT a FROM numbers;",
    );
    // What is wanted, and what the largest agent has.
    let agents = cluster.smack(&["agents", "-o", "json"]).expect(0).json();
    let most = agents["agents"][0]["total"]["scalars"]["cpus"].as_f64().expect("cpus of an agent");
    cluster.wait_until_why(&jobs[0], &["64", &most.to_string(), "cpus"]);
    let stopped = cluster.smack(&["stop", "large", "-o", "json"]).expect(0).json();
    assert_eq!(stopped["jobs"], serde_json::json!(jobs));
    cluster.wait_until(&jobs[0], "stopped");
}

#[test]
fn a_broker_that_does_not_answer() {
    let cluster = Cluster::start();
    // Nobody is handed this port, while one that was let go may be somebody's by now.
    let address = "127.0.0.1:1";
    let jobs = cluster.submit(
        "job.sql",
        &format!(
            "SET job.name = 'broker';
             CREATE TABLE events (a BIGINT) WITH (
                connector = 'kafka', bootstrap.servers = '{address}', topic = 'events', format = 'json'
             );
             CREATE TABLE nowhere (a BIGINT) WITH (connector = 'blackhole');
             INSERT INTO nowhere SELECT a FROM events;"
        ),
    );
    cluster.wait_until_why(&jobs[0], &[address]);
    let job = cluster.look(&jobs[0]).expect("the job");
    assert!(!job.is_over(), "it keeps trying: {job:?}");
    cluster.smack(&["stop", "broker"]).expect(0);
    cluster.wait_until(&jobs[0], "stopped");
}

#[test]
fn a_file_that_is_not_there() {
    let cluster = Cluster::start();
    let jobs = cluster.submit(
        "job.sql",
        "SET job.name = 'missing';
         CREATE TABLE records (a BIGINT) WITH (connector = 'files', path = 'nowhere/in.json', format = 'json');
         CREATE TABLE nowhere (a BIGINT) WITH (connector = 'blackhole');
         INSERT INTO nowhere SELECT a FROM records;",
    );
    cluster.wait_until_why(&jobs[0], &["nowhere/in.json", "check option 'path'"]);
    let job = cluster.wait_until(&jobs[0], "failed");
    assert_eq!(job.restarts, 0, "trying again cannot help: {job:?}");
    let waited = cluster.smack(&["submit", "job.sql", "--wait"]).expect(1);
    waited.says(&["missing/nowhere failed", "nowhere/in.json"]);
}
