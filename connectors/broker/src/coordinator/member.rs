//! One member of a group, as it described itself.

use super::groups::Ticket;
use bytes::Bytes;

/// Name of a way to share partitions out, and what the member says for it.
pub type Protocol = (String, Bytes);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// A name that survives the member's restarts, if it has one.
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_ms: u64,
    pub rebalance_ms: u64,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// When it is taken for dead unless it is heard of.
    pub expires_ms: u64,
    /// Its request to join that waits for the others.
    pub joining: Option<Ticket>,
    /// Its request for an assignment that waits for the leader.
    pub syncing: Option<Ticket>,
}

impl Member {
    pub fn heard(&mut self, now_ms: u64) {
        self.expires_ms = now_ms + self.session_ms;
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// A member that waits for an answer is there; its client sends no heartbeats meanwhile.
    pub fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}
