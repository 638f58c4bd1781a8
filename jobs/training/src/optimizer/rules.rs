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

    /// `values` holds a gradient of `width` numbers for each of `rows`.
    pub fn rows(rule: Rule, limit: Limit, moved: Moved<'_>, width: usize, rows: &[u32], values: &[f32]) {
        let Moved { weights, first, second } = moved;
        with_formula(rule, Rows { weights, first, second, width, rows, values, limit });
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

struct Rows<'a> {
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    width: usize,
    rows: &'a [u32],
    values: &'a [f32],
    limit: Limit,
}

impl Rows<'_> {
    /// Calls `one` with the place of each row in the table and its gradient.
    #[inline(always)]
    fn each(rows: &[u32], values: &[f32], width: usize, mut one: impl FnMut(usize, &[f32])) {
        for (row, gradient) in rows.iter().zip(values.chunks_exact(width)) {
            one(*row as usize * width, gradient);
        }
    }
}

impl Apply for Rows<'_> {
    #[inline(always)]
    fn none(self, formula: impl Fn(&mut f32, f32)) {
        let Self { weights, width, limit, .. } = self;
        Self::each(self.rows, self.values, width, |at, gradient| {
            for (w, g) in weights[at..at + width].iter_mut().zip(gradient) {
                formula(w, limit.apply(*g));
            }
        });
    }

    #[inline(always)]
    fn one(self, formula: impl Fn(&mut f32, &mut f32, f32)) {
        let Self { weights, first, width, limit, .. } = self;
        Self::each(self.rows, self.values, width, |at, gradient| {
            let state = weights[at..at + width].iter_mut().zip(&mut first[at..at + width]);
            for ((w, m), g) in state.zip(gradient) {
                formula(w, m, limit.apply(*g));
            }
        });
    }

    #[inline(always)]
    fn two(self, formula: impl Fn(&mut f32, &mut f32, &mut f32, f32)) {
        let Self { weights, first, second, width, limit, .. } = self;
        Self::each(self.rows, self.values, width, |at, gradient| {
            let state = first[at..at + width].iter_mut().zip(&mut second[at..at + width]);
            for ((w, (m, v)), g) in weights[at..at + width].iter_mut().zip(state).zip(gradient) {
                formula(w, m, v, limit.apply(*g));
            }
        });
    }
}
