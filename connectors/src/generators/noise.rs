//! Randomness without history: every draw is a function of what it is for.
//!
//! Invariant: these functions never change; generated tables are compared across versions and machines.

/// A well mixed word from a seed, what the draw is for, and its number.
pub fn mix(seed: u64, purpose: u64, number: u64) -> u64 {
    finish(finish(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(number))
}

/// The finalizer of splitmix64.
fn finish(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A number in [0, 1).
pub fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

/// A whole number in [0, n), for n well below 2^32 or with a bias that does not matter.
pub fn below(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// Draws one after another from one word.
#[derive(Clone, Debug)]
pub struct Draws {
    word: u64,
}

impl Draws {
    pub fn new(seed: u64, purpose: u64, number: u64) -> Self {
        Self { word: mix(seed, purpose, number) }
    }

    pub fn word(&mut self) -> u64 {
        self.word = self.word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finish(self.word)
    }

    pub fn unit(&mut self) -> f64 {
        unit(self.word())
    }

    pub fn below(&mut self, n: u64) -> u64 {
        below(self.word(), n)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A standard normal number (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A permutation of 0..n that can be read in both directions without a table: a Feistel network on the next power of
/// four, walked until it falls within n (fewer than four steps on average).
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    key: u64,
}

const ROUNDS: u64 = 4;

impl Permutation {
    pub fn new(n: u64, key: u64) -> Self {
        assert!(n > 0, "a permutation of nothing");
        let bits = 64 - (n - 1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), key }
    }

    pub fn forward(&self, item: u64) -> u64 {
        self.walk(item, |this, left, right, round| (right, left ^ this.round(right, round)))
    }

    pub fn backward(&self, place: u64) -> u64 {
        self.walk(place, |this, left, right, round| (right ^ this.round(left, ROUNDS - 1 - round), left))
    }

    fn walk(&self, item: u64, step: impl Fn(&Self, u64, u64, u64) -> (u64, u64)) -> u64 {
        assert!(item < self.n, "{item} is not below {}", self.n);
        let mut at = item;
        loop {
            let (mut left, mut right) = (at >> self.half_bits, at & self.mask());
            for round in 0..ROUNDS {
                (left, right) = step(self, left, right, round);
            }
            at = (left << self.half_bits) | right;
            if at < self.n {
                return at;
            }
        }
    }

    fn round(&self, half: u64, round: u64) -> u64 {
        mix(self.key, round, half) & self.mask()
    }

    fn mask(&self) -> u64 {
        (1 << self.half_bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn draws_never_change() {
        assert_eq!(finish(0), 0xe220_a839_7b1d_cdaf);
        let mut draws = Draws::new(1, 2, 3);
        assert!((0.0..1.0).contains(&draws.unit()) && draws.below(10) < 10);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_deviation_one() {
        let normals: Vec<f64> = (0..20_000).map(|n| Draws::new(7, 0, n).normal()).collect();
        let mean = normals.iter().sum::<f64>() / 20_000.0;
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    proptest! {
        #[test]
        fn permutations_go_both_ways(n in 1..5000u64, key in any::<u64>()) {
            let permutation = Permutation::new(n, key);
            let mut seen = vec![false; n as usize];
            for item in 0..n {
                let place = permutation.forward(item);
                prop_assert_eq!(permutation.backward(place), item);
                prop_assert!(!std::mem::replace(&mut seen[place as usize], true));
            }
        }
    }
}
