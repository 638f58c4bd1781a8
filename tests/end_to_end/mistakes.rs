//! Mistakes in a job file: the line, a caret under the word, a suggestion, exit code 2. `check`, `run` and `submit` say the
//! same.

use crate::cluster::Cluster;
use crate::program::{Ran, smack};
use std::path::Path;

const UNKNOWN_CONNECTOR: &str = "\
CREATE TABLE events (a BIGINT)
WITH (connector = 'kafak', topic = 'x');
CREATE TABLE nowhere (a BIGINT) WITH (connector = 'blackhole');
INSERT INTO nowhere SELECT a FROM events;
";

fn check(folder: &Path, name: &str, text: &str) -> Ran {
    std::fs::write(folder.join(name), text).expect("a file");
    smack(folder, &["check", name])
}

/// The line below the one with `word` underlines exactly it.
#[track_caller]
fn points_at(ran: &Ran, word: &str) {
    let lines: Vec<&str> = ran.err.lines().collect();
    let marked = lines.windows(2).any(|pair| {
        let Some(at) = pair[0].find(word) else { return false };
        let column = pair[0][..at].chars().count();
        let carets = pair[1].chars().skip(column).take_while(|c| *c == '^').count();
        carets == word.chars().count() && pair[1].chars().filter(|c| *c == '^').count() == carets
    });
    assert!(marked, "no caret under '{word}':\n{}", ran.err);
}

#[test]
fn an_unknown_connector() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = check(folder.path(), "job.sql", UNKNOWN_CONNECTOR).expect(2);
    ran.says(&["job.sql:2", "unknown connector 'kafak'", "did you mean 'kafka'?"]);
    points_at(&ran, "'kafak'");
    assert_eq!(ran.out, "", "mistakes are no data");
    let ran = smack(folder.path(), &["run", "job.sql"]).expect(2);
    points_at(&ran, "'kafak'");
}

#[test]
fn submit_shows_what_check_shows() {
    let cluster = Cluster::start();
    cluster.write("job.sql", UNKNOWN_CONNECTOR);
    let checked = cluster.smack(&["check", "job.sql"]).expect(2);
    let submitted = cluster.smack(&["submit", "job.sql"]).expect(2);
    assert_eq!(checked.err, submitted.err);
    let ran = cluster.smack(&["submit", "job.sql", "-o", "json"]).expect(2);
    let failure: serde_json::Value = serde_json::from_str(&ran.err).expect("one JSON object");
    assert_eq!(failure["diagnostics"].as_array().map(Vec::len), Some(1), "{failure}");
    let jobs = cluster.smack(&["ps", "-o", "json"]).expect(0).json();
    assert_eq!(jobs["jobs"], serde_json::json!([]), "nothing was submitted");
    cluster.smack(&["why", "nothing"]).expect(1).says(&["no job, group or task 'nothing'"]);
}

#[test]
fn an_unknown_option() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = UNKNOWN_CONNECTOR.replace("'kafak'", "'kafka', bootstrap.servers = 'h:1', topci = 'y'");
    let ran = check(folder.path(), "job.sql", &text).expect(2);
    ran.says(&["job.sql:2", "topci", "did you mean 'topic'?"]);
    points_at(&ran, "topci");
}

#[test]
fn an_unknown_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TABLE t (amount BIGINT) WITH (connector = 'datagen', rows = '1');\nSELECT amuont FROM t;\n";
    let ran = check(folder.path(), "job.sql", text).expect(2);
    ran.says(&["job.sql:2", "amuont", "amount"]);
    points_at(&ran, "amuont");
}

#[test]
fn a_typo_in_toml() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(crate::program::example("digits.toml")).expect("the example");
    let ran = check(folder.path(), "job.toml", &text.replace("learning_rate", "learning_rte")).expect(2);
    ran.says(&["job.toml:", "learning_rte", "did you mean 'learning_rate'?"]);
    points_at(&ran, "learning_rte");
    let ran = check(folder.path(), "torn.toml", "kind = \"train\"\nname = \n").expect(2);
    ran.says(&["torn.toml:2"]);
}

#[test]
fn all_mistakes_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = UNKNOWN_CONNECTOR.replace("'blackhole'", "'blackhoel'");
    let ran = check(folder.path(), "job.sql", &text).expect(2);
    ran.says(&["'kafak'", "'blackhoel'", "2 mistakes in job.sql"]);
}

#[test]
fn no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    smack(folder.path(), &["check", "nowhere.sql"]).expect(2).says(&["failed to read nowhere.sql"]);
}
