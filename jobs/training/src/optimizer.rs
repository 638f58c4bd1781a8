//! Optimizers as one pass over flat arrays, with all of their state in the open so that it can be saved.
//!
//! Invariant: an update depends on the settings, the step number, the moments, the weights and the gradients, and on nothing
//! else; it is the same bits for any number of threads. The formulas are those of PyTorch (decoupled weight decay; momentum
//! without dampening).

use jobs::train;
use rayon::prelude::*;
use std::ops::Range;

/// From this many values on the work is shared among threads; below it waking them costs more than it saves.
const PARALLEL_FROM: usize = 1 << 16;
const CHUNK: usize = 1 << 14;

#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    settings: train::Optimizer,
    /// Steps taken.
    step: u64,
    /// Momentum of SGD, first moment of AdamW.
    first: Vec<f32>,
    /// Second moment of AdamW; empty for SGD.
    second: Vec<f32>,
}

impl Optimizer {
    pub fn new(settings: train::Optimizer, len: usize) -> Self {
        let second = match settings {
            train::Optimizer::Sgd { .. } => 0,
            _ => len,
        };
        Self { settings, step: 0, first: vec![0.0; len], second: vec![0.0; second] }
    }

    /// The arrays that must be saved, by name, each of one value per weight.
    pub fn moments(&self) -> Vec<(&'static str, &[f32])> {
        moment_names(&self.settings).iter().copied().zip([&self.first[..], &self.second[..]]).collect()
    }

    pub fn step(&self) -> u64 {
        self.step
    }

    /// Takes back what [`Self::moments`] and [`Self::step`] gave.
    pub fn restore(&mut self, step: u64, moments: Vec<Vec<f32>>) {
        let names = moment_names(&self.settings);
        assert_eq!(moments.len(), names.len(), "one array for each of {names:?}");
        self.step = step;
        for (own, saved) in [&mut self.first, &mut self.second].into_iter().zip(moments) {
            assert_eq!(own.len(), saved.len(), "one moment per weight");
            *own = saved;
        }
    }

    /// Opens the next step; [`Self::update`] is then called once for each parameter.
    pub fn begin_step(&mut self) {
        self.step += 1;
    }

    /// Moves the weights in `range` against their gradients.
    pub fn update(&mut self, range: Range<usize>, weights: &mut [f32], gradients: &[f32]) {
        assert!(weights.len() == range.len() && gradients.len() == range.len(), "one gradient per weight");
        let first = &mut self.first[range.clone()];
        match self.settings {
            train::Optimizer::Sgd { learning_rate, momentum, .. } => {
                let (rate, momentum) = (learning_rate as f32, momentum as f32);
                let one = |weights: &mut [f32], first: &mut [f32], gradients: &[f32]| {
                    for ((weight, moment), gradient) in weights.iter_mut().zip(first).zip(gradients) {
                        *moment = momentum * *moment + gradient;
                        *weight -= rate * *moment;
                    }
                };
                if weights.len() < PARALLEL_FROM {
                    return one(weights, first, gradients);
                }
                let chunks = weights.par_chunks_mut(CHUNK).zip(first.par_chunks_mut(CHUNK));
                chunks.zip(gradients.par_chunks(CHUNK)).for_each(|((w, m), g)| one(w, m, g));
            }
            train::Optimizer::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => {
                let second = &mut self.second[range];
                let steps = i32::try_from(self.step).unwrap_or(i32::MAX);
                // Corrections for moments that start at zero, in f64: 1 - beta^t loses digits in f32.
                let rate = (learning_rate / (1.0 - beta1.powi(steps))) as f32;
                let root = ((1.0 - beta2.powi(steps)).sqrt().recip()) as f32;
                let keep = (1.0 - learning_rate * weight_decay) as f32;
                let (beta1, rest1) = (beta1 as f32, (1.0 - beta1) as f32);
                let (beta2, rest2) = (beta2 as f32, (1.0 - beta2) as f32);
                let epsilon = epsilon as f32;
                let one = |weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradients: &[f32]| {
                    let moments = first.iter_mut().zip(second);
                    for ((weight, (m, v)), gradient) in weights.iter_mut().zip(moments).zip(gradients) {
                        *m = beta1 * *m + rest1 * gradient;
                        *v = beta2 * *v + rest2 * gradient * gradient;
                        *weight = keep * *weight - rate * *m / (v.sqrt() * root + epsilon);
                    }
                };
                if weights.len() < PARALLEL_FROM {
                    return one(weights, first, second, gradients);
                }
                let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
                let chunks = weights.par_chunks_mut(CHUNK).zip(moments).zip(gradients.par_chunks(CHUNK));
                chunks.for_each(|((w, (m, v)), g)| one(w, m, v, g));
            }
            _ => panic!("not there yet"),
        }
    }
}

