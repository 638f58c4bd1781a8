//! The agent daemon: one owner of the agent machine, its log of tasks, the processes it starts, the link to the master,
//! and the door through which their output is read.
//!
//! Invariant: one agent per data directory; its id, its log and its sandboxes live there and survive it.
//! Invariant: tasks outlive the agent that had them started, and the next one of the directory takes them up; when it
//! begins, no process of the directory's tasks is alive that it does not hold.

mod accounts;
mod artifacts;
mod connection;
mod consumption;
mod counts;
pub mod fleet;
mod garbage;
mod ground;
mod isolation;
pub mod keep;
mod leftovers;
mod link;
mod nursery;
mod owner;
mod probes;
mod recovery;
mod sandboxes;
mod secrets;
mod tasklog;
mod totals;
mod usage;
mod volumes;

pub use isolation::IsolationConfig;
pub use totals::{detected as detected_totals, disk_mib};

use crate::clock::Clock;
use crate::door::{self, ListenError, Token};
use crate::encrypted::Encrypted;
use crate::{files, stop};
use jobs::{AgentId, Resources};
use scheduler::agent::{Agent, Config, Found, Recovered};
use scheduler::model::{AgentInfo, Reservation, TaskKey};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Messages from the master that the owner has not yet looked at; when it is full the link waits, and TCP slows the
/// master down. Small, because each may carry many launches.
const LINK_INPUTS: usize = 64;

/// How long the lock that says "an agent is here" is waited for: supervisors look at it for moments, and a killed agent
/// holds it until the system has taken it down.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `host:port`.
    pub master: String,
    pub data_dir: PathBuf,
    /// Where the sandboxes' output is served.
    pub listen: SocketAddr,
    /// Under which tasks of this agent are reached; `None`: the address it listens on, or the machine's name if that
    /// is all addresses.
    pub host: Option<String>,
    /// `None`: the one kept in the data directory, or a new one.
    pub agent_id: Option<AgentId>,
    /// Without disk: with most of what is free where its data is.
    pub total: Resources,
    pub attributes: BTreeMap<String, String>,
    /// What it keeps for roles.
    pub reserved: Vec<Reservation>,
    pub token: Option<Token>,
    /// What a task without a command of its own is: started as `BINARY task --plan FILE`.
    pub task_binary: PathBuf,
    /// Between SIGTERM and SIGKILL for tasks that do not say.
    pub kill_grace_ms: u64,
    /// The program, and its first arguments, that is a zygote (see [`keep`]).
    pub keeper: Vec<String>,
    /// How long tasks go on when their agent is gone and no other of its directory comes.
    pub recovery_timeout_ms: u64,
    /// A file that somebody keeps locked; when nobody does, all tasks end at once.
    pub leash: Option<PathBuf>,
    pub isolation: IsolationConfig,
    /// What standard output and standard error of a task each may take on the disk; the oldest goes first.
    pub output_most_bytes: u64,
    /// How long the sandboxes of tasks that ended are kept, while the disk is not full.
    pub sandboxes_kept_for: Duration,
    /// Between looks at what tasks have on the disk.
    pub disk_check_every: Duration,
    /// As whom a task runs that does not say; `None`: as the agent does.
    pub task_user: Option<String>,
    /// As whom tasks may run that say so, besides; `None`: as nobody else if there is a `task_user`, and else as anybody.
    pub users: Option<Vec<String>>,
    /// The folder of what tasks are told and nobody else.
    pub secrets: Option<PathBuf>,
    /// What was fetched for tasks is kept for others, up to so much.
    pub artifacts_most_bytes: u64,
    /// Of what tasks were given and do not use, how much others may run on until it is used; from 0 to 1.
    pub lend: f64,
    /// What was not used for so long is lent.
    pub lend_after: Duration,
    /// Between looks at what tasks use.
    pub lend_check_every: Duration,
}

