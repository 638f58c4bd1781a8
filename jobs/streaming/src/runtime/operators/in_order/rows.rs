//! The rows of groups as columns: taken as they come, put together now and then, and sorted when a result is asked for.
//!
//! Invariant: rows that can matter no more go when as many rows have come as there were, so a call that looks at one end of
//! its order keeps but the rows at that end.

use super::layout::{Keep, Layout};
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array, new_empty_array};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field};
use datafusion::common::HashSet;
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

#[derive(Debug)]
pub struct Rows {
    pub layout: Layout,
    parts: Vec<Part>,
    n_rows: usize,
    /// How many there were when they were put together.
    n_settled: usize,
    n_groups: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Part {
    /// By row.
    groups: Vec<u32>,
    /// By kept column.
    columns: Vec<ArrayRef>,
}

/// Rows in the order of their groups, those of a group together.
pub struct Sorted {
    pub columns: Vec<ArrayRef>,
    /// By place in the order: the row.
    pub rows: Vec<u32>,
    /// By group: where its rows end.
    pub ends: Vec<usize>,
}

impl Sorted {
    /// By group: where its rows begin and end.
    pub fn ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied())
    }

    /// A kept column in the order.
    pub fn column(&self, at: usize) -> Result<ArrayRef> {
        Ok(take(&self.columns[at], &UInt32Array::from(self.rows.clone()), None)?)
    }

    /// By row: its group.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.ranges().enumerate().flat_map(|(group, (start, end))| std::iter::repeat_n(group, end - start))
    }
}

impl Rows {
    pub fn new(layout: Layout) -> Self {
        Self { layout, parts: Vec::new(), n_rows: 0, n_settled: 0, n_groups: 0, bytes: 0 }
    }

    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// Takes the rows of a batch that the filter lets through.
    pub fn add(
        &mut self,
        came: &[ArrayRef],
        groups: &[usize],
        passes: Option<&BooleanArray>,
        n_groups: usize,
    ) -> Result<()> {
        let columns = self.layout.from.iter().map(|at| Arc::clone(&came[*at]));
        let groups = groups.iter().map(|group| *group as u32);
        let part = match self.mask(came, passes) {
            None => Part { groups: groups.collect(), columns: columns.collect() },
            Some(mask) => {
                let groups = groups.zip(mask.iter()).filter(|(_, stays)| *stays).map(|(group, _)| group).collect();
                let mask = BooleanArray::new(mask, None);
                Part { groups, columns: columns.map(|column| Ok(filter(&column, &mask)?)).collect::<Result<_>>()? }
            }
        };
        self.push(part, n_groups)
    }

    /// The rows that count; none at all: every row.
    fn mask(&self, came: &[ArrayRef], passes: Option<&BooleanArray>) -> Option<BooleanBuffer> {
        let mut mask = passes.map(|passes| match passes.nulls() {
            Some(nulls) => passes.values() & nulls.inner(),
            None => passes.values().clone(),
        });
        if self.layout.skips_nulls
            && let Some(nulls) = came.first().and_then(|column| column.logical_nulls())
        {
            mask = Some(mask.map_or_else(|| nulls.inner().clone(), |mask| &mask & nulls.inner()));
        }
        mask.filter(|mask| mask.count_set_bits() < mask.len())
    }

    /// As [`Rows::lists`], of rows that are groups of their own.
    pub fn lists_of_each(&self, came: &[ArrayRef], passes: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mask = self.mask(came, passes);
        let lengths: Vec<usize> = match (&mask, came.first()) {
            (Some(mask), _) => mask.iter().map(usize::from).collect(),
            (None, Some(column)) => vec![1; column.len()],
            (None, None) => Vec::new(),
        };
        let mask = mask.map(|mask| BooleanArray::new(mask, None));
        let column = |kept: usize| {
            let column = &came[self.layout.from[kept]];
            Ok(mask.as_ref().map_or_else(|| Ok(Arc::clone(column)), |mask| filter(column, mask))?)
        };
        self.as_lists(&lengths, column)
    }

