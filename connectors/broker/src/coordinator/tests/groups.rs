//! Members that join, sync, fall silent and leave, in any order.

use crate::coordinator::groups::{Caller, Command, Event, Groups, Join, Joined, State, Ticket};
use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn join(member: &str, new_member: &str, told_first: bool) -> Join {
    Join {
        group: "g".to_string(),
        member: member.to_string(),
        new_member: new_member.to_string(),
        instance: None,
        client_id: "c".to_string(),
        client_host: "/127.0.0.1".to_string(),
        session_ms: 10_000,
        rebalance_ms: 60_000,
        protocol_type: "consumer".to_string(),
        protocols: vec![("range".to_string(), Bytes::from_static(b"topics"))],
        told_first,
    }
}

fn caller(member: &str, generation: i32) -> Caller {
    Caller { member: member.to_string(), instance: None, generation }
}

fn joined(commands: Vec<Command>, ticket: Ticket) -> Joined {
    let found = commands.into_iter().find_map(|command| match command {
        Command::Joined(answered, Ok(joined)) if answered == ticket => Some(joined),
        _ => None,
    });
    found.expect("an answer to the ticket")
}

/// A group of one member that has its assignment.
fn stable(groups: &mut Groups) -> Joined {
    let told = joined(groups.apply(0, Event::Join(1, join("", "a", false))), 1);
    assert_eq!((told.generation, told.leader.as_str(), told.members.len()), (1, "a", 1));
    let assignments = vec![("a".to_string(), Bytes::from_static(b"all"))];
    let synced = groups.apply(0, Event::Sync { ticket: 2, group: "g".into(), caller: caller("a", 1), assignments });
    assert!(matches!(&synced[..], [Command::Synced(2, Ok(synced))] if synced.assignment == "all"));
    told
}

#[test]
fn a_second_member_begins_a_new_generation() {
    let mut groups = Groups::default();
    stable(&mut groups);
    // The newcomer is told its name first, then waits for the other.
    let told = groups.apply(10, Event::Join(3, join("", "b", true)));
    assert_eq!(told, [Command::Joined(3, Err((Code::MemberIdRequired, "b".to_string())))]);
    assert!(groups.apply(20, Event::Join(4, join("b", "", true))).is_empty());
    assert_eq!(groups.heartbeat(30, "g", &caller("a", 1)), Err(Code::RebalanceInProgress));
    let told = groups.apply(40, Event::Join(5, join("a", "", true)));
    assert_eq!(told.len(), 2);
    let leader = joined(told, 5);
    assert_eq!((leader.generation, leader.members.len()), (2, 2));
    assert_eq!(groups.may_commit(50, "g", &caller("a", 1)), Err(Code::IllegalGeneration));
    // The follower asks first, and gets its part when the leader has said it.
    let nothing = Vec::new();
    let asked = Event::Sync { ticket: 6, group: "g".into(), caller: caller("b", 2), assignments: nothing };
    assert!(groups.apply(60, asked).is_empty());
    let assignments = vec![("a".to_string(), Bytes::from_static(b"0")), ("b".to_string(), Bytes::from_static(b"1"))];
    let told = groups.apply(70, Event::Sync { ticket: 7, group: "g".into(), caller: caller("a", 2), assignments });
    let parts: BTreeMap<Ticket, Bytes> = told
        .into_iter()
        .filter_map(|command| match command {
            Command::Synced(ticket, Ok(synced)) => Some((ticket, synced.assignment)),
            _ => None,
        })
        .collect();
    assert_eq!(parts, BTreeMap::from([(6, Bytes::from_static(b"1")), (7, Bytes::from_static(b"0"))]));
    assert_eq!(groups.may_commit(80, "g", &caller("b", 2)), Ok(()));
}

#[test]
fn a_silent_member_is_taken_out() {
    let mut groups = Groups::default();
    stable(&mut groups);
    assert_eq!(groups.heartbeat(9_000, "g", &caller("a", 1)), Ok(()));
    groups.apply(18_000, Event::Tick);
    assert_eq!(groups.all["g"].state, State::Stable);
    groups.apply(19_001, Event::Tick);
    assert_eq!(groups.all["g"].state, State::Empty);
    groups.apply(619_000, Event::Tick);
    assert!(!groups.all.is_empty());
    assert_eq!(groups.heartbeat(19_002, "g", &caller("a", 1)), Err(Code::UnknownMemberId));
    assert_eq!(groups.may_commit(19_002, "g", &caller("a", 1)), Err(Code::UnknownMemberId));
    groups.apply(619_001, Event::Tick);
    assert!(groups.all.is_empty(), "an empty group that keeps nothing is forgotten");
    assert_eq!(groups.may_commit(619_002, "g", &caller("a", 1)), Err(Code::IllegalGeneration));
}

