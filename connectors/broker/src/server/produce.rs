//! Records come in.
//!
//! Invariant: a transactional batch is appended under the lock of the coordinator, so none comes after the marker that
//! ends its transaction.

use super::apis::{Call, text};
use crate::coordinator::transactions::Producer;
use crate::log::batch::{self, Fault};
use crate::log::producers::Verdict;
use crate::node::Node;
use crate::topics::{Topic, lock};
use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

pub enum Answer {
    Told(ProduceResponse),
    /// The producer wants none.
    Silent,
    /// It wants none, and something went wrong.
    Failed,
}

/// Zstandard came with this version.
const ZSTD_FROM: i16 = 7;
const ZSTD: i16 = 4;

pub fn produce(node: &Node, call: &Call, request: ProduceRequest) -> Answer {
    let acks_known = (-1..=1).contains(&request.acks);
    let mut failed = false;
    let mut response = ProduceResponse::default();
    for topic in request.topic_data {
        let known = node.topic(topic.name.as_str());
        let mut told = TopicProduceResponse::default().with_name(topic.name.clone());
        for data in topic.partition_data {
            let id = request.transactional_id.as_ref().map(|id| id.as_str());
            let appended = match &known {
                _ if !acks_known => Err((Code::InvalidRequiredAcks, String::new())),
                None => Err((Code::UnknownTopicOrPartition, String::new())),
                Some(topic) => append(node, call, topic, data.index, id, data.records),
            };
            let mut partition = PartitionProduceResponse::default().with_index(data.index);
            match appended {
                Ok((base_offset, log_start_offset)) => {
                    partition.base_offset = base_offset;
                    partition.log_append_time_ms = -1;
                    partition.log_start_offset = log_start_offset;
                }
                Err((code, why)) => {
                    failed = true;
                    partition.error_code = code.code();
                    partition.base_offset = -1;
                    partition.log_append_time_ms = -1;
                    partition.error_message = Some(why).filter(|why| !why.is_empty()).map(text);
                }
            }
            told.partition_responses.push(partition);
        }
        response.responses.push(told);
    }
    match (request.acks, failed) {
        (0, true) => Answer::Failed,
        (0, false) => Answer::Silent,
        _ => Answer::Told(response),
    }
}

type Appended = Result<(i64, i64), (Code, String)>;

fn append(
    node: &Node,
    call: &Call,
    topic: &Topic,
    index: i32,
    transactional_id: Option<&str>,
    records: Option<Bytes>,
) -> Appended {
    let refused = |code: Code, why: &str| Err((code, why.to_string()));
    let Some(partition) = topic.partition(index) else { return refused(Code::UnknownTopicOrPartition, "") };
    let records = records.unwrap_or_default();
    let header = match batch::check(&records) {
        Ok(header) => header,
        Err(Fault::OldFormat) => {
            return refused(Code::UnsupportedForMessageFormat, "message sets of before Kafka 0.11 are not taken");
        }
        Err(Fault::Corrupt) => return refused(Code::CorruptMessage, "the batch's length or checksum does not fit"),
        Err(Fault::Invalid(why)) => return refused(Code::InvalidRecord, why),
    };
    let (limits, most) = {
        let configs = topic.configs.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        (configs.limits, configs.message_bytes_max)
    };
    if records.len() > most {
        let why = format!(
            "a batch of {} bytes; topic '{}' takes at most {most} (max.message.bytes)",
            records.len(),
            topic.name
        );
        return Err((Code::MessageTooLarge, why));
    }
    if header.codec() == ZSTD && call.version < ZSTD_FROM {
        return refused(Code::UnsupportedCompressionType, "");
    }
    // Held until the batch is in the log, see above.
    let _coordinator = if header.is_transactional() {
        let coordinator = lock(&node.coordinator);
        let Some(id) = transactional_id else { return refused(Code::InvalidTxnState, "no transactional id") };
        let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
        let at = (topic.name.clone(), index);
        if let Err(code) = coordinator.transactions.may_write(id, producer, &at) {
            return Err((code, String::new()));
        }
        Some(coordinator)
    } else {
        None
    };
    let appended = partition.with(|log| {
        let appended = log.append(&header, &records, &limits)?;
        Ok((appended, log.offsets().start))
    });
    match appended {
        None => refused(Code::UnknownTopicOrPartition, ""),
        Some(Err(error)) => {
            let error: std::io::Error = error;
            tracing::error!(topic = topic.name, index, %error, "records could not be written");
            Err((Code::KafkaStorageError, format!("the records could not be written: {error}")))
        }
        Some(Ok((Ok(base_offset), start))) => {
            partition.wake();
            Ok((base_offset, start))
        }
        Some(Ok((Err(verdict), _))) => match verdict {
            Verdict::Fenced => refused(Code::InvalidProducerEpoch, "a later producer has taken this one's place"),
            _ => refused(Code::OutOfOrderSequenceNumber, "the batch does not follow its producer's last one"),
        },
    }
}
