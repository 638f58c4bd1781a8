//! A chain of layers over candle, with its parameters in one fixed order.
//!
//! Invariant: parameters are ordered by name, and slot `i` of that order has the same place in every flat array of weights,
//! gradients and optimizer state, on every rank and in every file. First weights depend on the seed and the parameter's
//! name alone. Knows nothing of data, optimizers or other ranks.

use crate::activation;
use crate::dense::dense;
use crate::loss::{self, Targets};
use crate::random::{self, Purpose};
use crate::real;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor, Var};
use jobs::train::{Activation, Layer, Loss, Node};
use rand_chacha::rand_core::RngCore;
use std::cell::RefCell;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("run layer {layer}")]
    Layer { layer: String, source: Box<candle_core::Error> },
    #[error("compute the loss")]
    Loss { source: Box<candle_core::Error> },
    #[error("compute gradients")]
    Backward { source: Box<candle_core::Error> },
    #[error("train {parameter}: no gradient reaches it")]
    NoGradient { parameter: String },
    #[error("reach the values of {parameter}")]
    Parameter { parameter: String, source: Box<candle_core::Error> },
}

/// Where one parameter lies in every flat array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    pub dims: Vec<usize>,
    pub range: Range<usize>,
}

/// Which numbers a dropout layer draws. They belong to a row of the global batch, so that they are the same whichever rank
/// holds the row.
#[derive(Clone, Copy, Debug)]
pub struct DropoutPlace {
    pub seed: u64,
    pub step: u64,
    /// Place in the global batch of the first row passed in.
    pub first_row: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum Pass {
    /// No graph is recorded and nothing is dropped.
    Inference,
    Training(DropoutPlace),
}

pub struct Network {
    slots: Vec<Slot>,
    variables: Vec<Var>,
    steps: Vec<Step>,
    inputs: usize,
    outputs: usize,
}

struct Step {
    name: String,
    kind: StepKind,
}

enum StepKind {
    Dense { weight: usize, bias: usize, activation: Activation },
    Dropout { index: u64, rate: f64 },
}

impl Network {
    /// Layers as in the job, then an output layer of `outputs` logits.
    pub fn new(inputs: usize, outputs: usize, layers: &[Node], seed: u64, dtype: DType) -> Result<Self, Error> {
        let slots = slots(inputs, outputs, layers);
        let find = |name: String| {
            slots.iter().position(|slot| slot.name == name).expect("every dense layer has its weight and bias slot")
        };
        let mut steps = Vec::with_capacity(layers.len() + 1);
        let mut slopes = vec![Activation::Linear; slots.len()];
        for (index, Node { name, layer, .. }) in layers.iter().enumerate() {
            let name = name.clone();
            let kind = match layer {
                Layer::Dense { activation, .. } => {
                    let weight = find(format!("{name}.weight"));
                    slopes[weight] = *activation;
                    StepKind::Dense { weight, bias: find(format!("{name}.bias")), activation: *activation }
                }
                Layer::Dropout { rate } => StepKind::Dropout { index: index as u64, rate: *rate },
                other => panic!("{} is not there yet", other.kind()),
            };
            steps.push(Step { name, kind });
        }
        let (weight, bias) = (find("output.weight".to_string()), find("output.bias".to_string()));
        steps.push(Step {
            name: "output".to_string(),
            kind: StepKind::Dense { weight, bias, activation: Activation::Linear },
        });
        let mut variables = Vec::with_capacity(slots.len());
        for (slot, activation) in slots.iter().zip(slopes) {
            let values = first_values(slot, activation, seed);
            let variable = Tensor::from_vec(values, slot.dims.clone(), &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(dtype))
                .and_then(|tensor| Var::from_tensor(&tensor))
                .map_err(|source| Error::Parameter { parameter: slot.name.clone(), source: Box::new(source) })?;
            variables.push(variable);
        }
        Ok(Self { slots, variables, steps, inputs, outputs })
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of values in all parameters.
    pub fn size(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.range.end)
    }

    /// Logits of `input`, of shape [rows, inputs].
    pub fn forward(&self, input: Tensor, pass: Pass) -> Result<Tensor, Error> {
        let parameter = |slot: usize| match pass {
            Pass::Inference => self.variables[slot].as_detached_tensor(),
            Pass::Training(_) => self.variables[slot].as_tensor().clone(),
        };
        let mut output = input;
        for step in &self.steps {
            let result = match &step.kind {
                StepKind::Dense { weight, bias, activation } => dense(&output, &parameter(*weight), &parameter(*bias))
                    .and_then(|sum| activation::apply(&sum, *activation)),
                StepKind::Dropout { index, rate } => match pass {
                    Pass::Inference => Ok(output),
                    Pass::Training(place) => drop_out(&output, *rate, *index, place),
                },
            };
            output = result.map_err(|source| Error::Layer { layer: step.name.clone(), source: Box::new(source) })?;
        }
        Ok(output)
    }

    /// The loss of these rows times `scale`, and the gradients of all parameters written over `gradients`.
    pub fn gradients(
        &self,
        input: Tensor,
        (loss, targets, scale): (Loss, Targets, f64),
        place: DropoutPlace,
        gradients: &mut [f32],
    ) -> Result<f32, Error> {
        assert_eq!(gradients.len(), self.size(), "room for the gradients");
        let (value, store) = self.backward(input, (loss, targets, scale), place)?;
        for (slot, gradient) in self.slots.iter().zip(self.ordered(&store)) {
            let failed = |source| Error::Parameter { parameter: slot.name.clone(), source: Box::new(source) };
            let gradient = gradient?.contiguous().map_err(failed)?;
            let into = &mut gradients[slot.range.clone()];
            real::read(&gradient, |values: &[f32]| into.copy_from_slice(values)).map_err(failed)?;
        }
        value.to_scalar::<f32>().map_err(|source| Error::Loss { source: Box::new(source) })
    }

