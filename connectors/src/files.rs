//! The `files` connector: JSON lines, CSV or plain lines in local files, read to their end and written exactly once.
//!
//! Invariant: a split is a file and a position is the number of a record in it, bad ones counted, so that a read goes
//! on where it stopped. Files are taken to be finished: what is appended after they were listed may be missed.
//! Invariant: what was written stays, so a table of files takes appended rows and no changelog. It may be one that is read:
//! of a table with a primary key all changes of a key are then in one file.

mod pattern;
mod read;
mod write;

use crate::formats::{self, CSV_DELIMITER, CSV_HEADER, Format, JSON_TIMESTAMP_FORMAT};
use crate::{
    Connector, Context, Delivery, Error, Gives, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef,
};
use jobs::Diagnostic;

const PATH: OptionInfo = OptionInfo {
    name: "path",
    kind: "text",
    default: None,
    required: true,
    doc: "to read: a file, a directory, or a pattern with * and ?; to write: a directory; relative to the job file",
};

const CHANGELOG: OptionInfo = OptionInfo {
    name: "changelog",
    kind: "debezium",
    default: None,
    required: false,
    doc: "to read: that records are changes of rows, in Debezium's JSON envelope; with a primary key all changes of a key are \
          in one file",
};

static OPTIONS: [OptionInfo; 6] = [PATH, formats::FORMAT, CHANGELOG, JSON_TIMESTAMP_FORMAT, CSV_DELIMITER, CSV_HEADER];

pub static CONNECTOR: FilesConnector = FilesConnector;

#[derive(Debug)]
pub struct FilesConnector;

/// The path as written; that it is there was checked with the names.
fn path_of(table: &TableDef) -> Result<&str> {
    table
        .option(PATH.name)
        .filter(|path| !path.is_empty())
        .ok_or_else(|| Error::Fatal(format!("table '{}' lacks option 'path'", table.name)))
}

fn has_header(table: &TableDef) -> std::result::Result<bool, Diagnostic> {
    Ok(Format::of(table)? == Format::Csv && Options::new(table).bool(CSV_HEADER.name)?.unwrap_or(true))
}

fn is_changelog(table: &TableDef) -> std::result::Result<bool, Diagnostic> {
    let options = Options::new(table);
    let changelog = options.one_of(CHANGELOG.name, &["debezium"])?.is_some();
    if changelog && Format::of(table)? != Format::Json {
        let wrong = options.wrong(formats::FORMAT.name, "changelog = 'debezium' is written as JSON");
        return Err(wrong.help("leave out option 'format'"));
    }
    Ok(changelog)
}

impl Connector for FilesConnector {
    fn name(&self) -> &'static str {
        "files"
    }

    fn doc(&self) -> &'static str {
        "local files of JSON lines, CSV or text; .gz is unpacked on reading"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = formats::check(table);
        wrong.extend(is_changelog(table).err());
        if table.option(PATH.name) == Some("") {
            wrong.push(Options::new(table).wrong(PATH.name, "option 'path' is empty").help("name a file or directory"));
        }
        wrong
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn gives(&self, table: &TableDef) -> Gives {
        match is_changelog(table) {
            Ok(true) if table.primary_key.is_empty() => Gives::Changes,
            Ok(true) => Gives::Upserts,
            _ => Gives::Rows,
        }
    }

    fn reads_fields(&self, table: &TableDef) -> bool {
        formats::reads_fields(table)
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>> {
        pattern::list(&context.base_dir, path_of(table)?)
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(read::FilesReader::new(table, projection, splits, context)?))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        let directory = path_of(table)?;
        if is_changelog(table)? {
            return Err(Error::Fatal(format!(
                "table '{}' has option 'changelog', and changelogs in files are only read; leave it out to write rows",
                table.name
            )));
        }
        if pattern::is_pattern(directory) {
            return Err(Error::Fatal(format!(
                "table '{}' cannot be written to the pattern '{directory}'; give a directory as 'path'",
                table.name
            )));
        }
        Ok(Box::new(write::FilesSink::open(table, context.base_dir.join(directory), context)?))
    }
}

#[cfg(test)]
mod tests;
