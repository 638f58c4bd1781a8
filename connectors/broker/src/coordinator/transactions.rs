//! Producers' ids and transactions: who may write under a transactional id, what is open, how it ends.
//!
//! Invariant: of two producers with one transactional id only the later one gets anything done: each beginning raises the
//! epoch, and ends what the earlier one left open. A decision is a fact before a marker says it; after a restart
//! [`Transactions::decided`] tells which decisions have to be carried out again.
//! Does not know: logs, and what is in them.

use super::offsets::{Committed, Offsets, Partition};
use kafka_protocol::ResponseError as Code;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a client may ask for at most, as in Kafka's defaults.
pub const TIMEOUT_MS_MAX: i32 = 900_000;
/// Ids are put aside in blocks, so that most producers cost no write.
const IDS_AT_ONCE: i64 = 1_000;
/// Transactional ids kept; beyond it the one that was silent for longest goes.
const IDS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// All that is known of one transactional id; written down as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub producer_id: i64,
    pub epoch: i16,
    pub state: State,
    pub timeout_ms: i32,
    /// Milliseconds since 1970 of its first partition; of the last change when none is open.
    pub since_ms: u64,
    pub partitions: BTreeSet<Partition>,
    /// Offsets by group that count once it commits.
    #[serde(with = "as_list")]
    pub offsets: BTreeMap<String, Offsets>,
}

/// Keys of JSON objects are texts, so the offsets are written as a list.
mod as_list {
    use super::{BTreeMap, Committed, Offsets};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Row = (String, Vec<((String, i32), Committed)>);

    pub fn serialize<S: Serializer>(offsets: &BTreeMap<String, Offsets>, to: S) -> Result<S::Ok, S::Error> {
        let rows: Vec<Row> = offsets
            .iter()
            .map(|(group, offsets)| (group.clone(), offsets.iter().map(|(at, c)| (at.clone(), c.clone())).collect()))
            .collect();
        rows.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Offsets>, D::Error> {
        let rows = Vec::<Row>::deserialize(from)?;
        Ok(rows.into_iter().map(|(group, offsets)| (group, offsets.into_iter().collect())).collect())
    }
}

/// A transaction whose end is decided: markers go to its partitions, and with a commit its offsets to their groups.
/// [`Transactions::completed`] is to be called when that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub id: String,
    pub producer_id: i64,
    pub epoch: i16,
    pub commit: bool,
    pub partitions: BTreeSet<Partition>,
    pub offsets: BTreeMap<String, Offsets>,
}

/// A fact to write down before anything else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Transaction(String, Transaction),
    Forgotten(String),
    /// No id below this one is given out again.
    NextProducerId(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

#[derive(Debug, Default)]
pub struct Transactions {
    pub all: BTreeMap<String, Transaction>,
    next_id: i64,
    /// Written down as used up.
    reserved: i64,
}

/// What follows from a request: facts first, then, if there is one, the decision.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub facts: Vec<Fact>,
    pub decision: Option<Decision>,
}

impl Transactions {
    pub fn restored(all: BTreeMap<String, Transaction>, reserved: i64) -> Self {
        Self { all, next_id: reserved, reserved }
    }

    /// The decision that had been made for `id`, if it may not have been carried out.
    pub fn decided(&self, id: &str) -> Option<Decision> {
        let transaction = self.all.get(id)?;
        let commit = match transaction.state {
            State::PrepareCommit => true,
            State::PrepareAbort => false,
            State::Empty | State::Ongoing | State::CompleteCommit | State::CompleteAbort => return None,
        };
        Some(Decision {
            id: id.to_string(),
            producer_id: transaction.producer_id,
            epoch: transaction.epoch,
            commit,
            partitions: transaction.partitions.clone(),
            offsets: if commit { transaction.offsets.clone() } else { BTreeMap::new() },
        })
    }

    /// What a decision left behind when it was carried out.
    pub fn completed(&mut self, now_ms: u64, id: &str) -> Option<Fact> {
        let transaction = self.all.get_mut(id)?;
        transaction.state = match transaction.state {
            State::PrepareCommit => State::CompleteCommit,
            State::PrepareAbort => State::CompleteAbort,
            State::Empty | State::Ongoing | State::CompleteCommit | State::CompleteAbort => return None,
        };
        transaction.since_ms = now_ms;
        transaction.partitions.clear();
        transaction.offsets.clear();
        Some(Fact::Transaction(id.to_string(), transaction.clone()))
    }

