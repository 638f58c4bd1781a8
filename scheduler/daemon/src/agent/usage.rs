//! What tasks write: whoever has more in its sandbox, or in a volume, than it was given disk is ended.
//!
//! Mesos' `disk/du` isolator does the same, by looking every 15 s; a task that asked for no disk is not looked at. What is
//! counted are blocks of the disk, so parts of files that were given back do not count.
//!
//! Invariant: links are not followed, so nobody answers for what is elsewhere, and what is in a volume counts there only.

use super::sandboxes::Sandboxes;
use super::volumes::Volumes;
use scheduler::model::{TaskInfo, TaskKey};
use scheduler::volumes::VolumeKey;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const MIB: f64 = 1_048_576.0;

/// How much may be in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    /// "its sandbox", "volume data".
    what: String,
    dir: PathBuf,
    disk_milli: i64,
}

/// Of each task that is looked at.
type Watched = BTreeMap<TaskKey, Vec<Allowed>>;

/// Tasks that have more than they may, with what is wrong.
pub(super) type Overdrawn = mpsc::Receiver<(TaskKey, String)>;

/// Dropping it ends the looking.
pub(super) struct Meter {
    sandboxes: Sandboxes,
    volumes: Volumes,
    watched: watch::Sender<Watched>,
}

impl Meter {
    /// Must be called within a runtime. `running`: tasks of an earlier agent that go on.
    pub fn open<'a>(
        sandboxes: Sandboxes,
        volumes: Volumes,
        look_every: Duration,
        running: impl Iterator<Item = (&'a TaskKey, &'a TaskInfo)>,
    ) -> (Self, Overdrawn) {
        let (watched, looks) = watch::channel(Watched::new());
        let (found, overdrawn) = mpsc::channel(16);
        let meter = Self { sandboxes, volumes, watched };
        running.for_each(|(task, info)| meter.begins(task, info));
        tokio::spawn(look(looks, look_every, found));
        (meter, overdrawn)
    }

    pub fn begins(&self, task: &TaskKey, info: &TaskInfo) {
        let allowed = self.allowed(task, info);
        if !allowed.is_empty() {
            self.watched.send_modify(|watched| drop(watched.insert(task.clone(), allowed)));
        }
    }

    pub fn ended(&self, task: &TaskKey) {
        if self.watched.borrow().contains_key(task) {
            self.watched.send_modify(|watched| drop(watched.remove(task)));
        }
    }

    fn allowed(&self, task: &TaskKey, info: &TaskInfo) -> Vec<Allowed> {
        let disk_milli = info.resources.milli("disk");
        let sandbox = || Allowed { what: "its sandbox".into(), dir: self.sandboxes.path_of(task), disk_milli };
        let of_volumes = info.volumes.iter().map(|claim| {
            let key = VolumeKey::of(claim, &info.role);
            // It may be larger than what is claimed of it now, and grow only in a moment.
            let disk_milli = self.volumes.disk_milli(&key).max(claim.disk_milli);
            Allowed { what: format!("volume {}", claim.name), dir: self.volumes.data_of(&key), disk_milli }
        });
        (disk_milli > 0).then(sandbox).into_iter().chain(of_volumes).collect()
    }
}

/// Looks again and again, until nobody watches.
async fn look(watched: watch::Receiver<Watched>, every: Duration, found: mpsc::Sender<(TaskKey, String)>) {
    loop {
        tokio::time::sleep(every).await;
        if watched.has_changed().is_err() {
            return;
        }
        let now = watched.borrow().clone();
        for (task, allowed) in now {
            let look = tokio::task::spawn_blocking(move || allowed.iter().find_map(overdrawn)).await;
            if let Ok(Some(why)) = look
                && found.send((task, why)).await.is_err()
            {
                return;
            }
        }
    }
}

fn overdrawn(allowed: &Allowed) -> Option<String> {
    let (used, may) = (bytes_in(&allowed.dir) as f64 / MIB, allowed.disk_milli as f64 / 1000.0);
    (used > may).then(|| format!("{} has {used:.1} MiB in it, and may have {may} MiB", allowed.what))
}

/// On the disk, of a directory and all below it. What is no longer there, or cannot be read, counts for nothing.
fn bytes_in(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                left.push(entry.path());
            }
            bytes += metadata.blocks() * 512;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_disk_counts_and_what_is_linked_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir_all(inside.join("deep")).expect("a directory");
        fs::create_dir(&outside).expect("a directory");
        fs::write(inside.join("deep/file"), vec![1; 300 << 10]).expect("writes");
        fs::write(outside.join("file"), vec![1; 4 << 20]).expect("writes");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("links");
        fs::File::create(inside.join("hole")).and_then(|file| file.set_len(1 << 30)).expect("a hole");
        let bytes = bytes_in(&inside);
        assert!((300 << 10..2 << 20).contains(&bytes), "{bytes}");
        let allowed = |disk_milli| Allowed { what: "its sandbox".into(), dir: inside.clone(), disk_milli };
        assert_eq!(overdrawn(&allowed(2_000)), None);
        let why = overdrawn(&allowed(100)).expect("too much");
        assert!(why.starts_with("its sandbox has 0.") && why.ends_with("MiB in it, and may have 0.1 MiB"), "{why}");
    }
}
