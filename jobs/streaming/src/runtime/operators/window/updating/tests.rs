//! Windows that answer again, against a naive recomputation after every step.

use super::*;
use crate::runtime::operators::changes;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, TIME, VALUE, batch, schema, time_type, timed_histories,
};
use arrow::array::Array;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn operator(window: Window, keyed: bool, lateness_us: i64, changes: bool) -> UpdatingWindows {
    let input = schema(vec![], changes);
    let value = col(input.field(VALUE).name(), &input).expect("column");
    let build = |builder: AggregateExprBuilder, name: &str| {
        Arc::new(builder.schema(Arc::clone(&input)).alias(name).build().expect("aggregate"))
    };
    let of = |function| AggregateExprBuilder::new(function, vec![Arc::clone(&value)]);
    let aggregates = vec![
        build(of(sum_udaf()), "sum"),
        build(of(count_udaf()), "odd"),
        build(of(count_udaf()).distinct(), "different"),
        build(of(max_udaf()), "max"),
    ];
    let odd = binary(Arc::clone(&value), Op::Modulo, lit(2_i64), &input).expect("expression");
    let odd = binary(odd, Op::Eq, lit(1_i64), &input).expect("predicate");
    let keys = if keyed { vec![KEY] } else { vec![] };
    let mut fields: Vec<Field> = keys.iter().map(|key| input.field(*key).clone()).collect();
    fields.extend([Field::new("start", time_type(), false), Field::new("end", time_type(), false)]);
    fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
    fields.push(changes::weight_field());
    UpdatingWindows::new(Spec {
        window,
        time: TIME,
        keys,
        filters: vec![None, Some(odd), None, None],
        aggregates,
        lateness_us,
        input,
        changes,
        output: Arc::new(Schema::new(fields)),
    })
    .expect("operator")
}

/// key, start, end, sum, odd, different, max.
type Out = (Option<i64>, i64, i64, Option<i64>, i64, i64, Option<i64>);

fn outs(batch: &RecordBatch, keyed: bool) -> Vec<(Out, i64)> {
    let at = usize::from(keyed);
    let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row);
    let int = |column: usize, row: usize| {
        let values = batch.column(column).as_primitive::<Int64Type>();
        (!values.is_null(row)).then(|| values.value(row))
    };
    let weights = changes::weights(batch).expect("weights");
    let out = |row: usize| {
        let count = |column: usize| int(column, row).expect("a count");
        let key = if keyed { int(0, row) } else { None };
        let out =
            (key, time(at, row), time(at + 1, row), int(at + 2, row), count(at + 3), count(at + 4), int(at + 5, row));
        (out, i64::from(weights.value(row)))
    };
    (0..batch.num_rows()).map(out).collect()
}

/// The windows that hold a time, by definition.
fn windows(window: Window, time: i64) -> Vec<(i64, i64)> {
    let all = (-200_i64..200).flat_map(|start| match window {
        Window::Tumble { width_us, offset_us } if (start - offset_us).rem_euclid(width_us) == 0 => {
            vec![(start, start + width_us)]
        }
        Window::Hop { width_us, slide_us, offset_us } if (start - offset_us).rem_euclid(slide_us) == 0 => {
            vec![(start, start + width_us)]
        }
        Window::Cumulate { width_us, step_us, offset_us } if (start - offset_us).rem_euclid(width_us) == 0 => {
            (1..=width_us / step_us).map(|n| (start, start + n * step_us)).collect()
        }
        _ => Vec::new(),
    });
    all.filter(|(start, end)| (*start..*end).contains(&time)).collect()
}

/// Key, start and end.
type Group = (Option<i64>, i64, i64);

/// By value, how often.
type Counts = BTreeMap<Option<i64>, i64>;

/// By key and window the values that are there, how often.
#[derive(Default)]
struct Naive {
    groups: BTreeMap<Group, Counts>,
    late: u64,
    timeless: u64,
}

impl Naive {
    fn take(&mut self, window: Window, keyed: bool, (row, weight): &(Row, i8), settled_us: i64) {
        let Some(time) = row.time else {
            self.timeless += 1;
            return;
        };
        let all = windows(window, time);
        self.late += u64::from(all.iter().any(|(_, end)| *end <= settled_us));
        for (start, end) in all.into_iter().filter(|(_, end)| *end > settled_us) {
            let group = self.groups.entry((row.key.filter(|_| keyed), start, end)).or_default();
            *group.entry(row.value).or_default() += i64::from(*weight);
            group.retain(|_, count| *count != 0);
        }
    }

    /// What is answered at this watermark.
    fn answers(&self, watermark_us: i64) -> BTreeSet<Out> {
        let there = self.groups.iter().filter(|((_, _, end), values)| *end <= watermark_us && !values.is_empty());
        let out = |((key, start, end), counts): (&Group, &Counts)| {
            let values = || counts.iter().filter_map(|(value, count)| value.map(|value| (value, *count)));
            let sum = values().next().map(|_| values().map(|(value, count)| value * count).sum());
            let odd = values().filter(|(value, _)| value % 2 == 1).map(|(_, count)| count).sum();
            (*key, *start, *end, sum, odd, values().count() as i64, values().map(|(value, _)| value).max())
        };
        there.map(out).collect()
    }
}

