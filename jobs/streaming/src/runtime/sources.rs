//! Reads the splits of one source for one slice, in a thread of its own.
//!
//! Invariant: rows and the position after them travel together, so a checkpoint, which the slice takes between two
//! batches, never runs ahead of what was processed. Event time is computed here, per split, before rows of different
//! splits meet.

use crate::control::{Level, OperatorMetrics, SplitMetrics};
use crate::dataflow::Watermark;
use crate::runtime::operators::{evaluate, relabel};
use crate::runtime::shared::Shared;
use crate::runtime::watermark::Progress;
use crate::runtime::{Error, retry};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::max;
use arrow::datatypes::TimestampMicrosecondType;
use connectors::{BadRecord, Connector, FROM_THE_BEGINNING, Polled, Position, SourceReader, SplitStart, TableDef};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::physical_expr::PhysicalExpr;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches read ahead of the slice: one at hand and some ready, so that neither a slow poll nor a thread switch leaves the
/// slice idle.
const READ_AHEAD: usize = 8;
/// How long a poll may wait; a stop is seen after it.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// A server that has just started may not know all that it has: so often it is asked again for splits that were read from.
const ASK_AGAIN: u32 = 5;
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often it is told how far each split has come.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What the reading thread tells its slice.
#[derive(Debug)]
pub enum Read {
    Batch {
        split: usize,
        batch: RecordBatch,
        next: Position,
        bad: Vec<BadRecord>,
        /// The highest of the batch, where the source has event time.
        watermark_us: Option<i64>,
        event_time_us: Option<i64>,
    },
    /// Nothing came from this split for as long as the table says.
    Idle {
        split: usize,
    },
    /// A split that came into being: the next one.
    Found {
        name: String,
    },
    SplitEnd {
        split: usize,
    },
    End,
}

/// A split as its slice sees it.
#[derive(Debug)]
pub struct Split {
    pub name: String,
    pub next: Option<Position>,
    pub progress: Progress,
}

/// One source on one slice.
#[derive(Debug)]
pub struct SourceInput {
    pub splits: Vec<Split>,
    pub ended: bool,
    /// Splits may still come into being, so the end of those that there are is not the end.
    discovers: bool,
    /// Absent where no split falls to this slice.
    pub reads: Option<Receiver<Read>>,
    checkpointed: Option<Sender<Vec<(usize, Position)>>>,
    /// Positions of the latest snapshot, told to the reader once it is committed.
    snapshot: Vec<(usize, Position)>,
    pub times: Arc<Times>,
    thread: Option<JoinHandle<()>>,
}

impl SourceInput {
    /// Finds this slice's splits, restores their positions and starts to read.
    pub fn open(shared: &Arc<Shared>, node: usize, slot: u32, source: &Source) -> Result<Self, Error> {
        let id = &shared.node(node).id;
        let positions = shared.restored.positions.get(id);
        let watermarks = shared.restored.watermarks.get(id);
        let discovers = source.connector.discovers(&source.table);
        let goes_on = positions.is_some_and(|positions| !positions.is_empty());
        let splits: Vec<Split> = own_splits(shared, node, slot, source)?
            .into_iter()
            .map(|name| {
                let next = positions.and_then(|positions| of_split(positions, source, &name));
                let at = watermarks.and_then(|watermarks| of_split(watermarks, source, &name));
                Split { next, progress: at.map_or(Progress::START, Progress::at), name }
            })
            .collect();
        if splits.is_empty() && !discovers {
            let (reads, checkpointed, thread, times) = (None, None, None, Arc::default());
            let snapshot = Vec::new();
            return Ok(Self { splits, ended: true, discovers, reads, checkpointed, snapshot, times, thread });
        }
        // One that the checkpoint does not know came into being after the job's first start, of which the options speak.
        let new = (discovers && goes_on).then_some(FROM_THE_BEGINNING);
        let start = |split: &Split| SplitStart { split: split.name.clone(), from: split.next.or(new) };
        let starts: Vec<SplitStart> = splits.iter().map(start).collect();
        let (send_reads, reads) = bounded(READ_AHEAD);
        // Positions matter to lag tools only, and the newest counts: one waiting is enough.
        let (checkpointed, positions) = bounded(1);
        let source = source.clone();
        let times = Arc::new(Times::default());
        let of_thread = Arc::clone(&times);
        let name = format!("read-{}-{slot}", source.table.name);
        let thread = shared.spawn(name, move |shared| {
            let context = shared.context(slot);
            let Source { table, projection, connector, .. } = &source;
            let reader = retry::until_done(shared, &table.name, "open", || {
                connector.open_source(table, projection, &starts, &context)
            })?;
            Reading {
                shared,
                node,
                source: &source,
                reads: &send_reads,
                times: &of_thread,
                idle: vec![Some(Duration::ZERO); starts.len()],
                splits: starts.iter().map(|start| SplitMetrics::of(&start.split)).collect(),
                told: Instant::now(),
            }
            .run(reader, &positions)
        })?;
        let (reads, checkpointed, thread) = (Some(reads), Some(checkpointed), Some(thread));
        Ok(Self { splits, ended: false, discovers, reads, checkpointed, snapshot: Vec::new(), times, thread })
    }

