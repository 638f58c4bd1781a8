//! Consumer groups by Kafka's classic protocol: join, sync, heartbeat, leave, and who may commit offsets.
//!
//! Invariant: within a generation all members were told the same protocol and one leader; an assignment is given out only
//! to members of the generation it was made for; a request of another generation, or of nobody's member, changes nothing.
//! Every ticket is answered once.
//! Does not know: what an assignment says, and when it is now.

mod group;

use super::member::Protocol;
use bytes::Bytes;
pub use group::Group;
use kafka_protocol::ResponseError as Code;
use std::collections::BTreeMap;

/// Stands for a request that is answered later.
pub type Ticket = u64;

pub const SESSION_MS_MIN: i32 = 1_000;
pub const SESSION_MS_MAX: i32 = 1_800_000;

#[derive(Clone, Debug)]
pub struct Join {
    pub group: String,
    /// Empty for a new one.
    pub member: String,
    /// The name that a new member gets.
    pub new_member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_ms: i32,
    pub rebalance_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// Whether a new member is first told its name and comes again (from version 4 on).
    pub told_first: bool,
}

/// Who makes a request, and in which generation it believes to be.
#[derive(Clone, Debug)]
pub struct Caller {
    pub member: String,
    pub instance: Option<String>,
    pub generation: i32,
}

#[derive(Clone, Debug)]
pub enum Event {
    Join(Ticket, Join),
    Sync {
        ticket: Ticket,
        group: String,
        caller: Caller,
        assignments: Vec<(String, Bytes)>,
    },
    /// Nobody waits any more: the connection is gone.
    Gone(Ticket),
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member: String,
    /// For the leader only: name, instance, what it said for the protocol.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// On an error the name of the member, which may be a new one.
    Joined(Ticket, Result<Joined, (Code, String)>),
    Synced(Ticket, Result<Synced, Code>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Empty,
    /// Waits until all have joined, or until the time for it is over.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    Stable,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Debug, Default)]
pub struct Groups {
    pub all: BTreeMap<String, Group>,
}

impl Groups {
    pub fn apply(&mut self, now_ms: u64, event: Event) -> Vec<Command> {
        match event {
            Event::Join(ticket, join) => self.join(now_ms, ticket, join),
            Event::Sync { ticket, group, caller, assignments } => {
                let Some(group) = self.all.get_mut(&group) else {
                    return vec![Command::Synced(ticket, Err(Code::UnknownMemberId))];
                };
                group.sync(now_ms, ticket, &caller, assignments)
            }
            Event::Gone(ticket) => {
                for member in self.all.values_mut().flat_map(|group| group.members.values_mut()) {
                    for waiting in [&mut member.joining, &mut member.syncing] {
                        if *waiting == Some(ticket) {
                            *waiting = None;
                            member.expires_ms = now_ms + member.session_ms;
                        }
                    }
                }
                Vec::new()
            }
            Event::Tick => {
                let commands = self.all.values_mut().flat_map(|group| group.tick(now_ms)).collect();
                self.all.retain(|_, group| !group.is_forgotten(now_ms));
                commands
            }
        }
    }

    fn join(&mut self, now_ms: u64, ticket: Ticket, join: Join) -> Vec<Command> {
        let refused = |code| vec![Command::Joined(ticket, Err((code, join.member.clone())))];
        if join.group.is_empty() {
            return refused(Code::InvalidGroupId);
        }
        if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&join.session_ms) {
            return refused(Code::InvalidSessionTimeout);
        }
        if !self.all.contains_key(&join.group) && !join.member.is_empty() {
            return refused(Code::UnknownMemberId);
        }
        let group = self.all.entry(join.group.clone()).or_default();
        group.join(now_ms, ticket, join)
    }

    /// A heartbeat's answer.
    pub fn heartbeat(&mut self, now_ms: u64, group: &str, caller: &Caller) -> Result<(), Code> {
        let group = self.all.get_mut(group).ok_or(Code::UnknownMemberId)?;
        let member = group.caller(caller)?;
        member.heard(now_ms);
        if group.state == State::PreparingRebalance { Err(Code::RebalanceInProgress) } else { Ok(()) }
    }

    /// Takes a member out of its group.
    pub fn leave(
        &mut self,
        now_ms: u64,
        group: &str,
        member: &str,
        instance: Option<&str>,
    ) -> (Result<(), Code>, Vec<Command>) {
        let Some(group) = self.all.get_mut(group) else { return (Err(Code::UnknownMemberId), Vec::new()) };
        let name = match instance {
            Some(instance) => match group.named(instance) {
                Some(name) if member.is_empty() || member == name => name,
                Some(_) => return (Err(Code::FencedInstanceId), Vec::new()),
                None => return (Err(Code::UnknownMemberId), Vec::new()),
            },
            None => member.to_string(),
        };
        if group.promised.remove(&name).is_some() {
            return (Ok(()), group.complete_if_all_joined(now_ms));
        }
        if !group.members.contains_key(&name) {
            return (Err(Code::UnknownMemberId), Vec::new());
        }
        (Ok(()), group.remove(now_ms, &name))
    }

    /// Whether this caller may commit offsets of the group now.
    pub fn may_commit(&mut self, now_ms: u64, group: &str, caller: &Caller) -> Result<(), Code> {
        let Some(group) = self.all.get_mut(group) else {
            // A consumer that assigns itself its partitions has no generation, and needs no group.
            return if caller.generation < 0 { Ok(()) } else { Err(Code::IllegalGeneration) };
        };
        if caller.generation < 0 && caller.member.is_empty() && group.members.is_empty() {
            return Ok(());
        }
        let member = group.caller(caller)?;
        member.heard(now_ms);
        if group.state == State::CompletingRebalance { Err(Code::RebalanceInProgress) } else { Ok(()) }
    }

    /// Offsets from within a transaction: the caller may leave its membership open.
    pub fn may_commit_in_transaction(&mut self, now_ms: u64, group: &str, caller: &Caller) -> Result<(), Code> {
        let anonymous = caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none();
        if anonymous { Ok(()) } else { self.may_commit(now_ms, group, caller) }
    }

    pub fn group(&mut self, name: &str) -> &mut Group {
        self.all.entry(name.to_string()).or_default()
    }

    /// Whether the group may be deleted.
    pub fn may_delete(&self, name: &str) -> Result<(), Code> {
        match self.all.get(name) {
            None => Err(Code::GroupIdNotFound),
            Some(group) if !group.members.is_empty() => Err(Code::NonEmptyGroup),
            Some(_) => Ok(()),
        }
    }
}
