//! Every layer and input out and back, and files of other programs, whose answers lie beside them.
//!
//! `tests/exchange/run` holds the same cases against onnxruntime: with `SMACK_EXCHANGE` this writes them into a folder.

use super::*;
use crate::exchange::{Settings, pack, unpack};
use crate::graph::{Graph, Source, Wanted};
use crate::metric;
use crate::normalization::Normalization;
use crate::preprocess::{Boundaries, InputState, Preprocessing, State};
use crate::random::{self, Purpose};
use crate::registry::Manifest;
use crate::test_support::published;
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Float32Type, Int64Type};
use jobs::train::{Activation, Combine, Input, Layer, Loss, Node, Padding, Preprocess, chain};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ROWS: usize = 5;

/// A model with weights that are nowhere zero.
fn model(inputs: Vec<InputState>, layers: Vec<Node>, output: Option<&str>, loss: Loss) -> (Manifest, Graph<f32>) {
    let preprocessing = Preprocessing { inputs };
    preprocessing.check().unwrap();
    let sources = Source::all(preprocessing.shapes().unwrap());
    let outputs = if loss == Loss::CrossEntropy { 3 } else { 1 };
    let mut graph = Graph::<f32>::new(Wanted { sources: &sources, layers: &layers, output, outputs }, 3).unwrap();
    let mut rng = random::stream(9, Purpose::Shuffle, 0, 0);
    let (slots, weights) = graph.weights_mut();
    for slot in slots {
        let positive = slot.name.ends_with("variance");
        for value in &mut weights[slot.range.clone()] {
            let drawn = random::uniform(&mut rng);
            *value = if positive { 1.0 + 0.5 * drawn } else { *value + 0.2 * drawn };
        }
    }
    let (mut manifest, _) = published("m", loss, 2);
    manifest.features = preprocessing.inputs.iter().flat_map(|state| state.input.columns.clone()).collect();
    manifest.outputs = graph.output().dims.last().copied().unwrap();
    manifest.preprocessing = preprocessing;
    manifest.layers = layers;
    manifest.output = output.map(str::to_string);
    (manifest, graph)
}

fn input(name: &str, dims: &[usize], step: Preprocess, state: State) -> InputState {
    let width = match step {
        Preprocess::OneHot { size } => dims.iter().product::<usize>() / size,
        _ => dims.iter().product(),
    };
    let columns = (0..width).map(|at| format!("{name}_{at}")).collect();
    let dims = if dims.len() == 1 { Vec::new() } else { dims.to_vec() };
    InputState { input: Input { name: name.to_string(), columns, step, dims }, widths: vec![1; width], state }
}

fn numbers(dims: &[usize]) -> Vec<InputState> {
    vec![input("x", dims, Preprocess::Numbers, State::Nothing)]
}

fn ids(dims: &[usize], size: usize) -> Vec<InputState> {
    vec![input("x", dims, Preprocess::Ids { size }, State::Nothing)]
}

/// Columns for the features of a model; with absent values where they may be.
fn columns(manifest: &Manifest) -> Vec<ArrayRef> {
    let mut rng = random::stream(4, Purpose::Shuffle, 1, 0);
    let mut drawn = move || random::uniform(&mut rng);
    let mut columns: Vec<ArrayRef> = Vec::new();
    for state in &manifest.preprocessing.inputs {
        for _ in &state.input.columns {
            columns.push(match state.input.step {
                Preprocess::Numbers | Preprocess::Normalize | Preprocess::Buckets { .. } => {
                    let mut one = || Some(1.5 * drawn()).filter(|value| *value > -1.3);
                    Arc::new((0..ROWS).map(|_| one()).collect::<Float32Array>())
                }
                Preprocess::Ids { size } => {
                    let mut one = || ((drawn() + 1.0) / 2.0 * size as f32) as i64;
                    Arc::new((0..ROWS).map(|_| one()).collect::<Int64Array>())
                }
                _ => {
                    let mut one = || ["red", "green", "blue", "none"][((drawn() + 1.0) * 2.0) as usize];
                    Arc::new((0..ROWS).map(|_| Some(one())).collect::<StringArray>())
                }
            });
        }
    }
    columns
}

fn answers(manifest: &Manifest, graph: &Graph<f32>, columns: &[ArrayRef]) -> Vec<f32> {
    let examples = manifest.preprocessing.read(&manifest.features, columns).unwrap();
    metric::logits(graph, &examples).unwrap()
}

#[track_caller]
fn assert_near(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let near = (got - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(near, "{name}: value {at} is {got}, expected {expected}");
    }
}

type Case = (&'static str, Vec<InputState>, Vec<Node>, Option<&'static str>, Loss);

fn node(name: &str, inputs: &[&str], layer: Layer) -> Node {
    Node { name: name.to_string(), inputs: inputs.iter().map(ToString::to_string).collect(), layer }
}

