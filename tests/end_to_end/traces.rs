//! What leaves a cluster for those who watch many: traces over OTLP, logs as objects, and a bundle for whoever helps.

use crate::cluster::Cluster;
use crate::wait::wait_for;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Takes spans over HTTP, as collectors do.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
    /// What the last message came with.
    headers: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (spans, headers) = (Arc::<Mutex<Vec<Span>>>::default(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        let collector = Self { address, spans: Arc::clone(&spans), headers: Arc::clone(&headers) };
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (spans, headers) = (Arc::clone(&spans), Arc::clone(&headers));
                std::thread::spawn(move || while serve(&connection, &spans, &headers).is_some() {});
            }
        });
        collector
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("spans").clone()
    }
}

/// One message; nothing once the connection is closed.
fn serve(
    mut connection: &TcpStream,
    spans: &Mutex<Vec<Span>>,
    headers: &Mutex<BTreeMap<String, String>>,
) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut came = BTreeMap::from([("path".to_string(), line.split(' ').nth(1)?.to_string())]);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        came.insert(name.to_lowercase(), value.trim().to_string());
    }
    let mut body = vec![0; came.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let request = ExportTraceServiceRequest::decode(&body[..]).expect("a message of OTLP");
    let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
    spans.lock().expect("spans").extend(scopes.flat_map(|of| of.spans));
    *headers.lock().expect("headers") = came;
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}

#[test]
fn a_submission_and_its_checkpoints_are_traced_and_logs_are_objects() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let cluster = Cluster::start_told(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b"),
        ("SMACK_LOG_FORMAT", "json"),
    ]);
    let text = "SET job.name = 'traced'; SET checkpoint.interval = '200 ms';
        CREATE TABLE rolls (id BIGINT) WITH (connector = 'datagen', rate = '100');
        CREATE TABLE kept (k BIGINT PRIMARY KEY, n BIGINT);
        INSERT INTO kept SELECT id % 3, COUNT(*) FROM rolls GROUP BY id % 3;";
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = serde_json::json!({ "text": text, "file": "traced.sql", "base_dir": "/" });
    let client = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
    let submit = client.post(format!("{}/api/v1/jobs", cluster.runner));
    let submit = submit.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).json(&request);
    let answer: serde_json::Value = submit.send().expect("an answer").json().expect("JSON");
    let job = answer["jobs"][0].as_str().unwrap_or_else(|| panic!("{answer}")).to_string();
    let spans = wait_for("spans of a start and of a checkpoint", || {
        let spans = collector.spans();
        let has = |name: &str| spans.iter().any(|span| span.name == name);
        if has("submit") && has("checkpoint") { Ok(spans) } else { Err(format!("{spans:?}")) }
    });
    let root = spans.iter().find(|span| span.name == "submit").expect("a root");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&root.trace_id).as_str(), hex(&root.parent_span_id).as_str()), (trace, "00f067aa0ba902b7"));
    let parts: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == root.span_id).collect();
    for name in ["wait for offers", "launch", "start task", "wait for the first record"] {
        let part = parts.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("no '{name}' in {parts:?}"));
        assert!(part.start_time_unix_nano >= root.start_time_unix_nano, "{part:?}");
        assert!(part.end_time_unix_nano <= root.end_time_unix_nano, "{part:?}");
    }
    let checkpoint = spans.iter().find(|span| span.name == "checkpoint").expect("a checkpoint");
    let parts: Vec<&str> =
        spans.iter().filter(|of| of.parent_span_id == checkpoint.span_id).map(|of| of.name.as_str()).collect();
    assert!(parts.contains(&"snapshot") && parts.contains(&"manifest") && parts.contains(&"commit"), "{parts:?}");
    let headers = collector.headers.lock().expect("headers").clone();
    assert_eq!((headers["path"].as_str(), headers["x-team"].as_str()), ("/v1/traces", "a b"));

    let log = std::fs::read_to_string(cluster.path(".smack/runner.log")).expect("the runner's log");
    let mut serves = false;
    for line in log.lines().filter(|line| !line.is_empty()) {
        let said: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(said["timestamp"].is_string() && said["level"].is_string(), "{line}");
        serves |= said["message"] == "runner serves" && said["address"].is_string();
    }
    assert!(serves, "{log}");
    cluster.smack(&["stop", &job]).expect(0);
}

#[test]
fn a_bundle_has_what_helps_and_no_secret() {
    let token = "bundle-test-token";
    let cluster = Cluster::start_with(&[], Some(token));
    let text = "SET job.name = 'helped';
        CREATE TABLE rolls (id BIGINT) WITH (connector = 'datagen', rate = '100');
        CREATE TABLE out (id BIGINT) WITH (connector = 'kafka', topic = 'out', create_topic = 'true',
            librdkafka.sasl.password = 'hunter2');
        INSERT INTO out SELECT id FROM rolls;";
    let job = cluster.submit("helped.sql", text).remove(0);
    cluster.wait_until(&job, "running");
    let ran = cluster.smack(&["debug", "bundle", "--to", "b.tar.gz"]).expect(0);
    assert_eq!(ran.out.trim(), "b.tar.gz");
    let unpacked = Command::new("tar").args(["-xzf", "b.tar.gz"]).current_dir(cluster.folder()).status();
    assert!(unpacked.expect("tar").success());
    let below = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect()
    };
    let is_ours = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("smack-debug-"))
    };
    let folder = below(cluster.folder()).into_iter().find(is_ours).expect("a folder in it");
    let read =
        |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(read("api/jobs.json").contains("helped/") && read("api/cluster.json").contains("agent-1"));
    assert!(read(&format!("jobs/{job}/dataflow.json")).contains("source-rolls"));
    assert!(read(&format!("jobs/{job}/why.json")).contains("running"));
    assert!(read("machine.txt").contains("cores"));
    let members: Vec<String> = below(&folder.join("metrics"))
        .iter()
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    for role in ["master-", "runner-", "agent-"] {
        assert!(members.iter().any(|member| member.starts_with(role)), "{members:?}");
    }
    assert!(below(&folder.join("logs")).len() >= 2);
    let mut waiting = vec![folder.clone()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(below(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(!text.contains("hunter2") && !text.contains(token), "{}", path.display());
    }
    assert!(!folder.join("missing.txt").exists(), "{}", read("missing.txt"));
}
