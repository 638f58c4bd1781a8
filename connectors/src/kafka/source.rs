//! Reads some partitions of one topic.
//!
//! Promises: rows of a partition come in offset order, each batch of one partition, and `next` is the offset after the
//! last record that the batch was made from, good or bad. A reader never jumps: an offset that is no longer there is an
//! error, not a reset.
//! A bounded partition ends at what was in it, committed, when it was opened; control records and compacted gaps at its
//! end are passed by Kafka's own end-of-partition event.

use super::changelog::Changelog;
use super::cluster::{self, Watch};
use super::settings::{BadData, Settings, Startup};
use crate::api::{BadRecord, Error, Polled, Position, Result, SourceReader, SplitStart, TableDef};
use crate::formats::Decoder;
use arrow::datatypes::SchemaRef;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// A batch is given on when it has this many rows: large enough to spread the cost of a batch, small enough for caches.
const BATCH_ROWS: usize = 8192;
/// … or this many bytes, which bounds what large records can take.
const BATCH_BYTES: usize = 4 << 20;
/// How long rows may wait for company while more of them come without a pause.
const LINGER: Duration = Duration::from_millis(5);
/// Reading the clock costs as much as taking a small record, so it is read once in this many.
const CLOCK_EVERY: usize = 256;
const ASK_WITHIN: Duration = Duration::from_secs(10);

pub struct Source {
    settings: Settings,
    consumer: BaseConsumer<Watch>,
    splits: Vec<Split>,
    /// Split by partition number; `usize::MAX` is not ours.
    by_partition: Vec<usize>,
    ready: VecDeque<Polled>,
    ended: usize,
}

/// What one event came to.
enum Step {
    Silence,
    Taken,
    /// The split's batch is full.
    Flush(usize),
    /// The split has given all that it will.
    Finish(usize),
    Failed(KafkaError),
}

struct Split {
    name: String,
    partition: i32,
    decoder: Decoder,
    /// Records without a value that no decoder sees.
    valueless: Vec<BadRecord>,
    /// When the first record of the batch came.
    since: Option<Instant>,
    next: Position,
    /// Where a bounded partition ends.
    end: Option<Position>,
    ended: bool,
}

impl Source {
    pub fn open(settings: Settings, table: &TableDef, projection: &[usize], splits: &[SplitStart]) -> Result<Self> {
        let wanted: SchemaRef = Arc::new(table.schema.project(projection).map_err(|why| {
            Error::Fatal(format!("columns {projection:?} of table '{}' cannot be chosen: {why}", table.name))
        })?);
        let group = settings.group.clone().unwrap_or_else(|| "smack.reader".to_owned());
        let consumer = cluster::consumer(&settings, &group)?;
        let mut source = Self {
            settings,
            consumer,
            splits: Vec::with_capacity(splits.len()),
            by_partition: Vec::new(),
            ready: VecDeque::new(),
            ended: 0,
        };
        let mut assignment = TopicPartitionList::with_capacity(splits.len());
        for (at, start) in splits.iter().enumerate() {
            let partition = start.split.parse::<i32>().ok().filter(|number| *number >= 0).ok_or_else(|| {
                Error::Fatal(format!("'{}' is not a partition of topic '{}'", start.split, source.settings.topic))
            })?;
            let mut split = Split {
                name: start.split.clone(),
                partition,
                decoder: source.decoder(&wanted, table)?,
                valueless: Vec::new(),
                since: None,
                next: 0,
                end: None,
                ended: false,
            };
            let offset = source.begin(&mut split, start.from)?;
            if let (None, Offset::Offset(from)) = (start.from, offset) {
                // The place that "latest" or a time came to goes into the checkpoint with an empty batch: a restart
                // before the first row must not look it up again and jump over what came meanwhile.
                split.next = from as Position;
                let (batch, _) = split.decoder.flush();
                source.ready.push_back(Polled::Batch { split: at, batch, next: split.next, bad: Vec::new() });
            }
            if split.end.is_some_and(|end| split.next >= end) {
                split.ended = true;
                source.ended += 1;
                source.ready.push_back(Polled::SplitEnd { split: at });
            } else {
                assignment
                    .add_partition_offset(&source.settings.topic, split.partition, offset)
                    .map_err(|error| source.failed("choose where to begin", &error))?;
            }
            let slot = partition as usize;
            if source.by_partition.len() <= slot {
                source.by_partition.resize(slot + 1, usize::MAX);
            }
            source.by_partition[slot] = at;
            source.splits.push(split);
        }
        source.consumer.assign(&assignment).map_err(|error| source.failed("begin to read", &error))?;
        Ok(source)
    }

    fn decoder(&self, wanted: &SchemaRef, table: &TableDef) -> Result<Decoder> {
        let wanted = Arc::clone(wanted);
        Ok(match self.settings.changelog {
            Changelog::None => Decoder::new(wanted, table)?,
            Changelog::Upsert => Decoder::for_upserts(wanted, table, &self.settings.key_columns)?,
            Changelog::Debezium => Decoder::for_envelopes(wanted, table)?,
        })
    }

