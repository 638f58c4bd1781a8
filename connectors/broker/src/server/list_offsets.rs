//! Offsets: first, last, and by time.

use crate::log::partition::LEADER_EPOCH;
use crate::node::Node;
use crate::topics::Partition;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

/// What stands for a timestamp.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const OF_LATEST_TIME: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

pub fn list(node: &Node, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let known = node.topic(topic.name.as_str());
        let mut told = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        for asked in topic.partitions {
            let mut partition = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            partition.timestamp = -1;
            partition.offset = -1;
            let found = known
                .as_ref()
                .and_then(|topic| topic.partition(asked.partition_index))
                .ok_or(Code::UnknownTopicOrPartition)
                .and_then(|partition| find(&partition, asked.timestamp, committed));
            match found {
                Ok(Some((offset, timestamp))) => {
                    partition.offset = offset;
                    partition.timestamp = timestamp;
                    if version >= 4 {
                        partition.leader_epoch = LEADER_EPOCH;
                    }
                }
                Ok(None) => {}
                Err(code) => partition.error_code = code.code(),
            }
            told.partitions.push(partition);
        }
        response.topics.push(told);
    }
    response
}

/// Offset and timestamp; none if there is no such record.
fn find(partition: &Partition, timestamp: i64, committed: bool) -> Result<Option<(i64, i64)>, Code> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "records could not be read");
        Code::KafkaStorageError
    };
    let offsets = partition.with(|log| log.offsets()).ok_or(Code::UnknownTopicOrPartition)?;
    let upto = if committed { offsets.stable } else { offsets.end };
    let places = match timestamp {
        LATEST => return Ok(Some((upto, -1))),
        EARLIEST | EARLIEST_LOCAL => return Ok(Some((offsets.start, -1))),
        OF_LATEST_TIME => {
            let latest = partition.with(|log| log.place_of_latest_time()).transpose().map_err(failed)?.flatten();
            let Some((wanted, place)) = latest else { return Ok(None) };
            return place.first_at_or_after(wanted).map_err(failed);
        }
        wanted if wanted < 0 => return Ok(None),
        wanted => partition.with(|log| log.places_of_time(wanted)).transpose().map_err(failed)?.unwrap_or_default(),
    };
    for place in places {
        if let Some((offset, found)) = place.first_at_or_after(timestamp).map_err(failed)? {
            if offset >= offsets.start {
                return Ok(Some((offset, found)).filter(|_| offset < upto));
            }
            // What was deleted is still in the file: from the start on, the next record that is late enough.
            let from_start = partition.with(|log| log.place_of(offsets.start)).transpose().map_err(failed)?.flatten();
            let Some(place) = from_start else { return Ok(None) };
            let found = place.first_from(offsets.start, timestamp).map_err(failed)?;
            return Ok(found.filter(|(offset, _)| *offset < upto));
        }
    }
    Ok(None)
}

/// There was one leader only, so its epoch ends where the log does.
pub fn of_epoch(node: &Node, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut told = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone());
        for asked in topic.partitions {
            let mut end = EpochEndOffset::default().with_partition(asked.partition);
            let offsets =
                node.partition(topic.topic.as_str(), asked.partition).and_then(|found| found.with(|log| log.offsets()));
            match offsets {
                Some(offsets) if asked.leader_epoch >= LEADER_EPOCH => {
                    end.leader_epoch = LEADER_EPOCH;
                    end.end_offset = offsets.end;
                }
                Some(_) => {}
                None => end.error_code = Code::UnknownTopicOrPartition.code(),
            }
            told.partitions.push(end);
        }
        response.topics.push(told);
    }
    response
}
