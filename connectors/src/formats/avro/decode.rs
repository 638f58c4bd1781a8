//! Reads one record's bytes into the columns of a row, by its plan.
//!
//! Invariant: exactly the record's bytes are read; what is left over is a mistake, as is what is missing.

use super::plan::{Read, Root, Scale, Shape, Step};
use super::schema::{Named, Node, Schema};
use crate::formats::column::{Column, Values, last};
use crate::formats::json::Object;
use crate::formats::json::walk::{Result, wrong};
use crate::formats::wire::{Cursor, MOST_DEPTH, unplanned};

/// Takes a record as row number `row`, or leaves the columns in need of [`Object::truncate`].
pub fn read_record(root: &Root, columns: &mut Object, record: &[u8], row: usize) -> Result<()> {
    let mut cursor = Cursor::new(record);
    read_shape(&root.shape, &root.schema, columns, &mut cursor, row)?;
    match cursor.len() {
        0 => Ok(()),
        n => Err(wrong(format!("goes on for {n} bytes after its last field"))),
    }
}

/// The same of the first of several records that follow one another; answers how long it was.
pub fn read_next(root: &Root, columns: &mut Object, records: &[u8], row: usize) -> Result<usize> {
    let mut cursor = Cursor::new(records);
    read_shape(&root.shape, &root.schema, columns, &mut cursor, row)?;
    Ok(records.len() - cursor.len())
}

/// How long the first of several records is, whatever becomes of its values.
pub fn pass_record(root: &Root, records: &[u8]) -> Result<usize> {
    let mut cursor = Cursor::new(records);
    skip(&root.schema, root.schema.root(), &mut cursor, 0)?;
    Ok(records.len() - cursor.len())
}

fn read_shape(shape: &Shape, schema: &Schema, columns: &mut Object, cursor: &mut Cursor<'_>, row: usize) -> Result<()> {
    match shape {
        Shape::Record(steps) => read_fields(steps, schema, columns, cursor, row),
        Shape::Single(read) => {
            take(read, schema, &mut columns.columns[0], cursor, row)?;
            columns.check(row)
        }
        Shape::Union(branches) => {
            let branch = branch(cursor, branches)?;
            read_shape(branch, schema, columns, cursor, row)
        }
        Shape::Unfit(why) => Err(wrong(why.as_str())),
    }
}

#[inline(always)]
fn branch<'b, T>(cursor: &mut Cursor<'_>, branches: &'b [T]) -> Result<&'b T> {
    let at = cursor.zigzag()?;
    match usize::try_from(at).ok().and_then(|at| branches.get(at)) {
        Some(branch) => Ok(branch),
        None => Err(wrong(format!("has branch {at} of a union of {}", branches.len()))),
    }
}

fn read_fields(
    steps: &[Step],
    schema: &Schema,
    columns: &mut Object,
    cursor: &mut Cursor<'_>,
    row: usize,
) -> Result<()> {
    for step in steps {
        let (column, taken) = match step {
            Step::Skip(node) => {
                skip(schema, node, cursor, 0)?;
                continue;
            }
            Step::Read { column, read } => {
                let column = &mut columns.columns[*column];
                let taken = take(read, schema, column, cursor, row);
                (column, taken)
            }
            Step::Default { column, read, bytes, schema } => {
                let column = &mut columns.columns[*column];
                let taken = take(read, schema, column, &mut Cursor::new(bytes), row);
                (column, taken)
            }
        };
        if let Err(wrong) = taken {
            return Err(wrong.within(column.name()));
        }
    }
    columns.check(row)
}

#[inline(always)]
fn length(cursor: &mut Cursor<'_>) -> Result<usize> {
    let n = cursor.zigzag()?;
    usize::try_from(n).map_err(|_| wrong(format!("has a value of {n} bytes")))
}

fn take(read: &Read, schema: &Schema, column: &mut Column, cursor: &mut Cursor<'_>, row: usize) -> Result<()> {
    match read {
        Read::Null => return Ok(()),
        Read::Union(branches) => {
            let branch = branch(cursor, branches)?;
            return take(branch, schema, column, cursor, row);
        }
        Read::Unfit(why) => return Err(wrong(why.as_str())),
        _ => {}
    }
    column.begin(row);
    match read {
        Read::Integer => column.put_integer(cursor.zigzag()?),
        Read::Bytes => {
            let n = length(cursor)?;
            column.put_bytes(cursor.take(n)?)
        }
        Read::Double => column.put_double(f64::from_le_bytes(cursor.array()?)),
        Read::Float => column.put_float(f32::from_le_bytes(cursor.array()?)),
        Read::Scaled(scale) => column.put_integer(scaled(cursor.zigzag()?, *scale)?),
        Read::Time(scale, day) => match scaled(cursor.zigzag()?, *scale)? {
            value if (0..*day).contains(&value) => column.put_integer(value),
            value => Err(wrong(format!("{value} is no time of a day"))),
        },
        Read::Boolean => match cursor.array::<1>()? {
            [0] => column.put_boolean(false),
            [1] => column.put_boolean(true),
            [other] => Err(wrong(format!("has {other} where 0 or 1 must be"))),
        },
        Read::Fixed(size) => column.put_bytes(cursor.take(*size)?),
        Read::Uuid => {
            let mut text = [0; 36];
            let text = uuid::Uuid::from_bytes(cursor.array()?).hyphenated().encode_lower(&mut text);
            column.put_bytes(text.as_bytes())
        }
        Read::Decimal { size, scale, of_column } => {
            let n = size.map_or_else(|| length(cursor), Ok)?;
            column.put_decimal(unscaled(cursor.take(n)?)?, *scale, *of_column)
        }
        Read::Symbols(symbols) => match branch(cursor, symbols)? {
            Some(symbol) => column.put_bytes(symbol.as_bytes()),
            None => Err(wrong("has a symbol that the table's schema does not know")),
        },
        Read::Struct(steps) => {
            let Values::Struct(object) = &mut column.values else { return Err(unplanned(column)) };
            read_fields(steps, schema, object, cursor, row)?;
            column.taken();
            Ok(())
        }
        Read::List(item) => take_list(item, schema, column, cursor),
        Read::Map(value) => take_map(value, schema, column, cursor),
        Read::Null | Read::Union(_) | Read::Unfit(_) => Err(unplanned(column)),
    }
}

