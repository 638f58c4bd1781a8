//! The requests that are answered: their keys, versions and shapes, and who answers them.
//!
//! Invariant: only versions are advertised that are answered as Kafka answers them. A request is decoded only after its
//! shape was walked over.

use super::shape::{self, Field};
use super::{
    configs, describe, fetch, groups, invalid, list_offsets, metadata, offsets, produce, topics, transactions,
};
use crate::node::Node;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;

/// Key, version, correlation id, and the length of the client's name.
pub const HEADER_BYTES_MIN: usize = 10;
/// All but records are small.
const OTHER_BYTES_MAX: usize = 4 << 20;

pub struct Api {
    pub key: ApiKey,
    pub min: i16,
    pub max: i16,
    /// First version with compact lengths and tagged fields.
    first_flexible: i16,
    pub shape: Vec<Field>,
}

impl Api {
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }
}

fn api(key: ApiKey, min: i16, max: i16, first_flexible: i16, shape: &str) -> Api {
    Api { key, min, max, first_flexible, shape: shape::parse(shape) }
}

/// Produce from version 12, and all that Kafka calls the second version of transactions, are left out: there the broker
/// adds partitions by itself. So are requests between brokers, of users and quotas, and the newer kinds of groups, for
/// which clients fall back to these.
pub static APIS: LazyLock<Vec<Api>> = LazyLock::new(|| {
    vec![
        api(ApiKey::Produce, 3, 11, 9, "s 2 4 {s@-12 u@13- {4 b}}"),
        api(
            ApiKey::Fetch,
            4,
            17,
            12,
            "4@-14 4 4 4 1 4@7- 4@7- {s@-12 u@13- {4 4@9- 8 4@12- 8@5- 4}} {s@7-12 u@13- [4]@7-}@7- s@11-",
        ),
        api(ApiKey::ListOffsets, 1, 10, 6, "4 1@2- {s {4 4@4- 8}} 4@10-"),
        api(ApiKey::Metadata, 0, 13, 9, "{u@10- s} 1@4- 1@8-10 1@8-"),
        api(ApiKey::OffsetCommit, 2, 9, 8, "s 4 s s@7- 8@-4 {s {4 8 4@6- s}}"),
        api(ApiKey::OffsetFetch, 1, 9, 6, "s@-7 {s@-7 [4]@-7}@-7 {s@8- s@9- 4@9- {s@8- [4]@8-}@8-}@8- 1@7-"),
        api(ApiKey::FindCoordinator, 0, 6, 3, "s@-3 1@1- [s]@4-"),
        api(ApiKey::JoinGroup, 0, 9, 6, "s 4 4@1- s s@5- s {s b} s@8-"),
        api(ApiKey::Heartbeat, 0, 4, 4, "s 4 s s@3-"),
        api(ApiKey::LeaveGroup, 0, 5, 4, "s s@-2 {s@3- s@3- s@5-}@3-"),
        api(ApiKey::SyncGroup, 0, 5, 4, "s 4 s s@3- s@5- s@5- {s b}"),
        api(ApiKey::DescribeGroups, 0, 6, 5, "[s] 1@3-"),
        api(ApiKey::ListGroups, 0, 5, 3, "[s]@4- [s]@5-"),
        api(ApiKey::ApiVersions, 0, 4, 3, "s@3- s@3-"),
        api(ApiKey::CreateTopics, 2, 7, 5, "{s 4 2 {4 [4]} {s s}} 4 1"),
        api(ApiKey::DeleteTopics, 1, 6, 4, "{s@6- u@6-}@6- [s]@-5 4"),
        api(ApiKey::DeleteRecords, 0, 2, 2, "{s {4 8}} 4"),
        api(ApiKey::InitProducerId, 0, 5, 2, "s 4 8@3- 2@3-"),
        api(ApiKey::OffsetForLeaderEpoch, 2, 4, 4, "4@3- {s {4 4 4}}"),
        api(ApiKey::AddPartitionsToTxn, 0, 3, 3, "{s@4- 8@4- 2@4- 1@4- {s [4]}@4-}@4- s@-3 8@-3 2@-3 {s [4]}@-3"),
        api(ApiKey::AddOffsetsToTxn, 0, 3, 3, "s 8 2 s"),
        api(ApiKey::EndTxn, 0, 4, 3, "s 8 2 1"),
        api(ApiKey::TxnOffsetCommit, 0, 4, 3, "s s 8 2 4@3- s@3- s@3- {s {4 8 4@2- s}}"),
        api(ApiKey::DescribeConfigs, 1, 4, 4, "{1 s [s]} 1 1@3-"),
        api(ApiKey::AlterConfigs, 0, 2, 2, "{1 s {s s}} 1"),
        api(ApiKey::DescribeLogDirs, 1, 4, 2, "{s [4]}"),
        api(ApiKey::CreatePartitions, 0, 3, 2, "{s 4 {[4]}} 4 1"),
        api(ApiKey::DeleteGroups, 0, 2, 2, "[s]"),
        api(ApiKey::IncrementalAlterConfigs, 0, 1, 1, "{1 s {s 1 s}} 1"),
        api(ApiKey::OffsetDelete, 0, 0, i16::MAX, "s {s {4}}"),
        api(ApiKey::DescribeCluster, 0, 2, 0, "1 1@1- 1@2-"),
        api(ApiKey::DescribeProducers, 0, 0, 0, "{s [4]}"),
        api(ApiKey::ListTransactions, 0, 2, 0, "[s] [8] 8@1- s@2-"),
        api(ApiKey::DescribeTransactions, 0, 0, 0, "[s]"),
        api(ApiKey::DescribeTopicPartitions, 0, 0, 0, "{s} 4 (s 4)"),
    ]
});

