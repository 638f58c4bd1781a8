//! Windows against a naive recomputation: random rows, batches, watermarks, and restores at another number of slices.

use super::*;
use crate::runtime::exchange::partition::partition;
use crate::runtime::operators::testing::{Chain, restore, restore_chains, snapshot};
use arrow::array::{Array, TimestampMicrosecondArray};
use arrow::datatypes::{TimeUnit, TimestampMicrosecondType};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{CastExpr, binary, col, lit};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
struct Row {
    time: i64,
    key: Option<i64>,
    value: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Watermark(i64),
    /// Snapshot, and go on as before.
    Snapshot,
    /// Snapshot, and go on from it with this many slices.
    Rescale(u32),
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", time_type(), true),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.time)).collect();
    let keys: Int64Array = rows.iter().map(|row| row.key).collect();
    let values: Int64Array = rows.iter().map(|row| Some(row.value)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("+00:00")), Arc::new(keys), Arc::new(values)];
    RecordBatch::try_new(input(), columns).expect("columns fit")
}

fn operator(window: Window, keys: Vec<usize>) -> WindowAggregate {
    let input = input();
    let value = col("value", &input).expect("column");
    let float: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(Arc::clone(&value), DataType::Float64, None));
    let build = |builder: AggregateExprBuilder, name: &str| {
        Arc::new(builder.schema(Arc::clone(&input)).alias(name).build().expect("aggregate"))
    };
    let of = |function| AggregateExprBuilder::new(function, vec![Arc::clone(&value)]);
    let aggregates = vec![
        build(of(sum_udaf()), "sum"),
        build(of(count_udaf()), "positive"),
        build(of(count_udaf()).distinct(), "different"),
        build(of(max_udaf()), "max"),
        build(AggregateExprBuilder::new(avg_udaf(), vec![float]), "avg"),
    ];
    let positive = binary(Arc::clone(&value), Op::Gt, lit(0_i64), &input).expect("predicate");
    let mut fields: Vec<Field> = keys.iter().map(|key| input.field(*key).clone()).collect();
    fields.extend([Field::new("start", time_type(), false), Field::new("end", time_type(), false)]);
    fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
    let spec = Spec {
        window,
        time: 0,
        keys,
        filters: vec![None, Some(positive), None, None, None],
        aggregates,
        partial: false,
        input,
        output: Arc::new(Schema::new(fields)),
    };
    WindowAggregate::new(spec).expect("operator")
}

/// key, start, end, sum, positive, different, max, ten times the average rounded down.
type Out = (Option<i64>, i64, i64, i64, i64, i64, i64, i64);

fn outs(batch: &RecordBatch, keyed: bool) -> Vec<Out> {
    let at = usize::from(keyed);
    let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row);
    let int = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
    let average = batch.column(at + 6).as_primitive::<arrow::datatypes::Float64Type>();
    let key = |row: usize| (keyed && !batch.column(0).is_null(row)).then(|| int(0, row));
    let out = |row: usize| {
        let average = (average.value(row) * 10.0).floor() as i64;
        (
            key(row),
            time(at, row),
            time(at + 1, row),
            int(at + 2, row),
            int(at + 3, row),
            int(at + 4, row),
            int(at + 5, row),
            average,
        )
    };
    (0..batch.num_rows()).map(out).collect()
}

fn naive(window: Window, keyed: bool, steps: &[Step]) -> (BTreeSet<Out>, u64) {
    // By start: the ends of the windows that begin there.
    let ends = |start: i64| -> Vec<i64> {
        match window {
            Window::Tumble { width_us, offset_us } if (start - offset_us) % width_us == 0 => vec![start + width_us],
            Window::Hop { width_us, slide_us, offset_us } if (start - offset_us) % slide_us == 0 => {
                vec![start + width_us]
            }
            Window::Cumulate { width_us, step_us, offset_us } if (start - offset_us) % width_us == 0 => {
                (1..=width_us / step_us).map(|n| start + n * step_us).collect()
            }
            _ => Vec::new(),
        }
    };
    let mut groups: BTreeMap<(Option<i64>, i64, i64), Vec<i64>> = BTreeMap::new();
    let (mut watermark, mut late) = (i64::MIN, 0);
    for step in steps {
        match step {
            Step::Watermark(next) => watermark = watermark.max(*next),
            Step::Snapshot | Step::Rescale(_) => {}
            Step::Rows(rows) => {
                for row in rows {
                    let mut missed = false;
                    for (start, end) in
                        (-400..400).flat_map(|start| ends(start).into_iter().map(move |end| (start, end)))
                    {
                        if (start..end).contains(&row.time) {
                            if end <= watermark {
                                missed = true;
                            } else {
                                groups.entry((row.key.filter(|_| keyed), start, end)).or_default().push(row.value);
                            }
                        }
                    }
                    late += u64::from(missed);
                }
            }
        }
    }
    let out = |((key, start, end), values): ((Option<i64>, i64, i64), Vec<i64>)| {
        let sum: i64 = values.iter().sum();
        let positive = values.iter().filter(|value| **value > 0).count() as i64;
        let different = values.iter().collect::<BTreeSet<_>>().len() as i64;
        let max = values.iter().copied().max().unwrap_or_default();
        let average = (sum as f64 / values.len() as f64 * 10.0).floor() as i64;
        (key, start, end, sum, positive, different, max, average)
    };
    (groups.into_iter().map(out).collect(), late)
}

