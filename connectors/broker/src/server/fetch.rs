//! Records go out.
//!
//! Invariant: a reader of committed records gets nothing at or behind the first record of an open transaction, and is
//! told of the aborted ones in what it gets. Each fetch stands by itself: sessions are answered with none, after which
//! clients name all their partitions each time.

use super::apis::Call;
use crate::node::Node;
use crate::topics::{Partition, Topic};
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

/// Most bytes of records in one answer, but for one batch.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Topics go by their ids from this version on.
const IDS_FROM: i16 = 13;
/// Nobody waits longer than this for more records.
const WAIT_MS_MAX: i32 = 300_000;

/// A partition that is asked for, if there is one.
struct Wanted<'a> {
    asked: &'a FetchPartition,
    partition: Result<Arc<Partition>, Code>,
}

pub async fn fetch(node: &Node, call: &Call, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 {
        return FetchResponse::default().with_error_code(Code::FetchSessionIdNotFound.code());
    }
    let wanted: Vec<(&FetchTopic, Vec<Wanted<'_>>)> =
        request.topics.iter().map(|topic| (topic, of_topic(node, call, topic))).collect();
    let committed = request.isolation_level == 1;
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.clamp(0, WAIT_MS_MAX) as u64);
    let least = request.min_bytes.max(0) as u64;
    let notify = Arc::new(Notify::new());
    let waits = Waits { notify: &notify, wanted: &wanted };
    while least > 0 && !is_enough(&wanted, committed, least) {
        // From here on an append is heard of, so one that came before is to be looked for once more.
        waits.begin();
        if is_enough(&wanted, committed, least) {
            break;
        }
        if tokio::time::timeout_at(deadline, notify.notified()).await.is_err() {
            break;
        }
    }
    drop(waits);
    read(&request, &wanted, committed)
}

/// Takes this fetch off the lists of those who wait, whatever becomes of it.
struct Waits<'a, 'b> {
    notify: &'a Arc<Notify>,
    wanted: &'a [(&'b FetchTopic, Vec<Wanted<'b>>)],
}

impl Waits<'_, '_> {
    fn begin(&self) {
        partitions(self.wanted).for_each(|partition| partition.wait(self.notify));
    }
}

impl Drop for Waits<'_, '_> {
    fn drop(&mut self) {
        partitions(self.wanted).for_each(|partition| partition.wait_no_more(self.notify));
    }
}

fn partitions<'a>(wanted: &'a [(&FetchTopic, Vec<Wanted<'_>>)]) -> impl Iterator<Item = &'a Arc<Partition>> {
    wanted.iter().flat_map(|(_, wanted)| wanted).filter_map(|wanted| wanted.partition.as_ref().ok())
}

fn of_topic<'a>(node: &Node, call: &Call, topic: &'a FetchTopic) -> Vec<Wanted<'a>> {
    let by_id = call.version >= IDS_FROM;
    let known: Option<Arc<Topic>> =
        if by_id { node.topic_by_id(&topic.topic_id) } else { node.topic(topic.topic.as_str()) };
    let missing = if by_id && known.is_none() { Code::UnknownTopicId } else { Code::UnknownTopicOrPartition };
    let find =
        |asked: &FetchPartition| known.as_ref().and_then(|topic| topic.partition(asked.partition)).ok_or(missing);
    topic.partitions.iter().map(|asked| Wanted { asked, partition: find(asked) }).collect()
}

