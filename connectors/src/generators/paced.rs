//! Deals numbered rows to splits and hands them out at a wall-clock rate.
//!
//! Invariant: split `s` of `n` holds the rows s, s + n, s + 2n, …; a position counts within the split. Pace decides
//! only when a row appears, never what it is.

use super::{RATE, ROWS, SPLITS};
use crate::{Error, Options, Polled, Position, Result, SourceReader, SplitStart, TableDef};
use arrow::array::RecordBatch;
use jobs::Diagnostic;
use std::time::{Duration, Instant};

/// Rows handed out at once: enough for column kernels, and at any usual rate still well below a second's worth.
const BATCH_ROWS: u64 = 4096;
/// Rows are gathered this long at most, so that a slow pace does not mean batches of one; less where enough for column
/// kernels come sooner.
const GATHER: Duration = Duration::from_millis(20);
const GATHER_ROWS: f64 = 64.0;

/// How many rows, in how many splits, how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub rows: Option<u64>,
    pub splits: u64,
    /// Rows per second over all splits; 0 is as many as possible.
    pub rate: f64,
}

impl Pace {
    pub fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        Self::counted_by(table, ROWS.name)
    }

    /// As [`Pace::of`], where another option says how many rows there are.
    pub fn counted_by(table: &TableDef, rows: &str) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let rows = options.number::<u64>(rows)?;
        let splits = options.number_within::<u64>(SPLITS.name, 1, 1024)?.unwrap_or(4);
        let default_rate = if rows.is_some() { 0.0 } else { 2000.0 };
        let rate = options.number_within::<f64>(RATE.name, 0.0, 1e9)?.unwrap_or(default_rate);
        Ok(Self { rows, splits, rate })
    }

    pub fn split_names(&self) -> Vec<String> {
        (0..self.splits).map(|split| split.to_string()).collect()
    }

    fn rows_of(&self, split: u64) -> Option<u64> {
        self.rows.map(|rows| (rows + self.splits - 1 - split) / self.splits)
    }
}

/// Makes rows by number.
pub trait Rows: Send {
    /// How many rows are asked for at once, at most.
    fn at_once(&self) -> u64 {
        BATCH_ROWS
    }

    /// The `count` rows with the numbers `first`, `first + step`, …; fewer where some numbers stand for no row.
    fn rows(&self, first: u64, step: u64, count: u64) -> Result<RecordBatch>;
}

pub struct PacedReader<R> {
    rows: R,
    pace: Pace,
    splits: Vec<SplitState>,
    /// The split looked at first, so that all have their turn.
    turn: usize,
    opened: Instant,
}

struct SplitState {
    split: u64,
    begin: Position,
    next: Position,
    end_told: bool,
}

impl<R: Rows> PacedReader<R> {
    pub fn new(rows: R, pace: Pace, table: &str, starts: &[SplitStart]) -> Result<Self> {
        let mut splits = Vec::with_capacity(starts.len());
        for start in starts {
            let split = start.split.parse().ok().filter(|split| *split < pace.splits).ok_or_else(|| {
                Error::Fatal(format!(
                    "table '{table}' has no split '{}', only {} of them; was option 'splits' changed?",
                    start.split, pace.splits
                ))
            })?;
            let begin = start.from.unwrap_or(0);
            splits.push(SplitState { split, begin, next: begin, end_told: false });
        }
        Ok(Self { rows, pace, splits, turn: 0, opened: Instant::now() })
    }

    /// How many rows of a split are due by now.
    fn due(&self, at: &SplitState, now: Instant) -> u64 {
        let left = self.pace.rows_of(at.split).map_or(u64::MAX, |rows| rows.saturating_sub(at.next));
        if self.pace.rate == 0.0 {
            return left.min(self.rows.at_once());
        }
        let rate = self.pace.rate / self.pace.splits as f64;
        let allowed = (now.duration_since(self.opened).as_secs_f64() * rate) as u64;
        allowed.saturating_sub(at.next - at.begin).min(left).min(self.rows.at_once())
    }

