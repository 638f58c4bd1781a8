//! Any operator with keys, within a budget of memory: what goes beyond it lies on the disk.
//!
//! As long as the operator fits it is one, and all that comes is handed to it. When it grows its keys are dealt out to
//! *pages*, each of which is an operator of its own, by what a restart at another number of slices does: a snapshot, its
//! rows dealt out by the hash of their keys, and a restore ([`pages`]). Pages that memory has no room for are written to
//! disk, those first that no rows came for; what comes for them is logged ([`log`]) until it is worth reading them.
//!
//! Invariant: what is said in sum, and what is late, is what the operator would have said in memory; only when it is said
//! differs. The watermark that goes on is that of the page that is furthest behind.
//!
//! Snapshots: what an operator has touched is asked before its page goes to disk, and kept for the next checkpoint
//! ([`changed`]). A page that nothing was changed of is not read for one.
//!
//! Invariant: an operator of a single key is not to be wrapped: a page never holds less than a key.

use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful, When, external};
use crate::state::spill::{Extent, Spill};
use arrow::array::RecordBatch;
use bytes::Parts;
use changed::Changed;
use datafusion::error::{DataFusionError, Result};
use page::{taken, whole};
use pages::Pages;
use std::collections::BTreeMap;
use std::path::PathBuf;

mod bytes;
mod changed;
mod directory;
mod log;
mod page;
mod pages;

/// An operator that is cut has two to the power of this many pages.
const FIRST_BITS: u32 = if cfg!(test) { 2 } else { 6 };

/// A page that the keys whose hashes end in so many bits alike do not fit is left as it is.
const MAX_BITS: u32 = if cfg!(test) { 8 } else { 14 };

/// Makes the operator, empty.
pub type Make = Box<dyn Fn() -> Result<Box<dyn Stateful>> + Send>;

/// How an operator is paged.
pub struct Spec {
    pub make: Make,
    /// By input: the columns whose hash leads to the page.
    pub keys: Vec<Vec<usize>>,
    /// Where the state goes that memory has no room for.
    pub folder: PathBuf,
    /// Memory that it may take until it is told otherwise.
    pub bytes: usize,
}

/// What pages have in common.
struct Base {
    make: Make,
    keys: Vec<Vec<usize>>,
    spill: Spill,
    is_timeless: bool,
    watermark_us: i64,
    /// Inputs that have ended.
    ended: Vec<usize>,
    allowed: usize,
}

impl Base {
    /// Nothing for nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<Vec<Extent>> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![self.spill.write(bytes).map_err(external)?])
    }
}

pub struct Paged {
    base: Base,
    state: State,
    /// Tables that came before `restore`, and what they take.
    restoring: Parts,
    restoring_bytes: usize,
}

enum State {
    Whole(Box<dyn Stateful>),
    Pages(Pages),
}

impl std::fmt::Debug for Paged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Paged");
        match &self.state {
            State::Whole(operator) => debug.field("whole", operator),
            State::Pages(pages) => debug.field("n_pages", &pages.n_pages()),
        };
        debug.field("spill", &self.base.spill).finish_non_exhaustive()
    }
}

impl Paged {
    pub fn new(spec: Spec) -> Result<Self> {
        let Spec { make, keys, folder, bytes } = spec;
        if keys.is_empty() || keys.iter().any(Vec::is_empty) {
            return Err(DataFusionError::Internal("an operator without keys has no pages".to_string()));
        }
        let whole = make()?;
        let base = Base {
            make,
            keys,
            spill: Spill::new(folder),
            is_timeless: whole.is_timeless(),
            watermark_us: i64::MIN,
            ended: Vec::new(),
            allowed: bytes,
        };
        Ok(Self { base, state: State::Whole(whole), restoring: Parts::new(), restoring_bytes: 0 })
    }

    /// From one operator to pages.
    fn cut(&mut self, out: &mut Output) -> Result<()> {
        let State::Whole(operator) = &mut self.state else { return Ok(()) };
        operator.flush(out)?;
        let (timing, output_us) = (operator.timing(), operator.output_watermark_us());
        let mut changed = Changed::default();
        let tables = taken(operator.as_mut(), &mut changed)?;
        // The operator goes before its pages come.
        self.state = State::Pages(Pages::new(&self.base, timing, output_us, changed)?);
        self.take_in(tables, true)
    }

