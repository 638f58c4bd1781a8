//! Functions OVER rows against a naive recomputation.

use super::*;
use crate::runtime::operators::testing::slices::{
    KEY, Row, Slices, Step, TEXT, TIME, VALUE, batch, counts, histories, schema, text, timed_histories, undo,
};
use crate::runtime::operators::testing::{add_up, add_up_flush};
use arrow::array::AsArray;
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, IntervalMonthDayNanoType};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::{lag_udwf, lead_udwf};
use datafusion::functions_window::nth_value::first_value_udwf;
use datafusion::functions_window::ntile::ntile_udwf;
use datafusion::functions_window::rank::{dense_rank_udwf, rank_udwf};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use datafusion::physical_expr::expressions::{col, lit};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::windows::create_window_expr;
use proptest::prelude::*;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    RowNumber,
    Rank,
    DenseRank,
    Lag,
    Lead,
    /// Of all rows up to this one and those that are equal to it.
    Sum,
    /// Of this row and the two before it.
    Count,
    /// Of this row and its neighbours.
    Max,
    /// Of the whole key.
    First,
    Half,
    /// Of this row and the one before it.
    FirstOfTwo,
    /// Of the rows of the last ten microseconds.
    SumOfTime,
}

use Function::*;

const ANY: [Function; 10] = [RowNumber, Rank, DenseRank, Lag, Lead, Sum, Count, Max, First, Half];
const LOOKING_BACK: [Function; 8] = [RowNumber, Rank, DenseRank, Lag, Sum, Count, FirstOfTwo, SumOfTime];
const OF_FEW_ROWS: [Function; 4] = [Lag, Count, FirstOfTwo, SumOfTime];
const OF_TIME: [Function; 1] = [SumOfTime];

const SPAN_US: i64 = 10;

impl Function {
    fn build(self, order: Order) -> Arc<dyn WindowExpr> {
        let input = schema(vec![], false);
        let column = |index: usize| col(input.field(index).name(), &input).expect("column");
        let (value, text) = (column(VALUE), column(TEXT));
        let (units, start, end) = self.frame();
        let of_window = |udwf| WindowFunctionDefinition::WindowUDF(udwf);
        let of_aggregate = |udaf| WindowFunctionDefinition::AggregateUDF(udaf);
        let (function, args): (_, Vec<Arc<dyn PhysicalExpr>>) = match self {
            RowNumber => (of_window(row_number_udwf()), vec![]),
            Rank => (of_window(rank_udwf()), vec![]),
            DenseRank => (of_window(dense_rank_udwf()), vec![]),
            Lag => (of_window(lag_udwf()), vec![value, lit(2_i64)]),
            Lead => (of_window(lead_udwf()), vec![value, lit(1_i64)]),
            Sum | SumOfTime => (of_aggregate(sum_udaf()), vec![value]),
            Count => (of_aggregate(count_udaf()), vec![value]),
            Max => (of_aggregate(max_udaf()), vec![value]),
            First | FirstOfTwo => (of_window(first_value_udwf()), vec![text]),
            Half => (of_window(ntile_udwf()), vec![lit(2_i64)]),
        };
        let frame = Arc::new(WindowFrame::new_bounds(units, start, end));
        let by = [PhysicalSortExpr { expr: column(order.column), options: order.options }];
        create_window_expr(&function, format!("{self:?}"), &args, &[column(KEY)], &by, frame, input, false, false, None)
            .expect("function")
    }

    fn frame(self) -> (WindowFrameUnits, WindowFrameBound, WindowFrameBound) {
        let rows = |by| ScalarValue::UInt64(by);
        let (before, after) = (WindowFrameBound::Preceding, WindowFrameBound::Following);
        match self {
            Count => (WindowFrameUnits::Rows, before(rows(Some(2))), WindowFrameBound::CurrentRow),
            Max => (WindowFrameUnits::Rows, before(rows(Some(1))), after(rows(Some(1)))),
            First => (WindowFrameUnits::Rows, before(rows(None)), after(rows(None))),
            FirstOfTwo => (WindowFrameUnits::Rows, before(rows(Some(1))), WindowFrameBound::CurrentRow),
            SumOfTime => {
                let span = IntervalMonthDayNanoType::make_value(0, 0, SPAN_US * 1000);
                let span = ScalarValue::IntervalMonthDayNano(Some(span));
                (WindowFrameUnits::Range, before(span), WindowFrameBound::CurrentRow)
            }
            _ => (WindowFrameUnits::Range, before(rows(None)), WindowFrameBound::CurrentRow),
        }
    }

