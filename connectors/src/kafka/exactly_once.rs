//! A sink whose every row is visible once to readers that read committed records, whatever is killed when.
//!
//! How: rows of an epoch are encoded and kept. `prepare` puts them into the checkpoint. Only when that is durable does
//! `commit` open a transaction, send them, note the epoch's number as an offset of the writer's own consumer group in the
//! same transaction, and commit it. So records and number become visible together or not at all.
//!
//! The naive way keeps one transaction open from barrier to barrier and commits it after the checkpoint. It breaks when
//! a process dies between the two: a client cannot take up a predecessor's transaction, the broker aborts it, and a
//! checkpointed epoch is lost. The price of this way is that the epoch's records pass through memory and checkpoint.
//!
//! After a crash: the checkpoint names each writer that prepared it. For each, whoever restores it asks for the number
//! noted under that writer's group; if it is missing, it first makes that writer's transactional id its own, which
//! fences a zombie that still holds it, asks again, and sends the records under that very id. Every writer has an id that
//! no other ever has, so it does not matter how many slices there are now or which of them restores what. A
//! predecessor whose id was not taken over has nothing durable to commit.
//!
//! Downtime survived: brokers forget offsets of idle groups after `offsets.retention.minutes` (seven days by default). A
//! checkpoint older than six days whose number is missing is therefore refused, never guessed about.

use super::changelog::RecordEncoder;
use super::cluster::{self, Watch};
use super::outbox::{Outbox, Records};
use super::producer::Producer;
use super::settings::Settings;
use crate::api::{Context, Error, Result, Sink};
use crate::failpoint;
use arrow::array::{Int8Array, RecordBatch};
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// Waiting for a coordinator: right after a broker's start it may still be loading.
const COORDINATOR_WITHIN: Duration = Duration::from_secs(30);
/// Attempts at one commit before the runtime is told, which then tries again itself …
const ATTEMPTS: u32 = 5;
/// … or fewer, if they take so long.
const TELL_AFTER: Duration = Duration::from_secs(30);
const BACK_OFF: Duration = Duration::from_millis(200);
/// One day below the brokers' default, so that a checkpoint's age is never misjudged by clocks that differ.
const NUMBER_KEPT: Duration = Duration::from_secs(6 * 86_400);

pub struct ExactlyOnceSink {
    settings: Settings,
    records: RecordEncoder,
    /// Rows since the last barrier.
    open: Records,
    prepared: BTreeMap<u64, Records>,
    writer: Writer,
}

impl ExactlyOnceSink {
    pub fn open(settings: Settings, context: &Context) -> Result<Self> {
        // The random part makes the id this writer's alone, also where two statements of a job write one table.
        let id = format!("smack.{}.{}.{}.{}", context.job, settings.table, context.slot, uuid::Uuid::now_v7().simple());
        Ok(Self {
            records: RecordEncoder::new(&settings)?,
            open: Records::new(!settings.metadata.is_empty()),
            prepared: BTreeMap::new(),
            writer: Writer::new(id, settings.topic.clone()),
            settings,
        })
    }

    fn kept_bytes(&self) -> usize {
        self.open.len_bytes() + self.prepared.values().map(Records::len_bytes).sum::<usize>()
    }

    fn put(&mut self, batch: &RecordBatch, weights: Option<&Int8Array>) -> Result<()> {
        let open = &mut self.open;
        self.records.each(batch, weights, |record| {
            open.push(record);
            Ok(())
        })?;
        if self.kept_bytes() > self.settings.buffer_bytes {
            return Err(Error::Fatal(format!(
                "table '{}' holds {} MiB of records that wait for their checkpoint, more than its buffer.memory; shorten \
                 checkpoint.interval, raise buffer.memory, or set delivery = 'at_least_once'",
                self.settings.table,
                self.kept_bytes() >> 20
            )));
        }
        Ok(())
    }
}

impl Sink for ExactlyOnceSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.put(batch, None)
    }

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        self.put(batch, Some(weights))
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        let records = self.open.take();
        if !records.is_empty() {
            let before = self.prepared.insert(epoch, records);
            assert!(before.is_none(), "epoch {epoch} was prepared twice");
        }
        if self.prepared.is_empty() {
            return Ok(Vec::new());
        }
        let outbox = Outbox {
            writer: self.writer.id.clone(),
            topic: self.settings.topic.clone(),
            prepared_ms: now_ms(),
            epochs: std::mem::take(&mut self.prepared),
        };
        let bytes = outbox.encode();
        self.prepared = outbox.epochs;
        Ok(bytes)
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        self.writer.commit(&self.settings, &self.prepared, epoch)?;
        self.prepared = self.prepared.split_off(&(epoch + 1));
        Ok(())
    }

    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        for state in states.iter().filter(|state| !state.is_empty()) {
            let outbox = Outbox::decode(state).map_err(|why| {
                Error::Fatal(format!(
                    "what table '{}' kept in checkpoint {epoch} cannot be read: {why}",
                    self.settings.table
                ))
            })?;
            finish(&self.settings, epoch, outbox)?;
        }
        Ok(())
    }
}

