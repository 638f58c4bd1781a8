//! Tasks that have to leave for what comes before them, step by step.

use super::roles::quota;
use super::*;

/// So long a task has run when it may have to leave, and so long it is given.
const MIN_RUN_MS: u64 = 30_000;
const NOTICE_MS: u64 = 30_000;

fn wanted(name: &str, cpus: f64, count: u32, priority: i32) -> Demand {
    Demand { name: name.into(), priority, group: name.into(), ..demand(cpus, count) }
}

impl Desk {
    /// Launches tasks of so many cores on whatever the framework is offered, and has them run.
    fn fill(&mut self, connection: u64, agent_connection: u64, tasks: &[(&str, f64, i32, &str)]) {
        let total: f64 = tasks.iter().map(|(_, cpus, _, _)| cpus).sum();
        self.want(connection, &[demand(total, 1)]);
        let offer = self.offers_to(connection).pop().expect("it is offered what it wants");
        let launch = tasks.iter().map(|(id, cpus, priority, group)| TaskInfo {
            priority: *priority,
            group: group.to_string(),
            ..task(id, offer.agent_id.as_str(), *cpus)
        });
        let call = FrameworkCall::Accept {
            offer_ids: vec![offer.offer_id],
            operations: Vec::new(),
            launch: launch.collect(),
            refuse_ms: Some(0),
        };
        self.framework(connection, call);
        self.want(connection, &[]);
        let framework_id = self.id_of(connection);
        for (id, ..) in tasks {
            self.report(agent_connection, &framework_id, id, TaskState::Running);
        }
        self.said_to(connection);
    }

    fn id_of(&self, connection: u64) -> FrameworkId {
        match self.master.peers.get(&ConnectionId(connection)) {
            Some(Peer::Framework(id)) => id.clone(),
            other => panic!("{other:?} is on {connection}"),
        }
    }

    /// Which tasks were told to leave, and for whom.
    fn told(&mut self, connection: u64) -> Vec<(Vec<String>, String)> {
        let told = self.said_to(connection).into_iter().filter_map(|event| match event {
            FrameworkEvent::Preempted { task_ids, message, .. } => {
                Some((task_ids.iter().map(ToString::to_string).collect(), message))
            }
            _ => None,
        });
        told.collect()
    }

    fn kills(&mut self) -> Vec<String> {
        let kills = std::mem::take(&mut self.to_agents).into_iter().filter_map(|(_, order)| match order {
            AgentOrder::Kill { task_id, cause, .. } => {
                assert!(cause.is_some_and(|cause| cause.reason == Reason::Preempted && !cause.message.is_empty()));
                Some(task_id.to_string())
            }
            _ => None,
        });
        kills.collect()
    }

    fn sentence(&self, connection: u64) -> String {
        let id = self.id_of(connection);
        let frameworks = self.master.view(self.now_ms).frameworks;
        let framework = frameworks.into_iter().find(|framework| framework.framework_id == id);
        framework.expect("it is known").waiting.remove(0)
    }
}

/// An agent of 4 cores, full: 10 of role r runs two tasks of one core with priority 1 and one of two with priority 0.
fn full() -> Desk {
    let mut desk = Desk::new();
    for (connection, role) in [(10, "r"), (11, "r"), (12, "other")] {
        desk.subscribe(connection, None, role, 60_000);
        desk.want(connection, &[]);
    }
    desk.register(1, "a", 4.0, vec![]);
    desk.fill(10, 1, &[("small-1", 1.0, 1, ""), ("small-2", 1.0, 1, ""), ("large", 2.0, 0, "")]);
    desk
}

#[test]
fn the_least_important_leaves_and_its_place_is_kept() {
    let mut desk = full();
    desk.want(11, &[wanted("urgent", 2.0, 1, 5)]);
    desk.want(12, &[demand(1.0, 1)]);
    desk.pass(MIN_RUN_MS - 2_000, &[1]);
    assert_eq!(desk.told(10), [], "it has only begun");
    desk.pass(4_000, &[1]);
    let told = desk.told(10);
    let message = "has to leave for urgent of role r: its priority is 5";
    assert_eq!(told, [(vec!["large".to_string()], message.to_string())]);
    assert!(desk.sentence(11).contains("1 task leaves for it, within"), "{}", desk.sentence(11));
    let view = desk.master.view(desk.now_ms);
    let leaving = view.tasks.iter().find(|task| task.leaves_in_ms.is_some()).expect("one leaves");
    assert_eq!((leaving.task_id.as_str(), leaving.priority), ("large", 0));
    desk.pass(5_000, &[1]);
    assert_eq!((desk.told(10), desk.kills()), (vec![], vec![]), "it is told once, and has time");
    let id = desk.id_of(10);
    desk.report(1, &id, "large", TaskState::Finished);
    assert_eq!(desk.cpus_offered(12), 0.0, "what became free is kept, although nobody has less than they have");
    let offers = desk.offers_to(11);
    assert_eq!(offers[0].resources, Resources::new().cpus(2.0), "exactly what it wants");
    let launch = vec![TaskInfo { priority: 5, ..task("urgent", "a", 2.0) }];
    let accept = FrameworkCall::Accept {
        offer_ids: vec![offers[0].offer_id.clone()],
        operations: Vec::new(),
        launch,
        refuse_ms: Some(0),
    };
    desk.framework(11, accept);
    assert_eq!(desk.master.summary().counts.tasks_preempted, 1);
    assert!(desk.master.holds.iter().next().is_none());
}