fn layers() -> Vec<Case> {
    use Activation::{Elu, Gelu, LeakyRelu, Linear, Relu, Sigmoid, Silu, Softplus, Tanh};
    let value = Loss::MeanSquaredError;
    let mut cases: Vec<Case> = Vec::new();
    let mut one = |name, inputs, layers: Vec<Layer>| cases.push((name, inputs, chain(layers), None, value));
    one("dense", numbers(&[4]), vec![Layer::dense(3, Linear)]);
    one("dense_over_places", numbers(&[3, 4]), vec![Layer::dense(2, Relu), Layer::Flatten]);
    one("dense_without_bias", numbers(&[4]), vec![Layer::Dense { units: 3, activation: Tanh, bias: false }]);
    let activations = [Relu, LeakyRelu, Elu, Silu, Tanh, Sigmoid, Gelu, Softplus, Linear];
    let each = |function| [Layer::dense(4, function), Layer::Activation { function }];
    one("activations", numbers(&[4]), activations.into_iter().flat_map(each).collect());
    one("dropout", numbers(&[4]), vec![Layer::dense(3, Relu), Layer::Dropout { rate: 0.3 }]);
    for (name, combine) in
        [("embedding", Combine::None), ("embedding_sum", Combine::Sum), ("embedding_mean", Combine::Mean)]
    {
        one(name, ids(&[3], 7), vec![Layer::Embedding { vocabulary: 9, units: 2, combine }, Layer::Flatten]);
    }
    let embedding = Layer::Embedding { vocabulary: 7, units: 4, combine: Combine::None };
    one("position", ids(&[3], 7), vec![embedding, Layer::Position, Layer::Flatten]);
    for (name, kernel, stride, padding) in [
        ("conv1d", 3, 1, Padding::Valid),
        ("conv1d_same", 4, 1, Padding::Same),
        ("conv1d_strides", 3, 2, Padding::Same),
    ] {
        let conv = Layer::Conv1d { filters: 3, kernel, stride, padding, activation: Relu };
        one(name, numbers(&[8, 2]), vec![conv, Layer::Flatten]);
    }
    for (name, kernel, stride, padding) in [
        ("conv2d", [3, 2], [1, 1], Padding::Valid),
        ("conv2d_same", [3, 3], [1, 1], Padding::Same),
        ("conv2d_strides", [3, 3], [2, 3], Padding::Same),
    ] {
        let conv = Layer::Conv2d { filters: 3, kernel, stride, padding, activation: Silu };
        one(name, numbers(&[6, 7, 2]), vec![conv, Layer::Flatten]);
    }
    for (name, padding) in [("pools", Padding::Valid), ("pools_same", Padding::Same)] {
        let (size, stride) = ([2, 3], [2, 2]);
        let pools = vec![
            Layer::MaxPool { size, stride: [1, 1], padding },
            Layer::AveragePool { size, stride, padding },
            Layer::Flatten,
        ];
        one(name, numbers(&[6, 7, 2]), pools);
    }
    let pool = Layer::MaxPool { size: [2, 2], stride: [2, 2], padding: Padding::Valid };
    one("pool_of_sequences", numbers(&[6, 2]), vec![pool, Layer::Flatten]);
    one("global_max_pool", numbers(&[4, 5, 3]), vec![Layer::GlobalMaxPool]);
    one("global_average_pool", numbers(&[4, 3]), vec![Layer::GlobalAveragePool]);
    let norm = || Layer::BatchNorm { momentum: 0.9, epsilon: 1e-3 };
    one("batch_norm", numbers(&[4]), vec![norm()]);
    one("batch_norm_of_images", numbers(&[3, 4, 2]), vec![norm(), Layer::Flatten]);
    one("layer_norm", numbers(&[3, 4]), vec![Layer::LayerNorm { epsilon: 1e-3 }, Layer::Flatten]);
    one("rms_norm", numbers(&[3, 4]), vec![Layer::RmsNorm { epsilon: 1e-3 }, Layer::Flatten]);
    one(
        "gru",
        numbers(&[4, 3]),
        vec![Layer::Gru { units: 5, sequences: true }, Layer::Gru { units: 3, sequences: false }],
    );
    one(
        "lstm",
        numbers(&[4, 3]),
        vec![Layer::Lstm { units: 5, sequences: true }, Layer::Lstm { units: 3, sequences: false }],
    );
    one("attention", numbers(&[5, 6]), vec![Layer::Attention { heads: 2, causal: false }, Layer::Flatten]);
    one("attention_causal", numbers(&[5, 6]), vec![Layer::Attention { heads: 3, causal: true }, Layer::Flatten]);
    let transformer = Layer::Transformer { heads: 2, hidden: 8, causal: true, activation: Gelu, dropout: 0.1 };
    one("transformer", numbers(&[5, 4]), vec![transformer, Layer::Flatten]);
    one(
        "shapes",
        numbers(&[12]),
        vec![
            Layer::Reshape { dims: vec![2, 3, 2] },
            Layer::Permute { dims: vec![3, 1, 2] },
            Layer::Reshape { dims: vec![4, 3] },
            Layer::dense(2, Relu),
            Layer::Flatten,
        ],
    );
    let joined = vec![
        node("a", &["x"], Layer::dense(3, Relu)),
        node("b", &["x"], Layer::dense(3, Tanh)),
        node("sum", &["a", "b", "a"], Layer::Add),
        node("both", &["sum", "b", "x"], Layer::Concat),
    ];
    cases.push(("joins", numbers(&[4]), joined, None, value));
    cases
}

