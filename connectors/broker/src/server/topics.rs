//! Requests that make, grow, empty and delete topics.

use super::apis::{Call, text};
use crate::configs;
use crate::node::{Node, Refused};
use crate::topics::Topic;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

pub fn create(node: &Node, call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut response = CreateTopicsResponse::default();
    for asked in &request.topics {
        let twice = request.topics.iter().filter(|other| other.name == asked.name).count() > 1;
        let mut told = CreatableTopicResult::default().with_name(asked.name.clone());
        told.configs = Some(Vec::new());
        let created = if twice {
            Err((Code::InvalidRequest, format!("Topic '{}' is named twice.", asked.name.as_str())))
        } else {
            create_one(node, asked, request.validate_only)
        };
        match created {
            Ok(topic) => {
                told.num_partitions = topic.n_partitions().max(partitions(node, asked));
                told.replication_factor = 1;
                if call.version >= 7 && !request.validate_only {
                    told.topic_id = topic.id;
                }
                let set = topic.configs().set;
                if call.version >= 5 {
                    told.configs = Some(configs::TOPIC.iter().map(|known| describe(node, known, &set)).collect());
                }
            }
            Err((code, why)) => {
                told.error_code = code.code();
                told.error_message = Some(text(why));
                told.num_partitions = -1;
                told.replication_factor = -1;
            }
        }
        response.topics.push(told);
    }
    response
}

fn describe(node: &Node, known: &configs::Known, set: &BTreeMap<String, String>) -> CreatableTopicConfigs {
    let own = set.get(known.name);
    let mut told = CreatableTopicConfigs::default().with_name(text(known.name));
    told.config_source = if own.is_some() { super::configs::OF_TOPIC } else { super::configs::DEFAULT };
    told.value = Some(text(own.cloned().unwrap_or_else(|| node.defaults.of(known))));
    told
}

fn partitions(node: &Node, asked: &CreatableTopic) -> i32 {
    match asked.num_partitions {
        -1 if !asked.assignments.is_empty() => asked.assignments.len() as i32,
        -1 => node.config.partitions,
        n => n,
    }
}

fn create_one(node: &Node, asked: &CreatableTopic, only_check: bool) -> Result<Arc<Topic>, Refused> {
    if !matches!(asked.replication_factor, -1 | 1) {
        let why = format!("Replication factor {} is not possible: there is 1 broker.", asked.replication_factor);
        return Err((Code::InvalidReplicationFactor, why));
    }
    let elsewhere = asked.assignments.iter().any(|one| one.broker_ids.iter().any(|id| *id != super::metadata::NODE_ID));
    if elsewhere {
        return Err((Code::InvalidReplicaAssignment, "The only broker is 1.".to_string()));
    }
    let mut set = BTreeMap::new();
    for config in &asked.configs {
        let value = config.value.as_ref().map(|value| value.to_string());
        let Some(value) = value else {
            return Err((Code::InvalidConfig, format!("Configuration {} has no value.", config.name.as_str())));
        };
        configs::check(config.name.as_str(), &value).map_err(|why| (Code::InvalidConfig, why))?;
        set.insert(config.name.to_string(), value);
    }
    node.create_topic(asked.name.as_str(), partitions(node, asked), set, only_check)
}

pub fn delete(node: &Node, call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let by_either = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let mut response = DeleteTopicsResponse::default();
    for (name, id) in by_name.chain(by_either) {
        let mut told = DeletableTopicResult::default().with_name(name.clone());
        if call.version >= 6 {
            told.topic_id = id;
        }
        let topic = match &name {
            Some(name) => node.topic(name.as_str()).ok_or(Code::UnknownTopicOrPartition),
            None => node.topic_by_id(&id).ok_or(Code::UnknownTopicId),
        };
        let deleted = topic.map_err(|code| (code, String::new())).and_then(|topic| {
            told.name = Some(TopicName(text(topic.name.as_str())));
            node.delete_topic(&topic.name)
        });
        if let Err((code, why)) = deleted {
            told.error_code = code.code();
            if call.version >= 5 {
                told.error_message = Some(text(why));
            }
        }
        response.responses.push(told);
    }
    response
}

pub fn grow(node: &Node, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|asked| {
        let grown = node.grow_topic(asked.name.as_str(), asked.count, request.validate_only);
        let mut told = CreatePartitionsTopicResult::default().with_name(asked.name);
        if let Err((code, why)) = grown {
            told.error_code = code.code();
            told.error_message = Some(text(why));
        }
        told
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub fn delete_records(node: &Node, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let known = node.topic(topic.name.as_str());
        let mut told = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
        for asked in topic.partitions {
            let deleted = known
                .as_ref()
                .and_then(|topic| Some((topic, topic.partition(asked.partition_index)?)))
                .ok_or(Code::UnknownTopicOrPartition)
                .and_then(|(topic, partition)| node.delete_records(topic, &partition, asked.offset));
            let mut result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match deleted {
                Ok(start) => result.low_watermark = start,
                Err(code) => {
                    result.low_watermark = -1;
                    result.error_code = code.code();
                }
            }
            told.partitions.push(result);
        }
        response.topics.push(told);
    }
    response
}
