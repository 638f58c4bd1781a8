//! Writes a run down while it goes on.
//!
//! Invariant: steps rise; where a run goes on from a checkpoint, what came after it is forgotten, because it is done again. A run
//! has at most [`POINTS_MAX`] points: once there are as many, every second one goes and twice as many are passed over from then
//! on, so that they stay evenly spread. The last figures are kept apart and are always those of the last report.

use super::events::EventFile;
use super::{Began, EVALUATIONS, POINTS, RUN, RUNS_KEPT, lines, prune, read};
use crate::server::owner::chain;
use crate::view::{EvaluationView, PointView, RunView};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const POINTS_MAX: usize = 4_096;

/// Between two writings of `run.json` for the sake of the last figures.
const LAST_EVERY_MS: u64 = 1_000;

#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    run: RunView,
    points: Vec<PointView>,
    evaluations: Vec<EvaluationView>,
    /// Of so many reports one becomes a point.
    stride: u64,
    reports: u64,
    events: EventFile,
    written_ms: u64,
}

impl Recorder {
    /// Begins a run, or goes on with one that was begun before.
    pub fn begin(runs_dir: &Path, id: &str, began: &Began) -> Result<Self, String> {
        let folder = runs_dir.join(id);
        if folder.join(RUN).exists() {
            let mut recorder = Self::open(runs_dir, id, began.at_ms)?;
            (recorder.run.ended_ms, recorder.run.outcome, recorder.run.error) = (None, "running".to_string(), None);
            recorder.write_run(began.at_ms)?;
            return Ok(recorder);
        }
        prune(runs_dir, RUNS_KEPT - 1)?;
        fs::create_dir_all(&folder).map_err(|error| format!("make {}: {}", folder.display(), chain(&error)))?;
        let Began { at_ms, job, model, submission, workers, settings } = began.clone();
        let run = RunView {
            id: id.to_string(),
            job,
            model,
            submission,
            workers,
            settings,
            started_ms: at_ms,
            outcome: "running".to_string(),
            ..RunView::default()
        };
        let mut recorder = Self::with(folder, run, at_ms)?;
        recorder.write_run(at_ms)?;
        let rows: String =
            recorder.run.settings.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
        let text = format!("| setting | value |\n|---|---|\n{rows}");
        let written = recorder.events.text(at_ms, "settings", &text);
        written.map_err(|error| format!("write the events of run {id}: {}", chain(&error)))?;
        Ok(recorder)
    }

    /// One that was begun before, by an earlier process.
    pub fn open(runs_dir: &Path, id: &str, now_ms: u64) -> Result<Self, String> {
        let folder = runs_dir.join(id);
        let run = read(&folder)?;
        let mut recorder = Self::with(folder, run, now_ms)?;
        recorder.points = lines(&recorder.folder, POINTS)?;
        recorder.evaluations = lines(&recorder.folder, EVALUATIONS)?;
        // The last line may have been cut off.
        recorder.rewrite()?;
        Ok(recorder)
    }

    fn with(folder: PathBuf, run: RunView, now_ms: u64) -> Result<Self, String> {
        let events = EventFile::begin(&folder, now_ms)
            .map_err(|error| format!("begin a file of events in {}: {}", folder.display(), chain(&error)))?;
        let stride = run.stride.max(1);
        let (points, evaluations) = (Vec::new(), Vec::new());
        Ok(Self { folder, run, points, evaluations, stride, reports: 0, events, written_ms: 0 })
    }

    pub fn point(&mut self, point: PointView) -> Result<(), String> {
        let now_ms = point.at_ms;
        let goes_back = self.points.last().is_some_and(|last| last.step >= point.step);
        if goes_back {
            self.points.retain(|earlier| earlier.step < point.step);
            self.rewrite()?;
        }
        self.run.last = point.clone();
        let taken = self.reports.is_multiple_of(self.stride);
        self.reports += 1;
        if taken {
            self.tell_events(&point)
                .map_err(|error| format!("write the events of run {}: {}", self.run.id, chain(&error)))?;
            let line = line(&point, point.step)?;
            self.points.push(point);
            if self.points.len() >= POINTS_MAX {
                halve(&mut self.points);
                self.stride *= 2;
                self.run.stride = self.stride;
                self.write_run(now_ms)?;
                self.rewrite()?;
            } else {
                self.append(&line)?;
            }
        }
        if now_ms.saturating_sub(self.written_ms) >= LAST_EVERY_MS {
            self.write_run(now_ms)?;
        }
        Ok(())
    }

