//! The random numbers of the `nexmark` crate, drawn without its allocations.
//!
//! Invariant: the same seed gives the same draws as `SmallRng` of `rand` 0.8 on 64-bit machines, through the calls that the
//! crate makes; the tests beside [`super::events`] hold all events against the crate's.

/// xoshiro256++, seeded through PCG32.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let mut half = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11_634_580_027_462_260_723);
            let shifted = (((word >> 18) ^ word) >> 27) as u32;
            u64::from(shifted.rotate_right((word >> 59) as u32))
        };
        let mut whole = || half() | (half() << 32);
        Self { state: [whole(), whole(), whole(), whole()] }
    }

    #[inline(always)]
    fn word(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let word = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        word
    }

    /// The upper bits are the better ones.
    #[inline(always)]
    fn half(&mut self) -> u32 {
        (self.word() >> 32) as u32
    }

    /// A number in [0, n), as of 64-bit integers.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        let zone = (n << n.leading_zeros()).wrapping_sub(1);
        loop {
            let wide = u128::from(self.word()) * u128::from(n);
            if wide as u64 <= zone {
                return (wide >> 64) as u64;
            }
        }
    }

    /// A number in [0, n), as of 32-bit integers.
    #[inline]
    pub fn below_small(&mut self, n: u32) -> u32 {
        let zone = (n << n.leading_zeros()).wrapping_sub(1);
        loop {
            let wide = u64::from(self.half()) * u64::from(n);
            if wide as u32 <= zone {
                return (wide >> 32) as u32;
            }
        }
    }

    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below_small(from.len() as u32) as usize]
    }

    /// A small letter.
    #[inline(always)]
    pub fn letter(&mut self) -> u8 {
        const LETTERS: u32 = 26;
        const ZONE: u32 = u32::MAX - (u32::MAX - LETTERS + 1) % LETTERS;
        loop {
            let wide = u64::from(self.half()) * u64::from(LETTERS);
            if wide as u32 <= ZONE {
                return b'a' + (wide >> 32) as u8;
            }
        }
    }

    pub fn letters(&mut self, into: &mut [u8]) {
        // A copy that need not be in memory, because the letters may be anywhere for all that is known.
        let mut random = self.clone();
        into.iter_mut().for_each(|letter| *letter = random.letter());
        *self = random;
    }

    /// What a price is made of.
    #[inline]
    pub fn power(&mut self) -> f32 {
        (self.half() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }
}

/// In cents, from one to a million dollars, evenly over the magnitudes.
pub fn price(power: f32) -> i64 {
    (10.0_f32.powf(power * 6.0) * 100.0).round() as i64
}
