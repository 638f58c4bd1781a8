//! Tables, models and training runs over the runner's API.

use super::{Client, Error, Result};
use crate::view::{ComparisonView, ModelDetail, ModelsView, PromoteRequest, Promoted, Published, RunDetail, RunsView};
use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use reqwest::{Method, RequestBuilder};
use std::time::Duration;

/// A large one takes its time to the disk.
const OF_A_MODEL: Duration = Duration::from_secs(600);

impl Client {
    pub async fn models(&self) -> Result<ModelsView> {
        self.json(self.call(Method::GET, &["models"], "")).await
    }

    /// The versions of one model.
    pub async fn versions(&self, model: &str) -> Result<ModelsView> {
        self.json(self.call(Method::GET, &["models", model], "")).await
    }

    /// `which`: a version, an alias, or `-` for what a query means by the name alone.
    pub async fn model(&self, model: &str, which: &str) -> Result<ModelDetail> {
        self.json(self.call(Method::GET, &["models", model, which], "")).await
    }

    /// A version as one file.
    pub async fn package(&self, model: &str, which: &str) -> Result<Vec<u8>> {
        let call = self.call(Method::GET, &["models", model, which, "package"], "").timeout(OF_A_MODEL);
        let response = self.send(call).await?;
        Ok(response.bytes().await.map_err(|error| self.strange(&error))?.to_vec())
    }

    /// Sends the next version of a model as one file.
    pub async fn publish(&self, model: &str, package: Vec<u8>) -> Result<Published> {
        self.json(self.call(Method::POST, &["models", model], "").timeout(OF_A_MODEL).body(package)).await
    }

    pub async fn promote(&self, model: &str, alias: &str, version: u64) -> Result<Promoted> {
        let call = self.call(Method::POST, &["models", model, "aliases", alias], "");
        self.json(call.json(&PromoteRequest { version })).await
    }

    pub async fn rollback(&self, model: &str, alias: &str) -> Result<Promoted> {
        self.json(self.call(Method::DELETE, &["models", model, "aliases", alias], "")).await
    }

    pub async fn remove_version(&self, model: &str, version: u64) -> Result<ModelsView> {
        self.json(self.call(Method::DELETE, &["models", model, &version.to_string()], "")).await
    }

    pub async fn runs(&self) -> Result<RunsView> {
        self.json(self.call(Method::GET, &["runs"], "")).await
    }

    /// `run`: its name, or the beginning or end of that.
    pub async fn run(&self, run: &str) -> Result<RunDetail> {
        self.json(self.call(Method::GET, &["runs", run], "")).await
    }

    pub async fn compare(&self, runs: &[String]) -> Result<ComparisonView> {
        let call = self.call(Method::GET, &["compare", "runs"], "");
        self.json(call.query(&[("ids", runs.join(","))])).await
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
