//! Losses from logits, with their gradients, each in one pass over slices.
//!
//! Invariant: finite for every finite logit. Binary cross-entropy is `max(x, 0) - x*y + log(1 + exp(-|x|))`, as the logarithm of
//! a rounded sigmoid would be infinite from |logit| 20 on; softmax cross-entropy goes through log-sum-exp. The losses of
//! rows are added up in f64, in the order of the rows.

use crate::graph::Step;
use crate::graph::lanes::lanes;
use crate::real::Real;
use jobs::train::Loss;
use rayon::prelude::*;

/// What the network should have said, one per row, or one per place of each row.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    Classes(Vec<u32>),
    Values(Vec<f32>),
}

impl Targets {
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets of these rows, in this order.
    pub fn select(&self, rows: &[u32]) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(rows.iter().map(|&row| classes[row as usize]).collect()),
            Self::Values(values) => Self::Values(rows.iter().map(|&row| values[row as usize]).collect()),
        }
    }

    pub fn as_target(&self) -> Target<'_> {
        match self {
            Self::Classes(classes) => Target::Classes(classes),
            Self::Values(values) => Target::Values(values),
        }
    }
}

/// [`Targets`] of some rows.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Classes(&'a [u32]),
    Values(&'a [f32]),
}

impl Target<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }
}

/// The sum of the losses of all places, times `step.scale`, and its gradient, written over `gradient`. `outputs` is the last
/// dimension of the logits: the number of classes.
pub fn value_and_gradient<T: Real>(
    (logits, outputs): (&[T], usize),
    step: &Step<'_>,
    gradient: &mut [T],
) -> Result<f64, String> {
    let scale = step.scale;
    let sum = match (step.target, step.loss) {
        (Target::Classes(classes), Loss::CrossEntropy) => {
            if logits.len() != classes.len() * outputs {
                let places = logits.len() / outputs;
                return Err(format!("{places} places of {outputs} logits for {} labels", classes.len()));
            }
            if let Some(class) = classes.iter().find(|class| **class as usize >= outputs) {
                return Err(format!("class {class} for a network of {outputs} outputs"));
            }
            over_parts(logits, outputs, gradient, classes, |logits, gradient, classes| {
                cross_entropy(logits, outputs, classes, T::from_f64(scale), gradient)
            })
        }
        (Target::Values(values), loss) if loss != Loss::CrossEntropy => {
            if logits.len() != values.len() {
                return Err(format!("{} outputs for {} labels", logits.len(), values.len()));
            }
            over_parts(logits, 1, gradient, values, |logits, gradient, values| {
                by_value(loss, logits, values, T::from_f64(scale), gradient)
            })
        }
        (Target::Classes(_), loss) => return Err(format!("{loss:?} over classes")),
        (Target::Values(_), loss) => return Err(format!("{loss:?} over values")),
    };
    Ok(sum * scale)
}

/// Sums what `one` gives for runs of places; in parts of a fixed length, so that the sum is the same bits for any number of
/// threads.
fn over_parts<T: Real, U: Sync>(
    logits: &[T],
    width: usize,
    gradient: &mut [T],
    targets: &[U],
    one: impl Fn(&[T], &mut [T], &[U]) -> f64 + Sync,
) -> f64 {
    const PART: usize = 1 << 14;
    if logits.len() <= PART {
        return one(logits, gradient, targets);
    }
    let places = (PART / width).max(1);
    let parts = logits.par_chunks(places * width).zip(gradient.par_chunks_mut(places * width));
    let sums: Vec<f64> = parts.zip(targets.par_chunks(places)).map(|((x, g), y)| one(x, g, y)).collect();
    sums.into_iter().sum()
}

/// Values that are added up side by side, so that the additions of one vector do not wait for each other.
const SIDE: usize = 16;

#[inline(always)]
fn fold<T: Real>(row: &[T], first: T, add: impl Fn(T, T) -> T) -> T {
    let mut side = [first; SIDE];
    let chunks = row.chunks_exact(SIDE);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (side, value) in side.iter_mut().zip(chunk) {
            *side = add(*side, *value);
        }
    }
    let mut all = first;
    for value in rest {
        all = add(all, *value);
    }
    if row.len() >= SIDE {
        for value in side {
            all = add(all, value);
        }
    }
    all
}