#[test]
fn who_does_not_come_back_in_time_is_left_behind() {
    let mut groups = Groups::default();
    stable(&mut groups);
    assert!(groups.apply(10, Event::Join(3, join("", "b", false))).is_empty());
    // It goes on with heartbeats, but never joins.
    for now in (1_000..60_000).step_by(1_000) {
        let _ = groups.heartbeat(now, "g", &caller("a", 1));
        assert!(groups.apply(now, Event::Tick).is_empty());
    }
    let told = joined(groups.apply(60_011, Event::Tick), 3);
    assert_eq!((told.generation, told.leader.as_str(), told.members.len()), (2, "b", 1));
}

#[test]
fn an_instance_that_comes_back_keeps_its_part() {
    let mut groups = Groups::default();
    let named =
        |member: &str, new_member: &str| Join { instance: Some("i".to_string()), ..join(member, new_member, true) };
    let told = joined(groups.apply(0, Event::Join(1, named("", "i-1"))), 1);
    assert_eq!(told.member, "i-1");
    let mut first = caller("i-1", 1);
    first.instance = Some("i".to_string());
    let assignments = vec![("i-1".to_string(), Bytes::from_static(b"all"))];
    groups.apply(0, Event::Sync { ticket: 2, group: "g".into(), caller: first.clone(), assignments });
    let again = joined(groups.apply(10, Event::Join(3, named("", "i-2"))), 3);
    assert_eq!((again.generation, again.member.as_str()), (1, "i-2"));
    assert_eq!(groups.heartbeat(20, "g", &first), Err(Code::FencedInstanceId));
    let mut second = caller("i-2", 1);
    second.instance = Some("i".to_string());
    assert_eq!(groups.heartbeat(20, "g", &second), Ok(()));
    let told = groups.apply(30, Event::Sync { ticket: 4, group: "g".into(), caller: second, assignments: vec![] });
    assert!(matches!(&told[..], [Command::Synced(4, Ok(synced))] if synced.assignment == "all"));
}

#[test]
fn protocols_that_not_all_know_are_not_chosen() {
    let mut groups = Groups::default();
    let speaks = |new_member: &str, words: &[&str]| Join {
        protocols: words.iter().map(|word| (word.to_string(), Bytes::new())).collect(),
        ..join("", new_member, false)
    };
    groups.apply(0, Event::Join(1, speaks("a", &["sticky", "range"])));
    let refused = groups.apply(0, Event::Join(2, speaks("b", &["roundrobin"])));
    assert!(matches!(&refused[..], [Command::Joined(2, Err((Code::InconsistentGroupProtocol, _)))]));
    groups.apply(0, Event::Join(3, speaks("c", &["range"])));
    let told =
        joined(groups.apply(0, Event::Join(4, Join { member: "a".into(), ..speaks("", &["sticky", "range"]) })), 4);
    assert_eq!(told.protocol, "range");
}

#[derive(Clone, Debug)]
enum Act {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Lost(usize),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..4usize).prop_map(Act::Join),
        5 => (0..4usize).prop_map(Act::Sync),
        3 => (0..4usize).prop_map(Act::Heartbeat),
        1 => (0..4usize).prop_map(Act::Leave),
        1 => (0..4usize).prop_map(Act::Lost),
        2 => (1..20_000u64).prop_map(Act::Wait),
    ]
}

/// What a client believes.
#[derive(Clone, Debug, Default)]
struct Client {
    member: String,
    generation: i32,
    waiting: Option<Ticket>,
    leads: Option<Vec<String>>,
    /// The generation in which it got a part, and the part.
    part: Option<(i32, Bytes)>,
}

