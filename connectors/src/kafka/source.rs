//! Reads some partitions of one or more topics.
//!
//! Promises: rows of a partition come in offset order, each batch of one partition, and `next` is the offset after the
//! last record that the batch was made from, good or bad. A reader never jumps: an offset that is no longer there is an
//! error, not a reset.
//! A bounded partition ends where [`begin`] found its end when it was opened; control records and compacted gaps there are
//! passed by Kafka's own end-of-partition event.
//! A partition that comes into being is read from its beginning, by the slice that its name falls to.

use super::changelog::Changelog;
use super::cluster;
use super::discovery::Discovery;
use super::fetched::{Fetch, Fetched};
use super::metadata::{Gathered, Kind};
use super::settings::{BadData, Settings};
use super::topics::{Listing, Partition};
use crate::api::{
    BadRecord, Context, Error, FROM_THE_BEGINNING, Polled, Position, Result, SourceReader, SplitStart, TableDef,
};
use crate::formats::{Decoder, Part, header_name};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

mod begin;

/// A batch is given on when it has this many rows: large enough to spread the cost of a batch, small enough for caches.
const BATCH_ROWS: usize = 8192;
/// … or this many bytes, which bounds what large records can take.
const BATCH_BYTES: usize = 4 << 20;
/// How long rows may wait for company while more of them come without a pause.
const LINGER: Duration = Duration::from_millis(5);
/// How often errors of connections and new partitions are looked at.
const LISTEN_EVERY: Duration = Duration::from_millis(100);

pub struct Source {
    settings: Settings,
    fetched: Fetched,
    columns: Columns,
    splits: Vec<Split>,
    /// By topic and partition of a record: its split. And the last answer, since records of a partition come in a row.
    routes: HashMap<(usize, i32), usize>,
    last_route: Option<((usize, i32), usize)>,
    ready: VecDeque<Polled>,
    ended: usize,
    listened: Instant,
    discovery: Option<Discovery>,
    slot: u32,
    n_slots: u32,
    /// Names of splits that the runtime was not told of yet.
    found: Vec<String>,
    /// Topics that lacked something at the last look.
    missed: BTreeSet<String>,
}

/// What batches are made of.
struct Columns {
    /// Those of values, in the order of the projection.
    of_value: SchemaRef,
    metadata: Vec<(Kind, DataType)>,
    /// The projection: a place among the columns of values, or of metadata.
    order: Vec<Place>,
    schema: SchemaRef,
}

#[derive(Clone, Copy)]
enum Place {
    Value(usize),
    Metadata(usize),
}

/// What one record came to.
enum Step {
    Taken,
    /// The split's batch is full.
    Flush(usize),
    /// The split has given all that it will.
    Finish(usize),
    Failed(RDKafkaErrorCode),
}

struct Split {
    name: String,
    partition: Partition,
    decoder: Decoder,
    gathered: Gathered,
    /// Records without a value, or with metadata that does not fit, that no decoder sees.
    unfit: Vec<BadRecord>,
    /// When the first record of the batch came.
    since: Option<Instant>,
    next: Position,
    /// Where a bounded partition ends.
    end: Option<Position>,
    /// All has come that will, and waits for its schemas.
    ending: bool,
    ended: bool,
}

