//! Suite `launches`: tasks through a real master, over real connections, at a rate that does not wait for it.
//!
//! A thousand agents, each with a connection of its own, start no processes: each launch and each update is in their log on
//! disk before anything is said, one commit for all that waits. Ten frameworks accept offers for tasks as they fall due,
//! whatever became of those before, and acknowledge each update. All of it is on this machine.

use super::processes::pss_mb;
use super::{Figure, median};
use anyhow::{Context, bail, ensure};
use daemon::agent::fleet::Fleet;
use daemon::client::{self, FrameworkClient, FrameworkEvents, Subscription};
use jobs::Resources;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use wire::v1;
use wire::v1::framework_call::Call;
use wire::v1::framework_event::Event;

const SUITE: &str = "launches";
const N_AGENTS: usize = 1_000;
const N_FRAMEWORKS: usize = 10;
/// Of all frameworks.
const TASKS_PER_SECOND: f64 = 10_000.0;
const SECONDS: f64 = 20.0;
/// Tasks of one accept, at most: frameworks spread theirs.
const TASKS_PER_OFFER: usize = 16;
const TICK: Duration = Duration::from_millis(5);
/// After the last task was due.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let result = measure_in(&folder).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

async fn measure_in(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let (mut master, address) = master(folder).await?;
    let pid = master.id().context("failed to find the master's process")?;
    let total = Resources::new().cpus(1_000.0).mem_mib(1e6);
    let mut fleet = Fleet::start(&address, None, N_AGENTS, &total, &folder.join("tasks.redb"))
        .await
        .map_err(|error| anyhow::anyhow!("failed to {}", client::chain(&error)))?;
    registered(&address).await?;
    let before_mb = pss_mb([("master".to_string(), pid)])?;
    let began = Instant::now() + Duration::from_secs(1);
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..N_FRAMEWORKS {
        let load = Load::new(&address, number, began).await?;
        loads.spawn(load.run());
    }
    let (mut seen, mut done) = (Vec::new(), Vec::new());
    while let Some(ended) = tokio::select! {
        ended = loads.join_next() => ended,
        Some(error) = fleet.ended() => bail!("failed to {}", client::chain(&error)),
    } {
        let (load, of_load) = ended??;
        seen.extend(of_load);
        // Its tasks would be ended with it, while others still launch theirs.
        done.push(load);
    }
    let after_mb = pss_mb([("master".to_string(), pid)])?;
    master.kill().await.context("failed to end the master")?;

    let n_tasks = seen.len() as f64;
    let last = seen.iter().map(|seen| seen.running).max().context("failed to launch any task")?;
    let per_second = n_tasks / last.duration_since(began).as_secs_f64();
    let ms = |of: fn(&Seen) -> Duration| -> Vec<f64> { seen.iter().map(|seen| of(seen).as_secs_f64() * 1e3).collect() };
    let from_accept = ms(|seen| seen.running.duration_since(seen.accepted));
    let from_due = ms(|seen| seen.running.duration_since(seen.due));
    eprintln!(
        "  {n_tasks:.0} tasks on {N_AGENTS} agents for {N_FRAMEWORKS} frameworks; each launch and update on disk in {} \
         commits of the agents' log; the master keeps tasks in memory, and hears of them from agents when it restarts",
        fleet.commits()
    );
    Ok(vec![
        Figure::higher(SUITE, "tasks launched, running and acknowledged", per_second, "1/s", Some(9_900.0)),
        Figure::lower(SUITE, "from accept to RUNNING, p99", percentile(&from_accept, 0.99), "ms", Some(250.0)),
        Figure::lower(SUITE, "from accept to RUNNING, the slowest", percentile(&from_accept, 1.0), "ms", None),
        Figure::lower(SUITE, "from accept to RUNNING, median", median(from_accept), "ms", None),
        Figure::lower(SUITE, "from when it was due to RUNNING, p99", percentile(&from_due, 0.99), "ms", None),
        Figure::lower(SUITE, "from when it was due to RUNNING, the slowest", percentile(&from_due, 1.0), "ms", None),
        Figure::lower(SUITE, "memory of the master, each task", (after_mb - before_mb) * 1e6 / n_tasks, "bytes", None),
    ])
}

