//! The frame of everything that two tasks say to each other on the data plane.
//!
//! Invariant: fixed size, little endian; every frame names its job, generation and edge and has the next number of its
//! connection, so that a frame of another life of the job, or a lost one, is seen at once.

use crate::runtime::exchange::EdgeId;
use std::io::{self, Read, Write};

const MAGIC: u32 = u32::from_le_bytes(*b"smx1");
const HEADER_BYTES: usize = 4 + 8 + 8 + 4 + 4 + 4 + 8 + 1 + 4;

/// A frame longer than this is a mistake or an attack: batches have at most some thousand rows.
const MAX_PAYLOAD_BYTES: u32 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a connection; the payload is the token, if there is one.
    Hello = 1,
    /// The answers to it. A refusal carries the refuser's generation in its header and the reason as its payload.
    Accepted = 2,
    Refused = 3,
    /// Part of an Arrow IPC stream; the first one carries the schema.
    Batch = 4,
    /// i64 watermark in microseconds, u8: 1 for idle, 2 for common.
    Watermark = 5,
    /// u64 epoch, u8 last.
    Barrier = 6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// xxh3-64 of the job's id.
    pub job: u64,
    pub generation: u64,
    pub edge: EdgeId,
    pub seq: u64,
    pub kind: Kind,
    pub length: u32,
}

pub fn job_hash(job: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(job.as_bytes())
}

pub fn write(out: &mut impl Write, header: &Header, payload: &[&[u8]]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&header.job.to_le_bytes());
    bytes.extend_from_slice(&header.generation.to_le_bytes());
    bytes.extend_from_slice(&header.edge.node.to_le_bytes());
    bytes.extend_from_slice(&header.edge.from_slot.to_le_bytes());
    bytes.extend_from_slice(&header.edge.to_slot.to_le_bytes());
    bytes.extend_from_slice(&header.seq.to_le_bytes());
    bytes.push(header.kind as u8);
    bytes.extend_from_slice(&header.length.to_le_bytes());
    out.write_all(&bytes)?;
    payload.iter().try_for_each(|part| out.write_all(part))
}

/// The next header; an error of kind `UnexpectedEof` before its first byte means that the other end closed.
pub fn read_header(input: &mut impl Read) -> io::Result<Header> {
    let mut bytes = [0; HEADER_BYTES];
    input.read_exact(&mut bytes)?;
    let mut rest = &bytes[..];
    let magic = u32::from_le_bytes(next(&mut rest));
    let job = u64::from_le_bytes(next(&mut rest));
    let generation = u64::from_le_bytes(next(&mut rest));
    let node = u32::from_le_bytes(next(&mut rest));
    let from_slot = u32::from_le_bytes(next(&mut rest));
    let to_slot = u32::from_le_bytes(next(&mut rest));
    let seq = u64::from_le_bytes(next(&mut rest));
    let [kind] = next(&mut rest);
    let length = u32::from_le_bytes(next(&mut rest));
    if magic != MAGIC {
        return Err(malformed(format!("a frame begins with {magic:#x}: the other end is no task of this version")));
    }
    let kind = match kind {
        1 => Kind::Hello,
        2 => Kind::Accepted,
        3 => Kind::Refused,
        4 => Kind::Batch,
        5 => Kind::Watermark,
        6 => Kind::Barrier,
        other => return Err(malformed(format!("a frame is of unknown kind {other}"))),
    };
    if length > MAX_PAYLOAD_BYTES {
        return Err(malformed(format!("a frame of {length} bytes is longer than {MAX_PAYLOAD_BYTES}")));
    }
    Ok(Header { job, generation, edge: EdgeId { node, from_slot, to_slot }, seq, kind, length })
}

pub fn malformed(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn next<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (part, after) = rest.split_first_chunk::<N>().expect("the parts add up to the header's length");
    *rest = after;
    *part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_one_form() {
        let edge = EdgeId { node: 2, from_slot: 0, to_slot: 3 };
        let header =
            Header { job: job_hash("fraud/features"), generation: 5, edge, seq: 9, kind: Kind::Barrier, length: 2 };
        let mut bytes = Vec::new();
        write(&mut bytes, &header, &[b"a", b"b"]).expect("write to memory");
        assert_eq!(bytes.len(), HEADER_BYTES + 2);
        assert_eq!(&bytes[..4], b"smx1");
        assert_eq!(read_header(&mut &bytes[..]).expect("read"), header);
        bytes[0] = b'x';
        assert!(read_header(&mut &bytes[..]).is_err());
    }
}
