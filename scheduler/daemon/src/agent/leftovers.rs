//! Processes of tasks that nobody watches any more, because their supervisor was killed or belongs to no task that is
//! known.
//!
//! A task's own process dies with its supervisor (the kernel sees to that), but what that process started does not. Two
//! copies of a task must not run, so all are ended before an agent says that it is there, or that a task has ended.
//!
//! Invariant: a process is recognised by the sandbox in the environment that it was started with, never by its number
//! alone, which may have passed to a stranger.

use super::sandboxes::SANDBOX_VARIABLE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::warn;

/// A process in an uninterruptible wait outlives SIGKILL until its disk answers.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    #[error("end processes {pids:?}, which tasks of this directory left: they do not die; end them by hand")]
    Undying { pids: Vec<i32> },
}

/// Ends every process whose sandbox lies under `root` and is not spared; how many there were. Blocks.
pub(super) fn end_all_under(root: &Path, spared: &BTreeSet<PathBuf>) -> Result<usize, LeftoverError> {
    end_all(|sandbox| {
        let is_spared = sandbox.ancestors().any(|dir| spared.contains(dir));
        sandbox != root && sandbox.starts_with(root) && !is_spared
    })
}

/// Ends every process of one sandbox. Blocks.
pub(super) fn end_all_in(only: &Path) -> Result<usize, LeftoverError> {
    end_all(|sandbox| sandbox.starts_with(only))
}

fn end_all(is_meant: impl Fn(&Path) -> bool) -> Result<usize, LeftoverError> {
    let begun = Instant::now();
    let mut n_ended = 0;
    loop {
        let found = living(&is_meant);
        if found.is_empty() {
            return Ok(n_ended);
        }
        if begun.elapsed() > PATIENCE {
            return Err(LeftoverError::Undying { pids: found });
        }
        if n_ended == 0 {
            warn!(pids = ?found, "ending processes of tasks that nobody watches");
        }
        n_ended = n_ended.max(found.len());
        for pid in found {
            // If it is gone by now, all the better; the next look decides.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn living(is_meant: &impl Fn(&Path) -> bool) -> Vec<i32> {
    let marker = format!("{SANDBOX_VARIABLE}=").into_bytes();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()))
        // The environment of a dead process is empty, that of another user's cannot be read; neither is ours to end.
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .filter_map(|pair| pair.strip_prefix(marker.as_slice()))
                    .any(|sandbox| is_meant(Path::new(OsStr::from_bytes(sandbox))))
            })
        })
        .filter(|pid| u32::try_from(*pid) != Ok(std::process::id()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_processes_of_this_directory_are_ended() {
        let sleep = |sandbox: &str| {
            let mut command = Command::new("sleep");
            command.arg("600").env(SANDBOX_VARIABLE, sandbox);
            command.spawn().expect("sleep starts")
        };
        let root = tempfile::tempdir().expect("a directory");
        let name = root.path().to_str().expect("a readable name");
        let (mut ours, other) = (sleep(&format!("{name}/f/t")), sleep(&format!("{name}-other/f/t")));
        let spared = sleep(&format!("{name}/f/spared"));

        // A process that has just begun shows its environment a moment later.
        let begun = Instant::now();
        let under = |sandbox: &Path| sandbox.starts_with(root.path());
        while living(&under).len() < 2 && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }

        // Its parent has not yet waited for it, so it is a zombie from here on and must not be found again.
        let spare = BTreeSet::from([root.path().join("f/spared")]);
        assert_eq!(end_all_under(root.path(), &spare).expect("it dies"), 1);
        assert!(!ours.wait().expect("it ended").success());
        for mut left in [other, spared] {
            assert!(left.try_wait().expect("it can be asked").is_none());
            left.kill().expect("it can be killed");
            left.wait().expect("it ended");
        }
    }
}
