//! Rows that wait for their checkpoint to become durable, and their form inside it.
//!
//! The form: eight bytes that tell the version, the length of the head as 32 bits big-endian, the head as JSON, and the
//! bodies back to back. Version 2 says of each part whether it holds changes; of version 1, which knew none, no part does.
//!
//! Invariant: every version that was ever written is read.

use serde::{Deserialize, Serialize};

const MAGIC_1: &[u8; 8] = b"smktbl01";
const MAGIC_2: &[u8; 8] = b"smktbl02";

/// Some rows of one epoch, as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Unknown until the epoch ends.
    pub epoch: Option<u64>,
    pub number: u64,
    /// Whether the body's last column is a weight.
    pub changes: bool,
    /// An Arrow IPC stream.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct Head1 {
    writer: String,
    /// Epoch, number and length in bytes of each part.
    parts: Vec<(u64, u64, usize)>,
}

#[derive(Serialize, Deserialize)]
struct Head2 {
    writer: String,
    parts: Vec<PartHead>,
}

#[derive(Serialize, Deserialize)]
struct PartHead {
    epoch: u64,
    number: u64,
    changes: bool,
    bytes: usize,
}

/// What a checkpoint keeps of a writer; its parts all belong to an epoch.
pub fn encode(writer: &str, parts: &[Part]) -> Result<Vec<u8>, String> {
    let head = |part: &Part| -> Result<PartHead, String> {
        let epoch = part.epoch.ok_or_else(|| format!("part {} belongs to no epoch", part.number))?;
        Ok(PartHead { epoch, number: part.number, changes: part.changes, bytes: part.body.len() })
    };
    let heads = parts.iter().map(head).collect::<Result<Vec<_>, String>>()?;
    let head = serde_json::to_vec(&Head2 { writer: writer.to_owned(), parts: heads }).map_err(|why| why.to_string())?;
    let bodies: usize = parts.iter().map(|part| part.body.len()).sum();
    let mut state = Vec::with_capacity(MAGIC_2.len() + 4 + head.len() + bodies);
    state.extend_from_slice(MAGIC_2);
    state.extend_from_slice(&(head.len() as u32).to_be_bytes());
    state.extend_from_slice(&head);
    for part in parts {
        state.extend_from_slice(&part.body);
    }
    Ok(state)
}

/// The writer and its parts, in order.
pub fn decode(state: &[u8]) -> Result<(String, Vec<Part>), String> {
    let (magic, rest) = state.split_first_chunk::<8>().ok_or("it is cut short")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("it is cut short")?;
    let (head, mut bodies) =
        rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or("its head is cut short")?;
    let unread = |why: serde_json::Error| format!("its head cannot be read: {why}");
    let head = match magic {
        MAGIC_1 => {
            let Head1 { writer, parts } = serde_json::from_slice(head).map_err(unread)?;
            let part = |(epoch, number, bytes)| PartHead { epoch, number, changes: false, bytes };
            Head2 { writer, parts: parts.into_iter().map(part).collect() }
        }
        MAGIC_2 => serde_json::from_slice(head).map_err(unread)?,
        _ => return Err("it does not begin like any version that this build reads".to_owned()),
    };
    let mut parts = Vec::with_capacity(head.parts.len());
    for PartHead { epoch, number, changes, bytes } in head.parts {
        let (body, rest) = bodies.split_at_checked(bytes).ok_or("a part is cut short")?;
        bodies = rest;
        parts.push(Part { epoch: Some(epoch), number, changes, body: body.to_vec() });
    }
    if bodies.is_empty() { Ok((head.writer, parts)) } else { Err("bytes follow its last part".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(epoch: u64, number: u64, changes: bool, body: &[u8]) -> Part {
        Part { epoch: Some(epoch), number, changes, body: body.to_vec() }
    }

    #[test]
    fn what_is_kept_is_read_again_and_any_cut_is_seen() {
        let parts = [part(3, 0, false, b"rows"), part(3, 1, true, b""), part(4, 0, true, b"changes")];
        let state = encode("0@7", &parts).unwrap();
        assert_eq!(decode(&state), Ok(("0@7".to_owned(), parts.to_vec())));
        for end in 0..state.len() {
            assert!(decode(&state[..end]).is_err(), "{end}");
        }
        assert!(decode(&[state.as_slice(), b"x"].concat()).is_err());
        assert!(encode("0@7", &[Part { epoch: None, ..part(0, 0, false, b"") }]).is_err());
    }

    #[test]
    fn golden_vectors() {
        let first = b"smktbl01\0\0\0\x2a{\"writer\":\"1@9\",\"parts\":[[5,0,2],[6,1,3]]}abcde";
        let parts = vec![part(5, 0, false, b"ab"), part(6, 1, false, b"cde")];
        assert_eq!(decode(first), Ok(("1@9".to_owned(), parts)));
        let second = b"smktbl02\0\0\0\x4a{\"writer\":\"1@9\",\"parts\":[\
            {\"epoch\":5,\"number\":0,\"changes\":true,\"bytes\":2}]}ab";
        let parts = vec![part(5, 0, true, b"ab")];
        assert_eq!(encode("1@9", &parts).unwrap(), second);
        assert_eq!(decode(second), Ok(("1@9".to_owned(), parts)));
    }
}
