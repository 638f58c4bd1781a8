//! A store in memory that takes files of state badly: writes fail, some of them after they were done, and take their time.

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[derive(Debug)]
pub struct Flaky {
    inner: InMemory,
    random: AtomicU64,
    /// Writes of state that are still to fail, in runs of `RUN`.
    pub failures: AtomicU64,
}

/// So many writes fail after each other, that all attempts of one are used up.
const RUN: u64 = 3;

impl Flaky {
    pub fn new(seed: u64, n_runs: u64) -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), random: AtomicU64::new(seed), failures: AtomicU64::new(RUN * n_runs) })
    }

    fn one_in(&self, n: u64) -> bool {
        let next =
            self.random.load(Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random.store(next, Relaxed);
        (next >> 33).is_multiple_of(n)
    }
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store that fails")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let is_state = location.as_ref().ends_with(".state");
        if is_state && self.one_in(5) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let left = self.failures.load(Relaxed);
        if is_state && left > 0 && (!left.is_multiple_of(RUN) || self.one_in(12)) {
            self.failures.fetch_sub(1, Relaxed);
            if self.one_in(2) {
                self.inner.put_opts(location, payload, opts).await?;
            }
            return Err(object_store::Error::Generic { store: "flaky", source: "not today".into() });
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
