//! The layers against PyTorch: outputs and gradients of two steps of gradient descent, as `tests/peers/layers_torch.py` printed
//! them (PyTorch 2.15, double precision).

use super::*;
use crate::graph::gradient_check::{Case, compare};
use crate::graph::operation::{Built, Initial, Role, Saved, Shape};
use jobs::train::{Activation, Padding};
use std::collections::BTreeMap;

const PRINTED: &str = include_str!("layers_torch.txt");
const RATE: f64 = 0.1;
/// Ten digits are printed.
const TOLERANCE: f64 = 1e-9;

/// As the script makes them.
fn made(which: usize, count: usize, middle: f64, scale: f64) -> Vec<f64> {
    (0..count).map(|i| middle + scale * (((i * i * 7 + i * 37 + which * 11 + 5) % 101) as f64 - 50.0) / 50.0).collect()
}

/// By layer, step and what.
fn printed() -> BTreeMap<(&'static str, usize, &'static str), Vec<f64>> {
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("a layer, a step and what is told");
        let key = (word(), word().parse().expect("a step"), word());
        (key, words.map(|value| value.parse().expect("a number")).collect())
    };
    PRINTED.lines().map(line).collect()
}

fn check(name: &str, rows: usize, dims: &[usize], make: impl Fn(&[Shape]) -> Result<Built, String>) {
    let inputs = [Shape::reals(dims)];
    let built = make(&inputs).unwrap();
    let printed = printed();
    let expect = |step: usize, what: &str| {
        let found = printed.iter().find(|((layer, at, of), _)| (*layer, *at, *of) == (name, step, what));
        found.unwrap_or_else(|| panic!("{name}, step {step}: {what} is not in the file")).1.as_slice()
    };
    let mut case = Case::new(&built, &inputs, rows);
    case.inputs[0] = made(0, case.inputs[0].len(), 0.0, 1.0);
    case.functional = made(100, case.functional.len(), 0.0, 1.0);
    for (which, parameter) in built.parameters.iter().enumerate() {
        let middle = if let Initial::Constant(value) = parameter.initial { value } else { 0.0 };
        case.parameters[which] = made(1 + which, case.parameters[which].len(), middle, 0.5);
    }
    for step in 0..2 {
        let got = case.run(&case.inputs, &case.parameters, &mut Saved::default(), |_| true);
        compare(&format!("{name}, step {step}, output"), &got.output, expect(step, "output"), TOLERANCE);
        let of_input = got.inputs[0].as_ref().unwrap();
        compare(&format!("{name}, step {step}, input"), of_input, expect(step, "input"), TOLERANCE);
        for (which, parameter) in built.parameters.iter().enumerate() {
            let gradient = &got.parameters[which];
            let what = format!("{name}, step {step}, {}", parameter.name);
            let expect = expect(step, &format!("parameter_{which}"));
            let share = case.share();
            let values = case.parameters[which].iter_mut().zip(gradient);
            if let Role::Statistic { momentum } = parameter.role {
                values.for_each(|(value, said)| *value = momentum * *value + (1.0 - momentum) * said / share);
                compare(&what, &case.parameters[which], expect, TOLERANCE);
            } else {
                values.for_each(|(value, gradient)| *value -= RATE * gradient);
                compare(&what, gradient, expect, TOLERANCE);
            }
        }
    }
}

#[test]
fn convolutions() {
    check("conv2d_valid", 2, &[5, 4, 2], |inputs| conv2d(3, [3, 2], [2, 1], Padding::Valid, Activation::Relu, inputs));
    check("conv2d_same", 2, &[4, 5, 2], |inputs| conv2d(2, [3, 2], [1, 2], Padding::Same, Activation::Gelu, inputs));
    check("conv1d_same", 3, &[6, 2], |inputs| conv1d(3, 3, 2, Padding::Same, Activation::Tanh, inputs));
}

#[test]
fn pools() {
    let dims = [5, 5, 2];
    check("max_pool", 2, &dims, |inputs| max_pool([2, 2], [2, 2], Padding::Valid, inputs));
    check("max_pool_overlapping", 2, &dims, |inputs| max_pool([3, 2], [1, 2], Padding::Valid, inputs));
    check("average_pool", 2, &dims, |inputs| average_pool([2, 3], [2, 1], Padding::Valid, inputs));
    check("global_max_pool", 2, &[3, 3, 2], global_max_pool);
    check("global_average_pool", 2, &[3, 3, 2], global_average_pool);
}

#[test]
fn norms() {
    check("layer_norm", 2, &[3, 5], |inputs| layer_norm(1e-5, inputs));
    check("rms_norm", 2, &[3, 5], |inputs| rms_norm(1e-5, inputs));
    check("batch_norm", 4, &[3, 2], |inputs| batch_norm(0.9, 1e-3, inputs));
}

#[test]
fn recurrent_layers() {
    check("lstm", 2, &[4, 2], |inputs| lstm(3, false, inputs));
    check("lstm_sequences", 2, &[3, 2], |inputs| lstm(2, true, inputs));
    check("gru", 2, &[4, 2], |inputs| gru(3, false, inputs));
    check("gru_sequences", 2, &[3, 2], |inputs| gru(2, true, inputs));
}

#[test]
fn attentions() {
    check("attention", 2, &[3, 4], |inputs| attention(2, false, inputs));
    check("attention_causal", 2, &[4, 2], |inputs| attention(1, true, inputs));
}
