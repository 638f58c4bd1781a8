//! Tables that submitted files declare, so that a query need not declare them again.
//!
//! Invariant: what the store keeps, and what a query declares itself, goes before them; of two files that declare a name,
//! the one that was submitted last.

use crate::book::SubmittedFile;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use streaming::sql::{StatementBody, TableStatement};

#[derive(Clone, Debug)]
pub struct Known {
    /// `group/name` of a job of its file.
    pub job: String,
    pub base_dir: PathBuf,
    pub table: Arc<TableStatement>,
    /// The statement, as it was written.
    pub declaration: String,
}

/// Reads each file once.
#[derive(Clone, Debug, Default)]
pub struct Files {
    read: Arc<Mutex<HashMap<Key, Arc<Vec<Known>>>>>,
}

/// Folder and text.
type Key = (String, String);

impl Files {
    /// By name in lower case.
    pub fn tables(&self, files: Vec<SubmittedFile>) -> BTreeMap<String, Known> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut still: HashMap<Key, Arc<Vec<Known>>> = HashMap::new();
        let mut tables = BTreeMap::new();
        for file in files {
            let key = (file.base_dir.clone(), file.sql.clone());
            let known = read.get(&key).cloned().unwrap_or_else(|| Arc::new(declared(&file)));
            let named = known.iter().map(|known| (known.table.name.text.to_lowercase(), known.clone()));
            tables.extend(named);
            still.insert(key, known);
        }
        *read = still;
        tables
    }
}

fn declared(file: &SubmittedFile) -> Vec<Known> {
    let Ok(script) = crate::functions::parse(&file.sql) else { return Vec::new() };
    let known = script.statements.iter().filter_map(|statement| {
        let StatementBody::Table(table) = &statement.body else { return None };
        // Those of the store are read as it has them.
        let is_stored = table.def.connector() == "table";
        let declaration = format!("{};\n", script.text()[statement.span.0..statement.span.1].trim_end_matches(';'));
        // One that needs others beside it is not there for a query.
        let stands_alone = !is_stored && crate::functions::parse(&declaration).is_ok();
        stands_alone.then(|| Known {
            job: file.job.clone(),
            base_dir: PathBuf::from(&file.base_dir),
            table: Arc::clone(table),
            declaration,
        })
    });
    known.collect()
}
