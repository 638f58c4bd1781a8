//! Timestamps of single records, for offsets by time.
//!
//! The only place that looks into a batch. Records of a compressed one are not looked at: its first record answers for
//! all of it, so a reader begins at most one batch too early, and never too late.

use super::batch::{HEADER_BYTES, Header};

/// The first record of a batch at `from` or later with a timestamp of at least `wanted`: its offset and timestamp.
pub fn first_at_or_after(header: &Header, batch: &[u8], from: i64, wanted: i64) -> Option<(i64, i64)> {
    if header.max_timestamp < wanted || header.last_offset() < from {
        return None;
    }
    // A batch whose time a broker has set has one timestamp for all records.
    let readable = header.codec() == 0 && header.attributes & 8 == 0;
    if readable && let Some(found) = walk(header, batch, from, wanted) {
        return found;
    }
    Some((header.base_offset.max(from), header.base_timestamp.max(wanted).min(header.max_timestamp)))
}

/// None if the records are not what their header says.
fn walk(header: &Header, batch: &[u8], from: i64, wanted: i64) -> Option<Option<(i64, i64)>> {
    let mut rest = batch.get(HEADER_BYTES..header.n_bytes)?;
    for _ in 0..header.n_records {
        let length = usize::try_from(take_varint(&mut rest)?).ok()?;
        let (mut record, after) = rest.split_at_checked(length)?;
        rest = after;
        record = record.get(1..)?;
        let timestamp = header.base_timestamp.checked_add(take_varint(&mut record)?)?;
        let offset = header.base_offset.checked_add(take_varint(&mut record)?)?;
        if timestamp >= wanted && offset >= from {
            return Some(Some((offset, timestamp)));
        }
    }
    Some(None)
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
    let mut value = 0u64;
    for at in 0..10 {
        let byte = *from.get(at)?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
