//! Which page has a key: extendible hashing over the low bits of the key's hash. Slices are told apart by the high ones.
//!
//! Invariant: every hash leads to one page. A page is told by as many bits as it took to make it small; when one is cut
//! into several, the keys of all others stay where they are.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::error::Result;

#[derive(Debug)]
pub struct Directory {
    bits: u32,
    /// By the low bits of a hash.
    pages: Vec<u32>,
}

/// Some of the rows of a batch, next to each other: those of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub page: usize,
    pub offset: usize,
    pub n_rows: usize,
}

impl Directory {
    /// As many pages as these bits tell apart, numbered by them.
    pub fn new(bits: u32) -> Self {
        Self { bits, pages: (0..1 << bits).collect() }
    }

    pub fn page_of(&self, hash: u64) -> usize {
        self.pages[(hash & ((1 << self.bits) - 1)) as usize] as usize
    }

    /// Cuts the page of the hashes that end in these bits: the next `more` bits tell its rows apart from now on. The pages
    /// are numbered: `page` itself where those bits are zero, and from `next` on.
    pub fn cut(&mut self, (low, bits): (u64, u32), more: u32, next: usize) {
        while self.bits < bits + more {
            self.pages.extend_from_within(..);
            self.bits += 1;
        }
        let mask = (1 << bits) - 1;
        for (ending, page) in self.pages.iter_mut().enumerate() {
            let ending = ending as u64;
            let place = (ending >> bits) & ((1 << more) - 1);
            if ending & mask == low && place > 0 {
                *page = (next as u64 + place - 1) as u32;
            }
        }
    }

    /// The rows in order of their pages, those of one page in the order they had, and where each page's are.
    pub fn deal(&self, batch: &RecordBatch, hashes: &[u64], n_pages: usize) -> Result<(RecordBatch, Vec<Part>)> {
        let pages: Vec<usize> = hashes.iter().map(|hash| self.page_of(*hash)).collect();
        let mut ends = vec![0_usize; n_pages];
        pages.iter().for_each(|page| ends[*page] += 1);
        let (mut parts, mut offset) = (Vec::new(), 0);
        for (page, end) in ends.iter_mut().enumerate() {
            let n_rows = *end;
            if n_rows > 0 {
                parts.push(Part { page, offset, n_rows });
            }
            *end = offset;
            offset += n_rows;
        }
        if parts.len() <= 1 {
            return Ok((batch.clone(), parts));
        }
        let mut order = vec![0_u32; pages.len()];
        for (row, page) in pages.into_iter().enumerate() {
            order[ends[page]] = row as u32;
            ends[page] += 1;
        }
        Ok((take_record_batch(batch, &UInt32Array::from(order))?, parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, UInt64Array};
    use arrow::datatypes::UInt64Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn each_hash_has_the_page_of_its_bits(cuts in proptest::collection::vec((any::<u64>(), 1_u32..3), 0..8), hashes in proptest::collection::vec(any::<u64>(), 0..60)) {
            let mut directory = Directory::new(1);
            // By page: the bits that lead to it.
            let mut endings = vec![(0_u64, 1_u32), (1, 1)];
            for (hash, more) in cuts {
                let page = directory.page_of(hash);
                let (low, bits) = endings[page];
                directory.cut((low, bits), more, endings.len());
                endings[page].1 += more;
                endings.extend((1..1_u64 << more).map(|place| (low | place << bits, bits + more)));
            }
            for hash in &hashes {
                let fits = |(low, bits): &(u64, u32)| hash & ((1 << bits) - 1) == *low;
                let found: Vec<usize> = (0..endings.len()).filter(|page| fits(&endings[*page])).collect();
                prop_assert_eq!(found, vec![directory.page_of(*hash)]);
            }
            let column: ArrayRef = Arc::new(UInt64Array::from(hashes.clone()));
            let batch = RecordBatch::try_from_iter([("hash", column)]).expect("a batch");
            let (dealt, parts) = directory.deal(&batch, &hashes, endings.len()).expect("dealt");
            let dealt: Vec<u64> = dealt.column(0).as_primitive::<UInt64Type>().values().to_vec();
            let mut wanted = hashes;
            wanted.sort_by_key(|hash| directory.page_of(*hash));
            prop_assert_eq!(&dealt, &wanted);
            for Part { page, offset, n_rows } in parts {
                prop_assert!(dealt[offset..offset + n_rows].iter().all(|hash| directory.page_of(*hash) == page));
            }
        }
    }
}
