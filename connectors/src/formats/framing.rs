//! What stands before a record that was written by a schema of a registry, as Confluent's clients have it.
//!
//! - before the payload: a zero and the schema's id in four bytes, or a one and its GUID in sixteen;
//! - the same in the record's header `__value_schema_id` or `__key_schema_id`, and the payload alone. What a source finds
//!   there it puts before the payload, so that one place is left.
//!
//! With Protobuf the place of the message in its file follows: a number of indexes and these, in zigzag varints, or a
//! single zero for the first message.

use super::json::walk::{Result, wrong};
use super::wire::{Cursor, put_zigzag};

/// Most messages within messages.
const MOST_INDEXES: i64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaId {
    Number(u32),
    Guid([u8; 16]),
}

impl std::fmt::Display for SchemaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(id) => write!(f, "{id}"),
            Self::Guid(guid) => uuid::Uuid::from_bytes(*guid).fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub id: SchemaId,
    /// Of the message, where there are such.
    pub indexes: Vec<usize>,
}

impl Frame {
    pub fn write(&self, with_indexes: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match self.id {
            SchemaId::Number(id) => {
                out.push(0);
                out.extend_from_slice(&id.to_be_bytes());
            }
            SchemaId::Guid(guid) => {
                out.push(1);
                out.extend_from_slice(&guid);
            }
        }
        match self.indexes.as_slice() {
            _ if !with_indexes => {}
            [0] => out.push(0),
            indexes => {
                put_zigzag(indexes.len() as i64, &mut out);
                indexes.iter().for_each(|index| put_zigzag(*index as i64, &mut out));
            }
        }
        out
    }
}

/// How many bytes of a record come before its payload.
#[inline(always)]
pub fn frame_len(record: &[u8], with_indexes: bool) -> Result<usize> {
    let n = match record.first() {
        Some(0) => 5,
        Some(1) => 17,
        Some(other) => return Err(wrong(format!("begins with {other}, not with 0 or 1 and the id of a schema"))),
        None => return Err(wrong("is empty, and must begin with the id of a schema")),
    };
    let Some(after) = record.get(n..) else { return Err(wrong("ends in the middle of the id of its schema")) };
    match (with_indexes, after.first()) {
        (false, _) => Ok(n),
        (true, Some(0)) => Ok(n + 1),
        (true, _) => read(record).map(|(_, rest)| record.len() - rest.len()),
    }
}

/// The whole of a frame with indexes, and what follows.
fn read(record: &[u8]) -> Result<(Frame, &[u8])> {
    let id = id_of(record)?;
    let mut cursor = Cursor::new(&record[if let SchemaId::Number(_) = id { 5 } else { 17 }..]);
    let indexes = match cursor.zigzag()? {
        0 => vec![0],
        n if (1..=MOST_INDEXES).contains(&n) => {
            let index = |_| {
                let index = cursor.zigzag()?;
                usize::try_from(index).map_err(|_| wrong(format!("has the index {index} of a message")))
            };
            (0..n).map(index).collect::<Result<_>>()?
        }
        n => return Err(wrong(format!("has {n} indexes of its message"))),
    };
    Ok((Frame { id, indexes }, cursor.rest()))
}

fn id_of(record: &[u8]) -> Result<SchemaId> {
    let short = || wrong("ends in the middle of the id of its schema");
    match record {
        [0, rest @ ..] => rest.first_chunk().map(|id| SchemaId::Number(u32::from_be_bytes(*id))).ok_or_else(short),
        [_, rest @ ..] => rest.first_chunk().map(|guid| SchemaId::Guid(*guid)).ok_or_else(short),
        [] => Err(short()),
    }
}

/// The frame that [`frame_len`] has measured.
pub fn frame_of(frame: &[u8], with_indexes: bool) -> Result<Frame> {
    match with_indexes {
        true => read(frame).map(|(frame, _)| frame),
        false => Ok(Frame { id: id_of(frame)?, indexes: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As confluent-kafka 2.16 writes them.
    #[test]
    fn golden_vectors() {
        let guid: [u8; 16] = std::array::from_fn(|at| at as u8);
        let cases: [(Vec<u8>, bool, Frame); 5] = [
            (vec![0, 0, 0, 1, 2], false, Frame { id: SchemaId::Number(258), indexes: vec![] }),
            (vec![0, 0, 0, 0, 7, 0], true, Frame { id: SchemaId::Number(7), indexes: vec![0] }),
            (vec![0, 0, 0, 0, 7, 4, 2, 0], true, Frame { id: SchemaId::Number(7), indexes: vec![1, 0] }),
            ([vec![1], guid.to_vec()].concat(), false, Frame { id: SchemaId::Guid(guid), indexes: vec![] }),
            ([vec![1], guid.to_vec(), vec![2, 6]].concat(), true, Frame { id: SchemaId::Guid(guid), indexes: vec![3] }),
        ];
        for (bytes, with_indexes, frame) in cases {
            assert_eq!(frame.write(with_indexes), bytes);
            let record = [bytes.as_slice(), b"payload"].concat();
            assert_eq!(frame_len(&record, with_indexes).ok(), Some(bytes.len()));
            assert_eq!(frame_of(&bytes, with_indexes).ok(), Some(frame));
            for cut in 0..bytes.len() {
                assert!(frame_len(&bytes[..cut], with_indexes).is_err(), "{bytes:?} cut at {cut}");
            }
        }
        for wrong in [&[2, 0, 0, 0, 1, 0][..], &[0, 0, 0, 0, 1, 1], &[0, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0x7f]] {
            assert!(frame_len(wrong, true).is_err(), "{wrong:?}");
        }
    }
}
