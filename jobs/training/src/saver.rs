//! Checkpoints are written while training goes on.
//!
//! Training waits only while what it learnt is copied; a thread makes the file of it. One at a time: a disk that does not keep
//! up holds training back, instead of filling the memory with copies.
//!
//! Invariant: a checkpoint is told once it is on the disk, and in the order of steps. Whoever drops a saver waits for what it
//! has begun.

use crate::checkpoint::{self, Error, Place};
use crate::graph::Slot;
use crate::preprocess::Preprocessing;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What is the same in all checkpoints of a run.
struct Run {
    folder: PathBuf,
    slots: Vec<Slot>,
    preprocessing: Preprocessing,
}

/// What was learnt up to a step. It keeps its memory from one checkpoint to the next.
#[derive(Default)]
struct Copied {
    place: Option<Place>,
    weights: Vec<f32>,
    moments: Vec<(&'static str, Vec<f32>)>,
    best: Option<Vec<f32>>,
}

/// What is to be saved.
pub struct Learnt<'a> {
    pub place: Place,
    pub weights: &'a [f32],
    pub moments: &'a [(&'static str, &'a [f32])],
    pub best: Option<&'a [f32]>,
}

pub struct Saver {
    run: Arc<Run>,
    writer: Option<JoinHandle<Result<Copied, Error>>>,
    spare: Copied,
}

impl Saver {
    pub fn new(folder: PathBuf, slots: &[Slot], preprocessing: &Preprocessing) -> Self {
        let run = Run { folder, slots: slots.to_vec(), preprocessing: preprocessing.clone() };
        Self { run: Arc::new(run), writer: None, spare: Copied::default() }
    }

    /// Begins to save, once the checkpoint before this one is on the disk; the step of that one.
    pub fn begin(&mut self, learnt: Learnt<'_>) -> Result<Option<u64>, Error> {
        let before = self.finish()?;
        let mut copied = std::mem::take(&mut self.spare);
        copied.take(learnt);
        let run = Arc::clone(&self.run);
        let writer = std::thread::Builder::new().name("checkpoint-writer".to_string());
        let writer = writer.spawn(move || copied.write(&run));
        let failed = |source| Error::Write { path: self.run.folder.clone(), source };
        self.writer = Some(writer.map_err(failed)?);
        Ok(before)
    }

    /// The step of a checkpoint that has come to the disk since this was asked last.
    pub fn ended(&mut self) -> Result<Option<u64>, Error> {
        if self.writer.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { Ok(None) }
    }

    /// Waits for the disk; the step of the checkpoint that was waited for.
    pub fn finish(&mut self) -> Result<Option<u64>, Error> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        self.spare = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(self.spare.place.as_ref().map(|place| place.step))
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && !matches!(writer.join(), Ok(Ok(_)))
        {
            tracing::warn!(folder = %self.run.folder.display(), "the last checkpoint was not written");
        }
    }
}

impl Copied {
    fn take(&mut self, learnt: Learnt<'_>) {
        let Learnt { place, weights, moments, best } = learnt;
        self.place = Some(place);
        copy(weights, &mut self.weights);
        self.moments.resize(moments.len(), ("", Vec::new()));
        for ((name, copied), (of, values)) in self.moments.iter_mut().zip(moments) {
            *name = of;
            copy(values, copied);
        }
        match best {
            Some(best) => copy(best, self.best.get_or_insert_default()),
            None => self.best = None,
        }
    }

    fn write(self, run: &Run) -> Result<Self, Error> {
        if let Some(place) = &self.place {
            let moments: Vec<(&str, &[f32])> =
                self.moments.iter().map(|(name, values)| (*name, values.as_slice())).collect();
            let best = self.best.as_deref();
            let bytes = checkpoint::encode(place, &run.slots, &self.weights, &moments, &run.preprocessing, best)?;
            checkpoint::save(&run.folder, place.step, &bytes)?;
        }
        Ok(self)
    }
}

fn copy(from: &[f32], to: &mut Vec<f32>) {
    to.clear();
    to.extend_from_slice(from);
}
