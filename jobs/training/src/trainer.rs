//! The loop of one rank: batch, gradient, sum over the ranks, update.
//!
//! Invariant: the batch of a step is a function of the data, the seed, the epoch and the place in it, the same for every world
//! size; rank r takes its slice of it. All ranks apply the same summed gradient to the same weights, so they stay equal bit
//! for bit, which is checked with every checkpoint. A step is applied only after every rank's part of it has arrived.

use crate::all_reduce::AllReduce;
use crate::bytes;
use crate::checkpoint::{self, Checkpoint, Place};
use crate::data::{Data, Dataset};
use crate::frame::tag;
use crate::mesh::{self, Gang, Mesh};
use crate::metric;
use crate::network::{DropoutPlace, Network};
use crate::normalization::{self, Normalization};
use crate::optimizer::{self, Optimizer};
use crate::random::permutation;
use crate::registry::{self, Manifest};
use crate::ring::part;
use crate::train::{Error, Outcome, Report, TrainTask};
use candle_core::{DType, Device, Tensor};
use jobs::TrainBody;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_64;

const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Beside the gradients, each sum carries this rank's part of the loss and whether it was told to stop, so that all ranks
/// agree on both without another round.
const EXTRA: usize = 2;

struct Trainer<'a> {
    body: &'a TrainBody,
    task: &'a TrainTask,
    stop: &'a AtomicBool,
    dataset: Dataset,
    normalization: Option<Normalization>,
    digest: u64,
    network: Network,
    optimizer: Optimizer,
    ranks: AllReduce,
    /// Steps taken.
    step: u64,
    metric: Option<f64>,
    last_loss: f64,
    started: Instant,
    seconds_before: f64,
}

