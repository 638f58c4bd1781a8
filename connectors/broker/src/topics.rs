//! Topics and their partitions as they are at this moment.
//!
//! Invariant: what is listed here is written down; a partition that was deleted is written to no more.
//! Lock order, everywhere: the coordinator, then the list of topics, then one partition's log, then the facts.

use crate::configs::{Defaults, TopicConfigs};
use crate::log::Log;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::Notify;
use uuid::Uuid;

/// Partitions of all topics together; each holds some memory even when it is empty.
pub const PARTITIONS_MAX: usize = 10_000;

/// How a topic is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Written {
    #[serde(with = "as_text")]
    pub id: Uuid,
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&id.simple())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(from)?;
        Uuid::parse_str(&text).map_err(D::Error::custom)
    }
}

#[derive(Debug)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub configs: RwLock<TopicConfigs>,
    pub partitions: RwLock<Vec<Arc<Partition>>>,
}

#[derive(Debug)]
pub struct Partition {
    pub index: i32,
    /// None once it is deleted.
    log: Mutex<Option<Log>>,
    /// Fetches that wait for records.
    waiting: Mutex<Vec<Arc<Notify>>>,
}

impl Partition {
    pub fn open(dir: &Path, index: i32, start: i64) -> io::Result<Self> {
        let log = Log::open(dir, start)?;
        Ok(Self { index, log: Mutex::new(Some(log)), waiting: Mutex::default() })
    }

    /// Works on the log; none if the partition is deleted.
    pub fn with<T>(&self, work: impl FnOnce(&mut Log) -> T) -> Option<T> {
        lock(&self.log).as_mut().map(work)
    }

    pub fn wake(&self) {
        for waiting in lock(&self.waiting).drain(..) {
            waiting.notify_one();
        }
    }

    /// `waiting` hears of the next records.
    pub fn wait(&self, waiting: &Arc<Notify>) {
        let mut all = lock(&self.waiting);
        if !all.iter().any(|other| Arc::ptr_eq(other, waiting)) {
            all.push(Arc::clone(waiting));
        }
    }

    pub fn wait_no_more(&self, waiting: &Arc<Notify>) {
        lock(&self.waiting).retain(|other| !Arc::ptr_eq(other, waiting));
    }

    /// Nothing is written or read from now on.
    pub fn close(&self) {
        drop(lock(&self.log).take());
        self.wake();
    }
}

/// A thread that panicked left these as they were between two whole changes, or in one file, which recovery mends.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Topic {
    pub fn new(name: &str, written: &Written, defaults: &Defaults) -> Self {
        Self {
            name: name.to_string(),
            id: written.id,
            configs: RwLock::new(TopicConfigs::new(written.configs.clone(), defaults)),
            partitions: RwLock::default(),
        }
    }

    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(usize::try_from(index).ok()?).cloned()
    }

    pub fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn n_partitions(&self) -> i32 {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).len() as i32
    }

    pub fn configs(&self) -> TopicConfigs {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn written(&self) -> Written {
        Written { id: self.id, partitions: self.n_partitions(), configs: self.configs().set }
    }
}

/// The list of topics, by name and by id.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: BTreeMap<Uuid, Arc<Topic>>,
}

impl Topics {
    pub fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn get_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    pub fn n_partitions(&self) -> usize {
        self.all().map(|topic| topic.n_partitions() as usize).sum()
    }

    pub fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    pub fn remove(&mut self, name: &str) -> Option<Arc<Topic>> {
        let topic = self.by_name.remove(name)?;
        self.by_id.remove(&topic.id);
        Some(topic)
    }
}

/// Whether a topic may have this name.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(fits)
}
