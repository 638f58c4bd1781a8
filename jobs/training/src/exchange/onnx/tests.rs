//! Every layer and input out and back, and files of other programs, whose answers lie beside them.
//!
//! `tests/exchange/run` holds the same cases against onnxruntime: with `SMACK_EXCHANGE` this writes them into a folder.

use super::*;
use crate::exchange::Settings;
use crate::exchange::test_support::{assert_near as assert_answers, fixtures, taken_over};
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
use proptest::prelude::*;
use prost::Message;
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
    let turned = vec![
        node("turned", &["x"], Layer::Permute { dims: vec![2, 1, 3] }),
        node("both", &["x", "turned"], Layer::Concat),
        node("sum", &["x", "turned"], Layer::Add),
        node("joined", &["both", "sum"], Layer::Concat),
        node("flat", &["joined"], Layer::Flatten),
    ];
    cases.push(("joins_of_turned", numbers(&[2, 2, 3]), turned, None, value));
    cases.push(("joins", numbers(&[4]), joined, None, value));
    cases
}

fn cases_of_inputs() -> Vec<Case> {
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
    for (name, inputs, layers, output, loss) in [layers(), cases_of_inputs(), models()].concat() {
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
            let (back, back_graph) = taken_over(network);
            assert_near(name, &answers(&back, &back_graph, &columns), &expected, 1e-6);
            assert_eq!((&back.features, back.loss), (&manifest.features, manifest.loss), "{name}");
            assert_eq!(back.preprocessing, manifest.preprocessing, "{name}");
            // What comes back is no other model: it has as many weights, and goes out alike.
            assert_eq!(back_graph.size(), graph.size(), "{name}");
        }
    }
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

/// What tf2onnx makes of some layers of Keras is no operator of ours; the model itself can be imported.
const REFUSED: [(&str, &str); 4] = [
    ("tf2onnx_mlp", "use input 'sequential_1/normalization_1/Sub/y:0'"),
    ("tf2onnx_recurrent", "take over node 'sequential_1/gru_1/while_loop' (Loop)"),
    ("tf2onnx_transformer", "take over node 'functional_1/layer_normalization_1/moments/SquaredDifference' (Sub)"),
    ("tf2onnx_words", "take over node 'functional_1/embedding_1/Less' (Less)"),
];

#[test]
fn models_of_other_programs_answer_alike() {
    let mut count = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "onnx") {
            continue;
        }
        count += 1;
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        let network = import(&std::fs::read(&path).unwrap(), path.parent(), None);
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let error = network.unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
            continue;
        }
        let network = network.unwrap_or_else(|error| panic!("{name}: {error}"));
        let case: Value = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        let found = network.loss;
        let (manifest, graph) = taken_over(network);
        assert_answers(&name, (&manifest, &graph), found, &case);
    }
    assert!(count > 25, "{count} models");
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

/// A small file of ours, changed.
fn refused(change: impl Fn(&mut schema::ModelProto)) -> String {
    let (manifest, graph) =
        model(numbers(&[4]), chain([Layer::dense(3, Activation::Relu)]), None, Loss::MeanSquaredError);
    let bytes = export(&manifest, &graph, Inputs::Raw).unwrap();
    let mut changed = file::read(&bytes).unwrap();
    change(&mut changed);
    match import(&changed.encode_to_vec(), None, None) {
        Ok(_) => "nothing".to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    assert_eq!(refused(|_| ()), "nothing");
    let error = refused(|model| model.opset_import[0].version = 99);
    assert!(error.contains("operators of version 99: those of 9 to 26 are known"), "{error}");
    let error = refused(|model| model.graph.as_mut().unwrap().node.last_mut().unwrap().op_type = "Sigmoid".to_string());
    assert_eq!(error, "nothing");
    let error = refused(|model| {
        let graph = model.graph.as_mut().unwrap();
        graph.node.iter_mut().find(|node| node.op_type == "Relu").unwrap().op_type = "Mish".to_string();
    });
    assert!(error.contains("take over node 'dense_00/relu' (Mish): no layer here"), "{error}");
    let error = refused(|model| {
        let graph = model.graph.as_mut().unwrap();
        let weight = graph.initializer.iter_mut().find(|tensor| tensor.name == "dense_00.weight").unwrap();
        weight.dims = vec![3, 4];
    });
    assert!(error.contains("node 'dense_00' (Gemm)") && error.contains("[3, 4]") && error.contains("[4]"), "{error}");
    let error = refused(|model| {
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.iter_mut().for_each(|tensor| tensor.dims = vec![1 << 40]);
    });
    assert!(error.contains("it holds") && error.contains("values of 1099511627776"), "{error}");
    let error = refused(|model| {
        let graph = model.graph.as_mut().unwrap();
        let gemm = graph.node.iter_mut().find(|node| node.op_type == "Gemm").unwrap();
        gemm.input[0] = gemm.output[0].clone();
    });
    assert!(error.contains("reads itself"), "{error}");
    let bytes = fixture("torch_mlp_dynamo.onnx");
    let error = import(&bytes[..bytes.len() - 7], None, None).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
    let error = import(&bytes, None, Some("nothing")).unwrap_err().to_string();
    assert!(error.contains("give output 'nothing'"), "{error}");
    // Two bytes for each node, which would be hundreds once decoded.
    let nodes: Vec<u8> = (0..100_000).flat_map(|_| [0x0a, 0]).collect();
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    let error = import(&bytes, None, None).unwrap_err().to_string();
    assert!(error.contains("most of which must be empty"), "{error}");
}

#[test]
fn what_no_operator_says_is_refused_with_the_way_out() {
    let hash = input("x", &[2], Preprocess::Hash { buckets: 9 }, State::Nothing);
    let table = Layer::Embedding { vocabulary: 9, units: 2, combine: Combine::Mean };
    let (manifest, graph) = model(vec![hash], chain([table]), None, Loss::MeanSquaredError);
    let error = export(&manifest, &graph, Inputs::Raw).unwrap_err().to_string();
    assert!(error.contains("input 'x' (hash)") && error.contains("--prepared"), "{error}");
    let prepared = export(&manifest, &graph, Inputs::Prepared).unwrap();
    let (back, _) = taken_over(import(&prepared, None, None).unwrap());
    assert_eq!(back.preprocessing, manifest.preprocessing);
}

/// PyTorch puts large weights into a file beside the model.
#[test]
fn weights_may_lie_in_a_file_beside() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fixture("torch_mlp_dynamo.onnx");
    let mut model = file::read(&bytes).unwrap();
    let mut beside = vec![7u8; 64];
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let entry = |key: &str, value: usize| write::entry(key, value.to_string());
        let raw = std::mem::take(&mut tensor.raw_data);
        tensor.external_data = vec![
            write::entry("location", "mlp.onnx.data".to_string()),
            entry("offset", beside.len()),
            entry("length", raw.len()),
        ];
        tensor.data_location = 1;
        beside.extend(raw);
    }
    let moved = model.encode_to_vec();
    std::fs::write(folder.path().join("mlp.onnx.data"), &beside).unwrap();
    let network = import(&moved, Some(folder.path()), None).unwrap();
    assert_eq!(network.weights, import(&bytes, None, None).unwrap().weights);
    std::fs::write(folder.path().join("mlp.onnx.data"), &beside[..beside.len() - 1]).unwrap();
    let error = import(&moved, Some(folder.path()), None).unwrap_err().to_string();
    assert!(error.contains("'mlp.onnx.data' is cut off"), "{error}");
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        tensor.external_data[0].value = "../secret".to_string();
    }
    let error = import(&model.encode_to_vec(), Some(folder.path()), None).unwrap_err().to_string();
    assert!(error.contains("only files beside the model's are read"), "{error}");
}

