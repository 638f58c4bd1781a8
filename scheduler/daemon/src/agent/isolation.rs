//! What holds a task to what it asked for: a control group of its own, where this machine permits one.
//!
//! Invariant: groups are made below the agent's own, so that whatever limits the agent limits its tasks too.
//! Invariant: a machine that permits none, or not all, says so once, and tasks run all the same.

use super::keep::Cgroup;
use jobs::Resources;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel's own unit.
const CPU_PERIOD_US: f64 = 100_000.0;
const CPU_QUOTA_US_MIN: f64 = 1_000.0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationConfig {
    /// Make control groups, if that is permitted.
    pub cgroups: bool,
    /// Tasks get no more than the cpus they asked for, also while nobody else wants them.
    pub cpu_quota: bool,
    /// Processes and threads that a task may have at a time.
    pub pids_max: u64,
}

impl Default for IsolationConfig {
    fn default() -> Self {
        Self { cgroups: true, cpu_quota: false, pids_max: 8_192 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// A tree for each controller.
    V1,
    /// One tree for all.
    V2,
}

/// Where groups of tasks are made.
#[derive(Debug)]
pub(super) struct Cgroups {
    version: Version,
    /// In which folder the groups for each controller are made.
    trees: Vec<(Controller, PathBuf)>,
    config: IsolationConfig,
    n_made: u64,
    /// Tells the groups of this agent process from those of an earlier one.
    stamp: u64,
}

impl Cgroups {
    /// Looks what is permitted here. An error is a sentence for people.
    pub fn detect(config: IsolationConfig, agent_id: &str, stamp: u64) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"));
        let own = own_groups(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
        Self::below(&own, config, &format!("smack.{agent_id}"), stamp)
    }

    fn below(own: &OwnGroups, config: IsolationConfig, name: &str, stamp: u64) -> Result<Self, String> {
        let mut refusals = Vec::new();
        let mut trees = Vec::new();
        for (controller, dir) in &own.v1 {
            let dir = dir.join(name);
            match open_tree(Version::V1, &dir) {
                Ok(()) => trees.push((*controller, dir)),
                Err(error) => refusals.push(error.to_string()),
            }
        }
        if !trees.is_empty() {
            return Ok(Self { version: Version::V1, trees, config, n_made: 0, stamp }.left_as_it_was());
        }
        let Some(dir) = &own.v2 else {
            return Err(refusals.pop().unwrap_or_else(|| "no control groups are mounted".to_string()));
        };
        let given = delegate(dir).map_err(|error| format!("{} gives nothing on: {error}", dir.display()))?;
        let below = dir.join(name);
        open_tree(Version::V2, &below).map_err(|error| error.to_string())?;
        let trees: Vec<_> = given.into_iter().map(|controller| (controller, below.clone())).collect();
        if trees.is_empty() {
            return Err(format!("{} has neither cpu, memory nor pids to give", dir.display()));
        }
        Ok(Self { version: Version::V2, trees, config, n_made: 0, stamp }.left_as_it_was())
    }

    /// What was made to see whether it can be is made again with the first task.
    fn left_as_it_was(self) -> Self {
        for (_, tree) in &self.trees {
            let _ = fs::remove_dir(tree);
        }
        self
    }

    /// For people and jobs: "cgroup v1: cpu, memory, pids".
    pub fn describe(&self) -> String {
        let version = match self.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
        };
        let names: Vec<&str> = self.trees.iter().map(|(controller, _)| controller.name()).collect();
        format!("cgroup {version}: {}", names.join(", "))
    }

    /// Makes the group of a task that needs these resources.
    pub fn make(&mut self, resources: &Resources) -> io::Result<Cgroup> {
        self.n_made += 1;
        let name = format!("task.{}.{}", self.stamp, self.n_made);
        let mut dirs = BTreeSet::new();
        let mut memory = None;
        for (controller, tree) in &self.trees {
            let dir = tree.join(&name);
            // The supervisor of the last task takes the tree away with it, perhaps just now.
            let made = (0..3).find_map(|_| open_tree(self.version, tree).and_then(|()| make_dir(&dir)).ok());
            made.map_or_else(|| make_dir(&dir), Ok)?;
            for (file, value) in self.limits(*controller, resources) {
                write(&dir.join(file), &value)?;
            }
            if *controller == Controller::Memory {
                memory = Some(dir.clone());
            }
            dirs.insert(dir);
        }
        let limit_mib = resources.memory_mib().ceil() as u64;
        Ok(Cgroup { dirs: dirs.into_iter().collect(), memory, limit_mib })
    }

    /// What is written where.
    fn limits(&self, controller: Controller, resources: &Resources) -> Vec<(&'static str, String)> {
        let cpus = resources.cores();
        // Who runs on what is lent gets what others leave.
        let weighs = if resources.is_revocable() { 0.0 } else { cpus };
        let quota_us = (cpus * CPU_PERIOD_US).max(CPU_QUOTA_US_MIN).round();
        let memory = (resources.memory_mib() * 1024.0 * 1024.0).round();
        match (controller, self.version) {
            (Controller::Cpu, Version::V1) => {
                let mut limits = vec![("cpu.shares", ((weighs * 1024.0).round().max(2.0)).to_string())];
                if self.config.cpu_quota {
                    limits.push(("cpu.cfs_period_us", CPU_PERIOD_US.to_string()));
                    limits.push(("cpu.cfs_quota_us", quota_us.to_string()));
                }
                limits
            }
            (Controller::Cpu, Version::V2) => {
                let mut limits = vec![("cpu.weight", (weighs * 100.0).round().clamp(1.0, 10_000.0).to_string())];
                if self.config.cpu_quota {
                    limits.push(("cpu.max", format!("{quota_us} {CPU_PERIOD_US}")));
                }
                limits
            }
            (Controller::Memory, _) if memory < 1.0 => Vec::new(),
            (Controller::Memory, Version::V1) => vec![("memory.limit_in_bytes", memory.to_string())],
            // All of the task ends, not only the process that asked last.
            (Controller::Memory, Version::V2) => {
                vec![("memory.max", memory.to_string()), ("memory.oom.group", "1".to_string())]
            }
            (Controller::Pids, _) => vec![("pids.max", self.config.pids_max.to_string())],
        }
    }
}

/// The group in which those of tasks are made.
fn open_tree(version: Version, tree: &Path) -> io::Result<()> {
    make_dir(tree)?;
    match version {
        Version::V1 => Ok(()),
        Version::V2 => delegate(tree).map(drop).map_err(|error| named(tree, &error)),
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(named(dir, &error)),
        _ => Ok(()),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| named(path, &error))
}

/// Lets groups below this one have what it has; what that is. A group with processes in it may not give anything on, so
/// this process moves into one below, if it has the group for itself.
fn delegate(dir: &Path) -> io::Result<Vec<Controller>> {
    let given = fs::read_to_string(dir.join("cgroup.controllers"))?;
    let given = |controller: &Controller| given.split_whitespace().any(|name| name == controller.name());
    let controllers: Vec<Controller> = Controller::ALL.into_iter().filter(given).collect();
    let words: Vec<String> = controllers.iter().map(|controller| format!("+{}", controller.name())).collect();
    let give = || fs::write(dir.join("cgroup.subtree_control"), words.join(" "));
    match give() {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let leaf = dir.join("smack.agent");
            fs::create_dir_all(&leaf)?;
            fs::write(leaf.join("cgroup.procs"), "0")?;
            give().inspect_err(|_| {
                // Others are in it too: as if nothing had been.
                let _ = fs::write(dir.join("cgroup.procs"), "0");
                let _ = fs::remove_dir(&leaf);
            })?;
        }
        given => given?,
    }
    Ok(controllers)
}

