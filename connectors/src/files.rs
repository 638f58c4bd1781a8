//! The `files` connector: JSON lines, CSV, plain lines, Parquet, Avro or Arrow, in folders or on a store that speaks S3, read to
//! their end and written exactly once.
//!
//! Invariant: a split is a file, or some row groups of one, and a position is the number of a record in it, bad ones
//! counted, so that a read goes on where it stopped. Files are taken to be finished: what is appended after they were
//! listed may be missed.
//! Invariant: what was written stays, so a table of files takes appended rows and no changelog. It may be one that is read:
//! of a table with a primary key all changes of a key are then in one file.

mod adopt;
mod columns;
mod hive;
mod packing;
mod pattern;
mod read;
mod stored;
mod watch;
mod write;

use crate::formats::{self, CSV_DELIMITER, CSV_HEADER, JSON_TIMESTAMP_FORMAT};
use crate::{
    Columns, Connector, Context, Delivery, Error, Gives, OptionInfo, Options, Result, Sink, SourceReader, SplitStart,
    TableDef,
};
use hive::Partitioning;
use jobs::Diagnostic;

const PATH: OptionInfo = OptionInfo {
    name: "path",
    kind: "text",
    default: None,
    required: true,
    doc: "to read: a file, a directory, or a pattern with * and ?; to write: a directory; relative to the job file, or on a \
          store as s3://bucket/prefix",
};

const FORMAT: OptionInfo = OptionInfo {
    name: "format",
    kind: "json|csv|raw|parquet|avro|arrow",
    default: None,
    required: false,
    doc: "how files are written; default parquet, avro or arrow where the path ends so, else json",
};

const CHANGELOG: OptionInfo = OptionInfo {
    name: "changelog",
    kind: "debezium",
    default: None,
    required: false,
    doc: "to read: that records are changes of rows, in Debezium's JSON envelope; with a primary key all changes of a key are \
          in one file",
};

static OPTIONS: [OptionInfo; 11] = [
    PATH,
    FORMAT,
    watch::WATCH,
    packing::COMPRESSION,
    hive::PARTITIONED_BY,
    write::ROLLING_SIZE,
    write::ROLLING_INTERVAL,
    CHANGELOG,
    JSON_TIMESTAMP_FORMAT,
    CSV_DELIMITER,
    CSV_HEADER,
];

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

/// How the files of a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Json,
    Csv,
    Raw,
    Parquet,
    Avro,
    Arrow,
}

impl FileFormat {
    fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let word = Options::new(table).one_of(FORMAT.name, &["json", "csv", "raw", "parquet", "avro", "arrow"])?;
        let ending = || table.option(PATH.name).and_then(|path| path.rsplit_once('.')).map(|(_, ending)| ending);
        Ok(match (word, ending()) {
            (Some("csv"), _) => Self::Csv,
            (Some("raw"), _) => Self::Raw,
            (Some("parquet"), _) | (None, Some("parquet")) => Self::Parquet,
            (Some("avro"), _) | (None, Some("avro")) => Self::Avro,
            (Some("arrow"), _) | (None, Some("arrow")) => Self::Arrow,
            _ => Self::Json,
        })
    }

    /// Whether files hold one record after another, which [`formats`] reads and writes.
    fn has_lines(self) -> bool {
        match self {
            Self::Json | Self::Csv | Self::Raw => true,
            Self::Parquet | Self::Avro | Self::Arrow => false,
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Raw => "txt",
            Self::Parquet => "parquet",
            Self::Avro => "avro",
            Self::Arrow => "arrow",
        }
    }
}

fn has_header(table: &TableDef) -> std::result::Result<bool, Diagnostic> {
    Ok(FileFormat::of(table)? == FileFormat::Csv && Options::new(table).bool(CSV_HEADER.name)?.unwrap_or(true))
}

