//! One file of a log: `OFFSET.log`, batches one after another, beginning with that offset.
//!
//! Invariant: the bytes up to `n_bytes` are whole batches. The index in memory is sparse and made by scanning, so there
//! is no second file that could disagree with the first.

use super::batch::{self, HEADER_BYTES, Header};
use super::timestamps;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of log for one index entry of 24 bytes. A look-up reads at most this much, and one batch, to find its batch.
const INDEX_EVERY: u64 = 32 << 10;
/// What a scan reads at a time: many small batches, or the header of a large one.
const SCAN_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    base_offset: i64,
    position: u64,
    /// Largest timestamp of all batches before this one.
    max_timestamp_before: i64,
}

#[derive(Debug)]
pub struct Segment {
    pub base_offset: i64,
    pub n_bytes: u64,
    /// -1 in an empty one.
    pub max_timestamp: i64,
    path: PathBuf,
    /// Opened when it is needed, so that silent partitions hold no file.
    file: Option<Arc<File>>,
    index: Vec<Entry>,
}

/// Where a read begins.
#[derive(Debug)]
pub struct Place {
    pub file: Arc<File>,
    pub position: u64,
    /// End of the segment's batches.
    pub end: u64,
}

impl Segment {
    pub fn new(dir: &Path, base_offset: i64) -> Self {
        let path = dir.join(format!("{base_offset:020}.log"));
        Self { base_offset, n_bytes: 0, max_timestamp: -1, path, file: None, index: Vec::new() }
    }

    /// The offset in a segment's file name.
    pub fn offset_of(path: &Path) -> Option<i64> {
        if path.extension()? != "log" {
            return None;
        }
        path.file_stem()?.to_str()?.parse().ok().filter(|offset| *offset >= 0)
    }

    /// Reads what is in the file. `note` hears of each batch; control batches come with their bytes. With `verify` every
    /// checksum is compared, and the file is cut where the first one does not fit: a crash may have torn the last batch.
    pub fn scan(&mut self, verify: bool, mut note: impl FnMut(&Header, &[u8])) -> io::Result<()> {
        let file = self.file()?;
        let length = file.metadata()?.len();
        let mut expected = self.base_offset;
        let mut window = Window::default();
        while self.n_bytes < length {
            let head = window.at(&file, self.n_bytes, HEADER_BYTES)?;
            let Some(header) = Header::read(head) else { break };
            if header.base_offset < expected || self.n_bytes + header.n_bytes as u64 > length {
                break;
            }
            let whole = if verify || header.is_control() {
                window.at(&file, self.n_bytes, header.n_bytes)?
            } else {
                window.at(&file, self.n_bytes, HEADER_BYTES)?
            };
            if verify && !batch::checksum_fits(whole) {
                break;
            }
            note(&header, whole);
            expected = header.last_offset() + 1;
            self.grown(&header);
        }
        if self.n_bytes < length {
            tracing::warn!(
                file = %self.path.display(), kept = self.n_bytes, found = length,
                "the log's end is not whole and is left out"
            );
            if verify {
                file.set_len(self.n_bytes)?;
            }
        }
        Ok(())
    }

    pub fn file(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::options().read(true).write(true).create(true).truncate(false).open(&self.path)?);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    pub fn close_file(&mut self) {
        self.file = None;
    }

    /// Appends one batch, already in its place. After an error nothing counts as written.
    pub fn append(&mut self, header: &Header, batch: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(batch, self.n_bytes)?;
        self.grown(header);
        Ok(())
    }

