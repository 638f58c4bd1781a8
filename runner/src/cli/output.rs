//! Where a command's words go: data to standard output, progress to standard error.
//!
//! Invariant: a closed standard output ends the command, it never panics.

use super::exit::{FAILED, Fail, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{ErrorKind, Write};

#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    pub dot: bool,
    pub quiet: bool,
}

impl Output {
    /// Writes bytes to standard output and pushes them through.
    pub fn raw(&self, bytes: &[u8]) -> Result<()> {
        crate::status::clear();
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Fail::OutputClosed,
            _ => Fail::new(FAILED, format!("failed to write to standard output: {error}")),
        })
    }

    pub fn line(&self, text: &str) -> Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    pub fn json<T: Serialize>(&self, value: &T) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Fail::new(FAILED, format!("failed to write the answer as JSON: {error}")))?;
        self.line(&text)
    }

    /// The value as JSON, or what `show` makes of it.
    pub fn either<T: Serialize>(&self, value: &T, show: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json { self.json(value) } else { self.raw(show(value).as_bytes()) }
    }

    /// A word to the person; nobody is there to hear it when standard error is closed.
    pub fn progress(&self, text: &str) {
        crate::status::clear();
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }
}

/// A plain table: no borders, so that it can be cut and searched; columns wide enough for their longest cell.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut shown = String::new();
    for line in table.lines() {
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_and_aligned() {
        let shown = table(["JOB", "STATE"], [["a/b".to_string(), "running".to_string()]]);
        assert_eq!(shown, "JOB  STATE\na/b  running\n");
        assert_eq!(table(["JOB"], []), "JOB\n");
    }
}
