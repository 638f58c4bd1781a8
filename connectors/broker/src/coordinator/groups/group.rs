//! One group: its members, its generation, and the rebalance that leads from one to the next.
//!
//! Invariant: while it prepares, members wait for one another; while it completes, for the leader; in between nobody does.

use super::{Caller, Command, Join, Joined, SESSION_MS_MIN, State, Synced, Ticket};
use crate::coordinator::member::Member;
use crate::coordinator::offsets::Offsets;
use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use std::collections::{BTreeMap, BTreeSet};

/// Members of one group; a group of more is no development machine's.
const MEMBERS_MAX: usize = 1_000;
/// An empty group is listed a while longer, so that it can be looked at and deleted.
const FORGET_AFTER_MS: u64 = 600_000;

#[derive(Debug)]
pub struct Group {
    pub state: State,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub members: BTreeMap<String, Member>,
    /// Names given out to members that have not come again yet, and until when they are kept.
    pub(super) promised: BTreeMap<String, u64>,
    /// End of the current wait, while rebalancing.
    deadline_ms: u64,
    /// Since when nobody is in it and nothing is kept for it.
    nothing_since_ms: Option<u64>,
    pub offsets: Offsets,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            deadline_ms: 0,
            nothing_since_ms: None,
            offsets: Offsets::new(),
        }
    }
}

impl Group {
    pub(super) fn join(&mut self, now_ms: u64, ticket: Ticket, join: Join) -> Vec<Command> {
        let refused = |code, member: &str| vec![Command::Joined(ticket, Err((code, member.to_string())))];
        let fits = !join.protocols.is_empty()
            && (self.members.is_empty()
                || join.protocol_type == self.protocol_type
                    && join.protocols.iter().any(|(name, _)| self.is_known_to_all(name)));
        if join.protocol_type.is_empty() || !fits {
            return refused(Code::InconsistentGroupProtocol, &join.member);
        }
        let mut name = join.member.clone();
        if name.is_empty() {
            if self.members.len() + self.promised.len() >= MEMBERS_MAX {
                return refused(Code::GroupMaxSizeReached, "");
            }
            name.clone_from(&join.new_member);
            match join.instance.as_deref().and_then(|instance| self.named(instance)) {
                // It came back under another name: whoever has the old one is fenced.
                Some(before) => return self.replace(now_ms, ticket, join, &before, name),
                None if join.told_first && join.instance.is_none() => {
                    self.promised.insert(name.clone(), now_ms + join.session_ms as u64);
                    return refused(Code::MemberIdRequired, &name);
                }
                None => {}
            }
        } else if self.promised.remove(&name).is_none() {
            let Some(member) = self.members.get(&name) else {
                let fenced = join.instance.as_deref().is_some_and(|instance| self.named(instance).is_some());
                return refused(if fenced { Code::FencedInstanceId } else { Code::UnknownMemberId }, &name);
            };
            if join.instance.is_some() && member.instance != join.instance {
                return refused(Code::FencedInstanceId, &name);
            }
            return self.join_again(now_ms, ticket, join, &name);
        }
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        let mut member = Member {
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_ms: join.session_ms as u64,
            rebalance_ms: join.rebalance_ms.max(join.session_ms.min(SESSION_MS_MIN)) as u64,
            protocols: join.protocols,
            assignment: Bytes::new(),
            expires_ms: 0,
            joining: Some(ticket),
            syncing: None,
        };
        member.heard(now_ms);
        self.members.insert(name, member);
        self.rebalance(now_ms)
    }

    fn join_again(&mut self, now_ms: u64, ticket: Ticket, join: Join, name: &str) -> Vec<Command> {
        let Some(member) = self.members.get_mut(name) else { return Vec::new() };
        member.heard(now_ms);
        let changed = member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.session_ms = join.session_ms as u64;
        member.rebalance_ms = join.rebalance_ms.max(join.session_ms.min(SESSION_MS_MIN)) as u64;
        let told_again = match self.state {
            State::Stable => !changed && name != self.leader,
            // Its answer was lost on the way.
            State::CompletingRebalance => !changed,
            State::Empty | State::PreparingRebalance => false,
        };
        if told_again {
            return vec![Command::Joined(ticket, Ok(self.joined(name)))];
        }
        let before = member.joining.replace(ticket);
        let mut commands: Vec<Command> = before
            .map(|before| Command::Joined(before, Err((Code::UnknownMemberId, name.to_string()))))
            .into_iter()
            .collect();
        commands.extend(self.rebalance(now_ms));
        commands
    }

