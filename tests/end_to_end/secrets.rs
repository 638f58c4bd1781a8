//! A password of a job file is in no answer, message or log, whether the job runs, cannot run, or has mistakes.

use crate::cluster::Cluster;
use crate::wait::wait_for;

const SECRET: &str = "hunter2-of-the-broker";

/// `brokers`: what the source's options say of them.
fn job(name: &str, brokers: &str, more: &str) -> String {
    format!(
        "SET job.name = '{name}';
         CREATE TABLE words (word VARCHAR) WITH (connector = 'kafka', topic = '{name}', create_topic = 'true',
             properties.sasl.password = '{SECRET}', properties.sasl.username = 'me'{brokers}{more});
         CREATE TABLE taken (word VARCHAR) WITH (connector = 'blackhole');
         INSERT INTO taken SELECT word FROM words;"
    )
}

#[test]
fn a_password_is_shown_nowhere() {
    let cluster = Cluster::start();
    // Nobody is handed this port, while one that was let go may be somebody's by now.
    let closed = "127.0.0.1:1";
    let away = format!(
        ", bootstrap.servers = '{closed}', properties.security.protocol = 'SASL_PLAINTEXT',
         properties.sasl.mechanism = 'PLAIN'"
    );
    cluster.submit("here.sql", &job("here", "", ""));
    cluster.submit("away.sql", &job("away", &away, ""));
    cluster.wait_until("here/taken", "running");
    let mut told = vec![cluster.wait_until_why("away/taken", &[closed])];

    cluster.write("explained.sql", &job("here", "", "").replace("INSERT INTO", "EXPLAIN INSERT INTO"));
    cluster.write("wrong.sql", &job("here", "", ", isolation = 'read'"));
    cluster.write("unknown.sql", &job("here", ", properties.sasl.pasword = 'hunter2-of-the-broker'", ""));
    let wrong = cluster.smack(&["check", "wrong.sql"]).expect(2);
    assert!(wrong.err.contains("isolation") && wrong.err.contains("****"), "{}", wrong.err);
    told.push(wrong.err);
    for args in [
        &["run", "explained.sql"][..],
        &["plan", "here.sql"],
        &["submit", "wrong.sql"],
        &["check", "unknown.sql"],
        &["ps", "-o", "json"],
        &["ps", "--operators"],
        &["why", "here", "-o", "json"],
        &["why", "away/taken"],
        &["logs", "here"],
        &["logs", "away", "--stderr"],
    ] {
        let ran = cluster.smack(args);
        told.push(format!("{args:?}: {}\n{}", ran.out, ran.err));
    }
    for path in ["/api/v1/jobs", "/api/v1/jobs/here/taken", "/api/v1/jobs/away/taken", "/api/v1/cluster", "/metrics"] {
        let answer = reqwest::blocking::get(format!("{}{path}", cluster.runner)).and_then(|answer| answer.text());
        told.push(format!("{path}: {}", answer.expect("an answer")));
    }
    wait_for("logs of both jobs", || match cluster.logs() {
        logs if logs.len() > 3 => Ok(()),
        logs => Err(format!("{logs:?}")),
    });
    told.extend(cluster.logs().into_iter().map(|(path, text)| format!("{}: {text}", path.display())));
    for text in told {
        assert!(!text.contains(SECRET), "{}", text.replace(SECRET, ">>>here<<<"));
    }
}
