//! Multi-head self-attention (Vaswani et al. 2017): softmax(q kᵀ / √d) v for each head, between two products with weights.
//!
//! `in_weight` [n, 3n] gives queries, keys and values side by side, each with its heads side by side, and `out_weight` [n, n]
//! takes the heads' outputs (PyTorch's matrices transposed). Threads share the heads of all rows. With `causal` a place sees itself
//! and those before it; scores are taken for a block of queries at a time against the keys that the block can see, so that of
//! the half that nobody sees only the corners along the diagonal are computed. Invariant: a row of probabilities sums to 1,
//! whatever the size of the scores: the largest is taken off first.

use super::{parts, reduce, shapes};
use crate::graph::lanes::lanes;
use crate::graph::matrix::{Matrix, Onto, multiply, multiply_scaled};
use crate::graph::operation::{Backward, Built, Forward, Initial, Operation, Parameter, Role, Shape};
use crate::real::Real;

/// Queries whose scores are taken at a time.
const BLOCK: usize = 64;

/// `[length, n]` to the same; `heads` divides n.
pub fn attention(heads: usize, causal: bool, inputs: &[Shape]) -> Result<Built, String> {
    let [length, width] = *shapes::only_with::<2>("[length, n]", inputs)?;
    shapes::positive("heads", heads)?;
    if width % heads != 0 {
        return Err(format!("{heads} heads do not divide the {width} values of a place of {:?}", inputs[0].dims));
    }
    let weight = |name, columns, initial| Parameter { name, dims: vec![width, columns], initial, role: Role::Weight };
    let bias = |name, width| Parameter { name, dims: vec![width], initial: Initial::Constant(0.0), role: Role::Weight };
    let parameters = vec![
        weight("in_weight", 3 * width, Initial::glorot(width, width)),
        bias("in_bias", 3 * width),
        weight("out_weight", width, Initial::glorot(width, width)),
        bias("out_bias", width),
    ];
    let kernel = Box::new(Attention { length, width, heads, causal });
    Ok(Built { output: inputs[0].clone(), parameters, kernel })
}

#[derive(Debug)]
struct Attention {
    length: usize,
    width: usize,
    heads: usize,
    causal: bool,
}

impl Attention {
    /// Values of a place in one head.
    fn depth(&self) -> usize {
        self.width / self.heads
    }

    fn heads_of_part(&self, rows: usize) -> usize {
        parts::rows_of_part(rows * self.heads, 2 * self.length * self.length * self.depth())
    }

    /// What scores are multiplied with.
    fn scale<T: Real>(&self) -> T {
        T::one() / T::from_f64(self.depth() as f64).sqrt()
    }

    /// The first query of each block, how many there are, and how many keys they see.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.length).step_by(BLOCK).map(|start| {
            let queries = BLOCK.min(self.length - start);
            (start, queries, if self.causal { start + queries } else { self.length })
        })
    }

    /// Queries, keys or values (0, 1, 2) of a head, numbered through the rows, from place `from` on.
    fn of_head<'a, T: Real>(
        &self,
        joined: &'a [T],
        which: usize,
        head: usize,
        from: usize,
        places: usize,
    ) -> Matrix<'a, T> {
        let start = (head / self.heads * self.length + from) * 3 * self.width;
        let column = which * self.width + head % self.heads * self.depth();
        Matrix::strided(&joined[start + column..], (places, self.depth()), 3 * self.width)
    }

    /// As [`Self::of_head`], of an array with a single value for each place and column.
    fn of_output<'a, T: Real>(&self, merged: &'a [T], head: usize, from: usize, places: usize) -> Matrix<'a, T> {
        let start = (head / self.heads * self.length + from) * self.width + head % self.heads * self.depth();
        Matrix::strided(&merged[start..], (places, self.depth()), self.width)
    }

    /// Copies what lies head by head into columns that lie side by side: of each head `count` arrays, in the order of heads
    /// within that of arrays.
    fn side_by_side<T: Real>(&self, heads: &[T], count: usize, into: &mut [T]) {
        let (depth, stride) = (self.depth(), count * self.width);
        let rows = into.len() / (self.length * stride);
        let of_part = parts::rows_of_part(rows, self.length * stride);
        parts::for_each(rows, of_part, [(into, self.length * stride)], [], |row, [into], []| {
            let arrays = heads[row * self.length * stride..][..into.len()].chunks_exact(self.length * depth);
            for (array, values) in arrays.enumerate() {
                let (head, which) = (array / count, array % count);
                let column = which * self.width + head % self.heads * depth;
                let first = head / self.heads * self.length * stride + column;
                for (place, values) in values.chunks_exact(depth).enumerate() {
                    into[first + place * stride..][..depth].copy_from_slice(values);
                }
            }
        });
    }
}

