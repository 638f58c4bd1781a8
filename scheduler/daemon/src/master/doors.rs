//! The master's doors: the streams of agents, frameworks and those who watch, and the state call over gRPC, `/health`,
//! `/metrics` and `/events` over HTTP, all on one port.
//!
//! Invariant: a connection's messages reach the owner in order, and its first one carries a protocol version that this
//! master speaks. A connection that sends what cannot be understood is ended with the field's name; no other is touched.

use super::owner::{Input, Outbox, cut};
use super::watchers::{self, BEHIND, Line, Told};
use super::{events, metrics};
use crate::client::{KEEPALIVE, MESSAGE_BYTES_MAX};
use crate::convert::{self, Malformed};
use crate::door::{self, Guard, Token};
use crate::encrypted;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as Answer, Sse};
use axum::routing::get;
use scheduler::model::ConnectionId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};
use wire::v1;
use wire::v1::master_server::{Master, MasterServer};

/// Messages that wait for one peer to take them away. A turn of the owner makes one message per peer, so a peer that
/// has a thousand waiting has not read for a thousand turns: it hangs, and must not hold memory for ever.
const OUTBOX_MESSAGES: usize = 1024;

pub(super) async fn serve(
    listener: TcpListener,
    token: Option<Token>,
    heartbeat_ms: u64,
    inputs: mpsc::Sender<Input>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let doors = Doors { inputs, heartbeat_ms, next_connection: Arc::new(AtomicU64::new(1)) };
    let master = MasterServer::new(doors.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let grpc = Routes::new(InterceptedService::new(master, Guard::new(token.clone())));
    let http = axum::Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/metrics", get(in_numbers))
        .route("/events", get(as_events))
        .with_state(doors)
        .layer(axum::middleware::from_fn_with_state(token, door::require_token));
    let routes = Routes::from(grpc.into_axum_router().merge(http));
    let server = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(routes);
    let stopped = async move {
        // An error means that the handle of this master is gone, which stops it too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    match tls::door(true) {
        None => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming_shutdown(incoming, stopped).await
        }
        Some(config) => server.serve_with_incoming_shutdown(encrypted::incoming(listener, config), stopped).await,
    }
}

