//! First weights: a function of the seed and the parameter's name alone.

use crate::graph::operation::Initial;
use crate::random::{self, Purpose};
use crate::real::Real;
use xxhash_rust::xxh3::xxh3_64;

pub fn values<T: Real>(name: &str, initial: Initial, seed: u64, into: &mut [T]) {
    let mut rng = random::stream(seed, Purpose::Init, xxh3_64(name.as_bytes()), 0);
    match initial {
        Initial::Constant(value) => into.fill(T::from_f64(value)),
        Initial::Uniform(bound) => {
            let bound = bound as f32;
            into.fill_with(|| T::from_f64(f64::from(bound * random::uniform(&mut rng))));
        }
        Initial::Normal(deviation) => {
            let deviation = deviation as f32;
            into.fill_with(|| T::from_f64(f64::from(deviation * random::normal(&mut rng))));
        }
    }
}