fn percentile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// A master of its own, and where it listens.
async fn master(folder: &Path) -> anyhow::Result<(Child, String)> {
    let free = TcpListener::bind("127.0.0.1:0").context("failed to find a free port")?.local_addr()?;
    let smack = std::env::current_exe().context("failed to find this program")?;
    let mut command = Command::new(smack);
    command.args(["master", "--listen", &free.to_string(), "--data-dir"]).arg(folder.join("master"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    let child = child.context("failed to start a master")?;
    let begun = Instant::now();
    while client::connect(&free.to_string()).await.is_err() {
        ensure!(begun.elapsed() < PATIENCE, "failed to reach the master at {free}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((child, free.to_string()))
}

/// Waits until all agents are.
async fn registered(address: &str) -> anyhow::Result<()> {
    let mut master = client::master(address, None).await.map_err(told)?;
    let begun = Instant::now();
    loop {
        let state = master.state(v1::StateRequest {}).await.context("failed to ask the master")?.into_inner();
        let n_active = state.agents.iter().filter(|agent| agent.state == "active").count();
        if n_active == N_AGENTS {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "failed to register {N_AGENTS} agents: {n_active} are");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn told(error: client::ClientError) -> anyhow::Error {
    anyhow::anyhow!("failed to {}", client::chain(&error))
}

/// What became of a task.
struct Seen {
    due: Instant,
    accepted: Instant,
    running: Instant,
}

/// One framework.
struct Load {
    number: usize,
    client: FrameworkClient,
    events: FrameworkEvents,
    began: Instant,
    offers: VecDeque<v1::Offer>,
    /// By the number of the task: when it was due and accepted, and when it ran.
    accepted: Vec<(Instant, Instant)>,
    running: Vec<Option<Instant>>,
    n_running: usize,
    /// To be said at the next tick.
    calls: Vec<Call>,
}

impl Load {
    const RATE: f64 = TASKS_PER_SECOND / N_FRAMEWORKS as f64;
    const N_TASKS: usize = (Self::RATE * SECONDS) as usize;

    async fn new(address: &str, number: usize, began: Instant) -> anyhow::Result<Self> {
        let subscribe = v1::Subscribe {
            framework_id: String::new(),
            name: format!("load-{number}"),
            role: format!("load-{number}"),
            failover_timeout_ms: 0,
            constraints: Vec::new(),
        };
        let Subscription { client, events, .. } =
            FrameworkClient::subscribe(address, None, subscribe).await.map_err(told)?;
        Ok(Self {
            number,
            client,
            events,
            began,
            offers: VecDeque::new(),
            accepted: Vec::with_capacity(Self::N_TASKS),
            running: Vec::with_capacity(Self::N_TASKS),
            n_running: 0,
            calls: Vec::new(),
        })
    }

    /// Until all of its tasks run. It takes no offers then, and stays.
    async fn run(mut self) -> anyhow::Result<(Self, Vec<Seen>)> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while self.n_running < Self::N_TASKS {
            tokio::select! {
                event = self.events.next() => self.hear(event.map_err(told)?)?,
                _ = tick.tick() => {
                    self.launch();
                    if !self.calls.is_empty() {
                        self.client.send(std::mem::take(&mut self.calls)).await.map_err(told)?;
                    }
                    let late = self.began.elapsed().saturating_sub(Duration::from_secs_f64(SECONDS));
                    ensure!(
                        late < PATIENCE,
                        "failed to launch all tasks: of {} of framework {} {} run",
                        Self::N_TASKS,
                        self.number,
                        self.n_running
                    );
                }
            }
        }
        let offer_ids = self.offers.drain(..).map(|offer| offer.offer_id).collect();
        self.calls.push(Call::Suppress(v1::Suppress {}));
        self.calls.push(Call::Decline(v1::DeclineOffers { offer_ids, refuse_ms: None }));
        self.client.send(std::mem::take(&mut self.calls)).await.map_err(told)?;
        let all = std::mem::take(&mut self.accepted).into_iter().zip(std::mem::take(&mut self.running));
        let seen = all.filter_map(|((due, accepted), running)| Some(Seen { due, accepted, running: running? }));
        let seen = seen.collect();
        Ok((self, seen))
    }

    fn hear(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Offer(offer) => self.offers.push_back(offer),
            Event::Rescind(v1::RescindOffer { offer_id }) => self.offers.retain(|offer| offer.offer_id != offer_id),
            Event::Update(status) => {
                let number: usize = status
                    .task_id
                    .rsplit('-')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .context("no task of ours")?;
                ensure!(
                    status.state() == v1::TaskState::Running,
                    "failed to run task {}: {:?} {}",
                    status.task_id,
                    status.state(),
                    status.message
                );
                if self.running[number].replace(Instant::now()).is_none() {
                    self.n_running += 1;
                }
                self.calls.push(Call::Acknowledge(v1::AcknowledgeUpdate {
                    framework_id: String::new(),
                    agent_id: status.agent_id,
                    task_id: status.task_id,
                    uuid: status.uuid,
                }));
            }
            Event::Error(v1::FrameworkError { message }) => bail!("failed to stay subscribed: {message}"),
            Event::Subscribed(_)
            | Event::Heartbeat(_)
            | Event::Drains(_)
            | Event::Preempted(_)
            | Event::Expired(_)
            | Event::Operated(_)
            | Event::VolumesAt(_) => {}
        }
        Ok(())
    }

    /// Accepts offers for what has fallen due.
    fn launch(&mut self) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64();
        let n_due = ((elapsed * Self::RATE) as usize).min(Self::N_TASKS);
        while self.accepted.len() < n_due
            && let Some(offer) = self.offers.pop_front()
        {
            let first = self.accepted.len();
            let launch = (first..n_due).take(TASKS_PER_OFFER).map(|number| self.task(number, &offer.agent_id));
            let launch: Vec<v1::TaskInfo> = launch.collect();
            for number in first..first + launch.len() {
                self.accepted.push((self.began + Duration::from_secs_f64(number as f64 / Self::RATE), now));
                self.running.push(None);
            }
            let offer_ids = vec![offer.offer_id];
            self.calls.push(Call::Accept(v1::AcceptOffers {
                offer_ids,
                launch,
                refuse_ms: Some(0),
                operations: vec![],
            }));
        }
    }

    fn task(&self, number: usize, agent_id: &str) -> v1::TaskInfo {
        let task_id = format!("load-{}-{number}", self.number);
        v1::TaskInfo {
            name: task_id.clone(),
            task_id,
            agent_id: agent_id.to_string(),
            resources: Some(daemon::convert::resources_to(&Resources::new().cpus(1.0).mem_mib(16.0))),
            argv: vec!["true".to_string()],
            ..v1::TaskInfo::default()
        }
    }
}
