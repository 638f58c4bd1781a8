//! The supervisor of one task: its parent, from its first moment to the end of the last process that it left behind.
//!
//! SIGTERM asks the task to end, SIGUSR1 ends it: the agent sends these to the supervisor, which alone knows for sure
//! whose the task's number is.
//!
//! Invariant: the task leads a session and a group of its own and dies with its supervisor.
//! Invariant: until everything that the task started is gone, the task is not buried, so that its group's number stays
//! its own; then how it ended is written, and only then does the supervisor go.

use super::frames::{Answer, Hello, Kept, Start, send, write_end, write_kept};
use super::identity::{Identity, boot_id};
use super::limits::{self, Entrances};
use super::lock::{Held, is_held};
use crate::agent::accounts::Account;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, killpg, signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getppid, setsid};
use scheduler::agent::Exit;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A process in an uninterruptible wait outlives SIGKILL until its disk answers; its end is not waited for any longer.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// How often a supervisor looks whether its agent is there, and at the task's output; and at the leash, if there is one.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY_ON_A_LEASH: Duration = Duration::from_millis(500);

/// A task whose agent is gone is given no more, whatever it asked for.
const GRACE_MOST: Duration = Duration::from_secs(600);

pub(super) struct Supervisor {
    pub hello: Hello,
    pub start: Start,
    /// To the zygote, which waits for it.
    pub answer: PipeWriter,
    pub lock: Held,
}

impl Supervisor {
    pub fn run(self) -> ExitCode {
        let Self { hello, start, mut answer, lock } = self;
        let begun = begin(&start);
        let told = match &begun {
            Ok((_, kept)) => Answer::Started(kept.clone()),
            Err(message) => Answer::Failed(message.clone()),
        };
        // If the zygote is gone, the next agent finds the file.
        let _ = send(&mut answer, &told);
        drop((answer, lock));
        let Ok((leader, _)) = begun else {
            limits::remove(start.cgroup.as_ref());
            return ExitCode::SUCCESS;
        };
        let agent_lock = hello.agent_lock.clone();
        let exit = limits::explain(stay_with(leader, &start, Watch::new(hello)), start.cgroup.as_ref());
        limits::remove(start.cgroup.as_ref());
        match write_end(&start.sandbox, exit, !is_held(&agent_lock)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("failed to write how the task in {} ended ({exit:?}): {error}", start.sandbox.display());
                ExitCode::FAILURE
            }
        }
    }
}

/// What a supervisor hears. The mask is the task's business only after it was lifted.
fn heard() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        set.add(signal);
    }
    set
}

/// Starts the task and says so in its sandbox. An error is a sentence for people, and leaves no process.
fn begin(start: &Start) -> Result<(Pid, Kept), String> {
    let prepared = || -> nix::Result<()> {
        setsid()?;
        // What the task starts and forgets comes to this process.
        prctl::set_child_subreaper(true)?;
        // SAFETY: no handler of ours runs.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        heard().thread_block()
    };
    prepared().map_err(|errno| format!("failed to prepare the supervisor of the task: {errno}"))?;
    let child = spawn(start)?;
    let leader = Pid::from_raw(i32::try_from(child.id()).map_err(|_| "the kernel gave an impossible number")?);
    let identified = Identity::of(Pid::this().as_raw()).zip(Identity::of(leader.as_raw()));
    let written = match identified {
        Some((supervisor, task)) => {
            let kept = Kept { boot_id: boot_id(), supervisor, task, account: start.account.clone() };
            write_kept(&start.sandbox, &kept).map(|()| kept)
        }
        None => Err(io::Error::other("/proc does not show it")),
    };
    match written {
        Ok(kept) => Ok((leader, kept)),
        Err(error) => {
            // A task that no later agent could find must not run.
            sweep(leader);
            let _ = waitpid(leader, None);
            Err(format!("failed to write down the task's process: {error}"))
        }
    }
}

