//! A master and agents, each a process of its own, that are killed, stopped and started again, and cut off from one another
//! where they have a network of their own.

use super::network::{Cut, Network};
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
    network: Option<Network>,
    /// By agent: when its line is mended.
    cuts: Vec<Option<Instant>>,
    /// When it is let go all tasks end, whatever became of their agents.
    _leash: Flock<File>,
}

impl Members {
    /// `token_file` guards a master that others than this machine reach.
    pub fn start(folder: &Path, n_agents: usize, network: Option<Network>, token_file: &Path) -> Self {
        let address = match &network {
            Some(_) => "127.0.0.1:5050".to_string(),
            None => address_of_its_own(),
        };
        let listen = address.replace("127.0.0.1", if network.is_some() { "0.0.0.0" } else { "127.0.0.1" });
        let token_file = token_file.display().to_string();
        let leash = File::create(folder.join("leash")).expect("a file");
        let leash = Flock::lock(leash, FlockArg::LockExclusiveNonblock).expect("a lock of our own");
        let text = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<String>>();
        let mut all = vec![text(&["master", "--listen", &listen, "--data-dir", "master", "--token-file", &token_file])];
        for at in 0..n_agents {
            let name = format!("agent-{at}");
            let ports = 32_000 + 100 * at;
            let resources = format!("cpus=30;mem=8GiB;ports=[{ports}-{}]", ports + 99);
            let master = match &network {
                Some(_) => address.replace("127.0.0.1", &Network::master_host(at)),
                None => address.clone(),
            };
            let agent = ["agent", "--master", &master, "--name", &name, "--data-dir", &name, "--leash", "leash"];
            let rest = ["--resources", &resources, "--isolation", "off", "--token-file", &token_file];
            all.push(text(&[&agent[..], &rest].concat()));
        }
        let all = all.into_iter().map(|args| Member { args, child: None, back: Some(Instant::now()) }).collect();
        let cuts = vec![None; n_agents];
        let mut members = Self { folder: folder.to_path_buf(), address, all, network, cuts, _leash: leash };
        members.pass_time();
        members
    }

    /// As the master's own machine knows it.
    pub fn master_address(&self) -> &str {
        &self.address
    }

    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Nothing comes through between an agent and the master; the line is mended after a while.
    pub fn cut(&mut self, agent: usize, cut: Cut, mended_in: Duration) {
        if let Some(network) = &self.network {
            network.cut(agent, cut).expect("a line is cut");
            self.cuts[agent] = Some(Instant::now() + mended_in);
        }
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
        if let Some(network) = &self.network {
            for (agent, cut) in self.cuts.iter_mut().enumerate().filter(|(_, cut)| cut.is_some_and(&is_due)) {
                network.mend(agent).expect("a line is mended");
                *cut = None;
            }
        }
        for (at, member) in self.all.iter_mut().enumerate().filter(|(_, member)| member.back.is_some_and(&is_due)) {
            member.back = None;
            match &member.child {
                Some(child) => signal(child, Signal::SIGCONT),
                None => {
                    let args: Vec<&str> = member.args.iter().map(String::as_str).collect();
                    let mut command = command(&self.folder, &args);
                    command.env("SMACK_AGENT_TIMEOUT", AGENT_TIMEOUT).stdout(Stdio::null()).stderr(Stdio::null());
                    let namespace = self.network.as_ref().map(|network| match at {
                        MASTER => network.of_master(),
                        _ => network.of_agent(at - AGENT),
                    });
                    let child = match namespace {
                        Some(namespace) => namespace.spawn(&mut command),
                        None => command.spawn().map_err(|error| error.to_string()),
                    };
                    member.child = Some(child.expect("the program starts"));
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
