//! How others reach the master: the channel, the waits between tries, and the framework's side of its stream.
//!
//! Invariant: a peer that vanished without closing its connection is noticed within [`KEEPALIVE`] twice.
//! Knows nothing of what a framework wants; whoever holds a [`FrameworkClient`] connects again when its stream ends.

use crate::door::{ShowToken, Token};
use hyper_util::rt::TokioIo;
use rand::Rng;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use wire::v1;
use wire::v1::framework_call::Call;
use wire::v1::framework_event::Event;
use wire::v1::master_client::MasterClient;

/// How often a silent peer is pinged, and how long it has to answer.
pub const KEEPALIVE: Duration = Duration::from_secs(5);

/// A register call lists every task with its plan; a message larger than this is a mistake or an attack, and would
/// only hold the memory of a daemon.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Lists are cut into messages of about this size.
pub const MESSAGE_BYTES_AIM: usize = 4 << 20;

/// Messages waiting to be sent to the master. Each carries a list, so a hundred of them hold what a busy framework
/// says in seconds; who fills it waits.
const QUEUE_MESSAGES: usize = 128;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub type Master = MasterClient<InterceptedService<Channel, ShowToken>>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("reach the master at {address}: not an address of the form host:port")]
    Address { address: String },
    #[error("reach the master at {address}")]
    Connect {
        address: String,
        #[source]
        source: Box<tonic::transport::Error>,
    },
    /// It answered, and one end does not trust the other, or does not encrypt.
    #[error("reach the master at {address}: {reason}")]
    Untrusted { address: String, reason: String },
    /// The master answered, and said no.
    #[error("talk to the master at {address}: {}", status.message())]
    Refused { address: String, status: Box<Status> },
    /// The stream ended: the master stopped, or the connection broke.
    #[error("talk to the master at {address}: the stream ended")]
    Ended { address: String },
}

impl ClientError {
    pub(crate) fn refused(address: &str, status: Status) -> Self {
        // A server that does not take a certificate says so only after the handshake.
        if let Some(reason) = tls::explain(&status) {
            return Self::Untrusted { address: address.to_string(), reason };
        }
        Self::Refused { address: address.to_string(), status: Box::new(status) }
    }

    /// Whether the same attempt may succeed later. A wrong token or a message that the master does not understand
    /// stays wrong.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Address { .. } => false,
            Self::Connect { .. } | Self::Untrusted { .. } | Self::Ended { .. } => true,
            Self::Refused { status, .. } => !matches!(
                status.code(),
                Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
            ),
        }
    }
}

/// Opens a connection to `address` (`host:port`), once.
pub async fn connect(address: &str) -> Result<Channel, ClientError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ClientError::Address { address: address.to_string() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let connected = match tls::process() {
        None => endpoint.connect().await,
        Some(tls) => {
            let to = address.to_string();
            let connector = tower::service_fn(move |_: tonic::transport::Uri| {
                let to = to.clone();
                async move { tls::connect(Some(tls), &to).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        }
    };
    connected.map_err(|source| match tls::explain(&source) {
        Some(reason) => ClientError::Untrusted { address: address.to_string(), reason },
        None => ClientError::Connect { address: address.to_string(), source: Box::new(source) },
    })
}

/// A client of the master, over one connection.
pub async fn master(address: &str, token: Option<Token>) -> Result<Master, ClientError> {
    let channel = connect(address).await?;
    Ok(MasterClient::with_interceptor(channel, ShowToken::new(token))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// An error with all that caused it, on one line, for a log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat the cause in their own text.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Waits between tries: from 50 ms doubling to 5 s, each shortened by up to half at random, so that a thousand agents
/// do not all come back in the same instant.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MOST: Duration = Duration::from_secs(5);

    /// To be called once something worked.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    pub async fn wait(&mut self) {
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(Self::MOST);
        tokio::time::sleep(wait).await;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

/// The speaking half of a framework's stream. Dropping all clones ends it.
#[derive(Clone, Debug)]
pub struct FrameworkClient {
    address: String,
    calls: mpsc::Sender<v1::FrameworkCalls>,
}

/// The hearing half.
#[derive(Debug)]
pub struct FrameworkEvents {
    address: String,
    waiting: VecDeque<Event>,
    events: Streaming<v1::FrameworkEvents>,
}

/// What a subscription gives.
#[derive(Debug)]
pub struct Subscription {
    pub client: FrameworkClient,
    pub events: FrameworkEvents,
    pub subscribed: v1::Subscribed,
}

impl FrameworkClient {
    /// Connects and subscribes, once; ready when the master has answered with the framework's id.
    pub async fn subscribe(
        address: &str,
        token: Option<Token>,
        subscribe: v1::Subscribe,
    ) -> Result<Subscription, ClientError> {
        let mut master = master(address, token).await?;
        let (calls, queue) = mpsc::channel(QUEUE_MESSAGES);
        let client = Self { address: address.to_string(), calls };
        let first = v1::FrameworkCalls {
            protocol_version: wire::PROTOCOL_VERSION,
            calls: vec![v1::FrameworkCall { call: Some(Call::Subscribe(subscribe)) }],
        };
        client.push(first).await?;
        let response = master.framework(ReceiverStream::new(queue)).await;
        let events = response.map_err(|status| ClientError::refused(address, status))?.into_inner();
        let mut events = FrameworkEvents { address: address.to_string(), waiting: VecDeque::new(), events };
        loop {
            match events.next().await? {
                Event::Subscribed(subscribed) => return Ok(Subscription { client, events, subscribed }),
                Event::Error(v1::FrameworkError { message }) => {
                    return Err(ClientError::refused(address, Status::failed_precondition(message)));
                }
                Event::Heartbeat(_)
                | Event::Offer(_)
                | Event::Rescind(_)
                | Event::Update(_)
                | Event::Drains(_)
                | Event::Preempted(_)
                | Event::Expired(_)
                | Event::Operated(_)
                | Event::VolumesAt(_) => {}
            }
        }
    }

    /// Says all of `calls` in one message. Returns when it is queued; waits while the master does not keep up.
    pub async fn send(&self, calls: Vec<Call>) -> Result<(), ClientError> {
        let calls = calls.into_iter().map(|call| v1::FrameworkCall { call: Some(call) }).collect();
        self.push(v1::FrameworkCalls { protocol_version: 0, calls }).await
    }

    async fn push(&self, calls: v1::FrameworkCalls) -> Result<(), ClientError> {
        let sent = self.calls.send(calls).await;
        sent.map_err(|_| ClientError::Ended { address: self.address.clone() })
    }
}

impl FrameworkEvents {
    /// The next event; an error when the stream is over. May be dropped and called again without losing any.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            match self.events.message().await {
                Ok(Some(message)) => self.waiting.extend(message.events.into_iter().filter_map(|event| event.event)),
                Ok(None) => return Err(ClientError::Ended { address: self.address.clone() }),
                Err(status) => return Err(ClientError::refused(&self.address, status)),
            }
        }
    }
}
