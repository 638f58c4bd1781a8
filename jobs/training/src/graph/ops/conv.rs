//! Convolutions over one and two dimensions, channels last, with the activation taken while the values are near.
//!
//! Each image is laid out as a matrix with a row for each window (Chellapilla et al. 2006, "im2col"), a few images at a time
//! so that the matrix stays in the cache, and multiplied with the weights, whose gradient is the product of the same matrix
//! with that of the output. The matrix is laid out anew in the backward pass: that costs less than reading it from memory.
//! Invariant: each thread sums its images' gradients in their order; the sums of the threads are added in theirs.

use super::{parts, shapes, windows::Axis};
use crate::graph::activate;
use crate::graph::lanes::lanes;
use crate::graph::matrix::{Matrix, Onto, multiply_scaled};
use crate::graph::operation::{Backward, Built, Forward, Initial, Operation, Parameter, Role, Shape};
use crate::real::Real;
use jobs::train::{Activation, Padding};

/// Values of the matrix that is laid out at a time, if one image has no more: half of a usual second-level cache in f32.
const BLOCK: usize = 1 << 17;

/// `[height, width, channels]` to `[height', width', filters]`; `weight` is `[kernel, kernel, channels, filters]`.
pub fn conv2d(
    filters: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    activation: Activation,
    inputs: &[Shape],
) -> Result<Built, String> {
    let [height, width, channels] = *shapes::only_with::<3>("[height, width, channels]", inputs)?;
    let y = Axis::new("height", height, kernel[0], stride[0], padding)?;
    let x = Axis::new("width", width, kernel[1], stride[1], padding)?;
    let dims = [y.windows, x.windows, filters];
    convolution(Conv { y, x, channels, filters, activation }, &dims, &[kernel[0], kernel[1], channels, filters])
}

/// `[length, channels]` to `[length', filters]`; `weight` is `[kernel, channels, filters]`.
pub fn conv1d(
    filters: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
    activation: Activation,
    inputs: &[Shape],
) -> Result<Built, String> {
    let [length, channels] = *shapes::only_with::<2>("[length, channels]", inputs)?;
    let x = Axis::new("length", length, kernel, stride, padding)?;
    let conv = Conv { y: Axis::point(), x, channels, filters, activation };
    convolution(conv, &[x.windows, filters], &[kernel, channels, filters])
}

fn convolution(conv: Conv, output: &[usize], weight: &[usize]) -> Result<Built, String> {
    shapes::positive("filters", conv.filters)?;
    let area = conv.y.window * conv.x.window;
    let initial = Initial::before(conv.activation, area * conv.channels, area * conv.filters);
    let parameters = vec![
        Parameter { name: "weight", dims: weight.to_vec(), initial, role: Role::Weight },
        Parameter { name: "bias", dims: vec![conv.filters], initial: Initial::Constant(0.0), role: Role::Weight },
    ];
    Ok(Built { output: Shape::reals(output), parameters, kernel: Box::new(conv) })
}

#[derive(Debug)]
struct Conv {
    y: Axis,
    x: Axis,
    channels: usize,
    filters: usize,
    activation: Activation,
}

impl Conv {
    /// Values of an image.
    fn input(&self) -> usize {
        self.y.len * self.x.len * self.channels
    }

    fn output(&self) -> usize {
        self.places() * self.filters
    }

    /// Windows of an image.
    fn places(&self) -> usize {
        self.y.windows * self.x.windows
    }

    /// Values of a window.
    fn window(&self) -> usize {
        self.y.window * self.x.window * self.channels
    }

    /// An image is its own matrix.
    fn is_plain(&self) -> bool {
        self.y.window * self.x.window * self.y.stride * self.x.stride == 1
    }

    fn images_of_block(&self) -> usize {
        (BLOCK / (self.places() * self.window())).max(1)
    }

    fn images_of_part(&self, rows: usize) -> usize {
        parts::rows_of_part(rows, self.output() * self.window())
    }

    /// Room for a block's matrix.
    fn matrix(&self, images_of_part: usize) -> usize {
        self.images_of_block().min(images_of_part) * self.places() * self.window()
    }
}

