//! The pages of an operator: rows are dealt to them, some are in memory, the others wait on disk.
//!
//! A page in memory takes its rows soon, and says what it has to at the next flush. What comes for a page on disk is put
//! off: reading and writing a page costs what its state weighs, so it is worth it only when enough has come. Then a *pass*
//! goes over all pages that are behind: each is read, takes what waits for it, and goes back if others are used more.

use super::bytes::{Parts, encode_tables};
use super::directory::Directory;
use super::page::{Hold, Kept, Page, hashes_of};
use super::{Base, FIRST_BITS};
use crate::runtime::operators::stateful::{Output, Stateful, Table, Timing, When};
use crate::state::hash;
use arrow::array::{ArrayRef, RecordBatch};
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rows that wait for a page in memory until it takes them without being asked to: so many together cost little each.
const APPLY_ROWS: usize = 1024;

/// This part of the memory may hold rows that wait; then those of pages on disk go there.
const LOG_SHARE: usize = 8;
const LOG_BYTES_LEAST: usize = if cfg!(test) { 64 } else { 256 << 10 };

/// A page of more than this part of the memory is cut.
const PAGE_SHARE: usize = 8;
const PAGE_BYTES_LEAST: usize = if cfg!(test) { 2 << 10 } else { 256 << 10 };

/// A pass is worth its work when what waits weighs this part of what it moves, or when this long has passed since the last
/// one, and so many times as long as that one took: at most a quarter of the time is spent on passes.
const WORTH_SHARE: u64 = 2;
const PASS_EVERY: Duration = Duration::from_secs(1);
const PASS_REST: u32 = 3;

/// A part of a pass ends after this long, or with so many rows to go on.
const PORTION_TIME: Duration = Duration::from_millis(50);
const PORTION_ROWS: usize = 50_000;

#[derive(Debug)]
pub struct Pages {
    pages: Vec<Page>,
    directory: Directory,
    /// Holds nothing: says how far an operator without state has come.
    without_state: Box<dyn Stateful>,
    n_batches: u64,
    pass: Pass,
}

#[derive(Debug)]
struct Pass {
    /// The page that comes next, while a pass is under way.
    next: Option<usize>,
    ended: Instant,
    took: Duration,
}

impl Pages {
    /// Empty pages; `timing` and `output_us` bound what comes out of the state that they are about to get.
    pub fn new(base: &Base, timing: Timing, output_us: i64) -> Result<Self> {
        let mut without_state = (base.make)()?;
        without_state.restore(base.watermark_us, BTreeMap::new())?;
        for input in &base.ended {
            without_state.input_ended(*input)?;
        }
        let page = |low: u64| {
            let mut page = Page::new(base, (low, FIRST_BITS));
            page.hold = Hold::Disk(Kept { pieces: Vec::new(), timing, output_us });
            page
        };
        Ok(Self {
            pages: (0..1 << FIRST_BITS).map(page).collect(),
            directory: Directory::new(FIRST_BITS),
            without_state,
            n_batches: 0,
            pass: Pass { next: None, ended: Instant::now(), took: Duration::ZERO },
        })
    }

    /// Takes tables that are in no page yet: into memory as long as there is room in it, if that is wanted, else to disk.
    pub fn take_in(&mut self, base: &mut Base, tables: Parts, into_memory: bool) -> Result<()> {
        let mut shares: Vec<Parts> = vec![Parts::new(); self.pages.len()];
        for (name, batches) in tables {
            for batch in batches {
                let (rows, parts) = self.directory.deal(&batch, hashes_of(&batch)?, shares.len())?;
                for part in parts {
                    let rows = rows.slice(part.offset, part.n_rows);
                    shares[part.page].entry(name.clone()).or_default().push(rows);
                }
            }
        }
        let mut room = base.allowed.saturating_sub(self.memory_bytes());
        for (page, share) in self.pages.iter_mut().zip(shares) {
            if into_memory && room > 0 {
                page.load(base, share)?;
                room = room.saturating_sub(page.state_bytes());
                continue;
            }
            let tables = share.iter().map(|(name, batches)| (name.as_str(), batches.as_slice()));
            let bytes = encode_tables(tables)?;
            drop(share);
            if let Hold::Disk(kept) = &mut page.hold {
                kept.pieces.extend(base.write(&bytes)?);
            }
        }
        Ok(())
    }

    /// All tables of a restored state were taken in.
    pub fn restored(&mut self, base: &Base) -> Result<()> {
        let unknown = Kept::unknown(base);
        self.pages.iter_mut().for_each(|page| page.restored(base.watermark_us, &unknown));
        self.without_state = (base.make)()?;
        self.without_state.restore(base.watermark_us, BTreeMap::new())
    }

    pub fn process(&mut self, base: &mut Base, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        self.n_batches += 1;
        let keys = base.keys.get(input).map_or(&[][..], Vec::as_slice);
        let keys: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let hashes = hash::hash_rows(&keys, batch.num_rows());
        let hashes = hashes.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (rows, parts) = self.directory.deal(batch, &hashes, self.pages.len())?;
        let row_bytes = rows.get_array_memory_size() / rows.num_rows().max(1) + 1;
        for part in parts {
            let page = &mut self.pages[part.page];
            page.touched = self.n_batches;
            page.log.push(input, rows.slice(part.offset, part.n_rows), row_bytes * part.n_rows);
            if page.in_memory() && page.log.n_rows() >= APPLY_ROWS {
                page.apply(base, out)?;
            }
        }
        let most = (base.allowed / LOG_SHARE).max(LOG_BYTES_LEAST);
        if self.log_bytes() > most {
            self.write_logs(base)?;
            if self.log_bytes() > most {
                self.pages.iter_mut().try_for_each(|page| page.apply(base, out))?;
            }
        }
        Ok(())
    }

