//! The smallest HTTP client that will do.

use crate::world::PATIENCE;
use daemon::door::Token;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

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

/// Server-sent events.
pub struct Listening(BufReader<TcpStream>);

impl Listening {
    pub async fn begin(address: SocketAddr, path: &str, token: Option<&Token>) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let authorization = token.map(|token| format!("authorization: {}\r\n", token.bearer())).unwrap_or_default();
        // As of this version the body is not in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.expect("asks");
        let mut listening = Self(BufReader::new(stream));
        let mut head = String::new();
        while let Some(line) = listening.line().await.filter(|line| !line.is_empty()) {
            head.push_str(&line);
        }
        assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        listening
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a line").expect("reads");
        (n > 0).then(|| line.trim_end().to_string())
    }

    /// Its name, and what it says; `None`: there is no more.
    pub async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        let (mut name, mut data) = (String::new(), serde_json::Value::Null);
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", of)) => name = of.to_string(),
                Some(("data", json)) => data = serde_json::from_str(json).expect("JSON"),
                Some(_) => panic!("{line}"),
                None => return Some((name, data)),
            }
        }
    }
}
