//! How long a record takes from one topic to another through a job: from when a producer outside appends it to when a
//! consumer outside sees it. Producer and consumer are here, the job and our broker are processes of their own.
//!
//! Invariant: both clocks are one; a record's age counts from when it is handed to a producer that does not wait for more of
//! them, which is before it is appended, and until it is in the consumer's hands. A run's first seconds do not count.

use super::Figure;
use super::latency::{MEASURED, ROWS_PER_SECOND, WARM_UP, made_us, now_us};
use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(20);
/// The producer wakes up this often.
const PACE: Duration = Duration::from_millis(1);

/// Of p50 and of p99, in milliseconds.
type Goals = (f64, f64);

/// Delivery, how often there are checkpoints, and the goals.
const RUNS: [(&str, &str, Option<Goals>); 3] =
    [("at_least_once", "1s", Some((5.0, 20.0))), ("exactly_once", "1s", None), ("exactly_once", "100ms", None)];

pub fn measure(folder: &Path, beside: Option<&str>) -> anyhow::Result<Vec<Figure>> {
    let port = free_port()?;
    let ours = format!("127.0.0.1:{port}");
    let mut broker = Process(
        Command::new(std::env::current_exe()?)
            .args(["broker", "--listen", &ours, "--data-dir"])
            .arg(folder.join("broker"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start `smack broker`")?,
    );
    let mut figures = Vec::new();
    for (delivery, interval, goals) in RUNS {
        let own = ages(folder, &ours, delivery, interval)?;
        let other = beside.map(|brokers| ages(folder, brokers, delivery, interval)).transpose()?;
        let what = |which: &str| format!("topic to topic, {delivery}, checkpoints each {interval}: {which}");
        for (which, share, goal) in [("p50", 0.5, goals.map(|(p50, _)| p50)), ("p99", 0.99, goals.map(|(_, p99)| p99))]
        {
            let figure = Figure::lower("latency", what(which), at(&own, share), "ms", goal);
            figures.push(match (&other, beside) {
                (Some(ages), Some(brokers)) => figure.beside(brokers, at(ages, share)),
                _ => figure,
            });
        }
        let rate = own.len() as f64 / MEASURED.as_secs_f64();
        let wanted = goals.map(|_| ROWS_PER_SECOND as f64 * 0.95);
        figures.push(Figure::higher("latency", what("records that came through"), rate, "rows/s", wanted));
    }
    broker.end();
    Ok(figures)
}

/// Milliseconds, of ages that are sorted.
fn at(ages: &[i64], share: f64) -> f64 {
    ages[((ages.len() - 1) as f64 * share) as usize] as f64 / 1000.0
}

/// Ended with whoever holds it.
struct Process(Child);

impl Process {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("failed to find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn job(brokers: &str, topics: &[String; 2], delivery: &str, interval: &str) -> String {
    let [from, to] = topics;
    format!(
        "SET checkpoint.interval = '{interval}';\n\
         CREATE TABLE made (made BIGINT, id BIGINT, value DOUBLE) WITH (connector = 'kafka', topic = '{from}', \
         'bootstrap.servers' = '{brokers}', format = 'json');\n\
         CREATE TABLE told (made BIGINT, id BIGINT, twice DOUBLE) WITH (connector = 'kafka', topic = '{to}', \
         'bootstrap.servers' = '{brokers}', format = 'json', delivery = '{delivery}');\n\
         INSERT INTO told SELECT made, id, value * 2 FROM made WHERE value >= 0;\n"
    )
}

/// Microseconds, sorted, of the records that are seen in the measured time.
fn ages(folder: &Path, brokers: &str, delivery: &str, interval: &str) -> anyhow::Result<Vec<i64>> {
    let topics = ["in", "out"].map(|which| format!("smack-bench-{which}-{}-{delivery}-{interval}", std::process::id()));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    create(&config, &topics)?;
    let file = folder.join("topics.sql");
    std::fs::write(&file, job(brokers, &topics, delivery, interval))?;
    let errors = folder.join("topics.log");
    let mut run = Process(
        Command::new(std::env::current_exe()?)
            .args(["run", "--slices", "2", "-q"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors)?)
            .spawn()
            .context("failed to start `smack run`")?,
    );
    let over = AtomicBool::new(false);
    let ages = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&config, &topics[0], &over));
        let ages = consume(&config, &topics[1]);
        over.store(true, Relaxed);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        produced.and(ages)
    });
    run.end();
    remove(&config, &topics)?;
    let mut ages = ages.with_context(|| std::fs::read_to_string(&errors).unwrap_or_default())?;
    ages.sort_unstable();
    Ok(ages)
}

fn create(config: &ClientConfig, topics: &[String]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new = |topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let new: Vec<NewTopic<'_>> = topics.iter().map(|topic| new(topic.as_str())).collect();
    let began = Instant::now();
    loop {
        let created = futures::executor::block_on(admin.create_topics(&new, &AdminOptions::new()));
        match created {
            // The broker may only just have been started.
            Err(_) if began.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error.into()),
            Ok(results) => {
                for result in results {
                    if let Err((topic, code)) = result {
                        bail!("failed to create topic {topic}: {code}");
                    }
                }
                return Ok(());
            }
        }
    }
}

fn remove(config: &ClientConfig, topics: &[String]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    futures::executor::block_on(admin.delete_topics(&names, &AdminOptions::new()))?;
    Ok(())
}

/// Records at the rate, until it is over.
fn produce(config: &ClientConfig, topic: &str, over: &AtomicBool) -> anyhow::Result<()> {
    let mut config = config.clone();
    config.set("linger.ms", "0").set("queue.buffering.max.messages", "1000000");
    let producer: BaseProducer = config.create()?;
    let began = Instant::now();
    let mut sent = 0_u64;
    while !over.load(Relaxed) {
        let due = (began.elapsed().as_secs_f64() * ROWS_PER_SECOND as f64) as u64;
        while sent < due {
            let value = format!("{{\"made\":{},\"id\":{sent},\"value\":{}.5}}", now_us()?, sent % 1000);
            let record = BaseRecord::<(), [u8]>::to(topic).partition((sent % PARTITIONS as u64) as i32);
            match producer.send(record.payload(value.as_bytes())) {
                Ok(()) => sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(PACE);
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(PACE);
    }
    Ok(producer.flush(PATIENCE)?)
}

fn consume(config: &ClientConfig, topic: &str) -> anyhow::Result<Vec<i64>> {
    let mut config = config.clone();
    config.set("group.id", "smack-bench").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut ages = Vec::with_capacity(ROWS_PER_SECOND as usize * MEASURED.as_secs() as usize);
    let mut first = None;
    loop {
        let Some(message) = consumer.poll(PATIENCE) else {
            bail!("no record came through within {} s", PATIENCE.as_secs());
        };
        let message = message?;
        let now = Instant::now();
        let began = *first.get_or_insert(now);
        if now - began >= WARM_UP + MEASURED {
            return Ok(ages);
        }
        if now - began >= WARM_UP {
            ages.push(now_us()? - made_us(message.payload().unwrap_or_default())?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streaming::functions::Functions;

    #[test]
    fn the_job_plans() {
        let topics = ["a".to_string(), "b".to_string()];
        for (delivery, interval, _) in RUNS {
            let script = streaming::sql::parse(&job("localhost:9092", &topics, delivery, interval)).expect("it parses");
            let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(streaming::sql::plan(&script, &inserts, &Functions::new())).expect("it plans");
        }
    }
}