    fn failed(&self, doing: &str, error: &KafkaError) -> Error {
        cluster::failed(&self.settings, self.consumer.context(), doing, error)
    }

    /// Where to begin, and sets where the split ends.
    fn begin(&self, split: &mut Split, from: Option<Position>) -> Result<Offset> {
        let topic = &self.settings.topic;
        let latest = from.is_none() && self.settings.startup != Startup::Earliest;
        let mut marks = None;
        if latest || self.settings.bounded {
            // With read_committed the high mark is the last stable offset: what follows belongs to open transactions.
            let (low, high) = self
                .consumer
                .fetch_watermarks(topic, split.partition, ASK_WITHIN)
                .map_err(|error| self.failed("ask how much is in the topic", &error))?;
            marks = Some((low, high));
        }
        if let (true, Some((low, high))) = (self.settings.bounded, marks) {
            split.end = Some(high as Position);
            split.next = from.unwrap_or(low as Position);
            if from.is_some_and(|from| from > high as Position) {
                return Err(self.gone(split, from.unwrap_or_default()));
            }
        }
        match (from, self.settings.startup, marks) {
            (Some(from), ..) => {
                split.next = from;
                Ok(Offset::Offset(from as i64))
            }
            (None, Startup::Latest, Some((_, high))) => {
                split.next = high as Position;
                Ok(Offset::Offset(high))
            }
            (None, Startup::Timestamp(ms), Some((_, high))) => {
                let mut question = TopicPartitionList::with_capacity(1);
                question
                    .add_partition_offset(topic, split.partition, Offset::Offset(ms))
                    .map_err(|error| self.failed("ask for the offset of a time", &error))?;
                let answer = self
                    .consumer
                    .offsets_for_times(question, ASK_WITHIN)
                    .map_err(|error| self.failed("ask for the offset of a time", &error))?;
                let offset = match answer.elements().first().map(|element| element.offset()) {
                    Some(Offset::Offset(offset)) => offset,
                    _ => high,
                };
                split.next = offset as Position;
                Ok(Offset::Offset(offset))
            }
            _ => Ok(Offset::Beginning),
        }
    }

    fn gone(&self, split: &Split, position: Position) -> Error {
        Error::Fatal(format!(
            "offset {position} of partition {} of topic '{}' is no longer there: retention removed it or the topic was \
             made anew; start the job afresh, without its checkpoint",
            split.partition, self.settings.topic
        ))
    }

    /// The batch of one split as it stands.
    fn flush(&mut self, at: usize) -> Result<Polled> {
        let split = &mut self.splits[at];
        split.since = None;
        let (batch, rejected) = split.decoder.flush();
        let mut bad = std::mem::take(&mut split.valueless);
        bad.extend(rejected.into_iter().map(|(position, bytes, error)| BadRecord {
            split: split.name.clone(),
            position,
            bytes,
            error,
        }));
        bad.sort_by_key(|record| record.position);
        if let Some(first) = bad.first() {
            match self.settings.bad_data {
                BadData::DeadLetter => {}
                BadData::Drop => {
                    warn!(topic = %self.settings.topic, partition = split.partition, n = bad.len(), first = %first.error,
                        "records that do not decode were dropped, as the table says");
                    bad.clear();
                }
                BadData::Fail => {
                    return Err(Error::Fatal(format!(
                        "the record at offset {} of partition {} of topic '{}' does not decode: {}; mend it, or set \
                         bad_data = 'dead_letter'",
                        first.position, split.partition, self.settings.topic, first.error
                    )));
                }
            }
        }
        Ok(Polled::Batch { split: at, batch, next: split.next, bad })
    }

    /// Ends a bounded split: its last rows, then its end.
    fn finish(&mut self, at: usize) -> Result<()> {
        if std::mem::replace(&mut self.splits[at].ended, true) {
            return Ok(());
        }
        if self.splits[at].since.is_some() {
            let last = self.flush(at)?;
            self.ready.push_back(last);
        }
        self.ready.push_back(Polled::SplitEnd { split: at });
        self.ended += 1;
        let mut paused = TopicPartitionList::with_capacity(1);
        paused.add_partition(&self.settings.topic, self.splits[at].partition);
        if let Err(error) = self.consumer.pause(&paused) {
            // Only costs: what still comes is left unread.
            warn!(topic = %self.settings.topic, %error, "a partition that has ended could not be paused");
        }
        Ok(())
    }

    fn split_of(&self, partition: i32) -> Option<usize> {
        let at = *self.by_partition.get(usize::try_from(partition).ok()?)?;
        (at != usize::MAX).then_some(at)
    }

    /// The split whose rows have waited longest, with since when.
    fn oldest(&self) -> Option<(usize, Instant)> {
        self.splits
            .iter()
            .enumerate()
            .filter_map(|(at, split)| Some((at, split.since?)))
            .min_by_key(|(_, since)| *since)
    }

