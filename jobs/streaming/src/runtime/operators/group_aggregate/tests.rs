//! Aggregates against DataFusion's own over the rows that are left: random changes, flushes, and restores at another number
//! of slices.

mod edges;

use super::*;
use crate::functions::aggregate_functions;
use crate::runtime::exchange::partition::partition;
use crate::runtime::operators::evaluate;
use crate::runtime::operators::evaluate_predicate;
use crate::runtime::operators::gathered::gathered;
use crate::runtime::operators::groups::{Aggregation, Live};
use crate::runtime::operators::testing::{Chain, add_up, restore_chains};
use arrow::array::{AsArray, Float64Array, Int8Array, Int64Array, StringArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Float64Type, Schema, TimeUnit};
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::bit_and_or_xor::bit_xor_udaf;
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
use datafusion::functions_aggregate::correlation::corr_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::functions_aggregate::median::median_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::nth_value::nth_value_udaf;
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::functions_aggregate::stddev::stddev_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator as Op};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{CastExpr, binary, col, lit};
use proptest::prelude::*;

/// Key, second key, number, float in quarters, text, flag.
type Row = (Option<i64>, Option<u8>, Option<i64>, Option<i8>, Option<u8>, Option<bool>);

#[derive(Clone, Debug)]
enum Change {
    Add(Row),
    /// One of the rows that are there.
    Remove(usize),
    Replace(usize, Row),
    /// A row is taken back before it comes.
    Owe(Row),
    /// What is owed comes.
    Pay,
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Change>),
    Flush,
    /// Snapshot, and go on as before.
    Snapshot,
    /// Snapshot, and go on from it with this many slices.
    Rescale(u32),
}

fn input(changes: bool) -> SchemaRef {
    let fields = [
        ("key", DataType::Int64),
        ("second", DataType::Utf8),
        ("number", DataType::Int64),
        ("float", DataType::Float64),
        ("text", DataType::Utf8),
        ("flag", DataType::Boolean),
    ];
    let mut fields: Vec<Field> = fields.map(|(name, data_type)| Field::new(name, data_type, true)).into();
    fields.extend(changes.then(changes::weight_field));
    Arc::new(Schema::new(fields))
}

fn batch(rows: &[(Row, i8)], changes: bool) -> RecordBatch {
    let text = |value: Option<u8>| value.map(|value| "abcdefgh"[..usize::from(value)].to_string());
    let float = |value: Option<i8>| value.map(|value| f64::from(value) / 4.0);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(row, _)| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(row, _)| text(row.1)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(row, _)| row.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(row, _)| float(row.3)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|(row, _)| text(row.4)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(row, _)| row.5).collect::<BooleanArray>()),
    ];
    if changes {
        columns.push(Arc::new(rows.iter().map(|(_, weight)| Some(*weight)).collect::<Int8Array>()));
    }
    RecordBatch::try_new(input(changes), columns).expect("columns fit")
}

type Call = (Arc<AggregateFunctionExpr>, Option<Arc<dyn PhysicalExpr>>);

struct Calls {
    input: SchemaRef,
    /// Calls are as the planner makes them, and not DataFusion's own.
    planned: bool,
    all: Vec<Call>,
}

impl Calls {
    fn column(&self, name: &str) -> Arc<dyn PhysicalExpr> {
        col(name, &self.input).expect("column")
    }

    fn number_as(&self, data_type: DataType) -> Arc<dyn PhysicalExpr> {
        Arc::new(CastExpr::new(self.column("number"), data_type, None))
    }

    fn add(&mut self, function: Arc<AggregateUDF>, arguments: Vec<Arc<dyn PhysicalExpr>>, how: &str) {
        let by = |name: &str, descending: bool| PhysicalSortExpr {
            expr: self.column(name),
            options: SortOptions { descending, nulls_first: !descending },
        };
        let distinct = how.contains("distinct");
        let gathers = distinct && self.planned && function != count_udaf();
        let function = if gathers { gathered(&function, true) } else { function };
        let mut call = AggregateExprBuilder::new(function, arguments).schema(Arc::clone(&self.input));
        call = call.alias(format!("call_{}", self.all.len())).with_distinct(distinct && !gathers);
        call = call.with_ignore_nulls(how.contains("not null"));
        call = match how {
            how if how.contains("by number down") => call.order_by(vec![by("number", true)]),
            how if how.contains("by number, text") => call.order_by(vec![by("number", false), by("text", false)]),
            how if how.contains("by number") => call.order_by(vec![by("number", false)]),
            how if how.contains("by float") => call.order_by(vec![by("float", false)]),
            how if how.contains("by text") => call.order_by(vec![by("text", false)]),
            _ => call,
        };
        let positive = || binary(self.column("number"), Op::Gt, lit(0_i64), &self.input).expect("predicate");
        let filter = how.contains("positive").then(positive);
        self.all.push((Arc::new(call.build().expect("aggregate")), filter));
    }
}

