//! A master and agents, each a process of its own, that are killed, stopped and started again.

use crate::program::command;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub const MASTER: usize = 0;
/// The first of them.
pub const AGENT: usize = 1;

/// After so long without a word an agent counts as unreachable.
const AGENT_TIMEOUT: &str = "5s";

struct Member {
    args: Vec<String>,
    child: Option<Child>,
    /// It is started, or goes on, then.
    back: Option<Instant>,
}

pub struct Members {
    folder: PathBuf,
    address: String,
    all: Vec<Member>,
    /// When it is let go all tasks end, whatever became of their agents.
    _leash: Flock<File>,
}

impl Members {
    pub fn start(folder: &Path, n_agents: usize) -> Self {
        let address = address_of_its_own();
        let leash = File::create(folder.join("leash")).expect("a file");
        let leash = Flock::lock(leash, FlockArg::LockExclusiveNonblock).expect("a lock of our own");
        let text = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<String>>();
        let mut all = vec![text(&["master", "--listen", &address, "--data-dir", "master"])];
        for at in 0..n_agents {
            let name = format!("agent-{at}");
            let ports = 32_000 + 100 * at;
            let resources = format!("cpus=30;mem=8GiB;ports=[{ports}-{}]", ports + 99);
            let agent = ["agent", "--master", &address, "--name", &name, "--data-dir", &name, "--leash", "leash"];
            all.push(text(&[&agent[..], &["--resources", &resources, "--isolation", "off"]].concat()));
        }
        let all = all.into_iter().map(|args| Member { args, child: None, back: Some(Instant::now()) }).collect();
        let mut members = Self { folder: folder.to_path_buf(), address, all, _leash: leash };
        members.pass_time();
        members
    }

    pub fn master_address(&self) -> &str {
        &self.address
    }

    /// With SIGKILL; it is started again after a while.
    pub fn kill(&mut self, member: usize, back_in: Duration) {
        let member = &mut self.all[member];
        if let Some(mut child) = member.child.take() {
            child.kill().expect("a process of ours is killed");
            child.wait().expect("it ends");
            member.back = Some(Instant::now() + back_in);
        }
    }

    /// With SIGSTOP; it goes on after a while.
    pub fn stop(&mut self, member: usize, back_in: Duration) {
        let member = &mut self.all[member];
        if let Some(child) = &member.child {
            signal(child, Signal::SIGSTOP);
            member.back = Some(Instant::now() + back_in);
        }
    }

    /// Brings back who was away for long enough.
    pub fn pass_time(&mut self) {
        self.bring_back(|back| back <= Instant::now());
    }

    /// Everybody is back from now on.
    pub fn calm(&mut self) {
        self.bring_back(|_| true);
    }

    fn bring_back(&mut self, is_due: impl Fn(Instant) -> bool) {
        for member in self.all.iter_mut().filter(|member| member.back.is_some_and(&is_due)) {
            member.back = None;
            match &member.child {
                Some(child) => signal(child, Signal::SIGCONT),
                None => {
                    let args: Vec<&str> = member.args.iter().map(String::as_str).collect();
                    let mut command = command(&self.folder, &args);
                    command.env("SMACK_AGENT_TIMEOUT", AGENT_TIMEOUT).stdout(Stdio::null()).stderr(Stdio::null());
                    member.child = Some(command.spawn().expect("the program starts"));
                }
            }
        }
    }
}

/// The master comes back to it again and again, so it is none that a connection of somebody else may have meanwhile.
fn address_of_its_own() -> String {
    let from = std::process::id() % 3_000;
    let address = |at: u32| format!("127.0.0.1:{}", 21_000 + (from + at) % 3_000);
    (0..3_000).map(address).find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

fn signal(child: &Child, signal: Signal) {
    // One that ended by itself is noticed by what it no longer does.
    let _ = kill(Pid::from_raw(child.id() as i32), signal);
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.all.iter_mut().rev().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