fn spawn(start: &Start) -> Result<std::process::Child, String> {
    let output = |name: &str| {
        let path = start.sandbox.join(name);
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path);
        // Programs open their output anew, by its name in /dev.
        let owned = file.and_then(|file| start.account.as_ref().map_or(Ok(()), |user| user.own(&path)).map(|()| file));
        owned.map_err(|error| format!("failed to create {name} in the sandbox: {error}"))
    };
    let (stdout, stderr): (File, File) = (output("stdout")?, output("stderr")?);
    let (program, args) = start.argv.split_first().ok_or("failed to start the task: it has no command")?;
    let mut command = Command::new(program);
    if start.account.is_some() && !start.is_ours {
        command.env_clear().envs(Account::environment());
    }
    command.args(args).envs(&start.env).current_dir(&start.work).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let supervisor = Pid::this();
    let entrances = Entrances::open(start.cgroup.as_ref())
        .map_err(|error| format!("failed to open the control group of the task: {error}"))?;
    let (descriptors, is_lent, account) = (entrances.descriptors(), start.is_lent, start.account.clone());
    let prepare = move || {
        setsid()?;
        SigSet::empty().thread_set_mask()?;
        limits::set_resource_limits()?;
        if is_lent {
            limits::step_back();
        }
        limits::enter(&descriptors)?;
        if let Some(account) = &account {
            account.become_it()?;
        }
        // Whoever becomes another user loses it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The supervisor died before it could be told about: the signal will not come.
        if getppid() == supervisor { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are system calls on values copied
    // beforehand, and an error is made from a number, without allocating.
    unsafe {
        command.pre_exec(prepare);
    }
    command.spawn().map_err(|error| start_failed(Path::new(program), start.account.as_ref(), &error))
}

fn start_failed(program: &Path, account: Option<&Account>, error: &io::Error) -> String {
    match (error.kind(), account) {
        (io::ErrorKind::NotFound, _) => {
            format!("failed to start {}: there is no such program on this agent", program.display())
        }
        (io::ErrorKind::PermissionDenied, Some(Account { name, .. })) => format!(
            "failed to start {} as user {name}: {error}; it, or a folder that it is in, is closed to that user",
            program.display()
        ),
        _ => format!("failed to start {}: {error}", program.display()),
    }
}

/// Waits for the end of the task and of what it started.
fn stay_with(leader: Pid, start: &Start, mut watch: Watch) -> Exit {
    let heard = heard();
    let mut kill_at: Option<Instant> = None;
    let mut was_left = false;
    while !has_ended(leader) {
        let until = watch.next_look.min(kill_at.unwrap_or(watch.next_look));
        match wait_for_signal(&heard, until.saturating_duration_since(Instant::now())) {
            Some(libc::SIGCHLD) | None => {}
            Some(libc::SIGUSR1) => end_all(leader),
            // It is gone if this fails, and the next look sees that.
            Some(_) => drop(killpg(leader, Signal::SIGTERM)),
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            kill_at = None;
            end_all(leader);
        }
        match watch.look() {
            Seen::NotYet => {}
            Seen::AllIsWell => trim_output(start),
            Seen::LeashIsGone => {
                was_left = true;
                end_all(leader);
            }
            Seen::AgentIsGone if was_left => {}
            Seen::AgentIsGone => {
                was_left = true;
                let _ = killpg(leader, Signal::SIGTERM);
                kill_at = Some(Instant::now() + Duration::from_millis(start.kill_grace_ms).min(GRACE_MOST));
            }
        }
    }
    sweep(leader);
    match waitpid(leader, None) {
        Ok(_) if was_left => Exit::Abandoned,
        Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
        Ok(_) | Err(_) => Exit::Unseen,
    }
}

fn trim_output(start: &Start) {
    for name in ["stdout", "stderr"] {
        if let Err(error) = limits::trim(&start.sandbox.join(name), start.output_most_bytes)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("failed to keep {name} in {} small: {error}", start.sandbox.display());
        }
    }
}

/// The next of these signals, or `None` after a while.
fn wait_for_signal(set: &SigSet, most: Duration) -> Option<i32> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: i64::from(most.subsec_nanos()),
    };
    // SAFETY: set and timeout outlive the call, and nothing is written.
    let signal = unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &timeout) };
    (signal > 0).then_some(signal)
}

/// Whether the task's own process has ended. It is left unburied; others that came to us are not.
fn has_ended(leader: Pid) -> bool {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
            Ok(status) => match status.pid() {
                Some(pid) if pid == leader => return true,
                Some(pid) => drop(waitpid(pid, Some(WaitPidFlag::WNOHANG))),
                // None has ended.
                None => return false,
            },
            Err(Errno::EINTR) => {}
            // No child at all, which only a defect can cause: nothing is left to wait for.
            Err(_) => return true,
        }
    }
}

/// SIGKILL for the task's group, and for what left the group and lost its parent.
fn end_all(leader: Pid) {
    let _ = killpg(leader, Signal::SIGKILL);
    for child in children().into_iter().filter(|child| *child != leader) {
        let _ = kill(child, Signal::SIGKILL);
    }
}

/// Ends everything but the unburied task itself. What dies hands its own children to this process, so this goes on until
/// none is left.
fn sweep(leader: Pid) {
    let begun = Instant::now();
    loop {
        end_all(leader);
        bury_strangers(leader);
        if children().iter().all(|child| *child == leader) || begun.elapsed() > SWEEP_PATIENCE {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Buries all children that have ended but the task itself.
fn bury_strangers(leader: Pid) {
    for child in children().into_iter().filter(|child| *child != leader) {
        let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
    }
}

/// Where the kernel does not list them, whatever left the task's group is not found.
fn children() -> Vec<Pid> {
    let me = Pid::this();
    let listed = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

enum Seen {
    /// It is not time to look.
    NotYet,
    AllIsWell,
    /// For longer than the recovery timeout.
    AgentIsGone,
    LeashIsGone,
}

/// Looks from time to time whether somebody still wants the task.
struct Watch {
    hello: Hello,
    every: Duration,
    next_look: Instant,
    alone_since: Option<Instant>,
}

impl Watch {
    fn new(hello: Hello) -> Self {
        let most = if hello.leash.is_some() { LOOK_EVERY_ON_A_LEASH } else { LOOK_EVERY };
        let every = most.min(Duration::from_millis(hello.recovery_timeout_ms / 4).max(Duration::from_millis(10)));
        Self { hello, every, next_look: Instant::now() + every, alone_since: None }
    }

    fn look(&mut self) -> Seen {
        let now = Instant::now();
        if now < self.next_look {
            return Seen::NotYet;
        }
        self.next_look = now + self.every;
        if self.hello.leash.as_deref().is_some_and(|leash| !is_held(leash)) {
            return Seen::LeashIsGone;
        }
        if is_held(&self.hello.agent_lock) {
            self.alone_since = None;
            return Seen::AllIsWell;
        }
        let since = *self.alone_since.get_or_insert(now);
        if now - since >= Duration::from_millis(self.hello.recovery_timeout_ms) {
            return Seen::AgentIsGone;
        }
        Seen::AllIsWell
    }
}
