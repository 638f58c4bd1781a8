//! The runner's own store: jobs, their generations, schedules, sweeps, and the ids of its frameworks, in one redb file.
//!
//! Invariant: a write is durable when the call returns. Knows nothing of what a job does.

use crate::book::Framework;
use crate::book::job::Record;
use crate::book::schedules::Schedule;
use crate::book::sweeps::Sweep;
use jobs::FrameworkId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const JOBS: TableDefinition<&str, &[u8]> = TableDefinition::new("jobs");
const SCHEDULES: TableDefinition<&str, &[u8]> = TableDefinition::new("schedules");
const SWEEPS: TableDefinition<&str, &[u8]> = TableDefinition::new("sweeps");
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
    #[error("read job {job} from the job store: it was written by another version")]
    Format {
        job: String,
        #[source]
        source: serde_json::Error,
    },
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
        let store = Self { database };
        // Reading a table that was never written is an error, so all exist from the start.
        store.write(|jobs, frameworks| {
            let _ = (jobs, frameworks);
            Ok(())
        })?;
        store.write_table(SCHEDULES, |_| Ok(()))?;
        store.write_table(SWEEPS, |_| Ok(()))?;
        Ok(store)
    }

    pub fn put_job(&self, record: &Record) -> Result<(), Error> {
        let bytes =
            serde_json::to_vec(record).map_err(|source| Error::Format { job: record.spec.id.to_string(), source })?;
        self.write(|jobs, _| jobs.insert(record.spec.id.as_str(), bytes.as_slice()).map(drop))
    }

    pub fn remove_job(&self, id: &str) -> Result<(), Error> {
        self.write(|jobs, _| jobs.remove(id).map(drop))
    }

    pub fn put_framework(&self, framework: &Framework, id: &FrameworkId) -> Result<(), Error> {
        self.write(|_, frameworks| frameworks.insert(framework.key().as_str(), id.as_str()).map(drop))
    }

    pub fn jobs(&self) -> Result<Vec<Record>, Error> {
        let jobs = self.all(JOBS)?.into_iter();
        jobs.map(|(job, bytes)| serde_json::from_slice(&bytes).map_err(|source| Error::Format { job, source }))
            .collect()
    }

    /// What a table holds, by key.
    fn all(&self, table: TableDefinition<'_, &str, &[u8]>) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(table)?;
            table
                .iter()?
                .map(|entry| {
                    entry
                        .map(|(key, value)| (key.value().to_string(), value.value().to_vec()))
                        .map_err(redb::Error::from)
                })
                .collect()
        };
        read().map_err(Error::Read)
    }

    pub fn put_schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        let bytes = serde_json::to_vec(schedule)
            .map_err(|source| Error::Format { job: format!("schedule {}", schedule.name), source })?;
        self.write_table(SCHEDULES, |schedules| schedules.insert(schedule.name.as_str(), bytes.as_slice()).map(drop))
    }

    pub fn remove_schedule(&self, name: &str) -> Result<(), Error> {
        self.write_table(SCHEDULES, |schedules| schedules.remove(name).map(drop))
    }

    pub fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        let schedules = self.all(SCHEDULES)?.into_iter();
        let read = |(name, bytes): (String, Vec<u8>)| {
            serde_json::from_slice(&bytes).map_err(|source| Error::Format { job: format!("schedule {name}"), source })
        };
        schedules.map(read).collect()
    }

    pub fn put_sweep(&self, sweep: &Sweep) -> Result<(), Error> {
        let bytes = serde_json::to_vec(sweep)
            .map_err(|source| Error::Format { job: format!("sweep {}", sweep.name), source })?;
        self.write_table(SWEEPS, |sweeps| sweeps.insert(sweep.name.as_str(), bytes.as_slice()).map(drop))
    }

    pub fn remove_sweep(&self, name: &str) -> Result<(), Error> {
        self.write_table(SWEEPS, |sweeps| sweeps.remove(name).map(drop))
    }

    pub fn sweeps(&self) -> Result<Vec<Sweep>, Error> {
        let sweeps = self.all(SWEEPS)?.into_iter();
        let read = |(name, bytes): (String, Vec<u8>)| {
            serde_json::from_slice(&bytes).map_err(|source| Error::Format { job: format!("sweep {name}"), source })
        };
        sweeps.map(read).collect()
    }

    pub fn frameworks(&self) -> Result<BTreeMap<Framework, FrameworkId>, Error> {
        let read = || -> Result<BTreeMap<Framework, FrameworkId>, redb::Error> {
            let table = self.database.begin_read()?.open_table(FRAMEWORKS)?;
            let mut ids = BTreeMap::new();
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

    fn write_table(
        &self,
        table: TableDefinition<'static, &'static str, &'static [u8]>,
        change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>) -> Result<(), redb::StorageError>,
    ) -> Result<(), Error> {
        let run = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_quick_repair(true);
            change(&mut transaction.open_table(table)?)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(Error::Write)
    }

    fn write(
        &self,
        change: impl FnOnce(
            &mut redb::Table<'_, &'static str, &'static [u8]>,
            &mut redb::Table<'_, &'static str, &'static str>,
        ) -> Result<(), redb::StorageError>,
    ) -> Result<(), Error> {
        let run = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            // Else a killed process costs the next one a walk over the whole file before it can serve.
            transaction.set_quick_repair(true);
            {
                let mut jobs = transaction.open_table(JOBS)?;
                let mut frameworks = transaction.open_table(FRAMEWORKS)?;
                change(&mut jobs, &mut frameworks)?;
            }
            transaction.commit()?;
            Ok(())
        };
        run().map_err(Error::Write)
    }
}
