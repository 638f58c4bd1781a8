//! The first rows of each key against a naive recomputation.

use super::*;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, TEXT, VALUE, batch, counts, histories, schema, text, undo,
};
use crate::runtime::operators::testing::{add_up, add_up_flush};
use arrow::compute::SortOptions;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    changes: bool,
    keyed: bool,
    limit: usize,
    rank: bool,
    /// By value, else by text.
    by_value: bool,
    options: SortOptions,
}

impl Case {
    fn operator(&self) -> TopN {
        let rank = self.rank.then(|| Field::new("rank", DataType::UInt64, false));
        TopN::new(Spec {
            keys: if self.keyed { vec![KEY] } else { vec![] },
            order: vec![Order { column: if self.by_value { VALUE } else { TEXT }, options: self.options }],
            limit: self.limit,
            rank: self.rank,
            input: schema(vec![], self.changes),
            changes: self.changes,
            output: schema(rank.into_iter().collect(), true),
        })
        .expect("operator")
    }

    fn slices(&self) -> Slices<TopN> {
        let this = self.clone();
        Slices::new(if self.keyed { vec![KEY] } else { vec![] }, move || this.operator())
    }

    fn naive(&self, steps: &[Step]) -> BTreeMap<String, i64> {
        let mut rows_by_key: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
        for (row, count) in counts(steps) {
            let rows = rows_by_key.entry(row.key.filter(|_| self.keyed)).or_default();
            rows.extend((0..count).map(|_| row.clone()));
        }
        let mut sum = BTreeMap::new();
        for mut rows in rows_by_key.into_values() {
            rows.sort_by(|a, b| {
                let order = match self.by_value {
                    true => directed(&a.value, &b.value, self.options),
                    false => directed(&a.text, &b.text, self.options),
                };
                order.then_with(|| a.cmp(b))
            });
            for (at, row) in rows.iter().take(self.limit).enumerate() {
                let rank = if self.rank { format!(" {}", at + 1) } else { String::new() };
                *sum.entry(text(row) + &rank).or_default() += 1;
            }
        }
        sum
    }
}

fn directed<T: Ord>(a: &Option<T>, b: &Option<T>, options: SortOptions) -> std::cmp::Ordering {
    match (a, b) {
        (Some(a), Some(b)) if options.descending => b.cmp(a),
        (Some(a), Some(b)) => a.cmp(b),
        _ if options.nulls_first => a.is_some().cmp(&b.is_some()),
        _ => a.is_none().cmp(&b.is_none()),
    }
}