pub fn run(
    listener: Option<TcpListener>,
    body: &TrainBody,
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
    let network = Network::new(dataset.width(), dataset.outputs, &body.layers, body.seed, DType::F32)?;
    let optimizer = Optimizer::new(body.optimizer.clone(), network.size());
    let digest = dataset.digest();
    let mut trainer = Trainer {
        body,
        task,
        stop,
        normalization: body.normalize.then(|| Normalization::learn(&dataset.train.features, dataset.width())),
        dataset,
        digest,
        network,
        optimizer,
        ranks,
        step: 0,
        metric: None,
        last_loss: f64::NAN,
        started,
        seconds_before: 0.0,
    };
    trainer.resume(report)?;
    trainer.normalize();
    report(Report::Ready);
    let stopped = trainer.train(report)?;
    let version = if stopped || task.rank != 0 { None } else { Some(trainer.publish(report)?) };
    Ok(Outcome {
        version,
        metric: trainer.metric,
        metric_name: metric::name(body.loss),
        steps: trainer.step,
        rows: trainer.dataset.train.len() as u64,
        weights_digest: xxh3_64(bytes::of_f32(&trainer.network.weights()?)),
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

    fn steps_per_epoch(&self) -> u64 {
        self.dataset.train.len().div_ceil(self.body.batch) as u64
    }

    fn steps_total(&self) -> u64 {
        self.steps_per_epoch() * u64::from(self.body.epochs)
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
        let decoded = checkpoint::decode(&bytes, self.network.slots(), moments, self.dataset.width());
        let Checkpoint { place, weights, moments, normalization } =
            decoded.map_err(|source| checkpoint::Error::OtherGraph { path: folder.clone(), source })?;
        let expected = [
            ("format", place.format.into(), Place::FORMAT.into()),
            ("seed", place.seed, self.body.seed),
            ("batch", place.batch, self.body.batch as u64),
        ];
        if let Some((what, got, expected)) = expected.into_iter().find(|(_, got, expected)| got != expected) {
            return Err(checkpoint::Error::OtherJob { path: folder.clone(), what, got, expected }.into());
        }
        self.network.set_weights(&weights)?;
        self.optimizer.restore(place.optimizer_step, moments);
        self.seconds_before = place.seconds;
        // The weights were learned under this normalisation; new rows must not move it under them.
        self.normalization = normalization;
        self.step = if place.data_digest == self.digest {
            place.step
        } else {
            report(Report::Notice(format!(
                "the training rows are others than at the checkpoint; weights and optimizer go on, epoch {} begins anew",
                place.epoch + 1
            )));
            (place.epoch * self.steps_per_epoch()).min(self.steps_total())
        };
        report(Report::Notice(format!("resumed at step {} of {}", self.step, self.steps_total())));
        Ok(())
    }

    fn normalize(&mut self) {
        let width = self.dataset.width();
        for rows in [&mut self.dataset.train, &mut self.dataset.held_out] {
            normalization::apply(self.normalization.as_ref(), &mut rows.features, width);
        }
    }

    /// Runs to the end; true when stopped before it.
    fn train(&mut self, report: &mut dyn FnMut(Report)) -> Result<bool, Error> {
        let rows = self.dataset.train.len();
        let (per_epoch, total) = (self.steps_per_epoch(), self.steps_total());
        let mut sums = vec![0f32; self.network.size() + EXTRA];
        let mut order: Option<(u64, Vec<u32>)> = None;
        let mut progress = Progress::new();
        while self.step < total {
            let (epoch, place) = (self.step / per_epoch, self.step % per_epoch);
            if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                order = Some((epoch, permutation(self.body.seed, epoch, rows as u32)));
            }
            let start = place as usize * self.body.batch;
            let order = order.as_ref().map_or(&[][..], |(_, order)| order);
            let batch = &order[start..(start + self.body.batch).min(rows)];
            self.gradients(batch, &mut sums)?;
            self.ranks.sum(self.step, &mut sums)?;
            let [loss, stops] = sums[self.network.size()..] else { panic!("{} sums", sums.len()) };
            if stops > 0.0 {
                self.checkpoint(report)?;
                return Ok(true);
            }
            if !loss.is_finite() {
                return Err(Error::NotFinite { step: self.step, epoch: epoch + 1, loss });
            }
            let optimizer = &mut self.optimizer;
            optimizer.begin_step();
            self.network.change(|slot, weights| {
                optimizer.update(slot.range.clone(), weights, &sums[slot.range.clone()]);
            })?;
            self.step += 1;
            self.last_loss = loss.into();
            progress.add(loss, batch.len());
            let epoch_ends = place + 1 == per_epoch;
            if epoch_ends && self.is_chief() {
                self.judge()?;
            }
            if self.step.is_multiple_of(self.body.checkpoint_steps) || self.step == total {
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
                    learning_rate: self.body.optimizer.learning_rate(),
                });
            }
        }
        Ok(false)
    }

    /// This rank's part of the gradients and of the loss of a batch.
    fn gradients(&self, batch: &[u32], sums: &mut [f32]) -> Result<(), Error> {
        let (gradients, extra) = sums.split_at_mut(self.network.size());
        let slice = part(self.task.world as usize, self.rank(), batch.len());
        let own = &batch[slice.clone()];
        let loss = if own.is_empty() {
            gradients.fill(0.0);
            0.0
        } else {
            let rows = &self.dataset.train;
            let input = Tensor::from_vec(rows.gather(own), (own.len(), self.dataset.width()), &Device::Cpu)
                .map_err(|source| crate::network::Error::Layer { layer: "input".to_string(), source: source.into() })?;
            let scale = 1.0 / batch.len() as f64;
            let place = DropoutPlace { seed: self.body.seed, step: self.step, first_row: slice.start };
            let target = (self.body.loss, rows.targets.select(own), scale);
            self.network.gradients(input, target, place, gradients)?
        };
        extra.copy_from_slice(&[loss, f32::from(u8::from(self.stop.load(Ordering::Relaxed)))]);
        Ok(())
    }

    fn judge(&mut self) -> Result<(), Error> {
        let held_out = &self.dataset.held_out;
        let logits = metric::logits(&self.network, &held_out.features)?;
        self.metric = metric::measure(self.body.loss, &logits, &held_out.targets);
        Ok(())
    }

    /// Makes sure that all ranks hold the same weights, then the chief saves them.
    fn checkpoint(&mut self, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        let weights = self.network.weights()?;
        let digest = xxh3_64(bytes::of_f32(&weights)).to_le_bytes();
        let digests = self.ranks.gather(self.step, tag::WEIGHTS_DIGEST, &digest)?;
        if let Some(rank) = digests.iter().position(|digest| *digest != digests[0]) {
            return Err(Error::Diverged { step: self.step, rank });
        }
        if !self.is_chief() {
            return Ok(());
        }
        let per_epoch = self.steps_per_epoch();
        let place = Place {
            format: Place::FORMAT,
            step: self.step,
            epoch: self.step / per_epoch,
            position: self.step % per_epoch * self.body.batch as u64,
            optimizer_step: self.optimizer.step(),
            seed: self.body.seed,
            batch: self.body.batch as u64,
            data_digest: self.digest,
            seconds: self.seconds(),
        };
        let (slots, moments) = (self.network.slots(), self.optimizer.moments());
        let bytes = checkpoint::encode(&place, slots, &weights, &moments, self.normalization.as_ref())?;
        checkpoint::save(&self.task.checkpoint_dir, self.step, &bytes)?;
        report(Report::Checkpointed { step: self.step });
        Ok(())
    }

    fn publish(&mut self, report: &mut dyn FnMut(Report)) -> Result<u64, Error> {
        let resumed_at_end = self.last_loss.is_nan();
        if resumed_at_end {
            self.judge()?;
        }
        if self.metric.is_none() && !self.dataset.held_out.is_empty() {
            report(Report::Notice("the held-out rows are all of one class, so there is no AUC".to_string()));
        }
        let (body, folder) = (self.body, &self.task.model_dir);
        let weights = self.network.weights()?;
        let encoded = registry::encode_weights(&body.model, self.network.slots(), &weights)
            .map_err(|source| Error::Encode { source })?;
        let weights_digest = registry::weights_digest(&encoded);
        let metric_name = metric::name(body.loss);
        let mut metrics = BTreeMap::new();
        metrics.extend(self.metric.map(|metric| (metric_name.to_string(), metric)));
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
                    outputs: self.dataset.outputs,
                    layers: body.layers.clone(),
                    loss: body.loss,
                    normalization: self.normalization.clone(),
                    metrics,
                    trained_through_us: self.dataset.trained_through_us,
                    rows: self.dataset.train.len() as u64,
                    rows_held_out: self.dataset.held_out.len() as u64,
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
