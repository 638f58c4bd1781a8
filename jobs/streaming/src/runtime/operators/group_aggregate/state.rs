//! What the states of all aggregates have in common.

use crate::runtime::operators::stateful::external;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use std::fmt::Debug;

/// The rows of a batch, as every aggregate sees them.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// By row: its group.
    pub groups: &'a [usize],
    /// By row; absent where all are one.
    pub weights: Option<&'a [i8]>,
}

impl Rows<'_> {
    /// Calls with group, row and weight of each row in the mask; without a mask of all.
    #[inline(always)]
    pub fn each(&self, mask: Option<&BooleanBuffer>, mut take: impl FnMut(usize, usize, i64)) {
        match (mask, self.weights) {
            (None, None) => self.groups.iter().enumerate().for_each(|(row, group)| take(*group, row, 1)),
            (None, Some(weights)) => {
                let rows = self.groups.iter().zip(weights).enumerate();
                rows.for_each(|(row, (group, weight))| take(*group, row, i64::from(*weight)));
            }
            (Some(mask), None) => mask.set_indices().for_each(|row| take(self.groups[row], row, 1)),
            (Some(mask), Some(weights)) => {
                mask.set_indices().for_each(|row| take(self.groups[row], row, i64::from(weights[row])));
            }
        }
    }
}

/// The rows that the filter lets through and in which no argument is null; none at all: every row.
pub fn mask(filter: Option<&BooleanArray>, arguments: &[ArrayRef]) -> Option<BooleanBuffer> {
    let mut mask = filter.map(|filter| filter.values().clone());
    for nulls in arguments.iter().filter_map(|argument| argument.logical_nulls()) {
        if nulls.null_count() > 0 {
            mask = Some(mask.map_or_else(|| nulls.inner().clone(), |mask| &mask & nulls.inner()));
        }
    }
    mask
}

/// The state of one aggregate, or of several that share it, for all groups. Groups are numbered from 0 on.
///
/// Invariant: the state of a group is a sum over its rows by weight, so that it does not matter in which order they came,
/// and a group whose rows cancel out is as if it had never been.
pub trait State: Debug + Send {
    /// Makes room for this many groups; the new ones are empty.
    fn grow(&mut self, n_groups: usize);

    /// `filters`: one for each aggregate that shares the state; they hold no nulls.
    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()>;

    /// The results for these groups, one column for each aggregate that shares the state. Takes nothing away.
    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>>;

    /// Whether the group's rows do not cancel out, as far as this state can tell.
    fn holds(&self, group: usize) -> bool;

    /// Forgets what rounding left of a group that holds nothing.
    fn clear(&mut self, _group: usize) {}

    /// Keeps these groups, numbered in this order; the others hold nothing.
    fn keep(&mut self, groups: &[usize]);

    /// Forgets the groups that are marked, whatever they hold; `gone` by group.
    fn forget(&mut self, gone: &[bool]);

    /// Gives memory back that is no longer needed.
    fn tidy(&mut self) {}

    fn memory_bytes(&self) -> usize;

    /// The columns of [`State::save`].
    fn types(&self) -> Vec<DataType>;

    /// A row for each of these groups.
    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>>;

    /// Takes back what [`State::save`] gave; `groups` by row.
    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()>;

    /// The columns of [`State::save_entries`]: what there is any number of in a group.
    fn entry_types(&self) -> Vec<DataType> {
        Vec::new()
    }

    /// Gives the entries of these groups, in parts: for each entry the position of its group in `groups`, and columns.
    fn save_entries(&self, _groups: &[usize], _part: &mut EntryPart<'_>) -> Result<()> {
        Ok(())
    }

    /// Takes entries back; `groups` by row.
    fn load_entries(&mut self, _groups: &[usize], _columns: &[ArrayRef]) -> Result<()> {
        Ok(())
    }
}

/// Takes the positions of the groups and the columns of some entries.
pub type EntryPart<'a> = dyn FnMut(Vec<u32>, Vec<ArrayRef>) -> Result<()> + 'a;

/// Entries are saved in parts of about this many, so that their columns need not be built all at once.
pub const PART_ENTRIES: usize = 65_536;

/// The column as what it must be, or an error.
pub fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    column
        .as_primitive_opt::<T>()
        .ok_or_else(|| external(Mismatch { found: column.data_type().clone(), expected: T::DATA_TYPE }))
}

/// The only argument, or the only column of a state.
pub fn only(columns: &[ArrayRef]) -> Result<&ArrayRef> {
    match columns {
        [column] => Ok(column),
        _ => Err(DataFusionError::Internal(format!("{} columns where one is expected", columns.len()))),
    }
}

/// The marked groups.
pub fn marked(gone: &[bool]) -> impl Iterator<Item = usize> {
    gone.iter().enumerate().filter(|(_, gone)| **gone).map(|(group, _)| group)
}

/// Values of the kept groups, in their order.
pub fn kept<T: Clone>(values: &[T], groups: &[usize]) -> Vec<T> {
    groups.iter().map(|group| values[*group].clone()).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("aggregate a column of type {found} as {expected}")]
struct Mismatch {
    found: DataType,
    expected: DataType,
}
