//! Loops that are compiled for the widest vectors this machine has.
//!
//! A binary for every x86-64 may use vectors of four floats only. [`lanes!`] compiles the loop three times and takes the
//! widest that the machine knows. Invariant: all three do the same operations in the same order (nothing is contracted or
//! reassociated by the compiler), so they give the same bits. Whatever the loop calls must be `#[inline(always)]`, or it stays
//! narrow.

/// Wraps functions, generic over one [`crate::real::Real`] or over nothing.
macro_rules! lanes {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $(<$T:ident: Real>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        $vis fn $name $(<$T: $crate::real::Real>)? ($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn narrow $(<$T: $crate::real::Real>)? ($($arg: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512cd,avx2,fma,bmi2")]
                fn widest $(<$T: $crate::real::Real>)? ($($arg: $type),*) $(-> $result)? {
                    narrow($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,bmi2")]
                fn wide $(<$T: $crate::real::Real>)? ($($arg: $type),*) $(-> $result)? {
                    narrow($($arg),*)
                }
                match $crate::graph::lanes::width() {
                    // SAFETY: the machine has these features: `width` has just asked it.
                    $crate::graph::lanes::Width::Avx512 => return unsafe { widest($($arg),*) },
                    // SAFETY: as above.
                    $crate::graph::lanes::Width::Avx2 => return unsafe { wide($($arg),*) },
                    $crate::graph::lanes::Width::Narrow => {}
                }
            }
            narrow($($arg),*)
        }
    )*};
}
pub(crate) use lanes;

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Avx512,
    Avx2,
    Narrow,
}

/// The standard library keeps the answer of the processor.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn width() -> Width {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512cd");
    match (avx512, avx2) {
        (true, true) => Width::Avx512,
        (false, true) => Width::Avx2,
        _ => Width::Narrow,
    }
}
