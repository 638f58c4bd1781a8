//! Windows in two phases against windows in one, over the same rows and watermarks.

use super::*;
use crate::runtime::operators::testing::add_up;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, TIME, VALUE, batch, schema, time_type, timed_histories,
};
use crate::runtime::operators::window::{self, WindowAggregate};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{CastExpr, binary, col, lit};
use proptest::prelude::*;

type Filters = Vec<Option<Arc<dyn PhysicalExpr>>>;

fn aggregates(input: &SchemaRef) -> (Vec<Arc<AggregateFunctionExpr>>, Filters) {
    let value = col(input.field(VALUE).name(), input).expect("column");
    let float: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(Arc::clone(&value), DataType::Float64, None));
    let build = |function, value: &Arc<dyn PhysicalExpr>, name: &str| {
        let builder = AggregateExprBuilder::new(function, vec![Arc::clone(value)]).schema(Arc::clone(input));
        Arc::new(builder.alias(name).build().expect("aggregate"))
    };
    let all = vec![
        build(sum_udaf(), &value, "sum"),
        build(count_udaf(), &value, "odd"),
        build(min_udaf(), &value, "min"),
        build(max_udaf(), &value, "max"),
        build(avg_udaf(), &float, "avg"),
    ];
    let odd = binary(Arc::clone(&value), Op::Modulo, lit(2_i64), input).expect("expression");
    let odd = binary(odd, Op::Eq, lit(1_i64), input).expect("predicate");
    (all, vec![None, Some(odd), None, None, None])
}

