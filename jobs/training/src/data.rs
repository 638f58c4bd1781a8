//! Query results as training data: values of each input, labels, and the split.
//!
//! Invariant: the same *set* of rows gives the same data on every rank and in every run, whatever order the rows arrived
//! in: rows are put in an order that depends on their values alone, and everything later (split, shuffle, batches) goes by
//! place in that order. What is absent is counted and reported; a row without a label is left out and reported; NaN and
//! infinities are refused. Knows nothing of networks.

use crate::batches::Examples;
use crate::bytes;
use crate::columns::{self, Columns};
use crate::labels::{self, Labels};
use crate::loss::Targets;
use crate::preprocess::Preprocessing;
use crate::tensors::{self, Array, Tensors};
use crate::values::{self, Reading, Strictness, Values};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use jobs::TrainBody;
use jobs::train::Loss;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Columns(#[from] columns::Error),
    #[error(transparent)]
    Values(#[from] values::Error),
    #[error(transparent)]
    Labels(#[from] labels::Error),
    #[error("train on no rows: {place} returned none{without_label}")]
    NoRows { place: &'static str, without_label: String },
    #[error("hold out {fraction} of {rows} rows: none are left to train on; lower test_fraction or give a test query")]
    NothingLeft { fraction: f64, rows: usize },
    #[error("train on {rows} rows: at most {MAX_ROWS} fit; narrow the query")]
    TooManyRows { rows: usize },
}

/// Rows are numbered by u32 in the shuffle, which halves the memory that a shuffled epoch walks through.
const MAX_ROWS: usize = u32::MAX as usize;

/// What the queries returned.
pub struct Data {
    pub train: Vec<RecordBatch>,
    /// Held-out rows; `None` holds out a share of the training rows.
    pub test: Option<Vec<RecordBatch>>,
}

/// Rows before anything is learned from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// In the order of the columns' inputs.
    pub inputs: Vec<Values>,
    /// `places` of each row.
    pub targets: Targets,
    pub places: usize,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.targets.len() / self.places
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Orders the rows by a hash of their values, equal hashes by the values themselves.
    fn in_order_of_values(&self) -> Vec<u32> {
        let rows = self.len();
        let inputs: Vec<(&[u8], usize)> =
            self.inputs.iter().map(|values| (values_bytes(values), values.len() / rows.max(1) * 4)).collect();
        let label = |row: usize| &targets_bytes(&self.targets)[row * self.places * 4..(row + 1) * self.places * 4];
        let cells = |row: usize| inputs.iter().map(move |(bytes, width)| &bytes[row * width..(row + 1) * width]);
        let hash = |row: usize| {
            let seed = match label(row) {
                [a, b, c, d] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
                places => xxh3_64(places),
            };
            cells(row).fold(seed, |seed, bytes| xxh3_64_with_seed(bytes, seed))
        };
        let mut order: Vec<(u64, u32)> = (0..rows).map(|row| (hash(row), row as u32)).collect();
        order.sort_unstable_by(|left, right| {
            left.0.cmp(&right.0).then_with(|| {
                let (left, right) = (left.1 as usize, right.1 as usize);
                cells(left).cmp(cells(right)).then_with(|| label(left).cmp(label(right)))
            })
        });
        order.into_iter().map(|(_, row)| row).collect()
    }

    fn select(&self, rows: &[u32]) -> Self {
        let own = self.len().max(1);
        let inputs = self.inputs.iter().map(|values| values.select(rows, values.len() / own)).collect();
        let targets = if self.places == 1 {
            self.targets.select(rows)
        } else {
            let places = self.places as u32;
            let all: Vec<u32> = rows.iter().flat_map(|row| row * places..(row + 1) * places).collect();
            self.targets.select(&all)
        };
        Self { inputs, targets, places: self.places }
    }

    /// As the graph reads them.
    pub fn prepared(self, preprocessing: &Preprocessing) -> Examples {
        let rows = self.len();
        Examples { inputs: preprocessing.prepare(self.inputs), targets: self.targets, rows, places: self.places }
    }
}

fn values_bytes(values: &Values) -> &[u8] {
    match values {
        Values::Reals(values) => bytes::of_f32(values),
        Values::Ids(values) | Values::Words { places: values, .. } => bytes::of_u32(values),
    }
}

fn targets_bytes(targets: &Targets) -> &[u8] {
    match targets {
        Targets::Classes(classes) => bytes::of_u32(classes),
        Targets::Values(values) => bytes::of_f32(values),
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    pub columns: Columns,
    /// Values in a row of each column of each input.
    pub widths: Vec<Vec<usize>>,
    pub train: Rows,
    pub held_out: Rows,
    /// Outputs that the network needs for these labels.
    pub outputs: usize,
    /// Names of the classes in the order of their numbers, where labels are texts.
    pub classes: Vec<String>,
    /// Largest value of the time column in all rows of the training query, those held out from it included: the model has
    /// been judged on those, so nothing up to here is new to it.
    pub trained_through_us: Option<i64>,
    /// What the user should know about the rows.
    pub notices: Vec<String>,
}

impl Dataset {
    pub fn new(data: &Data, body: &TrainBody) -> Result<Self, Error> {
        let no_rows = |place| Error::NoRows { place, without_label: String::new() };
        let first = data.train.iter().find(|batch| batch.num_rows() > 0).ok_or_else(|| no_rows(TRAIN))?;
        let columns = Columns::of(&first.schema(), body)?;
        let mut notices = Vec::new();
        let all = read(&data.train, &columns, body.loss, (TRAIN, None), &mut notices)?;
        let order = all.rows.in_order_of_values();
        let (train, held_out) = match &data.test {
            Some(test) => {
                if test.iter().all(|batch| batch.num_rows() == 0) {
                    return Err(no_rows(TEST));
                }
                let test = read(test, &columns, body.loss, (TEST, Some(&all)), &mut notices)?.rows;
                (all.rows.select(&order), test.select(&test.in_order_of_values()))
            }
            None => {
                let (held_out, train) = split(&order, body.seed, body.test_fraction);
                (all.rows.select(&train), all.rows.select(&held_out))
            }
        };
        if train.is_empty() {
            return Err(Error::NothingLeft { fraction: body.test_fraction, rows: all.rows.len() });
        }
        if held_out.is_empty() {
            notices.push("no rows are held out: the model is not judged on rows that it has not seen".to_string());
        }
        let outputs = labels::outputs(&train.targets, body.loss, &columns.label, &all.classes)?;
        let Found { widths, classes, trained_through_us, .. } = all;
        Ok(Self { columns, widths, train, held_out, outputs, classes, trained_through_us, notices })
    }

    /// What is learned from the training rows.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing::learn(&self.columns, &self.widths, &self.train.inputs)
    }

    /// The training rows and those held out, which are then no longer here.
    pub fn take_rows(&mut self) -> (Rows, Rows) {
        let none = || Rows { inputs: Vec::new(), targets: Targets::Values(Vec::new()), places: 1 };
        (std::mem::replace(&mut self.train, none()), std::mem::replace(&mut self.held_out, none()))
    }

    /// Equal for equal data. Taken before preprocessing.
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        for feature in &self.columns.features {
            hash.update(feature.as_bytes());
            hash.update(&[0]);
        }
        for (input, widths) in self.columns.inputs.iter().zip(&self.widths) {
            // Which columns, in which order, and what becomes of them.
            hash.update(format!("{input:?} {widths:?}").as_bytes());
        }
        for class in &self.classes {
            hash.update(class.as_bytes());
            hash.update(&[0]);
        }
        for rows in [&self.train, &self.held_out] {
            hash.update(&(rows.len() as u64).to_le_bytes());
            for values in &rows.inputs {
                hash.update(values_bytes(values));
                if let Values::Words { words, .. } = values {
                    for word in words.iter() {
                        hash.update(&(word.len() as u64).to_le_bytes());
                        hash.update(word.as_bytes());
                    }
                }
            }
            hash.update(targets_bytes(&rows.targets));
        }
        hash.digest()
    }

    /// For another rank: everything but the notices.
    pub fn to_bytes(&self) -> Result<Vec<u8>, tensors::Error> {
        let mut arrays = Vec::new();
        for (name, rows) in [("train", &self.train), ("held_out", &self.held_out)] {
            for (index, values) in rows.inputs.iter().enumerate() {
                let dtype = if matches!(values, Values::Reals(_)) { Dtype::F32 } else { Dtype::U32 };
                let dims = vec![values.len()];
                arrays.push(Array { name: format!("{name}.{index}"), dims, dtype, bytes: values_bytes(values) });
            }
            let dtype = if matches!(rows.targets, Targets::Classes(_)) { Dtype::U32 } else { Dtype::F32 };
            let bytes = targets_bytes(&rows.targets);
            arrays.push(Array { name: format!("{name}.targets"), dims: vec![rows.targets.len()], dtype, bytes });
        }
        let description = Description {
            columns: self.columns.clone(),
            widths: self.widths.clone(),
            rows: [&self.train, &self.held_out].map(Facts::of).to_vec(),
            places: self.train.places,
            outputs: self.outputs,
            classes: self.classes.clone(),
            trained_through_us: self.trained_through_us,
            by_class: matches!(self.train.targets, Targets::Classes(_)),
        };
        tensors::write(&arrays, &description)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, tensors::Error> {
        let tensors = Tensors::read(bytes)?;
        let description: Description = tensors.description()?;
        let Description { columns, widths, rows, places, outputs, classes, trained_through_us, by_class } = description;
        let take = |name: &str, facts: Option<&Facts>| -> Result<Rows, tensors::Error> {
            let mut inputs = Vec::new();
            let facts = facts.cloned().unwrap_or_default();
            for (index, (len, kind)) in facts.inputs.into_iter().enumerate() {
                let array = format!("{name}.{index}");
                inputs.push(match kind {
                    Kind::Reals => Values::Reals(bytes::to_f32(tensors.array(&array, &[len], Dtype::F32)?)),
                    Kind::Ids => Values::Ids(bytes::to_u32(tensors.array(&array, &[len], Dtype::U32)?)),
                    Kind::Words(words) => {
                        let places = bytes::to_u32(tensors.array(&array, &[len], Dtype::U32)?);
                        Values::Words { places, words: Arc::new(words) }
                    }
                });
            }
            let dims = [facts.targets];
            let array = format!("{name}.targets");
            let targets = if by_class {
                Targets::Classes(bytes::to_u32(tensors.array(&array, &dims, Dtype::U32)?))
            } else {
                Targets::Values(bytes::to_f32(tensors.array(&array, &dims, Dtype::F32)?))
            };
            Ok(Rows { inputs, targets, places })
        };
        let (train, held_out) = (take("train", rows.first())?, take("held_out", rows.get(1))?);
        let notices = Vec::new();
        Ok(Self { columns, widths, train, held_out, outputs, classes, trained_through_us, notices })
    }
}

#[derive(Serialize, Deserialize)]
struct Description {
    columns: Columns,
    widths: Vec<Vec<usize>>,
    /// Training rows, held-out rows.
    rows: Vec<Facts>,
    places: usize,
    outputs: usize,
    classes: Vec<String>,
    trained_through_us: Option<i64>,
    by_class: bool,
}

/// Lengths and kinds of the arrays of one part.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Facts {
    inputs: Vec<(usize, Kind)>,
    targets: usize,
}

#[derive(Clone, Serialize, Deserialize)]
enum Kind {
    Reals,
    Ids,
    Words(Vec<String>),
}

impl Facts {
    fn of(rows: &Rows) -> Self {
        let fact = |values: &Values| {
            let kind = match values {
                Values::Reals(_) => Kind::Reals,
                Values::Ids(_) => Kind::Ids,
                Values::Words { words, .. } => Kind::Words(words.to_vec()),
            };
            (values.len(), kind)
        };
        Self { inputs: rows.inputs.iter().map(fact).collect(), targets: rows.targets.len() }
    }
}

pub(crate) const TRAIN: &str = "the training query";
const TEST: &str = "the test query";

/// Held-out rows and training rows: a row is held out when the hash of its place falls below the fraction.
fn split(order: &[u32], seed: u64, fraction: f64) -> (Vec<u32>, Vec<u32>) {
    let below = (fraction * 2f64.powi(64)) as u64;
    let place_of = |place: usize| xxh3_64(&[seed.to_le_bytes(), (place as u64).to_le_bytes()].concat());
    let (held_out, train): (Vec<_>, Vec<_>) = order.iter().enumerate().partition(|(place, _)| place_of(*place) < below);
    let rows = |chosen: Vec<(usize, &u32)>| chosen.into_iter().map(|(_, row)| *row).collect();
    (rows(held_out), rows(train))
}

/// What a query gave.
pub(crate) struct Found {
    pub(crate) rows: Rows,
    pub(crate) widths: Vec<Vec<usize>>,
    pub(crate) classes: Vec<String>,
    pub(crate) trained_through_us: Option<i64>,
}

impl Found {
    /// What other rows are read by.
    pub(crate) fn of(widths: Vec<Vec<usize>>, classes: Vec<String>, places: usize) -> Self {
        let rows = Rows { inputs: Vec::new(), targets: Targets::Values(Vec::new()), places };
        Self { rows, widths, classes, trained_through_us: None }
    }

    pub(crate) fn without_rows(self) -> Self {
        Self::of(self.widths, self.classes, self.rows.places)
    }
}

/// `training` is what the training query gave, where this is another.
pub(crate) fn read(
    batches: &[RecordBatch],
    columns: &Columns,
    loss: Loss,
    (place, training): (&'static str, Option<&Found>),
    notices: &mut Vec<String>,
) -> Result<Found, Error> {
    let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if total > MAX_ROWS {
        return Err(Error::TooManyRows { rows: total });
    }
    let mut readings: Vec<Reading<'_>> = Vec::with_capacity(columns.inputs.len());
    for (index, input) in columns.inputs.iter().enumerate() {
        let widths = training.map(|training| training.widths[index].as_slice());
        readings.push(Reading::new(input, widths, Strictness::Training));
    }
    let mut labels = Labels::new(&columns.label, loss, place);
    let mut latest = None;
    for batch in batches {
        let schema = batch.schema();
        labels.add(batch.column(columns::find(&schema, &columns.label, "label", place)?))?;
        for (input, reading) in columns.inputs.iter().zip(&mut readings) {
            let mut arrays = Vec::with_capacity(input.columns.len());
            for name in &input.columns {
                arrays.push(batch.column(columns::find(&schema, name, "feature", place)?));
            }
            reading.add(&arrays)?;
        }
        if let Some(time) = &columns.time {
            let index = columns::find(&schema, time, "time", place);
            // The test query need not carry the time.
            if training.is_none() || index.is_ok() {
                latest = latest.max(latest_us(time, batch.column(index?))?);
            }
        }
    }
    let found = labels.finish(training.map(|training| training.classes.as_slice()))?;
    let without_label = found.kept.as_ref().map_or(0, |kept| total - kept.len());
    if found.targets.is_empty() {
        let without_label = format!(" with a label ({without_label} had none)");
        return Err(Error::NoRows { place, without_label });
    }
    let (mut inputs, mut widths) = (Vec::new(), Vec::new());
    for (input, reading) in columns.inputs.iter().zip(readings) {
        for (name, nulls) in input.columns.iter().zip(&reading.nulls).filter(|(_, nulls)| **nulls > 0) {
            let meaning = absent_means(&input.step);
            notices.push(format!("{nulls} of {total} rows of {place} have no '{name}'; {meaning}"));
        }
        let (values, of_columns) = reading.finish();
        let width: usize = of_columns.iter().sum();
        inputs.push(match &found.kept {
            Some(kept) => values.select(kept, width),
            None => values,
        });
        widths.push(of_columns);
    }
    if without_label > 0 {
        notices.push(format!("{without_label} of {total} rows of {place} have no label and are left out"));
    }
    let rows = Rows { inputs, targets: found.targets, places: found.places };
    Ok(Found { rows, widths, classes: found.classes, trained_through_us: latest })
}

fn absent_means(step: &jobs::train::Preprocess) -> &'static str {
    use jobs::train::Preprocess;
    match step {
        Preprocess::Normalize => "they count as its mean",
        Preprocess::Numbers | Preprocess::Ids { .. } => "they count as 0",
        Preprocess::Hash { .. } => "they count as a value of their own",
        Preprocess::Vocabulary { .. } | Preprocess::OneHot { .. } => "they count as a value that is in no vocabulary",
        Preprocess::Buckets { .. } => "they count as its median",
    }
}

fn latest_us(name: &str, array: &ArrayRef) -> Result<Option<i64>, Error> {
    if !matches!(array.data_type(), DataType::Timestamp(_, _)) {
        return Err(columns::Error::WrongType {
            column: name.to_string(),
            type_: array.data_type().clone(),
            what: "the time column",
            expected: "a timestamp",
        }
        .into());
    }
    let array = values::convert(name, array, &DataType::Timestamp(TimeUnit::Microsecond, None), "times")?;
    Ok(arrow::compute::max(array.as_primitive::<TimestampMicrosecondType>()))
}

#[cfg(test)]
mod tests;
