//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes beside the target, flushes to the device and renames: a crash at any moment leaves the old file or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    // The process id keeps a writer of an earlier life, should it still breathe, off our half-written file.
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = folder.join(name);
    write_and_sync(&unfinished, bytes)?;
    fs::rename(&unfinished, path)?;
    sync_folder(folder)
}

pub fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A rename is lasting only once the folder itself is on the device.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
