//! One master and one agent with their directories, which a test may crash and start again.

use crate::framework::Framework;
use crate::http;
use daemon::agent::{self, AgentConfig, AgentError};
use daemon::door::Token;
use daemon::master::{self, MasterConfig, MasterError};
use jobs::Resources;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for anything before it says what it waited for. Long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    dir: TempDir,
    token: Option<Token>,
    master_address: SocketAddr,
    master: Option<master::Running>,
    agent: Option<agent::Running>,
}

impl World {
    pub async fn start() -> Self {
        Self::with_token(None).await
    }

    pub async fn with_token(token: Option<Token>) -> Self {
        let mut world = Self::without_agent(token).await;
        world.start_agent().await;
        world
    }

    pub async fn without_agent(token: Option<Token>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("task.sh");
        fs::write(&script, "#!/bin/sh\nprintf '%s %s ' \"$1\" \"$2\"; cat \"$3\"\n").expect("writes");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("makes it a program");
        let master_address = "127.0.0.1:0".parse().expect("an address");
        let mut world = Self { dir, token, master_address, master: None, agent: None };
        world.start_master().await;
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn master(&self) -> &master::Running {
        self.master.as_ref().expect("the master runs")
    }

    pub fn agent(&self) -> &agent::Running {
        self.agent.as_ref().expect("the agent runs")
    }

    fn master_config(&self) -> MasterConfig {
        let mut config = MasterConfig::new(self.path("master"));
        config.listen = self.master_address;
        config.token.clone_from(&self.token);
        config.machine.heartbeat_ms = 200;
        config
    }

    fn agent_config(&self) -> AgentConfig {
        let mut config = agent_config(self.master_address.to_string(), self.path("agent"));
        config.token.clone_from(&self.token);
        config.task_binary = self.path("task.sh");
        config
    }

    /// On the same address as before, if there was one.
    pub async fn start_master(&mut self) {
        let begun = Instant::now();
        let master = loop {
            match master::start(self.master_config()).await {
                Ok(master) => break master,
                Err(error) => {
                    assert!(begun.elapsed() < PATIENCE, "the master does not start: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        self.master_address = master.address();
        self.master = Some(master);
    }

    pub async fn start_agent(&mut self) {
        self.agent = Some(agent::start(self.agent_config()).await.expect("the agent starts"));
    }

    /// Runs an agent as a process of its own: this very program, told to be one.
    pub fn spawn_agent(&self) -> Child {
        let program = std::env::current_exe().expect("this program has a path");
        Command::new(program)
            .args(["--exact", "body_of_the_agent_process"])
            .env(AGENT_OF_MASTER, self.master_address.to_string())
            .env(AGENT_DIR, self.path("agent"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the agent process starts")
    }

    pub async fn stop_agent(&mut self) {
        self.agent.take().expect("the agent runs").stop().await;
    }

    pub async fn stop_master(&mut self) {
        self.master.take().expect("the master runs").stop().await;
    }

    pub async fn crash_master(&mut self) {
        self.master.take().expect("the master runs").kill().await;
    }

    pub async fn crash_agent(&mut self) {
        self.agent.take().expect("the agent runs").kill().await;
    }

    pub async fn second_agent(&self) -> AgentError {
        agent::start(self.agent_config()).await.err().expect("refused")
    }

    pub async fn second_master(&self) -> MasterError {
        let mut config = self.master_config();
        config.listen.set_port(0);
        master::start(config).await.err().expect("refused")
    }

    pub async fn framework(&self) -> Framework {
        Framework::subscribe(self.master_address, None, self.token.clone()).await
    }

    /// The same framework, after its stream ended.
    pub async fn framework_again(&self, before: &Framework) -> Framework {
        Framework::subscribe(self.master_address, Some(before.id.clone()), self.token.clone()).await
    }

    /// What a task has written, once it has written something.
    pub async fn output(&self, endpoint: SocketAddr, task: &str) -> String {
        let begun = Instant::now();
        loop {
            let (status, _, body) = http::get(endpoint, &format!("/sandboxes/{task}/stdout"), None).await;
            if status == 200 && body.ends_with('\n') {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "task {task} writes nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const AGENT_OF_MASTER: &str = "SMACK_TEST_AGENT_OF_MASTER";
const AGENT_DIR: &str = "SMACK_TEST_AGENT_DIR";

/// Serves as an agent for ever, if this process was started by [`World::spawn_agent`].
pub async fn be_an_agent_if_told() {
    if let (Ok(master), Ok(dir)) = (std::env::var(AGENT_OF_MASTER), std::env::var(AGENT_DIR)) {
        agent::serve(agent_config(master, dir.into())).await.expect("serves");
    }
}

fn agent_config(master: String, dir: PathBuf) -> AgentConfig {
    let mut config = AgentConfig::new(master, dir).expect("a config");
    config.total = Resources::new().cpus(4.0).mem_mib(1024.0).with_ports([(31_000, 31_010)]);
    config
}

/// Whether a process is there and not merely waiting to be buried.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !state.starts_with('Z') && !state.starts_with('X')
    })
}

pub async fn eventually(what: &str, seen: impl Fn() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
