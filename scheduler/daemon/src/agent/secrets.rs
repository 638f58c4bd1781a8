//! What the agent keeps for tasks and tells nobody else: one file for each secret, below one folder.
//!
//! Invariant: a value is read when its task is started, goes to its process alone, and is written down and sent nowhere.
//! Invariant: a task is told only what is for its role: files beside the folders of roles are for all, those in the folder of a
//! role for it and the roles below it, and the nearest one of a name counts.

use scheduler::model::TaskInfo;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// An environment has room for no more.
const BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub(super) struct Secrets {
    root: Option<PathBuf>,
}

impl Secrets {
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    /// By the variables that hold them. An error is a sentence for people, and has no value in it.
    pub fn of(&self, info: &TaskInfo) -> Result<Vec<(String, String)>, String> {
        let told = info.secrets.iter().map(|(variable, name)| {
            let value =
                self.value(&info.role, name).map_err(|why| format!("failed to tell the task secret {name}: {why}"));
            Ok((variable.clone(), value?))
        });
        told.collect()
    }

    fn value(&self, role: &str, name: &str) -> Result<String, String> {
        let Some(root) = &self.root else { return Err("this agent keeps none; start it with --secrets".to_string()) };
        let mut folders: Vec<PathBuf> = vec![root.clone()];
        let mut folder = root.clone();
        // A role is a path of good names; the usual one is all that is not said to be another's.
        for part in role.split('/').filter(|part| !matches!(*part, "" | "*" | "." | "..")) {
            folder.push(part);
            folders.push(folder.clone());
        }
        match folders.iter().rev().map(|folder| folder.join(name)).find(|path| path.is_file()) {
            Some(path) => read(&path),
            None => Err(format!("this agent has none of that name for role {role}")),
        }
    }
}

/// Without the end of its last line, which editors add.
fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("its file cannot be read: {error}");
    let size = fs::metadata(path).map_err(cannot)?.len();
    if size > BYTES_MAX {
        return Err(format!("it has {size} bytes, and an environment has room for {BYTES_MAX}"));
    }
    let mut value = fs::read_to_string(path).map_err(cannot)?;
    if value.ends_with('\n') {
        value.pop();
    }
    match value.contains('\0') {
        true => Err("it has a byte in it that no environment takes".to_string()),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_told_their_own_and_the_nearest_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("ml/vision")).expect("folders");
        for (path, value) in [("db", "all"), ("ml/db", "ml's\n"), ("ml/vision/key", "two\nlines\n"), ("ml/bad", "a\0")]
        {
            fs::write(dir.path().join(path), value).expect("writes");
        }
        let secrets = Secrets::new(Some(dir.path().to_path_buf()));
        assert_eq!(secrets.value("*", "db"), Ok("all".to_string()));
        assert_eq!(secrets.value("web", "db"), Ok("all".to_string()));
        assert_eq!(secrets.value("ml", "db"), Ok("ml's".to_string()));
        assert_eq!(secrets.value("ml/vision", "db"), Ok("ml's".to_string()));
        assert_eq!(secrets.value("ml/vision", "key"), Ok("two\nlines".to_string()));
        for (role, name, words) in [
            ("ml", "key", "none of that name"),
            ("web", "ml", "none of that name"),
            ("ml", "bad", "no environment takes"),
        ] {
            let problem = secrets.value(role, name).expect_err("refused");
            assert!(problem.contains(words), "{problem}");
        }
        let info = TaskInfo { secrets: [("A".to_string(), "key".to_string())].into(), ..Default::default() };
        let problem = Secrets::new(None).of(&info).expect_err("there are none");
        assert_eq!(problem, "failed to tell the task secret key: this agent keeps none; start it with --secrets");
    }
}