    /// Takes what [`Rows::lists`] gave; by list the group that it is of now.
    pub fn merge(&mut self, lists: &[ArrayRef], groups: &[usize], n_groups: usize) -> Result<()> {
        let list = |at: &usize| match lists[*at].as_list_opt::<i32>() {
            Some(list) if list.null_count() == 0 => Ok(list),
            _ => Err(DataFusionError::Internal(format!("rows in an order as {}", lists[*at].data_type()))),
        };
        let lists = self.layout.from.iter().map(list).collect::<Result<Vec<_>>>()?;
        let Some(offsets) = lists.first().map(|list| list.value_offsets()) else { return Ok(()) };
        let lengths = offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
        let groups: Vec<u32> =
            groups.iter().zip(lengths).flat_map(|(group, n)| std::iter::repeat_n(*group as u32, n)).collect();
        let values = |list: &&ListArray| {
            let offsets = list.value_offsets();
            let start = offsets[0] as usize;
            list.values().slice(start, offsets[list.len()] as usize - start)
        };
        let columns: Vec<ArrayRef> = lists.iter().map(values).collect();
        if columns.iter().any(|column| column.len() != groups.len()) {
            return Err(DataFusionError::Internal("lists of rows that differ in length".into()));
        }
        self.push(Part { groups, columns }, n_groups)
    }

    /// There are so many groups, whether rows have come for them or not.
    pub fn has_groups(&mut self, n_groups: usize) {
        self.n_groups = self.n_groups.max(n_groups);
    }

    fn push(&mut self, part: Part, n_groups: usize) -> Result<()> {
        self.has_groups(n_groups);
        if part.groups.is_empty() {
            return Ok(());
        }
        self.n_rows += part.groups.len();
        self.bytes += part.memory_bytes();
        self.parts.push(part);
        if self.n_rows - self.n_settled >= self.n_settled.max(BATCH_ROWS) {
            self.settle()?;
        }
        Ok(())
    }

    /// Puts the rows together, without those that can matter no more.
    fn settle(&mut self) -> Result<()> {
        let sorted = if self.layout.prunes() { self.sorted()? } else { self.by_group()? };
        let groups = sorted.groups().map(|group| group as u32).collect();
        let columns = (0..sorted.columns.len()).map(|at| sorted.column(at)).collect::<Result<_>>()?;
        self.put(Part { groups, columns });
        Ok(())
    }

    fn put(&mut self, part: Part) {
        self.n_rows = part.groups.len();
        self.n_settled = self.n_rows;
        self.bytes = part.memory_bytes();
        self.parts = vec![part];
    }

    /// Groups from 0 on, with their rows as they came.
    fn by_group(&mut self) -> Result<Sorted> {
        let mut ends = vec![0; self.n_groups];
        let Part { groups, columns } = self.whole()?;
        groups.iter().for_each(|group| ends[*group as usize] += 1);
        let mut n_before = 0;
        for end in &mut ends {
            n_before += std::mem::replace(end, n_before);
        }
        // Each group's place is its start now, and goes to its end.
        let mut rows = vec![0; groups.len()];
        for (row, group) in groups.iter().enumerate() {
            let place = &mut ends[*group as usize];
            rows[*place] = row as u32;
            *place += 1;
        }
        Ok(Sorted { columns: columns.clone(), rows, ends })
    }

    /// Groups from 0 on, with their rows in order, without those that can matter no more.
    pub fn sorted(&mut self) -> Result<Sorted> {
        let mut sorted = self.by_group()?;
        if sorted.rows.is_empty() {
            return Ok(sorted);
        }
        let keys = self.layout.keys(&sorted.columns)?;
        let ranges: Vec<(usize, usize)> = sorted.ranges().collect();
        for (start, end) in &ranges {
            let rows = &mut sorted.rows[*start..*end];
            // Rows mostly come in about the order in which they are wanted.
            rows.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        }
        if self.layout.prunes() {
            self.prune(&mut sorted, &ranges)?;
        }
        Ok(sorted)
    }