#[test]
fn who_does_not_leave_is_ended() {
    let mut desk = full();
    desk.want(11, &[wanted("urgent", 2.0, 1, 5)]);
    desk.pass(MIN_RUN_MS + 2_000, &[1]);
    desk.kills();
    desk.pass(NOTICE_MS - 3_000, &[1]);
    assert_eq!(desk.kills(), [] as [&str; 0]);
    desk.pass(4_000, &[1]);
    assert_eq!(desk.kills(), ["large"]);
}

#[test]
fn priority_is_worth_nothing_in_another_role_nor_against_the_same() {
    let mut desk = full();
    desk.want(12, &[wanted("urgent", 2.0, 1, 1000)]);
    desk.want(11, &[wanted("like the others", 2.0, 1, 0)]);
    desk.pass(MIN_RUN_MS * 3, &[1]);
    assert_eq!(desk.told(10), []);
}

#[test]
fn nobody_leaves_for_what_would_not_fit_then() {
    let mut desk = full();
    desk.want(11, &[wanted("a gang", 1.5, 3, 5)]);
    desk.pass(MIN_RUN_MS * 2, &[1]);
    assert_eq!(desk.told(10), [], "three of them need more than the agent has");
    // Each by itself is another matter.
    desk.want(11, &[Demand { group: String::new(), ..wanted("loose", 1.5, 3, 5) }]);
    desk.pass(2_000, &[1]);
    let [(leaving, _)] = &desk.told(10)[..] else { panic!("one word") };
    assert_eq!(leaving[..], ["large", "small-1"], "then two of them fit, and more never would");
}

#[test]
fn tasks_of_a_group_leave_together() {
    let mut desk = full();
    let id = desk.id_of(10);
    desk.report(1, &id, "large", TaskState::Finished);
    desk.said_to(10);
    desk.fill(11, 1, &[("pair-1", 1.0, -3, "pair"), ("pair-2", 1.0, -3, "pair")]);
    desk.want(10, &[wanted("one", 1.0, 1, 2)]);
    desk.pass(MIN_RUN_MS + 2_000, &[1]);
    let [(leaving, _)] = &desk.told(11)[..] else { panic!("one word") };
    assert_eq!(leaving[..], ["pair-1", "pair-2"]);
}

#[test]
fn what_is_guaranteed_is_taken_back_and_no_more() {
    let mut desk = full();
    desk.register(2, "b", 2.0, vec![]);
    desk.fill(12, 2, &[("lent", 2.0, 7, "")]);
    let set = |role: &str, cpus| OperatorCall::SetQuota {
        role: role.into(),
        quota: quota(&[("cpus", cpus)], &[]),
        force: true,
    };
    desk.operate(set("r", 3.0)).expect("a quota");
    desk.operate(set("owed", 3.0)).expect("a quota");
    desk.subscribe(13, None, "owed", 60_000);
    desk.want(13, &[wanted("owed", 2.0, 1, 0)]);
    desk.pass(MIN_RUN_MS + 3_000, &[1, 2]);
    // Of what role r has, one core is beyond its guarantee, and both small tasks together are two.
    assert_eq!(desk.told(10), []);
    let message = "has to leave for owed of role owed: role owed is guaranteed it";
    assert_eq!(desk.told(12), [(vec!["lent".to_string()], message.to_string())]);
    desk.want(13, &[wanted("owed", 2.0, 1, 0), wanted("more", 2.0, 1, 0)]);
    desk.pass(MIN_RUN_MS, &[1, 2]);
    assert_eq!(desk.told(10), [], "that would be more than is guaranteed");
}

#[test]
fn at_its_limit_a_role_makes_room_within_itself() {
    let mut desk = full();
    desk.register(2, "b", 8.0, vec![]);
    let limit = OperatorCall::SetQuota { role: "r".into(), quota: quota(&[], &[("cpus", 4.0)]), force: false };
    desk.operate(limit).expect("a quota");
    desk.want(11, &[wanted("urgent", 2.0, 1, 5)]);
    desk.pass(MIN_RUN_MS + 2_000, &[1, 2]);
    assert_eq!(desk.told(10).len(), 1, "there is room, and the role may not have it");
}

