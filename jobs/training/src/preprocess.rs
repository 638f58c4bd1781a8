//! From values to what a graph reads: means, words and boundaries are learned from the training rows, once, and saved with the
//! model.
//!
//! Invariant: training and scoring go through [`Preprocessing::prepare`], so that equal values are the same bits in both. What
//! is learned depends on the set of training rows alone. Every value has a meaning: an absent number counts as 0, or as the
//! mean where values are normalised and as the median in buckets; an absent word and one that was not seen count as "other"
//! in a vocabulary, and a hash has room for both.

use crate::batches::{Buffer, Examples, Prepared};
use crate::columns::Columns;
use crate::graph::operation::{Kind, Shape};
use crate::normalization::Normalization;
use crate::values::{Error, NO_WORD, Reading, Strictness, Values, is_absent};
use arrow::array::{Array, ArrayRef};
use jobs::train::{Input, Preprocess};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What the inputs of a graph are made of and how. A part of the checkpoint and of the model's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    pub inputs: Vec<InputState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputState {
    /// With the names of all its columns.
    pub input: Input,
    /// Values of each column in a row; more than one of a column of lists.
    pub widths: Vec<usize>,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is learned for this step.
    Nothing,
    Normalization(Normalization),
    /// Most frequent first, equals by value; the first one's id is 1.
    Words(Vec<String>),
    /// Of each value of a row.
    Boundaries(Vec<Boundaries>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boundaries {
    /// Rising; a value goes into the bucket of as many boundaries as do not exceed it.
    pub values: Vec<f32>,
    /// Bucket of the median, where an absent value goes.
    pub absent: u32,
}

impl Boundaries {
    /// Quantiles of the values that are there.
    fn learn(values: impl Iterator<Item = f32>, count: usize) -> Self {
        let mut values: Vec<f32> = values.filter(|value| !is_absent(*value)).collect();
        values.sort_unstable_by(f32::total_cmp);
        if values.is_empty() {
            return Self { values: Vec::new(), absent: 0 };
        }
        let quantile = |part: usize, of: usize| values[(values.len() * part / of).min(values.len() - 1)];
        let boundaries: Vec<f32> = (1..count).map(|part| quantile(part, count)).collect();
        let median = quantile(1, 2);
        let absent = place(&boundaries, median);
        Self { values: boundaries, absent }
    }

    fn bucket(&self, value: f32) -> u32 {
        if is_absent(value) { self.absent } else { place(&self.values, value) }
    }
}

fn place(boundaries: &[f32], value: f32) -> u32 {
    boundaries.partition_point(|boundary| *boundary <= value) as u32
}

/// Of a row; no input has more.
const MOST_VALUES: usize = 1 << 31;

impl InputState {
    /// Learns from row-major values of the training rows.
    fn learn(input: &Input, widths: &[usize], values: &Values) -> Self {
        let width: usize = widths.iter().sum();
        let state = match (&input.step, values) {
            (Preprocess::Normalize, Values::Reals(values)) => State::Normalization(Normalization::learn(values, width)),
            (Preprocess::Buckets { count }, Values::Reals(values)) => State::Boundaries(
                (0..width)
                    .map(|at| Boundaries::learn(values.iter().skip(at).step_by(width).copied(), *count))
                    .collect(),
            ),
            (Preprocess::Vocabulary { size } | Preprocess::OneHot { size }, Values::Words { places, words }) => {
                State::Words(most_frequent(places, words, size - 1))
            }
            _ => State::Nothing,
        };
        Self { input: input.clone(), widths: widths.to_vec(), state }
    }

    fn check(&self) -> Result<(), String> {
        let Self { input, widths, state } = self;
        let width = widths.iter().try_fold(0usize, |sum, width| sum.checked_add(*width));
        let Some(width) = width.filter(|width| (1..=MOST_VALUES).contains(width)) else {
            return Err(format!("a row of it has {widths:?} values; it must have 1 to {MOST_VALUES}"));
        };
        if widths.len() != input.columns.len() || widths.contains(&0) {
            return Err(format!("it has {} columns, of {widths:?} values each", input.columns.len()));
        }
        let size = match input.step {
            Preprocess::Numbers | Preprocess::Normalize => 1,
            Preprocess::Ids { size } => size,
            Preprocess::Hash { buckets: size }
            | Preprocess::Vocabulary { size }
            | Preprocess::Buckets { count: size }
            | Preprocess::OneHot { size } => size,
        };
        if size == 0 || size >= u32::MAX as usize {
            return Err(format!("it tells {size} values apart"));
        }
        let values = match input.step {
            Preprocess::OneHot { size } => width.saturating_mul(size),
            _ => width,
        };
        let dims = input.dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if values > MOST_VALUES || (!input.dims.is_empty() && dims != Some(values)) {
            return Err(format!("its dims are {:?}, and it has {values} values in a row", input.dims));
        }
        let fits = match (&input.step, state) {
            (Preprocess::Normalize, State::Normalization(learned)) => {
                learned.mean.len() == width && learned.deviation.len() == width
            }
            (Preprocess::Buckets { count }, State::Boundaries(all)) => {
                let fits = |one: &Boundaries| one.values.len() < *count && (one.absent as usize) < *count;
                all.len() == width && all.iter().all(fits)
            }
            (Preprocess::Vocabulary { size } | Preprocess::OneHot { size }, State::Words(words)) => words.len() < *size,
            (Preprocess::Numbers | Preprocess::Ids { .. } | Preprocess::Hash { .. }, State::Nothing) => true,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("what was learned for {} does not fit it", input.step.kind())) }
    }

    /// Values of a row before the step.
    pub fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// Of one row of what the graph reads.
    pub fn shape(&self) -> Result<Shape, Error> {
        let kind = match self.input.step {
            Preprocess::Numbers | Preprocess::Normalize | Preprocess::OneHot { .. } => Kind::Reals,
            Preprocess::Ids { size } | Preprocess::Vocabulary { size } => Kind::Ids { size },
            Preprocess::Hash { buckets } => Kind::Ids { size: buckets },
            Preprocess::Buckets { count } => Kind::Ids { size: count },
        };
        let values = match self.input.step {
            Preprocess::OneHot { size } => self.width() * size,
            _ => self.width(),
        };
        let dims = if self.input.dims.is_empty() { vec![values] } else { self.input.dims.clone() };
        if dims.iter().product::<usize>() != values {
            return Err(Error::Dims { input: self.input.name.clone(), dims, values });
        }
        Ok(Shape { kind, dims })
    }

    /// In place where the values keep their type.
    fn prepare(&self, values: Values) -> Prepared {
        let width = self.width();
        match (&self.state, values) {
            (State::Boundaries(boundaries), Values::Reals(values)) => {
                let bucket = |(at, value): (usize, &f32)| boundaries[at % width].bucket(*value);
                Prepared::Whole(Buffer::Ids(values.iter().enumerate().map(bucket).collect()), width)
            }
            (state, Values::Reals(mut values)) => {
                let normalization = match state {
                    State::Normalization(normalization) => Some(normalization),
                    _ => None,
                };
                crate::normalization::apply(normalization, &mut values, width);
                Prepared::Whole(Buffer::Reals(values), width)
            }
            (_, Values::Ids(ids)) => Prepared::Whole(Buffer::Ids(ids), width),
            (state, Values::Words { mut places, words }) => {
                let known: &[String] = match state {
                    State::Words(known) => known,
                    _ => &[],
                };
                let id_of: HashMap<&str, u32> =
                    known.iter().enumerate().map(|(at, word)| (word.as_str(), at as u32 + 1)).collect();
                let ids: Vec<u32> = words.iter().map(|word| id_of.get(word.as_str()).copied().unwrap_or(0)).collect();
                for place in &mut places {
                    *place = if *place == NO_WORD { 0 } else { ids[*place as usize] };
                }
                match self.input.step {
                    Preprocess::OneHot { size } => Prepared::OneHot { ids: places, width, size },
                    _ => Prepared::Whole(Buffer::Ids(places), width),
                }
            }
        }
    }
}

