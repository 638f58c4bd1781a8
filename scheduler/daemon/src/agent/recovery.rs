//! What an earlier agent of this directory left: tasks that go on, tasks that ended meanwhile, and processes of neither.
//!
//! Invariant: when this is done, every process of this directory's tasks belongs to a supervisor that the new agent
//! holds.

use super::keep::identity::PidFd;
use super::keep::{has_begun, read_end, read_kept};
use super::leftovers::{self, LeftoverError};
use super::nursery::Adopted;
use super::sandboxes::Sandboxes;
use scheduler::agent::{Found, Recovered};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Leftovers(#[from] LeftoverError),
    #[error("take up task {task} of an earlier agent")]
    Look {
        task: String,
        #[source]
        source: io::Error,
    },
}

/// What was found beside the tasks that the log knows.
pub(super) struct Looked {
    pub adopted: Vec<Adopted>,
    /// Processes of no such task, which were ended.
    pub n_ended: usize,
}

/// Looks for every task that had not ended, and says in `recovered` what was found. Nothing else may start tasks of this
/// directory meanwhile. Blocks.
pub(super) fn look(recovered: &mut Recovered, sandboxes: &Sandboxes) -> Result<Looked, RecoveryError> {
    let mut adopted = Vec::new();
    let mut spared: BTreeSet<PathBuf> = BTreeSet::new();
    for task in recovered.tasks.iter_mut().filter(|task| !task.latest.is_terminal()) {
        let sandbox = sandboxes.path_of(&task.task);
        let (found, supervisor) =
            look_at(&sandbox).map_err(|source| RecoveryError::Look { task: task.task.to_string(), source })?;
        task.found = found;
        if let Some(supervisor) = supervisor {
            spared.insert(sandbox.clone());
            adopted.push(Adopted { task: task.task.clone(), sandbox, supervisor });
        }
    }
    let n_ended = leftovers::end_all_under(sandboxes.root(), &spared)?;
    for task in recovered.tasks.iter().filter(|task| task.found == Found::Nothing && !task.latest.is_terminal()) {
        // Its agent ended while it was fetched for.
        if !has_begun(&sandboxes.path_of(&task.task)) {
            sandboxes.discard(&task.task);
        }
    }
    Ok(Looked { adopted, n_ended })
}

fn look_at(sandbox: &Path) -> io::Result<(Found, Option<PidFd>)> {
    let kept = read_kept(sandbox);
    if let Some(kept) = &kept
        && let Some(supervisor) = PidFd::open(kept.supervisor)?
    {
        return Ok((Found::Alive { pid: kept.task.pid.unsigned_abs() }, Some(supervisor)));
    }
    // Written before the supervisor went, so whoever sees it gone sees this. Also after a restart of the machine.
    Ok((read_end(sandbox).map_or(Found::Nothing, Found::Ended), None))
}
