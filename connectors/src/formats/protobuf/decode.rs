//! Reads one message's bytes into the columns of a row, by its plan.
//!
//! As the format has it: the last value of a field counts, messages that come twice are merged, lists go on, packed or
//! not, and a field of another wire type than its own is one that is not known.
//!
//! Invariant: a message is read to its last byte, and what it does not know is passed over whole.

use super::plan::{Field, Message, Read, Scalar};
use crate::formats::column::{Column, Values, last};
use crate::formats::json::Object;
use crate::formats::json::walk::{Result, wrong};
use crate::formats::wire::{Cursor, MOST_DEPTH, unplanned};

const VARINT: u32 = 0;
const EIGHT: u32 = 1;
const LENGTH: u32 = 2;
const GROUP: u32 = 3;
const END_GROUP: u32 = 4;
const FOUR: u32 = 5;

/// Takes a message as row number `row`, or leaves the columns in need of [`Object::truncate`].
pub fn read_message(plan: &Message, columns: &mut Object, record: &[u8], row: usize) -> Result<()> {
    take_message(plan, columns, &mut Cursor::new(record), row)
}

fn take_message(plan: &Message, columns: &mut Object, cursor: &mut Cursor<'_>, row: usize) -> Result<()> {
    while !cursor.is_empty() {
        let (number, wire) = tag(cursor)?;
        match plan.field(number) {
            Some(field) if field.read.goes_with(wire) => {
                let column = &mut columns.columns[field.column];
                let taken = match &field.read {
                    Read::List(item) => take_items(item, wire, column, cursor, row),
                    read => take(read, column, cursor, row),
                };
                if let Err(wrong) = taken {
                    return Err(wrong.within(column.name()));
                }
                for other in &field.instead_of {
                    columns.columns[*other].truncate(row);
                }
            }
            _ => skip(wire, number, cursor, 0)?,
        }
    }
    for at in &plan.defaults {
        let Field { column, read, .. } = &plan.fields[*at];
        let column = &mut columns.columns[*column];
        if column.len() <= row {
            column.begin(row);
            put_default(read, column)?;
        }
    }
    columns.check(row)
}

#[inline(always)]
fn tag(cursor: &mut Cursor<'_>) -> Result<(u32, u32)> {
    let tag = cursor.varint()?;
    match u32::try_from(tag) {
        Ok(tag) if tag >> 3 != 0 => Ok((tag >> 3, tag & 7)),
        _ => Err(wrong(format!("has the tag {tag}, which is none"))),
    }
}

impl Read {
    #[inline(always)]
    fn goes_with(&self, wire: u32) -> bool {
        match self {
            Self::Scalar(scalar) => scalar.wire() == wire,
            Self::List(item) => wire == LENGTH || item.goes_with(wire),
            Self::Struct(_) | Self::Timestamp(_) | Self::Wrapped(_) | Self::Map(_) => wire == LENGTH,
        }
    }
}

impl Scalar {
    #[inline(always)]
    fn wire(&self) -> u32 {
        match self {
            Self::Fixed32 | Self::Sfixed32 | Self::Float => FOUR,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => EIGHT,
            Self::Bytes | Self::Text => LENGTH,
            _ => VARINT,
        }
    }
}

#[inline(always)]
fn part<'a>(cursor: &mut Cursor<'a>) -> Result<Cursor<'a>> {
    let n = cursor.varint()?;
    cursor.within(usize::try_from(n).unwrap_or(usize::MAX))
}

fn take(read: &Read, column: &mut Column, cursor: &mut Cursor<'_>, row: usize) -> Result<()> {
    match read {
        Read::Scalar(scalar) => {
            column.begin(row);
            put(scalar, column, cursor)
        }
        Read::Struct(message) => {
            let mut part = part(cursor)?;
            // One that is there already is merged with this one.
            let fresh = column.len() <= row;
            if fresh {
                column.begin(row);
            }
            let Values::Struct(object) = &mut column.values else { return Err(unplanned(column)) };
            take_message(message, object, &mut part, row)?;
            if fresh {
                column.taken();
            }
            Ok(())
        }
        Read::Timestamp(per_second) => {
            let value = timestamp(&mut part(cursor)?, *per_second)?;
            column.begin(row);
            column.put_integer(value)
        }
        Read::Wrapped(scalar) => {
            let mut part = part(cursor)?;
            column.begin(row);
            let mut found = None;
            while !part.is_empty() {
                let (number, wire) = tag(&mut part)?;
                if number == 1 && wire == scalar.wire() {
                    found = Some(part.clone());
                }
                skip(wire, number, &mut part, 0)?;
            }
            match found {
                Some(mut value) => put(scalar, column, &mut value),
                None => put_default_scalar(scalar, column),
            }
        }
        Read::Map(value) => take_entry(value, column, cursor, row),
        Read::List(_) => Err(unplanned(column)),
    }
}

