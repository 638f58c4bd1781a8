//! What agents lend: who is offered it, and what becomes of it.

use super::*;
use crate::master::tests::roles::quota;

fn lent(cores: f64) -> Resources {
    Resources::new().cpus(cores).revocable()
}

impl Desk {
    fn lends(&mut self, connection: u64, cores: f64) {
        let lent = lent(cores).amounts().clone();
        self.agent(connection, AgentCall::Lends { lent });
    }
}

fn wants(name: &str, shape: Resources, count: u32) -> Demand {
    Demand { name: name.into(), shape, count, ..Demand::default() }
}

#[test]
fn only_who_names_it_is_offered_what_is_lent() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    for (connection, role) in [(10, "plain"), (11, "own"), (12, "lent")] {
        desk.subscribe(connection, None, role, 60_000);
    }
    desk.want(11, &[wants("own", Resources::new().cpus(1.0), 1)]);
    desk.want(12, &[wants("backfill", lent(1.5), 1)]);
    desk.lends(1, 2.0);
    desk.pass(1_000, &[1]);
    let of_others = [10, 11].map(|connection| desk.offers_to(connection));
    assert!(of_others.iter().flatten().all(|offer| !offer.resources.is_revocable()), "{of_others:?}");
    let offers = desk.offers_to(12);
    assert_eq!(offers[0].resources.milli("cpus:revocable"), 2_000);
    let task = TaskInfo { resources: lent(1.5), ..task("backfill", "a", 0.0) };
    desk.accept(12, &[&offers[0]], vec![task]);
    desk.want(12, &[]);
    let view = desk.master.view(desk.now_ms);
    assert_eq!(view.agents[0].used, lent(1.5));
    let share = |role: &str| view.roles.iter().find(|of| of.role == role).expect("it is known").dominant_share;
    assert_eq!(share("lent"), 0.0, "it is nobody's share");
}

#[test]
fn what_is_lent_no_more_is_taken_out_of_offers_and_not_out_of_tasks() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 60_000);
    desk.want(10, &[wants("backfill", lent(1.0), 3)]);
    desk.pass(1_000, &[1]);
    assert!(desk.offers_to(10).is_empty(), "nobody lends anything");
    let sentence = desk.master.view(desk.now_ms).frameworks[0].waiting[0].clone();
    assert!(sentence.contains("no agent lends any now"), "{sentence}");
    desk.lends(1, 2.0);
    let offers = desk.offers_to(10);
    desk.accept(10, &[&offers[0]], vec![TaskInfo { resources: lent(1.0), ..task("t", "a", 0.0) }]);
    desk.want(10, &[wants("backfill", lent(1.0), 2)]);
    desk.pass(6_000, &[1]);
    assert_eq!(desk.offers_to(10)[0].resources.milli("cpus:revocable"), 1_000, "what is left");
    desk.said_to(10);
    desk.lends(1, 0.5);
    assert!(matches!(desk.said_to(10).as_slice(), [FrameworkEvent::Rescind { .. }]));
    let used = |desk: &Desk| desk.master.view(desk.now_ms).agents[0].used.milli("cpus:revocable");
    assert_eq!(used(&desk), 1_000, "whom to end is the agent's matter");
    desk.report(1, &id, "t", TaskState::Killed);
    desk.want(10, &[wants("less", lent(0.5), 1)]);
    assert_eq!(desk.offers_to(10)[0].resources.milli("cpus:revocable"), 500);
    desk.lends(1, 0.0);
    assert_eq!(desk.master.view(desk.now_ms).agents[0].free, machine(4.0));
}

#[test]
fn it_comes_back_with_its_tasks_and_stays_out_of_promises() {
    let mut desk = Desk::new();
    let id = desk.subscribe(10, None, "r", 60_000);
    let info = TaskInfo { resources: lent(1.0), ..task("t", "a", 0.0) };
    let running = AgentTask { framework_id: id.clone(), info, state: TaskState::Running };
    desk.register(1, "a", 4.0, vec![running]);
    assert_eq!(desk.master.view(desk.now_ms).agents[0].used, lent(1.0), "before it says what it lends");
    desk.close(1);
    desk.register(2, "a", 4.0, vec![]);
    let agents = desk.master.view(desk.now_ms).agents;
    assert_eq!((&agents[0].used, &agents[0].free), (&Resources::new(), &machine(4.0)));
    let mut guaranteed = quota(&[], &[]);
    guaranteed.guarantee.set("cpus:revocable", 1_000);
    let call = OperatorCall::SetQuota { role: "r".into(), quota: guaranteed, force: true };
    let refused = desk.operate(call).expect_err("refused");
    assert!(refused.contains("what is lent may be taken back"), "{refused}");
    let mut info = agent_info("b", 1.0);
    info.total.set_milli("cpus:revocable", 1_000);
    desk.agent(3, AgentCall::Register { agent: info, tasks: vec![], volumes: vec![] });
    assert!(matches!(desk.orders_to(3).as_slice(), [AgentOrder::Shutdown { .. }]), "nobody has it of its own");
    desk.lends(2, 4.5);
    let orders = desk.orders_to(2);
    let is_refused =
        |order: &AgentOrder| matches!(order, AgentOrder::Shutdown { message } if message.contains("cannot lend 4.5"));
    assert!(orders.iter().any(is_refused), "more than it has: {orders:?}");
}
