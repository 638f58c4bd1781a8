//! Large pages for large arrays.
//!
//! The rows of a table are read at random. In pages of 4 KiB nearly every one of them costs a walk through the page table
//! besides the line itself; in pages of 2 MiB the processor knows them all.

use crate::real::Real;

/// From here on: the processor knows as many small pages by itself.
#[cfg(target_os = "linux")]
const LARGE_FROM: usize = 4 << 20;

/// Zeros, in large pages where the array is large and the system gives them.
pub fn zeros<T: Real>(len: usize) -> Vec<T> {
    filled(len, T::zero())
}

/// As [`zeros`], of any value.
pub fn filled<T: Copy>(len: usize, value: T) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    // Before the first touch, which is when pages are given out.
    ask(&mut values);
    values.resize(len, value);
    values
}

#[cfg(target_os = "linux")]
fn ask<T>(values: &mut Vec<T>) {
    const PAGE: usize = 2 << 20;
    let (start, len) = (values.as_mut_ptr() as usize, values.capacity() * size_of::<T>());
    if len < LARGE_FROM {
        return;
    }
    let first = start.next_multiple_of(PAGE);
    // SAFETY: this is advice about memory of our own; it changes nothing that can be read there. A system that does not know
    // it says so, and the pages stay small.
    unsafe {
        libc::madvise(first as *mut libc::c_void, start + len - first, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn ask<T>(_values: &mut Vec<T>) {}
