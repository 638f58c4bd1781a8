//! Where readers connect: one door for all slices of a task that write a table.
//!
//! Invariant: when the last of them has gone, every reader has heard what is kept, or had a second for it.

use super::Settings;
use super::events::{Events, Next};
use crate::http::{bind, shows};
use crate::{Error, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A connection on which nothing happens says so, or what is between would end it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

pub struct Door {
    pub events: Arc<Events>,
    table: String,
    settings: Settings,
    #[cfg(test)]
    pub address: SocketAddr,
    runtime: Option<Runtime>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

struct Shared {
    events: Arc<Events>,
    settings: Settings,
}

/// Those of this process.
static DOORS: Mutex<Option<HashMap<SocketAddr, Weak<Door>>>> = Mutex::new(None);

impl Door {
    /// The one of this table, which other slices may have opened already.
    pub fn of(table: &str, settings: &Settings) -> Result<Arc<Self>> {
        let mut doors = DOORS.lock().unwrap_or_else(PoisonError::into_inner);
        let doors = doors.get_or_insert_default();
        let listen = settings.listen;
        if let Some(there) = doors.get(&listen).and_then(Weak::upgrade).filter(|_| listen.port() != 0) {
            return match there.table == table && there.settings == *settings {
                true => Ok(there),
                false => Err(Error::Fatal(format!(
                    "table '{table}' would be told at {listen}, where table '{}' is; give each an address of its own",
                    there.table
                ))),
            };
        }
        let door = Arc::new(Self::open(table, settings.clone())?);
        doors.insert(listen, Arc::downgrade(&door));
        doors.retain(|_, door| door.strong_count() > 0);
        Ok(door)
    }

    fn open(table: &str, settings: Settings) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("sse").enable_all().build();
        let runtime = runtime.map_err(|why| Error::Fatal(format!("no thread for readers can be started: {why}")))?;
        let (listener, address) = runtime.block_on(bind(settings.listen))?;
        tracing::info!(%address, table, "rows are told here");
        let events = Arc::new(Events::new(settings.keep_bytes));
        let shared = Shared { events: Arc::clone(&events), settings: settings.clone() };
        let router = Router::new().fallback(listen).with_state(Arc::new(shared));
        let mut over = events.subscribe();
        let serving = runtime.spawn(async move {
            let closed = async move {
                // An error says that the door itself is gone.
                let _ = over.wait_for(|(_, is_over)| *is_over).await;
            };
            if let Err(why) = axum::serve(listener, router).with_graceful_shutdown(closed).await {
                tracing::warn!(%why, "rows are told no longer");
            }
        });
        Ok(Self {
            events,
            table: table.to_owned(),
            settings,
            #[cfg(test)]
            address,
            runtime: Some(runtime),
            serving: Some(serving),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.events.close();
        if let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) {
            // What has not left by then is cut off.
            let _ = runtime.block_on(async { tokio::time::timeout(CLOSES_WITHIN, serving).await });
            runtime.shutdown_background();
        }
    }
}

async fn listen(State(shared): State<Arc<Shared>>, method: Method, headers: HeaderMap, uri: Uri) -> Response {
    let settings = &shared.settings;
    let origin = settings.allow_origin.as_deref().and_then(|origin| HeaderValue::from_str(origin).ok());
    let allowed = |mut response: Response| {
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let asked = HeaderValue::from_static("authorization, last-event-id");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        response
    };
    if method == Method::OPTIONS {
        return allowed(StatusCode::NO_CONTENT.into_response());
    }
    if settings.token.as_ref().is_some_and(|token| !shows(&headers, token)) {
        return allowed((StatusCode::UNAUTHORIZED, "show the token as Authorization: Bearer …\n").into_response());
    }
    if method != Method::GET {
        let allow = [(header::ALLOW, "GET, OPTIONS")];
        return allowed((StatusCode::METHOD_NOT_ALLOWED, allow, "GET the events\n").into_response());
    }
    let events = &shared.events;
    let place = match headers.get("last-event-id").and_then(|id| id.to_str().ok()) {
        Some(id) => events.after(id),
        None if uri.query().is_some_and(|query| query.split('&').any(|part| part == "from=earliest")) => {
            events.earliest()
        }
        None => events.latest(),
    };
    let told = futures::stream::unfold(
        (Arc::clone(events), place, events.subscribe()),
        |(events, mut place, mut news)| async move {
            loop {
                match events.next(&mut place) {
                    Next::Text(text) => return Some((Ok::<Bytes, Infallible>(text), (events, place, news))),
                    Next::End => return None,
                    Next::Nothing => {}
                }
                let seen = *news.borrow_and_update();
                // What came between the two looks is not waited for.
                if seen.0 > place || seen.1 {
                    continue;
                }
                if tokio::time::timeout(SIGN_OF_LIFE, news.changed()).await.is_err() {
                    return Some((Ok(Bytes::from_static(b":\n\n")), (events, place, news)));
                }
            }
        },
    );
    let kind = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Nginx would hold them back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    allowed((kind, Body::from_stream(told)).into_response())
}