/// Small ones, and such as nobody expects.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-3i64..9, Just(i64::MAX), Just(i64::MIN), Just(1 << 31), Just(1 << 62), Just(1_000_003)]
}

proptest! {
    /// Whatever a file says, it is refused or taken over.
    #[test]
    fn no_file_makes_it_panic(
        which in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        whether in 0u8..4,
    ) {
        let names = ["torch_gpt_script", "torch_cnn_dynamo", "torch_stacked_script", "torch_wide_script", "tf2onnx_cnn", ""];
        let mut bytes = match names[which] {
            "" => {
                let (_, inputs, layers, output, loss) = cases_of_inputs().remove(2);
                let (manifest, graph) = model(inputs, layers, output, loss);
                export(&manifest, &graph, Inputs::Raw).unwrap()
            }
            name => fixture(&format!("{name}.onnx")),
        };
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if whether == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(network) = import(&bytes, None, None) {
            let _ = network.model(&Settings::default());
        }
    }

    /// Not its bytes, which mostly make no file, but what it says.
    #[test]
    fn no_graph_makes_it_panic(
        which in 0usize..6,
        changes in prop::collection::vec((0u8..9, any::<prop::sample::Index>(), any::<prop::sample::Index>(), number()), 1..4),
    ) {
        let names = [
            "torch_gpt_script", "torch_cnn_script", "torch_stacked_dynamo", "torch_encoder_script",
            "torch_attention_dynamo", "torch_wide_dynamo",
        ];
        let mut model = file::read(&fixture(&format!("{}.onnx", names[which]))).unwrap();
        let graph = model.graph.as_mut().unwrap();
        for (what, one, other, number) in changes {
            let (at, to) = (one.index(graph.node.len()), other.index(graph.node.len()));
            match what {
                0 => graph.node[at].op_type = graph.node[to].op_type.clone(),
                1 => graph.node[at].input = graph.node[to].input.clone(),
                2 => graph.node[at].attribute = graph.node[to].attribute.clone(),
                3 => graph.node.swap(at, to),
                4 => {
                    for attribute in &mut graph.node[at].attribute {
                        attribute.i = number;
                        attribute.ints.iter_mut().for_each(|value| *value = number);
                    }
                }
                5 => {
                    let at = one.index(graph.initializer.len());
                    let tensor = &mut graph.initializer[at];
                    tensor.dims.reverse();
                    if tensor.data_type == data_type::INT64 && tensor.raw_data.len() >= 8 {
                        let at = other.index(tensor.raw_data.len() / 8) * 8;
                        tensor.raw_data[at..at + 8].copy_from_slice(&number.to_le_bytes());
                    }
                }
                6 => {
                    let at = one.index(graph.initializer.len());
                    let from = graph.initializer[other.index(graph.initializer.len())].clone();
                    let name = std::mem::take(&mut graph.initializer[at].name);
                    graph.initializer[at] = schema::TensorProto { name, ..from };
                }
                7 => {
                    let attribute = graph.node[at].attribute.first_mut();
                    if let Some(value) = attribute.and_then(|attribute| attribute.t.as_mut()) {
                        value.raw_data = number.to_le_bytes().to_vec();
                    }
                }
                _ => {
                    let type_ = graph.input[0].r#type.as_mut().unwrap();
                    let shape = type_.tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
                    let at = one.index(shape.dim.len());
                    shape.dim[at].dim_value = Some(number);
                }
            }
        }
        if let Ok(network) = import(&model.encode_to_vec(), None, None) {
            let _ = network.model(&Settings::default());
        }
    }
}
