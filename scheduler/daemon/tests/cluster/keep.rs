//! Tasks outlive their agent, and nothing else: what the next agent finds, and who ends with whom.

use crate::framework;
use crate::world::{self, World, eventually};
use jobs::{Reason, TaskState};
use std::path::Path;
use wire::v1;

fn pid_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())
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
    framework.until("t", TaskState::Running).await;
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
