//! Where a task runs, and as whom.
//!
//! A task of the agent's own user works in its sandbox. One of another user works in a folder within, for what the agent and
//! the supervisor write into the sandbox must not be that user's to change.

use super::accounts::{Account, Accounts};
use super::sandboxes::Sandboxes;
use scheduler::model::{TaskInfo, TaskKey};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// In the sandbox of a task of another user.
const WORK: &str = "work";

#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub sandboxes: Sandboxes,
    pub accounts: Accounts,
}

/// Where one task runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub sandbox: PathBuf,
    /// Its present directory.
    pub work: PathBuf,
    pub account: Option<Account>,
}

/// Where a task of such an account works.
pub(super) fn work_of(sandbox: &Path, account: Option<&Account>) -> PathBuf {
    match account {
        None => sandbox.to_path_buf(),
        Some(_) => sandbox.join(WORK),
    }
}

impl Ground {
    /// Makes the sandbox of a task. An error is a sentence for people.
    pub fn make(&self, task: &TaskKey, info: &TaskInfo) -> Result<Place, String> {
        let account = self.accounts.of(&info.user)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!(
                    "failed to create the sandbox of task {}: a task of this id ran on this agent before",
                    task.task_id
                )
            }
            _ => format!("failed to create the sandbox of task {}: {error}", task.task_id),
        };
        let sandbox = self.sandboxes.create(task).map_err(failed)?;
        let work = work_of(&sandbox, account.as_ref());
        if account.is_some() {
            let made = DirBuilder::new().mode(0o700).create(&work).and_then(|()| self.accounts.open_way(&work));
            made.map_err(failed)?;
        }
        Ok(Place { sandbox, work, account })
    }

    /// Of a task for which it was made.
    pub fn find(&self, task: &TaskKey, info: &TaskInfo) -> Result<Place, String> {
        let account = self.accounts.of(&info.user)?;
        let sandbox = self.sandboxes.path_of(task);
        Ok(Place { work: work_of(&sandbox, account.as_ref()), sandbox, account })
    }
}

impl Place {
    /// Gives what is there to the task's user. Nothing may be put there after that.
    pub fn hand_over(&self) -> Result<(), String> {
        let Some(account) = &self.account else { return Ok(()) };
        let failed = |error: io::Error| format!("failed to give the task's folder to user {}: {error}", account.name);
        account.take(&self.work).map_err(failed)
    }

    /// A file that the task alone may read, in the sandbox.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, String> {
        let path = self.sandbox.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(content));
        let owned = written.and_then(|()| self.account.as_ref().map_or(Ok(()), |account| account.own(&path)));
        owned.map_err(|error| format!("failed to write {name} for the task: {error}"))?;
        Ok(path)
    }
}