    /// A member with an instance name came back and has forgotten its name.
    fn replace(&mut self, now_ms: u64, ticket: Ticket, join: Join, before: &str, name: String) -> Vec<Command> {
        let Some(mut member) = self.members.remove(before) else { return Vec::new() };
        let mut commands = Vec::new();
        if let Some(waiting) = member.joining.take() {
            commands.push(Command::Joined(waiting, Err((Code::FencedInstanceId, before.to_string()))));
        }
        if let Some(waiting) = member.syncing.take() {
            commands.push(Command::Synced(waiting, Err(Code::FencedInstanceId)));
        }
        let was_leader = self.leader == before;
        if was_leader {
            self.leader.clone_from(&name);
        }
        let changed = member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.session_ms = join.session_ms as u64;
        member.rebalance_ms = join.rebalance_ms.max(join.session_ms.min(SESSION_MS_MIN)) as u64;
        member.heard(now_ms);
        // Nothing changes for the others as long as it asks for the same.
        let told_again = self.state == State::Stable && !changed;
        if !told_again {
            member.joining = Some(ticket);
        }
        self.members.insert(name.clone(), member);
        if told_again {
            let mut joined = self.joined(&name);
            // The assignment stands, so it must not make one as the leader.
            if was_leader {
                joined.members.clear();
                joined.leader = before.to_string();
            }
            commands.push(Command::Joined(ticket, Ok(joined)));
        } else {
            commands.extend(self.rebalance(now_ms));
        }
        commands
    }