    fn prune(&self, sorted: &mut Sorted, ranges: &[(usize, usize)]) -> Result<()> {
        let differences = self.layout.differences(&sorted.columns)?;
        let mut seen = HashSet::new();
        let (mut kept, mut of_group) = (Vec::new(), Vec::new());
        for (group, (start, end)) in ranges.iter().enumerate() {
            let rows = &sorted.rows[*start..*end];
            let rows = match &differences {
                None => rows,
                Some(differences) => {
                    seen.clear();
                    of_group.clear();
                    of_group.extend(rows.iter().filter(|row| seen.insert(differences.row(**row as usize))));
                    &of_group[..]
                }
            };
            kept.extend_from_slice(match self.layout.keep {
                Keep::All => rows,
                Keep::First(n) => &rows[..n.min(rows.len())],
                Keep::Last(n) => &rows[rows.len().saturating_sub(n)..],
            });
            sorted.ends[group] = kept.len();
        }
        sorted.rows = kept;
        Ok(())
    }

    /// All rows as one part.
    fn whole(&mut self) -> Result<&Part> {
        if self.parts.len() != 1 {
            let parts = std::mem::take(&mut self.parts);
            let column = |at: usize| match parts.is_empty() {
                true => Ok(new_empty_array(&self.layout.types[at])),
                false => Ok(concat(&parts.iter().map(|part| part.columns[at].as_ref()).collect::<Vec<_>>())?),
            };
            let columns = (0..self.layout.types.len()).map(column).collect::<Result<_>>()?;
            let groups = parts.into_iter().flat_map(|part| part.groups).collect();
            self.put(Part { groups, columns });
        }
        Ok(&self.parts[0])
    }

    /// Forgets the first `n` groups; the others are numbered from 0 on.
    pub fn drop_first(&mut self, n: usize) -> Result<()> {
        if n >= self.n_groups {
            (self.parts, self.n_rows, self.n_settled, self.bytes) = (Vec::new(), 0, 0, 0);
            self.n_groups = 0;
            return Ok(());
        }
        let Part { groups, columns } = self.whole()?;
        let stays = BooleanBuffer::collect_bool(groups.len(), |row| groups[row] as usize >= n);
        let stays = BooleanArray::new(stays, None);
        let columns = columns.iter().map(|column| Ok(filter(column, &stays)?)).collect::<Result<_>>()?;
        let groups = groups.iter().filter(|group| **group as usize >= n).map(|group| group - n as u32).collect();
        self.put(Part { groups, columns });
        self.n_groups -= n;
        Ok(())
    }

    /// By column that comes, a list for each of the first `n` groups; those of columns that are not kept are empty.
    pub fn lists(&mut self, n: usize) -> Result<Vec<ArrayRef>> {
        let mut sorted = if self.layout.prunes() { self.sorted()? } else { self.by_group()? };
        sorted.ends.truncate(n);
        sorted.rows.truncate(sorted.ends.last().copied().unwrap_or(0));
        let lengths: Vec<usize> = sorted.ranges().map(|(start, end)| end - start).collect();
        self.as_lists(&lengths, |kept| sorted.column(kept))
    }

    fn as_lists(&self, lengths: &[usize], column: impl Fn(usize) -> Result<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let list = |(at, data_type): (usize, &DataType)| -> Result<ArrayRef> {
            let field = Arc::new(Field::new_list_field(data_type.clone(), true));
            let (offsets, values) = match self.layout.from.iter().position(|from| *from == at) {
                Some(kept) => (OffsetBuffer::from_lengths(lengths.iter().copied()), column(kept)?),
                None => (OffsetBuffer::new_zeroed(lengths.len()), new_empty_array(data_type)),
            };
            Ok(Arc::new(ListArray::try_new(field, offsets, values, None)?))
        };
        self.layout.came.iter().enumerate().map(list).collect()
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.layout.memory_bytes()
    }
}

impl Part {
    fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| column.get_array_memory_size());
        self.groups.capacity() * size_of::<u32>() + columns.sum::<usize>()
    }
}
