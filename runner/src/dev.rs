//! `smack dev`: master, agents, runner and broker as separate processes of one tree, supervised, in one folder.
//!
//! Invariant: each member can be killed by itself and comes back; when the tree ends, however it ends, no member and,
//! within a second, no task is left.

use crate::client::Client;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A member that died is started again after this, doubling up to the longest wait while it keeps dying at once.
const RESTART_MS: u64 = 100;
const RESTART_MS_MAX: u64 = 5_000;
/// One that lived this long died of something new.
const STEADY: Duration = Duration::from_secs(10);

/// How long members have to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// Locked for as long as a tree lives: a second one in the folder is refused, and tasks see whether it is there.
const LOCK: &str = "dev.lock";
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct DevConfig {
    pub data_dir: PathBuf,
    pub agents: u32,
    /// Each agent's cpus; a fair share of this machine's when absent.
    pub cpus_per_agent: Option<f64>,
    /// Of the agents: "auto" or "off".
    pub isolation: &'static str,
    /// Port of the runner, the page and the API; 0 takes any free one. The master takes any free one.
    pub listen_port: u16,
    /// Port of the broker; one that is in use makes way to any free one. `None` is no broker.
    pub kafka_port: Option<u16>,
    pub token_file: Option<PathBuf>,
    /// The folder of what its agents tell tasks.
    pub secrets: Option<PathBuf>,
}

/// What `dev.json` says, so that commands run in the same folder find the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevFile {
    pub runner: String,
    #[serde(default)]
    pub master: String,
    /// The broker's address, host:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<String>,
    /// The CA by which its members are known, where connections are encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
}

