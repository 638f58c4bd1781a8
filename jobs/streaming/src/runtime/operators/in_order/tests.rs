//! Calls in an order against a plain sort of all rows: however these were cut into batches, panes and merges of panes.

use super::*;
use crate::functions::aggregate_functions;
use crate::runtime::operators::groups::{Aggregation, Live};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, col, lit};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Group, x, y, and whether it passes the filters.
type Row = (u64, Option<i64>, Option<i64>, bool);

/// What a call gives over the x and y of a group's rows.
type Naive = fn(&[(Option<i64>, Option<i64>)]) -> String;

struct Case {
    call: Arc<AggregateFunctionExpr>,
    filtered: bool,
    naive: Naive,
}

fn input() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        Field::new("group", DataType::UInt64, false),
        field("x", DataType::Int64),
        field("y", DataType::Int64),
    ]))
}

fn by(expr: &Arc<dyn PhysicalExpr>, descending: bool) -> PhysicalSortExpr {
    // As SQL has them where nothing is said of nulls.
    PhysicalSortExpr { expr: Arc::clone(expr), options: SortOptions { descending, nulls_first: descending } }
}

fn own(name: &str) -> Arc<AggregateUDF> {
    let found = aggregate_functions().into_iter().find(|function| function.name() == name);
    Arc::new(found.expect("a function of this crate"))
}

fn text(value: Option<i64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// The x of all rows by y, those without one last; among equal ones by x, those without one first.
fn by_y(rows: &[(Option<i64>, Option<i64>)]) -> Vec<Option<i64>> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|(x, y)| (y.is_none(), *y, *x));
    rows.into_iter().map(|(x, _)| x).collect()
}

/// The same by y downwards, those without one first.
fn by_y_down(rows: &[(Option<i64>, Option<i64>)]) -> Vec<Option<i64>> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|(x, y)| (y.is_some(), y.map(|y| -y), *x));
    rows.into_iter().map(|(x, _)| x).collect()
}

fn values(rows: &[(Option<i64>, Option<i64>)]) -> Vec<i64> {
    let mut values: Vec<i64> = rows.iter().filter_map(|(x, _)| *x).collect();
    values.sort_unstable();
    values
}

fn list(values: &[Option<i64>]) -> String {
    if values.is_empty() {
        return String::new();
    }
    format!("[{}]", values.iter().map(|value| text(*value)).collect::<Vec<_>>().join(", "))
}

