//! The directories that tasks run in, `FRAMEWORK/TASK` under one root, and the door through which their output is read.
//!
//! Invariant: a name from outside becomes exactly one directory name, so no id leads out of the root.
//! Invariant: only a sandbox's `stdout` and `stderr` are served, and only if they are plain files.

use crate::files::{self, FileError};
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use scheduler::model::TaskKey;
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracing::warn;

/// Tells a task where its sandbox is, and a later agent that a process was a task of this directory.
pub(super) const SANDBOX_VARIABLE: &str = "SMACK_SANDBOX";

/// Bytes of output in one answer: what is asked for if the request does not say, and the most.
const LIMIT_DEFAULT: u64 = 1 << 20;
const LIMIT_MOST: u64 = 4 << 20;

/// The file's size now; a reader that follows it asks again from where it stands.
const SIZE_HEADER: HeaderName = HeaderName::from_static("x-size");

/// Where in the file the answer begins: later than was asked for if that part was given back to the disk.
const OFFSET_HEADER: HeaderName = HeaderName::from_static("x-offset");

#[derive(Clone, Debug)]
pub(super) struct Sandboxes {
    root: PathBuf,
}

impl Sandboxes {
    pub fn open(root: PathBuf) -> Result<Self, FileError> {
        files::create_private_dir(&root)?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All that there are, of whichever framework.
    pub fn all(&self) -> Vec<PathBuf> {
        let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        below(&self.root).flat_map(|framework| below(&framework)).collect()
    }

    pub fn path_of(&self, task: &TaskKey) -> PathBuf {
        self.root.join(directory_name(task.framework_id.as_str())).join(directory_name(task.task_id.as_str()))
    }

    /// A fresh directory for a task. Ids are never used again, so one that is there already is an error.
    pub fn create(&self, task: &TaskKey) -> io::Result<PathBuf> {
        let sandbox = self.path_of(task);
        let framework = sandbox.parent().unwrap_or(&self.root);
        DirBuilder::new().recursive(true).mode(0o700).create(framework)?;
        DirBuilder::new().mode(0o700).create(&sandbox)?;
        Ok(sandbox)
    }

    /// Removes that of a task that was never started.
    pub fn discard(&self, task: &TaskKey) {
        match fs::remove_dir_all(self.path_of(task)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(%task, %error, "the sandbox of a task that never ran cannot be removed"),
        }
    }

    /// The sandbox of a task, of whichever framework had it last if none is named.
    fn find(&self, framework_id: Option<&str>, task_id: &str) -> io::Result<Option<PathBuf>> {
        let name = directory_name(task_id);
        if let Some(framework_id) = framework_id {
            let sandbox = self.root.join(directory_name(framework_id)).join(name);
            return Ok(sandbox.is_dir().then_some(sandbox));
        }
        let mut newest = None;
        for framework in fs::read_dir(&self.root)? {
            let sandbox = framework?.path().join(&name);
            if let Ok(metadata) = fs::metadata(&sandbox) {
                newest = newest.max(Some((metadata.modified()?, sandbox)));
            }
        }
        Ok(newest.map(|(_, sandbox)| sandbox))
    }

    /// `GET /sandboxes/{task}/{stdout|stderr}?offset=N&limit=M` and `/health`.
    pub fn routes(self) -> axum::Router {
        axum::Router::new()
            .route("/sandboxes/{task}/{file}", get(serve_output))
            .with_state(self)
            .route("/health", get(|| async { "ok" }))
    }
}

/// One directory name for any id, and no two ids the same: letters, digits, `-`, `_` and inner dots stand for
/// themselves, every other byte as `%XX`.
pub(super) fn directory_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for (at, byte) in id.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            b'.' if at > 0 => name.push('.'),
            // Writing to a String cannot fail.
            _ => write!(name, "%{byte:02X}").unwrap_or_default(),
        }
    }
    name
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(default)]
    offset: u64,
    limit: Option<u64>,
    framework: Option<String>,
}

