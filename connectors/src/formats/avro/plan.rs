//! How records of one writer's schema become rows: compiled once for a schema and the wanted columns.
//!
//! Fields are bound to columns by name, as written; where the table has a reader's schema, also by its aliases, and what
//! the writer does not have gets the reader's default. Types are resolved by Avro's rules, and a bit further where no
//! value can be misread: a number into a narrower column is checked value by value. A branch of a union that does not fit
//! its column costs the records that use it, no others.
//!
//! Invariant: a plan fits the columns that it was made for, and is as deep as they are, not as the schema.

use super::encode::default_bytes;
use super::schema::{Field, Logical, Named, Node, Schema};
use crate::formats::cells::{map_value, per_second_in};
use crate::formats::is_text;
use arrow::datatypes::{DataType, Field as Column, Fields, TimeUnit};
use std::sync::Arc;

#[derive(Debug)]
pub struct Root {
    pub schema: Arc<Schema>,
    pub shape: Shape,
}

/// What a record is as a whole.
#[derive(Debug)]
pub enum Shape {
    Record(Vec<Step>),
    Union(Vec<Shape>),
    /// No record, but the value of the one column.
    Single(Read),
    Unfit(String),
}

/// One field of the writer, in its order.
#[derive(Debug)]
pub enum Step {
    Skip(Node),
    Read {
        column: usize,
        read: Read,
    },
    /// A column that the writer does not know: what `bytes` are by the reader's schema.
    Default {
        column: usize,
        read: Read,
        bytes: Vec<u8>,
        schema: Arc<Schema>,
    },
}

#[derive(Debug)]
pub enum Read {
    Null,
    Boolean,
    Integer,
    Scaled(Scale),
    /// A time of day, of so many units a day in the column.
    Time(Scale, i64),
    Float,
    Double,
    /// Bytes or text, with their length before them.
    Bytes,
    Fixed(usize),
    /// A UUID of 16 bytes, as text.
    Uuid,
    Decimal {
        size: Option<usize>,
        scale: i8,
        of_column: i8,
    },
    /// By symbol: its text, or none if the reader does not know it.
    Symbols(Vec<Option<String>>),
    Struct(Vec<Step>),
    List(Box<Read>),
    Map(Box<Read>),
    Union(Vec<Read>),
    /// A branch that the column cannot hold.
    Unfit(String),
}

#[derive(Clone, Copy, Debug)]
pub enum Scale {
    Times(i64),
    /// Rounded down.
    Over(i64),
}

impl Scale {
    fn from(per_second: i64, unit: TimeUnit) -> Self {
        let wanted = per_second_in(unit);
        if wanted >= per_second { Self::Times(wanted / per_second) } else { Self::Over(per_second / wanted) }
    }
}

pub struct Reading<'a> {
    pub writer: &'a Arc<Schema>,
    pub reader: Option<&'a Arc<Schema>>,
}

type Planned<T> = Result<T, String>;

