//! Which column of a query is what: features, label, time; and which features each input of the graph reads.
//!
//! Names are matched as written, else without regard to case when exactly one fits, as everywhere in SQL here. Invariant:
//! every feature is read by an input, so that none is dropped without a word.

use arrow::datatypes::{DataType, Schema};
use jobs::TrainBody;
use jobs::text::nearest;
use jobs::train::{Input, Preprocess};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("find the {what} column '{name}' in {place}: it has {columns}{hint}")]
    NoColumn { what: &'static str, name: String, place: &'static str, columns: String, hint: String },
    #[error("tell which column '{name}' means in {place}: {first} or {second}")]
    Ambiguous { name: String, place: &'static str, first: String, second: String },
    #[error(
        "use column '{column}' of type {type_} as a feature: only numbers, booleans and lists of them are; name it in \
         categorical (in a file, in an input with hash, vocabulary or one_hot) or in ignore, or cast it"
    )]
    NotANumber { column: String, type_: DataType },
    #[error(
        "use column '{column}' of type {type_} by {step}: only texts, whole numbers, booleans and times, and lists of them, are \
         told apart by value; put numbers into buckets"
    )]
    NotAWord { column: String, type_: DataType, step: &'static str },
    #[error("use column '{column}' of type {type_} as {what}: it must be {expected}")]
    WrongType { column: String, type_: DataType, what: &'static str, expected: &'static str },
    #[error("find a feature in {place}: every column is the label, the time or ignored")]
    NoFeatures { place: &'static str },
    #[error("read column '{column}' in input '{input}': it is the label, the time or ignored")]
    NotAFeature { column: String, input: String },
    #[error("train on column {columns}: no input reads it; name it in an input or in ignore")]
    Unread { columns: String },
    #[error("fill input '{input}': it reads the features that no other input names, and there are none")]
    EmptyInput { input: String },
}

/// Which columns of a training query are features, label and time, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// In the order of the query; scoring takes them in this order.
    pub features: Vec<String>,
    pub label: String,
    pub time: Option<String>,
    /// What the graph reads, with the names of all its columns.
    pub inputs: Vec<Input>,
}

const TRAIN: &str = "the training query";

/// What the graph reads where a job does not say it.
pub const DEFAULT_INPUT: &str = "features";

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
        let features: Vec<usize> = (0..schema.fields().len()).filter(|index| !others.contains(index)).collect();
        if features.is_empty() {
            return Err(Error::NoFeatures { place: TRAIN });
        }
        let name = |index: usize| schema.field(index).name().clone();
        let inputs = inputs(schema, body, &features)?;
        let features = features.into_iter().map(name).collect();
        Ok(Self { features, label: name(label), time: time.map(name), inputs })
    }

    /// Indices among the features of an input's columns.
    pub fn places(&self, input: &Input) -> Vec<usize> {
        let place = |name: &String| self.features.iter().position(|feature| feature == name);
        input.columns.iter().filter_map(place).collect()
    }
}

/// The inputs of a job with the names of their columns; `features` are indices in the schema.
fn inputs(schema: &Schema, body: &TrainBody, features: &[usize]) -> Result<Vec<Input>, Error> {
    let mut inputs = body.inputs.clone();
    if inputs.is_empty() {
        let step = if body.normalize { Preprocess::Normalize } else { Preprocess::Numbers };
        inputs.push(Input { name: DEFAULT_INPUT.to_string(), columns: Vec::new(), step, dims: Vec::new() });
    }
    let mut read = Vec::new();
    for input in &mut inputs {
        for column in &mut input.columns {
            let index = find(schema, column, "input", TRAIN)?;
            if !features.contains(&index) {
                return Err(Error::NotAFeature { column: column.clone(), input: input.name.clone() });
            }
            read.push(index);
            *column = schema.field(index).name().clone();
        }
    }
    let rest: Vec<String> = features
        .iter()
        .filter(|index| !read.contains(index))
        .map(|index| schema.field(*index).name().clone())
        .collect();
    match inputs.iter_mut().find(|input| input.columns.is_empty()) {
        Some(input) if rest.is_empty() => return Err(Error::EmptyInput { input: input.name.clone() }),
        Some(input) => input.columns = rest,
        None if rest.is_empty() => {}
        None => return Err(Error::Unread { columns: rest.join(", ") }),
    }
    for input in &inputs {
        for column in &input.columns {
            fits(column, schema.field(find(schema, column, "input", TRAIN)?).data_type(), &input.step)?;
        }
    }
    Ok(inputs)
}

/// Whether an input can be made of columns of this type.
pub fn fits(column: &str, type_: &DataType, step: &Preprocess) -> Result<(), Error> {
    let (column, one) = (column.to_string(), element(type_));
    match step {
        Preprocess::Numbers | Preprocess::Normalize | Preprocess::Buckets { .. } | Preprocess::Ids { .. } => {
            if is_feature(one) {
                Ok(())
            } else {
                Err(Error::NotANumber { column, type_: type_.clone() })
            }
        }
        Preprocess::Hash { .. } | Preprocess::Vocabulary { .. } | Preprocess::OneHot { .. } => {
            let known = match one {
                DataType::Dictionary(_, values) => values,
                other => other,
            };
            let text = matches!(known, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            if text || known.is_integer() || known.is_temporal() || *known == DataType::Boolean {
                Ok(())
            } else {
                Err(Error::NotAWord { column, type_: type_.clone(), step: step.kind() })
            }
        }
    }
}

/// Of a list, the type of what is in it.
pub fn element(type_: &DataType) -> &DataType {
    match type_ {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => field.data_type(),
        other => other,
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
