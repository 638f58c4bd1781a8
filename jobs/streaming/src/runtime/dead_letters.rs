//! Where records go that did not decode: one file of JSON lines per table.
//!
//! Invariant: a record is in the file before the task goes on to the rows after it, so before any checkpoint that lies
//! behind it. After a restart some records appear again; split and position tell that they are the same.

use connectors::BadRecord;
use serde_json::json;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
pub struct DeadLetters {
    dir: PathBuf,
    /// By table. Shared by the slices of a task, so that each line is written whole.
    files: Mutex<HashMap<String, File>>,
}

#[derive(Debug, thiserror::Error)]
#[error("write bad records to {path}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DeadLetters {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, files: Mutex::default() }
    }

    pub fn append(&self, table: &str, records: &[BadRecord]) -> Result<(), Error> {
        let mut lines = String::new();
        for record in records {
            let (name, bytes) = match std::str::from_utf8(&record.bytes) {
                Ok(text) => ("text", text.to_string()),
                Err(_) => ("hex", record.bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            };
            let line = json!({
                "table": table, "split": record.split, "position": record.position, "error": record.error, name: bytes,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        let path = self.dir.join(format!("{}.jsonl", file_name(table)));
        self.write(table, &path, &lines).map_err(|source| Error { path, source })
    }

    fn write(&self, table: &str, path: &std::path::Path, lines: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.contains_key(table) {
            std::fs::create_dir_all(&self.dir)?;
            files.insert(table.to_string(), OpenOptions::new().create(true).append(true).open(path)?);
        }
        // One call for all of them: other tasks of the job may append to the same file.
        files.get_mut(table).map_or(Ok(()), |file| file.write_all(lines.as_bytes()))
    }
}

/// A table's name as a file's: what is not a letter, a digit, `-`, `_` or `.` becomes `_`.
fn file_name(table: &str) -> String {
    table.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_record_with_its_place() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let record = |position, bytes: &[u8]| BadRecord {
            split: "topic-0".into(),
            position,
            bytes: bytes.to_vec(),
            error: "not JSON".into(),
        };
        for _ in 0..2 {
            let letters = DeadLetters::new(dir.path().join("dead"));
            letters.append("a/b", &[record(7, b"{\"x\"\n"), record(8, &[0xff, 0])]).expect("write");
        }
        let text = std::fs::read_to_string(dir.path().join("dead/a_b.jsonl")).expect("read");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["text"], "{\"x\"\n");
        assert_eq!((&lines[3]["hex"], &lines[3]["position"]), (&json!("ff00"), &json!(8)));
    }
}
