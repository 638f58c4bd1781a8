//! One file of keyed state: the rows of one operator on one slice at one barrier, or those of them that have changed
//! since the barrier before.
//!
//! ```text
//! "smackkey" | version u32 | header length u32 | header (JSON) | touched key hashes, u64 each | Arrow IPC streams, one
//! per table | xxh3-64 of all before
//! ```
//!
//! A *base* holds all rows. A *delta* names the key hashes that were touched, and holds all present rows of these keys:
//! whatever earlier files hold of them no longer counts. See [`crate::state::chain`].
//!
//! Invariant: a file says by itself whose it is (operator), what it holds (tables, schemas, hash range) and whether it is
//! whole (checksum); a reader refuses what it does not know, naming the file.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Cursor;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"smackkey";
/// Rises when the frame, the meaning of a column, or the layout of an aggregate's state changes.
pub const FORMAT_VERSION: u32 = 2;
/// Files of one table each, which are bases.
const FORMAT_OF_TABLES: u32 = 1;
const FRAME_BYTES: usize = MAGIC.len() + 4 + 4;
const CHECKSUM_BYTES: usize = 8;
const HASH_BYTES: usize = 8;

/// What a state file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    pub operator: String,
    /// The lowest and highest key hash that the writer owned.
    pub hash_low: u64,
    pub hash_high: u64,
    /// The operator's event time in microseconds: everything before it was emitted.
    pub watermark_us: i64,
    /// Of a delta: the hashes of the keys that were touched, sorted. Absent in a base.
    pub touched: Option<Vec<u64>>,
    /// By name; see `runtime::operators::stateful::Table`.
    pub tables: BTreeMap<String, Rows>,
}

