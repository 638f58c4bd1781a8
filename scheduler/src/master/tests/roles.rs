//! What roles are promised: shares by weight at each level, guarantees and limits.

use super::*;

pub fn quota(guarantee: &[(&str, f64)], limit: &[(&str, f64)]) -> Quota {
    let milli = |(name, amount): &(&str, f64)| (name.to_string(), (amount * 1000.0) as i64);
    let guarantee: Vec<(String, i64)> = guarantee.iter().map(milli).collect();
    Quota {
        guarantee: guarantee.iter().map(|(name, milli)| (name.as_str(), *milli)).collect(),
        limit: limit.iter().map(milli).collect(),
    }
}

impl Desk {
    fn set_quota(
        &mut self,
        role: &str,
        guarantee: &[(&str, f64)],
        limit: &[(&str, f64)],
    ) -> Result<Vec<String>, String> {
        let quota = quota(guarantee, limit);
        self.operate(OperatorCall::SetQuota { role: role.into(), quota, force: false })
    }

    /// What a framework was offered, in cpus.
    pub fn cpus_offered(&mut self, connection: u64) -> f64 {
        self.offers_to(connection).iter().map(|offer| offer.resources.amount("cpus")).sum()
    }

    fn role(&self, name: &str) -> RoleView {
        let roles = self.master.view(self.now_ms).roles;
        roles.into_iter().find(|role| role.role == name).expect("the role is known")
    }
}

#[test]
fn siblings_share_by_weight_at_each_level() {
    let mut desk = Desk::new();
    assert_eq!(desk.operate(OperatorCall::SetWeight { role: "b".into(), weight_milli: 3_000 }), Ok(vec![]));
    for (connection, role) in [(10, "a/x"), (11, "a/y/deep"), (12, "a"), (13, "b")] {
        desk.subscribe(connection, None, role, 0);
    }
    desk.pass(20, &[]);
    for at in 0..12 {
        desk.register(100 + at, &format!("a{at:02}"), 1.0, vec![]);
    }
    let cpus = [10, 11, 12, 13].map(|connection| desk.cpus_offered(connection));
    assert_eq!(cpus, [1.0, 1.0, 1.0, 9.0], "b has three times the share of a, of which each third is fair");
    let (a, b) = (desk.role("a"), desk.role("b"));
    assert_eq!((a.dominant_share, b.dominant_share, b.weight), (0.25, 0.75, 3.0));
    assert_eq!((a.n_frameworks, desk.role("a/y").n_frameworks), (1, 0));
}

#[test]
fn what_is_scarce_does_not_dominate() {
    let mut desk = Desk::new();
    for (connection, role) in [(10, "gpu"), (11, "cpu")] {
        desk.subscribe(connection, None, role, 0);
    }
    desk.pass(20, &[]);
    let mut info = agent_info("a", 1.0);
    info.total = info.total.with_gpus([jobs::Gpu { index: 0, model: "x".into(), mem_mib: 1 }]);
    desk.agent(1, AgentCall::Register { agent: info, tasks: vec![], volumes: vec![] });
    assert_eq!(desk.cpus_offered(10), 1.0);
    desk.register(2, "b", 1.0, vec![]);
    desk.register(3, "c", 1.0, vec![]);
    assert_eq!(
        (desk.cpus_offered(10), desk.cpus_offered(11)),
        (1.0, 1.0),
        "the GPU is all there is, and counts nothing"
    );
    assert_eq!(desk.role("gpu").dominant_share, 2.0 / 3.0);
}

#[test]
fn a_limit_is_never_exceeded_and_is_named_as_the_reason() {
    let mut desk = Desk::new();
    assert_eq!(desk.set_quota("ml", &[], &[("cpus", 6.0)]), Ok(vec![]));
    desk.subscribe(10, None, "ml/train", 0);
    desk.pass(20, &[]);
    for at in 0..2 {
        desk.register(at, &format!("a{at}"), 4.0, vec![]);
    }
    let offers = desk.offers_to(10);
    let cpus: Vec<f64> = offers.iter().map(|offer| offer.resources.amount("cpus")).collect();
    assert_eq!(cpus, [4.0, 2.0], "the second agent is cut");
    assert_eq!(offers[1].resources.n_ports(), 10, "all of its memory is offered, so all ports go with it");
    desk.accept(10, &[&offers[0]], vec![task("t0", "a0", 4.0)]);
    desk.accept(10, &[&offers[1]], vec![task("t1", "a1", 2.0)]);
    desk.want(10, &[demand(1.0, 1)]);
    assert_eq!(desk.waiting(), ["needs 1 task of cpus 1; role ml is at its limit of 6 cpus"]);
    assert_eq!(desk.set_quota("ml", &[], &[("cpus", 6.5)]), Ok(vec![]));
    assert_eq!(desk.waiting(), ["needs 1 task of cpus 1; role ml has 0.5 cpus left to its limit of 6.5 cpus"]);
    assert_eq!(desk.offers_to(10), []);
    let refusal = desk.set_quota("ml", &[], &[("cpus", 3.0)]);
    let expected = "role ml uses 6 cpus already, more than a limit of 3 cpus; its tasks would go on; --force sets the \
                    quota all the same";
    assert_eq!(refusal, Err(expected.into()));
    assert_eq!(desk.operate(OperatorCall::RemoveQuota { role: "ml".into() }), Ok(vec![]));
    assert_eq!(desk.offers_to(10).len(), 1, "what it kept back is offered at once");
}

