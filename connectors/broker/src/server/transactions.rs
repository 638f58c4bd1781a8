//! Requests about producers' ids and transactions.

use super::apis::Call;
use super::groups::{caller, code_of, is_group};
use super::offsets;
use crate::coordinator::offsets::{Committed, Offsets, Partition};
use crate::coordinator::transactions::Producer;
use crate::node::Node;
use crate::topics::lock;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};

/// Older clients know one word for a producer that has been replaced.
fn in_words_of(version: i16, knows_fenced_from: i16, code: Code) -> Code {
    if code == Code::ProducerFenced && version < knows_fenced_from { Code::InvalidProducerEpoch } else { code }
}

pub fn begin(node: &Node, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse::default();
    match begin_one(node, &request) {
        Ok(producer) => {
            response.producer_id = producer.id.into();
            response.producer_epoch = producer.epoch;
        }
        Err(code) => {
            response.error_code = in_words_of(call.version, 4, code).code();
            response.producer_id = (-1).into();
            response.producer_epoch = -1;
        }
    }
    response
}

fn begin_one(node: &Node, request: &InitProducerIdRequest) -> Result<Producer, Code> {
    let mut coordinator = lock(&node.coordinator);
    let Some(id) = &request.transactional_id else {
        let (producer, outcome) = coordinator.transactions.begin_idempotent();
        node.follow(&mut coordinator, &outcome)?;
        return Ok(producer);
    };
    let known =
        (request.producer_id.0 >= 0).then_some(Producer { id: request.producer_id.0, epoch: request.producer_epoch });
    let now_ms = node.wall_ms() as u64;
    let timeout_ms = request.transaction_timeout_ms;
    let (producer, outcome) = coordinator.transactions.begin(now_ms, id.as_str(), timeout_ms, known)?;
    node.follow(&mut coordinator, &outcome)?;
    if outcome.decision.is_some()
        && let Some(fact) = coordinator.transactions.renewed(now_ms, id.as_str(), producer)
    {
        node.write_down(&fact).map_err(|error| {
            tracing::error!(%error, "a producer could not be written down");
            Code::KafkaStorageError
        })?;
    }
    Ok(producer)
}

pub fn add_partitions(node: &Node, call: &Call, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
    let mut asked: Vec<Partition> = Vec::new();
    for topic in &request.v3_and_below_topics {
        asked.extend(topic.partitions.iter().map(|index| (topic.name.to_string(), *index)));
    }
    let is_missing = |at: &Partition| node.partition(&at.0, at.1).is_none();
    let any_missing = asked.iter().any(is_missing);
    let mut coordinator = lock(&node.coordinator);
    let added = if any_missing {
        // All or none.
        Err(Code::OperationNotAttempted)
    } else {
        let id = request.v3_and_below_transactional_id.as_str();
        let outcome = coordinator.transactions.add_partitions(node.wall_ms() as u64, id, producer, asked);
        outcome.and_then(|outcome| node.follow(&mut coordinator, &outcome))
    };
    let added = added.map_err(|code| in_words_of(call.version, 2, code));
    let topics = request.v3_and_below_topics.into_iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            let missing = is_missing(&(topic.name.to_string(), *index));
            let code = if missing { Code::UnknownTopicOrPartition.code() } else { code_of(&added) };
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_results_by_partition(results.collect())
            .with_name(topic.name.clone())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

pub fn add_offsets(node: &Node, call: &Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let mut coordinator = lock(&node.coordinator);
    let group = request.group_id.as_str();
    let added = if is_group(group) && !group.is_empty() {
        let now_ms = node.wall_ms() as u64;
        coordinator.transactions.add_group(now_ms, request.transactional_id.as_str(), producer, group)
    } else {
        Err(Code::InvalidGroupId)
    };
    let added = added.and_then(|outcome| node.follow(&mut coordinator, &outcome));
    let added = added.map_err(|code| in_words_of(call.version, 2, code));
    AddOffsetsToTxnResponse::default().with_error_code(code_of(&added))
}

pub fn commit_offsets(node: &Node, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let group = request.group_id.as_str();
    let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let mut coordinator = lock(&node.coordinator);
    let mut new = Offsets::new();
    let mut answers = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            let metadata = asked.committed_metadata.as_ref().map(|metadata| metadata.to_string()).unwrap_or_default();
            let fits = offsets::check(node, Ok(()), topic.name.as_str(), asked.partition_index, &metadata);
            if fits.is_ok() {
                let at = (topic.name.to_string(), asked.partition_index);
                let leader_epoch = asked.committed_leader_epoch;
                new.insert(at, Committed { offset: asked.committed_offset, leader_epoch, metadata });
            }
            answers.push((topic.name.clone(), asked.partition_index, fits));
        }
    }
    let allowed = coordinator.groups.may_commit_in_transaction(node.now_ms(), group, &caller);
    let kept = allowed
        .and_then(|()| coordinator.transactions.add_offsets(request.transactional_id.as_str(), producer, group, new))
        .and_then(|outcome| node.follow(&mut coordinator, &outcome));
    let mut response = TxnOffsetCommitResponse::default();
    for (topic, index, fits) in answers {
        let told = TxnOffsetCommitResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(code_of(&kept.and(fits)));
        match response.topics.last_mut() {
            Some(last) if last.name == topic => last.partitions.push(told),
            _ => response
                .topics
                .push(TxnOffsetCommitResponseTopic::default().with_name(topic).with_partitions(vec![told])),
        }
    }
    response
}

pub fn end(node: &Node, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let mut coordinator = lock(&node.coordinator);
    let ended = coordinator
        .transactions
        .end(request.transactional_id.as_str(), producer, request.committed)
        .and_then(|outcome| node.follow(&mut coordinator, &outcome))
        .map_err(|code| in_words_of(call.version, 2, code));
    EndTxnResponse::default().with_error_code(code_of(&ended))
}
