//! Directories and small files that daemons keep.
//!
//! Invariant: a file is either whole or not there; directories are readable by their owner only, because plans may hold
//! passwords.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("create directory {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Creates the directory and its parents; it may exist already.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| FileError::Create { path: path.into(), source })
}

/// Creates or replaces a file as a whole, durably.
pub fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    replace_durably(path, content).map_err(|source| FileError::Write { path: path.into(), source })
}

/// As [`write`], for those who say themselves what failed.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = fresh_beside(path);
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Creates or replaces a file as a whole. It outlives this process, and perhaps not the machine.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = fresh_beside(path);
    fs::write(&fresh, content)?;
    fs::rename(&fresh, path)
}

fn fresh_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

/// The file's text without the white space around it; `None` if there is no such file.
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.into(), source }),
    }
}

/// The path without links and dots.
pub fn canonical(path: &Path) -> Result<PathBuf, FileError> {
    fs::canonicalize(path).map_err(|source| FileError::Read { path: path.into(), source })
}
