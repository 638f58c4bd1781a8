//! Gangs of others' programs: placed whole, told of one another, started again together, and ended when their work is done.

use super::*;
use jobs::{Distributed, Gang, GangRole, Member};
use serde_json::{Value, json};

fn role(member: Member, count: u32) -> GangRole {
    GangRole {
        member,
        count,
        argv: vec![member.to_string()],
        env: BTreeMap::from([("OMP_NUM_THREADS".to_string(), "7".to_string()), ("OWN".to_string(), "yes".to_string())]),
        resources: Resources::new().cpus(if member == Member::Worker { 2.0 } else { 1.0 }),
        n_ports: 1,
    }
}

fn gang(distributed: Distributed, roles: Vec<GangRole>) -> JobSpec {
    let gang = Gang { distributed, roles, wind_down_ms: 1_000 };
    let parallelism = gang.n_tasks();
    let body = CommandBody { gang: Some(gang), ..CommandBody::default() };
    JobSpec { parallelism, n_ports: 1, ..spec("c", JobBody::Command(body)) }
}

fn tensorflow(roles: &[(Member, u32)]) -> JobSpec {
    gang(Distributed::Tensorflow, roles.iter().map(|(member, count)| role(*member, *count)).collect())
}

impl World {
    fn room(&mut self, id: &str, agent: &str, host: &str, cpus: f64) {
        let resources = Resources::new().cpus(cpus).with_ports([(31_000, 31_009)]);
        let (id, agent, host) = (id.into(), agent.into(), host.into());
        let offer = HeldOffer {
            id,
            agent,
            host,
            resources,
            attributes: BTreeMap::new(),
            volumes: BTreeMap::new(),
            drains: false,
            held_since_ms: self.now_ms,
        };
        self.apply(Event::Offer { framework: training(), offer });
    }

    /// All tasks of a gang, which run.
    fn together(&mut self, job: JobSpec) -> Vec<Launch> {
        self.submit(vec![job]);
        self.seen();
        self.again()
    }

    fn again(&mut self) -> Vec<Launch> {
        let now_ms = self.now_ms;
        self.room(&format!("o1-{now_ms}"), "a1", "10.0.0.1", 8.0);
        self.room(&format!("o2-{now_ms}"), "a2", "fe80::2", 8.0);
        self.pass(200);
        let launched = self.launched();
        for launch in &launched {
            self.update(&launch.task, TaskState::Running);
        }
        assert_eq!(self.job("c").state, "running");
        self.seen();
        launched
    }

    fn exits_with(&mut self, task: &TaskId, exit_code: i32) {
        let status = Status {
            task: task.clone(),
            agent: "a1".into(),
            state: TaskState::Failed,
            reason: Reason::Exited,
            message: format!("exited with code {exit_code}"),
            uuid: "u".into(),
            exit_code,
        };
        self.apply(Event::Update { framework: training(), status });
    }
}

fn env(launch: &Launch) -> &BTreeMap<String, String> {
    let Payload::Command { env, .. } = &launch.payload else { panic!("{launch:?}") };
    env
}

fn config(launch: &Launch) -> Value {
    serde_json::from_str(&env(launch)["TF_CONFIG"]).expect("JSON")
}

#[test]
fn each_role_is_asked_for_and_all_are_placed_together() {
    let mut world = World::new();
    world.submit(vec![tensorflow(&[(Member::Worker, 2), (Member::Ps, 1)])]);
    let names: Vec<(String, u32, f64)> = world
        .seen()
        .into_iter()
        .filter_map(|command| if let Command::Demand { demands, .. } = command { Some(demands) } else { None })
        .flatten()
        .map(|demand| (demand.name, demand.count, demand.shape.amount("cpus")))
        .collect();
    assert_eq!(names, [("g/c worker".to_string(), 2, 2.0), ("g/c ps".to_string(), 1, 1.0)]);
    let why = world.job("c").why;
    assert!(why.contains("worker needs 2 tasks") && why.contains("ps needs 1 task of"), "{why}");
    // Room for both workers, and not for the server.
    world.room("o1", "a1", "10.0.0.1", 2.0);
    world.room("o2", "a2", "10.0.0.2", 2.5);
    world.pass(200);
    assert!(world.launched().is_empty());
    world.room("o3", "a3", "10.0.0.3", 1.0);
    let launched = world.launched();
    let programs: Vec<String> = launched
        .iter()
        .map(|launch| {
            let Payload::Command { argv, .. } = &launch.payload else { panic!("{launch:?}") };
            format!("{} on {}", argv[0], launch.agent)
        })
        .collect();
    assert_eq!(programs, ["worker on a1", "worker on a2", "ps on a3"]);
    assert_eq!(launched[1].name, "command g/c worker 1");
}

