//! The sending ends of one exchange on one slice.
//!
//! Messages are gathered here and handed over a few at a time, or when the slice has nothing else to do: whoever is at the
//! other end of a queue is woken once for all of them.
//!
//! Invariant: sending never waits. What does not fit into an edge's queue is kept here, in order, and the slice reads no
//! more of what leads to this exchange until all of it is gone; so little more than the output of one message is kept. Since the
//! slice goes on reading what lies behind the exchange, and the last exchange has nothing behind it that could be
//! full, some slice can always go on: slices that send to each other do not lock each other up.

use crate::runtime::exchange::{GATHERED, Message};
use crossbeam_channel::{Sender, TrySendError};
use std::collections::VecDeque;

#[derive(Debug)]
pub struct Edges {
    /// By slot of the receiver.
    edges: Vec<Edge>,
}

#[derive(Debug)]
struct Edge {
    queue: Sender<Message>,
    kept: VecDeque<Message>,
    /// The queue had no room for all of them.
    full: bool,
}

impl Edges {
    pub fn new(queues: Vec<Sender<Message>>) -> Self {
        let edge = |queue| Edge { queue, kept: VecDeque::new(), full: false };
        Self { edges: queues.into_iter().map(edge).collect() }
    }

    pub fn send(&mut self, slot: usize, message: Message) {
        let edge = &mut self.edges[slot];
        edge.kept.push_back(message);
        if edge.kept.len() >= GATHERED && !edge.full {
            edge.flush();
        }
    }

    pub fn send_all(&mut self, message: &Message) {
        for slot in 0..self.edges.len() {
            self.send(slot, message.clone());
        }
    }

    /// Hands over what was gathered, as far as there is room.
    pub fn flush(&mut self) {
        self.edges.iter_mut().for_each(Edge::flush);
    }

    /// Tries again where there was no room.
    pub fn retry(&mut self) {
        self.edges.iter_mut().filter(|edge| edge.full).for_each(Edge::flush);
    }

    pub fn is_full(&self) -> bool {
        self.edges.iter().any(|edge| edge.full)
    }

    /// The queues that have no room.
    pub fn full(&self) -> impl Iterator<Item = &Sender<Message>> {
        self.edges.iter().filter(|edge| edge.full).map(|edge| &edge.queue)
    }
}

impl Edge {
    fn flush(&mut self) {
        self.full = false;
        while let Some(message) = self.kept.pop_front() {
            // Of one that is gone: the task ends, in order or with an error that somebody else has reported.
            if let Err(TrySendError::Full(message)) = self.queue.try_send(message) {
                self.kept.push_front(message);
                self.full = true;
                break;
            }
        }
    }
}
