//! Topics are opened, made, grown, emptied and deleted: folders, facts and the list in memory together.
//!
//! Invariant: a topic is in the list only if its fact is written; one whose deletion was acknowledged never comes back.

use super::{Node, Refused, offset_key, storage};
use crate::configs::TopicConfigs;
use crate::topics::{self, PARTITIONS_MAX, Partition, Topic, Topics, Written, lock};
use kafka_protocol::ResponseError as Code;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use uuid::Uuid;

/// Begins the names of folders that are on their way out.
const DELETED: &str = "deleted-";

impl Node {
    pub(super) fn open_topics(&self) -> io::Result<()> {
        let facts = lock(&self.facts);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = Vec::new();
        for (name, written) in facts.scan::<Written>("topic/")? {
            let topic = Topic::new(&name, &written, &self.defaults);
            let mut partitions = Vec::new();
            for index in 0..written.partitions {
                let start = facts.get(&start_key(&written.id, index))?.unwrap_or(0);
                partitions.push(Arc::new(Partition::open(&self.partition_dir(&written.id, index), index, start)?));
            }
            *topic.partitions.write().unwrap_or_else(PoisonError::into_inner) = partitions;
            known.push(written.id.simple().to_string());
            topics.insert(Arc::new(topic));
        }
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(DELETED) {
                // A crash cut its deletion short.
                std::fs::remove_dir_all(entry.path())?;
            } else if Uuid::parse_str(&name).is_ok() && !known.contains(&name) {
                tracing::warn!(folder = %entry.path().display(), "belongs to no topic that is known, and is left alone");
            }
        }
        Ok(())
    }

    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: BTreeMap<String, String>,
        only_check: bool,
    ) -> Result<Arc<Topic>, Refused> {
        if !topics::is_name(name) {
            let why =
                format!("'{name}' cannot be the name of a topic: use up to 249 letters, digits, '.', '_' and '-'");
            return Err((Code::InvalidTopicException, why));
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.get(name).is_some() {
            return Err((Code::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        self.check_room(&topics, partitions)?;
        let written = Written { id: Uuid::new_v4(), partitions, configs };
        let topic = Topic::new(name, &written, &self.defaults);
        if only_check {
            return Ok(Arc::new(topic));
        }
        let failed = |error: io::Error| (storage(&error), format!("failed to create topic {name}: {error}"));
        let opened = self.open_partitions(&written.id, 0..partitions).map_err(failed)?;
        *topic.partitions.write().unwrap_or_else(PoisonError::into_inner) = opened;
        lock(&self.facts).put(&format!("topic/{name}"), &written).map_err(failed)?;
        let topic = Arc::new(topic);
        topics.insert(Arc::clone(&topic));
        Ok(topic)
    }

    fn open_partitions(&self, id: &Uuid, indices: std::ops::Range<i32>) -> io::Result<Vec<Arc<Partition>>> {
        indices.map(|index| Ok(Arc::new(Partition::open(&self.partition_dir(id, index), index, 0)?))).collect()
    }

    fn check_room(&self, topics: &Topics, partitions: i32) -> Result<(), Refused> {
        if partitions < 1 {
            return Err((Code::InvalidPartitions, "Number of partitions must be larger than 0.".to_string()));
        }
        if topics.n_partitions() + partitions as usize > PARTITIONS_MAX {
            let why = format!("this broker keeps at most {PARTITIONS_MAX} partitions in all topics together");
            return Err((Code::PolicyViolation, why));
        }
        Ok(())
    }

    pub fn grow_topic(&self, name: &str, partitions: i32, only_check: bool) -> Result<(), Refused> {
        let topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get(name) else {
            return Err((Code::UnknownTopicOrPartition, format!("There is no topic '{name}'.")));
        };
        let have = topic.n_partitions();
        if partitions <= have {
            let why =
                format!("Topic currently has {have} partitions, which is not fewer than the requested {partitions}.");
            return Err((Code::InvalidPartitions, why));
        }
        self.check_room(&topics, partitions - have)?;
        if only_check {
            return Ok(());
        }
        let failed = |error: io::Error| (storage(&error), format!("failed to grow topic {name}: {error}"));
        let more = self.open_partitions(&topic.id, have..partitions).map_err(failed)?;
        let written = Written { partitions, ..topic.written() };
        lock(&self.facts).put(&format!("topic/{name}"), &written).map_err(failed)?;
        topic.partitions.write().unwrap_or_else(PoisonError::into_inner).extend(more);
        Ok(())
    }

    pub fn delete_topic(&self, name: &str) -> Result<(), Refused> {
        let failed = |error: io::Error| (storage(&error), format!("failed to delete topic {name}: {error}"));
        let mut coordinator = lock(&self.coordinator);
        let topic = self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(topic) = topic else {
            return Err((Code::UnknownTopicOrPartition, format!("There is no topic '{name}'.")));
        };
        topic.all_partitions().iter().for_each(|partition| partition.close());
        // The records go first: a crash before the next line leaves an empty topic, and one after it none.
        let folder = topic.id.simple().to_string();
        let deleted = self.dir.join(format!("{DELETED}{folder}"));
        std::fs::rename(self.dir.join(&folder), &deleted).map_err(failed)?;
        lock(&self.facts).remove(&format!("topic/{name}")).map_err(failed)?;
        coordinator.transactions.forget_topic(name);
        let mut facts = lock(&self.facts);
        for partition in topic.all_partitions() {
            facts.remove(&start_key(&topic.id, partition.index)).map_err(failed)?;
            for (group, state) in &mut coordinator.groups.all {
                let at = (name.to_string(), partition.index);
                if state.offsets.remove(&at).is_some() {
                    facts.remove(&offset_key(group, &at)).map_err(failed)?;
                }
            }
        }
        drop(facts);
        std::fs::remove_dir_all(deleted).map_err(failed)
    }

    pub fn set_configs(&self, name: &str, set: BTreeMap<String, String>) -> Result<(), Refused> {
        let failed = |error: io::Error| (storage(&error), format!("failed to write the settings of {name}: {error}"));
        let topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get(name) else {
            return Err((Code::UnknownTopicOrPartition, format!("There is no topic '{name}'.")));
        };
        let written = Written { configs: set.clone(), ..topic.written() };
        lock(&self.facts).put(&format!("topic/{name}"), &written).map_err(failed)?;
        *topic.configs.write().unwrap_or_else(PoisonError::into_inner) = TopicConfigs::new(set, &self.defaults);
        Ok(())
    }

    /// Deletes records before `offset`; the new start.
    pub fn delete_records(&self, topic: &Topic, partition: &Partition, offset: i64) -> Result<i64, Code> {
        let deleted = partition.with(|log| {
            let end = log.offsets().end;
            let offset = if offset == -1 { end } else { offset };
            if offset < 0 || offset > end {
                return Err(Code::OffsetOutOfRange);
            }
            lock(&self.facts).put(&start_key(&topic.id, partition.index), &offset).map_err(|error| storage(&error))?;
            log.delete_before(offset).map_err(|error| storage(&error))?;
            Ok(log.offsets().start)
        });
        deleted.unwrap_or(Err(Code::UnknownTopicOrPartition))
    }
}

fn start_key(topic: &Uuid, index: i32) -> String {
    format!("start/{}/{index}", topic.simple())
}
