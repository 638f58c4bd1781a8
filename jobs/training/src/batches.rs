//! Which rows a step is made of, and their values one after the other, ready before they are asked for.
//!
//! Invariant: the rows of a step are a function of the data, the seed, the epoch and the place in it, the same for every world
//! size; rank r takes its part of them. A thread gathers them ahead of the training, which changes nothing but the
//! waiting: it knows no weights.

use crate::graph::operation::Values;
use crate::loss::Targets;
use crate::random::permutation;
use crate::ring::part;
use jobs::TrainBody;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// One input of the graph for some rows, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    Reals(Vec<f32>),
    Ids(Vec<u32>),
}

impl Buffer {
    pub fn len(&self) -> usize {
        match self {
            Self::Reals(values) => values.len(),
            Self::Ids(ids) => ids.len(),
        }
    }

    pub fn values(&self) -> Values<'_, f32> {
        match self {
            Self::Reals(values) => Values::Reals(values),
            Self::Ids(ids) => Values::Ids(ids),
        }
    }
}

/// What the graph reads for some rows, and what it should say. Kept from step to step for its memory.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the graph's inputs.
    pub inputs: Vec<Buffer>,
    pub targets: Targets,
    pub rows: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { inputs: Vec::new(), targets: Targets::Values(Vec::new()), rows: 0 }
    }
}

/// All values of one input, after preprocessing.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// So many values in a row.
    Whole(Buffer, usize),
    /// Kept as ids, `width` of them in a row; each becomes `size` numbers when it is gathered.
    OneHot { ids: Vec<u32>, width: usize, size: usize },
}

/// Rows as the graph reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    pub inputs: Vec<Prepared>,
    /// `places` of each row; none when scoring.
    pub targets: Targets,
    pub rows: usize,
    pub places: usize,
}

impl Default for Examples {
    fn default() -> Self {
        Self { inputs: Vec::new(), targets: Targets::Values(Vec::new()), rows: 0, places: 1 }
    }
}

impl Examples {
    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// These rows, in this order, over what `batch` held.
    pub fn gather(&self, rows: &[u32], batch: &mut Batch) {
        self.collect(rows.iter().map(|row| *row as usize), rows.len(), batch);
    }

    /// The rows from `start` to before `end`.
    pub fn slice(&self, start: usize, end: usize, batch: &mut Batch) {
        self.collect(start..end, end - start, batch);
    }

    fn collect(&self, rows: impl Iterator<Item = usize> + Clone, count: usize, batch: &mut Batch) {
        batch.rows = count;
        batch.inputs.truncate(self.inputs.len());
        for (index, prepared) in self.inputs.iter().enumerate() {
            match prepared {
                Prepared::Whole(Buffer::Reals(values), width) => {
                    copy_rows(values, *width, rows.clone(), reals(&mut batch.inputs, index));
                }
                Prepared::Whole(Buffer::Ids(values), width) => {
                    copy_rows(values, *width, rows.clone(), ids(&mut batch.inputs, index));
                }
                Prepared::OneHot { ids, width, size } => {
                    let into = reals(&mut batch.inputs, index);
                    into.clear();
                    into.resize(count * width * size, 0.0);
                    for (at, row) in rows.clone().enumerate() {
                        for (place, id) in ids[row * width..(row + 1) * width].iter().enumerate() {
                            into[(at * width + place) * size + *id as usize] = 1.0;
                        }
                    }
                }
            }
        }
        let places = self.places;
        match (&self.targets, &mut batch.targets) {
            (Targets::Classes(classes), Targets::Classes(into)) => copy_targets(classes, places, rows, into),
            (Targets::Values(values), Targets::Values(into)) => copy_targets(values, places, rows, into),
            (Targets::Classes(classes), targets) => {
                let mut into = Vec::new();
                copy_targets(classes, places, rows, &mut into);
                *targets = Targets::Classes(into);
            }
            (Targets::Values(values), targets) => {
                let mut into = Vec::new();
                copy_targets(values, places, rows, &mut into);
                *targets = Targets::Values(into);
            }
        }
    }
}

fn copy_rows<T: Copy>(values: &[T], width: usize, rows: impl Iterator<Item = usize>, into: &mut Vec<T>) {
    into.clear();
    for row in rows {
        into.extend_from_slice(&values[row * width..(row + 1) * width]);
    }
}

/// Rows that are only scored have no targets.
fn copy_targets<T: Copy>(values: &[T], places: usize, rows: impl Iterator<Item = usize>, into: &mut Vec<T>) {
    if values.is_empty() {
        into.clear();
    } else {
        copy_rows(values, places, rows, into);
    }
}

