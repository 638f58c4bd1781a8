//! Holds an operation's backward pass against central differences of its forward pass, in f64.
//!
//! The loss is a random linear functional of the output, so that no wrong term hides behind a symmetric sum. Invariants of
//! an operation that come with it: backward writes over what was there, a second call finds its memory as the first left it
//! and gives the same bits, f32 is near f64, nobody's gradient depends on whether another's is asked for, and a batch of no
//! rows is harmless. Statistics are left to the operation's own test.

use crate::graph::operation::{
    Backward, Built, Forward, Gradient, Initial, Kind, Parameter, Pass, Place, Role, RowGradients, Saved, Shape, Values,
};
use crate::random::{self, Purpose};
use crate::real::Real;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

const ROWS: [usize; 4] = [1, 2, 3, 5];
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;
const TOLERANCE_OF_F32: f64 = 2e-5;

/// An operation that does the same whether or not it is trained.
pub fn check(built: &Built, inputs: &[Shape]) {
    check_training(built, inputs);
    for rows in ROWS {
        let case = Case::new(built, inputs, rows);
        let scored = case.forward::<f64>(Pass::Inference, &case.inputs, &case.parameters, &mut Saved::default());
        let trained = case.forward(case.training(), &case.inputs, &case.parameters, &mut Saved::default());
        assert_eq!(scored, trained, "{rows} rows: scoring and training differ");
    }
}

/// One that does something else in training: dropping values, or taking statistics of the batch.
pub fn check_training(built: &Built, inputs: &[Shape]) {
    for rows in ROWS {
        let case = Case::new(built, inputs, rows);
        let mut saved = Saved::default();
        let analytic = case.run(&case.inputs, &case.parameters, &mut saved, |_| true);
        check_differences(&case, &analytic);

        let again = case.run(&case.inputs, &case.parameters, &mut saved, |_| true);
        assert_eq!(analytic, again, "{rows} rows: a second step differs");
        for asked in 0..inputs.len() {
            let alone = case.run(&case.inputs, &case.parameters, &mut Saved::default(), |input| input == asked);
            assert_eq!(alone.inputs[asked], analytic.inputs[asked], "{rows} rows: only input {asked} is asked for");
            assert_eq!(alone.parameters, analytic.parameters, "{rows} rows: only input {asked} is asked for");
        }
        let nobody = case.run(&case.inputs, &case.parameters, &mut Saved::default(), |_| false);
        assert_eq!(nobody.parameters, analytic.parameters, "{rows} rows: no input is asked for");
        check_single(&case, &analytic);
    }
    let nothing = Case::new(built, inputs, 0);
    let gradients = nothing.run(&nothing.inputs, &nothing.parameters, &mut Saved::default(), |_| true);
    for (gradient, parameter) in gradients.parameters.iter().zip(&built.parameters) {
        assert!(gradient.iter().all(|value| *value == 0.0), "{}: no rows have a gradient", parameter.name);
    }
}

fn check_differences(case: &Case<'_>, analytic: &Gradients<f64>) {
    for (index, shape) in case.shapes.iter().enumerate() {
        if shape.kind != Kind::Reals {
            continue;
        }
        let differences = (0..case.inputs[index].len()).map(|place| {
            case.difference(|moved, by| {
                let mut inputs = case.inputs.clone();
                inputs[index][place] += by;
                moved.loss(&inputs, &moved.parameters)
            })
        });
        let gradient = analytic.inputs[index].as_ref().expect("it was asked for");
        compare(&format!("{} rows, input {index}", case.rows), gradient, &differences.collect::<Vec<_>>(), TOLERANCE);
    }
    for (index, parameter) in case.built.parameters.iter().enumerate() {
        if matches!(parameter.role, Role::Statistic { .. }) {
            continue;
        }
        let differences = (0..case.parameters[index].len()).map(|place| {
            case.difference(|moved, by| {
                let mut parameters = case.parameters.clone();
                parameters[index][place] += by;
                moved.loss(&moved.inputs, &parameters)
            })
        });
        let what = format!("{} rows, parameter {}", case.rows, parameter.name);
        compare(&what, &analytic.parameters[index], &differences.collect::<Vec<_>>(), TOLERANCE);
    }
}

