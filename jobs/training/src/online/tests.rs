//! Learning from rows as they come: cut anyhow, kept and restored anywhere, and what is published of it.

use super::*;
use crate::predictor::Predictor;
use crate::random::{self, Purpose};
use crate::test_support::{batch, body};
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use jobs::train::{Activation, Combine, Input, Layer, Loss, Optimizer, Preprocess, chain};
use rand_chacha::rand_core::RngCore;
use std::sync::Arc;

/// A stream of points of which those with a positive product are to be told from the others; some have no label.
fn rows(from: usize, count: usize) -> RecordBatch {
    let point = |row: usize| {
        let mut random = random::stream(5, Purpose::Shuffle, row as u64, 1);
        let [a, b] = [0, 1].map(|_| f64::from(random::uniform(&mut random)) * 3.0);
        (a, b, random.next_u32())
    };
    let points: Vec<(f64, f64, u32)> = (from..from + count).map(point).collect();
    let column = |of: &dyn Fn(&(f64, f64, u32)) -> f64| -> ArrayRef {
        Arc::new(points.iter().map(|point| Some(of(point))).collect::<Float64Array>())
    };
    let word = |point: &(f64, f64, u32)| Some(["red", "green", "blue"][point.2 as usize % 3]);
    let label = |point: &(f64, f64, u32)| (!point.2.is_multiple_of(50)).then_some(i64::from(point.0 * point.1 > 0.0));
    batch(&[
        ("a", column(&|point| point.0)),
        ("b", column(&|point| point.1)),
        ("colour", Arc::new(points.iter().map(word).collect::<StringArray>())),
        ("y", Arc::new(points.iter().map(label).collect::<Int64Array>())),
    ])
}

fn job() -> TrainBody {
    let mut body = body("y", Loss::BinaryCrossEntropy);
    let columns = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let input = |name: &str, names: &[&str], step| Input {
        name: name.to_string(),
        columns: columns(names),
        step,
        dims: Vec::new(),
    };
    body.inputs = vec![
        input("numbers", &["a", "b"], Preprocess::Normalize),
        input("colours", &["colour"], Preprocess::Vocabulary { size: 4 }),
    ];
    let node = |name: &str, inputs: &[&str], layer| jobs::train::Node {
        name: name.to_string(),
        inputs: columns(inputs),
        layer,
    };
    body.layers = vec![
        node("table", &["colours"], Layer::Embedding { vocabulary: 4, units: 2, combine: Combine::Sum }),
        node("both", &["numbers", "table"], Layer::Concat),
        node("hidden", &[], Layer::dense(16, Activation::Tanh)),
        node("dropout", &[], Layer::Dropout { rate: 0.05 }),
    ];
    body.optimizer = Optimizer::Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, lazy: false };
    body.min_rows = 100;
    body.batch = 16;
    body
}

fn author() -> Author {
    Author { job: "g/m@sub".to_string(), generation: 1 }
}

fn weights(learner: &Learner) -> Vec<f32> {
    learner.begun.as_ref().map(|begun| begun.graph.weights().to_vec()).unwrap_or_default()
}

#[test]
fn weights_depend_on_the_rows_alone_however_they_are_cut_and_wherever_they_are_restored() {
    let total = 1_000;
    let mut whole = Learner::new(job());
    whole.push(&rows(0, total)).unwrap();
    assert_eq!(whole.so_far(), (62, 62 * 16), "the last 8 wait for others");
    for seed in 0..6 {
        let mut random = random::stream(seed, Purpose::Shuffle, 0, 2);
        let mut learner = Learner::new(job());
        let mut at = 0;
        while at < total {
            let count = (random.next_u32() as usize % 90).min(total - at);
            learner.push(&rows(at, count)).unwrap();
            at += count;
            if random.next_u32().is_multiple_of(3) {
                learner = Learner::restored(job(), &learner.snapshot().unwrap()).unwrap();
            }
        }
        assert_eq!(learner.so_far(), whole.so_far());
        assert!(weights(&learner) == weights(&whole), "seed {seed}");
        // And whatever they are to learn next.
        assert_eq!(learner.snapshot().unwrap(), whole.snapshot().unwrap(), "seed {seed}");
    }
}

