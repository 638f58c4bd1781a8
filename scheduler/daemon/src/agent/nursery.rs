//! The thread that starts all tasks, and the threads that wait for them.
//!
//! Each task is a process that leads its own session and group, runs in its sandbox, and dies with this agent: the
//! kernel kills it when the thread that started it ends. That is why one thread starts them all and lives as long as
//! the agent; a pool's threads come and go.
//!
//! Invariant: for one task, `Started` is reported before `Exited`, and each at most once.
//! Invariant: a signal never reaches a stranger. A process is reaped only after it was marked as ended, under the same
//! lock that a signal takes, and until it is reaped its number cannot pass to another.

use super::sandboxes::{SANDBOX_VARIABLE, Sandboxes};
use crate::files;
use jobs::AgentId;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{self, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid, setsid};
use scheduler::agent::{Exit, Signal};
use scheduler::model::{TaskInfo, TaskKey};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Orders that the thread has not yet carried out; starting a process takes a millisecond or two, and the owner waits
/// when this many are ahead of it.
const ORDERS: usize = 256;

/// Threads that only wait need little.
const WAITER_STACK_BYTES: usize = 64 << 10;

pub(super) enum Order {
    Start { task: TaskKey, info: Box<TaskInfo> },
    Signal { task: TaskKey, signal: Signal },
}

pub(super) enum Report {
    Started { task: TaskKey, pid: u32 },
    StartFailed { task: TaskKey, message: String },
    Exited { task: TaskKey, exit: Exit },
}

/// What all tasks of this agent share.
pub(super) struct Launcher {
    pub agent_id: AgentId,
    pub host: String,
    pub task_binary: PathBuf,
    pub sandboxes: Sandboxes,
}

/// Dropping it kills every task.
pub(super) struct Nursery {
    orders: mpsc::Sender<Order>,
}

/// Not bounded: each order to start is answered by at most two reports, so the bound on orders bounds this as well;
/// and the thread must not wait for the owner, which may be waiting for it.
pub(super) type Reports = mpsc::UnboundedReceiver<Report>;

impl Nursery {
    pub fn open(launcher: Launcher) -> io::Result<(Self, Reports)> {
        let (orders, to_do) = mpsc::channel(ORDERS);
        let (reports, reported) = mpsc::unbounded_channel();
        thread::Builder::new().name("nursery".into()).spawn(move || run(&launcher, to_do, &reports))?;
        Ok((Self { orders }, reported))
    }

    /// Orders are carried out one after the other. `Err` if the thread is gone, which only a defect can cause.
    pub async fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.send(order).await.map_err(|error| error.0)
    }
}

/// A task's process group.
struct Group {
    leader: Pid,
    /// Set just before the leader is reaped.
    ended: Mutex<bool>,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: signal::Signal) {
        let ended = self.lock();
        if !*ended && let Err(error) = killpg(self.leader, signal) {
            debug!(leader = %self.leader, %signal, %error, "signal not delivered");
        }
    }
}

fn run(launcher: &Launcher, mut orders: mpsc::Receiver<Order>, reports: &mpsc::UnboundedSender<Report>) {
    let mut groups: HashMap<TaskKey, Arc<Group>> = HashMap::new();
    while let Some(order) = orders.blocking_recv() {
        groups.retain(|_, group| !*group.lock());
        match order {
            Order::Start { task, info } => {
                let report = match launch(launcher, &task, *info) {
                    Ok(child) => {
                        let pid = child.id();
                        let leader =
                            Pid::from_raw(i32::try_from(pid).expect("the kernel numbers processes below 2^22"));
                        let group = Arc::new(Group { leader, ended: Mutex::new(false) });
                        groups.insert(task.clone(), Arc::clone(&group));
                        // The owner is gone when a report cannot be sent; then this loop ends as well.
                        let _ = reports.send(Report::Started { task: task.clone(), pid });
                        watch(task, child, group, reports);
                        continue;
                    }
                    Err(message) => Report::StartFailed { task, message },
                };
                let _ = reports.send(report);
            }
            Order::Signal { task, signal } => {
                if let Some(group) = groups.get(&task) {
                    group.signal(match signal {
                        Signal::Term => signal::Signal::SIGTERM,
                        Signal::Kill => signal::Signal::SIGKILL,
                    });
                }
            }
        }
    }
    // The agent ends. The kernel kills the leaders when this thread is gone; this reaches what they have started too.
    for group in groups.values() {
        group.signal(signal::Signal::SIGKILL);
    }
}

