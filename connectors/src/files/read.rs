//! Reads files one after another.

use super::{has_header, is_changelog};
use crate::formats::{Decoder, Format, LineSplitter, Lines};
use crate::{BadRecord, Context, Error, Polled, Position, Result, SourceReader, SplitStart, TableDef};
use arrow::datatypes::SchemaRef;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One batch: enough rows for column kernels, and few enough bytes to hand on quickly.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;

pub struct FilesReader {
    table: TableDef,
    wanted: SchemaRef,
    splits: Vec<SplitStart>,
    base_dir: PathBuf,
    format: Format,
    splitter: LineSplitter,
    current: usize,
    open: Option<OpenFile>,
    record: Vec<u8>,
}

struct OpenFile {
    path: PathBuf,
    lines: Lines<Box<dyn BufRead + Send>>,
    decoder: Decoder,
    next: Position,
}

impl FilesReader {
    pub fn new(table: &TableDef, projection: &[usize], splits: &[SplitStart], context: &Context) -> Result<Self> {
        let wanted = table.schema.project(projection).map_err(|why| Error::Fatal(why.to_string()))?;
        Ok(Self {
            table: table.clone(),
            wanted: Arc::new(wanted),
            splits: splits.to_vec(),
            base_dir: context.base_dir.clone(),
            format: Format::of(table)?,
            splitter: LineSplitter::of(table)?,
            current: 0,
            open: None,
            record: Vec::new(),
        })
    }

    /// Opens the current split and goes to its start position.
    fn open(&mut self, start: &SplitStart) -> Result<OpenFile> {
        let path = self.base_dir.join(&start.split);
        let failed = |why: std::io::Error| Error::Fatal(format!("'{}' cannot be read: {why}", path.display()));
        let file = File::open(&path).map_err(failed)?;
        let unpacked: Box<dyn Read + Send> = if path.extension().is_some_and(|extension| extension == "gz") {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file)))
        } else {
            Box::new(file)
        };
        let mut stream: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(READ_BYTES, unpacked));
        // Some programs begin UTF-8 text with a mark; it is no part of the first record.
        if stream.fill_buf().map_err(failed)?.starts_with(b"\xef\xbb\xbf") {
            stream.consume(3);
        }
        let mut lines = self.splitter.split(stream);
        let decoder = if has_header(&self.table)? {
            let present = lines.next_record(&mut self.record).map_err(failed)?;
            let names = if present { self.header(&path)? } else { Vec::new() };
            if names.is_empty() {
                // An empty file has no rows to bind; any decoder serves.
                Decoder::new(self.wanted.clone(), &self.table)?
            } else {
                Decoder::with_csv_columns(self.wanted.clone(), &self.table, &names)
                    .map_err(|wrong| Error::Fatal(format!("'{}' does not fit: {wrong}", path.display())))?
            }
        } else if is_changelog(&self.table)? {
            Decoder::for_envelopes(self.wanted.clone(), &self.table)?
        } else {
            Decoder::new(self.wanted.clone(), &self.table)?
        };
        let begin = start.from.unwrap_or(0);
        for at in 0..begin {
            if !lines.next_record(&mut self.record).map_err(failed)? {
                return Err(Error::Fatal(format!(
                    "'{}' has {at} records but was read up to {begin} before; was it replaced?",
                    path.display()
                )));
            }
        }
        Ok(OpenFile { path, lines, decoder, next: begin })
    }

    /// The names in the header line that was just read.
    fn header(&self, path: &std::path::Path) -> Result<Vec<String>> {
        let delimiter = self.splitter.delimiter().unwrap_or(b',');
        let format = arrow::csv::reader::Format::default().with_header(true).with_delimiter(delimiter);
        let (schema, _) = format.infer_schema(self.record.as_slice(), Some(0)).map_err(|why| {
            Error::Fatal(format!("the first line of '{}' is no line of column names: {why}", path.display()))
        })?;
        Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
    }

    /// Reads one batch's worth into the decoder; false when the file has ended before anything came.
    fn fill(&mut self, file: &mut OpenFile) -> Result<bool> {
        let begin = file.next;
        while file.decoder.len() < BATCH_ROWS && file.decoder.buffered_bytes() < BATCH_BYTES {
            let more = file
                .lines
                .next_record(&mut self.record)
                .map_err(|why| Error::Fatal(format!("'{}' cannot be read: {why}", file.path.display())))?;
            if !more {
                return Ok(file.next > begin);
            }
            // A blank line separates; only for plain lines is it a row.
            if self.format == Format::Raw || !self.record.trim_ascii().is_empty() {
                file.decoder.push(&self.record, file.next);
            }
            file.next += 1;
        }
        Ok(true)
    }
}

impl SourceReader for FilesReader {
    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let split = self.current;
        let Some(start) = self.splits.get(split).cloned() else { return Ok(Polled::End) };
        let mut file = match self.open.take() {
            Some(file) => file,
            None => self.open(&start)?,
        };
        if !self.fill(&mut file)? {
            self.current += 1;
            return Ok(Polled::SplitEnd { split });
        }
        let (batch, rejected) = file.decoder.flush();
        let bad = rejected
            .into_iter()
            .map(|(position, bytes, error)| BadRecord { split: start.split.clone(), position, bytes, error })
            .collect();
        let next = file.next;
        self.open = Some(file);
        Ok(Polled::Batch { split, batch, next, bad })
    }
}
