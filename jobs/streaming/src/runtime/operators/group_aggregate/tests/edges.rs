//! What random rows seldom meet.

use super::*;
use crate::runtime::operators::testing::{restore, snapshot};
use arrow::datatypes::{Int8Type, Int64Type};

const NO_ROW: Row = (None, None, None, None, None, None);

fn call(function: Arc<AggregateUDF>, column: &str, how: &str) -> Vec<Call> {
    let mut calls = Calls { input: input(true), planned: true, all: Vec::new() };
    let arguments = vec![calls.column(column)];
    calls.add(function, arguments, how);
    calls.all
}

fn numbered(key: i64, number: i64) -> Row {
    (Some(key), None, Some(number), None, None, None)
}

fn flush(operator: &mut GroupAggregate) -> Vec<RecordBatch> {
    let mut out = Output::default();
    operator.flush(&mut out).expect("flush");
    out.batches
}

/// The numbers that a flush gives, each with its weight.
fn flushed(operator: &mut GroupAggregate) -> Vec<(Option<i64>, i8)> {
    let of = |batch: &RecordBatch| {
        let (result, weights) = (batch.columns()[batch.num_columns() - 2].clone(), batch.columns().last().cloned());
        let weights = weights.expect("weights");
        let pairs = result.as_primitive::<Int64Type>().iter().zip(weights.as_primitive::<Int8Type>().values());
        pairs.map(|(result, weight)| (result, *weight)).collect::<Vec<_>>()
    };
    flush(operator).iter().flat_map(of).collect()
}

fn take(operator: &mut GroupAggregate, rows: &[(Row, i8)]) {
    operator.process(0, &batch(rows, true), &mut Output::default()).expect("process");
}

#[test]
fn the_only_group_has_a_row_before_any_came() {
    let calls = || call(count_udaf(), "number", "");
    let mut operator = operator_of(&[], calls(), true, 0);
    operator.advance(i64::MAX, &mut Output::default()).expect("advance");
    assert_eq!(operator.n_pending(), 1);
    assert_eq!(flushed(&mut operator), [(Some(0), 1)]);
    assert_eq!((operator.n_pending(), flushed(&mut operator)), (0, vec![]));
    take(&mut operator, &[(numbered(1, 5), 1)]);
    assert_eq!(flushed(&mut operator), [(Some(0), -1), (Some(1), 1)]);
    take(&mut operator, &[(numbered(1, 5), -1)]);
    assert_eq!(flushed(&mut operator), [(Some(1), -1), (Some(0), 1)]);
    let files = snapshot(&mut operator, 7, 0, 1, &mut Output::default()).expect("snapshot");
    for slot in 0..2 {
        let mut after = operator_of(&[], calls(), true, slot);
        restore(&mut after, &files, slot, 2).expect("restore");
        assert_eq!((after.n_pending(), flushed(&mut after)), (0, vec![]));
    }
    let mut elsewhere = operator_of(&[], calls(), true, 1);
    assert_eq!((elsewhere.n_pending(), flushed(&mut elsewhere)), (0, vec![]));
}

#[test]
fn what_does_not_change_is_not_said() {
    let mut operator = operator_of(&[0], call(max_udaf(), "number", ""), true, 0);
    take(&mut operator, &[(numbered(1, 5), 1)]);
    assert_eq!(flushed(&mut operator), [(Some(5), 1)]);
    take(&mut operator, &[(numbered(1, 3), 1)]);
    take(&mut operator, &[(numbered(1, 9), 1)]);
    take(&mut operator, &[(numbered(1, 9), -1)]);
    assert_eq!(operator.n_pending(), 3);
    assert_eq!((flushed(&mut operator), operator.n_pending()), (vec![], 0));
    take(&mut operator, &[(numbered(1, 5), -1), (numbered(2, 1), 1), (numbered(2, 1), -1)]);
    assert_eq!(flushed(&mut operator), [(Some(5), -1), (Some(3), 1)]);
    take(&mut operator, &[(numbered(1, 3), -1)]);
    assert_eq!(flushed(&mut operator), [(Some(3), -1)]);
}

