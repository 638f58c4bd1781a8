//! Processes of a cluster, found by the folder that stands in their arguments.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub pid: i32,
    pub args: Vec<String>,
}

impl Process {
    /// The member of a cluster that this is: "master", "agent-1", "runner".
    pub fn is_member(&self, name: &str) -> bool {
        let after = |flag: &str| self.args.iter().skip_while(|arg| *arg != flag).nth(1).map(String::as_str);
        match self.args.get(1).map(String::as_str) {
            Some("agent") => after("--name") == Some(name),
            Some(verb) => verb == name,
            None => false,
        }
    }

    /// The id of the task that this is.
    pub fn task(&self) -> Option<&str> {
        match self.args.as_slice() {
            [_, verb, flag, plan] if verb == "task" && flag == "--plan" => {
                Path::new(plan).parent()?.file_name()?.to_str()
            }
            _ => None,
        }
    }

    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself meanwhile; whoever needs it to be killed looks at what came of it.
        let _ = kill(Pid::from_raw(self.pid), signal);
    }
}

/// Every process that was started with something below `folder`.
pub fn below(folder: &Path) -> Vec<Process> {
    let folder = folder.to_str().expect("a folder with a plain name");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended meanwhile has no arguments any more.
        let Ok(args) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let args: Vec<String> =
            args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        let args: Vec<String> = args.split_last().map(|(_, args)| args.to_vec()).unwrap_or_default();
        if args.iter().any(|arg| arg.contains(folder)) {
            found.push(Process { pid, args });
        }
    }
    found
}