impl Columns {
    fn new(settings: &Settings, table: &TableDef, projection: &[usize]) -> Result<Self> {
        let schema = Arc::new(table.schema.project(projection).map_err(|why| {
            Error::Fatal(format!("columns {projection:?} of table '{}' cannot be chosen: {why}", table.name))
        })?);
        let (mut of_value, mut metadata, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for (at, field) in projection.iter().zip(schema.fields()) {
            match settings.metadata.iter().find(|column| column.at == *at) {
                Some(column) => {
                    order.push(Place::Metadata(metadata.len()));
                    metadata.push((column.kind, column.data_type.clone()));
                }
                None => {
                    order.push(Place::Value(of_value.len()));
                    of_value.push(Arc::clone(field));
                }
            }
        }
        Ok(Self { of_value: Arc::new(Schema::new(of_value)), metadata, order, schema })
    }

    /// Values and metadata of the same records as one batch; a weight stays the last column.
    fn together(
        &self,
        values: RecordBatch,
        metadata: &[ArrayRef],
    ) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
        if metadata.is_empty() {
            return Ok(values);
        }
        let n_values = self.of_value.fields().len();
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len() + 1);
        columns.extend(self.order.iter().map(|place| match place {
            Place::Value(at) => Arc::clone(values.column(*at)),
            Place::Metadata(at) => Arc::clone(&metadata[*at]),
        }));
        for at in n_values..values.num_columns() {
            fields.push(Arc::clone(&values.schema_ref().fields()[at]));
            columns.push(Arc::clone(values.column(at)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }
}

impl Source {
    pub fn open(
        settings: Settings,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Self> {
        let columns = Columns::new(&settings, table, projection)?;
        let group = settings.group.clone().unwrap_or_else(|| "smack.reader".to_owned());
        let consumer = Arc::new(cluster::consumer(&settings, &group)?);
        let discovery = settings.discovery.map(|every| Discovery::start(&settings, &consumer, every)).transpose();
        let discovery = discovery.map_err(|why| {
            Error::Transient(format!("table '{}': no thread can be had to look for partitions: {why}", table.name))
        })?;
        let fetched = Fetched::new(consumer).map_err(|error| cluster::unmade(&settings, &error))?;
        let mut source = Self {
            settings,
            fetched,
            columns,
            splits: Vec::with_capacity(splits.len()),
            routes: HashMap::new(),
            last_route: None,
            ready: VecDeque::new(),
            ended: 0,
            listened: Instant::now(),
            discovery,
            slot: context.slot,
            n_slots: context.n_slots,
            found: Vec::new(),
            missed: BTreeSet::new(),
        };
        source.add(splits)?;
        Ok(source)
    }

    /// Reads these splits too.
    fn add(&mut self, starts: &[SplitStart]) -> Result<()> {
        let mut assignment = TopicPartitionList::with_capacity(starts.len());
        for start in starts {
            let at = self.splits.len();
            let partition = self.settings.topics.parse(&start.split).ok_or_else(|| {
                Error::Fatal(format!("'{}' is not a partition of topic '{}'", start.split, self.settings.topic))
            })?;
            let mut split = Split {
                name: start.split.clone(),
                partition,
                decoder: self.decoder()?,
                gathered: Gathered::new(self.columns.metadata.clone()),
                unfit: Vec::new(),
                since: None,
                next: 0,
                end: None,
                ending: false,
                ended: false,
            };
            let offset = self.begin(&mut split, start.from)?;
            if let (None, Offset::Offset(from)) = (start.from, offset) {
                // The place that "latest" or a time came to goes into the checkpoint with an empty batch: a restart
                // before the first row must not look it up again and jump over what came meanwhile.
                split.next = from as Position;
                let (values, _) = split.decoder.flush();
                let batch = split.batch(&self.columns, values, &[])?;
                self.ready.push_back(Polled::Batch { split: at, batch, next: split.next, bad: Vec::new() });
            }
            if split.end.is_some_and(|end| split.next >= end) {
                split.ended = true;
                self.ended += 1;
                self.ready.push_back(Polled::SplitEnd { split: at });
            } else {
                assignment
                    .add_partition_offset(&split.partition.topic, split.partition.number, offset)
                    .map_err(|error| self.failed("choose where to begin", &error))?;
            }
            self.splits.push(split);
        }
        if assignment.count() > 0 {
            self.fetched.assign(&assignment).map_err(|error| self.failed("begin to read", &error))?;
        }
        Ok(())
    }

    fn decoder(&self) -> Result<Decoder> {
        let (wanted, table) = (Arc::clone(&self.columns.of_value), &self.settings.values);
        Ok(match self.settings.changelog {
            Changelog::None => Decoder::new(wanted, table)?,
            Changelog::Upsert => Decoder::for_upserts(wanted, table, &self.settings.key_columns)?,
            Changelog::Debezium => Decoder::for_envelopes(wanted, table)?,
        })
    }

    fn failed(&self, doing: &str, error: &KafkaError) -> Error {
        cluster::failed(&self.settings, self.fetched.consumer().context(), doing, error)
    }

    /// The batch of one split as it stands.
    fn flush(&mut self, at: usize) -> Result<Polled> {
        let Self { splits, columns, settings, .. } = self;
        let split = &mut splits[at];
        // Before anything is taken away: it can be called again when this fails.
        split.decoder.prepare()?;
        split.since = None;
        let (values, rejected) = split.decoder.flush();
        let without: Vec<Position> = rejected.iter().map(|(position, ..)| *position).collect();
        let batch = split.batch(columns, values, &without)?;
        let mut bad = std::mem::take(&mut split.unfit);
        bad.extend(rejected.into_iter().map(|(position, bytes, error)| BadRecord {
            split: split.name.clone(),
            position,
            bytes,
            error,
        }));
        bad.sort_by_key(|record| record.position);
        let Partition { topic, number } = &split.partition;
        if let Some(first) = bad.first() {
            match settings.bad_data {
                BadData::DeadLetter => {}
                BadData::Drop => {
                    warn!(%topic, partition = number, n = bad.len(), first = %first.error,
                        "records that do not decode were dropped, as the table says");
                    bad.clear();
                }
                BadData::Fail => {
                    return Err(Error::Fatal(format!(
                        "the record at offset {} of partition {number} of topic '{topic}' does not decode: {}; mend it, or \
                         set bad_data = 'dead_letter'",
                        first.position, first.error
                    )));
                }
            }
        }
        Ok(Polled::Batch { split: at, batch, next: split.next, bad })
    }

    /// Ends a bounded split: its last rows, then its end.
    fn finish(&mut self, at: usize) -> Result<()> {
        if self.splits[at].ended {
            return Ok(());
        }
        self.splits[at].ending = true;
        self.splits[at].decoder.prepare()?;
        self.splits[at].ended = true;
        if self.splits[at].since.is_some() {
            let last = self.flush(at)?;
            self.ready.push_back(last);
        }
        self.ready.push_back(Polled::SplitEnd { split: at });
        self.ended += 1;
        let Partition { topic, number } = &self.splits[at].partition;
        let mut paused = TopicPartitionList::with_capacity(1);
        paused.add_partition(topic, *number);
        if let Err(error) = self.fetched.consumer().pause(&paused) {
            // Only costs: what still comes is left unread.
            warn!(%topic, %error, "a partition that has ended could not be paused");
        }
        Ok(())
    }

    fn split_of(&mut self, fetch: &Fetch) -> Option<usize> {
        let route = (fetch.topic_id(), fetch.partition());
        if let Some((last, at)) = self.last_route
            && last == route
        {
            return Some(at);
        }
        let at = match self.routes.get(&route) {
            Some(at) => *at,
            None => {
                let (topic, number) = (fetch.topic(), fetch.partition());
                let of = |split: &Split| *split.partition.topic == *topic && split.partition.number == number;
                let at = self.splits.iter().position(of)?;
                self.routes.insert(route, at);
                at
            }
        };
        self.last_route = Some((route, at));
        Some(at)
    }

    /// The split whose rows have waited longest, with since when.
    fn oldest(&self) -> Option<(usize, Instant)> {
        self.splits
            .iter()
            .enumerate()
            .filter_map(|(at, split)| Some((at, split.since?)))
            .min_by_key(|(_, since)| *since)
    }

    fn take(&mut self, fetch: &Fetch) -> Step {
        let at = self.split_of(fetch);
        if let Some(error) = fetch.error() {
            return match (error, at) {
                (RDKafkaErrorCode::PartitionEOF, Some(at)) => match self.splits[at].end {
                    Some(end) if fetch.offset() as Position >= end => Step::Finish(at),
                    _ => Step::Taken,
                },
                (RDKafkaErrorCode::PartitionEOF, None) => Step::Taken,
                (error, _) => Step::Failed(error),
            };
        }
        let Some(at) = at else { return Step::Taken };
        let offset = fetch.offset() as Position;
        let split = &mut self.splits[at];
        if split.ended {
            return Step::Taken;
        }
        if split.end.is_some_and(|end| offset >= end) {
            return Step::Finish(at);
        }
        let mut unfit = split.gathered.unfit(fetch);
        let headed = |part| if self.settings.schemas_in_headers { named_schema(fetch, part) } else { None };
        if unfit.is_none() {
            match (fetch.payload(), self.settings.changelog, fetch.key()) {
                (Some(payload), ..) => match headed(Part::Value) {
                    Some(header) => split.decoder.push_headed(header, payload, offset),
                    None => split.decoder.push(payload, offset),
                },
                (None, Changelog::Upsert, Some(key)) => {
                    split.decoder.push_removal(headed(Part::Key).unwrap_or_default(), key, offset);
                }
                // The deletion was told by the envelope before it; this one is for whoever compacts the topic.
                (None, Changelog::Debezium, _) => {}
                (None, Changelog::Upsert, None) => unfit = Some("the record has neither key nor value".to_owned()),
                (None, Changelog::None, _) => {
                    unfit = Some("the record has no value (a tombstone), which is no row".to_owned());
                }
            }
        }
        match unfit {
            None => split.gathered.push(fetch),
            Some(error) => split.unfit.push(BadRecord {
                split: split.name.clone(),
                position: offset,
                bytes: fetch.payload().unwrap_or_default().to_vec(),
                error,
            }),
        }
        split.next = offset + 1;
        if split.since.is_none() {
            split.since = Some(Instant::now());
        }
        if split.end == Some(split.next) {
            return Step::Finish(at);
        }
        let rows = split.decoder.len() + split.unfit.len();
        if rows >= BATCH_ROWS || split.decoder.buffered_bytes() + split.gathered.bytes() >= BATCH_BYTES {
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
        if let Some(at) = self.splits.iter().position(|split| split.ending && !split.ended) {
            self.finish(at)?;
            if let Some(polled) = self.ready.pop_front() {
                return Ok(polled);
            }
        }
        loop {
            while let Some(fetch) = self.fetched.next() {
                match self.take(&fetch) {
                    Step::Taken => {}
                    Step::Flush(at) => return self.flush(at),
                    Step::Finish(at) => {
                        self.finish(at)?;
                        if let Some(polled) = self.ready.pop_front() {
                            return Ok(polled);
                        }
                    }
                    Step::Failed(code) => self.weigh(&KafkaError::MessageConsumption(code))?,
                }
            }
            let now = Instant::now();
            if now.duration_since(self.listened) >= LISTEN_EVERY {
                self.listened = now;
                self.listen()?;
                if let Some(polled) = self.ready.pop_front() {
                    return Ok(polled);
                }
            }
            let oldest = self.oldest();
            let patience = match oldest {
                Some((at, since)) if now.duration_since(since) >= LINGER => return self.flush(at),
                Some(_) => Duration::ZERO,
                None => wait.saturating_sub(begun.elapsed()).min(LISTEN_EVERY),
            };
            if !self.fetched.fill(patience) {
                match oldest {
                    Some((at, _)) => return self.flush_all(at),
                    None if begun.elapsed() >= wait => return Ok(Polled::Idle),
                    None => {}
                }
            }
        }
    }

    /// Hears what is no record, and reads partitions that came into being.
    fn listen(&mut self) -> Result<()> {
        if let Err(error) = self.fetched.listen() {
            self.weigh(&error)?;
        }
        if let Some(told) = self.fetched.consumer().context().take_gone() {
            return Err(self.gone(&told));
        }
        match self.discovery.as_ref().and_then(Discovery::latest) {
            Some(listing) => self.discover(&listing),
            None => Ok(()),
        }
    }

    fn discover(&mut self, listing: &Listing) -> Result<()> {
        let read = self.splits.iter().map(|split| (&*split.partition.topic, split.partition.number));
        let missed = cluster::lost(read, listing);
        // A broker that has just started may not know all yet: said twice, it counts.
        if let Some(topic) = missed.iter().find(|topic| self.missed.contains(*topic)) {
            return Err(self.gone(&format!("topic '{topic}' is not among those of the cluster")));
        }
        self.missed = missed;
        let topics = &self.settings.topics;
        let ours = topics.splits(listing).into_iter().filter(|partition| {
            topics.slot_of(partition, self.n_slots) == self.slot
                && self.splits.iter().all(|split| split.partition != *partition)
        });
        let names: Vec<String> = ours.map(|partition| partition.to_string()).collect();
        if names.is_empty() {
            return Ok(());
        }
        info!(table = %self.settings.table, splits = names.join(", "), "new partitions are read, from their beginning");
        let starts: Vec<SplitStart> =
            names.iter().map(|split| SplitStart { split: split.clone(), from: Some(FROM_THE_BEGINNING) }).collect();
        self.found.extend(names);
        self.add(&starts)
    }

    fn gone(&self, told: &str) -> Error {
        Error::Fatal(format!(
            "a partition of topic '{}' on Kafka at {} that is read is no longer there ({told}): the topic was deleted or made \
             anew; make it again, or start the job afresh, without its checkpoint",
            self.settings.topic, self.settings.brokers
        ))
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
            Some(code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)) => {
                Err(self.gone(&code.to_string()))
            }
            // One connection of several; when all are lost AllBrokersDown follows.
            Some(Code::BrokerTransportFailure | Code::OperationTimedOut | Code::RequestTimedOut) => Ok(()),
            // The group is only named because librdkafka wants one; who may not use it reads all the same.
            Some(Code::GroupAuthorizationFailed) if self.settings.group.is_none() => Ok(()),
            _ => Err(self.failed("read", error)),
        }
    }
}

impl Split {
    /// Values with the metadata of their records; of the records at `without` neither is there.
    fn batch(&mut self, columns: &Columns, values: RecordBatch, without: &[Position]) -> Result<RecordBatch> {
        let Partition { topic, number } = &self.partition;
        let metadata = self.gathered.finish(topic, *number, without.iter().copied());
        metadata.and_then(|metadata| columns.together(values, &metadata)).map_err(|why| {
            Error::Fatal(format!(
                "rows of partition {number} of topic '{topic}' cannot be put together with their metadata: {why}"
            ))
        })
    }
}

/// The header that names the schema of a part of a record.
fn named_schema(fetch: &Fetch, part: Part) -> Option<&[u8]> {
    let mut found = None;
    fetch.headers(|name, value| {
        if name == header_name(part).as_bytes() {
            found = value;
        }
    });
    found
}

impl SourceReader for Source {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        if let Some(polled) = self.ready.pop_front() {
            return Ok(polled);
        }
        if self.ended == self.splits.len() && self.discovery.is_none() {
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
            let Partition { topic, number } = &split.partition;
            if let Err(error) = offsets.add_partition_offset(topic, *number, Offset::Offset(*position as i64)) {
                warn!(%topic, %error, "a consumer group cannot be told of a position");
            }
        }
        if let Err(error) = self.fetched.consumer().commit(&offsets, CommitMode::Async) {
            warn!(topic = %self.settings.topic, %error, "the consumer group was not told how far the job has come");
        }
    }

    fn found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    fn behind(&self) -> Vec<Option<u64>> {
        let behind = |split: &Split| {
            let Partition { topic, number } = &split.partition;
            let high = self.fetched.high_mark(topic, *number)?;
            Some(high.saturating_sub(split.next))
        };
        self.splits.iter().map(behind).collect()
    }
}
