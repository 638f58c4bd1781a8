//! How many different values there are: one map over group and value for all aggregates that count the same values under
//! different filters, so that a row costs one look-up and not one for each of them.

use super::coding::Coding;
use super::state::{EntryPart, PART_ENTRIES, Rows, State, kept, marked, mask, primitive};
use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::sync::Arc;

/// As many as there are bits in [`Value::cell`].
pub const MAX_SHARING: usize = 32;

/// Tables with room for fewer values than this are left as they are.
const SHRINK_VALUES: usize = 4096;

/// What an allocation costs beside its bytes, roughly.
const ALLOCATION_BYTES: usize = 16;

/// A value of a group.
#[derive(Debug)]
struct Value<K> {
    group: u32,
    /// Where rows are never taken back: a bit for each aggregate that has seen the value. Otherwise the place of its counts.
    cell: u32,
    key: K,
}

#[derive(Debug)]
pub struct Distinct<C: Coding> {
    coding: C,
    n_outputs: usize,
    /// Absent where rows are never taken back.
    counts: Option<Counts>,
    table: HashTable<Value<C::Key>>,
    hasher: DefaultHashBuilder,
    heap_bytes: usize,
    /// By aggregate, by group: values with a count above zero.
    n_different: Vec<Vec<i64>>,
    /// By group: values in the table.
    n_values: Vec<u32>,
    /// By row of the batch at hand: a bit for each aggregate whose filter lets it through.
    outputs: Vec<u32>,
}

