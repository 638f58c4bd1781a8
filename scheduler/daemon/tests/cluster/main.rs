//! A real master, a real agent and a framework over gRPC, in one process: what each promises the others.
//!
//! Nothing here waits for a fixed time: every wait is for something seen, with one generous limit for the whole.

mod framework;
mod fuzz;
mod http;
mod keep;
mod lending;
mod rights;
mod roles;
#[cfg(feature = "live")]
mod stored;
mod volumes;
mod watch;
mod world;

use framework::Framework;
use jobs::{Reason, TaskState};
use std::path::Path;
use wire::v1;
use wire::v1::framework_call::Call;
use world::{World, eventually};

#[tokio::test]
async fn commands_run_and_every_step_is_reported() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let script =
        r#"echo "$SMACK_TASK_ID $SMACK_HOST $RAYON_NUM_THREADS $GIVEN"; echo oops >&2; test "$PWD" = "$SMACK_SANDBOX""#;
    let mut good = framework::shell("good", script);
    good.env.insert("GIVEN".into(), "gift".into());
    good.resources = Some(framework::resources(1.5));
    let tasks = vec![good, framework::shell("bad", "exit 3"), framework::shell("hurt", "kill -KILL $$")];
    framework.launch(tasks).await;

    for (task, state, exit_code) in
        [("good", TaskState::Finished, 0), ("bad", TaskState::Failed, 3), ("hurt", TaskState::Failed, -9)]
    {
        let last = framework.until_over(task).await;
        assert_eq!((last.state, last.exit_code), (state, exit_code), "{task}: {last:?}");
        assert_eq!(framework.states(task), [TaskState::Running, state], "{task}");
    }
    let endpoint = world.agent().http_address();
    let (status, head, body) = http::get(endpoint, "/sandboxes/good/stdout", None).await;
    assert_eq!((status, body.as_str()), (200, "good 127.0.0.1 2 gift\n"));
    assert!(head.contains("x-size: 22"), "{head}");
    let (_, _, body) = http::get(endpoint, "/sandboxes/good/stdout?offset=5&limit=9", None).await;
    assert_eq!(body, "127.0.0.1");
    assert_eq!(http::get(endpoint, "/sandboxes/good/stderr", None).await.2, "oops\n");
    let numbers = http::get(endpoint, "/metrics", None).await.2;
    for line in [
        "smack_agent_connected 1",
        "smack_agent_sandboxes 3",
        "smack_agent_tasks_started_total 3",
        r#"smack_agent_tasks_ended_total{how="done"} 1"#,
        r#"smack_agent_tasks_ended_total{how="failed"} 1"#,
        r#"smack_agent_tasks_ended_total{how="signal"} 1"#,
    ] {
        assert!(numbers.lines().any(|said| said == line), "{line} in {numbers}");
    }
    let numbers = http::get(world.master().address(), "/metrics", None).await.2;
    for line in [
        r#"smack_agents{state="active"} 1"#,
        "smack_tasks_launched_total 3",
        r#"smack_tasks_ended_total{state="finished"} 1"#,
        r#"smack_tasks_ended_total{state="failed"} 2"#,
        r#"smack_offers_ended_total{outcome="accepted"} 1"#,
    ] {
        assert!(numbers.lines().any(|said| said == line), "{line} in {numbers}");
    }
    // A page of another origin can have a browser ask here under that origin's name.
    for (address, path) in [(endpoint, "/sandboxes/good/stdout"), (world.master().address(), "/metrics")] {
        assert_eq!(http::get_as(address, "example.org:80", path, None).await.0, 403, "{path}");
        assert_eq!(http::get_as(address, "localhost", path, None).await.0, 200, "{path}");
    }
    for path in ["/sandboxes/good/plan.json", "/sandboxes/none/stdout", "/sandboxes/..%2F../tasks.redb"] {
        assert_eq!(http::get(endpoint, path, None).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_task_without_a_command_is_given_its_plan() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let task = v1::TaskInfo { argv: vec![], plan: b"{\"job\":1}".to_vec(), ..framework::shell("planned", "") };
    framework.launch(vec![task]).await;
    assert_eq!(framework.until_over("planned").await.state, TaskState::Finished);
    let (_, _, body) = http::get(world.agent().http_address(), "/sandboxes/planned/stdout", None).await;
    assert_eq!(body, "task --plan {\"job\":1}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let mut task = framework::shell("missing", "");
    task.argv = vec!["/no/such/program".into()];
    framework.launch(vec![task]).await;
    let last = framework.until_over("missing").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::LaunchFailed), "{last:?}");
    assert!(last.message.contains("/no/such/program"), "{last:?}");
}

