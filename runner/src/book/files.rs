//! The SQL of what was submitted: queries see the tables that it declares.

use super::Book;
use jobs::JobBody;
use std::collections::BTreeMap;

/// A file whose jobs are known, running or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedFile {
    /// One of its jobs.
    pub job: String,
    pub sql: String,
    /// Relative paths in it are relative to this folder.
    pub base_dir: String,
}

impl Book {
    /// The SQL of what was submitted, once for each group, what came last at the end.
    pub fn files(&self) -> Vec<SubmittedFile> {
        let mut files: BTreeMap<&str, (u64, SubmittedFile)> = BTreeMap::new();
        for (id, job) in &self.jobs {
            let (sql, base_dir) = match &job.record.spec.body {
                JobBody::Stream(body) => (&body.sql, &body.base_dir),
                JobBody::Train(body) => (&body.sql, &body.base_dir),
                JobBody::Command(_) | JobBody::Service(_) => continue,
            };
            let file = || SubmittedFile { job: id.to_string(), sql: sql.clone(), base_dir: base_dir.clone() };
            files.entry(&job.record.spec.group).or_insert_with(|| (job.record.submitted_ms, file()));
        }
        let mut files: Vec<(u64, SubmittedFile)> = files.into_values().collect();
        files.sort_by_key(|(submitted_ms, _)| *submitted_ms);
        files.into_iter().map(|(_, file)| file).collect()
    }
}