impl<T: Real> Operation<T> for Conv {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { rows, inputs, parameters, output, saved, .. } = call;
        let [weight, bias] = parameters else { unreachable!("a convolution has two parameters") };
        let weight = Matrix::new(weight, self.window(), self.filters);
        let input = inputs[0].reals();
        let of_part = self.images_of_part(rows);
        let parts = parts::count(rows, of_part);
        // A part of the only part may still be worth a thread.
        let threads = if parts > 1 { 1 } else { rayon::current_num_threads() };
        let keeps = if activate::needs_input(self.activation) { self.output() } else { 0 };
        let scratch = if self.is_plain() { 0 } else { self.matrix(of_part) };
        let [before, matrices] = parts::arrays(&mut saved.reals, T::zero(), [rows * keeps, parts * scratch]);
        let by_row = [(output, self.output()), (before, keeps)];
        parts::for_each(rows, of_part, by_row, [(matrices, scratch)], |first, [output, before], [matrix]| {
            let images = self.images_of_block();
            let inputs = input[first * self.input()..].chunks(images * self.input());
            for (block, (output, input)) in output.chunks_mut(images * self.output()).zip(inputs).enumerate() {
                let places = output.len() / self.filters;
                let input = &input[..places / self.places() * self.input()];
                for place in output.chunks_exact_mut(self.filters) {
                    place.copy_from_slice(bias);
                }
                let matrix = self.lay_out(input, matrix);
                let left = Matrix::new(matrix, places, self.window());
                multiply_scaled((output, self.filters), Onto::Add, T::one(), left, weight, threads);
                if keeps > 0 {
                    before[block * images * self.output()..][..output.len()].copy_from_slice(output);
                }
                activate::apply_in_place(self.activation, output);
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward {
            rows, inputs, parameters, output, saved, gradient, input_gradients, parameter_gradients, ..
        } = call;
        let weight = Matrix::new(parameters[0], self.window(), self.filters);
        let input = inputs[0].reals();
        let of_part = self.images_of_part(rows);
        let parts = parts::count(rows, of_part);
        let threads = if parts > 1 { 1 } else { rayon::current_num_threads() };
        let keeps = if activate::needs_input(self.activation) { self.output() } else { 0 };
        let asked = input_gradients[0].is_some();
        let scratch = if self.is_plain() { 0 } else { self.matrix(of_part) };
        let weights = self.window() * self.filters;
        let lens = [rows * keeps, parts * scratch, parts * weights, parts * self.filters, parts * self.filters];
        let [before, matrices, of_weight, of_bias, of_block] = parts::arrays(&mut saved.reals, T::zero(), lens);
        let before = &*before;
        let of_input = input_gradients[0].as_deref_mut().unwrap_or_default();
        let by_row = [(gradient, self.output()), (of_input, if asked { self.input() } else { 0 })];
        let by_part =
            [(matrices, scratch), (&mut *of_weight, weights), (&mut *of_bias, self.filters), (of_block, self.filters)];
        parts::for_each(rows, of_part, by_row, by_part, |first, [gradient, of_input], scratch| {
            let [matrix, of_weight, of_bias, of_block] = scratch;
            of_weight.fill(T::zero());
            of_bias.fill(T::zero());
            let images = self.images_of_block();
            for (block, gradient) in gradient.chunks_mut(images * self.output()).enumerate() {
                let image = first + block * images;
                let places = gradient.len() / self.filters;
                let count = places / self.places();
                let kept = if keeps > 0 { &before[image * keeps..][..gradient.len()] } else { before };
                activate::slope(self.activation, kept, &output[image * self.output()..][..gradient.len()], gradient);
                parts::add_rows(gradient, of_bias, of_block);
                let of_output = Matrix::new(gradient, places, self.filters);
                let laid_out = self.lay_out(&input[image * self.input()..][..count * self.input()], matrix);
                let left = Matrix::new(laid_out, places, self.window()).transposed();
                multiply_scaled((of_weight, self.filters), Onto::Add, T::one(), left, of_output, threads);
                if !asked {
                    continue;
                }
                let of_input = &mut of_input[block * images * self.input()..][..count * self.input()];
                let len = places * self.window();
                let of_matrix = if self.is_plain() { &mut *of_input } else { &mut matrix[..len] };
                let right = weight.transposed();
                multiply_scaled((of_matrix, self.window()), Onto::Overwrite, T::one(), of_output, right, threads);
                if !self.is_plain() {
                    gather(self, &matrix[..len], of_input);
                }
            }
        });
        parts::add_up(of_weight, parameter_gradients[0].whole());
        parts::add_up(of_bias, parameter_gradients[1].whole());
    }
}

impl Conv {
    fn lay_out<'a, T: Real>(&self, images: &'a [T], matrix: &'a mut [T]) -> &'a [T] {
        if self.is_plain() {
            return images;
        }
        let matrix = &mut matrix[..images.len() / self.input() * self.places() * self.window()];
        lay_out(self, images, matrix);
        matrix
    }
}

lanes! {
    fn lay_out<T: Real>(conv: &Conv, images: &[T], matrix: &mut [T]) {
        let line = conv.x.window * conv.channels;
        let mut windows = matrix.chunks_exact_mut(conv.window());
        for image in images.chunks_exact(conv.input()) {
            for at_y in 0..conv.y.windows {
                let (from_y, within_y) = conv.y.reach(at_y);
                for at_x in 0..conv.x.windows {
                    let (from_x, within_x) = conv.x.reach(at_x);
                    let Some(window) = windows.next() else { return };
                    if within_y.len() < conv.y.window || within_x.len() < conv.x.window {
                        window.fill(T::zero());
                    }
                    for (y, within) in within_y.clone().enumerate() {
                        let from = ((from_y + y) * conv.x.len + from_x) * conv.channels;
                        let len = within_x.len() * conv.channels;
                        let to = within * line + within_x.start * conv.channels;
                        copy(&image[from..from + len], &mut window[to..to + len]);
                    }
                }
            }
        }
    }

    /// The gradient of the images from that of their matrix.
    fn gather<T: Real>(conv: &Conv, matrix: &[T], images: &mut [T]) {
        let line = conv.x.window * conv.channels;
        images.fill(T::zero());
        let mut windows = matrix.chunks_exact(conv.window());
        for image in images.chunks_exact_mut(conv.input()) {
            for at_y in 0..conv.y.windows {
                let (from_y, within_y) = conv.y.reach(at_y);
                for at_x in 0..conv.x.windows {
                    let (from_x, within_x) = conv.x.reach(at_x);
                    let Some(window) = windows.next() else { return };
                    for (y, within) in within_y.clone().enumerate() {
                        let to = ((from_y + y) * conv.x.len + from_x) * conv.channels;
                        let len = within_x.len() * conv.channels;
                        let from = within * line + within_x.start * conv.channels;
                        parts::accumulate(&window[from..from + len], &mut image[to..to + len]);
                    }
                }
            }
        }
    }
}

/// A loop, since lines are often too short for a call that copies.
#[inline(always)]
fn copy<T: Real>(from: &[T], to: &mut [T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::check;

    fn check_2d(kernel: [usize; 2], stride: [usize; 2], padding: Padding, activation: Activation, expect: [usize; 3]) {
        let inputs = [Shape::reals(&[5, 4, 2])];
        let built = conv2d(3, kernel, stride, padding, activation, &inputs).unwrap();
        assert_eq!(built.output, Shape::reals(&expect));
        check(&built, &inputs);
    }

    #[test]
    fn gradients_in_two_dimensions() {
        check_2d([3, 3], [1, 1], Padding::Valid, Activation::Linear, [3, 2, 3]);
        check_2d([3, 2], [1, 1], Padding::Same, Activation::Tanh, [5, 4, 3]);
        check_2d([2, 3], [2, 3], Padding::Same, Activation::Gelu, [3, 2, 3]);
        check_2d([1, 1], [1, 1], Padding::Valid, Activation::Sigmoid, [5, 4, 3]);
        check_2d([1, 1], [2, 2], Padding::Valid, Activation::Linear, [3, 2, 3]);
    }

    #[test]
    fn gradients_in_one_dimension() {
        let inputs = [Shape::reals(&[7, 2])];
        for (stride, padding, windows) in [(1, Padding::Valid, 5), (2, Padding::Same, 4), (4, Padding::Valid, 2)] {
            let built = conv1d(3, 3, stride, padding, Activation::Relu, &inputs).unwrap();
            assert_eq!(built.output, Shape::reals(&[windows, 3]));
            check(&built, &inputs);
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |filters, kernel, dims: &[usize]| {
            conv2d(filters, kernel, [1, 1], Padding::Valid, Activation::Linear, &[Shape::reals(dims)]).unwrap_err()
        };
        assert_eq!(of(3, [3, 3], &[8, 8]), "it reads [height, width, channels], not [8, 8]");
        assert_eq!(of(3, [3, 3], &[8, 2, 1]), "a window of 3 does not fit into a width of 2; padding same would");
        assert_eq!(of(0, [3, 3], &[8, 8, 1]), "filters must be at least 1");
        let one = conv1d(3, 3, 1, Padding::Valid, Activation::Linear, &[Shape::reals(&[8, 8, 1])]).unwrap_err();
        assert_eq!(one, "it reads [length, channels], not [8, 8, 1]");
    }
}
