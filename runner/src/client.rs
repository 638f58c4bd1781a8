//! A small typed client of the runner's HTTP API, as the CLI uses it.
//!
//! Does not print and does not retry: a person at a terminal decides that.

pub mod events;
mod query;
mod schedules;
mod sweeps;
mod tables;

use crate::view::{
    Changed, CheckpointsView, ClusterView, DrainRequest, Failure, GoneRequest, JobView, JobsView, PlanView,
    QuotaRequest, ReserveRequest, SavepointRequest, ScaleRequest, Stopped, SubmitRequest, Submitted, TargetView,
    UnreserveRequest, VersionView, VolumePlace, WeightRequest, WhyView,
};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_RUNNER: &str = "http://127.0.0.1:5080";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reach the runner at {url}: is it running? start one with `smack dev` ({reason})")]
    Unreachable { url: String, reason: String },
    /// Somebody answered, and one end does not trust the other, or does not encrypt.
    #[error("reach the runner at {url}: {reason}")]
    Untrusted { url: String, reason: String },
    /// The runner heard the call and said no.
    #[error("{}", failure.error)]
    Refused { status: u16, failure: Failure },
    #[error("understand the answer of the runner at {url}: {reason}")]
    Strange { url: String, reason: String },
    #[error("use '{url}' as the runner's address: {reason}")]
    BadAddress { url: String, reason: String },
    #[error("read the token file {}: {source}", path.display())]
    Token { path: PathBuf, source: std::io::Error },
}

pub type Result<T> = std::result::Result<T, Error>;

pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
}

/// An address without its `http://` or `https://`.
pub fn bare(address: &str) -> &str {
    let address = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://")).unwrap_or(address);
    address.trim_end_matches('/')
}

/// A piece of a task's log.
pub struct LogPiece {
    /// Where it begins.
    pub offset_bytes: u64,
    pub bytes: Vec<u8>,
    /// Size of the whole log so far.
    pub size_bytes: u64,
}

