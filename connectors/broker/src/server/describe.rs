//! Requests that only look: transactions, producers, how much lies on disk.

use super::apis::{Call, text};
use crate::coordinator::transactions::State;
use crate::node::Node;
use crate::topics::lock;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    TopicName, TransactionalId,
};
use std::collections::BTreeMap;

const STATES: [State; 6] = [
    State::Empty,
    State::Ongoing,
    State::PrepareCommit,
    State::PrepareAbort,
    State::CompleteCommit,
    State::CompleteAbort,
];

pub fn transactions(node: &Node, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let coordinator = lock(&node.coordinator);
    let now_ms = node.wall_ms() as u64;
    let mut response = ListTransactionsResponse::default();
    for filter in &request.state_filters {
        if !STATES.iter().any(|state| state.name() == filter.as_str()) {
            response.unknown_state_filters.push(filter.clone());
        }
    }
    if request.transactional_id_pattern.as_ref().is_some_and(|pattern| !pattern.is_empty()) {
        // Patterns are regular expressions, which a broker of this size does not bring along.
        return response.with_error_code(Code::InvalidRegularExpression.code());
    }
    for (id, transaction) in &coordinator.transactions.all {
        let name = transaction.state.name();
        let state_fits =
            request.state_filters.is_empty() || request.state_filters.iter().any(|filter| filter.as_str() == name);
        let producer_fits = request.producer_id_filters.is_empty()
            || request.producer_id_filters.iter().any(|filter| filter.0 == transaction.producer_id);
        let open_ms = now_ms.saturating_sub(transaction.since_ms);
        let duration_fits = request.duration_filter < 0
            || transaction.state == State::Ongoing && open_ms > request.duration_filter as u64;
        if state_fits && producer_fits && duration_fits {
            response.transaction_states.push(
                ListedTransaction::default()
                    .with_transactional_id(TransactionalId(text(id.as_str())))
                    .with_producer_id(transaction.producer_id.into())
                    .with_transaction_state(text(name)),
            );
        }
    }
    response
}

pub fn some_transactions(node: &Node, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let coordinator = lock(&node.coordinator);
    let described = request.transactional_ids.into_iter().map(|id| {
        let mut told = TransactionState::default().with_transactional_id(id.clone());
        let Some(transaction) = coordinator.transactions.all.get(id.as_str()) else {
            return told.with_error_code(Code::TransactionalIdNotFound.code());
        };
        told.transaction_state = text(transaction.state.name());
        told.transaction_timeout_ms = transaction.timeout_ms;
        told.transaction_start_time_ms =
            if transaction.state == State::Ongoing { transaction.since_ms as i64 } else { -1 };
        told.producer_id = transaction.producer_id.into();
        told.producer_epoch = transaction.epoch;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, index) in &transaction.partitions {
            topics.entry(topic).or_default().push(*index);
        }
        told.topics = topics
            .into_iter()
            .map(|(topic, indices)| TopicData::default().with_topic(TopicName(text(topic))).with_partitions(indices))
            .collect();
        told
    });
    DescribeTransactionsResponse::default().with_transaction_states(described.collect())
}

pub fn producers(node: &Node, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let mut told = PartitionResponse::default().with_partition_index(*index);
            let known = node.partition(topic.name.as_str(), *index).and_then(|partition| {
                partition.with(|log| {
                    let told = log.producers.known().map(|(id, producer)| {
                        ProducerState::default()
                            .with_producer_id(id.into())
                            .with_producer_epoch(producer.epoch.into())
                            .with_last_sequence(producer.last_sequence())
                            .with_last_timestamp(producer.last_timestamp)
                            .with_coordinator_epoch(0)
                            .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
                    });
                    told.collect::<Vec<_>>()
                })
            });
            match known {
                Some(known) => told.active_producers = known,
                None => told.error_code = Code::UnknownTopicOrPartition.code(),
            }
            told
        });
        TopicResponse::default().with_partitions(partitions.collect()).with_name(topic.name.clone())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

pub fn log_dirs(node: &Node, call: &Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let mut result = DescribeLogDirsResult::default().with_log_dir(text(node.config.data_dir.display().to_string()));
    if call.version >= 4 {
        result.total_bytes = -1;
        result.usable_bytes = -1;
    }
    for topic in node.all_topics() {
        let wanted = |index: i32| match &request.topics {
            None => true,
            Some(topics) => {
                topics.iter().any(|asked| asked.topic.as_str() == topic.name && asked.partitions.contains(&index))
            }
        };
        let told: Vec<DescribeLogDirsPartition> = topic
            .all_partitions()
            .iter()
            .filter(|partition| wanted(partition.index))
            .map(|partition| {
                let n_bytes = partition.with(|log| log.n_bytes()).unwrap_or(0);
                DescribeLogDirsPartition::default()
                    .with_partition_index(partition.index)
                    .with_partition_size(n_bytes as i64)
            })
            .collect();
        if !told.is_empty() {
            let name = TopicName(text(topic.name.as_str()));
            result.topics.push(DescribeLogDirsTopic::default().with_name(name).with_partitions(told));
        }
    }
    DescribeLogDirsResponse::default().with_results(vec![result])
}
