//! First rows that are said once, against a naive recomputation.

use super::*;
use crate::runtime::operators::testing::add_up;
use crate::runtime::operators::testing::slices::{KEY, Row, Slices, Step, TIME, batch, schema, text, timed_histories};
use arrow::compute::SortOptions;
use proptest::prelude::*;

fn operator(keyed: bool, limit: usize, rank: bool) -> Settled {
    let column = rank.then(|| Field::new("rank", DataType::UInt64, false));
    Settled::new(Spec {
        keys: if keyed { vec![KEY] } else { vec![] },
        order: vec![Order { column: TIME, options: SortOptions { descending: false, nulls_first: false } }],
        limit,
        rank,
        time: TIME,
        input: schema(vec![], false),
        output: schema(column.into_iter().collect(), false),
    })
    .expect("operator")
}

/// The rows of one key that came in time, and what becomes of another.
#[derive(Default)]
struct Naive {
    by_key: BTreeMap<Option<i64>, Vec<(i64, Row)>>,
    late: u64,
    timeless: u64,
}

impl Naive {
    fn first(&self, key: Option<i64>, limit: usize, watermark_us: i64) -> Vec<(i64, Row)> {
        let mut rows: Vec<(i64, Row)> = self.by_key.get(&key).cloned().unwrap_or_default();
        rows.retain(|(time, _)| *time < watermark_us);
        rows.sort();
        rows.truncate(limit);
        rows
    }

    fn take(&mut self, row: &Row, keyed: bool, limit: usize, watermark_us: i64) {
        let Some(time) = row.time else {
            self.timeless += 1;
            return;
        };
        let key = row.key.filter(|_| keyed);
        if time >= watermark_us {
            self.by_key.entry(key).or_default().push((time, row.clone()));
            return;
        }
        let first = self.first(key, limit, watermark_us);
        let is_beyond = first.len() == limit && first.last().is_some_and(|last| *last <= (time, row.clone()));
        self.late += u64::from(!is_beyond);
    }

    fn said(&self, limit: usize, rank: bool, watermark_us: i64) -> BTreeMap<String, i64> {
        let mut sum = BTreeMap::new();
        for key in self.by_key.keys() {
            for (at, (_, row)) in self.first(*key, limit, watermark_us).into_iter().enumerate() {
                let rank = if rank { format!(" {}", at + 1) } else { String::new() };
                *sum.entry(text(&row) + &rank).or_default() += 1;
            }
        }
        sum
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn equals_a_naive_recomputation(
        steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        limit in 0_usize..4,
        rank in any::<bool>(),
    ) {
        let keys = if keyed { vec![KEY] } else { vec![] };
        let mut slices = Slices::new(keys, move || operator(keyed, limit, rank));
        let (mut naive, mut sum, mut counted) = (Naive::default(), BTreeMap::new(), (0, 0));
        for (at, step) in steps.iter().chain([&Step::Watermark(i64::MAX)]).enumerate() {
            let watermark_us = slices.watermark_us;
            if let Step::Rows(rows) = step {
                rows.iter().for_each(|(row, _)| naive.take(row, keyed, limit, watermark_us));
            }
            slices.step(step, false);
            let out = slices.take();
            counted = (counted.0 + out.n_late, counted.1 + out.n_timeless);
            out.batches.iter().for_each(|batch| add_up(&mut sum, batch, false));
            prop_assert_eq!(&sum, &naive.said(limit, rank, slices.watermark_us), "after step {}", at);
            prop_assert_eq!(counted, (naive.late, naive.timeless), "after step {}", at);
        }
        prop_assert!(slices.slices.iter().all(|slice| slice.waiting.is_empty()));
    }
}

/// Once a key has all its rows, later ones are not even kept until the watermark passes them.
#[test]
fn what_cannot_be_among_the_first_does_not_wait() {
    let mut operator = operator(true, 1, false);
    let row = |time| (Row { key: Some(1), time: Some(time), value: None, text: None }, 1);
    let mut out = Output::default();
    operator.process(0, &batch(&[row(5), row(3)], false), &mut out).expect("process");
    operator.advance(6, &mut out).expect("advance");
    assert_eq!(out.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let bytes = operator.memory_bytes();
    // The first one told twice, one that is not the first, and one that is late: it would have been the first.
    operator.process(0, &batch(&[row(3), row(9), row(2)], false), &mut out).expect("process");
    assert_eq!((operator.memory_bytes(), out.n_late), (bytes, 1));
}

#[test]
fn rows_settle_in_rising_order_alone() {
    let order = vec![Order { column: KEY, options: SortOptions::default() }];
    let input = schema(vec![], false);
    let output = Arc::clone(&input);
    let spec = Spec { keys: vec![KEY], order, limit: 1, rank: false, time: TIME, input, output };
    let text = Settled::new(spec).expect_err("another order").to_string();
    assert!(text.contains("rising order"), "{text}");
}
