//! The bytes of a stored file: pieces of it, or all of it in order.
//!
//! Invariant: of a file on a store only a few pieces are in memory at any time, in order at most [`PIECE`] twice.

use crate::{Error, Result};
use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use objects::Bucket;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;

/// What is asked of a store at once when a file is read in order: large enough that waiting for the first byte matters
/// little, and small enough to hold two per reader.
const PIECE: u64 = 8 << 20;

/// A file that can be read.
#[derive(Debug)]
pub struct Stored {
    pub path: PathBuf,
    pub bytes: u64,
    at: At,
}

#[derive(Debug)]
enum At {
    Disk(File),
    Store { bucket: Bucket, key: Key },
}

/// The name of an object.
pub fn key_of(location: &str, key: &str) -> Result<Key> {
    Key::parse(key).map_err(|why| Error::Fatal(format!("'{location}' names no object: {why}; check option 'path'")))
}

/// Whether trying again may help is known from what the store said.
pub fn s3_failed(location: &str, what: &str, why: &object_store::Error) -> Error {
    use object_store::Error as E;
    let text = format!("'{location}' cannot {what}: {why}");
    match why {
        E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::InvalidPath { .. } => {
            Error::Fatal(text)
        }
        _ => Error::Transient(text),
    }
}

/// A file was found and then could not be read on.
pub fn read_failed(path: &Path, why: &std::io::Error) -> Error {
    match why.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>()) {
        Some(inner) => s3_failed(&path.to_string_lossy(), "be read", inner),
        None => Error::Fatal(format!("'{}' cannot be read: {why}", path.display())),
    }
}

impl Stored {
    /// `path`: as [`super::pattern::find`] gives it.
    pub fn open(base: &Path, path: &str) -> Result<Self> {
        if let Some((bucket, key)) = objects::split(path) {
            let failed = |why: object_store::Error| s3_failed(path, "be read", &why);
            let bucket = Bucket::open(bucket).map_err(failed)?;
            let key = key_of(path, key)?;
            let about = bucket.block_on(bucket.store.head(&key)).map_err(failed)?;
            return Ok(Self { path: PathBuf::from(path), bytes: about.size, at: At::Store { bucket, key } });
        }
        let path = base.join(path);
        let failed = |why: std::io::Error| read_failed(&path, &why);
        let file = File::open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(Self { bytes, at: At::Disk(file), path })
    }

    /// Pieces of the file. Those that it cannot have are refused before memory is taken for them: ranges come from what a
    /// damaged file says of itself.
    pub fn pieces(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(beyond) = ranges.iter().find(|range| range.start > range.end || range.end > self.bytes) {
            return Err(Error::Fatal(format!(
                "'{}' is damaged: it speaks of its bytes {} to {}, and has {}",
                self.path.display(),
                beyond.start,
                beyond.end,
                self.bytes
            )));
        }
        match &self.at {
            At::Disk(file) => {
                let piece = |range: &Range<u64>| -> std::io::Result<Bytes> {
                    let mut piece = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
                    file.read_exact_at(&mut piece, range.start)?;
                    Ok(piece.into())
                };
                let pieces: std::io::Result<Vec<Bytes>> = ranges.iter().map(piece).collect();
                pieces.map_err(|why| read_failed(&self.path, &why))
            }
            At::Store { bucket, key } => bucket
                .block_on(bucket.store.get_ranges(key, ranges))
                .map_err(|why| s3_failed(&self.path.to_string_lossy(), "be read", &why)),
        }
    }

    /// All of the file, from its beginning.
    pub fn in_order(self) -> InOrder {
        match self.at {
            At::Disk(file) => InOrder::Disk(file),
            At::Store { bucket, key } => {
                InOrder::Store(Pieces { bucket, key, bytes: self.bytes, at: 0, piece: Bytes::new(), ahead: None })
            }
        }
    }
}

/// Reads a file in order, or from where it was told to go on.
#[derive(Debug)]
pub enum InOrder {
    Disk(File),
    Store(Pieces),
}

#[derive(Debug)]
pub struct Pieces {
    bucket: Bucket,
    key: Key,
    bytes: u64,
    at: u64,
    /// What begins at `at`.
    piece: Bytes,
    /// What begins there once `piece` is used up.
    ahead: Option<(u64, JoinHandle<object_store::Result<Bytes>>)>,
}

impl Pieces {
    fn ask(&self, from: u64) -> (u64, JoinHandle<object_store::Result<Bytes>>) {
        let (store, key) = (self.bucket.store.clone(), self.key.clone());
        let range = from..(from + PIECE).min(self.bytes);
        (from, self.bucket.handle.spawn(async move { store.get_range(&key, range).await }))
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let asked = match self.ahead.take() {
            Some((from, asked)) if from == self.at => asked,
            _ => self.ask(self.at).1,
        };
        let piece = self.bucket.block_on(asked).map_err(std::io::Error::other)?;
        self.piece = piece.map_err(std::io::Error::other)?;
        let next = self.at + self.piece.len() as u64;
        if next < self.bytes {
            self.ahead = Some(self.ask(next));
        }
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.piece.is_empty() && self.at < self.bytes {
            self.fill()?;
        }
        let n = out.len().min(self.piece.len());
        out[..n].copy_from_slice(&self.piece.split_to(n));
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Pieces {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let target = target.ok_or_else(|| std::io::Error::other("a place before the beginning"))?;
        match target.checked_sub(self.at).and_then(|by| usize::try_from(by).ok()).filter(|by| *by <= self.piece.len()) {
            Some(by) => drop(self.piece.split_to(by)),
            None => self.piece = Bytes::new(),
        }
        self.at = target;
        Ok(target)
    }
}

impl Read for InOrder {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Disk(file) => file.read(out),
            Self::Store(pieces) => pieces.read(out),
        }
    }
}

impl Seek for InOrder {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        match self {
            Self::Disk(file) => file.seek(to),
            Self::Store(pieces) => pieces.seek(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_like_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..2 * PIECE + 777).map(|at| (at % 251) as u8).collect();
        std::fs::write(dir.path().join("x"), &content).unwrap();
        let bucket = Bucket::in_memory("stored-test").unwrap();
        bucket.block_on(bucket.store.put(&Key::from("x"), content.clone().into())).unwrap();
        for path in ["x", "s3://stored-test/x"] {
            let stored = Stored::open(dir.path(), path).unwrap();
            assert_eq!(stored.bytes, content.len() as u64);
            let pieces = stored.pieces(&[3..8, 0..1]).unwrap();
            assert_eq!((&pieces[0][..], &pieces[1][..]), (&content[3..8], &content[..1]));
            let mut stream = stored.in_order();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            assert!(read == content, "{path}");
            let mut five = [0; 5];
            for at in [PIECE - 2, 4, 9, PIECE + 4] {
                assert_eq!(stream.seek(SeekFrom::Start(at)).unwrap(), at);
                stream.read_exact(&mut five).unwrap();
                assert_eq!(five, content[at as usize..at as usize + 5], "{path} {at}");
            }
            assert_eq!(stream.seek(SeekFrom::End(-1)).unwrap(), content.len() as u64 - 1);
            assert_eq!(stream.read(&mut five).unwrap(), 1);
        }
        let why = Stored::open(dir.path(), "s3://stored-test/none").unwrap_err();
        assert!(matches!(&why, Error::Fatal(text) if text.contains("s3://stored-test/none")), "{why}");
    }
}
