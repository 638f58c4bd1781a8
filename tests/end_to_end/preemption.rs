//! Jobs of higher priority, and roles that are guaranteed something, on a cluster that is full: others make room, lose
//! nothing, and go on when there is room again.

use crate::cluster::{Cluster, Job};
use crate::rows;
use std::path::Path;

/// Two agents of four cores each. Whoever has run for a second may have to leave.
fn cluster() -> Cluster {
    Cluster::start_as(&["--cpus", "4"], &[("SMACK_PREEMPT_MIN_RUN", "1s"), ("SMACK_PREEMPT_NOTICE", "20s")])
}

/// A stream that takes three cores of each agent, and whose only checkpoint on its way is the one that it leaves with.
fn stream(role: &str, rows: u32) -> String {
    format!(
        "SET job.name = 'cards'; SET job.role = '{role}'; SET job.priority = '-5'; SET job.parallelism = '2';
         SET job.cpus = '3'; SET checkpoint.interval = '1h';
         CREATE TABLE payments (id BIGINT, card BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
         WITH (connector = 'cards', rows = '{rows}', rate = '300');
         CREATE TABLE all_ids (id BIGINT) WITH (connector = 'files', path = 'ids', format = 'json');
         CREATE TABLE windows (card BIGINT, n BIGINT) WITH (connector = 'files', path = 'windows', format = 'json');
         INSERT INTO all_ids SELECT id FROM payments;
         INSERT INTO windows SELECT card % 3, COUNT(*)
         FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '100 days')) GROUP BY card % 3, window_start;"
    )
}

/// Two tasks of two cores, which run until `gone` is there.
fn command(role: &str, priority: i32, gone: &Path) -> String {
    format!(
        "kind = \"command\"\nargv = [\"/bin/sh\", \"-c\", 'while [ ! -e \"{}\" ]; do sleep 0.1; done']\n\
         [job]\nrole = \"{role}\"\npriority = {priority}\nparallelism = 2\ncpus = 2\nmem = 32\n",
        gone.display()
    )
}

fn some_rows(job: &Job) -> bool {
    job.metrics.rows_in > 500
}

fn each_once(cluster: &Cluster, rows: usize) {
    let ids = rows::of_files(&cluster.path("ids"));
    let mut distinct = ids.clone();
    distinct.dedup();
    assert_eq!((ids.len(), distinct.len()), (rows, rows), "each once");
    let counts = rows::of_files(&cluster.path("windows"));
    let numbers = counts.iter().filter_map(|row| row.split("n=").nth(1)?.parse::<usize>().ok());
    assert_eq!((counts.len(), numbers.sum::<usize>()), (3, rows), "{counts:?}");
}

#[test]
fn a_stream_makes_room_for_what_is_more_urgent_and_loses_nothing() {
    let cluster = cluster();
    let gone = cluster.path("gone");
    let stream = cluster.submit("job.sql", &stream("shop", 4_000)).remove(0);
    cluster.wait_for(&stream, "rows", some_rows);
    // Of another role: its priority is worth nothing here.
    let other = cluster.submit("other.toml", &command("other", 1000, &gone)).remove(0);
    let urgent = cluster.submit("urgent.toml", &command("shop", 5, &gone)).remove(0);
    cluster.wait_until(&urgent, "running");
    let left = cluster.wait_for(&stream, "room", |job| job.state == "placing");
    let told = left.told();
    assert!(told.contains("has to leave for urgent/urgent of role shop: its priority is 5"), "{told}");
    assert!(told.contains("made room for others, and waits for room"), "{told}");
    assert_ne!(cluster.look(&other).expect("the job").state, "finished");
    let roles = cluster.smack(&["roles"]).expect(0).out;
    assert!(roles.lines().any(|line| line.starts_with("shop")), "{roles}");

    std::fs::write(&gone, "").expect("a file");
    for job in [&urgent, &other] {
        cluster.wait_until(job, "finished");
    }
    let job = cluster.wait_until(&stream, "finished");
    assert_eq!((job.restarts, job.generation), (0, 2), "nothing failed: {}", job.told());
    each_once(&cluster, 4_000);
}

#[test]
fn what_a_role_is_guaranteed_is_given_back_to_it() {
    let cluster = cluster();
    let (lent, owed) = (cluster.path("lent-gone"), cluster.path("owed-gone"));
    std::fs::write(&lent, "").expect("a file");
    let borrower = cluster.submit("job.sql", &stream("lent", 1_000_000)).remove(0);
    cluster.wait_for(&borrower, "rows", some_rows);
    let waiting = cluster.submit("owed.toml", &command("owed", 0, &owed)).remove(0);
    cluster.wait_until_why(&waiting, &["needs 2 tasks of cpus 2", "too little of them is free"]);
    cluster.smack(&["quota", "set", "owed", "--guarantee", "cpus=4"]).expect(0);
    cluster.wait_until(&waiting, "running");
    let told = cluster.wait_for(&borrower, "room", |job| job.state == "placing").told();
    assert!(told.contains("has to leave for owed/owed of role owed: role owed is guaranteed it"), "{told}");
    std::fs::write(&owed, "").expect("a file");
    cluster.wait_until(&waiting, "finished");
    cluster.smack(&["quota", "rm", "owed"]).expect(0);
    let again = cluster.wait_for(&borrower, "another generation", |job| job.state == "running" && job.generation == 2);
    assert!(again.told().contains("goes on from checkpoint"), "{}", again.told());
}

#[test]
fn roles_and_priorities_that_are_none_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
        crate::program::smack(folder.path(), &["check", name]).expect(2).err
    };
    let said = check("a.sql", "SET job.priority = '2000';");
    assert!(said.contains("'2000' is not a priority: a whole number from -1000 to 1000"), "{said}");
    let said = check("b.sql", "SET job.role = 'ml//vision';");
    assert!(said.contains("'ml//vision' is no role"), "{said}");
    let said = check("c.toml", "kind = \"command\"\nargv = [\"true\"]\n[job]\nrole = \"a b\"\npriority = 0.5\n");
    assert!(said.contains("'a b' is no role") && said.contains("priority is 0.5, not a whole number"), "{said}");
}