    /// Takes one event from librdkafka.
    fn take(&mut self, patience: Duration) -> Step {
        let message = match self.consumer.poll(patience) {
            None => return Step::Silence,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                return self.split_of(partition).map_or(Step::Taken, Step::Finish);
            }
            Some(Err(error)) => return Step::Failed(error),
            Some(Ok(message)) => message,
        };
        let offset = message.offset() as Position;
        let ours = usize::try_from(message.partition()).ok().and_then(|partition| self.by_partition.get(partition));
        let Some(at) = ours.copied().filter(|at| *at != usize::MAX) else { return Step::Taken };
        let split = &mut self.splits[at];
        if split.ended {
            return Step::Taken;
        }
        if split.end.is_some_and(|end| offset >= end) {
            return Step::Finish(at);
        }
        let valueless = match (message.payload(), self.settings.changelog, message.key()) {
            (Some(payload), ..) => {
                split.decoder.push(payload, offset);
                None
            }
            (None, Changelog::Upsert, Some(key)) => {
                split.decoder.push_removal(key, offset);
                None
            }
            // The deletion was told by the envelope before it; this one is for whoever compacts the topic.
            (None, Changelog::Debezium, _) => None,
            (None, Changelog::Upsert, None) => Some("the record has neither key nor value"),
            (None, Changelog::None, _) => Some("the record has no value (a tombstone), which is no row"),
        };
        split.valueless.extend(valueless.map(|error| BadRecord {
            split: split.name.clone(),
            position: offset,
            bytes: Vec::new(),
            error: error.to_owned(),
        }));
        split.next = offset + 1;
        if split.since.is_none() {
            split.since = Some(Instant::now());
        }
        if split.end == Some(split.next) {
            return Step::Finish(at);
        }
        if split.decoder.len() + split.valueless.len() >= BATCH_ROWS || split.decoder.buffered_bytes() >= BATCH_BYTES {
            return Step::Flush(at);
        }
        Step::Taken
    }

    /// The batches of all splits that have rows, that of `first` at once.
    fn flush_all(&mut self, first: usize) -> Result<Polled> {
        let polled = self.flush(first)?;
        while let Some((at, _)) = self.oldest() {
            let other = self.flush(at)?;
            self.ready.push_back(other);
        }
        Ok(polled)
    }

    /// Takes records until one batch is worth giving on. A fetch response comes as a whole, so when nothing is there at
    /// once the last one has ended, and rows would wait in vain; what comes while they are worked on comes together.
    fn collect(&mut self, wait: Duration) -> Result<Polled> {
        let begun = Instant::now();
        let mut oldest = self.oldest();
        let mut taken = 0;
        loop {
            if taken % CLOCK_EVERY == 0 {
                oldest = self.oldest();
                if let Some((at, since)) = oldest
                    && since.elapsed() >= LINGER
                {
                    return self.flush(at);
                }
            }
            let patience = match oldest {
                None => wait.saturating_sub(begun.elapsed()),
                Some(_) => Duration::ZERO,
            };
            match self.take(patience) {
                Step::Silence => match oldest {
                    Some((at, _)) => return self.flush_all(at),
                    None if begun.elapsed() >= wait => return Ok(Polled::Idle),
                    None => {}
                },
                Step::Taken => {
                    taken += 1;
                    if oldest.is_none() {
                        oldest = self.oldest();
                    }
                }
                Step::Flush(at) => return self.flush(at),
                Step::Finish(at) => {
                    self.finish(at)?;
                    if let Some(polled) = self.ready.pop_front() {
                        return Ok(polled);
                    }
                }
                Step::Failed(error) => self.weigh(&error)?,
            }
        }
    }

    /// An error event: librdkafka mends most by itself and says so too.
    fn weigh(&self, error: &KafkaError) -> Result<()> {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Err(Error::Fatal(format!(
                "a checkpointed offset of topic '{}' on Kafka at {} is no longer there: retention removed it or the \
                 topic was made anew; start the job afresh, without its checkpoint",
                self.settings.topic, self.settings.brokers
            ))),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                Err(Error::Fatal(format!(
                    "topic '{}' on Kafka at {} is no longer there, or lost a partition",
                    self.settings.topic, self.settings.brokers
                )))
            }
            // One connection of several; when all are lost AllBrokersDown follows.
            Some(Code::BrokerTransportFailure | Code::OperationTimedOut | Code::RequestTimedOut) => Ok(()),
            // The group is only named because librdkafka wants one; who may not use it reads all the same.
            Some(Code::GroupAuthorizationFailed) if self.settings.group.is_none() => Ok(()),
            _ => Err(self.failed("read", error)),
        }
    }
}

impl SourceReader for Source {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        if let Some(polled) = self.ready.pop_front() {
            return Ok(polled);
        }
        if self.ended == self.splits.len() {
            return Ok(Polled::End);
        }
        self.collect(wait)
    }

    fn checkpointed(&mut self, positions: &[(usize, Position)]) {
        if self.settings.group.is_none() || positions.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for (at, position) in positions {
            let Some(split) = self.splits.get(*at) else { continue };
            let offset = Offset::Offset(*position as i64);
            if let Err(error) = offsets.add_partition_offset(&self.settings.topic, split.partition, offset) {
                warn!(topic = %self.settings.topic, %error, "a consumer group cannot be told of a position");
            }
        }
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            warn!(topic = %self.settings.topic, %error, "the consumer group was not told how far the job has come");
        }
    }
}
