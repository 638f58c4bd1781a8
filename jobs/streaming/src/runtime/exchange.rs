//! Rows between slices.
//!
//! An *edge* goes from one slice to another at one exchange operator. Within a process it is a bounded queue; between
//! processes the queue has a TCP connection of its own in the middle, so that a slow edge never holds up another
//! ([`connect`]), with a thread at each end that encodes and decodes ([`wire`], [`frame`]).

pub mod connect;
pub mod frame;
pub mod partition;
pub mod wire;

use crate::functions::Versions;
use crate::runtime::watermark::Progress;
use arrow::array::RecordBatch;

/// What travels on an edge, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Batch(RecordBatch),
    Watermark(Progress),
    /// `last`: no rows follow, at most the barriers of later attempts at the last checkpoint. `versions`: what functions use
    /// for what comes behind it.
    Barrier {
        epoch: u64,
        last: bool,
        versions: Versions,
    },
}

/// One edge, seen from anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeId {
    /// Index of the exchange among the dataflow's nodes.
    pub node: u32,
    pub from_slot: u32,
    pub to_slot: u32,
}

impl std::fmt::Display for EdgeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exchange {} from slice {} to slice {}", self.node, self.from_slot, self.to_slot)
    }
}

/// Messages that an edge holds before its sender waits. With batches of at most `BATCH_ROWS` rows, cut into one part
/// per slice, these keep both ends busy over a few thread switches; more would only lengthen the way of a barrier.
pub const EDGE_QUEUE: usize = 16;

/// Messages for an edge that are gathered before they are handed over, unless the slice has nothing else to do: less than
/// its queue holds.
pub const GATHERED: usize = 4;
