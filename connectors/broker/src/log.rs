//! The log of one partition: record batches in segment files, as they came from the producer.
//!
//! Batches are never decoded: they are checked, given their offsets in place, and appended; a fetch gets ranges of the
//! same bytes. So a codec costs the broker nothing.
//!
//! Invariant: offsets rise without gaps from one batch to the next; what was acknowledged is in the file (in the
//! system's page cache, so the death of this process loses nothing; see [`crate::Broker`] for a power cut).
//! Knows nothing of topics, sockets or requests.

pub(crate) mod batch;
pub(crate) mod partition;
pub(crate) mod producers;
pub(crate) mod segment;
pub(crate) mod timestamps;

#[cfg(test)]
mod tests;

pub(crate) use batch::{Header, Marker};
pub(crate) use partition::{Limits, Log};
