//! Forward and backward through the steps of a graph, in memory that is kept from run to run.

use crate::graph::build::{Ask, From, Operator, Place as SlotPlace};
use crate::graph::operation::{Backward, Forward, Gradient, Pass, Place, RowGradients, Saved, Values};
use crate::graph::{Error, Graph};
use crate::loss::{self, Target};
use crate::real::Real;
use jobs::train::Loss;
use std::sync::PoisonError;

/// Where steps write and what they keep, for one run at a time.
#[derive(Debug)]
pub(super) struct Memory<T> {
    /// By step.
    outputs: Vec<Vec<T>>,
    gradients: Vec<Vec<T>>,
    saved: Vec<Saved<T>>,
    /// By place among the inputs of a step: gradients that are then added to what another reader has written.
    spare: Vec<Vec<T>>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { outputs: Vec::new(), gradients: Vec::new(), saved: Vec::new(), spare: Vec::new() }
    }
}

/// What a batch, or a part of one, is to be trained on.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub loss: Loss,
    pub target: Target<'a>,
    /// Of a row's loss: one over the rows of the *global* batch, so that the losses (and gradients) of all ranks add up to the
    /// mean over that batch, whatever share of it each rank has.
    pub scale: f64,
    pub place: Place,
}

/// Of one step, for all parameters.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// In the order of the slots, without tables.
    pub whole: &'a mut [T],
    pub tables: &'a mut [RowGradients<T>],
}

impl<T: Real> Graph<T> {
    /// Values in all gradients that are not of tables.
    pub fn gradient_len(&self) -> usize {
        self.gradient_len
    }

    pub fn tables(&self) -> usize {
        self.tables
    }

