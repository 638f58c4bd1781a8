//! Files that are locked for as long as a process lives, however it ends.
//!
//! Invariant: asking whether one is held changes nothing for longer than a moment; whoever takes one tries again.

use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Held until it is dropped; also by every process that was forked meanwhile and has not dropped it.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "only its drop matters")] Flock<File>);

impl Held {
    /// Waits for whoever holds it.
    pub fn take(path: &Path, patience: Duration) -> io::Result<Self> {
        let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
        let begun = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self(lock)),
                Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) if begun.elapsed() < patience => file = unlocked,
                Err((_, errno)) => return Err(errno.into()),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether somebody holds it. Where that cannot be found out, somebody does: nothing is to end for want of descriptors.
pub fn is_held(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => Flock::lock(file, FlockArg::LockSharedNonblock).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        assert!(!is_held(&path));
        let held = Held::take(&path, Duration::ZERO).expect("free");
        assert!(is_held(&path) && Held::take(&path, Duration::from_millis(5)).is_err());
        drop(held);
        assert!(!is_held(&path));
        Held::take(&path, Duration::from_secs(10)).expect("free again");
    }
}