    /// How far the splits have come together.
    pub fn progress(&self, before: Progress) -> Progress {
        let expected = (self.discovers && !self.ended).then_some(Progress::EXPECTED);
        before.combined(self.splits.iter().map(|split| split.progress).chain(expected))
    }

    /// A split that came into being. Until it has rows it holds nothing back.
    pub fn found(&mut self, name: String) {
        self.splits.push(Split { name, next: None, progress: Progress::EXPECTED });
    }

    /// The positions for a snapshot, by split; a split of which nothing was read has none and begins anew.
    pub fn positions(&mut self) -> impl Iterator<Item = (&Split, Position)> {
        let known = self.splits.iter().enumerate();
        self.snapshot = known.filter_map(|(at, split)| split.next.map(|next| (at, next))).collect();
        self.splits.iter().filter_map(|split| split.next.map(|next| (split, next)))
    }

    pub fn committed(&mut self) {
        if let Some(checkpointed) = &self.checkpointed {
            let _ = checkpointed.try_send(std::mem::take(&mut self.snapshot));
        }
    }

    /// Lets the reading thread go and waits for it, so that its connector is closed in order.
    pub fn close(&mut self) {
        self.reads = None;
        self.checkpointed = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was told as an event.
            let _ = thread.join();
        }
    }
}

/// What the reading thread spent its time with, in microseconds.
#[derive(Debug, Default)]
pub struct Times {
    busy: AtomicU64,
    blocked: AtomicU64,
    idle: AtomicU64,
    splits: Mutex<Vec<SplitMetrics>>,
}

impl Times {
    fn busy(&self, time: Duration) {
        self.busy.fetch_add(time.as_micros() as u64, Relaxed);
    }

    fn blocked(&self, time: Duration) {
        self.blocked.fetch_add(time.as_micros() as u64, Relaxed);
    }

    fn idle(&self, time: Duration) {
        self.idle.fetch_add(time.as_micros() as u64, Relaxed);
    }

