//! What tasks want in their sandboxes is fetched here, before they are started, and kept for the next that wants it.
//!
//! Invariant: every task that is fetched for is answered once, also when it is given up; what was put into its sandbox is then
//! whole, or gone.
//! Invariant: nothing that others wait for waits for a download: the owner, and the thread that starts tasks, go on meanwhile.

mod cache;
mod fetch;
mod place;

use super::accounts::open_file;
use super::ground::{Ground, Place};
pub(super) use cache::{Cache, Counted};
use jobs::artifacts::Source;
use jobs::{Artifact, Reason};
use scheduler::model::{TaskInfo, TaskKey, check_task};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

/// More at once would only share the network.
const DOWNLOADS: usize = 8;

/// Files that are summed, copied and unpacked at once: each has a thread meanwhile.
const HANDLED: usize = 4;

/// Of the disk this share is to stay free.
const HEADROOM: f64 = 0.05;

/// Tasks that can be started now, or why not. Tasks bound it: each is answered once.
pub(super) type Fetched = mpsc::UnboundedReceiver<(TaskKey, Outcome)>;

pub(super) type Outcome = Result<Box<TaskInfo>, (Reason, String)>;

/// Dropping it gives up all that is being fetched.
pub(super) struct Fetcher {
    ground: Ground,
    hands: Arc<Hands>,
    /// Dropped to give up.
    open: BTreeMap<TaskKey, oneshot::Sender<()>>,
    answers: mpsc::UnboundedSender<(TaskKey, Outcome)>,
}

impl Fetcher {
    /// `root`: a folder of its own. `most_bytes`: of what is kept there.
    pub fn open(ground: Ground, root: PathBuf, most_bytes: u64) -> Result<(Self, Fetched), crate::files::FileError> {
        let (answers, fetched) = mpsc::unbounded_channel();
        let cache = Arc::new(Cache::open(root, most_bytes)?);
        let (downloads, handled) = (Semaphore::new(DOWNLOADS), Semaphore::new(HANDLED));
        let hands = Arc::new(Hands { cache, downloads, handled });
        Ok((Self { ground, hands, open: BTreeMap::new(), answers }, fetched))
    }

    pub fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.hands.cache)
    }

    /// Must be called within a runtime.
    pub fn begin(&mut self, task: TaskKey, info: Box<TaskInfo>) {
        let (hold, given_up) = oneshot::channel();
        self.open.insert(task.clone(), hold);
        let (ground, answers, hands) = (self.ground.clone(), self.answers.clone(), Arc::clone(&self.hands));
        tokio::spawn(async move {
            let made = {
                let (ground, task, info) = (ground.clone(), task.clone(), info.clone());
                tokio::task::spawn_blocking(move || ground.make(&task, &info)).await
            };
            let outcome = match made.unwrap_or_else(|_| Err("failed to create the task's sandbox".to_string())) {
                Err(message) => Err((Reason::LaunchFailed, message)),
                Ok(place) => {
                    let gathered = gather(&hands, &info, &place, given_up).await;
                    if gathered.is_err() {
                        let (sandboxes, task) = (ground.sandboxes.clone(), task.clone());
                        // Nothing waits for it but the answer.
                        let _ = tokio::task::spawn_blocking(move || sandboxes.discard(&task)).await;
                    }
                    gathered.map_err(|message| (Reason::FetchFailed, message))
                }
            };
            // The owner is gone if nobody hears it.
            let _ = answers.send((task, outcome.map(|()| info)));
        });
    }

    /// What is no longer wanted, if it is not too late for that. It is answered all the same.
    pub fn give_up(&mut self, task: &TaskKey) {
        self.open.remove(task);
    }

    pub fn give_up_all(&mut self) {
        self.open.clear();
    }

    /// Removes what was put together for a task that is not started.
    pub fn discard(&self, task: &TaskKey) {
        self.ground.sandboxes.discard(task);
    }

    /// Its answer was heard.
    pub fn ended(&mut self, task: &TaskKey) {
        self.open.remove(task);
    }
}

