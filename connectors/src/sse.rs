//! The `sse` connector: rows as server-sent events (`text/event-stream`), for browsers and whoever else reads a stream over
//! HTTP.
//!
//! Promise: with `visible = 'at_once'` a row is told as soon as the query gives it; after a crash those since the last
//! checkpoint are told again under other ids. With `visible = 'checkpoint'` a row is told once a durable checkpoint holds it;
//! what is told again after a crash has the id that it had before. Events are kept for those who come back, as many as fit into
//! `keep`; who misses some is told how many.
//! Invariant: nobody who reads slowly holds up the job, or makes it keep more.

mod door;
mod events;
mod sink;

use crate::formats::{self, JSON_TIMESTAMP_FORMAT};
use crate::{
    Connector, Context, Delivery, Error, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef, Takes,
};
use jobs::Diagnostic;
use std::net::SocketAddr;

const LISTEN: OptionInfo = OptionInfo {
    name: "listen",
    kind: "address",
    default: None,
    required: true,
    doc: "where readers connect, for example 127.0.0.1:8089; each task listens there on its machine, and tells its rows",
};
const TOKEN: OptionInfo = OptionInfo {
    name: "token",
    kind: "text",
    default: None,
    required: false,
    doc: "what a request must show as Authorization: Bearer …; other machines are listened to only with one",
};
const VISIBLE: OptionInfo = OptionInfo {
    name: "visible",
    kind: "at_once|checkpoint",
    default: Some("at_once"),
    required: false,
    doc: "when a row is told: as soon as it is there, or once a durable checkpoint holds it",
};
const KEEP: OptionInfo = OptionInfo {
    name: "keep",
    kind: "size",
    default: Some("16MB"),
    required: false,
    doc: "the latest events that are kept for readers that come back (Last-Event-ID), come late (?from=earliest) or are slow",
};
const ALLOW_ORIGIN: OptionInfo = OptionInfo {
    name: "allow_origin",
    kind: "text",
    default: None,
    required: false,
    doc: "pages of this origin may read it in a browser, for example https://example.org; * is any",
};

static OPTIONS: [OptionInfo; 6] = [LISTEN, TOKEN, VISIBLE, KEEP, ALLOW_ORIGIN, JSON_TIMESTAMP_FORMAT];

pub static CONNECTOR: SseConnector = SseConnector;

#[derive(Debug)]
pub struct SseConnector;

#[derive(Clone, PartialEq, Eq)]
struct Settings {
    listen: SocketAddr,
    token: Option<String>,
    at_once: bool,
    keep_bytes: usize,
    allow_origin: Option<String>,
}

impl Settings {
    fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let (listen, token) = crate::http::address_and_token(&options)?;
        let keep_bytes = match options.text(KEEP.name) {
            None => 16 << 20,
            Some(text) => {
                let wrong = |why| options.wrong(KEEP.name, format!("option 'keep' is no size: {why}"));
                (jobs::text::parse_mem_mib(text).map_err(wrong)? * f64::from(1 << 20)) as usize
            }
        };
        let allow_origin = options.text(ALLOW_ORIGIN.name).map(str::to_owned);
        if allow_origin.as_ref().is_some_and(|origin| axum::http::HeaderValue::from_str(origin).is_err()) {
            return Err(options.wrong(ALLOW_ORIGIN.name, "option 'allow_origin' must be of visible ASCII characters"));
        }
        let at_once = options.one_of(VISIBLE.name, &["at_once", "checkpoint"])? != Some("checkpoint");
        Ok(Self { listen, token, at_once, keep_bytes, allow_origin })
    }
}

impl Connector for SseConnector {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn doc(&self) -> &'static str {
        "tells rows as server-sent events to whoever connects"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = formats::check(table);
        wrong.extend(Settings::of(table).err());
        wrong
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, table: &TableDef) -> Delivery {
        match Settings::of(table) {
            Ok(settings) if !settings.at_once => Delivery::Idempotent,
            _ => Delivery::AtLeastOnce,
        }
    }

    fn takes(&self, _table: &TableDef) -> Takes {
        Takes::Changes
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open_source(
        &self,
        table: &TableDef,
        _projection: &[usize],
        _splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Err(Error::Fatal(format!("table '{}' has connector 'sse', which cannot be read", table.name)))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(sink::SseSink::open(table, Settings::of(table)?, context)?))
    }
}

#[cfg(test)]
mod tests;
