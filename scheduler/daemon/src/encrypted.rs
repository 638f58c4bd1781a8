//! Doors whose connections are encrypted, for axum's server and for tonic's.
//!
//! Invariant: which door asks for a certificate is the door's matter ([`tls::door`]); here it is only passed on who showed
//! one.

use axum::extract::{ConnectInfo, Request, connect_info::Connected};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tls::{Incoming, Peer, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// A listener for axum.
#[derive(Debug)]
pub struct Encrypted(Incoming);

impl Encrypted {
    pub fn open(listener: TcpListener, config: Arc<tls::ServerConfig>) -> Self {
        Self(Incoming::open(listener, config))
    }
}

impl axum::serve::Listener for Encrypted {
    type Io = Stream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Stream, Peer) {
        match self.0.next().await {
            Some(accepted) => accepted,
            // The accepting task goes on for as long as this is there.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.0.address(), is_member: false })
    }
}

/// Whether whoever made a request showed a certificate of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    is_member: bool,
}

impl Connected<IncomingStream<'_, Encrypted>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Encrypted>) -> Self {
        Self { is_member: stream.remote_addr().is_member }
    }
}

/// As axum middleware of gRPC services behind a door that is open to everybody: only members come to these.
pub async fn members_only(request: Request, next: Next) -> Response {
    match request.extensions().get::<ConnectInfo<Caller>>() {
        Some(ConnectInfo(caller)) if !caller.is_member => {
            let refused = "only members of the cluster may ask this; give --tls-cert and --tls-key";
            Status::unauthenticated(refused).into_http()
        }
        _ => next.run(request).await,
    }
}

/// A connection as tonic's server takes it.
pub struct Connection(Stream);

/// What comes in, for tonic's server.
pub fn incoming(
    listener: TcpListener,
    config: Arc<tls::ServerConfig>,
) -> impl tokio_stream::Stream<Item = io::Result<Connection>> {
    let incoming = Incoming::open(listener, config);
    ReceiverStream::new(incoming.into_receiver()).map(|(stream, _)| Ok(Connection(stream)))
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
