//! Requests about consumer groups and their members.

use super::apis::{Call, text};
use crate::coordinator::groups::{Caller, Group, Join, State};
use crate::node::Node;
use crate::topics::lock;
use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

/// The code of an answer without anything else.
pub fn code_of(result: &Result<(), Code>) -> i16 {
    result.as_ref().map_or_else(|code| code.code(), |()| 0)
}

pub fn caller(member: &StrBytes, instance: Option<&StrBytes>, generation: i32) -> Caller {
    Caller { member: member.to_string(), instance: instance.map(StrBytes::to_string), generation }
}

/// A copy: a piece of a request would keep all of it in memory.
fn kept(piece: &Bytes) -> Bytes {
    Bytes::copy_from_slice(piece)
}

/// Names with control characters cannot be written down.
pub fn is_group(name: &str) -> bool {
    !name.chars().any(char::is_control)
}

pub async fn join(node: &Node, call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default();
    let asked = request.member_id.clone();
    let join = Join {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        new_member: match &request.group_instance_id {
            Some(instance) => format!("{}-{}", instance.as_str(), uuid::Uuid::new_v4()),
            None => format!("{}-{}", call.client_id, uuid::Uuid::new_v4()),
        },
        instance: request.group_instance_id.map(|instance| instance.to_string()),
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.peer.ip()),
        session_ms: request.session_timeout_ms,
        // Until version 1 there was one time for both.
        rebalance_ms: if call.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(|one| (one.name.to_string(), kept(&one.metadata))).collect(),
        told_first: call.version >= 4,
    };
    let answer =
        if is_group(&join.group) { node.join(join).await } else { Err((Code::InvalidGroupId, asked.to_string())) };
    match answer {
        Ok(joined) => {
            response.generation_id = joined.generation;
            response.protocol_type = Some(text(joined.protocol_type));
            response.protocol_name = Some(text(joined.protocol));
            response.leader = text(joined.leader);
            response.member_id = text(joined.member);
            response.members = joined
                .members
                .into_iter()
                .map(|(name, instance, metadata)| {
                    JoinGroupResponseMember::default()
                        .with_member_id(text(name))
                        .with_group_instance_id(instance.map(text))
                        .with_metadata(metadata)
                })
                .collect();
        }
        Err((code, member)) => {
            response.error_code = code.code();
            response.generation_id = -1;
            response.member_id = text(member);
            // Before version 7 an answer always names a protocol.
            response.protocol_name = if call.version < 7 { Some(StrBytes::new()) } else { None };
        }
    }
    response
}

pub async fn sync(node: &Node, call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let assignments =
        request.assignments.iter().map(|one| (one.member_id.to_string(), kept(&one.assignment))).collect();
    let mut response = SyncGroupResponse::default();
    match node.sync(request.group_id.to_string(), caller, assignments).await {
        Ok(synced) => {
            response.assignment = synced.assignment;
            if call.version >= 5 {
                response.protocol_type = Some(text(synced.protocol_type));
                response.protocol_name = Some(text(synced.protocol));
            }
        }
        Err(code) => response.error_code = code.code(),
    }
    response
}

pub fn heartbeat(node: &Node, request: HeartbeatRequest) -> HeartbeatResponse {
    let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let answer = lock(&node.coordinator).groups.heartbeat(node.now_ms(), &request.group_id, &caller);
    HeartbeatResponse::default().with_error_code(code_of(&answer))
}

pub fn leave(node: &Node, call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let mut coordinator = lock(&node.coordinator);
    let mut take_out = |member: &str, instance: Option<&str>| {
        let (answer, commands) = coordinator.groups.leave(node.now_ms(), &request.group_id, member, instance);
        coordinator.tell(commands);
        code_of(&answer)
    };
    let mut response = LeaveGroupResponse::default();
    if call.version < 3 {
        response.error_code = take_out(&request.member_id, None);
        return response;
    }
    for member in &request.members {
        let code = take_out(&member.member_id, member.group_instance_id.as_ref().map(|instance| instance.as_str()));
        response.members.push(
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(code),
        );
    }
    response
}

pub fn describe(node: &Node, call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let coordinator = lock(&node.coordinator);
    let described = request.groups.into_iter().map(|id| {
        let mut told = DescribedGroup::default().with_group_id(id.clone());
        match coordinator.groups.all.get(id.as_str()) {
            None => {
                told.group_state = text("Dead");
                if call.version >= 6 {
                    told.error_code = Code::GroupIdNotFound.code();
                    told.error_message = Some(text(format!("Group {} not found.", id.as_str())));
                }
            }
            Some(group) => tell(group, &mut told),
        }
        told
    });
    DescribeGroupsResponse::default().with_groups(described.collect())
}

fn tell(group: &Group, told: &mut DescribedGroup) {
    told.group_state = text(group.state.name());
    told.protocol_type = text(group.protocol_type.as_str());
    let stable = group.state == State::Stable;
    if stable {
        told.protocol_data = text(group.protocol.as_str());
    }
    for (name, member) in &group.members {
        told.members.push(
            DescribedGroupMember::default()
                .with_member_id(text(name.as_str()))
                .with_group_instance_id(member.instance.clone().map(text))
                .with_client_id(text(member.client_id.as_str()))
                .with_client_host(text(member.client_host.as_str()))
                .with_member_metadata(if stable { member.metadata(&group.protocol) } else { Bytes::new() })
                .with_member_assignment(member.assignment.clone()),
        );
    }
}

pub fn list(node: &Node, call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let among = |filter: &[StrBytes], word: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
    };
    let coordinator = lock(&node.coordinator);
    let wanted = coordinator.groups.all.iter().filter(|(_, group)| {
        among(&request.states_filter, group.state.name()) && among(&request.types_filter, "classic")
    });
    let listed = wanted.map(|(name, group)| {
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(name.as_str())))
            .with_protocol_type(text(group.protocol_type.as_str()));
        if call.version >= 4 {
            listed.group_state = text(group.state.name());
        }
        if call.version >= 5 {
            listed.group_type = text("classic");
        }
        listed
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

pub fn delete(node: &Node, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut coordinator = lock(&node.coordinator);
    let results = request.groups_names.into_iter().map(|id| {
        let deleted = node.delete_group(&mut coordinator, id.as_str());
        DeletableGroupResult::default().with_error_code(code_of(&deleted)).with_group_id(id)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
