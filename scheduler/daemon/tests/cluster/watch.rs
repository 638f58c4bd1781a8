//! Those who watch hear of all that happens, in order, over gRPC and over HTTP; whoever does not listen is cut off.

use crate::framework;
use crate::http::{self, Listening};
use crate::world::{PATIENCE, World};
use daemon::client::{self, FrameworkClient};
use daemon::door::Token;
use jobs::TaskState;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use wire::v1;
use wire::v1::cluster_event::Event;
use wire::v1::framework_call::Call;
use wire::v1::master_client::MasterClient;
use wire::v1::operate_request::Call as Operation;

const WATCH: v1::WatchRequest = v1::WatchRequest { protocol_version: wire::PROTOCOL_VERSION };

/// Somebody who watches, and checks that nothing is left out.
struct Watcher {
    stream: Streaming<v1::ClusterEvents>,
    snapshot: v1::StateResponse,
    /// Of the latest change.
    number: u64,
    heard: std::vec::IntoIter<v1::ClusterEvent>,
}

impl Watcher {
    async fn begin(address: SocketAddr) -> Self {
        let mut master = client::master(&address.to_string(), None).await.expect("connects");
        Self::of(master.watch(WATCH).await.expect("watches").into_inner()).await
    }

    async fn of(mut stream: Streaming<v1::ClusterEvents>) -> Self {
        let first = timeout(PATIENCE, stream.message()).await.expect("is told").expect("no error").expect("a message");
        assert_eq!((first.heartbeat_ms, first.events.len()), (200, 0));
        let (snapshot, heard) = (first.snapshot.expect("all that there is"), first.events.into_iter());
        Self { stream, snapshot, number: first.number, heard }
    }

    /// The next change, or how the stream ended.
    async fn hear(&mut self) -> Result<Event, Option<Status>> {
        loop {
            if let Some(v1::ClusterEvent { number, at_ms, event }) = self.heard.next() {
                assert_eq!(number, self.number + 1, "{event:?}");
                assert!(at_ms > 1_700_000_000_000);
                self.number = number;
                return Ok(event.expect("something"));
            }
            match timeout(PATIENCE, self.stream.message()).await.expect("is told") {
                Ok(Some(message)) => {
                    assert!(message.snapshot.is_none() && message.number == 0, "{message:?}");
                    self.heard = message.events.into_iter();
                }
                Ok(None) => return Err(None),
                Err(status) => return Err(Some(status)),
            }
        }
    }

    async fn next(&mut self) -> Event {
        self.hear().await.expect("the stream goes on")
    }

    async fn update(&mut self, framework: &str, task: &str) -> v1::TaskStatus {
        let Event::TaskUpdated(v1::TaskUpdated { framework_id, status }) = self.next().await else {
            panic!("no update of {task}")
        };
        let status = status.expect("a status");
        assert_eq!((framework_id.as_str(), status.task_id.as_str(), status.uuid.as_str()), (framework, task, ""));
        status
    }
}

