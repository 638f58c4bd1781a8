//! The values of one input as they come out of the columns: numbers, ids, or places in a sorted list of words.
//!
//! Invariant: training and scoring read through here, so that equal columns are equal values in both. What is learned from
//! values (means, words, boundaries) is not known here. A column may hold lists, all of one length: then each row has so many
//! values. Whole numbers never pass through f32 unless they are read as numbers.

use crate::columns;
use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, StringArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use jobs::train::{Input, Preprocess};
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Column(#[from] columns::Error),
    #[error("use row {row} of column '{column}': it holds {value}; filter such rows out or replace the value")]
    NotFinite { column: String, row: usize, value: f32 },
    #[error("use row {row} of column '{column}': it holds {value}; ids are whole numbers from 0 to {}", size - 1)]
    Id { column: String, row: usize, value: String, size: usize },
    #[error(
        "use row {row} of column '{column}': its list has {got} values, others have {expected}; pad or cut the lists"
    )]
    Length { column: String, row: usize, got: usize, expected: usize },
    #[error("use column '{column}': its lists are empty")]
    EmptyLists { column: String },
    #[error("use input '{input}' with dims {dims:?}: its columns have {values} values in a row")]
    Dims { input: String, dims: Vec<usize>, values: usize },
    #[error("read column '{column}' as {what}")]
    Cast { column: String, what: &'static str, source: arrow::error::ArrowError },
}

/// Stands for an absent number until preprocessing fills it in. No number that was read has these bits.
pub const ABSENT: f32 = f32::from_bits(0x7fc0_0000);
/// What a NaN in a column becomes, whatever its bits were.
const NOT_A_NUMBER: f32 = f32::from_bits(0x7fc0_0001);

pub fn is_absent(value: f32) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// Stands for an absent word.
pub const NO_WORD: u32 = u32::MAX;

/// Row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Reals(Vec<f32>),
    Ids(Vec<u32>),
    /// Places in the list of words, which is sorted and has each word once.
    Words {
        places: Vec<u32>,
        words: Arc<Vec<String>>,
    },
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::Reals(values) => values.len(),
            Self::Ids(values) | Self::Words { places: values, .. } => values.len(),
        }
    }

    /// These rows of `width` values, in this order.
    pub fn select(&self, rows: &[u32], width: usize) -> Self {
        match self {
            Self::Reals(values) => Self::Reals(select(values, rows, width)),
            Self::Ids(values) => Self::Ids(select(values, rows, width)),
            Self::Words { places, words } => {
                Self::Words { places: select(places, rows, width), words: Arc::clone(words) }
            }
        }
    }
}

fn select<T: Copy>(values: &[T], rows: &[u32], width: usize) -> Vec<T> {
    let mut selected = Vec::with_capacity(rows.len() * width);
    for row in rows {
        let start = *row as usize * width;
        selected.extend_from_slice(&values[start..start + width]);
    }
    selected
}

/// Where a value goes by [`Preprocess::Hash`]: xxh3 of its text with the column's number as the seed. Kept by every model
/// that was trained, so it never changes. An absent value hashes as a byte that stands in no text.
pub fn bucket(column: usize, text: Option<&str>, buckets: usize) -> u32 {
    let bytes = text.map_or(&[0xff][..], str::as_bytes);
    (xxh3_64_with_seed(bytes, column as u64) % buckets as u64) as u32
}

/// How much of the values is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// NaN and infinities are refused: they would spoil all weights.
    Training,
    /// They come out as they went in: they spoil one score.
    Scoring,
}

/// Puts the columns of one input together, a batch at a time.
pub struct Reading<'a> {
    input: &'a Input,
    strictness: Strictness,
    /// Values per row of each column; `None` before the first row of lists.
    widths: Vec<Option<usize>>,
    /// Absent values of each column.
    pub nulls: Vec<usize>,
    rows: usize,
    reals: Vec<f32>,
    /// Ids, or places in `words`.
    wholes: Vec<u32>,
    words: HashMap<String, u32>,
}

impl<'a> Reading<'a> {
    /// `widths` are those of the columns where they are known already.
    pub fn new(input: &'a Input, widths: Option<&[usize]>, strictness: Strictness) -> Self {
        let widths = match widths {
            Some(widths) => widths.iter().map(|width| Some(*width)).collect(),
            None => vec![None; input.columns.len()],
        };
        let nulls = vec![0; input.columns.len()];
        let (reals, wholes) = (Vec::new(), Vec::new());
        Self { input, strictness, widths, nulls, rows: 0, reals, wholes, words: HashMap::new() }
    }

