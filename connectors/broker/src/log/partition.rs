//! The segments of one partition as one log: append, read, offsets by time, retention.
//!
//! Invariant: there is at least one segment, the last one is written to. `start <= last stable <= end`; what is below
//! `start` is not read, even where its segment still lies there.
//! Memory: 24 bytes per 32 KiB of log, 100 bytes per segment, 24 bytes per aborted transaction that is still in the log,
//! and at most 300 KB for its producers.

use super::batch::{self, HEADER_BYTES, Header, Marker};
use super::producers::{Aborted, Producers, Verdict};
use super::segment::{Place, Segment};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// There is one broker and no election; clients still want a number.
pub const LEADER_EPOCH: i32 = 0;

/// How much a log keeps; none is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub segment_bytes: u64,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<i64>,
}

#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    start: i64,
    end: i64,
    pub producers: Producers,
    /// Written since the last flush.
    unflushed: Vec<Arc<File>>,
    /// Nothing was appended or read since files were last looked through.
    idle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub start: i64,
    /// Below it no transaction is open.
    pub stable: i64,
    pub end: i64,
}

impl Log {
    /// Opens what lies in `dir`. `start` is the log start that was written down, if any.
    pub fn open(dir: &Path, start: i64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut bases: Vec<i64> = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            bases.extend(Segment::offset_of(&entry?.path()));
        }
        bases.sort_unstable();
        let mut producers = Producers::default();
        let mut segments = VecDeque::new();
        let mut end = bases.first().copied().unwrap_or(start.max(0));
        for (at, base) in bases.iter().enumerate() {
            let mut segment = Segment::new(dir, *base);
            end = end.max(*base);
            segment.scan(at + 1 == bases.len(), |header, bytes| {
                end = header.last_offset() + 1;
                match Marker::of_batch(header, bytes) {
                    Some(marker) => producers.end(marker, header.base_offset, header.max_timestamp),
                    None => producers.note(header),
                }
            })?;
            segment.close_file();
            segments.push_back(segment);
        }
        if segments.is_empty() {
            segments.push_back(Segment::new(dir, end));
        }
        let start = start.max(segments[0].base_offset).min(end);
        producers.cut_before(start);
        Ok(Self { dir: dir.to_path_buf(), segments, start, end, producers, unflushed: Vec::new(), idle: true })
    }

    pub fn offsets(&self) -> Offsets {
        Offsets { start: self.start, stable: self.producers.last_stable(self.end).max(self.start), end: self.end }
    }

    pub fn n_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.n_bytes).sum()
    }

    /// Appends what [`batch::check`] let pass; its base offset.
    pub fn append(&mut self, header: &Header, bytes: &[u8], limits: &Limits) -> io::Result<Result<i64, Verdict>> {
        match self.producers.judge(header) {
            Verdict::Append => {}
            Verdict::Duplicate(base_offset) => return Ok(Ok(base_offset)),
            refused => return Ok(Err(refused)),
        }
        let placed = self.write(header, bytes.to_vec(), limits)?;
        self.producers.note(&placed);
        Ok(Ok(placed.base_offset))
    }

    /// Ends a transaction here; the marker's offset.
    pub fn append_marker(&mut self, marker: Marker, now_ms: i64, limits: &Limits) -> io::Result<i64> {
        let bytes = marker.to_batch(now_ms);
        let header = Header::read(&bytes).ok_or_else(|| io::Error::other("a marker is no batch"))?;
        let placed = self.write(&header, bytes, limits)?;
        self.producers.end(marker, placed.base_offset, now_ms);
        Ok(placed.base_offset)
    }

    fn write(&mut self, header: &Header, mut bytes: Vec<u8>, limits: &Limits) -> io::Result<Header> {
        let active = self.active();
        if active.n_bytes > 0 && active.n_bytes + bytes.len() as u64 > limits.segment_bytes {
            self.roll()?;
        }
        let placed = Header { base_offset: self.end, ..*header };
        batch::place(&mut bytes, self.end, LEADER_EPOCH);
        let active = self.active();
        active.append(&placed, &bytes)?;
        let file = active.file()?;
        if !self.unflushed.iter().any(|known| Arc::ptr_eq(known, &file)) {
            self.unflushed.push(file);
        }
        self.end = placed.last_offset() + 1;
        self.idle = false;
        Ok(placed)
    }

    fn active(&mut self) -> &mut Segment {
        if self.segments.is_empty() {
            self.segments.push_back(Segment::new(&self.dir, self.end));
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Begins a new segment.
    fn roll(&mut self) -> io::Result<()> {
        let mut segment = Segment::new(&self.dir, self.end);
        segment.create()?;
        self.active().close_file();
        self.segments.push_back(segment);
        Ok(())
    }

    /// Where to read from `offset` on; none at the end. The caller reads without holding the log.
    pub fn place_of(&mut self, offset: i64) -> io::Result<Option<Place>> {
        if offset >= self.end {
            return Ok(None);
        }
        self.idle = false;
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        // A segment may be shorter than its successor's name says, after damage; then reading goes on there.
        for segment in self.segments.iter_mut().skip(after.saturating_sub(1)) {
            if segment.n_bytes > 0 {
                return segment.place_of(offset).map(Some);
            }
        }
        Ok(None)
    }

    /// Bytes from `offset` to the end, roughly; for a fetch that waits for enough.
    pub fn n_bytes_from(&mut self, offset: i64) -> u64 {
        if offset >= self.end {
            return 0;
        }
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
        let later: u64 = self.segments.iter().skip(after + 1).map(|segment| segment.n_bytes).sum();
        let span = (self.end - self.segments[after].base_offset).max(1) as u64;
        let here = self.segments[after].n_bytes;
        // Offsets are spread evenly enough; at least a header, as there is something.
        let skipped = (offset - self.segments[after].base_offset).max(0) as u64;
        (later + here.saturating_sub(here * skipped / span)).max(HEADER_BYTES as u64)
    }

    pub fn aborted_in(&self, from: i64, to: i64) -> Vec<Aborted> {
        self.producers.aborted_in(from, to)
    }

    /// Places to look through in turn for the first record with a timestamp of at least `wanted`.
    pub fn places_of_time(&mut self, wanted: i64) -> io::Result<Vec<Place>> {
        let matching = self.segments.iter_mut().filter(|segment| segment.max_timestamp >= wanted);
        matching.map(|segment| segment.place_of_time(wanted)).collect()
    }

    /// The largest timestamp, and the place of the batch that has it.
    pub fn place_of_latest_time(&mut self) -> io::Result<Option<(i64, Place)>> {
        let Some(wanted) = self.segments.iter().map(|segment| segment.max_timestamp).max().filter(|most| *most >= 0)
        else {
            return Ok(None);
        };
        let places = self.places_of_time(wanted)?;
        Ok(places.into_iter().next().map(|place| (wanted, place)))
    }

    /// Deletes what is before `offset`, as far as whole segments go, and hides the rest.
    pub fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        self.start = self.start.max(offset.min(self.end));
        while self.segments.len() > 1 && self.segments[1].base_offset <= self.start {
            self.delete_first()?;
        }
        self.producers.cut_before(self.start);
        Ok(())
    }

    fn delete_first(&mut self) -> io::Result<()> {
        self.segments[0].delete()?;
        self.segments.pop_front();
        self.start = self.start.max(self.segments[0].base_offset);
        Ok(())
    }

    /// Deletes the oldest segments that are too old or too much. The records of an open transaction stay.
    pub fn retain(&mut self, limits: &Limits, now_ms: i64) -> io::Result<()> {
        let stable = self.producers.last_stable(self.end);
        let oldest_ms = limits.retention_ms.map(|kept| now_ms.saturating_sub(kept));
        loop {
            let first = &self.segments[0];
            let expired = first.n_bytes > 0 && oldest_ms.is_some_and(|oldest| first.max_timestamp < oldest);
            let excess = limits.retention_bytes.is_some_and(|most| self.n_bytes() - first.n_bytes >= most);
            let next = self.segments.get(1).map_or(self.end, |segment| segment.base_offset);
            let only = self.segments.len() == 1;
            if !(expired || excess && !only) || next > stable {
                break;
            }
            if only {
                self.roll()?;
            }
            self.delete_first()?;
        }
        self.producers.cut_before(self.start);
        Ok(())
    }

    /// Files that were written since this was last asked; the caller brings them to disk without holding the log.
    pub fn take_unflushed(&mut self) -> Vec<Arc<File>> {
        std::mem::take(&mut self.unflushed)
    }

    /// Closes files if nothing was read or written since the last call.
    pub fn close_idle_files(&mut self) {
        if self.idle && self.unflushed.is_empty() {
            self.segments.iter_mut().for_each(Segment::close_file);
        }
        self.idle = true;
    }
}
