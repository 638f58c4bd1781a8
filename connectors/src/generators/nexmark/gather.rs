//! The values of one kind's wanted columns, straight in the form in which Arrow keeps them.
//!
//! Invariant: every wanted column has one value per event added, in the order of [`Kind::columns`]; rows that were
//! padded hold zeros and empty texts, and are nulls of the finished column.

use super::columns::{Kind, Type};
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use nexmark::event::{Auction, Bid, Person};
use std::sync::Arc;

pub struct Columns {
    cells: Vec<Cells>,
    rows: usize,
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
        Self { cells: cells.collect(), rows: 0 }
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

    pub fn person(&mut self, person: &Person) {
        self.long(0, person.id);
        self.text(1, &person.name);
        self.text(2, &person.email_address);
        self.text(3, &person.credit_card);
        self.text(4, &person.city);
        self.text(5, &person.state);
        self.text(6, &person.extra);
        self.rows += 1;
    }

    /// `time_us` is the event's real time; of the crate's times the difference holds.
    pub fn auction(&mut self, auction: &Auction, time_us: i64) {
        self.long(0, auction.id);
        self.text(1, &auction.item_name);
        self.text(2, &auction.description);
        self.long(3, auction.initial_bid);
        self.long(4, auction.reserve);
        if let Cells::Times(values) = &mut self.cells[5] {
            values.push(time_us + (auction.expires - auction.date_time) as i64 * 1000);
        }
        self.long(6, auction.seller);
        self.long(7, auction.category);
        self.text(8, &auction.extra);
        self.rows += 1;
    }

    pub fn bid(&mut self, bid: &Bid) {
        self.long(0, bid.auction);
        self.long(1, bid.bidder);
        self.long(2, bid.price);
        self.text(3, &bid.channel);
        self.text(4, &bid.url);
        self.text(5, &bid.extra);
        self.rows += 1;
    }

    fn long(&mut self, at: usize, value: usize) {
        if let Cells::Longs(values) = &mut self.cells[at] {
            values.push(value as i64);
        }
    }

    fn text(&mut self, at: usize, value: &str) {
        if let Cells::Texts(offsets, bytes) = &mut self.cells[at] {
            bytes.extend_from_slice(value.as_bytes());
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
