//! The runner's own store: jobs with their tasks, schedules, sweeps, and the ids of its frameworks, in one redb file.
//!
//! Invariant: a write is durable when the call returns, all of its changes or none. Knows nothing of what a job does.
//! Invariant: a task that stands by itself is newer than the record of its job.

use crate::book::Framework;
use crate::book::job::{Record, TaskRecord};
use crate::book::schedules::Schedule;
use crate::book::sweeps::Sweep;
use jobs::{FrameworkId, JobId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type ByName = TableDefinition<'static, &'static str, &'static [u8]>;

const JOBS: ByName = TableDefinition::new("jobs");
/// By job and index, tasks that changed since their job's record was written.
const TASKS: TableDefinition<(&str, u32), &[u8]> = TableDefinition::new("tasks");
const SCHEDULES: ByName = TableDefinition::new("schedules");
const SWEEPS: ByName = TableDefinition::new("sweeps");
const FRAMEWORKS: TableDefinition<&str, &str> = TableDefinition::new("frameworks");

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the job store {}: another runner works in this folder; end it or choose another --data-dir", path.display())]
    InUse { path: PathBuf },
    #[error("open the job store {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: redb::Error,
    },
    #[error("write to the job store")]
    Write(#[source] redb::Error),
    #[error("read from the job store")]
    Read(#[source] redb::Error),
    #[error("read {what} from the job store: it was written by another version")]
    Format {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("write {what} to the job store")]
    Unwritable {
        what: String,
        #[source]
        source: serde_json::Error,
    },
}

/// One thing that is to be kept from now on, or no longer.
#[derive(Debug)]
pub enum Change<'a> {
    /// With all of its tasks.
    Job(&'a Record),
    Task(&'a JobId, &'a TaskRecord),
    NoJob(&'a JobId),
    Framework(&'a Framework, &'a FrameworkId),
    Schedule(&'a Schedule),
    NoSchedule(&'a str),
    Sweep(&'a Sweep),
    NoSweep(&'a str),
}

impl Change<'_> {
    /// Which job it is of, and whether it says all of it.
    fn of_job(&self) -> Option<(&JobId, bool)> {
        match self {
            Self::Job(record) => Some((&record.spec.id, true)),
            Self::NoJob(job) => Some((job, true)),
            Self::Task(job, _) => Some((job, false)),
            Self::Framework(..) | Self::Schedule(_) | Self::NoSchedule(_) | Self::Sweep(_) | Self::NoSweep(_) => None,
        }
    }
}

pub struct Store {
    database: Database,
}

impl Store {
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("runner.redb");
        let database = Database::builder().set_cache_size(4 << 20).create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: path.clone() },
            other => Error::Open { path: path.clone(), source: other.into() },
        })?;
        Ok(Self { database })
    }

    /// In their order; what a later one overwrites is not written.
    pub fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let failed = |error: redb::Error| Error::Write(error);
        let mut transaction = self.database.begin_write().map_err(|error| failed(error.into()))?;
        // Else a killed process costs the next one a walk over the whole file before it can serve.
        transaction.set_quick_repair(true);
        // The last change of a whole job is all that counts of what came before it.
        let whole = changes.iter().enumerate().filter_map(|(at, change)| match change.of_job()? {
            (job, true) => Some((job, at)),
            _ => None,
        });
        let whole: BTreeMap<&JobId, usize> = whole.collect();
        for (at, change) in changes.iter().enumerate() {
            if change.of_job().and_then(|(job, _)| whole.get(job)).is_none_or(|last| at >= *last) {
                make(&transaction, change)?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    pub fn jobs(&self) -> Result<Vec<Record>, Error> {
        let mut records: Vec<Record> = self.all(JOBS, "job")?;
        for record in &mut records {
            for task in self.tasks_of(&record.spec.id)? {
                if let Some(at) = record.place_of(&task.id) {
                    record.tasks[at] = task;
                }
            }
        }
        Ok(records)
    }

    fn tasks_of(&self, job: &JobId) -> Result<Vec<TaskRecord>, Error> {
        let read = || -> Result<Vec<Vec<u8>>, redb::Error> {
            let tasks = match self.database.begin_read()?.open_table(TASKS) {
                Ok(tasks) => tasks,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let of_job = tasks.range((job.as_str(), 0)..=(job.as_str(), u32::MAX))?;
            of_job.map(|entry| Ok(entry?.1.value().to_vec())).collect()
        };
        let texts = read().map_err(Error::Read)?;
        texts.iter().map(|bytes| from_json(bytes, || format!("a task of job {job}"))).collect()
    }

    pub fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        self.all(SCHEDULES, "schedule")
    }

    pub fn sweeps(&self) -> Result<Vec<Sweep>, Error> {
        self.all(SWEEPS, "sweep")
    }

    pub fn frameworks(&self) -> Result<BTreeMap<Framework, FrameworkId>, Error> {
        let read = || -> Result<BTreeMap<Framework, FrameworkId>, redb::Error> {
            let mut ids = BTreeMap::new();
            let table = match self.database.begin_read()?.open_table(FRAMEWORKS) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(ids),
                Err(error) => return Err(error.into()),
            };
            for entry in table.iter()? {
                let (key, id) = entry?;
                if let Some(framework) = Framework::of_key(key.value()) {
                    ids.insert(framework, FrameworkId::new(id.value()));
                }
            }
            Ok(ids)
        };
        read().map_err(Error::Read)
    }

    /// What a table holds. `kind`: of what, for people.
    fn all<T: DeserializeOwned>(&self, table: ByName, kind: &str) -> Result<Vec<T>, Error> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = match self.database.begin_read()?.open_table(table) {
                Ok(table) => table,
                // Nothing was written into it yet.
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let entry =
                |entry: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), redb::StorageError>| {
                    let (name, of) = entry?;
                    Ok((name.value().to_string(), of.value().to_vec()))
                };
            table.iter()?.map(entry).collect()
        };
        let entries = read().map_err(Error::Read)?;
        entries.iter().map(|(name, bytes)| from_json(bytes, || format!("{kind} {name}"))).collect()
    }
}