fn cases() -> impl Strategy<Value = (Case, Vec<Step>)> {
    let case = (
        any::<bool>(),
        proptest::bool::weighted(0.8),
        0_usize..5,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let case = case.prop_map(|(changes, keyed, limit, rank, by_value, descending, nulls_first)| Case {
        changes,
        keyed,
        limit,
        rank,
        by_value,
        options: SortOptions { descending, nulls_first },
    });
    case.prop_flat_map(|case| (Just(case.clone()), histories(case.changes)))
}

fn said(slices: &mut Slices<TopN>, sum: &mut BTreeMap<String, i64>, exact: bool) {
    let batches = slices.take().batches;
    assert!(batches.iter().all(|batch| batch.num_rows() > 0), "no empty batches");
    match exact {
        true => add_up_flush(sum, &batches),
        false => batches.iter().for_each(|batch| add_up(sum, batch, true)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn equals_a_naive_recomputation((case, steps) in cases()) {
        let mut slices = case.slices();
        let mut sum = BTreeMap::new();
        for (at, step) in steps.iter().chain([&Step::Flush]).enumerate() {
            slices.step(step, case.changes);
            if matches!(step, Step::Rows(_)) {
                prop_assert!(slices.out.batches.is_empty(), "rows before a flush");
                continue;
            }
            // Of equal rows that are kept as the best ones, the one at hand is displaced; their ranks then move.
            said(&mut slices, &mut sum, case.changes || !case.rank);
            prop_assert_eq!(&sum, &case.naive(&steps[..steps.len().min(at + 1)]), "after step {}", at);
        }
        if case.changes {
            slices.step(&undo(&steps), true);
            slices.flush();
            said(&mut slices, &mut sum, true);
            prop_assert!(sum.is_empty(), "{:?} is left", sum);
            for slice in &slices.slices {
                let Kept::All(partitions) = &slice.kept else { panic!("all rows are kept") };
                prop_assert_eq!((partitions.selected(None).count(), slice.rows_bytes), (0, 0));
            }
        }
    }
}

fn row(key: i64, value: i64) -> (Row, i8) {
    (Row { key: Some(key), time: None, value: Some(value), text: None }, 1)
}

#[test]
fn keys_that_are_gone_cost_nothing() {
    let case =
        Case { changes: true, keyed: true, limit: 1, rank: false, by_value: true, options: SortOptions::default() };
    let mut operator = case.operator();
    let mut out = Output::default();
    let mut rows: Vec<(Row, i8)> = (0..20_000).map(|key| row(key, 1)).collect();
    operator.process(0, &batch(&rows, true), &mut out).expect("process");
    operator.flush(&mut out).expect("flush");
    assert!(out.batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
    let full = operator.memory_bytes();
    rows.iter_mut().for_each(|(_, weight)| *weight = -1);
    rows.truncate(19_990);
    operator.process(0, &batch(&rows, true), &mut out).expect("process");
    operator.flush(&mut out).expect("flush");
    let Kept::All(partitions) = &operator.kept else { panic!("all rows are kept") };
    assert_eq!(partitions.n_slots(), 10);
    assert!(operator.memory_bytes() < full / 20, "{} of {full} bytes", operator.memory_bytes());
}

#[test]
fn without_retractions_only_the_best_are_kept() {
    let options = SortOptions { descending: true, nulls_first: false };
    let case = Case { changes: false, keyed: true, limit: 10, rank: true, by_value: true, options };
    let mut operator = case.operator();
    let mut out = Output::default();
    for round in 0..10 {
        let rows: Vec<(Row, i8)> = (0..1000).map(|value| row(value % 3, round * 1000 + value)).collect();
        operator.process(0, &batch(&rows, false), &mut out).expect("process");
    }
    operator.flush(&mut out).expect("flush");
    let n_rows: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(n_rows, 30, "what was displaced before a flush is never said");
    let tables = operator.snapshot(Scope::All).expect("snapshot").tables;
    assert_eq!(tables[0].batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 30);
    // Rows that come too late to be among the best leave nothing to say.
    operator.process(0, &batch(&[row(1, 5)], false), &mut out).expect("process");
    assert_eq!(operator.n_pending(), 0);
}

#[test]
fn what_is_kept_back_holds_the_watermark() {
    let options = SortOptions::default();
    let case = Case { changes: false, keyed: true, limit: 1, rank: false, by_value: true, options };
    let mut operator = case.operator();
    let mut out = Output::default();
    operator.advance(10, &mut out).expect("advance");
    operator.process(0, &batch(&[row(1, 5)], false), &mut out).expect("process");
    operator.flush(&mut out).expect("flush");
    operator.process(0, &batch(&[row(1, 4)], false), &mut out).expect("process");
    operator.advance(20, &mut out).expect("advance");
    assert_eq!(operator.output_watermark_us(), 10);
    operator.flush(&mut out).expect("flush");
    assert_eq!(operator.output_watermark_us(), 20);
}

#[test]
fn an_order_by_what_is_not_there_is_refused() {
    let order = vec![Order { column: 9, options: SortOptions::default() }];
    let spec = Spec {
        keys: vec![KEY],
        order,
        limit: 1,
        rank: false,
        input: schema(vec![], false),
        changes: false,
        output: schema(vec![], true),
    };
    let text = TopN::new(spec).expect_err("no such column").to_string();
    assert!(text.contains("column 9"), "{text}");
}
