//! Training with parameter servers: the loop of a worker, and the life of a server.
//!
//! Tasks are numbered workers first; the first worker is the chief, as elsewhere. A checkpoint is that of an all-reduce: the
//! chief puts it together of what servers send, so another number of servers, or none, goes on from it.

use super::{Progress, Trainer, tell};
use crate::all_reduce::AllReduce;
use crate::batches::{Buffer, Feed, Piece};
use crate::graph::operation::Values;
use crate::mesh::Mesh;
use crate::metric;
use crate::optimizer::{self, Optimizer};
use crate::saver::Learnt;
use crate::servers::{Client, News, Server, Shard, Wants, Whole, assign};
use crate::train::{Error, Outcome, Report};
use jobs::train::Strategy;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Trainer<'_> {
    /// A world of one needs no server.
    pub(super) fn n_servers(&self) -> usize {
        match self.body.strategy {
            Strategy::ParameterServer { servers, .. } if self.task.world > 1 => servers as usize,
            _ => 0,
        }
    }

    pub(super) fn n_workers(&self) -> usize {
        self.task.world as usize - self.n_servers()
    }

    fn staleness(&self) -> u64 {
        match self.body.strategy {
            Strategy::ParameterServer { staleness, .. } => staleness,
            Strategy::AllReduce => 0,
        }
    }

    /// Of each server.
    fn shards(&self) -> Vec<Shard> {
        let slots = self.graph.slots();
        assign(slots, self.n_servers()).iter().map(|picked| Shard::new(slots, picked)).collect()
    }

    /// The connections, which are lent to servers and clients for the whole training.
    fn take_ranks(&mut self) -> AllReduce {
        std::mem::replace(&mut self.ranks, AllReduce::new(None))
    }

    /// The life of a server.
    pub(super) fn serve(mut self, report: &mut dyn FnMut(Report)) -> Result<Outcome, Error> {
        let ranks = self.take_ranks();
        let plan = self.plan();
        let rows = plan.rows as u64;
        // It needed them to build the graph, as all others do.
        self.dataset.take_rows();
        let shard = self.shards().swap_remove(self.rank() - self.n_workers());
        let mut optimizer = Optimizer::new(self.body.optimizer.clone(), self.body.clip, shard.len);
        let moments = self.optimizer.moments().iter().map(|(_, values)| shard.take(values)).collect();
        optimizer.restore(self.optimizer.step(), moments);
        let schedule = self.body.schedule.clone();
        report(Report::Ready);
        let mut outcome = Outcome {
            version: None,
            metric: None,
            metric_name: metric::name(self.body.loss),
            steps: self.step,
            rows,
            weights_digest: 0,
            stopped: false,
        };
        let Some(mesh) = ranks.mesh() else { return Ok(outcome) };
        outcome.steps = Server {
            mesh,
            n_workers: self.n_workers(),
            weights: shard.take(self.graph.weights()),
            shard,
            optimizer,
            checkpoint_steps: self.body.checkpoint_steps,
            staleness: self.staleness(),
            updates: self.step,
            share: &|update| optimizer::share(&schedule, update, plan.steps_total),
        }
        .serve()?;
        outcome.stopped = outcome.steps < self.last_step(&plan);
        Ok(outcome)
    }

    /// A worker's training to its end; true when stopped before it.
    pub(super) fn train_with_servers(&mut self, report: &mut dyn FnMut(Report)) -> Result<bool, Error> {
        let ranks = self.take_ranks();
        match ranks.mesh() {
            Some(mesh) => self.work(mesh, report),
            None => Ok(false),
        }
    }

    fn work(&mut self, mesh: &Mesh, report: &mut dyn FnMut(Report)) -> Result<bool, Error> {
        let n_workers = self.n_workers();
        let servers = self.shards().into_iter().enumerate().map(|(server, shard)| (n_workers + server, shard));
        let n_moments = optimizer::moment_names(&self.body.optimizer).len();
        let mut client = Client::new(mesh, servers.collect(), n_moments);
        let plan = self.plan();
        let (per_epoch, total, first) = (plan.steps_per_epoch(), plan.steps_total, self.step);
        let last = self.last_step(&plan);
        let mut feed =
            Feed::start(Arc::clone(&self.train), plan, self.step).map_err(|source| Error::Thread { source })?;
        let mut course = Course { updates: first, stop: false, progress: Progress::new() };
        let mut next = pieces(&mut feed);
        let mut wants = self.wants(&next);
        let mut judges = false;
        let mut goes_on = first < last;
        if goes_on {
            client.pull(first, &wants)?;
        }
        while goes_on {
            let news = client.take(self.step, &wants, self.graph.weights_mut().1)?;
            self.tell_saved(report)?;
            self.learn(&mut course, &news, plan.rows_of_step())?;
            while let Some(state) = client.state(self.graph.size()) {
                self.save_state(&state, report)?;
            }
            if judges {
                self.judge()?;
            }
            let epoch_ends = self.step.is_multiple_of(per_epoch) && self.step > first;
            if self.step > first && (epoch_ends || course.progress.is_due()) && course.progress.any() {
                let (loss, rows_per_second) = course.progress.take();
                report(Report::Metrics {
                    step: self.step,
                    steps_total: total,
                    epoch: (self.step - 1) / per_epoch + 1,
                    loss,
                    metric: self.metric,
                    metric_name: metric::name(self.body.loss),
                    rows_per_second,
                    learning_rate: self.body.optimizer.learning_rate()
                        * optimizer::share(&self.body.schedule, self.step, total),
                });
            }
            goes_on = !course.stop && self.step < last;
            if !goes_on {
                break;
            }
            for piece in next.drain(..) {
                self.gradients(&piece)?;
                feed.give_back(piece.batch);
            }
            next = pieces(&mut feed);
            // After an epoch the chief judges, for which it needs all rows of all tables.
            judges = self.is_chief() && !self.task.has_evaluator && (self.step + 1).is_multiple_of(per_epoch);
            wants = if judges { Wants::Whole } else { self.wants(&next) };
            let said = News { loss: self.sums.own(), stop: self.stop.load(Ordering::Relaxed) };
            client.push(self.step, &self.sums.gradients(), said, &wants)?;
            self.step += 1;
        }
        client.done(self.step)?;
        if self.is_chief() {
            self.end(&mut client, first, report)?;
        }
        Ok(course.stop && self.step < last)
    }

    /// The chief takes over what servers ended with.
    fn end(&mut self, client: &mut Client<'_>, first: u64, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        let last = client.last_state(self.graph.size())?;
        while let Some(state) = client.state(self.graph.size()) {
            if state.step < last.step {
                self.save_state(&state, report)?;
            }
        }
        self.step = last.step;
        self.graph.set_weights(&last.weights);
        if last.step > first {
            self.save_state(&last, report)?;
            if self.metric.is_none() || self.step == self.last_step(&self.plan()) {
                self.judge()?;
            }
        }
        self.optimizer.restore(last.optimizer_step, last.moments);
        Ok(())
    }

    fn save_state(&mut self, state: &Whole, report: &mut dyn FnMut(Report)) -> Result<(), Error> {
        let names = optimizer::moment_names(&self.body.optimizer);
        let moments: Vec<(&str, &[f32])> = names.iter().copied().zip(state.moments.iter().map(Vec::as_slice)).collect();
        let mut saver = self.take_saver();
        let place = self.place(state.step, state.optimizer_step);
        let learnt = Learnt { place, weights: &state.weights, moments: &moments, best: self.best.as_deref() };
        tell(saver.begin(learnt)?, report);
        self.saver = Some(saver);
        Ok(())
    }

    /// The rows that a step's batches read.
    fn wants(&self, pieces: &[Piece]) -> Wants {
        let mut tables = vec![Vec::new(); self.graph.tables()];
        for piece in pieces.iter().filter(|piece| piece.batch.rows > 0) {
            let inputs: Vec<Values<'_, f32>> = piece.batch.inputs.iter().map(Buffer::values).collect();
            if !self.graph.rows_read(&inputs, &mut tables) {
                return Wants::Whole;
            }
        }
        Wants::Rows(tables)
    }

    /// What all workers did in the updates that were made meanwhile.
    fn learn(&mut self, course: &mut Course, news: &[News], rows_of_step: usize) -> Result<(), Error> {
        for News { loss, stop } in news {
            if !loss.is_finite() {
                let epoch = course.updates / self.plan().steps_per_epoch() + 1;
                return Err(Error::NotFinite { step: course.updates, epoch, loss: *loss });
            }
            course.updates += 1;
            course.stop |= stop;
            self.last_loss = f64::from(*loss);
            course.progress.add(*loss, rows_of_step);
        }
        Ok(())
    }
}

/// What a worker knows of the others' work.
struct Course {
    /// That it was told of.
    updates: u64,
    /// Some worker was told to stop.
    stop: bool,
    progress: Progress,
}

/// The batches of the next step; none after the last.
fn pieces(feed: &mut Feed) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for piece in feed.by_ref() {
        let completes_step = piece.completes_step;
        pieces.push(piece);
        if completes_step {
            break;
        }
    }
    pieces
}
