//! What is learned from values, and what they become.

use super::*;
use crate::batches::Batch;
use crate::values::{ABSENT, bucket};
use arrow::array::{Array, Float32Array, Int64Array, StringArray};
use std::sync::Arc;

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn input(columns: &[&str], step: Preprocess) -> Input {
    Input { name: "in".to_string(), columns: columns.iter().map(|name| name.to_string()).collect(), step, dims: vec![] }
}

/// Learns from `train` and prepares `other`.
fn check(step: Preprocess, train: &[ArrayRef], other: &[ArrayRef], expect: Buffer) {
    let names: Vec<String> = (0..train.len()).map(|at| format!("c{at}")).collect();
    let input = input(&names.iter().map(String::as_str).collect::<Vec<&str>>(), step);
    let mut reading = Reading::new(&input, None, Strictness::Training);
    reading.add(&train.iter().collect::<Vec<&ArrayRef>>()).unwrap();
    let (values, widths) = reading.finish();
    let learned = Preprocessing { inputs: vec![InputState::learn(&input, &widths, &values)] };
    // As the manifest keeps it.
    let kept: Preprocessing = serde_json::from_str(&serde_json::to_string(&learned).unwrap()).unwrap();
    assert_eq!(kept, learned);
    let examples = kept.read(&names, other).unwrap();
    let mut batch = Batch::default();
    examples.slice(0, examples.len(), &mut batch);
    assert_eq!(batch.inputs, [expect], "{learned:?}");
    let (_, shape) = learned.shapes().unwrap().remove(0);
    assert_eq!(shape.size() * other[0].len(), batch.inputs[0].len());
}

#[test]
fn words_are_counted_and_equals_go_by_value() {
    let train = texts(&[Some("b"), Some("c"), Some("a"), Some("b"), None, None, None, Some("d")]);
    let other = texts(&[Some("b"), Some("a"), Some("c"), Some("d"), Some("never seen"), None, Some("")]);
    let ids = Buffer::Ids(vec![1, 2, 3, 0, 0, 0, 0]);
    check(Preprocess::Vocabulary { size: 4 }, std::slice::from_ref(&train), std::slice::from_ref(&other), ids);
    let one_hot = [[0., 1., 0.], [0., 0., 1.], [1., 0., 0.], [1., 0., 0.], [1., 0., 0.], [1., 0., 0.], [1., 0., 0.]];
    check(Preprocess::OneHot { size: 3 }, &[train], &[other], Buffer::Reals(one_hot.concat()));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, 7, -3]));
    let same = texts(&[Some("7"), Some("-3"), Some("07")]);
    check(Preprocess::Vocabulary { size: 9 }, &[numbers], &[same], Buffer::Ids(vec![1, 2, 0]));
}

#[test]
fn buckets_hold_equal_shares() {
    let train: ArrayRef = Arc::new(Float32Array::from_iter((0..100).map(|value| Some(value as f32)).chain([None])));
    let other: ArrayRef =
        Arc::new(Float32Array::from(vec![Some(-9.0), Some(24.9), Some(25.0), Some(74.0), Some(1e9), None]));
    check(Preprocess::Buckets { count: 4 }, &[train], &[other], Buffer::Ids(vec![0, 0, 1, 2, 3, 2]));
    let constant: ArrayRef = Arc::new(Float32Array::from(vec![5.0; 9]));
    let other: ArrayRef = Arc::new(Float32Array::from(vec![Some(5.0), Some(4.0), None]));
    check(Preprocess::Buckets { count: 3 }, &[constant], &[other], Buffer::Ids(vec![2, 0, 2]));
    let nothing: ArrayRef = Arc::new(Float32Array::from(vec![None, None]));
    let other: ArrayRef = Arc::new(Float32Array::from(vec![Some(5.0), None]));
    check(Preprocess::Buckets { count: 3 }, &[nothing], &[other], Buffer::Ids(vec![0, 0]));
}

/// Pinned: a change of these numbers makes nonsense of every model that hashes.
#[test]
fn a_hash_never_changes() {
    let buckets = 1 << 20;
    let got = [(0, Some("Oslo")), (1, Some("Oslo")), (0, Some("")), (0, None), (7, Some("-12"))];
    let got = got.map(|(column, text)| bucket(column, text, buckets));
    assert_eq!(got, GOLDEN);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![-12]));
    let names = texts(&[Some("Oslo")]);
    let expect = Buffer::Ids(vec![GOLDEN[0], bucket(1, Some("-12"), buckets)]);
    let columns = [names, numbers];
    check(Preprocess::Hash { buckets }, &columns, &columns, expect);
}

const GOLDEN: [u32; 5] = [658163, 499671, 234690, 644910, 541762];

#[test]
fn numbers_keep_their_places_and_nan_is_not_absent() {
    let a: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.0), None]));
    let b: ArrayRef = Arc::new(Float32Array::from(vec![Some(3.0), Some(5.0)]));
    let columns = [a, b];
    check(Preprocess::Numbers, &columns, &columns, Buffer::Reals(vec![1.0, 3.0, 0.0, 5.0]));
    check(Preprocess::Normalize, &columns, &columns, Buffer::Reals(vec![0.0, -1.0, 0.0, 1.0]));
    let state = InputState { input: input(&["x"], Preprocess::Numbers), widths: vec![1], state: State::Nothing };
    let odd: ArrayRef = Arc::new(Float32Array::from(vec![ABSENT, f32::INFINITY]));
    let examples = Preprocessing { inputs: vec![state] }.read(&["x".to_string()], &[odd]).unwrap();
    let mut batch = Batch::default();
    examples.slice(0, 2, &mut batch);
    let Buffer::Reals(values) = &batch.inputs[0] else { panic!("numbers") };
    assert!(values[0].is_nan() && values[1] == f32::INFINITY, "{values:?}");
}

#[test]
fn dims_that_do_not_hold_the_values_are_refused() {
    let mut input = input(&["a", "b"], Preprocess::Numbers);
    input.dims = vec![2, 2];
    let state = InputState { input, widths: vec![1, 2], state: State::Nothing };
    let error = state.shape().unwrap_err().to_string();
    assert_eq!(error, "use input 'in' with dims [2, 2]: its columns have 3 values in a row");
}
