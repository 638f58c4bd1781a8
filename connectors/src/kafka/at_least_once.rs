//! A sink that sends rows at once, through an idempotent producer.
//!
//! Promises: what was written before `prepare` returns is acknowledged by all in-sync replicas. Rows written after the
//! last durable checkpoint appear again after a crash. Records of one key keep their order, tombstones among them.

use super::changelog::RecordEncoder;
use super::cluster;
use super::producer::Producer;
use super::settings::Settings;
use crate::api::{Error, Result, Sink, TableDef};
use arrow::array::{Int8Array, RecordBatch};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the brokers may be silent before the runtime is told; nothing is given up then.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a record waits for others. Rows come in batches, which are together at once; librdkafka's own five
/// milliseconds would only make each of them late.
const LINGER_MS: &str = "0.5";

/// The key and the value of a record.
type Unsent = (Option<Vec<u8>>, Option<Vec<u8>>);

pub struct AtLeastOnceSink {
    settings: Settings,
    records: RecordEncoder,
    producer: Producer,
    /// Records accepted by `write` or `change` for which librdkafka had no room yet; those of one batch at most.
    unsent: VecDeque<Unsent>,
    /// A record was lost for good: only the checkpoint can bring it back, so nothing more succeeds.
    lost: Option<String>,
}

impl AtLeastOnceSink {
    pub fn open(settings: Settings, table: &TableDef) -> Result<Self> {
        let mut config = settings.producer();
        if config.get("message.timeout.ms").is_none() && config.get("delivery.timeout.ms").is_none() {
            // An outage of any length is waited for, and told by `write` and `prepare`.
            config.set("message.timeout.ms", "0");
        }
        if config.get("linger.ms").is_none() && config.get("queue.buffering.max.ms").is_none() {
            config.set("linger.ms", LINGER_MS);
        }
        let producer = Producer::open(&settings, &config, &settings.topic)?;
        let records = RecordEncoder::new(&settings, table)?;
        Ok(Self { settings, records, producer, unsent: VecDeque::new(), lost: None })
    }

    fn failed(&mut self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let place = format!("Kafka at {}, topic '{}'", self.settings.brokers, self.settings.topic);
        match error {
            KafkaError::MessageProduction(Code::QueueFull) | KafkaError::Flush(_) => {
                let waiting = self.producer.waiting() + self.unsent.len();
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
            other => {
                let text = format!("{place}: a record was refused: {other}; the job has to go on from its checkpoint");
                self.lost = Some(text.clone());
                Error::Fatal(text)
            }
        }
    }

    /// Hands on what waits, for at most `wait`.
    fn drain(&mut self, wait: Duration) -> std::result::Result<(), KafkaError> {
        while let Some((key, value)) = self.unsent.front() {
            self.producer.send(key.as_deref(), value.as_deref(), wait)?;
            self.unsent.pop_front();
        }
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
        self.records.each(batch, weights, |key, value| {
            if unsent.is_empty() && refused.is_none() {
                match producer.send(key, value, PATIENCE) {
                    Ok(()) => return Ok(()),
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {}
                    Err(error) => refused = Some(error),
                }
            }
            unsent.push_back((key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec)));
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