    /// Of a source the thread that reads is what may be busy, not the slice that takes its rows.
    pub fn measure(&self, metrics: &mut OperatorMetrics) {
        metrics.busy_us = self.busy.load(Relaxed);
        metrics.blocked_us = self.blocked.load(Relaxed);
        metrics.idle_us = self.idle.load(Relaxed);
        metrics.total_us = metrics.busy_us + metrics.blocked_us + metrics.idle_us;
        metrics.splits.clone_from(&self.splits.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The source as planned, with its connector.
#[derive(Clone)]
pub struct Source {
    pub table: TableDef,
    pub projection: Vec<usize>,
    pub watermark: Option<Watermark>,
    pub connector: &'static dyn Connector,
}

/// The splits of this slice: its share of all, or those that the slice had in an earlier life and what came into being since.
fn own_splits(shared: &Shared, node: usize, slot: u32, source: &Source) -> Result<Vec<String>, Error> {
    let Source { table, connector, .. } = source;
    let earlier = shared.restored.splits.as_ref().map(|splits| splits.get(&shared.node(node).id));
    let mut own: Vec<String> = Vec::new();
    if let Some(had) = earlier {
        own.extend(had.into_iter().flatten().filter(|(_, of)| **of == slot).map(|(name, _)| name.clone()));
        if !connector.discovers(table) {
            return Ok(own);
        }
    }
    let known = |name: &String| earlier.flatten().is_some_and(|had| had.contains_key(name));
    let all = all_splits(shared, node, slot, source)?.into_iter().enumerate();
    let of_slot = all.filter(|(at, name)| connector.slot_of(table, name, *at, shared.n_slots()) == slot);
    own.extend(of_slot.map(|(_, name)| name).filter(|name| !known(name)));
    Ok(own)
}

/// What a checkpoint says of a split.
fn of_split<T: Copy>(all: &BTreeMap<String, T>, source: &Source, name: &str) -> Option<T> {
    let earlier = || all.get(&source.connector.formerly(&source.table, name)?);
    all.get(name).or_else(earlier).copied()
}

fn all_splits(shared: &Shared, node: usize, slot: u32, source: &Source) -> Result<Vec<String>, Error> {
    // Held while asking: the other slices of the task need the same answer and wait for it.
    let mut known = shared.splits.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(splits) = known.get(&node) {
        return Ok(splits.clone());
    }
    let context = shared.context(slot);
    let Source { table, connector, .. } = source;
    let ask = || retry::until_done(shared, &table.name, "find the splits of", || connector.splits(table, &context));
    let mut splits = ask()?;
    // Read from again later, such a split would be taken for a new one.
    let id = &shared.node(node).id;
    let read = shared.restored.positions.get(id).into_iter().flat_map(|positions| positions.keys());
    let read: Vec<&String> = if connector.discovers(table) { read.collect() } else { Vec::new() };
    let lost = |splits: &[String]| -> Vec<&str> {
        let earlier: Vec<String> = splits.iter().filter_map(|split| connector.formerly(table, split)).collect();
        let there = |name: &&&String| splits.contains(name) || earlier.contains(name);
        read.iter().filter(|name| !there(name)).map(|name| name.as_str()).collect()
    };
    for _ in 0..ASK_AGAIN {
        if lost(&splits).is_empty() {
            break;
        }
        std::thread::sleep(ASK_AGAIN_AFTER);
        if shared.stopped() {
            return Err(Error::Stopped);
        }
        splits = ask()?;
    }
    let lost = lost(&splits);
    if !lost.is_empty() {
        let text =
            format!("table {}: {} of the checkpoint is there no longer and is let go", table.name, lost.join(", "));
        shared.notice(Level::Warning, text);
    }
    known.insert(node, splits.clone());
    Ok(splits)
}

struct Reading<'a> {
    shared: &'a Arc<Shared>,
    node: usize,
    source: &'a Source,
    reads: &'a Sender<Read>,
    times: &'a Times,
    /// By split: how long polls have waited without rows from it; `None` once that was told, or after its end. Time
    /// spent waiting for the slice does not count: rows may be there.
    idle: Vec<Option<Duration>>,
    /// How far each split has come, told now and then.
    splits: Vec<SplitMetrics>,
    told: Instant,
}

impl Reading<'_> {
    fn run(
        mut self,
        mut reader: Box<dyn SourceReader>,
        checkpointed: &Receiver<Vec<(usize, Position)>>,
    ) -> Result<(), Error> {
        let table = &self.source.table.name;
        loop {
            match checkpointed.try_recv() {
                Ok(positions) => reader.checkpointed(&positions),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let begin = Instant::now();
            let polled = retry::until_done(self.shared, table, "read", || reader.poll(POLL_WAIT))?;
            let waited = begin.elapsed();
            for name in reader.found() {
                self.idle.push(Some(Duration::ZERO));
                self.splits.push(SplitMetrics::of(&name));
                self.send(Read::Found { name })?;
            }
            self.count_idle(waited, &polled)?;
            if self.told.elapsed() >= TELL_EVERY {
                self.tell(reader.as_ref());
            }
            match polled {
                Polled::Idle => self.times.idle(waited),
                Polled::Batch { split, batch, next, bad } => {
                    self.splits[split].rows += batch.num_rows() as u64;
                    let read = self.batch(split, batch, next, bad).map_err(self.shared.operator_error(self.node))?;
                    self.times.busy(begin.elapsed());
                    self.send(read)?;
                }
                Polled::SplitEnd { split } => {
                    self.idle[split] = None;
                    self.send(Read::SplitEnd { split })?;
                }
                Polled::End => break,
            }
            if self.shared.stopped() {
                return Err(Error::Stopped);
            }
        }
        self.tell(reader.as_ref());
        self.send(Read::End)?;
        // The reader stays for the positions that are committed after its end.
        while !self.shared.stopped() {
            match checkpointed.recv_timeout(POLL_WAIT) {
                Ok(positions) => reader.checkpointed(&positions),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn tell(&mut self, reader: &dyn SourceReader) {
        self.told = Instant::now();
        for (split, behind) in self.splits.iter_mut().zip(reader.behind()) {
            split.behind = behind;
        }
        self.times.splits.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.splits);
    }

    fn batch(&self, split: usize, batch: RecordBatch, next: Position, bad: Vec<BadRecord>) -> DataFusionResult<Read> {
        let batch = relabel(&self.shared.node(self.node).schema, batch)?;
        let (mut watermark_us, mut event_time_us) = (None, None);
        if let Some(Watermark { time, watermark, .. }) = &self.source.watermark
            && batch.num_rows() > 0
        {
            watermark_us = highest(watermark, &batch)?;
            event_time_us = highest(time, &batch)?;
        }
        Ok(Read::Batch { split, batch, next, bad, watermark_us, event_time_us })
    }

    fn count_idle(&mut self, waited: Duration, polled: &Polled) -> Result<(), Error> {
        let Some(limit_ms) = self.source.watermark.as_ref().and_then(|watermark| watermark.idle_ms) else {
            return Ok(());
        };
        let busy = match polled {
            Polled::Batch { split, .. } => Some(*split),
            _ => None,
        };
        if let Some(split) = busy {
            self.idle[split] = Some(Duration::ZERO);
        }
        for split in 0..self.idle.len() {
            let Some(idle) = self.idle[split].as_mut().filter(|_| busy != Some(split)) else { continue };
            *idle += waited;
            if *idle >= Duration::from_millis(limit_ms) {
                self.idle[split] = None;
                self.send(Read::Idle { split })?;
            }
        }
        Ok(())
    }

    fn send(&self, read: Read) -> Result<(), Error> {
        let begin = Instant::now();
        let sent = self.send_when_room(read);
        self.times.blocked(begin.elapsed());
        sent
    }

    fn send_when_room(&self, mut read: Read) -> Result<(), Error> {
        loop {
            match self.reads.send_timeout(read, POLL_WAIT) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) if !self.shared.stopped() => read = back,
                Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected(_)) => return Err(Error::Stopped),
            }
        }
    }
}

fn highest(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> DataFusionResult<Option<i64>> {
    let values = evaluate(expr, batch)?;
    let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Err(DataFusionError::Execution(format!("event time is of type {}", values.data_type())));
    };
    // The end of time is kept for the end of the input.
    Ok(max(times).map(|time| time.min(i64::MAX - 1)))
}