    /// How long until some split has a row due.
    fn until_due(&self, now: Instant) -> Duration {
        let rate = self.pace.rate / self.pace.splits as f64;
        let elapsed = now.duration_since(self.opened).as_secs_f64();
        self.splits
            .iter()
            .filter(|at| !at.end_told)
            .map(|at| Duration::from_secs_f64((((at.next - at.begin + 1) as f64) / rate - elapsed).clamp(0.0, 60.0)))
            .min()
            .unwrap_or(GATHER)
    }
}

impl<R: Rows> SourceReader for PacedReader<R> {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let now = Instant::now();
        for turn in 0..self.splits.len() {
            let index = (self.turn + turn) % self.splits.len();
            let at = &self.splits[index];
            if at.end_told {
                continue;
            }
            if self.pace.rows_of(at.split).is_some_and(|rows| at.next >= rows) {
                self.splits[index].end_told = true;
                return Ok(Polled::SplitEnd { split: index });
            }
            let count = self.due(at, now);
            if count > 0 {
                let first = at.next * self.pace.splits + at.split;
                let batch = self.rows.rows(first, self.pace.splits, count)?;
                let next = at.next + count;
                self.splits[index].next = next;
                self.turn = index + 1;
                return Ok(Polled::Batch { split: index, batch, next, bad: Vec::new() });
            }
        }
        if self.splits.iter().all(|at| at.end_told) {
            return Ok(Polled::End);
        }
        let gather = Duration::from_secs_f64(GATHER_ROWS / self.pace.rate.max(1.0)).min(GATHER);
        std::thread::sleep(self.until_due(now).max(gather).min(wait));
        // Whoever paces itself has nothing to do meanwhile, and is not busy.
        Ok(Polled::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    struct Numbers;

    impl Rows for Numbers {
        fn rows(&self, first: u64, step: u64, count: u64) -> Result<RecordBatch> {
            let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
            let column = Int64Array::from_iter_values((0..count).map(|at| (first + at * step) as i64));
            Ok(RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap())
        }
    }

    fn read_all(pace: Pace, starts: &[SplitStart]) -> (Vec<i64>, usize) {
        let mut reader = PacedReader::new(Numbers, pace, "t", starts).unwrap();
        let (mut all, mut ends) = (Vec::new(), 0);
        loop {
            match reader.poll(Duration::from_secs(1)).unwrap() {
                Polled::Batch { batch, .. } => {
                    all.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
                }
                Polled::SplitEnd { .. } => ends += 1,
                Polled::Idle => {}
                Polled::End => return (all, ends),
            }
        }
    }

    #[test]
    fn all_rows_come_once_and_a_position_skips_those_before_it() {
        for rate in [0.0, 200_000.0] {
            let pace = Pace { rows: Some(10_003), splits: 3, rate };
            let start = |split: &str, from| SplitStart { split: split.to_owned(), from };
            let (mut all, ends) = read_all(pace, &[start("0", None), start("1", None), start("2", None)]);
            all.sort_unstable();
            assert_eq!(all, (0..10_003).collect::<Vec<i64>>());
            assert_eq!(ends, 3);
            let (rest, _) = read_all(pace, &[start("1", Some(3330))]);
            assert_eq!(rest, [9991, 9994, 9997, 10_000]);
        }
        let unknown = SplitStart { split: "3".to_owned(), from: None };
        assert!(PacedReader::new(Numbers, Pace { rows: None, splits: 3, rate: 0.0 }, "t", &[unknown]).is_err());
    }

    #[test]
    fn who_waits_for_his_pace_says_so() {
        let pace = Pace { rows: None, splits: 1, rate: 1.0 };
        let start = SplitStart { split: "0".to_owned(), from: None };
        let mut reader = PacedReader::new(Numbers, pace, "t", &[start]).unwrap();
        assert!(matches!(reader.poll(Duration::from_millis(1)).unwrap(), Polled::Idle));
        // The first row is due after a second, and the time until then is no work.
        let mut idle = 0;
        while let Polled::Idle = reader.poll(Duration::from_secs(1)).unwrap() {
            idle += 1;
        }
        assert!(idle > 0);
    }
}
