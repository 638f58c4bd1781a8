//! Layers that do not change the shape and have no parameters: an activation by itself, and dropout.

use crate::graph::activate;
use crate::graph::operation::{Backward, Built, Forward, Kernel, Kind, Operation, Pass, Place, Shape};
use crate::graph::parallel::{over_rows, over_rows_of_two};
use crate::random::{self, Purpose};
use crate::real::Real;
use jobs::train::Activation;
use rand_chacha::rand_core::RngCore;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Debug)]
struct Activate(Activation);

pub fn activation(function: Activation, inputs: &[Shape]) -> Result<Built, String> {
    built(Box::new(Activate(function)), inputs)
}

fn built(kernel: Box<dyn Kernel>, inputs: &[Shape]) -> Result<Built, String> {
    match inputs {
        [input] if input.kind == Kind::Reals => Ok(Built { output: input.clone(), parameters: Vec::new(), kernel }),
        [_] => Err("it reads numbers, not ids; put an embedding before it".to_string()),
        inputs => Err(format!("it reads one input, not {}", inputs.len())),
    }
}

impl<T: Real> Operation<T> for Activate {
    fn forward(&self, call: Forward<'_, T>) {
        let input = call.inputs[0].reals();
        over_rows(call.output, 1, |first, part| {
            let len = part.len();
            activate::apply(self.0, &input[first..first + len], part);
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let (input, output, gradient) = (call.inputs[0].reals(), call.output, &*call.gradient);
        if let Some(of_input) = &mut call.input_gradients[0] {
            over_rows(of_input, 1, |first, part| {
                let at = first..first + part.len();
                part.copy_from_slice(&gradient[at.clone()]);
                activate::slope(self.0, &input[at.clone()], &output[at], part);
            });
        }
    }
}

/// Sets a share of the values to zero and enlarges the others so that the mean stays.
#[derive(Debug)]
struct Dropout {
    rate: f64,
    /// Of the node's name: which numbers it draws.
    index: u64,
}

pub fn dropout(name: &str, rate: f64, inputs: &[Shape]) -> Result<Built, String> {
    if !(0.0..1.0).contains(&rate) {
        return Err(format!("its rate is {rate}; it must be at least 0 and below 1"));
    }
    built(Box::new(Dropout { rate, index: xxh3_64(name.as_bytes()) }), inputs)
}

impl Dropout {
    /// A number for each value of each row of the global batch decides whether it stays.
    fn mask<T: Real>(&self, place: Place, width: usize, mask: &mut [T]) {
        let dropped_below = (self.rate * (1u64 << 32) as f64) as u64;
        let (dropped, kept) = (T::zero(), T::from_f64(1.0 / (1.0 - self.rate)));
        over_rows(mask, width, |first, part| {
            let mut rng = random::stream(place.seed, Purpose::Dropout, self.index, place.step);
            rng.set_word_pos((place.first_row + first) as u128 * width as u128);
            for value in part {
                *value = if u64::from(rng.next_u32()) < dropped_below { dropped } else { kept };
            }
        });
    }
}

fn product<T: Real>(left: &[T], right: &[T], product: &mut [T]) {
    for ((product, left), right) in product.iter_mut().zip(left).zip(right) {
        *product = *left * *right;
    }
}

impl<T: Real> Operation<T> for Dropout {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { pass, rows, inputs, output, saved, .. } = call;
        let input = inputs[0].reals();
        match pass {
            Pass::Training(place) if self.rate > 0.0 => {
                let mask = saved.array(0, output.len());
                self.mask(place, output.len() / rows.max(1), mask);
                over_rows_of_two((output, 1), (mask, 1), |first, output, mask| {
                    product(&input[first..first + output.len()], mask, output);
                });
            }
            _ => output.copy_from_slice(input),
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward { saved, gradient, input_gradients, .. } = call;
        if let Some(of_input) = &mut input_gradients[0] {
            match saved.reals.first() {
                Some(mask) if self.rate > 0.0 => product(gradient, mask, of_input),
                _ => of_input.copy_from_slice(gradient),
            }
        }
    }
}
