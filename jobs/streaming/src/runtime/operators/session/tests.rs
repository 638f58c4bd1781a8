//! Sessions against a naive recomputation.

use super::*;
use crate::runtime::operators::testing::add_up;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, TIME, VALUE, batch, schema, time_type, timed_histories,
};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn operator(gap_us: i64, keyed: bool) -> SessionAggregate {
    operator_with(gap_us, keyed, 0)
}

fn operator_with(gap_us: i64, keyed: bool, lateness_us: i64) -> SessionAggregate {
    SessionAggregate::new(spec(gap_us, keyed, lateness_us, false)).expect("operator")
}

/// `changes`: whether rows may be taken back.
pub(super) fn spec(gap_us: i64, keyed: bool, lateness_us: i64, changes: bool) -> Spec {
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
    fields.extend((lateness_us > 0 || changes).then(changes::weight_field));
    Spec {
        gap_us,
        lateness_us,
        time: TIME,
        keys,
        filters: vec![None, Some(odd), None, None],
        aggregates,
        input,
        output: Arc::new(Schema::new(fields)),
    }
}

/// key, start, end, sum, odd, different, max.
pub(super) type Out = (Option<i64>, i64, i64, Option<i64>, i64, i64, Option<i64>);

pub(super) fn outs(batch: &RecordBatch, keyed: bool) -> Vec<Out> {
    let at = usize::from(keyed);
    let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row);
    let int = |column: usize, row: usize| {
        let values = batch.column(column).as_primitive::<Int64Type>();
        (!values.is_null(row)).then(|| values.value(row))
    };
    let out = |row: usize| {
        let count = |column: usize| int(column, row).expect("a count");
        let key = if keyed { int(0, row) } else { None };
        (key, time(at, row), time(at + 1, row), int(at + 2, row), count(at + 3), count(at + 4), int(at + 5, row))
    };
    (0..batch.num_rows()).map(out).collect()
}

/// Rows of one key as sessions: first and last row of each.
fn sessions(rows: &mut [Row], gap_us: i64) -> Vec<std::ops::Range<usize>> {
    rows.sort_by_key(|row| row.time);
    let time = |at: usize| rows[at].time.expect("a time");
    let mut sessions: Vec<std::ops::Range<usize>> = Vec::new();
    for at in 0..rows.len() {
        match sessions.last_mut() {
            Some(session) if time(at) - time(at - 1) < gap_us => session.end = at + 1,
            _ => sessions.push(at..at + 1),
        }
    }
    sessions
}

pub(super) fn result(key: Option<i64>, rows: &[Row], gap_us: i64) -> Out {
    let time = |row: Option<&Row>| row.and_then(|row| row.time).expect("a time");
    let values: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
    let odd = values.iter().filter(|value| **value % 2 == 1).count() as i64;
    let different = values.iter().collect::<BTreeSet<_>>().len() as i64;
    let sum = (!values.is_empty()).then(|| values.iter().sum());
    let (first, last) = (time(rows.first()), time(rows.last()));
    (key, first, last + gap_us, sum, odd, different, values.iter().copied().max())
}

/// What is emitted, how many rows are late, and how many have no time.
fn naive(gap_us: i64, keyed: bool, steps: &[Step]) -> (BTreeSet<Out>, u64, u64) {
    let mut open: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    let (mut watermark, mut late, mut timeless) = (i64::MIN, 0, 0);
    let mut emitted = BTreeSet::new();
    for step in steps.iter().chain([&Step::Watermark(i64::MAX)]) {
        match step {
            Step::Rows(rows) => {
                for (row, _) in rows {
                    let Some(time) = row.time else {
                        timeless += 1;
                        continue;
                    };
                    let own = open.entry(row.key.filter(|_| keyed)).or_default();
                    let within = sessions(own, gap_us)
                        .into_iter()
                        .any(|session| own[session.start].time <= row.time && row.time <= own[session.end - 1].time);
                    if within || time + gap_us > watermark {
                        own.push(row.clone());
                    } else {
                        late += 1;
                    }
                }
            }
            Step::Watermark(next) => {
                watermark = watermark.max(*next);
                for (key, own) in &mut open {
                    let mut left = Vec::new();
                    for session in sessions(own, gap_us) {
                        let rows = &own[session];
                        let out = result(*key, rows, gap_us);
                        if out.2 <= watermark {
                            assert!(emitted.insert(out), "{out:?} twice");
                        } else {
                            left.extend(rows.iter().cloned());
                        }
                    }
                    *own = left;
                }
            }
            Step::Flush | Step::Snapshot | Step::Rescale(_) => {}
        }
    }
    (emitted, late, timeless)
}