impl<C: Coding> Distinct<C> {
    /// `n_outputs`: aggregates that share the state, at most [`MAX_SHARING`]; `changes`: whether rows may be taken back.
    pub fn new(coding: C, n_outputs: usize, changes: bool) -> Self {
        assert!((1..=MAX_SHARING).contains(&n_outputs), "{n_outputs} aggregates share a state");
        Self {
            coding,
            n_outputs,
            counts: changes.then(|| Counts { n_outputs, ..Counts::default() }),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            heap_bytes: 0,
            n_different: vec![Vec::new(); n_outputs],
            n_values: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn filter(&mut self, n_rows: usize, filters: &[Option<&BooleanArray>]) {
        let all = filters.iter().enumerate().filter(|(_, filter)| filter.is_none());
        let all = all.fold(0, |all, (output, _)| all | 1 << output);
        self.outputs.clear();
        self.outputs.resize(n_rows, all);
        for (output, filter) in filters.iter().enumerate() {
            if let Some(filter) = filter {
                filter.values().set_indices().for_each(|row| self.outputs[row] |= 1 << output);
            }
        }
    }

    #[inline]
    fn add(&mut self, group: usize, value: &C::Value, outputs: u32, weight: i64) {
        let (at, hasher) = (group as u32, &self.hasher);
        let same = |other: &Value<C::Key>| other.group == at && other.key.borrow() == value;
        let hash = hasher.hash_one((at, value));
        let mut found = match self.table.entry(hash, same, |other| hasher.hash_one((other.group, other.key.borrow()))) {
            Entry::Occupied(found) => found,
            Entry::Vacant(place) => {
                self.n_values[group] += 1;
                self.heap_bytes += C::heap_bytes(value);
                let cell = self.counts.as_mut().map_or(0, Counts::take_cell);
                place.insert(Value { group: at, cell, key: C::own(value) })
            }
        };
        let Some(counts) = &mut self.counts else {
            let seen = &mut found.get_mut().cell;
            each_bit(outputs & !*seen, |output| self.n_different[output][group] += 1);
            *seen |= outputs;
            return;
        };
        let cell = found.get().cell;
        let own = counts.of_mut(cell);
        each_bit(outputs, |output| {
            let before = own[output];
            own[output] += weight;
            self.n_different[output][group] += i64::from(own[output] > 0) - i64::from(before > 0);
        });
        if own.iter().all(|count| *count == 0) {
            counts.free.push(cell);
            found.remove();
            self.n_values[group] -= 1;
            self.heap_bytes -= C::heap_bytes(value);
        }
    }

    fn count(&self, cell: u32, output: usize) -> i64 {
        match &self.counts {
            Some(counts) => counts.all[cell as usize * self.n_outputs + output],
            None => i64::from(cell >> output & 1),
        }
    }
}

fn each_bit(mut bits: u32, mut take: impl FnMut(usize)) {
    while bits != 0 {
        take(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// For each value in the table, how often each aggregate has it.
#[derive(Debug, Default)]
struct Counts {
    n_outputs: usize,
    all: Vec<i64>,
    free: Vec<u32>,
}

impl Counts {
    /// A cell with counts of zero.
    fn take_cell(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let cell = self.all.len() / self.n_outputs;
            self.all.resize(self.all.len() + self.n_outputs, 0);
            cell as u32
        })
    }

    fn of_mut(&mut self, cell: u32) -> &mut [i64] {
        let start = cell as usize * self.n_outputs;
        &mut self.all[start..start + self.n_outputs]
    }

    /// Moves what is in use together.
    fn compact<'a>(&mut self, cells: impl Iterator<Item = &'a mut u32>) {
        let mut used = Self { n_outputs: self.n_outputs, ..Self::default() };
        for cell in cells {
            used.all.extend_from_slice(self.of_mut(*cell));
            *cell = (used.all.len() / used.n_outputs - 1) as u32;
        }
        *self = used;
    }
}

impl<C: Coding> State for Distinct<C> {
    fn grow(&mut self, n_groups: usize) {
        self.n_different.iter_mut().for_each(|counts| counts.resize(n_groups, 0));
        self.n_values.resize(n_groups, 0);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let column = self.coding.encode(arguments)?;
        let mask = mask(None, arguments);
        self.filter(rows.groups.len(), filters);
        let outputs = std::mem::take(&mut self.outputs);
        rows.each(mask.as_ref(), |group, row, weight| {
            if outputs[row] != 0 && weight != 0 {
                self.add(group, C::value(&column, row), outputs[row], weight);
            }
        });
        self.outputs = outputs;
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let counts = self.n_different.iter().map(|counts| Arc::new(Int64Array::from(kept(counts, groups))) as ArrayRef);
        Ok(counts.collect())
    }

    fn holds(&self, group: usize) -> bool {
        self.n_values[group] != 0
    }

    fn keep(&mut self, groups: &[usize]) {
        let mut now = vec![0; self.n_values.len()];
        groups.iter().enumerate().for_each(|(at, group)| now[*group] = at as u32);
        self.n_different.iter_mut().for_each(|counts| *counts = kept(counts, groups));
        self.n_values = kept(&self.n_values, groups);
        let before = std::mem::take(&mut self.table);
        let hash = |value: &Value<C::Key>| self.hasher.hash_one((value.group, value.key.borrow()));
        self.table.reserve(before.len(), hash);
        for mut value in before {
            value.group = now[value.group as usize];
            self.table.insert_unique(hash(&value), value, hash);
        }
    }

    fn forget(&mut self, gone: &[bool]) {
        let Self { table, counts, heap_bytes, .. } = self;
        table.retain(|value| {
            let stays = !gone[value.group as usize];
            if !stays {
                *heap_bytes -= C::heap_bytes(value.key.borrow());
                if let Some(counts) = counts {
                    counts.of_mut(value.cell).fill(0);
                    counts.free.push(value.cell);
                }
            }
            stays
        });
        for group in marked(gone) {
            self.n_values[group] = 0;
            self.n_different.iter_mut().for_each(|counts| counts[group] = 0);
        }
    }

    fn tidy(&mut self) {
        if self.table.capacity() > SHRINK_VALUES && self.table.len() < self.table.capacity() / 4 {
            self.table.shrink_to_fit(|value| self.hasher.hash_one((value.group, value.key.borrow())));
        }
        if let Some(counts) = &mut self.counts
            && counts.free.len() > SHRINK_VALUES
            && counts.free.len() > self.table.len()
        {
            counts.compact(self.table.iter_mut().map(|value| &mut value.cell));
        }
    }

    fn memory_bytes(&self) -> usize {
        let counts = self.counts.as_ref().map_or(0, |counts| counts.all.capacity() * 8 + counts.free.capacity() * 4);
        let per_group = self.n_different.iter().map(|counts| counts.capacity() * 8).sum::<usize>();
        let allocations = if self.heap_bytes > 0 { self.table.len() * ALLOCATION_BYTES } else { 0 };
        let values = self.table.allocation_size() + allocations + self.heap_bytes + self.coding.memory_bytes();
        counts + per_group + self.n_values.capacity() * 4 + values
    }

    fn types(&self) -> Vec<DataType> {
        Vec::new()
    }

    fn save(&self, _: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn load(&mut self, _: &[usize], _: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn entry_types(&self) -> Vec<DataType> {
        let counts = std::iter::repeat_n(DataType::Int64, self.n_outputs);
        self.coding.types().iter().cloned().chain(counts).collect()
    }

    fn save_entries(&self, groups: &[usize], part: &mut EntryPart<'_>) -> Result<()> {
        let mut positions = vec![None; self.n_values.len()];
        groups.iter().enumerate().for_each(|(at, group)| positions[*group] = Some(at as u32));
        let mut rest = self.table.iter().filter_map(|value| Some((positions[value.group as usize]?, value))).peekable();
        while rest.peek().is_some() {
            let (at, values): (Vec<u32>, Vec<&Value<C::Key>>) = rest.by_ref().take(PART_ENTRIES).unzip();
            let mut columns = self.coding.decode(values.iter().map(|value| Some(value.key.borrow())))?;
            for output in 0..self.n_outputs {
                let counts = values.iter().map(|value| Some(self.count(value.cell, output)));
                columns.push(Arc::new(counts.collect::<Int64Array>()));
            }
            part(at, columns)?;
        }
        Ok(())
    }

    fn load_entries(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let Some((values, counts)) = columns.split_at_checked(self.coding.types().len()) else {
            return Err(DataFusionError::Internal("different values without counts".into()));
        };
        let values = self.coding.encode(values)?;
        for (output, counts) in counts.iter().enumerate() {
            let counts = primitive::<Int64Type>(counts)?.values();
            for (row, (group, count)) in groups.iter().zip(counts).enumerate() {
                if *count != 0 {
                    self.add(*group, C::value(&values, row), 1 << output, *count);
                }
            }
        }
        Ok(())
    }
}
