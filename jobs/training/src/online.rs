//! Learning from rows as they come, without an end: a step for every so many of them.
//!
//! What has to be known before the first step (means and words of the inputs, the classes of the label) is learned from the
//! first rows, and stays. Every row is scored before it is learned from, so the metrics of a version are those of rows that the
//! model had not seen.
//!
//! Invariant: the weights are a function of the job and of the rows in their order alone, however they are cut into batches and
//! wherever learning was kept and restored. What [`Learner::snapshot`] gives holds every row that was taken so far: in the
//! weights, or as a row that still waits for its step.

use crate::batches::{Batch, Buffer, Examples};
use crate::checkpoint;
use crate::columns::Columns;
use crate::data::{self, Found, TRAIN};
use crate::graph::operation::{self, Values};
use crate::graph::{self, Graph, Source, Wanted};
use crate::labels;
use crate::loss::Targets;
use crate::metric;
use crate::optimizer::{self, Optimizer};
use crate::preprocess::Preprocessing;
use crate::registry::{self, Manifest};
use crate::sums::Sums;
use crate::tensors::{self, Array, Tensors};
use crate::train::Error;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use jobs::TrainBody;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Rows whose scores are kept to say how good a version is, at most; of more the latest count.
const JUDGED_MAX: usize = 65_536;

pub struct Learner {
    body: TrainBody,
    /// Rows that wait for a step, or for enough others to begin.
    waiting: Vec<RecordBatch>,
    n_waiting: usize,
    begun: Option<Begun>,
    place: Place,
    judged: Judged,
    /// What a person should know, once.
    notices: Vec<String>,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    steps: u64,
    /// That are in the weights.
    rows: u64,
    /// Steps when a version was published last.
    published: u64,
    /// Of that version.
    metrics: BTreeMap<String, f64>,
    trained_through_us: Option<i64>,
}

/// What is there from the first step on.
struct Begun {
    columns: Columns,
    /// What the first rows were like, without the rows.
    found: Found,
    outputs: usize,
    preprocessing: Preprocessing,
    graph: Graph<f32>,
    optimizer: Optimizer,
    sums: Sums,
}

/// What a snapshot says of itself beside weights and rows.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    place: Place,
    begun: Option<Beginning>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Beginning {
    columns: Columns,
    widths: Vec<Vec<usize>>,
    classes: Vec<String>,
    places: usize,
    outputs: usize,
    preprocessing: Preprocessing,
    optimizer_step: u64,
}

const FORMAT: u32 = 1;

/// Scores and labels of the latest rows, from before they were learned from.
#[derive(Default)]
struct Judged {
    logits: Vec<f32>,
    targets: Option<Targets>,
    loss: f64,
    rows: u64,
}

/// A version that is due.
pub struct Version {
    manifest: Manifest,
    weights: Vec<u8>,
}

/// Who learns, as it stands in the versions.
#[derive(Clone, Debug)]
pub struct Author {
    pub job: String,
    pub generation: u64,
}

impl Learner {
    pub fn new(body: TrainBody) -> Self {
        Self {
            body,
            waiting: Vec::new(),
            n_waiting: 0,
            begun: None,
            place: Place::default(),
            judged: Judged::default(),
            notices: Vec::new(),
        }
    }

    /// Goes on from a snapshot.
    pub fn restored(body: TrainBody, bytes: &[u8]) -> Result<Self, Error> {
        let failed = |source| Error::Snapshot { model: body.model.clone(), source };
        let tensors = Tensors::read(bytes).map_err(failed)?;
        let description: Description = tensors.description().map_err(failed)?;
        let rows = tensors.list(WAITING, Dtype::U8).map_err(failed)?;
        let waiting = rows_from(rows).map_err(|source| Error::Rows { model: body.model.clone(), source })?;
        let begun = match description.begun {
            None => None,
            Some(beginning) => Some(Begun::restored(&body, beginning, &tensors)?),
        };
        let n_waiting = waiting.iter().map(RecordBatch::num_rows).sum();
        Ok(Self { waiting, n_waiting, begun, place: description.place, ..Self::new(body) })
    }

