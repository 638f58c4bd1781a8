//! Suite `broker`: records of 100 bytes into the embedded broker and out of it, through Kafka's C client.
//!
//! The client's own limits are part of the figure, as they are of a job's; `--beside` measures another broker in the same
//! way, in the same run.

use super::Figure;
use anyhow::{Context, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const RECORDS: u64 = 2_000_000;
const RECORD_BYTES: usize = 100;
const TOPIC: &str = "smack-bench";
const PATIENCE: Duration = Duration::from_secs(60);
/// What Apache Kafka took and gave on the two-core machine where the goal was set.
const IN_GOAL: f64 = 483_000.0;
const OUT_GOAL: f64 = 300_000.0;

pub async fn measure(beside: Option<String>) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-broker-{}", std::process::id()));
    let config = broker::Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), folder.clone());
    // A thread for the client, others for the broker, as between processes.
    let (addr, (end, thread)) = {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                match broker::Broker::start(config).await {
                    Ok(broker) => {
                        let _ = sender.send(Ok(broker.addr));
                        // Ends when it is told to, or when nobody can tell it any more.
                        let _ = ended.await;
                        broker.stop().await;
                    }
                    Err(error) => drop(sender.send(Err(error))),
                }
            });
        });
        (receiver.await.context("failed to start the broker")??, (end, thread))
    };
    let ours = rates(&addr.to_string()).await;
    drop(end);
    let _ = thread.join();
    let _ = std::fs::remove_dir_all(&folder);
    let (records_in, records_out) = ours?;
    let mut figures = vec![
        Figure::higher("broker", "records of 100 bytes in", records_in, "1/s", Some(IN_GOAL)),
        Figure::higher("broker", "records of 100 bytes out", records_out, "1/s", Some(OUT_GOAL)),
    ];
    if let Some(address) = beside {
        let (records_in, records_out) = rates(&address).await?;
        figures = figures
            .into_iter()
            .zip([records_in, records_out])
            .map(|(figure, other)| figure.beside(&address, other))
            .collect();
    }
    Ok(figures)
}

async fn rates(brokers: &str) -> anyhow::Result<(f64, f64)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        if let Err((topic, code)) = result {
            bail!("failed to create topic {topic} at {brokers}: {code}");
        }
    }
    let records_in = produce(&config)?;
    let records_out = consume(&config)?;
    admin.delete_topics(&[TOPIC], &AdminOptions::new()).await?;
    Ok((records_in, records_out))
}

fn produce(config: &ClientConfig) -> anyhow::Result<f64> {
    let mut config = config.clone();
    config.set("linger.ms", "20").set("batch.num.messages", "10000").set("queue.buffering.max.messages", "500000");
    let producer: BaseProducer = config.create()?;
    let value = vec![b'x'; RECORD_BYTES];
    let started = Instant::now();
    for at in 0..RECORDS {
        loop {
            match producer.send(BaseRecord::<(), [u8]>::to(TOPIC).payload(&value)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if at % 1_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE)?;
    Ok(RECORDS as f64 / started.elapsed().as_secs_f64())
}

fn consume(config: &ClientConfig) -> anyhow::Result<f64> {
    let mut config = config.clone();
    config.set("group.id", "smack-bench").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
    let started = Instant::now();
    consumer.assign(&list)?;
    let mut left = RECORDS;
    while left > 0 {
        match consumer.poll(PATIENCE) {
            Some(Ok(_)) => left -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => bail!("failed to read: no record came for {} s, {left} are missing", PATIENCE.as_secs()),
        }
    }
    Ok(RECORDS as f64 / started.elapsed().as_secs_f64())
}
