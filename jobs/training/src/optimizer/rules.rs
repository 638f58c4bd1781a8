//! How one weight moves: the formula of each optimizer, once for whole arrays and once for some rows of a table.
//!
//! Formulas are PyTorch's (decoupled weight decay; momentum without dampening); FTRL is that of McMahan et al. 2013 as in
//! TensorFlow. Each weight, its state and its gradient are read and written once.

use crate::graph::lanes::lanes;

/// A formula with the numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Sgd {
        rate: f32,
    },
    Momentum {
        rate: f32,
        momentum: f32,
        nesterov: bool,
    },
    Adagrad {
        rate: f32,
        epsilon: f32,
    },
    RmsProp {
        rate: f32,
        decay: f32,
        rest: f32,
        epsilon: f32,
    },
    RmsPropMomentum {
        rate: f32,
        decay: f32,
        rest: f32,
        epsilon: f32,
        momentum: f32,
    },
    /// Adam, and AdamW where weights shrink by `keep`.
    Adam {
        rate: f32,
        beta1: f32,
        rest1: f32,
        beta2: f32,
        rest2: f32,
        root: f32,
        epsilon: f32,
        keep: f32,
    },
    /// With the square root; `per_rate` is one over the learning rate.
    Ftrl {
        per_rate: f32,
        l1: f32,
        two_l2: f32,
    },
    FtrlPower {
        per_rate: f32,
        l1: f32,
        two_l2: f32,
        minus_power: f32,
    },
}

/// What is done with a gradient before it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub scale: f32,
    pub largest: f32,
}

impl Limit {
    pub const NONE: Self = Self { scale: 1.0, largest: f32::INFINITY };

    #[inline(always)]
    fn apply(self, gradient: f32) -> f32 {
        let gradient = gradient * self.scale;
        // A NaN stays one.
        if gradient > self.largest {
            self.largest
        } else if gradient < -self.largest {
            -self.largest
        } else {
            gradient
        }
    }
}

/// Weights and what is kept for each of them, as far as the rule keeps it.
#[derive(Debug)]
pub struct Moved<'a> {
    pub weights: &'a mut [f32],
    pub first: &'a mut [f32],
    pub second: &'a mut [f32],
}

lanes! {
    /// One gradient per weight.
    pub fn whole(rule: Rule, limit: Limit, moved: Moved<'_>, gradients: &[f32]) {
        let Moved { weights, first, second } = moved;
        with_formula(rule, Whole { weights, first, second, gradients, limit });
    }

    /// `values` holds a gradient of `width` numbers for each of `rows`. What is moved begins at row `start` of the table; rows
    /// that do not lie there are left to others.
    pub fn rows(rule: Rule, limit: Limit, moved: Moved<'_>, place: (usize, usize), rows: &[u32], values: &[f32]) {
        let (Moved { weights, first, second }, (start, width)) = (moved, place);
        match width {
            1 => with_formula(rule, Rows::<1> { weights, first, second, start, width, rows, values, limit }),
            16 => with_formula(rule, Rows::<16> { weights, first, second, start, width, rows, values, limit }),
            _ => with_formula(rule, Rows::<0> { weights, first, second, start, width, rows, values, limit }),
        }
    }
}

/// Applies a formula, which gets a weight, its state and its gradient.
trait Apply {
    fn none(self, formula: impl Fn(&mut f32, f32));
    fn one(self, formula: impl Fn(&mut f32, &mut f32, f32));
    fn two(self, formula: impl Fn(&mut f32, &mut f32, &mut f32, f32));
}

#[inline(always)]
fn with_formula(rule: Rule, apply: impl Apply) {
    match rule {
        Rule::Sgd { rate } => apply.none(|w, g| *w -= rate * g),
        Rule::Momentum { rate, momentum, nesterov: false } => apply.one(|w, m, g| {
            *m = momentum * *m + g;
            *w -= rate * *m;
        }),
        Rule::Momentum { rate, momentum, nesterov: true } => apply.one(|w, m, g| {
            *m = momentum * *m + g;
            *w -= rate * (g + momentum * *m);
        }),
        Rule::Adagrad { rate, epsilon } => apply.one(|w, n, g| {
            *n += g * g;
            *w -= rate * g / (n.sqrt() + epsilon);
        }),
        Rule::RmsProp { rate, decay, rest, epsilon } => apply.one(|w, n, g| {
            *n = decay * *n + rest * g * g;
            *w -= rate * g / (n.sqrt() + epsilon);
        }),
        Rule::RmsPropMomentum { rate, decay, rest, epsilon, momentum } => apply.two(|w, n, m, g| {
            *n = decay * *n + rest * g * g;
            *m = momentum * *m + g / (n.sqrt() + epsilon);
            *w -= rate * *m;
        }),
        Rule::Adam { rate, beta1, rest1, beta2, rest2, root, epsilon, keep } => apply.two(|w, m, v, g| {
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * g * g;
            *w = keep * *w - rate * *m / (v.sqrt() * root + epsilon);
        }),
        Rule::Ftrl { per_rate, l1, two_l2 } => apply.two(|w, n, z, g| {
            let before = n.sqrt();
            *n += g * g;
            follow(w, z, g, (before * per_rate, n.sqrt() * per_rate), l1, two_l2);
        }),
        Rule::FtrlPower { per_rate, l1, two_l2, minus_power } => apply.two(|w, n, z, g| {
            let before = n.powf(minus_power);
            *n += g * g;
            follow(w, z, g, (before * per_rate, n.powf(minus_power) * per_rate), l1, two_l2);
        }),
    }
}

