//! The store's file and its catalog.
//!
//! Invariant: the catalog in memory equals the one in the file; both change under the writer's lock.

use crate::scan::Scan;
use crate::schema::{CatalogEntry, TableInfo};
use crate::{Error, Result};
use arrow::datatypes::Schema;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Table name to its [`CatalogEntry`] as JSON.
pub(crate) const CATALOG: TableDefinition<&str, &[u8]> = TableDefinition::new("catalog");
/// (table id, job, writer) to the last applied (epoch, part).
pub(crate) const APPLIED: TableDefinition<(u64, &str, &str), (u64, u64)> = TableDefinition::new("applied");
/// (table id, job) to the highest generation that wrote.
pub(crate) const GENERATIONS: TableDefinition<(u64, &str), u64> = TableDefinition::new("generations");
/// Names to counters; `tables` gives the ids.
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");

/// Pages kept in memory; reads beyond it come from the operating system's cache.
const CACHE_BYTES: usize = 64 << 20;

/// Where the rows of one table are: key bytes to row bytes.
pub(crate) fn rows_name(id: u64) -> String {
    format!("rows.{id}")
}

pub(crate) type RowsDefinition<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// The tables of one directory. One process at a time can have it open.
pub struct Store {
    pub(crate) db: Database,
    catalog: RwLock<BTreeMap<String, Arc<TableInfo>>>,
    /// Held during a write transaction, see [`crate::commit`].
    pub(crate) writer: Mutex<()>,
    pub(crate) waiting: Mutex<Vec<crate::commit::Waiting>>,
}

impl Store {
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tables.redb");
        let failed = |why: String| Error::Open { path: path.display().to_string(), why };
        std::fs::create_dir_all(dir).map_err(|why| failed(why.to_string()))?;
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|why| match why {
            DatabaseError::DatabaseAlreadyOpen => failed("another process has it open; stop that one first".to_owned()),
            other => failed(other.to_string()),
        })?;
        let mut transaction = db.begin_write()?;
        transaction.set_quick_repair(true);
        let mut catalog = BTreeMap::new();
        {
            for entry in transaction.open_table(CATALOG)?.iter()? {
                let (name, entry) = entry?;
                let info = parse_entry(name.value(), entry.value())?;
                catalog.insert(name.value().to_owned(), Arc::new(info));
            }
            transaction.open_table(APPLIED)?;
            transaction.open_table(GENERATIONS)?;
        }
        transaction.commit()?;
        Ok(Self { db, catalog: RwLock::new(catalog), writer: Mutex::new(()), waiting: Mutex::new(Vec::new()) })
    }

    /// Makes a table, or finds it already made alike.
    pub fn create(&self, name: &str, schema: &Schema, primary_key: &[usize]) -> Result<Arc<TableInfo>> {
        let mut info = TableInfo::new(name, schema, primary_key)?;
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(have) = self.describe(name) {
            if have.same_shape(&info) {
                return Ok(have);
            }
            return Err(Error::DifferentSchema {
                name: name.to_owned(),
                have: have.to_string(),
                want: info.to_string(),
            });
        }
        let mut transaction = self.db.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut counters = transaction.open_table(COUNTERS)?;
            info.id = counters.get("tables")?.map_or(0, |last| last.value()) + 1;
            counters.insert("tables", info.id)?;
            let entry = serde_json::to_vec(&info.to_catalog()).map_err(|why| Error::Storage(why.to_string()))?;
            transaction.open_table(CATALOG)?.insert(name, entry.as_slice())?;
            let rows = rows_name(info.id);
            transaction.open_table(RowsDefinition::new(&rows))?;
        }
        transaction.commit()?;
        let info = Arc::new(info);
        self.change_catalog().insert(name.to_owned(), info.clone());
        Ok(info)
    }

    pub fn list(&self) -> Vec<Arc<TableInfo>> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub fn describe(&self, name: &str) -> Result<Arc<TableInfo>> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        catalog.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = catalog.keys().map(String::as_str).collect();
            let known = if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) };
            Error::NoSuchTable { name: name.to_owned(), known }
        })
    }

    pub fn count(&self, name: &str) -> Result<u64> {
        let rows = rows_name(self.describe(name)?.id);
        Ok(self.db.begin_read()?.open_table(RowsDefinition::new(&rows))?.len()?)
    }

    /// Rows in key order as they are now, whatever is committed meanwhile. `columns` are indices into the schema.
    pub fn scan(&self, name: &str, columns: Option<&[usize]>, offset: u64, limit: Option<u64>) -> Result<Scan> {
        let info = self.describe(name)?;
        let rows = rows_name(info.id);
        let table = self.db.begin_read()?.open_table(RowsDefinition::new(&rows))?;
        Scan::new(&info, &table, columns, offset, limit)
    }

    /// Removes all rows. What writers have applied stays known, so that nothing is applied again.
    pub fn truncate(&self, name: &str) -> Result<()> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = rows_name(self.describe(name)?.id);
        let mut transaction = self.db.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.delete_table(RowsDefinition::new(&rows))?;
        transaction.open_table(RowsDefinition::new(&rows))?;
        Ok(transaction.commit()?)
    }

    /// Removes the table and everything known about it.
    pub fn drop_table(&self, name: &str) -> Result<()> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let info = self.describe(name)?;
        let rows = rows_name(info.id);
        let mut transaction = self.db.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.delete_table(RowsDefinition::new(&rows))?;
        transaction.open_table(CATALOG)?.remove(name)?;
        transaction.open_table(APPLIED)?.retain(|(id, ..), _| id != info.id)?;
        transaction.open_table(GENERATIONS)?.retain(|(id, _), _| id != info.id)?;
        transaction.commit()?;
        self.change_catalog().remove(name);
        Ok(())
    }

    fn change_catalog(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<TableInfo>>> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse_entry(name: &str, entry: &[u8]) -> Result<TableInfo> {
    let entry: CatalogEntry = serde_json::from_slice(entry)
        .map_err(|why| Error::Corrupt(format!("the catalog entry of table '{name}': {why}")))?;
    TableInfo::from_catalog(name, entry)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("tables", &self.list().len()).finish_non_exhaustive()
    }
}
