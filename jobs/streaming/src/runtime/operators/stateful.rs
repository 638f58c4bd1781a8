//! What all operators with state have in common: how the slice drives them, and how their state is written and found
//! again.
//!
//! Invariant: what an operator says in sum, once it is flushed, depends on its rows and watermarks alone: not on how
//! rows were cut into batches, when it was flushed, the number of slices, or a checkpoint and restore in between.

use crate::state::chain;
use crate::state::file::{Contents, Rows};
use crate::state::hash;
use crate::state::hashes::Hashes;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// An operator with state, on one slice. The slice calls `restore` at most once, before anything else; then `process`
/// and `advance` as rows and event time come; `flush` when no more input is at hand, when a lot is pending, before each
/// barrier and at the end of the input; `catch_up` after a flush; `snapshot` right after both, when nothing was left to do,
/// on the slice's thread: it gathers columns, and writing them down is done elsewhere.
pub trait Stateful: Debug + Send {
    /// Takes rows of the input with this number. What can be said at once goes to `out`; what later rows would only
    /// take back again is kept until [`Stateful::flush`].
    fn process(&mut self, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()>;

    /// The inputs' event time, together, has come to `watermark_us`; `i64::MAX` is the end of the input.
    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()>;

    /// The input with this number gives nothing more, while others may. May be said again.
    fn input_ended(&mut self, _input: usize) -> Result<()> {
        Ok(())
    }

    /// Says everything that was kept.
    fn flush(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Rows taken since the last flush that may have something kept.
    fn n_pending(&self) -> usize {
        0
    }

    /// Whether anybody waits for what a flush would say now, with no more input at hand.
    fn waits_for_flush(&self) -> bool {
        self.n_pending() > 0
    }

    /// What the rows that are still to come out cannot be earlier than, given how far the input has come.
    fn output_watermark_us(&self) -> i64;

    /// The state, or what of it has changed since the last snapshot, or since it was restored. Nothing is pending.
    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot>;

    /// Takes the state back: the rows of each table, by name, that belong to this slice, without those that event time
    /// has made void. A table without rows for this slice may be absent.
    fn restore(&mut self, watermark_us: i64, tables: BTreeMap<String, RecordBatch>) -> Result<()>;

    fn memory_bytes(&self) -> usize;

    /// Does work that was put off because what it needs is on disk, or a part of it. Gives whether that was all there is
    /// to do now; if not it is to be called again, once what it said has gone on.
    fn catch_up(&mut self, _when: When, _out: &mut Output) -> Result<bool> {
        Ok(true)
    }

    /// It may hold so many bytes in memory from now on; what it holds beyond them goes to disk.
    fn fit(&mut self, _bytes: usize, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Whether [`Stateful::fit`] can do anything.
    fn can_spill(&self) -> bool {
        false
    }

    /// Bytes of its state that are on disk and not in memory.
    fn spilled_bytes(&self) -> u64 {
        0
    }

    /// Takes rows of a table before `restore` is called with the rest; gives them back if it wants all at once.
    fn restore_part(&mut self, _table: &str, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        Ok(Some(rows))
    }

    /// Whether rows may be taken in another order than they have with the watermarks: event time makes none of them late
    /// and lets nothing go.
    fn is_timeless(&self) -> bool {
        false
    }

    /// What event time will do to what is held now, nothing being pending.
    fn timing(&self) -> Timing {
        Timing::UNKNOWN
    }
}

/// An operator whose state is told apart by key, and can go key by key.
pub trait Forgets: Stateful {
    /// Forgets what is held of these keys, told by hash, and says nothing of it: as if no row of theirs had ever come.
    /// They count as touched. Nothing is pending.
    fn forget(&mut self, keys: &Hashes) -> Result<()>;

    /// These keys, told by hash, count as touched in the next snapshot.
    fn note_touched(&mut self, keys: &[u64]);
}

/// Which of the work that was put off is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// What is worth its reading and writing.
    Worthwhile,
    /// All of it.
    Now,
}

/// What event time will do to the state that an operator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// No watermark before this one makes it say anything; absent: none ever does.
    pub due_us: Option<i64>,
    /// What comes out of it has no earlier event time than this, and none that an operator without state could not give.
    pub from_us: i64,
}

impl Timing {
    pub const UNKNOWN: Self = Self { due_us: Some(i64::MIN), from_us: i64::MIN };
    /// No watermark does anything but move on.
    pub const NONE: Self = Self { due_us: None, from_us: i64::MAX };
}

/// What an operator gives.
#[derive(Debug, Default)]
pub struct Output {
    pub batches: Vec<RecordBatch>,
    /// Rows that came after what they belong to was settled.
    pub n_late: u64,
    /// Whether those of windows are wanted too.
    pub wants_late: bool,
    /// They, as the operator got them.
    pub late: Vec<RecordBatch>,
    /// Rows without a usable event time where one is needed.
    pub n_timeless: u64,
}

impl Output {
    /// These rows of a batch came after what they belong to was settled.
    pub fn come_late(&mut self, batch: &RecordBatch, rows: Vec<u32>) -> Result<()> {
        self.n_late += rows.len() as u64;
        if self.wants_late && !rows.is_empty() {
            self.late.push(take_record_batch(batch, &UInt32Array::from(rows))?);
        }
        Ok(())
    }
}

/// How much of its state an operator is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Of the keys that were touched; an operator may give all where that is not much more.
    Touched,
}

