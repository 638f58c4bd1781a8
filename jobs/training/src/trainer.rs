//! The loop of one rank: batch, gradient, sum over the ranks, update.
//!
//! Invariant: the batch of a step is a function of the data, the seed, the epoch and the place in it, the same for every world
//! size; rank r takes its slice of it. All ranks apply the same summed gradient to the same weights, so they stay equal bit
//! for bit, which is checked with every checkpoint. A step is applied only after every rank's part of it has arrived.

use crate::all_reduce::AllReduce;
use crate::batches::{Buffer, Examples, Feed, Piece, Plan};
use crate::bytes;
use crate::callbacks::{self, Callbacks};
use crate::checkpoint::{self, Checkpoint, Place};
use crate::data::{self, Data, Dataset};
use crate::evaluation::{self, Evaluation};
use crate::frame::tag;
use crate::graph::operation::{self, Values};
use crate::graph::{self, Graph, Source, Wanted};
use crate::mesh::{self, Gang, Mesh};
use crate::metric;
use crate::optimizer::{self, Optimizer};
use crate::preprocess::Preprocessing;
use crate::registry::{self, Manifest};
use crate::saver::{Learnt, Saver};
use crate::start::Start;
use crate::sums::Sums;
use crate::train::{Error, Outcome, Report, TrainTask};
use jobs::TrainBody;
use jobs::train::Strategy;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_64;

mod servers;

const REPORT_EVERY: Duration = Duration::from_millis(100);

struct Trainer<'a> {
    body: &'a TrainBody,
    task: &'a TrainTask,
    stop: &'a AtomicBool,
    dataset: Dataset,
    preprocessing: Preprocessing,
    train: Arc<Examples>,
    held_out: Examples,
    digest: u64,
    graph: Graph<f32>,
    optimizer: Optimizer,
    ranks: AllReduce,
    sums: Sums,
    /// Steps taken.
    step: u64,
    /// Of the last whole epoch, known to the chief.
    metric: Option<f64>,
    /// The step after which these were taken.
    judged: Option<u64>,
    metrics: BTreeMap<&'static str, f64>,
    evaluation: Option<Evaluation>,
    callbacks: Callbacks,
    /// Weights of the best epoch, where they are kept; known to the chief.
    best: Option<Vec<f32>>,
    last_loss: f64,
    started: Instant,
    seconds_before: f64,
    /// Of the one that saves.
    saver: Option<Saver>,
}