    /// Evaluations come behind the points, in the order of their steps; one of an earlier step begins again behind that.
    pub fn evaluated(&mut self, evaluation: EvaluationView) -> Result<(), String> {
        let finite = evaluation.metrics.iter().filter(|(_, figure)| figure.is_finite());
        let figures: Vec<(String, f64)> =
            finite.map(|(name, figure)| (format!("evaluation/{name}"), *figure)).collect();
        let tagged: Vec<(&str, f64)> = figures.iter().map(|(tag, figure)| (tag.as_str(), *figure)).collect();
        let told = self.events.scalars(evaluation.at_ms, evaluation.step, &tagged);
        told.map_err(|error| format!("write the events of run {}: {}", self.run.id, chain(&error)))?;
        self.evaluations.retain(|earlier| earlier.step < evaluation.step);
        if self.evaluations.len() >= POINTS_MAX {
            halve(&mut self.evaluations);
        }
        let now_ms = evaluation.at_ms;
        self.run.evaluation = Some(evaluation.clone());
        self.evaluations.push(evaluation);
        // There are as many as checkpoints at most, so writing them all each time is cheap enough.
        let text = self.evaluations.iter().map(|one| line(one, one.step)).collect::<Result<String, String>>()?;
        self.replace(EVALUATIONS, text.as_bytes())?;
        self.write_run(now_ms)
    }

    pub fn model_written(&mut self, now_ms: u64, version: u64) -> Result<(), String> {
        // A task says it again on a new connection.
        if !self.run.versions.contains(&version) {
            self.run.versions.push(version);
        }
        self.write_run(now_ms)
    }

    /// Nothing, if it was told before.
    pub fn end(&mut self, at_ms: u64, outcome: &str, error: Option<String>) -> Result<(), String> {
        if self.run.ended_ms.is_some() {
            return Ok(());
        }
        self.run.ended_ms = Some(at_ms);
        self.run.outcome = outcome.to_string();
        self.run.error = error;
        self.write_run(at_ms)
    }

    fn tell_events(&mut self, point: &PointView) -> std::io::Result<()> {
        let metric_name = if point.metric_name.is_empty() { "metric" } else { point.metric_name.as_str() };
        let figures = [
            ("loss", point.loss),
            (metric_name, point.metric),
            ("learning_rate", point.learning_rate),
            ("rows_per_second", Some(point.rows_per_second)),
        ];
        let known: Vec<(&str, f64)> = figures.into_iter().filter_map(|(tag, figure)| Some((tag, figure?))).collect();
        self.events.scalars(point.at_ms, point.step, &known)
    }

    fn append(&self, line: &str) -> Result<(), String> {
        let path = self.folder.join(POINTS);
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(|error| failed(&path, &error))?;
        file.write_all(line.as_bytes()).map_err(|error| failed(&path, &error))
    }

    fn rewrite(&self) -> Result<(), String> {
        let text = self.points.iter().map(|point| line(point, point.step)).collect::<Result<String, String>>()?;
        self.replace(POINTS, text.as_bytes())
    }

    fn write_run(&mut self, now_ms: u64) -> Result<(), String> {
        self.written_ms = now_ms;
        let text =
            serde_json::to_vec_pretty(&self.run).map_err(|error| format!("write down run {}: {error}", self.run.id))?;
        self.replace(RUN, &text)
    }

    /// Whole or not at all, as far as other processes see; a crash of the machine may cost the last figures.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let (path, unfinished) = (self.folder.join(name), self.folder.join(format!(".{name}.part")));
        let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &path));
        written.map_err(|error| failed(&path, &error))
    }
}

/// Lets every second one go.
fn halve<T>(figures: &mut Vec<T>) {
    let mut at = 0;
    figures.retain(|_| {
        at += 1;
        at % 2 == 1
    });
}

fn line(figures: &impl Serialize, step: u64) -> Result<String, String> {
    let text = serde_json::to_string(figures).map_err(|error| format!("write down step {step}: {error}"))?;
    Ok(format!("{text}\n"))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("write {}: {}", path.display(), chain(error))
}
