//! What a row should be answered with: a number, 0 or 1, or a class by its number or its name; of lists, one for each place.
//!
//! Invariant: a row has all of its labels or none; a label that the loss cannot learn is refused with its row.

use crate::columns;
use crate::loss::Targets;
use crate::values::{self, NO_WORD};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use jobs::train::Loss;
use std::collections::HashMap;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Values(#[from] values::Error),
    #[error("use {value} in row {row} of {place} as label '{column}': {expected}")]
    Label { column: String, row: usize, place: &'static str, value: String, expected: &'static str },
    #[error("learn to tell classes apart: label '{column}' is {class} in all {rows} training rows")]
    OneClass { column: String, class: String, rows: usize },
    #[error("use lists as label '{column}': only cross_entropy learns one class for each place")]
    Lists { column: String },
}

/// More than this is far more often an id taken for a class than a real set of classes.
const MAX_CLASSES: u32 = 100_000;

/// Reads the labels, a batch at a time.
pub struct Labels<'a> {
    column: &'a str,
    loss: Loss,
    /// For error texts.
    place: &'static str,
    /// Labels of each row.
    places: Option<usize>,
    rows: usize,
    numbers: Vec<Option<f64>>,
    /// Places in `words`, where labels are texts.
    texts: Vec<u32>,
    words: HashMap<String, u32>,
}

/// The labels of the rows that have some.
pub struct Found {
    pub targets: Targets,
    pub places: usize,
    /// Rows that have a label; `None` for all.
    pub kept: Option<Vec<u32>>,
    /// Names of the classes, sorted, where labels are texts.
    pub classes: Vec<String>,
}

impl<'a> Labels<'a> {
    pub fn new(column: &'a str, loss: Loss, place: &'static str) -> Self {
        let (numbers, texts) = (Vec::new(), Vec::new());
        Self { column, loss, place, places: None, rows: 0, numbers, texts, words: HashMap::new() }
    }

    pub fn add(&mut self, array: &ArrayRef) -> Result<(), Error> {
        if array.is_empty() {
            return Ok(());
        }
        let type_ = columns::element(array.data_type());
        let is_text = matches!(type_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let wrong = |expected| {
            let (column, type_) = (self.column.to_string(), array.data_type().clone());
            Error::Values(columns::Error::WrongType { column, type_, what: "the label", expected }.into())
        };
        if is_text && self.loss != Loss::CrossEntropy {
            return Err(wrong("a number or a boolean (make one of a text with CASE; classes may be texts)"));
        }
        if !is_text && !columns::is_feature(type_) {
            return Err(wrong("a number, a boolean or a text that names a class"));
        }
        let flat = values::flatten(self.column, array, &mut self.places, self.rows)?;
        if self.places.is_some_and(|places| places > 1) && self.loss != Loss::CrossEntropy {
            return Err(Error::Lists { column: self.column.to_string() });
        }
        if is_text {
            for text in values::texts(self.column, &flat)?.iter() {
                let next = self.words.len() as u32;
                self.texts.push(match text {
                    Some(text) => *self.words.entry(text.to_string()).or_insert(next),
                    None => NO_WORD,
                });
            }
        } else {
            let numbers = values::convert(self.column, &flat, &DataType::Float64, "numbers")?;
            self.numbers.extend(numbers.as_primitive::<Float64Type>().iter());
        }
        self.rows += array.len();
        Ok(())
    }

    /// `classes` are those of the training rows, where this reads others.
    pub fn finish(mut self, classes: Option<&[String]>) -> Result<Found, Error> {
        let mut names = Vec::new();
        if !self.texts.is_empty() {
            let (words, places) = values::sorted(std::mem::take(&mut self.words), std::mem::take(&mut self.texts));
            names = classes.map_or_else(|| words.to_vec(), <[String]>::to_vec);
            let class_of: HashMap<&str, usize> =
                names.iter().enumerate().map(|(class, name)| (name.as_str(), class)).collect();
            for (at, place) in places.iter().enumerate() {
                let Some(word) = words.get(*place as usize) else {
                    self.numbers.push(None);
                    continue;
                };
                let class = class_of.get(word.as_str()).ok_or_else(|| {
                    let row = at / self.places.unwrap_or(1);
                    self.wrong(row, format!("'{word}'"), "no training row has this class")
                })?;
                self.numbers.push(Some(*class as f64));
            }
        }
        let places = self.places.unwrap_or(1);
        let mut labels = Vec::with_capacity(self.numbers.len());
        let mut kept = Vec::with_capacity(self.rows);
        for (row, of_row) in self.numbers.chunks_exact(places).enumerate() {
            if of_row.iter().all(Option::is_none) {
                continue;
            }
            for label in of_row {
                let Some(label) = label else {
                    return Err(self.wrong(
                        row,
                        "a list with nothing at a place".to_string(),
                        "each place has a label",
                    ));
                };
                if let Err(expected) = fits(*label, self.loss) {
                    return Err(self.wrong(row, label.to_string(), expected));
                }
                labels.push(*label);
            }
            kept.push(row as u32);
        }
        let targets = match self.loss {
            Loss::CrossEntropy => Targets::Classes(labels.into_iter().map(|label| label as u32).collect()),
            _ => Targets::Values(labels.into_iter().map(|label| label as f32).collect()),
        };
        let kept = (kept.len() < self.rows).then_some(kept);
        Ok(Found { targets, places, kept, classes: names })
    }

    fn wrong(&self, row: usize, value: String, expected: &'static str) -> Error {
        Error::Label { column: self.column.to_string(), row, place: self.place, value, expected }
    }
}

fn fits(label: f64, loss: Loss) -> Result<(), &'static str> {
    let (fits, expected) = match loss {
        Loss::CrossEntropy => (
            label >= 0.0 && label < f64::from(MAX_CLASSES) && label.fract() == 0.0,
            "classes are whole numbers from 0 on, below 100,000",
        ),
        Loss::BinaryCrossEntropy => (label == 0.0 || label == 1.0, "binary cross-entropy learns 0 and 1"),
        Loss::Hinge => (label == 0.0 || label == 1.0, "hinge learns 0 and 1"),
        Loss::MeanSquaredError | Loss::MeanAbsoluteError | Loss::Huber { .. } => {
            ((label as f32).is_finite(), "it must be a finite number")
        }
    };
    if fits { Ok(()) } else { Err(expected) }
}

/// How many outputs a network needs for these labels of the training rows.
pub fn outputs(targets: &Targets, loss: Loss, label: &str, classes: &[String]) -> Result<usize, Error> {
    let one_class = |class: String| Error::OneClass { column: label.to_string(), class, rows: targets.len() };
    match targets {
        Targets::Classes(found) => {
            let largest = found.iter().copied().max().unwrap_or(0);
            if found.iter().all(|class| *class == largest) {
                return Err(one_class(classes.get(largest as usize).cloned().unwrap_or_else(|| largest.to_string())));
            }
            Ok(classes.len().max(largest as usize + 1))
        }
        Targets::Values(values) => {
            let yes_or_no = matches!(loss, Loss::BinaryCrossEntropy | Loss::Hinge);
            if yes_or_no && values.windows(2).all(|pair| pair[0] == pair[1]) {
                return Err(one_class(values.first().copied().unwrap_or_default().to_string()));
            }
            Ok(1)
        }
    }
}
