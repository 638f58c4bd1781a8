//! Trainings that go on with fewer workers while there is no room for all, and with more once there is.
//!
//! Invariant: how many there are changes between two generations alone, and a generation that is to have more ends with a
//! checkpoint: no step is taken twice for it, and none is left out. Batches are the same for every number of workers.

use super::Command;
use super::job::{Job, Phase};
use super::placement::{self, HeldOffer, Placement};
use jobs::train::Elastic;
use jobs::{AgentId, JobBody};
use std::collections::BTreeMap;

/// How long room for all workers is waited for, with offers for fewer in hand. Shorter than offers are held.
const PATIENCE_MS: u64 = 2_000;

impl Job {
    fn elastic(&self) -> Option<Elastic> {
        match &self.record.spec.body {
            JobBody::Train(body) => body.elastic,
            JobBody::Stream(_) | JobBody::Command(_) | JobBody::Service(_) => None,
        }
    }

    /// Places for as many of its tasks as can be, and as have to be: all of them, or after a while so many that a training
    /// goes on.
    pub(super) fn places(
        &self,
        now_ms: u64,
        offers: &[HeldOffer],
        homes: &BTreeMap<String, AgentId>,
    ) -> Option<Vec<Placement>> {
        let needs = self.needs(now_ms);
        let all: u32 = needs.iter().map(|need| need.count).sum();
        let fewest = self.fewest(now_ms, all, offers);
        (fewest..=all).rev().find_map(|n| {
            let mut needs = needs.clone();
            if n < all {
                // The tasks of a training are all alike.
                needs.iter_mut().for_each(|need| need.count = n);
            }
            placement::place(offers, &needs, &self.record.spec.rules, homes)
        })
    }

    fn fewest(&self, now_ms: u64, all: u32, offers: &[HeldOffer]) -> u32 {
        let Some(elastic) = self.elastic() else { return all };
        if self.record.phase == Phase::Placing {
            let n_workers = self.n_workers();
            let waited_ms = now_ms.saturating_sub(self.placing_since_ms);
            return if waited_ms < PATIENCE_MS { all } else { all - n_workers.saturating_sub(elastic.min_workers) };
        }
        let held_ms = offers.iter().map(|offer| now_ms.saturating_sub(offer.held_since_ms)).max().unwrap_or(0);
        // More workers cost a moment of training each time: those that room is found for together are taken together.
        if self.missing(now_ms) > 0 && held_ms >= PATIENCE_MS / 2 { 1 } else { all }
    }

    /// How many workers it looks for while it runs with fewer than it is to have.
    pub(super) fn missing(&self, now_ms: u64) -> u32 {
        let Some(elastic) = self.elastic() else { return 0 };
        let is_due = match self.record.phase {
            // What was found is kept for the next generation.
            Phase::Restarting { .. } => self.grows,
            Phase::Running => {
                let is_whole = self.live.iter().all(|task| task.again.is_none());
                let ran_ms = now_ms.saturating_sub(self.running_since_ms);
                is_whole && !self.stop_asked && self.leaves_by_ms.is_none() && ran_ms >= elastic.grow_after_ms
            }
            _ => false,
        };
        if is_due { self.n_fewer() } else { 0 }
    }

    /// How many of its workers the present generation does without.
    pub(super) fn n_fewer(&self) -> u32 {
        match self.record.tasks.len() as u32 {
            0 => 0,
            n_tasks => self.record.spec.parallelism.saturating_sub(n_tasks),
        }
    }

    /// There is room for more: the present generation takes a checkpoint and ends. Offers stay in hand for the next one.
    pub(super) fn grow(&mut self, now_ms: u64, n_more: usize, commands: &mut Vec<Command>) {
        if self.record.phase != Phase::Running {
            // It ends already.
            return;
        }
        let workers = if n_more == 1 { "one more worker" } else { "more workers" };
        let n = self.n_workers() as usize - self.n_fewer() as usize + n_more;
        self.note(now_ms, "info", format!("there is room for {workers}: takes a checkpoint, and goes on with {n}"));
        self.kill_tasks(self.record.spec.kill_grace_ms, commands);
        self.wait_for_room(now_ms);
        self.grows = true;
        commands.push(Command::Persist(Box::new(self.record.clone())));
    }

    /// What is to be said of a generation with fewer workers than there are to be.
    pub(super) fn told_fewer(&self) -> Option<String> {
        let (n_fewer, n_workers) = (self.n_fewer(), self.n_workers());
        (n_fewer > 0 && self.elastic().is_some())
            .then(|| format!("{} of {n_workers} workers, as there was no room for more", n_workers - n_fewer))
    }
}
