//! Reading tables and models over the runner's API.

use super::{Client, Error, Result};
use crate::view::ModelsView;
use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use reqwest::{Method, RequestBuilder};

impl Client {
    pub async fn models(&self) -> Result<ModelsView> {
        self.json(self.call(Method::GET, &["models"], "")).await
    }

    /// Rows of a table of the table store, in the order of its key.
    pub async fn rows(&self, table: &str, columns: &[&str], offset: u64, limit: u64) -> Result<Vec<RecordBatch>> {
        let mut query = vec![("offset", offset.to_string()), ("limit", limit.to_string())];
        if !columns.is_empty() {
            query.push(("columns", columns.join(",")));
        }
        let response = self.send(self.table(&[table, "rows"]).query(&query)).await?;
        let bytes = response.bytes().await.map_err(|error| self.strange(&error))?;
        let strange = |error: arrow::error::ArrowError| Error::Strange {
            url: self.url().to_string(),
            reason: format!("rows of table {table}: {error}"),
        };
        StreamReader::try_new(bytes.as_ref(), None)
            .map_err(strange)?
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(strange)
    }

    /// How many rows a table of the table store has.
    pub async fn count(&self, table: &str) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct Described {
            rows: u64,
        }
        Ok(self.json::<Described>(self.table(&[table])).await?.rows)
    }

    fn table(&self, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("tables").extend(path);
        }
        let call = self.http.request(Method::GET, url);
        match &self.token {
            Some(token) => call.bearer_auth(token),
            None => call,
        }
    }
}