#[tokio::test]
async fn a_watcher_hears_of_all_that_happens_in_order() {
    let mut world = World::without_agent(None).await;
    let address = world.master().address();
    let mut watcher = Watcher::begin(address).await;
    assert_eq!(watcher.snapshot, v1::StateResponse { leader_epoch: 1, ..v1::StateResponse::default() });
    let quiet = timeout(PATIENCE, watcher.stream.message()).await.expect("a heartbeat").expect("no error");
    assert_eq!(quiet, Some(v1::ClusterEvents::default()));

    world.start_agent().await;
    let Event::AgentAdded(agent) = watcher.next().await else { panic!("no agent") };
    let agent_id = agent.agent.expect("a description").agent_id;
    assert_eq!((agent_id.as_str(), agent.state.as_str()), (world.agent().agent_id().as_str(), "active"));

    let mut framework = world.framework().await;
    let Event::RoleAdded(role) = watcher.next().await else { panic!("no role") };
    assert_eq!((role.role.as_str(), role.weight), ("test", 1.0));
    let Event::FrameworkAdded(added) = watcher.next().await else { panic!("no framework") };
    assert_eq!((&added.framework_id, added.role.as_str(), added.connected), (&framework.id, "test", true));

    framework.launch(vec![framework::shell("t", "exit 3")]).await;
    assert_eq!(framework.until_over("t").await.state, TaskState::Failed);
    let Event::TaskAdded(task) = watcher.next().await else { panic!("no task") };
    assert_eq!((task.task_id.as_str(), task.state()), ("t", v1::TaskState::Staging));
    assert_eq!((&task.framework_id, &task.agent_id), (&framework.id, &agent_id));
    assert_eq!(watcher.update(&framework.id, "t").await.state(), v1::TaskState::Running);
    let last = watcher.update(&framework.id, "t").await;
    assert_eq!((last.state(), last.reason(), last.exit_code), (v1::TaskState::Failed, v1::Reason::Exited, 3));
    let forgotten = v1::TaskForgotten { framework_id: framework.id.clone(), task_id: "t".into() };
    assert_eq!(watcher.next().await, Event::TaskForgotten(forgotten));

    // Who begins now is told what there is.
    let mut late = Watcher::begin(address).await;
    assert_eq!((late.snapshot.agents.len(), late.snapshot.frameworks.len(), late.snapshot.tasks.len()), (1, 1, 0));
    let drain = v1::DrainAgent { agent_id: agent_id.clone(), ..v1::DrainAgent::default() };
    world.operate(Operation::Drain(drain)).await.expect("is drained");
    let Event::AgentChanged(agent) = watcher.next().await else { panic!("no drain") };
    assert_eq!((agent.state.as_str(), agent.drained_by_ms), ("drained", None));
    world
        .operate(Operation::SetWeight(v1::SetWeight { role: "test".into(), weight_milli: 2_500 }))
        .await
        .expect("is set");
    let Event::RoleChanged(role) = watcher.next().await else { panic!("no weight") };
    assert_eq!(role.weight, 2.5);

    let framework_id = framework.id.clone();
    drop(framework);
    let Event::FrameworkChanged(away) = watcher.next().await else { panic!("nobody is away") };
    assert_eq!((&away.framework_id, away.connected), (&framework_id, false));
    let framework = framework::Framework::subscribe(address, Some(framework_id.clone()), None).await;
    let Event::FrameworkChanged(back) = watcher.next().await else { panic!("nobody is back") };
    assert!(back.connected);
    framework.send(Call::Teardown(v1::Teardown {})).await;
    assert_eq!(watcher.next().await, Event::FrameworkRemoved(v1::FrameworkRemoved { framework_id }));
    let gone = v1::GoneAgent { agent_id: agent_id.clone(), force: true };
    world.operate(Operation::Gone(gone)).await.expect("is gone");
    assert_eq!(watcher.next().await, Event::AgentRemoved(v1::AgentRemoved { agent_id }));

    while late.number < watcher.number {
        late.next().await;
    }
    world.stop_master().await;
    assert!(watcher.hear().await.is_err() && late.hear().await.is_err(), "a master that stops ends the stream");
}

