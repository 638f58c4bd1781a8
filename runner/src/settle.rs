//! From the text of a job file to settled jobs: all defaults filled in, all queries planned, all mistakes told at once.
//!
//! Promises that what comes out can be placed and run without asking the user again. Reads no file besides the text but what
//! the text names, and asks nobody over the network but for the columns of tables that declare none.

mod artifacts;
mod columns;
mod continuous;
mod document;
mod embed;
mod gang;
mod model;
mod order;
mod reader;
mod settings;
mod shape;
mod spec_file;
mod sql_file;
mod sweep;

pub use columns::complete;
pub use settings::plain_name;
pub use sweep::Swept;

use jobs::{Diagnostic, JobSpec};
use std::path::Path;

/// What a file asks for.
#[derive(Clone, Debug)]
pub struct Settled {
    pub group: String,
    /// In the order in which they start.
    pub jobs: Vec<JobSpec>,
    /// Indices of the SELECTs that stand by themselves, and of what shows something of the file (EXPLAIN, DESCRIBE, SHOW):
    /// only a local run answers them.
    pub queries: Vec<usize>,
    /// Why a cluster cannot run these jobs, where only a local run can.
    pub local_only: Option<Diagnostic>,
    /// Of a file that describes one; its only job is then what all trials have in common.
    pub sweep: Option<Box<Swept>>,
    /// Of a SQL file: its text, with the columns that its tables did not declare.
    pub text: Option<String>,
}

/// The refusal of a file with a sweep where one job is meant.
pub fn is_a_sweep(file: &str) -> String {
    format!("{file} describes a sweep: begin it with `smack sweep {file}`, or take the sweep out to train once")
}

const ENDINGS: [&str; 4] = ["sql", "toml", "yaml", "yml"];

/// Settles `text`. `file` is its name: the ending says the language, and the stem is the group's name unless the text
/// gives one. Relative paths in the text are relative to `base_dir`.
pub async fn settle(text: &str, file: &str, base_dir: &Path) -> Result<Settled, Vec<Diagnostic>> {
    let ending = Path::new(file).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let mut result = match ending.to_ascii_lowercase().as_str() {
        "sql" => sql_file::settle(text, &sql_file::Surroundings::of_file(file, base_dir)).await,
        "toml" => match document::from_toml(text) {
            Ok(document) => spec_file::settle(text, &document, file, base_dir).await,
            Err(diagnostics) => Err(diagnostics),
        },
        "yaml" | "yml" => match document::from_yaml(text) {
            Ok(document) => spec_file::settle(text, &document, file, base_dir).await,
            Err(diagnostics) => Err(diagnostics),
        },
        other => {
            let unknown = Diagnostic::new(format!("the ending '{other}' of {file} says no language of job files"));
            Err(vec![unknown.help(format!("use .{}", ENDINGS.join(", .")))])
        }
    };
    if let Err(diagnostics) = &mut result {
        assert!(!diagnostics.is_empty(), "{file} was refused without a reason");
        diagnostics.sort_by_key(|diagnostic| diagnostic.span);
        diagnostics.dedup();
    }
    result
}

/// As [`settle`], and whatever only a local run can do is a mistake.
pub async fn settle_for_cluster(text: &str, file: &str, base_dir: &Path) -> Result<Settled, Vec<Diagnostic>> {
    let settled = settle(text, file, base_dir).await?;
    match settled.local_only {
        Some(mistake) => Err(vec![mistake]),
        None => Ok(settled),
    }
}

/// JSON Schema of job files in TOML and YAML.
pub fn json_schema() -> serde_json::Value {
    shape::json_schema()
}

#[cfg(test)]
mod tests;
