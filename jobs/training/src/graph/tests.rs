//! Whole graphs against finite differences, and what a graph refuses.

use super::operation::{Kind, Pass, Place, RowGradients, Shape, Values};
use super::*;
use crate::loss::Target;
use crate::random::{self, Purpose};
use jobs::train::{Activation, Combine, Layer, Loss, Node, chain};

const ROWS: usize = 6;
const WIDTH: usize = 5;
const PLACE: Place = Place { seed: 11, step: 3, first_row: 2, global_rows: 9 };

fn numbers<T>(len: usize, seed: u64, to: impl Fn(f64) -> T) -> Vec<T> {
    let mut rng = random::stream(seed, Purpose::Shuffle, 0, 0);
    (0..len).map(|_| to(1.5 * f64::from(random::uniform(&mut rng)))).collect()
}

fn features() -> Vec<Source> {
    vec![Source::numbers("features", WIDTH)]
}

fn graph<T: crate::real::Real>(sources: &[Source], layers: &[Node], outputs: usize) -> Result<Graph<T>, Error> {
    Graph::new(Wanted { sources, layers, output: None, outputs }, 4)
}

fn target(loss: Loss) -> (usize, Target<'static>) {
    match loss {
        Loss::CrossEntropy => (3, Target::Classes(&[0, 1, 2, 1, 0, 2])),
        Loss::BinaryCrossEntropy => (1, Target::Values(&[0.0, 1.0, 1.0, 0.0, 1.0, 0.0])),
        _ => (1, Target::Values(&[0.3, -1.2, 2.5, 0.0, 0.7, -0.4])),
    }
}

