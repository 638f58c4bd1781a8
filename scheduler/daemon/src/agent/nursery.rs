//! The thread that has tasks started, and what waits for their ends.
//!
//! A task's parent is its supervisor, which outlives this agent ([`super::keep`]); what is held here is a descriptor of
//! each supervisor, whether this agent had it started or found it. The end of the supervisor is the end of the task,
//! and how it ended stands in the sandbox.
//!
//! Invariant: for one task, `Started` is reported before `Exited`, and each at most once.
//! Invariant: when a task's end is reported, no process of it is left.

use super::accounts::Account;
use super::ground::{Ground, Place};
use super::isolation::Cgroups;
use super::keep::identity::PidFd;
use super::keep::zygote::Zygote;
use super::keep::{Kept, Start, read_end};
use super::leftovers;
use super::sandboxes::SANDBOX_VARIABLE;
use super::secrets::Secrets;
use super::volumes::Volumes;
use jobs::AgentId;
use scheduler::agent::{Exit, Signal};
use scheduler::model::{TaskInfo, TaskKey, check_task};
use scheduler::volumes::{Volume, VolumeKey};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, warn};

pub(super) enum Order {
    Start { task: TaskKey, info: Box<TaskInfo> },
    Signal { task: TaskKey, signal: Signal },
    KeepVolume(Volume),
    RemoveVolume(VolumeKey),
}

pub(super) enum Report {
    Started { task: TaskKey, pid: u32 },
    StartFailed { task: TaskKey, message: String },
    Exited { task: TaskKey, exit: Exit },
    VolumeRemoved(VolumeKey),
}

/// What all tasks of this agent share.
pub(super) struct Launcher {
    pub agent_id: AgentId,
    pub host: String,
    pub task_binary: PathBuf,
    pub kill_grace_ms: u64,
    /// `None` where the machine permits none.
    pub cgroups: Option<Cgroups>,
    pub output_most_bytes: u64,
    pub ground: Ground,
    pub secrets: Secrets,
    pub volumes: Volumes,
    pub zygote: Zygote,
}

/// A task of an earlier agent that goes on.
pub(super) struct Adopted {
    pub task: TaskKey,
    pub sandbox: PathBuf,
    pub supervisor: PidFd,
}

/// Dropping it ends no task.
///
/// Orders are not bounded but by the tasks that the agent has, of which each has one or two: starting a process takes a
/// millisecond or two, thousands may come at once, and an owner that waited for them would be taken for dead meanwhile.
pub(super) struct Nursery {
    orders: mpsc::UnboundedSender<Order>,
}

/// Not bounded: each order to start is answered by at most two reports, so what bounds orders bounds this as well.
pub(super) type Reports = mpsc::UnboundedReceiver<Report>;

impl Nursery {
    /// Must be called within the runtime that is to wait for the tasks.
    pub fn open(launcher: Launcher, adopted: Vec<Adopted>) -> io::Result<(Self, Reports)> {
        let (orders, to_do) = mpsc::unbounded_channel();
        let (reports, reported) = mpsc::unbounded_channel();
        let mut wards = Wards { by_task: HashMap::new(), runtime: Handle::current(), reports };
        for Adopted { task, sandbox, supervisor } in adopted {
            wards.watch(task, sandbox, supervisor);
        }
        thread::Builder::new().name("nursery".into()).spawn(move || run(launcher, wards, to_do))?;
        Ok((Self { orders }, reported))
    }

    /// Orders are carried out one after the other. `Err` if the thread is gone, which only a defect can cause.
    pub fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.send(order).map_err(|error| error.0)
    }
}

/// The descriptor by which a task's supervisor is signalled, and its end is waited for.
#[derive(Clone)]
struct Ward(Arc<PidFd>);

impl AsRawFd for Ward {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

struct Wards {
    /// Those that ended are dropped when the next is started.
    by_task: HashMap<TaskKey, Ward>,
    runtime: Handle,
    reports: mpsc::UnboundedSender<Report>,
}

impl Wards {
    /// The owner is gone when a report cannot be sent; then the thread ends as well.
    fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }

    /// Reports the end of the task when its supervisor is gone.
    fn watch(&mut self, task: TaskKey, sandbox: PathBuf, supervisor: PidFd) {
        let ward = Ward(Arc::new(supervisor));
        self.by_task.insert(task.clone(), ward.clone());
        let reports = self.reports.clone();
        self.runtime.spawn(async move {
            if let Err(error) = ended(ward).await {
                // Not known to have ended, so it must not be said; a new agent looks again.
                return warn!(%task, %error, "failed to wait for a task's supervisor; restart this agent to find it again");
            }
            let settled = tokio::task::spawn_blocking(move || settle(&sandbox)).await;
            let _ = reports.send(Report::Exited { task, exit: settled.unwrap_or(Exit::Unseen) });
        });
    }

    fn signal(&self, task: &TaskKey, signal: Signal) {
        let Some(ward) = self.by_task.get(task) else { return };
        let sent = match signal {
            Signal::Term => ward.0.signal(libc::SIGTERM),
            // One that somebody stopped would not hear it.
            Signal::Kill => ward.0.signal(libc::SIGUSR1).and_then(|()| ward.0.signal(libc::SIGCONT)),
        };
        if let Err(error) = sent {
            debug!(%task, ?signal, %error, "signal not delivered");
        }
    }
}

async fn ended(ward: Ward) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the ward, which goes with it, never closes or replaces it.
    let waiting = unsafe { AsyncFd::register_with_interest(ward, Interest::READABLE) };
    waiting?.readable().await.map(drop)
}

