//! Reads files one after another.
//!
//! Invariant: after an error that may pass, the file is opened again and read on behind what was handed on.

mod arrow;
mod avro;
mod lines;
pub mod parquet;

pub use arrow::schema as arrow_schema;
pub use avro::schema as avro_schema;
pub use lines::{header, text};

use super::hive::{Partitioning, with_constants};
use super::stored::Stored;
use super::{FileFormat, path_of, pattern, watch};
use crate::formats::Rejected;
use crate::{BadRecord, Context, Error, Polled, Position, Result, SourceReader, SplitStart, TableDef};
use ::arrow::array::{ArrayRef, RecordBatch};
use ::arrow::datatypes::SchemaRef;
use ::parquet::file::metadata::ParquetMetaData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Footers that are fetched at the same time from a store, where each costs a round trip or two.
const FOOTERS_AT_ONCE: usize = 8;

/// What one step through a file gave.
pub struct Taken {
    pub rows: RecordBatch,
    /// Where to go on after it.
    pub next: Position,
    pub bad: Vec<Rejected>,
}

/// The rows of one opened split.
pub trait Rows: Send {
    fn next(&mut self) -> Result<Option<Taken>>;
}

/// The splits of a table: its files, those of Parquet by row groups.
pub fn splits(table: &TableDef, context: &Context) -> Result<Vec<String>> {
    let (path, partitioned) = (path_of(table)?, !Partitioning::of(table)?.is_none());
    if watch::interval(table)?.is_some() {
        // What is not there yet may come, and of files that come one after another row groups would be many splits.
        let found = pattern::find(&context.base_dir, path, partitioned)?;
        return Ok(found.into_iter().map(|found| found.path).collect());
    }
    let found = pattern::find_some(&context.base_dir, path, partitioned)?;
    let paths: Vec<String> = found.into_iter().map(|found| found.path).collect();
    if FileFormat::of(table)? != FileFormat::Parquet {
        return Ok(paths);
    }
    let groups = row_groups(&context.base_dir, &paths)?;
    let named = paths
        .iter()
        .zip(&groups)
        .flat_map(|(path, groups)| groups.iter().map(move |groups| parquet::split_name(path, groups)));
    Ok(named.collect())
}

fn row_groups(base_dir: &Path, paths: &[String]) -> Result<Vec<Vec<Range<usize>>>> {
    let of = |path: &String| -> Result<Vec<Range<usize>>> {
        Ok(parquet::splits(&*parquet::footer(&Stored::open(base_dir, path)?)?))
    };
    let mut groups = Vec::with_capacity(paths.len());
    for some in paths.chunks(FOOTERS_AT_ONCE) {
        let asked: Vec<Result<_>> = std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|path| scope.spawn(move || of(path))).collect();
            let gone = || Error::Fatal("a thread that read a footer has panicked".to_owned());
            asked.into_iter().map(|asked| asked.join().unwrap_or_else(|_| Err(gone()))).collect()
        });
        groups.extend(asked.into_iter().collect::<Result<Vec<_>>>()?);
    }
    Ok(groups)
}

pub struct FilesReader {
    table: TableDef,
    /// The table as its files have it: without the columns that paths have.
    in_files: TableDef,
    format: FileFormat,
    wanted: SchemaRef,
    /// What of it stands in the files.
    stored: SchemaRef,
    partitioning: Partitioning,
    /// Where in `wanted` columns stand that the path has, with their place in `partitioning`.
    from_path: Vec<(usize, usize)>,
    splits: Vec<SplitStart>,
    /// Whether a split is a whole file, also of Parquet.
    whole: bool,
    base_dir: PathBuf,
    current: usize,
    open: Option<Open>,
    /// Of the Parquet file that was opened last: its next split is likely to be next.
    footer: Option<(String, Arc<ParquetMetaData>)>,
}

struct Open {
    rows: Box<dyn Rows>,
    /// Columns that the path has, by their place in the batch.
    constants: Vec<(usize, ArrayRef)>,
}

