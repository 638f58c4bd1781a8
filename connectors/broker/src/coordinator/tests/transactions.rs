//! Producers that begin, write, commit, abort, crash and come back, in any order.

use crate::coordinator::offsets::{Committed, Offsets};
use crate::coordinator::transactions::{Fact, Outcome, Producer, State, Transaction, Transactions};
use kafka_protocol::ResponseError as Code;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn partition(index: i32) -> (String, i32) {
    ("t".to_string(), index)
}

fn begin(transactions: &mut Transactions, now: u64) -> Producer {
    let (producer, outcome) = transactions.begin(now, "x", 1_000, None).expect("a producer");
    if outcome.decision.is_some() {
        transactions.completed(now, "x").expect("a fact");
        transactions.renewed(now, "x", producer).expect("a fact");
    }
    producer
}

#[test]
fn a_later_producer_fences_the_earlier_one() {
    let mut transactions = Transactions::default();
    let first = begin(&mut transactions, 0);
    transactions.add_partitions(0, "x", first, [partition(0)]).expect("added");
    assert_eq!(transactions.may_write("x", first, &partition(0)), Ok(()));
    let (second, outcome) = transactions.begin(0, "x", 1_000, None).expect("a producer");
    let decision = outcome.decision.expect("an abort of what was open");
    assert!(!decision.commit && decision.partitions.contains(&partition(0)) && decision.epoch == first.epoch + 1);
    assert_eq!(transactions.begin(0, "x", 1_000, None).unwrap_err(), Code::ConcurrentTransactions);
    transactions.completed(0, "x");
    transactions.renewed(0, "x", second);
    assert!(second.epoch > decision.epoch);
    for code in [
        transactions.may_write("x", first, &partition(0)).unwrap_err(),
        transactions.add_offsets("x", first, "g", Offsets::new()).unwrap_err(),
    ] {
        assert_eq!(code, Code::InvalidProducerEpoch);
    }
    assert_eq!(transactions.end("x", first, true).unwrap_err(), Code::ProducerFenced);
    assert_eq!(transactions.add_partitions(0, "x", first, [partition(0)]).unwrap_err(), Code::ProducerFenced);
    assert_eq!(transactions.begin(0, "x", 1_000, Some(first)).unwrap_err(), Code::ProducerFenced);
    assert!(transactions.begin(0, "x", 1_000, Some(second)).is_ok());
}

#[test]
fn offsets_count_when_it_commits() {
    let mut transactions = Transactions::default();
    let producer = begin(&mut transactions, 0);
    let offsets =
        |offset| Offsets::from([(partition(0), Committed { offset, leader_epoch: -1, metadata: String::new() })]);
    assert_eq!(transactions.add_offsets("x", producer, "g", offsets(5)).unwrap_err(), Code::InvalidTxnState);
    for commit in [false, true] {
        transactions.add_group(0, "x", producer, "g").expect("added");
        transactions.add_offsets("x", producer, "g", offsets(5)).expect("added");
        assert!(transactions.is_pending("g", &partition(0)));
        let outcome = transactions.end("x", producer, commit).expect("ended");
        let decision = outcome.decision.expect("a decision");
        assert_eq!(decision.offsets.contains_key("g"), commit);
        transactions.completed(0, "x");
        assert!(!transactions.is_pending("g", &partition(0)));
        assert_eq!(transactions.end("x", producer, commit), Ok(Outcome::default()), "asked again");
        assert_eq!(transactions.end("x", producer, !commit).unwrap_err(), Code::InvalidTxnState);
    }
}

#[test]
fn what_takes_too_long_is_aborted() {
    let mut transactions = Transactions::default();
    let producer = begin(&mut transactions, 0);
    transactions.add_partitions(500, "x", producer, [partition(0)]).expect("added");
    assert!(transactions.expire(1_500).is_empty());
    let outcomes = transactions.expire(1_501);
    assert!(outcomes[0].decision.as_ref().is_some_and(|decision| !decision.commit));
    transactions.completed(1_501, "x");
    assert_eq!(transactions.end("x", producer, true).unwrap_err(), Code::ProducerFenced);
}

#[test]
fn epochs_that_run_out_get_a_new_id() {
    let mut transactions = Transactions::default();
    let first = begin(&mut transactions, 0);
    let mut last = first;
    for now in 0..40_000 {
        let next = begin(&mut transactions, now);
        assert!(next.id > last.id && next.epoch == 0 || next.id == last.id && next.epoch == last.epoch + 1);
        last = next;
    }
    assert_ne!(first.id, last.id);
}