async fn until_told(master: SocketAddr, number: &str) {
    let begun = Instant::now();
    while !http::get(master, "/metrics", None).await.2.lines().any(|line| line == number) {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {number}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_listen_is_cut_off_and_the_master_goes_on() {
    let world = World::without_agent(None).await;
    let master = world.master().address();
    let subscribe = v1::Subscribe { name: "restless".into(), role: "test".into(), ..v1::Subscribe::default() };
    let restless = FrameworkClient::subscribe(&master.to_string(), None, subscribe).await.expect("subscribes");
    let endpoint = Endpoint::from_shared(format!("http://{master}")).expect("an address");
    // What has been sent is little, so that it is the master where it piles up.
    let channel = endpoint.initial_stream_window_size(4_096).connect().await.expect("connects");
    let mut deaf = Watcher::of(MasterClient::new(channel).watch(WATCH).await.expect("watches").into_inner()).await;
    until_told(master, "smack_watchers 1").await;
    for _ in 0..40 {
        let both = || [Call::Suppress(v1::Suppress {}), Call::Revive(v1::Revive {})];
        restless.client.send((0..1_000).flat_map(|_| both()).collect()).await.expect("is sent");
    }
    until_told(master, "smack_watchers_cut_off_total 1").await;
    until_told(master, "smack_watchers 0").await;
    let status = loop {
        match deaf.hear().await {
            Ok(Event::FrameworkChanged(_)) => {}
            Ok(other) => panic!("nobody did {other:?}"),
            Err(status) => break status.expect("a last word"),
        }
    };
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "fell behind; watch again"));

    let mut again = Watcher::begin(master).await;
    assert_eq!(again.snapshot.frameworks.len(), 1);
    world
        .operate(Operation::SetWeight(v1::SetWeight { role: "test".into(), weight_milli: 500 }))
        .await
        .expect("is set");
    // What the restless one said last may still be on its way.
    while matches!(again.next().await, Event::FrameworkChanged(_)) {}
    drop(again);
    until_told(master, "smack_watchers 0").await;

    let wrong = v1::WatchRequest { protocol_version: 7 };
    let mut door = client::master(&master.to_string(), None).await.expect("connects");
    let refused = door.watch(wrong).await.expect_err("is refused");
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("protocol_version"), "{refused}");
}

/// The next that is no heartbeat.
async fn happened(events: &mut Listening) -> Option<(String, serde_json::Value)> {
    loop {
        let said = events.next().await?;
        if said.0 != "heartbeat" {
            return Some(said);
        }
    }
}

#[tokio::test]
async fn the_same_is_told_as_server_sent_events() {
    let token = Token::new("s3cret").expect("a token");
    let mut world = World::without_agent(Some(token.clone())).await;
    let master = world.master().address();
    assert_eq!(http::get(master, "/events", None).await.0, 401);
    let mut events = Listening::begin(master, "/events", Some(&token)).await;
    let (name, snapshot) = events.next().await.expect("a snapshot");
    let counts = ["leader_epoch", "number", "heartbeat_ms"].map(|name| snapshot[name].as_u64());
    assert_eq!((name.as_str(), counts), ("snapshot", [Some(1), Some(0), Some(200)]));
    assert_eq!((&snapshot["agents"], &snapshot["volumes"]), (&serde_json::json!([]), &serde_json::json!([])));

    world.start_agent().await;
    let (name, agent) = happened(&mut events).await.expect("an agent");
    assert_eq!((name.as_str(), &agent["total"]["scalars"]["cpus"]), ("agent_added", &4.0.into()), "{agent}");
    let agent_id = world.agent().agent_id().to_string();
    assert_eq!((&agent["agent_id"], &agent["state"]), (&agent_id.as_str().into(), &"active".into()));
    let mut framework = world.framework().await;
    framework.launch(vec![framework::shell("t", "exit 3")]).await;
    framework.until_over("t").await;
    world.operate(Operation::Gone(v1::GoneAgent { agent_id, force: true })).await.expect("is gone");

    let expected = [
        "role_added",
        "framework_added",
        "task_added",
        "task_updated",
        "task_updated",
        "task_forgotten",
        "agent_removed",
    ];
    let mut states = Vec::new();
    for (number, expected) in (2..).zip(expected) {
        let (name, event) = happened(&mut events).await.expect("an event");
        assert_eq!((name.as_str(), event["number"].as_u64()), (expected, Some(number)), "{event}");
        if name.starts_with("task_") {
            assert_eq!((&event["framework_id"], &event["task_id"]), (&framework.id.as_str().into(), &"t".into()));
            states.push([&event["state"], &event["reason"], &event["exit_code"]].map(ToString::to_string).join(" "));
        }
    }
    let expected = [r#""staging" null null"#, r#""running" "none" null"#, r#""failed" "exited" 3"#, "null null null"];
    assert_eq!(states, expected);
    world.stop_master().await;
    while events.next().await.is_some() {}
}
