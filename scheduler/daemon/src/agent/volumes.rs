//! The directories of volumes, `ROLE/NAME` under one root, each with how large it may get beside what is in it.
//!
//! Invariant: a volume that is written down has its directory; one that is removed is out of the way in one step, however
//! much is in it, and never seen again.

use super::ground::{Ground, Place};
use super::sandboxes::directory_name;
use crate::files::{self, FileError};
use scheduler::model::TaskInfo;
use scheduler::volumes::{Volume, VolumeKey};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// In the agent's folder.
pub(super) const DIR: &str = "volumes";

/// Beside `data`, in the volume's directory.
const META: &str = "volume.json";

/// Under the root; no role has this name.
const REMOVED: &str = "%removed";

#[derive(Clone, Debug)]
pub(super) struct Volumes {
    root: PathBuf,
}

impl Volumes {
    /// Ends removals that an earlier agent began.
    pub fn open(root: PathBuf) -> Result<Self, FileError> {
        files::create_private_dir(&root)?;
        let volumes = Self { root };
        for left in below(&volumes.root.join(REMOVED)) {
            remove_all(left);
        }
        Ok(volumes)
    }

    /// All that there are.
    pub fn all(&self) -> Vec<Volume> {
        let dirs = below(&self.root).into_iter().filter(|role| !role.ends_with(REMOVED)).flat_map(|role| below(&role));
        dirs.filter_map(|dir| read(&dir)).collect()
    }

    /// Where what is in it is.
    pub fn data_of(&self, key: &VolumeKey) -> PathBuf {
        self.dir_of(key).join("data")
    }

    /// What may be in it; nothing if it is not there.
    pub fn disk_milli(&self, key: &VolumeKey) -> i64 {
        read(&self.dir_of(key)).map_or(0, |volume| volume.disk_milli)
    }

    fn dir_of(&self, key: &VolumeKey) -> PathBuf {
        self.root.join(directory_name(&key.role)).join(directory_name(&key.name))
    }

    /// Makes it, or writes down that it may get larger.
    pub fn keep(&self, volume: &Volume) -> Result<(), FileError> {
        files::create_private_dir(&self.data_of(&volume.key))?;
        let path = self.dir_of(&volume.key).join(META);
        let text = serde_json::to_vec(volume)
            .map_err(|error| FileError::Write { path: path.clone(), source: error.into() })?;
        files::write(&path, &text)
    }

    /// Takes it out of the way; what is in it is removed meanwhile.
    pub fn remove(&self, key: &VolumeKey) -> Result<(), FileError> {
        let (dir, removed) = (self.dir_of(key), self.root.join(REMOVED));
        files::create_private_dir(&removed)?;
        let aside = removed.join(uuid::Uuid::new_v4().simple().to_string());
        match fs::rename(&dir, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(FileError::Write { path: dir, source }),
        }
        info!(volume = %key, "volume removed");
        remove_all(aside);
        Ok(())
    }

    /// Shows a task in its sandbox what it claims. An error is a sentence for people.
    pub fn show(&self, ground: &Ground, place: &Place, info: &TaskInfo) -> Result<Vec<(String, PathBuf)>, String> {
        let mut shown = Vec::new();
        for claim in &info.volumes {
            let data = self.data_of(&VolumeKey::of(claim, &info.role));
            if !data.is_dir() {
                return Err(format!("failed to find volume {}: {} is not there", claim.name, data.display()));
            }
            if let Some(account) = &place.account {
                // What is in it is whose it was: it may be the only copy, and its owner's business.
                let given = ground.accounts.open_way(&data).and_then(|()| account.own(&data));
                given.map_err(|error| format!("failed to give volume {} to {}: {error}", claim.name, account.name))?;
            }
            let at = place.work.join(claim.path());
            let made = at.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(&data, &at));
            made.map_err(|error| format!("failed to show volume {} at {}: {error}", claim.name, claim.path()))?;
            shown.push((variable(claim.path()), data));
        }
        Ok(shown)
    }
}

