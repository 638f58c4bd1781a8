//! The learning rate over time.

use jobs::train::Schedule;
use std::f64::consts::PI;

/// The share of the optimizer's learning rate that step `step` of `total`, counted from 1, is taken with.
pub fn share(schedule: &Schedule, step: u64, total: u64) -> f64 {
    // Of the way from the end of the warm-up to the last step.
    let gone = |warm_up: u64| (step - warm_up) as f64 / total.saturating_sub(warm_up).max(1) as f64;
    match *schedule {
        Schedule::Constant => 1.0,
        Schedule::Cosine { warm_up, .. } | Schedule::Linear { warm_up, .. } if step <= warm_up => {
            step as f64 / warm_up as f64
        }
        Schedule::Cosine { warm_up, floor } => {
            floor + (1.0 - floor) * 0.5 * (1.0 + (PI * gone(warm_up).min(1.0)).cos())
        }
        Schedule::Linear { warm_up, floor } => floor + (1.0 - floor) * (1.0 - gone(warm_up)).max(0.0),
        Schedule::Step { every, factor } => {
            factor.powi(i32::try_from(step.saturating_sub(1) / every.max(1)).unwrap_or(i32::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &Schedule, expect: &[(u64, f64)]) {
        for (step, expect) in expect {
            let got = share(schedule, *step, 110);
            assert!((got - expect).abs() < 1e-12, "{schedule:?} at {step}: {got}, expected {expect}");
        }
    }

    #[test]
    fn known_places() {
        check(&Schedule::Constant, &[(1, 1.0), (110, 1.0)]);
        let quarter = 0.2 + 0.8 * 0.5 * (1.0 + (PI / 4.0).cos());
        let cosine = Schedule::Cosine { warm_up: 10, floor: 0.2 };
        check(&cosine, &[(1, 0.1), (10, 1.0), (35, quarter), (60, 0.6), (110, 0.2), (200, 0.2)]);
        let linear = Schedule::Linear { warm_up: 10, floor: 0.5 };
        check(&linear, &[(5, 0.5), (10, 1.0), (60, 0.75), (110, 0.5), (200, 0.5)]);
        check(&Schedule::Linear { warm_up: 0, floor: 0.0 }, &[(11, 0.9), (110, 0.0)]);
        check(&Schedule::Step { every: 30, factor: 0.5 }, &[(1, 1.0), (30, 1.0), (31, 0.5), (91, 0.125)]);
    }
}