fn calls(input: &SchemaRef, planned: bool) -> Vec<Call> {
    let mut calls = Calls { input: Arc::clone(input), planned, all: Vec::new() };
    let column = |calls: &Calls, name: &str| vec![calls.column(name)];
    let one = || vec![lit(1_i64)];
    calls.add(count_udaf(), one(), "");
    calls.add(count_udaf(), one(), "positive");
    calls.add(count_udaf(), vec![calls.column("number"), calls.column("text")], "");
    for (name, how) in [
        ("number", ""),
        ("number", "distinct"),
        ("number", "distinct positive"),
        ("text", "distinct"),
        ("text", "distinct positive"),
        ("float", "distinct"),
    ] {
        calls.add(count_udaf(), column(&calls, name), how);
    }
    for (name, how) in [
        ("number", ""),
        ("float", ""),
        ("number", "positive"),
        ("float", "positive"),
        ("number", "distinct"),
        ("float", "distinct"),
    ] {
        calls.add(sum_udaf(), column(&calls, name), how);
    }
    for name in ["number", "float", "text", "flag"] {
        calls.add(min_udaf(), column(&calls, name), "");
        calls.add(max_udaf(), column(&calls, name), "positive");
    }
    let decimal = calls.number_as(DataType::Decimal128(12, 2));
    calls.add(sum_udaf(), vec![Arc::clone(&decimal)], "");
    calls.add(max_udaf(), vec![Arc::clone(&decimal)], "");
    calls.add(avg_udaf(), vec![decimal], "");
    calls.add(avg_udaf(), column(&calls, "float"), "");
    calls.add(avg_udaf(), column(&calls, "float"), "distinct");
    calls.add(median_udaf(), column(&calls, "number"), "");
    calls.add(stddev_udaf(), column(&calls, "float"), "");
    calls.add(corr_udaf(), vec![calls.column("float"), calls.number_as(DataType::Float64)], "positive");
    calls.add(bool_and_udaf(), column(&calls, "flag"), "");
    calls.add(bit_xor_udaf(), column(&calls, "number"), "");
    calls.add(approx_distinct_udaf(), column(&calls, "number"), "");
    calls.add(array_agg_udaf(), column(&calls, "number"), "by number down");
    calls.add(array_agg_udaf(), column(&calls, "number"), "distinct by number positive");
    calls.add(string_agg_udaf(), vec![calls.column("text"), lit("+")], "by text");
    calls.add(first_value_udaf(), column(&calls, "text"), "by number, text");
    calls.add(last_value_udaf(), column(&calls, "text"), "by number, text positive");
    calls.add(nth_value_udaf(), vec![calls.column("text"), lit(2_i64)], "by number, text");
    calls.add(percentile_cont_udaf(), vec![calls.column("float"), lit(0.25)], "by float");
    calls.add(string_agg_udaf(), vec![calls.column("text"), lit("+")], "distinct by text");
    calls.add(first_value_udaf(), column(&calls, "text"), "by number, text not null");
    calls.add(last_value_udaf(), column(&calls, "number"), "by number positive");
    for function in aggregate_functions().map(Arc::new) {
        match function.name() {
            "mode" => {
                calls.add(Arc::clone(&function), column(&calls, "text"), "by text positive");
                calls.add(function, column(&calls, "number"), "by number down");
            }
            "percentile_disc" => {
                calls.add(Arc::clone(&function), vec![calls.column("text"), lit(0.5)], "by text");
                calls.add(function, vec![calls.column("number"), lit(0.3)], "distinct by number down positive");
            }
            "sum" => {
                calls.add(Arc::clone(&function), column(&calls, "number"), "distinct");
                calls.add(function, column(&calls, "number"), "positive");
            }
            _ => calls.add(function, vec![calls.column("text"), calls.column("number")], ""),
        }
    }
    let time = calls.number_as(DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())));
    let view: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(calls.column("text"), DataType::Utf8View, None));
    let duration = calls.number_as(DataType::Duration(TimeUnit::Millisecond));
    let wide = calls.number_as(DataType::Decimal256(50, 3));
    for argument in [time, view, duration, wide] {
        calls.add(min_udaf(), vec![Arc::clone(&argument)], "positive");
        calls.add(max_udaf(), vec![Arc::clone(&argument)], "");
        calls.add(count_udaf(), vec![argument], "distinct");
    }
    let duration = calls.number_as(DataType::Duration(TimeUnit::Millisecond));
    calls.add(sum_udaf(), vec![duration], "");
    calls.all
}

