//! Avro's object container files: a head with the writer's schema, then blocks of records, each packed by itself.
//!
//! Source: the Avro specification 1.12, "Object Container Files".
//!
//! Invariant: no length that a file claims is believed before its bytes are there, and no block takes more memory than
//! [`MOST_BLOCK_BYTES`], however little it is packed to.

use super::encode::Writing;
use super::schema::Schema;
use crate::formats::wire::put_zigzag;
use arrow::array::RecordBatch;
use arrow::datatypes::Fields;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"Obj\x01";
const SCHEMA: &str = "avro.schema";
const CODEC: &str = "avro.codec";

type Sync = [u8; 16];

/// Unpacked.
const MOST_BLOCK_BYTES: u64 = 256 << 20;
/// Of the head: schemas are text.
const MOST_HEAD_BYTES: u64 = 16 << 20;
/// A block of records that take no bytes could claim any number of them.
const MOST_EMPTY_RECORDS: u64 = 1 << 20;
/// Large enough that blocks pack well, and small enough that a reader holds several.
const BLOCK_BYTES: usize = 256 << 10;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unread {
    Io(io::Error),
    /// What is wrong with it, for people.
    Unsound(String),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => unsound("it ends in the middle of its head or of a block"),
            _ => Self::Io(error),
        }
    }
}

fn unsound(why: impl Into<String>) -> Unread {
    Unread::Unsound(why.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl Codec {
    const ALL: [Self; 4] = [Self::Null, Self::Deflate, Self::Snappy, Self::Zstandard];

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }

    fn of_name(name: &[u8]) -> Result<Self, Unread> {
        Self::ALL.into_iter().find(|codec| codec.name().as_bytes() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            unsound(format!("its blocks are packed by '{}', and {known} are read", String::from_utf8_lossy(name)))
        })
    }

    fn unpack(self, packed: Vec<u8>) -> Result<Vec<u8>, Unread> {
        let damaged = |why: &dyn std::fmt::Display| unsound(format!("a block cannot be unpacked: {why}"));
        match self {
            Self::Null => Ok(packed),
            Self::Deflate => all_of(flate2::read::DeflateDecoder::new(packed.as_slice())),
            Self::Zstandard => all_of(zstd::Decoder::new(packed.as_slice()).map_err(|why| damaged(&why))?),
            Self::Snappy => {
                let Some((packed, sum)) = packed.split_last_chunk::<4>() else {
                    return Err(damaged(&"it has no check sum"));
                };
                let length = snap::raw::decompress_len(packed).map_err(|why| damaged(&why))?;
                if length as u64 > MOST_BLOCK_BYTES {
                    return Err(too_large());
                }
                let block = snap::raw::Decoder::new().decompress_vec(packed).map_err(|why| damaged(&why))?;
                match crc(&block) == u32::from_be_bytes(*sum) {
                    true => Ok(block),
                    false => Err(damaged(&"its check sum is another")),
                }
            }
        }
    }

    fn pack(self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Null => Ok(block.to_vec()),
            Self::Deflate => {
                let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                packer.write_all(block)?;
                packer.finish()
            }
            Self::Zstandard => zstd::bulk::compress(block, ZSTD_LEVEL),
            Self::Snappy => {
                let mut packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
                packed.extend_from_slice(&crc(block).to_be_bytes());
                Ok(packed)
            }
        }
    }
}

fn too_large() -> Unread {
    unsound(format!("a block has more than {} MiB when it is unpacked", MOST_BLOCK_BYTES >> 20))
}

fn all_of(packed: impl Read) -> Result<Vec<u8>, Unread> {
    let mut block = Vec::new();
    let read = packed.take(MOST_BLOCK_BYTES + 1).read_to_end(&mut block);
    read.map_err(|why| unsound(format!("a block cannot be unpacked: {why}")))?;
    if block.len() as u64 > MOST_BLOCK_BYTES { Err(too_large()) } else { Ok(block) }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The blocks of a file, one after another.
pub struct Blocks<R> {
    input: R,
    codec: Codec,
    sync: Sync,
    schema: Arc<Schema>,
}

/// What stands before a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockHead {
    pub n_records: u64,
    /// Packed.
    bytes: u64,
}