pub fn run(
    listener: Option<TcpListener>,
    body: &TrainBody,
    start: Option<&Start>,
    data: Data,
    task: &TrainTask,
    report: &mut dyn FnMut(Report),
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let started = Instant::now();
    let dataset = Dataset::new(&data, body)?;
    // The batches are as large as the matrix made of them.
    drop(data);
    for notice in &dataset.notices {
        report(Report::Notice(notice.clone()));
    }
    let mesh = match listener {
        None => None,
        Some(listener) => {
            let rank = task.rank as usize;
            let gang =
                Gang { job: &task.job, generation: task.generation, rank, peers: &task.peers, tls: tls::process() };
            match Mesh::join(&gang, &listener, stop) {
                Ok(mesh) => Some(mesh),
                Err(mesh::Error::Stopped) => return Ok(stopped_before_start(body, &dataset)),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let mut ranks = AllReduce::new(mesh);
    let dataset = same_data(dataset, task, &mut ranks, report)?;
    let learned = dataset.preprocessing();
    let (outputs, preprocessing) = match start {
        Some(start) => start.fitting(&dataset, &learned)?,
        None => (dataset.outputs, learned),
    };
    let sources = Source::all(preprocessing.shapes().map_err(data::Error::from)?);
    let (layers, output) = (&body.layers[..], body.output.as_deref());
    let mut graph = Graph::new(Wanted { sources: &sources, layers, output, outputs }, body.seed)?;
    if let Some(start) = start {
        start.put_into(&mut graph);
    }
    let optimizer = Optimizer::new(body.optimizer.clone(), body.clip, graph.size());
    let sums = match body.strategy {
        Strategy::AllReduce if task.world > 1 => Sums::among(&graph, &ranks, 0)?,
        _ => Sums::new(&graph, task.world > 1 || body.accumulate > 1),
    };
    let digest = dataset.digest();
    let mut trainer = Trainer {
        body,
        task,
        stop,
        preprocessing,
        train: Arc::default(),
        held_out: Examples::default(),
        dataset,
        digest,
        graph,
        optimizer,
        ranks,
        sums,
        step: 0,
        metric: None,
        judged: None,
        metrics: BTreeMap::new(),
        evaluation: None,
        callbacks: Callbacks::new(body, callbacks::State::default()),
        best: None,
        last_loss: f64::NAN,
        started,
        seconds_before: 0.0,
        saver: None,
    };
    trainer.resume(report)?;
    if trainer.rank() >= trainer.n_workers() {
        return trainer.serve(report);
    }
    trainer.prepare();
    report(Report::Ready);
    let stopped = if trainer.n_servers() > 0 { trainer.train_with_servers(report)? } else { trainer.train(report)? };
    // Before a version is published: whoever resumes at the end finds that it was.
    trainer.finish_saving(report)?;
    // Of the last step, before the chief puts the best in their place.
    let weights_digest = xxh3_64(bytes::of_f32(trainer.graph.weights()));
    let version = match task.pause_after {
        _ if stopped || task.rank != 0 => None,
        Some(_) => {
            trainer.pause(report)?;
            None
        }
        None => Some(trainer.publish(report)?),
    };
    Ok(Outcome {
        version,
        metric: trainer.metric,
        metric_name: metric::name(body.loss),
        steps: trainer.step,
        rows: trainer.train.len() as u64,
        weights_digest,
        stopped,
    })
}

fn stopped_before_start(body: &TrainBody, dataset: &Dataset) -> Outcome {
    Outcome {
        version: None,
        metric: None,
        metric_name: metric::name(body.loss),
        steps: 0,
        rows: dataset.train.len() as u64,
        weights_digest: 0,
        stopped: true,
    }
}

/// Every rank asks the same query, but a table that is still being written answers each of them differently. Ranks whose rows
/// differ from the chief's take the chief's.
fn same_data(
    dataset: Dataset,
    task: &TrainTask,
    ranks: &mut AllReduce,
    report: &mut dyn FnMut(Report),
) -> Result<Dataset, Error> {
    let digests = ranks.gather(0, tag::DATA_DIGEST, &dataset.digest().to_le_bytes())?;
    let differing: Vec<usize> = (1..digests.len()).filter(|rank| digests[*rank] != digests[0]).collect();
    if differing.is_empty() {
        return Ok(dataset);
    }
    let exchange = |source| Error::Encode { source };
    let sent = ranks.broadcast(0, tag::DATA, &differing, || dataset.to_bytes().map_err(exchange))?;
    match sent {
        Some(bytes) if task.rank != 0 => {
            let chiefs = Dataset::from_bytes(&bytes).map_err(exchange)?;
            let (own, theirs) = (dataset.train.len(), chiefs.train.len());
            report(Report::Notice(format!(
                "this rank's query gave other rows than the chief's ({own} against {theirs}); it trains on the chief's"
            )));
            Ok(chiefs)
        }
        _ => Ok(dataset),
    }
}

impl Trainer<'_> {
    fn rank(&self) -> usize {
        self.task.rank as usize
    }

    fn is_chief(&self) -> bool {
        self.task.rank == 0
    }

    fn plan(&self) -> Plan {
        let rows = self.train.len().max(self.dataset.train.len());
        Plan::new(self.body, rows, self.n_workers(), self.rank())
    }

    /// The step after which this call ends.
    fn last_step(&self, plan: &Plan) -> u64 {
        let pause = self.task.pause_after.map(|epochs| plan.steps_per_epoch().saturating_mul(epochs));
        pause.map_or(plan.steps_total, |pause| pause.min(plan.steps_total))
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// The chief reads the newest checkpoint and hands it to all ranks, which need not share its disk.
    fn resume(&mut self, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        let folder = &self.task.checkpoint_dir;
        let all: Vec<usize> = (0..self.task.world as usize).collect();
        let read = || -> Result<Vec<u8>, Error> {
            let (bytes, notices) = checkpoint::newest(folder)?;
            for notice in notices {
                report(Report::Notice(notice));
            }
            Ok(bytes.unwrap_or_default())
        };
        let bytes = self.ranks.broadcast(0, tag::CHECKPOINT, &all, read)?.unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let moments = optimizer::moment_names(&self.body.optimizer);
        let decoded = checkpoint::decode(&bytes, self.graph.slots(), moments);
        let Checkpoint { place, weights, moments, preprocessing, best } =
            decoded.map_err(|source| checkpoint::Error::OtherGraph { path: folder.clone(), source })?;
        let expected = [
            ("format", place.format.into(), Place::FORMAT.into()),
            ("seed", place.seed, self.body.seed),
            ("batch", place.batch, self.body.batch as u64),
        ];
        if let Some((what, got, expected)) = expected.into_iter().find(|(_, got, expected)| got != expected) {
            return Err(checkpoint::Error::OtherJob { path: folder.clone(), what, got, expected }.into());
        }
        self.graph.set_weights(&weights);
        self.optimizer.restore(place.optimizer_step, moments);
        self.seconds_before = place.seconds;
        if !preprocessing.reads_as(&self.preprocessing) {
            return Err(checkpoint::Error::OtherInputs { path: folder.clone() }.into());
        }
        // The weights were learned under these means, words and boundaries; new rows must not move them under them.
        self.preprocessing = preprocessing;
        let plan = self.plan();
        self.step = if place.data_digest == self.digest {
            self.callbacks.state = place.callbacks;
            self.best = best;
            place.step
        } else {
            report(Report::Notice(format!(
                "the training rows are others than at the checkpoint; weights and optimizer go on, epoch {} begins anew",
                place.epoch + 1
            )));
            (place.epoch * plan.steps_per_epoch()).min(plan.steps_total)
        };
        report(Report::Notice(format!("resumed at step {} of {}", self.step, plan.steps_total)));
        Ok(())
    }

    /// Rows as the graph reads them; the dataset keeps none.
    fn prepare(&mut self) {
        let (train, held_out) = self.dataset.take_rows();
        self.train = Arc::new(train.prepared(&self.preprocessing));
        self.held_out = held_out.prepared(&self.preprocessing);
    }

    /// Runs to the end; true when stopped before it.
    fn train(&mut self, report: &mut dyn FnMut(Report)) -> Result<bool, Error> {
        let plan = self.plan();
        let (per_epoch, total, last) = (plan.steps_per_epoch(), plan.steps_total, self.last_step(&plan));
        if self.callbacks.has_stopped() || self.step >= last {
            return Ok(false);
        }
        let mut feed =
            Feed::start(Arc::clone(&self.train), plan, self.step).map_err(|source| Error::Thread { source })?;
        let mut progress = Progress::new();
        while let Some(piece) = feed.next() {
            let (epoch, place) = (self.step / per_epoch, self.step % per_epoch);
            let (completes_step, global_rows) = (piece.completes_step, piece.global_rows);
            self.gradients(&piece)?;
            feed.give_back(piece.batch);
            if !completes_step {
                continue;
            }
            self.tell_saved(report)?;
            let told = self.stop.load(Ordering::Relaxed);
            let (loss, stops) = self.sums.over_ranks(&mut self.ranks, self.step, told)?;
            if stops > 0.0 {
                self.checkpoint(report)?;
                return Ok(true);
            }
            if !loss.is_finite() {
                return Err(Error::NotFinite { step: self.step, epoch: epoch + 1, loss });
            }
            self.step += 1;
            let share = optimizer::share(&self.body.schedule, self.step, total);
            let (slots, weights) = self.graph.weights_mut();
            self.optimizer.update(share, slots, weights, &self.sums.gradients());
            self.last_loss = loss.into();
            progress.add(loss, global_rows);
            let epoch_ends = place + 1 == per_epoch;
            let ends = epoch_ends && self.end_epoch(epoch + 1, report)?;
            if self.step.is_multiple_of(self.body.checkpoint_steps) || self.step == last || ends {
                self.checkpoint(report)?;
            }
            if epoch_ends || progress.is_due() {
                let (loss, rows_per_second) = progress.take();
                report(Report::Metrics {
                    step: self.step,
                    steps_total: total,
                    epoch: epoch + 1,
                    loss,
                    metric: self.metric,
                    metric_name: metric::name(self.body.loss),
                    rows_per_second,
                    learning_rate: self.body.optimizer.learning_rate() * share,
                });
            }
            if ends || self.step == last {
                break;
            }
        }
        Ok(false)
    }

    /// The chief judges the epoch and, where training may end early, tells all ranks whether it does.
    fn end_epoch(&mut self, epoch: u64, report: &mut dyn FnMut(Report)) -> Result<bool, Error> {
        let mut stop = false;
        if self.is_chief() {
            if !self.task.has_evaluator {
                self.judge()?;
            }
            let verdict = self.callbacks.epoch_ended(epoch, self.metric);
            if verdict.keep {
                let best = self.best.get_or_insert_default();
                best.clear();
                best.extend_from_slice(self.graph.weights());
            }
            stop = verdict.stop;
        }
        if self.body.early_stop.is_some() {
            let others: Vec<usize> = (1..self.task.world as usize).collect();
            let told =
                self.ranks.broadcast(self.step, tag::EPOCH_END, &others, || Ok::<_, Error>(vec![u8::from(stop)]))?;
            stop |= told.is_some_and(|told| told == [1]);
        }
        if stop {
            self.callbacks.state.stopped_after = Some(epoch);
            if let Some((best, of)) = self.callbacks.state.best {
                let name = metric::name(self.body.loss);
                report(Report::Notice(format!(
                    "stopped after epoch {epoch}: the best {name} was {best:.4}, after epoch {of}"
                )));
            }
        }
        Ok(stop)
    }

    /// This rank's part of the gradients and of the loss of a batch, added to what the batches before it in the step gave.
    fn gradients(&mut self, piece: &Piece) -> Result<(), Error> {
        if piece.index == 0 {
            self.sums.clear();
        }
        let Piece { step, first_row, global_rows, .. } = *piece;
        if piece.batch.rows == 0 {
            return Ok(());
        }
        let inputs: Vec<Values<'_, f32>> = piece.batch.inputs.iter().map(Buffer::values).collect();
        let one = graph::Step {
            loss: self.body.loss,
            target: piece.batch.targets.as_target(),
            scale: 1.0 / global_rows as f64,
            place: operation::Place { seed: self.body.seed, step, first_row, global_rows },
        };
        let graph = &self.graph;
        Ok(self.sums.add(|gradients| graph.gradients(&inputs, piece.batch.rows, one, gradients))?)
    }

    fn judge(&mut self) -> Result<(), Error> {
        let logits = metric::logits(&self.graph, &self.held_out)?;
        self.metrics = metric::all(self.body.loss, &logits, &self.held_out.targets);
        self.metric = self.metrics.get(metric::name(self.body.loss)).copied();
        self.evaluation = evaluation::of(self.body.loss, &logits, &self.held_out.targets, &self.dataset.classes);
        self.judged = Some(self.step);
        Ok(())
    }

    /// Makes sure that all ranks hold the same weights, then the chief saves them.
    fn checkpoint(&mut self, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        let weights = self.graph.weights();
        let digest = xxh3_64(bytes::of_f32(weights)).to_le_bytes();
        let digests = self.ranks.gather(self.step, tag::WEIGHTS_DIGEST, &digest)?;
        if let Some(rank) = digests.iter().position(|digest| *digest != digests[0]) {
            return Err(Error::Diverged { step: self.step, rank });
        }
        if !self.is_chief() {
            return Ok(());
        }
        let mut saver = self.take_saver();
        let place = self.place(self.step, self.optimizer.step());
        let (weights, moments, best) = (self.graph.weights(), self.optimizer.moments(), self.best.as_deref());
        let before = saver.begin(Learnt { place, weights, moments: &moments, best })?;
        self.saver = Some(saver);
        tell(before, report);
        Ok(())
    }

    fn take_saver(&mut self) -> Saver {
        let new = || Saver::new(self.task.checkpoint_dir.clone(), self.graph.slots(), &self.preprocessing);
        self.saver.take().unwrap_or_else(new)
    }

    /// Tells of a checkpoint that has come to the disk.
    fn tell_saved(&mut self, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        if let Some(saver) = &mut self.saver {
            tell(saver.ended()?, report);
        }
        Ok(())
    }

    /// Waits until what was learnt is on the disk.
    fn finish_saving(&mut self, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        if let Some(saver) = &mut self.saver {
            tell(saver.finish()?, report);
        }
        Ok(())
    }

    /// Where training stands after so many steps, and so many of the optimizer.
    fn place(&self, step: u64, optimizer_step: u64) -> Place {
        let per_epoch = self.plan().steps_per_epoch();
        Place {
            format: Place::FORMAT,
            step,
            epoch: step / per_epoch,
            position: step % per_epoch * self.plan().rows_of_step() as u64,
            optimizer_step,
            seed: self.body.seed,
            batch: self.body.batch as u64,
            data_digest: self.digest,
            seconds: self.seconds(),
            callbacks: self.callbacks.state.clone(),
        }
    }

    /// Says how good the weights are that would be published now.
    fn pause(&mut self, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        let best = self.callbacks.state.best.filter(|_| self.body.keep_best).map(|(metric, _)| metric);
        // An epoch that ended was judged already, unless it did so before a resumption.
        if best.is_none() && self.metric.is_none() {
            self.judge()?;
        }
        report(Report::Paused {
            epoch: self.step / self.plan().steps_per_epoch(),
            metric: best.or(self.metric),
            metric_name: metric::name(self.body.loss),
        });
        Ok(())
    }

    fn publish(&mut self, report: &mut dyn FnMut(Report)) -> Result<u64, Error> {
        let resumed_at_end = self.last_loss.is_nan();
        if let Some(best) = &self.best {
            self.graph.set_weights(best);
        }
        // Training may end in the middle of an epoch, and what is told is of the weights that are published.
        if self.best.is_some() || self.judged != Some(self.step) {
            self.judge()?;
        }
        if self.metric.is_none() && !self.held_out.is_empty() {
            report(Report::Notice("the held-out rows are all of one class, so there is no AUC".to_string()));
        }
        let (body, folder) = (self.body, &self.task.model_dir);
        let encoded = registry::encode_weights(&body.model, self.graph.slots(), self.graph.weights())
            .map_err(|source| Error::Encode { source })?;
        let weights_digest = registry::weights_digest(&encoded);
        let metric_name = metric::name(body.loss);
        let mut metrics = BTreeMap::new();
        metrics.extend(self.metrics.iter().map(|(name, value)| (name.to_string(), *value)));
        if !resumed_at_end {
            metrics.insert("loss".to_string(), self.last_loss);
        }
        let written = if resumed_at_end { self.already_published(&weights_digest)? } else { None };
        let version = match written {
            Some(version) => version,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let manifest = Manifest {
                    format: Manifest::FORMAT,
                    model: body.model.clone(),
                    version: 0,
                    job: self.task.job.clone(),
                    generation: self.task.generation,
                    features: self.dataset.columns.features.clone(),
                    label: self.dataset.columns.label.clone(),
                    outputs: self.graph.output().dims.last().copied().unwrap_or(1),
                    layers: body.layers.clone(),
                    output: body.output.clone(),
                    loss: body.loss,
                    classes: self.dataset.classes.clone(),
                    preprocessing: self.preprocessing.clone(),
                    metrics,
                    evaluation: self.evaluation.clone(),
                    trained_through_us: self.dataset.trained_through_us,
                    rows: self.train.len() as u64,
                    rows_held_out: self.held_out.len() as u64,
                    steps: self.step,
                    seed: body.seed,
                    seconds: self.seconds(),
                    created_us: now.as_micros() as i64,
                    weights_digest,
                    lineage: registry::Lineage::of(body, &self.task.submission, self.digest),
                };
                registry::publish(folder, manifest, &encoded)?
            }
        };
        report(Report::ModelWritten { version, metric: self.metric, metric_name });
        Ok(version)
    }

    /// A chief killed between publishing and reporting it must not publish the same weights again.
    fn already_published(&self, weights_digest: &str) -> Result<Option<u64>, Error> {
        let (folder, model) = (&self.task.model_dir, &self.body.model);
        for version in registry::versions(folder, model)?.into_iter().rev() {
            let manifest = registry::manifest(folder, model, version)?;
            if manifest.job == self.task.job && manifest.weights_digest == weights_digest {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}

fn tell(saved: Option<u64>, report: &mut dyn FnMut(Report)) {
    if let Some(step) = saved {
        report(Report::Checkpointed { step });
    }
}

/// Loss and rate since the last report.
struct Progress {
    since: Instant,
    loss: f64,
    rows: usize,
}

impl Progress {
    fn new() -> Self {
        Self { since: Instant::now(), loss: 0.0, rows: 0 }
    }

    fn add(&mut self, loss: f32, rows: usize) {
        self.loss += f64::from(loss) * rows as f64;
        self.rows += rows;
    }

    fn any(&self) -> bool {
        self.rows > 0
    }

    fn is_due(&self) -> bool {
        self.since.elapsed() >= REPORT_EVERY
    }

    /// Mean loss and rows per second.
    fn take(&mut self) -> (f64, f64) {
        let rows = self.rows as f64;
        let taken = (self.loss / rows, rows / self.since.elapsed().as_secs_f64().max(1e-9));
        *self = Self::new();
        taken
    }
}