#[test]
fn what_is_wanted_no_more_is_kept_no_longer() {
    let mut desk = full();
    desk.want(11, &[wanted("urgent", 2.0, 1, 5)]);
    desk.pass(MIN_RUN_MS + 2_000, &[1]);
    assert_eq!(desk.told(10).len(), 1);
    desk.want(11, &[]);
    desk.pass(NOTICE_MS * 2, &[1]);
    assert_eq!(desk.kills(), [] as [&str; 0], "there is nobody for whom it would leave");
    desk.want(11, &[wanted("urgent", 2.0, 1, 5)]);
    desk.pass(2_000, &[1]);
    assert_eq!(desk.told(10).len(), 1, "and it can be asked again");
    desk.close(11);
    desk.want(12, &[demand(2.0, 1)]);
    let id = desk.id_of(10);
    desk.report(1, &id, "large", TaskState::Finished);
    assert_eq!(desk.cpus_offered(12), 2.0);
}

#[test]
fn a_framework_that_is_back_hears_it_again() {
    let mut desk = full();
    desk.want(11, &[wanted("urgent", 2.0, 1, 5)]);
    let id = desk.id_of(10);
    desk.close(10);
    desk.pass(MIN_RUN_MS + 2_000, &[1]);
    desk.subscribe(20, Some(id.as_str()), "r", 60_000);
    assert_eq!(desk.told(20).len(), 1);
}

#[test]
fn what_comes_first_is_offered_first() {
    let mut desk = Desk::new();
    for connection in [10, 11] {
        desk.subscribe(connection, None, "r", 0);
    }
    desk.want(10, &[wanted("usual", 1.0, 1, 0)]);
    desk.want(11, &[wanted("urgent", 1.0, 1, 1)]);
    desk.register(1, "a", 1.0, vec![]);
    assert_eq!((desk.cpus_offered(10), desk.cpus_offered(11)), (0.0, 1.0));
}

#[test]
fn priorities_have_bounds() {
    let mut desk = full();
    desk.want(11, &[wanted("too urgent", 2.0, 1, 1001)]);
    let said = desk.said_to(11);
    let refused =
        matches!(said.last(), Some(FrameworkEvent::Error { message }) if message.contains("from -1000 to 1000"));
    assert!(refused, "{said:?}");
}

#[test]
fn room_is_made_where_all_of_it_is_of_use() {
    let mut desk = Desk::new();
    for connection in [10, 11] {
        desk.subscribe(connection, None, "r", 60_000);
        desk.want(connection, &[]);
    }
    for (connection, rack, priority) in [(1, "r1", 1), (2, "r2", 0), (3, "r2", 2)] {
        let id = format!("a{connection}");
        let attributes = BTreeMap::from([("rack".to_string(), rack.to_string())]);
        let agent = AgentInfo { attributes, ..agent_info(&id, 4.0) };
        desk.agent(connection, AgentCall::Register { agent, tasks: vec![], volumes: vec![] });
        let tasks = [format!("{id}-1"), format!("{id}-2")];
        desk.fill(10, connection, &[(&tasks[0], 2.0, priority, ""), (&tasks[1], 2.0, priority, "")]);
    }
    let gang = |key: &str| {
        let rules = jobs::Rules { together: Some(key.into()), ..jobs::Rules::default() };
        Demand { rules, ..wanted("a gang", 2.0, 2, 5) }
    };
    desk.want(11, &[gang("room")]);
    desk.pass(MIN_RUN_MS + 2_000, &[1, 2, 3]);
    assert_eq!(desk.told(10), [], "no agent is in a room");
    assert!(
        desk.sentence(11).contains("all in one room; none of the 3 agents is one of these"),
        "{}",
        desk.sentence(11)
    );
    desk.want(11, &[gang("rack")]);
    assert!(desk.sentence(11).contains("all in one rack; no rack has room for any now"), "{}", desk.sentence(11));
    desk.pass(2_000, &[1, 2, 3]);
    let [(leaving, _)] = &desk.told(10)[..] else { panic!("one word") };
    assert_eq!(leaving[..], ["a2-1", "a2-2"], "the least important, and both in one rack");
}

#[test]
fn what_cannot_be_met_does_not_stand_in_the_way_of_what_can() {
    let mut desk = full();
    let too_large: Vec<Demand> = (0..20).map(|at| wanted(&format!("gang {at}"), 4.0, 2, 9)).collect();
    desk.want(11, &[too_large, vec![wanted("modest", 1.0, 1, 2)]].concat());
    desk.pass(MIN_RUN_MS + 12_000, &[1]);
    let [(leaving, message)] = &desk.told(10)[..] else { panic!("one word") };
    assert!(leaving[..] == ["large"] && message.contains("modest"), "{leaving:?} {message}");
}
