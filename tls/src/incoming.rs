//! Connections that come in at an encrypted door, once their handshake is done.
//!
//! Invariant: no caller holds up another: handshakes are made beside each other, and one that takes too long is dropped.
//! Invariant: whoever speaks plain HTTP is told in plain HTTP that this door is encrypted.

use crate::stream::Stream;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Connections whose handshake is done and that the server has not taken yet; it takes them at once.
const WAITING: usize = 64;
/// Too many open files, as a rule: they may be closed soon.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// The first byte of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

const PLAIN_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
    {\"error\": \"this door is encrypted; use https:// and --tls-ca FILE\"}\n";

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// It has shown a certificate of the CA.
    pub is_member: bool,
}

/// A listener behind which connections are encrypted.
#[derive(Debug)]
pub struct Incoming {
    address: SocketAddr,
    ready: mpsc::Receiver<(Stream, Peer)>,
}

impl Incoming {
    /// Begins to accept, in a task that ends when this is dropped.
    pub fn open(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        // One that listens has an address; without it nothing but a log line would be wrong.
        let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let (connected, ready) = mpsc::channel(WAITING);
        let acceptor = TlsAcceptor::from(config);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = connected.closed() => return,
                };
                let (tcp, address) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                };
                let (acceptor, connected) = (acceptor.clone(), connected.clone());
                tokio::spawn(async move {
                    let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, shake_hands(&acceptor, tcp, address)).await;
                    match shaken {
                        // Its receiver is gone with the server.
                        Ok(Ok(ready)) => drop(connected.send(ready).await),
                        Ok(Err(error)) => {
                            let reason = crate::explain(&error).unwrap_or_else(|| error.to_string());
                            tracing::warn!(from = %address, reason, "a connection is refused");
                        }
                        Err(_) => tracing::warn!(from = %address, "a connection did not come to a handshake"),
                    }
                });
            }
        });
        Self { address, ready }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections, in the order in which they are ready.
    pub fn into_receiver(self) -> mpsc::Receiver<(Stream, Peer)> {
        self.ready
    }

    /// The next one; nothing once nothing is accepted any more.
    pub async fn next(&mut self) -> Option<(Stream, Peer)> {
        self.ready.recv().await
    }
}

async fn shake_hands(acceptor: &TlsAcceptor, mut tcp: TcpStream, address: SocketAddr) -> io::Result<(Stream, Peer)> {
    tcp.set_nodelay(true)?;
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        // Its request is not read, so closing would reset the connection before the answer is.
        tcp.write_all(PLAIN_ANSWER.as_bytes()).await?;
        tcp.shutdown().await?;
        let mut rest = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut tcp, &mut rest).await? > 0 {}
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS"));
    }
    let stream = acceptor.accept(tcp).await?;
    let is_member = stream.get_ref().1.peer_certificates().is_some();
    Ok((Stream::Tls(Box::new(stream.into())), Peer { address, is_member }))
}