    /// For the row `at` of sorted rows; `equal`: which rows are equal to it in the order.
    fn naive(self, rows: &[Row], at: usize, equal: &Range<usize>, starts: &[usize]) -> String {
        let value = |at: usize| rows[at].value;
        let some = |value: Option<i64>| value.map_or("NULL".to_string(), |value| value.to_string());
        let sum = |rows: &[Row]| {
            let values: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
            (!values.is_empty()).then(|| values.iter().sum())
        };
        let text = |at: usize| rows[at].text.clone().unwrap_or("NULL".to_string());
        match self {
            RowNumber => (at + 1).to_string(),
            Rank => (equal.start + 1).to_string(),
            DenseRank => starts.iter().filter(|start| **start <= at).count().to_string(),
            Lag => some(at.checked_sub(2).and_then(value)),
            Lead => some((at + 1 < rows.len()).then(|| value(at + 1)).flatten()),
            Sum => some(sum(&rows[..equal.end])),
            Count => rows[at.saturating_sub(2)..=at].iter().filter(|row| row.value.is_some()).count().to_string(),
            Max => {
                let near = &rows[at.saturating_sub(1)..rows.len().min(at + 2)];
                some(near.iter().filter_map(|row| row.value).max())
            }
            First => text(0),
            Half => if at < rows.len().div_ceil(2) { "1" } else { "2" }.to_string(),
            FirstOfTwo => text(at.saturating_sub(1)),
            SumOfTime => {
                let time = |row: &Row| row.time.expect("a time");
                let from = rows.partition_point(|row| time(row) < time(&rows[at]) - SPAN_US);
                some(sum(&rows[from..equal.end]))
            }
        }
    }
}

fn operator(functions: &[Function], order: Order, time: Option<usize>, changes: bool, keyed: bool) -> Over {
    let functions: Vec<_> = functions.iter().map(|function| function.build(order)).collect();
    let added = functions.iter().map(|function| function.field().expect("field").as_ref().clone().with_nullable(true));
    let added: Vec<Field> = added.enumerate().map(|(at, field)| field.with_name(format!("added_{at}"))).collect();
    Over::new(Spec {
        keys: if keyed { vec![KEY] } else { vec![] },
        order: vec![order],
        functions,
        time,
        input: schema(vec![], changes),
        changes,
        output: schema(added, time.is_none()),
    })
    .expect("operator")
}

