//! The agent's link to the master: connects, again and again, and passes on what the master says.
//!
//! Invariant: one connection at a time. A new one is opened only after the owner was told that the last one is closed.
//! Invariant: the log says once that the master cannot be reached, and why, and once that it is there again.

use crate::client::{self, Backoff, ClientError};
use crate::convert;
use crate::door::Token;
use scheduler::model::{AgentOrder, ConnectionId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{info, warn};
use wire::v1;

/// Messages waiting to be sent; each carries a list. An agent says little (heartbeats, updates), so if this many wait
/// the connection hangs, and a new one begins with the whole state anyway.
const QUEUE_MESSAGES: usize = 128;

pub(super) enum Input {
    /// Registers now. Dropping `hold` hangs up.
    Connected {
        connection: ConnectionId,
        calls: mpsc::Sender<v1::AgentCalls>,
        hold: oneshot::Sender<()>,
    },
    Said(ConnectionId, Vec<AgentOrder>),
    Closed(ConnectionId),
}

/// Runs until the owner is gone.
pub(super) async fn run(address: String, token: Option<Token>, inputs: mpsc::Sender<Input>) {
    let mut backoff = Backoff::default();
    let mut trouble: Option<String> = None;
    let mut was_connected = false;
    for number in 1.. {
        let connection = ConnectionId(number);
        match open(&address, token.clone()).await {
            Ok((calls, mut orders)) => {
                let (hold, mut released) = oneshot::channel();
                if inputs.send(Input::Connected { connection, calls, hold }).await.is_err() {
                    return;
                }
                let ended = loop {
                    let message = tokio::select! {
                        message = orders.message() => message,
                        _ = &mut released => break "the agent hung up".to_string(),
                    };
                    let said = match message {
                        Ok(Some(message)) => convert::agent_orders_from(message.orders),
                        Ok(None) => break "the master hung up".to_string(),
                        Err(status) => break status.message().to_string(),
                    };
                    let orders = match said {
                        Ok(orders) => orders,
                        Err(malformed) => break format!("malformed message: {malformed}"),
                    };
                    if trouble.take().is_some() || !was_connected {
                        was_connected = true;
                        info!(master = address, "connected to the master");
                    }
                    backoff.reset();
                    if inputs.send(Input::Said(connection, orders)).await.is_err() {
                        return;
                    }
                };
                if trouble.as_ref() != Some(&ended) {
                    warn!(master = address, reason = ended, "connection to the master ended; trying again");
                    trouble = Some(ended);
                }
                if inputs.send(Input::Closed(connection)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let text = client::chain(&error);
                if trouble.as_ref() != Some(&text) {
                    warn!(error = text, "cannot reach the master; trying again");
                    trouble = Some(text);
                }
            }
        }
        backoff.wait().await;
    }
}

type Opened = (mpsc::Sender<v1::AgentCalls>, Streaming<v1::AgentOrders>);

async fn open(address: &str, token: Option<Token>) -> Result<Opened, ClientError> {
    let mut master = client::master(address, token).await?;
    let (calls, queue) = mpsc::channel(QUEUE_MESSAGES);
    let response = master.agent(ReceiverStream::new(queue)).await;
    let orders = response.map_err(|status| ClientError::refused(address, status))?.into_inner();
    Ok((calls, orders))
}
