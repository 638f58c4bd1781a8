//! Which keys an operator has changed anything of since its last snapshot.
//!
//! The operators number their keys; here is a mark for each number, set for whole batches at a time. Hashes are those of
//! the keys, known once for each key since it was first seen, so that marking hashes nothing.
//!
//! A snapshot selects keys by hash and not by mark: of two keys that hash alike both are given when one was touched,
//! since what is given of a hash replaces what was given of it before. Which hashes are those of several keys ([`twins`])
//! is found out when keys are new, so that a snapshot need not look at all keys, of which it gives few.

mod twins;

use super::stateful::{Scope, external};
use crate::state::hash;
use crate::state::hashes::Hashes;
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use datafusion::error::{DataFusionError, Result};
use twins::Twins;

/// With fewer touched keys than this nothing is saved by giving all.
const FEW: usize = 1024;

#[derive(Debug, Default)]
pub struct Touched {
    /// A bit for each number; short where nothing was touched.
    marks: Vec<u64>,
    /// The hashes of touched keys that have no number any more.
    gone: Vec<u64>,
    /// More was changed than could be told key by key.
    all: bool,
    twins: Twins,
}

impl Touched {
    pub fn mark(&mut self, number: usize) {
        self.make_room(number + 1);
        self.marks[number / 64] |= 1 << (number % 64);
    }

    /// `n_keys`: how many there are now.
    pub fn mark_each(&mut self, numbers: impl IntoIterator<Item = usize>, n_keys: usize) {
        self.make_room(n_keys);
        numbers.into_iter().for_each(|number| self.marks[number / 64] |= 1 << (number % 64));
    }

    fn make_room(&mut self, n_keys: usize) {
        let n_words = n_keys.div_ceil(64);
        if n_words > self.marks.len() {
            self.marks.resize(n_words, 0);
        }
    }

    /// A key that has no number is touched.
    pub fn note(&mut self, hash: u64) {
        self.gone.push(hash);
    }

    /// The next snapshot is to give all.
    pub fn mark_all(&mut self) {
        self.all = true;
    }

    /// Keys have new numbers: by the new one, the old one. Others are forgotten; `hashes` by old number.
    pub fn renumber(&mut self, kept: &[usize], hashes: &[u64]) {
        let mut before = std::mem::take(&mut self.marks);
        for (new, old) in kept.iter().enumerate() {
            let bit = 1 << (old % 64);
            if before.get(old / 64).is_some_and(|word| word & bit != 0) {
                before[old / 64] &= !bit;
                self.mark(new);
            }
        }
        self.gone.extend(marked(&before).map(|number| hashes[number]));
        self.twins = Twins::default();
        if self.gone.len() > kept.len().max(FEW) {
            // All that is left is less to say than what went.
            self.gone = Vec::new();
            self.all = true;
        }
    }

    /// What a snapshot of this scope selects; nothing where it gives all. Afterwards nothing is touched. `n_held`: about
    /// how many keys have anything.
    pub fn take(&mut self, scope: Scope, hashes: &[u64], n_held: usize) -> Option<Selection> {
        let scope = if self.all { Scope::All } else { scope };
        let numbers: Vec<usize> = marked(&self.marks).collect();
        let any_gone = !self.gone.is_empty();
        let mut touched = Vec::with_capacity(self.gone.len() + numbers.len());
        self.drain(hashes, &mut touched);
        let selection = Selection::new(scope, touched, n_held)?;
        self.twins.look_at(hashes);
        let by_mark = !any_gone && !self.twins.any_among(&selection.hashes);
        Some(Selection { numbers: by_mark.then_some(numbers), ..selection })
    }

    /// Adds the hashes of what is touched; afterwards nothing is. Gives whether more is than is told so.
    pub fn drain(&mut self, hashes: &[u64], touched: &mut Vec<u64>) -> bool {
        touched.append(&mut std::mem::take(&mut self.gone));
        touched.extend(marked(&self.marks).map(|number| hashes[number]));
        self.marks.fill(0);
        std::mem::take(&mut self.all)
    }

    /// The state is what files say.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn memory_bytes(&self) -> usize {
        (self.marks.capacity() + self.gone.capacity()) * size_of::<u64>() + self.twins.memory_bytes()
    }
}

/// The numbers whose bits are set.
fn marked(marks: &[u64]) -> impl Iterator<Item = usize> {
    let words = marks.iter().enumerate().filter(|(_, word)| **word != 0);
    words.flat_map(|(at, word)| (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| 64 * at + bit))
}

/// The keys that a snapshot gives.
#[derive(Debug)]
pub struct Selection {
    hashes: Hashes,
    /// The numbers of all keys that have these hashes, rising, where whoever numbers them knows.
    numbers: Option<Vec<usize>>,
}

impl Selection {
    /// Of these keys, unless all is wanted, or about as cheap.
    pub fn new(scope: Scope, touched: Vec<u64>, n_held: usize) -> Option<Self> {
        let much = |n_touched: usize| n_touched > FEW && n_touched > n_held / 2;
        if scope == Scope::All {
            return None;
        }
        let touched: Hashes = touched.into_iter().collect();
        (!much(touched.len())).then_some(Self { hashes: touched, numbers: None })
    }