fn operator_of(keys: &[usize], calls: Vec<Call>, changes: bool, slot: u32) -> GroupAggregate {
    let input = input(changes);
    let (aggregates, filters): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    let mut fields: Vec<Field> = keys.iter().map(|key| input.field(*key).clone()).collect();
    fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
    fields.push(changes::weight_field());
    let output = Arc::new(Schema::new(fields));
    let spec = Spec {
        keys: keys.to_vec(),
        aggregates,
        filters,
        input,
        changes,
        output,
        owns_empty_key: slot == 0,
        said_later: false,
    };
    GroupAggregate::new(spec).expect("operator")
}

fn operator(keys: &[usize], changes: bool, slot: u32) -> GroupAggregate {
    operator_of(keys, calls(&input(changes), true), changes, slot)
}

/// Floats to a millionth: sums over rows in another order may differ in their last bits.
fn rounded(batch: &RecordBatch) -> RecordBatch {
    let round = |column: &ArrayRef| -> ArrayRef {
        match column.as_primitive_opt::<Float64Type>() {
            Some(floats) => Arc::new(floats.unary::<_, Float64Type>(|value| (value * 1e6).round() / 1e6 + 0.0)),
            None => Arc::clone(column),
        }
    };
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(round).collect()).expect("the same types")
}

/// What DataFusion gives over these rows.
fn naive(keys: &[usize], rows: &[Row]) -> BTreeMap<String, i64> {
    let input = input(false);
    let (aggregates, filters): (Vec<_>, Vec<_>) = calls(&input, false).into_iter().unzip();
    let mut rows: Vec<(Row, i8)> = rows.iter().map(|row| (*row, 1)).collect();
    // DataFusion plans a sort before some functions that are called with an order.
    rows.sort_by_key(|(row, _)| (row.2, row.4));
    let batch = batch(&rows, false);
    let columns = if rows.is_empty() {
        let default = |call: &Arc<AggregateFunctionExpr>| call.create_accumulator()?.evaluate()?.to_array();
        aggregates.iter().map(default).collect::<Result<Vec<_>>>().expect("defaults")
    } else {
        let aggregation = Arc::new(Aggregation::new(&input, keys, aggregates.clone()).expect("aggregation"));
        let mut live = Live::new(&aggregation).expect("groups");
        let all = |exprs: &Vec<Arc<dyn PhysicalExpr>>| exprs.iter().map(|expr| evaluate(expr, &batch)).collect();
        let arguments = aggregation.arguments().iter().map(all).collect::<Result<Vec<_>>>().expect("arguments");
        let filter = |filter: &Option<Arc<dyn PhysicalExpr>>| {
            filter.as_ref().map(|filter| evaluate_predicate(filter, &batch)).transpose()
        };
        let filters = filters.iter().map(filter).collect::<Result<Vec<_>>>().expect("filters");
        let key_columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        live.update(&key_columns, rows.len(), &arguments, &filters).expect("update");
        let (keys, results, _) = live.finish().expect("results");
        keys.into_iter().chain(results).collect()
    };
    let mut sum = BTreeMap::new();
    if !rows.is_empty() || keys.is_empty() {
        let mut fields: Vec<Field> = keys.iter().map(|key| input.field(*key).clone()).collect();
        fields.extend(aggregates.iter().map(|aggregate| aggregate.field().as_ref().clone().with_nullable(true)));
        let all = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit");
        add_up(&mut sum, &rounded(&all), false);
    }
    sum
}

