//! The smallest HTTP client that will do.

use daemon::door::Token;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status, head in lower case, body.
pub async fn get(address: SocketAddr, path: &str, token: Option<&Token>) -> (u16, String, String) {
    get_as(address, &address.to_string(), path, token).await
}

/// The same from a host of this name.
pub async fn get_as(address: SocketAddr, host: &str, path: &str, token: Option<&Token>) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let authorization = token.map(|token| format!("authorization: {}\r\n", token.bearer())).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.expect("asks");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("is answered");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_string())
}
