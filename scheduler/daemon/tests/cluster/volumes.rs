//! Volumes and disk, with a real master, agent and processes.

use crate::framework::{self, Framework};
use crate::world::{World, eventually};
use jobs::{Reason, TaskState};
use wire::v1;
use wire::v1::framework_call::Call;

fn claim() -> v1::VolumeClaim {
    v1::VolumeClaim { name: "data".into(), disk_milli: 8_000, path: "kept/data".into() }
}

fn with_volume(task_id: &str, script: &str) -> v1::TaskInfo {
    v1::TaskInfo { volumes: vec![claim()], ..framework::shell(task_id, script) }
}

async fn demand(framework: &Framework) {
    let shape = framework::shell("", "").resources;
    let wanted = v1::Demand { name: "d".into(), shape, count: 1, volumes: vec![claim()], ..Default::default() };
    framework.send(Call::Demand(v1::PostDemand { demands: vec![wanted] })).await;
}

#[tokio::test]
async fn what_a_task_left_is_found_by_the_next_over_restarts_of_agent_and_master() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    demand(&framework).await;
    let write = "echo one > kept/data/words; echo two > $SMACK_VOLUME_KEPT_DATA/more; echo done";
    framework.launch(vec![with_volume("first", write)]).await;
    assert_eq!(framework.until_over("first").await.state, TaskState::Finished);
    let data = world.path("agent/volumes/test/data/data");
    assert!(data.join("words").exists() && data.join("more").exists());

    world.crash_agent().await;
    world.crash_master().await;
    world.start_master().await;
    let mut framework = world.framework_again(&framework).await;
    demand(&framework).await;
    world.start_agent().await;
    framework.launch(vec![with_volume("second", "cat kept/data/words kept/data/more")]).await;
    assert_eq!(framework.homes.get("data"), Some(&world.agent().agent_id().to_string()));
    assert_eq!(framework.until_over("second").await.state, TaskState::Finished);
    assert_eq!(world.output(world.agent().http_address(), "second").await, "one\ntwo\n");

    let remove = |role: &str| {
        let (role, name) = (role.to_string(), "data".to_string());
        v1::operate_request::Call::RemoveVolume(v1::RemoveVolume { role, name, agent_id: String::new() })
    };
    let refused = world.operate(remove("other")).await.expect_err("there is none");
    assert!(refused.message().contains("there is no volume data of role other"), "{refused}");
    world.operate(remove("test")).await.expect("is removed");
    eventually("the volume is gone", || !data.exists()).await;
    demand(&framework).await;
    framework.launch(vec![with_volume("third", "ls -A kept/data; echo empty")]).await;
    assert_eq!(framework.until_over("third").await.state, TaskState::Finished);
    assert_eq!(world.output(world.agent().http_address(), "third").await, "empty\n");
}

#[tokio::test]
async fn a_task_that_writes_more_than_it_may_is_ended() {
    let world = World::start().await;
    let mut framework = world.framework().await;
    let mut resources = framework::resources(0.5);
    resources.scalars.push(v1::Scalar { name: "disk".into(), milli: 2_000 });
    let script = "head -c 4000000 /dev/urandom > much; sleep 600";
    let task = v1::TaskInfo { resources: Some(resources), ..framework::shell("t", script) };
    framework.launch(vec![task]).await;
    let last = framework.until_over("t").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::OutOfDisk), "{last:?}");
    assert!(last.message.starts_with("its sandbox has ") && last.message.contains("may have 2 MiB"), "{last:?}");

    demand(&framework).await;
    let fill = "head -c 9000000 /dev/urandom > kept/data/much; sleep 600";
    framework.launch(vec![with_volume("u", fill)]).await;
    let last = framework.until_over("u").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::OutOfDisk), "{last:?}");
    assert!(last.message.starts_with("volume data has ") && last.message.contains("may have 8 MiB"), "{last:?}");
}

#[tokio::test]
async fn who_is_declared_gone_takes_its_volumes_along() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    demand(&framework).await;
    framework.launch(vec![with_volume("first", "echo old > kept/data/words")]).await;
    assert_eq!(framework.until_over("first").await.state, TaskState::Finished);
    let agent_id = world.agent().agent_id().to_string();
    let gone = v1::GoneAgent { agent_id: agent_id.clone(), force: true };
    world.operate(v1::operate_request::Call::Gone(gone)).await.expect("is declared gone");
    let ended = world.agent_ended().await.to_string();
    assert!(ended.contains("gone for ever"), "{ended}");

    // Another agent of the same folder begins with none.
    world.start_agent().await;
    assert_ne!(world.agent().agent_id().to_string(), agent_id);
    demand(&framework).await;
    framework.launch(vec![with_volume("second", "ls -A kept/data; echo empty")]).await;
    assert_eq!(framework.until_over("second").await.state, TaskState::Finished);
    assert_eq!(world.output(world.agent().http_address(), "second").await, "empty\n");
    let aside = std::fs::read_dir(world.path("agent")).expect("the folder").flatten();
    let aside: Vec<_> =
        aside.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("volumes-")).collect();
    let words = aside[0].join("test/data/data/words");
    assert_eq!(std::fs::read_to_string(words).expect("what was in it is kept"), "old\n");
}
