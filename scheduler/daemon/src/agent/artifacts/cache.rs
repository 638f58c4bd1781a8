//! What was fetched and may be wanted again: files by the sum of their bytes, and what each place had when it was last asked.
//!
//! Invariant: a file of the cache is whole, on the disk, and its name is the sum of its bytes; it is never written again.
//! Invariant: what one task fetches is fetched once: others that want the same wait for it.
//! Invariant: without a sum, a place is asked again each time whether it still has what it had.

use super::check;
use super::fetch::{self, Got};
use crate::files::{self, FileError};
use jobs::Artifact;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// In the cache's folder: files under way, files that are there, and what places had.
const FRESH: &str = "fresh";
const WHOLE: &str = "whole";
const KNOWN: &str = "known.json";

/// What a place had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    sha256: String,
    validator: String,
}

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    most_bytes: u64,
    known: Mutex<BTreeMap<String, Known>>,
    /// By what is wanted, held by whoever fetches it.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    fetched: AtomicU64,
    fetched_bytes: AtomicU64,
    found: AtomicU64,
}

/// Since the agent began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub fetched: u64,
    pub fetched_bytes: u64,
    /// Wanted, and there already.
    pub found: u64,
    /// That are kept now.
    pub kept_bytes: u64,
}

impl Cache {
    /// What an earlier agent was fetching is dropped.
    pub fn open(root: PathBuf, most_bytes: u64) -> Result<Self, FileError> {
        let fresh = root.join(FRESH);
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(|source| FileError::Write { path: fresh.clone(), source })?;
        }
        for dir in [&root, &fresh, &root.join(WHOLE)] {
            files::create_private_dir(dir)?;
        }
        // If it does not read, places are asked anew: nothing is lost but time.
        let known = fs::read(root.join(KNOWN)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Self {
            root,
            most_bytes,
            known: Mutex::new(known.unwrap_or_default()),
            turns: Mutex::default(),
            fetched: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            found: AtomicU64::new(0),
        })
    }

    /// An artifact's bytes, from here or from where it is. An error is a fragment that says why not.
    pub async fn get(
        self: &Arc<Self>,
        artifact: &Artifact,
        most_bytes: u64,
        downloads: &Semaphore,
    ) -> Result<File, String> {
        let wanted = if artifact.sha256.is_empty() { &artifact.from } else { &artifact.sha256 };
        let turn = self.turn(wanted);
        let _held = turn.lock().await;
        if !artifact.sha256.is_empty()
            && let Some(file) = self.take_out(&artifact.sha256)
        {
            self.found.fetch_add(1, Ordering::Relaxed);
            return Ok(file);
        }
        let _share = downloads.acquire().await.map_err(|_| "the agent is stopping".to_string())?;
        // Bytes of another sum are not wanted again.
        let before = if artifact.sha256.is_empty() { self.known().get(&artifact.from).cloned() } else { None };
        // What was thrown out since is wanted, changed or not.
        let before = before.and_then(|known| Some((self.take_out(&known.sha256)?, known)));
        let validator = before.as_ref().map_or("", |(_, known)| known.validator.as_str());
        let path = self.root.join(FRESH).join(uuid::Uuid::new_v4().simple().to_string());
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let fresh = Fresh { file: made.map_err(|error| format!("it cannot be written: {error}"))?, path };
        match (fetch::fetch(artifact.source()?, validator, &fresh.file, most_bytes).await?, before) {
            (Got::Same, Some((file, _))) => {
                self.found.fetch_add(1, Ordering::Relaxed);
                Ok(file)
            }
            (Got::Same, None) => Err("it says that it has not changed, and was never fetched".to_string()),
            (Got::New { sha256, bytes, validator }, _) => {
                self.fetched.fetch_add(1, Ordering::Relaxed);
                self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
                check(&sha256, &artifact.sha256)?;
                let (cache, from) = (Arc::clone(self), artifact.from.clone());
                // What has a sum, or says nothing of its changes, is asked for anew.
                let is_asked = artifact.sha256.is_empty() && !validator.is_empty();
                let from = is_asked.then_some(from);
                let kept = tokio::task::spawn_blocking(move || cache.keep(from, Known { sha256, validator }, &fresh));
                kept.await.unwrap_or_else(|_| Err("it could not be kept".to_string()))
            }
        }
    }

    /// Those who want one thing come one after the other.
    fn turn(&self, wanted: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(wanted).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(wanted.to_string(), Arc::downgrade(&turn));
        turn
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a sum, if it is there, which from now on was used last. Whoever has it open has it, whatever is thrown out.
    fn take_out(&self, sha256: &str) -> Option<File> {
        let file = File::open(self.root.join(WHOLE).join(sha256)).ok()?;
        if let Err(error) = file.set_modified(SystemTime::now()) {
            warn!(%error, "a fetched file cannot be marked as used");
        }
        Some(file)
    }

    /// Keeps a file that was fetched, and throws out what there is no more room for: perhaps this one. Blocks.
    fn keep(&self, from: Option<String>, known: Known, fresh: &Fresh) -> Result<File, String> {
        let cannot = |error: io::Error| format!("it cannot be kept: {error}");
        let path = self.root.join(WHOLE).join(&known.sha256);
        fs::rename(&fresh.path, &path).map_err(cannot)?;
        let mut file = fresh.file.try_clone().map_err(cannot)?;
        file.rewind().map_err(cannot)?;
        let is_news = from.map(|from| self.known().insert(from, known)).is_some();
        if self.throw_out(1.0) == 0 && is_news {
            self.write_down();
        }
        Ok(file)
    }

    /// Throws out what was not used for longest, until no more is left than `part` of what may be; how many
    /// files. Blocks.
    pub fn throw_out(&self, part: f64) -> usize {
        let most_bytes = (self.most_bytes as f64 * part.clamp(0.0, 1.0)) as u64;
        let mut files = self.files();
        files.sort_by_key(|(_, used, _)| *used);
        let mut bytes: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        let mut gone = 0;
        for (path, _, size) in &files {
            if bytes <= most_bytes {
                break;
            }
            match fs::remove_file(path) {
                Ok(()) => (bytes, gone) = (bytes - size, gone + 1),
                Err(error) => warn!(path = %path.display(), %error, "a fetched file cannot be removed"),
            }
        }
        if gone > 0 {
            info!(gone, bytes, "fetched files thrown out");
            self.write_down();
        }
        gone
    }

    /// One at a time.
    fn write_down(&self) {
        let mut known = self.known();
        known.retain(|_, known| self.root.join(WHOLE).join(&known.sha256).exists());
        let text = serde_json::to_vec(&*known).map_err(io::Error::from);
        let written = text.and_then(|text| files::replace(&self.root.join(KNOWN), &text));
        if let Err(error) = written {
            warn!(%error, "what was fetched cannot be written down; it is asked for anew after a restart");
        }
    }

    /// With when each was last used, and its bytes.
    fn files(&self) -> Vec<(PathBuf, SystemTime, u64)> {
        let entries = fs::read_dir(self.root.join(WHOLE)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((entry.path(), metadata.modified().ok()?, metadata.len()))
            })
            .collect()
    }

    /// Looks at the disk.
    pub fn counted(&self) -> Counted {
        Counted {
            fetched: self.fetched.load(Ordering::Relaxed),
            fetched_bytes: self.fetched_bytes.load(Ordering::Relaxed),
            found: self.found.load(Ordering::Relaxed),
            kept_bytes: self.files().iter().map(|(_, _, bytes)| bytes).sum(),
        }
    }
}

/// A file under way, which goes unless it was renamed.
struct Fresh {
    file: File,
    path: PathBuf,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // It is not there if all went well; what is left is dropped by the next agent.
        let _ = fs::remove_file(&self.path);
    }
}
