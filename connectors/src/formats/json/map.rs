//! A column of maps: objects whose fields are data and not names of columns.
//!
//! Invariant: a key stands once in a map: one that comes twice is an error, for either value might be meant.

use super::column::{Column, last, offsets, unlike};
use super::walk::{Result, Walk, unescape, wrong};
use crate::formats::is_text;
use crate::formats::timestamp::TimestampForm;
use arrow::array::{ArrayRef, MapArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use std::sync::Arc;

pub struct Map {
    /// By row: where its entries end.
    ends: Vec<i32>,
    key_bytes: Vec<u8>,
    key_ends: Vec<i32>,
    values: Box<Column>,
}

impl Map {
    /// None for keys that are no text, or values of a type that has no form in JSON.
    pub fn new(entries: &FieldRef, form: TimestampForm) -> Option<Self> {
        let DataType::Struct(fields) = entries.data_type() else { return None };
        let [key, value] = fields.iter().as_slice() else { return None };
        is_text(key.data_type()).then_some(())?;
        let values = Box::new(Column::new(value, form)?);
        Some(Self { ends: vec![0], key_bytes: Vec::new(), key_ends: vec![0], values })
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
                if (begin..n).any(|entry| self.key(entry) == &self.key_bytes[key_begin..]) {
                    let key = String::from_utf8_lossy(&self.key_bytes[key_begin..]).into_owned();
                    return Err(wrong(format!("key '{key}' comes twice")));
                }
                self.key_ends.push(self.key_bytes.len() as i32);
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
