//! One file of keyed state: the groups of one operator on one slice at one barrier.
//!
//! ```text
//! "smackkey" | version u32 | header length u32 | header (JSON) | Arrow IPC stream | xxh3-64 of all before
//! ```
//!
//! Invariant: a file says by itself whose it is (operator), what it holds (schema, hash range) and whether it is whole
//! (checksum); a reader refuses what it does not know, naming the file.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"smackkey";
/// Rises when the frame, the meaning of a column, or the layout of an aggregate's state changes.
pub const FORMAT_VERSION: u32 = 1;
const FRAME_BYTES: usize = MAGIC.len() + 4 + 4;
const CHECKSUM_BYTES: usize = 8;

/// What a state file says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub operator: String,
    /// Which of the operator's tables; see `runtime::operators::stateful::Table`.
    #[serde(default)]
    pub table: String,
    /// The lowest and highest key hash that the writer owned.
    pub hash_low: u64,
    pub hash_high: u64,
    /// The operator's event time in microseconds: everything before it was emitted.
    pub watermark_us: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read state: the file is no state file or was cut short ({0} bytes)")]
    Foreign(usize),
    #[error(
        "read state of format {found}: this version reads format {FORMAT_VERSION}; restore it with the version that wrote it"
    )]
    Version { found: u32 },
    #[error("read state: the checksum does not fit, the file was damaged; go back to an earlier checkpoint")]
    Checksum,
    #[error("read the header of a state file")]
    Header(#[from] serde_json::Error),
    #[error("read or write the rows of a state file")]
    Rows(#[from] ArrowError),
}

pub fn encode(header: &Header, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    let header = serde_json::to_vec(header)?;
    let mut bytes = Vec::with_capacity(FRAME_BYTES + header.len() + 1024);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&header);
    let mut writer = StreamWriter::try_new(&mut bytes, schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

pub fn decode(bytes: &[u8]) -> Result<(Header, SchemaRef, Vec<RecordBatch>), Error> {
    let foreign = || Error::Foreign(bytes.len());
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(foreign)?;
    let rest = body.strip_prefix(MAGIC).ok_or_else(foreign)?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
    let found = u32::from_le_bytes(*version);
    if found != FORMAT_VERSION {
        return Err(Error::Version { found });
    }
    if xxh3_64(body) != u64::from_le_bytes(*checksum) {
        return Err(Error::Checksum);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
    let (header, rows) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(foreign)?;
    let header = serde_json::from_slice(header)?;
    let reader = StreamReader::try_new(Cursor::new(rows), None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok((header, schema, batches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    #[test]
    fn comes_back_whole_or_not_at_all() {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, true)]));
        let batch =
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]).expect("batch");
        let header = Header {
            operator: "window-1".into(),
            table: "panes".into(),
            hash_low: 0,
            hash_high: u64::MAX,
            watermark_us: 5,
        };
        let bytes = encode(&header, &schema, std::slice::from_ref(&batch)).expect("encode");
        assert_eq!(decode(&bytes).expect("decode"), (header, schema, vec![batch]));
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
