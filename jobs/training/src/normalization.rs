//! Mean and deviation of each feature, learned from the training rows and saved with the model.
//!
//! Invariant: training and scoring go through [`Normalization::one`], so that the same input is the same bits in both. An
//! absent value becomes 0, which after normalisation is the mean.

use crate::values::is_absent;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    pub mean: Vec<f32>,
    /// One where a feature never varies.
    pub deviation: Vec<f32>,
}

impl Normalization {
    /// Learned from row-major values; an absent one is not counted.
    pub fn learn(values: &[f32], width: usize) -> Self {
        let mut count = vec![0u64; width];
        let mut mean = vec![0f64; width];
        let mut squares = vec![0f64; width];
        // Welford's running update: the textbook difference of sums loses every digit of a large, steady feature.
        for row in values.chunks_exact(width) {
            for (column, value) in row.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                let value = f64::from(*value);
                count[column] += 1;
                let distance = value - mean[column];
                mean[column] += distance / count[column] as f64;
                squares[column] += distance * (value - mean[column]);
            }
        }
        let deviation = squares.iter().zip(&count).map(|(squares, count)| {
            let deviation = (squares / (*count).max(1) as f64).sqrt() as f32;
            if deviation > 0.0 { deviation } else { 1.0 }
        });
        Self { deviation: deviation.collect(), mean: mean.iter().map(|mean| *mean as f32).collect() }
    }

    pub fn one(&self, column: usize, value: f32) -> f32 {
        (value - self.mean[column]) / self.deviation[column]
    }
}

/// Normalises row-major values in place and fills in absent ones.
pub fn apply(normalization: Option<&Normalization>, values: &mut [f32], width: usize) {
    for row in values.chunks_exact_mut(width) {
        for (column, value) in row.iter_mut().enumerate() {
            *value = match normalization {
                _ if is_absent(*value) => 0.0,
                Some(normalization) => normalization.one(column, *value),
                None => *value,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::ABSENT;
    use proptest::prelude::*;

    #[test]
    fn absent_values_become_the_mean_and_constants_zero() {
        let mut values = [1.0, 7.0, 3.0, 7.0, ABSENT, 7.0, 5.0, ABSENT];
        let normalization = Normalization::learn(&values, 2);
        assert_eq!(normalization.mean, [3.0, 7.0]);
        assert_eq!(normalization.deviation, [(8f32 / 3.0).sqrt(), 1.0]);
        apply(Some(&normalization), &mut values, 2);
        assert_eq!(values[1..6], [0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((values[0] + 1.2247449).abs() < 1e-6);
    }

    proptest! {
        /// The registry keeps these numbers as text.
        #[test]
        fn text_keeps_every_bit(mean in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..20)) {
            let normalization = Normalization { deviation: mean.clone(), mean };
            let text = serde_json::to_string(&normalization).unwrap();
            prop_assert_eq!(serde_json::from_str::<Normalization>(&text).unwrap(), normalization);
        }
    }
}