/// What the cluster that works in this folder's `.smack` says of itself.
pub fn of_folder(folder: &Path) -> Option<DevFile> {
    let text = std::fs::read_to_string(folder.join(".smack").join("dev.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// A running tree.
pub struct Tree {
    pub runner: String,
    /// The broker's address, host:port.
    pub kafka: Option<String>,
    pub data_dir: PathBuf,
    members: Vec<Member>,
    /// Held for as long as the tree lives: a second one in the folder is refused.
    _lock: Arc<nix::fcntl::Flock<File>>,
}

struct Member {
    name: String,
    args: Vec<String>,
    /// Brokers of tables that name none, for this member and all tasks that it starts.
    brokers: Option<String>,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
    wait_ms: u64,
    restart_at: Option<Instant>,
}

/// Runs until SIGTERM or SIGINT.
pub async fn dev(config: DevConfig) -> anyhow::Result<()> {
    let started = Instant::now();
    let ended = crate::signal::ended();
    tokio::pin!(ended);
    let mut tree = tokio::select! {
        tree = Tree::start(&config) => tree?,
        () = &mut ended => return Ok(()),
    };
    eprintln!(
        "smack dev is ready in {:.2} s: {} agents, page and API at {}, files in {}",
        started.elapsed().as_secs_f64(),
        config.agents,
        tree.runner,
        tree.data_dir.display()
    );
    if let Some(kafka) = &tree.kafka {
        let usual = config.kafka_port.map(|port| format!("127.0.0.1:{port}"));
        let instead = if usual.as_ref() == Some(kafka) { "" } else { " (the usual port is in use)" };
        eprintln!("a broker that speaks Kafka's protocol at {kafka}{instead}");
    }
    eprintln!("submit a file with `smack submit FILE`; Ctrl-C ends it");
    loop {
        tokio::select! {
            () = &mut ended => break,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                for line in tree.supervise()? {
                    eprintln!("{line}");
                }
            }
        }
    }
    eprintln!("ending …");
    tree.end().await;
    Ok(())
}

impl Tree {
    /// Starts all members and returns when the runner sees every agent.
    pub async fn start(config: &DevConfig) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("failed to make the folder {}", config.data_dir.display()))?;
        let data_dir = std::fs::canonicalize(&config.data_dir)
            .with_context(|| format!("failed to find the folder {}", config.data_dir.display()))?;
        let lock = Arc::new(lock(&data_dir)?);
        let mut tries = PORT_TRIES;
        loop {
            tries -= 1;
            match Self::start_on(Ports::choose(config)?, config, &data_dir, Arc::clone(&lock)).await {
                Err(error) if tries > 0 && error.to_string().contains("the port is in use") => {}
                started => return started,
            }
        }
    }

    async fn start_on(
        ports: Ports,
        config: &DevConfig,
        data_dir: &Path,
        lock: Arc<nix::fcntl::Flock<File>>,
    ) -> anyhow::Result<Self> {
        let runner = format!("{}://127.0.0.1:{}", tls::scheme(), ports.runner);
        let kafka = ports.kafka.map(|port| format!("127.0.0.1:{port}"));
        let disk_mib = daemon::agent::disk_mib(data_dir).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let members = members(config, data_dir, disk_mib, &ports, kafka.as_deref());
        let mut tree = Self { members, runner, kafka, data_dir: data_dir.to_path_buf(), _lock: lock };
        for member in &mut tree.members {
            member.start()?;
        }
        if let Err(error) = tree.wait_until_ready(config).await {
            tree.end().await;
            return Err(error);
        }
        // Last, so that whoever finds the file finds a cluster that answers.
        let file = DevFile {
            runner: tree.runner.clone(),
            master: format!("127.0.0.1:{}", ports.master),
            kafka: tree.kafka.clone(),
            tls_ca: tls::process().and_then(|tls| tls.files.ca.clone()),
        };
        std::fs::write(tree.data_dir.join("dev.json"), serde_json::to_vec_pretty(&file)?)
            .context("failed to write dev.json")?;
        Ok(tree)
    }

    async fn wait_until_ready(&mut self, config: &DevConfig) -> anyhow::Result<()> {
        let client = Client::new(Some(&self.runner), config.token_file.as_deref())?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if self.kafka.as_ref().is_none_or(|kafka| std::net::TcpStream::connect(kafka).is_ok())
                && let Ok(cluster) = client.cluster().await
                && cluster.agents.iter().filter(|agent| is_there(&agent.state)).count() >= config.agents as usize
                && cluster.frameworks.iter().filter(|framework| framework.connected).count() >= 2
            {
                return Ok(());
            }
            if let Some(member) = self.members.iter_mut().find_map(Member::has_ended) {
                bail!("failed to start {}: {}", member.name, last_line(&member.log));
            }
            if Instant::now() > deadline {
                bail!(
                    "failed to start within {} s; the members' logs are in {}",
                    READY_WITHIN.as_secs(),
                    self.data_dir.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Starts again what died; says what happened.
    pub fn supervise(&mut self) -> anyhow::Result<Vec<String>> {
        let mut told = Vec::new();
        for member in &mut self.members {
            if let Some(child) = &mut member.child
                && let Some(status) = child.try_wait().with_context(|| format!("failed to watch {}", member.name))?
            {
                member.child = None;
                if member.started.elapsed() > STEADY {
                    member.wait_ms = RESTART_MS;
                }
                member.restart_at = Some(Instant::now() + Duration::from_millis(member.wait_ms));
                told.push(format!("{} ended ({status}); it starts again in {} ms", member.name, member.wait_ms));
                member.wait_ms = (member.wait_ms * 2).min(RESTART_MS_MAX);
            }
            if member.restart_at.is_some_and(|at| Instant::now() >= at) {
                member.start()?;
            }
        }
        Ok(told)
    }

    /// Process ids of the members that live, by name.
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.members.iter().filter_map(|member| Some((member.name.clone(), member.child.as_ref()?.id()?))).collect()
    }

    /// Asks all to end, agents before the master so that their last updates arrive, then makes them.
    pub async fn end(mut self) {
        self.end_members().await;
    }

    async fn end_members(&mut self) {
        for member in &mut self.members {
            member.signal(nix::sys::signal::Signal::SIGTERM);
        }
        let deadline = Instant::now() + GRACE;
        for member in &mut self.members {
            let Some(mut child) = member.child.take() else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, child.wait()).await.is_err() {
                // It had its time. Tasks that are left end when this tree lets go of its lock.
                let _ = child.kill().await;
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Nobody answers there any more.
        let _ = std::fs::remove_file(self.data_dir.join("dev.json"));
    }
}

impl Member {
    fn new(name: &str, args: Vec<String>, data_dir: &Path) -> Self {
        Self {
            name: name.to_string(),
            args,
            brokers: None,
            log: data_dir.join(format!("{name}.log")),
            child: None,
            started: Instant::now(),
            wait_ms: RESTART_MS,
            restart_at: None,
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let binary = std::env::current_exe().context("failed to find this binary")?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("failed to open {}", self.log.display()))?;
        let mut command = Command::new(binary);
        if let Some(brokers) = &self.brokers {
            command.env(connectors::usual_brokers::VARIABLE, brokers);
        }
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        // Ctrl-C in a terminal reaches the whole group; members are to be ended in order, by us.
        command.process_group(0);
        let supervisor = std::process::id();
        // SAFETY: prctl and getppid are async-signal-safe and touch no memory of ours; the error is made of a number.
        unsafe {
            command.pre_exec(move || {
                // A member must not outlive a supervisor that was killed. This follows the thread that forks, which is
                // the one thread of the supervisor's runtime.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                // It died before it could be followed: the signal will not come.
                if libc::getppid() as u32 != supervisor {
                    return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
        self.child = Some(command.spawn().with_context(|| format!("failed to start {}", self.name))?);
        self.started = Instant::now();
        self.restart_at = None;
        Ok(())
    }

    fn signal(&mut self, signal: nix::sys::signal::Signal) {
        if let Some(id) = self.child.as_ref().and_then(Child::id) {
            // It may have ended on its own meanwhile, which is what is wanted.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id as i32), signal);
        }
    }

    fn has_ended(&mut self) -> Option<&Self> {
        let ended = self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
        ended.then_some(&*self)
    }
}

fn members(config: &DevConfig, data_dir: &Path, disk_mib: f64, ports: &Ports, kafka: Option<&str>) -> Vec<Member> {
    let master = format!("127.0.0.1:{}", ports.master);
    let token = |mut args: Vec<String>| {
        if let Some(file) = &config.token_file {
            args.extend(["--token-file".to_string(), file.display().to_string()]);
        }
        for (option, _, path) in tls::process().into_iter().flat_map(|tls| tls.files.given()) {
            args.extend([option.to_string(), path.display().to_string()]);
        }
        args
    };
    let folder = |name: &str| data_dir.join(name).display().to_string();
    let text = |args: &[&str]| args.iter().map(|arg| (*arg).to_string()).collect::<Vec<String>>();
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let cpus = config.cpus_per_agent.unwrap_or((cores / f64::from(config.agents.max(1))).max(1.0));
    // One machine stands for several: together they offer what one agent would.
    let n_agents = f64::from(config.agents.max(1));
    let (mem_mib, disk_mib) = (daemon::agent::detected_totals().amount("mem") / n_agents, disk_mib / n_agents);
    let mut members = vec![Member::new(
        "master",
        token(text(&["master", "--listen", &master, "--data-dir", &folder("master")])),
        data_dir,
    )];
    for at in 0..config.agents {
        let name = format!("agent-{}", at + 1);
        let low = ports.tasks + at as u16 * PORTS_PER_AGENT;
        let task_ports = format!("{low}-{}", low + PORTS_PER_AGENT - 1);
        let secrets = config.secrets.iter().flat_map(|dir| ["--secrets".to_string(), dir.display().to_string()]);
        let args = text(&[
            "agent",
            "--master",
            &master,
            "--name",
            &name,
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &folder(&name),
            "--cpus",
            &cpus.to_string(),
            "--mem",
            &format!("{mem_mib:.0}m"),
            "--disk",
            &format!("{disk_mib:.0}m"),
            "--ports",
            &task_ports,
            // Tasks outlive an agent, but not this tree.
            "--leash",
            &folder(LOCK),
            "--isolation",
            config.isolation,
        ]);
        members.push(Member::new(&name, token(args.into_iter().chain(secrets).collect()), data_dir));
    }
    members.push(Member::new(
        "runner",
        token(text(&[
            "runner",
            "--listen",
            &format!("127.0.0.1:{}", ports.runner),
            "--master",
            &master,
            "--data-dir",
            &folder("runner"),
        ])),
        data_dir,
    ));
    for member in &mut members {
        member.brokers = kafka.map(str::to_string);
    }
    if let Some(kafka) = kafka {
        let args = text(&["broker", "--listen", kafka, "--data-dir", &folder("broker")]);
        members.push(Member::new("broker", args, data_dir));
    }
    members
}

const PORTS_PER_AGENT: u16 = 100;
/// A port that was found free may be taken before its member listens there.
const PORT_TRIES: u32 = 3;

struct Ports {
    master: u16,
    runner: u16,
    kafka: Option<u16>,
    /// First of the ports that agents offer to tasks.
    tasks: u16,
}

impl Ports {
    fn choose(config: &DevConfig) -> anyhow::Result<Self> {
        let runner = match config.listen_port {
            0 => free_port(),
            port => TcpListener::bind((Ipv4Addr::LOCALHOST, port)),
        };
        let runner = runner.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
                "failed to start: port {} is in use; end what listens there (another `smack dev`?) or choose another \
                 with --port",
                config.listen_port
            ),
            _ => anyhow::anyhow!(error).context(format!("failed to listen on port {}", config.listen_port)),
        })?;
        let master = free_port().context("failed to find a free port")?;
        // Another broker may well have the usual port: a Kafka, or that of another `smack dev`.
        let kafka = |port: u16| {
            let usual = if port == 0 { free_port() } else { TcpListener::bind((Ipv4Addr::LOCALHOST, port)) };
            usual.or_else(|_| free_port()).context("failed to find a free port")
        };
        let kafka = config.kafka_port.map(kafka).transpose()?;
        // Two clusters on one machine must not offer the same ports; below the range that the system hands out itself.
        let spread = (std::process::id() as u16).wrapping_mul(7919) % 180;
        Ok(Self {
            runner: runner.local_addr()?.port(),
            master: master.local_addr()?.port(),
            kafka: kafka.map(|listener| listener.local_addr()).transpose()?.map(|address| address.port()),
            tasks: 12_000 + spread * PORTS_PER_AGENT,
        })
    }
}

/// One that a member can have in a moment, and again when it is started anew: none of those that the system hands out to
/// whoever connects to something, unless all others are taken.
fn free_port() -> std::io::Result<TcpListener> {
    const FIRST: u16 = 9_500;
    const N: u16 = 2_000;
    let from = (std::process::id() as u16).wrapping_mul(7919) % N;
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    (0..N).find_map(|at| bind(FIRST + (from + at) % N).ok()).map_or_else(|| bind(0), Ok)
}

fn lock(data_dir: &Path) -> anyhow::Result<nix::fcntl::Flock<File>> {
    let path = data_dir.join(LOCK);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    let begun = Instant::now();
    loop {
        file = match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            // What is left of an earlier tree's tasks looks at the file for moments, and then ends.
            Err((file, _)) if begun.elapsed() < LOCK_PATIENCE => file,
            Err(_) => bail!(
                "failed to start: another `smack dev` works in {}; use it, end it, or choose another folder with \
                 --data-dir",
                data_dir.display()
            ),
        };
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Also one that an operator wants empty.
fn is_there(agent_state: &str) -> bool {
    matches!(agent_state, "active" | "draining" | "drained")
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.to_string(),
        None => format!("it said nothing; see {}", log.display()),
    }
}
