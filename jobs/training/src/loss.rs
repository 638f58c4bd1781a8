//! Losses from logits, with their gradients, each in one pass.
//!
//! Invariant: finite for every finite logit. Candle's binary cross-entropy takes the logarithm of a rounded sigmoid and is
//! infinite from |logit| 20 on; ours is `max(x, 0) - x*y + log(1 + exp(-|x|))`. Softmax cross-entropy goes through
//! log-sum-exp. Sums are taken in f64.

use crate::activation::sigmoid;
use crate::real::{self, Real, with_reals};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Error, Layout, Result, Shape, Tensor};
use jobs::train::Loss;

/// What the network should have said, one per row.
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
}

/// Sum over the rows of `logits`, times `scale`. The scale is one over the rows of the *global* batch, so that the losses
/// (and gradients) of all ranks add up to the mean over that batch, whatever share of it each rank has.
pub fn scaled_sum(logits: &Tensor, loss: Loss, targets: Targets, scale: f64) -> Result<Tensor> {
    let (rows, outputs) = logits.dims2()?;
    if targets.len() != rows {
        return Err(Error::Msg(format!("{rows} rows of logits for {} targets", targets.len())));
    }
    match (&targets, loss) {
        (Targets::Classes(classes), Loss::CrossEntropy) => {
            if let Some(class) = classes.iter().find(|class| **class as usize >= outputs) {
                return Err(Error::Msg(format!("class {class} for a network of {outputs} outputs")));
            }
        }
        (Targets::Values(_), Loss::BinaryCrossEntropy | Loss::MeanSquaredError) => {
            if outputs != 1 {
                return Err(Error::Msg(format!("{outputs} outputs for a loss over one")));
            }
        }
        (targets, loss) => return Err(Error::Msg(format!("{loss:?} over {targets:?}"))),
    }
    logits.apply_op1(ScaledSum { loss, targets, scale, outputs })
}

struct ScaledSum {
    loss: Loss,
    targets: Targets,
    scale: f64,
    outputs: usize,
}

impl CustomOp1 for ScaledSum {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let output = with_reals!(storage, layout, logits => vec![self.value(logits)])?;
        Ok((output, Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let scale = self.scale * gradient.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let shape = logits.shape();
        match logits.dtype() {
            DType::F32 => Tensor::from_vec(real::read(logits, |x: &[f32]| self.slope(x, scale))?, shape, &Device::Cpu),
            DType::F64 => Tensor::from_vec(real::read(logits, |x: &[f64]| self.slope(x, scale))?, shape, &Device::Cpu),
            other => Err(real::unsupported(other)),
        }
        .map(Some)
    }
}

impl ScaledSum {
    fn value<T: Real>(&self, logits: &[T]) -> T {
        let sum: f64 = match &self.targets {
            Targets::Classes(classes) => logits
                .chunks_exact(self.outputs)
                .zip(classes)
                .map(|(row, class)| log_sum_exp(row) - row[*class as usize].to_f64())
                .sum(),
            Targets::Values(values) => logits
                .iter()
                .zip(values)
                .map(|(x, y)| {
                    let (x, y) = (x.to_f64(), f64::from(*y));
                    match self.loss {
                        Loss::BinaryCrossEntropy => x.max(0.0) - x * y + (-x.abs()).exp().ln_1p(),
                        _ => (x - y) * (x - y),
                    }
                })
                .sum(),
        };
        T::from_f64(sum * self.scale)
    }

    fn slope<T: Real>(&self, logits: &[T], scale: f64) -> Vec<T> {
        match &self.targets {
            Targets::Classes(classes) => {
                let mut gradient = Vec::with_capacity(logits.len());
                for (row, class) in logits.chunks_exact(self.outputs).zip(classes) {
                    let total = log_sum_exp(row);
                    let first = gradient.len();
                    gradient.extend(row.iter().map(|x| T::from_f64((x.to_f64() - total).exp() * scale)));
                    gradient[first + *class as usize] -= T::from_f64(scale);
                }
                gradient
            }
            Targets::Values(values) => {
                let by_row = logits.iter().zip(values);
                match self.loss {
                    Loss::BinaryCrossEntropy => {
                        by_row.map(|(x, y)| T::from_f64((sigmoid(x.to_f64()) - f64::from(*y)) * scale)).collect()
                    }
                    _ => by_row.map(|(x, y)| T::from_f64(2.0 * (x.to_f64() - f64::from(*y)) * scale)).collect(),
                }
            }
        }
    }
}

fn log_sum_exp<T: Real>(row: &[T]) -> f64 {
    let largest = row.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max);
    largest + row.iter().map(|x| (x.to_f64() - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn check(loss: Loss, logits: &[f32], outputs: usize, targets: Targets, expect: f64) {
        let rows = logits.len() / outputs;
        let logits = Var::from_slice(logits, (rows, outputs), &Device::Cpu).unwrap();
        let sum = scaled_sum(&logits, loss, targets, 1.0 / rows as f64).unwrap();
        let got = f64::from(sum.to_scalar::<f32>().unwrap());
        assert!((got - expect).abs() <= 1e-6 * expect.abs().max(1.0), "{loss:?}: {got}, expected {expect}");
        let gradients = sum.backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    }

    #[test]
    fn finite_where_the_usual_formula_is_not() {
        let ones = || Targets::Values(vec![1.0, 0.0]);
        check(Loss::BinaryCrossEntropy, &[-200.0, 200.0], 1, ones(), 200.0);
        check(Loss::BinaryCrossEntropy, &[200.0, -200.0], 1, ones(), 0.0);
        check(Loss::BinaryCrossEntropy, &[0.0, 0.0], 1, ones(), std::f64::consts::LN_2);
        check(Loss::CrossEntropy, &[1000.0, 0.0, -1000.0], 3, Targets::Classes(vec![1]), 1000.0);
        check(Loss::CrossEntropy, &[5.0; 4], 4, Targets::Classes(vec![2]), 4f64.ln());
        check(Loss::MeanSquaredError, &[1.0, 3.0], 1, Targets::Values(vec![2.0, 1.0]), 2.5);
    }

    #[test]
    fn a_class_beyond_the_outputs_is_named() {
        let logits = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
        let error = scaled_sum(&logits, Loss::CrossEntropy, Targets::Classes(vec![3]), 1.0).unwrap_err();
        assert!(error.to_string().contains("class 3 for a network of 3 outputs"), "{error}");
    }
}