/// The state of an operator at a barrier.
#[derive(Debug)]
pub struct Snapshot {
    /// The hashes of the touched keys, sorted; some of them may have no rows any more. Absent where all is given.
    pub touched: Option<Vec<u64>>,
    /// All rows; or all rows of the touched keys, in all tables: what was given of these keys before no longer counts.
    pub tables: Vec<Table>,
}

/// Part of an operator's state: rows of its own columns.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: &'static str,
    /// The first column is the hash of the row's key (see [`hash::hash_rows`]), UInt64; the others are the operator's. Names
    /// are positions: a checkpoint must not depend on how the query calls them. Where rows go with event time, the second
    /// column is [`chain::UNTIL`].
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Snapshot {
    /// What a state file holds.
    pub fn into_contents(self, operator: &str, watermark_us: i64, (slot, n_slots): (u32, u32)) -> Contents {
        let (hash_low, hash_high) = hash::range_of(slot, n_slots);
        let mut tables: BTreeMap<String, Rows> = BTreeMap::new();
        for Table { name, schema, mut batches } in self.tables {
            batches.retain(|batch| batch.num_rows() > 0);
            if !batches.is_empty() {
                tables.insert(name.to_string(), Rows { schema, batches });
            }
        }
        Contents { operator: operator.to_string(), hash_low, hash_high, watermark_us, touched: self.touched, tables }
    }
}

/// Gathers, from the chains of an operator, the rows that belong to one slice.
#[derive(Debug)]
pub struct Gathered {
    operator: String,
    range: RangeInclusive<u64>,
    /// The lowest of all chains.
    watermark_us: Option<i64>,
    rows: BTreeMap<String, Rows>,
}

impl Gathered {
    pub fn new(operator: &str, (slot, n_slots): (u32, u32)) -> Self {
        let (low, high) = hash::range_of(slot, n_slots);
        Self { operator: operator.to_string(), range: low..=high, watermark_us: None, rows: BTreeMap::new() }
    }

    /// Takes a chain in. All slices of one barrier saw the same watermarks before it, so those of all chains are equal; of
    /// two that differ the lower one loses no rows.
    pub fn add(&mut self, files: Vec<Contents>, watermark_us: i64) -> Result<()> {
        self.watermark_us = Some(self.watermark_us.map_or(watermark_us, |lowest| lowest.min(watermark_us)));
        if let Some(other) = files.iter().find(|file| file.operator != self.operator) {
            return Err(DataFusionError::Execution(format!(
                "the state is of operator {}, not of {}",
                other.operator, self.operator
            )));
        }
        let Some(first) = files.first() else { return Ok(()) };
        if first.touched.is_some() {
            return Err(DataFusionError::Execution("a chain of state files does not begin with a base".to_string()));
        }
        let whole = chain::fold(files, watermark_us, &self.range)?;
        for (name, mut rows) in whole.tables {
            match self.rows.get_mut(&name) {
                None => {
                    self.rows.insert(name, rows);
                }
                Some(known) if known.schema == rows.schema => known.batches.append(&mut rows.batches),
                Some(known) => {
                    return Err(DataFusionError::Execution(format!(
                        "the files of one checkpoint have different columns: {} and {}",
                        known.schema, rows.schema
                    )));
                }
            }
        }
        Ok(())
    }

    /// Gives what was gathered so far to an operator that takes state in parts, so that it need not be in memory as a whole.
    pub fn hand_over(&mut self, operator: &mut dyn Stateful) -> Result<()> {
        for (name, Rows { batches, .. }) in &mut self.rows {
            for batch in std::mem::take(batches) {
                batches.extend(operator.restore_part(name, batch)?);
            }
        }
        self.rows.retain(|_, rows| !rows.batches.is_empty());
        Ok(())
    }

    pub fn restore(self, operator: &mut dyn Stateful) -> Result<()> {
        let whole = |(name, rows): (String, Rows)| Ok((name, concat_batches(&rows.schema, &rows.batches)?));
        let tables = self.rows.into_iter().map(whole).collect::<Result<_>>()?;
        operator.restore(self.watermark_us.unwrap_or(i64::MIN), tables)
    }
}

/// Rows of one table, which may come from several files, as one batch.
pub fn joined(batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let schema = first.schema();
    if let Some(other) = batches.iter().find(|batch| batch.schema() != schema) {
        return Err(DataFusionError::Execution(format!(
            "the files of one checkpoint have different columns: {schema} and {}",
            other.schema()
        )));
    }
    Ok(Some(concat_batches(&schema, batches)?))
}

/// Refuses state of other columns than the operator has now.
pub fn expect_schema(found: &RecordBatch, expected: &SchemaRef) -> Result<()> {
    if found.schema_ref() == expected {
        return Ok(());
    }
    Err(DataFusionError::Execution(format!(
        "the state has columns {}, but the operator needs {expected}; start without this checkpoint, or with the version \
         that wrote it",
        found.schema()
    )))
}

pub fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
