//! As whom tasks run, what they are told, and what is fetched for them: with real processes and users.

use crate::framework::{self, Framework};
use crate::world::{World, eventually, kept, kill};
use jobs::{Reason, TaskState};
use nix::unistd::{Uid, User};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wire::v1;

fn nobody() -> User {
    User::from_name("nobody").expect("can be asked").expect("is there")
}

/// Others than the agent's user may go through the world's directory. `None` where only root could do what the test is about.
async fn open_world(adjust: fn(&Path, &mut daemon::agent::AgentConfig)) -> Option<World> {
    if !Uid::effective().is_root() {
        eprintln!("not shown: this needs root, who alone may start processes of others");
        return None;
    }
    let world = World::with_agent(adjust).await;
    fs::set_permissions(world.path(""), Permissions::from_mode(0o711)).expect("opens it");
    let is_open = |dir: &Path| fs::metadata(dir).expect("it is there").mode() & 0o001 != 0;
    if let Some(closed) = world.path("").ancestors().find(|dir| !is_open(dir)) {
        eprintln!("not shown: {} is closed to other users; set TMPDIR to a folder that is not", closed.display());
        return None;
    }
    Some(world)
}

fn as_nobody(task_id: &str, script: &str) -> v1::TaskInfo {
    v1::TaskInfo { user: "nobody".into(), ..framework::shell(task_id, script) }
}

fn sandbox(world: &World, framework: &Framework, task: &str) -> PathBuf {
    world.path("agent/sandboxes").join(&framework.id).join(task)
}

#[tokio::test]
async fn a_task_of_another_user_has_that_users_rights_and_no_more() {
    let Some(mut world) = open_world(|_, _| {}).await else { return };
    let mut framework = world.framework().await;
    let script = "id -un; id -gn; echo $USER $HOME ${CARGO_MANIFEST_DIR:-none}; touch here && echo wrote; echo again >> /dev/stdout; \
                  pwd | grep -q \"$SMACK_SANDBOX\" && echo inside; \
                  echo x 2>/dev/null > ../.end || echo closed; rm ../stdout 2>/dev/null || echo kept; \
                  ls ../../.. 2>/dev/null || echo blind; cat ../../../../tasks.redb 2>/dev/null || echo deaf; \
                  mv .. /tmp/x 2>/dev/null || echo bound; echo done";
    framework.launch(vec![as_nobody("t", script)]).await;
    let last = framework.until_over("t").await;
    assert_eq!(last.state, TaskState::Finished, "{last:?}");
    let (user, endpoint) = (nobody(), world.agent().http_address());
    let group = nix::unistd::Group::from_gid(user.gid).expect("can be asked").expect("is there").name;
    let home = user.dir.display();
    let expected =
        format!("nobody\n{group}\nnobody {home} none\nwrote\nagain\ninside\nclosed\nkept\nblind\ndeaf\nbound\ndone\n");
    assert_eq!(world.output(endpoint, "t").await, expected);
    let owner = fs::metadata(sandbox(&world, &framework, "t").join("work/here")).expect("it is there").uid();
    assert_eq!(owner, user.uid.as_raw());

    // Whether it does its work is asked with its rights too; and what it leaves behind is ended with it.
    let probe =
        v1::CommandProbe { argv: ["sh", "-c", "test $(id -un) = nobody && test -e ready"].map(Into::into).to_vec() };
    let health = v1::HealthCheck {
        probe: Some(v1::health_check::Probe::Command(probe)),
        interval_ms: 50,
        timeout_ms: 5_000,
        grace_ms: 60_000,
        failures: 3,
    };
    let script = "setsid sleep 600 & touch ready; exec sleep 600";
    framework.launch(vec![v1::TaskInfo { health: Some(health), ..as_nobody("service", script) }]).await;
    framework.until("service", TaskState::Running).await;

    // The next agent finds it, and one whose supervisor was killed is ended, with all that it started.
    world.crash_agent().await;
    world.start_agent().await;
    framework.reconcile_until("service", TaskState::Running).await;
    let (task, supervisor) = kept(&sandbox(&world, &framework, "service"));
    let status = fs::read_to_string(format!("/proc/{task}/status")).expect("it is there");
    let ids = format!("{0}\t{0}\t{0}\t{0}", user.uid);
    assert!(status.contains(&format!("Uid:\t{ids}")) && !status.contains("CapEff:\t000001"), "{status}");
    kill(supervisor);
    assert_eq!(framework.until_over("service").await.state, TaskState::Failed);
    eventually("all of it is gone", || !fs::exists(format!("/proc/{task}")).unwrap_or(true)).await;
}

