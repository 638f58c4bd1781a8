//! The life of an offer: it stands, then it ends once, as accepted, declined, rescinded or expired.
//!
//! Invariant: a number is given once in a leader epoch and an epoch is used by one master only, so an id never means
//! two offers. Ended offers are kept for people, the latest few. What an offer holds is moved by the
//! [ledger](super::ledger), not here.

use super::view::OfferState;
use jobs::{AgentId, FrameworkId, OfferId, Resources, TaskId};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;

/// The number in the id of an offer; offers of one master are ordered by it, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OfferNumber(u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub framework_id: FrameworkId,
    pub agent_id: AgentId,
    /// Their numbers, which are theirs for as long as it stands.
    pub framework: u32,
    pub agent: u32,
    pub role: Arc<str>,
    pub resources: Resources,
    pub made_ms: u64,
    pub expires_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub number: OfferNumber,
    pub was: Arc<Standing>,
    pub state: OfferState,
    pub task_ids: Vec<TaskId>,
    /// For how long its framework is not offered the same again.
    pub refused_ms: Option<u64>,
}

#[derive(Debug)]
pub struct Offers {
    made: u64,
    /// Shared with the history once they have ended.
    standing: BTreeMap<OfferNumber, Arc<Standing>>,
    /// What all ids begin with.
    prefix: String,
    /// Latest last; at most `history`.
    ended: VecDeque<Ended>,
    history: usize,
    /// All that ever ended.
    n_ended: BTreeMap<OfferState, u64>,
}

impl Offers {
    pub fn new(epoch: u64, history: usize) -> Self {
        let (standing, prefix) = (BTreeMap::new(), format!("o-{epoch}-"));
        Self { made: 0, standing, prefix, ended: VecDeque::new(), history, n_ended: BTreeMap::new() }
    }

    pub fn make(&mut self, offer: Standing) -> OfferNumber {
        self.made += 1;
        let number = OfferNumber(self.made);
        self.standing.insert(number, Arc::new(offer));
        number
    }

    pub fn id(&self, number: OfferNumber) -> OfferId {
        // The prefix and the number have 20 digits each at most; in no string of their own, for there are many of them.
        let mut text = [0; 64];
        let mut rest = &mut text[..];
        write!(rest, "{}{}", self.prefix, number.0).expect("an offer's id is short");
        let n_left = rest.len();
        let n = text.len() - n_left;
        OfferId::new(str::from_utf8(&text[..n]).expect("an offer's id is text"))
    }

    /// The number of an id that this master may have given.
    pub fn number(&self, id: &OfferId) -> Option<OfferNumber> {
        let digits = id.as_str().strip_prefix(&self.prefix)?;
        let is_as_given = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        is_as_given.then(|| digits.parse().ok().map(OfferNumber))?
    }

    pub fn get(&self, number: OfferNumber) -> Option<&Standing> {
        self.standing.get(&number).map(Arc::as_ref)
    }

    /// Ends an offer that stands.
    pub fn end(&mut self, number: OfferNumber, state: OfferState, task_ids: Vec<TaskId>) -> Arc<Standing> {
        let was = self.standing.remove(&number).unwrap_or_else(|| panic!("offer {number:?} does not stand"));
        *self.n_ended.entry(state).or_default() += 1;
        self.ended.push_back(Ended { number, was: Arc::clone(&was), state, task_ids, refused_ms: None });
        if self.ended.len() > self.history {
            self.ended.pop_front();
        }
        was
    }

    /// One that has just ended came with a filter.
    pub fn refused(&mut self, number: OfferNumber, for_ms: u64) {
        if let Some(ended) = self.ended.back_mut().filter(|ended| ended.number == number) {
            ended.refused_ms = Some(for_ms);
        }
    }

    /// How many were made, and how many ended how.
    pub fn counts(&self) -> (u64, &BTreeMap<OfferState, u64>) {
        (self.made, &self.n_ended)
    }

    /// The oldest offer, if it has expired. All live equally long, so the oldest expires first.
    pub fn expired(&self, now_ms: u64) -> Option<OfferNumber> {
        self.standing.first_key_value().filter(|(_, offer)| offer.expires_ms <= now_ms).map(|(number, _)| *number)
    }

    pub fn next_expiry(&self) -> Option<u64> {
        self.standing.first_key_value().map(|(_, offer)| offer.expires_ms)
    }

    pub fn standing(&self) -> impl DoubleEndedIterator<Item = (OfferNumber, &Standing)> {
        self.standing.iter().map(|(number, offer)| (*number, offer.as_ref()))
    }

    /// Latest first.
    pub fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(expires_ms: u64) -> Standing {
        Standing {
            framework_id: "f".into(),
            agent_id: "a".into(),
            framework: 0,
            agent: 0,
            role: "r".into(),
            resources: Resources::new().cpus(1.0),
            made_ms: 0,
            expires_ms,
        }
    }

    #[test]
    fn ids_are_read_back_and_no_other_spelling_is() {
        let mut offers = Offers::new(7, 2);
        let number = offers.make(offer(1));
        assert_eq!(offers.id(number).as_str(), "o-7-1");
        assert_eq!(offers.number(&"o-7-1".into()), Some(number));
        for other in ["o-7-01", "o-6-1", "o-7-", "1", "", "o-7--1", "x-7-1", "o-7-1 "] {
            assert_eq!(offers.number(&other.into()), None, "{other:?}");
        }
    }

    #[test]
    fn history_is_bounded_and_latest_first() {
        let mut offers = Offers::new(1, 2);
        for _ in 0..3 {
            let number = offers.make(offer(10));
            offers.end(number, OfferState::Declined, vec![]);
        }
        let kept: Vec<u64> = offers.ended().map(|ended| ended.number.0).collect();
        assert_eq!(kept, [3, 2]);
        assert_eq!(offers.counts(), (3, &BTreeMap::from([(OfferState::Declined, 3)])));
    }

    #[test]
    fn the_oldest_expires_first() {
        let mut offers = Offers::new(1, 2);
        let (first, second) = (offers.make(offer(10)), offers.make(offer(20)));
        assert_eq!(offers.expired(9), None);
        assert_eq!(offers.expired(10), Some(first));
        offers.end(first, OfferState::Expired, vec![]);
        assert_eq!((offers.expired(19), offers.next_expiry()), (None, Some(20)));
        assert_eq!(offers.expired(20), Some(second));
    }
}