    fn new_id(&mut self, outcome: &mut Outcome) -> i64 {
        if self.next_id >= self.reserved {
            self.reserved = self.next_id + IDS_AT_ONCE;
            outcome.facts.push(Fact::NextProducerId(self.reserved));
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// A producer without a transactional id.
    pub fn begin_idempotent(&mut self) -> (Producer, Outcome) {
        let mut outcome = Outcome::default();
        let id = self.new_id(&mut outcome);
        (Producer { id, epoch: 0 }, outcome)
    }

    /// A producer begins under `id`. `known` is what it was told before, if it goes on after an error. With a decision in
    /// the outcome the producer is valid once that is carried out.
    pub fn begin(
        &mut self,
        now_ms: u64,
        id: &str,
        timeout_ms: i32,
        known: Option<Producer>,
    ) -> Result<(Producer, Outcome), Code> {
        if id.is_empty() {
            return Err(Code::InvalidRequest);
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(Code::InvalidTransactionTimeout);
        }
        let mut outcome = Outcome::default();
        if !self.all.contains_key(id) {
            self.make_room(&mut outcome);
            let producer = Producer { id: self.new_id(&mut outcome), epoch: 0 };
            let transaction = Transaction {
                producer_id: producer.id,
                epoch: 0,
                state: State::Empty,
                timeout_ms,
                since_ms: now_ms,
                partitions: BTreeSet::new(),
                offsets: BTreeMap::new(),
            };
            self.all.insert(id.to_string(), transaction.clone());
            outcome.facts.push(Fact::Transaction(id.to_string(), transaction));
            return Ok((producer, outcome));
        }
        let current = |all: &BTreeMap<String, Transaction>| {
            all.get(id).map(|found| (found.producer_id, found.epoch, found.state))
        };
        let Some((producer_id, epoch, state)) = current(&self.all) else { return Err(Code::UnknownServerError) };
        if let Some(known) = known
            && (known.id != producer_id || known.epoch != epoch)
        {
            return Err(Code::ProducerFenced);
        }
        if matches!(state, State::PrepareCommit | State::PrepareAbort) {
            return Err(Code::ConcurrentTransactions);
        }
        // The abort of what is open takes an epoch of its own; the last ones are kept for that.
        let next_epoch = epoch.saturating_add(if state == State::Ongoing { 2 } else { 1 });
        let next = if next_epoch >= i16::MAX - 2 {
            Producer { id: self.new_id(&mut outcome), epoch: 0 }
        } else {
            Producer { id: producer_id, epoch: next_epoch }
        };
        let Some(transaction) = self.all.get_mut(id) else { return Err(Code::UnknownServerError) };
        transaction.timeout_ms = timeout_ms;
        if state == State::Ongoing {
            outcome.decision = Some(abort_fenced(id, transaction));
        }
        if outcome.decision.is_some() {
            // Written down with the abort's own epoch; the producer comes after it, see `renewed`.
            outcome.facts.push(Fact::Transaction(id.to_string(), transaction.clone()));
        } else {
            outcome.facts.extend(renew(now_ms, id, transaction, next));
        }
        Ok((next, outcome))
    }

    /// Gives `id` to the producer that [`Self::begin`] promised it to, after the abort that came first.
    pub fn renewed(&mut self, now_ms: u64, id: &str, producer: Producer) -> Option<Fact> {
        let transaction = self.all.get_mut(id)?;
        renew(now_ms, id, transaction, producer)
    }

    fn make_room(&mut self, outcome: &mut Outcome) {
        if self.all.len() < IDS_MAX {
            return;
        }
        let over = |state| matches!(state, State::Empty | State::CompleteCommit | State::CompleteAbort);
        let silent = self.all.iter().filter(|(_, transaction)| over(transaction.state));
        if let Some(id) = silent.min_by_key(|(_, transaction)| transaction.since_ms).map(|(id, _)| id.clone()) {
            self.all.remove(&id);
            outcome.facts.push(Fact::Forgotten(id));
        }
    }

    /// The transaction of this producer, if it still is the one under `id`.
    fn of(&mut self, id: &str, producer: Producer) -> Result<&mut Transaction, Code> {
        let transaction = self.all.get_mut(id).ok_or(Code::InvalidProducerIdMapping)?;
        if transaction.producer_id != producer.id {
            return Err(Code::InvalidProducerIdMapping);
        }
        if transaction.epoch != producer.epoch {
            return Err(Code::ProducerFenced);
        }
        Ok(transaction)
    }

    /// Adds partitions to the transaction, and begins it with the first.
    pub fn add_partitions(
        &mut self,
        now_ms: u64,
        id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Result<Outcome, Code> {
        let transaction = self.of(id, producer)?;
        transaction.open(now_ms)?;
        let before = transaction.partitions.len();
        transaction.partitions.extend(partitions);
        let known = before == transaction.partitions.len() && before > 0;
        let facts = if known { Vec::new() } else { vec![Fact::Transaction(id.to_string(), transaction.clone())] };
        Ok(Outcome { facts, decision: None })
    }

    /// Says that offsets of `group` will come.
    pub fn add_group(&mut self, now_ms: u64, id: &str, producer: Producer, group: &str) -> Result<Outcome, Code> {
        let transaction = self.of(id, producer)?;
        transaction.open(now_ms)?;
        transaction.offsets.entry(group.to_string()).or_default();
        Ok(Outcome { facts: vec![Fact::Transaction(id.to_string(), transaction.clone())], decision: None })
    }

    /// Offsets of `group` that count once the transaction commits.
    pub fn add_offsets(&mut self, id: &str, producer: Producer, group: &str, new: Offsets) -> Result<Outcome, Code> {
        let transaction = self.of(id, producer).map_err(|code| match code {
            // What a group's coordinator says of a producer that has been replaced.
            Code::ProducerFenced => Code::InvalidProducerEpoch,
            other => other,
        })?;
        if transaction.state != State::Ongoing {
            return Err(Code::InvalidTxnState);
        }
        let Some(offsets) = transaction.offsets.get_mut(group) else { return Err(Code::InvalidTxnState) };
        offsets.extend(new);
        Ok(Outcome { facts: vec![Fact::Transaction(id.to_string(), transaction.clone())], decision: None })
    }

    /// Whether records of this producer may be appended to the partition.
    pub fn may_write(&self, id: &str, producer: Producer, partition: &Partition) -> Result<(), Code> {
        let transaction = self.all.get(id).ok_or(Code::InvalidProducerIdMapping)?;
        if transaction.producer_id != producer.id {
            return Err(Code::InvalidProducerIdMapping);
        }
        if transaction.epoch != producer.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        let open = transaction.state == State::Ongoing && transaction.partitions.contains(partition);
        if open { Ok(()) } else { Err(Code::InvalidTxnState) }
    }

    /// Ends the transaction. Without a decision in the outcome it was ended that way before.
    pub fn end(&mut self, id: &str, producer: Producer, commit: bool) -> Result<Outcome, Code> {
        let transaction = self.of(id, producer)?;
        match (transaction.state, commit) {
            (State::Ongoing, _) => {}
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => return Ok(Outcome::default()),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => return Err(Code::ConcurrentTransactions),
            (State::Empty | State::PrepareCommit | State::PrepareAbort, _)
            | (State::CompleteCommit, false)
            | (State::CompleteAbort, true) => return Err(Code::InvalidTxnState),
        }
        transaction.state = if commit { State::PrepareCommit } else { State::PrepareAbort };
        let fact = Fact::Transaction(id.to_string(), transaction.clone());
        Ok(Outcome { facts: vec![fact], decision: self.decided(id) })
    }

    /// Aborts what has been open for longer than its producer asked for.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (id, transaction) in &mut self.all {
            let over = now_ms.saturating_sub(transaction.since_ms) > transaction.timeout_ms as u64;
            if transaction.state == State::Ongoing && over {
                let decision = abort_fenced(id, transaction);
                let fact = Fact::Transaction(id.clone(), transaction.clone());
                outcomes.push(Outcome { facts: vec![fact], decision: Some(decision) });
            }
        }
        outcomes
    }

    /// Whether a transaction that is not over will say more of this offset.
    pub fn is_pending(&self, group: &str, partition: &Partition) -> bool {
        self.all.values().any(|transaction| {
            matches!(transaction.state, State::Ongoing | State::PrepareCommit)
                && transaction.offsets.get(group).is_some_and(|offsets| offsets.contains_key(partition))
        })
    }

    /// A transaction of this producer that has records in the partition and is not over.
    pub fn has_open(&self, producer_id: i64, partition: &Partition) -> bool {
        self.all.values().any(|transaction| {
            transaction.producer_id == producer_id
                && matches!(transaction.state, State::Ongoing | State::PrepareCommit | State::PrepareAbort)
                && transaction.partitions.contains(partition)
        })
    }

    /// A topic is gone; nothing can be written to its partitions.
    pub fn forget_topic(&mut self, topic: &str) {
        for transaction in self.all.values_mut() {
            transaction.partitions.retain(|(name, _)| name != topic);
        }
    }
}

impl Transaction {
    fn open(&mut self, now_ms: u64) -> Result<(), Code> {
        match self.state {
            State::PrepareCommit | State::PrepareAbort => Err(Code::ConcurrentTransactions),
            State::Ongoing => Ok(()),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                self.state = State::Ongoing;
                self.since_ms = now_ms;
                Ok(())
            }
        }
    }
}

/// Decides for an abort under the next epoch, so that its producer gets nothing more done.
fn abort_fenced(id: &str, transaction: &mut Transaction) -> Decision {
    transaction.epoch = transaction.epoch.saturating_add(1);
    transaction.state = State::PrepareAbort;
    Decision {
        id: id.to_string(),
        producer_id: transaction.producer_id,
        epoch: transaction.epoch,
        commit: false,
        partitions: transaction.partitions.clone(),
        offsets: BTreeMap::new(),
    }
}

fn renew(now_ms: u64, id: &str, transaction: &mut Transaction, producer: Producer) -> Option<Fact> {
    transaction.producer_id = producer.id;
    transaction.epoch = producer.epoch;
    transaction.state = State::Empty;
    transaction.since_ms = now_ms;
    Some(Fact::Transaction(id.to_string(), transaction.clone()))
}
