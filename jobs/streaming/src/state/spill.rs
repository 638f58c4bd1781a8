//! Bytes that memory has no room for: one file of one operator on one slice, cut into extents that are written once, read
//! and given back.
//!
//! The file has no name: it is removed from its folder as soon as it is open, so that the system takes its space back
//! however the process ends, and nothing has to be cleared when a task starts. It is made when the first bytes come.
//!
//! Invariant: extents that are in use do not overlap, free ones lie between them and never touch each other or the end of
//! the file; so what is given back is used again, and the file shrinks when its end is free.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use xxhash_rust::xxh3::xxh3_64;

/// Where bytes are in the file. Not to be cloned: whoever has it gives it back, once.
#[derive(Debug)]
pub struct Extent {
    offset: u64,
    len: u64,
    checksum: u64,
}

impl Extent {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{doing} the state that memory has no room for, in folder {}: give the task room and the right to write there, or \
         its state more memory with state.memory",
        folder.display()
    )]
    Disk {
        doing: &'static str,
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read state back from folder {}: it is not what was written there; check that disk", folder.display())]
    Damaged { folder: PathBuf },
}

#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    file: Option<File>,
    /// Length by offset.
    free: BTreeMap<u64, u64>,
    end: u64,
    used: u64,
}

/// How often others may take the folder away while a file is made in it.
const RACES: usize = 8;

impl Spill {
    /// In this folder, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, file: None, free: BTreeMap::new(), end: 0, used: 0 }
    }

    /// Bytes in extents.
    pub fn used_bytes(&self) -> u64 {
        self.used
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<Extent, Error> {
        let len = bytes.len() as u64;
        if self.file.is_none() {
            self.file = Some(self.open().map_err(self.failed("write"))?);
        }
        let offset = self.place_for(len);
        let written = match &self.file {
            Some(file) => file.write_all_at(bytes, offset),
            None => Ok(()),
        };
        written.map_err(self.failed("write"))?;
        self.take(offset, len);
        Ok(Extent { offset, len, checksum: xxh3_64(bytes) })
    }

    pub fn read(&self, extent: &Extent) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; extent.len as usize];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut bytes, extent.offset).map_err(self.failed("read"))?;
        }
        match xxh3_64(&bytes) == extent.checksum {
            true => Ok(bytes),
            false => Err(Error::Damaged { folder: self.folder.clone() }),
        }
    }

    /// Nobody reads this any more.
    pub fn give_back(&mut self, extent: Extent) -> Result<(), Error> {
        let Extent { mut offset, mut len, .. } = extent;
        if len == 0 {
            return Ok(());
        }
        self.used -= len;
        if let Some((before, its_len)) = self.free.range(..offset).next_back().map(|(at, len)| (*at, *len))
            && before + its_len == offset
        {
            self.free.remove(&before);
            (offset, len) = (before, len + its_len);
        }
        if let Some(after) = self.free.remove(&(offset + len)) {
            len += after;
        }
        if offset + len < self.end {
            self.free.insert(offset, len);
            return Ok(());
        }
        self.end = offset;
        match &self.file {
            Some(file) => file.set_len(self.end).map_err(self.failed("shrink")),
            None => Ok(()),
        }
    }

    /// The first free place that is large enough, or the end.
    fn place_for(&self, len: u64) -> u64 {
        self.free.iter().find(|(_, free)| **free >= len).map_or(self.end, |(offset, _)| *offset)
    }

    fn take(&mut self, offset: u64, len: u64) {
        self.used += len;
        match self.free.remove(&offset) {
            Some(free) if free > len => drop(self.free.insert(offset + len, free - len)),
            Some(_) => {}
            None => self.end = self.end.max(offset + len),
        }
    }

    fn open(&self) -> io::Result<File> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let name = format!("state-{}-{}", std::process::id(), NAMES.fetch_add(1, Relaxed));
        let path = self.folder.join(name);
        let open = || {
            std::fs::create_dir_all(&self.folder)?;
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)
        };
        let mut opened = open();
        for _ in 0..RACES {
            // A task that ended just now has taken the empty folder away: before the file was made in it, or between two looks
            // at whether the folder is there.
            if let Err(error) = &opened
                && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
            {
                opened = open();
            }
        }
        let file = opened?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let folder = self.folder.clone();
        move |source| Error::Disk { doing, folder: folder.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_space_is_used_again(steps in proptest::collection::vec((any::<bool>(), 0_usize..40), 1..80)) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut spill = Spill::new(folder.path().join("spill"));
            let mut held: Vec<(Extent, Vec<u8>)> = Vec::new();
            let mut most = 0;
            for (number, (write, size)) in steps.into_iter().enumerate() {
                if write || held.is_empty() {
                    let bytes = vec![number as u8; size];
                    held.push((spill.write(&bytes).expect("written"), bytes));
                } else {
                    let (extent, _) = held.swap_remove(size % held.len());
                    spill.give_back(extent).expect("given back");
                }
                for (extent, bytes) in &held {
                    prop_assert_eq!(&spill.read(extent).expect("read"), bytes);
                }
                let used: u64 = held.iter().map(|(extent, _)| extent.len()).sum();
                prop_assert_eq!(spill.used_bytes(), used);
                let free: u64 = spill.free.values().sum();
                prop_assert_eq!(used + free, spill.end);
                most = most.max(spill.end);
                // Nothing has a name.
                prop_assert_eq!(std::fs::read_dir(folder.path().join("spill")).expect("a folder").count(), 0);
            }
            for (extent, _) in held {
                spill.give_back(extent).expect("given back");
            }
            prop_assert_eq!((spill.end, spill.free.len()), (0, 0));
        }
    }

    #[test]
    fn a_folder_that_takes_nothing_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "no folder").expect("a file");
        let error = Spill::new(file.join("spill")).write(b"bytes").expect_err("there is no such folder");
        let text = error.to_string();
        assert!(text.contains("file/spill") && text.contains("state.memory"), "{text}");
    }

    #[test]
    fn other_bytes_than_were_written_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spill = Spill::new(folder.path().into());
        let extent = spill.write(b"some bytes").expect("written");
        spill.file.as_ref().expect("a file").write_all_at(b"S", 0).expect("written over");
        assert!(matches!(spill.read(&extent), Err(Error::Damaged { .. })));
    }
}
