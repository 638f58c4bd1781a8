//! A walk over the bytes of one binary record, and what such bytes become in columns: what Avro and Protobuf have in
//! common.
//!
//! Invariant: nothing is read past the end, and no length that a record claims is believed before its bytes are there; so
//! what a record takes in memory is bounded by its own length, by text that its schema names, and by
//! [`MOST_EMPTY_ITEMS`].

use super::column::{Column, Values};
use super::json::walk::{Result, wrong};

/// Items of lists that take no bytes, over all of a record: each costs memory though nothing was sent for it.
pub const MOST_EMPTY_ITEMS: u32 = 8;
/// Values that are passed over may not be nested deeper.
pub const MOST_DEPTH: u32 = 64;
/// Values that are passed over without a byte, over all of a record: a schema may nest them without end.
const MOST_EMPTY_STEPS: u32 = 1 << 16;

#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    empty_items: u32,
    empty_steps: u32,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, empty_items: 0, empty_steps: 0 }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// A part of this record, as a record of its own.
    pub fn within(&mut self, n: usize) -> Result<Self> {
        Ok(Cursor { bytes: self.take(n)?, empty_items: self.empty_items, empty_steps: self.empty_steps })
    }

    #[inline(always)]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.bytes.split_at_checked(n) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(wrong(format!("ends {} bytes into a value of {n} bytes", self.bytes.len()))),
        }
    }

    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(*taken)
            }
            None => Err(wrong(format!("ends {} bytes into a value of {N} bytes", self.bytes.len()))),
        }
    }

    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64> {
        match self.bytes {
            [first, rest @ ..] if *first < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_varint(),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for (at, byte) in self.bytes.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if at == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(wrong(if self.bytes.len() < 10 {
            "ends in the middle of a number"
        } else {
            "has a number of over 64 bits"
        }))
    }

    #[inline(always)]
    pub fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Counts an item of a list that took no bytes.
    #[cold]
    pub fn empty_item(&mut self) -> Result<()> {
        self.empty_items += 1;
        match self.empty_items > MOST_EMPTY_ITEMS {
            true => Err(wrong("holds a list of items without a byte")),
            false => Ok(()),
        }
    }

    /// Counts a value that was passed over without a byte.
    #[cold]
    pub fn empty_step(&mut self) -> Result<()> {
        self.empty_steps += 1;
        if self.empty_steps > MOST_EMPTY_STEPS { Err(wrong("holds too many values without a byte")) } else { Ok(()) }
    }
}

#[inline(always)]
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline(always)]
pub fn put_zigzag(value: i64, out: &mut Vec<u8>) {
    put_varint((value << 1 ^ value >> 63) as u64, out);
}

/// The plan of a schema was made for another column: never happens, and is then told of the record.
#[cold]
pub fn unplanned(column: &Column) -> Box<super::json::walk::Wrong> {
    wrong(format!("has a value for '{}' that was not planned for", column.name()))
}

impl Column {
    /// Puts a whole number as the value of the row that was begun.
    #[inline(always)]
    pub fn put_integer(&mut self, value: i64) -> Result<()> {
        match &mut self.values {
            Values::Integer { values, least, most } => {
                if value < *least || value > *most {
                    return Err(wrong(format!("{value} is not within {least} and {most}")));
                }
                values.push(value);
            }
            Values::Float(values) => values.push(value as f64),
            Values::Float32(values) => values.push(value as f32),
            Values::Timestamp { values, .. } | Values::Time { values, .. } => values.push(value),
            Values::Date(values) => match i32::try_from(value) {
                Ok(days) => values.push(days),
                Err(_) => return Err(wrong(format!("{value} days since 1970 are out of range"))),
            },
            Values::Decimal { scale, .. } => {
                let scale = *scale;
                return self.put_decimal(i128::from(value), 0, scale);
            }
            _ => return Err(unplanned(self)),
        }
        self.taken();
        Ok(())
    }

    /// Puts `unscaled` / 10^`scale`.
    pub fn put_decimal(&mut self, unscaled: i128, scale: i8, of_column: i8) -> Result<()> {
        let Values::Decimal { values, precision, .. } = &mut self.values else { return Err(unplanned(self)) };
        let ten = |n: i32| 10_i128.checked_pow(n.unsigned_abs());
        let value = match i32::from(of_column) - i32::from(scale) {
            more @ 0.. => ten(more).and_then(|factor| unscaled.checked_mul(factor)),
            less => match ten(less) {
                Some(divisor) if unscaled % divisor == 0 => Some(unscaled / divisor),
                _ => return Err(wrong(format!("has a decimal with more than {of_column} digits behind the point"))),
            },
        };
        match (value, ten(i32::from(*precision))) {
            (Some(value), Some(bound)) if value.unsigned_abs() < bound.unsigned_abs() => values.push(value),
            _ => return Err(wrong(format!("has a decimal of more than {precision} digits"))),
        }
        self.taken();
        Ok(())
    }

    #[inline(always)]
    pub fn put_double(&mut self, value: f64) -> Result<()> {
        match &mut self.values {
            Values::Float(values) => values.push(value),
            _ => return Err(unplanned(self)),
        }
        self.taken();
        Ok(())
    }

    #[inline(always)]
    pub fn put_float(&mut self, value: f32) -> Result<()> {
        match &mut self.values {
            Values::Float32(values) => values.push(value),
            Values::Float(values) => values.push(f64::from(value)),
            _ => return Err(unplanned(self)),
        }
        self.taken();
        Ok(())
    }

    #[inline(always)]
    pub fn put_boolean(&mut self, value: bool) -> Result<()> {
        match &mut self.values {
            Values::Boolean(values) => values.append(value),
            _ => return Err(unplanned(self)),
        }
        self.taken();
        Ok(())
    }

    /// Puts text or bytes; of text they must be UTF-8.
    #[inline(always)]
    pub fn put_bytes(&mut self, value: &[u8]) -> Result<()> {
        let (bytes, ends) = match &mut self.values {
            Values::Text { bytes, ends } => match std::str::from_utf8(value) {
                Ok(_) => (bytes, ends),
                Err(_) => return Err(wrong("is not UTF-8 text")),
            },
            Values::Bytes { bytes, ends } => (bytes, ends),
            _ => return Err(unplanned(self)),
        };
        // Text that a schema names may be longer than what stands for it.
        let Ok(end) = i32::try_from(bytes.len() + value.len()) else {
            return Err(wrong("has more text than a batch can hold"));
        };
        bytes.extend_from_slice(value);
        ends.push(end);
        self.taken();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_whole_or_not_at_all() {
        let read = |bytes: &[u8]| Cursor::new(bytes).varint().map_err(|wrong| wrong.error);
        assert_eq!(read(&[0x7f]), Ok(127));
        assert_eq!(read(&[0x80, 0x01]), Ok(128));
        assert_eq!(read(&[0xff; 9].iter().copied().chain([1]).collect::<Vec<u8>>()), Ok(u64::MAX));
        assert!(read(&[0xff; 9].iter().copied().chain([2]).collect::<Vec<u8>>()).is_err());
        assert!(read(&[0x80]).unwrap_err().contains("ends"));
        assert!(read(&[0x80; 20]).unwrap_err().contains("64 bits"));
        let mut cursor = Cursor::new(&[1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!((cursor.zigzag().ok(), cursor.zigzag().ok()), (Some(-1), Some(i64::MAX)));
        assert!(cursor.is_empty() && cursor.take(1).is_err());
    }
}