impl Client {
    /// `runner`: what the user said. Without it the cluster that `smack dev` left word of in this folder, or else the
    /// usual port of this machine.
    pub fn new(runner: Option<&str>, token_file: Option<&Path>) -> Result<Self> {
        let url = match runner {
            Some(url) => url.to_string(),
            None => crate::dev::of_folder(Path::new("."))
                .map(|dev| dev.runner)
                .unwrap_or_else(|| DEFAULT_RUNNER.to_string()),
        };
        let full = if url.contains("://") { url.clone() } else { format!("{}://{url}", tls::scheme()) };
        let bad = |reason: String| Error::BadAddress { url: url.clone(), reason };
        let base = Url::parse(&full).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(bad("it must look like http://host:port, or https://host:port".to_string()));
        }
        if base.scheme() == "https" && tls::process().is_none() {
            return Err(bad("its certificate must be known by a CA; give --tls-ca FILE".to_string()));
        }
        let token = match token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| Error::Token { path: path.to_path_buf(), source })?;
                Some(text.trim().to_string())
            }
            None => None,
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            // Planning a large file is the slowest thing the runner does within one call.
            .timeout(Duration::from_secs(60))
            .no_proxy();
        let http = match tls::http_client() {
            Some(config) => http.use_preconfigured_tls(config),
            None => http,
        };
        let http = http.build().map_err(|error| bad(error.to_string()))?;
        Ok(Self { base, http, token })
    }

    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub async fn submit(&self, request: &SubmitRequest) -> Result<Submitted> {
        let call = self.call(Method::POST, &["jobs"], "").json(request);
        self.json(call).await
    }

    pub async fn jobs(&self) -> Result<JobsView> {
        self.json(self.call(Method::GET, &["jobs"], "")).await
    }

    /// `id`: `group/name`.
    pub async fn job(&self, id: &str) -> Result<JobView> {
        self.json(self.call(Method::GET, &["jobs"], id)).await
    }

    /// `subject`: a group or a job.
    pub async fn stop(&self, subject: &str) -> Result<Stopped> {
        self.json(self.call(Method::POST, &["stop"], subject)).await
    }

    /// What would become of the state of the file's streams.
    pub async fn plan(&self, request: &SubmitRequest) -> Result<PlanView> {
        let call = self.call(Method::POST, &["plan"], "").json(request);
        self.json(call).await
    }

    /// `subject`: a group or a job.
    pub async fn checkpoint(&self, subject: &str) -> Result<Stopped> {
        self.json(self.call(Method::POST, &["checkpoint"], subject)).await
    }

    /// The checkpoints that are kept of a group or a job.
    pub async fn kept(&self, subject: &str) -> Result<CheckpointsView> {
        self.json(self.call(Method::GET, &["savepoints"], subject)).await
    }

    /// Keeps the last checkpoints of a group or a job under a name.
    pub async fn keep(&self, subject: &str, name: &str) -> Result<CheckpointsView> {
        let request = SavepointRequest { name: name.to_string() };
        self.json(self.call(Method::POST, &["savepoints"], subject).json(&request)).await
    }

    /// Keeps them no longer.
    pub async fn drop_kept(&self, subject: &str, name: &str) -> Result<Stopped> {
        let request = SavepointRequest { name: name.to_string() };
        self.json(self.call(Method::DELETE, &["savepoints"], subject).json(&request)).await
    }

    /// `subject`: a group or a job.
    pub async fn scale(&self, subject: &str, parallelism: u32) -> Result<Stopped> {
        self.json(self.call(Method::POST, &["scale"], subject).json(&ScaleRequest { parallelism })).await
    }

    /// `subject`: a group, a job or a task.
    pub async fn why(&self, subject: &str) -> Result<WhyView> {
        self.json(self.call(Method::GET, &["why"], subject)).await
    }

    pub async fn cluster(&self) -> Result<ClusterView> {
        self.json(self.call(Method::GET, &["cluster"], "")).await
    }

    pub async fn set_quota(&self, role: &str, request: &QuotaRequest) -> Result<Changed> {
        self.json(self.call(Method::POST, &["quota"], role).json(request)).await
    }

    pub async fn remove_quota(&self, role: &str) -> Result<Changed> {
        self.json(self.call(Method::DELETE, &["quota"], role)).await
    }

    pub async fn set_weight(&self, role: &str, weight: f64) -> Result<Changed> {
        self.json(self.call(Method::POST, &["weight"], role).json(&WeightRequest { weight })).await
    }

    pub async fn drain(&self, agent: &str, request: &DrainRequest) -> Result<Changed> {
        self.json(self.call(Method::POST, &["drain"], agent).json(request)).await
    }

    pub async fn gone(&self, agent: &str, request: &GoneRequest) -> Result<Changed> {
        self.json(self.call(Method::POST, &["gone"], agent).json(request)).await
    }

    pub async fn reserve(&self, agent: &str, request: &ReserveRequest) -> Result<Changed> {
        self.json(self.call(Method::POST, &["reserve"], agent).json(request)).await
    }

    pub async fn remove_volume(&self, name: &str, place: &VolumePlace) -> Result<Changed> {
        self.json(self.call(Method::DELETE, &["volumes"], name).query(place)).await
    }

    pub async fn unreserve(&self, agent: &str, request: &UnreserveRequest) -> Result<Changed> {
        self.json(self.call(Method::POST, &["unreserve"], agent).json(request)).await
    }

    pub async fn undrain(&self, agent: &str) -> Result<Changed> {
        self.json(self.call(Method::DELETE, &["drain"], agent)).await
    }

    /// What a path of the API answers, as it is.
    pub async fn text(&self, path: &[&str], subject: &str) -> Result<String> {
        let response = self.send(self.call(Method::GET, path, subject)).await?;
        response.text().await.map_err(|error| self.strange(&error))
    }

    /// Every member of the cluster that has metrics.
    pub async fn targets(&self) -> Result<Vec<TargetView>> {
        self.json(self.call(Method::GET, &["targets"], "")).await
    }

    /// `address`: of a member, `host:port`.
    pub async fn metrics_of(&self, address: &str) -> Result<String> {
        let call = self.http.get(format!("{}://{address}/metrics", self.base.scheme()));
        let call = match &self.token {
            Some(token) => call.bearer_auth(token),
            None => call,
        };
        let response = self.send(call).await?;
        response.text().await.map_err(|error| self.strange(&error))
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub async fn version(&self) -> Result<VersionView> {
        self.json(self.call(Method::GET, &["version"], "")).await
    }

    /// What stands in the task's `stream` (`stdout` or `stderr`) from `offset_bytes` on.
    pub async fn logs(&self, task: &str, stream: &str, offset_bytes: u64) -> Result<LogPiece> {
        let query = [("stream", stream.to_string()), ("offset", offset_bytes.to_string())];
        let response = self.send(self.call(Method::GET, &["logs"], task).query(&query)).await?;
        let number =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let (size, offset_bytes) = (number("x-size"), number("x-offset").unwrap_or(offset_bytes));
        let bytes = response.bytes().await.map_err(|error| self.strange(&error))?.to_vec();
        let size_bytes = size.unwrap_or(offset_bytes + bytes.len() as u64);
        Ok(LogPiece { offset_bytes, bytes, size_bytes })
    }

    /// A call to `/api/v1/{path…}/{subject…}`; a slash in `subject` stands between segments, all else is escaped.
    fn call(&self, method: Method, path: &[&str], subject: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(["api", "v1"]).extend(path);
                segments.extend(subject.split('/').filter(|part| !part.is_empty()));
            }
            // The address was checked to be one of http, which always has a path.
            Err(()) => unreachable!("{} has no path", self.base),
        }
        let call = self.http.request(method, url);
        match &self.token {
            Some(token) => call.bearer_auth(token),
            None => call,
        }
    }

    async fn json<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T> {
        let response = self.send(call).await?;
        response.json().await.map_err(|error| self.strange(&error))
    }

    async fn send(&self, call: RequestBuilder) -> Result<reqwest::Response> {
        let response = call.send().await.map_err(|error| match tls::explain(&error) {
            Some(reason) => Error::Untrusted { url: self.url().to_string(), reason },
            None => Error::Unreachable { url: self.url().to_string(), reason: innermost(&error) },
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.strange(&error))?;
        let failure = serde_json::from_str::<Failure>(&text).unwrap_or_else(|_| {
            let hint = if status == StatusCode::UNAUTHORIZED { "; pass --token-file" } else { "" };
            Failure { error: format!("the runner answered {status}{hint}"), diagnostics: Vec::new() }
        });
        Err(Error::Refused { status: status.as_u16(), failure })
    }

    fn strange(&self, error: &reqwest::Error) -> Error {
        strange(self.url(), error)
    }
}

