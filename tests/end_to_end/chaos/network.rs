//! A network of the test's own, in namespaces: the master's, and one for each agent, each with a line to the master's. Lines
//! are cut as networks fail: what is sent is dropped in silence, in one direction or in both, and nobody is told.
//!
//! Invariant: nothing of this is seen by the machine's own network, and all of it is gone with the process that made it.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};

/// Which way nothing comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    BothWays,
    ToMaster,
    FromMaster,
}

/// What a thread's network is: sockets and processes that it makes belong to it.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    fn make() -> Result<Self, String> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("make a network namespace: {error}"))?;
            File::open("/proc/thread-self/ns/net").map_err(|error| format!("open it: {error}"))
        };
        let namespace = Self(in_a_thread(make)?);
        namespace.run("ip", "link set lo up")?;
        Ok(namespace)
    }

    pub fn again(&self) -> std::io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The calling thread's network is this one from now on.
    pub fn enter(&self) -> Result<(), String> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|error| format!("enter a network namespace: {error}"))
    }

    pub fn spawn(&self, command: &mut Command) -> Result<Child, String> {
        in_a_thread(|| {
            self.enter()?;
            command.spawn().map_err(|error| format!("start {command:?}: {error}"))
        })
    }

    fn run(&self, program: &str, args: &str) -> Result<(), String> {
        let wrong = |what: &dyn std::fmt::Display| format!("{program} {args}: {what}");
        let ran = in_a_thread(|| {
            self.enter()?;
            Command::new(program).args(args.split(' ')).output().map_err(|error| wrong(&error))
        })?;
        match ran.status.success() {
            true => Ok(()),
            false => Err(wrong(&String::from_utf8_lossy(&ran.stderr).trim())),
        }
    }

    /// By which other programs find it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn in_a_thread<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err("a thread of its own".to_string()))
}

#[derive(Debug)]
pub struct Network {
    master: Namespace,
    agents: Vec<Namespace>,
}

/// In every namespace the ends of its lines, by the number of the agent.
fn line(agent: usize) -> String {
    format!("line{agent}")
}

impl Network {
    /// Or why there is none.
    pub fn start(n_agents: usize) -> Result<Self, String> {
        let master = Namespace::make()?;
        let mut agents = Vec::new();
        for agent in 0..n_agents {
            let (there, line) = (Namespace::make()?, line(agent));
            master.run("ip", &format!("link add {line} type veth peer name {line} netns {}", there.path()))?;
            for (namespace, end) in [(&master, 1), (&there, 2)] {
                namespace.run("ip", &format!("address add 10.77.{agent}.{end}/24 dev {line}"))?;
                namespace.run("ip", &format!("link set {line} up"))?;
            }
            agents.push(there);
        }
        let network = Self { master, agents };
        // Whether it can be cut is seen at once.
        network.cut(0, Cut::BothWays)?;
        network.mend(0)?;
        Ok(network)
    }

    pub fn of_master(&self) -> &Namespace {
        &self.master
    }

    pub fn of_agent(&self, agent: usize) -> &Namespace {
        &self.agents[agent]
    }

    /// Under which host an agent reaches the master.
    pub fn master_host(agent: usize) -> String {
        format!("10.77.{agent}.1")
    }

    /// A queue that holds nothing drops what is sent, as a line does that is cut somewhere else: nobody is told.
    pub fn cut(&self, agent: usize, cut: Cut) -> Result<(), String> {
        let ends = [(&self.agents[agent], Cut::ToMaster), (&self.master, Cut::FromMaster)];
        for (end, _) in ends.into_iter().filter(|(_, one_way)| cut == Cut::BothWays || cut == *one_way) {
            end.run("tc", &format!("qdisc replace dev {} root pfifo limit 0", line(agent)))?;
        }
        Ok(())
    }

    pub fn mend(&self, agent: usize) -> Result<(), String> {
        for end in [&self.agents[agent], &self.master] {
            end.run("tc", &format!("qdisc replace dev {} root pfifo limit 1000", line(agent)))?;
        }
        Ok(())
    }
}
