//! One server: takes what workers push, makes the updates that its [`Clock`] allows, and answers.
//!
//! Every worker's connection is read by a thread of its own, so that one that is slow, or takes no more, keeps nobody from
//! pushing. All else happens on one thread, in the order in which the clock says it.
//!
//! Invariant: after each update that a checkpoint is due at, and at the end, the chief is sent this server's weights and
//! optimizer state, before it is answered for the step behind it; so it holds all of a step's states when it goes on.

use super::clock::{Clock, Command, Event};
use super::message::{Form, News, Push, Taker, Wants, write_answer};
use super::shard::Shard;
use crate::bytes;
use crate::frame::{Refusal, tag};
use crate::graph::operation::RowGradients;
use crate::graph::rows::{self, Places};
use crate::graph::{Gradients, SlotPlace};
use crate::mesh::{self, Mesh};
use crate::optimizer::Optimizer;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A worker waits for its answer before it pushes again, so that there is a push, and its end.
const PER_WORKER: usize = 2;

pub struct Server<'a> {
    pub mesh: &'a Mesh,
    /// Ranks from 0 on; the first is the chief.
    pub n_workers: usize,
    pub shard: Shard,
    pub weights: Vec<f32>,
    pub optimizer: Optimizer,
    /// Updates between two checkpoints.
    pub checkpoint_steps: u64,
    pub staleness: u64,
    /// Updates that the weights have seen.
    pub updates: u64,
    /// Of the learning rate, for the update of this number.
    pub share: &'a dyn Fn(u64) -> f64,
}

type Said = (usize, Result<(u64, u32, Vec<u8>), mesh::Error>);

impl Server<'_> {
    /// Serves until every worker is done; the number of updates made since training began.
    pub fn serve(self) -> Result<u64, mesh::Error> {
        let (mesh, n_workers) = (self.mesh, self.n_workers);
        let (sender, receiver) = sync_channel(PER_WORKER * n_workers);
        std::thread::scope(|scope| {
            for worker in 0..n_workers {
                let sender = sender.clone();
                scope.spawn(move || read(mesh, worker, &sender));
            }
            drop(sender);
            let served = Desk::new(self).serve(receiver);
            if served.is_err() {
                mesh.stop_reading();
            }
            served
        })
    }
}

/// Reads what a worker says until it says that it is done.
fn read(mesh: &Mesh, worker: usize, sender: &SyncSender<Said>) {
    loop {
        let said = mesh.receive_any(worker);
        let is_last = !matches!(said, Ok((_, tag::PUSH | tag::PULL, _)));
        if sender.send((worker, said)).is_err() || is_last {
            return;
        }
    }
}

/// What the one thread has before it.
struct Desk<'a> {
    server: Server<'a>,
    form: Form,
    clock: Clock<Push>,
    /// What each worker asked for, by rank.
    wants: Vec<Wants>,
    /// How many updates each worker was told of.
    told: Vec<u64>,
    /// Of the latest updates, as far back as some worker was not told of them.
    news: VecDeque<News>,
    /// The sum over workers.
    whole: Vec<f32>,
    tables: Vec<RowGradients<f32>>,
    places: Vec<Places>,
}

impl<'a> Desk<'a> {
    fn new(server: Server<'a>) -> Self {
        let form = Form { whole_len: server.shard.whole_len, tables: server.shard.tables() };
        Self {
            clock: Clock::new(server.n_workers, server.staleness, server.updates),
            wants: vec![Wants::Whole; server.n_workers],
            told: vec![server.updates; server.n_workers],
            news: VecDeque::new(),
            whole: vec![0.0; form.whole_len],
            tables: vec![RowGradients::default(); form.tables.len()],
            places: form.tables.iter().map(|(rows, _)| Places::of(*rows)).collect(),
            form,
            server,
        }
    }

    fn serve(mut self, receiver: Receiver<Said>) -> Result<u64, mesh::Error> {
        for (worker, said) in receiver {
            let (step, tag, payload) = said?;
            for event in self.events(worker, step, tag, &payload)? {
                let commands = self.clock.apply(event).map_err(|broken| {
                    tracing::warn!(%broken, "a worker does not keep to the protocol");
                    self.server.mesh.refuse(worker, Refusal::Payload)
                })?;
                for command in commands {
                    match command {
                        Command::Apply { gradients, .. } => self.update(&gradients)?,
                        Command::Answer { worker, step } | Command::Over { worker, step } => {
                            self.answer(worker, step)?
                        }
                        Command::Finished => {
                            self.send_state(tag::LAST_STATE)?;
                            return Ok(self.clock.updates());
                        }
                    }
                }
            }
        }
        Ok(self.clock.updates())
    }

