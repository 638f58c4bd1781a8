//! Sums with more room than their result has: what is added may be taken away again, and only the result has to fit.

use arrow::array::ArrowNativeTypeOp;
use arrow::datatypes::i256;

/// A value that is summed.
pub(crate) trait Room: ArrowNativeTypeOp {
    type Sum: ArrowNativeTypeOp;

    fn times(self, weight: i64) -> Option<Self::Sum>;

    /// The sum as a value, if it is one.
    fn result(sum: Self::Sum) -> Option<Self>;
}

macro_rules! within_64_bits {
    ($($native:ty),+) => {
        $(impl Room for $native {
            type Sum = i128;

            #[inline]
            fn times(self, weight: i64) -> Option<i128> {
                // One instruction, which cannot overflow.
                Some(i128::from(self) * i128::from(weight))
            }

            #[inline]
            fn result(sum: i128) -> Option<Self> {
                Self::try_from(sum).ok()
            }
        })+
    };
}

within_64_bits!(i32, i64, u64);

impl Room for i128 {
    type Sum = i128;

    #[inline]
    fn times(self, weight: i64) -> Option<i128> {
        match weight {
            1 => Some(self),
            -1 => self.checked_neg(),
            _ => self.checked_mul(i128::from(weight)),
        }
    }

    #[inline]
    fn result(sum: i128) -> Option<Self> {
        Some(sum)
    }
}

impl Room for i256 {
    type Sum = i256;

    fn times(self, weight: i64) -> Option<i256> {
        self.checked_mul(Self::from_i128(i128::from(weight)))
    }

    fn result(sum: i256) -> Option<Self> {
        Some(sum)
    }
}