lanes! {
    fn cross_entropy<T: Real>(logits: &[T], outputs: usize, classes: &[u32], scale: T, gradient: &mut [T]) -> f64 {
        let mut total = 0.0;
        let rows = logits.chunks_exact(outputs).zip(gradient.chunks_exact_mut(outputs));
        for ((row, gradient), class) in rows.zip(classes) {
            let largest = fold(row, row[0], |largest, x| if x > largest { x } else { largest });
            for (gradient, x) in gradient.iter_mut().zip(row) {
                *gradient = (*x - largest).exp();
            }
            let sum = fold(gradient, T::zero(), |sum, x| sum + x);
            let share = scale / sum;
            for gradient in gradient.iter_mut() {
                *gradient *= share;
            }
            let class = *class as usize;
            gradient[class] -= scale;
            total += sum.to_f64().ln() + (largest - row[class]).to_f64();
        }
        total
    }

    fn by_value<T: Real>(loss: Loss, logits: &[T], values: &[f32], scale: T, gradient: &mut [T]) -> f64 {
        let (zero, one) = (T::zero(), T::one());
        let half = T::from_f64(0.5);
        match loss {
            Loss::BinaryCrossEntropy => each(logits, values, gradient, |x, y| {
                let e = (-x.abs()).exp();
                let above = if x > zero { x } else { zero };
                let probability = if x > zero { one } else { e } / (one + e);
                (above - x * y + e.ln_1p(), (probability - y) * scale)
            }),
            Loss::MeanSquaredError => each(logits, values, gradient, |x, y| {
                let d = x - y;
                (d * d, (d + d) * scale)
            }),
            Loss::MeanAbsoluteError => each(logits, values, gradient, |x, y| {
                let d = x - y;
                let sign = if d > zero { one } else if d < zero { -one } else { zero };
                (d.abs(), sign * scale)
            }),
            Loss::Huber { delta } => {
                let delta = T::from_f64(delta);
                each(logits, values, gradient, |x, y| {
                    let d = x - y;
                    let within = if d > delta { delta } else if d < -delta { -delta } else { d };
                    // Within delta this is d²/2, beyond it delta (|d| - delta/2).
                    (within * (d - half * within), within * scale)
                })
            }
            Loss::Hinge => each(logits, values, gradient, |x, y| {
                let y = if y > half { one } else { -one };
                let short = one - y * x;
                if short > zero { (short, -y * scale) } else { (zero, zero) }
            }),
            Loss::CrossEntropy => panic!("cross-entropy is over classes"),
        }
    }
}

