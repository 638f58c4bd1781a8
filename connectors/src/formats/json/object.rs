//! The fields of an object, found by name.
//!
//! Records of one stream mostly have the same fields in the same order, so an object remembers how the fields of former
//! ones were written, wanted or not: then finding a field is one comparison of bytes.
//!
//! Invariant: what is remembered only saves time; it is bounded, and a field in another place is found all the same.

use super::walk::{Result, Walk, unescape, wrong};
use crate::formats::column::Column;
use crate::formats::timestamp::TimestampForm;
use arrow::array::ArrayRef;
use arrow::datatypes::Fields;
use arrow::error::ArrowError;
use std::collections::HashMap;

/// Remembered fields of one object; more are looked up by name each time.
const MOST_KNOWN: usize = 128;
const MOST_KNOWN_BYTES: usize = 128;
/// How many fields may be absent in a row before the next one is looked up by name.
const LOOK_AHEAD: usize = 12;
/// Comparing so many names in turn is faster than hashing.
const FEW: usize = 8;

pub struct Object {
    pub columns: Vec<Column>,
    by_name: HashMap<Vec<u8>, usize>,
    /// Whether some column must have a value in every row.
    strict: bool,
    known: Vec<Known>,
}

struct Known {
    /// The name with its quotes and the colon.
    key: Box<[u8]>,
    column: Option<usize>,
}

impl Known {
    /// Most keys have 8 to 16 bytes with their quotes: two words that may overlap say it all, without a call.
    #[inline(always)]
    fn begins(&self, bytes: &[u8]) -> bool {
        let key = &*self.key;
        let Some(begin) = bytes.get(..key.len()) else { return false };
        match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
            (Some(first), Some(last)) if key.len() <= 16 => {
                begin.first_chunk::<8>() == Some(first) && begin.last_chunk::<8>() == Some(last)
            }
            _ => begin == key,
        }
    }
}

impl Object {
    /// None when a column is of a type that has no form in JSON.
    pub fn new(fields: &Fields, form: TimestampForm) -> Option<Self> {
        let columns: Vec<Column> = fields.iter().map(|field| Column::new(field, form)).collect::<Option<_>>()?;
        let mut by_name = HashMap::new();
        for (at, column) in columns.iter().enumerate() {
            by_name.entry(column.name().as_bytes().to_vec()).or_insert(at);
        }
        let strict = columns.iter().any(|column| !column.is_nullable());
        Some(Self { columns, by_name, strict, known: Vec::new() })
    }

    /// Takes the object whose opening brace is next as row number `row`.
    pub fn take(&mut self, walk: &mut Walk<'_>, row: usize) -> Result<()> {
        walk.advance(1);
        walk.skip_space();
        if walk.peek() == b'}' {
            walk.advance(1);
            return self.check(row);
        }
        let mut place = 0;
        loop {
            let column = self.find(walk, &mut place)?;
            walk.skip_space();
            match column {
                Some(at) => {
                    let column = &mut self.columns[at];
                    if let Err(wrong) = column.take(walk, row) {
                        return Err(wrong.within(column.name()));
                    }
                }
                None => walk.skip(0)?,
            }
            if !walk.goes_on(b'}')? {
                break;
            }
        }
        self.check(row)
    }

    /// That the columns which must have a value have one in this row.
    pub fn check(&self, row: usize) -> Result<()> {
        if self.strict {
            for column in &self.columns {
                if !column.is_nullable() && column.len() <= row {
                    return Err(wrong(format!("field '{}' must have a value", column.name())));
                }
            }
        }
        Ok(())
    }

    /// Goes past the next field's name and tells its column. `place` is where it is expected among the known ones.
    #[inline(always)]
    fn find(&mut self, walk: &mut Walk<'_>, place: &mut usize) -> Result<Option<usize>> {
        if let Some(known) = self.known.get(*place)
            && known.begins(walk.rest())
        {
            walk.advance(known.key.len());
            *place += 1;
            return Ok(known.column);
        }
        self.find_elsewhere(walk, place)
    }

    #[inline(never)]
    fn find_elsewhere(&mut self, walk: &mut Walk<'_>, place: &mut usize) -> Result<Option<usize>> {
        let before = walk.rest();
        let ahead = self.known.iter().skip(*place + 1).take(LOOK_AHEAD);
        if let Some(found) = ahead.into_iter().position(|known| known.begins(before)) {
            let known = &self.known[*place + 1 + found];
            walk.advance(known.key.len());
            *place += found + 2;
            return Ok(known.column);
        }
        let name = walk.key()?;
        let column = if name.escaped {
            let mut plain = Vec::new();
            unescape(name.raw, &mut plain)?;
            self.column(&plain)
        } else {
            self.column(name.raw)
        };
        let key = &before[..before.len() - walk.rest().len()];
        if self.known.len() < MOST_KNOWN && key.len() <= MOST_KNOWN_BYTES {
            let place_now = (*place).min(self.known.len());
            self.known.insert(place_now, Known { key: key.into(), column });
            *place = place_now + 1;
        }
        Ok(column)
    }

    fn column(&self, name: &[u8]) -> Option<usize> {
        if self.columns.len() <= FEW {
            return self.columns.iter().position(|column| column.name().as_bytes() == name);
        }
        self.by_name.get(name).copied()
    }

    /// Cuts off what came at and after a row.
    pub fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    /// The columns so far, of so many rows each, leaving them empty.
    pub fn finish(&mut self, rows: usize) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        self.columns.iter_mut().map(|column| column.finish(rows)).collect()
    }
}
