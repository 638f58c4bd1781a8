//! The zygote: forks a supervisor for each task that the agent wants; and the agent's hold on it.
//!
//! Invariant: it ends with its agent. What it was told and had not begun is not started then: the next agent would not
//! know of it.
//! Invariant: tasks are started one after the other, and only by the holder of the start lock; so whoever gets that lock
//! finds in the sandboxes every task that was ever started.

use super::frames::{Answer, Hello, Kept, Start, read_kept, receive, send};
use super::lock::Held;
use super::supervisor::Supervisor;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork, setsid};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tracing::warn;

/// Starting a process takes milliseconds; on a machine that swaps, seconds. A zygote that is slower hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// An earlier zygote ends as soon as it sees that its agent is gone, after the start that it is at.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Serves until the agent hangs up. In a forked child it returns what that child is to be.
pub(super) fn serve() -> io::Result<Option<Supervisor>> {
    let mut agent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    // Where the agent works is none of a supervisor's business, and must not keep it from being removed.
    std::env::set_current_dir("/")?;
    // The kernel buries supervisors: who wants to know of their end holds a descriptor of them.
    // SAFETY: no handler of ours runs.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let hello: Hello = receive(&mut agent)?;
    let lock = Held::take(&hello.start_lock, LOCK_PATIENCE)?;
    send(&mut agent, &Answer::Ready)?;
    loop {
        let start: Start = receive(&mut agent)?;
        if hung_up(&agent)? {
            return Ok(None);
        }
        let (mut answers, answer) = io::pipe()?;
        // SAFETY: this process has one thread, so the child may do whatever this one may.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => return Ok(Some(Supervisor { hello, start, answer, lock })),
            Ok(ForkResult::Parent { .. }) => {
                drop(answer);
                let heard = receive(&mut answers).unwrap_or_else(|error| {
                    Answer::Failed(format!("failed to start the task: its supervisor ended before it: {error}"))
                });
                send(&mut agent, &heard)?;
            }
            Err(errno) => send(&mut agent, &Answer::Failed(format!("failed to fork a supervisor: {errno}")))?,
        }
    }
}

/// Whether nobody is at the other end, although it may have said more before.
fn hung_up(agent: &UnixStream) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd { fd: agent.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    match unsafe { libc::poll(&mut poll, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(poll.revents & (libc::POLLHUP | libc::POLLERR) != 0),
    }
}

/// The agent's hold on its zygote. Dropping it ends the zygote, and no task.
pub struct Zygote {
    program: Vec<String>,
    /// Stands in its command line, so that people see whose it is.
    dir: PathBuf,
    hello: Hello,
    open: Option<Open>,
}

struct Open {
    /// Closed before the process is waited for.
    socket: Option<UnixStream>,
    child: Child,
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.socket.take());
        // It ends by itself, having nobody to serve; if it hangs it must not hang us.
        let begun = std::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(2) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Zygote {
    /// Returns once no zygote of an earlier agent can start anything. Blocks.
    pub fn open(program: Vec<String>, dir: PathBuf, hello: Hello) -> io::Result<Self> {
        let mut zygote = Self { program, dir, hello, open: None };
        zygote.connect()?;
        Ok(zygote)
    }

    fn connect(&mut self) -> io::Result<&mut UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_WITHIN))?;
        ours.set_write_timeout(Some(ANSWER_WITHIN))?;
        let (program, args) = self.program.split_first().ok_or_else(|| io::Error::other("no program to keep tasks"))?;
        // Supervisors hold it for as long as they live, so it must be nothing that somebody waits for the end of.
        let log = File::options().create(true).append(true).open(self.dir.join("keep.log"))?;
        let mut command = Command::new(program);
        command.args(args).arg(&self.dir).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
        // SAFETY: setsid is async-signal-safe, and its error is made of a number.
        unsafe {
            // What a terminal says to the agent's group is not for the tasks.
            command.pre_exec(|| setsid().map(drop).map_err(io::Error::from));
        }
        let child = command.spawn()?;
        // The command holds the other end until here; only the process may.
        drop(command);
        let open = self.open.insert(Open { socket: Some(ours), child });
        let socket = open.socket.as_mut().ok_or_else(|| io::Error::other("no socket"))?;
        send(socket, &self.hello)?;
        match receive(socket)? {
            Answer::Ready => Ok(socket),
            other => Err(io::Error::other(format!("it answers {other:?}"))),
        }
    }

    /// Starts a task. An error is a sentence for people. Blocks.
    pub fn start(&mut self, start: &Start) -> Result<Kept, String> {
        let answer = self.ask(start).or_else(|error| {
            warn!(%error, "the process that starts tasks does not answer; another takes its place");
            self.open = None;
            self.connect()?;
            // The new one has the lock, so whatever the old one began is done, and nothing that it had not begun will be.
            match read_kept(&start.sandbox) {
                Some(kept) => Ok(Answer::Started(kept)),
                None => self.ask(start),
            }
        });
        match answer {
            Ok(Answer::Started(kept)) => Ok(kept),
            Ok(Answer::Failed(message)) => Err(message),
            Ok(Answer::Ready) => Err("failed to start the task: the zygote answers out of order".to_string()),
            Err(error) => Err(format!("failed to start the task: the process that starts tasks ended: {error}")),
        }
    }

    fn ask(&mut self, start: &Start) -> io::Result<Answer> {
        match self.open.as_mut().and_then(|open| open.socket.as_mut()) {
            Some(socket) => send(socket, start).and_then(|()| receive(socket)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