fn inputs() -> Vec<Case> {
    let dense = || chain([Layer::dense(3, Activation::Tanh)]);
    let learned = Normalization { mean: vec![0.1, 0.2, 0.3, 0.4], deviation: vec![0.5, 1.0, 2.0, 3.0] };
    let normalized = input("x", &[2, 2], Preprocess::Normalize, State::Normalization(learned));
    let words = || State::Words(["green", "red"].map(str::to_string).to_vec());
    let boundaries = |values: &[f32], absent| Boundaries { values: values.to_vec(), absent };
    let buckets = State::Boundaries(vec![boundaries(&[-0.5, 0.0, 0.7], 1), boundaries(&[], 0)]);
    let table = || Layer::Embedding { vocabulary: 5, units: 2, combine: Combine::None };
    let value = Loss::MeanSquaredError;
    vec![
        ("normalize", vec![normalized], chain([Layer::Flatten, Layer::dense(3, Activation::Tanh)]), None, value),
        ("one_hot", vec![input("x", &[8], Preprocess::OneHot { size: 4 }, words())], dense(), None, value),
        (
            "words_and_buckets",
            vec![
                input("words", &[2], Preprocess::Vocabulary { size: 4 }, words()),
                input("unseen", &[1], Preprocess::Vocabulary { size: 4 }, State::Words(Vec::new())),
                input("buckets", &[2], Preprocess::Buckets { count: 4 }, buckets),
                input("numbers", &[2], Preprocess::Numbers, State::Nothing),
            ],
            vec![
                node("of_words", &["words"], table()),
                node("of_unseen", &["unseen"], table()),
                node("of_buckets", &["buckets"], table()),
                node("w", &["of_words"], Layer::Flatten),
                node("u", &["of_unseen"], Layer::Flatten),
                node("b", &["of_buckets"], Layer::Flatten),
                node("all", &["w", "u", "b", "numbers"], Layer::Concat),
            ],
            None,
            Loss::BinaryCrossEntropy,
        ),
    ]
}

/// Whole models.
fn models() -> Vec<Case> {
    use Activation::{Gelu, Linear, Relu};
    let learned = Normalization { mean: vec![0.5; 6], deviation: vec![1.5; 6] };
    let features = input("features", &[6], Preprocess::Normalize, State::Normalization(learned));
    let same = Padding::Same;
    let cnn = chain([
        Layer::Conv2d { filters: 4, kernel: [3, 3], stride: [1, 1], padding: same, activation: Relu },
        Layer::BatchNorm { momentum: 0.99, epsilon: 1e-3 },
        Layer::MaxPool { size: [2, 2], stride: [2, 2], padding: Padding::Valid },
        Layer::Conv2d { filters: 5, kernel: [3, 3], stride: [2, 2], padding: same, activation: Linear },
        Layer::Activation { function: Relu },
        Layer::GlobalAveragePool,
        Layer::Dropout { rate: 0.25 },
    ]);
    let block = || Layer::Transformer { heads: 2, hidden: 16, causal: true, activation: Gelu, dropout: 0.0 };
    let mut gpt = chain([
        Layer::Embedding { vocabulary: 11, units: 8, combine: Combine::None },
        Layer::Position,
        block(),
        block(),
        Layer::LayerNorm { epsilon: 1e-5 },
    ]);
    gpt.push(node("logits", &[], Layer::Dense { units: 11, activation: Linear, bias: false }));
    let mlp = chain([Layer::dense(8, Relu), Layer::Dropout { rate: 0.1 }, Layer::dense(4, Gelu)]);
    let lstm = chain([Layer::Lstm { units: 6, sequences: true }, Layer::Lstm { units: 4, sequences: false }]);
    vec![
        ("model_mlp", vec![features], mlp, None, Loss::BinaryCrossEntropy),
        ("model_cnn", numbers(&[8, 8, 2]), cnn, None, Loss::CrossEntropy),
        ("model_lstm", numbers(&[7, 3]), lstm, None, Loss::CrossEntropy),
        ("model_gpt", ids(&[6], 11), gpt, Some("logits"), Loss::CrossEntropy),
    ]
}