/// Whether an answer is due: enough bytes, or something to complain of.
fn is_enough(wanted: &[(&FetchTopic, Vec<Wanted<'_>>)], committed: bool, least: u64) -> bool {
    let mut found = 0;
    for wanted in wanted.iter().flat_map(|(_, wanted)| wanted) {
        let Ok(partition) = &wanted.partition else { return true };
        let offset = wanted.asked.fetch_offset;
        let here = partition.with(|log| {
            let offsets = log.offsets();
            let upto = if committed { offsets.stable } else { offsets.end };
            let outside = offset < offsets.start || offset > offsets.end;
            if outside { None } else { Some(if offset < upto { log.n_bytes_from(offset) } else { 0 }) }
        });
        match here.flatten() {
            Some(n) => found += n,
            // Deleted, or out of range.
            None => return true,
        }
    }
    found >= least
}

fn read(request: &FetchRequest, wanted: &[(&FetchTopic, Vec<Wanted<'_>>)], committed: bool) -> FetchResponse {
    let mut left = (request.max_bytes.max(0) as usize).min(ANSWER_BYTES_MAX);
    let mut is_empty = true;
    let mut response = FetchResponse::default();
    for (topic, wanted) in wanted {
        let mut told = FetchableTopicResponse::default();
        if topic.topic_id == Uuid::nil() {
            told.topic = topic.topic.clone();
        } else {
            told.topic_id = topic.topic_id;
        }
        for wanted in wanted {
            let mut data = PartitionData::default().with_partition_index(wanted.asked.partition);
            data.records = Some(bytes::Bytes::new());
            data.high_watermark = -1;
            data.last_stable_offset = -1;
            data.log_start_offset = -1;
            data.aborted_transactions = None;
            let most = (wanted.asked.partition_max_bytes.max(0) as usize).min(left);
            match &wanted.partition {
                Ok(partition) => match read_partition(partition, wanted.asked, committed, most, is_empty, &mut data) {
                    Ok(n_read) => {
                        left = left.saturating_sub(n_read);
                        is_empty &= n_read == 0;
                    }
                    Err(code) => data.error_code = code.code(),
                },
                Err(code) => data.error_code = code.code(),
            }
            told.partitions.push(data);
        }
        response.responses.push(told);
    }
    response
}

/// Bytes read. `first` if nothing was read for this answer yet: then one batch is given, however large.
fn read_partition(
    partition: &Partition,
    asked: &FetchPartition,
    committed: bool,
    max_bytes: usize,
    first: bool,
    data: &mut PartitionData,
) -> Result<usize, Code> {
    let offset = asked.fetch_offset;
    let located = partition.with(|log| {
        let offsets = log.offsets();
        data.high_watermark = offsets.end;
        data.last_stable_offset = offsets.stable;
        data.log_start_offset = offsets.start;
        if offset < offsets.start || offset > offsets.end {
            return Err(Code::OffsetOutOfRange);
        }
        let upto = if committed { offsets.stable } else { offsets.end };
        let nothing = offset >= upto || (max_bytes == 0 && !first);
        let place = if nothing { None } else { log.place_of(offset).map_err(|error| failed(&error))? };
        Ok((place, upto))
    });
    let (place, upto) = located.unwrap_or(Err(Code::UnknownTopicOrPartition))?;
    if committed {
        data.aborted_transactions = Some(Vec::new());
    }
    let Some(place) = place else { return Ok(0) };
    // The file is read without the log: what is below `upto` does not change any more.
    let records = place.read(offset, upto, max_bytes, first).map_err(|error| failed(&error))?;
    if committed && let Some(end) = end_of(&records) {
        let aborted = partition.with(|log| log.aborted_in(offset, end)).unwrap_or_default();
        let told = aborted.iter().map(|aborted| {
            AbortedTransaction::default()
                .with_producer_id(aborted.producer_id.into())
                .with_first_offset(aborted.first_offset)
        });
        data.aborted_transactions = Some(told.collect());
    }
    let n_read = records.len();
    data.records = Some(records.into());
    Ok(n_read)
}

/// The offset after the last record.
fn end_of(records: &[u8]) -> Option<i64> {
    let mut end = None;
    let mut rest = records;
    while let Some(header) = crate::log::Header::read(rest) {
        end = Some(header.last_offset() + 1);
        rest = rest.get(header.n_bytes..)?;
    }
    end
}

fn failed(error: &std::io::Error) -> Code {
    tracing::error!(%error, "records could not be read");
    Code::KafkaStorageError
}