    /// Takes rows, and makes a step of every `batch` of all that were taken.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.n_waiting += batch.num_rows();
        self.waiting.push(batch.clone());
        if self.begun.is_none() {
            let first = (self.body.min_rows as usize).max(1);
            if self.n_waiting < first {
                return Ok(());
            }
            let rows = front(&self.waiting, first);
            self.begun = Some(Begun::learn(&self.body, &rows, &mut self.notices)?);
        }
        while self.n_waiting >= self.body.batch {
            let rows = front(&self.waiting, self.body.batch);
            self.step(&rows)?;
            drop_front(&mut self.waiting, self.body.batch);
            self.n_waiting -= self.body.batch;
        }
        Ok(())
    }

    fn step(&mut self, rows: &[RecordBatch]) -> Result<(), Error> {
        let Some(begun) = &mut self.begun else { return Ok(()) };
        let n_rows: usize = rows.iter().map(RecordBatch::num_rows).sum();
        // What is to be said of single rows was said of the first ones.
        let mut unsaid = Vec::new();
        let read = data::read(rows, &begun.columns, self.body.loss, (TRAIN, Some(&begun.found)), &mut unsaid);
        self.place.rows += n_rows as u64;
        let found = match read {
            // None of them has a label.
            Err(data::Error::NoRows { .. }) => return Ok(()),
            read => read?,
        };
        self.place.trained_through_us = self.place.trained_through_us.max(found.trained_through_us);
        let examples = found.rows.prepared(&begun.preprocessing);
        if let Targets::Classes(classes) = &examples.targets
            && let Some(class) = classes.iter().find(|class| **class as usize >= begun.outputs)
        {
            return Err(Error::NewClass { model: self.body.model.clone(), class: *class, known: begun.outputs });
        }
        let (step, n) = (self.place.steps, examples.len());
        let logits = metric::logits(&begun.graph, &examples)?;
        let loss = begun.learn_from(&self.body, &examples, step)?;
        if !loss.is_finite() {
            return Err(Error::NotFinite { step, epoch: 1, loss });
        }
        self.judged.add(&logits, &examples.targets, loss, n);
        self.place.steps += 1;
        let share = optimizer::share(&self.body.schedule, self.place.steps, u64::MAX);
        let (slots, weights) = begun.graph.weights_mut();
        begun.optimizer.update(share, slots, weights, &begun.sums.gradients());
        Ok(())
    }

    /// Steps made, and rows in the weights.
    pub fn so_far(&self) -> (u64, u64) {
        (self.place.steps, self.place.rows)
    }

    /// What was found out of the first rows; told once.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Everything that is needed to go on with the bits that there would be.
    pub fn snapshot(&self) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Snapshot { model: self.body.model.clone(), source };
        let rows = rows_to(&self.waiting).map_err(|source| Error::Rows { model: self.body.model.clone(), source })?;
        let mut arrays =
            vec![Array { name: WAITING.to_string(), dims: vec![rows.len()], dtype: Dtype::U8, bytes: &rows }];
        let moments = self.begun.as_ref().map(|begun| begun.optimizer.moments()).unwrap_or_default();
        if let Some(begun) = &self.begun {
            arrays.extend(checkpoint::weight_arrays(begun.graph.slots(), begun.graph.weights()));
            arrays.extend(checkpoint::moment_arrays(begun.graph.slots(), &moments));
        }
        let begun = self.begun.as_ref().map(Begun::described);
        tensors::write(&arrays, &Description { format: FORMAT, place: self.place.clone(), begun }).map_err(failed)
    }

    /// The version that is due, if so many steps were made since the last one, which is the last one from now on.
    pub fn due(&mut self, every: u64, author: &Author) -> Result<Option<Version>, Error> {
        let Some(begun) = &self.begun else { return Ok(None) };
        if self.place.steps < self.place.published.saturating_add(every.max(1)) {
            return Ok(None);
        }
        let metrics = self.judged.metrics(&self.body);
        let version = self.version(begun, metrics.clone(), author)?;
        (self.place.published, self.place.metrics) = (self.place.steps, metrics);
        self.judged = Judged::default();
        Ok(Some(version))
    }

    /// What a snapshot that was taken with a version due says of it; that may have been published or not.
    pub fn was_due(&self, author: &Author) -> Result<Option<Version>, Error> {
        match &self.begun {
            Some(begun) if self.place.published == self.place.steps && self.place.steps > 0 => {
                Ok(Some(self.version(begun, self.place.metrics.clone(), author)?))
            }
            _ => Ok(None),
        }
    }

    fn version(&self, begun: &Begun, metrics: BTreeMap<String, f64>, author: &Author) -> Result<Version, Error> {
        let (body, graph) = (&self.body, &begun.graph);
        let weights = registry::encode_weights(&body.model, graph.slots(), graph.weights())
            .map_err(|source| Error::Encode { source })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let manifest = Manifest {
            format: Manifest::FORMAT,
            model: body.model.clone(),
            version: 0,
            job: author.job.clone(),
            generation: author.generation,
            features: begun.columns.features.clone(),
            label: begun.columns.label.clone(),
            outputs: graph.output().dims.last().copied().unwrap_or(1),
            layers: body.layers.clone(),
            output: body.output.clone(),
            loss: body.loss,
            classes: begun.found.classes.clone(),
            preprocessing: begun.preprocessing.clone(),
            metrics,
            trained_through_us: self.place.trained_through_us,
            rows: self.place.rows,
            rows_held_out: 0,
            steps: self.place.steps,
            seed: body.seed,
            seconds: 0.0,
            evaluation: None,
            created_us: now.as_micros() as i64,
            weights_digest: registry::weights_digest(&weights),
            lineage: registry::Lineage::of(body, "", 0),
        };
        Ok(Version { manifest, weights })
    }
}