/// One item of a list, or several that are packed.
fn take_items(item: &Read, wire: u32, column: &mut Column, cursor: &mut Cursor<'_>, row: usize) -> Result<()> {
    if column.len() <= row {
        begin_list(column, row)?;
    }
    let Values::List { ends, items } = &mut column.values else { return Err(unplanned(column)) };
    let mut n = last(ends) as usize;
    if item.goes_with(wire) {
        take(item, items, cursor, n)?;
        n += 1;
    } else {
        let mut packed = part(cursor)?;
        while !packed.is_empty() {
            take(item, items, &mut packed, n)?;
            n += 1;
        }
    }
    if let Some(end) = ends.last_mut() {
        *end = n as i32;
    }
    Ok(())
}

/// An empty list, which may go on.
fn begin_list(column: &mut Column, row: usize) -> Result<()> {
    column.begin(row);
    let Values::List { ends, .. } = &mut column.values else { return Err(unplanned(column)) };
    ends.push(last(ends));
    column.taken();
    Ok(())
}

fn take_entry(value: &Read, column: &mut Column, cursor: &mut Cursor<'_>, row: usize) -> Result<()> {
    let mut part = part(cursor)?;
    let mut key: &[u8] = &[];
    let mut found = None;
    while !part.is_empty() {
        let (number, wire) = tag(&mut part)?;
        match number {
            1 if wire == LENGTH => {
                let n = part.varint()?;
                key = part.take(usize::try_from(n).unwrap_or(usize::MAX))?;
                continue;
            }
            2 if value.goes_with(wire) => found = Some(part.clone()),
            _ => {}
        }
        skip(wire, number, &mut part, 0)?;
    }
    let key = std::str::from_utf8(key).map_err(|_| wrong("has a key that is not UTF-8 text"))?;
    if column.len() <= row {
        column.begin(row);
        let Values::Map(map) = &mut column.values else { return Err(unplanned(column)) };
        map.end(map.n_entries());
        column.taken();
    }
    let Values::Map(map) = &mut column.values else { return Err(unplanned(column)) };
    let n = map.n_entries();
    let of_value = map.entry(key, map.begins(row), n)?;
    match (found, value) {
        (Some(mut at), value) => take(value, of_value, &mut at, n)?,
        (None, Read::Scalar(scalar)) => {
            of_value.begin(n);
            put_default_scalar(scalar, of_value)?;
        }
        // A message without a byte; its length is left out with it.
        (None, value) => take(value, of_value, &mut Cursor::new(&[0]), n)?,
    }
    map.extend_to(n + 1);
    Ok(())
}

#[inline(always)]
fn put(scalar: &Scalar, column: &mut Column, cursor: &mut Cursor<'_>) -> Result<()> {
    match scalar {
        Scalar::Int64 => column.put_integer(cursor.varint()? as i64),
        Scalar::Int32 => column.put_integer(i64::from(cursor.varint()? as i32)),
        Scalar::Uint32 => column.put_integer(i64::from(cursor.varint()? as u32)),
        Scalar::Uint64 => {
            let value = cursor.varint()?;
            put_unsigned(value, column)
        }
        Scalar::Sint32 => {
            let value = cursor.varint()? as u32;
            column.put_integer(i64::from((value >> 1) as i32 ^ -((value & 1) as i32)))
        }
        Scalar::Sint64 => column.put_integer(cursor.zigzag()?),
        Scalar::Fixed32 => column.put_integer(i64::from(u32::from_le_bytes(cursor.array()?))),
        Scalar::Sfixed32 => column.put_integer(i64::from(i32::from_le_bytes(cursor.array()?))),
        Scalar::Fixed64 => {
            let value = u64::from_le_bytes(cursor.array()?);
            put_unsigned(value, column)
        }
        Scalar::Sfixed64 => column.put_integer(i64::from_le_bytes(cursor.array()?)),
        Scalar::Bool => column.put_boolean(cursor.varint()? != 0),
        Scalar::Float => column.put_float(f32::from_le_bytes(cursor.array()?)),
        Scalar::Double => column.put_double(f64::from_le_bytes(cursor.array()?)),
        Scalar::Bytes | Scalar::Text => {
            let n = cursor.varint()?;
            column.put_bytes(cursor.take(usize::try_from(n).unwrap_or(usize::MAX))?)
        }
        Scalar::Names(names) => {
            let number = cursor.varint()? as i32;
            put_name(names, number, column)
        }
    }
}