#[tokio::test]
async fn a_kill_is_gentle_first_and_takes_the_whole_tree() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let gentle = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let stubborn = "trap '' TERM; sleep 600 & echo $!; while :; do sleep 0.02; done";
    framework.launch(vec![framework::shell("gentle", gentle), framework::shell("stubborn", stubborn)]).await;
    let endpoint = world.agent().http_address();
    world.output(endpoint, "gentle").await;
    let child: i32 = world.output(endpoint, "stubborn").await.trim().parse().expect("a process id");

    framework.kill("gentle", 60_000).await;
    framework.kill("stubborn", 50).await;
    for task in ["gentle", "stubborn"] {
        let last = framework.until_over(task).await;
        assert_eq!(last.state, TaskState::Killed, "{last:?}");
    }
    assert_eq!(http::get(endpoint, "/sandboxes/gentle/stdout", None).await.2, "ready\nbye\n");
    eventually("the stubborn task's child ends", || !world::lives(child)).await;
}

/// Nothing by itself: agents start this program again to run only this, as what starts their tasks.
#[test]
fn body_of_the_keeper_process() {
    world::be_a_keeper_if_told();
}

#[tokio::test]
async fn a_service_runs_once_it_is_healthy_and_is_ended_when_it_is_no_longer() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let probe = v1::CommandProbe { argv: vec!["test".into(), "-e".into(), "well".into()] };
    let health = v1::HealthCheck {
        probe: Some(v1::health_check::Probe::Command(probe)),
        interval_ms: 20,
        timeout_ms: 10_000,
        grace_ms: 60_000,
        failures: 3,
    };
    let watched = v1::TaskInfo { health: Some(health), ..framework::shell("t", "echo here; sleep 600") };
    framework.launch(vec![watched]).await;
    framework.until("t", TaskState::Starting).await;
    let well = world.path("agent/sandboxes").join(&framework.id).join("t/well");
    std::fs::write(&well, "").expect("it becomes well");
    framework.until("t", TaskState::Running).await;
    std::fs::remove_file(&well).expect("it falls ill");
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::Unhealthy), "{last:?}");
    assert!(last.message.contains("3 health checks in a row failed, the last: test ended with"), "{last:?}");
}

#[tokio::test]
async fn a_task_that_runs_for_too_long_is_ended() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let task = v1::TaskInfo { max_completion_ms: 50, ..framework::shell("t", "sleep 600") };
    framework.launch(vec![task]).await;
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::TimedOut), "{last:?}");
    assert!(last.message.contains("than the 50 ms that it may"), "{last:?}");
}

/// On a machine that permits no control groups it only sees that the task runs all the same.
#[tokio::test]
async fn a_task_that_wants_too_much_memory_is_ended_and_the_numbers_are_said() {
    let world = World::isolated().await;
    let mut framework = world.framework().await;
    // Nobody ends a line here, so all of it is kept in memory.
    let script = "head -c 200000000 /dev/zero | tail >/dev/null; exit 9";
    framework.launch(vec![framework::shell("greedy", script)]).await;
    let last = framework.until_over("greedy").await;
    let isolation = framework.attributes.get("isolation").map(String::as_str).expect("the agent says what it has");
    if !isolation.contains("memory") {
        println!("isolation here: {isolation}; nobody was ended");
        return assert_eq!((last.state, last.exit_code), (TaskState::Failed, 9), "{last:?}");
    }
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::OutOfMemory), "{last:?}");
    assert!(last.message.starts_with("out of memory: used ") && last.message.ends_with("limit of 16 MiB"), "{last:?}");
    // Its group is gone, and one that stays within its limit is not troubled.
    framework.launch(vec![framework::shell("modest", "cat /proc/self/cgroup")]).await;
    assert_eq!(framework.until_over("modest").await.state, TaskState::Finished);
    let groups = http::get(world.agent().http_address(), "/sandboxes/modest/stdout", None).await.2;
    let group = groups.lines().find(|line| line.contains("smack.")).expect("it ran in a group of its own");
    let name = group.rsplit('/').next().expect("a name");
    let is_there = |tree: &str| {
        Path::new("/sys/fs/cgroup")
            .join(tree)
            .read_dir()
            .is_ok_and(|mut dirs| dirs.any(|dir| dir.is_ok_and(|dir| dir.path().join(name).exists())))
    };
    assert!(!is_there("") && !is_there("cpu") && !is_there("pids"), "{name} is left");
}

