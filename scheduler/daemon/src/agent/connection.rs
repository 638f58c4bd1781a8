//! What an agent says on its open stream to the master.

use crate::client::MESSAGE_BYTES_AIM;
use crate::convert;
use prost::Message;
use scheduler::model::{AgentCall, ConnectionId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use wire::v1;

/// The open stream to the master.
pub(super) struct Connection {
    pub id: ConnectionId,
    calls: mpsc::Sender<v1::AgentCalls>,
    /// Said since the last flush.
    said: Vec<v1::AgentCall>,
    first: bool,
    /// Dropped, it hangs up.
    _hold: oneshot::Sender<()>,
}

impl Connection {
    pub fn new(id: ConnectionId, calls: mpsc::Sender<v1::AgentCalls>, hold: oneshot::Sender<()>) -> Self {
        Self { id, calls, said: Vec::new(), first: true, _hold: hold }
    }

    pub fn say(&mut self, call: AgentCall) {
        self.said.push(convert::agent_call_to(call));
    }

    /// Queues what was said; gives its own number, if it takes no more.
    pub fn flush(&mut self) -> Option<ConnectionId> {
        let mut waiting = std::mem::take(&mut self.said).into_iter().peekable();
        while waiting.peek().is_some() {
            let mut message = v1::AgentCalls::default();
            if std::mem::take(&mut self.first) {
                message.protocol_version = wire::PROTOCOL_VERSION;
            }
            let mut bytes = 0;
            while let Some(call) = waiting.next_if(|call| bytes == 0 || bytes + call.encoded_len() <= MESSAGE_BYTES_AIM)
            {
                bytes += call.encoded_len();
                message.calls.push(call);
            }
            match self.calls.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    warn!(connection = %self.id, "the master does not take this agent's messages away; hanging up");
                    return Some(self.id);
                }
                // The stream ended, and the link is about to say so.
                Err(TrySendError::Closed(_)) => return Some(self.id),
            }
        }
        None
    }
}
