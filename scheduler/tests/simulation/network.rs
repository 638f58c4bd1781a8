//! Connections: in order in each direction, delayed at random, cut at any moment.
//!
//! Invariant: like TCP. Nothing is reordered, repeated or lost within a connection; when it is cut, all that was on
//! its way is lost, and each side learns of it in its own time.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scheduler::model::{AgentCall, AgentOrder, ConnectionId, FrameworkCall, FrameworkEvent};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Agent(usize),
    Framework(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Peer,
    Master,
}

#[derive(Clone, Debug)]
pub enum Message {
    FromAgent(AgentCall),
    FromFramework(FrameworkCall),
    Order(AgentOrder),
    Event(FrameworkEvent),
    /// The other side closed it.
    End,
}

#[derive(Debug)]
struct Line {
    peer: Peer,
    is_cut: bool,
    peer_open: bool,
    master_open: bool,
    /// When the latest message of each direction arrives.
    to_peer_ms: u64,
    to_master_ms: u64,
}

#[derive(Debug, Default)]
pub struct Network {
    lines: BTreeMap<ConnectionId, Line>,
    opened: u64,
}

impl Network {
    pub fn open(&mut self, peer: Peer) -> ConnectionId {
        self.opened += 1;
        let connection = ConnectionId(self.opened);
        let line = Line { peer, is_cut: false, peer_open: true, master_open: true, to_peer_ms: 0, to_master_ms: 0 };
        self.lines.insert(connection, line);
        connection
    }

    pub fn peer(&self, connection: ConnectionId) -> Peer {
        self.lines[&connection].peer
    }

    /// When a message sent now arrives, unless it is lost.
    pub fn send(&mut self, rng: &mut ChaCha8Rng, now_ms: u64, connection: ConnectionId, to: Side) -> Option<u64> {
        let line = self.lines.get_mut(&connection)?;
        if line.is_cut {
            return None;
        }
        let delay_ms = if rng.random_bool(0.05) { rng.random_range(100..2_000) } else { rng.random_range(0..30) };
        let last_ms = match to {
            Side::Peer => &mut line.to_peer_ms,
            Side::Master => &mut line.to_master_ms,
        };
        *last_ms = (*last_ms).max(now_ms + delay_ms);
        Some(*last_ms)
    }

    /// Whether what arrives now is heard.
    pub fn hears(&self, connection: ConnectionId, side: Side) -> bool {
        self.lines.get(&connection).is_some_and(|line| !line.is_cut && line.is_open(side))
    }

    pub fn is_open(&self, connection: ConnectionId, side: Side) -> bool {
        self.lines.get(&connection).is_some_and(|line| line.is_open(side))
    }

    /// One side has no use for it any more.
    pub fn leave(&mut self, connection: ConnectionId, side: Side) {
        if let Some(line) = self.lines.get_mut(&connection) {
            match side {
                Side::Peer => line.peer_open = false,
                Side::Master => line.master_open = false,
            }
            if !line.peer_open && !line.master_open {
                self.lines.remove(&connection);
            }
        }
    }

    pub fn cut(&mut self, connection: ConnectionId) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.is_cut = true;
        }
    }

    /// Those that work, of one peer or of all.
    pub fn working(&self, of: Option<Peer>) -> Vec<ConnectionId> {
        let lines = self.lines.iter().filter(|(_, line)| !line.is_cut && of.is_none_or(|peer| peer == line.peer));
        lines.map(|(connection, _)| *connection).collect()
    }

    /// Those that a side still holds, working or not.
    pub fn held(&self, side: Side, of: Option<Peer>) -> Vec<ConnectionId> {
        let lines = self.lines.iter().filter(|(_, line)| line.is_open(side) && of.is_none_or(|peer| peer == line.peer));
        lines.map(|(connection, _)| *connection).collect()
    }
}

impl Line {
    fn is_open(&self, side: Side) -> bool {
        match side {
            Side::Peer => self.peer_open,
            Side::Master => self.master_open,
        }
    }
}