    /// What a frame says. A push says at once what the worker needs next.
    fn events(&mut self, worker: usize, step: u64, tag: u32, payload: &[u8]) -> Result<Vec<Event<Push>>, mesh::Error> {
        let refused = || self.server.mesh.refuse(worker, Refusal::Payload);
        let mut taker = Taker(payload);
        match tag {
            tag::DONE if payload.is_empty() => Ok(vec![Event::Done { worker }]),
            tag::PULL => {
                let wants = taker.wants(&self.form).ok_or_else(refused)?;
                taker.end().ok_or_else(refused)?;
                self.wants[worker] = wants;
                Ok(vec![Event::Wants { worker, step }])
            }
            tag::PUSH => {
                let gradients = taker.push(&self.form).ok_or_else(refused)?;
                let wants = taker.wants(&self.form).ok_or_else(refused)?;
                taker.end().ok_or_else(refused)?;
                self.wants[worker] = wants;
                Ok(vec![Event::Pushed { worker, step, gradients }, Event::Wants { worker, step: step + 1 }])
            }
            _ => Err(refused()),
        }
    }

    fn update(&mut self, pushes: &[Push]) -> Result<(), mesh::Error> {
        self.whole.fill(0.0);
        self.tables.iter_mut().for_each(RowGradients::clear);
        for push in pushes {
            for (sum, value) in self.whole.iter_mut().zip(&push.whole) {
                *sum += value;
            }
            for ((sum, places), table) in self.tables.iter_mut().zip(&mut self.places).zip(&push.tables) {
                rows::add(sum, places, &table.rows, &table.values);
            }
        }
        self.server.updates += 1;
        let server = &mut self.server;
        let gradients = Gradients { whole: &mut self.whole, tables: &mut self.tables };
        let share = (server.share)(server.updates);
        server.optimizer.update(share, &server.shard.slots, &mut server.weights, &gradients);
        let mut loss = 0.0;
        pushes.iter().for_each(|push| loss += push.loss);
        self.news.push_back(News { loss, stop: pushes.iter().any(|push| push.stop) });
        if server.updates.is_multiple_of(server.checkpoint_steps) {
            self.send_state(tag::STATE)?;
        }
        Ok(())
    }

    fn answer(&mut self, worker: usize, step: u64) -> Result<(), mesh::Error> {
        let updates = self.server.updates;
        let untold = (updates - self.told[worker]) as usize;
        let mut said = Vec::new();
        write_answer(updates, self.news.iter().skip(self.news.len() - untold).copied(), &mut said);
        self.told[worker] = updates;
        let oldest = self.told.iter().copied().min().unwrap_or(updates);
        let kept = (updates - oldest) as usize;
        self.news.drain(..self.news.len() - kept);
        let (shard, weights) = (&self.server.shard, &self.server.weights);
        let mut tables = 0;
        for slot in &shard.slots {
            let values = &weights[slot.range.clone()];
            match (&slot.gradient, &self.wants[worker]) {
                (SlotPlace::Whole(_), _) | (SlotPlace::Rows(_), Wants::Whole) => {
                    said.extend_from_slice(bytes::of_f32(values));
                }
                (SlotPlace::Rows(_), Wants::Rows(rows)) => {
                    let width = slot.width();
                    for row in &rows[tables] {
                        said.extend_from_slice(bytes::of_f32(&values[*row as usize * width..][..width]));
                    }
                    tables += 1;
                }
            }
        }
        let mesh = self.server.mesh;
        mesh.send(worker, &mesh.frame(step, tag::ANSWER, &said, None))
    }

    /// To the chief: how often the optimizer moved, weights, then what it keeps beside them.
    fn send_state(&self, tag: u32) -> Result<(), mesh::Error> {
        let Server { mesh, optimizer, weights, updates, .. } = &self.server;
        let mut said = optimizer.step().to_le_bytes().to_vec();
        said.extend_from_slice(bytes::of_f32(weights));
        optimizer.moments().iter().for_each(|(_, values)| said.extend_from_slice(bytes::of_f32(values)));
        mesh.send(0, &mesh.frame(*updates, tag, &said, None))
    }
}
