//! The settings that a trial tries: one value of each dimension.
//!
//! Invariant: what a trial of a random search draws is a function of the seed, the trial and the dimension; so more trials with
//! the same seed begin with the same ones, whatever order they run in. Numbers are drawn with six digits: what is written down,
//! shown and trained with is the same number.

use crate::random::{self, Purpose};
use rand_chacha::rand_core::RngCore;

/// Digits that count of a number that is drawn.
const DIGITS: usize = 6;

/// What one setting may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Dimension {
    /// One of so many.
    Choice { count: usize },
    /// Any number from `low` to `high` alike; only whole ones if `whole`.
    Uniform { low: f64, high: f64, whole: bool },
    /// As likely between 1 and 10 as between 10 and 100.
    LogUniform { low: f64, high: f64, whole: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// Which one of the choices.
    Choice(usize),
    Number(f64),
}

/// How many points the grid over these dimensions has; none where one of them has no end of values, or they are too many to
/// count.
pub fn grid_size(space: &[Dimension]) -> Option<usize> {
    space.iter().try_fold(1_usize, |size, dimension| match dimension {
        Dimension::Choice { count } => size.checked_mul(*count),
        Dimension::Uniform { .. } | Dimension::LogUniform { .. } => None,
    })
}

/// Point `at` of the grid; the last dimension changes from each point to the next.
pub fn grid_point(space: &[Dimension], mut at: usize) -> Vec<Draw> {
    let mut point: Vec<Draw> = Vec::with_capacity(space.len());
    for dimension in space.iter().rev() {
        let Dimension::Choice { count } = dimension else { panic!("{dimension:?} has no grid") };
        point.push(Draw::Choice(at % count));
        at /= count;
    }
    point.reverse();
    point
}

/// What `trial` of a random search draws.
pub fn random_point(space: &[Dimension], seed: u64, trial: usize) -> Vec<Draw> {
    let draw = |(at, dimension): (usize, &Dimension)| {
        let mut random = random::stream(seed, Purpose::Sweep, trial as u64, at as u64);
        // In [0, 1) with 53 bits.
        let share = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        match *dimension {
            Dimension::Choice { count } => Draw::Choice(((share * count as f64) as usize).min(count - 1)),
            Dimension::Uniform { low, high, whole: true } => {
                Draw::Number((low + (share * (high - low + 1.0)).floor()).min(high))
            }
            Dimension::Uniform { low, high, whole: false } => {
                Draw::Number(rounded(low + share * (high - low)).clamp(low, high))
            }
            Dimension::LogUniform { low, high, whole } => {
                let drawn = (low.ln() + share * (high.ln() - low.ln())).exp();
                Draw::Number(if whole { drawn.round() } else { rounded(drawn) }.clamp(low, high))
            }
        }
    };
    space.iter().enumerate().map(draw).collect()
}

fn rounded(number: f64) -> f64 {
    format!("{number:.*e}", DIGITS - 1).parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Vec<Dimension> {
        vec![
            Dimension::Choice { count: 3 },
            Dimension::Uniform { low: -0.5, high: 2.0, whole: false },
            Dimension::LogUniform { low: 1e-5, high: 10.0, whole: false },
            Dimension::Uniform { low: 3.0, high: 6.0, whole: true },
            Dimension::LogUniform { low: 1.0, high: 1024.0, whole: true },
        ]
    }

    #[test]
    fn every_point_of_a_grid_comes_once() {
        let space = [Dimension::Choice { count: 2 }, Dimension::Choice { count: 3 }];
        assert_eq!(grid_size(&space), Some(6));
        let points: Vec<Vec<Draw>> = (0..6).map(|at| grid_point(&space, at)).collect();
        let point = |one, other| vec![Draw::Choice(one), Draw::Choice(other)];
        assert_eq!(points, [point(0, 0), point(0, 1), point(0, 2), point(1, 0), point(1, 1), point(1, 2)]);
        assert_eq!(grid_size(&self::space()), None);
        assert_eq!(grid_size(&[Dimension::Choice { count: usize::MAX }, Dimension::Choice { count: 2 }]), None);
    }

    /// Pinned: a change of these numbers makes another sweep of every file.
    #[test]
    fn what_a_trial_draws_never_changes() {
        assert_eq!(random_point(&space(), 1, 0), GOLDEN_FIRST);
        assert_eq!(random_point(&space(), 1, 7), random_point(&space(), 1, 7));
        assert_ne!(random_point(&space(), 1, 7), random_point(&space(), 2, 7));
        assert_ne!(random_point(&space(), 1, 7), random_point(&space(), 1, 8));
    }

    const GOLDEN_FIRST: [Draw; 5] =
        [Draw::Choice(1), Draw::Number(-0.472898), Draw::Number(0.143771), Draw::Number(4.0), Draw::Number(6.0)];

    #[test]
    fn draws_are_within_their_bounds_and_spread_as_they_should_be() {
        let trials = 4_000;
        let points: Vec<Vec<Draw>> = (0..trials).map(|trial| random_point(&space(), 3, trial)).collect();
        let number = |point: &[Draw], at: usize| match point[at] {
            Draw::Number(number) => number,
            Draw::Choice(choice) => choice as f64,
        };
        let share = |at: usize, within: &dyn Fn(f64) -> bool| {
            points.iter().filter(|point| within(number(point, at))).count() as f64 / trials as f64
        };
        let near = |share: f64, expected: f64| assert!((share - expected).abs() < 0.03, "{share} of {expected}");
        for choice in 0..3 {
            near(share(0, &|drawn| drawn == choice as f64), 1.0 / 3.0);
        }
        assert_eq!(share(1, &|drawn| (-0.5..=2.0).contains(&drawn)), 1.0);
        near(share(1, &|drawn| drawn < 0.75), 0.5);
        assert_eq!(share(2, &|drawn| (1e-5..=10.0).contains(&drawn)), 1.0);
        // Six decades.
        near(share(2, &|drawn| drawn < 1e-3), 1.0 / 3.0);
        for whole in 3..=6 {
            near(share(3, &|drawn| drawn == f64::from(whole)), 0.25);
        }
        assert_eq!(share(4, &|drawn| drawn.fract() == 0.0 && (1.0..=1024.0).contains(&drawn)), 1.0);
        near(share(4, &|drawn| drawn <= 32.0), 0.5);
        for point in &points {
            let text = format!("{:e}", number(point, 2));
            assert!(text.split('e').next().unwrap().len() <= DIGITS + 1, "{text}");
        }
    }
}
