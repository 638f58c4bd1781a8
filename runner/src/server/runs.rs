//! The hands that write the history of runs.
//!
//! Invariant: what cannot be written is told once and stops no training: a history is for people.

use crate::runs::{Note, Recorder};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Runs {
    folder: PathBuf,
    open: BTreeMap<String, Recorder>,
    /// The last trouble that was told.
    told: String,
}

impl Runs {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, open: BTreeMap::new(), told: String::new() }
    }

    pub fn note(&mut self, now_ms: u64, run: &str, note: Note) {
        if let Err(error) = self.write(now_ms, run, note)
            && error != self.told
        {
            tracing::warn!(run, error, "the history of a run was not written");
            self.told = error;
        }
    }

    fn write(&mut self, now_ms: u64, run: &str, note: Note) -> Result<(), String> {
        if let Note::Began(began) = &note {
            self.open.insert(run.to_string(), Recorder::begin(&self.folder, run, began)?);
            return Ok(());
        }
        if !self.open.contains_key(run) {
            self.open.insert(run.to_string(), Recorder::open(&self.folder, run, now_ms)?);
        }
        let Some(recorder) = self.open.get_mut(run) else { return Ok(()) };
        match note {
            Note::Began(_) => Ok(()),
            Note::Point(point) => recorder.point(point),
            Note::Evaluated(evaluation) => recorder.evaluated(evaluation),
            Note::ModelWritten { version } => recorder.model_written(now_ms, version),
            Note::Ended { at_ms, outcome, error } => {
                let ended = recorder.end(at_ms, outcome, error);
                self.open.remove(run);
                ended
            }
        }
    }
}
