//! Optimizers as one pass over flat arrays, with all of their state in the open so that it can be saved.
//!
//! Invariant: an update depends on the settings, the step number, the state, the weights and the gradients, and on nothing
//! else; it is the same bits for any number of threads. Of a table only the rows that have gradients are touched, where that
//! is what the formula says (or the user: lazy Adam); where it moves the other rows too, the whole table is gone through once, a
//! block at a time with the block's gradients beside it, never with a gradient of the table's size.

mod rules;
mod schedule;

pub use schedule::share;

use crate::graph::operation::{Role, RowGradients};
use crate::graph::{Gradients, Slot, SlotPlace};
use jobs::train::{self, Clip};
use rayon::prelude::*;
use rules::{Limit, Moved, Rule};
use std::ops::Range;

/// From this many values on the work is shared among threads; below it waking them costs more than it saves.
const PARALLEL_FROM: usize = 1 << 16;
/// Values gone through at a time: with their state and gradients they fit the nearest cache.
const BLOCK: usize = 1 << 11;

#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: train::Optimizer,
    clip: Clip,
    /// Steps taken.
    step: u64,
    /// As many arrays as [`moment_names`] says, each of one value per weight.
    state: Vec<Vec<f32>>,
    blocks: Blocks,
}

/// Gradients of rows, put in order of the blocks of the table; kept for its memory.
#[derive(Clone, Debug, Default)]
struct Blocks {
    /// Where the rows of a block begin in `order`.
    starts: Vec<u32>,
    /// Places among the gradients.
    order: Vec<u32>,
    /// By thread: the gradients of one block, zero between uses.
    gradients: Vec<Vec<f32>>,
}

impl Optimizer {
    pub fn new(settings: train::Optimizer, clip: Clip, len: usize) -> Self {
        let first = match settings {
            train::Optimizer::Ftrl { initial, .. } => initial as f32,
            _ => 0.0,
        };
        let one = |index| vec![if index == 0 { first } else { 0.0 }; len];
        let state = (0..moment_names(&settings).len()).map(one).collect();
        Self { settings, clip, step: 0, state, blocks: Blocks::default() }
    }

    /// The arrays that must be saved, by name, each of one value per weight.
    pub fn moments(&self) -> Vec<(&'static str, &[f32])> {
        moment_names(&self.settings).iter().copied().zip(self.state.iter().map(Vec::as_slice)).collect()
    }

    pub fn step(&self) -> u64 {
        self.step
    }

    /// Takes back what [`Self::moments`] and [`Self::step`] gave.
    pub fn restore(&mut self, step: u64, moments: Vec<Vec<f32>>) {
        let names = moment_names(&self.settings);
        assert_eq!(moments.len(), names.len(), "one array for each of {names:?}");
        self.step = step;
        for (own, saved) in self.state.iter_mut().zip(moments) {
            assert_eq!(own.len(), saved.len(), "one moment per weight");
            *own = saved;
        }
    }

    /// Moves all weights against their gradients, with `share` of the learning rate.
    pub fn update(&mut self, share: f64, slots: &[Slot], weights: &mut [f32], gradients: &Gradients<'_, f32>) {
        self.step += 1;
        let limit = limit(self.clip, slots, gradients);
        let rule = self.rule(share);
        let mut at = 0;
        while at < slots.len() {
            let slot = &slots[at];
            at += 1;
            match (&slot.gradient, slot.role) {
                (SlotPlace::Rows(table), _) => {
                    let rows = &gradients.tables[*table];
                    self.update_table((rule, limit), slot.range.clone(), weights, slot.width(), rows);
                }
                (SlotPlace::Whole(range), Role::Statistic { momentum }) => {
                    let (momentum, rest) = (momentum as f32, (1.0 - momentum) as f32);
                    for (value, sum) in weights[slot.range.clone()].iter_mut().zip(&gradients.whole[range.clone()]) {
                        *value = momentum * *value + rest * sum;
                    }
                }
                (SlotPlace::Whole(range), _) => {
                    // Neighbours are moved together: most parameters are too small to be shared among threads.
                    let (mut end, mut gradient_end) = (slot.range.end, range.end);
                    while let Some(Slot { role: Role::Weight, range, gradient: SlotPlace::Whole(of), .. }) =
                        slots.get(at)
                    {
                        (end, gradient_end) = (range.end, of.end);
                        at += 1;
                    }
                    let whole = &gradients.whole[range.start..gradient_end];
                    self.update_whole((rule, limit), slot.range.start..end, weights, whole);
                }
            }
        }
    }

