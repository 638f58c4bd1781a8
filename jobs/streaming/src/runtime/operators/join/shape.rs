//! What a join is to do, worked out once: which rows it gives alone, which it counts the matches of, and how long event
//! time lets it forget.

use super::{LEFT, RIGHT, Spec};
use crate::dataflow::Bounds;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::JoinType;
use datafusion::error::{DataFusionError, Result};

/// When rows of a side are given without a partner: padded with nulls, as they are by a semi or anti join, or with their
/// mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// As long as the sum of the weights of its matches is above zero.
    Matched,
    /// As long as it is not.
    Unmatched,
    /// Always, with a column that says whether it is.
    Marked,
}

#[derive(Debug)]
pub struct Shape {
    /// Whether pairs come out.
    pub pairs: bool,
    /// By side; these rows' matches are counted.
    pub alone: [Option<Alone>; 2],
    /// Rows without a match are given when they expire, for good.
    pub defers: bool,
    /// A left row is done with its first match: nothing can take that back.
    pub settles: bool,
    pub horizon: Option<Horizon>,
}

impl Shape {
    pub fn new(spec: &Spec) -> Result<Self> {
        let (pairs, alone) = match spec.join.kind {
            JoinType::Inner => (true, [None, None]),
            JoinType::Left => (true, [Some(Alone::Unmatched), None]),
            JoinType::Right => (true, [None, Some(Alone::Unmatched)]),
            JoinType::Full => (true, [Some(Alone::Unmatched); 2]),
            JoinType::LeftSemi => (false, [Some(Alone::Matched), None]),
            JoinType::LeftAnti => (false, [Some(Alone::Unmatched), None]),
            JoinType::LeftMark => (false, [Some(Alone::Marked), None]),
            kind => {
                return Err(DataFusionError::Plan(format!(
                    "a {kind} join of streams is not possible; swap its inputs"
                )));
            }
        };
        let changes = spec.left.changes || spec.right.changes;
        let horizon = spec.join.bounds.map(|bounds| Horizon::new(spec, bounds)).transpose()?;
        Ok(Self { pairs, alone, defers: horizon.is_some() && !changes, settles: !pairs && !changes, horizon })
    }

    pub fn counts(&self, side: usize) -> bool {
        self.alone[side].is_some()
    }

    /// Whether a row of this side with so many matches is given alone.
    pub fn shows(&self, side: usize, matches: i64) -> bool {
        match self.alone[side] {
            None => false,
            Some(Alone::Matched) => matches > 0,
            Some(Alone::Unmatched) => matches <= 0,
            Some(Alone::Marked) => true,
        }
    }

    /// Whether rows of this side carry a mark.
    pub fn marks(&self, side: usize) -> bool {
        self.alone[side] == Some(Alone::Marked)
    }

    /// Whether rows of this side wait for their expiry before they are given alone.
    pub fn waits(&self, side: usize) -> bool {
        self.defers && self.alone[side] == Some(Alone::Unmatched)
    }
}

/// How far apart in event time rows meet, and what follows from it.
///
/// In a changelog a row may be taken back or come again after the watermark has passed it, as long as it could still
/// meet rows that are on time. So such rows are let in for longer, and the other side is kept for longer to find the
/// same partners again.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// By side: the column of event time.
    pub times: [usize; 2],
    lower_us: i64,
    upper_us: i64,
    /// By side: how far behind the watermark a row may come.
    lag_us: [i64; 2],
    /// By side: how long after its event time a row is kept.
    reach_us: [i64; 2],
}

impl Horizon {
    fn new(spec: &Spec, bounds: Bounds) -> Result<Self> {
        let Bounds { left_time, right_time, lower_us, upper_us } = bounds;
        for (side, time) in [(&spec.left, left_time), (&spec.right, right_time)] {
            let field = side.data_fields().get(time);
            let field =
                field.ok_or_else(|| DataFusionError::Plan(format!("a join has no column {time} for its time")))?;
            if !matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
                return Err(DataFusionError::Plan(format!(
                    "event time {} is of type {}",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        let changes = spec.left.changes || spec.right.changes;
        // Left rows meet right ones up to `upper` later, right rows left ones up to minus `lower` later.
        let ahead_us = [upper_us, lower_us.saturating_neg()];
        let lag_us = ahead_us.map(|ahead_us| if changes { ahead_us.max(0) } else { 0 });
        let reach_us = [LEFT, RIGHT].map(|side| {
            ahead_us[side].saturating_add(lag_us[1 - side]).max(match changes {
                true => lag_us[side],
                false => i64::MIN,
            })
        });
        Ok(Self { times: [left_time, right_time], lower_us, upper_us, lag_us, reach_us })
    }

    /// Whether rows of these event times meet; times are within `TIME_LIMIT_US`.
    pub fn meet(&self, left_us: i64, right_us: i64) -> bool {
        (self.lower_us..=self.upper_us).contains(&(right_us - left_us))
    }

    /// A row that comes after this watermark is late: rows that it should have met may have gone.
    pub fn is_late(&self, side: usize, time_us: i64, watermark_us: i64) -> bool {
        time_us.saturating_add(self.lag_us[side]) < watermark_us
    }

    /// Once the watermark has passed this, no row that is not late meets the row, and none takes it back.
    pub fn deadline_us(&self, side: usize, time_us: i64) -> i64 {
        time_us.saturating_add(self.reach_us[side])
    }

    /// What comes out has event times, of both sides, not before this: it was let in no later than its lag allows, or
    /// kept no longer than it reaches.
    pub fn output_watermark_us(&self, watermark_us: i64) -> i64 {
        let behind_us = self.lag_us.into_iter().chain(self.reach_us).fold(0, i64::max);
        match watermark_us {
            i64::MIN | i64::MAX => watermark_us,
            watermark_us => watermark_us.saturating_sub(behind_us),
        }
    }
}
