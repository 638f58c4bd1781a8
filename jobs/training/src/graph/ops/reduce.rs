//! Sums along an array, in lanes that a compiler can turn into vector instructions.
//!
//! Invariant: the order of adding depends on the length only, so the bits are the same at every vector width.

use crate::real::Real;

const LANES: usize = 16;

/// The sum of `value(a, b)` over the elements of two arrays of one length.
#[inline(always)]
pub fn sum_of_two<T: Real>(left: &[T], right: &[T], value: impl Fn(T, T) -> T) -> T {
    let mut sums = [T::zero(); LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += value(left[lane], right[lane]);
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        sums[lane] += value(*left, *right);
    }
    folded(sums, |a, b| a + b)
}

#[inline(always)]
pub fn sum<T: Real>(values: &[T], value: impl Fn(T) -> T) -> T {
    sum_of_two(values, values, |a, _| value(a))
}

/// The largest; of no values the least there is. What is no number may be passed over.
#[inline(always)]
pub fn largest<T: Real>(values: &[T]) -> T {
    let least = T::from_f64(f64::NEG_INFINITY);
    let mut best = [least; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for values in chunks {
        for lane in 0..LANES {
            best[lane] = larger(best[lane], values[lane]);
        }
    }
    for (best, value) in best.iter_mut().zip(rest) {
        *best = larger(*best, *value);
    }
    folded(best, larger)
}

#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// Halves again and again.
#[inline(always)]
fn folded<T: Real>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for len in [0, 1, 15, 16, 17, 50] {
            let values: Vec<f64> = (0..len).map(|i| f64::from((i * 7) % 23 - 11)).collect();
            assert_eq!(sum(&values, |x| x), values.iter().sum::<f64>());
            assert_eq!(sum_of_two(&values, &values, |a, b| a * b), values.iter().map(|x| x * x).sum::<f64>());
            assert_eq!(largest(&values), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
}
