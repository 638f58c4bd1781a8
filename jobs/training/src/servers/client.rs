//! A worker's side: pushes gradients, takes weights, and, as the chief, what servers keep.

use super::message::{News, Taker, Wants, write_push, write_wants};
use super::shard::Shard;
use crate::bytes;
use crate::frame::{Refusal, tag};
use crate::graph::{Gradients, SlotPlace};
use crate::mesh::{self, Mesh};
use std::collections::BTreeMap;

pub struct Client<'a> {
    mesh: &'a Mesh,
    /// Of each server, with its rank.
    servers: Vec<(usize, Shard)>,
    /// Of the state of a step, what servers have sent.
    states: BTreeMap<u64, Vec<Option<State>>>,
    n_moments: usize,
}

/// What is kept of a shard.
#[derive(Clone, Debug)]
struct State {
    optimizer_step: u64,
    weights: Vec<f32>,
    moments: Vec<Vec<f32>>,
}

/// All servers' states after one update, put together.
#[derive(Debug, PartialEq)]
pub struct Whole {
    pub step: u64,
    pub optimizer_step: u64,
    pub weights: Vec<f32>,
    pub moments: Vec<Vec<f32>>,
}

impl<'a> Client<'a> {
    pub fn new(mesh: &'a Mesh, servers: Vec<(usize, Shard)>, n_moments: usize) -> Self {
        Self { mesh, servers, states: BTreeMap::new(), n_moments }
    }

    /// Asks for the weights of a first step.
    pub fn pull(&self, step: u64, wants: &Wants) -> Result<(), mesh::Error> {
        for (rank, shard) in &self.servers {
            let mut said = Vec::new();
            write_wants(&of_shard(shard, wants), &mut said);
            self.mesh.send(*rank, &self.mesh.frame(step, tag::PULL, &said, None))?;
        }
        Ok(())
    }

    /// Gives the gradients of a step, and asks for the weights of the next one.
    pub fn push(
        &self,
        step: u64,
        gradients: &Gradients<'_, f32>,
        News { loss, stop }: News,
        wants: &Wants,
    ) -> Result<(), mesh::Error> {
        for (rank, shard) in &self.servers {
            let (whole, tables) = shard.gradients(gradients);
            let mut said = Vec::new();
            write_push(loss, stop, &whole, &tables, &mut said);
            write_wants(&of_shard(shard, wants), &mut said);
            self.mesh.send(*rank, &self.mesh.frame(step, tag::PUSH, &said, None))?;
        }
        Ok(())
    }

    /// Waits until all servers have answered for this step, and puts what they give among `weights`. What all workers did in
    /// the updates since the last answer: the first server tells.
    pub fn take(&mut self, step: u64, wants: &Wants, weights: &mut [f32]) -> Result<Vec<News>, mesh::Error> {
        let mut told = Vec::new();
        for at in 0..self.servers.len() {
            let rank = self.servers[at].0;
            let payload = loop {
                let (of, tag, payload) = self.mesh.receive_any(rank)?;
                match tag {
                    tag::ANSWER if of == step => break payload,
                    tag::STATE => self.keep(at, of, &payload)?,
                    _ => return Err(self.mesh.refuse(rank, Refusal::Payload)),
                }
            };
            let refused = || self.mesh.refuse(rank, Refusal::Payload);
            let news = put(&self.servers[at].1, wants, &payload, weights).ok_or_else(refused)?;
            if at == 0 {
                told = news;
            }
        }
        Ok(told)
    }

    /// Says that this worker pushes no more.
    pub fn done(&self, step: u64) -> Result<(), mesh::Error> {
        for (rank, _) in &self.servers {
            self.mesh.send(*rank, &self.mesh.frame(step, tag::DONE, &[], None))?;
        }
        Ok(())
    }

