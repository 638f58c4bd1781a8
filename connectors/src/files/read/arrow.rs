//! Reads Arrow files and streams (IPC); which of the two a file is, its first bytes say.
//!
//! Invariant: only the wanted columns are decoded, and a position is the number of a row in the file.

use super::{Rows, Taken};
use crate::files::adopt::{adopt, bind};
use crate::files::stored::{InOrder, Stored, read_failed};
use crate::{Error, Position, Result};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReaderBuilder, StreamReader};
use std::io::{BufReader, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8] = b"ARROW1";
/// What each message of a stream begins with, before the length of its head.
const CONTINUATION: [u8; 4] = [0xff; 4];
const BATCH_ROWS: usize = 8192;
const READ_BYTES: usize = 256 << 10;

pub struct ArrowRows {
    path: PathBuf,
    batches: Box<dyn RecordBatchReader + Send>,
    bound: Schema,
    wanted: SchemaRef,
    /// What is left of the batch that was read last.
    rest: Option<RecordBatch>,
    /// Rows that were read before.
    pass: u64,
    next: Position,
}

fn unsound(path: &Path, why: &ArrowError) -> Error {
    match why {
        ArrowError::IoError(_, io) if io.get_ref().is_some_and(|inner| inner.is::<object_store::Error>()) => {
            read_failed(path, io)
        }
        _ => Error::Fatal(format!("'{}' is no sound Arrow file: {why}", path.display())),
    }
}

/// How long the head of a stream's first message is, by its own word.
fn schema_bytes(first: &[u8]) -> u64 {
    match first {
        [_, _, _, _, a, b, c, d] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => u64::MAX,
    }
}

/// Arrow's readers believe what a damaged file says of itself, and panic on some of it.
fn believed<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| {
        Error::Fatal(format!("'{}' is damaged: what it says of its schema or batches cannot be", path.display()))
    })
}

/// What a file is, and its bytes from the beginning.
struct Begun {
    /// Else a stream.
    is_file: bool,
    schema: SchemaRef,
    stream: InOrder,
}

fn begin(file: Stored) -> Result<Begun> {
    let path = file.path.clone();
    let unsound = |why: ArrowError| unsound(&path, &why);
    let beginning = 0..file.bytes.min(8);
    let first = file.pieces(std::slice::from_ref(&beginning))?.swap_remove(0);
    let is_file = first.starts_with(MAGIC);
    // The reader of streams takes memory for whatever length stands there.
    let sound = is_file || first.starts_with(&CONTINUATION) && schema_bytes(&first) <= file.bytes;
    if !sound {
        return Err(unsound(ArrowError::ParseError("it begins neither as a file nor as a stream".to_owned())));
    }
    let mut stream = file.in_order();
    let schema = if is_file {
        FileReaderBuilder::new().build(&mut stream).map_err(unsound)?.schema()
    } else {
        StreamReader::try_new(&mut stream, None).map_err(unsound)?.schema()
    };
    stream.rewind().map_err(|why| read_failed(&path, &why))?;
    Ok(Begun { is_file, schema, stream })
}

/// The columns of a file.
pub fn schema(file: Stored) -> Result<SchemaRef> {
    let path = file.path.clone();
    believed(&path, || begin(file))?.map(|begun| begun.schema)
}

impl ArrowRows {
    pub fn open(file: Stored, wanted: &SchemaRef, from: Position) -> Result<Self> {
        let path = file.path.clone();
        believed(&path, || Self::open_believing(file, wanted, from))?
    }

    fn open_believing(file: Stored, wanted: &SchemaRef, from: Position) -> Result<Self> {
        let path = file.path.clone();
        let unsound = |why: ArrowError| unsound(&path, &why);
        let Begun { is_file, schema, stream } = begin(file)?;
        let bound = bind(&path, &schema, wanted)?;
        let mut projection: Vec<usize> = bound
            .fields()
            .iter()
            .filter_map(|field| schema.fields().iter().position(|known| known.name() == field.name()))
            .collect();
        projection.sort_unstable();
        projection.dedup();
        let stream: BufReader<InOrder> = BufReader::with_capacity(READ_BYTES, stream);
        let batches: Box<dyn RecordBatchReader + Send> = if is_file {
            Box::new(FileReaderBuilder::new().with_projection(projection).build(stream).map_err(unsound)?)
        } else {
            Box::new(StreamReader::try_new(stream, Some(projection)).map_err(unsound)?)
        };
        Ok(Self { path, batches, bound, wanted: Arc::clone(wanted), rest: None, pass: from, next: from })
    }
}

impl Rows for ArrowRows {
    fn next(&mut self) -> Result<Option<Taken>> {
        while self.rest.as_ref().is_none_or(|rest| rest.num_rows() == 0) {
            let batches = &mut self.batches;
            let Some(batch) = believed(&self.path, || batches.next())? else {
                if self.pass > 0 {
                    return Err(Error::Fatal(format!(
                        "'{}' has fewer rows than were read before ({}); was it replaced?",
                        self.path.display(),
                        self.next
                    )));
                }
                return Ok(None);
            };
            let batch = batch.map_err(|why| unsound(&self.path, &why))?;
            let passed = self.pass.min(batch.num_rows() as u64);
            self.pass -= passed;
            self.rest = Some(batch.slice(passed as usize, batch.num_rows() - passed as usize));
        }
        // A writer may have made batches of any length; those who wait for rows shall have some soon.
        let Some(rest) = self.rest.take() else { return Ok(None) };
        let n = rest.num_rows().min(BATCH_ROWS);
        let rows = adopt(&self.path, &rest.slice(0, n), &self.bound, &self.wanted)?;
        self.rest = Some(rest.slice(n, rest.num_rows() - n));
        self.next += n as u64;
        Ok(Some(Taken { rows, next: self.next, bad: Vec::new() }))
    }
}
