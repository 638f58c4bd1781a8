//! TLS and passwords, and what is said when they do not fit. On a broker of its own, see tests/servers/kafka.sh.

use crate::support::{connector, context, read, table};
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::DataType;
use connectors::{Error, TableDef};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/kafka.sh");

/// A broker of a test, ended with it.
struct Brokers {
    dir: tempfile::TempDir,
    /// What the script told, by name.
    told: BTreeMap<String, String>,
}

impl Brokers {
    fn start(shape: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let output = Command::new(SCRIPT).arg(shape).arg(dir.path()).output().expect("kafka.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { dir, told: told.lines().filter_map(pair).collect() }
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("stop").arg(self.dir.path()).status();
    }
}

fn declared(topic: &str, options: &[(&str, &str)]) -> TableDef {
    let base = [
        ("connector", "kafka"),
        ("topic", topic),
        ("create_topic", "true"),
        ("scan.bounded", "latest"),
        // A broker that hangs up at once is asked again soon.
        ("librdkafka.reconnect.backoff.max.ms", "500"),
    ];
    table("secured", &[("n", DataType::Int64)], 0, &base.iter().chain(options).copied().collect::<Vec<_>>())
}

/// Three rows out, exactly once and through the checkpoint, and in again.
fn round_trip(table: &TableDef) {
    let numbers = Int64Array::from(vec![1, 2, 3]);
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), vec![Arc::new(numbers)]).expect("a batch");
    let mut sink = connector("kafka").open_sink(table, &context(0)).expect("a sink");
    sink.write(&batch).expect("written");
    sink.prepare(1).expect("prepared");
    sink.commit(1).expect("committed");
    assert_eq!(read(table, &[0], &BTreeMap::new()).expect("read").rows(), 3);
}

fn refused(table: &TableDef) -> String {
    match connector("kafka").splits(table, &context(0)) {
        Err(Error::Fatal(why)) => why,
        other => panic!("not refused for good: {other:?}"),
    }
}

#[test]
fn tls_and_passwords_open_the_door_and_wrong_ones_are_named() {
    let brokers = Brokers::start("secure");
    let (sasl, tls) = (brokers.told["SASL"].as_str(), brokers.told["TLS"].as_str());
    let file = |name: &str| brokers.dir.path().join("tls").join(name).to_string_lossy().into_owned();
    let (ca, stranger, certificate, key) =
        (file("ca.pem"), file("stranger.pem"), file("client.pem"), file("client.key"));
    assert!(Path::new(&ca).exists());
    let with_password = |topic: &str, mechanism: &str, user: &str, password: &str, ca: &str| {
        declared(
            topic,
            &[
                ("bootstrap.servers", sasl),
                ("properties.security.protocol", "SASL_SSL"),
                ("properties.sasl.mechanism", mechanism),
                ("properties.sasl.username", user),
                ("properties.sasl.password", password),
                ("properties.ssl.ca.location", ca),
            ],
        )
    };
    round_trip(&with_password("scram256", "SCRAM-SHA-256", "smack", "scram-secret", &ca));
    round_trip(&with_password("scram512", "SCRAM-SHA-512", "smack", "scram-secret", &ca));
    round_trip(&with_password("plain", "PLAIN", "plain", "plain-secret", &ca));
    let with_certificate = [
        ("bootstrap.servers", tls),
        ("properties.security.protocol", "SSL"),
        ("properties.ssl.ca.location", ca.as_str()),
        ("properties.ssl.certificate.location", certificate.as_str()),
        ("properties.ssl.key.location", key.as_str()),
    ];
    round_trip(&declared("mutual", &with_certificate));

    for (mechanism, user, password) in [
        ("SCRAM-SHA-256", "smack", "wr0ng-secret"),
        ("PLAIN", "plain", "wr0ng-secret"),
        ("SCRAM-SHA-512", "who", "wr0ng-secret"),
    ] {
        let why = refused(&with_password("scram256", mechanism, user, password, &ca));
        assert!(why.contains("sasl.*") && why.contains("password") && why.contains(sasl), "{mechanism}: {why}");
        assert!(!why.contains("wr0ng-secret"), "{why}");
    }
    let why = refused(&with_password("scram256", "SCRAM-SHA-256", "smack", "scram-secret", &stranger));
    assert!(why.contains("ssl.ca.location") && !why.contains("scram-secret"), "{why}");
    let why = refused(&declared("mutual", &with_certificate[..3]));
    assert!(why.contains("ssl.certificate.location"), "{why}");

    // Without TLS on a port that wants it: it may be the port, or a broker that starts; told, and tried again.
    let plain = declared("mutual", &[("bootstrap.servers", tls)]);
    match connector("kafka").splits(&plain, &context(0)) {
        Err(Error::Transient(why) | Error::Fatal(why)) => assert!(why.contains(tls), "{why}"),
        Ok(splits) => panic!("{splits:?}"),
    }
}