    pub fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        self.pages.iter_mut().for_each(|page| page.log.advance(watermark_us));
        self.without_state.advance(watermark_us, out)
    }

    pub fn input_ended(&mut self, input: usize) -> Result<()> {
        self.pages.iter_mut().for_each(|page| page.log.end(input));
        self.without_state.input_ended(input)
    }

    /// Of the pages in memory.
    pub fn flush(&mut self, base: &mut Base, out: &mut Output) -> Result<()> {
        self.pages.iter_mut().try_for_each(|page| page.flush(base, out))
    }

    pub fn n_pending(&self) -> usize {
        self.pages.iter().map(Page::n_pending).sum()
    }

    pub fn output_watermark_us(&self) -> i64 {
        let without_state_us = self.without_state.output_watermark_us();
        let of_pages = self.pages.iter().map(|page| page.output_watermark_us(without_state_us));
        of_pages.min().unwrap_or(without_state_us)
    }

    /// Some of the pages that are behind; gives whether none is left that should be read now.
    pub fn catch_up(&mut self, base: &mut Base, when: When, out: &mut Output) -> Result<bool> {
        let began = Instant::now();
        let mut next = match (when, self.pass.next) {
            (When::Worthwhile, Some(next)) => next,
            (When::Worthwhile, None) if !self.is_worthwhile() => return Ok(true),
            // Pages that a pass has been at may have got rows since.
            (When::Worthwhile, None) | (When::Now, _) => 0,
        };
        if self.pass.next.is_none() {
            self.pass.took = Duration::ZERO;
        }
        while next < self.pages.len() {
            if self.pages[next].is_behind() {
                self.bring_up(base, next, out)?;
            }
            next += 1;
            let n_rows: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
            if n_rows >= PORTION_ROWS || began.elapsed() >= PORTION_TIME {
                break;
            }
        }
        self.pass.took += began.elapsed();
        // What is to be done at once must not miss a page that was cut meanwhile, or stopped half way.
        let is_over = match when {
            When::Worthwhile => next >= self.pages.len(),
            When::Now => !self.pages.iter().any(Page::is_behind),
        };
        self.pass.next = (!is_over).then_some(next);
        if is_over {
            self.pass.ended = Instant::now();
        }
        Ok(is_over)
    }

    fn is_worthwhile(&self) -> bool {
        if !self.pages.iter().any(Page::is_behind) {
            return false;
        }
        let (logs, kept) = self.pages.iter().filter(|page| page.is_behind()).fold((0, 0), |(logs, kept), page| {
            (logs + page.log.memory_bytes() as u64 + page.log.disk_bytes(), kept + page.kept_bytes())
        });
        logs >= kept / WORTH_SHARE || self.pass.ended.elapsed() >= PASS_EVERY.max(self.pass.took * PASS_REST)
    }

    /// Reads a page and lets it take what waits for it; then the page that was used least, be it this one, makes room.
    fn bring_up(&mut self, base: &mut Base, at: usize, out: &mut Output) -> Result<()> {
        self.pages[at].load(base, Parts::new())?;
        self.pages[at].flush(base, out)?;
        self.shrink(base, out)
    }

    /// Lets pages go until what is left fits, those first that rows came for the longest ago.
    pub fn shrink(&mut self, base: &mut Base, out: &mut Output) -> Result<()> {
        let mut bytes = self.memory_bytes();
        if bytes <= base.allowed {
            return Ok(());
        }
        self.write_logs(base)?;
        bytes = self.memory_bytes();
        let mut in_memory: Vec<usize> = (0..self.pages.len()).filter(|at| self.pages[*at].in_memory()).collect();
        in_memory.sort_by_key(|at| self.pages[*at].touched);
        for at in in_memory {
            if bytes <= base.allowed {
                break;
            }
            bytes = bytes.saturating_sub(self.pages[at].state_bytes());
            let next = self.pages.len();
            let most = (base.allowed / PAGE_SHARE).max(PAGE_BYTES_LEAST);
            let others = self.pages[at].put_away(base, &mut self.directory, next, most, out)?;
            self.pages.extend(others);
        }
        Ok(())
    }

    /// Of pages that are on disk themselves.
    fn write_logs(&mut self, base: &mut Base) -> Result<()> {
        let mut on_disk = self.pages.iter_mut().filter(|page| !page.in_memory());
        on_disk.try_for_each(|page| page.log.write_out(&mut base.spill))
    }

    pub fn snapshot(&mut self, base: &Base) -> Result<Vec<Table>> {
        if self.n_pending() > 0 || self.pages.iter().any(Page::is_behind) {
            return Err(DataFusionError::Internal("a snapshot of pages that are behind".to_string()));
        }
        let mut parts = Parts::new();
        self.pages.iter_mut().try_for_each(|page| page.tables(base, &mut parts))?;
        // A table without rows says how far event time has come.
        let mut tables = self.without_state.snapshot()?;
        for (name, batches) in parts {
            let Some(first) = batches.first() else { continue };
            match tables.iter_mut().find(|table| table.name == name) {
                Some(table) => table.batches = batches,
                None => tables.push(Table { name: lasting(&name), schema: first.schema(), batches }),
            }
        }
        Ok(tables)
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.iter().map(Page::memory_bytes).sum()
    }

    fn log_bytes(&self) -> usize {
        self.pages.iter().map(|page| page.log.memory_bytes()).sum()
    }

    pub fn n_pages(&self) -> usize {
        self.pages.len()
    }
}

/// Names of tables last as long as the process; there are few of them.
fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.iter().find(|known| **known == name) {
        Some(known) => known,
        None => {
            let known: &'static str = name.to_string().leak();
            names.push(known);
            known
        }
    }
}