fn strange(url: &str, error: &reqwest::Error) -> Error {
    Error::Strange { url: url.to_string(), reason: innermost(error) }
}

/// The cause at the bottom, which names what happened ("connection refused"), not where in the client it passed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Client {
        Client::new(Some(url), None).unwrap()
    }

    #[test]
    fn subjects_are_escaped_and_slashes_stay() {
        let url = |subject: &str| {
            let call = client("http://127.0.0.1:5080/base/").call(Method::GET, &["why"], subject).build().unwrap();
            call.url().path().to_string()
        };
        assert_eq!(url("fraud/features"), "/base/api/v1/why/fraud/features");
        assert_eq!(url("a b?c"), "/base/api/v1/why/a%20b%3Fc");
    }

    #[test]
    fn addresses() {
        assert_eq!(client("127.0.0.1:5080").url(), "http://127.0.0.1:5080");
        let unknown = Client::new(Some("https://x"), None).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(unknown.contains("--tls-ca"), "{unknown}");
        assert!(matches!(Client::new(Some("ftp://x"), None), Err(Error::BadAddress { .. })));
        assert!(matches!(Client::new(Some("http://"), None), Err(Error::BadAddress { .. })));
    }

    #[test]
    fn a_dev_cluster_in_the_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(crate::dev::of_folder(folder.path()).map(|dev| dev.runner), None);
        std::fs::create_dir(folder.path().join(".smack")).unwrap();
        std::fs::write(folder.path().join(".smack/dev.json"), r#"{"runner": "http://127.0.0.1:4711", "pid": 1}"#)
            .unwrap();
        assert_eq!(
            crate::dev::of_folder(folder.path()).map(|dev| dev.runner).as_deref(),
            Some("http://127.0.0.1:4711")
        );
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_way_out() {
        // A port that was free a moment ago: bound and let go.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = client(&format!("http://127.0.0.1:{port}")).jobs().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&port.to_string()) && text.contains("smack dev"), "{text}");
        assert!(text.contains("refused"), "{text}");
    }
}
