//! What agents keep for roles.

use super::*;

fn reservation(role: &str, cpus: f64) -> Reservation {
    let amounts = Resources::new().cpus(cpus).amounts().clone();
    Reservation { role: role.into(), amounts, labels: BTreeMap::new() }
}

impl Desk {
    fn reserve(&mut self, agent: &str, role: &str, cpus: f64) -> Result<Vec<String>, String> {
        self.reserve_from(agent, role, cpus, None, false)
    }

    fn reserve_from(
        &mut self,
        agent: &str,
        role: &str,
        cpus: f64,
        from: Option<&str>,
        force: bool,
    ) -> Result<Vec<String>, String> {
        let (agent_id, from) = (agent.into(), from.map(String::from));
        self.operate(OperatorCall::Reserve { agent_id, reservation: reservation(role, cpus), from, force })
    }

    /// A framework that wants a lot.
    fn join(&mut self, connection: u64, role: &str) -> FrameworkId {
        let id = self.subscribe(connection, None, role, 60_000);
        self.want(connection, &[demand(1.0, 20)]);
        id
    }

    /// What the framework on a connection is offered now, in cpus.
    fn offered_cpus(&mut self, connection: u64) -> Vec<f64> {
        self.offers_to(connection).iter().map(|offer| offer.resources.amount("cpus")).collect()
    }

    fn unfilled(&self, role: &str) -> f64 {
        let view = self.master.view(self.now_ms);
        view.agents[0].unfilled.get(role).map_or(0.0, |amounts| amounts.get("cpus") as f64 / 1000.0)
    }
}

#[test]
fn what_is_reserved_is_offered_to_its_role_and_those_below_it() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    assert_eq!(desk.reserve("a", "eng", 3.0), Ok(vec![]));
    desk.join(10, "web");
    assert_eq!(desk.offered_cpus(10), [1.0]);
    desk.join(11, "eng/a");
    assert_eq!(desk.offered_cpus(11), [3.0]);
    assert_eq!(desk.unfilled("eng"), 0.0);
}

#[test]
fn a_task_fills_it_and_what_it_leaves_is_for_the_role_again() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let eng = desk.join(11, "eng");
    let offer = desk.offers_to(11).remove(0);
    desk.accept(11, &[&offer], vec![task("t", "a", 2.0)]);
    assert_eq!(desk.reserve("a", "eng", 3.0), Ok(vec![]));
    desk.want(11, &[]);
    assert_eq!(desk.unfilled("eng"), 1.0);
    desk.join(10, "web");
    assert_eq!(desk.offered_cpus(10), [1.0]);
    desk.report(1, &eng, "t", TaskState::Finished);
    assert_eq!(desk.unfilled("eng"), 3.0);
    assert_eq!(desk.offered_cpus(10), Vec::<f64>::new(), "nothing of it is for others");
}

#[test]
fn offers_to_others_are_taken_back_and_tasks_go_on() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.join(10, "web");
    assert_eq!(desk.offered_cpus(10), [4.0]);
    assert_eq!(desk.reserve("a", "eng", 3.0), Ok(vec![]));
    let offer = desk.offers_to(10).remove(0);
    assert_eq!(offer.resources.amount("cpus"), 1.0, "the rest comes again");
    desk.accept(10, &[&offer], vec![task("t", "a", 1.0)]);
    let refused = desk.reserve("a", "eng", 1.0).expect_err("a task has it");
    assert!(refused.contains("tasks of other roles use 1 cpus on agent a") && refused.contains("--force"), "{refused}");
    assert!(desk.reserve_from("a", "eng", 1.0, None, true).is_ok_and(|doubts| doubts.len() == 1));
    assert_eq!(desk.unfilled("eng"), 4.0, "it is kept when the task ends");
    let refused = desk.reserve("a", "eng", 1.0).expect_err("the agent has no more");
    assert!(refused.contains("on agent a 5 cpus would be reserved, of its 4 cpus"), "{refused}");
}