fn check_single(case: &Case<'_>, double: &Gradients<f64>) {
    let inputs: Vec<Vec<f32>> = case.inputs.iter().map(|values| rounded(values)).collect();
    let parameters: Vec<Vec<f32>> = case.parameters.iter().map(|values| rounded(values)).collect();
    let single = case.run(&inputs, &parameters, &mut Saved::default(), |_| true);
    let near = |what: &str, single: &[f32], double: &[f64]| {
        let single: Vec<f64> = single.iter().map(|value| f64::from(*value)).collect();
        compare(&format!("{} rows in f32, {what}", case.rows), &single, double, TOLERANCE_OF_F32);
    };
    near("output", &single.output, &double.output);
    for (single, double) in single.inputs.iter().zip(&double.inputs) {
        if let (Some(single), Some(double)) = (single, double) {
            near("input", single, double);
        }
    }
    for ((single, double), parameter) in single.parameters.iter().zip(&double.parameters).zip(&case.built.parameters) {
        near(parameter.name, single, double);
    }
}

fn rounded(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// Relative to the largest value of the array, since differences of a loss have the rounding of the whole loss.
pub fn compare(what: &str, got: &[f64], expect: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expect.len(), "{what}: length");
    let largest = expect.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    for (place, (got, expect)) in got.iter().zip(expect).enumerate() {
        let off = (got - expect).abs() / largest;
        assert!(off <= tolerance, "{what}, value {place}: {got}, expected {expect} (off by {off:e})");
    }
}

#[derive(Debug, PartialEq)]
pub struct Gradients<T> {
    pub output: Vec<T>,
    pub inputs: Vec<Option<Vec<T>>>,
    /// A table's as a whole.
    pub parameters: Vec<Vec<T>>,
}

/// An operation with numbers to run it on.
pub struct Case<'a> {
    built: &'a Built,
    shapes: &'a [Shape],
    rows: usize,
    /// Ids as whole numbers.
    pub inputs: Vec<Vec<f64>>,
    pub parameters: Vec<Vec<f64>>,
    /// The gradient of the output.
    pub functional: Vec<f64>,
}

impl<'a> Case<'a> {
    pub fn new(built: &'a Built, shapes: &'a [Shape], rows: usize) -> Self {
        let mut rng = random::stream(11, Purpose::Init, rows as u64, 0);
        let inputs = shapes.iter().map(|shape| input(shape, rows, &mut rng)).collect();
        let parameters = built.parameters.iter().map(|parameter| values(parameter, &mut rng)).collect();
        let functional = (0..rows * built.output.size()).map(|_| drawn(&mut rng)).collect();
        Self { built, shapes, rows, inputs, parameters, functional }
    }

    /// The batch is the middle of a larger one.
    fn place(&self) -> Place {
        Place { seed: 5, step: 3, first_row: 2, global_rows: self.rows + 4 }
    }

    fn training(&self) -> Pass {
        Pass::Training(self.place())
    }

    fn difference(&self, loss: impl Fn(&Self, f64) -> f64) -> f64 {
        (loss(self, STEP) - loss(self, -STEP)) / (2.0 * STEP)
    }

    fn loss(&self, inputs: &[Vec<f64>], parameters: &[Vec<f64>]) -> f64 {
        let output = self.forward(self.training(), inputs, parameters, &mut Saved::default());
        output.iter().zip(&self.functional).map(|(value, weight)| value * weight).sum()
    }

    pub fn forward<T: Real>(
        &self,
        pass: Pass,
        inputs: &[Vec<T>],
        parameters: &[Vec<T>],
        saved: &mut Saved<T>,
    ) -> Vec<T> {
        let ids = self.ids();
        let inputs = self.values(inputs, &ids);
        let parameters: Vec<&[T]> = parameters.iter().map(|values| &values[..]).collect();
        let mut output = vec![T::from_f64(f64::NAN); self.rows * self.built.output.size()];
        let call =
            Forward { pass, rows: self.rows, inputs: &inputs, parameters: &parameters, output: &mut output, saved };
        T::operation(&*self.built.kernel).forward(call);
        output
    }

