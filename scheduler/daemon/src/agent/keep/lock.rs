//! Files that are locked for as long as a process lives, however it ends.
//!
//! Invariant: a lock is shared by all processes that were forked since it was taken, and ends with the last of them that
//! lets go; none of them unlocks it for the others.
//! Invariant: asking whether one is held changes nothing for longer than a moment; whoever takes one tries again.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Held until it is dropped, here and in every process that was forked meanwhile. Dropping closes the file: to unlock it
/// would take it from the others too.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

impl Held {
    /// Waits for whoever holds it.
    pub fn take(path: &Path, patience: Duration) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        let begun = Instant::now();
        while !lock(&file, libc::LOCK_EX)? {
            if begun.elapsed() >= patience {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self { _file: file })
    }
}

/// Whether somebody holds it. Where that cannot be found out, somebody does: nothing is to end for want of descriptors.
pub fn is_held(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => !matches!(lock(&file, libc::LOCK_SH), Ok(true)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether it was free.
fn lock(file: &File, kind: i32) -> io::Result<bool> {
    // SAFETY: the descriptor is open, and no memory is touched.
    if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_the_last_lets_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        assert!(!is_held(&path));
        let held = Held::take(&path, Duration::ZERO).expect("free");
        assert!(is_held(&path) && Held::take(&path, Duration::from_millis(5)).is_err());
        // As a forked process has it.
        let twin = Held { _file: held._file.try_clone().expect("a second descriptor") };
        drop(twin);
        assert!(is_held(&path), "it is not the twin's to give away");
        let twin = Held { _file: held._file.try_clone().expect("a second descriptor") };
        drop(held);
        assert!(is_held(&path), "the twin has it");
        drop(twin);
        Held::take(&path, Duration::from_secs(10)).expect("free again");
    }
}
