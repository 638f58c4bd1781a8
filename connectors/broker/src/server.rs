//! Connections: requests come in, are checked, and are answered one after another.
//!
//! Invariant: the requests of one connection are answered in their order, and one at a time; bytes that are no request
//! close the connection, and nothing else.

mod apis;
mod configs;
mod describe;
mod fetch;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
mod produce;
mod shape;
mod topics;
mod transactions;

#[cfg(test)]
mod tests;

use crate::node::Node;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// More than any development machine's jobs hold; each costs a file and some memory.
const CONNECTIONS_MAX: usize = 1_000;
/// As in Kafka (`socket.request.max.bytes`).
const REQUEST_BYTES_MAX: usize = 100 << 20;
/// What is read ahead while a request is worked on; after that the sender waits.
const AHEAD_BYTES: usize = 64 << 10;
/// Room for most requests.
const FIRST_BYTES: usize = 4 << 10;

/// Takes connections until told to stop; then all of them end.
pub async fn accept(listener: TcpListener, node: Arc<Node>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, peer)) if connections.len() < CONNECTIONS_MAX => {
                let node = Arc::clone(&node);
                connections.spawn(async move {
                    match serve(stream, peer, &node).await {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                            tracing::warn!(%peer, %error, "connection closed");
                        }
                        Err(error) => tracing::debug!(%peer, %error, "connection lost"),
                    }
                });
            }
            Ok((_, peer)) => tracing::warn!(%peer, "refused: there are {CONNECTIONS_MAX} connections already"),
            Err(error) => {
                // No files left, mostly; connections that end give some back.
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    connections.shutdown().await;
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, node: &Node) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut buffer = BytesMut::new();
    loop {
        if buffer.is_empty() {
            // Lets go of the last request, which may have been large.
            buffer = BytesMut::with_capacity(FIRST_BYTES);
        }
        let Some(request) = next_request(&mut reader, &mut buffer).await? else { return Ok(()) };
        let answering = apis::answer(node, peer, request);
        tokio::pin!(answering);
        let answer = loop {
            tokio::select! {
                answer = &mut answering => break answer?,
                read = reader.read_buf(&mut buffer), if buffer.len() < AHEAD_BYTES => {
                    // Gone while it waited: so is its request.
                    if read? == 0 {
                        return Ok(());
                    }
                }
            }
        };
        if let Some(answer) = answer {
            writer.write_all(&answer).await?;
        }
    }
}

/// The next request without its length; none at the end.
async fn next_request(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    while buffer.len() < 4 {
        if reader.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
    let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
    let length =
        usize::try_from(length).ok().filter(|length| (apis::HEADER_BYTES_MIN..=REQUEST_BYTES_MAX).contains(length));
    let Some(length) = length else {
        return Err(invalid("these bytes are not Kafka's protocol"));
    };
    while buffer.len() < apis::HEADER_BYTES_MIN + 4 {
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    apis::check_length(&buffer[4..], length)?;
    while buffer.len() < length + 4 {
        // Only as much as has come, and the same again, whatever the length says.
        buffer.reserve((length + 4 - buffer.len()).min(buffer.len().max(AHEAD_BYTES)));
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}
