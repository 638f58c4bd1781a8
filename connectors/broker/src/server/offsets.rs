//! Requests about the offsets that groups have committed.

use super::apis::{Call, text};
use super::groups::{caller, is_group};
use crate::coordinator::offsets::{Committed, METADATA_BYTES_MAX, Offsets};
use crate::node::{Coordinator, Node};
use crate::topics::lock;
use bytes::Buf;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Message};
use std::collections::{BTreeMap, BTreeSet};

pub fn commit(node: &Node, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut coordinator = lock(&node.coordinator);
    let group = request.group_id.as_str();
    let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id_or_member_epoch);
    let allowed = if is_group(group) && !group.is_empty() {
        coordinator.groups.may_commit(node.now_ms(), group, &caller)
    } else {
        Err(Code::InvalidGroupId)
    };
    let mut new = Offsets::new();
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let mut told = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for asked in &topic.partitions {
            let metadata = asked.committed_metadata.as_ref().map(|metadata| metadata.to_string()).unwrap_or_default();
            let code = check(node, allowed, topic.name.as_str(), asked.partition_index, &metadata);
            if code.is_ok() {
                let at = (topic.name.to_string(), asked.partition_index);
                let leader_epoch = asked.committed_leader_epoch;
                new.insert(at, Committed { offset: asked.committed_offset, leader_epoch, metadata });
            }
            told.partitions.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(super::groups::code_of(&code)),
            );
        }
        response.topics.push(told);
    }
    if let Err(error) = node.commit_offsets(&mut coordinator, group, new) {
        tracing::error!(%error, "offsets could not be written");
        for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.error_code = Code::KafkaStorageError.code();
        }
    }
    response
}

/// Whether one offset may be kept.
pub fn check(node: &Node, allowed: Result<(), Code>, topic: &str, partition: i32, metadata: &str) -> Result<(), Code> {
    allowed?;
    if node.partition(topic, partition).is_none() {
        return Err(Code::UnknownTopicOrPartition);
    }
    if metadata.len() > METADATA_BYTES_MAX { Err(Code::OffsetMetadataTooLarge) } else { Ok(()) }
}

/// One committed offset: what is told of it in both kinds of answers.
struct Told {
    partition: i32,
    committed: Option<Committed>,
    code: i16,
}

pub fn fetch(node: &Node, call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let coordinator = lock(&node.coordinator);
    let stable = request.require_stable;
    if call.version >= 8 {
        let groups = request.groups.iter().map(|asked| {
            let topics = asked.topics.as_ref().map(|topics| {
                topics.iter().map(|topic| (topic.name.to_string(), topic.partition_indexes.clone())).collect()
            });
            let found = find(&coordinator, asked.group_id.as_str(), topics, stable);
            let topics = found.into_iter().map(|(topic, partitions)| {
                let partitions = partitions.into_iter().map(|told| {
                    let mut partition = OffsetFetchResponsePartitions::default()
                        .with_partition_index(told.partition)
                        .with_error_code(told.code)
                        .with_committed_offset(-1)
                        .with_metadata(Some(text("")));
                    if let Some(committed) = told.committed {
                        partition.committed_offset = committed.offset;
                        partition.committed_leader_epoch = committed.leader_epoch;
                        partition.metadata = Some(text(committed.metadata));
                    }
                    partition
                });
                OffsetFetchResponseTopics::default()
                    .with_name(TopicName(text(topic)))
                    .with_partitions(partitions.collect())
            });
            OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone()).with_topics(topics.collect())
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request
        .topics
        .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect());
    let found = find(&coordinator, request.group_id.as_str(), topics, stable);
    let topics = found.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|told| {
            let mut partition = OffsetFetchResponsePartition::default()
                .with_partition_index(told.partition)
                .with_error_code(told.code)
                .with_committed_offset(-1)
                .with_metadata(Some(text("")));
            if let Some(committed) = told.committed {
                partition.committed_offset = committed.offset;
                if call.version >= 5 {
                    partition.committed_leader_epoch = committed.leader_epoch;
                }
                partition.metadata = Some(text(committed.metadata));
            }
            partition
        });
        OffsetFetchResponseTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// What is asked for; without `topics` all that is committed.
fn find(
    coordinator: &Coordinator,
    group: &str,
    topics: Option<Vec<(String, Vec<i32>)>>,
    stable: bool,
) -> BTreeMap<String, Vec<Told>> {
    let none = Offsets::new();
    let offsets = coordinator.groups.all.get(group).map_or(&none, |group| &group.offsets);
    let topics = topics.unwrap_or_else(|| {
        let mut all: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in offsets.keys() {
            all.entry(topic.clone()).or_default().push(*partition);
        }
        all.into_iter().collect()
    });
    let mut found: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for (topic, partitions) in topics {
        for partition in partitions {
            let at = (topic.clone(), partition);
            // An open transaction may be about to say another offset.
            let pending = stable && coordinator.transactions.is_pending(group, &at);
            let told = if pending {
                Told { partition, committed: None, code: Code::UnstableOffsetCommit.code() }
            } else {
                Told { partition, committed: offsets.get(&at).cloned(), code: 0 }
            };
            found.entry(topic.clone()).or_default().push(told);
        }
    }
    found
}

pub fn delete(node: &Node, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut coordinator = lock(&node.coordinator);
    let group = request.group_id.as_str();
    let mut response = OffsetDeleteResponse::default();
    let Some(state) = coordinator.groups.all.get(group) else {
        return response.with_error_code(Code::GroupIdNotFound.code());
    };
    let mut subscribed = BTreeSet::new();
    for member in state.members.values() {
        match topics_of(&member.metadata(&state.protocol)) {
            Some(topics) if state.protocol_type == "consumer" => subscribed.extend(topics),
            // Nobody can say what such members read.
            _ => return response.with_error_code(Code::NonEmptyGroup.code()),
        }
    }
    for topic in request.topics {
        let mut told = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
        for asked in topic.partitions {
            let at = (topic.name.to_string(), asked.partition_index);
            let code = if subscribed.contains(topic.name.as_str()) {
                Code::GroupSubscribedToTopic.code()
            } else if node.delete_offset(&mut coordinator, group, &at).is_err() {
                Code::KafkaStorageError.code()
            } else {
                0
            };
            told.partitions.push(
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code),
            );
        }
        response.topics.push(told);
    }
    response
}

/// The topics in a consumer's subscription: a version, then the message. Its arrays are walked over by hand, as the
/// decoder would make room for as many as they claim.
fn topics_of(metadata: &bytes::Bytes) -> Option<Vec<String>> {
    let mut rest = metadata.clone();
    let version = rest.get(..2).map(|bytes| i16::from_be_bytes([bytes[0], bytes[1]]))?;
    rest.advance(2);
    let shape = super::shape::parse("[s] b {s [4]}@1- 4@2- s@3-");
    let version = version.clamp(0, ConsumerProtocolSubscription::VERSIONS.max);
    if !super::shape::fits(&shape, version, false, &rest) {
        return None;
    }
    let subscription = ConsumerProtocolSubscription::decode(&mut rest, version).ok()?;
    Some(subscription.topics.iter().map(|topic| topic.to_string()).collect())
}
