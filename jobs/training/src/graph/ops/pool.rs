//! Pools over windows, or over all places: the largest value by channel, or the mean.
//!
//! What padding adds is in no window: it is never the largest and does not count for a mean (as in Keras). Of equal values the
//! first is the largest, as in PyTorch; a value that is no number is, so that it is not lost. Windows may overlap, and sizes
//! need not divide.

use super::{parts, shapes, windows::Axis};
use crate::graph::lanes::lanes;
use crate::graph::operation::{Backward, Built, Forward, Operation, Shape};
use crate::real::Real;
use jobs::train::Padding;
use rayon::prelude::*;

/// `[height, width, channels]`, or `[length, channels]` with the first of the numbers.
pub fn max_pool(size: [usize; 2], stride: [usize; 2], padding: Padding, inputs: &[Shape]) -> Result<Built, String> {
    let (pool, output) = pool(size, stride, padding, inputs)?;
    Ok(Built { output, parameters: Vec::new(), kernel: Box::new(Max(pool)) })
}

pub fn average_pool(size: [usize; 2], stride: [usize; 2], padding: Padding, inputs: &[Shape]) -> Result<Built, String> {
    let (pool, output) = pool(size, stride, padding, inputs)?;
    Ok(Built { output, parameters: Vec::new(), kernel: Box::new(Average(pool)) })
}

/// Over all places: `[..., channels]` to `[channels]`.
pub fn global_max_pool(inputs: &[Shape]) -> Result<Built, String> {
    let (pool, output) = global(inputs)?;
    Ok(Built { output, parameters: Vec::new(), kernel: Box::new(Max(pool)) })
}

pub fn global_average_pool(inputs: &[Shape]) -> Result<Built, String> {
    let (pool, output) = global(inputs)?;
    Ok(Built { output, parameters: Vec::new(), kernel: Box::new(Average(pool)) })
}

/// One window with everything in it.
fn global(inputs: &[Shape]) -> Result<(Pool, Shape), String> {
    let (places, channels) = shapes::places_and_channels(inputs)?;
    let x = Axis::new("length", places, places, 1, Padding::Valid)?;
    Ok((Pool { y: Axis::point(), x, channels }, Shape::reals(&[channels])))
}

fn pool(size: [usize; 2], stride: [usize; 2], padding: Padding, inputs: &[Shape]) -> Result<(Pool, Shape), String> {
    match *shapes::only(inputs)? {
        [height, width, channels] => {
            let y = Axis::new("height", height, size[0], stride[0], padding)?;
            let x = Axis::new("width", width, size[1], stride[1], padding)?;
            Ok((Pool { y, x, channels }, Shape::reals(&[y.windows, x.windows, channels])))
        }
        [length, channels] => {
            let x = Axis::new("length", length, size[0], stride[0], padding)?;
            Ok((Pool { y: Axis::point(), x, channels }, Shape::reals(&[x.windows, channels])))
        }
        ref dims => Err(format!("it reads [height, width, channels] or [length, channels], not {dims:?}")),
    }
}

#[derive(Debug)]
struct Pool {
    y: Axis,
    x: Axis,
    channels: usize,
}

impl Pool {
    fn input(&self) -> usize {
        self.y.len * self.x.len * self.channels
    }

    fn output(&self) -> usize {
        self.y.windows * self.x.windows * self.channels
    }

    fn images_of_part(&self, rows: usize) -> usize {
        parts::rows_of_part(rows, self.output() * self.y.window * self.x.window)
    }

    /// Calls `visit` with each element that is within of window (y, x): which of the window's it is, and where its channels
    /// begin in the image.
    #[inline(always)]
    fn window(&self, y: usize, x: usize, mut visit: impl FnMut(usize, usize)) {
        let (from_y, within_y) = self.y.reach(y);
        let (from_x, within_x) = self.x.reach(x);
        for (dy, element_y) in within_y.enumerate() {
            for (dx, element_x) in within_x.clone().enumerate() {
                let place = (from_y + dy) * self.x.len + from_x + dx;
                visit(element_y * self.x.window + element_x, place * self.channels);
            }
        }
    }

