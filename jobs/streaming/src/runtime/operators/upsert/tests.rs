//! What a table written by key ends up with, against a naive recomputation.

use super::*;
use crate::runtime::operators::testing::add_up;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, batch, counts, histories, schema, text, undo,
};
use proptest::prelude::*;

fn operator(changes: bool) -> Upsert {
    Upsert::new(Spec { keys: vec![KEY], input: schema(vec![], changes), changes, output: schema(vec![], true) })
        .expect("operator")
}

/// A table that is written by key.
#[derive(Debug, Default, PartialEq)]
struct Written {
    rows: BTreeMap<String, String>,
}

impl Written {
    /// Writes what one flush says: at most one row per key.
    fn write(&mut self, out: Output) {
        let mut seen = std::collections::BTreeSet::new();
        for batch in out.batches {
            for row in 0..batch.num_rows() {
                let mut sum = BTreeMap::new();
                add_up(&mut sum, &batch.slice(row, 1), true);
                let (row, weight) = sum.pop_first().expect("a row with a weight");
                let key = row.split(' ').next().expect("a key").to_string();
                assert!(seen.insert(key.clone()), "key {key} twice in one flush");
                if weight > 0 {
                    self.rows.insert(key, row);
                } else if let Some(before) = self.rows.remove(&key) {
                    assert_eq!(before, row, "what was said last is taken back");
                }
            }
        }
    }
}

/// The latest row of each key that is there: by what was inserted last, where a row that comes again counts as new.
fn naive(steps: &[Step]) -> Written {
    let counts = counts(steps);
    let mut came: BTreeMap<Row, (usize, i64)> = BTreeMap::new();
    let mut at = 0;
    for step in steps {
        let Step::Rows(rows) = step else { continue };
        for (row, weight) in rows {
            at += 1;
            let (last, count) = came.entry(row.clone()).or_default();
            *count += i64::from(*weight);
            // An insertion that only makes up for an earlier retraction never was there.
            if *weight > 0 && *count > 0 {
                *last = at;
            }
        }
    }
    let mut latest: BTreeMap<Option<i64>, (usize, Row)> = BTreeMap::new();
    for row in counts.into_iter().filter(|(_, count)| *count > 0).map(|(row, _)| row) {
        let (last, _) = came[&row];
        let best = latest.entry(row.key).or_insert((last, row.clone()));
        if last > best.0 {
            *best = (last, row);
        }
    }
    let rows = latest.into_values().map(|(_, row)| text(&row));
    Written { rows: rows.map(|row| (row.split(' ').next().expect("a key").to_string(), row)).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn equals_a_naive_recomputation(steps in histories(true)) {
        let mut slices = Slices::new(vec![KEY], || operator(true));
        let mut written = Written::default();
        for (at, step) in steps.iter().chain([&Step::Flush]).enumerate() {
            slices.step(step, true);
            if matches!(step, Step::Rows(_)) {
                prop_assert!(slices.out.batches.is_empty(), "rows before a flush");
                continue;
            }
            written.write(slices.take());
            prop_assert_eq!(&written, &naive(&steps[..steps.len().min(at + 1)]), "after step {}", at);
        }
        slices.step(&undo(&steps), true);
        slices.flush();
        written.write(slices.take());
        prop_assert!(written.rows.is_empty(), "{:?} is left", written);
        for slice in &slices.slices {
            let Rows::Counted(counted) = &slice.rows else { panic!("rows are counted") };
            prop_assert_eq!((counted.counts.len(), counted.rows_bytes, counted.partitions.selected(None).count()), (0, 0, 0));
        }
    }

    /// The last row of each key since the last flush, and no memory of what was before.
    #[test]
    fn without_retractions_the_last_row_counts(steps in histories(false)) {
        let mut slices = Slices::new(vec![KEY], || operator(false));
        let mut since: BTreeMap<Option<i64>, String> = BTreeMap::new();
        for step in steps.iter().chain([&Step::Flush]) {
            slices.step(step, false);
            if let Step::Rows(rows) = step {
                since.extend(rows.iter().map(|(row, _)| (row.key, text(row))));
                continue;
            }
            let mut written = Written::default();
            written.write(slices.take());
            let said: Vec<&String> = written.rows.values().collect();
            let mut expected: Vec<String> = std::mem::take(&mut since).into_values().collect();
            expected.sort_by_key(|row| row.split(' ').next().expect("a key").to_string());
            prop_assert_eq!(said, expected.iter().collect::<Vec<_>>());
        }
    }
}

fn row(key: i64, value: i64, weight: i8) -> (Row, i8) {
    (Row { key: Some(key), time: None, value: Some(value), text: None }, weight)
}

#[test]
fn the_halves_of_an_update_may_come_in_any_order() {
    let mut slices = Slices::new(vec![KEY], || operator(true));
    let mut written = Written::default();
    for rows in [vec![row(1, 10, 1)], vec![row(1, 20, 1)], vec![row(1, 20, -1), row(1, 30, 1)], vec![row(1, 10, -1)]] {
        slices.process(&batch(&rows, true));
        slices.flush();
        written.write(slices.take());
    }
    assert_eq!(written.rows.into_values().collect::<Vec<_>>(), [text(&row(1, 30, 1).0)]);
}

/// What a process that was killed had written since its last checkpoint is put right by the same rows, however they are
/// cut into flushes.
#[test]
fn a_key_is_told_also_when_nothing_changed_in_sum() {
    let mut slices = Slices::new(vec![KEY], || operator(true));
    slices.process(&batch(&[row(1, 10, 1)], true));
    slices.flush();
    slices.take();
    let mut written = Written::default();
    written.rows.extend([("1".to_string(), "of the killed one".to_string()), ("2".to_string(), text(&row(2, 5, 1).0))]);
    slices.process(&batch(
        &[row(1, 10, -1), row(1, 20, 1), row(2, 5, 1), row(1, 20, -1), row(1, 10, 1), row(2, 5, -1)],
        true,
    ));
    slices.flush();
    written.write(slices.take());
    assert_eq!(written.rows.into_values().collect::<Vec<_>>(), [text(&row(1, 10, 1).0)]);
}

#[test]
fn a_key_that_is_overwritten_for_ever_stays_small() {
    let mut operator = operator(true);
    let mut out = Output::default();
    for value in 0..2000 {
        let rows = [row(1, value, 1), row(1, value - 1, -1), row(1, -5, 1)];
        operator.process(0, &batch(&rows, true), &mut out).expect("process");
        operator.flush(&mut out).expect("flush");
    }
    let Rows::Counted(counted) = &operator.rows else { panic!("rows are counted") };
    let order: usize = counted.partitions.selected(None).map(|of_key| of_key.order.len()).sum();
    assert!(order <= 2 * 3 + STALE_ENOUGH + 2, "{order} places");
}
