//! Timestamps of single records, for offsets by time.
//!
//! The only place that opens a batch. Records are read as a stream, so one that grows without end when it is decompressed
//! takes time, and no memory; what cannot be read answers with the batch's first record, so a reader begins too early
//! rather than too late.

use super::batch::{HEADER_BYTES, Header};
use std::io::{self, Read};

/// Snappy is decompressed as a whole; a larger batch answers with its first record.
const SNAPPY_BYTES_MAX: usize = 64 << 20;
/// What Java's clients put before snappy blocks: this, two versions of four bytes, then blocks with their lengths.
const XERIAL: &[u8] = b"\x82SNAPPY\0";

/// The first record of a batch at `from` or later with a timestamp of at least `wanted`: its offset and timestamp.
pub fn first_at_or_after(header: &Header, batch: &[u8], from: i64, wanted: i64) -> Option<(i64, i64)> {
    if header.max_timestamp < wanted || header.last_offset() < from {
        return None;
    }
    // A batch whose time a broker has set has one timestamp for all records.
    if header.attributes & 8 == 0
        && let Some(found) = walk(header, batch, from, wanted)
    {
        return found;
    }
    Some((header.base_offset.max(from), header.base_timestamp.max(wanted).min(header.max_timestamp)))
}

/// None if the records are not what their header says.
fn walk(header: &Header, batch: &[u8], from: i64, wanted: i64) -> Option<Option<(i64, i64)>> {
    let compressed = batch.get(HEADER_BYTES..header.n_bytes)?;
    let snappy;
    let mut records: Box<dyn Read + '_> = match header.codec() {
        0 => Box::new(compressed),
        1 => Box::new(io::BufReader::new(flate2::read::GzDecoder::new(compressed))),
        2 => {
            snappy = of_snappy(compressed)?;
            Box::new(snappy.as_slice())
        }
        3 => Box::new(io::BufReader::new(lz4_flex::frame::FrameDecoder::new(compressed))),
        4 => Box::new(io::BufReader::new(zstd::stream::read::Decoder::new(compressed).ok()?)),
        _ => return None,
    };
    for _ in 0..header.n_records {
        let length = u64::try_from(read_varint(&mut records)?).ok()?;
        let mut record = records.by_ref().take(length);
        record.read_exact(&mut [0]).ok()?;
        let timestamp = header.base_timestamp.checked_add(read_varint(&mut record)?)?;
        let offset = header.base_offset.checked_add(read_varint(&mut record)?)?;
        if timestamp >= wanted && offset >= from {
            return Some(Some((offset, timestamp)));
        }
        io::copy(&mut record, &mut io::sink()).ok()?;
        if record.limit() > 0 {
            return None;
        }
    }
    Some(None)
}

fn of_snappy(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut block = |block: &[u8]| {
        let grown = snap::raw::decompress_len(block).ok()?.checked_add(all.len())?;
        if grown > SNAPPY_BYTES_MAX {
            return None;
        }
        all.extend(snap::raw::Decoder::new().decompress_vec(block).ok()?);
        Some(())
    };
    match compressed.strip_prefix(XERIAL) {
        None => block(compressed)?,
        Some(framed) => {
            let mut rest = framed.get(8..)?;
            while let Some((length, after)) = rest.split_first_chunk() {
                let (this, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                block(this)?;
                rest = after;
            }
        }
    }
    Some(all)
}

fn read_varint(from: &mut impl Read) -> Option<i64> {
    let mut value = 0u64;
    for at in 0..10 {
        let mut byte = [0];
        from.read_exact(&mut byte).ok()?;
        value |= u64::from(byte[0] & 0x7f).checked_shl(7 * at)?;
        if byte[0] & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Appends a zigzag varint.
pub fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// Takes a zigzag varint off the front.
pub fn take_varint(from: &mut &[u8]) -> Option<i64> {
    read_varint(from)
}
