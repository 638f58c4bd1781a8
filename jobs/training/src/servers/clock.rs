//! When a server makes an update, and which workers may go on: a stale synchronous parallel clock (Ho et al., "More Effective
//! Distributed ML via a Stale Synchronous Parallel Parameter Server", 2013), whose updates come in the order of their steps.
//!
//! Invariants: update `t` is made once, after updates below `t`, of exactly one push of every worker; a worker that reads at
//! step `t` sees every update below `t - staleness`; no worker is more than `staleness` steps ahead of the updates, so that
//! many pushes of each are kept at most. Pure: knows no sockets, no weights and no time.

use std::collections::VecDeque;

/// What a worker said. `G` is what it computed for one step.
#[derive(Debug)]
pub enum Event<G> {
    Pushed {
        worker: usize,
        step: u64,
        gradients: G,
    },
    /// It will compute this step next, and needs weights for it.
    Wants {
        worker: usize,
        step: u64,
    },
    /// It will push no more.
    Done {
        worker: usize,
    },
}

/// What is to be done, in order.
#[derive(Debug, PartialEq)]
pub enum Command<G> {
    /// One update, of the gradients of every worker in order of rank.
    Apply { step: u64, gradients: Vec<G> },
    /// This worker may go on, with the weights as they are now.
    Answer { worker: usize, step: u64 },
    /// Some worker was done before, so this step will never be one that may be done; the worker is to be told how things stand.
    Over { worker: usize, step: u64 },
    /// Nobody pushes any more.
    Finished,
}

/// What a worker of this version never says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("worker {worker} pushed step {step}, step {due} was due")]
    Skipped { worker: usize, step: u64, due: u64 },
    #[error(
        "worker {worker} pushed step {step}, and {updates} updates with a staleness of {staleness} let it do no such step"
    )]
    Ahead { worker: usize, step: u64, updates: u64, staleness: u64 },
    #[error("worker {worker} spoke after it had said that it was done")]
    Spoke { worker: usize },
}

#[derive(Debug)]
pub struct Clock<G> {
    staleness: u64,
    /// Updates made since training began.
    updates: u64,
    workers: Vec<Worker<G>>,
    finished: bool,
}

#[derive(Debug)]
struct Worker<G> {
    /// The step that it pushes next.
    due: u64,
    /// Those of the steps from the number of updates on.
    pushed: VecDeque<G>,
    /// The step for which it waits.
    wants: Option<u64>,
    done: bool,
}

impl<G> Clock<G> {
    /// `updates`: those that the weights at hand have seen.
    pub fn new(n_workers: usize, staleness: u64, updates: u64) -> Self {
        let worker = |_| Worker { due: updates, pushed: VecDeque::new(), wants: None, done: false };
        Self { staleness, updates, workers: (0..n_workers).map(worker).collect(), finished: false }
    }

    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// A push that came before changes nothing and is not answered.
    pub fn apply(&mut self, event: Event<G>) -> Result<Vec<Command<G>>, Broken> {
        let (updates, staleness) = (self.updates, self.staleness);
        match event {
            Event::Pushed { worker, step, gradients } => {
                let known = self.speaks(worker)?;
                if step > known.due {
                    return Err(Broken::Skipped { worker, step, due: known.due });
                }
                if step > updates.saturating_add(staleness) {
                    return Err(Broken::Ahead { worker, step, updates, staleness });
                }
                if step == known.due {
                    known.due += 1;
                    known.pushed.push_back(gradients);
                }
            }
            Event::Wants { worker, step } => self.speaks(worker)?.wants = Some(step),
            Event::Done { worker } => {
                let known = self.speaks(worker)?;
                (known.done, known.wants) = (true, None);
            }
        }
        Ok(self.go_on())
    }

    fn speaks(&mut self, worker: usize) -> Result<&mut Worker<G>, Broken> {
        match self.workers.get_mut(worker) {
            Some(known) if !known.done => Ok(known),
            _ => Err(Broken::Spoke { worker }),
        }
    }

