//! Which trial of a sweep goes on, and until which epoch: asynchronous successive halving.
//!
//! The algorithm is ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2). Trials pause
//! at rungs; whenever somebody is free, the best paused trial among the best 1/`reduction` of the highest rung that has one goes
//! on to the next rung, and where there is none, another trial begins. Nobody waits for a rung to be complete. A grid and a
//! random search are the same with one rung, at the end.
//!
//! Two things are not in the paper, because its search never ends. A trial that failed counts among those of the rung that it
//! was on its way to, as the worst. And when all trials have begun, none is on its way and none may go on, while none has come to
//! the last rung, then the best of the highest rung goes on: so a sweep ends with a trial that was trained to the end, unless all
//! have failed.
//!
//! Invariant: pure and determined by what it is told, in the order in which it is told. A trial only ever goes on, never anew.

pub mod settings;
pub mod space;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Epochs after which trials pause, rising; at the last one they have come to their end.
    rungs: Vec<u64>,
    reduction: usize,
    larger_is_better: bool,
    trials: Vec<Trial>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub state: State,
    /// The metric at each rung that it has come to; none where it had no value.
    pub reached: Vec<Option<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Has not begun.
    Waiting,
    /// On its way to the next rung.
    Running,
    /// At a rung; it may go on from there.
    Paused,
    /// Will never go on.
    Failed,
}

/// Epochs of the rungs: `first`, and `reduction` times as many again and again, up to `last`.
pub fn rungs(first: u64, reduction: u64, last: u64) -> Vec<u64> {
    let rungs = std::iter::successors(Some(first), |rung| rung.checked_mul(reduction));
    let mut rungs: Vec<u64> = rungs.take_while(|rung| *rung < last).collect();
    rungs.push(last);
    rungs
}

impl Sweep {
    /// `rungs`: at least one. `reduction`: at least 2; of no account where there is one rung.
    pub fn new(trials: usize, rungs: Vec<u64>, reduction: usize, larger_is_better: bool) -> Self {
        assert!(rungs.is_sorted_by(|one, next| one < next) && !rungs.is_empty(), "rungs rise: {rungs:?}");
        let trials = vec![Trial { state: State::Waiting, reached: Vec::new() }; trials];
        Self { rungs, reduction: reduction.max(2), larger_is_better, trials }
    }

    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    pub fn rungs(&self) -> &[u64] {
        &self.rungs
    }

    /// Trials that are on their way, each with the epoch after which it pauses.
    pub fn running(&self) -> impl Iterator<Item = (usize, u64)> {
        let on_its_way = |(_, trial): &(usize, &Trial)| trial.state == State::Running;
        self.trials.iter().enumerate().filter(on_its_way).map(|(at, trial)| (at, self.rungs[trial.reached.len()]))
    }

    /// The next trial to begin or to go on, and the epoch after which it pauses; it is on its way from now on. None where
    /// nothing is to be done before something else is told.
    pub fn next_trial(&mut self) -> Option<(usize, u64)> {
        let trial = self.pick()?;
        self.trials[trial].state = State::Running;
        Some((trial, self.rungs[self.trials[trial].reached.len()]))
    }

    /// A trial that was on its way has paused at its rung.
    pub fn paused(&mut self, trial: usize, metric: Option<f64>) {
        if let Some(trial) = self.trials.get_mut(trial).filter(|trial| trial.state == State::Running) {
            trial.state = State::Paused;
            // What is no number could not be kept as text, and is better than nothing.
            trial.reached.push(metric.filter(|metric| metric.is_finite()));
        }
    }

    /// A trial that was on its way will not come to its rung.
    pub fn failed(&mut self, trial: usize) {
        if let Some(trial) = self.trials.get_mut(trial).filter(|trial| trial.state == State::Running) {
            trial.state = State::Failed;
        }
    }

    /// Whether nothing is left to be done.
    pub fn is_over(&self) -> bool {
        self.running().next().is_none() && self.pick().is_none()
    }

    /// The trial that has come farthest, of several the one with the best metric there. When the sweep is over it has come to the
    /// end.
    pub fn best(&self) -> Option<usize> {
        let highest = self.trials.iter().map(|trial| trial.reached.len()).max().filter(|highest| *highest > 0)?;
        self.ranked(highest - 1).into_iter().find(|trial| self.trials[*trial].reached[highest - 1].is_some())
    }

    /// Whether the trial has come to its end.
    pub fn is_done(&self, trial: usize) -> bool {
        self.trials.get(trial).is_some_and(|trial| trial.reached.len() == self.rungs.len())
    }

    fn pick(&self) -> Option<usize> {
        let waiting = || self.trials.iter().position(|trial| trial.state == State::Waiting);
        self.promotable().or_else(waiting).or_else(|| self.last_resort())
    }

    /// The best trial that may go on, from the highest rung that has one.
    fn promotable(&self) -> Option<usize> {
        (0..self.rungs.len() - 1).rev().find_map(|rung| {
            let failed = |trial: &&Trial| trial.state == State::Failed && trial.reached.len() == rung;
            let ranked = self.ranked(rung);
            let tried = ranked.len() + self.trials.iter().filter(failed).count();
            ranked.into_iter().take(tried / self.reduction).find(|trial| self.waits_at(*trial, rung))
        })
    }

    /// The one that goes on although it is not among the best so many, for want of any that has come to the end.
    fn last_resort(&self) -> Option<usize> {
        if self.running().next().is_some() || (0..self.trials.len()).any(|trial| self.is_done(trial)) {
            return None;
        }
        (0..self.rungs.len() - 1)
            .rev()
            .find_map(|rung| self.ranked(rung).into_iter().find(|trial| self.waits_at(*trial, rung)))
    }

    /// Paused at this rung, with a metric to go by.
    fn waits_at(&self, trial: usize, rung: usize) -> bool {
        let trial = &self.trials[trial];
        trial.state == State::Paused && trial.reached.len() == rung + 1 && trial.reached[rung].is_some()
    }

    /// All that have come to this rung, the best first; of equal ones the first, and last those without a metric.
    fn ranked(&self, rung: usize) -> Vec<usize> {
        let mut ranked: Vec<usize> =
            (0..self.trials.len()).filter(|at| self.trials[*at].reached.len() > rung).collect();
        let metric = |at: &usize| self.trials[*at].reached[rung];
        ranked.sort_by(|one, other| match (metric(one), metric(other)) {
            (Some(one), Some(other)) if self.larger_is_better => other.total_cmp(&one),
            (Some(one), Some(other)) => one.total_cmp(&other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
        ranked
    }
}