fn put_unsigned(value: u64, column: &mut Column) -> Result<()> {
    match (i64::try_from(value), &column.values) {
        (Ok(value), _) => column.put_integer(value),
        (Err(_), Values::Decimal { scale, .. }) => {
            let scale = *scale;
            column.put_decimal(i128::from(value), 0, scale)
        }
        (Err(_), _) => Err(wrong(format!("{value} is more than a signed number of 64 bits holds"))),
    }
}

/// A number that the schema has no name for, as numbers are written.
fn put_name(names: &[(i32, String)], number: i32, column: &mut Column) -> Result<()> {
    match names.binary_search_by_key(&number, |(number, _)| *number) {
        Ok(at) => column.put_bytes(names[at].1.as_bytes()),
        Err(_) => column.put_bytes(number.to_string().as_bytes()),
    }
}

/// What a field is that was not sent, in the row that was begun.
fn put_default(read: &Read, column: &mut Column) -> Result<()> {
    match read {
        Read::Scalar(scalar) => put_default_scalar(scalar, column),
        Read::List(_) => {
            let row = column.len();
            begin_list(column, row)
        }
        Read::Map(_) => {
            let Values::Map(map) = &mut column.values else { return Err(unplanned(column)) };
            map.end(map.n_entries());
            column.taken();
            Ok(())
        }
        Read::Struct(_) | Read::Timestamp(_) | Read::Wrapped(_) => Ok(()),
    }
}

fn put_default_scalar(scalar: &Scalar, column: &mut Column) -> Result<()> {
    match scalar {
        Scalar::Bool => column.put_boolean(false),
        Scalar::Float => column.put_float(0.0),
        Scalar::Double => column.put_double(0.0),
        Scalar::Bytes | Scalar::Text => column.put_bytes(&[]),
        Scalar::Names(names) => put_name(names, 0, column),
        _ => column.put_integer(0),
    }
}

fn timestamp(part: &mut Cursor<'_>, per_second: i64) -> Result<i64> {
    let (mut seconds, mut nanos) = (0, 0);
    while !part.is_empty() {
        match tag(part)? {
            (1, VARINT) => seconds = part.varint()? as i64,
            (2, VARINT) => nanos = i64::from(part.varint()? as i32),
            (number, wire) => skip(wire, number, part, 0)?,
        }
    }
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(wrong(format!("has a timestamp with {nanos} nanoseconds")));
    }
    let whole =
        seconds.checked_mul(per_second).and_then(|value| value.checked_add(nanos / (1_000_000_000 / per_second)));
    whole.ok_or_else(|| wrong(format!("has a timestamp of {seconds} seconds, which is out of range")))
}

/// Goes past a value.
fn skip(wire: u32, number: u32, cursor: &mut Cursor<'_>, depth: u32) -> Result<()> {
    match wire {
        VARINT => drop(cursor.varint()?),
        EIGHT => drop(cursor.take(8)?),
        FOUR => drop(cursor.take(4)?),
        LENGTH => {
            part(cursor)?;
        }
        GROUP if depth > MOST_DEPTH => return Err(wrong("is nested too deeply")),
        GROUP => loop {
            match tag(cursor)? {
                (end, END_GROUP) if end == number => break,
                (_, END_GROUP) => return Err(wrong("ends another group than it began")),
                (within, wire) => skip(wire, within, cursor, depth + 1)?,
            }
        },
        _ => return Err(wrong(format!("has a field of wire type {wire}"))),
    }
    Ok(())
}