/// One that ends as it likes when it is asked to, however long that takes.
fn patient(task_id: &str, script: &str) -> v1::TaskInfo {
    v1::TaskInfo { kill_grace_ms: 60_000, ..framework::shell(task_id, script) }
}

#[tokio::test]
async fn an_agent_is_drained_and_used_again() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    let script = "trap 'exit 0' TERM; echo here; while :; do sleep 0.02; done";
    framework.launch(vec![patient("t", script)]).await;
    world.output(world.agent().http_address(), "t").await;
    framework.until("t", TaskState::Running).await;
    let agent_id = world.agent().agent_id().to_string();
    let drain = |deadline_ms| {
        let agent_id = agent_id.clone();
        v1::operate_request::Call::Drain(v1::DrainAgent { agent_id, deadline_ms, ..v1::DrainAgent::default() })
    };
    let undrain = v1::operate_request::Call::Undrain(v1::UndrainAgent { agent_id: agent_id.clone() });
    let refused = world.operate(undrain.clone()).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("is not being drained"), "{refused}");

    world.operate(drain(Some(600_000))).await.expect("drains");
    assert_eq!(framework.until_drains().await.agent_id, agent_id);
    // The master's successor knows, and ends the task at the new deadline.
    world.crash_master().await;
    world.start_master().await;
    let mut framework = world.framework_again(&framework).await;
    framework.until_drains().await;
    world.operate(drain(Some(1))).await.expect("drains sooner");
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.exit_code), (TaskState::Killed, 0), "{last:?}");
    assert!(!framework.has_offer());
    world.operate(undrain).await.expect("is used again");
    framework.until_offered().await;
}

/// Nothing by itself: the next test starts this program again to run only this, as an agent.
#[tokio::test]
async fn body_of_the_agent_process() {
    world::be_an_agent_if_told().await;
}

#[tokio::test]
async fn daemons_that_are_asked_to_stop_end_what_they_hold() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    framework.launch(vec![patient("t", script)]).await;
    world.output(world.agent().http_address(), "t").await;
    world.stop_agent().await;
    world.stop_master().await;
    framework.until_ended().await;

    world.start_master().await;
    world.start_agent().await;
    let endpoint = world.agent().http_address();
    assert_eq!(http::get(endpoint, "/sandboxes/t/stdout", None).await.2, "ready\nbye\n");
    let mut framework = world.framework_again(&framework).await;
    assert_eq!(framework.until_over("t").await.state, TaskState::Finished);
}

#[tokio::test]
async fn a_master_that_crashed_finds_everything_again() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    let gate = world.path("gate");
    let wait = |gate: &Path| format!("echo $$; while ! test -e {}; do sleep 0.02; done", gate.display());
    framework.launch(vec![framework::shell("stays", &wait(&gate)), framework::shell("ends", &wait(&gate))]).await;
    let endpoint = world.agent().http_address();
    let pid: i32 = world.output(endpoint, "stays").await.trim().parse().expect("a process id");
    framework.until("stays", TaskState::Running).await;
    framework.until("ends", TaskState::Running).await;

    // Twice, so that what the second master knows can only come from the registry and from those who came back.
    for epoch in 2..4 {
        world.crash_master().await;
        world.start_master().await;
        assert_eq!(world.master().leader_epoch(), epoch);
        let mut again = world.framework_again(&framework).await;
        assert_eq!(again.id, framework.id);
        assert!(world::lives(pid));
        again.reconcile_until("stays", TaskState::Running).await;
        framework = again;
    }
    // An update made while no master is there is kept for the next one.
    world.crash_master().await;
    std::fs::write(&gate, "").expect("opens the gate");
    eventually("the tasks end", || !world::lives(pid)).await;
    world.start_master().await;
    let mut framework = world.framework_again(&framework).await;
    for task in ["stays", "ends"] {
        assert_eq!(framework.until_over(task).await.state, TaskState::Finished);
    }
}

