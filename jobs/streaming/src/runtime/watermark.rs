//! How far event time has come, over several inputs.
//!
//! Invariant: a watermark never goes backwards. An idle input does not hold the others back; an ended one never does.
//! An operator whose inputs are all idle says that it is idle, so that slices after it need not wait for it either.
//!
//! What wakes up wakes one slice after the other. A slice that has woken up already would end windows behind an exchange
//! while the rows of one that still counts as idle are on their way. So where one edge says that rows come over an exchange
//! before it, of which every slice hears, the edges that are idle are only slow to say so, and hold the others back.

/// The event time of one input: a split, an edge between slices, or an operator's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Microseconds since the epoch; rows before it are not expected any more. [`i64::MAX`]: the input has ended.
    pub watermark_us: i64,
    pub idle: bool,
    /// Something that came over an exchange is not idle: what every slice hears of, though not at the same time.
    pub common: bool,
}

impl Progress {
    pub const START: Self = Self::at(i64::MIN);
    pub const END: Self = Self::at(i64::MAX);
    /// An input that is not there yet, and may come.
    pub const EXPECTED: Self = Self { idle: true, ..Self::START };

    pub const fn at(watermark_us: i64) -> Self {
        Self { watermark_us, idle: false, common: false }
    }

    pub fn ended(self) -> bool {
        self.watermark_us == i64::MAX
    }

    /// The same input, seen later.
    pub fn advanced(self, later: Self) -> Self {
        Self { watermark_us: self.watermark_us.max(later.watermark_us), ..later }
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
        let (mut lowest, mut lowest_idle, mut common) = (None, None, false);
        for input in inputs.filter(|input| !input.ended()) {
            common |= input.common;
            let lowest = if input.idle { &mut lowest_idle } else { &mut lowest };
            *lowest = Some(lowest.map_or(input.watermark_us, |lowest: i64| lowest.min(input.watermark_us)));
        }
        match lowest.or(lowest_idle) {
            None => Self::END,
            Some(of_inputs) => Self { watermark_us: of_inputs.max(self.watermark_us), idle: lowest.is_none(), common },
        }
    }

    /// The same for an exchange, from the edges of all slices.
    pub fn over_edges(self, edges: &[Self]) -> Self {
        let woken = edges.iter().any(|edge| edge.common && !edge.ended());
        let come = self.combined(edges.iter().map(|edge| Self { idle: edge.idle && !woken, ..*edge }));
        Self { common: !come.idle && !come.ended(), ..come }
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
        let idle = |watermark_us| Progress { idle: true, ..Progress::at(watermark_us) };
        check(i64::MIN, &[Progress::at(5), Progress::at(3)], Progress::at(3));
        check(4, &[Progress::at(5), Progress::at(3)], Progress::at(4));
        check(1, &[idle(2), Progress::at(9)], Progress::at(9));
        check(7, &[idle(2), idle(9)], idle(7));
        check(7, &[idle(8), idle(9)], idle(8));
        check(7, &[Progress::END, Progress::at(9)], Progress::at(9));
        // An idle input may still come back, so the end of the others is not the end.
        check(7, &[Progress::END, idle(9)], idle(9));
        check(7, &[Progress::END, Progress::END], Progress::END);
        check(7, &[], Progress::END);
        check(7, &[Progress::EXPECTED], idle(7));
        check(7, &[Progress::at(9), Progress::EXPECTED], Progress::at(9));
        check(7, &[Progress::END, Progress::EXPECTED], idle(7));
    }

    #[test]
    fn those_who_wait_are_behind() {
        assert_eq!(Progress::at(9).behind(4), Progress::at(5));
        assert_eq!(Progress { idle: true, ..Progress::at(9) }.behind(4), Progress { idle: true, ..Progress::at(5) });
        assert_eq!((Progress::START.behind(4), Progress::END.behind(4)), (Progress::START, Progress::END));
    }

    #[test]
    fn an_edge_that_is_slow_to_wake_up_holds_the_others_back() {
        let idle = |watermark_us| Progress { idle: true, ..Progress::at(watermark_us) };
        let common = |watermark_us| Progress { common: true, ..Progress::at(watermark_us) };
        let check = |edges: &[Progress], expect| assert_eq!(Progress::at(3).over_edges(edges), expect);
        // Splits of their own: the other one may sleep on.
        check(&[idle(5), Progress::at(9)], common(9));
        check(&[idle(5), common(9)], common(5));
        check(&[common(7), common(9)], common(7));
        check(&[idle(5), idle(9)], idle(5));
        check(&[Progress::END, common(9)], common(9));
        // A split of its own is awake, and what all hear of sleeps.
        check(&[Progress::at(7), idle(5)], common(7));
        check(&[Progress::END, Progress::END], Progress::END);
    }

    proptest! {
        #[test]
        fn never_backwards(steps in proptest::collection::vec((0_usize..3, -50_i64..50, any::<bool>()), 0..60)) {
            let mut inputs = [Progress::START; 3];
            let mut combined = Progress::START;
            for (input, watermark_us, idle) in steps {
                inputs[input] = inputs[input].advanced(Progress { idle, ..Progress::at(watermark_us) });
                let next = combined.combined(inputs.iter().copied());
                prop_assert!(next.watermark_us >= combined.watermark_us);
                combined = next;
            }
        }
    }
}