/// Of an agent that was sent away for ever: its volumes are nowhere from then on, and may be somewhere else again, so the next
/// agent of the folder must not have them. What is in them is kept for people. `beside`: a file of the agent's folder.
pub(super) fn set_aside(beside: &Path) {
    let root = beside.with_file_name(DIR);
    if below(&root).is_empty() {
        return;
    }
    let aside = beside.with_file_name(format!("{DIR}-{}", uuid::Uuid::now_v7().simple()));
    match fs::rename(&root, &aside) {
        Ok(()) => warn!(kept = %aside.display(), "what its volumes held is kept, and nobody's"),
        Err(error) => warn!(path = %root.display(), %error, "failed to set the agent's volumes aside"),
    }
}

/// The variable that tells a task where a volume is.
fn variable(path: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("SMACK_VOLUME_{}", path.chars().map(plain).collect::<String>())
}

fn below(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read(dir: &Path) -> Option<Volume> {
    let path = dir.join(META);
    let text = match fs::read(&path) {
        Ok(text) => text,
        // Its agent ended before it had written it down, so nobody was told that it is there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(path = %path.display(), %error, "a volume cannot be read; it is passed over");
            return None;
        }
    };
    match serde_json::from_slice(&text) {
        Ok(volume) => Some(volume),
        Err(error) => {
            warn!(path = %path.display(), %error, "this is no volume; it is passed over");
            None
        }
    }
}

/// However long it takes, others do not wait for it. What is left is removed by the next agent.
fn remove_all(dir: PathBuf) {
    let remove = move || {
        if let Err(error) = fs::remove_dir_all(&dir) {
            warn!(dir = %dir.display(), %error, "what was in a volume cannot be removed");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("volume-remover".into()).spawn(remove) {
        warn!(%error, "no thread to remove a volume");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::accounts::Accounts;
    use crate::agent::sandboxes::Sandboxes;
    use jobs::volumes::VolumeClaim;

    #[test]
    fn volumes_outlive_tasks_and_agents_until_they_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || Volumes::open(dir.path().join("volumes")).expect("opens");
        let (key, sandbox) = (VolumeKey::new("ml/train", "data"), dir.path().join("sandbox"));
        fs::create_dir(&sandbox).expect("a sandbox");
        let sandboxes = Sandboxes::open(dir.path().join("sandboxes")).expect("opens");
        let ground = Ground { sandboxes, accounts: Accounts::new(None, None, dir.path().into()) };
        let volume = Volume { key: key.clone(), disk_milli: 5_000 };
        open().keep(&volume).expect("is kept");
        open().keep(&Volume { disk_milli: 6_000, ..volume.clone() }).expect("grows");
        assert_eq!(open().all(), [Volume { disk_milli: 6_000, ..volume }]);
        assert_eq!((open().disk_milli(&key), open().disk_milli(&VolumeKey::new("ml", "data"))), (6_000, 0));

        let claim = VolumeClaim { name: "data".into(), disk_milli: 1, path: "var/it".into() };
        let info = TaskInfo { volumes: vec![claim], role: "ml/train".into(), ..Default::default() };
        let place = Place { sandbox: sandbox.clone(), work: sandbox.clone(), account: None };
        let shown = open().show(&ground, &place, &info).expect("is shown");
        assert_eq!(shown, [("SMACK_VOLUME_VAR_IT".to_string(), open().data_of(&key))]);
        fs::write(sandbox.join("var/it/word"), "kept").expect("writes through the link");
        assert_eq!(fs::read_to_string(open().data_of(&key).join("word")).expect("reads"), "kept");
        fs::remove_dir_all(&sandbox).expect("the sandbox goes");
        assert!(open().data_of(&key).join("word").exists(), "it goes with the sandbox");

        open().remove(&key).expect("is removed");
        open().remove(&key).expect("is gone already");
        assert_eq!((open().all(), open().data_of(&key).exists()), (vec![], false));
        let other = TaskInfo { role: "ml".into(), ..info };
        let problem = open().show(&ground, &place, &other).expect_err("another role has no such volume");
        assert!(problem.contains("is not there"), "{problem}");
    }
}