/// Runs the steps on real operators, checking that each session comes once, in time, and as promised.
fn run(gap_us: i64, keyed: bool, steps: &[Step]) -> (BTreeSet<Out>, u64, u64) {
    let keys = if keyed { vec![KEY] } else { vec![] };
    let mut slices = Slices::new(keys, move || operator(gap_us, keyed));
    let (mut emitted, mut late, mut timeless) = (BTreeSet::new(), 0, 0);
    let mut before = i64::MIN;
    for step in steps.iter().chain([&Step::Watermark(i64::MAX)]) {
        let promised = slices.slices.iter().map(|slice| slice.output_watermark_us()).min().expect("a slice");
        slices.step(step, false);
        let out = slices.take();
        (late, timeless) = (late + out.n_late, timeless + out.n_timeless);
        assert!(out.batches.is_empty() || matches!(step, Step::Watermark(_)), "rows before a watermark");
        for out in out.batches.iter().flat_map(|batch| outs(batch, keyed)) {
            assert!((before + 1..=slices.watermark_us).contains(&out.2), "{out:?} at {}", slices.watermark_us);
            assert!(out.1 >= promised, "{out:?} after {promised} was promised to be over");
            assert!(emitted.insert(out), "{out:?} twice");
        }
        before = slices.watermark_us;
    }
    for slice in &slices.slices {
        assert_eq!(slice.open.n_sessions(), 0);
        assert_eq!(slice.open.first_start(), None);
        assert_eq!(slice.layers.memory_bytes(), 0, "all aggregates are gone at the end");
    }
    (emitted, late, timeless)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn equals_a_naive_recomputation(
        steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        gap_us in 1_i64..12,
    ) {
        let expected = naive(gap_us, keyed, &steps);
        prop_assert_eq!(&run(gap_us, keyed, &steps), &expected);
        // Rows between two watermarks may come in any order.
        let mut turned = steps.clone();
        for steps in turned.split_mut(|step| matches!(step, Step::Watermark(_))) {
            steps.reverse();
            for step in steps {
                if let Step::Rows(rows) = step {
                    rows.reverse();
                }
            }
        }
        prop_assert_eq!(&run(gap_us, keyed, &turned), &expected, "in another order");
    }
}

fn row(key: i64, time: i64) -> (Row, i8) {
    (Row { key: Some(key), time: Some(time), value: Some(1), text: None }, 1)
}

#[test]
fn rows_a_gap_apart_are_two_sessions() {
    let mut operator = operator(10, true);
    let mut out = Output::default();
    operator
        .process(0, &batch(&[row(1, 0), row(1, 9), row(1, 19), row(2, 5), row(2, 14)], false), &mut out)
        .expect("rows");
    operator.advance(28, &mut out).expect("advance");
    let mut sum = BTreeMap::new();
    out.batches.iter().for_each(|batch| add_up(&mut sum, batch, false));
    let times: Vec<(Option<i64>, i64, i64)> =
        out.batches.iter().flat_map(|batch| outs(batch, true)).map(|out| (out.0, out.1, out.2)).collect();
    assert_eq!(times, [(Some(1), 0, 19), (Some(2), 5, 24)]);
    assert_eq!(sum.len(), 2);
    // The second session of key 1 is open: it may not begin earlier than was promised, but takes what lies within it.
    assert_eq!(operator.output_watermark_us(), 19);
    let mut out = Output::default();
    operator.process(0, &batch(&[row(1, 18), row(1, 27), row(1, 19)], false), &mut out).expect("rows");
    assert_eq!(out.n_late, 1);
}

/// A session that goes on for ever, beside many that do not: what is kept does not grow with time.
#[test]
fn what_is_over_is_freed() {
    let mut operator = operator(10, true);
    let mut out = Output::default();
    let mut most = 0;
    for round in 0..200 {
        let rows: Vec<(Row, i8)> =
            (0..200).map(|key| row(round * 200 + key, round * 5)).chain([row(-1, round * 5)]).collect();
        operator.process(0, &batch(&rows, false), &mut out).expect("rows");
        operator.advance(round * 5, &mut out).expect("advance");
        if round == 40 {
            most = operator.memory_bytes();
        }
    }
    assert!(operator.memory_bytes() < 3 * most, "{} and {most} bytes", operator.memory_bytes());
    assert!(operator.open.n_sessions() < 1000);
    let n_rows: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(n_rows, 200 * 198);
}