#[tokio::test]
async fn volumes_plans_and_what_was_fetched_are_the_users_own() {
    let Some(world) = open_world(|_, config| config.task_user = Some("nobody".into())).await else { return };
    let mut framework = world.framework().await;
    let (open, closed) = (world.path("open"), world.path("closed"));
    for (path, mode) in [(&open, 0o644), (&closed, 0o600)] {
        fs::write(path, "words\n").expect("writes");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("closes it");
    }
    let artifact = |from: &Path| {
        vec![v1::Artifact { from: from.display().to_string(), path: "in/words".into(), ..Default::default() }]
    };
    let claim = v1::VolumeClaim { name: "data".into(), disk_milli: 8_000, path: "kept".into() };
    let shape = framework::shell("", "").resources;
    let demand = v1::Demand { shape, count: 1, volumes: vec![claim.clone()], ..Default::default() };
    let demands = v1::PostDemand { demands: vec![demand] };
    framework.send(v1::framework_call::Call::Demand(demands.clone())).await;
    let script = "id -un; cat in/words; echo mine >> in/words; echo more > kept/words; cat kept/words";
    let task = v1::TaskInfo { artifacts: artifact(&open), volumes: vec![claim], ..framework::shell("t", script) };
    framework.launch(vec![task]).await;
    let last = framework.until_over("t").await;
    assert_eq!(last.state, TaskState::Finished, "{last:?}");
    let endpoint = world.agent().http_address();
    assert_eq!(world.output(endpoint, "t").await, "nobody\nwords\nmore\n");
    assert_eq!(fs::read_to_string(&open).expect("reads"), "words\n", "it has its own");

    // What that user may not read is not read for it, and it cannot become anybody else.
    framework.send(v1::framework_call::Call::Demand(v1::PostDemand { demands: vec![] })).await;
    framework.send(v1::framework_call::Call::Demand(demands)).await;
    framework
        .launch(vec![v1::TaskInfo { artifacts: artifact(&closed), ..framework::shell("spy", "cat in/words") }])
        .await;
    let last = framework.until_over("spy").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::FetchFailed), "{last:?}");
    assert!(last.message.contains("Permission denied"), "{last:?}");
    framework.launch(vec![v1::TaskInfo { user: "root".into(), ..framework::shell("king", "id") }]).await;
    let last = framework.until_over("king").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::LaunchFailed), "{last:?}");
    assert_eq!(last.message, "failed to start the task as user root: tasks of this agent may run as nobody");
    // Without a command it is the agent's own program, which reads its plan.
    let planned = v1::TaskInfo { plan: b"the plan\n".to_vec(), argv: Vec::new(), ..framework::shell("planned", "") };
    framework.launch(vec![planned]).await;
    let last = framework.until_over("planned").await;
    assert_eq!(last.state, TaskState::Finished, "{last:?}");
    assert_eq!(world.output(endpoint, "planned").await, "task --plan the plan\n");
}

#[tokio::test]
async fn a_folder_that_is_closed_to_the_user_is_named() {
    let Some(world) = open_world(|_, _| {}).await else { return };
    fs::set_permissions(world.path(""), Permissions::from_mode(0o700)).expect("closes it");
    let mut framework = world.framework().await;
    framework.launch(vec![as_nobody("t", "id")]).await;
    let last = framework.until_over("t").await;
    assert!(last.message.contains("is closed to it; start the agent with a --data-dir"), "{last:?}");
    fs::set_permissions(world.path(""), Permissions::from_mode(0o711)).expect("opens it");
    let closed = v1::TaskInfo { argv: vec!["/no/such/program".into()], ..as_nobody("u", "") };
    framework.launch(vec![closed]).await;
    let last = framework.until_over("u").await;
    assert!(last.message.contains("failed to start /no/such/program"), "{last:?}");
}

