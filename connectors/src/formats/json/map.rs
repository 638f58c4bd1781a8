//! A column of maps: objects whose fields are data and not names of columns.
//!
//! Invariant: a key stands once in a map: one that comes twice is an error, for either value might be meant.

use super::walk::{Result, Walk, unescape, wrong};
use crate::formats::column::{Column, last, offsets, unlike};
use crate::formats::is_text;
use crate::formats::timestamp::TimestampForm;
use arrow::array::{ArrayRef, MapArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// So many keys are compared in turn; of more the rest is hashed.
const FEW: usize = 32;

pub struct Map {
    /// By row: where its entries end.
    ends: Vec<i32>,
    key_bytes: Vec<u8>,
    key_ends: Vec<i32>,
    values: Box<Column>,
    /// The keys of the map that is begun, if they are many.
    seen: HashSet<Box<[u8]>>,
}

impl Map {
    /// None for keys that are no text, or values of a type that has no form in JSON.
    pub fn new(entries: &FieldRef, form: TimestampForm) -> Option<Self> {
        let DataType::Struct(fields) = entries.data_type() else { return None };
        let [key, value] = fields.iter().as_slice() else { return None };
        is_text(key.data_type()).then_some(())?;
        let values = Box::new(Column::new(value, form)?);
        Some(Self { ends: vec![0], key_bytes: Vec::new(), key_ends: vec![0], values, seen: HashSet::new() })
    }

    pub fn take(&mut self, walk: &mut Walk<'_>) -> Result<()> {
        if walk.peek() != b'{' {
            return Err(walk.expected("an object"));
        }
        let begin = last(&self.ends) as usize;
        let mut n = begin;
        walk.advance(1);
        walk.skip_space();
        if walk.peek() == b'}' {
            walk.advance(1);
        } else {
            loop {
                let key = walk.key()?;
                let key_begin = self.key_bytes.len();
                match key.escaped {
                    true => unescape(key.raw, &mut self.key_bytes)?,
                    false => self.key_bytes.extend_from_slice(key.raw),
                }
                walk.skip_space();
                self.end_key(begin..n, key_begin)?;
                self.values.take(walk, n)?;
                n += 1;
                if !walk.goes_on(b'}')? {
                    break;
                }
            }
        }
        self.ends.push(n as i32);
        Ok(())
    }

    /// Ends the key whose bytes begin at `key_begin`; `earlier` are the entries of the same map.
    fn end_key(&mut self, earlier: Range<usize>, key_begin: usize) -> Result<()> {
        if earlier.len() == FEW {
            self.seen = earlier.clone().map(|entry| self.key(entry).into()).collect();
        }
        let key = &self.key_bytes[key_begin..];
        let twice = match earlier.len() < FEW {
            true => earlier.into_iter().any(|entry| self.key(entry) == key),
            false => !self.seen.insert(key.into()),
        };
        if twice {
            return Err(wrong(format!("key '{}' comes twice", String::from_utf8_lossy(&self.key_bytes[key_begin..]))));
        }
        self.key_ends.push(self.key_bytes.len() as i32);
        Ok(())
    }

    /// How many entries all maps have so far.
    pub fn n_entries(&self) -> usize {
        last(&self.ends) as usize
    }

    /// Adds an entry number `n` to the map that began with entry number `begin`; its value is put to the column that is
    /// given back.
    pub fn entry(&mut self, key: &str, begin: usize, n: usize) -> Result<&mut Column> {
        let key_begin = self.key_bytes.len();
        if i32::try_from(key_begin + key.len()).is_err() {
            return Err(wrong("the keys of maps are too long together"));
        }
        self.key_bytes.extend_from_slice(key.as_bytes());
        self.end_key(begin..n, key_begin)?;
        Ok(&mut self.values)
    }

    /// Ends the map that is begun, with so many entries of all maps.
    pub fn end(&mut self, n: usize) {
        self.ends.push(n as i32);
    }

    /// The map that was ended last goes on up to this entry.
    pub fn extend_to(&mut self, n: usize) {
        if let Some(end) = self.ends.last_mut() {
            *end = n as i32;
        }
    }

    /// Where the map of a row begins.
    pub fn begins(&self, row: usize) -> usize {
        self.ends.get(row).copied().unwrap_or(0) as usize
    }

    fn key(&self, entry: usize) -> &[u8] {
        &self.key_bytes[self.key_ends[entry] as usize..self.key_ends[entry + 1] as usize]
    }

    pub fn pad(&mut self, rows: usize) {
        self.ends.resize(rows + 1, last(&self.ends));
    }

    pub fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        let n = last(&self.ends) as usize;
        self.key_ends.truncate(n + 1);
        self.key_bytes.truncate(last(&self.key_ends) as usize);
        self.values.truncate(n);
    }

    pub fn finish(&mut self, kind: &DataType, nulls: Option<NullBuffer>) -> std::result::Result<ArrayRef, ArrowError> {
        let DataType::Map(entries, sorted) = kind else { return Err(unlike(kind)) };
        let DataType::Struct(fields) = entries.data_type() else { return Err(unlike(kind)) };
        let n = last(&self.ends) as usize;
        let key_ends: OffsetBuffer<i32> = offsets(&mut self.key_ends);
        let keys = StringArray::try_new(key_ends, Buffer::from_vec(std::mem::take(&mut self.key_bytes)), None)?;
        let keys: ArrayRef = match fields[0].data_type() {
            DataType::Utf8 => Arc::new(keys),
            other => cast(&keys, other)?,
        };
        let columns = vec![keys, self.values.finish(n)?];
        let of_entries = StructArray::try_new_with_length(fields.clone(), columns, None, n)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets(&mut self.ends), of_entries, nulls, *sorted)?))
    }
}
