//! Query results as training data: features as one f32 matrix, labels, and the split.
//!
//! Invariant: the same *set* of rows gives the same data on every rank and in every run, whatever order the rows arrived
//! in: rows are put in an order that depends on their values alone, and everything later (split, shuffle, batches) goes by
//! place in that order. A null feature counts as the feature's mean and is reported; a row without a label is left out and
//! reported; NaN and infinities are refused. Knows nothing of networks.

use crate::bytes;
use crate::columns::{self, Columns};
use crate::loss::Targets;
use crate::tensors::{self, Array, Tensors};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use jobs::TrainBody;
use jobs::train::Loss;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Columns(#[from] columns::Error),
    #[error("train on no rows: {place} returned none{without_label}")]
    NoRows { place: &'static str, without_label: String },
    #[error("use {value} in row {row} of {place} as label '{column}': {expected}")]
    Label { column: String, row: usize, place: &'static str, value: f64, expected: &'static str },
    #[error("learn to tell classes apart: label '{column}' is {class} in all {rows} training rows")]
    OneClass { column: String, class: u32, rows: usize },
    #[error("hold out {fraction} of {rows} rows: none are left to train on; lower test_fraction or give a test query")]
    NothingLeft { fraction: f64, rows: usize },
    #[error("train on {rows} rows: at most {MAX_ROWS} fit; narrow the query")]
    TooManyRows { rows: usize },
}

/// Rows are numbered by u32 in the shuffle, which halves the memory that a shuffled epoch walks through.
const MAX_ROWS: usize = u32::MAX as usize;

/// More than this is far more often an id taken for a class than a real set of classes.
const MAX_CLASSES: u32 = 100_000;

/// What the queries returned.
pub struct Data {
    pub train: Vec<RecordBatch>,
    /// Held-out rows; `None` holds out a share of the training rows.
    pub test: Option<Vec<RecordBatch>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Row-major; NaN stands for an absent value until normalisation.
    pub features: Vec<f32>,
    pub targets: Targets,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The features of these rows, in this order, in the place of what was in `gathered`.
    pub fn gather(&self, rows: &[u32], gathered: &mut Vec<f32>) {
        let width = self.features.len() / self.len().max(1);
        gathered.clear();
        for row in rows {
            let start = *row as usize * width;
            gathered.extend_from_slice(&self.features[start..start + width]);
        }
    }

    /// Orders the rows by a hash of their values, equal hashes by the values themselves.
    fn in_order_of_values(&self, width: usize) -> Vec<u32> {
        let label = |row: usize| match &self.targets {
            Targets::Classes(classes) => classes[row],
            Targets::Values(values) => values[row].to_bits(),
        };
        let features = |row: usize| &self.features[row * width..(row + 1) * width];
        let mut order: Vec<(u64, u32)> = (0..self.len())
            .map(|row| (xxh3_64_with_seed(bytes::of_f32(features(row)), u64::from(label(row))), row as u32))
            .collect();
        order.sort_unstable_by(|left, right| {
            left.0.cmp(&right.0).then_with(|| {
                let key = |row: u32| (bytes::of_f32(features(row as usize)), label(row as usize));
                key(left.1).cmp(&key(right.1))
            })
        });
        order.into_iter().map(|(_, row)| row).collect()
    }

    fn select(&self, rows: &[u32]) -> Self {
        let mut features = Vec::with_capacity(rows.len() * self.features.len() / self.len().max(1));
        self.gather(rows, &mut features);
        Self { features, targets: self.targets.select(rows) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    pub columns: Columns,
    pub train: Rows,
    pub held_out: Rows,
    /// Outputs that the network needs for these labels.
    pub outputs: usize,
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
        let (all, trained_through_us) = read(&data.train, &columns, body.loss, TRAIN, &mut notices)?;
        let width = columns.features.len();
        let order = all.in_order_of_values(width);
        let (train, held_out) = match &data.test {
            Some(test) => {
                if test.iter().all(|batch| batch.num_rows() == 0) {
                    return Err(no_rows(TEST));
                }
                let (test, _) = read(test, &columns, body.loss, TEST, &mut notices)?;
                let test_order = test.in_order_of_values(width);
                (all.select(&order), test.select(&test_order))
            }
            None => {
                let (held_out, train) = split(&order, body.seed, body.test_fraction);
                (all.select(&train), all.select(&held_out))
            }
        };
        if train.is_empty() {
            return Err(Error::NothingLeft { fraction: body.test_fraction, rows: all.len() });
        }
        if held_out.is_empty() {
            notices.push("no rows are held out: the model is not judged on rows that it has not seen".to_string());
        }
        let outputs = outputs(&train.targets, body.loss, &columns.label)?;
        Ok(Self { columns, train, held_out, outputs, trained_through_us, notices })
    }

    pub fn width(&self) -> usize {
        self.columns.features.len()
    }

    /// Equal for equal data. Taken before normalisation.
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        for feature in &self.columns.features {
            hash.update(feature.as_bytes());
            hash.update(&[0]);
        }
        for rows in [&self.train, &self.held_out] {
            hash.update(&(rows.len() as u64).to_le_bytes());
            hash.update(bytes::of_f32(&rows.features));
            hash.update(match &rows.targets {
                Targets::Classes(classes) => bytes::of_u32(classes),
                Targets::Values(values) => bytes::of_f32(values),
            });
        }
        hash.digest()
    }

    /// For another rank: everything but the notices.
    pub fn to_bytes(&self) -> Result<Vec<u8>, tensors::Error> {
        let width = self.width();
        let mut arrays = Vec::new();
        for (name, rows) in [("train", &self.train), ("held_out", &self.held_out)] {
            let (dtype, targets) = match &rows.targets {
                Targets::Classes(classes) => (Dtype::U32, bytes::of_u32(classes)),
                Targets::Values(values) => (Dtype::F32, bytes::of_f32(values)),
            };
            let dims = vec![rows.len(), width];
            let features = bytes::of_f32(&rows.features);
            arrays.push(Array { name: format!("{name}.features"), dims, dtype: Dtype::F32, bytes: features });
            arrays.push(Array { name: format!("{name}.targets"), dims: vec![rows.len()], dtype, bytes: targets });
        }
        let description = Description {
            columns: self.columns.clone(),
            rows: [self.train.len(), self.held_out.len()],
            outputs: self.outputs,
            trained_through_us: self.trained_through_us,
            classes: matches!(self.train.targets, Targets::Classes(_)),
        };
        tensors::write(&arrays, &description)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, tensors::Error> {
        let tensors = Tensors::read(bytes)?;
        let Description { columns, rows, outputs, trained_through_us, classes } = tensors.description()?;
        let take = |name: &str, rows: usize| -> Result<Rows, tensors::Error> {
            let dims = [rows, columns.features.len()];
            let features = bytes::to_f32(tensors.array(&format!("{name}.features"), &dims, Dtype::F32)?);
            let dtype = if classes { Dtype::U32 } else { Dtype::F32 };
            let targets = tensors.array(&format!("{name}.targets"), &[rows], dtype)?;
            let targets = if classes {
                Targets::Classes(bytes::to_u32(targets))
            } else {
                Targets::Values(bytes::to_f32(targets))
            };
            Ok(Rows { features, targets })
        };
        let (train, held_out) = (take("train", rows[0])?, take("held_out", rows[1])?);
        Ok(Self { columns, train, held_out, outputs, trained_through_us, notices: Vec::new() })
    }
}

#[derive(Serialize, Deserialize)]
struct Description {
    columns: Columns,
    rows: [usize; 2],
    outputs: usize,
    trained_through_us: Option<i64>,
    classes: bool,
}

const TRAIN: &str = "the training query";
const TEST: &str = "the test query";

/// Held-out rows and training rows: a row is held out when the hash of its place falls below the fraction.
fn split(order: &[u32], seed: u64, fraction: f64) -> (Vec<u32>, Vec<u32>) {
    let below = (fraction * 2f64.powi(64)) as u64;
    let place_of = |place: usize| xxh3_64(&[seed.to_le_bytes(), (place as u64).to_le_bytes()].concat());
    let (held_out, train): (Vec<_>, Vec<_>) = order.iter().enumerate().partition(|(place, _)| place_of(*place) < below);
    let rows = |chosen: Vec<(usize, &u32)>| chosen.into_iter().map(|(_, row)| *row).collect();
    (rows(held_out), rows(train))
}

fn outputs(targets: &Targets, loss: Loss, label: &str) -> Result<usize, Error> {
    let one_class = |class| Error::OneClass { column: label.to_string(), class, rows: targets.len() };
    match targets {
        Targets::Classes(classes) => {
            let largest = classes.iter().copied().max().unwrap_or(0);
            if classes.iter().all(|class| *class == largest) {
                return Err(one_class(largest));
            }
            Ok(largest as usize + 1)
        }
        Targets::Values(values) => {
            if loss == Loss::BinaryCrossEntropy && values.windows(2).all(|pair| pair[0] == pair[1]) {
                return Err(one_class(values[0] as u32));
            }
            Ok(1)
        }
    }
}

fn read(
    batches: &[RecordBatch],
    columns: &Columns,
    loss: Loss,
    place: &'static str,
    notices: &mut Vec<String>,
) -> Result<(Rows, Option<i64>), Error> {
    let width = columns.features.len();
    let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if total > MAX_ROWS {
        return Err(Error::TooManyRows { rows: total });
    }
    let mut features = Vec::with_capacity(total * width);
    let mut labels = Vec::with_capacity(total);
    let mut nulls = vec![0usize; width];
    let mut without_label = 0;
    let mut latest = None;
    let mut first_row = 0;
    for batch in batches {
        let schema = batch.schema();
        let label = columns::find(&schema, &columns.label, "label", place)?;
        let batch_labels = read_labels(&columns.label, batch.column(label))?;
        let start = features.len();
        features.resize(start + batch.num_rows() * width, 0.0);
        let matrix = &mut features[start..];
        for (column, name) in columns.features.iter().enumerate() {
            let index = columns::find(&schema, name, "feature", place)?;
            let mut wrong = None;
            columns::each(name, batch.column(index), |row, value| {
                matrix[row * width + column] = match value {
                    None => {
                        nulls[column] += 1;
                        f32::NAN
                    }
                    Some(value) => {
                        if !value.is_finite() {
                            wrong.get_or_insert((row, value));
                        }
                        value
                    }
                }
            })?;
            if let Some((row, value)) = wrong {
                return Err(columns::Error::NotFinite { column: name.clone(), row: first_row + row, value }.into());
            }
        }
        if let Some(time) = &columns.time {
            let index = columns::find(&schema, time, "time", place);
            // The test query need not carry the time.
            if place == TRAIN || index.is_ok() {
                latest = latest.max(latest_us(time, batch.column(index?))?);
            }
        }
        // Rows without a label are taken out again by moving the later ones up.
        let mut kept = start;
        for (row, label) in batch_labels.iter().enumerate() {
            match label {
                None => without_label += 1,
                Some(label) => {
                    let from = start + row * width;
                    features.copy_within(from..from + width, kept);
                    kept += width;
                    labels.push(check_label(*label, loss).map_err(|expected| Error::Label {
                        column: columns.label.clone(),
                        row: first_row + row,
                        place,
                        value: *label,
                        expected,
                    })?);
                }
            }
        }
        features.truncate(kept);
        first_row += batch.num_rows();
    }
    if labels.is_empty() {
        let without_label = format!(" with a label ({without_label} had none)");
        return Err(Error::NoRows { place, without_label });
    }
    for (name, nulls) in columns.features.iter().zip(nulls).filter(|(_, nulls)| *nulls > 0) {
        notices.push(format!(
            "{nulls} of {total} rows of {place} have no '{name}'; they count as its mean (as 0 if normalize is off)"
        ));
    }
    if without_label > 0 {
        notices.push(format!("{without_label} of {total} rows of {place} have no label and are left out"));
    }
    let targets = match loss {
        Loss::CrossEntropy => Targets::Classes(labels.into_iter().map(|label| label as u32).collect()),
        _ => Targets::Values(labels.into_iter().map(|label| label as f32).collect()),
    };
    Ok((Rows { features, targets }, latest))
}

fn read_labels(name: &str, array: &ArrayRef) -> Result<Vec<Option<f64>>, Error> {
    if !columns::is_feature(array.data_type()) {
        return Err(columns::Error::WrongType {
            column: name.to_string(),
            type_: array.data_type().clone(),
            what: "the label",
            expected: "a number or a boolean (number the classes from 0, for example with CASE)",
        }
        .into());
    }
    let array =
        cast(array, &DataType::Float64).map_err(|source| columns::Error::Cast { column: name.to_string(), source })?;
    Ok(array.as_primitive::<Float64Type>().iter().collect())
}

fn check_label(label: f64, loss: Loss) -> Result<f64, &'static str> {
    let (fits, expected) = match loss {
        Loss::CrossEntropy => (
            label >= 0.0 && label < f64::from(MAX_CLASSES) && label.fract() == 0.0,
            "classes are whole numbers from 0 on, below 100,000",
        ),
        Loss::BinaryCrossEntropy => (label == 0.0 || label == 1.0, "binary cross-entropy learns 0 and 1"),
        _ => ((label as f32).is_finite(), "it must be a finite number"),
    };
    if fits { Ok(label) } else { Err(expected) }
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
    let array = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))
        .map_err(|source| columns::Error::Cast { column: name.to_string(), source })?;
    Ok(arrow::compute::max(array.as_primitive::<TimestampMicrosecondType>()))
}

#[cfg(test)]
mod tests;
