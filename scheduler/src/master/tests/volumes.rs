//! Volumes: made where they are first claimed, found again, removed by a word.

use super::*;
use crate::volumes::{Volume, VolumeKey};
use jobs::volumes::VolumeClaim;

fn claim(name: &str, mib: i64) -> VolumeClaim {
    VolumeClaim { name: name.into(), disk_milli: mib * 1000, path: String::new() }
}

fn volume(role: &str, name: &str, mib: i64) -> Volume {
    Volume { key: VolumeKey::new(role, name), disk_milli: mib * 1000 }
}

fn with_disk(id: &str) -> AgentInfo {
    let mut info = agent_info(id, 4.0);
    info.total = info.total.with("disk", 100.0);
    info
}

impl Desk {
    fn disk(&mut self, connection: u64, id: &str, tasks: Vec<AgentTask>, volumes: Vec<Volume>) {
        self.agent(connection, AgentCall::Register { agent: with_disk(id), tasks, volumes });
    }

    /// Wants one task with a volume, and is offered what is for it.
    fn claim(&mut self, connection: u64, name: &str, mib: i64) -> Vec<Offer> {
        self.want(connection, &[Demand { volumes: vec![claim(name, mib)], ..demand(1.0, 1) }]);
        self.offers_to(connection)
    }

    fn begin(&mut self, connection: u64, offer: &Offer, id: &str, claims: Vec<VolumeClaim>) {
        let launch = vec![TaskInfo { volumes: claims, ..task(id, offer.agent_id.as_str(), 1.0) }];
        let offer_ids = vec![offer.offer_id.clone()];
        let accept = FrameworkCall::Accept { offer_ids, operations: vec![], launch, refuse_ms: Some(0) };
        self.framework(connection, accept);
    }

    fn operate_on(&mut self, connection: u64, offer: &Offer, what: Vec<What>) -> Option<String> {
        let operations = what.into_iter().map(|what| Operation { agent_id: offer.agent_id.clone(), what }).collect();
        let offer_ids = vec![offer.offer_id.clone()];
        let accept = FrameworkCall::Accept { offer_ids, operations, launch: vec![], refuse_ms: Some(0) };
        self.framework(connection, accept);
        let said = self.said_to(connection);
        let answer = said.iter().find_map(|event| match event {
            FrameworkEvent::Operated { problem, .. } => Some(problem.clone()),
            _ => None,
        });
        self.to_frameworks.extend(said.into_iter().map(|event| (connection, event)));
        answer.expect("an accept with operations is answered")
    }

    fn ends(&mut self, connection: u64, framework: &FrameworkId, id: &str) {
        let status = TaskStatus {
            task_id: id.into(),
            agent_id: "a".into(),
            state: TaskState::Finished,
            reason: Reason::None,
            message: String::new(),
            uuid: Some("u".into()),
            at_ms: 0,
            exit_code: 0,
        };
        self.agent(connection, AgentCall::Update { framework_id: framework.clone(), status });
    }

    fn waits(&self) -> String {
        self.master.view(self.now_ms).frameworks.iter().flat_map(|framework| framework.waiting.clone()).collect()
    }

    fn used_disk(&self, agent: usize) -> f64 {
        self.master.view(self.now_ms).agents[agent].used.amount("disk")
    }

    fn brief_to(&mut self, connection: u64) -> Vec<String> {
        let brief = |order: AgentOrder| match order {
            AgentOrder::KeepVolume { volume } => format!("keep {} {}", volume.key.name, volume.disk_milli / 1000),
            AgentOrder::DestroyVolume { key } => format!("destroy {}", key.name),
            AgentOrder::Launch { task, .. } => format!("launch {} as {}", task.task_id, task.role),
            _ => String::new(),
        };
        self.orders_to(connection).into_iter().map(brief).filter(|text| !text.is_empty()).collect()
    }
}