    pub fn contains(&self, hash: u64) -> bool {
        self.hashes.contains(hash)
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub fn into_sorted(self) -> Vec<u64> {
        self.hashes.into_sorted()
    }
}

/// The numbers of the keys that a snapshot gives, rising, of all that have these hashes. The selection is one of the same keys,
/// or of no numbering.
pub fn selected(selection: Option<&Selection>, hashes: &[u64]) -> Vec<usize> {
    match selection {
        Some(Selection { numbers: Some(numbers), .. }) => numbers.clone(),
        Some(Selection { hashes: touched, numbers: None }) => touched.members_among(hashes),
        None => (0..hashes.len()).collect(),
    }
}

/// Whether a snapshot that selects these keys, or all, gives this one.
pub fn selects(selection: Option<&Selection>, hash: u64) -> bool {
    selection.is_none_or(|selection| selection.contains(hash))
}

/// Adds the hashes of keys that are numbered from `hashes.len()` on: rows that hold them are in these columns, their
/// numbers are `numbers`, and now there are `n_keys`.
pub fn hash_new(hashes: &mut Vec<u64>, columns: &[ArrayRef], numbers: &[usize], n_keys: usize) -> Result<()> {
    let n_known = hashes.len();
    let Some(n_new) = n_keys.checked_sub(n_known).filter(|n_new| *n_new > 0) else { return Ok(()) };
    let mut firsts = vec![None; n_new];
    for (row, number) in numbers.iter().enumerate() {
        if let Some(first) = number.checked_sub(n_known).and_then(|at| firsts.get_mut(at)) {
            first.get_or_insert(row as u32);
        }
    }
    let firsts = UInt32Array::from(firsts);
    if firsts.null_count() > 0 {
        return Err(DataFusionError::Internal("a key without a row".into()));
    }
    let columns = columns.iter().map(|column| Ok(take(column, &firsts, None)?)).collect::<Result<Vec<_>>>()?;
    hashes.extend(hash::hash_rows(&columns, n_new).map_err(external)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lose_their_number_are_told() {
        let mut touched = Touched::default();
        touched.mark_each([1, 3], 4);
        touched.mark(5);
        // 0, 4 and 5 stay, in another order.
        touched.renumber(&[5, 0, 4], &[10, 11, 12, 13, 14, 15]);
        touched.note(99);
        let selection = touched.take(Scope::Touched, &[15, 10, 14], 3).expect("not all");
        assert!(selection.contains(15) && !selection.contains(10));
        assert_eq!(selection.into_sorted(), [11, 13, 15, 99]);
        assert!(touched.take(Scope::Touched, &[15, 10, 14], 3).expect("not all").is_empty());
    }

    /// Every key of few hashes, in all orders of coming and being touched: what is selected is what a look at all finds.
    #[test]
    fn keys_that_hash_alike_are_selected_together() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for n_hashes in [3, 40, 1_000_000] {
            let (mut touched, mut hashes) = (Touched::default(), Vec::new());
            for round in 0..200 {
                for _ in 0..next(4) {
                    hashes.push(next(n_hashes));
                    touched.mark(hashes.len() - 1);
                }
                for _ in 0..next(3) {
                    if !hashes.is_empty() {
                        touched.mark(next(hashes.len() as u64) as usize);
                    }
                }
                if next(10) == 0 {
                    touched.note(next(n_hashes));
                }
                if next(25) == 0 {
                    let kept: Vec<usize> = (0..hashes.len()).rev().step_by(2).collect();
                    touched.renumber(&kept, &hashes);
                    hashes = kept.iter().map(|old| hashes[*old]).collect();
                }
                let Some(selection) = touched.take(Scope::Touched, &hashes, hashes.len()) else {
                    panic!("round {round}: few are all");
                };
                let expect: Vec<usize> = (0..hashes.len()).filter(|at| selection.contains(hashes[*at])).collect();
                assert_eq!(selected(Some(&selection), &hashes), expect, "{n_hashes} hashes, round {round}");
            }
        }
    }

    #[test]
    fn most_of_many_keys_are_all() {
        let n_keys = 2 * FEW + 2;
        let hashes: Vec<u64> = (0..n_keys as u64).collect();
        let mut touched = Touched::default();
        touched.mark_each(0..FEW + 1, n_keys);
        assert!(touched.take(Scope::Touched, &hashes, n_keys).is_some(), "a half");
        touched.mark_each(0..FEW + 2, n_keys);
        assert!(touched.take(Scope::Touched, &hashes, n_keys).is_none(), "more than a half");
        touched.mark_each(0..FEW, n_keys);
        assert!(touched.take(Scope::Touched, &hashes, FEW).is_some(), "few keys");
        touched.mark_all();
        assert!(touched.take(Scope::Touched, &hashes, n_keys).is_none());
        assert!(touched.take(Scope::All, &hashes, n_keys).is_none());
    }
}
