//! Gradients against finite differences, and what a network refuses.

use super::*;
use jobs::train::chain;

const ROWS: usize = 6;
const INPUTS: usize = 5;
const PLACE: DropoutPlace = DropoutPlace { seed: 11, step: 3, first_row: 2 };

fn input(dtype: DType) -> Tensor {
    let mut rng = random::stream(5, Purpose::Shuffle, 0, 0);
    let values: Vec<f32> = (0..ROWS * INPUTS).map(|_| 1.5 * random::uniform(&mut rng)).collect();
    Tensor::from_vec(values, (ROWS, INPUTS), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn targets(loss: Loss) -> (usize, Targets) {
    match loss {
        Loss::CrossEntropy => (3, Targets::Classes(vec![0, 1, 2, 1, 0, 2])),
        Loss::BinaryCrossEntropy => (1, Targets::Values(vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.0])),
        _ => (1, Targets::Values(vec![0.3, -1.2, 2.5, 0.0, 0.7, -0.4])),
    }
}

fn loss_of(network: &Network, loss: Loss) -> f64 {
    let logits = network.forward(input(DType::F64), Pass::Training(PLACE)).unwrap();
    loss::scaled_sum(&logits, loss, targets(loss).1, 1.0 / ROWS as f64).unwrap().to_scalar::<f64>().unwrap()
}

/// Every derivative of every parameter against central differences, in f64.
fn check(layers: &[Layer], loss: Loss) {
    let (outputs, targets) = targets(loss);
    let network = Network::new(INPUTS, outputs, &chain(layers.to_vec()), 4, DType::F64).unwrap();
    // Biases start at zero, where ReLU has its kink for a dropped row.
    for (slot, variable) in network.slots.iter().zip(&network.variables) {
        if slot.dims.len() == 1 {
            let values: Vec<f64> = (0..slot.range.len()).map(|i| 0.1 + 0.03 * i as f64).collect();
            variable.set(&Tensor::from_vec(values, slot.dims.clone(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    let (_, store) = network.backward(input(DType::F64), (loss, targets, 1.0 / ROWS as f64), PLACE).unwrap();
    let gradients: Vec<Tensor> = network.ordered(&store).map(|gradient| gradient.unwrap().clone()).collect();
    for ((slot, variable), gradient) in network.slots.iter().zip(&network.variables).zip(gradients) {
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let before = variable.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let set = |values: &[f64]| {
            variable.set(&Tensor::from_slice(values, slot.dims.clone(), &Device::Cpu).unwrap()).unwrap();
            loss_of(&network, loss)
        };
        for (i, gradient) in gradient.into_iter().enumerate() {
            let distance = 1e-5;
            let mut moved = before.clone();
            moved[i] = before[i] + distance;
            let above = set(&moved);
            moved[i] = before[i] - distance;
            let below = set(&moved);
            let expect = (above - below) / (2.0 * distance);
            assert!(
                (gradient - expect).abs() < 1e-8 + 1e-7 * expect.abs(),
                "{layers:?} {loss:?} {}[{i}]: {gradient} by the graph, {expect} by differences",
                slot.name
            );
        }
        set(&before);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    use Activation::{Gelu, Linear, Relu, Sigmoid, Tanh};
    for activation in [Linear, Relu, Tanh, Sigmoid, Gelu] {
        for loss in [Loss::CrossEntropy, Loss::BinaryCrossEntropy, Loss::MeanSquaredError] {
            check(&[Layer::dense(4, activation)], loss);
            let deep = [Layer::dense(7, activation), Layer::Dropout { rate: 0.4 }, Layer::dense(3, activation)];
            check(&deep, loss);
        }
    }
    check(&[], Loss::CrossEntropy);
}

#[test]
fn a_cut_graph_is_named() {
    let network = Network::new(INPUTS, 1, &[], 4, DType::F32).unwrap();
    let nothing = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap().backward().unwrap();
    let error = network.ordered(&nothing).next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "train output.bias: no gradient reaches it");
}

#[test]
fn columns_that_do_not_fit_name_layer_and_shape() {
    let network = Network::new(INPUTS, 2, &[], 4, DType::F32).unwrap();
    let wide = Tensor::zeros((1, INPUTS + 1), DType::F32, &Device::Cpu).unwrap();
    let Error::Layer { layer, source } = network.forward(wide, Pass::Inference).unwrap_err() else { panic!() };
    assert_eq!(layer, "output");
    assert!(source.to_string().contains("input [1, 6] does not fit weight [5, 2]"), "{source}");
}

#[test]
fn dropout_belongs_to_the_row_and_keeps_the_mean() {
    let ones = Tensor::ones((64, 32), DType::F32, &Device::Cpu).unwrap();
    let at = |first_row, rows| {
        let rows = ones.narrow(0, 0, rows).unwrap();
        let dropped = drop_out(&rows, 0.25, 1, DropoutPlace { seed: 1, step: 2, first_row }).unwrap();
        dropped.to_vec2::<f32>().unwrap()
    };
    assert_eq!(at(0, 64)[40..], at(40, 24)[..]);
    let mean = at(0, 64).iter().flatten().sum::<f32>() / (64.0 * 32.0);
    assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
    let network = Network::new(32, 2, &chain([Layer::Dropout { rate: 0.5 }]), 1, DType::F32).unwrap();
    let first = network.forward(ones.clone(), Pass::Inference).unwrap().to_vec2::<f32>().unwrap();
    assert!(first.windows(2).all(|rows| rows[0] == rows[1]), "nothing is dropped when scoring");
}

#[test]
fn weights_go_out_and_in() {
    let layers = [Layer::dense(4, Activation::Relu)];
    let first = Network::new(INPUTS, 3, &chain(layers.clone()), 1, DType::F32).unwrap();
    let second = Network::new(INPUTS, 3, &chain(layers.clone()), 2, DType::F32).unwrap();
    let weights = first.weights().unwrap();
    assert_ne!(weights, second.weights().unwrap());
    second.set_weights(&weights).unwrap();
    assert_eq!(weights, second.weights().unwrap());
    let names: Vec<&str> = first.slots().iter().map(|slot| slot.name.as_str()).collect();
    assert_eq!(names, ["dense_00.bias", "dense_00.weight", "output.bias", "output.weight"]);
}
