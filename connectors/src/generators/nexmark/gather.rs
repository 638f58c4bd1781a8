//! The values of one kind's wanted columns, straight in the form in which Arrow keeps them.
//!
//! Invariant: every wanted column has one value per event added, in the order of [`Kind::columns`]; rows that were
//! padded hold zeros and empty texts, and are nulls of the finished column.

use super::columns::{Kind, Type};
use super::random::Random;
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use std::sync::Arc;

pub struct Columns {
    cells: Vec<Cells>,
    rows: usize,
    last: usize,
}

enum Cells {
    Unwanted,
    Longs(Vec<i64>),
    Times(Vec<i64>),
    /// One offset more than there are texts.
    Texts(Vec<i32>, Vec<u8>),
}

impl Columns {
    /// `wanted`: places among the columns of the kind.
    pub fn new(kind: Kind, wanted: &[usize], rows: usize) -> Self {
        let cells = kind.columns().iter().enumerate().map(|(at, (_, kind))| match kind {
            _ if !wanted.contains(&at) => Cells::Unwanted,
            Type::Long => Cells::Longs(Vec::with_capacity(rows)),
            Type::Time => Cells::Times(Vec::with_capacity(rows)),
            Type::Text => {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                Cells::Texts(offsets, Vec::new())
            }
        });
        Self { cells: cells.collect(), rows: 0, last: wanted.iter().copied().max().unwrap_or(0) }
    }

    /// Fills up to `rows` with rows that are not there.
    pub fn pad(&mut self, rows: usize) {
        if self.rows == rows {
            return;
        }
        for cells in &mut self.cells {
            match cells {
                Cells::Unwanted => {}
                Cells::Longs(values) | Cells::Times(values) => values.resize(rows, 0),
                Cells::Texts(offsets, bytes) => offsets.resize(rows + 1, bytes.len() as i32),
            }
        }
        self.rows = rows;
    }

    /// The last wanted column; nothing after it need be known.
    #[inline]
    pub fn last(&self) -> usize {
        self.last
    }

    #[inline]
    pub fn wants(&self, at: usize) -> bool {
        !matches!(self.cells[at], Cells::Unwanted)
    }

    /// Every wanted column of a row was given.
    #[inline]
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    #[inline]
    pub fn long(&mut self, at: usize, value: u64) {
        if let Cells::Longs(values) = &mut self.cells[at] {
            values.push(value as i64);
        }
    }

    #[inline]
    pub fn time(&mut self, at: usize, value: impl FnOnce() -> i64) {
        if let Cells::Times(values) = &mut self.cells[at] {
            values.push(value());
        }
    }

    #[inline]
    pub fn text(&mut self, at: usize, value: &[u8]) {
        if let Cells::Texts(offsets, bytes) = &mut self.cells[at] {
            bytes.extend_from_slice(value);
            offsets.push(bytes.len() as i32);
        }
    }

    /// A text of so many letters, which are drawn only where the column is wanted.
    #[inline]
    pub fn letters(&mut self, at: usize, length: usize, random: &mut Random) {
        if let Cells::Texts(offsets, bytes) = &mut self.cells[at] {
            let from = bytes.len();
            bytes.resize(from + length, 0);
            random.letters(&mut bytes[from..]);
            offsets.push(bytes.len() as i32);
        }
    }

    /// A wanted column, once.
    pub fn finish(&mut self, at: usize, present: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(match std::mem::replace(&mut self.cells[at], Cells::Unwanted) {
            Cells::Unwanted => {
                return Err(ArrowError::ComputeError(format!("column {at} of an event was not gathered")));
            }
            Cells::Longs(values) => Arc::new(Int64Array::try_new(values.into(), present.cloned())?),
            Cells::Times(values) => times(values, present),
            Cells::Texts(offsets, bytes) => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), present.cloned())?)
            }
        })
    }
}

pub fn times(values: Vec<i64>, present: Option<&NullBuffer>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(values.into(), present.cloned()).with_timezone("UTC"))
}