#[test]
fn a_lower_limit_takes_offers_back_and_leaves_tasks() {
    let mut desk = Desk::new();
    desk.subscribe(10, None, "ml", 0);
    desk.pass(20, &[]);
    for at in 0..3 {
        desk.register(at, &format!("a{at}"), 2.0, vec![]);
    }
    let offers = desk.offers_to(10);
    desk.accept(10, &[&offers[0]], vec![task("t", "a0", 2.0)]);
    desk.set_quota("ml", &[], &[("cpus", 4.0)]).expect("its tasks use less");
    assert_eq!(desk.said_to(10), [FrameworkEvent::Rescind { offer_id: offers[2].offer_id.clone() }]);
    assert_eq!(desk.role("ml").held.get("cpus"), 4_000);
    let forced = OperatorCall::SetQuota { role: "ml".into(), quota: quota(&[], &[("cpus", 1.0)]), force: true };
    assert_eq!(desk.operate(forced).map(|warnings| warnings.len()), Ok(1));
    assert_eq!(desk.role("ml").held.get("cpus"), 2_000, "the task goes on");
}

#[test]
fn a_guarantee_is_kept_free_lent_and_given_back() {
    let mut desk = Desk::new();
    for at in 0..3 {
        desk.register(at, &format!("a{at}"), 4.0, vec![]);
    }
    desk.set_quota("prod", &[("cpus", 8.0)], &[]).expect("the cluster has it");
    desk.subscribe(10, None, "batch", 0);
    desk.pass(20, &[0, 1, 2]);
    assert_eq!(desk.cpus_offered(10), 4.0, "the rest is kept for the guarantee");
    desk.subscribe(11, None, "prod", 0);
    desk.pass(20, &[0, 1, 2]);
    assert_eq!(desk.cpus_offered(11), 8.0);
    desk.want(10, &[demand(4.0, 2)]);
    assert_eq!(desk.master.view(0).roles.iter().map(|role| role.held.get("cpus")).sum::<i64>(), 12_000);
    // What batch borrowed comes back to prod first when prod lacks something.
    desk.set_quota("prod", &[("cpus", 12.0)], &[]).expect("the cluster has it");
    let events = desk.said_to(10);
    assert!(events.iter().any(|event| matches!(event, FrameworkEvent::Rescind { .. })), "{events:?}");
    assert_eq!(desk.cpus_offered(11), 4.0);
    assert!(desk.waiting()[0].ends_with("could hold it and is offered to other frameworks now"));
}

#[test]
fn what_is_kept_for_a_guarantee_is_named_as_the_reason() {
    let mut desk = Desk::new();
    desk.register(0, "a", 4.0, vec![]);
    desk.set_quota("prod", &[("cpus", 3.0)], &[]).expect("the cluster has it");
    desk.subscribe(10, None, "batch", 0);
    desk.want(10, &[demand(2.0, 1)]);
    let expected = "needs 1 task of cpus 2; 3 cpus of what is free is kept for guarantees of other roles";
    assert_eq!(desk.waiting(), [expected]);
    desk.want(10, &[demand(1.0, 1)]);
    assert_eq!(desk.cpus_offered(10), 1.0);
}

