//! Offsets that groups have committed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest text that a consumer may keep beside an offset.
pub const METADATA_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// A partition of a topic, by name.
pub type Partition = (String, i32);

pub type Offsets = BTreeMap<Partition, Committed>;