impl Version {
    /// Publishes it, unless the same job has published the same weights after the same steps already; the number.
    pub fn publish(&self, model_dir: &Path) -> Result<u64, registry::Error> {
        let own = &self.manifest;
        for version in registry::versions(model_dir, &own.model)?.into_iter().rev() {
            let there = registry::manifest(model_dir, &own.model, version)?;
            if (&there.job, there.steps, &there.weights_digest) == (&own.job, own.steps, &own.weights_digest) {
                return Ok(version);
            }
        }
        registry::publish(model_dir, own.clone(), &self.weights)
    }
}

impl Begun {
    /// Learns from the first rows what has to be known before the first step.
    fn learn(body: &TrainBody, rows: &[RecordBatch], notices: &mut Vec<String>) -> Result<Self, Error> {
        let Some(first) = rows.first() else { return Err(Error::Body("there are no rows to begin with".to_string())) };
        let columns = Columns::of(&first.schema(), body).map_err(data::Error::from)?;
        let found = data::read(rows, &columns, body.loss, (TRAIN, None), notices)?;
        let outputs = labels::outputs(&found.rows.targets, body.loss, &columns.label, &found.classes);
        let outputs = outputs.map_err(data::Error::from)?;
        let preprocessing = Preprocessing::learn(&columns, &found.widths, &found.rows.inputs);
        let graph = network(body, &preprocessing, outputs)?;
        let optimizer = Optimizer::new(body.optimizer.clone(), body.clip, graph.size());
        let sums = Sums::new(&graph, false);
        Ok(Self { columns, found: found.without_rows(), outputs, preprocessing, graph, optimizer, sums })
    }

    fn restored(body: &TrainBody, beginning: Beginning, tensors: &Tensors<'_>) -> Result<Self, Error> {
        let failed = |source| Error::Snapshot { model: body.model.clone(), source };
        let Beginning { columns, widths, classes, places, outputs, preprocessing, optimizer_step } = beginning;
        let mut graph = network(body, &preprocessing, outputs)?;
        let weights = checkpoint::read_weights(tensors, graph.slots()).map_err(failed)?;
        graph.set_weights(&weights);
        let mut optimizer = Optimizer::new(body.optimizer.clone(), body.clip, graph.size());
        let names = optimizer::moment_names(&body.optimizer);
        optimizer.restore(optimizer_step, checkpoint::read_moments(tensors, graph.slots(), names).map_err(failed)?);
        let sums = Sums::new(&graph, false);
        let found = Found::of(widths, classes, places);
        Ok(Self { columns, found, outputs, preprocessing, graph, optimizer, sums })
    }