fn reals(buffers: &mut Vec<Buffer>, index: usize) -> &mut Vec<f32> {
    if buffers.len() <= index {
        buffers.push(Buffer::Reals(Vec::new()));
    }
    if !matches!(buffers[index], Buffer::Reals(_)) {
        buffers[index] = Buffer::Reals(Vec::new());
    }
    match &mut buffers[index] {
        Buffer::Reals(values) => values,
        Buffer::Ids(_) => panic!("input {index} was made numbers just now"),
    }
}

fn ids(buffers: &mut Vec<Buffer>, index: usize) -> &mut Vec<u32> {
    if buffers.len() <= index {
        buffers.push(Buffer::Ids(Vec::new()));
    }
    if !matches!(buffers[index], Buffer::Ids(_)) {
        buffers[index] = Buffer::Ids(Vec::new());
    }
    match &mut buffers[index] {
        Buffer::Ids(values) => values,
        Buffer::Reals(_) => panic!("input {index} was made ids just now"),
    }
}

/// Which rows are trained on when, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Of the training data.
    pub rows: usize,
    /// Rows of a batch, over all ranks.
    pub batch: usize,
    /// Batches of a step.
    pub accumulate: usize,
    /// Steps to the end of the training.
    pub steps_total: u64,
    pub world: usize,
    pub rank: usize,
}

impl Plan {
    pub fn new(body: &TrainBody, rows: usize, world: usize, rank: usize) -> Self {
        let accumulate = (body.accumulate as usize).max(1);
        let plan = Self { seed: body.seed, rows, batch: body.batch, accumulate, steps_total: 0, world, rank };
        let steps_total = body.steps.unwrap_or(plan.steps_per_epoch() * u64::from(body.epochs));
        Self { steps_total, ..plan }
    }

    /// The last one of an epoch may have fewer rows.
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.div_ceil(self.rows_of_step()) as u64
    }

    /// Over all ranks, of a full step.
    pub fn rows_of_step(&self) -> usize {
        self.batch * self.accumulate
    }

    /// Of one rank: its share of a batch.
    fn rows_of_piece(&self) -> usize {
        self.batch.div_ceil(self.world)
    }
}

/// What a rank runs at a time: its share of a batch. A step may have several.
#[derive(Debug)]
pub struct Piece {
    /// Steps before the one that this belongs to.
    pub step: u64,
    /// May have no rows, where there are more ranks than rows.
    pub batch: Batch,
    /// Pieces of the step before this one.
    pub index: usize,
    /// Place of its first row among the rows of the whole step.
    pub first_row: usize,
    /// Rows of the whole step, over all ranks and batches.
    pub global_rows: usize,
    /// This rank's gradients of the step are complete after this piece.
    pub completes_step: bool,
}

/// One batch is trained on, one waits, one is being gathered: more would only take memory.
const WAITING: usize = 1;

/// Batches in their order, gathered by a thread of its own.
pub struct Feed {
    ready: Option<Receiver<Piece>>,
    used: SyncSender<Batch>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Begins after `step` steps.
    pub fn start(examples: Arc<Examples>, plan: Plan, step: u64) -> std::io::Result<Self> {
        let (give, ready) = sync_channel(WAITING);
        let (used, returned) = sync_channel(WAITING + 2);
        let gather = move || {
            let mut order = (u64::MAX, Vec::new());
            for step in step..plan.steps_total {
                let (epoch, place) = (step / plan.steps_per_epoch(), step % plan.steps_per_epoch());
                if order.0 != epoch {
                    order = (epoch, permutation(plan.seed, epoch, plan.rows as u32));
                }
                let start = place as usize * plan.rows_of_step();
                let rows = &order.1[start..(start + plan.rows_of_step()).min(plan.rows)];
                let own = part(plan.world, plan.rank, rows.len());
                let pieces = own.len().div_ceil(plan.rows_of_piece()).max(1);
                for index in 0..pieces {
                    let start = own.start + index * plan.rows_of_piece();
                    let end = (start + plan.rows_of_piece()).min(own.end);
                    let mut batch: Batch = returned.try_recv().unwrap_or_default();
                    examples.gather(&rows[start..end], &mut batch);
                    let completes_step = index + 1 == pieces;
                    let piece = Piece { step, batch, index, first_row: start, global_rows: rows.len(), completes_step };
                    // Nobody waits for it any more.
                    if give.send(piece).is_err() {
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".to_string()).spawn(gather)?;
        Ok(Self { ready: Some(ready), used, thread: Some(thread) })
    }

    /// Hands the memory of a batch back to be filled again.
    pub fn give_back(&self, batch: Batch) {
        // Full only when batches of others are given back; then this one's memory is freed.
        drop(self.used.try_send(batch));
    }

    fn join(&mut self) {
        self.ready = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Iterator for Feed {
    type Item = Piece;

    /// Waits for the next piece; `None` after the last step.
    fn next(&mut self) -> Option<Piece> {
        let piece = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        if piece.is_none() {
            self.join();
        }
        piece
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.ready = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that gathers batches panicked");
        }
    }
}

#[cfg(test)]
mod tests;
