//! The 48 bytes before everything that one rank sends to another.
//!
//! Invariant: a frame is taken only if it belongs to this job, this generation and this step; anything else is refused by
//! name, so that a rank left over from an earlier life can never mix its gradients into this one. The checksum is over the
//! payload: TCP's own sixteen bits let one damaged packet in some ten million through.

use xxhash_rust::xxh3::xxh3_64;

pub const HEADER_BYTES: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"SMKT");

/// What a frame carries. Parts of an all-reduce count up from `GRADIENT`.
pub mod tag {
    pub const HELLO: u32 = 1;
    /// The payload is the rank, as u32, that the sender has lost.
    pub const ABORT: u32 = 2;
    pub const DATA_DIGEST: u32 = 3;
    pub const DATA: u32 = 4;
    pub const CHECKPOINT: u32 = 5;
    pub const WEIGHTS_DIGEST: u32 = 6;
    /// Whether training ends with this epoch.
    pub const EPOCH_END: u32 = 7;
    /// Where the memory is that all ranks of a host see; whether a rank found it.
    pub const SHARED: u32 = 8;
    /// Gradients of rows of tables.
    pub const ROWS: u32 = 16;
    /// A worker to a parameter server: which weights it needs; gradients, and which it needs next; that it pushes no more.
    pub const PULL: u32 = 32;
    pub const PUSH: u32 = 33;
    pub const DONE: u32 = 34;
    /// A parameter server to a worker: weights; to the chief, all that it keeps, after some update and after the last one.
    pub const ANSWER: u32 = 35;
    pub const STATE: u32 = 36;
    pub const LAST_STATE: u32 = 37;
    pub const GRADIENT: u32 = 256;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Hash of the job's id.
    pub job: u64,
    pub generation: u64,
    pub step: u64,
    pub tag: u32,
    /// Rank of the sender.
    pub from: u32,
    pub len: u64,
    pub checksum: u32,
}

/// Why a frame is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it does not begin like a frame of ours")]
    Magic,
    #[error("it belongs to another job")]
    Job,
    #[error("it is of generation {got}, this is generation {here}")]
    Generation { got: u64, here: u64 },
    #[error("it is of step {got}, this is step {here}")]
    Step { got: u64, here: u64 },
    #[error("it carries {got}, {expected} was due")]
    Tag { got: u32, expected: u32 },
    #[error("it says rank {got}, the connection is that of rank {expected}")]
    Sender { got: u32, expected: u32 },
    #[error("it carries {got} bytes, {expected} were due")]
    Length { got: u64, expected: u64 },
    #[error("its {len} bytes were damaged on the way")]
    Checksum { len: u64 },
    #[error("what it carries is not what such a frame carries")]
    Payload,
}

impl Header {
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.tag.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.job.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.step.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.len.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.from.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Refusal> {
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let eight = |at: usize| u64::from(four(at)) | (u64::from(four(at + 4)) << 32);
        if four(0) != MAGIC {
            return Err(Refusal::Magic);
        }
        Ok(Self {
            tag: four(4),
            job: eight(8),
            generation: eight(16),
            step: eight(24),
            len: eight(32),
            checksum: four(40),
            from: four(44),
        })
    }

    /// Holds this header against the one that is due; length and checksum are looked at with the payload.
    pub fn check(&self, due: &Self) -> Result<(), Refusal> {
        self.check_sender(due)?;
        if self.tag == tag::ABORT {
            return Ok(());
        }
        if self.step != due.step {
            return Err(Refusal::Step { got: self.step, here: due.step });
        }
        if self.tag != due.tag {
            return Err(Refusal::Tag { got: self.tag, expected: due.tag });
        }
        Ok(())
    }

    /// As [`Self::check`], of a frame of any step and kind.
    pub fn check_sender(&self, due: &Self) -> Result<(), Refusal> {
        if self.job != due.job {
            return Err(Refusal::Job);
        }
        if self.generation != due.generation {
            return Err(Refusal::Generation { got: self.generation, here: due.generation });
        }
        if self.from != due.from {
            return Err(Refusal::Sender { got: self.from, expected: due.from });
        }
        Ok(())
    }
}

pub fn checksum(payload: &[u8]) -> u32 {
    xxh3_64(payload) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_comes_back_and_foreign_ones_are_refused(
            job: u64, generation: u64, step: u64, tag in 3u32.., from: u32, len: u64, checksum: u32
        ) {
            let header = Header { job, generation, step, tag, from, len, checksum };
            prop_assert_eq!(Header::from_bytes(&header.to_bytes()), Ok(header));
            prop_assert_eq!(header.check(&header), Ok(()));
            let older = Header { generation: generation.wrapping_sub(1), ..header };
            let refused = matches!(older.check(&header), Err(Refusal::Generation { .. }));
            prop_assert!(refused);
            let late = Header { step: step.wrapping_sub(1), ..header };
            let refused = matches!(late.check(&header), Err(Refusal::Step { .. }));
            prop_assert!(refused);
            prop_assert_eq!(Header { job: !job, ..header }.check(&header), Err(Refusal::Job));
            let mut foreign = header.to_bytes();
            foreign[0] ^= 1;
            prop_assert_eq!(Header::from_bytes(&foreign), Err(Refusal::Magic));
        }
    }
}