    /// Begins a rebalance, or goes on with the one that runs.
    fn rebalance(&mut self, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.state != State::PreparingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(waiting) = member.syncing.take() {
                    member.expires_ms = now_ms + member.session_ms;
                    commands.push(Command::Synced(waiting, Err(Code::RebalanceInProgress)));
                }
            }
            self.state = State::PreparingRebalance;
            self.deadline_ms = now_ms + self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0);
        }
        commands.extend(self.complete_if_all_joined(now_ms));
        commands
    }

    pub(super) fn complete_if_all_joined(&mut self, now_ms: u64) -> Vec<Command> {
        let all = self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if self.state == State::PreparingRebalance && all { self.complete(now_ms) } else { Vec::new() }
    }

    /// Begins the next generation with those who joined.
    fn complete(&mut self, now_ms: u64) -> Vec<Command> {
        // One with an instance name keeps its place until its session ends.
        self.members.retain(|_, member| member.joining.is_some() || member.instance.is_some());
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol.clear();
            self.leader.clear();
            return Vec::new();
        }
        if self.members.get(&self.leader).is_none_or(|member| member.joining.is_none()) {
            let joined = self.members.iter().find(|(_, member)| member.joining.is_some());
            self.leader = joined.map(|(name, _)| name.clone()).unwrap_or_default();
        }
        self.protocol = self.voted();
        self.state = State::CompletingRebalance;
        self.deadline_ms = now_ms + self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0);
        let names: Vec<String> = self.members.keys().cloned().collect();
        let mut commands = Vec::new();
        for name in names {
            let joined = self.joined(&name);
            if let Some(member) = self.members.get_mut(&name)
                && let Some(ticket) = member.joining.take()
            {
                member.heard(now_ms);
                commands.push(Command::Joined(ticket, Ok(joined)));
            }
        }
        commands
    }

    fn joined(&self, name: &str) -> Joined {
        let told = |(name, member): (&String, &Member)| {
            (name.clone(), member.instance.clone(), member.metadata(&self.protocol))
        };
        let members = if name == self.leader { self.members.iter().map(told).collect() } else { Vec::new() };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: name.to_string(),
            members,
        }
    }

    /// Each member votes for the first of its protocols that all know.
    fn voted(&self) -> String {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| self.is_known_to_all(name));
            *votes.entry(choice.unwrap_or_default()).or_default() += 1;
        }
        // The first of those with the most votes, in the order of the names.
        let most = votes.values().max().copied().unwrap_or(0);
        votes.into_iter().find(|(_, n)| *n == most).map(|(name, _)| name.to_string()).unwrap_or_default()
    }

    fn is_known_to_all(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.protocols.iter().any(|(name, _)| name == protocol))
    }

    pub(super) fn sync(
        &mut self,
        now_ms: u64,
        ticket: Ticket,
        caller: &Caller,
        assignments: Vec<(String, Bytes)>,
    ) -> Vec<Command> {
        let state = self.state;
        let leads = self.leader == caller.member;
        let member = match self.caller(caller) {
            Ok(member) => member,
            Err(code) => return vec![Command::Synced(ticket, Err(code))],
        };
        member.heard(now_ms);
        match state {
            State::Empty => vec![Command::Synced(ticket, Err(Code::UnknownMemberId))],
            State::PreparingRebalance => vec![Command::Synced(ticket, Err(Code::RebalanceInProgress))],
            State::Stable => {
                let assignment = member.assignment.clone();
                vec![Command::Synced(ticket, Ok(self.synced(assignment)))]
            }
            State::CompletingRebalance => {
                let before = member.syncing.replace(ticket);
                let mut commands: Vec<Command> =
                    before.map(|before| Command::Synced(before, Err(Code::RebalanceInProgress))).into_iter().collect();
                if leads {
                    commands.extend(self.assign(now_ms, assignments));
                }
                commands
            }
        }
    }

    fn assign(&mut self, now_ms: u64, assignments: Vec<(String, Bytes)>) -> Vec<Command> {
        for (name, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&name) {
                member.assignment = assignment;
            }
        }
        self.state = State::Stable;
        let mut commands = Vec::new();
        for member in self.members.values_mut() {
            if let Some(waiting) = member.syncing.take() {
                member.expires_ms = now_ms + member.session_ms;
                commands.push(Command::Synced(
                    waiting,
                    Ok(Synced {
                        protocol_type: self.protocol_type.clone(),
                        protocol: self.protocol.clone(),
                        assignment: member.assignment.clone(),
                    }),
                ));
            }
        }
        commands
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced { protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment }
    }

    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        let promised = self.promised.len();
        self.promised.retain(|_, until| *until > now_ms);
        let dead: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_waiting() && member.expires_ms <= now_ms)
            .map(|(name, _)| name.clone())
            .collect();
        for name in dead {
            commands.extend(self.remove(now_ms, &name));
        }
        if promised != self.promised.len() {
            commands.extend(self.complete_if_all_joined(now_ms));
        }
        if self.deadline_ms <= now_ms {
            match self.state {
                State::PreparingRebalance => commands.extend(self.complete(now_ms)),
                // The leader, or some other, never asked for its assignment.
                State::CompletingRebalance => {
                    let late: BTreeSet<String> = self
                        .members
                        .iter()
                        .filter(|(_, member)| member.syncing.is_none())
                        .map(|(name, _)| name.clone())
                        .collect();
                    for name in late {
                        commands.extend(self.remove(now_ms, &name));
                    }
                }
                State::Empty | State::Stable => {}
            }
        }
        commands
    }

    pub(super) fn remove(&mut self, now_ms: u64, name: &str) -> Vec<Command> {
        let Some(mut member) = self.members.remove(name) else { return Vec::new() };
        let mut commands = Vec::new();
        if let Some(waiting) = member.joining.take() {
            commands.push(Command::Joined(waiting, Err((Code::UnknownMemberId, name.to_string()))));
        }
        if let Some(waiting) = member.syncing.take() {
            commands.push(Command::Synced(waiting, Err(Code::UnknownMemberId)));
        }
        commands.extend(self.rebalance(now_ms));
        commands
    }

    /// Nobody is in it and nothing is kept for it, for some time.
    pub(super) fn is_forgotten(&mut self, now_ms: u64) -> bool {
        if !self.members.is_empty() || !self.promised.is_empty() || !self.offsets.is_empty() {
            self.nothing_since_ms = None;
            return false;
        }
        now_ms - *self.nothing_since_ms.get_or_insert(now_ms) >= FORGET_AFTER_MS
    }

    pub(super) fn named(&self, instance: &str) -> Option<String> {
        let found = self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(name, _)| name.clone())
    }

    /// The member that makes a request, if it belongs to this generation.
    pub(super) fn caller(&mut self, caller: &Caller) -> Result<&mut Member, Code> {
        let generation = self.generation;
        let fenced = caller
            .instance
            .as_deref()
            .is_some_and(|instance| self.named(instance).is_some_and(|name| name != caller.member));
        let member = self.members.get_mut(&caller.member);
        match member {
            _ if fenced => Err(Code::FencedInstanceId),
            None => Err(Code::UnknownMemberId),
            Some(_) if caller.generation != generation => Err(Code::IllegalGeneration),
            Some(member) => Ok(member),
        }
    }
}
