//! Upserts against the last row of each key.

use super::*;
use crate::runtime::operators::testing::add_up_flush;
use crate::runtime::operators::testing::slices::{KEY, Row, Slices, Step, batch, histories, schema, text};
use proptest::prelude::*;

fn operator() -> Normalize {
    Normalize::new(Spec { keys: vec![KEY], input: schema(vec![], true), output: schema(vec![], true) })
        .expect("operator")
}

/// By key the row of its last upsert, if that was one.
fn naive(steps: &[Step]) -> BTreeMap<String, i64> {
    let mut last: BTreeMap<Option<i64>, Option<Row>> = BTreeMap::new();
    for step in steps {
        let Step::Rows(rows) = step else { continue };
        last.extend(rows.iter().map(|(row, weight)| (row.key, (*weight > 0).then(|| row.clone()))));
    }
    last.into_values().flatten().map(|row| (text(&row), 1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn adds_up_to_the_last_row_of_each_key(steps in histories(true)) {
        let mut slices = Slices::new(vec![KEY], operator);
        let mut sum = BTreeMap::new();
        for (at, step) in steps.iter().chain([&Step::Flush]).enumerate() {
            slices.step(step, true);
            if matches!(step, Step::Rows(_)) {
                prop_assert!(slices.out.batches.is_empty(), "rows before a flush");
                continue;
            }
            add_up_flush(&mut sum, &slices.take().batches);
            prop_assert_eq!(&sum, &naive(&steps[..steps.len().min(at + 1)]), "after step {}", at);
        }
        // Whatever is left goes, and nothing is held for it.
        let keys = [None, Some(0), Some(1), Some(2), Some(3)];
        let gone = keys.map(|key| (Row { key, time: None, value: None, text: None }, -1));
        slices.step(&Step::Rows(gone.to_vec()), true);
        slices.flush();
        add_up_flush(&mut sum, &slices.take().batches);
        prop_assert!(sum.is_empty(), "{:?} is left", sum);
        for slice in &slices.slices {
            prop_assert_eq!((slice.rows_bytes, slice.partitions.selected(None).count()), (0, 0));
        }
    }
}

#[test]
fn a_row_that_comes_again_as_it_was_says_nothing() {
    let row = |value: i64, weight: i8| (Row { key: Some(1), time: None, value: Some(value), text: None }, weight);
    let mut slices = Slices::new(vec![KEY], operator);
    slices.process(&batch(&[row(5, 1)], true));
    slices.flush();
    assert_eq!(slices.take().batches.len(), 1);
    slices.process(&batch(&[row(5, -1), row(6, 1), row(5, 1)], true));
    slices.flush();
    assert!(slices.take().batches.is_empty());
}
