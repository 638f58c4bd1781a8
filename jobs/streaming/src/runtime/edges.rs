//! The sending ends of one exchange on one slice.
//!
//! Invariant: sending never waits. What does not fit into an edge's queue is kept here, in order, and the slice reads no
//! more of what leads to this exchange until all of it is gone; so at most the output of one message is kept. Since the
//! slice goes on reading what lies behind the exchange, and the last exchange has nothing behind it that could be
//! full, some slice can always go on: slices that send to each other do not lock each other up.

use crate::runtime::exchange::Message;
use crossbeam_channel::{Sender, TrySendError};
use std::collections::VecDeque;

#[derive(Debug)]
pub struct Edges {
    /// By slot of the receiver.
    edges: Vec<Edge>,
    n_kept: usize,
}

#[derive(Debug)]
struct Edge {
    queue: Sender<Message>,
    kept: VecDeque<Message>,
}

impl Edges {
    pub fn new(queues: Vec<Sender<Message>>) -> Self {
        let edges = queues.into_iter().map(|queue| Edge { queue, kept: VecDeque::new() }).collect();
        Self { edges, n_kept: 0 }
    }

    pub fn send(&mut self, slot: usize, message: Message) {
        let edge = &mut self.edges[slot];
        edge.kept.push_back(message);
        self.n_kept += 1;
        if edge.kept.len() == 1 {
            self.n_kept -= edge.flush();
        }
    }

    pub fn send_all(&mut self, message: &Message) {
        for slot in 0..self.edges.len() {
            self.send(slot, message.clone());
        }
    }

    pub fn flush(&mut self) {
        if self.n_kept > 0 {
            self.n_kept -= self.edges.iter_mut().map(Edge::flush).sum::<usize>();
        }
    }

    pub fn is_full(&self) -> bool {
        self.n_kept > 0
    }

    /// The queues that something waits for.
    pub fn waiting(&self) -> impl Iterator<Item = &Sender<Message>> {
        self.edges.iter().filter(|edge| !edge.kept.is_empty()).map(|edge| &edge.queue)
    }
}

impl Edge {
    fn flush(&mut self) -> usize {
        let mut n_sent = 0;
        while let Some(message) = self.kept.pop_front() {
            match self.queue.try_send(message) {
                Ok(()) => n_sent += 1,
                Err(TrySendError::Full(message)) => {
                    self.kept.push_front(message);
                    break;
                }
                // The receiver is gone: the task ends, in order or with an error that somebody else has reported.
                Err(TrySendError::Disconnected(_)) => n_sent += 1,
            }
        }
        n_sent
    }
}
