//! How far event time has come, over several inputs.
//!
//! Invariant: a watermark never goes backwards. An idle input does not hold the others back; an ended one never does.
//! An operator whose inputs are all idle stays where it is and says that it is idle, so that slices after it need not
//! wait for it either.

/// The event time of one input: a split, an edge between slices, or an operator's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Microseconds since the epoch; rows before it are not expected any more. [`i64::MAX`]: the input has ended.
    pub watermark_us: i64,
    pub idle: bool,
}

impl Progress {
    pub const START: Self = Self { watermark_us: i64::MIN, idle: false };
    pub const END: Self = Self { watermark_us: i64::MAX, idle: false };
    /// An input that is not there yet, and may come.
    pub const EXPECTED: Self = Self { watermark_us: i64::MIN, idle: true };

    pub fn at(watermark_us: i64) -> Self {
        Self { watermark_us, idle: false }
    }

    pub fn ended(self) -> bool {
        self.watermark_us == i64::MAX
    }

    /// The same input, seen later.
    pub fn advanced(self, later: Self) -> Self {
        Self { watermark_us: self.watermark_us.max(later.watermark_us), idle: later.idle }
    }

    /// The same input for those who wait for rows that are this late. The end is the end.
    pub fn behind(self, by_us: i64) -> Self {
        match self.watermark_us {
            i64::MIN | i64::MAX => self,
            watermark_us => Self { watermark_us: watermark_us.saturating_sub(by_us), ..self },
        }
    }

    /// What follows from the inputs' progress for one who was at `self` before.
    pub fn combined(self, inputs: impl Iterator<Item = Self>) -> Self {
        let mut all_ended = true;
        let mut lowest = None;
        for input in inputs {
            all_ended &= input.ended();
            if !input.ended() && !input.idle {
                lowest = Some(lowest.map_or(input.watermark_us, |lowest: i64| lowest.min(input.watermark_us)));
            }
        }
        match lowest {
            _ if all_ended => Self::END,
            Some(lowest) => Self { watermark_us: lowest.max(self.watermark_us), idle: false },
            None => Self { watermark_us: self.watermark_us, idle: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(before: i64, inputs: &[Progress], expect: Progress) {
        assert_eq!(Progress::at(before).combined(inputs.iter().copied()), expect);
    }

    #[test]
    fn rules() {
        let idle = |watermark_us| Progress { watermark_us, idle: true };
        check(i64::MIN, &[Progress::at(5), Progress::at(3)], Progress::at(3));
        check(4, &[Progress::at(5), Progress::at(3)], Progress::at(4));
        check(1, &[idle(2), Progress::at(9)], Progress::at(9));
        check(7, &[idle(2), idle(9)], idle(7));
        check(7, &[Progress::END, Progress::at(9)], Progress::at(9));
        // An idle input may still come back, so the end of the others is not the end.
        check(7, &[Progress::END, idle(9)], idle(7));
        check(7, &[Progress::END, Progress::END], Progress::END);
        check(7, &[], Progress::END);
        check(7, &[Progress::EXPECTED], idle(7));
        check(7, &[Progress::at(9), Progress::EXPECTED], Progress::at(9));
        check(7, &[Progress::END, Progress::EXPECTED], idle(7));
    }

    #[test]
    fn those_who_wait_are_behind() {
        assert_eq!(Progress::at(9).behind(4), Progress::at(5));
        assert_eq!(Progress { watermark_us: 9, idle: true }.behind(4), Progress { watermark_us: 5, idle: true });
        assert_eq!((Progress::START.behind(4), Progress::END.behind(4)), (Progress::START, Progress::END));
    }

    proptest! {
        #[test]
        fn never_backwards(steps in proptest::collection::vec((0_usize..3, -50_i64..50, any::<bool>()), 0..60)) {
            let mut inputs = [Progress::START; 3];
            let mut combined = Progress::START;
            for (input, watermark_us, idle) in steps {
                inputs[input] = inputs[input].advanced(Progress { watermark_us, idle });
                let next = combined.combined(inputs.iter().copied());
                prop_assert!(next.watermark_us >= combined.watermark_us);
                combined = next;
            }
        }
    }
}