/// The rows of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Contents {
    /// Whether a chain says the same without this file. A base always says something: that nothing before it counts.
    pub fn says_nothing(&self) -> bool {
        self.touched.as_ref().is_some_and(Vec::is_empty)
    }

    pub fn n_rows(&self) -> usize {
        self.tables.values().flat_map(|rows| &rows.batches).map(RecordBatch::num_rows).sum()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    operator: String,
    /// Of the only table, in the first format.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    table: String,
    hash_low: u64,
    hash_high: u64,
    watermark_us: i64,
    /// Absent in a base.
    #[serde(default)]
    n_touched: Option<u64>,
    #[serde(default)]
    tables: Vec<TableHeader>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TableHeader {
    name: String,
    bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read state: the file is no state file or was cut short ({0} bytes)")]
    Foreign(usize),
    #[error(
        "read state of format {found}: this version reads formats {FORMAT_OF_TABLES} and {FORMAT_VERSION}; restore it with \
         the version that wrote it"
    )]
    Version { found: u32 },
    #[error("read state: the checksum does not fit, the file was damaged; go back to an earlier checkpoint")]
    Checksum,
    #[error("read the header of a state file")]
    Header(#[from] serde_json::Error),
    #[error("read or write the rows of a state file")]
    Rows(#[from] ArrowError),
}

pub fn encode(contents: &Contents) -> Result<Vec<u8>, Error> {
    let mut tables = Vec::with_capacity(contents.tables.len());
    let mut streams = Vec::with_capacity(contents.tables.len());
    for (name, Rows { schema, batches }) in &contents.tables {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        let stream = writer.into_inner()?;
        tables.push(TableHeader { name: name.clone(), bytes: stream.len() as u64 });
        streams.push(stream);
    }
    let header = serde_json::to_vec(&Header {
        operator: contents.operator.clone(),
        table: String::new(),
        hash_low: contents.hash_low,
        hash_high: contents.hash_high,
        watermark_us: contents.watermark_us,
        n_touched: contents.touched.as_ref().map(|touched| touched.len() as u64),
        tables,
    })?;
    let touched = contents.touched.as_deref().unwrap_or_default();
    let n_bytes = header.len() + touched.len() * HASH_BYTES + streams.iter().map(Vec::len).sum::<usize>();
    let mut bytes = Vec::with_capacity(FRAME_BYTES + n_bytes + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&header);
    touched.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
    streams.iter().for_each(|stream| bytes.extend_from_slice(stream));
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

pub fn decode(bytes: &[u8]) -> Result<Contents, Error> {
    let foreign = || Error::Foreign(bytes.len());
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(foreign)?;
    let rest = body.strip_prefix(MAGIC).ok_or_else(foreign)?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
    let found = u32::from_le_bytes(*version);
    if found != FORMAT_VERSION && found != FORMAT_OF_TABLES {
        return Err(Error::Version { found });
    }
    if xxh3_64(body) != u64::from_le_bytes(*checksum) {
        return Err(Error::Checksum);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
    let (header, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(foreign)?;
    let mut header: Header = serde_json::from_slice(header)?;
    if found == FORMAT_OF_TABLES {
        let name = std::mem::take(&mut header.table);
        header.tables = vec![TableHeader { name, bytes: rest.len() as u64 }];
    }
    let n_hashes = usize::try_from(header.n_touched.unwrap_or(0)).map_err(|_| foreign())?;
    let n_bytes = n_hashes.checked_mul(HASH_BYTES).ok_or_else(foreign)?;
    let (hashes, mut rest) = rest.split_at_checked(n_bytes).ok_or_else(foreign)?;
    let (hashes, _) = hashes.as_chunks::<HASH_BYTES>();
    let touched = header.n_touched.map(|_| hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect());
    let mut tables = BTreeMap::new();
    for TableHeader { name, bytes: length } in header.tables {
        let length = usize::try_from(length).map_err(|_| foreign())?;
        let (stream, others) = rest.split_at_checked(length).ok_or_else(foreign)?;
        rest = others;
        let reader = StreamReader::try_new(Cursor::new(stream), None)?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        tables.insert(name, Rows { schema, batches });
    }
    Ok(Contents {
        operator: header.operator,
        hash_low: header.hash_low,
        hash_high: header.hash_high,
        watermark_us: header.watermark_us,
        touched,
        tables,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn contents(touched: Option<Vec<u64>>) -> Contents {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, true)]));
        let batch = |from: i64| {
            let column = Int64Array::from_iter_values(from..from + 3);
            RecordBatch::try_new(schema.clone(), vec![Arc::new(column)]).expect("batch")
        };
        let rows = |batches| Rows { schema: schema.clone(), batches };
        Contents {
            operator: "window-1".into(),
            hash_low: 0,
            hash_high: u64::MAX,
            watermark_us: 5,
            touched,
            tables: BTreeMap::from([
                ("panes".to_string(), rows(vec![batch(1), batch(9)])),
                ("values".to_string(), rows(vec![])),
            ]),
        }
    }

    #[test]
    fn comes_back_whole_or_not_at_all() {
        for touched in [None, Some(vec![]), Some(vec![3, u64::MAX])] {
            let contents = contents(touched);
            let bytes = encode(&contents).expect("encode");
            assert_eq!(decode(&bytes).expect("decode"), contents);
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x40;
                assert!(decode(&damaged).is_err(), "bit flipped at {at}");
            }
        }
    }

    /// As the first format wrote it.
    #[test]
    fn a_file_of_the_first_format_is_a_base() {
        let Rows { schema, batches } = contents(None).tables.remove("panes").expect("a table");
        let header = r#"{"operator":"window-1","table":"panes","hash_low":0,"hash_high":9,"watermark_us":5}"#;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT_OF_TABLES.to_le_bytes());
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        let mut writer = StreamWriter::try_new(&mut bytes, &schema).expect("a stream");
        batches.iter().for_each(|batch| writer.write(batch).expect("written"));
        writer.finish().expect("finished");
        drop(writer);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let found = decode(&bytes).expect("decode");
        assert_eq!((found.touched, found.hash_high, found.watermark_us), (None, 9, 5));
        assert_eq!(found.tables, BTreeMap::from([("panes".to_string(), Rows { schema, batches })]));
        bytes[MAGIC.len()] = 99;
        let text = decode(&bytes).expect_err("a later format").to_string();
        assert!(text.contains("format 99"), "{text}");
    }
}