async fn in_numbers(State(doors): State<Doors>) -> Answer {
    let (answer, summary) = oneshot::channel();
    let asked = doors.inputs.send(Input::Summary(answer)).await;
    match (asked, summary.await) {
        (Ok(()), Ok((summary, turns))) => {
            let mut families = crate::metrics::process("master");
            families.extend(metrics::families(&summary, turns));
            crate::metrics::answer(&families)
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the master is stopping\n").into_response(),
    }
}

async fn as_events(State(doors): State<Doors>) -> Answer {
    let heartbeat_ms = doors.heartbeat_ms;
    let words = move |told| events::events(told, heartbeat_ms);
    match doors.line().await {
        Ok(line) => Sse::new(watchers::spoken(line, heartbeat_ms, words)).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the master is stopping\n").into_response(),
    }
}

/// What a watcher is told, as messages.
fn messages(told: Vec<Told>, heartbeat_ms: u64) -> Vec<Result<v1::ClusterEvents, Status>> {
    if told.is_empty() {
        return vec![Ok(v1::ClusterEvents::default())];
    }
    let (mut first, mut changes, mut last) = (None, Vec::new(), None);
    for told in told {
        match told {
            Told::Snapshot(snapshot) => {
                first = Some(Ok(convert::snapshot_to(snapshot.view, snapshot.number, heartbeat_ms)));
            }
            Told::Change(noted) => changes.push(convert::noted_to(Arc::unwrap_or_clone(noted))),
            Told::Behind => last = Some(Err(Status::resource_exhausted(BEHIND))),
        }
    }
    let lists = cut(&mut changes).into_iter();
    let lists = lists.map(|events| Ok(v1::ClusterEvents { events, ..v1::ClusterEvents::default() }));
    first.into_iter().chain(lists).chain(last).collect()
}

#[derive(Clone)]
struct Doors {
    inputs: mpsc::Sender<Input>,
    /// Those who watch hear something so often.
    heartbeat_ms: u64,
    next_connection: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Master for Doors {
    type AgentStream = ReceiverStream<Result<v1::AgentOrders, Status>>;
    type FrameworkStream = ReceiverStream<Result<v1::FrameworkEvents, Status>>;
    type WatchStream = ReceiverStream<Result<v1::ClusterEvents, Status>>;

    async fn agent(&self, request: Request<Streaming<v1::AgentCalls>>) -> Result<Response<Self::AgentStream>, Status> {
        let (queue, outgoing) = mpsc::channel(OUTBOX_MESSAGES);
        let outbox = Outbox::Agent { said: Vec::new(), queue };
        self.open(outbox, request.into_inner(), |connection, first, message: v1::AgentCalls| {
            if first {
                convert::check_version(message.protocol_version)?;
            }
            Ok(Input::AgentSaid(connection, convert::agent_calls_from(message.calls)?))
        })
        .await?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn framework(
        &self,
        request: Request<Streaming<v1::FrameworkCalls>>,
    ) -> Result<Response<Self::FrameworkStream>, Status> {
        let (queue, outgoing) = mpsc::channel(OUTBOX_MESSAGES);
        let outbox = Outbox::Framework { said: Vec::new(), queue };
        self.open(outbox, request.into_inner(), |connection, first, message: v1::FrameworkCalls| {
            if first {
                convert::check_version(message.protocol_version)?;
            }
            Ok(Input::FrameworkSaid(connection, convert::framework_calls_from(message.calls)?))
        })
        .await?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn state(&self, _: Request<v1::StateRequest>) -> Result<Response<v1::StateResponse>, Status> {
        let (answer, view) = oneshot::channel();
        self.inputs.send(Input::View(answer)).await.map_err(|_| stopping())?;
        let view = view.await.map_err(|_| stopping())?;
        Ok(Response::new(convert::view_to(view)))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        convert::check_version(request.into_inner().protocol_version)?;
        let (line, heartbeat_ms) = (self.line().await?, self.heartbeat_ms);
        Ok(Response::new(watchers::spoken(line, heartbeat_ms, move |told| messages(told, heartbeat_ms))))
    }

    async fn operate(&self, request: Request<v1::OperateRequest>) -> Result<Response<v1::OperateResponse>, Status> {
        let call = convert::operator_call_from(request.into_inner())?;
        let (answer, answered) = oneshot::channel();
        self.inputs.send(Input::Operate(call, answer)).await.map_err(|_| stopping())?;
        match answered.await.map_err(|_| stopping())? {
            Ok(warnings) => Ok(Response::new(v1::OperateResponse { warnings })),
            Err(refusal) => Err(Status::failed_precondition(refusal)),
        }
    }
}

impl Doors {
    /// A line to the owner for one more who watches.
    async fn line(&self) -> Result<Line, Status> {
        let (caller, line) = watchers::line();
        self.inputs.send(Input::Watch(caller)).await.map_err(|_| stopping())?;
        Ok(line)
    }

    /// Tells the owner of a new connection and begins to read it.
    async fn open<M: Send + 'static>(
        &self,
        outbox: Outbox,
        messages: Streaming<M>,
        understand: fn(ConnectionId, bool, M) -> Result<Input, Malformed>,
    ) -> Result<(), Status> {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let (hold, released) = oneshot::channel();
        self.inputs.send(Input::Opened(connection, outbox, hold)).await.map_err(|_| stopping())?;
        tokio::spawn(read(connection, messages, understand, self.inputs.clone(), released));
        Ok(())
    }
}

async fn read<M>(
    connection: ConnectionId,
    mut messages: Streaming<M>,
    understand: fn(ConnectionId, bool, M) -> Result<Input, Malformed>,
    inputs: mpsc::Sender<Input>,
    mut released: oneshot::Receiver<()>,
) {
    let mut first = true;
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            // The owner hung up.
            _ = &mut released => return,
        };
        let input = match message {
            Ok(Some(message)) => understand(connection, first, message)
                .unwrap_or_else(|malformed| Input::Malformed(connection, malformed.into())),
            Ok(None) => Input::Closed(connection),
            // Bytes that are no message of ours, or too many of them; all other errors are broken connections.
            Err(status) if matches!(status.code(), Code::Internal | Code::OutOfRange) => {
                Input::Malformed(connection, Status::invalid_argument(status.message()))
            }
            Err(_) => Input::Closed(connection),
        };
        first = false;
        let last = matches!(input, Input::Malformed(..) | Input::Closed(_));
        if inputs.send(input).await.is_err() || last {
            return;
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("the master is stopping")
}
