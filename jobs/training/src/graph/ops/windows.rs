//! Where the windows of convolutions and pools lie along a dimension.
//!
//! Padding is that of Keras: with `same` there are ceil(len / stride) windows, and of the zeros around the larger half is
//! behind. Invariant: every window has at least one place within.

use super::shapes;
use jobs::train::Padding;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub len: usize,
    pub window: usize,
    pub stride: usize,
    /// Zeros before the first place.
    before: usize,
    pub windows: usize,
}

impl Axis {
    /// `what` names the dimension in an error.
    pub fn new(what: &str, len: usize, window: usize, stride: usize, padding: Padding) -> Result<Self, String> {
        shapes::positive("the size of a window", window)?;
        shapes::positive("a stride", stride)?;
        let (windows, before) = match padding {
            Padding::Valid if window > len => {
                return Err(format!("a window of {window} does not fit into a {what} of {len}; padding same would"));
            }
            Padding::Valid => ((len - window) / stride + 1, 0),
            Padding::Same => {
                let windows = len.div_ceil(stride);
                (windows, ((windows - 1) * stride + window).saturating_sub(len) / 2)
            }
        };
        Ok(Self { len, window, stride, before, windows })
    }

    /// A dimension that is not there.
    pub fn point() -> Self {
        Self { len: 1, window: 1, stride: 1, before: 0, windows: 1 }
    }

    /// Zeros before the first place, and those behind the last that a window reaches.
    pub fn padding(&self) -> (usize, usize) {
        let end = (self.windows - 1) * self.stride + self.window;
        (self.before, end.saturating_sub(self.before + self.len))
    }

    /// Of window `at`: the place of its first element that is within, and which of its elements are.
    #[inline(always)]
    pub fn reach(&self, at: usize) -> (usize, Range<usize>) {
        let start = at * self.stride;
        let skipped = self.before.saturating_sub(start);
        (start.saturating_sub(self.before), skipped..self.window.min(self.len + self.before - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(len: usize, window: usize, stride: usize, padding: Padding) -> Axis {
        Axis::new("width", len, window, stride, padding).unwrap()
    }

    #[test]
    fn windows_lie_as_in_keras() {
        let reach = |axis: Axis| (0..axis.windows).map(|at| axis.reach(at)).collect::<Vec<_>>();
        assert_eq!(reach(axis(5, 2, 2, Padding::Valid)), [(0, 0..2), (2, 0..2)]);
        assert_eq!(reach(axis(5, 2, 2, Padding::Same)), [(0, 0..2), (2, 0..2), (4, 0..1)]);
        assert_eq!(reach(axis(3, 3, 1, Padding::Same)), [(0, 1..3), (0, 0..3), (1, 0..2)]);
        assert_eq!(reach(axis(4, 4, 1, Padding::Same)), [(0, 1..4), (0, 0..4), (1, 0..3), (2, 0..2)]);
        assert_eq!(reach(axis(1, 5, 3, Padding::Same)), [(0, 2..3)]);
    }

    #[test]
    fn every_window_has_a_place() {
        for (len, window, stride) in (1..8).flat_map(|len| (1..6).flat_map(move |w| (1..6).map(move |s| (len, w, s)))) {
            let axis = axis(len, window, stride, Padding::Same);
            for at in 0..axis.windows {
                let (first, within) = axis.reach(at);
                assert!(!within.is_empty() && first + within.len() <= len, "{axis:?} at {at}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |window, stride| Axis::new("height", 2, window, stride, Padding::Valid).unwrap_err();
        assert_eq!(of(3, 1), "a window of 3 does not fit into a height of 2; padding same would");
        assert_eq!(of(0, 1), "the size of a window must be at least 1");
        assert_eq!(of(1, 0), "a stride must be at least 1");
    }
}
