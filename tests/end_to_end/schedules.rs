//! Job files that are submitted by the clock.

use crate::cluster::Cluster;
use crate::wait::wait_for;

const COPIES: &str = "SET job.cpus = '0.1'; SET job.mem = '128MiB';
    CREATE TABLE some (id BIGINT) WITH (connector = 'datagen', rows = '10', fields.id.kind = 'sequence');
    CREATE TABLE copy (id BIGINT, PRIMARY KEY (id) NOT ENFORCED);
    INSERT INTO copy SELECT id FROM some;";

#[test]
fn a_schedule_runs_by_hand_and_is_found_by_the_next_runner() {
    let cluster = Cluster::start();
    cluster.write("copies.sql", COPIES);
    let add = |file: &str, cron: &str| {
        cluster.smack(&["schedule", "add", "yearly", file, "--cron", cron, "--zone", "Europe/Berlin"])
    };
    let added = add("copies.sql", "30 2 1 1 *").expect(0).out;
    assert!(added.starts_with("yearly submits group copies next "), "{added}");
    let wrong = add("copies.sql", "61 2 1 1 *").expect(1);
    assert!(wrong.err.contains("'61' is no minute"), "{}", wrong.err);
    cluster.write("endless.sql", &COPIES.replace("rows = '10',", "rate = '1',"));
    let endless = add("endless.sql", "0 0 * * *").expect(1);
    assert!(endless.err.contains("never ends"), "{}", endless.err);

    let runner = cluster.member("runner");
    runner.kill();
    cluster.wait_for_new("runner", &runner);
    wait_for("the runner's API", || {
        let listed = cluster.smack(&["schedule", "ls", "-o", "json"]);
        if listed.code == Some(0) { Ok(()) } else { Err(listed.err) }
    });
    cluster.smack(&["schedule", "run", "yearly"]).expect(0);
    let outcome = || {
        let shown = cluster.smack(&["schedule", "show", "yearly", "-o", "json"]).expect(0).json();
        shown["history"]
            .as_array()
            .expect("a history")
            .last()
            .map(|last| (last["why"].clone(), last["outcome"].clone()))
    };
    wait_for("the end of the run", || match outcome() {
        Some((why, outcome)) if why == "by hand" && outcome == "finished" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(cluster.rows("copy").len(), 10);
    cluster.smack(&["schedule", "rm", "yearly"]).expect(0);
    let gone = cluster.smack(&["schedule", "run", "yearly"]).expect(1);
    assert!(gone.err.contains("there is no schedule 'yearly'"), "{}", gone.err);
}
