//! Against PyTorch's and TensorFlow's numbers (`tests/peers/optimizers.py` prints them), tables against whole arrays, and
//! restored state against undisturbed.

use super::*;
use jobs::train::Optimizer::{Adagrad, Adam, AdamW, Ftrl, RmsProp, Sgd};

const ADAMW: train::Optimizer =
    AdamW { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };

/// Parameters one after the other: of whole ones and tables with their width.
fn slots(parts: &[(usize, Option<usize>)]) -> Vec<Slot> {
    let (mut end, mut whole, mut tables) = (0, 0, 0);
    let one = |(len, width): &(usize, Option<usize>)| {
        let range = end..end + len;
        end += len;
        let (role, dims, gradient) = match width {
            None => {
                whole += len;
                (Role::Weight, vec![*len], SlotPlace::Whole(whole - len..whole))
            }
            Some(width) => {
                tables += 1;
                (Role::Table, vec![len / width, *width], SlotPlace::Rows(tables - 1))
            }
        };
        Slot { name: format!("p{:03}", range.start), dims, role, range, gradient }
    };
    parts.iter().map(one).collect()
}

fn run(settings: &train::Optimizer, clip: Clip, steps: usize) -> Vec<[f32; 3]> {
    let slots = slots(&[(3, None)]);
    let mut optimizer = Optimizer::new(settings.clone(), clip, 3);
    let mut weights = [0.5f32, -1.25, 2.0];
    let mut after = Vec::new();
    for mut gradients in [[0.1f32, -0.3, 2.0], [-0.2, 0.05, 1.0]].into_iter().take(steps) {
        let gradients = Gradients { whole: &mut gradients, tables: &mut [] };
        optimizer.update(1.0, &slots, &mut weights, &gradients);
        after.push(weights);
    }
    after
}

fn check(settings: &train::Optimizer, clip: Clip, expect: [[f64; 3]; 2]) {
    for (got, expect) in run(settings, clip, 2).iter().flatten().zip(expect.iter().flatten()) {
        let close = (f64::from(*got) - expect).abs() <= 3e-7 * expect.abs().max(1.0);
        assert!(close, "{settings:?} {clip:?}: {got}, expected {expect}");
    }
}

const SGD: train::Optimizer = Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false };

fn momentum(nesterov: bool) -> train::Optimizer {
    Sgd { learning_rate: 0.1, momentum: 0.9, nesterov }
}

fn rms_prop(momentum: f64) -> train::Optimizer {
    RmsProp { learning_rate: 0.01, decay: 0.9, momentum, epsilon: 1e-8 }
}

fn adam(lazy: bool) -> train::Optimizer {
    Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, lazy }
}

const ADAGRAD: train::Optimizer = Adagrad { learning_rate: 0.1, epsilon: 1e-10 };
const FTRL: train::Optimizer = Ftrl { learning_rate: 0.1, power: -0.5, l1: 0.01, l2: 0.02, initial: 0.1 };

#[test]
fn two_steps_are_those_of_the_references() {
    check(&SGD, Clip::None, [[0.49, -1.22, 1.8], [0.51, -1.225, 1.7]]);
    check(&momentum(false), Clip::None, [[0.49, -1.22, 1.8], [0.501, -1.198, 1.52]]);
    check(&momentum(true), Clip::None, [[0.481, -1.193, 1.62], [0.51090002, -1.1782, 1.268]]);
    check(&ADAGRAD, Clip::None, [[0.4, -1.15, 1.9], [0.489442706, -1.16643989, 1.85527861]]);
    check(&rms_prop(0.0), Clip::None, [[0.468377233, -1.21837723, 1.96837723], [0.496948659, -1.22384894, 1.95363307]]);
    check(&rms_prop(0.9), Clip::None, [[0.468377233, -1.21837723, 1.96837723], [0.468488157, -1.19538844, 1.92517257]]);
    check(&adam(false), Clip::None, [[0.49, -1.24, 1.99], [0.493661046, -1.23461461, 1.9806782]]);
    check(&adam(true), Clip::None, [[0.49, -1.24, 1.99], [0.493661046, -1.23461461, 1.9806782]]);
    check(&ADAMW, Clip::None, [[0.4895, -1.23875, 1.988], [0.4926715, -1.2321259, 1.9766902]]);
    check(&FTRL, Clip::None, [[-0.00382122987, -0.269562138, 1.58525405], [0.042179477, -0.280855238, 1.5410516]]);
    let power = Ftrl { learning_rate: 0.1, power: -0.3, l1: 0.5, l2: 0.0, initial: 0.1 };
    check(&power, Clip::None, [[0.0, -0.0872769657, 1.17983912], [0.0, -0.0954736986, 1.11850122]]);
    let norm = Clip::Norm { limit: 1.5 };
    check(&SGD, norm, [[0.492592037, -1.22777605, 1.85184062], [0.512592018, -1.23277605, 1.75184059]]);
    let value = Clip::Value { limit: 0.25 };
    check(&SGD, value, [[0.49, -1.225, 1.975], [0.51, -1.23, 1.95]]);
}

const ROWS: usize = 9_001;
const WIDTH: usize = 3;

