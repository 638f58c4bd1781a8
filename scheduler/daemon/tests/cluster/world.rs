//! One master and one agent with their directories, which a test may crash and start again.

use crate::framework::Framework;
use crate::http;
use daemon::agent::{self, AgentConfig, AgentError};
use daemon::door::Token;
use daemon::master::{self, MasterConfig, MasterError};
use jobs::Resources;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for anything before it says what it waited for. Long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// In the world's directory; when nobody holds it, what its agents have started ends.
const LEASH: &str = "leash";

pub struct World {
    /// Let go of before the directory is removed.
    _leash: Flock<File>,
    dir: TempDir,
    token: Option<Token>,
    master_address: SocketAddr,
    master: Option<master::Running>,
    agent: Option<agent::Running>,
    adjust: Adjust,
}

/// What a world's agent has that others have not; with the world's directory.
type Adjust = fn(&Path, &mut AgentConfig);

impl World {
    pub async fn start() -> Self {
        Self::with_token(None).await
    }

    pub async fn with_token(token: Option<Token>) -> Self {
        let mut world = Self::without_agent(token).await;
        world.start_agent().await;
        world
    }

    /// Its agent holds tasks to what they ask for, where the machine permits that.
    pub async fn isolated() -> Self {
        Self::with_agent(|_, config| config.isolation.cgroups = true).await
    }

    /// Its agent has one core and 256 MiB, and lends four fifths of what its tasks do not use.
    pub async fn lending() -> Self {
        Self::with_agent(|_, config| {
            config.total = std::mem::take(&mut config.total).cpus(1.0).mem_mib(256.0);
            (config.lend, config.lend_after, config.lend_check_every) =
                (0.8, Duration::from_secs(1), Duration::from_millis(200));
        })
        .await
    }

    pub async fn with_agent(adjust: Adjust) -> Self {
        let mut world = Self::without_agent(None).await;
        world.adjust = adjust;
        world.start_agent().await;
        world
    }

    pub async fn without_agent(token: Option<Token>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("task.sh");
        fs::write(&script, "#!/bin/sh\nprintf '%s %s ' \"$1\" \"$2\"; cat \"$3\"\n").expect("writes");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("makes it a program");
        let leash = File::create(dir.path().join(LEASH)).expect("a file");
        let leash = Flock::lock(leash, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("a lock");
        let master_address = "127.0.0.1:0".parse().expect("an address");
        let mut world =
            Self { _leash: leash, dir, token, master_address, master: None, agent: None, adjust: |_, _| {} };
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
        // No test is about silence: whoever goes closes its connection, and whoever is slow is only slow.
        config.machine.missed_heartbeats = 600;
        config.machine.recovery_ms = 120_000;
        config
    }

    fn agent_config(&self) -> AgentConfig {
        let mut config = agent_config(self.master_address.to_string(), self.path("agent"));
        config.token.clone_from(&self.token);
        config.task_binary = self.path("task.sh");
        (self.adjust)(self.dir.path(), &mut config);
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
    pub fn spawn_agent(&self, recovery_timeout_ms: u64) -> Child {
        let program = std::env::current_exe().expect("this program has a path");
        Command::new(program)
            .args(["--exact", "body_of_the_agent_process"])
            .env(AGENT_RECOVERY_TIMEOUT_MS, recovery_timeout_ms.to_string())
            .env(AGENT_OF_MASTER, self.master_address.to_string())
            .env(AGENT_DIR, self.path("agent"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the agent process starts")
    }

    pub async fn stop_agent(&mut self) {
        self.agent.take().expect("the agent runs").stop().await;
    }

    /// How the agent ended by itself.
    pub async fn agent_ended(&mut self) -> AgentError {
        let mut agent = self.agent.take().expect("the agent runs");
        let ended = tokio::time::timeout(PATIENCE, agent.ended()).await.expect("it ends");
        ended.expect_err("it was sent away")
    }

    pub async fn stop_master(&mut self) {
        self.master.take().expect("the master runs").stop().await;
    }

    pub async fn crash_master(&mut self) {
        self.master.take().expect("the master runs").kill().await;
    }

    pub async fn crash_agent(&mut self) {
        self.agent.take().expect("the agent runs").leave().await;
    }

    pub async fn second_agent(&self) -> AgentError {
        agent::start(self.agent_config()).await.err().expect("refused")
    }

    pub async fn second_master(&self) -> MasterError {
        let mut config = self.master_config();
        config.listen.set_port(0);
        master::start(config).await.err().expect("refused")
    }

    /// Asks the master for what only an operator may.
    pub async fn operate(&self, call: wire::v1::operate_request::Call) -> Result<(), tonic::Status> {
        let address = self.master_address.to_string();
        let mut master = daemon::client::master(&address, self.token.clone()).await.expect("connects");
        let request = wire::v1::OperateRequest { protocol_version: wire::PROTOCOL_VERSION, call: Some(call) };
        master.operate(request).await.map(drop)
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
const AGENT_RECOVERY_TIMEOUT_MS: &str = "SMACK_TEST_AGENT_RECOVERY_TIMEOUT_MS";
const KEEPER: &str = "SMACK_TEST_KEEPER";
const AGENT_DIR: &str = "SMACK_TEST_AGENT_DIR";

/// Serves as an agent for ever, if this process was started by [`World::spawn_agent`].
pub async fn be_an_agent_if_told() {
    if let (Ok(master), Ok(dir)) = (std::env::var(AGENT_OF_MASTER), std::env::var(AGENT_DIR)) {
        let mut config = agent_config(master, dir.into());
        if let Ok(timeout_ms) = std::env::var(AGENT_RECOVERY_TIMEOUT_MS) {
            config.recovery_timeout_ms = timeout_ms.parse().expect("a number");
        }
        agent::serve(config).await.expect("serves");
    }
}

/// Starts tasks for an agent, if this process was started to do that.
pub fn be_a_keeper_if_told() {
    if std::env::var_os(KEEPER).is_some() {
        agent::keep::main();
        std::process::exit(0);
    }
}

fn agent_config(master: String, dir: PathBuf) -> AgentConfig {
    let mut config = AgentConfig::new(master, &dir).expect("a config");
    let program = std::env::current_exe().expect("this program has a path");
    let program = program.to_str().expect("a readable name");
    let keeper = ["env", &format!("{KEEPER}=1"), program, "--test-threads=1", "--exact", "body_of_the_keeper_process"];
    // What a test is not about must not depend on what the machine permits.
    config.isolation.cgroups = false;
    config.keeper = keeper.map(str::to_string).to_vec();
    config.leash = Some(dir.with_file_name(LEASH));
    config.total = Resources::new().cpus(4.0).mem_mib(1024.0).with("disk", 64.0).with_ports([(31_000, 31_010)]);
    config.disk_check_every = Duration::from_millis(50);
    config
}

pub fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it is there");
}

/// The process ids of the task in `sandbox` and of its supervisor.
pub fn kept(sandbox: &Path) -> (i32, i32) {
    let text = fs::read_to_string(sandbox.join(".process")).expect("a supervisor began");
    let kept: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let pid = |who: &str| kept[who]["pid"].as_i64().expect("a process id") as i32;
    (pid("task"), pid("supervisor"))
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