/// Sends what an earlier writer had prepared, unless it did so itself.
fn finish(settings: &Settings, epoch: u64, outbox: Outbox) -> Result<()> {
    let mut writer = Writer::new(outbox.writer, outbox.topic);
    let Some(last) = outbox.epochs.range(..=epoch).next_back().map(|(last, _)| *last) else { return Ok(()) };
    // Asked before the fence, because mostly it is there, and a fence costs round trips and a producer.
    let noted = writer.noted_epoch(settings)?;
    if noted.is_some_and(|noted| noted >= last) {
        return Ok(());
    }
    let age = Duration::from_millis(now_ms().saturating_sub(outbox.prepared_ms));
    if noted.is_none() && age > NUMBER_KEPT {
        return Err(Error::Fatal(format!(
            "checkpoint {epoch} is {} days old, and Kafka at {} may have forgotten whether its records for topic '{}' were \
             committed; look at the end of the topic, and start the job afresh from there",
            age.as_secs() / 86_400,
            settings.brokers,
            writer.topic
        )));
    }
    info!(table = %settings.table, writer = %writer.id, epoch, "finishing what an earlier writer had prepared");
    writer.must_ask = true;
    writer.commit(settings, &outbox.epochs, epoch)
}

/// One transactional id and, while it is in use, its producer.
struct Writer {
    id: String,
    topic: String,
    live: Option<(Producer, ConsumerGroupMetadata)>,
    /// The outcome of an earlier attempt is unknown: ask before sending again.
    must_ask: bool,
}

/// What an attempt at a transaction came to.
enum Outcome {
    /// Nothing of it is visible; the same producer can go on after an abort.
    Abort(KafkaError),
    /// The producer is of no more use, and whether the transaction was committed is unknown.
    Unknown(KafkaError),
    /// Somebody else took this id over.
    Fenced,
    Failed(Error),
}

impl Writer {
    fn new(id: String, topic: String) -> Self {
        Self { id, topic, live: None, must_ask: false }
    }

    /// Makes the records of all epochs up to `up_to` visible, once.
    fn commit(&mut self, settings: &Settings, epochs: &BTreeMap<u64, Records>, up_to: u64) -> Result<()> {
        let Some(last) = epochs.range(..=up_to).next_back().map(|(last, _)| *last) else { return Ok(()) };
        let mut back_off = BACK_OFF;
        let mut attempt = 1;
        let begun = Instant::now();
        loop {
            let error = match self.attempt(settings, epochs, last) {
                Ok(()) => {
                    self.must_ask = false;
                    return Ok(());
                }
                Err(Outcome::Failed(error)) => {
                    self.give_up();
                    return Err(error);
                }
                Err(Outcome::Fenced) => return Err(self.fenced(settings)),
                Err(Outcome::Abort(error)) => {
                    match self.abort() {
                        Ok(()) => {}
                        Err(Outcome::Fenced) => return Err(self.fenced(settings)),
                        Err(_) => self.give_up(),
                    }
                    error
                }
                Err(Outcome::Unknown(error)) => {
                    self.give_up();
                    error
                }
            };
            warn!(table = %settings.table, writer = %self.id, epoch = last, attempt, %error, "a commit to Kafka is tried again");
            if attempt == ATTEMPTS || begun.elapsed() >= TELL_AFTER {
                let doing = format!("commit checkpoint {last}");
                let watch = self.live.as_ref().map(|(producer, _)| producer.watch());
                return Err(cluster::failed(settings, watch.unwrap_or(&Watch::default()), &doing, &error));
            }
            std::thread::sleep(back_off);
            back_off *= 2;
            attempt += 1;
        }
    }

    /// Drops what the open transaction holds.
    fn abort(&mut self) -> std::result::Result<(), Outcome> {
        let Some((producer, _)) = &mut self.live else { return Ok(()) };
        // Its records are purged here, because librdkafka waits for their reports to be taken while it aborts.
        producer.inner.purge(PurgeConfig::default().queue().inflight());
        let _ = producer.flush(COORDINATOR_WITHIN);
        producer.inner.abort_transaction(COORDINATOR_WITHIN).map_err(weigh)?;
        // What was purged was reported as undelivered; it is sent again.
        producer.watch().take_undelivered();
        Ok(())
    }

    fn fenced(&mut self, settings: &Settings) -> Error {
        self.give_up();
        Error::Fatal(format!(
            "Kafka at {}, topic '{}': another process has taken over this writer's transactional id '{}': a newer \
             generation of the job runs, or a commit took longer than transaction.timeout",
            settings.brokers, self.topic, self.id
        ))
    }

    fn give_up(&mut self) {
        self.live = None;
        self.must_ask = true;
    }

