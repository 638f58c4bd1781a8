//! Requests that show and change settings.

use super::apis::{Call, text};
use crate::configs::{self, BOOLEAN, INT, LONG};
use crate::coordinator::transactions::TIMEOUT_MS_MAX;
use crate::node::{Node, Refused};
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlteredSome;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from.
pub const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
pub const DEFAULT: i8 = 5;

/// How a list is changed.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub fn describe(node: &Node, call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut response = DescribeConfigsResponse::default();
    for asked in request.resources {
        let mut told = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        let described = match asked.resource_type {
            TOPIC => of_topic(node, &asked),
            BROKER => of_broker(node, &asked),
            other => Err((Code::InvalidRequest, format!("this broker has no settings of resource type {other}"))),
        };
        match described {
            Ok(mut configs) => {
                let wanted = |config: &DescribeConfigsResourceResult| {
                    asked.configuration_keys.as_ref().is_none_or(|keys| keys.contains(&config.name))
                };
                configs.retain(wanted);
                for config in &mut configs {
                    if !request.include_synonyms {
                        config.synonyms.clear();
                    }
                    if call.version < 3 {
                        config.config_type = 0;
                        config.documentation = None;
                    } else if !request.include_documentation {
                        config.documentation = None;
                    }
                }
                told.configs = configs;
            }
            Err((code, why)) => {
                told.error_code = code.code();
                told.error_message = Some(text(why));
            }
        }
        response.results.push(told);
    }
    response
}

fn of_topic(node: &Node, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let name = asked.resource_name.as_str();
    let missing = || (Code::UnknownTopicOrPartition, format!("There is no topic '{name}'."));
    let set = node.topic(name).ok_or_else(missing)?.configs().set;
    let told = configs::TOPIC.iter().map(|known| {
        let default = node.defaults.of(known);
        let own = set.get(known.name);
        let mut synonyms = Vec::new();
        let mut synonym = |value: &str, source| {
            synonyms.push(
                DescribeConfigsSynonym::default()
                    .with_name(text(known.name))
                    .with_value(Some(text(value)))
                    .with_source(source),
            );
        };
        if let Some(own) = own {
            synonym(own, OF_TOPIC);
        }
        synonym(&default, DEFAULT);
        DescribeConfigsResourceResult::default()
            .with_name(text(known.name))
            .with_value(Some(text(own.unwrap_or(&default).as_str())))
            .with_config_source(if own.is_some() { OF_TOPIC } else { DEFAULT })
            .with_config_type(known.kind)
            .with_documentation(Some(text(known.doc)))
            .with_synonyms(synonyms)
    });
    Ok(told.collect())
}

fn of_broker(node: &Node, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    if !matches!(asked.resource_name.as_str(), "1" | "") {
        return Err((Code::InvalidRequest, format!("There is no broker '{}', only 1.", asked.resource_name.as_str())));
    }
    if asked.resource_name.is_empty() {
        // Settings of all brokers together: none are set.
        return Ok(Vec::new());
    }
    let own = |name: &str| configs::find(name).map(|known| node.defaults.of(known)).unwrap_or_default();
    let values = [
        ("auto.create.topics.enable", node.config.auto_create.to_string(), BOOLEAN),
        ("broker.id", "1".to_string(), INT),
        ("default.replication.factor", "1".to_string(), INT),
        ("log.retention.bytes", own("retention.bytes"), LONG),
        ("log.retention.ms", own("retention.ms"), LONG),
        ("log.segment.bytes", own("segment.bytes"), INT),
        ("message.max.bytes", own("max.message.bytes"), INT),
        ("num.partitions", node.config.partitions.to_string(), INT),
        ("transaction.max.timeout.ms", TIMEOUT_MS_MAX.to_string(), INT),
    ];
    let told = values.into_iter().map(|(name, value, kind)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(OF_BROKER)
            .with_config_type(kind)
    });
    Ok(told.collect())
}

/// One change: the name, how, and the value.
struct Change {
    name: String,
    operation: i8,
    value: Option<String>,
}

fn owned(value: Option<&StrBytes>) -> Option<String> {
    value.map(|value| value.to_string())
}

pub fn alter(node: &Node, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        // The old request says all of a topic's settings; what it leaves out goes back to its default.
        let changes = resource.configs.iter().map(|config| Change {
            name: config.name.to_string(),
            operation: SET,
            value: owned(config.value.as_ref()),
        });
        let changed = change(
            node,
            resource.resource_type,
            resource.resource_name.as_str(),
            Some(BTreeMap::new()),
            changes.collect(),
            request.validate_only,
        );
        let mut told = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        if let Err((code, why)) = changed {
            told.error_code = code.code();
            told.error_message = Some(text(why));
        }
        told
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub fn alter_some(node: &Node, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        let changes = resource.configs.iter().map(|config| Change {
            name: config.name.to_string(),
            operation: config.config_operation,
            value: owned(config.value.as_ref()),
        });
        let changed = change(
            node,
            resource.resource_type,
            resource.resource_name.as_str(),
            None,
            changes.collect(),
            request.validate_only,
        );
        let mut told = AlteredSome::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        if let Err((code, why)) = changed {
            told.error_code = code.code();
            told.error_message = Some(text(why));
        }
        told
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

/// Changes all or nothing, beginning from `base`, or else from what is set.
fn change(
    node: &Node,
    kind: i8,
    name: &str,
    base: Option<BTreeMap<String, String>>,
    changes: Vec<Change>,
    only_check: bool,
) -> Result<(), Refused> {
    if kind != TOPIC {
        let why = "only settings of topics can be changed; the broker's own are given when it is started";
        return Err((Code::InvalidRequest, why.to_string()));
    }
    let missing = || (Code::UnknownTopicOrPartition, format!("There is no topic '{name}'."));
    let topic = node.topic(name).ok_or_else(missing)?;
    let mut set = base.unwrap_or_else(|| topic.configs().set);
    for change in changes {
        let bad = |why: String| (Code::InvalidConfig, why);
        let known = configs::find(&change.name).map_err(bad)?;
        if change.operation == DELETE {
            set.remove(&change.name);
            continue;
        }
        let Some(value) = change.value else { return Err(bad(format!("Configuration {} has no value.", change.name))) };
        let value = match change.operation {
            SET => value,
            APPEND | SUBTRACT if known.kind == configs::LIST => {
                let before = set.get(&change.name).cloned().unwrap_or_else(|| node.defaults.of(known));
                let mut words: Vec<&str> = before.split(',').filter(|word| !word.is_empty()).collect();
                words.retain(|word| !value.split(',').any(|other| other == *word));
                if change.operation == APPEND {
                    words.extend(value.split(','));
                }
                words.join(",")
            }
            _ => return Err(bad(format!("Configuration {} cannot be changed in this way.", change.name))),
        };
        configs::check(&change.name, &value).map_err(bad)?;
        set.insert(change.name, value);
    }
    if only_check { Ok(()) } else { node.set_configs(name, set) }
}