async fn serve_output(
    State(sandboxes): State<Sandboxes>,
    UrlPath((task_id, file)): UrlPath<(String, String)>,
    Query(range): Query<Range>,
) -> Response {
    if file != "stdout" && file != "stderr" {
        return (StatusCode::NOT_FOUND, "a sandbox serves stdout and stderr\n").into_response();
    }
    let not_found = format!("no {file} of a task {task_id:?} on this agent\n");
    let read = tokio::task::spawn_blocking(move || match sandboxes.find(range.framework.as_deref(), &task_id)? {
        Some(sandbox) => read_range(&sandbox.join(file), range.offset, range.limit.unwrap_or(LIMIT_DEFAULT)),
        None => Ok(None),
    });
    match read.await {
        Ok(Ok(Some(Piece { size, offset, bytes }))) => (
            [
                (SIZE_HEADER, size.to_string()),
                (OFFSET_HEADER, offset.to_string()),
                (header::CONTENT_TYPE, "application/octet-stream".to_string()),
            ],
            Bytes::from(bytes),
        )
            .into_response(),
        Ok(Ok(None)) => (StatusCode::NOT_FOUND, not_found).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read it: {error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the reading thread ended\n").into_response(),
    }
}

/// A part of a file, and how large the whole is.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    size: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// The bytes from `offset`, or from where there are any after it; `None` if there is no such plain file.
fn read_range(path: &Path, offset: u64, limit: u64) -> io::Result<Option<Piece>> {
    // The task owns its sandbox and may put a link or a pipe in place of its output: follow none, wait for none.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let mut file: File = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ELOOP) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let (size, mut bytes) = (metadata.len(), Vec::new());
    let offset = first_data(&file, offset.min(size)).min(size);
    file.seek(SeekFrom::Start(offset))?;
    file.take(limit.min(LIMIT_MOST)).read_to_end(&mut bytes)?;
    Ok(Some(Piece { size, offset, bytes }))
}

/// Where what was kept of the file begins, at or after `offset`. A disk that cannot say has kept all.
fn first_data(file: &File, offset: u64) -> u64 {
    let Ok(from) = i64::try_from(offset) else { return offset };
    match nix::unistd::lseek(file, from, nix::unistd::Whence::SeekData) {
        Ok(at) => u64::try_from(at).unwrap_or(offset),
        Err(nix::errno::Errno::ENXIO) => u64::MAX,
        Err(_) => offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_leads_out_of_the_root() {
        assert_eq!(directory_name("fraud.features.3.0"), "fraud.features.3.0");
        assert_eq!(directory_name(".."), "%2E.");
        assert_eq!(directory_name("../../etc/passwd"), "%2E.%2F..%2Fetc%2Fpasswd");
        assert_eq!(directory_name("%2E."), "%252E.");
    }

    #[test]
    fn links_are_not_followed_and_ranges_are_clamped() {
        let dir = tempfile::tempdir().expect("a directory");
        let (plain, link) = (dir.path().join("stdout"), dir.path().join("stderr"));
        fs::write(&plain, "0123456789").expect("writes");
        std::os::unix::fs::symlink(&plain, &link).expect("links");
        let read = |path: &Path, offset, limit| read_range(path, offset, limit).expect("reads");
        let piece = |offset, bytes: &str| Some(Piece { size: 10, offset, bytes: bytes.into() });
        assert_eq!(read(&plain, 2, 3), piece(2, "234"));
        assert_eq!(read(&plain, 99, 3), piece(10, ""));
        assert_eq!(read(&plain, 8, u64::MAX), piece(8, "89"));
        assert_eq!(read(&link, 0, 3), None);
        assert_eq!(read(&dir.path().join("none"), 0, 3), None);
        assert_eq!(read(dir.path(), 0, 3), None);
        // What was never written is not read as zeros.
        let sparse = dir.path().join("sparse");
        let file = File::create(&sparse).expect("a file");
        file.set_len(1 << 20).expect("grows");
        drop(file);
        OpenOptions::new()
            .append(true)
            .open(&sparse)
            .and_then(|mut file| io::Write::write_all(&mut file, b"end"))
            .expect("writes");
        let found = read(&sparse, 5, u64::MAX).expect("it is there");
        assert_eq!(found.size, (1 << 20) + 3);
        assert_eq!(found.offset + found.bytes.len() as u64, found.size);
        assert!(found.bytes.ends_with(b"end"));
    }
}
