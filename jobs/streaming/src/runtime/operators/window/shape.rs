//! Which windows there are, and which of them a pane belongs to.

use crate::dataflow::Window;
use datafusion::error::{DataFusionError, Result};

/// Event times beyond this (some 146,000 years from the epoch) are taken for mistakes: arithmetic on them could wrap.
pub const TIME_LIMIT_US: i64 = i64::MAX / 2;

/// Windows aligned to the epoch, in microseconds. A *pane* is the widest stretch of time that no window's bound cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A window of `width` begins at every multiple of `slide`.
    Sliding { width: i64, slide: i64, pane: i64 },
    /// A window begins at every multiple of `width` and ends after each of its steps.
    Growing { width: i64, step: i64 },
}

impl Shape {
    pub fn of(window: Window) -> Result<Self> {
        let wrong = || Err(DataFusionError::Plan(format!("a window of this form is not possible: {window:?}")));
        let (width, slide) = match window {
            Window::Tumble { width_us } => (width_us, width_us),
            Window::Hop { width_us, slide_us } => (width_us, slide_us),
            Window::Cumulate { width_us, step_us } => (width_us, step_us),
            Window::Session { .. } => return wrong(),
        };
        if width <= 0 || slide <= 0 || width > TIME_LIMIT_US / 2 || slide > TIME_LIMIT_US / 2 {
            return wrong();
        }
        match window {
            Window::Cumulate { .. } if width % slide != 0 => wrong(),
            Window::Cumulate { .. } => Ok(Self::Growing { width, step: slide }),
            _ => Ok(Self::Sliding { width, slide, pane: greatest_common_divisor(width, slide) }),
        }
    }

    /// The start of the pane in which a time lies.
    pub fn pane_of(self, time: i64) -> i64 {
        let (Self::Sliding { pane, .. } | Self::Growing { step: pane, .. }) = self;
        time.div_euclid(pane) * pane
    }

    /// Start and end of all windows that hold a pane, the last one to end first.
    pub fn windows(self, pane: i64) -> impl Iterator<Item = (i64, i64)> {
        let (last_end, first_end, by) = match self {
            Self::Sliding { slide, .. } => (self.last_end(pane), self.first_end(pane), slide),
            Self::Growing { step, .. } => (self.last_end(pane), self.first_end(pane), step),
        };
        let n = if self.holds(pane) { (last_end - first_end) / by + 1 } else { 0 };
        (0..n).map(move |back| {
            let end = last_end - back * by;
            match self {
                Self::Sliding { width, .. } => (end - width, end),
                Self::Growing { width, .. } => (last_end - width, end),
            }
        })
    }

    /// Whether any window holds the pane: where the slide is wider than the window, some lie between two.
    pub fn holds(self, pane: i64) -> bool {
        match self {
            Self::Sliding { width, slide, .. } => pane.rem_euclid(slide) < width,
            Self::Growing { .. } => true,
        }
    }

    /// The end of the first window to end of those that hold a pane.
    pub fn first_end(self, pane: i64) -> i64 {
        match self {
            Self::Sliding { width, .. } => self.first_start_after(pane).saturating_add(width),
            Self::Growing { step, .. } => pane.saturating_add(step),
        }
    }

    /// The end of the last window to end of those that hold a pane.
    pub fn last_end(self, pane: i64) -> i64 {
        match self {
            Self::Sliding { width, slide, .. } => (pane.div_euclid(slide) * slide).saturating_add(width),
            Self::Growing { width, .. } => (pane.div_euclid(width) * width).saturating_add(width),
        }
    }

    /// The end of the next window to end, after this watermark, of those that hold a pane.
    pub fn next_end(self, pane: i64, watermark_us: i64) -> Option<i64> {
        let (Self::Sliding { slide: by, .. } | Self::Growing { step: by, .. }) = self;
        let first = self.first_end(pane);
        let next = match i128::from(watermark_us) - i128::from(first) {
            behind if behind < 0 => i128::from(first),
            behind => i128::from(first) + (behind / i128::from(by) + 1) * i128::from(by),
        };
        (self.holds(pane) && next <= i128::from(self.last_end(pane))).then_some(next as i64)
    }

    /// Whether a window is one pane that no other window needs.
    pub fn panes_are_windows(self) -> bool {
        match self {
            Self::Sliding { width, slide, pane } => pane == width && slide >= width,
            Self::Growing { width, step } => width == step,
        }
    }

    /// The start of the first window that ends after this time.
    pub fn first_start_after(self, time: i64) -> i64 {
        let (begin, by) = match self {
            Self::Sliding { width, slide, .. } => (i128::from(time) - i128::from(width), i128::from(slide)),
            Self::Growing { width, .. } => (i128::from(time) - i128::from(width), i128::from(width)),
        };
        let start = (begin.div_euclid(by) + 1) * by;
        start.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_windows_of_a_pane_are_those_that_hold_it(time in -500_i64..500, n in 1_i64..6, unit in 1_i64..20, hop in any::<bool>()) {
            let shape = match hop {
                true => Shape::of(Window::Hop { width_us: unit, slide_us: n }),
                false => Shape::of(Window::Cumulate { width_us: n * unit, step_us: unit }),
            };
            let shape = shape.expect("a shape");
            let pane = shape.pane_of(time);
            let wanted: Vec<(i64, i64)> = (-1000..1000)
                .flat_map(|start| match shape {
                    Shape::Sliding { width, slide, .. } if start % slide == 0 => vec![(start, start + width)],
                    Shape::Growing { width, step } if start % width == 0 => {
                        (1..=width / step).map(|n| (start, start + n * step)).collect()
                    }
                    _ => Vec::new(),
                })
                .filter(|(start, end)| (*start..*end).contains(&time))
                .collect();
            let mut found: Vec<(i64, i64)> = shape.windows(pane).collect();
            found.sort_unstable();
            prop_assert_eq!(&found, &wanted);
            prop_assert_eq!(shape.holds(pane), !wanted.is_empty());
            for watermark_us in -600..600 {
                let next = wanted.iter().map(|(_, end)| *end).filter(|end| *end > watermark_us).min();
                prop_assert_eq!(shape.next_end(pane, watermark_us), next, "after {}", watermark_us);
            }
            if let (Some(first), Some(last)) = (wanted.iter().map(|w| w.1).min(), wanted.iter().map(|w| w.1).max()) {
                prop_assert_eq!((shape.first_end(pane), shape.last_end(pane)), (first, last));
            }
        }
    }
}
