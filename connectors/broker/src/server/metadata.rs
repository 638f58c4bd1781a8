//! What there is and where: topics, the broker, coordinators. All of it is here.

use super::apis::{Call, text};
use crate::log::partition::LEADER_EPOCH;
use crate::node::Node;
use crate::topics::Topic;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest,
    MetadataResponse, TopicName,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// The only broker.
pub const NODE_ID: BrokerId = BrokerId(1);
/// Clients on this machine get it whatever name they used.
pub const HOST: &str = "127.0.0.1";

pub fn metadata(node: &Node, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let create = node.config.auto_create && (call.version < 4 || request.allow_auto_topic_creation);
    let mut response = MetadataResponse::default()
        .with_cluster_id(Some(text(node.cluster_id.as_str())))
        .with_controller_id(NODE_ID)
        .with_brokers(vec![
            MetadataResponseBroker::default().with_node_id(NODE_ID).with_host(text(HOST)).with_port(node.port.into()),
        ]);
    let topics = request.topics.filter(|topics| call.version > 0 || !topics.is_empty());
    let Some(asked) = topics else {
        response.topics = node.all_topics().iter().map(|topic| described(call, topic)).collect();
        return response;
    };
    for asked in asked {
        let missing = |code: Code| {
            let mut topic = MetadataResponseTopic::default().with_error_code(code.code());
            topic.name = Some(asked.name.clone().unwrap_or_default());
            if call.version >= 10 {
                topic.topic_id = asked.topic_id;
                // From here on a topic that is asked for by its id alone has no name.
                if call.version >= 12 {
                    topic.name = asked.name.clone();
                }
            }
            topic
        };
        let found = match &asked.name {
            None => node.topic_by_id(&asked.topic_id).ok_or(Code::UnknownTopicId),
            Some(name) => node.topic(name.as_str()).map_or_else(|| made(node, name, create), Ok),
        };
        response.topics.push(match found {
            Ok(topic) => described(call, &topic),
            Err(code) => missing(code),
        });
    }
    response
}

/// A topic that comes to be because it was asked for.
fn made(node: &Node, name: &TopicName, create: bool) -> Result<Arc<Topic>, Code> {
    if !crate::topics::is_name(name.as_str()) {
        return Err(Code::InvalidTopicException);
    }
    if !create {
        return Err(Code::UnknownTopicOrPartition);
    }
    match node.create_topic(name.as_str(), node.config.partitions, BTreeMap::new(), false) {
        Ok(topic) => Ok(topic),
        // Somebody else asked at the same time.
        Err((Code::TopicAlreadyExists, _)) => node.topic(name.as_str()).ok_or(Code::UnknownTopicOrPartition),
        Err((code, why)) => {
            tracing::warn!(topic = name.as_str(), why, "not created");
            Err(code)
        }
    }
}

fn described(call: &Call, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.n_partitions()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.as_str()))))
        .with_topic_id(if call.version >= 10 { topic.id } else { Uuid::nil() })
        .with_partitions(partitions.collect())
}

pub fn topic_partitions(node: &Node, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let mut left = if request.response_partition_limit > 0 { request.response_partition_limit.min(2000) } else { 2000 };
    let mut response = DescribeTopicPartitionsResponse::default();
    let asked: BTreeSet<String> = if request.topics.is_empty() {
        node.all_topics().iter().map(|topic| topic.name.clone()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str().to_string()).collect()
    };
    let (from_topic, from_index) = request.cursor.map_or_else(Default::default, |cursor| {
        (cursor.topic_name.as_str().to_string(), cursor.partition_index.max(0))
    });
    for name in asked.into_iter().filter(|name| *name >= from_topic) {
        let mut told = DescribeTopicPartitionsResponseTopic::default().with_name(Some(TopicName(text(name.as_str()))));
        let first = if name == from_topic { from_index } else { 0 };
        if left == 0 {
            response.next_cursor =
                Some(Cursor::default().with_topic_name(TopicName(text(name))).with_partition_index(first));
            break;
        }
        match node.topic(&name) {
            None => told.error_code = Code::UnknownTopicOrPartition.code(),
            Some(topic) => {
                told.topic_id = topic.id;
                let n = topic.n_partitions();
                for index in first..n.min(first.saturating_add(left)) {
                    told.partitions.push(
                        DescribeTopicPartitionsResponsePartition::default()
                            .with_partition_index(index)
                            .with_leader_id(NODE_ID)
                            .with_leader_epoch(LEADER_EPOCH)
                            .with_replica_nodes(vec![NODE_ID])
                            .with_isr_nodes(vec![NODE_ID])
                            .with_eligible_leader_replicas(Some(Vec::new()))
                            .with_last_known_elr(Some(Vec::new())),
                    );
                }
                let next = first.saturating_add(left).min(n);
                left -= told.partitions.len() as i32;
                if next < n {
                    let cursor = Cursor::default().with_topic_name(TopicName(text(name))).with_partition_index(next);
                    response.next_cursor = Some(cursor);
                    response.topics.push(told);
                    break;
                }
            }
        }
        response.topics.push(told);
    }
    response
}

pub fn cluster(node: &Node, call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(text(node.cluster_id.as_str()))
        .with_controller_id(NODE_ID)
        .with_brokers(vec![
            DescribeClusterBroker::default().with_broker_id(NODE_ID).with_host(text(HOST)).with_port(node.port.into()),
        ]);
    if call.version >= 1 && request.endpoint_type != 1 {
        response.error_code = Code::MismatchedEndpointType.code();
        response.error_message = Some(text("this broker is no controller quorum; ask it as a broker"));
    }
    response
}

pub fn coordinator(node: &Node, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    // Groups and transactions; newer kinds are not known.
    let known = matches!(request.key_type, 0 | 1);
    let code = if known { 0 } else { Code::InvalidRequest.code() };
    if call.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_node_id(NODE_ID)
            .with_host(text(HOST))
            .with_port(node.port.into());
    }
    let found = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(code)
            .with_node_id(NODE_ID)
            .with_host(text(HOST))
            .with_port(node.port.into())
    });
    FindCoordinatorResponse::default().with_coordinators(found.collect())
}
