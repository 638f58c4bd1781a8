//! What came for a page and waits to be taken: rows by input, watermarks, and ends of inputs, in the order in which they
//! came. The later part is in memory, the earlier one may be on disk.
//!
//! Invariant: replaying gives an operator rows and watermarks in their order, so that what is late is what it would have
//! been at once. Where event time changes nothing ([`Stateful::is_timeless`]) rows of one input are put together instead,
//! before the watermarks between them.

use super::bytes::{decode_rows, encode_rows, put_number, take_bytes, take_number};
use crate::runtime::operators::stateful::{Output, Stateful, external, joined};
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::spill::{Extent, Spill};
use arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rows { input: usize, n: usize },
    Advance(i64),
    Ended(usize),
}

#[derive(Debug, Default)]
pub struct Log {
    is_timeless: bool,
    /// On disk, in order; what is in memory comes after it.
    segments: VecDeque<Extent>,
    steps: Vec<Step>,
    /// By input: the rows of the steps in memory.
    rows: Vec<Vec<RecordBatch>>,
    /// What the rows in memory take.
    bytes: usize,
    n_rows: usize,
    watermark_us: Option<i64>,
    has_end: bool,
}

impl Log {
    pub fn new(is_timeless: bool) -> Self {
        Self { is_timeless, ..Self::default() }
    }

    /// Rows, on disk ones too.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(Extent::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.segments.is_empty()
    }

    /// Whether anything here can make an operator say or do something, given when it is due.
    pub fn matters(&self, due_us: Option<i64>) -> bool {
        let comes_due = || due_us.zip(self.watermark_us).is_some_and(|(due_us, watermark_us)| due_us <= watermark_us);
        self.n_rows > 0 || self.has_end || comes_due()
    }

    /// `bytes`: the rows' share of what holds them.
    pub fn push(&mut self, input: usize, rows: RecordBatch, bytes: usize) {
        let n_rows = rows.num_rows();
        self.n_rows += n_rows;
        self.bytes += bytes;
        if self.rows.len() <= input {
            self.rows.resize_with(input + 1, Vec::new);
        }
        self.rows[input].push(rows);
        let of_input = |step: &&mut Step| matches!(step, Step::Rows { input: its, .. } if *its == input);
        let earlier = match self.is_timeless {
            true => self.steps.iter_mut().find(of_input),
            false => self.steps.last_mut().filter(of_input),
        };
        match earlier {
            Some(Step::Rows { n, .. }) => *n += n_rows,
            _ => self.steps.push(Step::Rows { input, n: n_rows }),
        }
    }

    pub fn advance(&mut self, watermark_us: i64) {
        self.watermark_us = Some(watermark_us);
        match self.steps.as_mut_slice() {
            // Nothing came in between, so nothing is seen of the earlier one; but the first one after rows may be what dates
            // them.
            [.., Step::Advance(_), Step::Advance(last)] => *last = watermark_us,
            [.., Step::Advance(last)] if self.is_timeless => *last = watermark_us,
            _ => self.steps.push(Step::Advance(watermark_us)),
        }
    }

    pub fn end(&mut self, input: usize) {
        self.has_end = true;
        self.steps.push(Step::Ended(input));
    }

    /// Writes the rows in memory to disk, with all that came between them.
    pub fn write_out(&mut self, spill: &mut Spill) -> Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let bytes = encode(&self.steps, &self.rows)?;
        self.segments.push_back(spill.write(&bytes).map_err(external)?);
        self.steps.clear();
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Gives all of it to the operator; the log is empty afterwards.
    pub fn replay(&mut self, spill: &mut Spill, operator: &mut dyn Stateful, out: &mut Output) -> Result<Replayed> {
        let mut replayed = Replayed::default();
        while let Some(segment) = self.segments.pop_front() {
            let bytes = spill.read(&segment).map_err(external)?;
            spill.give_back(segment).map_err(external)?;
            let (steps, rows) = decode(&bytes)?;
            drop(bytes);
            run(&steps, &rows, operator, out, &mut replayed)?;
        }
        let rows = std::mem::take(&mut self.rows);
        let rows = rows.iter().map(|batches| joined(batches)).collect::<Result<Vec<_>>>()?;
        run(&std::mem::take(&mut self.steps), &rows, operator, out, &mut replayed)?;
        *self = Self::new(self.is_timeless);
        Ok(replayed)
    }
}

/// What a replay came by, beyond rows.
#[derive(Debug, Default)]
pub struct Replayed {
    pub watermark_us: Option<i64>,
    pub ended: Vec<usize>,
}

fn run(
    steps: &[Step],
    rows: &[Option<RecordBatch>],
    operator: &mut dyn Stateful,
    out: &mut Output,
    replayed: &mut Replayed,
) -> Result<()> {
    let mut taken = vec![0; rows.len()];
    for step in steps {
        match *step {
            Step::Rows { input, n } => {
                let (Some(Some(rows)), Some(taken)) = (rows.get(input), taken.get_mut(input)) else {
                    return Err(DataFusionError::Internal(format!("a log without the rows of input {input}")));
                };
                let end = *taken + n;
                while *taken < end {
                    let length = BATCH_ROWS.min(end - *taken);
                    operator.process(input, &rows.slice(*taken, length), out)?;
                    *taken += length;
                }
            }
            Step::Advance(watermark_us) => {
                replayed.watermark_us = Some(watermark_us);
                operator.advance(watermark_us, out)?;
            }
            Step::Ended(input) => {
                replayed.ended.push(input);
                operator.input_ended(input)?;
            }
        }
    }
    Ok(())
}

/// Count of steps, the steps, count of inputs, the rows of each with their length before them.
fn encode(steps: &[Step], rows: &[Vec<RecordBatch>]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    put_number(&mut bytes, steps.len() as u64);
    for step in steps {
        let numbers = match *step {
            Step::Rows { input, n } => [0, input as u64, n as u64],
            Step::Advance(watermark_us) => [1, watermark_us.cast_unsigned(), 0],
            Step::Ended(input) => [2, input as u64, 0],
        };
        numbers.into_iter().for_each(|number| put_number(&mut bytes, number));
    }
    put_number(&mut bytes, rows.len() as u64);
    for batches in rows {
        let rows = encode_rows(batches)?;
        put_number(&mut bytes, rows.len() as u64);
        bytes.extend(rows);
    }
    Ok(bytes)
}

fn decode(mut bytes: &[u8]) -> Result<(Vec<Step>, Vec<Option<RecordBatch>>)> {
    let bytes = &mut bytes;
    let mut steps = Vec::new();
    for _ in 0..take_number(bytes)? {
        let [kind, first, second] = [take_number(bytes)?, take_number(bytes)?, take_number(bytes)?];
        steps.push(match kind {
            0 => Step::Rows { input: first as usize, n: second as usize },
            1 => Step::Advance(first.cast_signed()),
            _ => Step::Ended(first as usize),
        });
    }
    let mut rows = Vec::new();
    for _ in 0..take_number(bytes)? {
        let length = take_number(bytes)?;
        let of_input = take_bytes(bytes, length)?;
        rows.push(if of_input.is_empty() { None } else { joined(&decode_rows(of_input)?)? });
    }
    Ok((steps, rows))
}