/// How a task whose supervisor is gone has ended. If the supervisor was killed, what is left of the task is ended.
fn settle(sandbox: &Path) -> Exit {
    read_end(sandbox).unwrap_or_else(|| {
        if let Err(error) = leftovers::end_all_in(sandbox) {
            warn!(%error, "a task lost its supervisor");
        }
        Exit::Unseen
    })
}

fn run(mut launcher: Launcher, mut wards: Wards, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Start { task, info } => {
                // Whoever waited for one that ended has let go of it.
                wards.by_task.retain(|_, ward| Arc::strong_count(&ward.0) > 1);
                let is_fetched_for = !info.artifacts.is_empty();
                match launch(&mut launcher, &task, *info) {
                    Ok((sandbox, kept)) => started(&mut wards, task, sandbox, &kept),
                    Err(message) => {
                        if is_fetched_for {
                            launcher.ground.sandboxes.discard(&task);
                        }
                        wards.report(Report::StartFailed { task, message });
                    }
                }
            }
            Order::Signal { task, signal } => wards.signal(&task, signal),
            Order::KeepVolume(volume) => {
                // Whoever claims it then is told that it is not there.
                if let Err(error) = launcher.volumes.keep(&volume) {
                    warn!(volume = %volume.key, %error, "a volume cannot be made");
                }
            }
            Order::RemoveVolume(key) => match launcher.volumes.remove(&key) {
                Ok(()) => wards.report(Report::VolumeRemoved(key)),
                // The master asks again when this agent registers.
                Err(error) => warn!(volume = %key, %error, "a volume cannot be removed"),
            },
        }
    }
}

fn started(wards: &mut Wards, task: TaskKey, sandbox: PathBuf, kept: &Kept) {
    let opened = PidFd::open(kept.supervisor);
    wards.report(Report::Started { task: task.clone(), pid: kept.task.pid.unsigned_abs() });
    match opened {
        Ok(Some(supervisor)) => wards.watch(task, sandbox, supervisor),
        Ok(None) => wards.report(Report::Exited { task, exit: settle(&sandbox) }),
        Err(error) => {
            // A task that nobody watches must not run.
            warn!(%task, %error, "no descriptor to wait for a task; it is killed");
            if let Err(error) = leftovers::end_all_in(&sandbox) {
                warn!(%task, %error, "a task goes on that nobody watches");
            }
            wards.report(Report::Exited { task, exit: read_end(&sandbox).unwrap_or(Exit::Unseen) });
        }
    }
}

/// Prepares the sandbox and has the process started in it. An error is a sentence for people.
fn launch(launcher: &mut Launcher, task: &TaskKey, info: TaskInfo) -> Result<(PathBuf, Kept), String> {
    // The master checked it, and what root does by it is worth a second look.
    check_task(&info).map_err(|problem| format!("failed to start the task: {problem}"))?;
    // What is fetched for it is in its sandbox already.
    let make = if info.artifacts.is_empty() { Ground::make } else { Ground::find };
    let place = make(&launcher.ground, task, &info)?;
    let secrets = launcher.secrets.of(&info)?;
    let shown = launcher.volumes.show(&launcher.ground, &place, &info)?;
    place.hand_over()?;
    let Place { sandbox, work, account } = &place;
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(format!("failed to start the task: {} is no readable name", path.display())),
    };
    let cpus = info.resources.cores().ceil().max(1.0);
    // A task that says nothing else computes on as many threads as it was given cores.
    let mut env = std::collections::BTreeMap::from([("RAYON_NUM_THREADS".to_string(), cpus.to_string())]);
    let is_ours = info.argv.is_empty();
    let argv = if is_ours {
        // Others reach it under the agent's name, so it goes by the agent's certificate.
        for (_, variable, path) in tls::process().into_iter().flat_map(|tls| tls.files.given()) {
            env.insert(variable.to_string(), text(path)?);
        }
        let plan = place.write("plan.json", &info.plan)?;
        vec![text(&launcher.task_binary)?, "task".to_string(), "--plan".to_string(), text(&plan)?]
    } else {
        info.argv
    };
    if let Some(Account { name, home, .. }) = account {
        let own = [("USER", name.clone()), ("LOGNAME", name.clone()), ("HOME", text(home)?)];
        env.extend(own.map(|(variable, value)| (variable.to_string(), value)));
    }
    env.extend(info.env);
    env.extend(secrets);
    for (name, value) in [
        ("SMACK_TASK_ID", task.task_id.to_string()),
        ("SMACK_FRAMEWORK_ID", task.framework_id.to_string()),
        ("SMACK_AGENT_ID", launcher.agent_id.to_string()),
        ("SMACK_HOST", launcher.host.clone()),
        (SANDBOX_VARIABLE, text(work)?),
    ] {
        env.insert(name.to_string(), value);
    }
    for (name, path) in shown {
        env.insert(name, text(&path)?);
    }
    let kill_grace_ms = if info.kill_grace_ms == 0 { launcher.kill_grace_ms } else { info.kill_grace_ms };
    let cgroup = launcher.cgroups.as_mut().and_then(|cgroups| match cgroups.make(&info.resources) {
        Ok(cgroup) => Some(cgroup),
        Err(error) => {
            warn!(%task, %error, "no control group for a task; it is not held to what it asked for");
            None
        }
    });
    let output_most_bytes = launcher.output_most_bytes;
    let is_lent = info.resources.is_revocable();
    let (sandbox, work, account) = (sandbox.clone(), work.clone(), account.clone());
    let start = Start { sandbox, work, account, is_ours, argv, env, kill_grace_ms, cgroup, output_most_bytes, is_lent };
    launcher.zygote.start(&start).map(|kept| (start.sandbox, kept))
}