#[test]
fn versions_are_published_as_they_are_due_and_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut learner = Learner::new(job());
    learner.push(&rows(0, 90)).unwrap();
    assert!(learner.due(1, &author()).unwrap().is_none(), "it has not begun");
    assert_eq!(Learner::restored(job(), &learner.snapshot().unwrap()).unwrap().n_waiting, 90);
    learner.push(&rows(90, 5_910)).unwrap();
    let first = learner.due(100, &author()).unwrap().expect("many steps were made");
    assert!(learner.due(100, &author()).unwrap().is_none(), "none since");
    let kept = learner.snapshot().unwrap();
    assert_eq!(first.publish(folder.path()).unwrap(), 1);
    // Killed before it was known that it was published: the next process says the same of the same checkpoint.
    let restored = Learner::restored(job(), &kept).unwrap();
    let again = restored.was_due(&Author { generation: 2, ..author() }).unwrap().expect("it was due");
    assert_eq!(again.publish(folder.path()).unwrap(), 1, "not once more");
    let manifest = registry::manifest(folder.path(), "m", 1).unwrap();
    assert_eq!((manifest.rows, manifest.steps), (6_000, 375));
    let auc = manifest.metrics["auc"];
    assert!(auc > 0.9, "of rows that it had not seen when it scored them: {auc}");
    assert_eq!(again.manifest.metrics, manifest.metrics);
    // The next one knows more, and is another one.
    learner.push(&rows(6_000, 1_600)).unwrap();
    let second = learner.due(100, &author()).unwrap().expect("a hundred steps");
    assert_eq!(second.publish(folder.path()).unwrap(), 2);
    assert!(registry::manifest(folder.path(), "m", 2).unwrap().metrics["auc"] > auc);
    let predictor = Predictor::load(folder.path(), "m", 2).unwrap();
    let fresh = rows(50_000, 400);
    let scores = predictor.predict(&fresh.columns()[..3]).unwrap();
    let labels = fresh.column(3).as_any().downcast_ref::<Int64Array>().unwrap();
    let right = scores
        .values()
        .iter()
        .zip(labels)
        .filter(|(score, label)| label.is_some_and(|label| (**score > 0.5) == (label == 1)));
    assert!(right.count() > 330);
}

#[test]
fn what_the_first_rows_did_not_say_is_told() {
    let classes = |classes: &[i64]| {
        let a: Vec<f64> = (0..classes.len()).map(|row| row as f64).collect();
        batch(&[("a", Arc::new(Float64Array::from(a))), ("y", Arc::new(Int64Array::from(classes.to_vec())))])
    };
    let job = || {
        let mut body = body("y", Loss::CrossEntropy);
        body.layers = chain([Layer::dense(4, Activation::Tanh)]);
        (body.min_rows, body.batch) = (4, 4);
        body
    };
    let mut learner = Learner::new(job());
    learner.push(&classes(&[0, 1, 1, 0, 1, 0, 0, 1])).unwrap();
    let error = learner.push(&classes(&[0, 1, 2, 0])).unwrap_err().to_string();
    assert!(error.contains("learn class 2 by model 'm': the first rows had only 2 classes; raise min_rows"), "{error}");
    // Rows without any label make no step.
    let mut learner = Learner::new(job());
    learner.push(&classes(&[0, 1, 1, 0])).unwrap();
    let none: ArrayRef = Arc::new(Int64Array::from(vec![None; 4]));
    learner.push(&batch(&[("a", Arc::new(Float64Array::from(vec![1.0; 4]))), ("y", none)])).unwrap();
    assert_eq!(learner.so_far(), (1, 8));
    let damaged = learner.snapshot().unwrap();
    let error = Learner::restored(job(), &damaged[..damaged.len() - 2]).err().unwrap().to_string();
    assert!(error.contains("keep what model 'm' has learned, or go on with it"), "{error}");
    let mut wild = job();
    wild.loss = Loss::MeanSquaredError;
    wild.optimizer = Optimizer::Sgd { learning_rate: 1e20, momentum: 0.0, nesterov: false };
    let mut learner = Learner::new(wild);
    let error = learner.push(&classes(&[0, 1, 1, 0].repeat(20))).unwrap_err();
    assert!(error.to_string().contains("lower learning_rate"), "{error}");
}