#[test]
fn a_quota_that_cannot_be_is_refused_with_its_reason() {
    let mut desk = Desk::new();
    desk.register(0, "a", 8.0, vec![]);
    let mut refused = |role: &str, guarantee: &[(&str, f64)], limit: &[(&str, f64)]| {
        desk.set_quota(role, guarantee, limit).expect_err("it cannot be")
    };
    assert_eq!(
        refused("ml", &[("cpus", 4.0)], &[("cpus", 2.0)]),
        "role ml: its guarantee of 4 cpus is above its limit of 2 cpus"
    );
    assert_eq!(
        refused("ml", &[("cpus", 9.0)], &[]),
        "guarantees would add up to 9 cpus, and the cluster has 8 cpus; --force sets the quota all the same"
    );
    assert!(refused("ml/", &[("cpus", 1.0)], &[]).contains("cannot be a role"));
    assert!(refused("ml", &[("ports", 1.0)], &[]).contains("quotas are amounts of scalars"));
    assert!(refused("ml", &[("cpus", -1.0)], &[]).contains("-1 cpus"));
    desk.set_quota("ml", &[("cpus", 4.0)], &[("mem", 100.0)]).expect("it can be");
    desk.set_quota("ml/a", &[("cpus", 3.0)], &[]).expect("it can be");
    let mut refused =
        |role: &str, guarantee: &[(&str, f64)]| desk.set_quota(role, guarantee, &[]).expect_err("too much");
    assert_eq!(
        refused("ml/b", &[("cpus", 2.0)]),
        "the roles below ml would be guaranteed 5 cpus, more than its own 4 cpus"
    );
    assert_eq!(
        refused("ml", &[("cpus", 2.0)]),
        "the roles below ml would be guaranteed 3 cpus, more than its own 2 cpus"
    );
    assert_eq!(
        refused("ml/a", &[("cpus", 1.0), ("mem", 101.0)]),
        "the roles below ml would be guaranteed 101 MiB of mem, more than its own 0 MiB of mem"
    );
    let removed = desk.operate(OperatorCall::RemoveQuota { role: "none".into() });
    assert_eq!(removed, Err("role none has no quota".into()));
    let weight = desk.operate(OperatorCall::SetWeight { role: "ml".into(), weight_milli: 0 });
    assert_eq!(weight, Err("role ml cannot have weight 0: weights go from 0.001 to 1000000".into()));
}

#[test]
fn quotas_and_weights_outlive_the_master() {
    let mut desk = Desk::new();
    desk.set_quota("ml/train", &[], &[("gpus:a100", 2.0)]).expect("it can be");
    desk.operate(OperatorCall::SetWeight { role: "ml/train".into(), weight_milli: 2_500 }).expect("it can be");
    let records: Vec<Record> = desk.registry.into_values().collect();
    let desk = Desk::with_registry(2, 0, records);
    let role = desk.role("ml/train");
    assert_eq!((role.weight, role.limit.get("gpus:a100").copied()), (2.5, Some(2_000)));
}

#[test]
fn gpus_are_limited_by_model_and_given_away_whole() {
    let gpu = |index| jobs::Gpu { index, model: "a100".into(), mem_mib: 1 };
    let mut desk = Desk::new();
    let mut info = agent_info("a", 8.0);
    info.total = info.total.with_gpus([gpu(0), gpu(1), gpu(2)]);
    desk.agent(1, AgentCall::Register { agent: info, tasks: vec![], volumes: vec![] });
    desk.set_quota("ml", &[], &[("gpus:a100", 2.0)]).expect("it can be");
    desk.subscribe(10, None, "ml", 0);
    desk.pass(20, &[1]);
    let offer = desk.offers_to(10).remove(0);
    assert_eq!(offer.resources.gpus().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
    let mut half = task("t", "a", 1.0);
    half.resources = half.resources.with("gpus", 1.0);
    desk.accept(10, &[&offer], vec![half]);
    assert_eq!(desk.updates_to(10), [("t".to_string(), TaskState::Dropped, Reason::InvalidTask, false)]);
    let offer = desk.master.view(desk.now_ms).offers.remove(0).offer;
    let mut whole = task("t", "a", 1.0);
    whole.resources = whole.resources.with_gpus([gpu(1)]);
    desk.accept(10, &[&offer], vec![whole]);
    let used = desk.master.view(desk.now_ms).agents[0].used.clone();
    assert_eq!(used.to_string(), "cpus 1, gpus 1, gpu 1:a100");
    let shape = Resources::new().cpus(1.0).with("gpus", 2.0).with("gpus:a100", 2.0);
    desk.want(10, &[Demand { name: "d".into(), shape, count: 1, ..Demand::default() }]);
    let expected =
        "needs 1 task of cpus 1, gpus 2, gpus:a100 2; role ml has 1 gpus:a100 left to its limit of 2 gpus:a100";
    assert_eq!(desk.waiting(), [expected]);
    desk.want(
        10,
        &[Demand { name: "d".into(), shape: Resources::new().with("gpus", 0.5), count: 1, ..Demand::default() }],
    );
    assert!(matches!(&desk.said_to(10)[..], [.., FrameworkEvent::Error { .. }]));
}