/// Names of the arrays that this optimizer keeps beside the weights.
pub fn moment_names(settings: &train::Optimizer) -> &'static [&'static str] {
    match settings {
        train::Optimizer::Sgd { .. } => &["momentum"],
        _ => &["first_moment", "second_moment"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAMW: train::Optimizer =
        train::Optimizer::AdamW { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };

    fn check(settings: train::Optimizer, expect: [[f32; 3]; 2]) {
        let mut optimizer = Optimizer::new(settings, 3);
        let mut weights = [0.5f32, -1.25, 2.0];
        for (gradients, expect) in [[0.1f32, -0.3, 2.0], [-0.2, 0.05, 1.0]].iter().zip(expect) {
            optimizer.begin_step();
            optimizer.update(0..3, &mut weights, gradients);
            for (got, expect) in weights.iter().zip(expect) {
                assert!((got - expect).abs() <= 3e-7 * expect.abs().max(1.0), "{got}, expected {expect}");
            }
        }
    }

    /// The numbers of PyTorch's `torch.optim.SGD(lr=0.1, momentum=0.9)` for these two gradients; by hand:
    /// 0.5 - 0.1*0.1 = 0.49, then 0.49 - 0.1*(0.9*0.1 - 0.2) = 0.501.
    #[test]
    fn sgd_with_momentum() {
        let settings = train::Optimizer::Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: false };
        check(settings, [[0.49, -1.22, 1.8], [0.501, -1.198, 1.52]]);
    }

    /// Two steps of the formula in `torch.optim.AdamW`'s documentation, computed in double precision by:
    ///
    /// ```python
    /// import math
    /// lr, b1, b2, eps, wd = 0.01, 0.9, 0.999, 1e-8, 0.1
    /// w, m, v = [0.5, -1.25, 2.0], [0.0] * 3, [0.0] * 3
    /// for t, grads in enumerate([[0.1, -0.3, 2.0], [-0.2, 0.05, 1.0]], 1):
    ///     for i, g in enumerate(grads):
    ///         w[i] -= lr * wd * w[i]
    ///         m[i] = b1 * m[i] + (1 - b1) * g
    ///         v[i] = b2 * v[i] + (1 - b2) * g * g
    ///         w[i] -= lr / (1 - b1**t) * m[i] / (math.sqrt(v[i]) / math.sqrt(1 - b2**t) + eps)
    ///     print([round(x, 9) for x in w])
    /// ```
    #[test]
    fn adamw() {
        check(ADAMW, [[0.4895, -1.23875, 1.988], [0.4926715, -1.2321259, 1.9766902]]);
    }

    /// A saved and restored optimizer goes on with the same bits, whether or not threads share the work.
    #[test]
    fn restored_state_continues_bit_for_bit() {
        let len = PARALLEL_FROM + 77;
        let gradients: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let step = |optimizer: &mut Optimizer, weights: &mut [f32], parts: usize| {
            optimizer.begin_step();
            let size = len.div_ceil(parts);
            for start in (0..len).step_by(size) {
                let range = start..(start + size).min(len);
                optimizer.update(range.clone(), &mut weights[range.clone()], &gradients[range]);
            }
        };
        let mut whole = Optimizer::new(ADAMW, len);
        let mut whole_weights = vec![1.0; len];
        step(&mut whole, &mut whole_weights, 1);
        let mut restored = Optimizer::new(ADAMW, len);
        restored.restore(whole.step(), whole.moments().into_iter().map(|(_, values)| values.to_vec()).collect());
        let mut restored_weights = whole_weights.clone();
        step(&mut whole, &mut whole_weights, 1);
        step(&mut restored, &mut restored_weights, 3);
        assert_eq!(whole, restored);
        assert_eq!(whole_weights, restored_weights);
    }
}
