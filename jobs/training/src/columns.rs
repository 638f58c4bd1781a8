//! Arrow columns as f32 numbers: which column is what, and what cannot be a feature.
//!
//! Names are matched as written, else without regard to case when exactly one fits, as everywhere in SQL here.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Schema};
use jobs::TrainBody;
use jobs::text::nearest;
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("find the {what} column '{name}' in {place}: it has {columns}{hint}")]
    NoColumn { what: &'static str, name: String, place: &'static str, columns: String, hint: String },
    #[error("tell which column '{name}' means in {place}: {first} or {second}")]
    Ambiguous { name: String, place: &'static str, first: String, second: String },
    #[error(
        "use column '{column}' of type {type_} as a feature: only numbers and booleans are; cast it, or name it in ignore"
    )]
    NotANumber { column: String, type_: DataType },
    #[error("use column '{column}' of type {type_} as {what}: it must be {expected}")]
    WrongType { column: String, type_: DataType, what: &'static str, expected: &'static str },
    #[error("find a feature in {place}: every column is the label, the time or ignored")]
    NoFeatures { place: &'static str },
    #[error("use row {row} of column '{column}': it holds {value}; filter such rows out or replace the value")]
    NotFinite { column: String, row: usize, value: f32 },
    #[error("read column '{column}' as numbers")]
    Cast { column: String, source: arrow::error::ArrowError },
}

/// Which columns of a training query are features, label and time, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    pub features: Vec<String>,
    pub label: String,
    pub time: Option<String>,
}

const TRAIN: &str = "the training query";

impl Columns {
    pub fn of(schema: &Schema, body: &TrainBody) -> Result<Self, Error> {
        let label = find(schema, &body.label, "label", TRAIN)?;
        let time = match &body.time_column {
            Some(time) => Some(find(schema, time, "time", TRAIN)?),
            None => None,
        };
        let mut others = vec![label];
        others.extend(time);
        for ignored in &body.ignore {
            others.push(find(schema, ignored, "ignored", TRAIN)?);
        }
        let mut features = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if others.contains(&index) {
                continue;
            }
            if !is_feature(field.data_type()) {
                return Err(Error::NotANumber { column: field.name().clone(), type_: field.data_type().clone() });
            }
            features.push(field.name().clone());
        }
        if features.is_empty() {
            return Err(Error::NoFeatures { place: TRAIN });
        }
        let name = |index: usize| schema.field(index).name().clone();
        Ok(Self { features, label: name(label), time: time.map(name) })
    }
}

pub fn is_feature(type_: &DataType) -> bool {
    type_.is_numeric() || *type_ == DataType::Boolean
}

/// Index of the column of that name.
pub fn find(schema: &Schema, name: &str, what: &'static str, place: &'static str) -> Result<usize, Error> {
    if let Ok(index) = schema.index_of(name) {
        return Ok(index);
    }
    let mut alike = schema.fields().iter().enumerate().filter(|(_, field)| field.name().eq_ignore_ascii_case(name));
    match (alike.next(), alike.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some((_, first)), Some((_, second))) => Err(Error::Ambiguous {
            name: name.to_string(),
            place,
            first: first.name().clone(),
            second: second.name().clone(),
        }),
        (None, _) => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let hint = nearest(name, names.iter().copied()).map(|near| format!("; did you mean '{near}'?"));
            Err(Error::NoColumn {
                what,
                name: name.to_string(),
                place,
                columns: shortened(&names),
                hint: hint.unwrap_or_default(),
            })
        }
    }
}

fn shortened(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        0 => "no columns".to_string(),
        1..=SHOWN => names.join(", "),
        more => format!("{}, and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

/// Hands each value of a column to `take`, with `None` for a null.
pub fn each(name: &str, array: &ArrayRef, mut take: impl FnMut(usize, Option<f32>)) -> Result<(), Error> {
    if !is_feature(array.data_type()) {
        return Err(Error::NotANumber { column: name.to_string(), type_: array.data_type().clone() });
    }
    let array = cast(array, &DataType::Float32).map_err(|source| Error::Cast { column: name.to_string(), source })?;
    let array = array.as_primitive::<Float32Type>();
    match array.nulls() {
        None => array.values().iter().enumerate().for_each(|(row, value)| take(row, Some(*value))),
        Some(nulls) => {
            for (row, value) in array.values().iter().enumerate() {
                take(row, nulls.is_valid(row).then_some(*value));
            }
        }
    }
    Ok(())
}
