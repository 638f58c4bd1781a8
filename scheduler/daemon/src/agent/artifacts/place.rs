//! Puts what was fetched into a sandbox: a file as it is, an archive unpacked.
//!
//! Invariant: nothing is written outside the folder, whatever an archive says: no path leads out of it, no link is followed,
//! and there is no more of it than the task may have.

use super::Most;
use jobs::Artifact;
use jobs::artifacts::Packed;
use std::error::Error;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use tar::{Archive, EntryType};

const BUFFER: usize = 1 << 16;

/// Of what stands before a file in an archive, such as a name that is long.
const NAME_BYTES: u64 = 1 << 20;

/// Blocks.
pub fn place(artifact: &Artifact, file: File, work: &Path, most: &Most) -> Result<(), String> {
    let to = work.join(&artifact.path);
    let parent = to.parent().map_or(Ok(()), fs::create_dir_all);
    parent.map_err(|error| format!("its place in the sandbox cannot be made: {error}"))?;
    match artifact.unpack {
        true => unpack(file, artifact.packed()?, &to, most),
        false => copy(file, &to, artifact.executable, most),
    }
}

fn copy(file: File, to: &Path, executable: bool, most: &Most) -> Result<(), String> {
    let cannot = |error: io::Error| format!("it cannot be put into the sandbox: {error}");
    let size = file.metadata().map_err(cannot)?.len();
    if size > most.bytes {
        return Err(too_large(size, most));
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let mut fresh = OpenOptions::new().write(true).create_new(true).mode(mode).open(to).map_err(cannot)?;
    // The system copies it itself, and on some disks shares it.
    let copied = io::copy(&mut file.take(most.bytes.saturating_add(1)), &mut fresh).map_err(cannot)?;
    if copied > most.bytes { Err(too_large(copied, most)) } else { Ok(()) }
}

fn unpack(mut file: File, packed: Packed, to: &Path, most: &Most) -> Result<(), String> {
    let cannot = |error: io::Error| {
        let causes = || std::iter::successors(Some(&error as &dyn Error), |error| (*error).source());
        match causes().any(is_too_large) {
            true => too_large(most.bytes + 1, most),
            false => {
                format!("it cannot be unpacked: {}", causes().map(ToString::to_string).collect::<Vec<_>>().join(": "))
            }
        }
    };
    fs::create_dir(to).map_err(cannot)?;
    // The library takes long names, and whatever else stands before a file, into memory whole: these are looked at first.
    let first = opened(file.try_clone().map_err(cannot)?, packed, most).map_err(cannot)?;
    for entry in Archive::new(first).entries().map_err(cannot)?.raw(true) {
        let entry = entry.map_err(cannot)?;
        let kind = entry.header().entry_type();
        let is_before = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if is_before && entry.size() > NAME_BYTES {
            return Err(format!("it cannot be unpacked: a name in it has {} bytes", entry.size()));
        }
    }
    file.rewind().map_err(cannot)?;
    let mut archive = Archive::new(opened(file, packed, most).map_err(cannot)?);
    archive.set_overwrite(true);
    for entry in archive.entries().map_err(cannot)? {
        let mut entry = entry.map_err(cannot)?;
        let kind = entry.header().entry_type();
        let name = || entry.path().map_or_else(|_| "?".to_string(), |path| path.display().to_string());
        match kind {
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Directory
            | EntryType::Symlink
            | EntryType::Link => {}
            EntryType::XGlobalHeader => continue,
            // Devices and pipes are nothing that a task needs, and much that it should not have.
            _ => return Err(format!("it cannot be unpacked: {} is neither file, folder nor link", name())),
        }
        // A file may say that it is larger than what there is of it.
        if entry.header().size().is_ok_and(|size| size > most.bytes) {
            return Err(too_large(entry.header().size().unwrap_or(u64::MAX), most));
        }
        let shown = name();
        match entry.unpack_in(to) {
            Ok(true) if kind == EntryType::Directory => let_in(&to.join(&shown)).map_err(cannot)?,
            Ok(true) => {}
            Ok(false) => return Err(format!("it cannot be unpacked: {shown} leads out of its folder")),
            Err(error) => return Err(cannot(error)),
        }
    }
    Ok(())
}

fn opened(file: File, packed: Packed, most: &Most) -> io::Result<Bounded> {
    let file = BufReader::with_capacity(BUFFER, file);
    let from: Box<dyn Read> = match packed {
        Packed::Plain => Box::new(file),
        Packed::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Packed::Zstd => Box::new(zstd::Decoder::with_buffer(file)?),
    };
    Ok(Bounded { from, left: most.bytes })
}

/// What follows is to be put into a folder, and it is to be removed one day, whatever the archive says of it.
fn let_in(dir: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(dir)?;
    match metadata.is_dir() {
        true => fs::set_permissions(dir, Permissions::from_mode(metadata.mode() & 0o777 | 0o700)),
        false => Ok(()),
    }
}

fn too_large(bytes: u64, most: &Most) -> String {
    format!("it has {bytes} bytes or more, and {} is all {}", most.bytes, most.why)
}

/// Ends with an error after so many bytes.
struct Bounded {
    from: Box<dyn Read>,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too large")]
struct TooLarge;

/// The library puts errors into errors.
fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    let within = |error: &io::Error| error.get_ref().is_some_and(|inner| is_too_large(inner));
    error.is::<TooLarge>() || error.downcast_ref::<io::Error>().is_some_and(within)
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| io::Error::other(TooLarge))?;
        Ok(n)
    }
}