fn take_list(item: &Read, schema: &Schema, column: &mut Column, cursor: &mut Cursor<'_>) -> Result<()> {
    let Values::List { ends, items } = &mut column.values else { return Err(unplanned(column)) };
    let mut n = last(ends) as usize;
    while let Some(count) = block(cursor)? {
        for _ in 0..count {
            let before = cursor.len();
            take(item, schema, items, cursor, n)?;
            if cursor.len() == before {
                cursor.empty_item()?;
            }
            n += 1;
        }
    }
    ends.push(n as i32);
    column.taken();
    Ok(())
}

fn take_map(value: &Read, schema: &Schema, column: &mut Column, cursor: &mut Cursor<'_>) -> Result<()> {
    let Values::Map(map) = &mut column.values else { return Err(unplanned(column)) };
    let begin = map.n_entries();
    let mut n = begin;
    while let Some(count) = block(cursor)? {
        for _ in 0..count {
            let length = length(cursor)?;
            let key =
                std::str::from_utf8(cursor.take(length)?).map_err(|_| wrong("has a key that is not UTF-8 text"))?;
            take(value, schema, map.entry(key, begin, n)?, cursor, n)?;
            n += 1;
        }
    }
    map.end(n);
    column.taken();
    Ok(())
}

/// How many items the next block of a list or map has; none at its end.
#[inline(always)]
fn block(cursor: &mut Cursor<'_>) -> Result<Option<u64>> {
    match cursor.zigzag()? {
        0 => Ok(None),
        n if n > 0 => Ok(Some(n.unsigned_abs())),
        // With its size in bytes, for whom it is of use.
        n => {
            length(cursor)?;
            Ok(Some(n.unsigned_abs()))
        }
    }
}

#[inline(always)]
fn scaled(value: i64, scale: Scale) -> Result<i64> {
    match scale {
        Scale::Times(1) => Ok(value),
        Scale::Times(factor) => {
            value.checked_mul(factor).ok_or_else(|| wrong(format!("{value} is out of range in the column's unit")))
        }
        Scale::Over(divisor) => Ok(value.div_euclid(divisor)),
    }
}

/// A number in two's complement, its highest byte first.
fn unscaled(bytes: &[u8]) -> Result<i128> {
    let sign = if bytes.first().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut whole = [sign; 16];
    whole[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(whole);
    match high.iter().all(|byte| *byte == sign) && (value < 0) == (sign == 0xff) {
        true => Ok(value),
        false => Err(wrong("has a decimal of more than 128 bits")),
    }
}

/// Goes past a value.
fn skip(schema: &Schema, node: &Node, cursor: &mut Cursor<'_>, depth: u32) -> Result<()> {
    if depth > MOST_DEPTH {
        return Err(wrong("is nested too deeply"));
    }
    let before = cursor.len();
    match node {
        Node::Null => {}
        Node::Boolean => drop(cursor.take(1)?),
        Node::Int(_) | Node::Long(_) => drop(cursor.varint()?),
        Node::Float => drop(cursor.take(4)?),
        Node::Double => drop(cursor.take(8)?),
        Node::Bytes(_) | Node::Text(_) => {
            let n = length(cursor)?;
            cursor.take(n)?;
        }
        Node::Array(item) => {
            skip_blocks(cursor, |cursor| skip(schema, item, cursor, depth + 1))?;
        }
        Node::Map(value) => skip_blocks(cursor, |cursor| {
            let n = length(cursor)?;
            cursor.take(n)?;
            skip(schema, value, cursor, depth + 1)
        })?,
        Node::Union(branches) => {
            let branch = branch(cursor, branches)?;
            skip(schema, branch, cursor, depth + 1)?;
        }
        Node::Named(at) => match schema.named(*at) {
            Named::Record { fields, .. } => {
                for field in fields {
                    skip(schema, &field.node, cursor, depth + 1)?;
                }
            }
            Named::Enum { .. } => drop(cursor.varint()?),
            Named::Fixed { size, .. } => drop(cursor.take(*size)?),
            Named::Begun => return Err(wrong("is of a type that is not defined")),
        },
    }
    if cursor.len() == before { cursor.empty_step() } else { Ok(()) }
}

fn skip_blocks(cursor: &mut Cursor<'_>, mut item: impl FnMut(&mut Cursor<'_>) -> Result<()>) -> Result<()> {
    loop {
        match cursor.zigzag()? {
            0 => return Ok(()),
            n if n > 0 => {
                for _ in 0..n {
                    item(cursor)?;
                }
            }
            _ => {
                let n = length(cursor)?;
                cursor.take(n)?;
            }
        }
    }
}
