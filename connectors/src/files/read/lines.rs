//! Reads files of records that follow one another: JSON lines, CSV and plain lines, packed or not.
//!
//! Invariant: a position is the number of a record in the file, bad ones and blank lines counted.

use super::{Rows, Taken};
use crate::files::FileFormat;
use crate::files::packing::Packing;
use crate::files::stored::{Stored, read_failed};
use crate::files::{has_header, is_changelog};
use crate::formats::{Decoder, LineSplitter, Lines};
use crate::{Error, Position, Result, TableDef};
use arrow::datatypes::SchemaRef;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// One batch: enough rows for column kernels, and few enough bytes to hand on quickly.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;

pub struct LineRows {
    path: PathBuf,
    format: FileFormat,
    lines: Lines<Box<dyn BufRead + Send>>,
    decoder: Decoder,
    record: Vec<u8>,
    next: Position,
}

impl LineRows {
    /// Opens the file and goes to its start position.
    pub fn open(table: &TableDef, file: Stored, wanted: &SchemaRef, from: Position) -> Result<Self> {
        let path = file.path.clone();
        let failed = |why: std::io::Error| read_failed(&path, &why);
        let stream = text(file)?;
        let splitter = LineSplitter::of(table)?;
        let (mut lines, mut record) = (splitter.split(stream), Vec::new());
        let decoder = if has_header(table)? {
            let present = lines.next_record(&mut record).map_err(failed)?;
            let names = if present { header(&record, splitter, &path)? } else { Vec::new() };
            if names.is_empty() {
                // An empty file has no rows to bind; any decoder serves.
                Decoder::new(wanted.clone(), table)?
            } else {
                Decoder::with_csv_columns(wanted.clone(), table, &names)
                    .map_err(|wrong| Error::Fatal(format!("'{}' does not fit: {wrong}", path.display())))?
            }
        } else if is_changelog(table)? {
            Decoder::for_envelopes(wanted.clone(), table)?
        } else {
            Decoder::new(wanted.clone(), table)?
        };
        for at in 0..from {
            if !lines.next_record(&mut record).map_err(failed)? {
                return Err(Error::Fatal(format!(
                    "'{}' has {at} records but was read up to {from} before; was it replaced?",
                    path.display()
                )));
            }
        }
        Ok(Self { format: FileFormat::of(table)?, lines, decoder, record, next: from, path })
    }

    /// Reads one batch's worth into the decoder; false when the file has ended before anything came.
    fn fill(&mut self) -> Result<bool> {
        let begin = self.next;
        while self.decoder.len() < BATCH_ROWS && self.decoder.buffered_bytes() < BATCH_BYTES {
            let more = self.lines.next_record(&mut self.record).map_err(|why| read_failed(&self.path, &why))?;
            if !more {
                return Ok(self.next > begin);
            }
            // A blank line separates; only for plain lines is it a row.
            if self.format == FileFormat::Raw || !self.record.trim_ascii().is_empty() {
                self.decoder.push(&self.record, self.next);
            }
            self.next += 1;
        }
        Ok(true)
    }
}

/// The text of a file, unpacked.
pub fn text(file: Stored) -> Result<Box<dyn BufRead + Send>> {
    let path = file.path.clone();
    let failed = |why: std::io::Error| read_failed(&path, &why);
    let unpacked = Packing::of_name(&path).unpack(file.in_order()).map_err(failed)?;
    let mut stream: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(READ_BYTES, unpacked));
    // Some programs begin UTF-8 text with a mark; it is no part of the first record.
    if stream.fill_buf().map_err(failed)?.starts_with(b"\xef\xbb\xbf") {
        stream.consume(3);
    }
    Ok(stream)
}

/// The names in a header line.
pub fn header(record: &[u8], splitter: LineSplitter, path: &Path) -> Result<Vec<String>> {
    let delimiter = splitter.delimiter().unwrap_or(b',');
    let format = arrow::csv::reader::Format::default().with_header(true).with_delimiter(delimiter);
    let (schema, _) = format.infer_schema(record, Some(0)).map_err(|why| {
        Error::Fatal(format!("the first line of '{}' is no line of column names: {why}", path.display()))
    })?;
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

impl Rows for LineRows {
    fn next(&mut self) -> Result<Option<Taken>> {
        if !self.fill()? {
            return Ok(None);
        }
        let (rows, bad) = self.decoder.flush();
        Ok(Some(Taken { rows, next: self.next, bad }))
    }
}