    fn attempt(
        &mut self,
        settings: &Settings,
        epochs: &BTreeMap<u64, Records>,
        last: u64,
    ) -> std::result::Result<(), Outcome> {
        if self.live.is_none() {
            self.live = Some(self.start(settings)?);
            // Also the first time: a newer generation may have finished this writer's work before it began.
            self.must_ask = true;
        }
        // Asked after the id became ours: from then on nobody else can commit under it.
        let noted = if self.must_ask { self.noted_epoch(settings).map_err(Outcome::Failed)? } else { None };
        if noted.is_some_and(|noted| noted >= last) {
            return Ok(());
        }
        let first = noted.map_or(0, |noted| noted + 1);
        let (producer, group) = self.live.as_mut().unwrap_or_else(|| panic!("writer without a producer"));
        producer.inner.begin_transaction().map_err(weigh)?;
        for record in epochs.range(first..=last).flat_map(|(_, records)| records.iter()) {
            producer.send(&record, settings.transaction_timeout).map_err(weigh)?;
        }
        producer.flush(settings.transaction_timeout).map_err(weigh)?;
        let mut number = TopicPartitionList::with_capacity(1);
        // `last` is noted as it is: a committed offset n means that epoch n is visible.
        number.add_partition_offset(&self.topic, 0, Offset::Offset(last as i64)).map_err(weigh)?;
        producer.inner.send_offsets_to_transaction(&number, group, settings.transaction_timeout).map_err(weigh)?;
        failpoint::reached(failpoint::SENT);
        producer.inner.commit_transaction(settings.transaction_timeout).map_err(weigh)?;
        failpoint::reached(failpoint::BEFORE_ACK);
        Ok(())
    }

    /// A producer that holds this id, everybody else who held it fenced off.
    fn start(&self, settings: &Settings) -> std::result::Result<(Producer, ConsumerGroupMetadata), Outcome> {
        let mut config = settings.producer();
        config.set("transactional.id", &self.id);
        config.set("transaction.timeout.ms", settings.transaction_timeout.as_millis().to_string());
        let producer = Producer::open(settings, &config, &self.topic).map_err(Outcome::Failed)?;
        producer.inner.init_transactions(COORDINATOR_WITHIN).map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::InvalidTransactionTimeout) => Outcome::Failed(Error::Fatal(format!(
                "Kafka at {} refuses a transaction.timeout of {:?}; its transaction.max.timeout.ms is lower",
                settings.brokers, settings.transaction_timeout
            ))),
            Some(
                RDKafkaErrorCode::TransactionalIdAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => Outcome::Failed(cluster::failed(settings, producer.watch(), "begin to write", &error)),
            _ => Outcome::Unknown(error),
        })?;
        let consumer = cluster::consumer(settings, &self.id).map_err(Outcome::Failed)?;
        let group = consumer.group_metadata();
        Ok((producer, group.unwrap_or_else(|| panic!("a consumer of group '{}' has no group", self.id))))
    }

    /// The last epoch that this writer committed, if any.
    fn noted_epoch(&self, settings: &Settings) -> Result<Option<u64>> {
        // Read committed, whatever the table reads with: a number of an open transaction is not there yet.
        let mut settings = settings.clone();
        settings.read_committed = true;
        let consumer = cluster::consumer(&settings, &self.id)?;
        let mut question = TopicPartitionList::with_capacity(1);
        question.add_partition(&self.topic, 0);
        let doing = "ask which checkpoint was committed last";
        let failed = |error: KafkaError| cluster::failed(&settings, consumer.context(), doing, &error);
        let answer = consumer.committed_offsets(question, COORDINATOR_WITHIN).map_err(failed)?;
        let Some(element) = answer.find_partition(&self.topic, 0) else {
            return Err(failed(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)));
        };
        element.error().map_err(failed)?;
        Ok(match element.offset() {
            Offset::Offset(epoch) => u64::try_from(epoch).ok(),
            _ => None,
        })
    }
}

fn weigh(error: KafkaError) -> Outcome {
    use RDKafkaErrorCode as Code;
    match (error.rdkafka_error_code(), &error) {
        (Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch), _) => Outcome::Fenced,
        (Some(Code::MessageSizeTooLarge), _) => Outcome::Failed(Error::Fatal(
            "a record is larger than the broker takes; raise max.message.bytes of the topic and \
             librdkafka.message.max.bytes"
                .to_owned(),
        )),
        (
            Some(Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition),
            KafkaError::MessageProduction(_),
        ) => Outcome::Failed(Error::Fatal(cluster::NOWHERE.to_owned())),
        (_, KafkaError::Transaction(inner)) if inner.txn_requires_abort() => Outcome::Abort(error),
        (_, KafkaError::Transaction(_)) => Outcome::Unknown(error),
        // A record that was not delivered: the transaction can only be aborted, and nothing of it was visible.
        _ => Outcome::Abort(error),
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
