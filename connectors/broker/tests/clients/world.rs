//! A broker in a folder of its own, and clients of it.

use broker::{Broker, Config};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    runtime: Option<Runtime>,
    broker: Option<Broker>,
    pub dir: TempDir,
    pub port: u16,
    change: fn(&mut Config),
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

impl World {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(change: fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = Self { runtime: None, broker: None, dir, port: 0, change };
        world.run();
        world
    }

    fn run(&mut self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut config = Config::new(address, self.dir.path().join("broker"));
        (self.change)(&mut config);
        let runtime = runtime();
        let broker = runtime.block_on(Broker::start(config)).expect("a broker");
        self.port = broker.addr.port();
        self.broker = Some(broker);
        self.runtime = Some(runtime);
    }

    pub fn restart(&mut self) {
        let (runtime, broker) = (self.runtime.take().expect("running"), self.broker.take().expect("running"));
        runtime.block_on(broker.stop());
        drop(runtime);
        self.run();
    }

    /// Ends it without any of what it does at an end.
    pub fn crash(&mut self) {
        self.runtime.take().expect("running").shutdown_timeout(Duration::from_secs(5));
        drop(self.broker.take());
        self.run();
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("running").block_on(work)
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn config(&self, options: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        for (key, value) in options {
            config.set(*key, *value);
        }
        config
    }

    pub fn producer(&self, options: &[(&str, &str)]) -> BaseProducer {
        self.config(options).create().expect("a producer")
    }

    /// One that has begun transactions under this id.
    pub fn transactional(&self, id: &str) -> BaseProducer {
        let producer = self.producer(&[("transactional.id", id)]);
        producer.init_transactions(PATIENCE).expect("a transactional producer");
        producer
    }

    pub fn consumer(&self, options: &[(&str, &str)]) -> BaseConsumer {
        let mut config =
            self.config(&[("group.id", "g"), ("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")]);
        for (key, value) in options {
            config.set(*key, *value);
        }
        config.create().expect("a consumer")
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config(&[]).create().expect("an admin client")
    }

    pub fn create(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            new = new.set(key, value);
        }
        let results = self.block_on(self.admin().create_topics(&[new], &AdminOptions::new())).expect("an answer");
        results.into_iter().for_each(|result| drop(result.expect("created")));
    }

    /// Everything in a partition, from `offset` on, up to its end: offset and value.
    pub fn read(&self, topic: &str, partition: i32, offset: i64, isolation: &str) -> Vec<(i64, String)> {
        let consumer = self.consumer(&[("isolation.level", isolation), ("enable.partition.eof", "true")]);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        consumer.assign(&list).expect("assigned");
        let until = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        while Instant::now() < until {
            match consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => {
                    let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                    found.push((message.offset(), value));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return found,
                Some(Err(error)) => panic!("reading {topic}: {error}"),
            }
        }
        panic!("no end of {topic} after {} records", found.len());
    }

    pub fn values(&self, topic: &str, partition: i32, isolation: &str) -> Vec<String> {
        self.read(topic, partition, 0, isolation).into_iter().map(|(_, value)| value).collect()
    }
}

/// Sends and waits until all is acknowledged.
pub fn send(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
    for value in values {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("acknowledged");
}

pub fn names(from: std::ops::Range<usize>) -> Vec<String> {
    from.map(|at| format!("value {at}")).collect()
}

pub fn as_texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no {what}");
}
