//! What an agent and its zygote say to each other, and what a supervisor writes into a sandbox: JSON, in both.
//!
//! Invariant: a file is either whole or not there. `.process` says that a supervisor began, `.end` how its task ended; the
//! latter is on disk before the supervisor goes, unless an agent is there, which writes it down itself.

use super::identity::Identity;
use crate::agent::accounts::Account;
use crate::files;
use scheduler::agent::Exit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const PROCESS_FILE: &str = ".process";
const END_FILE: &str = ".end";

/// An environment is the largest thing that is said; the kernel takes no larger one.
const FRAME_MOST: usize = 16 << 20;

/// First word of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Locked by the agent for as long as it lives.
    pub agent_lock: PathBuf,
    /// Locked by the zygote, and by a supervisor until its task is started or was not.
    pub start_lock: PathBuf,
    /// A file that somebody else keeps locked: when nobody does, tasks end at once.
    pub leash: Option<PathBuf>,
    /// How long a task goes on without an agent.
    pub recovery_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub sandbox: PathBuf,
    /// Its present directory.
    pub work: PathBuf,
    /// As whom it runs, if not as the agent does.
    pub account: Option<Account>,
    /// It is a program of ours, and has what the agent has in its environment whoever it runs as.
    pub is_ours: bool,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Beside that of the agent.
    pub env: BTreeMap<String, String>,
    /// Between SIGTERM and SIGKILL, when the supervisor itself ends the task.
    pub kill_grace_ms: u64,
    /// Its own, which goes with it.
    pub cgroup: Option<Cgroup>,
    /// What standard output and standard error each may take on the disk.
    pub output_most_bytes: u64,
    /// It runs on what is only lent, and steps back for others.
    pub is_lent: bool,
}

/// A control group that was made for one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// One for each tree.
    pub dirs: Vec<PathBuf>,
    /// Among them, the one that counts memory.
    pub memory: Option<PathBuf>,
    pub limit_mib: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// No zygote of an earlier agent can start anything any more.
    Ready,
    Started(Kept),
    /// A sentence for people.
    Failed(String),
}

/// A task and its supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub boot_id: String,
    pub supervisor: Identity,
    pub task: Identity,
    #[serde(default)]
    pub account: Option<Account>,
}

pub(super) fn send<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= FRAME_MOST);
    let length =
        length.ok_or_else(|| io::Error::other(format!("a task's command and environment are {} bytes", body.len())))?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MOST {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Not for the disk: when the machine goes down, so do the processes.
pub(super) fn write_kept(sandbox: &Path, kept: &Kept) -> io::Result<()> {
    files::replace(&sandbox.join(PROCESS_FILE), &serde_json::to_vec(kept)?)
}

/// Whether a task ever ran in this sandbox.
pub fn has_begun(sandbox: &Path) -> bool {
    sandbox.join(PROCESS_FILE).exists() || sandbox.join(END_FILE).exists()
}

/// `None` if no supervisor began in this sandbox, or it was one of an earlier boot.
pub fn read_kept(sandbox: &Path) -> Option<Kept> {
    let kept: Kept = read(&sandbox.join(PROCESS_FILE))?;
    (kept.boot_id == super::identity::boot_id()).then_some(kept)
}

/// `durably`: for an agent that comes later, perhaps after the machine went down. Two waits for the disk, which with hundreds
/// of tasks a second are most of what ending them costs.
pub(super) fn write_end(sandbox: &Path, exit: Exit, durably: bool) -> io::Result<()> {
    let write = if durably { files::replace_durably } else { files::replace };
    write(&sandbox.join(END_FILE), &serde_json::to_vec(&exit)?)
}

/// How a task ended; `None` if nobody saw it, or it has not.
pub fn read_end(sandbox: &Path) -> Option<Exit> {
    read(&sandbox.join(END_FILE))
}

/// When it ended, if that is known.
pub fn ended_at(sandbox: &Path) -> Option<std::time::SystemTime> {
    std::fs::symlink_metadata(sandbox.join(END_FILE)).ok()?.modified().ok()
}

/// The task owns its sandbox and may have written anything; what does not parse is as good as nothing.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_large_ones_are_refused() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Answer::Failed("no".into())).expect("fits");
        send(&mut pipe, &Answer::Ready).expect("fits");
        let mut from = pipe.as_slice();
        assert_eq!(receive::<Answer>(&mut from).expect("one"), Answer::Failed("no".into()));
        assert_eq!(receive::<Answer>(&mut from).expect("two"), Answer::Ready);
        assert_eq!(receive::<Answer>(&mut from).expect_err("end").kind(), io::ErrorKind::UnexpectedEof);
        assert!(receive::<Answer>(&mut [255; 8].as_slice()).expect_err("refused").to_string().contains("bytes"));
        assert!(send(&mut pipe, &"x".repeat(FRAME_MOST)).is_err());
    }

    #[test]
    fn a_process_of_an_earlier_boot_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let me = Identity::of(std::process::id() as i32).expect("this process");
        let kept = Kept { boot_id: super::super::identity::boot_id(), supervisor: me, task: me, account: None };
        write_kept(dir.path(), &kept).expect("writes");
        assert_eq!(read_kept(dir.path()), Some(kept.clone()));
        write_kept(dir.path(), &Kept { boot_id: "another".into(), ..kept }).expect("writes");
        assert_eq!(read_kept(dir.path()), None);
        assert_eq!(read_end(dir.path()), None);
        write_end(dir.path(), Exit::Code(3), true).expect("writes");
        assert_eq!(read_end(dir.path()), Some(Exit::Code(3)));
        std::fs::write(dir.path().join(END_FILE), "nonsense").expect("writes");
        assert_eq!(read_end(dir.path()), None);
    }
}