/// The columns between the phases.
fn between(input: &SchemaRef, keys: &[usize], window: bool) -> SchemaRef {
    let aggregation = Aggregation::new(input, keys, aggregates(input).0).expect("aggregation");
    let mut fields: Vec<Field> = keys.iter().map(|key| input.field(*key).clone()).collect();
    fields.extend(window.then(|| Field::new("pane", time_type(), false)));
    fields.extend(aggregation.frozen_fields().into_iter().skip(keys.len()));
    fields.extend(window.then(|| Field::new("n_rows", DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

fn local(window: Option<Window>, keys: Vec<usize>) -> LocalAggregate {
    let input = schema(vec![], false);
    let output = between(&input, &keys, window.is_some());
    let (aggregates, filters) = aggregates(&input);
    let window = window.map(|window| (window, TIME));
    LocalAggregate::new(Spec { window, keys, aggregates, filters, input, output }).expect("operator")
}

fn whole(window: Window, keyed: bool, partial: bool) -> WindowAggregate {
    let rows = schema(vec![], false);
    let (aggregates, filters) = aggregates(&rows);
    let keys = if keyed { vec![KEY] } else { vec![] };
    let mut fields: Vec<Field> = keys.iter().map(|key| rows.field(*key).clone()).collect();
    fields.extend([Field::new("start", time_type(), false), Field::new("end", time_type(), false)]);
    fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
    let output = Arc::new(Schema::new(fields));
    let (input, time) = match partial {
        true => (between(&rows, &keys, true), keys.len()),
        false => (rows, TIME),
    };
    let keys = if partial { (0..keys.len()).collect() } else { keys };
    WindowAggregate::new(window::Spec { window, time, keys, aggregates, filters, partial, input, output })
        .expect("operator")
}

/// What is said in sum, how many rows were late, and how many had no time.
type Said = (BTreeMap<String, i64>, u64, u64);

fn one_phase(window: Window, keyed: bool, steps: &[Step]) -> Said {
    let keys = if keyed { vec![KEY] } else { vec![] };
    let mut slices = Slices::new(keys, move || whole(window, keyed, false));
    steps.iter().for_each(|step| slices.step(step, false));
    said(slices.take())
}

fn said(out: Output) -> Said {
    let mut sum = BTreeMap::new();
    out.batches.iter().for_each(|batch| add_up(&mut sum, batch, false));
    (sum, out.n_late, out.n_timeless)
}

fn two_phases(window: Window, keyed: bool, steps: &[Step]) -> Said {
    let keys = if keyed { vec![KEY] } else { vec![] };
    let mut locals: Vec<LocalAggregate> = (0..3).map(|_| local(Some(window), keys.clone())).collect();
    let mut slices = Slices::new((0..keys.len()).collect(), move || whole(window, keyed, true));
    let mut timeless = 0;
    for step in steps {
        let mut out = Output::default();
        match step {
            Step::Rows(rows) => {
                for (at, local) in locals.iter_mut().enumerate() {
                    let own: Vec<(Row, i8)> = rows.iter().skip(at).step_by(3).cloned().collect();
                    local.process(0, &batch(&own, false), &mut out).expect("rows");
                }
                assert!(out.batches.is_empty(), "rows before a flush");
            }
            Step::Watermark(watermark_us) => {
                locals.iter_mut().for_each(|local| local.advance(*watermark_us, &mut out).expect("advance"));
            }
            Step::Flush | Step::Snapshot | Step::Rescale(_) => {
                locals.iter_mut().for_each(|local| local.flush(&mut out).expect("flush"));
                for local in &mut locals {
                    assert_eq!(
                        (local.snapshot(Scope::All).expect("snapshot").tables.len(), local.memory_bytes()),
                        (0, 0)
                    );
                }
            }
        }
        timeless += out.n_timeless;
        out.batches.iter().for_each(|batch| slices.process(batch));
        if !matches!(step, Step::Rows(_)) {
            slices.step(step, false);
        }
    }
    let (sum, late, none) = said(slices.take());
    assert_eq!(none, 0, "rows without a time do not come that far");
    (sum, late, timeless)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn two_phases_say_what_one_says(
        mut steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        window in prop_oneof![
            Just(Window::Tumble { width_us: 10, offset_us: 0 }),
            Just(Window::Hop { width_us: 25, slide_us: 10, offset_us: 0 }),
            Just(Window::Hop { width_us: 25, slide_us: 10, offset_us: 7 }),
            Just(Window::Hop { width_us: 10, slide_us: 15, offset_us: 0 }),
            Just(Window::Cumulate { width_us: 30, step_us: 10, offset_us: 0 }),
            Just(Window::Cumulate { width_us: 30, step_us: 10, offset_us: 7 }),
        ],
    ) {
        steps.push(Step::Watermark(i64::MAX));
        prop_assert_eq!(two_phases(window, keyed, &steps), one_phase(window, keyed, &steps));
    }
}

/// A key with many rows sends one.
#[test]
fn a_hot_key_costs_one_row() {
    let row = |key: i64| (Row { key: Some(key), time: Some(3), value: Some(key), text: None }, 1);
    let rows: Vec<(Row, i8)> = (0..1000).map(|at| row(if at % 100 == 0 { at } else { 7 })).collect();
    for window in [Some(Window::Tumble { width_us: 10, offset_us: 0 }), None] {
        let mut local = local(window, vec![KEY]);
        let mut out = Output::default();
        local.process(0, &batch(&rows, false), &mut out).expect("rows");
        local.process(0, &batch(&rows, false), &mut out).expect("rows");
        assert_eq!((local.n_pending(), local.output_watermark_us()), (2000, i64::MIN));
        local.advance(15, &mut out).expect("advance");
        local.flush(&mut out).expect("flush");
        // No window ends between 10 and 15.
        let come = if window.is_some() { 10 } else { 15 };
        assert_eq!((local.n_pending(), local.output_watermark_us()), (0, come));
        let n_rows: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(n_rows, 11);
        if window.is_some() {
            let last = out.batches[0].columns().last().expect("a column").as_primitive::<Int64Type>();
            assert_eq!((last.values().iter().sum::<i64>(), last.null_count()), (2000, 0));
        }
    }
}

/// A watermark that ends no window says nothing and goes no further; one that does brings everything before it.
#[test]
fn what_no_window_waits_for_is_kept() {
    let rows = [(Row { key: Some(1), time: Some(3), value: Some(2), text: None }, 1)];
    let mut local = local(Some(Window::Hop { width_us: 10, slide_us: 4, offset_us: 0 }), vec![KEY]);
    let mut out = Output::default();
    for (watermark_us, n_batches, come) in [(1, 1, -2), (2, 2, 2), (5, 2, 2), (6, 3, 6), (9, 3, 6)] {
        local.process(0, &batch(&rows, false), &mut out).expect("rows");
        local.advance(watermark_us, &mut out).expect("advance");
        assert!(!local.waits_for_flush());
        let came = (out.batches.len(), local.output_watermark_us());
        assert_eq!(came, (n_batches, come), "at {watermark_us}");
    }
}