#[test]
fn a_sum_has_to_fit_when_it_is_said_and_not_before() {
    let mut operator = operator_of(&[0], call(sum_udaf(), "number", ""), true, 0);
    take(&mut operator, &[(numbered(1, i64::MAX), 1), (numbered(1, i64::MAX - 2), 1), (numbered(1, i64::MAX), -1)]);
    assert_eq!(flushed(&mut operator), [(Some(i64::MAX - 2), 1)]);
    take(&mut operator, &[(numbered(1, 3), 1)]);
    let error = operator.flush(&mut Output::default()).expect_err("a sum without room");
    assert_eq!(
        error.strip_backtrace(),
        "Execution error: call_0 is out of range for BIGINT: cast what is summed to DECIMAL(28, 0), or to DOUBLE"
    );
}

#[test]
fn a_list_of_different_values_is_taken_back_as_it_was_said() {
    let calls = || call(array_agg_udaf(), "number", "distinct");
    let mut operator = operator_of(&[0], calls(), true, 0);
    let mut sum = BTreeMap::new();
    for number in 0..40 {
        take(&mut operator, &[(numbered(1, number * 7 % 31), 1)]);
        if number % 5 == 0 {
            let mut out = Output::default();
            let files = snapshot(&mut operator, 0, 0, 1, &mut out).expect("snapshot");
            out.batches.iter().for_each(|batch| add_up(&mut sum, batch, true));
            operator = operator_of(&[0], calls(), true, 0);
            restore(&mut operator, &files, 0, 1).expect("restore");
        }
        flush(&mut operator).iter().for_each(|batch| add_up(&mut sum, batch, true));
        assert!(sum.len() == 1 && sum.values().all(|weight| *weight == 1), "{sum:#?}");
    }
}