#[inline(always)]
fn each<T: Real>(logits: &[T], values: &[f32], gradient: &mut [T], one: impl Fn(T, T) -> (T, T)) -> f64 {
    let mut sum = 0.0;
    for ((x, y), gradient) in logits.iter().zip(values).zip(gradient) {
        let (value, slope) = one(*x, T::from_f64(f64::from(*y)));
        *gradient = slope;
        sum += value.to_f64();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::operation::Place;

    fn run<T: Real>(loss: Loss, logits: &[T], outputs: usize, target: Target<'_>) -> Result<(f64, Vec<T>), String> {
        let mut gradient = vec![T::from_f64(f64::NAN); logits.len()];
        let place = Place { seed: 0, step: 0, first_row: 0, global_rows: target.len() };
        let step = Step { loss, target, scale: 1.0 / target.len() as f64, place };
        let value = value_and_gradient((logits, outputs), &step, &mut gradient)?;
        Ok((value, gradient))
    }

    fn check(loss: Loss, logits: &[f32], outputs: usize, target: Target<'_>, expect: f64) {
        let (got, gradient) = run(loss, logits, outputs, target).unwrap();
        assert!((got - expect).abs() <= 1e-6 * expect.abs().max(1.0), "{loss:?}: {got}, expected {expect}");
        assert!(gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    }

    #[test]
    fn finite_where_the_usual_formula_is_not() {
        let ones = Target::Values(&[1.0, 0.0]);
        check(Loss::BinaryCrossEntropy, &[-200.0, 200.0], 1, ones, 200.0);
        check(Loss::BinaryCrossEntropy, &[200.0, -200.0], 1, ones, 0.0);
        check(Loss::BinaryCrossEntropy, &[0.0, 0.0], 1, ones, std::f64::consts::LN_2);
        check(Loss::CrossEntropy, &[1000.0, 0.0, -1000.0], 3, Target::Classes(&[1]), 1000.0);
        check(Loss::CrossEntropy, &[5.0; 4], 4, Target::Classes(&[2]), 4f64.ln());
        check(Loss::MeanSquaredError, &[1.0, 3.0], 1, Target::Values(&[2.0, 1.0]), 2.5);
        check(Loss::MeanAbsoluteError, &[1.0, 3.0], 1, Target::Values(&[2.0, 1.0]), 1.5);
        check(Loss::Huber { delta: 1.5 }, &[1.0, 3.0], 1, Target::Values(&[2.0, 1.0]), (0.5 + 1.5 * 1.25) / 2.0);
        check(Loss::Hinge, &[0.5, 0.25], 1, ones, (0.5 + 1.25) / 2.0);
        check(Loss::Hinge, &[1.5, -2.0], 1, ones, 0.0);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let classes = [2, 0, 1, 2, 16, 5];
        let values = [0.3f32, 1.0, 0.0, -0.4, 1.0, 0.0];
        let losses = [
            (Loss::CrossEntropy, 17, Target::Classes(&classes)),
            (Loss::BinaryCrossEntropy, 1, Target::Values(&values)),
            (Loss::MeanSquaredError, 1, Target::Values(&values)),
            (Loss::MeanAbsoluteError, 1, Target::Values(&values)),
            (Loss::Huber { delta: 0.7 }, 1, Target::Values(&values)),
            (Loss::Hinge, 1, Target::Values(&values)),
        ];
        for (loss, outputs, target) in losses {
            let logits: Vec<f64> = (0..6 * outputs).map(|i| ((i * 37 % 23) as f64 - 11.0) / 6.0 + 0.01).collect();
            let (_, gradient) = run(loss, &logits, outputs, target).unwrap();
            for i in 0..logits.len() {
                let at = |distance: f64| {
                    let mut moved = logits.clone();
                    moved[i] += distance;
                    run(loss, &moved, outputs, target).unwrap().0
                };
                let expect = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((gradient[i] - expect).abs() < 1e-8, "{loss:?} [{i}]: {}, expected {expect}", gradient[i]);
            }
        }
    }

    /// Also where the rows are shared among threads.
    #[test]
    fn parts_add_up_to_the_whole() {
        let (rows, outputs) = (2500, 20);
        let logits: Vec<f32> = (0..rows * outputs).map(|i| (i * 31 % 101) as f32 / 25.0).collect();
        let classes: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 20).collect();
        let (got, gradient) = run(Loss::CrossEntropy, &logits, outputs, Target::Classes(&classes)).unwrap();
        let mut expect = 0.0;
        for (row, class) in logits.chunks(outputs).zip(&classes) {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            expect += (sum.ln() - f64::from(row[*class as usize])) / rows as f64;
        }
        assert!((got - expect).abs() < 1e-6, "{got}, expected {expect}");
        assert!(gradient.iter().sum::<f32>().abs() < 1e-6);
    }

    #[test]
    fn labels_that_do_not_fit_are_named() {
        let error = run(Loss::CrossEntropy, &[0.0f32; 3], 3, Target::Classes(&[3])).unwrap_err();
        assert_eq!(error, "class 3 for a network of 3 outputs");
        let error = run(Loss::CrossEntropy, &[0.0f32; 6], 3, Target::Classes(&[1])).unwrap_err();
        assert_eq!(error, "2 places of 3 logits for 1 labels");
        let error = run(Loss::Hinge, &[0.0f32; 2], 2, Target::Values(&[1.0])).unwrap_err();
        assert_eq!(error, "2 outputs for 1 labels");
    }
}
