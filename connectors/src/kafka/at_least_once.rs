//! A sink that sends rows at once, through an idempotent producer.
//!
//! Promises: what was written before `prepare` returns is acknowledged by all in-sync replicas. Rows written after the
//! last durable checkpoint appear again after a crash. Records of one key keep their order, tombstones among them.

use super::changelog::RecordEncoder;
use super::cluster;
use super::outbox::Records;
use super::producer::Producer;
use super::settings::Settings;
use crate::api::{Error, Result, Sink};
use arrow::array::{Int8Array, RecordBatch};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;

/// How long the brokers may be silent before the runtime is told; nothing is given up then.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a record waits for others. Rows come in batches, which are together at once; librdkafka's own five
/// milliseconds would only make each of them late.
const LINGER_MS: &str = "0.5";

pub struct AtLeastOnceSink {
    settings: Settings,
    records: RecordEncoder,
    producer: Producer,
    /// Records accepted by `write` or `change` for which librdkafka had no room yet; those of one batch at most.
    unsent: Records,
    /// Where the first of them begins that was not handed on since.
    unsent_at: usize,
    /// A record was lost for good: only the checkpoint can bring it back, so nothing more succeeds.
    lost: Option<String>,
}

impl AtLeastOnceSink {
    pub fn open(settings: Settings) -> Result<Self> {
        let mut config = settings.producer();
        if config.get("message.timeout.ms").is_none() && config.get("delivery.timeout.ms").is_none() {
            // An outage of any length is waited for, and told by `write` and `prepare`.
            config.set("message.timeout.ms", "0");
        }
        if config.get("linger.ms").is_none() && config.get("queue.buffering.max.ms").is_none() {
            config.set("linger.ms", LINGER_MS);
        }
        let producer = Producer::open(&settings, &config, &settings.topic)?;
        let records = RecordEncoder::new(&settings)?;
        let unsent = Records::new(records.is_wide());
        Ok(Self { settings, records, producer, unsent, unsent_at: 0, lost: None })
    }

    fn failed(&mut self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let place = format!("Kafka at {}, topic '{}'", self.settings.brokers, self.settings.topic);
        match error {
            KafkaError::MessageProduction(Code::QueueFull) | KafkaError::Flush(_) => {
                let waiting = self.producer.waiting() + self.unsent.iter_from(self.unsent_at).count();
                let silence = format!("{waiting} records wait for their acknowledgement");
                cluster::failed(&self.settings, self.producer.watch(), &silence, error)
            }
            KafkaError::MessageProduction(Code::MessageSizeTooLarge) => {
                let text = format!(
                    "{place}: a record is larger than the broker takes; raise max.message.bytes of the topic and \
                     librdkafka.message.max.bytes"
                );
                self.lost = Some(text.clone());
                Error::Fatal(text)
            }
            KafkaError::MessageProduction(
                Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition,
            ) => {
                let text = format!("{place}: {}", cluster::NOWHERE);
                self.lost = Some(text.clone());
                Error::Fatal(text)
            }
            other => {
                let text = format!("{place}: a record was refused: {other}; the job has to go on from its checkpoint");
                self.lost = Some(text.clone());
                Error::Fatal(text)
            }
        }
    }

    /// Hands on what waits, for at most `wait`.
    fn drain(&mut self, wait: Duration) -> std::result::Result<(), KafkaError> {
        while let Some((record, next)) = self.unsent.read(self.unsent_at) {
            self.producer.send(&record, wait)?;
            self.unsent_at = next;
        }
        self.unsent.clear();
        self.unsent_at = 0;
        Ok(())
    }

    fn check_lost(&self) -> Result<()> {
        self.lost.as_ref().map_or(Ok(()), |text| Err(Error::Fatal(text.clone())))
    }

    /// On a transient error none of `batch` was taken, so it can be given again.
    fn put(&mut self, batch: &RecordBatch, weights: Option<&Int8Array>) -> Result<()> {
        self.check_lost()?;
        if let Err(error) = self.drain(PATIENCE) {
            return Err(self.failed(&error));
        }
        let (producer, unsent) = (&mut self.producer, &mut self.unsent);
        let mut refused = None;
        self.records.each(batch, weights, |record| {
            if unsent.is_empty() && refused.is_none() {
                match producer.send(record, PATIENCE) {
                    Ok(()) => return Ok(()),
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {}
                    Err(error) => refused = Some(error),
                }
            }
            unsent.push(record);
            Ok(())
        })?;
        match refused {
            None => Ok(()),
            Some(error) => Err(self.failed(&error)),
        }
    }
}

impl Sink for AtLeastOnceSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.put(batch, None)
    }

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        self.put(batch, Some(weights))
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Vec<u8>> {
        self.check_lost()?;
        let flushed = self.drain(PATIENCE).and_then(|()| self.producer.flush(PATIENCE));
        match flushed {
            Ok(()) => Ok(Vec::new()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn commit(&mut self, _epoch: u64) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        if states.iter().all(Vec::is_empty) {
            return Ok(());
        }
        Err(Error::Fatal(format!(
            "the checkpoint holds records of table '{}' that an exactly-once sink has still to commit; run once with \
             delivery = 'exactly_once' before changing it",
            self.settings.table
        )))
    }
}
