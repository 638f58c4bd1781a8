//! Queries over the runner's API: rows as they come.

use super::{Client, Error, Result};
use crate::view::QueryRequest;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use reqwest::Method;
use std::time::Duration;

/// A query may take as long as it takes; whoever waits for it ends it by dropping it.
const OF_A_QUERY: Duration = Duration::from_secs(24 * 3600);

/// The rows of a query that are still to come.
pub struct Rows {
    response: reqwest::Response,
    decoder: StreamDecoder,
    /// Heard, and not yet understood.
    heard: Buffer,
    /// Whether rows are taken back; the first column, `op`, says which.
    pub changes: bool,
    url: String,
}

impl Client {
    /// Also one that never ends.
    pub async fn query(&self, sql: &str) -> Result<Rows> {
        let request = QueryRequest { sql: sql.to_string(), ..QueryRequest::default() };
        let call = self.call(Method::POST, &["sql", "stream"], "").timeout(OF_A_QUERY).json(&request);
        let response = self.send(call).await?;
        let heard = Buffer::from(Vec::<u8>::new());
        let changes = response.headers().contains_key("x-changes");
        Ok(Rows { response, decoder: StreamDecoder::new(), heard, changes, url: self.url().to_string() })
    }
}

impl Rows {
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if !self.heard.is_empty() {
                let decoded = self.decoder.decode(&mut self.heard);
                if let Some(batch) = decoded.map_err(|error| self.cut(&error))? {
                    return Ok(Some(batch));
                }
            }
            match self.response.chunk().await.map_err(|error| self.cut(&error))? {
                Some(bytes) => self.heard = Buffer::from(bytes),
                None => return self.decoder.finish().map(|()| None).map_err(|error| self.cut(&error)),
            }
        }
    }

    fn cut(&self, error: &dyn std::error::Error) -> Error {
        let reason = format!("the query ended in the middle of its rows; its log says why ({error})");
        Error::Strange { url: self.url.clone(), reason }
    }
}