fn save(slices: &mut [GroupAggregate], chains: &mut [Chain], out: &mut Output) {
    let n_slots = slices.len() as u32;
    for (slot, (slice, chain)) in slices.iter_mut().zip(chains).enumerate() {
        chain.save(slice, 0, (slot as u32, n_slots), out).expect("snapshot");
    }
}

/// Runs the steps and checks what is out after each flush.
fn check(keys: &[usize], changes: bool, steps: &[Step]) {
    let (mut slices, mut chains) = (vec![operator(keys, changes, 0)], vec![Chain::default()]);
    let (mut rows, mut owed): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
    let (mut exact, mut about) = (BTreeMap::new(), BTreeMap::new());
    let end = [Step::Rows(vec![Change::Pay]), Step::Rescale(2), Step::Flush];
    for step in steps.iter().chain(&end) {
        let mut out = Output::default();
        let n_slots = slices.len() as u32;
        match step {
            Step::Rows(all) => {
                let mut log = Vec::new();
                for change in all {
                    match change {
                        Change::Add(row) => {
                            rows.push(*row);
                            log.push((*row, 1));
                        }
                        Change::Owe(row) if changes => {
                            owed.push(*row);
                            log.push((*row, -1));
                        }
                        Change::Pay => log.extend(owed.drain(..).map(|row| (row, 1))),
                        Change::Remove(at) if changes && !rows.is_empty() => {
                            log.push((rows.swap_remove(at % rows.len()), -1));
                        }
                        Change::Replace(at, row) if changes && !rows.is_empty() => {
                            let at = at % rows.len();
                            log.push((*row, 1));
                            log.push((std::mem::replace(&mut rows[at], *row), -1));
                        }
                        _ => {}
                    }
                }
                if log.is_empty() {
                    continue;
                }
                for (slot, part) in partition(&batch(&log, changes), keys, n_slots).expect("partition") {
                    slices[slot as usize].process(0, &part, &mut out).expect("process");
                }
                assert!(out.batches.is_empty(), "rows before a flush");
                continue;
            }
            Step::Flush => slices.iter_mut().for_each(|slice| slice.flush(&mut out).expect("flush")),
            Step::Snapshot => save(&mut slices, &mut chains, &mut out),
            Step::Rescale(n_after) => {
                save(&mut slices, &mut chains, &mut out);
                slices = (0..*n_after).map(|slot| operator(keys, changes, slot)).collect();
                for (slot, slice) in slices.iter_mut().enumerate() {
                    restore_chains(slice, &chains, slot as u32, *n_after).expect("restore");
                    assert_eq!(slice.n_pending(), 0, "all had been said");
                }
                if *n_after != n_slots {
                    chains = vec![Chain::default(); *n_after as usize];
                }
            }
        }
        for batch in &out.batches {
            add_up(&mut exact, batch, true);
            add_up(&mut about, &rounded(batch), true);
        }
        assert!(exact.values().all(|weight| *weight == 1), "{exact:#?}");
        if owed.is_empty() {
            assert_eq!(about, naive(keys, &rows), "{rows:?}");
        }
    }
}

fn row() -> impl Strategy<Value = Row> {
    let maybe = |range: std::ops::Range<i64>| proptest::option::weighted(0.85, range);
    (maybe(0..4), maybe(0..3), maybe(-4..5), maybe(-6..7), maybe(0..6), proptest::option::weighted(0.85, any::<bool>()))
        .prop_map(|(key, second, number, float, text, flag)| {
            (key, second.map(|at| at as u8), number, float.map(|at| at as i8), text.map(|at| at as u8), flag)
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        5 => row().prop_map(Change::Add),
        3 => any::<usize>().prop_map(Change::Remove),
        2 => (any::<usize>(), row()).prop_map(|(at, row)| Change::Replace(at, row)),
        1 => row().prop_map(Change::Owe),
        1 => Just(Change::Pay),
    ];
    let step = prop_oneof![
        5 => proptest::collection::vec(change, 1..12).prop_map(Step::Rows),
        3 => Just(Step::Flush),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Rescale),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equals_what_datafusion_gives_over_the_rows_that_are_left(
        steps in steps(),
        keys in prop_oneof![2 => Just(vec![0]), 3 => Just(vec![0, 1]), 2 => Just(vec![])],
        changes in proptest::bool::weighted(0.7),
    ) {
        check(&keys, changes, &steps);
    }
}