fn cases() -> Vec<Case> {
    let input = input();
    let column = |name: &str| col(name, &input).expect("column");
    let (x, y) = (column("x"), column("y"));
    let cast = |to| -> Arc<dyn PhysicalExpr> { Arc::new(CastExpr::new(column("x"), to, None)) };
    let mut cases = Vec::new();
    let mut add = |function: Arc<AggregateUDF>, args: Vec<Arc<dyn PhysicalExpr>>, order, how: &str, naive: Naive| {
        let call = AggregateExprBuilder::new(function, args).schema(Arc::clone(&input)).order_by(order);
        let call = call.alias("call").with_ignore_nulls(how.contains("ignore")).with_distinct(how.contains("distinct"));
        let call = Arc::new(call.build().expect("a call"));
        cases.push(Case { call, filtered: how.contains("filter"), naive });
    };
    let sorting = |function: Arc<AggregateUDF>| in_order(&function, false);
    let different = |function: Arc<AggregateUDF>| in_order(&function, true);
    let (up, down) = (|| vec![by(&y, false)], || vec![by(&y, true)]);
    let one = || vec![Arc::clone(&x)];
    add(sorting(array_agg_udaf()), one(), up(), "", |rows| list(&by_y(rows)));
    add(sorting(array_agg_udaf()), one(), down(), "filter", |rows| list(&by_y_down(rows)));
    add(sorting(array_agg_udaf()), one(), up(), "ignore", |rows| {
        list(&by_y(rows).into_iter().filter(Option::is_some).collect::<Vec<_>>())
    });
    add(different(array_agg_udaf()), one(), vec![by(&x, false)], "", |rows| {
        let mut all = values(rows);
        all.dedup();
        let null = rows.iter().any(|(x, _)| x.is_none()).then_some(None);
        list(&all.into_iter().map(Some).chain(null).collect::<Vec<_>>())
    });
    let joined = || vec![cast(DataType::Utf8), lit("+")];
    add(sorting(string_agg_udaf()), joined(), up(), "filter", |rows| {
        // Of rows with the same y it is the text that decides.
        let mut rows: Vec<_> = rows.iter().map(|(x, y)| (y.is_none(), *y, x.map(|x| x.to_string()))).collect();
        rows.sort();
        rows.into_iter().filter_map(|(.., x)| x).collect::<Vec<_>>().join("+")
    });
    add(sorting(first_value_udaf()), one(), up(), "", |rows| by_y(rows).first().map_or_else(String::new, |x| text(*x)));
    add(sorting(first_value_udaf()), one(), down(), "ignore filter", |rows| {
        by_y_down(rows).into_iter().flatten().next().map_or_else(String::new, |x| x.to_string())
    });
    add(sorting(last_value_udaf()), one(), up(), "", |rows| by_y(rows).last().map_or_else(String::new, |x| text(*x)));
    add(sorting(nth_value_udaf()), vec![Arc::clone(&x), lit(2_i64)], down(), "", |rows| {
        by_y_down(rows).get(1).map_or_else(String::new, |x| text(*x))
    });
    add(sorting(nth_value_udaf()), vec![Arc::clone(&x), lit(-3_i64)], up(), "filter", |rows| {
        by_y(rows).into_iter().rev().nth(2).map_or_else(String::new, text)
    });
    add(own("mode"), one(), vec![by(&x, true)], "", |rows| {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        values(rows).into_iter().for_each(|x| *counts.entry(x).or_default() += 1);
        counts.into_iter().max_by_key(|(x, n)| (*n, *x)).map_or_else(String::new, |(x, _)| x.to_string())
    });
    add(own("percentile_disc"), vec![Arc::clone(&x), lit(0.25)], vec![by(&x, false)], "filter", |rows| {
        let all = values(rows);
        let wanted = all.iter().enumerate().find(|(at, _)| (at + 1) as f64 / all.len() as f64 >= 0.25);
        wanted.map_or_else(String::new, |(_, x)| x.to_string())
    });
    add(own("percentile_disc"), vec![Arc::clone(&x), lit(0.9)], vec![by(&x, true)], "distinct", |rows| {
        let mut all = values(rows);
        all.dedup();
        all.reverse();
        let wanted = all.iter().enumerate().find(|(at, _)| (at + 1) as f64 / all.len() as f64 >= 0.9);
        wanted.map_or_else(String::new, |(_, x)| x.to_string())
    });
    let number = cast(DataType::Float64);
    add(different(percentile_cont_udaf()), vec![Arc::clone(&number), lit(0.0)], vec![by(&number, true)], "", |rows| {
        values(rows).last().map_or_else(String::new, |x| format!("{x}.0"))
    });
    cases
}

fn columns(rows: &[Row]) -> (ArrayRef, ArrayRef, ArrayRef, BooleanArray) {
    (
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        rows.iter().map(|row| Some(row.3)).collect(),
    )
}

fn update(live: &mut Live, aggregation: &Aggregation, cases: &[Case], rows: &[Row]) {
    let (groups, x, y, passes) = columns(rows);
    let batch = arrow::array::RecordBatch::try_new(input(), vec![Arc::clone(&groups), x, y]).expect("a batch");
    let evaluate = |expr: &Arc<dyn PhysicalExpr>| crate::runtime::operators::evaluate(expr, &batch).expect("values");
    let arguments: Vec<Vec<ArrayRef>> =
        aggregation.arguments().iter().map(|of| of.iter().map(evaluate).collect()).collect();
    let filters: Vec<_> = cases.iter().map(|case| case.filtered.then(|| passes.clone())).collect();
    live.update(&[groups], rows.len(), &arguments, &filters).expect("update");
}

fn shown(column: &ArrayRef) -> Vec<String> {
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default()).expect("a formatter");
    (0..column.len()).map(|row| formatter.value(row).to_string()).collect()
}

