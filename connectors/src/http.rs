//! The `http` connector: rows that others post as JSON lines.
//!
//! Promise: with `ack = 'checkpoint'` a request is answered 200 when a durable checkpoint holds its rows: they are in the
//! job's state once, whatever crashes afterwards. A request that got no answer may be in it, so whoever sends it again
//! may double its rows: at least once. With `ack = 'received'` the answer comes at once, and a crash loses what was
//! answered since the last checkpoint: at most once.
//! Invariant: one slice listens, that of the one split there is.

mod door;
mod source;

pub(crate) use door::{bind, shows};

use crate::formats::{self, JSON_TIMESTAMP_FORMAT};
use crate::{Connector, Context, Error, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef};
use jobs::Diagnostic;
use std::net::SocketAddr;

const LISTEN: OptionInfo = OptionInfo {
    name: "listen",
    kind: "address",
    default: None,
    required: true,
    doc: "where requests are taken, for example 127.0.0.1:8088; on the machine where the first task of the job runs",
};
const TOKEN: OptionInfo = OptionInfo {
    name: "token",
    kind: "text",
    default: None,
    required: false,
    doc: "what a request must show as Authorization: Bearer …; other machines are listened to only with one",
};
const ACK: OptionInfo = OptionInfo {
    name: "ack",
    kind: "checkpoint|received",
    default: Some("checkpoint"),
    required: false,
    doc: "when a request is answered 200: once a durable checkpoint holds its rows, or at once",
};
const QUEUE: OptionInfo = OptionInfo {
    name: "queue",
    kind: "size",
    default: Some("32MB"),
    required: false,
    doc: "bytes that wait to be read; beyond them requests are answered 429 with Retry-After",
};
const BAD_DATA: OptionInfo = OptionInfo {
    name: "bad_data",
    kind: "refuse|dead_letter",
    default: Some("refuse"),
    required: false,
    doc: "what becomes of a line that does not decode: its whole request is refused, telling the lines, or the line goes to \
          the dead letters",
};

static OPTIONS: [OptionInfo; 6] = [LISTEN, TOKEN, ACK, QUEUE, BAD_DATA, JSON_TIMESTAMP_FORMAT];

/// The longest request. A queue has room for one.
const MOST_REQUEST_BYTES: u64 = 8 << 20;

pub static CONNECTOR: HttpConnector = HttpConnector;

#[derive(Debug)]
pub struct HttpConnector;

#[derive(Clone)]
struct Settings {
    listen: SocketAddr,
    token: Option<String>,
    ack_checkpoint: bool,
    queue_bytes: u64,
    refuse_bad: bool,
}

/// Where a table listens, and what guards it.
pub(crate) fn address_and_token(
    options: &Options<'_>,
) -> std::result::Result<(SocketAddr, Option<String>), Diagnostic> {
    let text = options.text(LISTEN.name).unwrap_or_default();
    let listen: SocketAddr = text.parse().map_err(|_| {
        let wrong = options.wrong(LISTEN.name, format!("option 'listen' is '{text}', which is no address and port"));
        wrong.help("for example 127.0.0.1:8088")
    })?;
    let token = options.text(TOKEN.name).map(str::to_owned);
    if token.as_ref().is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(options.wrong(TOKEN.name, "option 'token' must be of visible ASCII characters"));
    }
    if token.is_none() && !listen.ip().to_canonical().is_loopback() {
        let wrong =
            options.wrong(LISTEN.name, format!("{listen} can be reached from other machines, and no token guards it"));
        return Err(wrong.help("add option 'token', or listen on 127.0.0.1"));
    }
    Ok((listen, token))
}

impl Settings {
    fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let (listen, token) = address_and_token(&options)?;
        let queue_bytes = match options.text(QUEUE.name) {
            None => 32 << 20,
            Some(text) => {
                let wrong = |why| options.wrong(QUEUE.name, format!("option 'queue' is no size: {why}"));
                (jobs::text::parse_mem_mib(text).map_err(wrong)? * f64::from(1 << 20)) as u64
            }
        };
        if queue_bytes < MOST_REQUEST_BYTES {
            return Err(options.wrong(QUEUE.name, "option 'queue' must have room for a request, which is 8MB"));
        }
        Ok(Self {
            listen,
            token,
            ack_checkpoint: options.one_of(ACK.name, &["checkpoint", "received"])? != Some("received"),
            queue_bytes,
            refuse_bad: options.one_of(BAD_DATA.name, &["refuse", "dead_letter"])? != Some("dead_letter"),
        })
    }
}

impl Connector for HttpConnector {
    fn name(&self) -> &'static str {
        "http"
    }

    fn doc(&self) -> &'static str {
        "takes rows that are posted as JSON lines"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = formats::check(table);
        wrong.extend(Settings::of(table).err());
        wrong
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        false
    }

    fn reads_fields(&self, table: &TableDef) -> bool {
        formats::reads_fields(table)
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(vec!["http".to_owned()])
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(source::HttpReader::open(table, projection, splits, Settings::of(table)?)?))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal(format!("table '{}' has connector 'http', which is only read", table.name)))
    }
}

#[cfg(test)]
mod tests;