fn gradients(graph: &Graph<f64>, inputs: &[Values<'_, f64>], loss: Loss, target: Target<'_>) -> (f64, Vec<f64>) {
    let mut whole = vec![0.0; graph.gradient_len()];
    let mut tables = vec![RowGradients::default(); graph.tables()];
    let step = Step { loss, target, scale: 1.0 / ROWS as f64, place: PLACE };
    let into = Gradients { whole: &mut whole, tables: &mut tables };
    let value = graph.gradients(inputs, ROWS, step, into).unwrap();
    let mut all = vec![0.0; graph.size()];
    for slot in graph.slots() {
        let into = &mut all[slot.range.clone()];
        match &slot.gradient {
            SlotPlace::Whole(range) => into.copy_from_slice(&whole[range.clone()]),
            SlotPlace::Rows(table) => {
                let (rows, width) = (&tables[*table], slot.width());
                for (row, values) in rows.rows.iter().zip(rows.values.chunks_exact(width)) {
                    into[*row as usize * width..][..width].copy_from_slice(values);
                }
            }
        }
    }
    (value, all)
}

/// Every derivative of every parameter against central differences, in f64.
fn check(sources: &[Source], layers: &[Node], loss: Loss, inputs: &[Values<'_, f64>]) {
    let (outputs, target) = target(loss);
    let mut graph = graph::<f64>(sources, layers, outputs).unwrap();
    // Biases start at zero, where ReLU has its kink for a dropped row.
    let (slots, weights) = graph.weights_mut();
    for slot in slots.iter().filter(|slot| slot.name.ends_with("bias")) {
        weights[slot.range.clone()].iter_mut().enumerate().for_each(|(i, value)| *value = 0.1 + 0.03 * i as f64);
    }
    let (_, got) = gradients(&graph, inputs, loss, target);
    // Twice, as what the first run left in memory must not matter.
    assert_eq!(gradients(&graph, inputs, loss, target).1, got, "{layers:?}");
    let before = graph.weights().to_vec();
    for slot in graph.slots().to_vec() {
        for i in slot.range.clone() {
            let mut at = |distance: f64| {
                let mut moved = before.clone();
                moved[i] += distance;
                graph.set_weights(&moved);
                gradients(&graph, inputs, loss, target).0
            };
            let expect = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!(
                (got[i] - expect).abs() < 1e-8 + 1e-7 * expect.abs(),
                "{layers:?} {loss:?} {}[{}]: {} by the graph, {expect} by differences",
                slot.name,
                i - slot.range.start,
                got[i]
            );
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    use Activation::{Elu, Gelu, LeakyRelu, Linear, Relu, Sigmoid, Silu, Softplus, Tanh};
    let input = numbers(ROWS * WIDTH, 5, |x| x);
    let inputs = [Values::Reals(&input[..])];
    for activation in [Linear, Relu, LeakyRelu, Elu, Silu, Tanh, Sigmoid, Gelu, Softplus] {
        check(&features(), &chain([Layer::dense(4, activation)]), Loss::MeanSquaredError, &inputs);
        let deep = [
            Layer::Dense { units: 7, activation: Linear, bias: false },
            Layer::Activation { function: activation },
            Layer::Dropout { rate: 0.4 },
            Layer::dense(3, activation),
        ];
        check(&features(), &chain(deep), Loss::CrossEntropy, &inputs);
    }
    for loss in [Loss::CrossEntropy, Loss::BinaryCrossEntropy, Loss::MeanSquaredError, Loss::Huber { delta: 0.8 }] {
        check(&features(), &chain([Layer::dense(7, Tanh), Layer::dense(3, Gelu)]), loss, &inputs);
        check(&features(), &[], loss, &inputs);
    }
}

fn ids(count: usize) -> Source {
    Source { name: "ids".to_string(), shape: Shape { kind: Kind::Ids { size: 4 }, dims: vec![count] } }
}

#[test]
fn tables_have_gradients_for_the_rows_that_are_named() {
    let named: Vec<u32> = (0..ROWS as u32 * 3).map(|i| i * i % 3).collect();
    let inputs = [Values::Ids(&named[..])];
    for units in [1, 3, 4, 16] {
        for combine in [Combine::Sum, Combine::Mean, Combine::None] {
            let embedding = Layer::Embedding { vocabulary: 4, units, combine };
            let layers = chain([embedding, Layer::Flatten, Layer::dense(3, Activation::Tanh)]);
            check(&[ids(3)], &layers, Loss::CrossEntropy, &inputs);
        }
    }
    // Over the last dimension, alike at all places of the others.
    let embedding = Layer::Embedding { vocabulary: 4, units: 2, combine: Combine::None };
    let reshape = Layer::Reshape { dims: vec![6] };
    let layers = chain([embedding, Layer::dense(2, Activation::Gelu), reshape]);
    check(&[ids(3)], &layers, Loss::BinaryCrossEntropy, &inputs);
}

fn node(name: &str, inputs: &[&str], layer: Layer) -> Node {
    Node { name: name.to_string(), inputs: inputs.iter().map(ToString::to_string).collect(), layer }
}

fn refused(sources: &[Source], layers: &[Node], output: Option<&str>) -> String {
    Graph::<f32>::new(Wanted { sources, layers, output, outputs: 2 }, 1).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_names_layer_and_shape() {
    let dense = || Layer::dense(3, Activation::Relu);
    let error = refused(&[ids(3)], &[node("d", &[], dense())], None);
    assert!(error.contains("layer 'd' (dense)") && error.contains("'ids' [3] of ids below 4"), "{error}");
    let small = Layer::Embedding { vocabulary: 3, units: 2, combine: Combine::Sum };
    let error = refused(&[ids(3)], &[node("e", &[], small)], None);
    assert!(error.contains("ids below 4, its vocabulary is 3"), "{error}");
    let error = refused(&features(), &[node("r", &[], Layer::Reshape { dims: vec![2, 3] })], None);
    assert!(error.contains("layer 'r' (reshape)") && error.contains("[5] is 5 values, [2, 3] is 6"), "{error}");
    let error = refused(&features(), &[node("d", &["feature"], dense())], None);
    assert!(error.contains("it reads 'feature', before it there are only features"), "{error}");
    let both = [features(), vec![ids(1)]].concat();
    let error = refused(&both, &[node("d", &[], dense())], None);
    assert!(error.contains("say which of the inputs features, ids it reads"), "{error}");
    let error = refused(&features(), &[node("d", &[], dense()), node("d", &[], dense())], None);
    assert_eq!(error, "put two layers or inputs called 'd' into one graph");
    let layers = [node("a", &[], dense()), node("b", &["features"], dense())];
    let error = refused(&features(), &layers, Some("b"));
    assert!(error.contains("train layer 'a' (dense): no way leads from it to the output 'b'"), "{error}");
    let error = refused(&features(), &layers[..1], Some("c"));
    assert_eq!(error, "use 'c' as the output of the graph: there are only a");
    let flat = [node("f", &[], Layer::Activation { function: Activation::Relu })];
    let error = refused(&features(), &flat, Some("f"));
    assert!(error.contains("nothing before it is trained"), "{error}");
    let graph = graph::<f32>(&features(), &[], 2).unwrap();
    let error = graph.infer(&[Values::Reals(&[0.0; 6])], 1, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "run the graph on input 'features': 6 values were given for 1 rows of shape [5]");
}

#[test]
fn dropout_belongs_to_the_row_and_keeps_the_mean() {
    let built = elementwise::dropout("d", 0.25, &[Shape::reals(&[32])]).unwrap();
    let ones = vec![1.0f32; 64 * 32];
    let at = |first_row: usize, rows: usize, pass: fn(Place) -> Pass| {
        let mut output = vec![0.0; rows * 32];
        let place = Place { seed: 1, step: 2, first_row, global_rows: 64 };
        f32_operation(&*built.kernel).forward(operation::Forward {
            pass: pass(place),
            rows,
            inputs: &[Values::Reals(&ones[..rows * 32])],
            parameters: &[],
            output: &mut output,
            saved: &mut operation::Saved::default(),
        });
        output
    };
    assert_eq!(at(0, 64, Pass::Training)[40 * 32..], at(40, 24, Pass::Training)[..]);
    let mean = at(0, 64, Pass::Training).iter().sum::<f32>() / (64.0 * 32.0);
    assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
    assert_eq!(at(0, 64, |_| Pass::Inference), ones, "nothing is dropped when scoring");
}

fn f32_operation(kernel: &dyn operation::Kernel) -> &dyn operation::Operation<f32> {
    kernel
}

#[test]
fn weights_go_out_and_in() {
    let layers = chain([Layer::dense(4, Activation::Relu)]);
    let first = graph::<f32>(&features(), &layers, 3).unwrap();
    let mut second = Graph::new(Wanted { sources: &features(), layers: &layers, output: None, outputs: 3 }, 9).unwrap();
    assert_ne!(first.weights(), second.weights());
    second.set_weights(first.weights());
    assert_eq!(first.weights(), second.weights());
    let names: Vec<&str> = first.slots().iter().map(|slot| slot.name.as_str()).collect();
    assert_eq!(names, ["dense_00.bias", "dense_00.weight", "output.bias", "output.weight"]);
    // Pinned: resuming and comparing runs rests on them.
    assert_eq!(first.weights()[4..7], FIRST);
}

const FIRST: [f32; 3] = [-0.94676805, 0.34851187, 0.84441274];