    fn update_whole(
        &mut self,
        (rule, limit): (Rule, Limit),
        range: Range<usize>,
        weights: &mut [f32],
        gradients: &[f32],
    ) {
        let len = range.len();
        let moved = self.moved(range, weights);
        let threads = rayon::current_num_threads();
        if len < PARALLEL_FROM || threads == 1 {
            return rules::whole(rule, limit, moved, gradients);
        }
        let part = len.div_ceil(threads);
        split(moved, part)
            .into_par_iter()
            .zip(gradients.par_chunks(part))
            .for_each(|(moved, gradients)| rules::whole(rule, limit, moved, gradients));
    }

    fn update_table(
        &mut self,
        (rule, limit): (Rule, Limit),
        range: Range<usize>,
        weights: &mut [f32],
        width: usize,
        gradients: &RowGradients<f32>,
    ) {
        if touches_rows_only(&self.settings) {
            let moved = self.moved(range, weights);
            return rules::rows(rule, limit, moved, width, &gradients.rows, &gradients.values);
        }
        let mut blocks = std::mem::take(&mut self.blocks);
        let block_rows = (BLOCK / width).max(1);
        blocks.sort(range.len() / width, block_rows, &gradients.rows);
        let n_blocks = blocks.starts.len() - 1;
        let threads = if range.len() < PARALLEL_FROM { 1 } else { rayon::current_num_threads() };
        let part = n_blocks.div_ceil(threads).max(1);
        blocks.gradients.resize_with(threads.max(blocks.gradients.len()), Vec::new);
        let (starts, order) = (&blocks.starts, &blocks.order);
        let parts = split(self.moved(range, weights), part * block_rows * width);
        parts.into_par_iter().zip(&mut blocks.gradients).enumerate().for_each(|(index, (moved, buffer))| {
            buffer.resize(block_rows * width, 0.0);
            for (block, moved) in split(moved, block_rows * width).into_iter().enumerate() {
                let block = index * part + block;
                let own = &order[starts[block] as usize..starts[block + 1] as usize];
                let first_row = block * block_rows;
                let place = |at: u32| (gradients.rows[at as usize] as usize - first_row) * width;
                for at in own {
                    let from = *at as usize * width;
                    buffer[place(*at)..][..width].copy_from_slice(&gradients.values[from..from + width]);
                }
                rules::whole(rule, limit, moved, buffer);
                for at in own {
                    buffer[place(*at)..][..width].fill(0.0);
                }
            }
        });
        self.blocks = blocks;
    }

    /// The weights of a range with their state; empty where there is none.
    fn moved<'a>(&'a mut self, range: Range<usize>, weights: &'a mut [f32]) -> Moved<'a> {
        let mut state = self.state.iter_mut().map(|array| &mut array[range.clone()]);
        let (first, second) = (state.next().unwrap_or_default(), state.next().unwrap_or_default());
        Moved { weights: &mut weights[range.clone()], first, second }
    }

    fn rule(&self, share: f64) -> Rule {
        match self.settings {
            train::Optimizer::Sgd { learning_rate, momentum: 0.0, .. } => {
                Rule::Sgd { rate: (learning_rate * share) as f32 }
            }
            train::Optimizer::Sgd { learning_rate, momentum, nesterov } => {
                Rule::Momentum { rate: (learning_rate * share) as f32, momentum: momentum as f32, nesterov }
            }
            train::Optimizer::Adagrad { learning_rate, epsilon } => {
                Rule::Adagrad { rate: (learning_rate * share) as f32, epsilon: epsilon as f32 }
            }
            train::Optimizer::RmsProp { learning_rate, decay, momentum, epsilon } => {
                let (rate, epsilon) = ((learning_rate * share) as f32, epsilon as f32);
                let (rest, decay, momentum) = ((1.0 - decay) as f32, decay as f32, momentum as f32);
                if momentum == 0.0 {
                    return Rule::RmsProp { rate, decay, rest, epsilon };
                }
                Rule::RmsPropMomentum { rate, decay, rest, epsilon, momentum }
            }
            train::Optimizer::Adam { learning_rate, beta1, beta2, epsilon, .. } => {
                self.adam(learning_rate * share, beta1, beta2, epsilon, 0.0)
            }
            train::Optimizer::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => {
                self.adam(learning_rate * share, beta1, beta2, epsilon, weight_decay)
            }
            train::Optimizer::Ftrl { learning_rate, power, l1, l2, .. } => {
                let (per_rate, l1, two_l2) = ((1.0 / (learning_rate * share)) as f32, l1 as f32, (2.0 * l2) as f32);
                if power == -0.5 {
                    return Rule::Ftrl { per_rate, l1, two_l2 };
                }
                Rule::FtrlPower { per_rate, l1, two_l2, minus_power: -power as f32 }
            }
        }
    }