#[test]
fn a_transaction_is_written_and_read() {
    let mut transactions = Transactions::default();
    let producer = begin(&mut transactions, 0);
    transactions.add_group(0, "x", producer, "g").expect("added");
    let one = Offsets::from([(partition(0), Committed { offset: 7, leader_epoch: -1, metadata: "m".to_string() })]);
    transactions.add_offsets("x", producer, "g", one).expect("added");
    let written = serde_json::to_string(&transactions.all["x"]).expect("text");
    assert_eq!(serde_json::from_str::<Transaction>(&written).expect("a transaction"), transactions.all["x"]);
}

#[derive(Clone, Debug)]
enum Act {
    Begin,
    Add(i32),
    End(bool),
    Zombie(i32),
    Crash,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Begin),
        4 => (0..3i32).prop_map(Act::Add),
        3 => any::<bool>().prop_map(Act::End),
        2 => (0..3i32).prop_map(Act::Zombie),
        1 => Just(Act::Crash),
        1 => (1..2_000u64).prop_map(Act::Wait),
    ]
}

/// The facts alone, as a file keeps them.
#[derive(Default)]
struct Disk {
    all: BTreeMap<String, Transaction>,
    next: i64,
}

impl Disk {
    fn write(&mut self, facts: &[Fact]) {
        for fact in facts {
            match fact {
                Fact::Transaction(id, transaction) => {
                    self.all.insert(id.clone(), transaction.clone());
                }
                Fact::Forgotten(id) => {
                    self.all.remove(id);
                }
                Fact::NextProducerId(id) => self.next = *id,
            }
        }
    }
}

proptest! {
    /// What is written down is all that counts: a restart from the facts, at any moment, goes on as if nothing had been;
    /// only the latest producer gets anything done; ids are never given out twice.
    #[test]
    fn only_the_latest_producer_counts(acts in proptest::collection::vec(act(), 1..60)) {
        let mut transactions = Transactions::default();
        let mut disk = Disk::default();
        let mut now = 0;
        let mut producers: Vec<Producer> = Vec::new();
        let mut ids = Vec::new();
        for act in acts {
            match act {
                Act::Begin => {
                    let (idempotent, outcome) = transactions.begin_idempotent();
                    disk.write(&outcome.facts);
                    prop_assert!(!ids.contains(&idempotent.id));
                    ids.push(idempotent.id);
                    let (producer, outcome) = transactions.begin(now, "x", 1_000, None).expect("a producer");
                    disk.write(&outcome.facts);
                    if outcome.decision.is_some() {
                        disk.write(&transactions.completed(now, "x").into_iter().collect::<Vec<_>>());
                        disk.write(&transactions.renewed(now, "x", producer).into_iter().collect::<Vec<_>>());
                    }
                    prop_assert!(producers.iter().all(|before| (before.id, before.epoch) < (producer.id, producer.epoch)));
                    prop_assert!(!ids.contains(&producer.id) || producers.iter().any(|before| before.id == producer.id));
                    ids.push(producer.id);
                    producers.push(producer);
                }
                Act::Add(index) => {
                    let Some(producer) = producers.last() else { continue };
                    if let Ok(outcome) = transactions.add_partitions(now, "x", *producer, [partition(index)]) {
                        disk.write(&outcome.facts);
                        prop_assert_eq!(transactions.may_write("x", *producer, &partition(index)), Ok(()));
                    }
                }
                Act::End(commit) => {
                    let Some(producer) = producers.last() else { continue };
                    if let Ok(outcome) = transactions.end("x", *producer, commit) {
                        disk.write(&outcome.facts);
                        if let Some(decision) = outcome.decision {
                            prop_assert_eq!(decision.commit, commit);
                            disk.write(&transactions.completed(now, "x").into_iter().collect::<Vec<_>>());
                        }
                    }
                }
                Act::Zombie(index) => {
                    for zombie in producers.iter().rev().skip(1) {
                        prop_assert!(transactions.add_partitions(now, "x", *zombie, [partition(index)]).is_err());
                        prop_assert!(transactions.may_write("x", *zombie, &partition(index)).is_err());
                        prop_assert!(transactions.end("x", *zombie, true).is_err());
                    }
                }
                Act::Crash => {
                    prop_assert_eq!(&disk.all, &transactions.all);
                    transactions = Transactions::restored(disk.all.clone(), disk.next);
                }
                Act::Wait(ms) => {
                    now += ms;
                    for outcome in transactions.expire(now) {
                        disk.write(&outcome.facts);
                        disk.write(&transactions.completed(now, "x").into_iter().collect::<Vec<_>>());
                    }
                }
            }
            for transaction in transactions.all.values() {
                let open = transaction.state == State::Ongoing;
                prop_assert!(open || transaction.partitions.is_empty(), "{:?}", transaction);
            }
        }
    }
}
