//! What one partition knows of its producers: who counts how far, which transactions are open, which were aborted.
//!
//! Invariant: a batch that was appended is answered as a duplicate as long as it is among the last five of its producer;
//! one that does not follow on is refused; one of an earlier epoch is refused. Nothing at or behind the first record of
//! an open transaction is stable.
//! Pure: rebuilt by [`Producers::note`] and [`Producers::end`] from the headers of the log.

use super::batch::{Header, Marker};
use std::collections::{BTreeMap, VecDeque};

/// Kafka's clients have at most five requests under way, so a batch that is sent again is among these.
const BATCHES_KEPT: usize = 5;
/// Producers remembered by one partition; beyond it the one that was silent for longest is forgotten, which lets it go on
/// with any sequence. At some 300 bytes each this bounds a partition at 300 KB.
const PRODUCERS_MAX: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    batches: VecDeque<Batch>,
    /// Offset of the first record of its open transaction.
    pub open_since: Option<i64>,
    pub last_timestamp: i64,
    last_offset: i64,
}

impl Producer {
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }
}

/// An aborted transaction: its records lie between the two offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    pub last_offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is there already, at this offset.
    Duplicate(i64),
    OutOfOrder,
    /// A later producer has taken its place.
    Fenced,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    known: BTreeMap<i64, Producer>,
    /// First offset of each open transaction, to its producer.
    open: BTreeMap<i64, i64>,
    /// In the order in which they ended.
    aborted: Vec<Aborted>,
}

impl Producers {
    pub fn judge(&self, header: &Header) -> Verdict {
        if header.producer_id < 0 {
            return Verdict::Append;
        }
        let Some(producer) = self.known.get(&header.producer_id) else { return Verdict::Append };
        if header.producer_epoch < producer.epoch {
            return Verdict::Fenced;
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 { Verdict::Append } else { Verdict::OutOfOrder };
        }
        let same = |batch: &&Batch| {
            batch.first_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
        };
        if let Some(batch) = producer.batches.iter().find(same) {
            return Verdict::Duplicate(batch.base_offset);
        }
        // Without batches (they were deleted, or a marker raised the epoch) nothing says how far it had counted.
        let Some(last) = producer.batches.back() else { return Verdict::Append };
        let expected = last.last_sequence.checked_add(1).unwrap_or(0);
        if header.base_sequence == expected { Verdict::Append } else { Verdict::OutOfOrder }
    }

    /// Takes down a batch that stands in the log.
    pub fn note(&mut self, header: &Header) {
        if header.producer_id < 0 || header.is_control() {
            return;
        }
        let producer = self.entry(header.producer_id, header.producer_epoch);
        producer.batches.push_back(Batch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
        });
        if producer.batches.len() > BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.last_timestamp = header.max_timestamp;
        producer.last_offset = header.last_offset();
        if header.is_transactional() && producer.open_since.is_none() {
            producer.open_since = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        if self.known.len() > PRODUCERS_MAX {
            self.forget_one();
        }
    }

    /// Takes down the end of a transaction, whose marker stands at `offset`.
    pub fn end(&mut self, marker: Marker, offset: i64, timestamp: i64) {
        let producer = self.entry(marker.producer_id, marker.producer_epoch);
        producer.last_timestamp = timestamp;
        producer.last_offset = offset;
        let Some(first_offset) = producer.open_since.take() else { return };
        self.open.remove(&first_offset);
        if !marker.commit {
            self.aborted.push(Aborted { producer_id: marker.producer_id, first_offset, last_offset: offset });
        }
    }

    fn entry(&mut self, id: i64, epoch: i16) -> &mut Producer {
        let producer = self.known.entry(id).or_insert_with(|| Producer {
            epoch,
            batches: VecDeque::new(),
            open_since: None,
            last_timestamp: -1,
            last_offset: -1,
        });
        if epoch > producer.epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer
    }

    fn forget_one(&mut self) {
        let silent = self.known.iter().filter(|(_, producer)| producer.open_since.is_none());
        if let Some(id) = silent.min_by_key(|(_, producer)| producer.last_offset).map(|(id, _)| *id) {
            self.known.remove(&id);
        }
    }

    /// The first offset that is not stable; `end` when no transaction is open.
    pub fn last_stable(&self, end: i64) -> i64 {
        self.open.first_key_value().map_or(end, |(first, _)| *first)
    }

    /// Aborted transactions with records in `from..to`.
    pub fn aborted_in(&self, from: i64, to: i64) -> Vec<Aborted> {
        // Ordered by their ends, so all before this one ended before the range begins.
        let begin = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        self.aborted[begin..].iter().filter(|aborted| aborted.first_offset < to).copied().collect()
    }

    /// Forgets what lies wholly before the log's new start.
    pub fn cut_before(&mut self, start: i64) {
        self.aborted.retain(|aborted| aborted.last_offset >= start);
    }

    /// Producers whose transaction is open here, with their epochs.
    pub fn open(&self) -> Vec<(i64, i16)> {
        let epoch = |id: &i64| self.known.get(id).map_or(0, |producer| producer.epoch);
        self.open.values().map(|id| (*id, epoch(id))).collect()
    }

    pub fn known(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }
}