/// The order of what is kept: queries, keys and values; probabilities; outputs by head; outputs by place.
impl<T: Real> Operation<T> for Attention {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { rows, inputs, parameters, output, saved, .. } = call;
        let [in_weight, in_bias, out_weight, out_bias] = parameters else {
            unreachable!("attention has four parameters")
        };
        let (width, places, depth) = (self.width, rows * self.length, self.depth());
        let scores = self.length * self.length;
        let lens = [places * 3 * width, rows * self.heads * scores, places * width, places * width];
        let [joined, shares, by_head, merged] = parts::arrays(&mut saved.reals, T::zero(), lens);
        lay_down(in_bias, joined);
        let input = Matrix::new(inputs[0].reals(), places, width);
        multiply(joined, Onto::Add, input, Matrix::new(in_weight, width, 3 * width));
        let joined = &*joined;
        let by_row = [(shares, scores), (&mut *by_head, self.length * depth)];
        let heads = rows * self.heads;
        parts::for_each(heads, self.heads_of_part(rows), by_row, [], |first, [shares, by_head], []| {
            let heads = shares.chunks_exact_mut(scores).zip(by_head.chunks_exact_mut(self.length * depth));
            for (head, (shares, output)) in (first..).zip(heads) {
                for (start, queries, keys) in self.blocks() {
                    let shares = &mut shares[start * self.length..][..queries * self.length];
                    let query = self.of_head(joined, 0, head, start, queries);
                    let key = self.of_head(joined, 1, head, 0, keys).transposed();
                    multiply_scaled((shares, self.length), Onto::Overwrite, self.scale(), query, key, 1);
                    let seen = if self.causal { Some(start + 1) } else { None };
                    softmax(shares, self.length, keys, seen);
                    let shares = Matrix::strided(shares, (queries, keys), self.length);
                    let value = self.of_head(joined, 2, head, 0, keys);
                    let output = &mut output[start * depth..][..queries * depth];
                    multiply_scaled((output, depth), Onto::Overwrite, T::one(), shares, value, 1);
                }
            }
        });
        self.side_by_side(by_head, 1, merged);
        lay_down(out_bias, output);
        multiply(output, Onto::Add, Matrix::new(merged, places, width), Matrix::new(out_weight, width, width));
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward { rows, inputs, parameters, saved, gradient, input_gradients, parameter_gradients, .. } = call;
        let [in_gradient, in_bias_gradient, out_gradient, out_bias_gradient] = parameter_gradients else {
            unreachable!("attention has four parameters")
        };
        let (width, places, depth) = (self.width, rows * self.length, self.depth());
        let scores = self.length * self.length;
        let heads = rows * self.heads;
        let of_part = self.heads_of_part(rows);
        let blocks = parts::count(heads, of_part) * BLOCK * self.length;
        let lens =
            [places * 3 * width, heads * scores, places * width, places * width, places * 3 * width, blocks, 3 * width];
        let [joined, shares, of_merged, merged, of_heads, of_shares, block] =
            parts::arrays(&mut saved.reals, T::zero(), lens);

        let of_output = Matrix::new(gradient, places, width);
        let merged = Matrix::new(merged, places, width);
        multiply(out_gradient.whole(), Onto::Overwrite, merged.transposed(), of_output);
        let out_bias_gradient = out_bias_gradient.whole();
        out_bias_gradient.fill(T::zero());
        parts::add_rows(gradient, out_bias_gradient, &mut block[..width]);
        let out_weight = Matrix::new(parameters[2], width, width).transposed();
        multiply(of_merged, Onto::Overwrite, of_output, out_weight);

        let (all, of_merged, kept) = (&*joined, &*of_merged, &*shares);
        let by_row = [(&mut *of_heads, 3 * self.length * depth)];
        let by_part = [(of_shares, BLOCK * self.length)];
        parts::for_each(heads, of_part, by_row, by_part, |first, [of_heads], [of_shares]| {
            for (head, of_head) in (first..).zip(of_heads.chunks_exact_mut(3 * self.length * depth)) {
                let (of_query, rest) = of_head.split_at_mut(self.length * depth);
                let (of_key, of_value) = rest.split_at_mut(self.length * depth);
                of_key.fill(T::zero());
                of_value.fill(T::zero());
                for (start, queries, keys) in self.blocks() {
                    let kept = &kept[head * scores + start * self.length..][..queries * self.length];
                    let shares = Matrix::strided(kept, (queries, keys), self.length);
                    let of_output = self.of_output(of_merged, head, start, queries);
                    multiply_scaled((of_value, depth), Onto::Add, T::one(), shares.transposed(), of_output, 1);
                    let of_scores = &mut of_shares[..queries * self.length];
                    let value = self.of_head(all, 2, head, 0, keys).transposed();
                    multiply_scaled((of_scores, self.length), Onto::Overwrite, T::one(), of_output, value, 1);
                    let seen = if self.causal { Some(start + 1) } else { None };
                    softmax_gradient(kept, of_scores, self.length, keys, seen);
                    let of_scores = Matrix::strided(of_scores, (queries, keys), self.length);
                    let of_query = &mut of_query[start * depth..][..queries * depth];
                    let key = self.of_head(all, 1, head, 0, keys);
                    multiply_scaled((of_query, depth), Onto::Overwrite, self.scale(), of_scores, key, 1);
                    let query = self.of_head(all, 0, head, start, queries);
                    multiply_scaled((of_key, depth), Onto::Add, self.scale(), of_scores.transposed(), query, 1);
                }
            }
        });
        // By head there are queries, keys and values; side by side there are all queries, then all keys, then all values.
        let of_joined = joined;
        self.side_by_side(of_heads, 3, of_joined);
        let input = Matrix::new(inputs[0].reals(), places, width);
        let of_all = Matrix::new(of_joined, places, 3 * width);
        multiply(in_gradient.whole(), Onto::Overwrite, input.transposed(), of_all);
        let in_bias_gradient = in_bias_gradient.whole();
        in_bias_gradient.fill(T::zero());
        parts::add_rows(of_joined, in_bias_gradient, block);
        if let Some(of_input) = &mut input_gradients[0] {
            multiply(of_input, Onto::Overwrite, of_all, Matrix::new(parameters[0], width, 3 * width).transposed());
        }
    }
}