/// What all tasks share.
struct Hands {
    cache: Arc<Cache>,
    downloads: Semaphore,
    handled: Semaphore,
}

impl Hands {
    async fn turn(&self) -> Result<SemaphorePermit<'_>, String> {
        self.handled.acquire().await.map_err(|_| "the agent is stopping".to_string())
    }
}

/// Everything that one task wants.
async fn gather(
    hands: &Hands,
    info: &TaskInfo,
    place: &Place,
    mut given_up: oneshot::Receiver<()>,
) -> Result<(), String> {
    // The master checked it, and what a path may do here is worth a second look.
    check_task(info)?;
    let most = Most::of(info, &place.sandbox);
    for artifact in &info.artifacts {
        let shown = artifact.shown().to_string();
        let unfetched = |why: String| format!("failed to fetch {shown}: {why}");
        let file = tokio::select! {
            found = find(hands, artifact, place, &most) => found.map_err(unfetched)?,
            _ = &mut given_up => return Err(format!("was not started: it was given up while {shown} was fetched")),
        };
        let (artifact, work, most) = (artifact.clone(), place.work.clone(), most.clone());
        let _turn = hands.turn().await?;
        let placed = tokio::task::spawn_blocking(move || place::place(&artifact, file, &work, &most)).await;
        placed.unwrap_or_else(|_| Err("it could not be put into the sandbox".to_string())).map_err(unfetched)?;
        // That it is not wanted any more is said by dropping the other end.
        if given_up.try_recv() == Err(oneshot::error::TryRecvError::Closed) {
            return Err("was not started: it was given up".to_string());
        }
    }
    Ok(())
}

/// The bytes of an artifact, whole and as they are to be.
async fn find(hands: &Hands, artifact: &Artifact, place: &Place, most: &Most) -> Result<File, String> {
    match artifact.source()? {
        Source::File(path) => {
            let _turn = hands.turn().await?;
            let (path, sha256, account) = (path.to_path_buf(), artifact.sha256.clone(), place.account.clone());
            let opened = tokio::task::spawn_blocking(move || {
                let file = match &account {
                    Some(account) => account.open(&path),
                    None => open_file(&path),
                };
                local(file.map_err(|error| error.to_string())?, &sha256)
            });
            opened.await.unwrap_or_else(|_| Err("it could not be read".to_string()))
        }
        Source::Http(_) | Source::Store { .. } => hands.cache.get(artifact, most.bytes, &hands.downloads).await,
    }
}

fn local(mut file: File, sha256: &str) -> Result<File, String> {
    let cannot = |error: io::Error| error.to_string();
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("it is no plain file".to_string());
    }
    if !sha256.is_empty() {
        check(&fetch::sha256_of(&mut file).map_err(cannot)?, sha256)?;
    }
    Ok(file)
}

fn check(found: &str, wanted: &str) -> Result<(), String> {
    match wanted.is_empty() || found == wanted {
        true => Ok(()),
        false => Err(format!("its sha256 is {found}, and not {wanted}")),
    }
}

/// How much one artifact may come to.
#[derive(Clone, Debug)]
struct Most {
    bytes: u64,
    why: &'static str,
}

impl Most {
    /// What the task may write, or what the disk has room for.
    fn of(info: &TaskInfo, sandbox: &Path) -> Self {
        let disk_milli = u64::try_from(info.resources.milli("disk")).unwrap_or(0);
        if disk_milli > 0 {
            return Self {
                bytes: disk_milli.saturating_mul(1 << 20) / 1000,
                why: "that the task may have on the disk",
            };
        }
        let free = nix::sys::statvfs::statvfs(sandbox).map_or(u64::MAX, |disk| {
            let spare = (disk.blocks() as f64 * HEADROOM) as u64;
            disk.blocks_available().saturating_sub(spare).saturating_mul(disk.fragment_size())
        });
        Self { bytes: free, why: "that the disk has room for" }
    }
}

#[cfg(test)]
mod tests;
