//! Speaks HTTP with the table store.
//!
//! Invariant: an answer that may be another one later (no answer, an error of the server) is transient and names the
//! address; a refusal is fatal and carries the store's own words.
//! Blocks; must not be used on a thread that drives async tasks.

use crate::{Context, Error, Result};
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamWriter;
use reqwest::blocking::{Client as HttpClient, RequestBuilder, Response};
use reqwest::{StatusCode, Url};
use std::time::Duration;

/// Covers a commit of a full part to a slow disk; a store that needs longer is as good as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub struct Client {
    http: HttpClient,
    endpoint: String,
    table: String,
    url: Url,
    token: Option<String>,
}

/// What names a commit to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitName<'a> {
    pub job: &'a str,
    pub writer: &'a str,
    pub generation: u64,
    pub epoch: u64,
    pub part: u64,
}

impl Client {
    pub fn new(table: &str, context: &Context) -> Result<Self> {
        let endpoint = context.tables_endpoint.clone().ok_or_else(|| {
            Error::Fatal(format!(
                "table '{table}' has no connector, and there is no table store to keep it; \
                 give it a connector WITH (connector = '…') or run it where a table store is"
            ))
        })?;
        let wrong = |why: String| Error::Fatal(format!("'{endpoint}' is no address of a table store: {why}"));
        let mut url = Url::parse(&endpoint).map_err(|why| wrong(why.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| wrong("it has no path".to_owned()))?
            .pop_if_empty()
            .extend(["tables", table]);
        let http = HttpClient::builder().connect_timeout(CONNECT_WITHIN).timeout(None).no_proxy();
        let http = match tls::http_client() {
            Some(config) => http.use_preconfigured_tls(config),
            None => http,
        };
        let http = http
            .build()
            .map_err(|why| Error::Fatal(format!("no HTTP client for the table store can be made: {why}")))?;
        Ok(Self { http, endpoint, table: table.to_owned(), url, token: context.token.clone() })
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// Makes the table, or finds it already made alike.
    pub fn create(&self, schema: &Schema, primary_key: &[usize]) -> Result<()> {
        let body = StreamWriter::try_new(Vec::new(), schema)
            .and_then(StreamWriter::into_inner)
            .map_err(|why| Error::Fatal(format!("the schema of table '{}' cannot be sent: {why}", self.table)))?;
        let key: Vec<String> = primary_key.iter().map(usize::to_string).collect();
        let request = self.http.put(self.url.clone()).query(&[("key", key.join(","))]);
        self.send(request.timeout(ANSWER_WITHIN).body(body)).map(|_| ())
    }

    /// Has rows applied, unless they were before. `body` is an Arrow IPC stream, of `changes` with a column of weights
    /// behind the table's.
    pub fn commit(&self, name: &CommitName<'_>, changes: bool, body: Vec<u8>) -> Result<()> {
        let numbers = [("generation", name.generation), ("epoch", name.epoch), ("part", name.part)];
        let request = self
            .http
            .post(self.below("commits"))
            .query(&[("job", name.job), ("writer", name.writer)])
            .query(&numbers)
            .query(&[("changes", changes)])
            .timeout(ANSWER_WITHIN)
            .body(body);
        self.send(request).map(|_| ())
    }

    /// The rows from `offset` on, as an Arrow IPC stream that is read while it comes.
    pub fn rows(&self, columns: Option<&str>, offset: u64) -> Result<Response> {
        let mut request = self.http.get(self.below("rows")).query(&[("offset", offset)]);
        if let Some(columns) = columns {
            request = request.query(&[("columns", columns)]);
        }
        let response = self.send(request)?;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE).map(|kind| kind.as_bytes());
        if kind != Some(ARROW_STREAM.as_bytes()) {
            return Err(Error::Fatal(format!("what answers at {} is no table store", self.endpoint)));
        }
        Ok(response)
    }

    /// The rows of some keys, as an Arrow IPC stream whose first column is the number of the key. `body` is an IPC stream
    /// of the keys: the first columns of the table's primary key.
    pub fn lookup(&self, columns: &[&str], body: Vec<u8>) -> Result<Response> {
        let columns: Vec<(&str, &str)> = columns.iter().map(|column| ("column", *column)).collect();
        let request = self.http.post(self.below("lookup")).query(&columns).timeout(ANSWER_WITHIN).body(body);
        self.send(request)
    }

    /// The failure of a stream that broke off.
    pub fn broken(&self, why: impl std::fmt::Display) -> Error {
        Error::Transient(format!(
            "reading table '{}' from the table store at {} broke off: {why}",
            self.table, self.endpoint
        ))
    }

    fn below(&self, last: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(last);
        }
        url
    }

    /// Whether the store has the table.
    pub fn exists(&self) -> Result<bool> {
        let response = self.answer(self.http.get(self.url.clone()).timeout(ANSWER_WITHIN))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => self.accepted(response).map(|_| true),
        }
    }

    fn send(&self, request: RequestBuilder) -> Result<Response> {
        self.accepted(self.answer(request)?)
    }

    fn answer(&self, request: RequestBuilder) -> Result<Response> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().map_err(|why| {
            let why = tls::explain(&why).unwrap_or_else(|| innermost(&why));
            Error::Transient(format!("the table store at {} does not answer: {why}", self.endpoint))
        })
    }

    fn accepted(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().unwrap_or_default();
        let told = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|body| body.get("error")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| format!("it answered {status} {text}").trim_end().to_owned());
        let text = format!("the table store at {} refused table '{}': {told}", self.endpoint, self.table);
        let passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(if passing { Error::Transient(text) } else { Error::Fatal(text) })
    }
}

/// The cause that says what happened; the outer ones repeat the address.
fn innermost(why: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = why;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