/// All rows become `bias`.
fn lay_down<T: Real>(bias: &[T], rows: &mut [T]) {
    rows.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
}

lanes! {
    /// Turns the first `keys` scores of each row of `length` into probabilities. Of those the first row sees `seen`, and each
    /// one more than the row before it; or all see all.
    fn softmax<T: Real>(scores: &mut [T], length: usize, keys: usize, seen: Option<usize>) {
        for (row, scores) in scores.chunks_exact_mut(length).enumerate() {
            let (scores, hidden) = scores[..keys].split_at_mut(seen.map_or(keys, |seen| seen + row));
            hidden.fill(T::zero());
            let largest = reduce::largest(scores);
            for score in scores.iter_mut() {
                *score = (*score - largest).exp();
            }
            let share = T::one() / reduce::sum(scores, |x| x);
            for score in scores {
                *score *= share;
            }
        }
    }

    /// Turns the gradients of probabilities into those of scores: p · (g - sum(p · g)).
    fn softmax_gradient<T: Real>(shares: &[T], gradients: &mut [T], length: usize, keys: usize, seen: Option<usize>) {
        let rows = shares.chunks_exact(length).zip(gradients.chunks_exact_mut(length));
        for (row, (shares, gradients)) in rows.enumerate() {
            let sees = seen.map_or(keys, |seen| seen + row);
            let (gradients, hidden) = gradients[..keys].split_at_mut(sees);
            hidden.fill(T::zero());
            let shares = &shares[..sees];
            let mean = reduce::sum_of_two(shares, gradients, |p, g| p * g);
            for (gradient, share) in gradients.iter_mut().zip(shares) {
                *gradient = *share * (*gradient - mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::{Case, check};
    use crate::graph::operation::{Pass, Saved};

    #[test]
    fn gradients() {
        for (length, heads, causal) in [(3, 2, false), (4, 1, true), (1, 2, true)] {
            let inputs = [Shape::reals(&[length, 4])];
            check(&attention(heads, causal, &inputs).unwrap(), &inputs);
        }
    }

    fn outputs(causal: bool, change: impl Fn(usize) -> f64) -> Vec<f64> {
        let inputs = [Shape::reals(&[BLOCK + 9, 2])];
        let built = attention(1, causal, &inputs).unwrap();
        let mut case = Case::new(&built, &inputs, 1);
        case.inputs[0].iter_mut().enumerate().for_each(|(at, value)| *value += change(at / 2));
        case.forward(Pass::Inference, &case.inputs, &case.parameters, &mut Saved::default())
    }

    /// Across the border of a block too.
    #[test]
    fn no_place_sees_what_comes_after_it() {
        let as_it_is = outputs(true, |_| 0.0);
        for from in [1, BLOCK - 1, BLOCK, BLOCK + 3] {
            let changed = outputs(true, |place| if place >= from { 1.0 } else { 0.0 });
            assert_eq!(as_it_is[..2 * from], changed[..2 * from]);
            assert_ne!(as_it_is[2 * from..], changed[2 * from..]);
        }
        let last = outputs(false, |place| if place > BLOCK { 1.0 } else { 0.0 });
        assert_ne!(outputs(false, |_| 0.0)[..2], last[..2], "without a mask the first place sees the last");
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut scores = [1e4f32, 9.8e3, -1e4];
        softmax(&mut scores, 3, 3, None);
        assert_eq!(scores, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |heads, dims: &[usize]| attention(heads, false, &[Shape::reals(dims)]).unwrap_err();
        assert_eq!(of(3, &[5, 4]), "3 heads do not divide the 4 values of a place of [5, 4]");
        assert_eq!(of(0, &[5, 4]), "heads must be at least 1");
        assert_eq!(of(2, &[4]), "it reads [length, n], not [4]");
    }
}