    fn described(&self) -> Beginning {
        Beginning {
            columns: self.columns.clone(),
            widths: self.found.widths.clone(),
            classes: self.found.classes.clone(),
            places: self.found.rows.places,
            outputs: self.outputs,
            preprocessing: self.preprocessing.clone(),
            optimizer_step: self.optimizer.step(),
        }
    }

    /// The gradients of a step; its loss.
    fn learn_from(&mut self, body: &TrainBody, examples: &Examples, step: u64) -> Result<f32, Error> {
        let mut batch = Batch::default();
        let rows = examples.len();
        examples.slice(0, rows, &mut batch);
        let inputs: Vec<Values<'_, f32>> = batch.inputs.iter().map(Buffer::values).collect();
        let one = graph::Step {
            loss: body.loss,
            target: batch.targets.as_target(),
            scale: 1.0 / rows as f64,
            place: operation::Place { seed: body.seed, step, first_row: 0, global_rows: rows },
        };
        self.sums.clear();
        let graph = &self.graph;
        self.sums.add(|gradients| graph.gradients(&inputs, rows, one, gradients))?;
        Ok(self.sums.own())
    }
}

fn network(body: &TrainBody, preprocessing: &Preprocessing, outputs: usize) -> Result<Graph<f32>, Error> {
    let sources = Source::all(preprocessing.shapes().map_err(data::Error::from)?);
    let wanted = Wanted { sources: &sources, layers: &body.layers, output: body.output.as_deref(), outputs };
    Ok(Graph::new(wanted, body.seed)?)
}

impl Judged {
    fn add(&mut self, logits: &[f32], targets: &Targets, loss: f32, rows: usize) {
        if self.rows as usize + rows > JUDGED_MAX {
            *self = Self::default();
        }
        self.rows += rows as u64;
        self.loss += f64::from(loss) * rows as f64;
        self.logits.extend_from_slice(logits);
        match (&mut self.targets, targets) {
            (Some(Targets::Classes(all)), Targets::Classes(more)) => all.extend_from_slice(more),
            (Some(Targets::Values(all)), Targets::Values(more)) => all.extend_from_slice(more),
            (all, more) => *all = Some(more.clone()),
        }
    }

    fn metrics(&self, body: &TrainBody) -> BTreeMap<String, f64> {
        let Some(targets) = &self.targets else { return BTreeMap::new() };
        let mut metrics: BTreeMap<String, f64> = metric::all(body.loss, &self.logits, targets)
            .into_iter()
            .map(|(name, it)| (name.to_string(), it))
            .collect();
        metrics.insert("loss".to_string(), self.loss / self.rows.max(1) as f64);
        metrics
    }
}

const WAITING: &str = "rows that wait";

/// The first so many rows.
fn front(batches: &[RecordBatch], rows: usize) -> Vec<RecordBatch> {
    let mut left = rows;
    let mut taken = Vec::new();
    for batch in batches {
        let len = batch.num_rows().min(left);
        if len == 0 {
            break;
        }
        taken.push(batch.slice(0, len));
        left -= len;
    }
    taken
}

fn drop_front(batches: &mut Vec<RecordBatch>, rows: usize) {
    let mut left = rows;
    let mut whole = 0;
    for batch in batches.iter_mut() {
        if batch.num_rows() > left {
            *batch = batch.slice(left, batch.num_rows() - left);
            break;
        }
        left -= batch.num_rows();
        whole += 1;
    }
    batches.drain(..whole);
}

/// Rows as Arrow writes them to a stream; nothing for none.
fn rows_to(batches: &[RecordBatch]) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    // A slice is written with all that it is a slice of, unless it is copied.
    let rows = concat_batches(&first.schema(), batches)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(&rows)?;
    writer.into_inner()
}

fn rows_from(bytes: &[u8]) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    StreamReader::try_new(bytes, None)?.collect()
}

#[cfg(test)]
mod tests;