    fn adam(&self, learning_rate: f64, beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> Rule {
        let steps = i32::try_from(self.step).unwrap_or(i32::MAX);
        // Corrections for moments that start at zero, in f64: 1 - beta^t loses digits in f32.
        Rule::Adam {
            rate: (learning_rate / (1.0 - beta1.powi(steps))) as f32,
            root: (1.0 - beta2.powi(steps)).sqrt().recip() as f32,
            keep: (1.0 - learning_rate * weight_decay) as f32,
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
        }
    }
}

impl Blocks {
    /// Counts and places, so that the rows of each block stand together, in the order in which they came.
    fn sort(&mut self, table_rows: usize, block_rows: usize, rows: &[u32]) {
        let blocks = table_rows.div_ceil(block_rows);
        self.starts.clear();
        self.starts.resize(blocks + 1, 0);
        for row in rows {
            self.starts[*row as usize / block_rows + 1] += 1;
        }
        for block in 0..blocks {
            self.starts[block + 1] += self.starts[block];
        }
        self.order.resize(rows.len(), 0);
        for (at, row) in rows.iter().enumerate() {
            let next = &mut self.starts[*row as usize / block_rows];
            self.order[*next as usize] = at as u32;
            *next += 1;
        }
        // Each start has moved to its block's end, which is the next one's start.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }
}

/// Runs of `part` values.
fn split(moved: Moved<'_>, part: usize) -> Vec<Moved<'_>> {
    let Moved { weights, first, second } = moved;
    let (mut first, mut second) = (first.chunks_mut(part), second.chunks_mut(part));
    let with_state =
        |weights| Moved { weights, first: first.next().unwrap_or_default(), second: second.next().unwrap_or_default() };
    weights.chunks_mut(part).map(with_state).collect()
}

/// Whether a row without a gradient stays as it is.
fn touches_rows_only(settings: &train::Optimizer) -> bool {
    match settings {
        train::Optimizer::Sgd { momentum, .. } => *momentum == 0.0,
        train::Optimizer::Adagrad { .. } | train::Optimizer::Ftrl { .. } => true,
        train::Optimizer::Adam { lazy, .. } => *lazy,
        train::Optimizer::RmsProp { .. } | train::Optimizer::AdamW { .. } => false,
    }
}

/// Names of the arrays that this optimizer keeps beside the weights.
pub fn moment_names(settings: &train::Optimizer) -> &'static [&'static str] {
    match settings {
        train::Optimizer::Sgd { momentum: 0.0, .. } => &[],
        train::Optimizer::Sgd { .. } => &["momentum"],
        train::Optimizer::Adagrad { .. } => &["sum"],
        train::Optimizer::RmsProp { momentum: 0.0, .. } => &["mean_square"],
        train::Optimizer::RmsProp { .. } => &["mean_square", "momentum"],
        train::Optimizer::Adam { .. } | train::Optimizer::AdamW { .. } => &["first_moment", "second_moment"],
        train::Optimizer::Ftrl { .. } => &["sum", "linear"],
    }
}

/// What [`Clip`] makes of these gradients. As in PyTorch a norm just above the limit comes out a millionth below it.
fn limit(clip: Clip, slots: &[Slot], gradients: &Gradients<'_, f32>) -> Limit {
    match clip {
        Clip::None => Limit::NONE,
        Clip::Value { limit } => Limit { largest: limit as f32, ..Limit::NONE },
        Clip::Norm { limit } => {
            let of = |slot: &Slot| match (&slot.gradient, slot.role) {
                (_, Role::Statistic { .. }) => 0.0,
                (SlotPlace::Whole(range), _) => squares(&gradients.whole[range.clone()]),
                (SlotPlace::Rows(table), _) => squares(&gradients.tables[*table].values),
            };
            let norm = slots.iter().map(of).sum::<f64>().sqrt();
            // Written so that a norm that is no number is not clipped into one.
            let scale = if norm > limit { limit / (norm + 1e-6) } else { 1.0 };
            Limit { scale: scale as f32, ..Limit::NONE }
        }
    }
}

/// In parts of one length, each added up in f64, so that it is the same bits for any number of threads.
fn squares(values: &[f32]) -> f64 {
    let one = |part: &[f32]| part.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    if values.len() < PARALLEL_FROM {
        return values.chunks(BLOCK).map(one).sum();
    }
    values.par_chunks(BLOCK).map(one).collect::<Vec<f64>>().into_iter().sum()
}

#[cfg(test)]
mod tests;
