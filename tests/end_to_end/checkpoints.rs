//! A checkpoint that cannot be read: said with the file's name and the way out, which works.

use crate::cluster::Cluster;
use std::path::{Path, PathBuf};

/// Checkpoints only come by hand, so that no newer one lies between damage and kill.
const JOB_FILE: &str = "
    SET job.name = 'damaged'; SET checkpoint.interval = '1h'; SET checkpoint.dir = 'kept';
    CREATE TABLE numbers (
        id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
    ) WITH (connector = 'cards', rate = '500', rows = '12000');
    CREATE TABLE out (id BIGINT) WITH (connector = 'files', path = 'out', format = 'json');
    INSERT INTO out SELECT id FROM numbers;";

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(manifests(&path));
        } else if path.parent().is_some_and(|parent| parent.ends_with("manifests"))
            // A manifest that is being written has a longer name.
            && path.extension().is_some_and(|extension| extension == "json")
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_damaged_manifest_is_named_and_can_be_moved_away() {
    let cluster = Cluster::start();
    let jobs = cluster.submit("job.sql", JOB_FILE);
    cluster.wait_until(&jobs[0], "running");
    for _ in 0..2 {
        cluster.smack(&["checkpoint", "damaged"]).expect(0);
    }
    let mut found = manifests(&cluster.path("kept"));
    assert!(found.len() >= 2, "{found:?}");
    let newest = found.pop().expect("two of them");
    std::fs::write(&newest, "{\"form").expect("the manifest");
    let job = cluster.look(&jobs[0]).expect("the job");
    cluster.task(&job.tasks[0].id).kill();

    let name = newest.file_name().and_then(|name| name.to_str()).expect("a name");
    cluster.wait_until_why(&jobs[0], &[name, "damaged", "move it away"]);
    assert!(!cluster.look(&jobs[0]).expect("the job").is_over(), "somebody may mend it");

    std::fs::remove_file(&newest).expect("the manifest");
    let job = cluster.wait_until(&jobs[0], "finished");
    assert!(job.told().contains("goes on from checkpoint"), "{}", job.told());
    let mut ids: Vec<String> = crate::rows::of_files(&cluster.path("out"));
    assert!(ids.len() >= 12_000, "nothing is lost: {} rows", ids.len());
    ids.dedup();
    assert_eq!(ids.len(), 12_000, "nothing is made up");
}
