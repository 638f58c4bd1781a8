//! The agent's log of tasks on disk: what the machine asked to persist, in order, until a task is removed.
//!
//! Invariant: when an append returns, its records are on disk, all or none.
//! Invariant: the file is locked while the log is open, so no two agents share a directory.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use scheduler::agent::Record;
use scheduler::model::TaskKey;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sequence number to record, as JSON.
const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");

/// The log of a full agent fits; the library's own default is a gibibyte.
const CACHE_BYTES: usize = 4 << 20;

/// A killed agent holds its lock until the system has taken it down; its successor may be started before that.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "use directory {}: another agent runs in it; end that one, or choose another with --data-dir",
        path.parent().unwrap_or(path).display()
    )]
    InUse { path: PathBuf },
    #[error("open the log of tasks {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("read the log of tasks: it was written by a version of smack that this one does not understand")]
    Record(#[source] serde_json::Error),
    #[error("write the log of tasks")]
    Store(#[source] Box<redb::Error>),
    #[error("write the log of tasks: its thread ended")]
    Thread,
}

impl<E: Into<redb::Error>> From<E> for LogError {
    fn from(error: E) -> Self {
        Self::Store(Box::new(error.into()))
    }
}

pub(super) struct TaskLog {
    database: Arc<Database>,
    next: u64,
    /// Where each task's records are, to delete them once it is removed.
    of_task: HashMap<TaskKey, Vec<u64>>,
}

impl TaskLog {
    /// Opens or creates the log; what it holds, in the order in which it was written.
    pub async fn open(path: &Path) -> Result<(Self, Vec<Record>), LogError> {
        let begun = Instant::now();
        let database = loop {
            match Database::builder().set_cache_size(CACHE_BYTES).create(path) {
                Ok(database) => break database,
                Err(redb::DatabaseError::DatabaseAlreadyOpen) if begun.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(LogError::InUse { path: path.into() }),
                Err(error) => return Err(LogError::Open { path: path.into(), source: Box::new(error.into()) }),
            }
        };
        let write = database.begin_write()?;
        write.open_table(RECORDS)?;
        write.commit()?;

        let mut log = Self { database: Arc::new(database), next: 0, of_task: HashMap::new() };
        let mut records = Vec::new();
        let read = log.database.begin_read()?;
        for entry in read.open_table(RECORDS)?.iter()? {
            let (sequence, bytes) = entry?;
            let record: Record = serde_json::from_slice(bytes.value()).map_err(LogError::Record)?;
            log.next = sequence.value() + 1;
            log.of_task.entry(record.task().clone()).or_default().push(sequence.value());
            records.push(record);
        }
        Ok((log, records))
    }

    pub async fn append(&mut self, records: Vec<Record>) -> Result<(), LogError> {
        let mut written = Vec::with_capacity(records.len());
        let mut deleted = Vec::new();
        for record in records {
            if let Record::Removed { task } = &record {
                deleted.extend(self.of_task.remove(task).unwrap_or_default());
                continue;
            }
            let bytes = serde_json::to_vec(&record).map_err(LogError::Record)?;
            written.push((self.next, bytes));
            self.of_task.entry(record.task().clone()).or_default().push(self.next);
            self.next += 1;
        }
        let database = Arc::clone(&self.database);
        // A commit waits for the disk, some milliseconds, and must not hold up the runtime's other tasks.
        tokio::task::spawn_blocking(move || commit(&database, &written, &deleted))
            .await
            .map_err(|_| LogError::Thread)?
    }
}

fn commit(database: &Database, written: &[(u64, Vec<u8>)], deleted: &[u64]) -> Result<(), LogError> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(RECORDS)?;
        for (sequence, bytes) in written {
            table.insert(sequence, bytes.as_slice())?;
        }
        for sequence in deleted {
            table.remove(sequence)?;
        }
    }
    write.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_come_back_in_order_until_their_task_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tasks.redb");
        let key = |name: &str| TaskKey::new("f".into(), name.into());
        let started = |name: &str, pid| Record::Started { task: key(name), pid };

        let (mut log, records) = TaskLog::open(&path).await.expect("opens");
        assert_eq!(records, []);
        log.append(vec![started("a", 1), started("b", 2)]).await.expect("writes");
        log.append(vec![started("c", 3), Record::Removed { task: key("a") }]).await.expect("writes");
        assert!(matches!(TaskLog::open(&path).await, Err(LogError::InUse { .. })));
        drop(log);

        let (mut log, records) = TaskLog::open(&path).await.expect("opens again");
        assert_eq!(records, [started("b", 2), started("c", 3)]);
        log.append(vec![started("d", 4), Record::Removed { task: key("b") }, Record::Removed { task: key("c") }])
            .await
            .expect("writes");
        drop(log);
        let (_, records) = TaskLog::open(&path).await.expect("opens a third time");
        assert_eq!(records, [started("d", 4)]);
    }
}
