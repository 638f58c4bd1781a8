//! Users of this machine as whom tasks may run.
//!
//! Invariant: a task is never given rights that the agent's operator did not mean it to have: where the agent says whose rights
//! tasks have, a task has others only if they are listed.
//! Invariant: what root puts where a task's user may write, it puts there before any process of that user can come near it.

use nix::unistd::{Gid, Uid, User, chown, getgrouplist};
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// Others may go through it to what they know the name of, and not look around.
const THROUGH: u32 = 0o711;

/// A user of this machine, other than the agent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) struct Accounts {
    /// As whom a task runs that does not say; `None`: as the agent does.
    usual: Option<String>,
    /// As whom tasks may run that say so; `None`: as anybody, unless there is a usual one.
    allowed: Option<Vec<String>>,
    data_dir: PathBuf,
}

impl Accounts {
    pub fn new(usual: Option<String>, allowed: Option<Vec<String>>, data_dir: PathBuf) -> Self {
        Self { usual, allowed, data_dir }
    }

    /// As whom a task runs that wants this user, or says nothing; `None`: as the agent does. An error is a sentence for people.
    pub fn of(&self, wanted: &str) -> Result<Option<Account>, String> {
        let name = match wanted {
            "" => match &self.usual {
                Some(usual) => usual,
                None => return Ok(None),
            },
            wanted => wanted,
        };
        let refuse = |why: String| Err(format!("failed to start the task as user {name}: {why}"));
        if !self.may_be(name) {
            let usual = self.usual.iter().chain(self.allowed.iter().flatten()).map(String::as_str);
            let mut names: Vec<&str> = usual.collect();
            names.dedup();
            return refuse(format!("tasks of this agent may run as {}", names.join(", ")));
        }
        let Some(account) = look_up(name).map_err(|error| format!("failed to look up user {name}: {error}"))? else {
            return refuse("there is no such user on this agent's machine".to_string());
        };
        let me = Uid::effective();
        if account.uid == me.as_raw() {
            return Ok(None);
        }
        if !me.is_root() {
            return refuse("this agent does not run as root, which alone may start processes of others".to_string());
        }
        if let Some(closed) = self.data_dir.ancestors().skip(1).find(|dir| !may_pass(dir, &account)) {
            let closed = closed.display();
            return refuse(format!("{closed} is closed to it; start the agent with a --data-dir that it can reach"));
        }
        Ok(Some(account))
    }

    fn may_be(&self, name: &str) -> bool {
        let is_usual = self.usual.as_deref() == Some(name);
        is_usual || self.allowed.as_ref().map_or(self.usual.is_none(), |allowed| allowed.iter().any(|one| one == name))
    }

    /// Lets users of tasks go through the agent's folder to one below it, and see nothing else there.
    pub fn open_way(&self, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(&self.data_dir)?.flatten() {
            match close(&entry) {
                // Files are replaced here while we look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                closed => closed?,
            }
        }
        let on_the_way = to.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.data_dir));
        for dir in on_the_way {
            if fs::metadata(dir)?.mode() & 0o777 != THROUGH {
                fs::set_permissions(dir, Permissions::from_mode(THROUGH))?;
            }
        }
        Ok(())
    }
}

/// What programs need to find others and to speak to people; all else of the agent's environment may be secret.
const GIVEN: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];