    /// Adds rows; `columns` in the order of the input's.
    pub fn add(&mut self, columns: &[&ArrayRef]) -> Result<(), Error> {
        let rows = columns.first().map_or(0, |column| column.len());
        if rows == 0 {
            return Ok(());
        }
        let mut flat = Vec::with_capacity(columns.len());
        for (index, array) in columns.iter().enumerate() {
            let name = &self.input.columns[index];
            columns::fits(name, array.data_type(), &self.input.step)?;
            flat.push(flatten(name, array, &mut self.widths[index], self.rows)?);
        }
        let width: usize = self.widths.iter().flatten().sum();
        let all_rows = self.rows + rows;
        match self.input.step {
            Preprocess::Numbers | Preprocess::Normalize | Preprocess::Buckets { .. } => {
                self.reals.resize(all_rows * width, ABSENT);
            }
            _ => self.wholes.resize(all_rows * width, NO_WORD),
        }
        let mut offset = 0;
        for (index, array) in flat.iter().enumerate() {
            let size = self.widths[index].unwrap_or(1);
            let place = Cells { first: self.rows * width + offset, stride: width, size, first_row: self.rows };
            self.column(index, array, place)?;
            offset += size;
        }
        self.rows = all_rows;
        Ok(())
    }

    fn column(&mut self, index: usize, array: &ArrayRef, place: Cells) -> Result<(), Error> {
        let name = &self.input.columns[index];
        self.nulls[index] += array.null_count();
        match self.input.step {
            Preprocess::Numbers | Preprocess::Normalize | Preprocess::Buckets { .. } => {
                let numbers = convert(name, array, &DataType::Float32, "numbers")?;
                let numbers = numbers.as_primitive::<Float32Type>();
                for (at, value) in numbers.iter().enumerate() {
                    self.reals[place.of(at)] = match value {
                        None => ABSENT,
                        Some(value) if value.is_finite() => value,
                        Some(value) if self.strictness == Strictness::Training => {
                            return Err(Error::NotFinite { column: name.clone(), row: place.row(at), value });
                        }
                        Some(value) if value.is_nan() => NOT_A_NUMBER,
                        Some(value) => value,
                    };
                }
            }
            Preprocess::Ids { size } => {
                ids(name, array, size, |at, id| self.wholes[place.of(at)] = id, |at| place.row(at))?;
            }
            Preprocess::Hash { buckets } => {
                let texts = texts(name, array)?;
                for (at, text) in texts.iter().enumerate() {
                    self.wholes[place.of(at)] = bucket(index, text, buckets);
                }
            }
            Preprocess::Vocabulary { .. } | Preprocess::OneHot { .. } => {
                let texts = texts(name, array)?;
                for (at, text) in texts.iter().enumerate() {
                    let Some(text) = text else { continue };
                    let next = self.words.len() as u32;
                    let known = match self.words.get(text) {
                        Some(known) => *known,
                        None => *self.words.entry(text.to_string()).or_insert(next),
                    };
                    self.wholes[place.of(at)] = known;
                }
            }
        }
        Ok(())
    }

    /// The values, and how many of them each column has in a row.
    pub fn finish(self) -> (Values, Vec<usize>) {
        let widths = self.widths.iter().map(|width| width.unwrap_or(1)).collect();
        let values = match self.input.step {
            Preprocess::Numbers | Preprocess::Normalize | Preprocess::Buckets { .. } => Values::Reals(self.reals),
            Preprocess::Ids { .. } | Preprocess::Hash { .. } => Values::Ids(self.wholes),
            Preprocess::Vocabulary { .. } | Preprocess::OneHot { .. } => {
                let (words, places) = sorted(self.words, self.wholes);
                Values::Words { places, words: Arc::new(words) }
            }
        };
        (values, widths)
    }
}

/// Words in an order of their own, which is that of no arrival, and the places in it.
pub fn sorted(found: HashMap<String, u32>, mut places: Vec<u32>) -> (Vec<String>, Vec<u32>) {
    let mut by_word: Vec<(String, u32)> = found.into_iter().collect();
    by_word.sort_unstable();
    let mut place_of = vec![0; by_word.len()];
    for (place, (_, found)) in by_word.iter().enumerate() {
        place_of[*found as usize] = place as u32;
    }
    for place in places.iter_mut().filter(|place| **place != NO_WORD) {
        *place = place_of[*place as usize];
    }
    (by_word.into_iter().map(|(word, _)| word).collect(), places)
}

/// Where the values of one column go among those of all columns of the input.
#[derive(Clone, Copy)]
struct Cells {
    first: usize,
    stride: usize,
    size: usize,
    first_row: usize,
}

impl Cells {
    fn of(self, at: usize) -> usize {
        self.first + at / self.size * self.stride + at % self.size
    }

    fn row(self, at: usize) -> usize {
        self.first_row + at / self.size
    }
}