/// At most `count` words, most frequent first, equals by value.
fn most_frequent(places: &[u32], words: &[String], count: usize) -> Vec<String> {
    let mut times = vec![0u64; words.len()];
    for place in places.iter().filter(|place| **place != NO_WORD) {
        times[*place as usize] += 1;
    }
    // The words of rows that are held out count as not seen.
    let mut order: Vec<usize> = (0..words.len()).filter(|word| times[*word] > 0).collect();
    order.sort_by_key(|word| std::cmp::Reverse(times[*word]));
    order.into_iter().take(count).map(|word| words[word].clone()).collect()
}

impl Preprocessing {
    /// `widths` and `values` of each input, in the order of the columns' inputs.
    pub fn learn(columns: &Columns, widths: &[Vec<usize>], values: &[Values]) -> Self {
        let inputs = columns.inputs.iter().zip(widths).zip(values);
        Self { inputs: inputs.map(|((input, widths), values)| InputState::learn(input, widths, values)).collect() }
    }

    /// Whether both read the same columns by the same steps; what they learned may differ.
    pub fn reads_as(&self, other: &Self) -> bool {
        let of = |state: &InputState| (state.input.clone(), state.widths.clone());
        self.inputs.iter().map(of).eq(other.inputs.iter().map(of))
    }

    /// Whether what was learned fits the columns; the input that it does not fit, and why. Rows are prepared without asking
    /// again, so this is asked of every file that comes from outside.
    pub fn check(&self) -> Result<(), (String, String)> {
        for state in &self.inputs {
            state.check().map_err(|reason| (state.input.name.clone(), reason))?;
        }
        Ok(())
    }

    /// Names and shapes of what the graph reads.
    pub fn shapes(&self) -> Result<Vec<(String, Shape)>, Error> {
        self.inputs.iter().map(|input| Ok((input.input.name.clone(), input.shape()?))).collect()
    }

    pub fn prepare(&self, values: Vec<Values>) -> Vec<Prepared> {
        self.inputs.iter().zip(values).map(|(input, values)| input.prepare(values)).collect()
    }

    /// What the graph reads of these columns, which come in the order of `features`.
    pub fn read(&self, features: &[String], columns: &[ArrayRef]) -> Result<Examples, Error> {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for state in &self.inputs {
            let mut reading = Reading::new(&state.input, Some(&state.widths), Strictness::Scoring);
            let place = |name: &String| features.iter().position(|feature| feature == name);
            let own: Vec<&ArrayRef> =
                state.input.columns.iter().filter_map(place).filter_map(|place| columns.get(place)).collect();
            reading.add(&own)?;
            let (values, _) = reading.finish();
            inputs.push(state.prepare(values));
        }
        Ok(Examples { inputs, rows, ..Examples::default() })
    }
}

#[cfg(test)]
mod tests;