#[test]
fn reservations_are_refined_and_given_up() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    assert_eq!(desk.reserve("a", "eng", 3.0), Ok(vec![]));
    let refused = desk.reserve_from("a", "web", 1.0, Some("eng"), false).expect_err("web is not below eng");
    assert!(refused.contains("role web is not below eng"), "{refused}");
    let refused = desk.reserve_from("a", "eng/a", 4.0, Some("eng"), false).expect_err("there is not so much");
    assert!(refused.contains("3 cpus is reserved for role eng on agent a by operators, less than 4 cpus"), "{refused}");
    assert_eq!(desk.reserve_from("a", "eng/a", 2.0, Some("eng"), false), Ok(vec![]));
    desk.join(10, "eng");
    assert_eq!(desk.offered_cpus(10), [2.0], "1 of its own, and 1 that is everybody's");
    let unreserve = |role| OperatorCall::Unreserve { agent_id: "a".into(), reservation: reservation(role, 0.0) };
    assert_eq!(desk.operate(unreserve("eng/a")), Ok(vec![]));
    assert_eq!(desk.offered_cpus(10), [2.0], "the rest");
    let refused = desk.operate(unreserve("eng/a")).expect_err("nothing is left");
    assert!(refused.contains("nothing is reserved for role eng/a on agent a"), "{refused}");
    let refused = desk.operate(unreserve("eng//a")).expect_err("no role");
    assert!(refused.contains("cannot be a role"), "{refused}");
}

#[test]
fn a_new_master_keeps_them_and_an_agent_may_bring_its_own() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    assert_eq!(desk.reserve("a", "eng", 1.0), Ok(vec![]));
    let mut desk = Desk::with_registry(2, 100, desk.registry.into_values());
    let info = AgentInfo { reserved: vec![reservation("ml", 2.0)], ..agent_info("a", 4.0) };
    desk.agent(1, AgentCall::Register { agent: info, tasks: vec![], volumes: vec![] });
    desk.join(10, "web");
    assert_eq!(desk.offered_cpus(10), [1.0]);
    let its_own = OperatorCall::Unreserve { agent_id: "a".into(), reservation: reservation("ml", 1.0) };
    let refused = desk.operate(its_own).expect_err("operators did not reserve it");
    assert!(refused.contains("--reserve"), "{refused}");
    // It comes back without.
    desk.register(2, "a", 4.0, vec![]);
    assert_eq!(desk.offered_cpus(10), [3.0]);
}

#[test]
fn why_says_that_what_is_free_is_reserved() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    assert_eq!(desk.reserve("a", "eng", 3.0), Ok(vec![]));
    desk.join(10, "web");
    desk.want(10, &[demand(2.0, 1)]);
    let view = desk.master.view(desk.now_ms);
    assert!(view.frameworks[0].waiting[0].ends_with("what is free on a is reserved for eng"), "{view:?}");
}

#[test]
fn guarantees_and_reservations_do_not_keep_the_same_twice() {
    let mut desk = Desk::new();
    desk.register(1, "a", 8.0, vec![]);
    assert_eq!(desk.reserve("a", "eng", 3.0), Ok(vec![]));
    let quota = Quota { guarantee: Resources::new().cpus(4.0).amounts().clone(), limit: BTreeMap::new() };
    let set = OperatorCall::SetQuota { role: "eng".into(), quota, force: false };
    assert_eq!(desk.operate(set), Ok(vec![]));
    desk.join(10, "web");
    assert_eq!(desk.offered_cpus(10), [4.0], "3 are reserved, and of the guarantee of 4 one more is kept");
    desk.join(11, "eng");
    assert_eq!(desk.offered_cpus(11), [4.0]);
}