impl AgentConfig {
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// With what this machine has, and this very program for tasks.
    pub fn new(master: impl Into<String>, data_dir: impl Into<PathBuf>) -> io::Result<Self> {
        let this = std::env::current_exe()?;
        Ok(Self {
            master: master.into(),
            data_dir: data_dir.into(),
            listen: Self::DEFAULT_LISTEN,
            host: None,
            agent_id: None,
            total: detected_totals(),
            attributes: BTreeMap::new(),
            reserved: Vec::new(),
            token: None,
            keeper: vec![this.to_string_lossy().into_owned(), keep::VERB.to_string()],
            task_binary: this,
            kill_grace_ms: 5_000,
            recovery_timeout_ms: 15 * 60_000,
            leash: None,
            isolation: IsolationConfig::default(),
            output_most_bytes: 256 << 20,
            sandboxes_kept_for: Duration::from_secs(7 * 24 * 3600),
            disk_check_every: Duration::from_secs(15),
            task_user: None,
            users: None,
            secrets: None,
            artifacts_most_bytes: 10 << 30,
            lend: 0.0,
            lend_after: Duration::from_secs(60),
            lend_check_every: Duration::from_secs(5),
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Files(#[from] files::FileError),
    #[error(transparent)]
    Log(#[from] tasklog::LogError),
    #[error(transparent)]
    Recovery(#[from] recovery::RecoveryError),
    #[error("start the process that starts tasks")]
    Keep(#[source] io::Error),
    #[error("start as agent {wanted}: directory {} belongs to agent {kept}; choose another with --data-dir", path.display())]
    OtherAgent { wanted: AgentId, kept: AgentId, path: PathBuf },
    #[error("start the thread that has tasks started")]
    Nursery(#[source] io::Error),
    #[error("listen for signals")]
    Signals(#[source] io::Error),
    #[error("serve sandboxes")]
    Serve(#[source] io::Error),
    /// The master wants no agent of this id. A new start in the same directory registers under a new id.
    #[error("stay: the master sent this agent away: {message}")]
    SentAway { message: String },
    #[error("go on: the agent's {part} has a defect, see the log")]
    Defect { part: &'static str },
}

/// An agent that runs in this process. Dropping it ends it at once, as a crash would; its tasks go on.
pub struct Running {
    agent_id: AgentId,
    http_address: SocketAddr,
    stop: watch::Sender<bool>,
    owner: JoinHandle<Result<(), AgentError>>,
    link: JoinHandle<()>,
    http: JoinHandle<io::Result<()>>,
    garbage: JoinHandle<()>,
    /// By which supervisors see that it is there.
    _here: keep::Held,
}

/// Starts an agent; returns once it serves its sandboxes and has taken up, or cleared away, what an earlier one left. It
/// connects to the master by itself, as often as it takes.
pub async fn start(config: AgentConfig) -> Result<Running, AgentError> {
    let listener = door::listen(config.listen, "--listen", config.token.as_ref()).await?;
    let http_address =
        listener.local_addr().map_err(|source| ListenError::Listen { address: config.listen, source })?;
    files::create_private_dir(&config.data_dir)?;
    let data_dir = files::canonical(&config.data_dir)?;
    // From here on the log's lock keeps every other agent out of the directory.
    let (log, records) = tasklog::TaskLog::open(&data_dir.join("tasks.redb")).await?;
    let agent_id = settle_id(&config, &data_dir)?;
    let sandboxes = sandboxes::Sandboxes::open(data_dir.join("sandboxes"))?;
    let mut whole = config.total;
    if whole.milli("disk") == 0 {
        whole = whole.with("disk", disk_mib(&data_dir)?);
    }
    let volumes = volumes::Volumes::open(data_dir.join(volumes::DIR))?;
    let mut recovered = Recovered::replay(records);
    recovered.volumes = volumes.all();
    let recovery = {
        let hello = keep::Hello {
            agent_lock: data_dir.join("agent.lock"),
            start_lock: data_dir.join("start.lock"),
            leash: config.leash.as_deref().map(files::canonical).transpose()?,
            recovery_timeout_ms: config.recovery_timeout_ms,
        };
        let (keeper, dir, sandboxes) = (config.keeper, data_dir.clone(), sandboxes.clone());
        move || -> Result<_, AgentError> {
            let here = keep::Held::take(&hello.agent_lock, LOCK_PATIENCE).map_err(AgentError::Keep)?;
            // From here on nothing of an earlier agent can start a task.
            let zygote = keep::zygote::Zygote::open(keeper, dir, hello).map_err(AgentError::Keep)?;
            let looked = recovery::look(&mut recovered, &sandboxes)?;
            Ok((here, zygote, recovered, looked))
        }
    };
    let recovery = tokio::task::spawn_blocking(recovery).await;
    let (here, zygote, recovered, looked) = recovery.map_err(|_| AgentError::Defect { part: "recovery" })??;

    let host = config.host.clone().unwrap_or_else(|| totals::host_of(config.listen.ip()));
    let mut attributes = config.attributes.clone();
    let clock = Clock::start();
    let cgroups =
        if config.isolation.cgroups { isolate(config.isolation, &agent_id, &clock, &mut attributes) } else { None };
    let agent = AgentInfo {
        agent_id: agent_id.clone(),
        host: host.clone(),
        total: whole.clone(),
        attributes,
        http_endpoint: format!("{}://{}", tls::scheme(), totals::host_port(&host, http_address.port())),
        reserved: config.reserved.clone(),
    };
    files::write(&data_dir.join("http_endpoint"), agent.http_endpoint.as_bytes())?;
    let recovery::Looked { adopted, n_ended } = looked;
    let running: Vec<TaskKey> = adopted.iter().map(|adopted| adopted.task.clone()).collect();
    let (n_recovered, n_running, total) = (recovered.tasks.len(), running.len(), &agent.total);
    info!(%agent_id, %http_address, %total, n_recovered, n_running, n_ended, "agent starts");

    let accounts = accounts::Accounts::new(config.task_user, config.users, data_dir.clone());
    let ground = ground::Ground { sandboxes: sandboxes.clone(), accounts };
    let launcher = nursery::Launcher {
        agent_id: agent_id.clone(),
        host,
        task_binary: config.task_binary,
        kill_grace_ms: config.kill_grace_ms,
        cgroups,
        output_most_bytes: config.output_most_bytes,
        ground: ground.clone(),
        secrets: secrets::Secrets::new(config.secrets),
        volumes: volumes.clone(),
        zygote,
    };
    let (fetcher, fetched) = artifacts::Fetcher::open(ground, data_dir.join("artifacts"), config.artifacts_most_bytes)?;
    let cache = fetcher.cache();
    let is_running: std::collections::BTreeSet<&TaskKey> = running.iter().collect();
    let recovered_running = recovered.tasks.iter().filter(|task| is_running.contains(&task.task));
    let (meter, overdrawn) = usage::Meter::open(
        sandboxes.clone(),
        volumes,
        config.disk_check_every,
        recovered_running.map(|task| (&task.task, &task.info)),
    );
    let found_alive = recovered.tasks.iter().filter_map(|task| match task.found {
        Found::Alive { pid } => Some((task.task.clone(), i32::try_from(pid).ok()?)),
        Found::Ended(_) | Found::Nothing => None,
    });
    let look_every = (config.lend > 0.0).then_some(config.lend_check_every);
    let (gauge, measured) = consumption::Gauge::open(look_every, found_alive.collect());
    let (nursery, reports) = nursery::Nursery::open(launcher, adopted).map_err(AgentError::Nursery)?;
    let mut machine_config = Config::new(agent);
    machine_config.default_kill_grace_ms = config.kill_grace_ms;
    machine_config.lend_milli = (config.lend * 1000.0).round() as i64;
    machine_config.look_back_ms = u64::try_from(config.lend_after.as_millis()).unwrap_or(u64::MAX);
    let (machine, commands) = Agent::new(machine_config, recovered, clock.now_ms());

    let (stop, stopped) = watch::channel(false);
    let (inputs, from_link) = mpsc::channel(LINK_INPUTS);
    let link = tokio::spawn(link::run(config.master, config.token.clone(), inputs));
    let garbage = tokio::spawn(garbage::run(sandboxes.clone(), Arc::clone(&cache), config.sandboxes_kept_for));
    let (probes, answers) = probes::Probes::new(sandboxes.clone());
    let id_path = data_dir.join(AGENT_ID_FILE);
    let owner = owner::Owner::new(
        machine,
        clock,
        log,
        owner::Hands { nursery, fetcher, probes, meter, gauge },
        running,
        id_path,
    );
    let routes = sandboxes.clone().routes().merge(numbers(owner.counts(), whole, sandboxes, cache));
    let routes = routes.layer(axum::middleware::from_fn_with_state(config.token, door::require_token));
    let http = tokio::spawn(async move {
        match tls::door(true) {
            None => axum::serve(listener, routes).await,
            Some(config) => axum::serve(Encrypted::open(listener, config), routes).await,
        }
    });
    let owner = tokio::spawn(owner.run(
        commands,
        from_link,
        reports,
        owner::Seen { answers, fetched, overdrawn, measured },
        stopped,
    ));
    Ok(Running { agent_id, http_address, stop, owner, link, http, garbage, _here: here })
}

/// `GET /metrics`.
fn numbers(
    counts: counts::Counts,
    total: Resources,
    sandboxes: sandboxes::Sandboxes,
    cache: Arc<artifacts::Cache>,
) -> axum::Router {
    let scrape = move || {
        let (counts, total, sandboxes, cache) = (counts.clone(), total.clone(), sandboxes.clone(), Arc::clone(&cache));
        async move {
            let families = tokio::task::spawn_blocking(move || counts.families(&total, &sandboxes, &cache)).await;
            crate::metrics::answer(&families.unwrap_or_default())
        }
    };
    axum::Router::new().route("/metrics", axum::routing::get(scrape))
}

/// The groups of tasks, where they are permitted; what there is becomes an attribute, which people and jobs can see.
fn isolate(
    config: IsolationConfig,
    agent_id: &AgentId,
    clock: &Clock,
    attributes: &mut BTreeMap<String, String>,
) -> Option<isolation::Cgroups> {
    let detected = isolation::Cgroups::detect(config, agent_id.as_str(), clock.now_ms());
    let (cgroups, description) = match detected {
        Ok(cgroups) => {
            let description = cgroups.describe();
            (Some(cgroups), description)
        }
        Err(why) => {
            warn!(why, "this machine permits no control groups; tasks are not held to what they ask for");
            (None, "none".to_string())
        }
    };
    attributes.entry("isolation".to_string()).or_insert(description);
    cgroups
}

const AGENT_ID_FILE: &str = "agent-id";

/// The id that the directory keeps; the first start gives it one.
fn settle_id(config: &AgentConfig, data_dir: &std::path::Path) -> Result<AgentId, AgentError> {
    let path = data_dir.join(AGENT_ID_FILE);
    let kept = files::read_text(&path)?.filter(|text| !text.is_empty()).map(AgentId::new);
    match (kept, config.agent_id.clone()) {
        (Some(kept), Some(wanted)) if kept != wanted => {
            Err(AgentError::OtherAgent { wanted, kept, path: data_dir.into() })
        }
        (Some(kept), _) => Ok(kept),
        (None, wanted) => {
            let fresh = || AgentId::new(format!("agent-{:.12}", uuid::Uuid::new_v4().simple()));
            let agent_id = wanted.unwrap_or_else(fresh);
            files::write(&path, agent_id.as_str().as_bytes())?;
            Ok(agent_id)
        }
    }
}

impl Running {
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Waits until the agent ends by itself: the master sent it away, or it failed.
    pub async fn ended(&mut self) -> Result<(), AgentError> {
        tokio::select! {
            ended = &mut self.owner => ended.unwrap_or(Err(AgentError::Defect { part: "owner" })),
            ended = &mut self.http => match ended {
                Ok(served) => served.map_err(AgentError::Serve),
                Err(_) => Err(AgentError::Defect { part: "server" }),
            },
        }
    }

    /// Asks all tasks to end, waits for them for a while, and ends.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if !self.owner.is_finished() {
            // How it ended no longer matters: what it could not report is in its log.
            let _ = (&mut self.owner).await;
        }
    }

    /// Ends at once, as a crash would, and leaves its tasks to the next agent of its directory; returns when that is free.
    pub async fn leave(mut self) {
        self.owner.abort();
        if !self.owner.is_finished() {
            // Aborted, so an error and expected.
            let _ = (&mut self.owner).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.owner.abort();
        self.link.abort();
        self.http.abort();
        self.garbage.abort();
    }
}

/// Runs an agent until the master sends it away, or a signal comes: SIGTERM and SIGINT end its tasks too, SIGUSR2 leaves
/// them to the next agent of its directory, which may be a newer program.
pub async fn serve(config: AgentConfig) -> Result<(), AgentError> {
    let signals = stop::signals().map_err(AgentError::Signals)?;
    let mut leave = signal(SignalKind::user_defined2()).map_err(AgentError::Signals)?;
    let mut running = start(config).await?;
    tokio::select! {
        ended = running.ended() => ended,
        _ = leave.recv() => {
            info!("agent goes; its tasks stay");
            running.leave().await;
            Ok(())
        }
        signal = signals => {
            info!(signal, "agent stops");
            running.stop().await;
            Ok(())
        }
    }
}
