//! `[artifacts]`: what is fetched into the folders of a job's tasks.

use super::reader::Reader;
use jobs::artifacts::check_artifacts;
use jobs::{Artifact, Diagnostic};
use std::path::Path;

/// Paths of the file are relative to its folder, as elsewhere; they are looked for on the agents' machines.
pub fn read(reader: &mut Reader<'_>, base_dir: &Path) -> Vec<Artifact> {
    reader.tables("artifacts", |reader, path, span| {
        let from = reader.text("from")?;
        let from = if from.contains("://") { from } else { base_dir.join(from).display().to_string() };
        let sha256 = reader.text("sha256").unwrap_or_default().to_ascii_lowercase();
        let (unpack, executable) = (reader.boolean("unpack")?, reader.boolean("executable")?);
        let artifact = Artifact { from, path: path.to_string(), sha256, unpack, executable };
        if let Err(problem) = check_artifacts(std::slice::from_ref(&artifact)) {
            reader.complain(Diagnostic::new(problem).at(span));
            return None;
        }
        Some(artifact)
    })
}