#[inline(always)]
fn follow(w: &mut f32, z: &mut f32, g: f32, (before, after): (f32, f32), l1: f32, two_l2: f32) {
    *z += g - (after - before) * *w;
    let short = if *z > 0.0 { l1 } else { -l1 } - *z;
    *w = if z.abs() > l1 { short / (after + two_l2) } else { 0.0 };
}

struct Whole<'a> {
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradients: &'a [f32],
    limit: Limit,
}

impl Apply for Whole<'_> {
    #[inline(always)]
    fn none(self, formula: impl Fn(&mut f32, f32)) {
        for (w, g) in self.weights.iter_mut().zip(self.gradients) {
            formula(w, self.limit.apply(*g));
        }
    }

    #[inline(always)]
    fn one(self, formula: impl Fn(&mut f32, &mut f32, f32)) {
        for ((w, m), g) in self.weights.iter_mut().zip(self.first).zip(self.gradients) {
            formula(w, m, self.limit.apply(*g));
        }
    }

    #[inline(always)]
    fn two(self, formula: impl Fn(&mut f32, &mut f32, &mut f32, f32)) {
        let state = self.first.iter_mut().zip(self.second);
        for ((w, (m, v)), g) in self.weights.iter_mut().zip(state).zip(self.gradients) {
            formula(w, m, v, self.limit.apply(*g));
        }
    }
}

/// `WIDTH` is the width where the compiler is to know it, or 0.
struct Rows<'a, const WIDTH: usize> {
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    start: usize,
    width: usize,
    rows: &'a [u32],
    values: &'a [f32],
    limit: Limit,
}

impl<const WIDTH: usize> Rows<'_, WIDTH> {
    fn width(&self) -> usize {
        if WIDTH > 0 { WIDTH } else { self.width }
    }

    /// The place among what is moved of a row of the table, if it lies there.
    #[inline(always)]
    fn place(&self, row: u32, len: usize, width: usize) -> Option<usize> {
        let at = (row as usize).wrapping_sub(self.start).wrapping_mul(width);
        (row as usize >= self.start && at + width <= len).then_some(at)
    }
}

// The loops stand in each of the three: a closure called from two places would be compiled by itself, for narrow vectors.
impl<const WIDTH: usize> Apply for Rows<'_, WIDTH> {
    #[inline(always)]
    fn none(mut self, formula: impl Fn(&mut f32, f32)) {
        let (weights, width) = (std::mem::take(&mut self.weights), self.width());
        for (row, gradient) in self.rows.iter().zip(self.values.chunks_exact(width)) {
            let Some(at) = self.place(*row, weights.len(), width) else { continue };
            for (w, g) in weights[at..at + width].iter_mut().zip(gradient) {
                formula(w, self.limit.apply(*g));
            }
        }
    }

    #[inline(always)]
    fn one(mut self, formula: impl Fn(&mut f32, &mut f32, f32)) {
        let (weights, width) = (std::mem::take(&mut self.weights), self.width());
        let first = std::mem::take(&mut self.first);
        for (row, gradient) in self.rows.iter().zip(self.values.chunks_exact(width)) {
            let Some(at) = self.place(*row, weights.len(), width) else { continue };
            let state = weights[at..at + width].iter_mut().zip(&mut first[at..at + width]);
            for ((w, m), g) in state.zip(gradient) {
                formula(w, m, self.limit.apply(*g));
            }
        }
    }

    #[inline(always)]
    fn two(mut self, formula: impl Fn(&mut f32, &mut f32, &mut f32, f32)) {
        let (weights, width) = (std::mem::take(&mut self.weights), self.width());
        let (first, second) = (std::mem::take(&mut self.first), std::mem::take(&mut self.second));
        for (row, gradient) in self.rows.iter().zip(self.values.chunks_exact(width)) {
            let Some(at) = self.place(*row, weights.len(), width) else { continue };
            let state = first[at..at + width].iter_mut().zip(&mut second[at..at + width]);
            for ((w, (m, v)), g) in weights[at..at + width].iter_mut().zip(state).zip(gradient) {
                formula(w, m, v, self.limit.apply(*g));
            }
        }
    }
}