    /// Adds the output for `rows` rows, in their order, to `output`.
    pub fn infer(&self, inputs: &[Values<'_, T>], rows: usize, output: &mut Vec<T>) -> Result<(), Error> {
        self.check(inputs, rows)?;
        let mut memory = self.memory();
        self.forward(&mut memory, inputs, rows, Pass::Inference);
        output.extend_from_slice(&memory.outputs[self.output]);
        self.keep(memory);
        Ok(())
    }

    /// The loss of these rows, and their gradients written over `gradients`.
    pub fn gradients(
        &self,
        inputs: &[Values<'_, T>],
        rows: usize,
        step: Step<'_>,
        mut gradients: Gradients<'_, T>,
    ) -> Result<f64, Error> {
        self.check(inputs, rows)?;
        assert_eq!(gradients.whole.len(), self.gradient_len, "room for the gradients");
        assert_eq!(gradients.tables.len(), self.tables, "room for the gradients of each table");
        let mut memory = self.memory();
        self.forward(&mut memory, inputs, rows, Pass::Training(step.place));
        let logits = &memory.outputs[self.output];
        let gradient = &mut memory.gradients[self.output];
        gradient.resize(logits.len(), T::zero());
        // A row's loss is the mean over its places.
        let step = Step { scale: step.scale * rows as f64 / step.target.len().max(1) as f64, ..step };
        let value =
            loss::value_and_gradient((logits, self.output().dims.last().copied().unwrap_or(1)), &step, gradient)
                .map_err(Error::Loss)?;
        if cfg!(debug_assertions) {
            gradients.whole.fill(T::from_f64(f64::NAN));
        }
        self.backward(&mut memory, inputs, rows, step.place, &mut gradients);
        if cfg!(debug_assertions) && value.is_finite() {
            self.assert_all_received(&gradients);
        }
        self.keep(memory);
        Ok(value)
    }

    fn memory(&self) -> Memory<T> {
        let mut memory = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let steps = self.steps.len();
        memory.outputs.resize_with(steps, Vec::new);
        memory.gradients.resize_with(steps, Vec::new);
        memory.saved.resize_with(steps, Saved::default);
        memory.spare.resize_with(self.steps.iter().map(|step| step.edges.len()).max().unwrap_or(0), Vec::new);
        memory
    }

    fn keep(&self, memory: Memory<T>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    fn check(&self, inputs: &[Values<'_, T>], rows: usize) -> Result<(), Error> {
        if inputs.len() != self.sources.len() {
            let names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
            return Err(Error::Inputs { got: inputs.len(), names: names.join(", ") });
        }
        for (input, source) in inputs.iter().zip(&self.sources) {
            let got = match input {
                Values::Reals(values) => values.len(),
                Values::Ids(ids) => ids.len(),
            };
            if got != rows * source.shape.size() {
                let (input, dims) = (source.name.clone(), source.shape.dims.clone());
                return Err(Error::Input { input, got, rows, dims });
            }
        }
        Ok(())
    }

    fn forward(&self, memory: &mut Memory<T>, inputs: &[Values<'_, T>], rows: usize, pass: Pass) {
        for (index, step) in self.steps.iter().enumerate() {
            let (before, rest) = memory.outputs.split_at_mut(index);
            let output = &mut rest[0];
            output.resize(rows * step.shape.size(), T::zero());
            T::operation(&*step.kernel).forward(Forward {
                pass,
                rows,
                inputs: &values(step, inputs, before),
                parameters: &self.parameters(step),
                output,
                saved: &mut memory.saved[index],
            });
        }
    }

    fn parameters(&self, step: &Operator) -> Vec<&[T]> {
        step.parameters.iter().map(|slot| &self.weights[self.slots[*slot].range.clone()]).collect()
    }

    fn backward(
        &self,
        memory: &mut Memory<T>,
        inputs: &[Values<'_, T>],
        rows: usize,
        place: Place,
        gradients: &mut Gradients<'_, T>,
    ) {
        let mut by_slot = self.by_slot(gradients);
        let Memory { outputs, gradients, saved, spare } = memory;
        for (index, step) in self.steps.iter().enumerate().rev().filter(|(_, step)| step.trains) {
            let mut own = std::mem::take(&mut gradients[index]);
            let mut asked: Vec<Vec<T>> = Vec::with_capacity(step.edges.len());
            for (number, edge) in step.edges.iter().enumerate() {
                let (From::Step(from), true) = (edge.from, edge.ask != Ask::Nothing) else {
                    asked.push(Vec::new());
                    continue;
                };
                let from_len = outputs[from].len();
                let kept = if edge.ask == Ask::Write { &mut gradients[from] } else { &mut spare[number] };
                let mut array = std::mem::take(kept);
                array.resize(from_len, T::zero());
                if cfg!(debug_assertions) {
                    array.fill(T::from_f64(f64::NAN));
                }
                asked.push(array);
            }
            let mut input_gradients: Vec<Option<&mut [T]>> = asked
                .iter_mut()
                .zip(&step.edges)
                .map(|(array, edge)| (edge.ask != Ask::Nothing).then_some(&mut array[..]))
                .collect();
            let mut parameter_gradients: Vec<Gradient<'_, T>> = step
                .parameters
                .iter()
                .map(|slot| by_slot[*slot].take().expect("a parameter belongs to one step"))
                .collect();
            T::operation(&*step.kernel).backward(Backward {
                place,
                rows,
                inputs: &values(step, inputs, outputs),
                parameters: &self.parameters(step),
                output: &outputs[index],
                saved: &mut saved[index],
                gradient: &mut own,
                input_gradients: &mut input_gradients,
                parameter_gradients: &mut parameter_gradients,
            });
            gradients[index] = own;
            for (number, (array, edge)) in asked.into_iter().zip(&step.edges).enumerate() {
                match (edge.from, edge.ask) {
                    (From::Step(from), Ask::Write) => gradients[from] = array,
                    (From::Step(from), Ask::Add) => {
                        for (sum, value) in gradients[from].iter_mut().zip(&array) {
                            *sum += *value;
                        }
                        spare[number] = array;
                    }
                    _ => {}
                }
            }
        }
    }

    /// One place for each slot's gradient.
    fn by_slot<'a>(&self, gradients: &'a mut Gradients<'_, T>) -> Vec<Option<Gradient<'a, T>>> {
        let mut whole = &mut *gradients.whole;
        let mut tables = gradients.tables.iter_mut();
        let mut by_slot = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            by_slot.push(match &slot.gradient {
                SlotPlace::Whole(range) => {
                    let (own, rest) = std::mem::take(&mut whole).split_at_mut(range.len());
                    whole = rest;
                    Some(Gradient::Whole(own))
                }
                SlotPlace::Rows(_) => tables.next().map(Gradient::Rows),
            });
        }
        by_slot
    }

    /// A gradient that nobody wrote would freeze its parameter, and the loss would still fall.
    fn assert_all_received(&self, gradients: &Gradients<'_, T>) {
        for slot in &self.slots {
            if let SlotPlace::Whole(range) = &slot.gradient {
                let written = gradients.whole[range.clone()].iter().any(|value| !value.to_f64().is_nan());
                assert!(written, "{} received no gradient", slot.name);
            }
        }
    }
}

fn values<'a, T: Real>(step: &Operator, inputs: &[Values<'a, T>], outputs: &'a [Vec<T>]) -> Vec<Values<'a, T>> {
    let one = |from| match from {
        From::Source(index) => inputs[index],
        From::Step(index) => Values::Reals(&outputs[index]),
    };
    step.edges.iter().map(|edge| one(edge.from)).collect()
}
