//! The values of JSON as those of columns.

use super::scalar;
use super::walk::{Result, Text, Walk, str_of, unescape, wrong};
use crate::formats::column::{Column, Values, last};
use crate::formats::timestamp::{self, TimestampForm};
use arrow::datatypes::TimeUnit;

impl Column {
    /// Takes the value that is next as that of row number `row`.
    pub fn take(&mut self, walk: &mut Walk<'_>, row: usize) -> Result<()> {
        if walk.peek() == b'n' {
            walk.literal(b"null")?;
            if self.len() > row {
                self.truncate(row);
            }
            return if self.is_nullable() { Ok(()) } else { Err(wrong("null where there must be a value")) };
        }
        self.begin(row);
        match &mut self.values {
            Values::Integer { values, least, most } => {
                let value = if walk.peek() == b'"' { integer_in(walk.text()?)? } else { walk.integer()? };
                if value < *least || value > *most {
                    return Err(wrong(format!("{value} is not within {least} and {most}")));
                }
                values.push(value);
            }
            Values::Float(values) => values.push(float(walk)?),
            Values::Float32(values) => values.push(float(walk)?),
            Values::Boolean(values) => match walk.peek() {
                b't' => {
                    walk.literal(b"true")?;
                    values.append(true);
                }
                b'f' => {
                    walk.literal(b"false")?;
                    values.append(false);
                }
                _ => return Err(walk.expected("true or false")),
            },
            Values::Text { bytes, ends } => {
                take_text(walk, bytes)?;
                // The records of a chunk are together shorter than 2 GiB, and no text is longer than it is written.
                ends.push(bytes.len() as i32);
            }
            Values::Timestamp { values, unit, form } => values.push(timestamp(walk, *unit, *form)?),
            Values::Struct(object) => {
                if walk.peek() != b'{' {
                    return Err(walk.expected("an object"));
                }
                object.take(walk, row)?;
            }
            Values::List { ends, items } => {
                if walk.peek() != b'[' {
                    return Err(walk.expected("a list"));
                }
                let mut n_items = last(ends) as usize;
                walk.advance(1);
                walk.skip_space();
                if walk.peek() == b']' {
                    walk.advance(1);
                } else {
                    loop {
                        items.take(walk, n_items)?;
                        n_items += 1;
                        if !walk.goes_on(b']')? {
                            break;
                        }
                    }
                }
                ends.push(n_items as i32);
            }
            Values::Map(map) => map.take(walk)?,
            Values::Date(values) => values.push(scalar::date(walk)?),
            Values::Time { values, unit } => values.push(scalar::time_in(scalar::time(walk)?, *unit)?),
            Values::Decimal { values, precision, scale } => values.push(scalar::decimal(walk, *precision, *scale)?),
            Values::Bytes { bytes, ends } => {
                scalar::bytes(walk, bytes)?;
                ends.push(bytes.len() as i32);
            }
        }
        self.taken();
        Ok(())
    }
}

#[inline(always)]
fn take_text(walk: &mut Walk<'_>, out: &mut Vec<u8>) -> Result<()> {
    match walk.peek() {
        b'"' => {
            let text = walk.text()?;
            if text.escaped {
                return unescape(text.raw, out);
            }
            out.extend_from_slice(text.raw);
        }
        // Numbers and booleans are kept as they are written.
        b't' => {
            walk.literal(b"true")?;
            out.extend_from_slice(b"true");
        }
        b'f' => {
            walk.literal(b"false")?;
            out.extend_from_slice(b"false");
        }
        b'-' | b'0'..=b'9' => out.extend_from_slice(walk.number()?.0),
        _ => return Err(walk.expected("a text")),
    }
    Ok(())
}

/// Calls `read` with what a text stands for.
pub fn with_text<T>(text: Text<'_>, read: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    if !text.escaped {
        return read(str_of(text.raw)?);
    }
    let mut plain = Vec::with_capacity(text.raw.len());
    unescape(text.raw, &mut plain)?;
    read(str_of(&plain)?)
}

#[cold]
fn integer_in(text: Text<'_>) -> Result<i64> {
    with_text(text, |text| {
        text.trim_ascii().parse().map_err(|_| wrong(format!("'{text}' is not a whole number of 64 bits")))
    })
}

fn float<T: std::str::FromStr>(walk: &mut Walk<'_>) -> Result<T> {
    let read = |text: &str| text.trim_ascii().parse().map_err(|_| wrong(format!("'{text}' is not a number")));
    match walk.peek() {
        b'"' => with_text(walk.text()?, read),
        b'-' | b'0'..=b'9' => read(str_of(walk.number()?.0)?),
        _ => Err(walk.expected("a number")),
    }
}

fn timestamp(walk: &mut Walk<'_>, unit: TimeUnit, form: TimestampForm) -> Result<i64> {
    let read = |text: &str| {
        let micros = form.read(text).ok_or_else(|| wrong(format!("'{text}' is not a timestamp")))?;
        timestamp::in_unit(micros, unit).ok_or_else(|| wrong(format!("'{text}' is out of range")))
    };
    match walk.peek() {
        b'"' => with_text(walk.text()?, read),
        b'-' | b'0'..=b'9' => read(str_of(walk.number()?.0)?),
        _ => Err(walk.expected("a timestamp")),
    }
}
