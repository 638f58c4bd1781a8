//! The seam between a graph and its operations.
//!
//! An operation maps the outputs of other nodes to its own output, for all rows of a batch at once, and back: from the
//! gradient of its output to those of its inputs and parameters. All arrays are row-major, contiguous and owned by the graph,
//! which keeps them from step to step, so that a step allocates nothing. Shapes do not hold the rows of the batch.
//!
//! Invariants: what [`Operation::backward`] writes equals finite differences (each operation has a test, in f64); it overwrites
//! and never adds; results are the same bits for the same inputs and number of threads. An operation draws no numbers but
//! from [`crate::random`] by its place.

use crate::real::Real;
use jobs::train::Activation;
use std::fmt::Debug;

/// What flows along an edge, for one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub kind: Kind,
    pub dims: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reals,
    /// Whole numbers below `size`.
    Ids {
        size: usize,
    },
}

impl Shape {
    pub fn reals(dims: &[usize]) -> Self {
        Self { kind: Kind::Reals, dims: dims.to_vec() }
    }

    /// Values of one row.
    pub fn size(&self) -> usize {
        self.dims.iter().product()
    }
}

/// The values of one input, `rows` times [`Shape::size`].
#[derive(Clone, Copy, Debug)]
pub enum Values<'a, T> {
    Reals(&'a [T]),
    Ids(&'a [u32]),
}

impl<'a, T> Values<'a, T> {
    /// The graph was built so that this input holds numbers.
    pub fn reals(self) -> &'a [T] {
        match self {
            Self::Reals(values) => values,
            Self::Ids(_) => panic!("an operation over numbers got ids"),
        }
    }

    pub fn ids(self) -> &'a [u32] {
        match self {
            Self::Ids(values) => values,
            Self::Reals(_) => panic!("an operation over ids got numbers"),
        }
    }
}

/// A parameter that an operation asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// `weight`, `bias`, …; the graph puts the node's name before it.
    pub name: &'static str,
    pub dims: Vec<usize>,
    pub initial: Initial,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    Constant(f64),
    /// Uniform in -bound..bound.
    Uniform(f64),
    /// With this deviation.
    Normal(f64),
}

impl Initial {
    /// Where half of the outputs will be cut to zero (He et al. 2015).
    pub fn he(inputs: usize) -> Self {
        Self::variance(2.0 / inputs as f64)
    }

    /// Elsewhere (Glorot and Bengio 2010).
    pub fn glorot(inputs: usize, outputs: usize) -> Self {
        Self::variance(2.0 / (inputs + outputs) as f64)
    }

    fn variance(variance: f64) -> Self {
        Self::Uniform((3.0 * variance).sqrt())
    }

    /// Of weights whose sums go through an activation.
    pub fn before(activation: Activation, inputs: usize, outputs: usize) -> Self {
        match activation {
            Activation::Relu | Activation::LeakyRelu | Activation::Gelu => Self::he(inputs),
            _ => Self::glorot(inputs, outputs),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Moved by the optimizer along a gradient of its own shape.
    Weight,
    /// `[rows, width]`, of which a batch touches few rows; its gradient is [`Gradient::Rows`].
    Table,
    /// Not trained. In its place in the gradients `backward` writes what this batch says (times the share of the batch that
    /// [`Pass::share`] gives), and after the sum over ranks the value becomes momentum * value + (1 - momentum) * sum.
    Statistic { momentum: f64 },
}

/// What one step is run for.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    /// Nothing is dropped, statistics are used as they stand, nothing need be kept for a backward pass.
    Inference,
    Training(Place),
}

/// Which numbers a step draws. They belong to a row of the global batch, so that they are the same whichever rank holds it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub seed: u64,
    pub step: u64,
    /// Place in the global batch of the first row.
    pub first_row: usize,
    /// Rows of the global batch.
    pub global_rows: usize,
}

impl Place {
    /// Share of the global batch that `rows` rows are.
    pub fn share(&self, rows: usize) -> f64 {
        rows as f64 / self.global_rows as f64
    }
}

/// What an operation keeps between forward and backward, and memory it works in. Lives as long as the graph; an operation
/// resizes what it needs, and finds it as it left it.
#[derive(Debug)]
pub struct Saved<T> {
    pub reals: Vec<Vec<T>>,
    pub ids: Vec<Vec<u32>>,
}

impl<T> Default for Saved<T> {
    fn default() -> Self {
        Self { reals: Vec::new(), ids: Vec::new() }
    }
}

impl<T: Real> Saved<T> {
    /// Array `index`, of exactly `len` values; what stands in it is what was left there.
    pub fn array(&mut self, index: usize, len: usize) -> &mut [T] {
        if self.reals.len() <= index {
            self.reals.resize_with(index + 1, Vec::new);
        }
        let array = &mut self.reals[index];
        array.resize(len, T::zero());
        array
    }

    pub fn id_array(&mut self, index: usize, len: usize) -> &mut [u32] {
        if self.ids.len() <= index {
            self.ids.resize_with(index + 1, Vec::new);
        }
        let array = &mut self.ids[index];
        array.resize(len, 0);
        array
    }
}

pub struct Forward<'a, T> {
    pub pass: Pass,
    pub rows: usize,
    pub inputs: &'a [Values<'a, T>],
    pub parameters: &'a [&'a [T]],
    pub output: &'a mut [T],
    pub saved: &'a mut Saved<T>,
}

pub struct Backward<'a, T> {
    pub place: Place,
    pub rows: usize,
    pub inputs: &'a [Values<'a, T>],
    pub parameters: &'a [&'a [T]],
    /// As forward left it.
    pub output: &'a [T],
    pub saved: &'a mut Saved<T>,
    /// Of the output. May be overwritten: nobody reads it afterwards.
    pub gradient: &'a mut [T],
    /// `None` where nobody asks: ids, and data that nothing trains.
    pub input_gradients: &'a mut [Option<&'a mut [T]>],
    pub parameter_gradients: &'a mut [Gradient<'a, T>],
}

#[derive(Debug)]
pub enum Gradient<'a, T> {
    Whole(&'a mut [T]),
    Rows(&'a mut RowGradients<T>),
}

impl<T> Gradient<'_, T> {
    /// The graph was built so that this parameter is no table.
    pub fn whole(&mut self) -> &mut [T] {
        match self {
            Self::Whole(values) => values,
            Self::Rows(_) => panic!("the gradient of a table was taken for that of a weight"),
        }
    }
}

/// Gradients of some rows of a table. Each row stands there once, in the order in which the batch first names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowGradients<T> {
    pub rows: Vec<u32>,
    /// `rows.len()` times the width of the table.
    pub values: Vec<T>,
}

impl<T> RowGradients<T> {
    pub fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
    }
}

pub trait Operation<T: Real>: Debug + Send + Sync {
    fn forward(&self, call: Forward<'_, T>);

    fn backward(&self, call: Backward<'_, T>);
}

/// Written once for both float types.
pub trait Kernel: Operation<f32> + Operation<f64> {}

impl<K: Operation<f32> + Operation<f64>> Kernel for K {}

/// An operation that fits its inputs.
#[derive(Debug)]
pub struct Built {
    pub output: Shape,
    pub parameters: Vec<Parameter>,
    pub kernel: Box<dyn Kernel>,
}