/// Two steps over a whole array, a table and another whole array, with gradients for every seventh row of the table.
fn two_steps(settings: &train::Optimizer, as_table: bool) -> (Vec<f32>, Optimizer) {
    let (before, after) = (70_000, 5);
    let len = ROWS * WIDTH;
    let slots = slots(&[(before, None), (len, as_table.then_some(WIDTH)), (after, None)]);
    let mut weights: Vec<f32> = (0..before + len + after).map(|i| (i * 29 % 83) as f32 / 40.0 - 1.0).collect();
    let mut optimizer = Optimizer::new(settings.clone(), Clip::Norm { limit: 40.0 }, weights.len());
    for step in 0..2 {
        let gradient = |i: usize| ((i * 37 + step * 11) % 101) as f32 / 50.0 - 1.0;
        // Not in rising order.
        let rows: Vec<u32> = (0..ROWS as u32).rev().filter(|row| (row + step as u32).is_multiple_of(7)).collect();
        let values: Vec<f32> = rows
            .iter()
            .flat_map(|row| (0..WIDTH).map(move |column| gradient(*row as usize * WIDTH + column)))
            .collect();
        let mut whole: Vec<f32> = (0..before).map(gradient).collect();
        if !as_table {
            let start = whole.len();
            whole.resize(start + len, 0.0);
            for (row, values) in rows.iter().zip(values.chunks(WIDTH)) {
                whole[start + *row as usize * WIDTH..][..WIDTH].copy_from_slice(values);
            }
        }
        whole.extend((0..after).map(gradient));
        let mut tables = if as_table { vec![RowGradients { rows, values }] } else { Vec::new() };
        optimizer.update(0.5, &slots, &mut weights, &Gradients { whole: &mut whole, tables: &mut tables });
    }
    (weights, optimizer)
}

fn on_threads<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(body)
}

#[test]
fn a_table_moves_as_a_whole_array_would() {
    for settings in [momentum(false), momentum(true), rms_prop(0.0), rms_prop(0.9), adam(false), ADAMW] {
        let expect = on_threads(1, || two_steps(&settings, false));
        for threads in [1, 2, 3] {
            let (weights, optimizer) = on_threads(threads, || two_steps(&settings, true));
            // The norm is summed in another order.
            let close = weights.iter().zip(&expect.0).all(|(got, expect)| (got - expect).abs() < 1e-6);
            assert!(close, "{settings:?} on {threads} threads");
            assert_eq!(optimizer.moments().len(), expect.1.moments().len());
        }
    }
}

#[test]
fn rows_without_gradients_stay_where_the_formula_lets_them() {
    for settings in [SGD, ADAGRAD, FTRL, adam(true)] {
        let (got, _) = on_threads(2, || two_steps(&settings, true));
        let (expect, _) = on_threads(1, || two_steps(&settings, true));
        assert!(got == expect, "{settings:?}: bits do not depend on threads");
        let table = got[70_000..].chunks(WIDTH).take(ROWS);
        for (row, values) in table.enumerate() {
            let first = |column: usize| ((70_000 + row * WIDTH + column) * 29 % 83) as f32 / 40.0 - 1.0;
            let stayed = values.iter().enumerate().all(|(column, value)| *value == first(column));
            let named = row.is_multiple_of(7) || (row + 1).is_multiple_of(7);
            assert_eq!(stayed, !named, "{settings:?} row {row}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for settings in [SGD, momentum(true), ADAGRAD, rms_prop(0.9), adam(false), FTRL] {
        let (expect, _) = on_threads(1, || two_steps(&settings, false));
        let (got, _) = on_threads(3, || two_steps(&settings, false));
        assert!(got == expect, "{settings:?}");
    }
}

/// A saved and restored optimizer goes on with the same bits.
#[test]
fn restored_state_continues_bit_for_bit() {
    for settings in [momentum(false), ADAMW, ADAGRAD, rms_prop(0.9), FTRL] {
        let slots = slots(&[(77, None)]);
        let mut gradients: Vec<f32> = (0..77).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let mut step = |optimizer: &mut Optimizer, weights: &mut [f32]| {
            let gradients = Gradients { whole: &mut gradients, tables: &mut [] };
            optimizer.update(1.0, &slots, weights, &gradients);
        };
        let mut whole = Optimizer::new(settings.clone(), Clip::None, 77);
        let mut whole_weights = vec![1.0; 77];
        step(&mut whole, &mut whole_weights);
        let mut restored = Optimizer::new(settings, Clip::None, 77);
        restored.restore(whole.step(), whole.moments().into_iter().map(|(_, values)| values.to_vec()).collect());
        let mut restored_weights = whole_weights.clone();
        step(&mut whole, &mut whole_weights);
        step(&mut restored, &mut restored_weights);
        assert_eq!(whole.state, restored.state);
        assert_eq!(whole_weights, restored_weights);
    }
}

#[test]
fn statistics_follow_what_batches_say() {
    let mut slots = slots(&[(1, None), (2, None), (1, None)]);
    slots[1].role = Role::Statistic { momentum: 0.9 };
    let mut optimizer = Optimizer::new(SGD, Clip::Norm { limit: 1.0 }, 4);
    let mut weights = [1.0f32, 1.0, 2.0, 1.0];
    let gradients = Gradients { whole: &mut [0.5, 3.0, 400.0, 0.25], tables: &mut [] };
    optimizer.update(1.0, &slots, &mut weights, &gradients);
    let expect = [0.95, 1.2, 41.8, 0.975];
    assert!(weights.iter().zip(expect).all(|(got, expect)| (got - expect).abs() < 1e-6), "{weights:?}");
}
