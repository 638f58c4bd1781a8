//! Small jobs, batches and models for the tests of this crate.

use crate::graph::{Graph, Source, Wanted};
use crate::normalization::Normalization;
use crate::preprocess::{InputState, Preprocessing, State};
use crate::registry::{self, Manifest};
use arrow::array::{ArrayRef, RecordBatch};
use jobs::TrainBody;
use jobs::train::{Activation, Clip, Input, Layer, Loss, Optimizer, Preprocess, Schedule, Strategy, chain};
use std::collections::BTreeMap;

pub fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, array.clone(), true))).unwrap()
}

pub fn body(label: &str, loss: Loss) -> TrainBody {
    TrainBody {
        model: "m".to_string(),
        sql: String::new(),
        base_dir: String::new(),
        train_query: String::new(),
        test_query: None,
        test_fraction: 0.0,
        label: label.to_string(),
        ignore: Vec::new(),
        time_column: None,
        min_rows: 0,
        inputs: Vec::new(),
        init: None,
        output: None,
        schedule: Schedule::Constant,
        clip: Clip::None,
        accumulate: 1,
        early_stop: None,
        keep_best: false,
        strategy: Strategy::AllReduce,
        elastic: None,
        evaluator: false,
        layers: chain([Layer::dense(8, Activation::Tanh)]),
        loss,
        optimizer: Optimizer::Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: false },
        batch: 16,
        epochs: 3,
        steps: None,
        seed: 1,
        normalize: true,
        checkpoint_steps: 1_000_000,
    }
}

/// Normalises the columns `f0`, `f1`, …
pub fn normalizing(columns: usize) -> Preprocessing {
    let input = Input {
        name: "features".to_string(),
        columns: (0..columns).map(|index| format!("f{index}")).collect(),
        step: Preprocess::Normalize,
        dims: Vec::new(),
    };
    let normalization = Normalization { mean: vec![0.7; columns], deviation: vec![1.5; columns] };
    let state = State::Normalization(normalization);
    Preprocessing { inputs: vec![InputState { input, widths: vec![1; columns], state }] }
}

/// A model of `inputs` features as it is handed to the registry.
pub fn published(model: &str, loss: Loss, inputs: usize) -> (Manifest, Vec<u8>) {
    let layers = chain([Layer::dense(4, Activation::Tanh)]);
    let outputs = if loss == Loss::CrossEntropy { 3 } else { 1 };
    let sources = [Source::numbers("features", inputs)];
    let wanted = Wanted { sources: &sources, layers: &layers, output: None, outputs };
    let graph = Graph::<f32>::new(wanted, 5).unwrap();
    // All losses but cross-entropy share the shapes and so the weights.
    let weights = registry::encode_weights(model, graph.slots(), graph.weights()).unwrap();
    let manifest = Manifest {
        format: Manifest::FORMAT,
        model: model.to_string(),
        version: 0,
        job: "j".to_string(),
        generation: 1,
        features: (0..inputs).map(|index| format!("f{index}")).collect(),
        label: "y".to_string(),
        outputs,
        layers,
        output: None,
        loss,
        classes: Vec::new(),
        preprocessing: normalizing(inputs),
        metrics: BTreeMap::from([("loss".to_string(), 0.25)]),
        trained_through_us: Some(17),
        rows: 10,
        rows_held_out: 2,
        steps: 30,
        seed: 5,
        seconds: 0.5,
        evaluation: None,
        created_us: 1,
        weights_digest: registry::weights_digest(&weights),
        lineage: registry::Lineage::default(),
    };
    (manifest, weights)
}