    /// Elements of window (y, x) that are within.
    #[inline(always)]
    fn size(&self, y: usize, x: usize) -> usize {
        self.y.reach(y).1.len() * self.x.reach(x).1.len()
    }
}

#[derive(Debug)]
struct Max(Pool);

impl<T: Real> Operation<T> for Max {
    fn forward(&self, call: Forward<'_, T>) {
        let Self(pool) = self;
        let input = call.inputs[0].reals();
        let images = pool.images_of_part(call.rows);
        let largest = call.saved.id_array(0, call.output.len());
        let of_part = images * pool.output();
        let parts = call.output.par_chunks_mut(of_part).zip(largest.par_chunks_mut(of_part));
        parts.enumerate().for_each(|(part, (output, largest))| {
            max(pool, &input[part * images * pool.input()..], output, largest);
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Self(pool) = self;
        let Some(of_input) = &mut call.input_gradients[0] else { return };
        let (gradient, largest) = (&*call.gradient, &call.saved.ids[0][..]);
        let images = pool.images_of_part(call.rows);
        of_input.par_chunks_mut(images * pool.input()).enumerate().for_each(|(part, of_input)| {
            let start = part * images * pool.output();
            max_gradient(pool, &gradient[start..], &largest[start..], of_input);
        });
    }
}

lanes! {
    fn max<T: Real>(pool: &Pool, input: &[T], output: &mut [T], largest: &mut [u32]) {
        let channels = pool.channels;
        let mut places = output.chunks_exact_mut(channels).zip(largest.chunks_exact_mut(channels));
        for image in input.chunks_exact(pool.input()) {
            for (y, x) in (0..pool.y.windows).flat_map(|y| (0..pool.x.windows).map(move |x| (y, x))) {
                let Some((output, largest)) = places.next() else { return };
                let mut first = true;
                pool.window(y, x, |element, at| {
                    let values = &image[at..at + channels];
                    if std::mem::take(&mut first) {
                        output.copy_from_slice(values);
                        largest.fill(element as u32);
                        return;
                    }
                    for ((best, largest), value) in output.iter_mut().zip(largest.iter_mut()).zip(values) {
                        // Unequal to itself: no number.
                        #[expect(clippy::eq_op, reason = "the test for what is no number that every float type has")]
                        let better = *value > *best || *value != *value;
                        *best = if better { *value } else { *best };
                        *largest = if better { element as u32 } else { *largest };
                    }
                });
            }
        }
    }

    fn max_gradient<T: Real>(pool: &Pool, gradient: &[T], largest: &[u32], of_input: &mut [T]) {
        let channels = pool.channels;
        of_input.fill(T::zero());
        let mut places = gradient.chunks_exact(channels).zip(largest.chunks_exact(channels));
        for image in of_input.chunks_exact_mut(pool.input()) {
            for (y, x) in (0..pool.y.windows).flat_map(|y| (0..pool.x.windows).map(move |x| (y, x))) {
                let Some((gradient, largest)) = places.next() else { return };
                pool.window(y, x, |element, at| {
                    let into = image[at..at + channels].iter_mut();
                    for ((into, gradient), largest) in into.zip(gradient).zip(largest) {
                        *into += if *largest == element as u32 { *gradient } else { T::zero() };
                    }
                });
            }
        }
    }
}

#[derive(Debug)]
struct Average(Pool);

impl<T: Real> Operation<T> for Average {
    fn forward(&self, call: Forward<'_, T>) {
        let Self(pool) = self;
        let input = call.inputs[0].reals();
        let images = pool.images_of_part(call.rows);
        call.output.par_chunks_mut(images * pool.output()).enumerate().for_each(|(part, output)| {
            mean(pool, &input[part * images * pool.input()..], output);
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Self(pool) = self;
        let Some(of_input) = &mut call.input_gradients[0] else { return };
        let gradient = &*call.gradient;
        let images = pool.images_of_part(call.rows);
        of_input.par_chunks_mut(images * pool.input()).enumerate().for_each(|(part, of_input)| {
            mean_gradient(pool, &gradient[part * images * pool.output()..], of_input);
        });
    }
}

lanes! {
    fn mean<T: Real>(pool: &Pool, input: &[T], output: &mut [T]) {
        let channels = pool.channels;
        let mut places = output.chunks_exact_mut(channels);
        for image in input.chunks_exact(pool.input()) {
            for (y, x) in (0..pool.y.windows).flat_map(|y| (0..pool.x.windows).map(move |x| (y, x))) {
                let Some(output) = places.next() else { return };
                output.fill(T::zero());
                pool.window(y, x, |_, at| parts::accumulate(&image[at..at + channels], output));
                let size = T::from_f64(pool.size(y, x) as f64);
                for value in output {
                    *value /= size;
                }
            }
        }
    }

    fn mean_gradient<T: Real>(pool: &Pool, gradient: &[T], of_input: &mut [T]) {
        let channels = pool.channels;
        of_input.fill(T::zero());
        let mut places = gradient.chunks_exact(channels);
        for image in of_input.chunks_exact_mut(pool.input()) {
            for (y, x) in (0..pool.y.windows).flat_map(|y| (0..pool.x.windows).map(move |x| (y, x))) {
                let Some(gradient) = places.next() else { return };
                let size = T::from_f64(pool.size(y, x) as f64);
                pool.window(y, x, |_, at| {
                    for (into, gradient) in image[at..at + channels].iter_mut().zip(gradient) {
                        *into += *gradient / size;
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::{Case, check};
    use crate::graph::operation::Saved;

    type Make = fn([usize; 2], [usize; 2], Padding, &[Shape]) -> Result<Built, String>;

    /// Odd sizes, windows that overlap, that leave gaps, and that reach into the padding.
    #[test]
    fn gradients() {
        for make in [max_pool as Make, average_pool] {
            let image = [Shape::reals(&[5, 7, 2])];
            for (size, stride, padding, expect) in [
                ([2, 2], [2, 2], Padding::Valid, [2, 3, 2]),
                ([2, 2], [2, 2], Padding::Same, [3, 4, 2]),
                ([3, 2], [1, 2], Padding::Same, [5, 4, 2]),
                ([1, 2], [2, 3], Padding::Valid, [3, 2, 2]),
            ] {
                let built = make(size, stride, padding, &image).unwrap();
                assert_eq!(built.output, Shape::reals(&expect));
                check(&built, &image);
            }
            let sequence = [Shape::reals(&[5, 3])];
            let built = make([2, 9], [2, 9], Padding::Same, &sequence).unwrap();
            assert_eq!(built.output, Shape::reals(&[3, 3]));
            check(&built, &sequence);
        }
    }

    #[test]
    fn global_gradients() {
        for dims in [&[3, 2, 2][..], &[5, 3], &[4]] {
            let inputs = [Shape::reals(dims)];
            for built in [global_max_pool(&inputs).unwrap(), global_average_pool(&inputs).unwrap()] {
                assert_eq!(built.output, Shape::reals(&dims[dims.len() - 1..]));
                check(&built, &inputs);
            }
        }
    }

    #[test]
    fn the_first_of_equals_is_the_largest_and_no_number_is_not_lost() {
        let inputs = [Shape::reals(&[4, 1])];
        let built = max_pool([2, 2], [2, 2], Padding::Valid, &inputs).unwrap();
        let mut case = Case::new(&built, &inputs, 1);
        case.functional = vec![1.0, 1.0];
        let step = case.run(&[vec![2.0, 2.0, f64::NAN, 7.0]], &[], &mut Saved::default(), |_| true);
        assert_eq!((step.output[0], step.inputs), (2.0, vec![Some(vec![1.0, 0.0, 1.0, 0.0])]));
        assert!(step.output[1].is_nan());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let refused = max_pool([2, 2], [2, 2], Padding::Valid, &[Shape::reals(&[4])]).unwrap_err();
        assert_eq!(refused, "it reads [height, width, channels] or [length, channels], not [4]");
        let refused = average_pool([2, 5], [2, 2], Padding::Valid, &[Shape::reals(&[4, 4, 1])]).unwrap_err();
        assert_eq!(refused, "a window of 5 does not fit into a width of 4; padding same would");
    }
}