    fn grown(&mut self, header: &Header) {
        let due = self.index.last().is_none_or(|last| self.n_bytes - last.position >= INDEX_EVERY);
        if due {
            self.index.push(Entry {
                base_offset: header.base_offset,
                position: self.n_bytes,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.n_bytes += header.n_bytes as u64;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// At or before the batch that holds `offset`.
    pub fn place_of(&mut self, offset: i64) -> io::Result<Place> {
        let after = self.index.partition_point(|entry| entry.base_offset <= offset);
        let position = after.checked_sub(1).map_or(0, |at| self.index[at].position);
        Ok(Place { file: self.file()?, position, end: self.n_bytes })
    }

    /// At or before the first batch with a timestamp of at least `wanted`.
    pub fn place_of_time(&mut self, wanted: i64) -> io::Result<Place> {
        let after = self.index.partition_point(|entry| entry.max_timestamp_before < wanted);
        let position = after.checked_sub(1).map_or(0, |at| self.index[at].position);
        Ok(Place { file: self.file()?, position, end: self.n_bytes })
    }

    /// Makes the file, so that its name says where an empty log goes on.
    pub fn create(&mut self) -> io::Result<()> {
        self.file().map(drop)
    }

    pub fn delete(&mut self) -> io::Result<()> {
        self.file = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The piece of a file that was read last.
#[derive(Default)]
pub struct Window {
    from: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `wanted` bytes from `position`; fewer where the file ends.
    pub fn at(&mut self, file: &File, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let inside = position >= self.from && position + wanted as u64 <= self.from + self.bytes.len() as u64;
        if !inside {
            self.from = position;
            self.bytes.resize(wanted.max(SCAN_BYTES), 0);
            let n_read = read_up_to(file, &mut self.bytes, position)?;
            self.bytes.truncate(n_read);
        }
        let skip = (position - self.from) as usize;
        let end = (skip + wanted).min(self.bytes.len());
        Ok(&self.bytes[skip..end])
    }
}

pub fn read_up_to(file: &File, to: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < to.len() {
        match file.read_at(&mut to[done..], position + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

impl Place {
    /// The position of the first batch whose last offset is at least `offset`.
    fn seek(&self, offset: i64) -> io::Result<u64> {
        let mut window = Window::default();
        let mut position = self.position;
        while position < self.end {
            match Header::read(window.at(&self.file, position, HEADER_BYTES)?) {
                Some(header) if header.last_offset() < offset => position += header.n_bytes as u64,
                _ => break,
            }
        }
        Ok(position)
    }

    /// Whole batches from the one that holds `offset`, all of them before `upto`, in at most `max_bytes`; the first one
    /// even if it alone is larger, if `at_least_one`.
    pub fn read(&self, offset: i64, upto: i64, max_bytes: usize, at_least_one: bool) -> io::Result<Vec<u8>> {
        let position = self.seek(offset)?;
        let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max_bytes.max(HEADER_BYTES))];
        let n_read = read_up_to(&self.file, &mut bytes, position)?;
        bytes.truncate(n_read);
        let Some(first) = Header::read(&bytes) else { return Ok(Vec::new()) };
        if first.base_offset >= upto {
            return Ok(Vec::new());
        }
        if first.n_bytes > max_bytes {
            if !at_least_one || first.n_bytes > left {
                return Ok(Vec::new());
            }
            bytes.resize(first.n_bytes, 0);
            let n_read = read_up_to(&self.file, &mut bytes, position)?;
            return Ok(if n_read == first.n_bytes { bytes } else { Vec::new() });
        }
        let mut whole = 0;
        while let Some(header) = Header::read(&bytes[whole..]) {
            if header.base_offset >= upto || whole + header.n_bytes > bytes.len() {
                break;
            }
            whole += header.n_bytes;
        }
        bytes.truncate(whole);
        Ok(bytes)
    }

    /// The first record with a timestamp of at least `wanted`: offset and timestamp.
    pub fn first_at_or_after(&self, wanted: i64) -> io::Result<Option<(i64, i64)>> {
        self.first_from(0, wanted)
    }

    /// The same among the records from `offset` on; of a compressed batch that holds it, `offset` itself.
    pub fn first_from(&self, offset: i64, wanted: i64) -> io::Result<Option<(i64, i64)>> {
        let mut window = Window::default();
        let mut position = self.position;
        while position < self.end {
            let Some(header) = Header::read(window.at(&self.file, position, HEADER_BYTES)?) else { break };
            if header.last_offset() >= offset && header.max_timestamp >= wanted && !header.is_control() {
                let bytes = window.at(&self.file, position, header.n_bytes)?;
                if let Some((found, timestamp)) = timestamps::first_at_or_after(&header, bytes, offset, wanted) {
                    return Ok(Some((found, timestamp)));
                }
            }
            position += header.n_bytes as u64;
        }
        Ok(None)
    }
}