impl Account {
    /// What of this process's environment goes to those of other users.
    pub fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
        GIVEN.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
    }

    /// Gives it a folder with all that is in it, the folder last: until then no process of it can reach what is within.
    pub fn take(&self, dir: &Path) -> io::Result<()> {
        let mut left: Vec<PathBuf> = vec![dir.to_path_buf()];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(&next)? {
                let entry = entry?;
                lchown(entry.path(), Some(self.uid), Some(self.gid))?;
                if entry.file_type()?.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        self.own(dir)
    }

    /// Gives it one file or folder.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        chown(path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))).map_err(io::Error::from)
    }

    /// Opens a file that it may read: with its rights, not ours.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        // A thread of its own, which ends with these rights: the system has them by thread.
        let opened = std::thread::scope(|scope| {
            let open = || {
                set_groups(&self.groups)?;
                // SAFETY: system calls on numbers. Giving up the user of files gives up root's power over them.
                unsafe {
                    libc::setfsgid(self.gid);
                    libc::setfsuid(self.uid);
                }
                open_file(path)
            };
            std::thread::Builder::new().name("opener".into()).spawn_scoped(scope, open).map(|thread| thread.join())
        });
        opened?.unwrap_or_else(|_| Err(io::Error::other("the thread that opens it ended")))
    }

    /// Makes this very thread's process one of the user; only system calls, on what was made before.
    pub fn become_it(&self) -> io::Result<()> {
        set_groups(&self.groups)?;
        // SAFETY: system calls on numbers; in a process of one thread, as a fork is, they are all there is to it.
        let failed = unsafe {
            libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid) != 0
                || libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// For reading; a pipe that nobody writes is not waited for.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Of this thread alone, unlike what the C library offers.
fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: a pointer to so many numbers, which outlive the call.
    match unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn look_up(name: &str) -> nix::Result<Option<Account>> {
    let Some(user) = User::from_name(name)? else { return Ok(None) };
    let c_name = CString::new(name).map_err(|_| nix::errno::Errno::EINVAL)?;
    let groups = getgrouplist(&c_name, user.gid)?.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups, home: user.dir }))
}

/// To all but its owner.
fn close(entry: &fs::DirEntry) -> io::Result<()> {
    let metadata = entry.metadata()?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        fs::set_permissions(entry.path(), Permissions::from_mode(metadata.mode() & 0o700))?;
    }
    Ok(())
}

/// Whether a user may go through a directory. One that cannot be looked at is found out about later.
fn may_pass(dir: &Path, account: &Account) -> bool {
    let Ok(metadata) = fs::metadata(dir) else { return true };
    let bit = match () {
        () if metadata.uid() == account.uid => 0o100,
        () if metadata.gid() == account.gid || account.groups.contains(&metadata.gid()) => 0o010,
        () => 0o001,
    };
    metadata.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_more_than_the_operator_said() {
        let accounts = |usual: Option<&str>, allowed: Option<&[&str]>| {
            let allowed = allowed.map(|names| names.iter().map(ToString::to_string).collect());
            Accounts::new(usual.map(str::to_string), allowed, "/".into())
        };
        let free = accounts(None, None);
        assert!(free.may_be("nobody") && free.of("").expect("as we are").is_none());
        let held = accounts(Some("nobody"), None);
        assert!(held.may_be("nobody") && !held.may_be("root"));
        let listed = accounts(None, Some(&["daemon"]));
        assert!(listed.may_be("daemon") && !listed.may_be("nobody") && !listed.may_be("root"));
        let problem = accounts(Some("nobody"), Some(&["daemon"])).of("root").expect_err("refused");
        assert_eq!(problem, "failed to start the task as user root: tasks of this agent may run as nobody, daemon");
        let problem = free.of("there-is-none").expect_err("refused");
        assert!(problem.ends_with("there is no such user on this agent's machine"), "{problem}");
    }

    #[test]
    fn files_are_opened_with_the_rights_of_the_user() {
        if !Uid::effective().is_root() {
            return;
        }
        let nobody = look_up("nobody").expect("can be asked").expect("is there");
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("opens it");
        let path = dir.path().join("words");
        fs::write(&path, "words").expect("writes");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("closes it");
        assert_eq!(nobody.open(&path).expect_err("is root's").kind(), io::ErrorKind::PermissionDenied);
        nobody.own(&path).expect("is given away");
        nobody.open(&path).expect("is its own");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).expect("closes it");
        assert!(nobody.open(&path).is_err() && !may_pass(dir.path(), &nobody) && File::open(&path).is_ok());
    }
}
