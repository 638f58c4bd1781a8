//! Jobs whose tasks find files fetched, and are told secrets.

use crate::cluster::Cluster;
use std::process::Command;

/// Of nothing that is here.
const OTHER: &str = "9c7beea36a4cb52d3e3d47cb5e5b8fae4c8a2c3c5dbd6c8e0cb2eb1c5a2f7a1e";

fn sum_of(cluster: &Cluster, name: &str) -> String {
    let summed = Command::new("sha256sum").arg(cluster.path(name)).output().expect("sha256sum is there");
    String::from_utf8_lossy(&summed.stdout).split_whitespace().next().expect("a sum").to_string()
}

#[test]
fn tasks_find_what_their_job_wants_fetched() {
    let cluster = Cluster::start();
    cluster.write("words", "words\n");
    cluster.write("tool", "#!/bin/sh\necho the tool runs\n");
    std::fs::create_dir(cluster.path("model")).expect("a folder");
    cluster.write("model/weights", "weights\n");
    let packed = Command::new("tar").args(["-czf", "model.tgz", "model"]).current_dir(cluster.folder()).status();
    assert!(packed.expect("tar is there").success());
    let sum = sum_of(&cluster, "words");
    let file = |sum: &str| {
        format!(
            "kind = \"command\"\nargv = [\"sh\", \"-c\", \"cat in/words it/model/weights; ./tool\"]\n\
             [job]\ncpus = 0.1\nmem = 16\nrestart = \"never\"\n\
             [artifacts]\n\"in/words\" = {{ from = \"words\", sha256 = \"{sum}\" }}\n\
             it = {{ from = \"model.tgz\", unpack = true }}\n\
             tool = {{ from = \"file://{}\", executable = true }}\n",
            cluster.path("tool").display()
        )
    };
    let job = cluster.submit("fetches.toml", &file(&sum)).remove(0);
    cluster.wait_until(&job, "finished");
    let logs = cluster.smack(&["logs", &job]).expect(0).out;
    assert!(["words", "weights", "the tool runs"].iter().all(|line| logs.contains(&format!("| {line}\n"))), "{logs}");

    // Other bytes than those that it means are not run on.
    let job = cluster.submit("fetches.toml", &file(OTHER)).remove(0);
    cluster.wait_until(&job, "failed");
    cluster.wait_until_why(&job, &["failed to fetch", "words", &format!("its sha256 is {sum}, and not {OTHER}")]);
    let refused = |artifacts: &str| {
        cluster.write("wrong.toml", &format!("kind = \"command\"\nargv = [\"true\"]\n[artifacts]\n{artifacts}\n"));
        cluster.smack(&["check", "wrong.toml"]).expect(2)
    };
    refused("a = \"ftp://x/y\"").says(&["no place to fetch from"]);
    refused("\"../a\" = \"words\"").says(&["below the task's sandbox"]);
    refused("a = { from = \"words\", sha256 = \"1\" }").says(&["64 lowercase"]);
    refused("a = { form = \"words\" }").says(&["an artifact has no 'form'", "did you mean 'from'?"]);
}

#[test]
fn a_job_is_told_the_secrets_of_its_role_and_nobody_sees_them() {
    let secrets = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(secrets.path().join("ml")).expect("a folder");
    std::fs::write(secrets.path().join("ml/db"), "pass-of-the-database\n").expect("writes");
    let cluster = Cluster::start_with(&["--secrets", secrets.path().to_str().expect("a name")], None);
    let file = |role: &str| {
        format!(
            "kind = \"command\"\nargv = [\"sh\", \"-c\", \"echo it has ${{#DB_PASSWORD}} letters\"]\n\
             [job]\ncpus = 0.1\nmem = 16\nrole = \"{role}\"\nrestart = \"never\"\n\
             [secrets]\nDB_PASSWORD = \"db\"\n"
        )
    };
    let job = cluster.submit("told.toml", &file("ml")).remove(0);
    cluster.wait_until(&job, "finished");
    let logs = cluster.smack(&["logs", &job]).expect(0).out;
    assert!(logs.ends_with("| it has 20 letters\n"), "{logs}");
    let job = cluster.submit("told.toml", &file("web")).remove(0);
    cluster.wait_until(&job, "failed");
    cluster.wait_until_why(&job, &["failed to tell the task secret db", "none of that name for role web"]);
    for (path, text) in cluster.logs() {
        assert!(!text.contains("pass-of-the-database"), "{}", path.display());
    }
}
