//! Stores that speak S3: one client for the files that connectors read and write, checkpoints, and what agents fetch.
//!
//! Invariant: one client for each bucket, and one runtime for all of their connections: whoever asks may be on a runtime
//! that ends soon, or that is driven only while it waits for something, and a connection must not stand still with it.
//! Invariant: credentials, region and endpoint come from the environment only, as in other programs: AWS_ACCESS_KEY_ID,
//! AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, whose scheme says whether connections are
//! encrypted. They are never printed.

use object_store::aws::AmazonS3Builder;
use object_store::client::SpawnedReqwestConnector;
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, RetryConfig};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// The start of a location on such a store.
pub const S3: &str = "s3://";

/// How often and how long a request is tried again, before whoever asked decides what to do.
const RETRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);

/// A store whose uploads are known by id, so that another process can finish them.
pub trait Objects: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Objects for T {}

/// A bucket, and the threads of its connections.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub name: String,
    pub store: Arc<dyn Objects>,
    pub handle: Handle,
}

static CLIENTS: Mutex<Option<Clients>> = Mutex::new(None);

struct Clients {
    runtime: Runtime,
    buckets: BTreeMap<String, Arc<dyn Objects>>,
}

impl Bucket {
    /// The bucket of this name; nothing is asked of it yet.
    pub fn open(name: &str) -> Result<Self, object_store::Error> {
        Self::known_or(name, |handle| {
            let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
            let retry = RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
            let store = AmazonS3Builder::from_env()
                .with_bucket_name(name)
                .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
                .with_http_connector(SpawnedReqwestConnector::new(handle))
                .with_retry(retry)
                .build()?;
            Ok(Arc::new(store))
        })
    }

    fn known_or(
        name: &str,
        make: impl FnOnce(Handle) -> Result<Arc<dyn Objects>, object_store::Error>,
    ) -> Result<Self, object_store::Error> {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match clients.take() {
            Some(taken) => taken,
            None => {
                let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("s3").enable_all().build();
                let failed = |why: std::io::Error| object_store::Error::Generic { store: "S3", source: Box::new(why) };
                Clients { runtime: runtime.map_err(failed)?, buckets: BTreeMap::new() }
            }
        };
        let Clients { runtime, buckets } = clients.insert(taken);
        let handle = runtime.handle().clone();
        let store = match buckets.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let store = make(handle.clone())?;
                buckets.insert(name.to_owned(), Arc::clone(&store));
                store
            }
        };
        Ok(Self { name: name.to_owned(), store, handle })
    }

    /// Waits for an answer; the caller must not be inside a runtime.
    pub fn block_on<T>(&self, asked: impl Future<Output = T>) -> T {
        self.handle.block_on(asked)
    }

    /// A bucket in memory, known under this name to the whole process; for tests.
    pub fn in_memory(name: &str) -> Result<Self, object_store::Error> {
        Self::known_or(name, |_| Ok(Arc::new(object_store::memory::InMemory::new())))
    }
}

/// Bucket and key of `s3://bucket/key`.
pub fn split(location: &str) -> Option<(&str, &str)> {
    location.strip_prefix(S3).map(|rest| rest.split_once('/').unwrap_or((rest, "")))
}

/// Why a location on such a store names no bucket.
pub fn refuse(location: &str) -> Option<String> {
    let (bucket, _) = split(location)?;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    (bucket.is_empty() || !bucket.chars().all(fits))
        .then(|| format!("'{location}' names no bucket; write s3://bucket/prefix"))
}