/// Panes as batches of rows; each pane is frozen and comes back to life after these batches.
fn check(panes: &[Vec<Vec<Row>>]) {
    let cases = cases();
    let calls = cases.iter().map(|case| Arc::clone(&case.call)).collect();
    let aggregation = Arc::new(Aggregation::new(&input(), &[0], calls).expect("calls"));
    let mut whole = Live::new(&aggregation).expect("groups");
    for batches in panes {
        let mut pane = Live::new(&aggregation).expect("groups");
        for (at, rows) in batches.iter().enumerate() {
            if at % 2 == 1 {
                pane = Live::thaw(&aggregation, &pane.freeze().expect("states")).expect("groups");
            }
            update(&mut pane, &aggregation, &cases, rows);
        }
        whole.merge(&pane.freeze().expect("states")).expect("merge");
    }
    let (keys, results, n_groups) = whole.finish().expect("results");
    let all: Vec<Row> = panes.iter().flatten().flatten().copied().collect();
    if n_groups == 0 {
        return assert!(all.is_empty());
    }
    let keys = keys[0].as_primitive::<UInt64Type>().values();
    for (case, column) in cases.iter().zip(&results) {
        for (group, found) in keys.iter().zip(shown(column)) {
            let of_group = all.iter().filter(|row| row.0 == *group && (row.3 || !case.filtered));
            let of_group: Vec<_> = of_group.map(|row| (row.1, row.2)).collect();
            assert_eq!(found, (case.naive)(&of_group), "{} of {of_group:?}", case.call.fun().name());
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let number = || proptest::option::weighted(0.8, -4_i64..5);
    proptest::collection::vec((0_u64..4, number(), number(), proptest::bool::weighted(0.7)), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn panes_merged_are_the_rows_sorted(
        panes in proptest::collection::vec(proptest::collection::vec(rows(), 0..5), 0..5),
    ) {
        check(&panes);
    }
}

#[test]
fn many_rows_are_put_together() {
    let row =
        |at: u64| (at % 3, Some((at * 7919 % 101) as i64), Some((at * 104_729 % 1009) as i64), !at.is_multiple_of(5));
    let batch = |from: u64| (from..from + 3000).map(row).collect::<Vec<Row>>();
    check(&[(0..9).map(|at| batch(at * 3000)).collect(), vec![batch(100_000)]]);
}

#[test]
fn what_counts_at_one_end_alone_is_kept_alone() {
    let cases = cases();
    let of = |at: usize| cases[at].call.create_groups_accumulator().expect("an accumulator");
    let (mut all, mut first) = (of(0), of(5));
    assert_eq!((cases[0].call.fun().name(), cases[5].call.fun().name()), ("array_agg", "first_value"));
    for from in 0..50_i64 {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from * 2000..(from + 1) * 2000));
        let groups: Vec<usize> = (0..2000).map(|row| row % 7).collect();
        for accumulator in [&mut all, &mut first] {
            accumulator.update_batch(&[Arc::clone(&numbers), Arc::clone(&numbers)], &groups, None, 7).expect("rows");
        }
    }
    assert!(all.size() > 100_000 * 8, "{}", all.size());
    assert!(first.size() < 12_000 * 24, "{}", first.size());
}

#[test]
fn the_first_groups_go_and_the_others_stay() {
    let call = &cases()[0].call;
    let number = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let mut accumulator = call.create_groups_accumulator().expect("an accumulator");
    accumulator.update_batch(&[number(&[1, 2, 3, 4]), number(&[9, 8, 7, 6])], &[0, 2, 1, 2], None, 4).expect("rows");
    assert_eq!(shown(&accumulator.evaluate(EmitTo::First(2)).expect("results")), ["[1]", "[3]"]);
    let states = accumulator.state(EmitTo::First(1)).expect("states");
    assert_eq!(shown(&states[0]), ["[2, 4]"]);
    accumulator.update_batch(&[number(&[5]), number(&[5])], &[0], None, 1).expect("rows");
    accumulator.merge_batch(&states, &[0], 2).expect("states");
    assert_eq!(shown(&accumulator.evaluate(EmitTo::All).expect("results")), ["[5, 4, 2]", ""]);
}

#[test]
fn one_group_can_be_asked_again_and_again() {
    for case in cases() {
        let mut accumulator = case.call.create_accumulator().expect("an accumulator");
        let nothing = accumulator.evaluate().expect("a result").to_array().expect("an array");
        assert_eq!(shown(&nothing), [(case.naive)(&[])]);
        let rows = [(1, Some(3), Some(1), true), (1, None, Some(0), true), (1, Some(3), None, true)];
        for n in 1..=rows.len() {
            let (_, x, y, _) = columns(&rows[n - 1..n]);
            let batch = arrow::array::RecordBatch::try_new(input(), vec![columns(&rows[n - 1..n]).0, x, y]);
            let batch = batch.expect("a batch");
            let exprs = case.call.expressions().into_iter();
            let exprs = exprs.chain(case.call.order_bys().iter().map(|by| Arc::clone(&by.expr)));
            let values = exprs.map(|expr| crate::runtime::operators::evaluate(&expr, &batch).expect("values"));
            accumulator.update_batch(&values.collect::<Vec<_>>()).expect("rows");
            let given: Vec<_> = rows[..n].iter().map(|row| (row.1, row.2)).collect();
            for _ in 0..2 {
                let result = accumulator.evaluate().expect("a result").to_array().expect("an array");
                assert_eq!(shown(&result), [(case.naive)(&given)], "{}", case.call.fun().name());
            }
        }
    }
}