#[test]
fn tensorflow_is_told_its_cluster_without_the_evaluator() {
    let mut world = World::new();
    let roles = [(Member::Chief, 1), (Member::Worker, 1), (Member::Ps, 1), (Member::Evaluator, 1)];
    let launched = world.together(tensorflow(&roles));
    let cluster = config(&launched[0])["cluster"].clone();
    let of = |name: &str| cluster[name].as_array().map_or(0, Vec::len);
    assert_eq!((of("chief"), of("worker"), of("ps"), of("evaluator")), (1, 1, 1, 0), "{cluster}");
    let mut addresses: Vec<&str> =
        ["chief", "worker", "ps"].iter().filter_map(|name| cluster[name][0].as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "{cluster}");
    assert!(addresses.iter().any(|address| address.starts_with("[fe80::2]:310")), "{cluster}");
    assert!(addresses.iter().any(|address| address.starts_with("10.0.0.1:310")), "{cluster}");
    for (launch, (member, _)) in launched.iter().zip(roles) {
        assert_eq!(config(launch)["cluster"], cluster, "all are told the same");
        assert_eq!(config(launch)["task"], json!({ "type": member.as_str(), "index": 0 }));
        let env = env(launch);
        assert_eq!((env["GRPC_FAIL_FAST"].as_str(), env["OWN"].as_str()), ("use_caller", "yes"));
        let cpus = if member == Member::Worker { "2" } else { "1" };
        assert_eq!((env["TF_NUM_INTRAOP_THREADS"].as_str(), env["OMP_NUM_THREADS"].as_str()), (cpus, "7"));
    }
    let without = World::new().together(tensorflow(&[(Member::Worker, 2)]));
    assert!(!env(&without[0]).contains_key("GRPC_FAIL_FAST"));
    assert_eq!(config(&without[1])["task"], json!({ "type": "worker", "index": 1 }));
}

#[test]
fn torch_is_told_its_ranks_and_how_often_it_was_started() {
    let mut world = World::new();
    let launched = world.together(gang(Distributed::Torch, vec![role(Member::Worker, 2)]));
    let of = |launch: &Launch, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| env(launch).get(*name).cloned().unwrap_or_default()).collect()
    };
    let (first, second) = (&launched[0], &launched[1]);
    let port = first.resources.ports()[0].0.to_string();
    for launch in [first, second] {
        assert_eq!(of(launch, &["MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"]), ["10.0.0.1", port.as_str(), "2"]);
        assert_eq!(of(launch, &["PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_NNODES"]), ["10.0.0.1", port.as_str(), "2"]);
        assert_eq!(of(launch, &["LOCAL_RANK", "LOCAL_WORLD_SIZE", "PET_NPROC_PER_NODE"]), ["0", "1", "1"]);
    }
    let ranks = ["RANK", "GROUP_RANK", "PET_NODE_RANK", "TORCHELASTIC_RESTART_COUNT"];
    assert_eq!(of(first, &ranks), ["0", "0", "0", "0"]);
    assert_eq!(of(second, &ranks), ["1", "1", "1", "0"]);

    world.exits_with(&second.task, 1);
    assert_eq!(kills(&world.seen()), [&first.task], "a gang is started again as a whole");
    world.update(&first.task, TaskState::Killed);
    let again = world.again();
    assert_eq!(of(&again[1], &ranks), ["1", "1", "1", "1"]);
    assert_ne!(again[1].task, second.task);
}

#[test]
fn an_exit_code_decides_where_it_is_asked_to() {
    for (restart, exit_code, state) in [
        (Restart::ExitCode, 1, "failed"),
        (Restart::ExitCode, 137, "restarting"),
        (Restart::ExitCode, -9, "restarting"),
        (Restart::OnFailure, 1, "restarting"),
    ] {
        let mut world = World::new();
        let roles = vec![role(Member::Worker, 2)];
        let launched = world.together(JobSpec { restart, ..gang(Distributed::Torch, roles) });
        world.exits_with(&launched[0].task, exit_code);
        let job = world.job("c");
        assert_eq!(job.state, state, "{restart:?} {exit_code}: {}", job.why);
        assert!(job.why.contains(&format!("exited with code {exit_code}")), "{}", job.why);
        assert_eq!(kills(&world.seen()), [&launched[1].task]);
    }
}