fn make(transaction: &WriteTransaction, change: &Change<'_>) -> Result<(), Error> {
    match change {
        Change::Job(record) => {
            let id = record.spec.id.as_str();
            let bytes = to_json(record, || format!("job {id}"))?;
            no_tasks(transaction, id).map_err(Error::Write)?;
            put(transaction, JOBS, id, &bytes)
        }
        Change::Task(job, task) => {
            let bytes = to_json(task, || format!("task {}", task.id))?;
            let put = || -> Result<(), redb::Error> {
                transaction.open_table(TASKS)?.insert((job.as_str(), task.index), bytes.as_slice())?;
                Ok(())
            };
            put().map_err(Error::Write)
        }
        Change::NoJob(id) => {
            no_tasks(transaction, id.as_str()).map_err(Error::Write)?;
            remove(transaction, JOBS, id.as_str())
        }
        Change::Framework(framework, id) => {
            let put = || -> Result<(), redb::Error> {
                transaction.open_table(FRAMEWORKS)?.insert(framework.key().as_str(), id.as_str())?;
                Ok(())
            };
            put().map_err(Error::Write)
        }
        Change::Schedule(schedule) => {
            let bytes = to_json(schedule, || format!("schedule {}", schedule.name))?;
            put(transaction, SCHEDULES, &schedule.name, &bytes)
        }
        Change::NoSchedule(name) => remove(transaction, SCHEDULES, name),
        Change::Sweep(sweep) => {
            let bytes = to_json(sweep, || format!("sweep {}", sweep.name))?;
            put(transaction, SWEEPS, &sweep.name, &bytes)
        }
        Change::NoSweep(name) => remove(transaction, SWEEPS, name),
    }
}

/// What tasks of a job stand by themselves go.
fn no_tasks(transaction: &WriteTransaction, job: &str) -> Result<(), redb::Error> {
    transaction.open_table(TASKS)?.retain_in((job, 0)..=(job, u32::MAX), |_, _| false)?;
    Ok(())
}

fn put(transaction: &WriteTransaction, table: ByName, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let put = || -> Result<(), redb::Error> {
        transaction.open_table(table)?.insert(name, bytes)?;
        Ok(())
    };
    put().map_err(Error::Write)
}

fn remove(transaction: &WriteTransaction, table: ByName, name: &str) -> Result<(), Error> {
    let remove = || -> Result<(), redb::Error> {
        transaction.open_table(table)?.remove(name)?;
        Ok(())
    };
    remove().map_err(Error::Write)
}

fn to_json(value: &impl Serialize, what: impl Fn() -> String) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Unwritable { what: what(), source })
}

fn from_json<T: DeserializeOwned>(bytes: &[u8], what: impl Fn() -> String) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Format { what: what(), source })
}

#[cfg(test)]
mod tests;