    /// One step, into memory full of what is no number.
    pub fn run<T: Real>(
        &self,
        inputs: &[Vec<T>],
        parameters: &[Vec<T>],
        saved: &mut Saved<T>,
        asked: impl Fn(usize) -> bool,
    ) -> Gradients<T> {
        let output = self.forward(self.training(), inputs, parameters, saved);
        let nan = T::from_f64(f64::NAN);
        let mut gradient: Vec<T> = self.functional.iter().map(|value| T::from_f64(*value)).collect();
        let mut of_inputs: Vec<Option<Vec<T>>> = (self.shapes.iter().enumerate())
            .map(|(index, shape)| {
                (shape.kind == Kind::Reals && asked(index)).then(|| vec![nan; self.rows * shape.size()])
            })
            .collect();
        let mut of_parameters: Vec<Vec<T>> = parameters.iter().map(|values| vec![nan; values.len()]).collect();
        let dirty = RowGradients { rows: vec![0, 7], values: vec![nan; 3] };
        let mut of_tables: Vec<RowGradients<T>> = parameters.iter().map(|_| dirty.clone()).collect();
        {
            let ids = self.ids();
            let inputs = self.values(inputs, &ids);
            let parameters: Vec<&[T]> = parameters.iter().map(|values| &values[..]).collect();
            let mut input_gradients: Vec<Option<&mut [T]>> = of_inputs.iter_mut().map(Option::as_deref_mut).collect();
            let mut parameter_gradients: Vec<Gradient<'_, T>> = (self.built.parameters.iter())
                .zip(of_parameters.iter_mut().zip(&mut of_tables))
                .map(|(parameter, (whole, rows))| match parameter.role {
                    Role::Table => Gradient::Rows(rows),
                    Role::Weight | Role::Statistic { .. } => Gradient::Whole(whole),
                })
                .collect();
            let call = Backward {
                place: self.place(),
                rows: self.rows,
                inputs: &inputs,
                parameters: &parameters,
                output: &output,
                saved,
                gradient: &mut gradient,
                input_gradients: &mut input_gradients,
                parameter_gradients: &mut parameter_gradients,
            };
            T::operation(&*self.built.kernel).backward(call);
        }
        for ((parameter, whole), rows) in self.built.parameters.iter().zip(&mut of_parameters).zip(&of_tables) {
            if parameter.role == Role::Table {
                spread(rows, parameter.dims[1], whole);
            }
        }
        Gradients { output, inputs: of_inputs, parameters: of_parameters }
    }

    fn ids(&self) -> Vec<Vec<u32>> {
        self.inputs.iter().map(|values| values.iter().map(|value| *value as u32).collect()).collect()
    }

    fn values<'v, T>(&self, inputs: &'v [Vec<T>], ids: &'v [Vec<u32>]) -> Vec<Values<'v, T>> {
        let both = inputs.iter().zip(ids).zip(self.shapes);
        both.map(|((reals, ids), shape)| match shape.kind {
            Kind::Reals => Values::Reals(reals),
            Kind::Ids { .. } => Values::Ids(ids),
        })
        .collect()
    }
}

fn spread<T: Real>(gradients: &RowGradients<T>, width: usize, whole: &mut [T]) {
    let mut rows = gradients.rows.clone();
    rows.sort_unstable();
    assert!(rows.is_sorted_by(|a, b| a < b), "a row of a table stands there once: {:?}", gradients.rows);
    assert_eq!(gradients.values.len(), gradients.rows.len() * width, "values for each row of a table");
    whole.fill(T::zero());
    for (row, values) in gradients.rows.iter().zip(gradients.values.chunks(width)) {
        whole[*row as usize * width..][..width].copy_from_slice(values);
    }
}

fn input(shape: &Shape, rows: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count = rows * shape.size();
    match shape.kind {
        Kind::Reals => (0..count).map(|_| 1.5 * drawn(rng)).collect(),
        Kind::Ids { size } => (0..count).map(|_| (rng.next_u32() as usize % size) as f64).collect(),
    }
}

/// Around what the parameter starts at, but never all alike: equal weights hide terms. Variances stay above zero.
fn values(parameter: &Parameter, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let middle = match parameter.initial {
        Initial::Constant(value) => value,
        Initial::Uniform(_) | Initial::Normal(_) => 0.0,
    };
    (0..parameter.dims.iter().product()).map(|_| middle + 0.6 * drawn(rng)).collect()
}

fn drawn(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(random::uniform(rng))
}