pub fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// One request, without its body.
pub struct Call {
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: String,
    pub peer: SocketAddr,
}

/// Whether a request of this length may be read on, by its first bytes.
pub fn check_length(head: &[u8], length: usize) -> io::Result<()> {
    let key = i16::from_be_bytes([head[0], head[1]]);
    match find(key) {
        None => Err(invalid(format!("a request of kind {key}, which this broker does not answer"))),
        Some(api) if length > OTHER_BYTES_MAX && api.key != ApiKey::Produce => {
            Err(invalid(format!("a {:?} request of {length} bytes; the most is {OTHER_BYTES_MAX}", api.key)))
        }
        Some(_) => Ok(()),
    }
}

fn take<const N: usize>(bytes: &mut Bytes) -> io::Result<[u8; N]> {
    let taken = bytes.get(..N).and_then(|bytes| bytes.try_into().ok());
    let taken = taken.ok_or_else(|| invalid("a request that ends within its header"))?;
    *bytes = bytes.slice(N..);
    Ok(taken)
}

/// Answers one request; nothing to a producer that wants no answer. An error closes the connection.
pub async fn answer(node: &Node, peer: SocketAddr, mut request: Bytes) -> io::Result<Option<BytesMut>> {
    let key = i16::from_be_bytes(take(&mut request)?);
    let version = i16::from_be_bytes(take(&mut request)?);
    let correlation_id = i32::from_be_bytes(take(&mut request)?);
    let n_client_id = i16::from_be_bytes(take(&mut request)?).max(0) as usize;
    let client_id = request.get(..n_client_id).ok_or_else(|| invalid("a request that ends within its header"))?;
    let client_id = String::from_utf8_lossy(client_id).into_owned();
    request = request.slice(n_client_id..);
    let call = Call { version, correlation_id, client_id, peer };
    let Some(api) = find(key) else { return Err(invalid(format!("a request of kind {key}"))) };
    if !(api.min..=api.max).contains(&version) {
        // A client that is newer than this broker asks with its own version first, and reads the answer in the oldest.
        if api.key == ApiKey::ApiVersions {
            let call = Call { version: 0, ..call };
            return reply(&call, &api_versions(Code::UnsupportedVersion.code())).map(Some);
        }
        return Err(invalid(format!("{:?} in version {version}; from {} to {} are known", api.key, api.min, api.max)));
    }
    let flexible = api.is_flexible(version);
    let header_fits = !flexible || skip_tags(&mut request).is_some();
    if !header_fits || !shape::fits(&api.shape, version, flexible, &request) {
        return Err(invalid(format!("a {:?} request whose bytes do not fit its kind", api.key)));
    }
    let body = &mut request;
    match api.key {
        ApiKey::Produce => match produce::produce(node, &call, decode(&call, body)?) {
            produce::Answer::Told(response) => reply(&call, &response).map(Some),
            produce::Answer::Silent => Ok(None),
            // It asked for no answer, so this is how it hears of it.
            produce::Answer::Failed => Err(invalid("records without an answer could not be appended")),
        },
        ApiKey::Fetch => reply(&call, &fetch::fetch(node, &call, decode(&call, body)?).await).map(Some),
        ApiKey::ListOffsets => reply(&call, &list_offsets::list(node, version, decode(&call, body)?)).map(Some),
        ApiKey::OffsetForLeaderEpoch => reply(&call, &list_offsets::of_epoch(node, decode(&call, body)?)).map(Some),
        ApiKey::Metadata => reply(&call, &metadata::metadata(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::DescribeTopicPartitions => {
            reply(&call, &metadata::topic_partitions(node, decode(&call, body)?)).map(Some)
        }
        ApiKey::DescribeCluster => reply(&call, &metadata::cluster(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::FindCoordinator => reply(&call, &metadata::coordinator(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::ApiVersions => reply(&call, &api_versions(0)).map(Some),
        ApiKey::JoinGroup => reply(&call, &groups::join(node, &call, decode(&call, body)?).await).map(Some),
        ApiKey::SyncGroup => reply(&call, &groups::sync(node, &call, decode(&call, body)?).await).map(Some),
        ApiKey::Heartbeat => reply(&call, &groups::heartbeat(node, decode(&call, body)?)).map(Some),
        ApiKey::LeaveGroup => reply(&call, &groups::leave(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::DescribeGroups => reply(&call, &groups::describe(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::ListGroups => reply(&call, &groups::list(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::DeleteGroups => reply(&call, &groups::delete(node, decode(&call, body)?)).map(Some),
        ApiKey::OffsetCommit => reply(&call, &offsets::commit(node, decode(&call, body)?)).map(Some),
        ApiKey::OffsetFetch => reply(&call, &offsets::fetch(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::OffsetDelete => reply(&call, &offsets::delete(node, decode(&call, body)?)).map(Some),
        ApiKey::CreateTopics => reply(&call, &topics::create(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::DeleteTopics => reply(&call, &topics::delete(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::CreatePartitions => reply(&call, &topics::grow(node, decode(&call, body)?)).map(Some),
        ApiKey::DeleteRecords => reply(&call, &topics::delete_records(node, decode(&call, body)?)).map(Some),
        ApiKey::DescribeConfigs => reply(&call, &configs::describe(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::AlterConfigs => reply(&call, &configs::alter(node, decode(&call, body)?)).map(Some),
        ApiKey::IncrementalAlterConfigs => reply(&call, &configs::alter_some(node, decode(&call, body)?)).map(Some),
        ApiKey::InitProducerId => reply(&call, &transactions::begin(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::AddPartitionsToTxn => {
            reply(&call, &transactions::add_partitions(node, &call, decode(&call, body)?)).map(Some)
        }
        ApiKey::AddOffsetsToTxn => {
            reply(&call, &transactions::add_offsets(node, &call, decode(&call, body)?)).map(Some)
        }
        ApiKey::TxnOffsetCommit => reply(&call, &transactions::commit_offsets(node, decode(&call, body)?)).map(Some),
        ApiKey::EndTxn => reply(&call, &transactions::end(node, &call, decode(&call, body)?)).map(Some),
        ApiKey::ListTransactions => reply(&call, &describe::transactions(node, decode(&call, body)?)).map(Some),
        ApiKey::DescribeTransactions => {
            reply(&call, &describe::some_transactions(node, decode(&call, body)?)).map(Some)
        }
        ApiKey::DescribeProducers => reply(&call, &describe::producers(node, decode(&call, body)?)).map(Some),
        ApiKey::DescribeLogDirs => reply(&call, &describe::log_dirs(node, &call, decode(&call, body)?)).map(Some),
        other => Err(invalid(format!("{other:?} is listed, and nobody answers it"))),
    }
}

fn skip_tags(bytes: &mut Bytes) -> Option<()> {
    // Headers have no tagged fields that mean anything.
    let empty = bytes.first() == Some(&0);
    if empty {
        *bytes = bytes.slice(1..);
    }
    empty.then_some(())
}

fn decode<T: Decodable>(call: &Call, body: &mut Bytes) -> io::Result<T> {
    T::decode(body, call.version).map_err(|error| invalid(format!("a request that cannot be read: {error}")))
}

fn reply<T: Encodable + HeaderVersion>(call: &Call, response: &T) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    bytes.put_i32(call.correlation_id);
    if T::header_version(call.version) > 0 {
        bytes.put_u8(0);
    }
    response.encode(&mut bytes, call.version).map_err(|error| {
        tracing::error!(%error, version = call.version, "an answer could not be written");
        invalid(format!("an answer that cannot be written: {error}"))
    })?;
    let length = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// A text of an answer.
pub fn text(from: impl Into<String>) -> StrBytes {
    StrBytes::from_string(from.into())
}

fn api_versions(error_code: i16) -> ApiVersionsResponse {
    let listed = |api: &Api| {
        // librdkafka compresses only for brokers that say they take its oldest requests, and then uses newer ones.
        let min = if api.key == ApiKey::Produce { 0 } else { api.min };
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(min).with_max_version(api.max)
    };
    ApiVersionsResponse::default().with_error_code(error_code).with_api_keys(APIS.iter().map(listed).collect())
}