#[tokio::test]
async fn a_framework_without_tasks_is_remembered_and_an_ended_one_is_not_taken_back() {
    let mut world = World::without_agent(None).await;
    let (idle, mut ended) = (world.framework().await, world.framework().await);
    ended.send(Call::Teardown(v1::Teardown {})).await;
    ended.until_ended().await;
    world.crash_master().await;
    world.start_master().await;

    assert_eq!(world.framework_again(&idle).await.id, idle.id);
    let refused = Framework::try_subscribe(world.master().address(), Some(ended.id.clone()), None).await;
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains(&ended.id), "{refused}");
}

#[tokio::test]
async fn who_has_no_token_is_refused_everywhere() {
    let token = daemon::door::Token::new("open sesame".replace(' ', "-").as_str()).expect("a token");
    let world = World::with_token(Some(token.clone())).await;
    let master = world.master().address();
    for wrong in [None, daemon::door::Token::new("guess")] {
        let refused = Framework::try_subscribe(master, None, wrong.clone()).await.expect_err("refused");
        assert!(!refused.is_temporary() && refused.to_string().contains("--token-file"), "{refused}");
        for (address, path) in [(master, "/health"), (world.agent().http_address(), "/sandboxes/t/stdout")] {
            assert_eq!(http::get(address, path, wrong.as_ref()).await.0, 401, "{path}");
        }
    }
    assert_eq!(http::get(master, "/health", Some(&token)).await.0, 200);
    assert_eq!(http::get(world.agent().http_address(), "/health", Some(&token)).await.0, 200);
    // The agent shows it too, so a task runs.
    let mut framework = world.framework().await;
    framework.launch(vec![framework::shell("t", "true")]).await;
    assert_eq!(framework.until_over("t").await.state, TaskState::Finished);
}

#[tokio::test]
async fn other_machines_are_let_in_only_with_a_token() {
    let dir = tempfile::tempdir().expect("a directory");
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let mut config = daemon::master::MasterConfig::new(dir.path().join("master"));
    config.listen = everywhere;
    let refused = daemon::master::start(config).await.err().expect("refused").to_string();
    assert!(refused.contains("0.0.0.0:0") && refused.contains("--token-file"), "{refused}");
    let mut config = daemon::agent::AgentConfig::new("127.0.0.1:1", dir.path().join("agent")).expect("a config");
    config.listen = everywhere;
    let refused = daemon::agent::start(config).await.err().expect("refused").to_string();
    assert!(refused.contains("0.0.0.0:0") && refused.contains("--token-file"), "{refused}");
}

#[tokio::test]
async fn a_second_daemon_in_a_directory_is_refused() {
    let world = World::start().await;
    let refused = world.second_agent().await.to_string();
    assert!(refused.contains("another agent runs in it") && refused.contains("--data-dir"), "{refused}");
    let refused = world.second_master().await.to_string();
    assert!(refused.contains("another master has it open"), "{refused}");
}

#[tokio::test]
async fn malformed_messages_end_only_their_own_connection() {
    let world = World::start().await;
    let mut bystander = world.framework().await;

    let version = v1::FrameworkCalls { protocol_version: 7, calls: vec![] };
    let refused = framework::say_raw(world.master().address(), version).await;
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("protocol_version"), "{refused}");

    let mut task = framework::shell("t", "true");
    task.resources = Some(v1::Resources { ports: vec![v1::PortRange { low: 1, high: 70_000 }], ..Default::default() });
    let accept =
        v1::AcceptOffers { offer_ids: vec!["o".into()], launch: vec![task], refuse_ms: None, operations: vec![] };
    let calls = vec![v1::FrameworkCall { call: Some(Call::Accept(accept)) }];
    let refused = framework::say_raw(world.master().address(), v1::FrameworkCalls { protocol_version: 1, calls }).await;
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("calls[0].accept.launch[0].resources.ports[0].high"), "{refused}");

    bystander.launch(vec![framework::shell("t", "true")]).await;
    assert_eq!(bystander.until_over("t").await.state, TaskState::Finished);
}