/// Waits for the process on a thread of its own.
fn watch(task: TaskKey, child: Child, group: Arc<Group>, reports: &mpsc::UnboundedSender<Report>) {
    let reports = reports.clone();
    let waiting = Arc::new(Mutex::new(Some((task, child))));
    let wait = {
        let (waiting, group) = (Arc::clone(&waiting), Arc::clone(&group));
        move || {
            if let Some((task, child)) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
                let exit = wait(child, &group);
                let _ = reports.send(Report::Exited { task, exit });
            }
        }
    };
    let spawned = thread::Builder::new().name("waiter".into()).stack_size(WAITER_STACK_BYTES).spawn(wait.clone());
    if let Err(error) = spawned {
        // The machine is out of threads: a task that nobody watches must not run.
        warn!(leader = %group.leader, %error, "no thread to wait for a task; it is killed");
        group.signal(signal::Signal::SIGKILL);
        wait();
    }
}

fn wait(mut child: Child, group: &Group) -> Exit {
    let leaves_a_zombie = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(group.leader), leaves_a_zombie) == Err(Errno::EINTR) {}
    let mut ended = group.lock();
    // What the task has started and left behind would use resources that are about to be given to others.
    let _ = killpg(group.leader, signal::Signal::SIGKILL);
    *ended = true;
    match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unseen,
        },
        Err(_) => Exit::Unseen,
    }
}

/// Prepares the sandbox and starts the process in it. An error is a sentence for people.
fn launch(launcher: &Launcher, task: &TaskKey, info: TaskInfo) -> Result<Child, String> {
    let sandbox = launcher.sandboxes.create(task).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("failed to create the sandbox of task {}: a task of this id ran on this agent before", task.task_id)
        }
        _ => format!("failed to create the sandbox of task {}: {error}", task.task_id),
    })?;
    let output = |name: &str| {
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(sandbox.join(name));
        file.map_err(|error| format!("failed to create {name} in the sandbox: {error}"))
    };
    let (stdout, stderr) = (output("stdout")?, output("stderr")?);
    let mut command = match info.argv.split_first() {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args);
            command
        }
        None => {
            let plan = sandbox.join("plan.json");
            files::write(&plan, &info.plan).map_err(|error| format!("failed to {error}"))?;
            let mut command = Command::new(&launcher.task_binary);
            command.arg("task").arg("--plan").arg(plan);
            // Others reach it under the agent's name, so it goes by the agent's certificate.
            if let Some(tls) = tls::process() {
                command.envs(tls.files.given().map(|(_, variable, path)| (variable, path)));
            }
            command
        }
    };
    let cpus = info.resources.amount("cpus").ceil().max(1.0);
    command
        // A task that says nothing else computes on as many threads as it was given cores.
        .env("RAYON_NUM_THREADS", cpus.to_string())
        .envs(&info.env)
        .env("SMACK_TASK_ID", task.task_id.as_str())
        .env("SMACK_FRAMEWORK_ID", task.framework_id.as_str())
        .env("SMACK_AGENT_ID", launcher.agent_id.as_str())
        .env("SMACK_HOST", &launcher.host)
        .env(SANDBOX_VARIABLE, &sandbox)
        .current_dir(&sandbox)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    lead_a_session_and_die_with_this_thread(&mut command);
    command.spawn().map_err(|error| start_failed(command.get_program().as_ref(), &error))
}

fn start_failed(program: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("failed to start {}: there is no such program on this agent", program.display())
        }
        _ => format!("failed to start {}: {error}", program.display()),
    }
}

fn lead_a_session_and_die_with_this_thread(command: &mut Command) {
    let agent = Pid::this();
    let prepare = move || {
        setsid()?;
        prctl::set_pdeathsig(signal::Signal::SIGKILL)?;
        // The agent died before it could be told about: the signal will not come.
        if getppid() != agent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are three system calls on values
    // copied beforehand, and an error is made from a number, without allocating.
    unsafe {
        command.pre_exec(prepare);
    }
}