/// The groups that this process is in.
#[derive(Debug, Default, PartialEq, Eq)]
struct OwnGroups {
    v1: Vec<(Controller, PathBuf)>,
    v2: Option<PathBuf>,
}

fn own_groups(cgroup: &str, mountinfo: &str) -> OwnGroups {
    let mut own = OwnGroups::default();
    // "4:memory:/path", and "0::/path" for the one tree of version 2.
    let groups: Vec<(&str, &str)> = cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    for line in mountinfo.lines() {
        // "… ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER-OPTIONS"
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut before = before.split(' ').skip(3);
        let (Some(root), Some(mount)) = (before.next(), before.next()) else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next().unwrap_or_default(), after.nth(1).unwrap_or_default());
        let dir_of = |path: &str| {
            let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            if below.as_os_str().is_empty() { PathBuf::from(mount) } else { Path::new(mount).join(below) }
        };
        match kind {
            "cgroup2" => own.v2 = groups.iter().find(|(names, _)| names.is_empty()).map(|(_, path)| dir_of(path)),
            "cgroup" => {
                for controller in Controller::ALL {
                    let has = |names: &str| names.split(',').any(|name| name == controller.name());
                    if let Some((_, path)) = groups.iter().find(|(names, _)| has(names)).filter(|_| has(options)) {
                        own.v1.push((controller, dir_of(path)));
                    }
                }
            }
            _ => {}
        }
    }
    own.v1.sort();
    own.v1.dedup_by_key(|(controller, _)| *controller);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> IsolationConfig {
        IsolationConfig { cgroups: true, cpu_quota: true, pids_max: 99 }
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn the_groups_of_a_process_are_found_in_both_versions() {
        let cgroup = "9:name=systemd:/\n8:pids:/\n4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/d\n";
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
                         31 25 0:27 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                         33 25 0:29 / /proc rw - proc proc rw\n";
        let expected = OwnGroups {
            v1: vec![
                (Controller::Cpu, "/sys/fs/cgroup/cpu/c".into()),
                (Controller::Memory, "/sys/fs/cgroup/memory/b".into()),
            ],
            v2: Some("/sys/fs/cgroup/unified/d".into()),
        };
        assert_eq!(own_groups(cgroup, mountinfo), expected);
        assert_eq!(own_groups("", mountinfo), OwnGroups::default());
    }

    /// In plain folders: what the kernel makes of the files is seen where it permits groups (`tests/cluster`).
    #[test]
    fn each_version_gets_its_own_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let trees = Controller::ALL.map(|controller| (controller, dir.path().join(controller.name())));
        for (_, tree) in &trees {
            fs::create_dir(tree).expect("a folder");
        }
        let own = OwnGroups { v1: trees.to_vec(), v2: None };
        let mut cgroups = Cgroups::below(&own, config(), "smack.a", 7).expect("permitted");
        assert_eq!(cgroups.describe(), "cgroup v1: cpu, memory, pids");
        let made = cgroups.make(&Resources::new().cpus(0.5).mem_mib(64.0)).expect("made");
        assert_eq!((made.dirs.len(), made.limit_mib), (3, 64));
        let file = |tree: &str, name: &str| read(dir.path().join(tree).join("smack.a/task.7.1").join(name));
        assert_eq!((file("cpu", "cpu.shares"), file("cpu", "cpu.cfs_quota_us")), ("512".into(), "50000".into()));
        assert_eq!(file("memory", "memory.limit_in_bytes"), "67108864");
        let lent = cgroups.make(&Resources::new().cpus(0.5).mem_mib(64.0).revocable()).expect("made");
        let files = ["cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "memory/memory.limit_in_bytes"];
        let found = files.map(|file| {
            let (tree, name) = file.split_once('/').expect("both");
            read(dir.path().join(tree).join("smack.a/task.7.2").join(name))
        });
        assert_eq!((lent.limit_mib, found), (64, ["2", "50000", "67108864"].map(String::from)));
        assert_eq!(file("pids", "pids.max"), "99");

        let one = dir.path().join("one");
        fs::create_dir_all(one.join("smack.a")).expect("a folder");
        for given in [one.join("cgroup.controllers"), one.join("smack.a/cgroup.controllers")] {
            fs::write(given, "cpuset cpu memory\n").expect("a file");
        }
        let own = OwnGroups { v1: Vec::new(), v2: Some(one.clone()) };
        let mut cgroups = Cgroups::below(&own, config(), "smack.a", 7).expect("permitted");
        assert_eq!(cgroups.describe(), "cgroup v2: cpu, memory");
        assert_eq!(read(one.join("cgroup.subtree_control")), "+cpu +memory");
        let made = cgroups.make(&Resources::new().cpus(2.0).mem_mib(1.0)).expect("made");
        let task = one.join("smack.a/task.7.1");
        assert_eq!((made.dirs, made.memory), (vec![task.clone()], Some(task.clone())));
        assert_eq!((read(task.join("cpu.weight")), read(task.join("cpu.max"))), ("200".into(), "200000 100000".into()));
        assert_eq!(
            (read(task.join("memory.max")), read(task.join("memory.oom.group"))),
            ("1048576".into(), "1".into())
        );
    }

    #[test]
    fn a_machine_without_groups_says_why() {
        let nothing = Cgroups::below(&OwnGroups::default(), config(), "smack.a", 1).expect_err("refused");
        assert_eq!(nothing, "no control groups are mounted");
        let own = OwnGroups { v1: vec![(Controller::Cpu, "/proc/none".into())], v2: None };
        assert!(Cgroups::below(&own, config(), "smack.a", 1).expect_err("refused").contains("/proc/none/smack.a"));
    }
}
