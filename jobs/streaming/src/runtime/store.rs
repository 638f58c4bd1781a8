//! The checkpoint folder, for threads that may wait.
//!
//! Invariant: names only. What a file means is known to those who write and read it.

use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::client::SpawnedReqwestConnector;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

/// A folder of an object store.
#[derive(Clone, Debug)]
pub struct Folder {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
}

#[derive(Debug, thiserror::Error)]
#[error("{what} {path} of the checkpoint folder at {store}")]
pub struct Error {
    what: &'static str,
    path: String,
    store: String,
    #[source]
    pub source: Box<object_store::Error>,
}

impl Error {
    /// Whether what was to be read is not there.
    pub fn is_absent(&self) -> bool {
        matches!(*self.source, object_store::Error::NotFound { .. })
    }
}

/// The start of a location on a store that speaks S3.
pub const S3: &str = "s3://";
/// How often and how long a request to such a store is tried again, before whoever asked decides what to do.
const S3_RETRIES: usize = 3;
const S3_PATIENCE: Duration = Duration::from_secs(20);

/// One client for each bucket, and the runtime of their connections: whoever asks may be on a runtime that ends soon, or
/// that is driven only while it waits for something, and a connection must not stand still with it.
static S3_CLIENTS: Mutex<Option<S3Clients>> = Mutex::new(None);

struct S3Clients {
    runtime: Runtime,
    buckets: BTreeMap<String, Arc<dyn ObjectStore>>,
}

fn s3_bucket(bucket: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut clients = S3_CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = match clients.take() {
        Some(taken) => taken,
        None => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("s3").enable_all().build();
            let failed = |error: std::io::Error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
            S3Clients { runtime: runtime.map_err(failed)?, buckets: BTreeMap::new() }
        }
    };
    let S3Clients { runtime, buckets } = clients.insert(taken);
    if let Some(known) = buckets.get(bucket) {
        return Ok(Arc::clone(known));
    }
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
    let retry = RetryConfig { max_retries: S3_RETRIES, retry_timeout: S3_PATIENCE, ..RetryConfig::default() };
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
        .with_http_connector(SpawnedReqwestConnector::new(runtime.handle().clone()))
        .with_retry(retry)
        .build()?;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    buckets.insert(bucket.to_string(), Arc::clone(&store));
    Ok(store)
}

/// Why a text cannot say where checkpoints go.
pub fn refuse_location(location: &str) -> Option<String> {
    match location.split_once("://") {
        None if location.is_empty() => Some("the folder has no name".to_string()),
        None => None,
        Some(("s3", rest)) => {
            let bucket = rest.split('/').next().unwrap_or_default();
            let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
            (bucket.is_empty() || !bucket.chars().all(fits))
                .then(|| format!("'{location}' names no bucket; write s3://bucket/prefix"))
        }
        Some((kind, _)) => Some(format!("there is no store '{kind}://'; give a folder, or s3://bucket/prefix")),
    }
}

impl Folder {
    /// A folder of the local file system, or `s3://bucket/prefix`. The latter takes credentials, region and endpoint from
    /// the environment, as other programs do: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
    /// AWS_ENDPOINT_URL, whose scheme says whether connections are encrypted.
    pub fn open(location: &str) -> Result<Self, Error> {
        let Some(rest) = location.strip_prefix(S3) else { return Self::local(std::path::Path::new(location)) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let failed = |source| Error {
            what: "open",
            path: location.to_string(),
            store: "a store that speaks S3".to_string(),
            source: Box::new(source),
        };
        Ok(Self { store: s3_bucket(bucket).map_err(failed)?, prefix: Path::from(prefix) })
    }

    /// A folder of the local file system, created if it is absent.
    pub fn local(dir: &std::path::Path) -> Result<Self, Error> {
        let failed = |source: object_store::Error| Error {
            what: "open folder",
            path: dir.display().to_string(),
            store: "the local file system".to_string(),
            source: Box::new(source),
        };
        let io_failed = |error: std::io::Error| {
            failed(object_store::Error::Generic { store: "local file system", source: Box::new(error) })
        };
        std::fs::create_dir_all(dir).map_err(io_failed)?;
        let store = object_store::local::LocalFileSystem::new_with_prefix(dir).map_err(failed)?;
        Ok(Self { store: Arc::new(store.with_automatic_cleanup(true)), prefix: Path::default() })
    }

    /// A folder that is gone with the process.
    pub fn memory() -> Self {
        Self { store: Arc::new(object_store::memory::InMemory::new()), prefix: Path::default() }
    }

    /// The full path of a file whose name is relative to this folder.
    pub fn path(&self, relative: &str) -> Path {
        self.prefix.parts().chain(Path::from(relative).parts()).collect()
    }

    pub async fn put(&self, relative: &str, bytes: impl Into<PutPayload>) -> Result<(), Error> {
        let put = self.store.put(&self.path(relative), bytes.into()).await;
        put.map(drop).map_err(|source| self.error("write", relative, source))
    }

    pub async fn get(&self, relative: &str) -> Result<bytes::Bytes, Error> {
        let failed = |source| self.error("read", relative, source);
        let found = self.store.get(&self.path(relative)).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    pub fn get_blocking(&self, handle: &Handle, relative: &str) -> Result<bytes::Bytes, Error> {
        handle.block_on(self.get(relative))
    }

    /// The names under a sub-folder, relative to this folder.
    pub async fn list(&self, relative: &str) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let mut found = self.store.list(Some(&self.path(relative)));
        while let Some(next) = found.next().await {
            match next {
                Ok(meta) => {
                    let parts = meta.location.prefix_match(&self.prefix).map(Iterator::collect::<Path>);
                    names.extend(parts.map(|path| path.as_ref().to_string()));
                }
                // Removed by someone else while it was listed.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.error("list", relative, source)),
            }
        }
        names.sort();
        Ok(names)
    }

    /// When a file was written, in milliseconds since the epoch.
    pub async fn written_ms(&self, relative: &str) -> Result<u64, Error> {
        let found =
            self.store.head(&self.path(relative)).await.map_err(|source| self.error("look at", relative, source))?;
        Ok(u64::try_from(found.last_modified.timestamp_millis()).unwrap_or(0))
    }

    /// Removes a file; one that is absent already is as good.
    pub async fn delete(&self, relative: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(relative)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.error("remove", relative, source)),
        }
    }

    pub fn error(&self, what: &'static str, relative: &str, source: object_store::Error) -> Error {
        Error { what, path: self.path(relative).to_string(), store: self.store.to_string(), source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        for location in ["kept", "/data/kept", "s3://bucket", "s3://bucket/a/b"] {
            assert_eq!(refuse_location(location), None, "{location}");
        }
        for (location, way_out) in
            [("", "no name"), ("s3://", "s3://bucket/prefix"), ("s3:///a", "no bucket"), ("gs://b/a", "s3://bucket")]
        {
            let text = refuse_location(location).expect("refused");
            assert!(text.contains(way_out), "{text}");
        }
        let folder = Folder::open("s3://bucket/a/b").expect("a folder");
        assert_eq!(folder.path("manifests/1.json").as_ref(), "a/b/manifests/1.json");
    }
}