/// Runs the steps on real operators, checking that each window comes once and not before its time.
fn run(window: Window, keyed: bool, steps: &[Step]) -> (BTreeSet<Out>, u64) {
    let keys = if keyed { vec![1] } else { vec![] };
    let (mut slices, mut chains) = (vec![operator(window, keys.clone())], vec![Chain::default()]);
    let (mut emitted, mut late, mut watermark) = (BTreeSet::new(), 0, i64::MIN);
    let mut out = Output::default();
    let end = Step::Watermark(i64::MAX);
    for step in steps.iter().chain([&end]) {
        let n_slots = slices.len() as u32;
        match step {
            Step::Rows(rows) => {
                for (slot, part) in partition(&batch(rows), &keys, n_slots).expect("partition") {
                    slices[slot as usize].process(0, &part, &mut out).expect("process");
                    assert!(out.batches.is_empty(), "rows before a watermark");
                    late += std::mem::take(&mut out).n_late;
                }
            }
            Step::Watermark(next) => {
                watermark = watermark.max(*next);
                for slice in &mut slices {
                    let promised = slice.output_watermark_us();
                    slice.advance(*next, &mut out).expect("advance");
                    for out in std::mem::take(&mut out).batches.iter().flat_map(|batch| outs(batch, keyed)) {
                        assert!(out.2 <= watermark, "{out:?} before its end at {watermark}");
                        assert!(out.1 >= promised, "{out:?} after {promised} was promised to be over");
                        assert!(emitted.insert(out), "{out:?} twice");
                    }
                }
            }
            Step::Snapshot => {
                for (slot, (slice, chain)) in slices.iter_mut().zip(&mut chains).enumerate() {
                    chain.save(slice, watermark, (slot as u32, n_slots), &mut out).expect("snapshot");
                }
            }
            Step::Rescale(n_after) => {
                for (slot, (slice, chain)) in slices.iter_mut().zip(&mut chains).enumerate() {
                    chain.save(slice, watermark, (slot as u32, n_slots), &mut out).expect("snapshot");
                }
                slices = (0..*n_after).map(|_| operator(window, keys.clone())).collect();
                for (slot, slice) in slices.iter_mut().enumerate() {
                    restore_chains(slice, &chains, slot as u32, *n_after).expect("restore");
                }
                if *n_after != n_slots {
                    chains = vec![Chain::default(); *n_after as usize];
                }
            }
        }
    }
    assert!(slices.iter().all(|slice| slice.panes.is_empty()), "all state is gone at the end");
    (emitted, late)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = proptest::option::weighted(0.9, 0_i64..6);
    let row = (0_i64..40, key, -5_i64..6).prop_map(|(time, key, value)| Row { time, key, value });
    let step = prop_oneof![
        6 => proptest::collection::vec(row, 1..12).prop_map(Step::Rows),
        3 => (0_i64..12).prop_map(Step::Watermark),
        2 => Just(Step::Snapshot),
        1 => (1_u32..5).prop_map(Step::Rescale),
    ];
    // Times are relative to a clock that goes on with every watermark, so that rows come early, in time and late.
    proptest::collection::vec(step, 1..25).prop_map(|mut steps| {
        let mut clock = -60;
        for step in &mut steps {
            match step {
                Step::Rows(rows) => rows.iter_mut().for_each(|row| row.time += clock - 15),
                Step::Watermark(by) => {
                    clock += *by;
                    *by = clock;
                }
                Step::Snapshot | Step::Rescale(_) => {}
            }
        }
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equals_a_naive_recomputation(
        steps in steps(),
        keyed in proptest::bool::weighted(0.8),
        window in prop_oneof![
            Just(Window::Tumble { width_us: 10, offset_us: 0 }),
            Just(Window::Hop { width_us: 30, slide_us: 10, offset_us: 0 }),
            Just(Window::Hop { width_us: 25, slide_us: 10, offset_us: 0 }),
            Just(Window::Hop { width_us: 25, slide_us: 10, offset_us: 7 }),
            Just(Window::Hop { width_us: 10, slide_us: 15, offset_us: 0 }),
            Just(Window::Cumulate { width_us: 30, step_us: 10, offset_us: 0 }),
            Just(Window::Cumulate { width_us: 30, step_us: 10, offset_us: 7 }),
        ],
    ) {
        prop_assert_eq!(run(window, keyed, &steps), naive(window, keyed, &steps));
    }
}

#[test]
fn a_large_window_comes_in_batches_of_bounded_length() {
    let mut window = operator(Window::Tumble { width_us: 10, offset_us: 0 }, vec![1]);
    let rows: Vec<Row> = (0..20_000).map(|key| Row { time: 3, key: Some(key), value: key }).collect();
    let mut out = Output::default();
    window.process(0, &batch(&rows), &mut out).expect("process");
    window.advance(10, &mut out).expect("advance");
    let lengths: Vec<usize> = out.batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(lengths, [BATCH_ROWS, BATCH_ROWS, 20_000 - 2 * BATCH_ROWS]);
}

#[test]
fn rows_without_a_usable_time_are_counted() {
    let mut window = operator(Window::Tumble { width_us: 10, offset_us: 0 }, vec![1]);
    let row = |time| Row { time, key: None, value: 1 };
    let mut out = Output::default();
    window.process(0, &batch(&[row(i64::MAX), row(i64::MIN), row(5)]), &mut out).expect("process");
    assert_eq!((out.n_late, out.n_timeless), (0, 2));
}

#[test]
fn state_with_other_columns_is_refused() {
    let mut out = Output::default();
    let mut before = operator(Window::Tumble { width_us: 10, offset_us: 0 }, vec![1]);
    before.process(0, &batch(&[Row { time: 1, key: None, value: 1 }]), &mut out).expect("process");
    let files = snapshot(&mut before, 0, 0, 1, &mut out).expect("snapshot");
    let mut other = operator(Window::Tumble { width_us: 10, offset_us: 0 }, vec![]);
    let text = restore(&mut other, &files, 0, 1).expect_err("other columns").to_string();
    assert!(text.contains("start without this checkpoint"), "{text}");
}
