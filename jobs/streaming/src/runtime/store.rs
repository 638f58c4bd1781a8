//! The checkpoint folder, for threads that may wait.
//!
//! Invariant: names only. What a file means is known to those who write and read it.

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use objects::Bucket;
use std::sync::Arc;
use tokio::runtime::Handle;

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

/// Why a text cannot say where checkpoints go.
pub fn refuse_location(location: &str) -> Option<String> {
    match location.split_once("://") {
        None if location.is_empty() => Some("the folder has no name".to_string()),
        None => None,
        Some(("s3", _)) => objects::refuse(location),
        Some((kind, _)) => Some(format!("there is no store '{kind}://'; give a folder, or s3://bucket/prefix")),
    }
}

impl Folder {
    /// A folder of the local file system, or `s3://bucket/prefix`, see [`connectors::s3`].
    pub fn open(location: &str) -> Result<Self, Error> {
        let Some((bucket, prefix)) = objects::split(location) else {
            return Self::local(std::path::Path::new(location));
        };
        let failed = |source| Error {
            what: "open",
            path: location.to_string(),
            store: "a store that speaks S3".to_string(),
            source: Box::new(source),
        };
        Ok(Self { store: Bucket::open(bucket).map_err(failed)?.store, prefix: Path::from(prefix) })
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
