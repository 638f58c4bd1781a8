//! The connector `files` with its batches cut at other places, its splits read in another order, and, for the first
//! life of a job that is to go on from a checkpoint, with an end in the middle.
//!
//! A position of `files` is the number of a record, so each part of a batch has its own.

use crate::looked::Looked;
use crate::random::Random;
use arrow::array::RecordBatch;
use connectors::{
    Connector, Context, Delivery, Error, OptionInfo, Polled, Position, Result, Sink, SourceReader, SplitStart, TableDef,
};
use jobs::Diagnostic;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// In the name of a job whose first generation stops in the middle.
pub const HALVED: &str = "halved";

/// The read-ahead of a slice's source is a few batches. With at least this many in the first half of a split, some have
/// reached the slice when the last one is handed out.
const PARTS_OF_HALF: usize = 12;

pub fn find(name: &str) -> Option<&'static dyn Connector> {
    match name {
        "files" => Some(&Cut),
        "table" => Some(&Looked),
        name => connectors::find(name),
    }
}

/// What is known of a job's sources.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Splits of the first generation that give nothing more, because they are in the middle or at their end.
    pub n_resting: usize,
    /// Rows of all splits before the place where the second generation went on.
    pub n_before: u64,
}

static READING: Mutex<BTreeMap<String, Reading>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<String, Reading>> {
    READING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn reading(job: &str) -> Reading {
    lock().get(job).copied().unwrap_or_default()
}

struct Cut;

fn files() -> Result<&'static dyn Connector> {
    connectors::find("files").ok_or_else(|| Error::Fatal("there is no connector 'files'".to_string()))
}

impl Connector for Cut {
    fn name(&self) -> &'static str {
        "files"
    }

    fn doc(&self) -> &'static str {
        "files, cut"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[]
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn check(&self, _table: &TableDef) -> Vec<Diagnostic> {
        Vec::new()
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>> {
        files()?.splits(table, context)
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let halved = context.job.contains(HALVED);
        if halved && context.generation > 1 {
            let n_before: u64 = splits.iter().filter_map(|start| start.from).sum();
            lock().entry(context.job.clone()).or_default().n_before += n_before;
        }
        let open = |start: &SplitStart| {
            let reader = files()?.open_source(table, projection, std::slice::from_ref(start), context)?;
            Ok(Split { reader, next: start.from.unwrap_or(0), rows: None, rest: None, state: State::Open })
        };
        let splits = splits.iter().map(open).collect::<Result<Vec<Split>>>()?;
        // The job's name holds its seed.
        let seed = xxh3_64(format!("{} {} {}", context.job, table.name, context.slot).as_bytes());
        let mut random = Random::new(seed.wrapping_add(context.generation));
        // Row by row, or whole files at once, or something between.
        let most = *random.of(&[1, 3, 9, 40, usize::MAX]);
        let halved = (halved && context.generation == 1).then(|| context.job.clone());
        Ok(Box::new(CutReader { splits, random, most, halved, current: 0, n_unsaid: 0 }))
    }

    fn open_sink(&self, _table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal("these files are only read".to_string()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// In the middle, where it stays.
    Held,
    Ended,
}

struct Split {
    reader: Box<dyn SourceReader>,
    /// Read and not given out yet, from position `next` on.
    rows: Option<RecordBatch>,
    next: Position,
    /// Rows up to the middle; unknown before the first are read.
    rest: Option<usize>,
    state: State,
}

struct CutReader {
    splits: Vec<Split>,
    random: Random,
    /// Rows in a batch at most.
    most: usize,
    /// The job, where each split stops in the middle.
    halved: Option<String>,
    current: usize,
    /// Splits that rest since the last poll: their rows are on their way to the slice only when the next one begins.
    n_unsaid: usize,
}

impl SourceReader for CutReader {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        if let (Some(job), true) = (&self.halved, self.n_unsaid > 0) {
            lock().entry(job.clone()).or_default().n_resting += std::mem::take(&mut self.n_unsaid);
        }
        let open: Vec<usize> = (0..self.splits.len()).filter(|at| self.splits[*at].state == State::Open).collect();
        if open.is_empty() {
            if self.splits.iter().all(|split| split.state == State::Ended) {
                return Ok(Polled::End);
            }
            std::thread::sleep(wait.min(Duration::from_millis(1)));
            return Ok(Polled::Idle);
        }
        // Mostly the same split for a while, so that one gets ahead of the others.
        if !open.contains(&self.current) || self.random.one_in(4) {
            self.current = *self.random.of(&open);
        }
        let at = self.current;
        if self.splits[at].rows.is_none() && !self.fill(at, wait)? {
            self.n_unsaid += 1;
            return Ok(Polled::SplitEnd { split: at });
        }
        self.part(at)
    }
}

impl CutReader {
    /// False at the end of the split.
    fn fill(&mut self, at: usize, wait: Duration) -> Result<bool> {
        let split = &mut self.splits[at];
        match split.reader.poll(wait)? {
            Polled::Batch { batch, next, bad, .. } => {
                if !bad.is_empty() || split.next + batch.num_rows() as u64 != next {
                    return Err(Error::Fatal(format!("a record that is no row, before position {next}")));
                }
                if self.halved.is_some() && split.rest.is_none() {
                    let third = batch.num_rows() / 3;
                    split.rest = Some((third + self.random.below(third + 1)).max(1));
                }
                split.rows = Some(batch);
                Ok(true)
            }
            Polled::SplitEnd { .. } | Polled::End => {
                split.state = State::Ended;
                Ok(false)
            }
            Polled::Idle => Err(Error::Fatal("a file that waits".to_string())),
        }
    }

    /// The next rows of what was read.
    fn part(&mut self, at: usize) -> Result<Polled> {
        let split = &mut self.splits[at];
        let Some(rows) = split.rows.take() else {
            return Err(Error::Fatal("no rows to give".to_string()));
        };
        let most = match split.rest {
            Some(rest) => (rest / PARTS_OF_HALF).max(1).min(rest),
            None => self.most.min(rows.num_rows()),
        };
        let n = 1 + self.random.below(most.max(1));
        let n = n.min(rows.num_rows());
        let batch = rows.slice(0, n);
        if n < rows.num_rows() {
            split.rows = Some(rows.slice(n, rows.num_rows() - n));
        }
        split.next += n as u64;
        if let Some(rest) = &mut split.rest {
            *rest -= n;
            if *rest == 0 {
                split.state = State::Held;
                self.n_unsaid += 1;
            }
        }
        Ok(Polled::Batch { split: at, batch, next: split.next, bad: Vec::new() })
    }
}