proptest! {
    /// In one generation all parts come from one leader, who knew all members; every ticket is answered once; and when
    /// all clients do as they are told, the group comes to rest with all of them.
    #[test]
    fn a_generation_has_one_leader_and_all_end_in_one(acts in proptest::collection::vec(act(), 1..80)) {
        let mut groups = Groups::default();
        let mut clients = vec![Client::default(); 4];
        let mut now = 0;
        let mut ticket = 0;
        let mut asked: BTreeMap<Ticket, usize> = BTreeMap::new();
        let mut leaders: BTreeMap<i32, String> = BTreeMap::new();
        // In the end everyone joins and syncs until nothing changes.
        let calm = (0..40).flat_map(|_| {
            [Act::Wait(1_000)].into_iter().chain((0..4).map(Act::Join)).chain((0..4).map(Act::Sync)).chain((0..4).map(Act::Heartbeat))
        });
        for act in acts.into_iter().chain(calm) {
            ticket += 1;
            let commands = match act {
                Act::Join(at) => {
                    let client = &mut clients[at];
                    let settled = client.part.as_ref().is_some_and(|(generation, _)| *generation == client.generation);
                    if client.waiting.is_some() || settled || client.leads.is_some() {
                        continue;
                    }
                    client.waiting = Some(ticket);
                    asked.insert(ticket, at);
                    groups.apply(now, Event::Join(ticket, join(&client.member, &format!("m{ticket}"), ticket % 2 == 0)))
                }
                Act::Sync(at) => {
                    let client = &mut clients[at];
                    let Some(members) = client.leads.take() else { continue };
                    client.waiting = Some(ticket);
                    asked.insert(ticket, at);
                    let part = |name: &String| (name.clone(), Bytes::from(format!("{}/{name}", client.member)));
                    let assignments = members.iter().map(part).collect();
                    let caller = caller(&client.member, client.generation);
                    groups.apply(now, Event::Sync { ticket, group: "g".into(), caller, assignments })
                }
                Act::Heartbeat(at) => {
                    let client = &mut clients[at];
                    if client.waiting.is_none() && client.part.is_some() {
                        let heard = groups.heartbeat(now, "g", &caller(&client.member, client.generation));
                        if let Err(code) = heard {
                            client.part = None;
                            if code == Code::UnknownMemberId {
                                client.member.clear();
                            }
                        }
                    }
                    Vec::new()
                }
                Act::Leave(at) => {
                    let client = &mut clients[at];
                    if client.waiting.is_some() {
                        continue;
                    }
                    let (_, commands) = groups.leave(now, "g", &client.member, None);
                    clients[at] = Client::default();
                    commands
                }
                Act::Lost(at) => {
                    let Some(lost) = clients[at].waiting.take() else { continue };
                    asked.remove(&lost);
                    clients[at].leads = None;
                    groups.apply(now, Event::Gone(lost))
                }
                Act::Wait(ms) => {
                    now += ms;
                    groups.apply(now, Event::Tick)
                }
            };
            for command in commands {
                let (answered, result) = match command {
                    Command::Joined(answered, joined) => (answered, joined.map(Some).map_err(|(code, name)| (code, Some(name)))),
                    Command::Synced(answered, Ok(synced)) => {
                        let at = asked.remove(&answered).expect("answered once");
                        let client = &mut clients[at];
                        client.waiting = None;
                        let leader = leaders.get(&client.generation).expect("a generation has a leader");
                        let expected = format!("{leader}/{}", client.member);
                        prop_assert_eq!(&synced.assignment, expected.as_bytes());
                        client.part = Some((client.generation, synced.assignment));
                        continue;
                    }
                    Command::Synced(answered, Err(code)) => (answered, Err((code, None))),
                };
                let Some(at) = asked.remove(&answered) else { continue };
                let client = &mut clients[at];
                client.waiting = None;
                match result {
                    Ok(joined) => {
                        let joined = joined.expect("of a join");
                        client.member = joined.member.clone();
                        client.generation = joined.generation;
                        client.leads = Some(joined.members.iter().map(|(name, _, _)| name.clone()).collect());
                        let leader = leaders.entry(joined.generation).or_insert_with(|| joined.leader.clone());
                        prop_assert_eq!(&*leader, &joined.leader);
                        prop_assert_eq!(joined.members.is_empty(), joined.leader != joined.member);
                    }
                    Err((Code::MemberIdRequired, name)) => client.member = name.expect("its name"),
                    Err((code, _)) => {
                        client.part = None;
                        if code == Code::UnknownMemberId {
                            client.member.clear();
                        }
                    }
                }
            }
        }
        let group = &groups.all["g"];
        prop_assert_eq!(group.state, State::Stable);
        for client in &clients {
            prop_assert!(client.part.as_ref().is_some_and(|(generation, _)| *generation == group.generation), "{:?}", client);
            prop_assert!(group.members.contains_key(&client.member));
        }
    }
}
