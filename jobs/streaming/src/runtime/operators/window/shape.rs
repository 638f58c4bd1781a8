//! Which windows there are, and which of them a pane belongs to.

use crate::dataflow::Window;
use datafusion::error::{DataFusionError, Result};

/// Event times beyond this (some 146,000 years from the epoch) are taken for mistakes: arithmetic on them could wrap.
pub const TIME_LIMIT_US: i64 = i64::MAX / 2;

/// Windows in microseconds, of which one would begin at `offset`. A *pane* is the widest stretch of time that no window's
/// bound cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    form: Form,
    offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A window of `width` begins at every multiple of `slide`, counted from the offset.
    Sliding { width: i64, slide: i64, pane: i64 },
    /// A window begins at every multiple of `width` and ends after each of its steps.
    Growing { width: i64, step: i64 },
}

impl Shape {
    pub fn of(window: Window) -> Result<Self> {
        let wrong = || Err(DataFusionError::Plan(format!("a window of this form is not possible: {window:?}")));
        let (width, slide, offset) = match window {
            Window::Tumble { width_us, offset_us } => (width_us, width_us, offset_us),
            Window::Hop { width_us, slide_us, offset_us } => (width_us, slide_us, offset_us),
            Window::Cumulate { width_us, step_us, offset_us } => (width_us, step_us, offset_us),
            Window::Session { .. } => return wrong(),
        };
        if width <= 0 || slide <= 0 || width > TIME_LIMIT_US / 2 || slide > TIME_LIMIT_US / 2 {
            return wrong();
        }
        let (form, every) = match window {
            Window::Cumulate { .. } if width % slide != 0 => return wrong(),
            Window::Cumulate { .. } => (Form::Growing { width, step: slide }, width),
            _ => (Form::Sliding { width, slide, pane: greatest_common_divisor(width, slide) }, slide),
        };
        if (0..every).contains(&offset) { Ok(Self { form, offset }) } else { wrong() }
    }

    /// The greatest multiple of `by`, counted from the offset, that is not after a time.
    fn floor(self, time: i64, by: i64) -> i64 {
        let floor = i128::from(time) - (i128::from(time) - i128::from(self.offset)).rem_euclid(i128::from(by));
        floor.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    pub fn pane_width(self) -> i64 {
        let (Form::Sliding { pane, .. } | Form::Growing { step: pane, .. }) = self.form;
        pane
    }

    /// The start of the pane in which a time lies.
    pub fn pane_of(self, time: i64) -> i64 {
        time - (time - self.offset).rem_euclid(self.pane_width())
    }

    /// Start and end of all windows that hold a pane, the last one to end first.
    pub fn windows(self, pane: i64) -> impl Iterator<Item = (i64, i64)> {
        let (last_end, first_end, by) = match self.form {
            Form::Sliding { slide, .. } => (self.last_end(pane), self.first_end(pane), slide),
            Form::Growing { step, .. } => (self.last_end(pane), self.first_end(pane), step),
        };
        let n = if self.holds(pane) { (last_end - first_end) / by + 1 } else { 0 };
        (0..n).map(move |back| {
            let end = last_end - back * by;
            match self.form {
                Form::Sliding { width, .. } => (end - width, end),
                Form::Growing { width, .. } => (last_end - width, end),
            }
        })
    }

    /// Whether any window holds the pane: where the slide is wider than the window, some lie between two.
    pub fn holds(self, pane: i64) -> bool {
        match self.form {
            Form::Sliding { width, slide, .. } => (pane - self.offset).rem_euclid(slide) < width,
            Form::Growing { .. } => true,
        }
    }

    /// The end of the first window to end of those that hold a pane.
    pub fn first_end(self, pane: i64) -> i64 {
        match self.form {
            Form::Sliding { width, .. } => self.first_start_after(pane).saturating_add(width),
            Form::Growing { step, .. } => pane.saturating_add(step),
        }
    }

    /// The end of the last window to end of those that hold a pane.
    pub fn last_end(self, pane: i64) -> i64 {
        match self.form {
            Form::Sliding { width, slide, .. } => self.floor(pane, slide).saturating_add(width),
            Form::Growing { width, .. } => self.floor(pane, width).saturating_add(width),
        }
    }

    /// The end of the next window to end, after this watermark, of those that hold a pane.
    pub fn next_end(self, pane: i64, watermark_us: i64) -> Option<i64> {
        let (Form::Sliding { slide: by, .. } | Form::Growing { step: by, .. }) = self.form;
        let first = self.first_end(pane);
        let next = match i128::from(watermark_us) - i128::from(first) {
            behind if behind < 0 => i128::from(first),
            behind => i128::from(first) + (behind / i128::from(by) + 1) * i128::from(by),
        };
        (self.holds(pane) && next <= i128::from(self.last_end(pane))).then_some(next as i64)
    }

    /// The latest time, up to this one, at which a window ends: for windows that answer once, watermarks between two such
    /// times are all the same.
    pub fn last_end_by(self, time: i64) -> i64 {
        match self.form {
            Form::Sliding { width, slide, .. } => {
                self.floor(time.saturating_sub(width), slide).saturating_add(width).min(time)
            }
            Form::Growing { step, .. } => self.floor(time, step),
        }
    }

    /// Whether a window is one pane that no other window needs.
    pub fn panes_are_windows(self) -> bool {
        match self.form {
            Form::Sliding { width, slide, pane } => pane == width && slide >= width,
            Form::Growing { width, step } => width == step,
        }
    }

    /// The start of the first window that ends after this time.
    pub fn first_start_after(self, time: i64) -> i64 {
        let (width, by) = match self.form {
            Form::Sliding { width, slide, .. } => (width, slide),
            Form::Growing { width, .. } => (width, width),
        };
        let begin = i128::from(time) - i128::from(width);
        let start = begin - (begin - i128::from(self.offset)).rem_euclid(i128::from(by)) + i128::from(by);
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
        fn the_windows_of_a_pane_are_those_that_hold_it(
            time in -500_i64..500,
            n in 1_i64..6,
            unit in 1_i64..20,
            hop in any::<bool>(),
            offset in 0_i64..200,
        ) {
            let shape = match hop {
                true => Shape::of(Window::Hop { width_us: unit, slide_us: n, offset_us: offset % n }),
                false => Shape::of(Window::Cumulate { width_us: n * unit, step_us: unit, offset_us: offset % (n * unit) }),
            };
            let shape = shape.expect("a shape");
            let pane = shape.pane_of(time);
            let wanted: Vec<(i64, i64)> = (-1000..1000)
                .flat_map(|start| match shape.form {
                    Form::Sliding { width, slide, .. } if (start - offset) % slide == 0 => vec![(start, start + width)],
                    Form::Growing { width, step } if (start - offset) % width == 0 => {
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
                let ended = shape.last_end_by(watermark_us);
                prop_assert!(ended <= watermark_us);
                prop_assert!(!wanted.iter().any(|(_, end)| (ended + 1..=watermark_us).contains(end)));
                prop_assert_eq!(shape.first_start_after(ended), shape.first_start_after(watermark_us));
                let next = wanted.iter().map(|(_, end)| *end).filter(|end| *end > watermark_us).min();
                prop_assert_eq!(shape.next_end(pane, watermark_us), next, "after {}", watermark_us);
            }
            if let (Some(first), Some(last)) = (wanted.iter().map(|w| w.1).min(), wanted.iter().map(|w| w.1).max()) {
                prop_assert_eq!((shape.first_end(pane), shape.last_end(pane)), (first, last));
            }
        }
    }
}
