//! A real master, a real agent and a framework over gRPC, in one process: what each promises the others.
//!
//! Nothing here waits for a fixed time: every wait is for something seen, with one generous limit for the whole.

mod framework;
mod http;
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

#[tokio::test]
async fn an_agent_that_crashed_finds_its_tasks_again() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    let gate = world.path("gate");
    let wait = |code: i32| format!("echo $$; while ! test -e {}; do sleep 0.02; done; exit {code}", gate.display());
    let tasks = [("stays", "trap 'exit 7' TERM; echo $$; while :; do sleep 0.02; done"), ("ends", &wait(3))];
    framework.launch(tasks.map(|(task, script)| framework::shell(task, script)).to_vec()).await;
    let mut pids = Vec::new();
    for task in ["stays", "ends"] {
        framework.until(task, TaskState::Running).await;
        pids.push(world.output(world.agent().http_address(), task).await.trim().parse::<i32>().expect("a process id"));
    }

    let agent_id = world.agent().agent_id().clone();
    world.crash_agent().await;
    std::fs::write(&gate, "").expect("opens the gate");
    eventually("one task ends while no agent is there", || !world::lives(pids[1])).await;
    world.start_agent().await;
    assert_eq!(world.agent().agent_id(), &agent_id);
    let last = framework.until_over("ends").await;
    assert_eq!((last.state, last.reason, last.exit_code), (TaskState::Failed, Reason::Exited, 3), "{last:?}");
    assert!(world::lives(pids[0]));

    // Twice, and what was found is obeyed and seen as if nothing had been.
    world.crash_agent().await;
    world.start_agent().await;
    assert!(world::lives(pids[0]));
    framework.kill("stays", 60_000).await;
    let last = framework.until_over("stays").await;
    assert_eq!((last.state, last.exit_code), (TaskState::Killed, 7), "{last:?}");
    assert_eq!(framework.states("stays"), [TaskState::Running, TaskState::Killing, TaskState::Killed]);

    framework.launch(vec![framework::shell("next", "true")]).await;
    assert_eq!(framework.until_over("next").await.state, TaskState::Finished);
}

/// Nothing by itself: agents start this program again to run only this, as what starts their tasks.
#[test]
fn body_of_the_keeper_process() {
    world::be_a_keeper_if_told();
}

/// Nothing by itself: the next test starts this program again to run only this, as an agent.
#[tokio::test]
async fn body_of_the_agent_process() {
    world::be_an_agent_if_told().await;
}

fn pid_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())
}

#[tokio::test]
async fn a_killed_agent_process_leaves_its_tasks_to_the_next() {
    let world = World::without_agent(None).await;
    let mut agent = world.spawn_agent(600_000);
    let mut framework = world.framework().await;
    let (task, gate) = (world.path("task"), world.path("gate"));
    let script =
        format!("echo $$ >{}; while ! test -e {}; do sleep 0.02; done; exit 5", task.display(), gate.display());
    framework.launch(vec![framework::shell("t", &script)]).await;
    framework.until("t", TaskState::Running).await;
    eventually("the task says its process id", || pid_in(&task).is_some()).await;
    let pid = pid_in(&task).expect("a process id");

    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGUSR2] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent.id() as i32), signal).expect("it is told");
        agent.wait().expect("the agent process ended");
        agent = world.spawn_agent(600_000);
    }
    framework.reconcile_until("t", TaskState::Running).await;
    assert!(world::lives(pid));
    std::fs::write(&gate, "").expect("opens the gate");
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.exit_code), (TaskState::Failed, 5), "{last:?}");
    agent.kill().expect("the agent process is killed");
    agent.wait().expect("the agent process ended");
}

#[tokio::test]
async fn tasks_whose_agent_stays_away_end_by_themselves() {
    let mut world = World::without_agent(None).await;
    let mut agent = world.spawn_agent(400);
    let mut framework = world.framework().await;
    let (task, child) = (world.path("task"), world.path("child"));
    // The child has left the task's group and session, and neither of them listens.
    let script = format!(
        "trap '' TERM; setsid sh -c 'echo $$ >{}; sleep 600' & echo $$ >{}; while :; do sleep 0.02; done",
        child.display(),
        task.display()
    );
    let task_info = v1::TaskInfo { kill_grace_ms: 100, ..framework::shell("t", &script) };
    framework.launch(vec![task_info]).await;
    framework.until("t", TaskState::Running).await;
    eventually("both say their process ids", || pid_in(&task).is_some() && pid_in(&child).is_some()).await;

    agent.kill().expect("the agent process is killed");
    agent.wait().expect("the agent process ended");
    eventually("the task and its child end", || {
        [&task, &child].iter().all(|path| pid_in(path).is_some_and(|pid| !world::lives(pid)))
    })
    .await;
    world.start_agent().await;
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::AgentRestarted), "{last:?}");
    assert!(last.message.contains("gone for too long"), "{last:?}");
}

#[tokio::test]
async fn what_keeps_tasks_may_be_killed_too() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let child = world.path("child");
    let script = format!("sleep 600 & echo $! >{}; echo here; wait", child.display());
    framework.launch(vec![framework::shell("t", &script)]).await;
    world.output(world.agent().http_address(), "t").await;
    let sandbox = world.path("agent/sandboxes").join(&framework.id).join("t");
    let (task, supervisor) = world::kept(&sandbox);

    // The zygote: the next start makes another. Its process is the parent of the supervisor.
    let stat = std::fs::read_to_string(format!("/proc/{supervisor}/stat")).expect("it lives");
    let zygote = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).expect("a parent");
    world::kill(zygote.parse().expect("a process id"));
    framework.launch(vec![framework::shell("next", "true")]).await;
    assert_eq!(framework.until_over("next").await.state, TaskState::Finished);
    assert!(world::lives(task));

    // The supervisor takes everything of its task with it, and that is said.
    world::kill(supervisor);
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::Exited), "{last:?}");
    assert!(last.message.contains("supervisor"), "{last:?}");
    assert!(!world::lives(task) && !world::lives(pid_in(&child).expect("a process id")));
}

#[tokio::test]
async fn daemons_that_are_asked_to_stop_end_what_they_hold() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    framework.launch(vec![framework::shell("t", script)]).await;
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
    task.resources = Some(v1::Resources { scalars: vec![], ports: vec![v1::PortRange { low: 1, high: 70_000 }] });
    let accept = v1::AcceptOffers { offer_ids: vec!["o".into()], launch: vec![task], refuse_ms: None };
    let calls = vec![v1::FrameworkCall { call: Some(Call::Accept(accept)) }];
    let refused = framework::say_raw(world.master().address(), v1::FrameworkCalls { protocol_version: 1, calls }).await;
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("calls[0].accept.launch[0].resources.ports[0].high"), "{refused}");

    bystander.launch(vec![framework::shell("t", "true")]).await;
    assert_eq!(bystander.until_over("t").await.state, TaskState::Finished);
}
