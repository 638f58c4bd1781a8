//! A process, told from a later one that got its number.
//!
//! Invariant: a [`PidFd`] means the very process that it was opened for, for as long as it is held; a signal through it
//! never reaches a stranger.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// In ticks since the machine was started.
    pub started: u64,
}

impl Identity {
    /// `None` if there is no such process.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; behind it stand the state and eighteen fields before the time.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }
}

/// Changes with every start of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// `None` if that process is gone.
    pub fn open(identity: Identity) -> io::Result<Option<Self>> {
        // SAFETY: takes two numbers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, identity.pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
        }
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call made this descriptor, and nobody else has it.
        let pidfd = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // Looked at after the opening: from here on the number cannot mean another.
        Ok((Identity::of(identity.pid) == Some(identity)).then_some(pidfd))
    }

    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and a null pointer stands for "as kill would say it".
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, no_info, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// It becomes readable when the process has ended.
impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_number_alone_is_not_a_process() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let identity = Identity::of(child.id() as i32).expect("it is there");
        let another = Identity { started: identity.started + 1, ..identity };
        assert!(PidFd::open(another).expect("asks").is_none());
        let pidfd = PidFd::open(identity).expect("asks").expect("it lives");
        pidfd.signal(libc::SIGKILL).expect("it is told");
        child.wait().expect("it ended");
        assert!(pidfd.signal(libc::SIGKILL).is_err());
        assert!(PidFd::open(identity).expect("asks").is_none());
    }
}