/// By step the sessions that should be out, and how many rows are late in all.
fn naive_answers(gap_us: i64, lateness_us: i64, keyed: bool, steps: &[Step]) -> (Vec<BTreeSet<Out>>, u64) {
    let mut kept: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    let (mut watermark, mut settled, mut late) = (i64::MIN, i64::MIN, 0);
    let mut last: BTreeSet<Out> = BTreeSet::new();
    let mut answers = Vec::new();
    for step in steps {
        if let Step::Rows(rows) = step {
            for (row, _) in rows {
                let Some(time) = row.time else { continue };
                let own = kept.entry(row.key.filter(|_| keyed)).or_default();
                let within = sessions(own, gap_us)
                    .into_iter()
                    .any(|session| own[session.start].time <= row.time && row.time <= own[session.end - 1].time);
                if within || time + gap_us > settled { own.push(row.clone()) } else { late += 1 }
            }
        }
        if let Step::Watermark(next) = step {
            watermark = watermark.max(*next);
            settled = if watermark == i64::MAX { watermark } else { watermark.saturating_sub(lateness_us) };
        }
        let mut now = last.clone();
        for (key, own) in &mut kept {
            let mut left = Vec::new();
            for session in sessions(own, gap_us) {
                let rows = &own[session];
                let out = result(*key, rows, gap_us);
                if out.2 <= watermark {
                    now.insert(out);
                }
                match out.2 <= settled {
                    true => last.extend([out]),
                    false => left.extend(rows.iter().cloned()),
                }
            }
            *own = left;
        }
        answers.push(now);
    }
    (answers, late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn late_rows_change_sessions_until_they_are_settled(
        mut steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        gap_us in 1_i64..12,
        lateness_us in 1_i64..40,
    ) {
        steps.push(Step::Watermark(i64::MAX));
        let (expected, expected_late) = naive_answers(gap_us, lateness_us, keyed, &steps);
        let keys = if keyed { vec![KEY] } else { vec![] };
        let mut slices = Slices::new(keys, move || operator_with(gap_us, keyed, lateness_us));
        let (mut said, mut late) = (BTreeMap::<Out, i64>::new(), 0);
        for (step, expected) in steps.iter().zip(expected) {
            let promised = slices.slices.iter().map(|slice| slice.output_watermark_us()).min().expect("a slice");
            slices.step(step, false);
            slices.flush();
            let out = slices.take();
            late += out.n_late;
            for batch in &out.batches {
                let weights = changes::weights(batch).expect("weights");
                for (row, out) in outs(batch, keyed).into_iter().enumerate() {
                    prop_assert!(out.1 >= promised, "{:?} after {} was promised to be over", out, promised);
                    *said.entry(out).or_default() += i64::from(weights.value(row));
                }
            }
            said.retain(|_, count| *count != 0);
            prop_assert!(said.values().all(|count| *count == 1), "{:?}", said);
            prop_assert_eq!(said.keys().copied().collect::<BTreeSet<Out>>(), expected, "after {:?}", step);
        }
        prop_assert_eq!(late, expected_late);
        for slice in &slices.slices {
            prop_assert_eq!((slice.open.n_sessions(), slice.layers.memory_bytes()), (0, 0));
        }
    }
}

/// Two sessions that were answered become one: both answers are taken back.
#[test]
fn a_late_row_makes_one_of_two() {
    let mut operator = operator_with(10, true, 100);
    let mut out = Output::default();
    operator.process(0, &batch(&[row(1, 0), row(1, 15)], false), &mut out).expect("rows");
    operator.advance(40, &mut out).expect("advance");
    operator.process(0, &batch(&[row(1, 8)], false), &mut out).expect("a late row");
    operator.flush(&mut out).expect("flush");
    let said: Vec<(i64, i64, i8)> = out
        .batches
        .iter()
        .flat_map(|batch| {
            let weights = changes::weights(batch).expect("weights").values().to_vec();
            outs(batch, true).into_iter().zip(weights).map(|(out, weight)| (out.1, out.2, weight))
        })
        .collect();
    assert_eq!(said, [(0, 10, 1), (15, 25, 1), (0, 10, -1), (15, 25, -1), (0, 25, 1)]);
}
