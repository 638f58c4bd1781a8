//! What is in the store of one operator's state on one slice, and what is owed to it.
//!
//! Invariant: a pure account. The chain holds only files that were said to be written, and what follows it is owed, in
//! order; nothing is left out but by a base, which stands for all before it.

use super::fold;
use crate::control::{Chain, StateFile};
use bytes::Bytes;
use std::collections::VecDeque;

/// Changes that are kept because they could not be written. More would fill memory.
const OWED_MAX: usize = 4;

#[derive(Debug, Default)]
pub struct Account {
    chain: Chain,
    owed: VecDeque<Owed>,
    /// What was taken after all that is owed is lost.
    broken: bool,
}

/// A file that is to be written.
#[derive(Debug)]
pub struct Owed {
    pub name: String,
    /// Absent where nothing needs to be said.
    pub bytes: Option<Bytes>,
    pub is_base: bool,
    pub watermark_us: i64,
}

impl Account {
    /// Of a chain whose files are in the store; empty, if it is to begin with a base.
    pub fn new(chain: Chain) -> Self {
        Self { chain, ..Self::default() }
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    pub fn owe(&mut self, owed: Owed) {
        if owed.is_base {
            self.owed.clear();
            self.broken = false;
        }
        if !self.broken {
            self.owed.push_back(owed);
        }
    }

    /// Something that was taken cannot be written at all.
    pub fn lose(&mut self) {
        self.broken = true;
    }

    /// Whether the next snapshot should give all.
    pub fn wants_base(&self) -> bool {
        self.broken || self.owed.len() > OWED_MAX
    }

    /// What is to be written next.
    pub fn next(&self) -> Option<&Owed> {
        self.owed.front()
    }

    /// That is in the store now; gives how many bytes it has.
    pub fn paid(&mut self) -> u64 {
        let Some(Owed { name, bytes, is_base, watermark_us }) = self.owed.pop_front() else { return 0 };
        if is_base {
            self.chain.files.clear();
        }
        self.chain.watermark_us = watermark_us;
        let n_bytes = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if bytes.is_some() {
            self.chain.files.push(StateFile { name, bytes: n_bytes });
        }
        n_bytes
    }

    /// Whether the chain says what the operator's state was when it was last asked.
    pub fn is_settled(&self) -> bool {
        self.owed.is_empty() && !self.broken
    }

    /// From which file on the chain is to be folded, if it is.
    pub fn fold_due(&self) -> Option<usize> {
        fold::due(&self.chain.files)
    }

    /// These files of the chain, which were at this place, are one file now. Gives false if they are not there any more,
    /// because the chain has another beginning.
    pub fn folded(&mut self, from: usize, names: &[String], file: StateFile) -> bool {
        let are_there = self.holds(from, names);
        if are_there {
            self.chain.files.splice(from..from + names.len(), [file]);
        }
        are_there
    }

    /// Whether these files of the chain are still at this place.
    pub fn holds(&self, from: usize, names: &[String]) -> bool {
        let files = self.chain.files.get(from..from + names.len());
        files.is_some_and(|files| files.iter().zip(names).all(|(file, name)| file.name == *name))
    }
}