fn is_changelog(table: &TableDef) -> std::result::Result<bool, Diagnostic> {
    let options = Options::new(table);
    let changelog = options.one_of(CHANGELOG.name, &["debezium"])?.is_some();
    if changelog && FileFormat::of(table)? != FileFormat::Json {
        let wrong = options.wrong(formats::FORMAT.name, "changelog = 'debezium' is written as JSON");
        return Err(wrong.help("leave out option 'format'"));
    }
    if changelog && watch::interval(table)?.is_some() {
        let wrong = options.wrong(watch::WATCH.name, "a file of records that are changes is read to its end");
        return Err(wrong.help("leave out option 'scan.watch'"));
    }
    if changelog && !Partitioning::of(table)?.is_none() {
        let wrong = options.wrong(hive::PARTITIONED_BY.name, "records that are changes hold all of their columns");
        return Err(wrong.help("leave out PARTITIONED BY"));
    }
    Ok(changelog)
}

/// What is wrong with where the files are.
fn check_path(table: &TableDef) -> Option<Diagnostic> {
    let options = Options::new(table);
    let location = options.text(PATH.name).unwrap_or_default();
    if location.is_empty() {
        return Some(options.wrong(PATH.name, "option 'path' is empty").help("name a file or directory"));
    }
    match location.split_once("://") {
        Some(("s3", _)) => objects::refuse(location).map(|why| options.wrong(PATH.name, why)),
        Some((kind, _)) => {
            let wrong = options.wrong(PATH.name, format!("there is no store '{kind}://'"));
            Some(wrong.help("give a path, or s3://bucket/prefix"))
        }
        None => None,
    }
}

impl Connector for FilesConnector {
    fn name(&self) -> &'static str {
        "files"
    }

    fn doc(&self) -> &'static str {
        "files of JSON lines, CSV, text, Parquet, Avro or Arrow, in folders or on a store that speaks S3"
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
        let mut wrong: Vec<Diagnostic> = check_path(table).into_iter().collect();
        wrong.extend(write::Rolling::of(table).err());
        wrong.extend(watch::interval(table).err());
        match FileFormat::of(table) {
            Ok(format) => wrong.extend(packing::Packing::of(table, format).err()),
            Err(error) => return [wrong, vec![error]].concat(),
        }
        match Partitioning::of(table) {
            Ok(partitioning) if FileFormat::of(table).is_ok_and(FileFormat::has_lines) => {
                match partitioning.in_files(table) {
                    Ok(in_files) => wrong.extend(formats::check(&in_files)),
                    Err(why) => wrong.push(Diagnostic::new(why.to_string())),
                }
            }
            Ok(partitioning) if FileFormat::of(table).is_ok_and(|format| format == FileFormat::Avro) => {
                let in_files = partitioning.in_files(table);
                let unfit = in_files.and_then(|in_files| write::avro_schema(&in_files)).err();
                wrong.extend(unfit.map(|why| Diagnostic::new(why.to_string())));
            }
            Ok(_) => {}
            Err(error) => return [wrong, vec![error]].concat(),
        }
        wrong.extend(is_changelog(table).err());
        wrong
    }

    fn columns(&self, table: &TableDef, context: &Context) -> Result<Option<Columns>> {
        columns::columns(table, context)
    }

    fn bounded(&self, table: &TableDef) -> bool {
        !self.discovers(table)
    }

    fn discovers(&self, table: &TableDef) -> bool {
        watch::interval(table).is_ok_and(|interval| interval.is_some())
    }

    fn slot_of(&self, table: &TableDef, split: &str, at: usize, n_slots: u32) -> u32 {
        match self.discovers(table) {
            true => watch::slot_of(split, n_slots),
            false => (at as u64 % u64::from(n_slots)) as u32,
        }
    }

    fn gives(&self, table: &TableDef) -> Gives {
        match is_changelog(table) {
            Ok(true) if table.primary_key.is_empty() => Gives::Changes,
            Ok(true) => Gives::Upserts,
            _ => Gives::Rows,
        }
    }

    fn reads_fields(&self, table: &TableDef) -> bool {
        FileFormat::of(table).is_ok_and(|format| match format {
            FileFormat::Json | FileFormat::Parquet | FileFormat::Avro | FileFormat::Arrow => true,
            FileFormat::Csv | FileFormat::Raw => false,
        })
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>> {
        read::splits(table, context)
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Ok(match watch::interval(table)? {
            Some(interval) => Box::new(watch::WatchingReader::new(table, projection, splits, interval, context)?),
            None => Box::new(read::FilesReader::new(table, projection, splits, context)?),
        })
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
        Ok(Box::new(write::FilesSink::open(table, context)?))
    }
}

#[cfg(test)]
mod tests;
