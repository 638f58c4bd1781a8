//! A cluster whose connections are encrypted: with its certificates everything works as ever, without them nothing does.

use crate::cluster::Cluster;
use crate::program::smack;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Rows pass between the two tasks, into the table store.
const JOB: &str = "SET job.name = 'sealed'; SET job.parallelism = '2'; SET job.cpus = '0.3';
     CREATE TABLE numbers (id BIGINT, amount BIGINT)
     WITH (connector = 'datagen', rows = '4000', splits = '2', fields.id.kind = 'sequence');
     CREATE TABLE sums (k BIGINT, n BIGINT, ids BIGINT, PRIMARY KEY (k) NOT ENFORCED);
     INSERT INTO sums SELECT id % 10, COUNT(*), SUM(id) FROM numbers GROUP BY id % 10;";

#[test]
fn an_encrypted_cluster_works_and_lets_nobody_in_who_is_not_of_it() {
    let cluster = Cluster::start_encrypted();
    assert!(cluster.runner.starts_with("https://"), "{}", cluster.runner);
    let jobs = cluster.submit("job.sql", JOB);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert_eq!((job.metrics.rows_in, job.restarts), (4_000, 0), "{}", job.told());
    let rows = cluster.rows("sums");
    assert!(rows.len() == 10 && rows.iter().all(|row| row.contains("n=400")), "{rows:?}");
    assert_eq!(cluster.smack(&["logs", "sealed", "--stderr"]).expect(0).code, Some(0));
    assert!(cluster.smack(&["agents"]).expect(0).out.contains("agent-2"));

    // Not encrypted: the command line, and a member.
    let runner = cluster.runner.trim_start_matches("https://").to_string();
    let plain = smack(cluster.folder(), &["ps", "--runner", &format!("http://{runner}")]).expect(2);
    plain.says(&["this door is encrypted", "--tls-ca"]);
    let text = said_to(&runner, b"GET /tables HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    assert!(text.contains("400 Bad Request") && text.contains("https://"), "{text}");
    // By another CA, or none.
    smack(cluster.folder(), &["cert", "--dir", "other"]).expect(0);
    let ran = smack(cluster.folder(), &["ps", "--runner", &cluster.runner, "--tls-ca", "other/ca.pem"]).expect(1);
    ran.says(&["it was not signed by the CA of --tls-ca"]);
    let ran = smack(cluster.folder(), &["ps", "--runner", &cluster.runner, "--tls-ca", "nowhere.pem"]).expect(1);
    ran.says(&["read the CA from nowhere.pem"]);
    smack(cluster.folder(), &["ps", "--runner", &cluster.runner]).expect(2).says(&["--tls-ca"]);
    // The master's door is for members alone.
    let text = said_to(&cluster.master, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    assert!(text.contains("this door is encrypted"), "{text}");
}

#[test]
fn a_member_needs_all_of_its_files() {
    let folder = tempfile::tempdir().expect("a folder");
    smack(folder.path(), &["cert", "10.0.0.7", "--dir", "mine"]).expect(0).says(&["10.0.0.7", "825 days"]);
    let again = smack(folder.path(), &["cert", "10.0.0.7", "--dir", "mine"]).expect(1);
    again.says(&["mine/10.0.0.7.key", "there is one already"]);
    let made = smack(folder.path(), &["cert", "10.0.0.8", "--dir", "mine", "-o", "json"]).expect(0).json();
    assert_eq!(made["ca"], "mine/ca.pem");
    let with = |options: &[&str]| {
        let mut all = vec!["master", "--listen", "127.0.0.1:0", "--data-dir", "m"];
        all.extend(options);
        smack(folder.path(), &all).expect(1)
    };
    with(&["--tls-ca", "mine/ca.pem"]).says(&["--tls-ca needs --tls-cert"]);
    with(&["--tls-cert", "mine/10.0.0.7.pem", "--tls-ca", "mine/ca.pem"]).says(&["--tls-cert needs --tls-key"]);
    let mixed = ["--tls-cert", "mine/10.0.0.7.pem", "--tls-key", "mine/10.0.0.8.key", "--tls-ca", "mine/ca.pem"];
    with(&mixed).says(&["do not belong together"]);
}

/// What a door answers to these bytes.
fn said_to(address: &str, bytes: &[u8]) -> String {
    let mut plain = TcpStream::connect(address).expect("somebody listens");
    plain.write_all(bytes).expect("sent");
    let mut text = Vec::new();
    let _ = plain.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