impl FilesReader {
    pub fn new(table: &TableDef, projection: &[usize], splits: &[SplitStart], context: &Context) -> Result<Self> {
        let failed = |why: ::arrow::error::ArrowError| Error::Fatal(why.to_string());
        let partitioning = Partitioning::of(table)?;
        let place = |column: &usize| partitioning.columns.iter().position(|known| known == column);
        let from_path = projection.iter().enumerate().filter_map(|(at, column)| Some((at, place(column)?))).collect();
        let stored: Vec<usize> = projection.iter().copied().filter(|column| place(column).is_none()).collect();
        Ok(Self {
            table: table.clone(),
            in_files: partitioning.in_files(table)?,
            format: FileFormat::of(table)?,
            wanted: Arc::new(table.schema.project(projection).map_err(failed)?),
            stored: Arc::new(table.schema.project(&stored).map_err(failed)?),
            partitioning,
            from_path,
            splits: splits.to_vec(),
            whole: false,
            base_dir: context.base_dir.clone(),
            current: 0,
            open: None,
            footer: None,
        })
    }

    /// One whose splits are told with each step, and are whole files.
    pub fn of_files(table: &TableDef, projection: &[usize], context: &Context) -> Result<Self> {
        Ok(Self { whole: true, ..Self::new(table, projection, &[], context)? })
    }

    /// A batch that says only how far a split has come.
    pub fn no_rows(&self) -> RecordBatch {
        RecordBatch::new_empty(Arc::clone(&self.wanted))
    }

    /// Opens a split at its start position.
    fn open(&mut self, start: &SplitStart) -> Result<Open> {
        let from = start.from.unwrap_or(0);
        let (path, groups) = match self.format {
            FileFormat::Parquet if self.whole => (start.split.as_str(), Some(0..usize::MAX)),
            FileFormat::Parquet => {
                let (path, groups) = parquet::split_parts(&start.split)?;
                (path, Some(groups))
            }
            FileFormat::Json | FileFormat::Csv | FileFormat::Raw | FileFormat::Arrow | FileFormat::Avro => {
                (start.split.as_str(), None)
            }
        };
        let file = Stored::open(&self.base_dir, path)?;
        let rows: Box<dyn Rows> = match groups {
            Some(groups) => {
                let footer = match self.footer.take().filter(|(known, _)| known == path) {
                    Some((_, footer)) => footer,
                    None => parquet::footer(&file)?,
                };
                self.footer = Some((path.to_owned(), Arc::clone(&footer)));
                let groups = if self.whole { 0..footer.num_row_groups() } else { groups };
                Box::new(parquet::ParquetRows::open(file, footer, groups, &self.stored, from)?)
            }
            None if self.format == FileFormat::Arrow => Box::new(arrow::ArrowRows::open(file, &self.stored, from)?),
            None if self.format == FileFormat::Avro => Box::new(avro::AvroRows::open(file, &self.stored, from)?),
            None => Box::new(lines::LineRows::open(&self.in_files, file, &self.stored, from)?),
        };
        let constants = match self.from_path.is_empty() {
            true => Vec::new(),
            false => {
                let values = self.partitioning.values(&self.table, path)?;
                self.from_path.iter().map(|(at, of)| (*at, Arc::clone(&values[*of]))).collect()
            }
        };
        Ok(Open { rows, constants })
    }

    /// The next rows of a split, which is opened at its start position unless it is open.
    pub fn step(&mut self, start: &SplitStart) -> Result<Option<Taken>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open(start)?,
        };
        let Some(mut taken) = open.rows.next()? else { return Ok(None) };
        if !open.constants.is_empty() {
            let whole = with_constants(taken.rows, &self.wanted, &open.constants);
            taken.rows = whole.map_err(|why| Error::Fatal(why.to_string()))?;
        }
        self.open = Some(open);
        Ok(Some(taken))
    }
}

impl SourceReader for FilesReader {
    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let split = self.current;
        let Some(start) = self.splits.get(split).cloned() else { return Ok(Polled::End) };
        let Some(Taken { rows, next, bad }) = self.step(&start)? else {
            self.current += 1;
            return Ok(Polled::SplitEnd { split });
        };
        self.splits[split].from = Some(next);
        let name = &start.split;
        let bad = bad
            .into_iter()
            .map(|(position, bytes, error)| BadRecord { split: name.clone(), position, bytes, error })
            .collect();
        Ok(Polled::Batch { split, batch: rows, next, bad })
    }
}