/// The values of a column one after the other: `width` of each row, which the first row decides unless it is known.
pub fn flatten(name: &str, array: &ArrayRef, width: &mut Option<usize>, first_row: usize) -> Result<ArrayRef, Error> {
    match array.data_type() {
        DataType::List(_) => flatten_lists::<i32>(name, array, width, first_row),
        DataType::LargeList(_) => flatten_lists::<i64>(name, array, width, first_row),
        DataType::FixedSizeList(_, size) => {
            let lists = array.as_fixed_size_list();
            let size = *size as usize;
            let row = |row: usize| lists.is_valid(row).then(|| (lists.value_offset(row) as usize, size));
            flatten_by(name, lists.values(), (lists.len(), row), width, first_row)
        }
        _ => {
            let expected = *width.get_or_insert(1);
            if expected != 1 {
                return Err(Error::Length { column: name.to_string(), row: first_row, got: 1, expected });
            }
            Ok(Arc::clone(array))
        }
    }
}

fn flatten_lists<O: OffsetSizeTrait>(
    name: &str,
    array: &ArrayRef,
    width: &mut Option<usize>,
    first_row: usize,
) -> Result<ArrayRef, Error> {
    let lists = array.as_list::<O>();
    let offsets = lists.value_offsets();
    let row = |row: usize| {
        let (start, end) = (offsets[row].as_usize(), offsets[row + 1].as_usize());
        lists.is_valid(row).then_some((start, end - start))
    };
    flatten_by(name, lists.values(), (lists.len(), row), width, first_row)
}

/// `list` gives start and length of a row's list, `None` for a null.
fn flatten_by(
    name: &str,
    values: &ArrayRef,
    (rows, list): (usize, impl Fn(usize) -> Option<(usize, usize)>),
    width: &mut Option<usize>,
    first_row: usize,
) -> Result<ArrayRef, Error> {
    let column = || name.to_string();
    let mut indices: Vec<Option<u64>> = Vec::new();
    let mut together = Some(0);
    for row in 0..rows {
        let Some((start, got)) = list(row) else {
            together = None;
            continue;
        };
        let expected = *width.get_or_insert(got);
        if expected == 0 {
            return Err(Error::EmptyLists { column: column() });
        }
        if got != expected {
            return Err(Error::Length { column: column(), row: first_row + row, got, expected });
        }
        // Lists without gaps between them need no copy.
        together = match together {
            Some(0) if row == 0 => Some(start),
            Some(first) if start == first + row * expected => Some(first),
            _ => None,
        };
    }
    let Some(width) = *width else {
        return Err(Error::EmptyLists { column: column() });
    };
    if let Some(first) = together {
        return Ok(values.slice(first, rows * width));
    }
    for row in 0..rows {
        let start = list(row).map(|(start, _)| start);
        indices.extend((0..width).map(|at| start.map(|start| (start + at) as u64)));
    }
    take(values, &UInt64Array::from(indices), None).map_err(|source| Error::Cast {
        column: column(),
        what: "lists",
        source,
    })
}

/// Fails where a value does not fit, rather than making it absent.
pub fn convert(name: &str, array: &ArrayRef, to: &DataType, what: &'static str) -> Result<ArrayRef, Error> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|source| Error::Cast { column: name.to_string(), what, source })
}

/// Whole numbers as they are written, booleans as true and false, texts as they are.
pub fn texts(name: &str, array: &ArrayRef) -> Result<StringArray, Error> {
    Ok(convert(name, array, &DataType::Utf8, "texts")?.as_string::<i32>().clone())
}

fn ids(
    name: &str,
    array: &ArrayRef,
    size: usize,
    mut put: impl FnMut(usize, u32),
    row: impl Fn(usize) -> usize,
) -> Result<(), Error> {
    let wrong = |at: usize, value: String| Error::Id { column: name.to_string(), row: row(at), value, size };
    let mut check = |at: usize, whole: Option<u64>, shown: &dyn Fn() -> String| match whole {
        Some(id) if id < size as u64 && id < u64::from(u32::MAX) => {
            put(at, id as u32);
            Ok(())
        }
        _ => Err(wrong(at, shown())),
    };
    if array.null_count() > 0 {
        let at = (0..array.len()).find(|at| array.is_null(*at)).unwrap_or_default();
        return Err(wrong(at, "nothing".to_string()));
    }
    match array.data_type() {
        DataType::UInt64 => {
            for (at, value) in array.as_primitive::<UInt64Type>().values().iter().enumerate() {
                check(at, Some(*value), &|| value.to_string())?;
            }
        }
        type_ if type_.is_integer() || *type_ == DataType::Boolean => {
            let wholes = convert(name, array, &DataType::Int64, "whole numbers")?;
            for (at, value) in wholes.as_primitive::<Int64Type>().values().iter().enumerate() {
                check(at, u64::try_from(*value).ok(), &|| value.to_string())?;
            }
        }
        _ => {
            let numbers = convert(name, array, &DataType::Float64, "numbers")?;
            for (at, value) in numbers.as_primitive::<Float64Type>().values().iter().enumerate() {
                let whole = (value.fract() == 0.0 && *value >= 0.0).then_some(*value as u64);
                check(at, whole, &|| value.to_string())?;
            }
        }
    }
    Ok(())
}