#[test]
fn without_a_chief_all_workers_end_the_job_and_servers_are_ended() {
    let mut world = World::new();
    let launched = world.together(tensorflow(&[(Member::Worker, 2), (Member::Ps, 1)]));
    world.update(&launched[0].task, TaskState::Finished);
    assert_eq!((world.job("c").state.as_str(), kills(&world.seen()).len()), ("running", 0));
    world.update(&launched[1].task, TaskState::Finished);
    assert_eq!(world.job("c").state, "stopping");
    assert_eq!(kills(&world.seen()), [&launched[2].task]);
    world.update(&launched[2].task, TaskState::Killed);
    let job = world.job("c");
    assert_eq!((job.state.as_str(), job.restarts), ("finished", 0), "{job:?}");
}

/// An evaluator that never ends is ended, also by a runner that was not there when its time began.
#[test]
fn an_evaluator_has_some_time_and_then_none() {
    for restarted in [false, true] {
        let mut world = World::new();
        let roles = [(Member::Chief, 1), (Member::Worker, 1), (Member::Evaluator, 1)];
        let launched = world.together(tensorflow(&roles));
        let evaluator = &launched[2].task;
        world.update(&launched[0].task, TaskState::Finished);
        let why = world.job("c").why;
        assert!(why.contains("its work is done") && why.contains("worker 0, evaluator 0"), "{why}");
        world.update(&launched[1].task, TaskState::Failed);
        world.pass(900);
        assert_eq!(kills(&world.seen()), [] as [&TaskId; 0]);
        if restarted {
            world = world.restarted(None);
            world.now_ms += 1_100;
        }
        world.pass(200);
        assert_eq!(kills(&world.seen()), [evaluator], "restarted: {restarted}");
        world.pass(200);
        assert_eq!(kills(&world.seen()), [] as [&TaskId; 0], "once is enough");
        world.apply(Event::Subscribed { framework: training(), id: "smack-training".into() });
        assert_eq!(kills(&world.seen()), [evaluator], "the kill may have been lost with the line");
        world.update(evaluator, TaskState::Killed);
        assert_eq!(world.job("c").state, "finished");
    }
}

#[test]
fn workers_that_serve_a_chief_are_ended_with_the_servers() {
    let mut world = World::new();
    let launched = world.together(tensorflow(&[(Member::Chief, 1), (Member::Worker, 1), (Member::Ps, 1)]));
    world.update(&launched[0].task, TaskState::Finished);
    assert_eq!(kills(&world.seen()), [&launched[1].task, &launched[2].task]);
    // While that goes on it can be stopped, and is then told so.
    let (_, commands) = world.book.stop(world.now_ms, "g").expect("the group");
    world.carry(commands);
    for launch in &launched[1..] {
        world.update(&launch.task, TaskState::Killed);
    }
    assert_eq!(world.job("c").state, "stopped");
}

#[test]
fn a_gang_that_is_always_started_again_is() {
    let mut world = World::new();
    let job = JobSpec { restart: Restart::Always, ..tensorflow(&[(Member::Worker, 1)]) };
    let launched = world.together(job);
    world.update(&launched[0].task, TaskState::Finished);
    let job = world.job("c");
    assert_eq!((job.state.as_str(), job.restarts), ("placing", 1), "{}", job.why);
}

#[test]
fn people_see_which_task_is_what() {
    let mut world = World::new();
    let launched = world.together(tensorflow(&[(Member::Chief, 1), (Member::Worker, 2)]));
    let members: Vec<String> = world.job("c").tasks.into_iter().map(|task| task.member).collect();
    assert_eq!(members, ["chief 0", "worker 0", "worker 1"]);
    let why = world.book.why(world.now_ms, launched[2].task.as_str()).expect("a task");
    assert!(
        why.details.iter().any(|detail| detail.starts_with("task 2 (worker 1) of generation 1: running")),
        "{why:?}"
    );
    assert!(why.sentence.ends_with("runs: 3 of 3 tasks"), "{}", why.sentence);
}