impl Reading<'_> {
    pub fn of_columns(&self, columns: &Fields) -> Planned<Root> {
        let shape = self.shape(self.writer.root(), self.reader.map(|reader| reader.root()), columns);
        match shape {
            Shape::Unfit(why) => Err(why),
            shape => Ok(Root { schema: Arc::clone(self.writer), shape }),
        }
    }

    fn shape(&self, node: &Node, reader: Option<&Node>, columns: &Fields) -> Shape {
        let unfit = |planned: Planned<Shape>| planned.unwrap_or_else(Shape::Unfit);
        match node {
            Node::Union(branches) => {
                let shapes: Vec<Shape> = branches.iter().map(|branch| self.shape(branch, reader, columns)).collect();
                let first = |shape: &Shape| if let Shape::Unfit(why) = shape { Some(why.clone()) } else { None };
                match shapes.iter().all(|shape| matches!(shape, Shape::Unfit(_))) {
                    true => Shape::Unfit(shapes.iter().find_map(first).unwrap_or_default()),
                    false => Shape::Union(shapes),
                }
            }
            Node::Named(at) if matches!(self.writer.named(*at), Named::Record { .. }) => {
                unfit(self.steps(*at, reader, columns).map(Shape::Record))
            }
            other => match columns.iter().as_slice() {
                [column] if *other != Node::Null => unfit(self.read(other, reader, column).map(Shape::Single)),
                _ => Shape::Unfit(format!("is {}, no record", self.writer.describe(other))),
            },
        }
    }

    fn steps(&self, writer: usize, reader: Option<&Node>, columns: &Fields) -> Planned<Vec<Step>> {
        let Named::Record { fields, name } = self.writer.named(writer) else {
            return Err("is no record".to_owned());
        };
        let known = match (self.reader, reader) {
            (Some(schema), Some(node)) => Some(
                record_fields(schema, node)
                    .ok_or_else(|| format!("is record {name} and {} in the table's schema", schema.describe(node)))?,
            ),
            _ => None,
        };
        let mut bound: Vec<Option<(usize, Option<&Field>)>> = vec![None; fields.len()];
        let mut steps = Vec::with_capacity(fields.len());
        let mut defaults = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            let wanted =
                match known {
                    None => None,
                    Some(known) => Some(known.iter().find(|field| field.name == *column.name()).ok_or_else(|| {
                        format!("column '{}' is not in the schema that the table gives", column.name())
                    })?),
                };
            let by_name = fields.iter().position(|field| field.name == *column.name());
            let by_alias = || {
                let aliases = &wanted?.aliases;
                fields.iter().position(|field| aliases.contains(&field.name))
            };
            match (by_name.or_else(by_alias), wanted) {
                (Some(field), _) if bound[field].is_none() => bound[field] = Some((at, wanted)),
                (Some(field), _) => {
                    return Err(format!(
                        "has the field '{}' for two columns, for '{}' by an alias",
                        fields[field].name,
                        column.name()
                    ));
                }
                (None, Some(Field { default: Some(default), node, .. })) => {
                    let schema = self.reader.ok_or("a default without a schema")?;
                    let alone = Reading { writer: schema, reader: None };
                    let within = |why| format!("has the field '{}': it {why}", column.name());
                    let read = alone.read(node, None, column).map_err(within)?;
                    let bytes = default_bytes(schema, node, default).map_err(within)?;
                    defaults.push(Step::Default { column: at, read, bytes, schema: Arc::clone(schema) });
                }
                (None, _) if column.is_nullable() => {}
                (None, _) => {
                    return Err(format!("has no field for column '{}', which must have a value", column.name()));
                }
            }
        }
        for (field, bound) in fields.iter().zip(bound) {
            steps.push(match bound {
                None => Step::Skip(field.node.clone()),
                Some((at, wanted)) => {
                    let read = self.read(&field.node, wanted.map(|wanted| &wanted.node), &columns[at]);
                    Step::Read {
                        column: at,
                        read: read.map_err(|why| format!("has the field '{}': it {why}", field.name))?,
                    }
                }
            });
        }
        steps.extend(defaults);
        Ok(steps)
    }

    fn read(&self, node: &Node, reader: Option<&Node>, column: &Column) -> Planned<Read> {
        use DataType as D;
        let kind = column.data_type();
        let whole = matches!(kind, D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32);
        let bytes = matches!(kind, D::Binary | D::LargeBinary | D::BinaryView);
        Ok(match (node, kind) {
            (Node::Null, _) => Read::Null,
            (Node::Union(branches), _) => {
                let read = |branch| self.read(branch, reader, column).unwrap_or_else(Read::Unfit);
                let reads: Vec<Read> = branches.iter().map(read).collect();
                let fits = |read: &Read| !matches!(read, Read::Unfit(_) | Read::Null);
                match reads.iter().find(|read| matches!(read, Read::Unfit(_))) {
                    Some(Read::Unfit(why)) if !reads.iter().any(fits) => return Err(why.clone()),
                    _ => Read::Union(reads),
                }
            }
            (Node::Boolean, D::Boolean) => Read::Boolean,
            (Node::Int(_) | Node::Long(_), _) if whole => Read::Integer,
            (Node::Int(None) | Node::Long(None), D::Float32 | D::Float64 | D::Decimal128(..)) => Read::Integer,
            (Node::Int(Some(Logical::Date)), D::Date32) => Read::Integer,
            (Node::Long(Some(Logical::Timestamp { per_second })), D::Timestamp(unit, _)) => {
                Read::Scaled(Scale::from(*per_second, *unit))
            }
            (Node::Int(Some(Logical::TimeMillis)), D::Time32(unit) | D::Time64(unit)) => {
                Read::Time(Scale::from(1000, *unit), 86_400 * per_second_in(*unit))
            }
            (Node::Long(Some(Logical::TimeMicros)), D::Time32(unit) | D::Time64(unit)) => {
                Read::Time(Scale::from(1_000_000, *unit), 86_400 * per_second_in(*unit))
            }
            (Node::Float, D::Float32 | D::Float64) => Read::Float,
            (Node::Double, D::Float64) => Read::Double,
            (Node::Bytes(Some(Logical::Decimal { scale, .. })), D::Decimal128(_, of_column)) => {
                Read::Decimal { size: None, scale: *scale, of_column: *of_column }
            }
            (Node::Text(_) | Node::Bytes(None), kind) if is_text(kind) || bytes => Read::Bytes,
            (Node::Bytes(_), _) if bytes => Read::Bytes,
            (Node::Array(item), D::List(of_column)) => {
                let reader = reader.and_then(|reader| {
                    self.pick(reader, |node| match node {
                        Node::Array(item) => Some(&**item),
                        _ => None,
                    })
                });
                Read::List(Box::new(self.read(item, reader, of_column).map_err(|why| format!("has items: one {why}"))?))
            }
            (Node::Map(value), D::Map(entries, _)) => {
                let of_column = map_value(entries).ok_or_else(|| format!("is a map, and the column {kind}"))?;
                let reader = reader.and_then(|reader| {
                    self.pick(reader, |node| match node {
                        Node::Map(value) => Some(&**value),
                        _ => None,
                    })
                });
                Read::Map(Box::new(
                    self.read(value, reader, of_column).map_err(|why| format!("has values: one {why}"))?,
                ))
            }
            (Node::Named(at), kind) => match (self.writer.named(*at), kind) {
                (Named::Record { .. }, D::Struct(fields)) => Read::Struct(self.steps(*at, reader, fields)?),
                (Named::Enum { symbols, .. }, kind) if is_text(kind) => {
                    Read::Symbols(symbols.iter().map(|symbol| self.symbol(symbol, reader)).collect())
                }
                (
                    Named::Fixed { size, logical: Some(Logical::Decimal { scale, .. }), .. },
                    D::Decimal128(_, of_column),
                ) => Read::Decimal { size: Some(*size), scale: *scale, of_column: *of_column },
                (Named::Fixed { logical: Some(Logical::Uuid), .. }, kind) if is_text(kind) => Read::Uuid,
                (Named::Fixed { size, .. }, _) if bytes => Read::Fixed(*size),
                _ => return Err(self.unfit(node, kind)),
            },
            _ => return Err(self.unfit(node, kind)),
        })
    }

    fn unfit(&self, node: &Node, kind: &DataType) -> String {
        format!("is {}, which a column of type {kind} does not hold", self.writer.describe(node))
    }

    /// A symbol as the reader has it.
    fn symbol(&self, symbol: &str, reader: Option<&Node>) -> Option<String> {
        let known = match (self.reader, reader) {
            (Some(schema), Some(reader)) => self.pick(reader, |node| match node {
                Node::Named(at) => match schema.named(*at) {
                    Named::Enum { symbols, default, .. } => Some((symbols, default)),
                    _ => None,
                },
                _ => None,
            }),
            _ => None,
        };
        match known {
            Some((symbols, default)) if !symbols.iter().any(|known| known == symbol) => default.clone(),
            _ => Some(symbol.to_owned()),
        }
    }

    /// What `of` finds in the reader's node, or in a branch of it.
    fn pick<'n, T>(&self, reader: &'n Node, of: impl Fn(&'n Node) -> Option<T>) -> Option<T> {
        match reader {
            Node::Union(branches) => branches.iter().find_map(of),
            node => of(node),
        }
    }
}

fn record_fields<'s>(schema: &'s Schema, node: &Node) -> Option<&'s [Field]> {
    match node {
        Node::Union(branches) => branches.iter().find_map(|branch| record_fields(schema, branch)),
        Node::Named(at) => match schema.named(*at) {
            Named::Record { fields, .. } => Some(fields),
            _ => None,
        },
        _ => None,
    }
}