    fn backward(
        &self,
        input: Tensor,
        (loss, targets, scale): (Loss, Targets, f64),
        place: DropoutPlace,
    ) -> Result<(Tensor, GradStore), Error> {
        let logits = self.forward(input, Pass::Training(place))?;
        let value = loss::scaled_sum(&logits, loss, targets, scale)
            .map_err(|source| Error::Loss { source: Box::new(source) })?;
        let store = value.backward().map_err(|source| Error::Backward { source: Box::new(source) })?;
        Ok((value, store))
    }

    /// The gradient of each parameter in slot order. One that is missing means that an operation cut the graph without a
    /// word; training on would freeze that parameter and still show a falling loss.
    fn ordered<'a>(&'a self, store: &'a GradStore) -> impl Iterator<Item = Result<&'a Tensor, Error>> + 'a {
        self.slots.iter().zip(&self.variables).map(|(slot, variable)| {
            store.get(variable).ok_or_else(|| Error::NoGradient { parameter: slot.name.clone() })
        })
    }

    /// Hands out the values of each parameter to be changed in place. Parameters are f32 here.
    pub fn change(&self, mut change: impl FnMut(&Slot, &mut [f32])) -> Result<(), Error> {
        for (slot, variable) in self.slots.iter().zip(&self.variables) {
            let visit = Visit(RefCell::new(|values: &mut [f32]| change(slot, values)));
            variable
                .inplace_op1(&visit)
                .map_err(|source| Error::Parameter { parameter: slot.name.clone(), source: Box::new(source) })?;
        }
        Ok(())
    }

    /// All parameters as one flat array.
    pub fn weights(&self) -> Result<Vec<f32>, Error> {
        let mut weights = Vec::with_capacity(self.size());
        for (slot, variable) in self.slots.iter().zip(&self.variables) {
            real::read(variable, |values: &[f32]| weights.extend_from_slice(values))
                .map_err(|source| Error::Parameter { parameter: slot.name.clone(), source: Box::new(source) })?;
        }
        Ok(weights)
    }

    pub fn set_weights(&self, weights: &[f32]) -> Result<(), Error> {
        assert_eq!(weights.len(), self.size(), "one weight per value");
        self.change(|slot, values| values.copy_from_slice(&weights[slot.range.clone()]))
    }
}

/// Names and places of the parameters of such a network, ordered by name.
pub fn slots(inputs: usize, outputs: usize, layers: &[Node]) -> Vec<Slot> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut width = inputs;
    for Node { name, layer, .. } in layers {
        if let Layer::Dense { units, .. } = layer {
            shapes.push((format!("{name}.weight"), vec![width, *units]));
            shapes.push((format!("{name}.bias"), vec![*units]));
            width = *units;
        }
    }
    shapes.push(("output.weight".to_string(), vec![width, outputs]));
    shapes.push(("output.bias".to_string(), vec![outputs]));
    shapes.sort();
    let mut end = 0;
    shapes
        .into_iter()
        .map(|(name, dims)| {
            let start = end;
            end += dims.iter().product::<usize>();
            Slot { name, dims, range: start..end }
        })
        .collect()
}

/// He's bound where half of the outputs will be cut to zero, Glorot's elsewhere; biases start at zero.
fn first_values(slot: &Slot, activation: Activation, seed: u64) -> Vec<f32> {
    let [inputs, units] = slot.dims[..] else {
        return vec![0.0; slot.range.len()];
    };
    let variance = match activation {
        Activation::Relu | Activation::Gelu => 2.0 / inputs as f64,
        _ => 2.0 / (inputs + units) as f64,
    };
    let bound = (3.0 * variance).sqrt() as f32;
    let mut rng = random::stream(seed, Purpose::Init, xxh3_64(slot.name.as_bytes()), 0);
    (0..slot.range.len()).map(|_| bound * random::uniform(&mut rng)).collect()
}

fn drop_out(input: &Tensor, rate: f64, index: u64, place: DropoutPlace) -> candle_core::Result<Tensor> {
    if rate == 0.0 {
        return Ok(input.clone());
    }
    let (rows, units) = input.dims2()?;
    let mut rng = random::stream(place.seed, Purpose::Dropout, index, place.step);
    rng.set_word_pos(place.first_row as u128 * units as u128);
    let dropped_below = (rate * (1u64 << 32) as f64) as u64;
    let kept = (1.0 / (1.0 - rate)) as f32;
    let mask = (0..rows * units).map(|_| if u64::from(rng.next_u32()) < dropped_below { 0.0 } else { kept }).collect();
    input.mul(&Tensor::from_vec::<_, f32>(mask, (rows, units), &Device::Cpu)?.to_dtype(input.dtype())?)
}

/// Candle gives out a variable's own memory only to an operation.
struct Visit<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for Visit<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (Some((start, end)), CpuStorage::F32(values)) = (layout.contiguous_offsets(), storage) else {
            return Err(candle_core::Error::Msg("a parameter is not a contiguous f32 array".to_string()));
        };
        (self.0.borrow_mut())(&mut values[start..end]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
