//! Takes requests, and holds each until the reader says what became of it.
//!
//! Invariant: the bytes of requests that wait to be read are bounded, also those that are still coming in; what is beyond is
//! refused before it is read, with the time after which to try again.
//! Invariant: the token is never printed, and compared in a time that does not tell where it differs.

use super::{MOST_REQUEST_BYTES, Settings};
use crate::{Error, Result};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

/// Requests that wait for an answer; each holds a connection and little else.
const MOST_WAITING: u64 = 10_000;
/// What a request counts at least.
const LEAST_BYTES: u64 = 1 << 10;
/// What is read of a request that is refused.
const MOST_PASSED_OVER: usize = 64 << 20;
/// How long answers that were just given may take to leave when the door closes.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    Kept {
        rows: usize,
    },
    /// Lines that do not decode, counted from 1.
    Refused(Vec<(u64, String)>),
}

/// A request as the reader gets it.
pub struct Posted {
    pub body: Bytes,
    pub answer: oneshot::Sender<Fate>,
    /// Its place in the queue, until it was read.
    pub place: Place,
}

/// Bytes of the queue.
pub struct Place {
    queued: Arc<AtomicU64>,
    bytes: u64,
}

impl Place {
    fn take(queued: &Arc<AtomicU64>, bytes: u64, most: u64) -> Option<Self> {
        let bytes = bytes.max(LEAST_BYTES);
        let taken = queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            Some(queued + bytes).filter(|sum| *sum <= most)
        });
        taken.ok().map(|_| Self { queued: Arc::clone(queued), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Listens until it is dropped.
pub struct Door {
    pub posted: Receiver<Posted>,
    #[cfg(test)]
    pub address: SocketAddr,
    #[cfg(test)]
    queued: Arc<AtomicU64>,
    close: watch::Sender<bool>,
    runtime: Option<Runtime>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    posted: Sender<Posted>,
    queued: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
}

impl Door {
    pub fn open(settings: Settings) -> Result<Self> {
        let listen = settings.listen;
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build();
        let runtime = runtime.map_err(|why| Error::Fatal(format!("no thread for requests can be started: {why}")))?;
        let (listener, address) = runtime.block_on(bind(listen))?;
        let (sender, posted) = channel();
        let shared = Shared { settings, posted: sender, queued: Arc::default(), waiting: Arc::default() };
        #[cfg(test)]
        let queued = Arc::clone(&shared.queued);
        tracing::info!(%address, "rows are taken here");
        let router = Router::new().fallback(take).with_state(Arc::new(shared));
        let (close, mut closing) = watch::channel(false);
        let serving = runtime.spawn(async move {
            let closed = async move {
                // An error says that the door itself is gone.
                let _ = closing.wait_for(|close| *close).await;
            };
            if let Err(why) = axum::serve(listener, router).with_graceful_shutdown(closed).await {
                tracing::warn!(%why, "requests are taken no longer");
            }
        });
        Ok(Self {
            posted,
            #[cfg(test)]
            address,
            #[cfg(test)]
            queued,
            close,
            runtime: Some(runtime),
            serving: Some(serving),
        })
    }
}

impl Door {
    /// Of requests that are coming in, or wait to be read.
    #[cfg(test)]
    pub fn queued_bytes(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close.send_replace(true);
        // Those who still wait must hear that nobody reads any more, or they would keep the door open.
        let (_, nobody) = channel();
        drop(std::mem::replace(&mut self.posted, nobody));
        if let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) {
            // What has not left by then is cut off.
            let _ = runtime.block_on(async { tokio::time::timeout(CLOSES_WITHIN, serving).await });
            runtime.shutdown_background();
        }
    }
}

/// Also the address that it got. An earlier task may be about to end, so it may go better in a moment.
pub(crate) async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let unheard = |why: std::io::Error| Error::Transient(format!("{listen} cannot be listened on: {why}"));
    let listener = TcpListener::bind(listen).await.map_err(unheard)?;
    let address = listener.local_addr().map_err(unheard)?;
    Ok((listener, address))
}

async fn take(State(shared): State<Arc<Shared>>, method: Method, headers: HeaderMap, body: Body) -> Response {
    if let Some(token) = &shared.settings.token
        && !shows(&headers, token)
    {
        return (StatusCode::UNAUTHORIZED, "show the token as Authorization: Bearer …\n").into_response();
    }
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], "POST JSON lines\n").into_response();
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON lines as they are, without a content encoding\n")
            .into_response();
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MOST_REQUEST_BYTES) {
        pass_over(body).await;
        return too_large();
    }
    let Some(_waits) = Place::take(&shared.waiting, 0, MOST_WAITING * LEAST_BYTES) else {
        pass_over(body).await;
        return full();
    };
    let Some(place) = Place::take(&shared.queued, length.unwrap_or(MOST_REQUEST_BYTES), shared.settings.queue_bytes)
    else {
        pass_over(body).await;
        return full();
    };
    let body = match to_bytes(body, MOST_REQUEST_BYTES as usize).await {
        Ok(body) => body,
        Err(_) if length.is_none() => return too_large(),
        Err(why) => return (StatusCode::BAD_REQUEST, format!("the request was cut short: {why}\n")).into_response(),
    };
    let (answer, answered) = oneshot::channel();
    if shared.posted.send(Posted { body, answer, place }).is_err() {
        return gone();
    }
    match answered.await {
        Ok(Fate::Kept { rows }) => (StatusCode::OK, format!("{{\"rows\":{rows}}}\n")).into_response(),
        Ok(Fate::Refused(lines)) => {
            let lines: Vec<serde_json::Value> =
                lines.iter().map(|(line, error)| serde_json::json!({ "line": line, "error": error })).collect();
            let told = serde_json::json!({ "rows": 0, "bad": lines });
            (StatusCode::BAD_REQUEST, format!("{told}\n")).into_response()
        }
        Err(_) => gone(),
    }
}

/// Reads a body and keeps nothing of it: many clients look for an answer only once they have sent all.
async fn pass_over(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len();
        if bytes > MOST_PASSED_OVER {
            break;
        }
    }
}

fn too_large() -> Response {
    let text = format!("a request has at most {MOST_REQUEST_BYTES} bytes; send several\n");
    (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
}

fn full() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "more is waiting than is read; send it again\n")
        .into_response()
}

fn gone() -> Response {
    let text = "the job has stopped or starts again, and may or may not have these rows\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
}

pub(crate) fn shows(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let Some((_, shown)) = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else { return false };
    let (own, shown) = (token.as_bytes(), shown.trim().as_bytes());
    let mut differs = u8::from(own.len() != shown.len());
    for (at, byte) in own.iter().enumerate() {
        differs |= byte ^ shown.get(at).copied().unwrap_or(0);
    }
    std::hint::black_box(differs) == 0
}
