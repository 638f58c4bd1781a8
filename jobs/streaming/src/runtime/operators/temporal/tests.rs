//! Random rows on both sides, watermarks, snapshots and restores, against the naive: all versions kept for ever, and
//! looked through for each row.

use super::*;
use crate::runtime::exchange::partition::partition;
use crate::runtime::operators::testing::add_up;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, TIME, VALUE, batch, fields, rows, schema, text, timed_histories,
};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;

fn join(outer: bool, residual: bool) -> TemporalJoin {
    let both: Vec<Field> = fields().into_iter().chain(fields()).collect();
    let output = Arc::new(Schema::new(both));
    let value = |side: usize| Arc::new(Column::new("value", side * fields().len() + VALUE));
    let smaller = || binary(value(LEFT), Operator::LtEq, value(RIGHT), &output).expect("a condition");
    let join = Temporal {
        left_keys: vec![KEY],
        right_keys: vec![KEY],
        left_time: TIME,
        right_time: TIME,
        outer,
        residual: residual.then(smaller),
    };
    let side = || schema(vec![], false);
    TemporalJoin::new(Spec { join, left: side(), left_changes: false, right: side(), output: Arc::clone(&output) })
        .expect("an operator")
}

fn give(slices: &mut Slices<TemporalJoin>, input: usize, rows: &[(Row, i8)]) {
    let batch = batch(rows, false);
    for (slot, part) in partition(&batch, &[KEY], slices.slices.len() as u32).expect("partition") {
        slices.slices[slot as usize].process(input, &part, &mut slices.out).expect("process");
    }
}

/// What the join says, with as many versions as there ever were.
#[derive(Default)]
struct Naive {
    outer: bool,
    residual: bool,
    waiting: Vec<Row>,
    versions: Vec<Row>,
    watermark_us: Option<i64>,
    sum: BTreeMap<String, i64>,
    n_late: u64,
    n_timeless: u64,
}

impl Naive {
    fn give(&mut self, input: usize, rows: &[(Row, i8)]) {
        for (row, _) in rows {
            let late = |time: i64| self.watermark_us.is_some_and(|watermark_us| time < watermark_us);
            let is_late = row.time.is_some_and(late);
            self.n_timeless += u64::from(row.time.is_none());
            self.n_late += u64::from(is_late);
            match input {
                LEFT if row.time.is_some() && !is_late => self.waiting.push(row.clone()),
                RIGHT if row.time.is_some() => self.versions.push(row.clone()),
                _ => {}
            }
        }
    }

    fn advance(&mut self, watermark_us: i64) {
        self.watermark_us = self.watermark_us.max(Some(watermark_us));
        let (due, waiting) = self.waiting.drain(..).partition(|row| row.time < self.watermark_us);
        self.waiting = waiting;
        let due: Vec<Row> = due;
        for row in due {
            let of_key = self.versions.iter().filter(|version| row.key.is_some() && version.key == row.key);
            // Rows compare by their columns, nulls first.
            let valid =
                of_key.filter(|version| version.time <= row.time).max_by_key(|version| (version.time, *version));
            let holds = |version: &&Row| {
                !self.residual || matches!((row.value, version.value), (Some(left), Some(right)) if left <= right)
            };
            let line = match valid.filter(holds) {
                Some(version) => format!("{} {}", text(&row), text(version)),
                None if self.outer => format!("{} NULL NULL NULL NULL", text(&row)),
                None => continue,
            };
            *self.sum.entry(line).or_insert(0) += 1;
        }
    }
}

/// A history of one input, and of which input each of its rows is.
fn histories() -> impl Strategy<Value = Vec<(usize, Step)>> {
    timed_histories().prop_flat_map(|steps| {
        let inputs = proptest::collection::vec(prop_oneof![Just(LEFT), Just(RIGHT)], steps.len());
        inputs.prop_map(move |inputs| inputs.into_iter().zip(steps.clone()).collect())
    })
}

proptest! {
    #[test]
    fn each_row_has_the_version_of_its_time(steps in histories(), outer in any::<bool>(), residual in any::<bool>()) {
        let mut slices = Slices::new(vec![KEY], move || join(outer, residual));
        let mut naive = Naive { outer, residual, ..Naive::default() };
        let mut sum = BTreeMap::new();
        for (input, step) in steps.iter().chain(&[(LEFT, Step::Watermark(i64::MAX))]) {
            match step {
                Step::Rows(rows) => {
                    give(&mut slices, *input, rows);
                    naive.give(*input, rows);
                }
                Step::Watermark(watermark_us) => {
                    slices.advance(*watermark_us);
                    naive.advance(*watermark_us);
                }
                other => slices.step(other, false),
            }
            let out = slices.take();
            out.batches.iter().for_each(|batch| add_up(&mut sum, batch, false));
            prop_assert_eq!(&sum, &naive.sum);
            prop_assert_eq!((out.n_late, out.n_timeless), (naive.n_late, naive.n_timeless));
            (naive.n_late, naive.n_timeless) = (0, 0);
        }
        for slice in &mut slices.slices {
            let tables = slice.snapshot(Scope::All).expect("a snapshot").tables;
            prop_assert!(tables[0].batches.is_empty(), "rows wait after the end");
            // One version of each key is left, at most.
            prop_assert!(tables[1].batches.iter().map(RecordBatch::num_rows).sum::<usize>() <= 4);
        }
    }

    #[test]
    fn rows_may_come_in_any_order_between_two_watermarks(left in rows(false), right in rows(false), outer in any::<bool>()) {
        let run = |left_first: bool, reversed: bool| {
            let mut join = join(outer, false);
            let mut out = Output::default();
            let mut sides = vec![(LEFT, left.clone()), (RIGHT, right.clone())];
            if !left_first {
                sides.reverse();
            }
            for (input, mut rows) in sides {
                if reversed {
                    rows.reverse();
                }
                rows.iter().for_each(|row| {
                    join.process(input, &batch(std::slice::from_ref(row), false), &mut out).expect("process");
                });
            }
            join.advance(20, &mut out).expect("advance");
            join.advance(i64::MAX, &mut out).expect("advance");
            let mut sum = BTreeMap::new();
            out.batches.iter().for_each(|batch| add_up(&mut sum, batch, false));
            sum
        };
        let wanted = run(true, false);
        prop_assert_eq!(&run(false, false), &wanted);
        prop_assert_eq!(&run(false, true), &wanted);
    }
}

#[test]
fn versions_go_when_a_later_one_is_before_the_watermark() {
    let mut join = join(false, false);
    let mut out = Output::default();
    for time in 0..10_000 {
        let version = Row { key: Some(time % 3), time: Some(time), value: Some(time), text: None };
        join.process(RIGHT, &batch(&[(version, 1)], false), &mut out).expect("process");
        join.advance(time, &mut out).expect("advance");
    }
    // Of each key the last version before the watermark, and what comes with the next ones until it is walked over.
    assert!(join.versions.selected(None).count() <= 3 * 2 + 4, "{}", join.versions.selected(None).count());
    let memory = join.memory_bytes();
    assert!(memory < 20_000, "{memory} bytes");
    let row = Row { key: Some(1), time: Some(9_999), value: None, text: None };
    join.process(LEFT, &batch(&[(row, 1)], false), &mut out).expect("process");
    join.advance(10_000, &mut out).expect("advance");
    let mut sum = BTreeMap::new();
    out.batches.iter().for_each(|batch| add_up(&mut sum, batch, false));
    assert_eq!(sum.len(), 1);
    assert!(sum.keys().all(|line| line.contains(" 9997 ")), "{sum:?}");
}
