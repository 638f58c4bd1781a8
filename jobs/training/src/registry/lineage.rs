//! Where a model version comes from: what was run, on which rows, out of which commit.
//!
//! Invariant: nothing here is needed to load a model, and a version without it (of an earlier program) loads alike.

use jobs::TrainBody;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// Of the job; empty where it was run without a cluster.
    #[serde(default)]
    pub submission: String,
    /// Digest of the rows that were trained on, and of those held out.
    #[serde(default)]
    pub data_digest: String,
    /// Text of the tables, and the queries over them.
    #[serde(default)]
    pub sql: String,
    #[serde(default)]
    pub train_query: String,
    #[serde(default)]
    pub test_query: Option<String>,
    /// The version that training began with, as in `fraud@3`.
    #[serde(default)]
    pub init: Option<String>,
    /// Checked out in the folder of the job file, where that is in a git repository.
    #[serde(default)]
    pub git_commit: Option<String>,
}

impl Lineage {
    pub fn of(body: &TrainBody, submission: &str, data_digest: u64) -> Self {
        Self {
            submission: submission.to_string(),
            data_digest: format!("{data_digest:016x}"),
            sql: body.sql.clone(),
            train_query: body.train_query.clone(),
            test_query: body.test_query.clone(),
            init: body.init.clone(),
            git_commit: git_commit(Path::new(&body.base_dir)),
        }
    }
}

/// The commit that is checked out in `folder` or one above it, read from the repository's own files.
fn git_commit(folder: &Path) -> Option<String> {
    let dot_git = folder.ancestors().map(|above| above.join(".git")).find(|path| path.exists())?;
    let git = match fs::read_to_string(&dot_git) {
        // Of a worktree or submodule: a file that says where the rest is.
        Ok(text) => dot_git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = head.strip_prefix("ref:").map(str::trim) else { return commit(&head) };
    // What worktrees share lies in the main one's folder.
    let shared = match fs::read_to_string(git.join("commondir")) {
        Ok(text) => git.join(text.trim()),
        Err(_) => git.clone(),
    };
    for at in [&git, &shared] {
        if let Ok(text) = fs::read_to_string(at.join(name)) {
            return commit(&text);
        }
    }
    let packed = fs::read_to_string(shared.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ')).and_then(commit)
}

fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let is_hash = text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_found_however_git_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("jobs/fraud");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(git_commit(&inner), None);
        let git = folder.path().join(".git");
        let [one, two, three] = ["1", "2", "3"].map(|digit| digit.repeat(40));
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        fs::write(git.join("HEAD"), format!("{one}\n")).unwrap();
        assert_eq!(git_commit(&inner), Some(one), "no branch");
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(git_commit(&inner), None, "a repository without a commit");
        fs::write(git.join("packed-refs"), format!("# pack-refs\n{two} refs/heads/main\n")).unwrap();
        assert_eq!(git_commit(&inner), Some(two));
        fs::write(git.join("refs/heads/main"), format!("{three}\n")).unwrap();
        assert_eq!(git_commit(&inner), Some(three.clone()), "newer than the packed one");
        let worktree = git.join("worktrees/other");
        fs::create_dir_all(&worktree).unwrap();
        fs::write(worktree.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(worktree.join("commondir"), "../..\n").unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(".git"), format!("gitdir: {}\n", worktree.display())).unwrap();
        assert_eq!(git_commit(other.path()), Some(three));
    }
}
