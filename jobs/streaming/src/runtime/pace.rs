//! Whether a slice reads too far ahead, in event time, of the other slices.
//!
//! What waits for a watermark waits for that of the slowest slice. Rows of a faster one only pile up in open windows, so its
//! sources stand still until the slowest has come to where they themselves were some watermarks ago. That is counted in
//! watermarks and not in seconds, because rows may be a millisecond or a day apart.
//!
//! Invariant: nobody waits for a slice that does not come on, so two never wait for each other for long, and a silent
//! partition stops no other one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Some times what is under way between two slices.
const AHEAD: usize = 32;
const SILENT_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Pace {
    /// The latest watermarks of this slice at the exchange.
    said_us: VecDeque<i64>,
    slowest_us: i64,
    moved: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { said_us: VecDeque::with_capacity(AHEAD), slowest_us: i64::MIN, moved: now }
    }

    /// This slice has come to here.
    pub fn said(&mut self, watermark_us: i64) {
        if self.said_us.len() == AHEAD {
            self.said_us.pop_front();
        }
        self.said_us.push_back(watermark_us);
    }

    /// The slowest of all slices has come to here.
    pub fn slowest(&mut self, watermark_us: i64, now: Instant) {
        if watermark_us > self.slowest_us {
            (self.slowest_us, self.moved) = (watermark_us, now);
        }
    }

    /// Asks for the time only where it matters.
    pub fn is_ahead(&self, now: impl FnOnce() -> Instant) -> bool {
        self.said_us.len() == AHEAD
            && self.said_us[0] > self.slowest_us
            && now().duration_since(self.moved) < SILENT_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_those_who_come_on() {
        let begin = Instant::now();
        let after = |ms: u64| begin + Duration::from_millis(ms);
        let mut pace = Pace::new(begin);
        (0..AHEAD as i64).for_each(|at| pace.said(at));
        assert!(pace.is_ahead(|| after(10)), "the others have said nothing yet");
        pace.slowest(0, after(100));
        assert!(!pace.is_ahead(|| after(100)), "the slowest is where this one was {AHEAD} watermarks ago");
        pace.said(99);
        assert!(pace.is_ahead(|| after(299)));
        assert!(!pace.is_ahead(|| after(300)), "it does not come on");
        pace.slowest(0, after(310));
        assert!(!pace.is_ahead(|| after(310)), "to say the same is not to come on");
        pace.slowest(1, after(320));
        assert!(!pace.is_ahead(|| after(320)));
        pace.slowest(i64::MAX, after(330));
        pace.said(100);
        assert!(!pace.is_ahead(|| after(330)), "the others are at their end");
    }
}
