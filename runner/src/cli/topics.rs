//! `smack topics`: what a person wants of Kafka's topics without Kafka's tools, at any broker.

use super::exit::{BAD_INPUT, FAILED, Fail, Result};
use super::output::{Output, table};
use clap::{Args, Subcommand};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Serialize;
use std::io::BufRead;
use std::time::Duration;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct TopicsArgs {
    #[command(subcommand)]
    verb: TopicsVerb,
    /// Brokers to ask; those of `smack dev` in this folder by default.
    #[arg(long, env = "SMACK_BROKERS", global = true, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
}

#[derive(Debug, Subcommand)]
enum TopicsVerb {
    /// List topics.
    Ls,
    /// Make a topic.
    Create {
        topic: String,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        /// A setting of it, for example --set retention.ms=60000.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::attribute)]
        settings: Vec<(String, String)>,
    },
    /// Delete a topic with all its records.
    Rm { topic: String },
    /// Print the last records of a topic.
    Tail {
        topic: String,
        /// How many of each partition.
        #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(0..))]
        lines: i64,
        /// Go on with those that come.
        #[arg(short, long)]
        follow: bool,
        /// Also records of open and aborted transactions.
        #[arg(long)]
        uncommitted: bool,
    },
    /// Send lines of standard input as records.
    Produce {
        topic: String,
        /// What stands before it in a line is the record's key.
        #[arg(long, value_name = "TEXT")]
        key_separator: Option<String>,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    partitions: usize,
    /// Between the first and the last offset; transactions' markers count.
    records: i64,
}

#[derive(Debug, Serialize)]
struct Told {
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<String>,
    value: Option<String>,
}

pub fn topics(args: TopicsArgs, output: Output) -> Result<()> {
    let Some(brokers) = args.brokers.or_else(connectors::usual_brokers::brokers) else {
        let error =
            "no broker is known here: start one with `smack dev` in this folder, or name one with --brokers host:9092";
        return Err(Fail::new(BAD_INPUT, error));
    };
    let at = At { brokers };
    match args.verb {
        TopicsVerb::Ls => at.list(output),
        TopicsVerb::Create { topic, partitions, settings } => at.create(output, &topic, partitions, &settings),
        TopicsVerb::Rm { topic } => at.remove(output, &topic),
        TopicsVerb::Tail { topic, lines, follow, uncommitted } => at.tail(output, &topic, lines, follow, uncommitted),
        TopicsVerb::Produce { topic, key_separator } => at.produce(output, &topic, key_separator.as_deref()),
    }
}

struct At {
    brokers: String,
}

impl At {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "smack");
        // Errors are told by the calls; librdkafka would tell them once more.
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Fail {
        let code = error.rdkafka_error_code();
        let reason = match code {
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown) => {
                format!("nobody answers at {}", self.brokers)
            }
            _ => error.to_string(),
        };
        Fail::new(FAILED, format!("failed to {what}: {reason}"))
    }

    fn consumer(&self, uncommitted: bool) -> Result<BaseConsumer> {
        let mut config = self.config();
        config.set("group.id", "smack-topics").set("enable.auto.commit", "false");
        config.set("isolation.level", if uncommitted { "read_uncommitted" } else { "read_committed" });
        config.set("enable.partition.eof", "true").set("allow.auto.create.topics", "false");
        config.create().map_err(|error| self.failed("read", &error))
    }

    fn list(&self, output: Output) -> Result<()> {
        let consumer = self.consumer(true)?;
        let failed = |error: KafkaError| self.failed("list topics", &error);
        let metadata = consumer.fetch_metadata(None, PATIENCE).map_err(failed)?;
        let mut listed = Vec::new();
        for topic in metadata.topics() {
            let mut records = 0;
            for partition in topic.partitions() {
                let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), PATIENCE).map_err(failed)?;
                records += high - low;
            }
            listed.push(Listed { topic: topic.name().to_string(), partitions: topic.partitions().len(), records });
        }
        listed.sort_by(|a, b| a.topic.cmp(&b.topic));
        output.either(&listed, |listed| {
            let rows =
                listed.iter().map(|one| [one.topic.clone(), one.partitions.to_string(), one.records.to_string()]);
            table(["TOPIC", "PARTITIONS", "RECORDS"], rows)
        })
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.config().create().map_err(|error| self.failed("ask", &error))
    }

    fn create(&self, output: Output, topic: &str, partitions: i32, settings: &[(String, String)]) -> Result<()> {
        let what = format!("create topic '{topic}'");
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let admin = self.admin()?;
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let results = super::on_one_thread(admin.create_topics([&new], &options))?;
        self.told(&what, results)?;
        output.progress(&format!("created topic '{topic}' with {partitions} partitions"));
        Ok(())
    }

    fn remove(&self, output: Output, topic: &str) -> Result<()> {
        let admin = self.admin()?;
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let results = super::on_one_thread(admin.delete_topics(&[topic], &options))?;
        self.told(&format!("delete topic '{topic}'"), results)?;
        output.progress(&format!("deleted topic '{topic}'"));
        Ok(())
    }

    fn told(&self, what: &str, results: rdkafka::error::KafkaResult<Vec<rdkafka::admin::TopicResult>>) -> Result<()> {
        for result in results.map_err(|error| self.failed(what, &error))? {
            if let Err((_, code)) = result {
                return Err(Fail::new(FAILED, format!("failed to {what}: {code}")));
            }
        }
        Ok(())
    }

    fn tail(&self, output: Output, topic: &str, lines: i64, follow: bool, uncommitted: bool) -> Result<()> {
        let what = format!("read topic '{topic}'");
        let failed = |error: KafkaError| self.failed(&what, &error);
        let consumer = self.consumer(uncommitted)?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(failed)?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(Fail::new(FAILED, format!("failed to {what}: there is no such topic at {}", self.brokers)));
        }
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let from = if lines == 0 { Offset::End } else { Offset::OffsetTail(lines) };
            list.add_partition_offset(topic, partition.id(), from).map_err(failed)?;
        }
        let mut left = list.count();
        consumer.assign(&list).map_err(failed)?;
        while left > 0 || follow {
            match consumer.poll(Duration::from_millis(500)) {
                None => {}
                Some(Ok(message)) => tell(output, &message)?,
                Some(Err(KafkaError::PartitionEOF(_))) => left = left.saturating_sub(1),
                Some(Err(error)) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn produce(&self, output: Output, topic: &str, key_separator: Option<&str>) -> Result<()> {
        let what = format!("send to topic '{topic}'");
        let failed = |error: &KafkaError| self.failed(&what, error);
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("message.timeout.ms", "30000");
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|error| failed(&error))?;
        let mut sent = 0u64;
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Fail::new(FAILED, format!("failed to read standard input: {error}")))?;
            let (key, value) = match key_separator.and_then(|separator| line.split_once(separator)) {
                Some((key, value)) => (Some(key), value),
                None => (None, line.as_str()),
            };
            loop {
                let mut record = BaseRecord::to(topic).payload(value);
                if let Some(key) = key {
                    record = record.key(key);
                }
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    Err((error, _)) => return Err(failed(&error)),
                }
            }
            sent += 1;
        }
        producer.flush(Duration::from_secs(60)).map_err(|error| failed(&error))?;
        if let Some(error) = producer.context().failed() {
            return Err(failed(&error));
        }
        output.progress(&format!("sent {sent} records to topic '{topic}'"));
        Ok(())
    }
}

/// Remembers the first record that was not taken.
#[derive(Default)]
struct Deliveries {
    first: std::sync::Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn failed(&self) -> Option<KafkaError> {
        self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

// Errors are told by the calls; librdkafka would tell them once more.
impl rdkafka::ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl rdkafka::producer::ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

fn tell(output: Output, message: &BorrowedMessage<'_>) -> Result<()> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = Told {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(text),
        value: message.payload().map(text),
    };
    if output.json {
        let line = serde_json::to_string(&told)
            .map_err(|error| Fail::new(FAILED, format!("failed to write a record as JSON: {error}")))?;
        return output.line(&line);
    }
    output.line(told.value.as_deref().unwrap_or("(no value)"))
}
