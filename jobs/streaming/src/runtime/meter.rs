//! Where the time of one slice goes, by operator.
//!
//! A slice is one thread, and pushes a batch through its operators by calls within calls; so an operator is charged for
//! what passes between entering and leaving it, less what it spends in its readers. Waiting is *blocked* while an exchange
//! has messages that its receivers have no room for, charged to that exchange, and else *idle*.
//!
//! Invariant: every moment of the slice is charged once: to one operator, to waiting, or to the slice's own loop.

use std::time::{Duration, Instant};

/// Counted since the slice began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub busy: Duration,
    pub blocked: Duration,
    pub rows_in: u64,
    pub rows_out: u64,
}

#[derive(Debug)]
pub struct Meter {
    /// By node; behind the last node the slice's own loop.
    spent: Vec<Spent>,
    idle: Duration,
    began: Instant,
    current: usize,
    since: Instant,
}

/// Who is charged again after [`Meter::leave`].
#[derive(Debug)]
#[must_use]
pub struct Outer(usize);

impl Meter {
    pub fn new(n_nodes: usize) -> Self {
        let now = Instant::now();
        Self {
            spent: vec![Spent::default(); n_nodes + 1],
            idle: Duration::ZERO,
            began: now,
            current: n_nodes,
            since: now,
        }
    }

    pub fn enter(&mut self, node: usize) -> Outer {
        self.enter_at(node, Instant::now())
    }

    pub fn leave(&mut self, outer: Outer) {
        let _ = self.enter_at(outer.0, Instant::now());
    }

    fn enter_at(&mut self, node: usize, now: Instant) -> Outer {
        self.spent[self.current].busy += now.saturating_duration_since(self.since);
        self.since = now;
        Outer(std::mem::replace(&mut self.current, node))
    }

    /// The slice has slept since `from`; `blocked`: for room behind these exchanges.
    pub fn waited(&mut self, from: Instant, blocked: &[usize]) {
        let now = Instant::now();
        self.spent[self.current].busy += from.saturating_duration_since(self.since);
        let slept = now.saturating_duration_since(from);
        match blocked {
            [] => self.idle += slept,
            exchanges => exchanges.iter().for_each(|node| self.spent[*node].blocked += slept),
        }
        self.since = now;
    }

    pub fn took(&mut self, node: usize, rows: usize) {
        self.spent[node].rows_in += rows as u64;
    }

    pub fn gave(&mut self, node: usize, rows: usize) {
        self.spent[node].rows_out += rows as u64;
    }

    pub fn spent(&self, node: usize) -> Spent {
        self.spent[node]
    }

    pub fn idle(&self) -> Duration {
        self.idle
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_charged_once() {
        let mut meter = Meter::new(3);
        let at = |ms: u64| Duration::from_millis(ms);
        let began = meter.began;
        // The loop for 1 ms, node 0 for 2, node 1 within it for 4, node 0 again for 8, the loop for 16, waiting for 32.
        let outer = meter.enter_at(0, began + at(1));
        let inner = meter.enter_at(1, began + at(3));
        let _ = meter.enter_at(inner.0, began + at(7));
        let _ = meter.enter_at(outer.0, began + at(15));
        let busy: Vec<Duration> = (0..4).map(|node| meter.spent(node).busy).collect();
        assert_eq!(busy, [at(10), at(4), at(0), at(1)]);
        let before = Instant::now();
        meter.since = before;
        meter.waited(before, &[2]);
        meter.waited(Instant::now(), &[]);
        assert_eq!(meter.spent(3).busy, at(1) + (meter.since - before) - meter.spent(2).blocked - meter.idle());
    }
}