#[test]
fn retractions_come_first_and_batches_are_of_bounded_length() {
    let mut operator = operator_of(&[0], call(sum_udaf(), "number", ""), true, 0);
    let rows = |number: i64| (0..20_000).map(|key| (numbered(key, number), 1)).collect::<Vec<_>>();
    take(&mut operator, &rows(1));
    let lengths: Vec<usize> = flush(&mut operator).iter().map(RecordBatch::num_rows).collect();
    assert_eq!(lengths, [BATCH_ROWS, BATCH_ROWS, 20_000 - 2 * BATCH_ROWS]);
    take(&mut operator, &rows(2));
    let batches = flush(&mut operator);
    assert!(batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
    let weights = batches.iter().flat_map(|batch| changes::weights(batch).expect("weights").values().to_vec());
    let weights: Vec<i8> = weights.collect();
    assert!(weights.len() == 40_000 && weights.is_sorted(), "{} weights", weights.len());
}

#[test]
fn dead_groups_leave_nothing_behind() {
    let mut operator = operator(&[0, 1], true, 0);
    let row = |key: i64| {
        (Some(key), Some((key % 8) as u8), Some(key % 100), Some((key % 50) as i8), Some((key % 8) as u8), Some(true))
    };
    let all = |weight: i8| (0..20_000).map(|key| (row(key), weight)).collect::<Vec<(Row, i8)>>();
    let empty = operator.memory_bytes();
    take(&mut operator, &all(1));
    flush(&mut operator);
    let full = operator.memory_bytes();
    take(&mut operator, &all(-1));
    let gone: usize = flush(&mut operator).iter().map(RecordBatch::num_rows).sum();
    assert_eq!(gone, 20_000);
    let after = operator.memory_bytes();
    assert!(full > 10_000_000 && after < empty + full / 50, "{empty} bytes, then {full}, then {after}");
    let mut out = Output::default();
    assert_eq!(snapshot(&mut operator, 0, 0, 1, &mut out).expect("snapshot"), Vec::<Vec<u8>>::new());
    // Groups that are left, or come again, have moved and are whole.
    let mut sum = BTreeMap::new();
    take(&mut operator, &all(1));
    flush(&mut operator).iter().for_each(|batch| add_up(&mut sum, batch, true));
    let dying: Vec<(Row, i8)> = all(-1).into_iter().filter(|(row, _)| row.0.is_some_and(|key| key % 10 != 3)).collect();
    take(&mut operator, &dying);
    flush(&mut operator).iter().for_each(|batch| add_up(&mut sum, batch, true));
    assert!(operator.memory_bytes() < full / 4, "{} bytes of {full}", operator.memory_bytes());
    let left: Vec<Row> = (0..20_000).filter(|key| key % 10 == 3).map(row).collect();
    let again: Vec<(Row, i8)> = left.iter().map(|row| (*row, 1)).collect();
    take(&mut operator, &again);
    take(&mut operator, &again.iter().map(|(row, _)| (*row, -1)).collect::<Vec<_>>());
    assert!(flush(&mut operator).is_empty(), "nothing changed in sum");
    assert_eq!(sum, naive(&[0, 1], &left));
    let other = |row: &Row| (row.0, row.1, row.2.map(|number| number + 1), row.3, row.4, row.5);
    let replaced = left.iter().flat_map(|row| [(*row, -1), (other(row), 1)]).collect::<Vec<_>>();
    take(&mut operator, &replaced);
    flush(&mut operator).iter().for_each(|batch| add_up(&mut sum, batch, true));
    let left: Vec<Row> = left.iter().map(other).collect();
    assert_eq!(sum, naive(&[0, 1], &left));
    take(&mut operator, &left.iter().map(|row| (*row, -1)).collect::<Vec<_>>());
    flush(&mut operator).iter().for_each(|batch| add_up(&mut sum, batch, true));
    assert!(sum.is_empty(), "{} rows are left", sum.len());
    assert_eq!(snapshot(&mut operator, 0, 0, 1, &mut out).expect("snapshot"), Vec::<Vec<u8>>::new());
}

#[test]
fn what_a_sum_of_floats_cannot_show_outlives_a_restore() {
    let column = |values: &[(f64, i8)]| {
        let keys = Int64Array::from(vec![1; values.len()]);
        let floats: Float64Array = values.iter().map(|(value, _)| Some(*value)).collect();
        let weights: Int8Array = values.iter().map(|(_, weight)| Some(*weight)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(floats), Arc::new(weights)];
        let fields = vec![Field::new("key", DataType::Int64, true), Field::new("float", DataType::Float64, true)];
        let fields = fields.into_iter().chain([changes::weight_field()]).collect::<Vec<_>>();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit")
    };
    let input = column(&[]).schema();
    let new = || {
        let mut calls = Calls { input: Arc::clone(&input), planned: true, all: Vec::new() };
        calls.add(sum_udaf(), vec![calls.column("float")], "");
        let (aggregates, filters): (Vec<_>, Vec<_>) = std::mem::take(&mut calls.all).into_iter().unzip();
        let output = Arc::clone(&input);
        let (input, keys) = (Arc::clone(&input), vec![0]);
        GroupAggregate::new(Spec {
            keys,
            aggregates,
            filters,
            input,
            changes: true,
            output,
            owns_empty_key: true,
            said_later: false,
        })
    };
    let all = [(1.0, 1), (1e20, 1), (f64::NAN, 1), (f64::MAX, 1), (f64::MAX, 1), (f64::NEG_INFINITY, 1)];
    let mut out = Output::default();
    let mut before = new().expect("operator");
    before.process(0, &column(&all), &mut out).expect("process");
    let files = snapshot(&mut before, 0, 0, 1, &mut out).expect("snapshot");
    let mut after = new().expect("operator");
    restore(&mut after, &files, 0, 1).expect("restore");
    let back: Vec<(f64, i8)> = all[1..].iter().map(|(value, _)| (*value, -1)).collect();
    after.process(0, &column(&back), &mut out).expect("process");
    after.flush(&mut out).expect("flush");
    let mut sum = BTreeMap::new();
    out.batches.iter().for_each(|batch| add_up(&mut sum, batch, true));
    assert_eq!(sum, BTreeMap::from([("1 1.0".to_string(), 1)]));
}

#[test]
fn nulls_and_rows_without_a_value() {
    let mut operator = operator_of(&[0], call(sum_udaf(), "number", "positive"), true, 0);
    take(&mut operator, &[(NO_ROW, 1), (numbered(1, -5), 1)]);
    assert_eq!(flushed(&mut operator), [(None, 1), (None, 1)]);
    take(&mut operator, &[(numbered(1, 5), 1), (NO_ROW, -1)]);
    assert_eq!(flushed(&mut operator).iter().filter(|(_, weight)| *weight < 0).count(), 2);
}

#[test]
fn state_of_other_columns_is_refused() {
    let mut before = operator_of(&[0], call(sum_udaf(), "number", ""), true, 0);
    take(&mut before, &[(numbered(1, 5), 1)]);
    let files = snapshot(&mut before, 0, 0, 1, &mut Output::default()).expect("snapshot");
    let mut other = operator_of(&[0], call(sum_udaf(), "float", ""), true, 0);
    let text = restore(&mut other, &files, 0, 1).expect_err("other columns").to_string();
    assert!(text.contains("start without this checkpoint"), "{text}");
}
