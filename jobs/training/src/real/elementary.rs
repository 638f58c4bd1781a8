//! exp, tanh and erf in f32, as straight lines that a compiler can turn into vector instructions.
//!
//! The standard library's are calls, one value at a time, and were half of a recurrent layer's step. Invariants: within 2 units
//! in the last place of the true value (a test walks through the floats); no number goes in and no number comes out, only of
//! what is no number; no branches, no tables, no fused operations, so that the same bits come out at every vector width.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts; the first has so few digits that a product with a whole number of eight bits is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding it leaves a whole number in the low bits, rounded to nearest.
const ROUNDING: f32 = 12_582_912.0;

/// After Cephes' `expf` (Moshier): exp(x) = 2^n · exp(r) with |r| at most ln 2 / 2.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these it is infinite, or zero.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * LOG2_E + ROUNDING;
    let whole = shifted - ROUNDING;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDING.to_bits() as i32);
    let r = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    // In two steps, since 2^n itself may be too large, or too small, to be a normal number.
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// After Cephes' `tanhf`: an odd polynomial near zero, exponentials elsewhere.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let p = -5.704_988_7e-3;
    let p = p * square + 2.063_909e-2;
    let p = p * square - 5.373_971_6e-2;
    let p = p * square + 1.333_144_2e-1;
    let p = p * square - 3.333_328e-1;
    let near = x + x * square * p;
    let far = 1.0 - 2.0 / (exp(size + size) + 1.0);
    let value = if size < 0.625 { near } else { far };
    value.copysign(x)
}

/// After Juffa's `erff`: an odd polynomial near zero; elsewhere 1 - exp of a polynomial.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let p = -5.967_617e-4;
    let p = p * square + 4.991_194_2e-3;
    let p = p * square - 2.676_813_5e-2;
    let p = p * square + 1.128_199_25e-1;
    let p = p * square - 3.761_253_4e-1;
    let p = p * square + 1.283_791_7e-1;
    let near = p * x + x;
    // From here on it is 1.
    let t = if size > 4.0 { 4.0 } else { size };
    let q = (-1.728_534_7e-5 * t + 3.831_971_3e-4) * (t * t) + (-3.883_964_4e-3 * t + 2.425_462_2e-2);
    let q = q * t - 1.067_778_8e-1;
    let q = q * t - 6.348_467e-1;
    let q = q * t - 1.287_175_1e-1;
    let q = q * t - t;
    let far = (1.0 - exp(q)).copysign(x);
    if size > 0.927_734_4 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units in the last place of the worst float out of every 30 011.
    fn worst(of: fn(f32) -> f32, truth: fn(f64) -> f64, from: f32, to: f32) -> f64 {
        let mut worst = (0.0f64, 0.0f32);
        for bits in (0..=u32::MAX).step_by(30_011) {
            let x = f32::from_bits(bits);
            if !(from..=to).contains(&x) {
                continue;
            }
            let (got, truth) = (f64::from(of(x)), truth(f64::from(x)));
            let nearest = (truth as f32).abs().max(f32::MIN_POSITIVE);
            let unit = f64::from(nearest.next_up()) - f64::from(nearest);
            let off = (got - truth).abs() / unit;
            if off > worst.0 {
                worst = (off, x);
            }
        }
        println!("worst at {}: {} units", worst.1, worst.0);
        worst.0
    }

    #[test]
    fn within_two_units_of_the_truth() {
        assert!(worst(exp, f64::exp, -87.0, 88.7) < 2.0);
        assert!(worst(tanh, f64::tanh, -20.0, 20.0) < 2.0);
        assert!(worst(erf, libm::erf, -6.0, 6.0) < 2.0);
    }

    #[test]
    fn the_ends() {
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(90.0), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        let tiny = exp(-100.0);
        assert!(tiny > 0.0 && (f64::from(tiny) / (-100.0f64).exp() - 1.0).abs() < 0.02, "{tiny:e}");
        for of in [tanh, erf] {
            assert_eq!([of(f32::INFINITY), of(f32::NEG_INFINITY), of(30.0), of(0.0)], [1.0, -1.0, 1.0, 0.0]);
            assert!(of(-0.0).is_sign_negative());
        }
        for of in [exp, tanh, erf] {
            assert!(of(f32::NAN).is_nan());
        }
    }
}