/// Every file below that has these words in it.
fn having(dir: &Path, words: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("reads").flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => having(&path, words, found),
            Ok(kind) if kind.is_file() => {
                let content = fs::read(&path).unwrap_or_default();
                if content.windows(words.len()).any(|window| window == words) {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_secret_is_told_to_its_task_and_written_down_nowhere() {
    let mut world = World::with_agent(|dir, config| config.secrets = Some(dir.join("secrets"))).await;
    fs::create_dir_all(world.path("secrets/test")).expect("a folder");
    fs::create_dir_all(world.path("secrets/other")).expect("a folder");
    fs::write(world.path("secrets/test/db"), "pass-of-the-database\n").expect("writes");
    fs::write(world.path("secrets/other/key"), "key-of-another").expect("writes");
    let mut framework = world.framework().await;
    let told = |task: &str, name: &str| v1::TaskInfo {
        secrets: [("DB_PASSWORD".to_string(), name.to_string())].into(),
        ..framework::shell(task, "echo ${#DB_PASSWORD}; exec sleep 600")
    };
    framework.launch(vec![told("t", "db")]).await;
    framework.until("t", TaskState::Running).await;
    assert_eq!(world.output(world.agent().http_address(), "t").await, "20\n", "its length");
    let (pid, supervisor) = kept(&sandbox(&world, &framework, "t"));
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("it is there");
    assert!(String::from_utf8_lossy(&environment).contains("DB_PASSWORD=pass-of-the-database\0"));
    let of_supervisor = fs::read(format!("/proc/{supervisor}/environ")).expect("it is there");
    assert!(!String::from_utf8_lossy(&of_supervisor).contains("pass-of-the-database"));
    world.crash_agent().await;
    world.crash_master().await;
    let mut found = Vec::new();
    having(&world.path(""), b"pass-of-the-database", &mut found);
    assert_eq!(found, [world.path("secrets/test/db")]);

    world.start_master().await;
    world.start_agent().await;
    let mut framework = world.framework_again(&framework).await;
    framework.launch(vec![told("u", "key")]).await;
    let last = framework.until_over("u").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::LaunchFailed), "{last:?}");
    assert_eq!(last.message, "failed to tell the task secret key: this agent has none of that name for role test");
}

/// A server that takes connections and never answers.
fn silent() -> (std::net::TcpListener, Vec<v1::Artifact>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let from = format!("http://{}/never", listener.local_addr().expect("an address"));
    (listener, vec![v1::Artifact { from, path: "it".into(), ..Default::default() }])
}

#[tokio::test]
async fn a_task_that_is_fetched_for_can_be_killed_and_does_not_outlive_its_agent() {
    let mut world = World::start().await;
    let mut framework = world.framework().await;
    let (_listener, artifacts) = silent();
    let waiting = |task: &str| v1::TaskInfo { artifacts: artifacts.clone(), ..framework::shell(task, "true") };
    framework.launch(vec![waiting("killed"), waiting("left")]).await;
    framework.until("left", TaskState::Staging).await;
    framework.until("killed", TaskState::Staging).await;
    // Others are started meanwhile.
    framework.launch(vec![framework::shell("other", "true")]).await;
    assert_eq!(framework.until_over("other").await.state, TaskState::Finished);
    framework.kill("killed", 1_000).await;
    let last = framework.until_over("killed").await;
    assert_eq!((last.state, last.reason), (TaskState::Killed, Reason::KillRequested), "{last:?}");
    assert!(!sandbox(&world, &framework, "killed").exists());

    let left = sandbox(&world, &framework, "left");
    assert!(left.exists());
    world.crash_agent().await;
    world.start_agent().await;
    let last = framework.until_over("left").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::AgentRestarted), "{last:?}");
    assert!(!left.exists());

    let missing = vec![v1::Artifact { from: "/no/such/file".into(), path: "it".into(), ..Default::default() }];
    framework.launch(vec![v1::TaskInfo { artifacts: missing, ..framework::shell("missing", "true") }]).await;
    let last = framework.until_over("missing").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::FetchFailed), "{last:?}");
    let wrong = vec![v1::Artifact { from: "ftp://x/y".into(), path: "it".into(), ..Default::default() }];
    framework.launch(vec![v1::TaskInfo { artifacts: wrong, ..framework::shell("wrong", "true") }]).await;
    let last = framework.until_over("wrong").await;
    assert_eq!((last.state, last.reason), (TaskState::Dropped, Reason::InvalidTask), "{last:?}");
    assert!(last.message.contains("no place to fetch from"), "{last:?}");
}
