//! Rows as text, so that those of a table, of files and of a query can be compared: exactly once each, in any order.

use arrow::ipc::reader::StreamReader;
use arrow::json::LineDelimitedWriter;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// One string a row, sorted; the form in which a source writes times and the order of its columns are evened out.
pub fn canonical(json_lines: &str) -> Vec<String> {
    let mut rows: Vec<String> = json_lines
        .lines()
        .map(|line| {
            let row: BTreeMap<String, Value> =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the row {line}"));
            let cells: Vec<String> = row
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| match value {
                    Value::String(text) => format!("{name}={}", text.trim_end_matches('Z').trim_end_matches(".000000")),
                    other => format!("{name}={other}"),
                })
                .collect();
            cells.join(" ")
        })
        .collect();
    rows.sort();
    rows
}

pub fn of_arrow(stream: &[u8]) -> Vec<String> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    for batch in StreamReader::try_new(stream, None).expect("an Arrow stream") {
        writer.write(&batch.expect("a batch")).expect("rows");
    }
    writer.finish().expect("rows");
    canonical(std::str::from_utf8(&text).expect("text"))
}

/// The rows of all finished part files in a folder.
pub fn of_files(folder: &Path) -> Vec<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("the folder of a files sink") {
        let path = entry.expect("an entry").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            text.push_str(&std::fs::read_to_string(path).expect("a part file"));
        }
    }
    canonical(&text)
}

/// Fails with the first differences rather than with all rows.
#[track_caller]
pub fn assert_same(what: &str, got: &[String], wanted: &[String]) {
    if got == wanted {
        return;
    }
    let count = |rows: &[String]| {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for row in rows {
            *counts.entry(row.clone()).or_default() += 1;
        }
        counts
    };
    let (got_counts, wanted_counts) = (count(got), count(wanted));
    let missing: Vec<_> = wanted_counts.iter().filter(|(row, n)| got_counts.get(*row).unwrap_or(&0) < n).collect();
    let surplus: Vec<_> = got_counts.iter().filter(|(row, n)| wanted_counts.get(*row).unwrap_or(&0) < n).collect();
    panic!(
        "{what}: {} rows where {} are right; {} missing, such as {:?}; {} too many, such as {:?}",
        got.len(),
        wanted.len(),
        missing.len(),
        &missing[..missing.len().min(3)],
        surplus.len(),
        &surplus[..surplus.len().min(3)]
    );
}