/// What is reserved counts for the guarantee only while its agent is there.
#[test]
fn a_guarantee_gets_elsewhere_what_was_reserved_on_an_agent_that_went() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.register(2, "b", 4.0, vec![]);
    assert_eq!(desk.reserve("a", "eng", 4.0), Ok(vec![]));
    for role in ["eng", "web"] {
        let quota = Quota { guarantee: Resources::new().cpus(4.0).amounts().clone(), limit: BTreeMap::new() };
        desk.operate(OperatorCall::SetQuota { role: role.into(), quota, force: false }).expect("it can be");
    }
    for (connection, role) in [(10, "web"), (11, "eng")] {
        desk.join(connection, role);
        let offer_ids: Vec<_> = desk.offers_to(connection).into_iter().map(|offer| offer.offer_id).collect();
        assert_eq!(offer_ids.len(), 1, "to {role} its own");
        desk.framework(connection, FrameworkCall::Decline { offer_ids, refuse_ms: Some(1_000_000) });
    }
    assert_eq!(desk.offered_cpus(11), Vec::<f64>::new(), "b is kept for web");
    desk.close(1);
    assert_eq!(desk.offered_cpus(11), [4.0], "half of what both lack is there");
}

#[test]
fn an_agent_that_was_declared_gone_is_never_accepted_again() {
    let (mut desk, id) = with_running_task();
    let gone = |force| OperatorCall::Gone { agent_id: "a".into(), force };
    let refused = desk.operate(gone(false)).expect_err("it is connected");
    assert!(refused.contains("`smack drain a` empties it"), "{refused}");
    assert_eq!(desk.reserve("a", "eng", 1.0), Ok(vec![]));
    assert_eq!(desk.operate(gone(true)), Ok(vec![]));
    assert_eq!(desk.updates_to(10), [("t".into(), TaskState::Lost, Reason::AgentRemoved, false)]);
    assert!(matches!(desk.orders_to(1)[..], [AgentOrder::Shutdown { .. }]));
    assert!(desk.master.view(desk.now_ms).agents.is_empty());
    // Not by the next master either, whatever it brings.
    let mut desk = Desk::with_registry(2, 100, desk.registry.into_values());
    let running = AgentTask { framework_id: id, info: task("t", "a", 1.0), state: TaskState::Running };
    desk.register(2, "a", 4.0, vec![running]);
    let orders = desk.orders_to(2);
    assert!(
        matches!(&orders[..], [AgentOrder::Shutdown { message }] if message.contains("gone for ever")),
        "{orders:?}"
    );
    assert!(desk.operate(gone(false)).is_err_and(|refused| refused.contains("there is no agent 'a'")));
}

#[test]
fn who_subscribes_with_constraints_is_offered_nothing_elsewhere() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let attributes = BTreeMap::from([("zone".to_string(), "z1".to_string())]);
    let there = AgentInfo { attributes, ..agent_info("b", 2.0) };
    desk.agent(2, AgentCall::Register { agent: there, tasks: vec![], volumes: vec![] });
    let constraints = vec!["zone = z1".parse().expect("a constraint")];
    let (name, role) = ("f".to_string(), "r".to_string());
    let call = FrameworkCall::Subscribe { framework_id: None, name, role, failover_timeout_ms: 60_000, constraints };
    desk.framework(10, call);
    desk.pass(100, &[1, 2]);
    assert_eq!(desk.offered_cpus(10), [2.0]);
    desk.want(10, &[demand(4.0, 1)]);
    assert!(desk.waiting()[0].ends_with("the largest agent has cpus 2 (b); none fits"), "{:?}", desk.waiting());
}

#[test]
fn what_cannot_be_reserved_is_refused() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    for (agent, role, cpus, said) in [
        ("b", "eng", 1.0, "there is no agent 'b'"),
        ("a", "*", 1.0, "everybody's"),
        ("a", "eng//x", 1.0, "cannot be a role"),
        ("a", "eng", 0.0, "names no amount"),
        ("a", "eng", -1.0, "amounts of scalars"),
    ] {
        let refused = desk.reserve(agent, role, cpus).expect_err(said);
        assert!(refused.contains(said), "{refused}");
    }
}
