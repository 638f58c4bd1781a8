//! Sandboxes of tasks that ended go, the oldest first: after a while, and sooner when the disk fills up; and so does what was
//! fetched and may be wanted again.
//!
//! Invariant: only a sandbox in which a supervisor wrote how the task ended is ever removed.

use super::artifacts::Cache;
use super::keep::ended_at;
use super::sandboxes::Sandboxes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Of the disk this share is to stay free; as it is used up, sandboxes are kept for less long.
const HEADROOM: f64 = 0.1;

/// Also on a full disk: until then the agent has read how the task ended, and people its last words.
const KEPT_AT_LEAST: Duration = Duration::from_secs(600);

/// Looks again and again, until it is dropped.
pub(super) async fn run(sandboxes: Sandboxes, cache: Arc<Cache>, keep_for: Duration) {
    loop {
        let (sandboxes, cache) = (sandboxes.clone(), Arc::clone(&cache));
        // How it went is in the log; the next look is in a minute either way.
        let _ = tokio::task::spawn_blocking(move || collect(&sandboxes, Some(&cache), keep_for)).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn collect(sandboxes: &Sandboxes, cache: Option<&Cache>, keep_for: Duration) {
    let used = match nix::sys::statvfs::statvfs(sandboxes.root()) {
        Ok(disk) if disk.blocks() > 0 => 1.0 - disk.blocks_available() as f64 / disk.blocks() as f64,
        Ok(_) => 0.0,
        Err(error) => return warn!(%error, "the disk of the sandboxes cannot be looked at"),
    };
    if let Some(cache) = cache {
        cache.throw_out(allowed(used));
    }
    let ended = ended(sandboxes);
    let oldest_kept = SystemTime::now().checked_sub(allowed_age(keep_for, used)).unwrap_or(SystemTime::UNIX_EPOCH);
    let (n_ended, n_removed) = (ended.len(), remove(ended, oldest_kept));
    if n_removed > 0 {
        info!(n_ended, n_removed, disk_used = used, "sandboxes removed");
    }
}

fn ended(sandboxes: &Sandboxes) -> Vec<(PathBuf, SystemTime)> {
    sandboxes.all().into_iter().filter_map(|sandbox| ended_at(&sandbox).map(|at| (sandbox, at))).collect()
}

/// How old a sandbox may get with so much of the disk used: all of it while there is headroom, hardly anything on a full
/// disk.
fn allowed_age(keep_for: Duration, used: f64) -> Duration {
    keep_for.mul_f64(allowed(used)).max(KEPT_AT_LEAST.min(keep_for))
}

/// Of what may be kept, the part that is, with so much of the disk used.
fn allowed(used: f64) -> f64 {
    (1.0 - HEADROOM - used).clamp(0.0, 0.5) / 0.5
}

fn remove(ended: Vec<(PathBuf, SystemTime)>, oldest_kept: SystemTime) -> usize {
    let doomed = ended.into_iter().filter(|(_, at)| *at < oldest_kept);
    doomed.filter(|(sandbox, _)| remove_one(sandbox)).count()
}

fn remove_one(sandbox: &Path) -> bool {
    if let Err(error) = std::fs::remove_dir_all(sandbox) {
        warn!(sandbox = %sandbox.display(), %error, "a sandbox cannot be removed");
        return false;
    }
    // That of the framework goes with its last; it is not empty before.
    if let Some(framework) = sandbox.parent() {
        let _ = std::fs::remove_dir(framework);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler::model::TaskKey;

    #[test]
    fn a_full_disk_keeps_hardly_anything() {
        let week = Duration::from_secs(604_800);
        assert_eq!(allowed_age(week, 0.2), week);
        assert_eq!(allowed_age(week, 0.4), week);
        assert!(allowed_age(week, 0.65) < week.mul_f64(0.51) && allowed_age(week, 0.65) > week.mul_f64(0.49));
        assert_eq!(allowed_age(week, 0.95), KEPT_AT_LEAST);
        assert_eq!(allowed_age(Duration::ZERO, 0.95), Duration::ZERO);
    }

    #[test]
    fn only_what_ended_long_ago_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let sandboxes = Sandboxes::open(dir.path().join("sandboxes")).expect("opens");
        let key = |task: &str| TaskKey::new("f".into(), task.into());
        for task in ["runs", "ended"] {
            std::fs::write(sandboxes.create(&key(task)).expect("fresh").join("stdout"), "words").expect("writes");
        }
        std::fs::write(sandboxes.path_of(&key("ended")).join(".end"), "{\"code\":0}").expect("writes");
        assert_eq!(sandboxes.all().len(), 2);
        assert_eq!(remove(ended(&sandboxes), SystemTime::now() - Duration::from_secs(3_600)), 0, "too young");
        collect(&sandboxes, None, Duration::ZERO);
        assert_eq!(sandboxes.all(), [sandboxes.path_of(&key("runs"))]);
    }
}