/// Rows with value 3 are taken back when rows come next, some while after they are settled.
fn taking_back(steps: Vec<Step>) -> Vec<Step> {
    let mut owed: Vec<(Row, i8)> = Vec::new();
    let mut turned = Vec::new();
    for step in steps {
        turned.push(match step {
            Step::Rows(mut rows) => {
                let back: Vec<(Row, i8)> = rows.iter().filter(|(row, _)| row.value == Some(3)).cloned().collect();
                rows.extend(std::mem::take(&mut owed));
                owed.extend(back.into_iter().map(|(row, _)| (row, -1)));
                Step::Rows(rows)
            }
            step => step,
        });
    }
    turned
}

fn check(window: Window, keyed: bool, lateness_us: i64, changes: bool, steps: &[Step]) {
    let keys = if keyed { vec![KEY] } else { vec![] };
    let mut slices = Slices::new(keys, move || operator(window, keyed, lateness_us, changes));
    let (mut naive, mut said, mut counted) = (Naive::default(), BTreeMap::<Out, i64>::new(), (0, 0));
    for step in steps.iter().chain([&Step::Watermark(i64::MAX)]) {
        let before = slices.watermark_us;
        if let Step::Rows(rows) = step {
            let settled_us = if before == i64::MAX { before } else { before.saturating_sub(lateness_us) };
            rows.iter().for_each(|row| naive.take(window, keyed, row, settled_us));
        }
        let promised = slices.slices.iter().map(|slice| slice.output_watermark_us()).min().expect("a slice");
        slices.step(step, changes);
        let quiet = matches!(step, Step::Rows(_)) || (lateness_us == 0 && !matches!(step, Step::Watermark(_)));
        assert!(!quiet || slices.out.batches.is_empty(), "rows before a flush");
        slices.flush();
        let out = slices.take();
        counted = (counted.0 + out.n_late, counted.1 + out.n_timeless);
        for (out, weight) in out.batches.iter().flat_map(|batch| outs(batch, keyed)) {
            assert!(lateness_us > 0 || weight == 1, "{out:?} taken back without lateness");
            assert!(out.1 >= promised, "{out:?} after {promised} was promised to be over");
            *said.entry(out).or_default() += weight;
        }
        said.retain(|_, count| *count != 0);
        assert!(said.values().all(|count| *count == 1), "{said:?}");
        let answers: BTreeSet<Out> = said.keys().copied().collect();
        assert_eq!(answers, naive.answers(slices.watermark_us), "at {}", slices.watermark_us);
    }
    assert_eq!(counted, (naive.late, naive.timeless));
    assert!(slices.slices.iter().all(|slice| slice.windows.is_empty()), "all state is gone at the end");
}

fn shapes() -> impl Strategy<Value = Window> {
    prop_oneof![
        Just(Window::Tumble { width_us: 10, offset_us: 0 }),
        Just(Window::Tumble { width_us: 1, offset_us: 0 }),
        Just(Window::Hop { width_us: 25, slide_us: 10, offset_us: 0 }),
        Just(Window::Hop { width_us: 10, slide_us: 15, offset_us: 0 }),
        Just(Window::Cumulate { width_us: 30, step_us: 10, offset_us: 0 }),
        Just(Window::Cumulate { width_us: 30, step_us: 10, offset_us: 7 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn late_rows_change_answers_until_windows_are_settled(
        steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        window in shapes(),
        lateness_us in 1_i64..40,
    ) {
        check(window, keyed, lateness_us, false, &steps);
    }

    #[test]
    fn rows_are_taken_back_out_of_windows(
        steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        window in shapes(),
        lateness_us in prop_oneof![Just(0_i64), 1_i64..40],
    ) {
        check(window, keyed, lateness_us, true, &taking_back(steps));
    }
}

#[test]
fn an_answer_that_a_late_row_does_not_change_stays() {
    let mut operator = operator(Window::Tumble { width_us: 10, offset_us: 0 }, true, 5, false);
    let row = |time: i64, value: Option<i64>| (Row { key: Some(1), time: Some(time), value, text: None }, 1);
    let mut out = Output::default();
    operator.process(0, &batch(&[row(1, Some(2))], false), &mut out).expect("rows");
    operator.advance(12, &mut out).expect("advance");
    assert_eq!(outs(&std::mem::take(&mut out).batches[0], true), [((Some(1), 0, 10, Some(2), 0, 1, Some(2)), 1)]);
    operator.process(0, &batch(&[row(3, None)], false), &mut out).expect("a row without a value");
    assert_eq!(operator.n_pending(), 1);
    operator.flush(&mut out).expect("flush");
    assert!(out.batches.is_empty(), "nothing has changed");
    operator.advance(15, &mut out).expect("advance");
    assert_eq!(operator.memory_bytes(), 0);
    operator.process(0, &batch(&[row(3, Some(1))], false), &mut out).expect("a row that is too late");
    assert_eq!((out.n_late, out.batches.len()), (1, 0));
}

#[test]
fn state_without_bounds_is_refused() {
    let mut operator = operator(Window::Tumble { width_us: 10, offset_us: 0 }, true, 5, false);
    let tables = BTreeMap::from([("groups".to_string(), batch(&[], false))]);
    let text = operator.restore(0, tables).expect_err("another operator's state").to_string();
    assert!(text.contains("start without this checkpoint"), "{text}");
}