    fn go_on(&mut self) -> Vec<Command<G>> {
        let mut commands = Vec::new();
        while !self.workers.is_empty() && self.workers.iter().all(|worker| !worker.pushed.is_empty()) {
            let gradients = self.workers.iter_mut().filter_map(|worker| worker.pushed.pop_front()).collect();
            commands.push(Command::Apply { step: self.updates, gradients });
            self.updates += 1;
        }
        let reach = self.updates.saturating_add(self.staleness);
        let last = self.workers.iter().filter(|worker| worker.done).map(|worker| worker.due).min();
        let last_reach = last.map_or(u64::MAX, |last| last.saturating_add(self.staleness));
        for (worker, known) in self.workers.iter_mut().enumerate() {
            let Some(step) = known.wants.filter(|step| *step <= reach || *step > last_reach) else { continue };
            known.wants = None;
            commands.push(match step <= reach {
                true => Command::Answer { worker, step },
                false => Command::Over { worker, step },
            });
        }
        if !self.finished && self.workers.iter().all(|worker| worker.done) {
            self.finished = true;
            commands.push(Command::Finished);
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, Purpose};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::RngCore;

    fn push(worker: usize, step: u64) -> Event<(usize, u64)> {
        Event::Pushed { worker, step, gradients: (worker, step) }
    }

    #[test]
    fn without_staleness_all_wait_for_all() {
        let mut clock = Clock::new(2, 0, 7);
        assert_eq!(clock.apply(Event::Wants { worker: 0, step: 7 }), Ok(vec![Command::Answer { worker: 0, step: 7 }]));
        assert_eq!(clock.apply(push(1, 7)), Ok(vec![]));
        assert_eq!(clock.apply(Event::Wants { worker: 1, step: 8 }), Ok(vec![]));
        let gradients = vec![(0, 7), (1, 7)];
        let expected = vec![Command::Apply { step: 7, gradients }, Command::Answer { worker: 1, step: 8 }];
        assert_eq!(clock.apply(push(0, 7)), Ok(expected), "in order of rank, not of arrival");
        assert_eq!(clock.updates(), 8);
    }

    #[test]
    fn who_waits_for_one_that_is_done_is_told() {
        let mut clock = Clock::new(2, 1, 0);
        assert_eq!(clock.apply(push(0, 0)), Ok(vec![]));
        assert_eq!(clock.apply(push(0, 1)), Ok(vec![]));
        assert_eq!(clock.apply(Event::Wants { worker: 0, step: 2 }), Ok(vec![]));
        assert_eq!(clock.apply(Event::Done { worker: 1 }), Ok(vec![Command::Over { worker: 0, step: 2 }]));
        assert_eq!(clock.apply(Event::Done { worker: 0 }), Ok(vec![Command::Finished]));
        assert_eq!(clock.updates(), 0);
    }

    #[test]
    fn a_push_counts_once_and_none_is_left_out() {
        let mut clock = Clock::new(2, 1, 0);
        assert_eq!(clock.apply(push(0, 0)), Ok(vec![]));
        assert_eq!(clock.apply(push(0, 0)), Ok(vec![]), "it came twice");
        assert_eq!(clock.apply(push(0, 2)), Err(Broken::Skipped { worker: 0, step: 2, due: 1 }));
        assert_eq!(clock.apply(push(0, 1)), Ok(vec![]));
        let ahead = Broken::Ahead { worker: 0, step: 2, updates: 0, staleness: 1 };
        assert_eq!(clock.apply(push(0, 2)), Err(ahead));
        let gradients = vec![(0, 0), (1, 0)];
        assert_eq!(clock.apply(push(1, 0)), Ok(vec![Command::Apply { step: 0, gradients }]));
        assert_eq!(clock.apply(push(1, 0)), Ok(vec![]), "also after its update was made");
        assert_eq!(clock.apply(Event::Done { worker: 1 }), Ok(vec![]));
        assert_eq!(clock.apply(push(1, 1)), Err(Broken::Spoke { worker: 1 }));
        assert_eq!(clock.apply(push(5, 1)), Err(Broken::Spoke { worker: 5 }));
        assert_eq!(clock.apply(Event::Done { worker: 0 }), Ok(vec![Command::Finished]));
    }

    type Link = VecDeque<Event<(usize, u64)>>;

    /// Workers of random speeds and servers behind links that delay and double: whatever comes when, every update is made once
    /// and of all, every read is fresh enough, and all come to their end.
    struct Simulation {
        rng: ChaCha8Rng,
        staleness: u64,
        servers: Vec<Clock<(usize, u64)>>,
        /// What is on its way, by worker and server; a link keeps its order.
        links: Vec<Vec<Link>>,
        /// Of each worker, the step that it does next and the servers whose answers it lacks.
        workers: Vec<(u64, Vec<bool>)>,
        /// Of each worker, the step before which it is done; the first one may be told to stop.
        ends: Vec<u64>,
        n_updates: Vec<u64>,
        n_finished: usize,
    }

    impl Simulation {
        fn below(&mut self, bound: usize) -> usize {
            self.rng.next_u32() as usize % bound
        }

        fn send(&mut self, worker: usize, server: usize, event: fn(usize, u64) -> Event<(usize, u64)>, step: u64) {
            self.links[worker][server].push_back(event(worker, step));
            if self.below(5) == 0 {
                let again = event(worker, step);
                if matches!(again, Event::Pushed { .. }) {
                    self.links[worker][server].push_back(again);
                }
            }
        }

        fn ask(&mut self, worker: usize) {
            let step = self.workers[worker].0;
            for server in 0..self.servers.len() {
                self.workers[worker].1[server] = true;
                self.send(worker, server, |worker, step| Event::Wants { worker, step }, step);
            }
        }

        /// A worker that has all weights does its step, or says that it is done.
        fn work(&mut self, worker: usize) {
            if self.workers[worker].0 > self.ends[worker] || self.workers[worker].1.iter().any(|waits| *waits) {
                return;
            }
            let step = self.workers[worker].0;
            let ends = step == self.ends[worker];
            self.workers[worker].0 = if ends { u64::MAX } else { step + 1 };
            for server in 0..self.servers.len() {
                match ends {
                    false => self.send(worker, server, push, step),
                    true => self.links[worker][server].push_back(Event::Done { worker }),
                }
            }
            if !ends {
                self.ask(worker);
            }
        }

        fn deliver(&mut self, worker: usize, server: usize) {
            let Some(event) = self.links[worker][server].pop_front() else { return };
            for command in self.servers[server].apply(event).expect("workers keep to it") {
                match command {
                    Command::Apply { step, gradients } => {
                        assert_eq!(step, self.n_updates[server], "updates come in order");
                        let expected: Vec<(usize, u64)> =
                            (0..self.workers.len()).map(|worker| (worker, step)).collect();
                        assert_eq!(gradients, expected);
                        self.n_updates[server] += 1;
                    }
                    Command::Answer { worker, step } => {
                        let seen = self.n_updates[server];
                        assert!(seen + self.staleness >= step, "step {step} reads {seen} updates");
                        assert!(self.staleness > 0 || seen == step, "step {step} reads {seen} updates");
                        assert_eq!(step, self.workers[worker].0);
                        assert!(std::mem::take(&mut self.workers[worker].1[server]), "an answer that was asked for");
                    }
                    Command::Over { worker, step } => {
                        assert!(step > self.ends[0] + self.staleness);
                        // As a worker does that hears that another one was told to stop.
                        self.workers[worker].1[server] = false;
                        self.ends[worker] = self.workers[worker].0;
                    }
                    Command::Finished => self.n_finished += 1,
                }
            }
        }
    }

    #[test]
    fn workers_and_servers_come_to_their_end_whatever_comes_when() {
        for seed in 0..300 {
            let mut rng = random::stream(seed, Purpose::Shuffle, 0, 0);
            let [n_workers, n_servers] = [1 + rng.next_u32() as usize % 4, 1 + rng.next_u32() as usize % 3];
            let (staleness, steps) = (u64::from(rng.next_u32() % 4), 20);
            let quits = if rng.next_u32().is_multiple_of(3) { u64::from(rng.next_u32() % 20) } else { steps };
            let mut simulation = Simulation {
                rng,
                staleness,
                servers: (0..n_servers).map(|_| Clock::new(n_workers, staleness, 0)).collect(),
                links: (0..n_workers).map(|_| (0..n_servers).map(|_| VecDeque::new()).collect()).collect(),
                workers: vec![(0, vec![false; n_servers]); n_workers],
                ends: (0..n_workers).map(|worker| if worker == 0 { quits } else { steps }).collect(),
                n_updates: vec![0; n_servers],
                n_finished: 0,
            };
            (0..n_workers).for_each(|worker| simulation.ask(worker));
            let mut turns = 0;
            while simulation.n_finished < n_servers {
                let (worker, server) = (simulation.below(n_workers), simulation.below(n_servers));
                // The first worker is slow.
                match simulation.below(if worker == 0 { 8 } else { 2 }) {
                    0 => simulation.work(worker),
                    _ => simulation.deliver(worker, server),
                }
                turns += 1;
                assert!(turns < 1_000_000, "seed {seed}: they stand still");
            }
            assert_eq!(simulation.n_updates, vec![quits; n_servers], "seed {seed}");
        }
    }
}
