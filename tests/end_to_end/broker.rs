//! The broker of `smack dev`: tables that name no brokers are its topics, and a stream from one to another is exactly
//! once though broker and tasks are killed.

use crate::cluster::Cluster;
use crate::program::smack;
use crate::wait::wait_for;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::time::Duration;

const START_MS: i64 = 1_767_225_600_000;
const WINDOWS: i64 = 400;
/// In each window of a second.
const ROWS: i64 = 10;

const JOB: &str = "
    SET job.name = 'counted'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '300ms';
    CREATE TABLE payments (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
        WITH (connector = 'kafka', topic = 'payments', format = 'json', 'json.timestamp_format' = 'millis');
    CREATE TABLE counted (first BIGINT, n BIGINT, ids BIGINT)
        WITH (connector = 'kafka', topic = 'counted', format = 'json', create_topic = 'true');
    INSERT INTO counted SELECT MIN(id), COUNT(*), SUM(id)
    FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 second')) GROUP BY window_start, window_end;";

struct Writer(ThreadedProducer<DefaultProducerContext>);

impl Writer {
    fn new(cluster: &Cluster) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &cluster.kafka).set("enable.idempotence", "true");
        Self(config.create().expect("a producer"))
    }

    fn send(&self, windows: std::ops::Range<i64>) {
        for id in windows.start * ROWS..windows.end * ROWS {
            let value = json!({"id": id, "ts": START_MS + id * 1000 / ROWS}).to_string();
            let record = BaseRecord::<(), str>::to("payments").partition((id % 2) as i32).payload(&value);
            self.0.send(record).map_err(|(error, _)| error).expect("queued");
        }
        self.0.flush(Duration::from_secs(60)).expect("acknowledged, also by a broker that was away");
    }
}

/// Committed records of the answer's only partition.
fn answers(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.kafka).set("group.id", "test").set("enable.partition.eof", "true");
    config.set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("counted", 0, Offset::Beginning).map_err(|error| error.to_string())?;
    consumer.assign(&list).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(10)).ok_or("no answer")? {
            Ok(message) => {
                let value = message.payload().unwrap_or_default();
                found.push(serde_json::from_slice(value).map_err(|error| error.to_string())?);
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return Ok(found),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[test]
fn a_stream_between_topics_is_exactly_once_though_broker_and_task_are_killed() {
    let cluster = Cluster::start();
    cluster.smack(&["topics", "create", "payments", "--partitions", "2"]).expect(0);
    assert_eq!(cluster.submit("counted.sql", JOB), ["counted/counted"]);
    let writer = Writer::new(&cluster);
    let third = WINDOWS / 3;
    writer.send(0..third);
    wait_for("first answers", || match answers(&cluster)? {
        found if found.len() > 20 => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let broker = cluster.member("broker");
    broker.kill();
    writer.send(third..2 * third);
    cluster.wait_for_new("broker", &broker);
    let job =
        cluster.wait_for("counted/counted", "running tasks", |job| job.state == "running" && job.tasks.len() == 2);
    cluster.task(&job.tasks[0].id).kill();
    cluster.member("broker").kill();
    writer.send(2 * third..WINDOWS + 3);
    let mut found = wait_for("all answers", || match answers(&cluster)? {
        found if found.len() as i64 >= WINDOWS => Ok(found),
        found => Err(format!("{} answers", found.len())),
    });
    found.sort_by_key(|row| row["first"].as_i64());
    for (at, row) in found.iter().take(WINDOWS as usize).enumerate() {
        let first = at as i64 * ROWS;
        let ids: i64 = (first..first + ROWS).sum();
        assert_eq!(row, &json!({"first": first, "n": ROWS, "ids": ids}), "window {at}");
    }
    let listed = cluster.smack(&["topics", "ls", "-o", "json"]).expect(0).json();
    let names: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(|one| one["topic"].as_str()).collect();
    assert!(names.contains(&"counted") && names.contains(&"payments"), "{names:?}");
}

#[test]
fn topics_are_written_and_read_by_hand() {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("lines"), "a:1\nb:2\n").expect("a file");
    let mut command =
        crate::program::command(cluster.folder(), &["topics", "produce", "words", "--key-separator", ":"]);
    command.stdin(std::fs::File::open(cluster.path("lines")).expect("a file"));
    assert!(command.status().expect("it starts").success());
    let told = cluster.smack(&["topics", "tail", "words", "-o", "json"]).expect(0).out;
    let rows: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((rows.len(), &rows[0]["key"], &rows[1]["value"]), (2, &json!("a"), &json!("2")));
    assert_eq!(cluster.smack(&["topics", "tail", "words", "-n", "1"]).expect(0).out, "2\n");
    cluster.smack(&["topics", "rm", "words"]).expect(0);
    let gone = cluster.smack(&["topics", "tail", "words"]).expect(1);
    assert!(gone.err.contains("there is no such topic"), "{}", gone.err);
}

#[test]
fn without_a_broker_the_way_out_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("counted.sql"), JOB).expect("a file");
    // A file that names none is sound: where it runs there is one.
    smack(folder.path(), &["check", "counted.sql"]).expect(0);
    let refused = smack(folder.path(), &["topics", "ls"]).expect(2);
    assert!(refused.err.contains("--brokers"), "{}", refused.err);
}
