//! `smack stop`: a stream ends after a last checkpoint, with everything that it read written out.

use crate::cluster::Cluster;
use crate::rows;

#[test]
fn a_running_stream_stops_after_a_last_checkpoint() {
    let cluster = Cluster::start();
    // The interval is far longer than the test: only the stop itself makes a checkpoint.
    let jobs = cluster.submit(
        "job.sql",
        "SET job.name = 'endless'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '1h';
         CREATE TABLE payments (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
         WITH (connector = 'cards', rate = '2000');
         CREATE TABLE out (id BIGINT) WITH (connector = 'files', path = 'out', format = 'json');
         INSERT INTO out SELECT id FROM payments;",
    );
    cluster.wait_for(&jobs[0], "rows", |job| job.metrics.rows_in > 1_000);
    cluster.smack(&["stop", "endless"]).expect(0);
    let job = cluster.wait_until(&jobs[0], "stopped");
    assert!(job.told().contains("the last checkpoint is committed"), "{}", job.told());
    let ids = rows::of_files(&cluster.path("out"));
    assert!(ids.len() > 1_000, "{} rows", ids.len());
    let mut distinct = ids.clone();
    distinct.dedup();
    assert_eq!(distinct, ids, "each once");
    assert_eq!(ids.len() as u64, job.metrics.rows_in, "all that was read is written");
    // It stays stopped, and says so.
    assert!(cluster.why("endless").contains("was stopped"));
    cluster.smack(&["stop", "endless"]).expect(0);
}
