//! What a supervisor does about the limits of its task: puts it into its control group, sees whether the kernel ended it
//! there, and keeps its output from filling the disk.
//!
//! Invariant: a group is removed by the supervisor whose task it was made for, whatever became of the agent.

use super::frames::Cgroup;
use nix::fcntl::{FallocateFlags, fallocate};
use scheduler::agent::Exit;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Of a file that grew too large at least this much is given back at once.
const PAGE: u64 = 4_096;

/// The files by which a process enters a group, open before it is forked.
pub struct Entrances(Vec<File>);

fn dirs_of(cgroup: Option<&Cgroup>) -> &[PathBuf] {
    cgroup.map(|cgroup| cgroup.dirs.as_slice()).unwrap_or_default()
}

impl Entrances {
    pub fn open(cgroup: Option<&Cgroup>) -> io::Result<Self> {
        let open = |dir: &PathBuf| OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
        dirs_of(cgroup).iter().map(open).collect::<io::Result<_>>().map(Self)
    }

    pub fn descriptors(&self) -> Vec<RawFd> {
        self.0.iter().map(File::as_raw_fd).collect()
    }
}

/// Between fork and exec: only system calls, on what was made before.
pub fn enter(entrances: &[RawFd]) -> io::Result<()> {
    for entrance in entrances {
        // SAFETY: one byte of a constant is written to a descriptor that is open in this process.
        if unsafe { libc::write(*entrance, b"0".as_ptr().cast(), 1) } != 1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// No core dumps, which are larger than any log; and as many files as the machine lets a process have.
pub fn set_resource_limits() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let mut files = none;
    // SAFETY: each call only reads or writes the struct that it is given.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_CORE, &none) != 0 || libc::getrlimit(libc::RLIMIT_NOFILE, &mut files) != 0 {
            return Err(io::Error::last_os_error());
        }
        files.rlim_cur = files.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &files) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The last to get a core that others want, and the first that the kernel ends when memory is short. Where a machine does not
/// let it, it is as others are: its agent ends it all the same.
pub fn step_back() {
    const LEAST: libc::c_int = 19;
    const MOST: &[u8] = b"1000";
    // SAFETY: system calls on constants, and on a descriptor that is closed here.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, LEAST);
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            libc::write(score, MOST.as_ptr().cast(), MOST.len());
            libc::close(score);
        }
    }
}

/// How a task ended, if the kernel ended something in its group for want of memory.
pub fn explain(exit: Exit, cgroup: Option<&Cgroup>) -> Exit {
    let Some((cgroup, memory)) = cgroup.and_then(|cgroup| Some((cgroup, cgroup.memory.as_ref()?))) else { return exit };
    if matches!(exit, Exit::Code(0) | Exit::Abandoned) || !was_out_of_memory(memory) {
        return exit;
    }
    let most = ["memory.peak", "memory.max_usage_in_bytes"].iter().find_map(|file| number(&memory.join(file)));
    let limit_mib = cgroup.limit_mib;
    Exit::OutOfMemory { used_mib: most.map_or(limit_mib, |bytes| bytes.div_ceil(1 << 20)), limit_mib }
}

fn was_out_of_memory(memory: &Path) -> bool {
    ["memory.events", "memory.oom_control"].iter().any(|file| {
        let text = fs::read_to_string(memory.join(file)).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|n| n.trim() != "0"))
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Nothing is in it any more. The agent's group above goes too, unless it has others.
pub fn remove(cgroup: Option<&Cgroup>) {
    for dir in dirs_of(cgroup) {
        if let Err(error) = fs::remove_dir(dir) {
            eprintln!("failed to remove the control group {}: {error}", dir.display());
        }
        if let Some(above) = dir.parent() {
            let _ = fs::remove_dir(above);
        }
    }
}

/// Gives back what is oldest of a file that takes more than `most` bytes on the disk. Its size, and where each byte
/// stands, stay as they are: whoever writes or follows it notices nothing.
pub fn trim(path: &Path, most: u64) -> io::Result<()> {
    // The task may have put a link or a pipe in the place of its output.
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.blocks() * 512 <= most {
        return Ok(());
    }
    let gone = metadata.len().saturating_sub(most / 2) / PAGE * PAGE;
    if gone == 0 {
        return Ok(());
    }
    let length = i64::try_from(gone).map_err(io::Error::other)?;
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match fallocate(&file, flags, 0, length) {
        // A disk that cannot forget the beginning forgets it all.
        Err(nix::errno::Errno::EOPNOTSUPP) => file.set_len(0),
        done => done.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn the_oldest_of_a_large_file_goes_and_the_rest_stays_in_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("stdout");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
        let most = 16 * PAGE;
        for line in 0..20_000 {
            writeln!(writer, "{line:07}").expect("writes");
        }
        writer.sync_all().expect("syncs");
        trim(&path, most).expect("trims");
        writeln!(writer, "last").expect("writes");
        let metadata = fs::metadata(&path).expect("it is there");
        if metadata.len() == 5 {
            // This disk cannot forget a part.
            return;
        }
        assert_eq!(metadata.len(), 160_005);
        assert!(metadata.blocks() * 512 <= most, "{} blocks", metadata.blocks());
        let mut end = String::new();
        let mut file = File::open(&path).expect("opens");
        file.seek(SeekFrom::Start(160_000 - 16)).expect("seeks");
        file.read_to_string(&mut end).expect("reads");
        assert_eq!(end, "0019998\n0019999\nlast\n");
        trim(&path, most).expect("nothing to do");
        std::os::unix::fs::symlink(&path, dir.path().join("stderr")).expect("links");
        assert!(trim(&dir.path().join("stderr"), 1).is_err());
    }

    #[test]
    fn out_of_memory_is_told_from_other_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = dir.path().to_path_buf();
        let cgroup = Cgroup { dirs: vec![memory.clone()], memory: Some(memory.clone()), limit_mib: 64 };
        let write = |name: &str, text: &str| fs::write(memory.join(name), text).expect("writes");
        write("memory.max_usage_in_bytes", "67104768\n");
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        assert_eq!(explain(Exit::Signal(9), Some(&cgroup)), Exit::Signal(9));
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        let out = Exit::OutOfMemory { used_mib: 64, limit_mib: 64 };
        assert_eq!(explain(Exit::Signal(9), Some(&cgroup)), out);
        assert_eq!(explain(Exit::Code(137), Some(&cgroup)), out, "a shell says so of its child");
        assert_eq!(explain(Exit::Code(0), Some(&cgroup)), Exit::Code(0));
        assert_eq!(explain(Exit::Signal(9), None), Exit::Signal(9));
    }
}
