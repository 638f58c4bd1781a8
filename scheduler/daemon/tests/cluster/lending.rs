//! What tasks do not use is lent to others, and taken back when they do: with real processes, as the kernel counts them.

use crate::framework::{self, Framework};
use crate::world::{World, eventually, kept};
use jobs::{Reason, Resources, TaskState};
use std::fs;
use wire::v1;
use wire::v1::framework_call::Call;

fn lent() -> v1::Resources {
    daemon::convert::resources_to(&Resources::new().cpus(0.5).mem_mib(128.0).revocable())
}

async fn want(framework: &Framework, shapes: &[v1::Resources]) {
    let demand = |shape: &v1::Resources| v1::Demand { shape: Some(shape.clone()), count: 1, ..Default::default() };
    let demands = shapes.iter().map(demand).collect();
    framework.send(Call::Demand(v1::PostDemand { demands })).await;
}

#[tokio::test]
async fn what_a_task_does_not_use_is_lent_until_it_does() {
    let mut world = World::lending().await;
    let mut framework = world.framework().await;
    let all = daemon::convert::resources_to(&Resources::new().cpus(1.0).mem_mib(256.0));
    want(&framework, std::slice::from_ref(&all)).await;
    let go = world.path("go");
    let wait = format!("while ! [ -e {} ]; do sleep 0.1; done", go.display());
    let script = format!("{wait}; (head -c 170000000 /dev/zero; exec sleep 600) | tail");
    let owner = v1::TaskInfo { resources: Some(all), ..framework::shell("owner", &script) };
    framework.launch(vec![owner]).await;
    framework.until("owner", TaskState::Running).await;

    // It has all that there is, and hardly uses it.
    want(&framework, &[lent()]).await;
    let guest = |id: &str| v1::TaskInfo { resources: Some(lent()), ..framework::shell(id, "exec sleep 600") };
    framework.launch(vec![guest("guest")]).await;
    framework.until("guest", TaskState::Running).await;
    let (pid, _) = kept(&world.path("agent/sandboxes").join(&framework.id).join("guest"));
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it is there");
    assert_eq!(score.trim(), "1000", "the first to go when memory is short");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let nice = stat.rsplit_once(')').and_then(|(_, after)| after.split_whitespace().nth(16)).expect("a number");
    assert_eq!(nice, "19");

    // Both sides begin anew, and it goes on.
    world.crash_agent().await;
    world.crash_master().await;
    world.start_master().await;
    world.start_agent().await;
    let mut framework = world.framework_again(&framework).await;
    framework.reconcile_until("guest", TaskState::Running).await;

    fs::write(&go, "").expect("writes");
    let last = framework.until_over("guest").await;
    assert_eq!((last.state, last.reason), (TaskState::Killed, Reason::Revoked), "{last:?}");
    assert!(last.message.starts_with("ran on mem 128 MiB, which was only lent: "), "{}", last.message);
    framework.reconcile_until("owner", TaskState::Running).await;
    eventually("the guest is gone", || !fs::exists(format!("/proc/{pid}")).unwrap_or(true)).await;
}