    fn take_in(&mut self, tables: Parts, into_memory: bool) -> Result<()> {
        match &mut self.state {
            State::Pages(pages) => pages.take_in(&mut self.base, tables, into_memory),
            State::Whole(_) => Err(DataFusionError::Internal("a whole operator has no pages".to_string())),
        }
    }

    /// What was restored so far is more than may be in memory twice, as rows and as state.
    fn is_too_much(&self) -> bool {
        self.restoring_bytes > self.base.allowed / 2
    }
}

impl Stateful for Paged {
    fn process(&mut self, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        match &mut self.state {
            State::Whole(operator) => operator.process(input, batch, out),
            State::Pages(pages) => pages.process(&mut self.base, input, batch, out),
        }
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.base.watermark_us {
            return Ok(());
        }
        self.base.watermark_us = watermark_us;
        match &mut self.state {
            State::Whole(operator) => operator.advance(watermark_us, out),
            State::Pages(pages) => pages.advance(watermark_us, out),
        }
    }

    fn input_ended(&mut self, input: usize) -> Result<()> {
        if self.base.ended.contains(&input) {
            return Ok(());
        }
        self.base.ended.push(input);
        match &mut self.state {
            State::Whole(operator) => operator.input_ended(input),
            State::Pages(pages) => pages.input_ended(input),
        }
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        match &mut self.state {
            State::Whole(operator) => operator.flush(out),
            State::Pages(pages) => pages.flush(&mut self.base, out),
        }
    }

    fn n_pending(&self) -> usize {
        match &self.state {
            State::Whole(operator) => operator.n_pending(),
            State::Pages(pages) => pages.n_pending(),
        }
    }

    fn output_watermark_us(&self) -> i64 {
        match &self.state {
            State::Whole(operator) => operator.output_watermark_us(),
            State::Pages(pages) => pages.output_watermark_us(),
        }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        match &mut self.state {
            State::Whole(operator) => operator.snapshot(scope),
            State::Pages(pages) => pages.snapshot(&self.base, scope),
        }
    }

    fn restore_part(&mut self, table: &str, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        self.restoring_bytes += rows.get_array_memory_size();
        self.restoring.entry(table.to_string()).or_default().push(rows);
        if self.is_too_much() {
            if let State::Whole(_) = self.state {
                let unknown = page::Kept::unknown(&self.base);
                self.state =
                    State::Pages(Pages::new(&self.base, unknown.timing, unknown.output_us, Changed::default())?);
            }
            let tables = std::mem::take(&mut self.restoring);
            self.restoring_bytes = 0;
            self.take_in(tables, false)?;
        }
        Ok(None)
    }

    fn restore(&mut self, watermark_us: i64, tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        for (name, rows) in tables {
            self.restore_part(&name, rows)?;
        }
        self.base.watermark_us = watermark_us;
        let tables = std::mem::take(&mut self.restoring);
        self.restoring_bytes = 0;
        match &mut self.state {
            State::Whole(operator) => {
                let mut rest = Parts::new();
                for (name, batches) in tables {
                    for rows in batches {
                        if let Some(rows) = operator.restore_part(&name, rows)? {
                            rest.entry(name.clone()).or_default().push(rows);
                        }
                    }
                }
                operator.restore(watermark_us, whole(rest)?)
            }
            State::Pages(pages) => {
                pages.take_in(&mut self.base, tables, false)?;
                pages.restored(&self.base)
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.state {
            State::Whole(operator) => operator.memory_bytes(),
            State::Pages(pages) => pages.memory_bytes(),
        }
    }

    fn catch_up(&mut self, when: When, out: &mut Output) -> Result<bool> {
        match &mut self.state {
            State::Whole(_) => Ok(true),
            State::Pages(pages) => pages.catch_up(&mut self.base, when, out),
        }
    }

    /// One operator becomes pages while there is still as much room as it takes itself, for its tables.
    fn fit(&mut self, bytes: usize, out: &mut Output) -> Result<()> {
        self.base.allowed = bytes;
        match &mut self.state {
            State::Whole(operator) if operator.memory_bytes() > bytes / 2 => self.cut(out)?,
            State::Whole(_) => {}
            State::Pages(pages) => pages.shrink(&mut self.base, out)?,
        }
        Ok(())
    }

    fn can_spill(&self) -> bool {
        true
    }

    fn spilled_bytes(&self) -> u64 {
        self.base.spill.used_bytes()
    }
}

#[cfg(test)]
mod tests;