#[test]
fn the_next_task_is_offered_the_agent_that_has_its_volume() {
    let mut desk = Desk::new();
    desk.disk(1, "a", vec![], vec![]);
    desk.disk(2, "b", vec![], vec![]);
    let id = desk.subscribe(10, None, "ml", 60_000);
    let offers = desk.claim(10, "data", 40);
    desk.begin(10, &offers[0], "t1", vec![claim("data", 40)]);
    assert_eq!(desk.brief_to(1), ["keep data 40", "launch t1 as ml"]);
    assert_eq!((desk.used_disk(0), desk.used_disk(1)), (40.0, 0.0));

    assert_eq!(desk.claim(10, "data", 40), []);
    assert!(desk.waits().contains("volume data on a is still task t1's"), "{}", desk.waits());
    desk.ends(1, &id, "t1");
    let offers = desk.offers_to(10);
    assert_eq!(offers.iter().map(|offer| offer.agent_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(offers[0].volumes, [volume("ml", "data", 40)]);
    assert_eq!(desk.used_disk(0), 40.0, "the disk of the volume is used while it is there");
    desk.begin(10, &offers[0], "t2", vec![claim("data", 60)]);
    assert_eq!(desk.brief_to(1), ["keep data 60", "launch t2 as ml"]);
    assert_eq!(desk.used_disk(0), 60.0);
}

#[test]
fn a_volume_is_not_made_elsewhere_while_its_agent_is_away() {
    let mut desk = Desk::new();
    desk.disk(1, "a", vec![], vec![]);
    desk.subscribe(10, Some("f"), "ml", 60_000);
    let offers = desk.claim(10, "data", 40);
    desk.begin(10, &offers[0], "t1", vec![claim("data", 40)]);
    // Another master, which has heard only of another agent.
    let mut desk = Desk::with_registry(2, desk.now_ms, desk.registry.into_values());
    desk.disk(2, "b", vec![], vec![]);
    desk.subscribe(10, Some("f"), "ml", 60_000);
    assert_eq!(desk.claim(10, "data", 40), []);
    assert!(desk.waits().contains("volume data is on a, which is disconnected"), "{}", desk.waits());
    desk.disk(1, "a", vec![], vec![volume("ml", "data", 40)]);
    let offers = desk.offers_to(10);
    assert_eq!(offers.iter().map(|offer| offer.agent_id.as_str()).collect::<Vec<_>>(), ["a"]);
    // One that comes back without it never got the word, or lost it: it is nowhere then.
    desk.disk(3, "a", vec![], vec![]);
    assert_eq!(desk.master.view(desk.now_ms).volumes, []);
    assert!(!desk.offers_to(10).is_empty());
}

#[test]
fn what_a_claim_cannot_have_is_said() {
    let mut desk = Desk::new();
    desk.disk(1, "a", vec![], vec![volume("ml", "data", 40)]);
    desk.disk(2, "b", vec![], vec![]);
    desk.subscribe(10, None, "ml", 60_000);
    desk.want(10, &[demand(1.0, 2)]);
    let offers = desk.offers_to(10);
    let on_b = offers.iter().find(|offer| offer.agent_id.as_str() == "b").expect("an offer of b").clone();
    desk.begin(10, &on_b, "t1", vec![claim("data", 40)]);
    let said = desk.said_to(10);
    let told = |said: &[FrameworkEvent]| {
        said.iter().find_map(|event| match event {
            FrameworkEvent::Update(status) => Some(status.message.clone()),
            _ => None,
        })
    };
    let message = told(&said).expect("the task is dropped");
    assert_eq!(message, "task t1: volume data, with 40 MiB of disk, is on agent a, and not on b");
    let on_a = offers.iter().find(|offer| offer.agent_id.as_str() == "a").expect("an offer of a").clone();
    desk.begin(10, &on_a, "t1", vec![claim("logs", 70)]);
    let message = told(&desk.said_to(10)).expect("the task is dropped");
    assert_eq!(message, "task t1: volume logs needs 70 MiB of disk, and 60 MiB of disk of agent a is left to it");
    // Two tasks of one demand cannot have the same volume.
    desk.want(10, &[Demand { volumes: vec![claim("x", 1)], ..demand(1.0, 2) }]);
    let refused = desk.said_to(10);
    let is_refusal = |event: &FrameworkEvent| match event {
        FrameworkEvent::Error { message } => message.contains("2 tasks cannot have the same volumes"),
        _ => false,
    };
    assert!(refused.iter().any(is_refusal), "{refused:?}");
}

#[test]
fn a_volume_goes_by_a_word_and_its_disk_comes_back() {
    let mut desk = Desk::new();
    desk.disk(1, "a", vec![], vec![volume("ml", "data", 40)]);
    let key = VolumeKey::new("ml", "data");
    let remove = |key: &VolumeKey| OperatorCall::RemoveVolume { key: key.clone(), agent_id: None };
    let problem = desk.operate(remove(&VolumeKey::new("ml", "dta"))).expect_err("there is none");
    assert!(problem.contains("there is no volume dta of role ml"), "{problem}");
    let quota = |limit| {
        let quota = Quota { limit: BTreeMap::from([("disk".to_string(), limit)]), ..Quota::default() };
        OperatorCall::SetQuota { role: "ml".into(), quota, force: false }
    };
    desk.operate(quota(30_000)).expect_err("the volume counts as its role's");
    assert_eq!(desk.operate(remove(&key)), Ok(vec![]));
    assert_eq!(desk.brief_to(1), ["destroy data"]);
    assert_eq!(desk.used_disk(0), 40.0, "it is not gone yet");
    // The agent is asked again when it comes back, and its word is heard once.
    desk.disk(2, "a", vec![], vec![volume("ml", "data", 40)]);
    assert_eq!(desk.brief_to(2), ["destroy data"]);
    desk.agent(2, AgentCall::VolumeDestroyed { key: key.clone() });
    desk.agent(2, AgentCall::VolumeDestroyed { key });
    assert_eq!(desk.used_disk(0), 0.0);
    assert_eq!(desk.operate(quota(30_000)), Ok(vec![]));
}

/// Given up while its agent was away: no master knew that a task has it.
#[test]
fn a_volume_that_was_given_up_under_a_task_goes_when_the_task_does() {
    let mut desk = Desk::new();
    let id = desk.subscribe(10, None, "r", 60_000);
    desk.disk(1, "a", vec![], vec![volume("r", "v", 20)]);
    let registry: Vec<Record> = desk.registry.into_values().collect();
    let mut desk = Desk::with_registry(2, 1_000, registry);
    desk.subscribe(10, Some(id.as_str()), "r", 60_000);
    let remove = OperatorCall::RemoveVolume { key: VolumeKey::new("r", "v"), agent_id: None };
    assert!(desk.operate(remove).is_ok_and(|doubts| doubts.len() == 1), "the agent is away");
    let info = TaskInfo { volumes: vec![claim("v", 20)], role: "r".into(), ..task("t", "a", 1.0) };
    let running = AgentTask { framework_id: id.clone(), info, state: TaskState::Running };
    desk.disk(1, "a", vec![running], vec![volume("r", "v", 20)]);
    assert!(desk.brief_to(1).contains(&"destroy v".to_string()), "which the agent does not do under a task");
    desk.ends(1, &id, "t");
    assert!(desk.brief_to(1).contains(&"destroy v".to_string()), "now it can");
    desk.agent(1, AgentCall::VolumeDestroyed { key: VolumeKey::new("r", "v") });
    assert_eq!(desk.used_disk(0), 0.0);
}

#[test]
fn an_accept_keeps_room_and_has_volumes_or_does_none_of_it() {
    let mut desk = Desk::new();
    desk.disk(1, "a", vec![], vec![]);
    desk.subscribe(10, None, "ml", 60_000);
    let next = |desk: &mut Desk| {
        desk.want(10, &[demand(1.0, 1)]);
        desk.offers_to(10).pop().expect("an offer")
    };
    let reserve = |role: &str, cpus: i64| {
        What::Reserve(Reservation {
            role: role.into(),
            amounts: [("cpus", cpus)].into_iter().collect(),
            ..Default::default()
        })
    };
    let keep = |name: &str, mib: i64| What::KeepVolume { name: name.into(), disk_milli: mib * 1000 };
    let offer = next(&mut desk);
    let problem = desk.operate_on(10, &offer, vec![keep("data", 60), keep("logs", 60)]).expect("too much");
    assert_eq!(problem, "volume logs needs 60 MiB of disk, and 40 MiB of disk of agent a is left to it");
    assert_eq!(desk.brief_to(1), [""; 0], "nothing of it is done");
    let offer = next(&mut desk);
    let problem = desk.operate_on(10, &offer, vec![reserve("web", 1_000)]).expect("not its role");
    assert_eq!(problem, "role web is neither ml nor below it");
    let offer = next(&mut desk);
    let problem = desk.operate_on(10, &offer, vec![reserve("ml", 9_000)]).expect("too much");
    assert_eq!(problem, "9 cpus cannot be reserved on agent a: 4 cpus is offered");
    let offer = next(&mut desk);
    assert_eq!(desk.operate_on(10, &offer, vec![reserve("ml/train", 3_000), keep("data", 60), keep("data", 70)]), None);
    assert_eq!(desk.brief_to(1), ["keep data 70"]);
    let view = desk.master.view(desk.now_ms);
    assert_eq!(view.agents[0].reserved[0].role, "ml/train");
    assert_eq!(view.volumes.iter().map(|volume| volume.volume.clone()).collect::<Vec<_>>(), [volume("ml", "data", 70)]);
    let offer = next(&mut desk);
    assert_eq!(offer.resources.amount("cpus"), 1.0, "the rest is kept for a role below it");
    let destroy = What::DestroyVolume { name: "data".into() };
    let unreserve = What::Unreserve(Reservation { role: "ml/train".into(), ..Reservation::default() });
    assert_eq!(desk.operate_on(10, &offer, vec![unreserve, destroy]), None);
    assert_eq!(desk.brief_to(1), ["destroy data"]);
    assert_eq!(desk.master.view(desk.now_ms).agents[0].reserved, []);
}

#[test]
fn volumes_of_an_agent_that_does_not_come_back_are_nowhere() {
    let mut desk = Desk::new();
    desk.disk(1, "a", vec![], vec![volume("ml", "data", 40)]);
    desk.disk(2, "b", vec![], vec![]);
    desk.subscribe(10, None, "ml", 60_000);
    let offers = desk.claim(10, "data", 40);
    assert_eq!(offers.iter().map(|offer| offer.agent_id.as_str()).collect::<Vec<_>>(), ["a"]);
    desk.operate(OperatorCall::Gone { agent_id: "a".into(), force: true }).expect("is declared gone");
    let offers = desk.offers_to(10);
    assert_eq!(offers.iter().map(|offer| offer.agent_id.as_str()).collect::<Vec<_>>(), ["b"]);
}
