//! Reads Avro files, by the schema that each was written with.
//!
//! Invariant: a position is the number of a record in the file, bad ones counted. A record whose values do not fit its columns
//! is bad and no other is lost for it; a block that cannot be walked through has no records to speak of, and the file is
//! damaged.

use super::{Rows, Taken};
use crate::files::stored::{Stored, read_failed};
use crate::formats::avro::{Blocks, Reading, Root, Schema, Unread, pass_record, read_next};
use crate::formats::{Object, Rejected, columns_of, without_columns};
use crate::{Error, Position, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;

pub struct AvroRows {
    path: PathBuf,
    blocks: Blocks<Input>,
    root: Root,
    columns: Object,
    wanted: SchemaRef,
    block: Vec<u8>,
    /// Where in the block the next record begins, and how many are left of it.
    at: usize,
    left: u64,
    next: Position,
}

fn unread(path: &Path, why: Unread) -> Error {
    match why {
        Unread::Io(why) => read_failed(path, &why),
        Unread::Unsound(why) => Error::Fatal(format!("'{}' is no sound Avro file: {why}", path.display())),
    }
}

type Input = BufReader<Box<dyn std::io::Read + Send>>;

fn blocks(file: Stored) -> Result<Blocks<Input>> {
    let path = file.path.clone();
    let input: Box<dyn std::io::Read + Send> = Box::new(file.in_order());
    Blocks::open(BufReader::with_capacity(READ_BYTES, input)).map_err(|why| unread(&path, why))
}

/// The schema that a file was written with.
pub fn schema(file: Stored) -> Result<Arc<Schema>> {
    Ok(Arc::clone(blocks(file)?.schema()))
}

impl AvroRows {
    pub fn open(file: Stored, wanted: &SchemaRef, from: Position) -> Result<Self> {
        let path = file.path.clone();
        let blocks = blocks(file)?;
        let unfit = |why: String| Error::Fatal(format!("'{}' does not fit: {why}", path.display()));
        let reading = Reading { writer: blocks.schema(), reader: None };
        let root = reading.of_columns(wanted.fields()).map_err(|why| unfit(format!("its schema {why}")))?;
        let columns = columns_of(wanted)
            .map_err(|(name, kind)| unfit(format!("column '{name}' is of type {kind}, which has no form in Avro")))?;
        let (wanted, block) = (Arc::clone(wanted), Vec::new());
        let mut rows = Self { path, blocks, root, columns, wanted, block, at: 0, left: 0, next: 0 };
        rows.go_to(from)?;
        Ok(rows)
    }

    fn go_to(&mut self, from: Position) -> Result<()> {
        while self.next < from {
            let head = self.blocks.head().map_err(|why| unread(&self.path, why))?;
            let Some(head) = head else {
                return Err(Error::Fatal(format!(
                    "'{}' has {} records but was read up to {from} before; was it replaced?",
                    self.path.display(),
                    self.next
                )));
            };
            if head.n_records <= from - self.next {
                self.blocks.pass_over(head).map_err(|why| unread(&self.path, why))?;
                self.next += head.n_records;
                continue;
            }
            self.block = self.blocks.read(head).map_err(|why| unread(&self.path, why))?;
            (self.at, self.left) = (0, head.n_records);
            while self.next < from {
                self.at += self.pass()?;
                self.left -= 1;
                self.next += 1;
            }
        }
        Ok(())
    }

    /// How long the next record is.
    fn pass(&self) -> Result<usize> {
        pass_record(&self.root, &self.block[self.at..]).map_err(|wrong| {
            let why = format!("record {} {}", self.next, wrong.error);
            unread(&self.path, Unread::Unsound(why))
        })
    }

    /// Whether there is a record, in this block or the next.
    fn has_record(&mut self) -> Result<bool> {
        while self.left == 0 {
            if self.at < self.block.len() {
                let n = self.block.len() - self.at;
                return Err(unread(
                    &self.path,
                    Unread::Unsound(format!("a block goes on for {n} bytes after its records")),
                ));
            }
            let Some(head) = self.blocks.head().map_err(|why| unread(&self.path, why))? else { return Ok(false) };
            self.block = self.blocks.read(head).map_err(|why| unread(&self.path, why))?;
            (self.at, self.left) = (0, head.n_records);
        }
        Ok(true)
    }
}

impl Rows for AvroRows {
    fn next(&mut self) -> Result<Option<Taken>> {
        let (begin, mut rows, mut bytes) = (self.next, 0, 0);
        let mut bad: Vec<Rejected> = Vec::new();
        while rows < BATCH_ROWS && bytes < BATCH_BYTES && bad.len() < BATCH_ROWS && self.has_record()? {
            let taken = read_next(&self.root, &mut self.columns, &self.block[self.at..], rows);
            let length = match taken {
                Ok(length) => {
                    rows += 1;
                    length
                }
                Err(wrong) => {
                    self.columns.truncate(rows);
                    let length = self.pass()?;
                    let record = self.block[self.at..self.at + length].to_vec();
                    bad.push((self.next, record, wrong.error));
                    length
                }
            };
            self.at += length;
            bytes += length;
            self.left -= 1;
            self.next += 1;
        }
        if self.next == begin {
            return Ok(None);
        }
        let failed = |why: arrow::error::ArrowError| Error::Fatal(why.to_string());
        let columns = self.columns.finish(rows).map_err(failed)?;
        let rows = match self.wanted.fields().is_empty() {
            true => without_columns(Arc::clone(&self.wanted), rows),
            false => RecordBatch::try_new(Arc::clone(&self.wanted), columns).map_err(failed)?,
        };
        Ok(Some(Taken { rows, next: self.next, bad }))
    }
}