impl<R: Read> Blocks<R> {
    pub fn open(mut input: R) -> Result<Self, Unread> {
        let mut magic = [0; 4];
        match input.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return Err(unsound("it does not begin as one")),
        }
        let (mut head, mut left) = (HashMap::new(), MOST_HEAD_BYTES);
        loop {
            let n = long(&mut input)?;
            if n == 0 {
                break;
            }
            if n < 0 {
                // The size of the entries in bytes, for whom it is of use.
                long(&mut input)?;
            }
            for _ in 0..n.unsigned_abs() {
                let key = bytes(&mut input, &mut left)?;
                let value = bytes(&mut input, &mut left)?;
                head.insert(key, value);
            }
        }
        let schema = head.get(SCHEMA.as_bytes()).ok_or_else(|| unsound("its head has no schema"))?;
        let schema = std::str::from_utf8(schema).map_err(|_| unsound("its schema is not UTF-8 text"))?;
        let schema = Schema::parse(schema, &[]).map_err(|why| unsound(format!("its schema {why}")))?;
        let codec = head.get(CODEC.as_bytes()).map_or(Ok(Codec::Null), |name| Codec::of_name(name))?;
        let mut sync = [0; 16];
        input.read_exact(&mut sync)?;
        Ok(Self { input, codec, sync, schema: Arc::new(schema) })
    }

    /// Of whoever wrote it.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// What comes next, to be read or passed over; `None` at the end of the file.
    pub fn head(&mut self) -> Result<Option<BlockHead>, Unread> {
        let Some(n_records) = long_or_end(&mut self.input)? else { return Ok(None) };
        let bytes = long(&mut self.input)?;
        match (u64::try_from(n_records), u64::try_from(bytes)) {
            (Ok(n_records), Ok(bytes)) => Ok(Some(BlockHead { n_records, bytes })),
            _ => Err(unsound(format!("a block has {n_records} records in {bytes} bytes"))),
        }
    }

    /// The records of the block, unpacked.
    pub fn read(&mut self, head: BlockHead) -> Result<Vec<u8>, Unread> {
        if head.bytes > MOST_BLOCK_BYTES {
            return Err(too_large());
        }
        let mut packed = Vec::new();
        (&mut self.input).take(head.bytes).read_to_end(&mut packed)?;
        if (packed.len() as u64) < head.bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.pass_sync()?;
        let block = self.codec.unpack(packed)?;
        match head.n_records > block.len() as u64 + MOST_EMPTY_RECORDS {
            true => Err(unsound(format!("a block has {} records in {} bytes", head.n_records, block.len()))),
            false => Ok(block),
        }
    }

    pub fn pass_over(&mut self, head: BlockHead) -> Result<(), Unread> {
        let passed = io::copy(&mut (&mut self.input).take(head.bytes), &mut io::sink())?;
        if passed < head.bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.pass_sync()
    }

    fn pass_sync(&mut self) -> Result<(), Unread> {
        let mut sync = [0; 16];
        self.input.read_exact(&mut sync)?;
        match sync == self.sync {
            true => Ok(()),
            false => Err(unsound("what stands behind a block is not the file's mark")),
        }
    }
}

fn long(input: &mut impl Read) -> Result<i64, Unread> {
    long_or_end(input)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// `None` if there is not one byte of it.
fn long_or_end(input: &mut impl Read) -> Result<Option<i64>, Unread> {
    let mut value: u64 = 0;
    for at in 0..10 {
        let mut byte = [0];
        match input.read_exact(&mut byte) {
            Err(error) if at == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        value |= u64::from(byte[0] & 0x7f) << (7 * at);
        if byte[0] & 0x80 == 0 {
            return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
        }
    }
    Err(unsound("it has a number of more than 64 bits"))
}

fn bytes(input: &mut impl Read, left: &mut u64) -> Result<Vec<u8>, Unread> {
    let n = long(input)?;
    let n = u64::try_from(n)
        .ok()
        .filter(|n| n <= left)
        .ok_or_else(|| unsound(format!("its head has {n} bytes of text")))?;
    // So that entries without text end, too.
    *left -= n.max(1).min(*left);
    let mut text = Vec::new();
    input.take(n).read_to_end(&mut text)?;
    if text.len() as u64 == n && *left > 0 { Ok(text) } else { Err(unsound("its head does not end")) }
}

/// Writes a file.
pub struct Container<W> {
    out: W,
    writing: Writing,
    codec: Codec,
    sync: Sync,
    /// Records that are not written yet.
    block: Vec<u8>,
    ends: Vec<usize>,
}

impl<W: Write> Container<W> {
    /// `schema`: the text of a record's, by which rows of these columns are written.
    pub fn begin(mut out: W, schema: &str, columns: &Fields, codec: Codec) -> io::Result<Self> {
        let parsed = Schema::parse(schema, &[]).and_then(|schema| Writing::new(&schema, columns));
        let writing = parsed.map_err(io::Error::other)?;
        let sync = uuid::Uuid::new_v4().into_bytes();
        let mut head = MAGIC.to_vec();
        let entries = [(SCHEMA, schema), (CODEC, codec.name())];
        put_zigzag(entries.len() as i64, &mut head);
        for text in entries.into_iter().flat_map(|(key, value)| [key, value]) {
            put_zigzag(text.len() as i64, &mut head);
            head.extend_from_slice(text.as_bytes());
        }
        put_zigzag(0, &mut head);
        head.extend_from_slice(&sync);
        out.write_all(&head)?;
        Ok(Self { out, writing, codec, sync, block: Vec::new(), ends: Vec::new() })
    }

    pub fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        self.writing.rows(rows, &[], &mut self.block, &mut self.ends).map_err(io::Error::other)?;
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// Bytes of rows that are not written yet.
    pub fn waiting(&self) -> usize {
        self.block.len()
    }

    pub fn target(&self) -> &W {
        &self.out
    }

    pub fn target_mut(&mut self) -> &mut W {
        &mut self.out
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let packed = self.codec.pack(&self.block)?;
        let mut head = Vec::with_capacity(20);
        put_zigzag(self.ends.len() as i64, &mut head);
        put_zigzag(packed.len() as i64, &mut head);
        self.out.write_all(&head)?;
        self.out.write_all(&packed)?;
        self.out.write_all(&self.sync)?;
        self.block.clear();
        self.ends.clear();
        Ok(())
    }
}
