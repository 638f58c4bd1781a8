//! Record batches (format v2) as bytes: their header, the check before they are appended, and control batches.
//!
//! Invariant: `check` lets nothing pass whose length, checksum or counts are wrong, so what is in a log can be walked
//! from header to header. Only the first 16 bytes of a batch, which the checksum leaves out, are ever changed.

use crate::log::timestamps;

/// Bytes before a batch's records.
pub const HEADER_BYTES: usize = 61;
/// Offset and length, which the length does not count.
pub const PREFIX_BYTES: usize = 12;
/// What the checksum covers begins here.
const CRC_FROM: usize = 21;

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const CODECS: i16 = 4;

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base_offset: i64,
    /// The whole batch, this header included.
    pub n_bytes: usize,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub n_records: i32,
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Message sets of before 2017.
    OldFormat,
    /// Length or checksum do not fit the bytes.
    Corrupt,
    /// The bytes are whole, and say something impossible.
    Invalid(&'static str),
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from + N)?.try_into().ok()
}

impl Header {
    /// The header that `bytes` begin with; none if they are too few or no batch of format v2.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES || bytes[16] != 2 {
            return None;
        }
        let length = i32::from_be_bytes(at(bytes, 8)?);
        let n_bytes = usize::try_from(length).ok()? + PREFIX_BYTES;
        if n_bytes < HEADER_BYTES {
            return None;
        }
        let header = Self {
            base_offset: i64::from_be_bytes(at(bytes, 0)?),
            n_bytes,
            attributes: i16::from_be_bytes(at(bytes, 21)?),
            last_offset_delta: i32::from_be_bytes(at(bytes, 23)?),
            base_timestamp: i64::from_be_bytes(at(bytes, 27)?),
            max_timestamp: i64::from_be_bytes(at(bytes, 35)?),
            producer_id: i64::from_be_bytes(at(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(at(bytes, 51)?),
            base_sequence: i32::from_be_bytes(at(bytes, 53)?),
            n_records: i32::from_be_bytes(at(bytes, 57)?),
        };
        (header.last_offset_delta >= 0 && header.base_offset.checked_add(header.last_offset_delta.into()).is_some())
            .then_some(header)
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes & 7
    }

    /// Numbers of sequence count to the largest `i32` and go on from 0.
    pub fn last_sequence(&self) -> i32 {
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) % (i64::from(i32::MAX) + 1)) as i32
    }
}

/// Whether the checksum fits; `bytes` are one whole batch.
pub fn checksum_fits(bytes: &[u8]) -> bool {
    let said = at(bytes, 17).map(u32::from_be_bytes);
    bytes.len() >= HEADER_BYTES && said == Some(crc32c::crc32c(&bytes[CRC_FROM..]))
}

/// The header of what a client wants to append, if it is one sound batch.
pub fn check(bytes: &[u8]) -> Result<Header, Fault> {
    if bytes.len() > 16 && bytes[16] < 2 {
        return Err(Fault::OldFormat);
    }
    let header = Header::read(bytes).ok_or(Fault::Corrupt)?;
    if header.n_bytes < bytes.len() {
        return Err(Fault::Invalid("a partition takes one record batch in each request"));
    }
    if header.n_bytes > bytes.len() || !checksum_fits(bytes) {
        return Err(Fault::Corrupt);
    }
    if header.is_control() {
        return Err(Fault::Invalid("only the broker writes control batches"));
    }
    if header.codec() > CODECS {
        return Err(Fault::Invalid("unknown compression"));
    }
    // Only a compacted log has batches with holes, and nobody produces those.
    if header.n_records < 1 || header.n_records - 1 != header.last_offset_delta {
        return Err(Fault::Invalid("the number of records does not fit their offsets"));
    }
    let numbered = header.producer_id >= 0;
    if numbered && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(Fault::Invalid("a producer with an id has an epoch and counts its records"));
    }
    if header.is_transactional() && !numbered {
        return Err(Fault::Invalid("a transaction has a producer with an id"));
    }
    Ok(header)
}

/// Writes the place in the log into a batch: offset and leader epoch, both outside the checksum.
pub fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// How a transaction ended in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub commit: bool,
}

impl Marker {
    /// A control batch with one record: key (version, kind), value (version, epoch of the coordinator).
    pub fn to_batch(self, timestamp: i64) -> Vec<u8> {
        let mut record = vec![0u8];
        timestamps::put_varint(&mut record, 0);
        timestamps::put_varint(&mut record, 0);
        timestamps::put_varint(&mut record, 4);
        record.extend(0i16.to_be_bytes());
        record.extend(i16::from(self.commit).to_be_bytes());
        timestamps::put_varint(&mut record, 6);
        record.extend(0i16.to_be_bytes());
        record.extend(0i32.to_be_bytes());
        timestamps::put_varint(&mut record, 0);

        let mut batch = vec![0u8; HEADER_BYTES];
        timestamps::put_varint(&mut batch, record.len() as i64);
        batch.extend(&record);
        let length = (batch.len() - PREFIX_BYTES) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&(TRANSACTIONAL | CONTROL).to_be_bytes());
        batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&(-1i32).to_be_bytes());
        batch[57..61].copy_from_slice(&1i32.to_be_bytes());
        let sum = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[17..21].copy_from_slice(&sum.to_be_bytes());
        batch
    }

    /// What a control batch says; none if it is of another kind, or none at all.
    pub fn of_batch(header: &Header, batch: &[u8]) -> Option<Self> {
        if !header.is_control() {
            return None;
        }
        let mut rest = batch.get(HEADER_BYTES..)?;
        timestamps::take_varint(&mut rest)?;
        rest = rest.get(1..)?;
        timestamps::take_varint(&mut rest)?;
        timestamps::take_varint(&mut rest)?;
        timestamps::take_varint(&mut rest)?;
        let commit = match i16::from_be_bytes(at(rest, 2)?) {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { producer_id: header.producer_id, producer_epoch: header.producer_epoch, commit })
    }
}
