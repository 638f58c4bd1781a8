//! The master's registry: the few facts that must outlive it, as `get` and `put if version` under the leader's epoch.
//!
//! Invariant: a write happens only if the key still has the version that the writer saw and the writer's epoch is the
//! latest; so of two masters that both believe they lead, the older one's writes fail.
//! Invariant: when a write returns, it is on disk.
//! Knows nothing of what the values mean.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};

/// Key to version and value. Versions count up from 1; a key that is not there has version 0.
const ENTRIES: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("entries");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const EPOCH: &str = "leader_epoch";

/// The whole registry of a large cluster fits; the library's own default is a gibibyte.
const CACHE_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("open registry {}: another master has it open; end that one, or choose another directory", path.display())]
    InUse { path: PathBuf },
    #[error("open registry {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("write {key} to the registry: it has version {found}, not {expected}")]
    Version { key: String, expected: u64, found: u64 },
    #[error("write {key} to the registry: this master's epoch {own} has ended, a master with epoch {latest} leads")]
    Fenced { key: String, own: u64, latest: u64 },
    #[error("use the registry")]
    Store(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for RegistryError {
    fn from(error: E) -> Self {
        Self::Store(Box::new(error.into()))
    }
}

/// A value and the version it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    pub version: u64,
    pub value: Vec<u8>,
}

/// One write: the version that the key must still have, and its new value, or none to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: String,
    pub version: u64,
    pub value: Option<Vec<u8>>,
}

pub struct Registry {
    database: Database,
    epoch: u64,
}

impl Registry {
    /// Opens or creates the registry and begins a new leader epoch in it.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => RegistryError::InUse { path: path.into() },
            error => RegistryError::Open { path: path.into(), source: Box::new(error.into()) },
        })?;
        let write = database.begin_write()?;
        let epoch = {
            write.open_table(ENTRIES)?;
            let mut meta = write.open_table(META)?;
            let epoch = meta.get(EPOCH)?.map_or(0, |guard| guard.value()) + 1;
            meta.insert(EPOCH, epoch)?;
            epoch
        };
        write.commit()?;
        Ok(Self { database, epoch })
    }

    /// The epoch of this opening; larger than that of every earlier one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        let read = self.database.begin_read()?;
        let entries = read.open_table(ENTRIES)?;
        let found = entries.get(key)?.map(|guard| {
            let (version, value) = guard.value();
            Versioned { version, value: value.to_vec() }
        });
        Ok(found)
    }

    /// All keys that begin with `prefix`, in order.
    pub fn scan(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, RegistryError> {
        let read = self.database.begin_read()?;
        let entries = read.open_table(ENTRIES)?;
        let mut found = Vec::new();
        for entry in entries.range(prefix..)? {
            let (key, guard) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (version, value) = guard.value();
            found.push((key.value().to_string(), Versioned { version, value: value.to_vec() }));
        }
        Ok(found)
    }

    /// Writes `value`, or removes the key if there is none, provided that the key still has `version`. Answers the
    /// version that it has now.
    pub fn put_if_version(&self, key: &str, version: u64, value: Option<Vec<u8>>) -> Result<u64, RegistryError> {
        let after = if value.is_some() { version + 1 } else { 0 };
        self.put_all_if_version(&[Put { key: key.to_string(), version, value }])?;
        Ok(after)
    }

    /// The same for several keys, in order, all or none.
    pub fn put_all_if_version(&self, puts: &[Put]) -> Result<(), RegistryError> {
        let write = self.database.begin_write()?;
        {
            let latest = write.open_table(META)?.get(EPOCH)?.map_or(0, |guard| guard.value());
            let mut entries = write.open_table(ENTRIES)?;
            for Put { key, version, value } in puts {
                if latest != self.epoch {
                    return Err(RegistryError::Fenced { key: key.clone(), own: self.epoch, latest });
                }
                let found = entries.get(key.as_str())?.map_or(0, |guard| guard.value().0);
                if found != *version {
                    return Err(RegistryError::Version { key: key.clone(), expected: *version, found });
                }
                match value {
                    Some(value) => {
                        entries.insert(key.as_str(), (version + 1, value.as_slice()))?;
                    }
                    None => {
                        entries.remove(key.as_str())?;
                    }
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_need_the_version_seen_and_the_latest_epoch() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("registry.redb");
        let registry = Registry::open(&path).expect("opens");
        assert_eq!(registry.epoch(), 1);
        assert!(matches!(Registry::open(&path), Err(RegistryError::InUse { .. })));

        assert_eq!(registry.get("agent/a").expect("reads"), None);
        assert_eq!(registry.put_if_version("agent/a", 0, Some(b"one".to_vec())).expect("writes"), 1);
        assert!(matches!(
            registry.put_if_version("agent/a", 0, Some(b"two".to_vec())),
            Err(RegistryError::Version { expected: 0, found: 1, .. })
        ));
        registry.put_if_version("agent/a", 1, Some(b"two".to_vec())).expect("writes");
        registry.put_if_version("framework/f", 0, Some(b"three".to_vec())).expect("writes");
        registry.put_if_version("agent/b", 0, Some(b"four".to_vec())).expect("writes");
        assert_eq!(registry.put_if_version("agent/b", 1, None).expect("removes"), 0);
        drop(registry);

        let registry = Registry::open(&path).expect("opens again");
        assert_eq!(registry.epoch(), 2);
        let agents = registry.scan("agent/").expect("scans");
        assert_eq!(agents, [("agent/a".to_string(), Versioned { version: 2, value: b"two".to_vec() })]);
    }
}
