//! The two float types our own tensor operations are written for.
//!
//! Training runs in f32. The same operations run in f64 so that the tests can hold their gradients against finite
//! differences tightly enough to see a wrong term.

use candle_core::{DType, Error, Layout, Result, Storage, Tensor, WithDType};
use std::ops::Neg;

pub mod elementary;

pub trait Real: WithDType + Neg<Output = Self> {
    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn exp(self) -> Self {
        elementary::exp(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        elementary::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        elementary::erf(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
}

impl Real for f64 {
    fn exp(self) -> Self {
        self.exp()
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
    fn erf(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }
    fn ln(self) -> Self {
        self.ln()
    }
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    fn abs(self) -> Self {
        self.abs()
    }
}

/// Runs the body with the values of an f32 or f64 storage and wraps what it returns in the same type.
macro_rules! with_reals {
    ($storage:expr, $layout:expr, $values:ident => $body:expr) => {
        match $storage {
            candle_core::CpuStorage::F32(all) => {
                let $values = $crate::real::contiguous(all, $layout)?;
                Ok(candle_core::CpuStorage::F32($body))
            }
            candle_core::CpuStorage::F64(all) => {
                let $values = $crate::real::contiguous(all, $layout)?;
                Ok(candle_core::CpuStorage::F64($body))
            }
            other => Err($crate::real::unsupported(candle_core::backend::BackendStorage::dtype(other))),
        }
    };
}
pub(crate) use with_reals;

pub fn contiguous<'a, T>(values: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::Msg("an operation got strided values".to_string()))?;
    Ok(&values[start..end])
}

/// Reads a contiguous CPU tensor in place.
pub fn read<T: WithDType, R>(tensor: &Tensor, body: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(body(contiguous(cpu.as_slice::<T>()?, layout)?)),
        _ => Err(Error::Msg("an operation got a tensor that is not on the CPU".to_string())),
    }
}

pub fn unsupported(dtype: DType) -> Error {
    Error::Msg(format!("an operation for f32 and f64 got {dtype:?}"))
}