/// All rows with what the functions make of them.
fn naive(
    counts: &BTreeMap<Row, i64>,
    functions: &[Function],
    keyed: bool,
    by: impl Fn(&Row) -> Option<i64>,
    options: SortOptions,
) -> BTreeMap<String, i64> {
    let mut rows_by_key: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    for (row, count) in counts {
        let rows = rows_by_key.entry(row.key.filter(|_| keyed)).or_default();
        rows.extend((0..*count).map(|_| row.clone()));
    }
    let mut sum = BTreeMap::new();
    for mut rows in rows_by_key.into_values() {
        rows.sort_by(|a, b| {
            let order = match (by(a), by(b)) {
                (Some(a), Some(b)) if options.descending => b.cmp(&a),
                (Some(a), Some(b)) => a.cmp(&b),
                (a, b) if options.nulls_first => a.is_some().cmp(&b.is_some()),
                (a, b) => a.is_none().cmp(&b.is_none()),
            };
            order.then_with(|| a.cmp(b))
        });
        let starts: Vec<usize> = (0..rows.len()).filter(|at| *at == 0 || by(&rows[*at]) != by(&rows[at - 1])).collect();
        for at in 0..rows.len() {
            let start = *starts.iter().rfind(|start| **start <= at).expect("a start");
            let end = starts.iter().copied().find(|start| *start > at).unwrap_or(rows.len());
            let added = functions.iter().map(|function| function.naive(&rows, at, &(start..end), &starts));
            let line: Vec<String> = std::iter::once(text(&rows[at])).chain(added).collect();
            *sum.entry(line.join(" ")).or_default() += 1;
        }
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn changes_equal_a_naive_recomputation(
        changes_and_steps in any::<bool>().prop_flat_map(|changes| (Just(changes), histories(changes))),
        keyed in proptest::bool::weighted(0.8),
        descending: bool,
        nulls_first: bool,
    ) {
        let (changes, steps) = changes_and_steps;
        let options = SortOptions { descending, nulls_first };
        let order = Order { column: VALUE, options };
        let keys = if keyed { vec![KEY] } else { vec![] };
        let mut slices = Slices::new(keys, move || operator(&ANY, order, None, changes, keyed));
        let mut sum = BTreeMap::new();
        for (at, step) in steps.iter().chain([&Step::Flush]).enumerate() {
            slices.step(step, changes);
            if matches!(step, Step::Rows(_)) {
                prop_assert!(slices.out.batches.is_empty(), "rows before a flush");
                continue;
            }
            add_up_flush(&mut sum, &slices.take().batches);
            let expected = naive(&counts(&steps[..steps.len().min(at + 1)]), &ANY, keyed, |row| row.value, options);
            prop_assert_eq!(&sum, &expected, "after step {}", at);
        }
        let fresh = operator(&ANY, order, None, changes, keyed).memory_bytes();
        if changes {
            slices.step(&undo(&steps), true);
            slices.flush();
            add_up_flush(&mut sum, &slices.take().batches);
            prop_assert!(sum.is_empty(), "{:?} is left", sum);
            for slice in &slices.slices {
                // The table of keys stays until enough of them are gone.
                prop_assert!(slice.memory_bytes() < fresh + 2000, "{} bytes are left", slice.memory_bytes());
            }
        }
    }

    #[test]
    fn settled_rows_equal_a_naive_recomputation(
        steps in timed_histories(),
        keyed in proptest::bool::weighted(0.8),
        functions in prop_oneof![
            Just(LOOKING_BACK.as_slice()),
            Just(OF_FEW_ROWS.as_slice()),
            Just(OF_TIME.as_slice()),
        ],
    ) {
        let order = Order { column: TIME, options: SortOptions { descending: false, nulls_first: false } };
        let keys = if keyed { vec![KEY] } else { vec![] };
        let mut slices = Slices::new(keys, move || operator(functions, order, Some(TIME), false, keyed));
        let (mut sum, mut accepted) = (BTreeMap::new(), BTreeMap::new());
        let (mut n_late, mut n_timeless) = (0, 0);
        let (mut watermark, mut said) = (i64::MIN, (0, 0));
        for step in steps.iter().chain([&Step::Watermark(i64::MAX)]) {
            match step {
                Step::Rows(rows) => {
                    for (row, _) in rows {
                        match row.time {
                            None => n_timeless += 1,
                            Some(time) if time < watermark => n_late += 1,
                            Some(_) => *accepted.entry(row.clone()).or_insert(0) += 1,
                        }
                    }
                }
                Step::Watermark(next) => watermark = watermark.max(*next),
                Step::Flush | Step::Snapshot | Step::Rescale(_) => {}
            }
            let promised = slices.slices.iter().map(|slice| slice.output_watermark_us()).min();
            slices.step(step, false);
            let out = slices.take();
            said = (said.0 + out.n_late, said.1 + out.n_timeless);
            prop_assert_eq!(said, (n_late, n_timeless));
            prop_assert!(out.batches.is_empty() || matches!(step, Step::Watermark(_)));
            for batch in &out.batches {
                let times = batch.column(TIME).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                prop_assert!(times.values().iter().all(|time| (promised.unwrap_or(0)..watermark).contains(time)));
                add_up(&mut sum, batch, false);
            }
            let mut settled = accepted.clone();
            settled.retain(|row, _| row.time < Some(watermark));
            let expected = naive(&settled, functions, keyed, |row| row.time, order.options);
            prop_assert_eq!(&sum, &expected, "after {:?}", step);
        }
        let fresh = operator(functions, order, Some(TIME), false, keyed).memory_bytes();
        if functions == OF_TIME {
            for slice in &slices.slices {
                prop_assert!(slice.memory_bytes() < fresh + 2000, "{} bytes are left", slice.memory_bytes());
            }
        }
    }
}

#[test]
fn only_what_a_frame_can_reach_is_kept() {
    let order = Order { column: TIME, options: SortOptions { descending: false, nulls_first: false } };
    let n_kept = |functions: &'static [Function]| {
        let mut operator = operator(functions, order, Some(TIME), false, true);
        let mut out = Output::default();
        for time in 0..1000 {
            let row = Row { key: Some(time % 2), time: Some(time), value: Some(1), text: None };
            operator.process(0, &batch(&[(row, 1)], false), &mut out).expect("process");
            if time % 7 == 0 {
                operator.advance(time, &mut out).expect("advance");
            }
        }
        operator.advance(1000, &mut out).expect("advance");
        let tables = operator.snapshot(Scope::All).expect("snapshot").tables;
        tables[0].batches.iter().map(RecordBatch::num_rows).sum::<usize>()
    };
    assert_eq!(n_kept(&[Lag]), 4);
    assert_eq!(n_kept(&[Count, FirstOfTwo]), 4);
    // From the time 990 on.
    assert_eq!(n_kept(&OF_TIME), 10);
    assert_eq!(n_kept(&[Sum]), 1000);
}

#[test]
fn a_function_that_looks_ahead_never_settles() {
    let order = Order { column: TIME, options: SortOptions::default() };
    let spec = Spec {
        keys: vec![KEY],
        order: vec![order],
        functions: vec![Lead.build(order)],
        time: Some(TIME),
        input: schema(vec![], false),
        changes: false,
        output: schema(vec![Field::new("lead", DataType::Int64, true)], false),
    };
    let text = Over::new(spec).expect_err("looks ahead").to_string();
    assert!(text.contains("looks ahead"), "{text}");
}