    /// The chief's, once it is done: what servers ended with.
    pub fn last_state(&mut self, weights_len: usize) -> Result<Whole, mesh::Error> {
        let mut last = None;
        for at in 0..self.servers.len() {
            let rank = self.servers[at].0;
            loop {
                let (of, tag, payload) = self.mesh.receive_any(rank)?;
                match tag {
                    // Asked for with the last push, and no longer needed.
                    tag::ANSWER => {}
                    tag::STATE => self.keep(at, of, &payload)?,
                    tag::LAST_STATE if last.is_none_or(|step| step == of) => {
                        last = Some(of);
                        self.keep(at, of, &payload)?;
                        break;
                    }
                    _ => return Err(self.mesh.refuse(rank, Refusal::Payload)),
                }
            }
        }
        let step = last.unwrap_or_default();
        match self.states.remove(&step).and_then(|states| self.together(step, states, weights_len)) {
            Some(whole) => Ok(whole),
            None => Err(self.mesh.refuse(self.servers.first().map_or(0, |(rank, _)| *rank), Refusal::Payload)),
        }
    }

    /// A state that all servers have sent by now, the oldest first.
    pub fn state(&mut self, weights_len: usize) -> Option<Whole> {
        let whole = |states: &Vec<Option<State>>| states.iter().all(Option::is_some);
        let step = self.states.iter().find(|(_, states)| whole(states)).map(|(step, _)| *step)?;
        let states = self.states.remove(&step)?;
        self.together(step, states, weights_len)
    }

    fn together(&self, step: u64, states: Vec<Option<State>>, weights_len: usize) -> Option<Whole> {
        let mut whole = Whole {
            step,
            optimizer_step: 0,
            weights: vec![0.0; weights_len],
            moments: vec![vec![0.0; weights_len]; self.n_moments],
        };
        for ((_, shard), state) in self.servers.iter().zip(states) {
            let state = state?;
            whole.optimizer_step = state.optimizer_step;
            shard.put(&state.weights, &mut whole.weights);
            for (all, own) in whole.moments.iter_mut().zip(&state.moments) {
                shard.put(own, all);
            }
        }
        Some(whole)
    }

    fn keep(&mut self, at: usize, step: u64, payload: &[u8]) -> Result<(), mesh::Error> {
        let (rank, shard) = &self.servers[at];
        let read = || {
            let mut taker = Taker(payload);
            let optimizer_step = taker.whole_number()?;
            let weights = bytes::to_f32(taker.fours(shard.len)?);
            let one = |taker: &mut Taker<'_>| taker.fours(shard.len).map(bytes::to_f32);
            let moments = (0..self.n_moments).map(|_| one(&mut taker)).collect::<Option<_>>()?;
            taker.end()?;
            Some(State { optimizer_step, weights, moments })
        };
        let state = read().ok_or_else(|| self.mesh.refuse(*rank, Refusal::Payload))?;
        let n_servers = self.servers.len();
        self.states.entry(step).or_insert_with(|| vec![None; n_servers])[at] = Some(state);
        Ok(())
    }
}

/// Of what is wanted of all tables, that of a shard's.
fn of_shard(shard: &Shard, wants: &Wants) -> Wants {
    match wants {
        Wants::Whole => Wants::Whole,
        Wants::Rows(tables) => Wants::Rows(shard.table_numbers().map(|table| tables[table].clone()).collect()),
    }
}

/// Puts what a server gives in its place among all weights.
fn put(shard: &Shard, wants: &Wants, payload: &[u8], weights: &mut [f32]) -> Option<Vec<News>> {
    let mut taker = Taker(payload);
    let (_, news) = taker.answer()?;
    for (gradient, range, width) in shard.places() {
        match (gradient, wants) {
            (SlotPlace::Rows(table), Wants::Rows(tables)) => {
                for row in tables.get(*table)? {
                    let start = range.start + *row as usize * width;
                    bytes::of_f32_mut(weights.get_mut(start..start + width)?).copy_from_slice(taker.fours(width)?);
                }
            }
            (SlotPlace::Whole(_), _) | (SlotPlace::Rows(_), Wants::Whole) => {
                let len = range.len();
                bytes::of_f32_mut(weights.get_mut(range)?).copy_from_slice(taker.fours(len)?);
            }
        }
    }
    taker.end()?;
    Some(news)
}