/// What another program needs to run a case.
fn told(manifest: &Manifest, graph: &Graph<f32>, columns: &[ArrayRef], answers: &[f32]) -> Value {
    let mut inputs = serde_json::Map::new();
    let mut first = 0;
    for (state, source) in manifest.preprocessing.inputs.iter().zip(graph.sources()) {
        let own = &columns[first..first + state.input.columns.len()];
        first += own.len();
        let mut values = Vec::new();
        for (row, column) in (0..ROWS).flat_map(|row| own.iter().map(move |column| (row, column))) {
            values.push(match column.data_type() {
                DataType::Float32 if column.is_null(row) => Value::Null,
                DataType::Float32 => json!(column.as_primitive::<Float32Type>().value(row)),
                DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
                _ => json!(column.as_string::<i32>().value(row)),
            });
        }
        let dims = if matches!(state.input.step, Preprocess::OneHot { .. }) {
            vec![own.len()]
        } else {
            source.shape.dims.clone()
        };
        let type_ = match own[0].data_type() {
            DataType::Float32 => "float",
            DataType::Int64 => "int64",
            _ => "string",
        };
        inputs.insert(source.name.clone(), json!({"type": type_, "dims": dims, "values": values}));
    }
    json!({"rows": ROWS, "inputs": inputs, "dims": graph.output().dims, "answers": answers})
}

#[test]
fn what_goes_out_comes_back() {
    let folder = std::env::var_os("SMACK_EXCHANGE");
    for (name, inputs, layers, output, loss) in [layers(), inputs(), models()].concat() {
        let (manifest, graph) = model(inputs, layers, output, loss);
        let columns = columns(&manifest);
        let expected = answers(&manifest, &graph, &columns);
        let bytes = export(&manifest, &graph, Inputs::Raw).unwrap();
        if let Some(folder) = &folder {
            let path = Path::new(folder).join(name);
            std::fs::write(path.with_extension("onnx"), &bytes).unwrap();
            let told = told(&manifest, &graph, &columns, &expected).to_string();
            std::fs::write(path.with_extension("json"), told).unwrap();
        }
        for (what, bytes) in [("raw", bytes), ("prepared", export(&manifest, &graph, Inputs::Prepared).unwrap())] {
            let network = import(&bytes, None, None).unwrap_or_else(|error| panic!("{name}, {what}: {error}"));
            let (back, weights) =
                network.published(&Settings { model: "m".to_string(), ..Settings::default() }).unwrap();
            let back_graph = loaded(&back, &weights);
            assert_near(name, &answers(&back, &back_graph, &columns), &expected, 1e-6);
            assert_eq!((&back.features, back.loss), (&manifest.features, manifest.loss), "{name}");
            assert_eq!(back.preprocessing, manifest.preprocessing, "{name}");
            // What comes back is no other model: it has as many weights, and goes out alike.
            assert_eq!(back_graph.size(), graph.size(), "{name}");
        }
    }
}

fn loaded(manifest: &Manifest, weights: &[u8]) -> Graph<f32> {
    let tensors = crate::tensors::Tensors::read(weights).unwrap();
    let sources = Source::all(manifest.preprocessing.shapes().unwrap());
    let wanted = Wanted {
        sources: &sources,
        layers: &manifest.layers,
        output: manifest.output.as_deref(),
        outputs: manifest.outputs,
    };
    let mut graph = Graph::<f32>::new(wanted, 0).unwrap();
    let weights = crate::checkpoint::read_weights(&tensors, graph.slots()).unwrap();
    graph.set_weights(&weights);
    let unpacked = unpack(&pack(manifest, &graph).unwrap()).unwrap();
    assert_eq!((&unpacked.manifest, unpacked.graph.weights()), (manifest, graph.weights()));
    unpacked.graph
}

/// Layers, their names and settings come back as they were, where one operator says a layer.
#[test]
fn layers_keep_their_names_and_settings() {
    let (_, inputs, layers, output, loss) = models().remove(1);
    let (manifest, graph) = model(inputs, layers.clone(), output, loss);
    let network = import(&export(&manifest, &graph, Inputs::Raw).unwrap(), None, None).unwrap();
    let mut expected = layers;
    expected.push(node("output", &[], Layer::dense(3, Activation::Linear)));
    // The activation that stood alone.
    let Layer::Conv2d { activation, .. } = &mut expected[3].layer else { panic!("a convolution") };
    *activation = Activation::Relu;
    expected.remove(4);
    let got: Vec<(String, Layer)> = network.layers.into_iter().map(|node| (node.name, node.layer)).collect();
    assert_eq!(got, expected.into_iter().map(|node| (node.name, node.layer)).collect::<Vec<_>>());
}
