//! Adds to each row what a table outside has under the row's key.
//!
//! Rows are gathered until there are [`GATHER_ROWS`] of them or no more input is at hand, and then the table is asked once
//! for all keys among them; so small batches cost one request together, and a key that many rows have is asked for once.
//! One such question is under way at a time, with as many requests within it as the connector allows, so rows stay in
//! their order. Answers may be remembered for a while ([`cache`]).
//!
//! The operator does not ask itself: [`LookupJoin::ask`] says for which keys, and [`LookupJoin::answer`] takes the rows, so
//! that whoever drives it can wait, and try again, in its own way.
//!
//! Invariant: nothing is kept over a barrier: all rows that came before it are answered before it. What a row finds is what
//! the table holds then, so a row that is read again after a crash may find something else.

mod cache;

use crate::dataflow::Lookup;
use crate::runtime::operators::encoding::{Encoding, RowBytes};
use crate::runtime::operators::evaluate;
use crate::runtime::operators::join::residual::Residual;
use crate::runtime::operators::partitions::Keys;
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, concat_batches, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use cache::Cache;
use connectors::Found;
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;
use std::time::Instant;

/// Rows that are worth a question of their own.
pub const GATHER_ROWS: usize = 4096;

/// The number of no key.
const NONE: usize = usize::MAX;

const LEFT: usize = 0;
const RIGHT: usize = 1;

pub struct LookupJoin {
    plan: Lookup,
    input: SchemaRef,
    output: SchemaRef,
    /// As the table declares the columns by which it is asked.
    keys: SchemaRef,
    /// Of what is read of it.
    read: SchemaRef,
    residual: Option<Residual>,
    numbers: Keys,
    remembered: Option<Remembered>,
    waiting: Vec<RecordBatch>,
    n_waiting: usize,
    asked: Option<Asked>,
    /// Keys that rows had, and those of them that were remembered.
    pub n_keys: u64,
    pub n_remembered: u64,
}

struct Remembered {
    keys: Encoding,
    rows: Encoding,
    cache: Cache,
}

/// A question that is not answered yet.
struct Asked {
    rows: RecordBatch,
    /// By row: the number of its key, or none where it has a null in it.
    key_of: Vec<usize>,
    n_keys: usize,
    /// The numbers of the keys that were asked for, in this order.
    missing: Vec<usize>,
    /// By key that was not: what is remembered of it.
    known: Vec<(usize, Vec<RowBytes>)>,
    /// By key: itself as bytes; empty where nothing is remembered.
    bytes: Vec<RowBytes>,
}

/// Rows of the table: `rows[order[starts[key]..starts[key + 1]]]` are those of a key.
struct ByKey {
    rows: RecordBatch,
    starts: Vec<usize>,
    order: Vec<u32>,
}

impl std::fmt::Debug for LookupJoin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookupJoin").field("table", &self.plan.table.name).field("n_waiting", &self.n_waiting).finish()
    }
}

impl LookupJoin {
    /// `output`: the input's columns and then those that are added.
    pub fn new(plan: Lookup, input: SchemaRef, output: SchemaRef) -> Result<Self> {
        let table = &plan.table.schema;
        let keys = Arc::new(table.project(&plan.table_keys)?);
        let read = Arc::new(table.project(&plan.projection)?);
        let own = plan.input_keys.iter().map(|key| input.fields().get(*key).map(|field| field.data_type()));
        if !own.eq(keys.fields().iter().map(|field| Some(field.data_type()))) {
            return Err(DataFusionError::Plan(format!(
                "table '{}' is asked by {keys}, and the columns {:?} of {input} are given",
                plan.table.name, plan.input_keys
            )));
        }
        let plain = |fields: &[Arc<Field>]| fields.iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
        let (left, right) = output.fields().split_at(input.fields().len().min(output.fields().len()));
        let residual = plan.residual.as_ref();
        let residual = residual.map(|predicate| Residual::new(predicate, &plain(left), &plain(right))).transpose()?;
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let remembered = plan.cache.map(|cache| {
            Ok::<_, DataFusionError>(Remembered {
                keys: Encoding::new(types(&keys), &[])?,
                rows: Encoding::new(types(&read), &[])?,
                cache: Cache::new(cache),
            })
        });
        let all: Vec<usize> = (0..keys.fields().len()).collect();
        Ok(Self {
            numbers: Keys::new(&keys, &all)?,
            remembered: remembered.transpose()?,
            residual,
            plan,
            input,
            output,
            keys,
            read,
            waiting: Vec::new(),
            n_waiting: 0,
            asked: None,
            n_keys: 0,
            n_remembered: 0,
        })
    }

    pub fn push(&mut self, batch: RecordBatch) {
        self.n_waiting += batch.num_rows();
        self.waiting.push(batch);
    }

    /// Rows that wait for an answer.
    pub fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    pub fn memory_bytes(&self) -> usize {
        self.remembered.as_ref().map_or(0, |remembered| remembered.cache.memory_bytes())
    }

    /// The keys that the rows which wait need an answer for, each once and none with a null; perhaps none at all.
    pub fn ask(&mut self, now: Instant) -> Result<RecordBatch> {
        let rows = match self.waiting.as_slice() {
            [one] => one.clone(),
            several => concat_batches(&self.input, several)?,
        };
        (self.waiting, self.n_waiting) = (Vec::new(), 0);
        let columns: Vec<ArrayRef> = self.plan.input_keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
        let nulls = columns
            .iter()
            .fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()));
        let whole: Vec<u32> = match &nulls {
            Some(nulls) => (0..rows.num_rows()).filter(|row| nulls.is_valid(*row)).map(|row| row as u32).collect(),
            None => (0..rows.num_rows() as u32).collect(),
        };
        let places = UInt32Array::from(whole);
        let columns = take_all(&columns, &places)?;
        let numbers = self.numbers.number(&columns, places.len())?;
        self.numbers.clear()?;
        let mut key_of = vec![NONE; rows.num_rows()];
        let mut first = Vec::new();
        for (at, (row, number)) in places.values().iter().zip(&numbers).enumerate() {
            key_of[*row as usize] = *number;
            // A key that was not seen before has the next number.
            if *number == first.len() {
                first.push(at as u32);
            }
        }
        let n_keys = first.len();
        let distinct = take_all(&columns, &UInt32Array::from(first))?;
        let mut asked =
            Asked { rows, key_of, n_keys, missing: (0..n_keys).collect(), known: Vec::new(), bytes: Vec::new() };
        if let Some(Remembered { keys, cache, .. }) = &mut self.remembered
            && n_keys > 0
        {
            asked.missing.clear();
            let encoded = keys.encode(&distinct)?;
            asked.bytes = (0..n_keys).map(|key| RowBytes::from(encoded.row(key).data())).collect();
            for (key, bytes) in asked.bytes.iter().enumerate() {
                match cache.get(bytes, now) {
                    Some(rows) => asked.known.push((key, rows)),
                    None => asked.missing.push(key),
                }
            }
        }
        self.n_keys += n_keys as u64;
        self.n_remembered += asked.known.len() as u64;
        let missing = UInt32Array::from_iter_values(asked.missing.iter().map(|key| *key as u32));
        let options = RecordBatchOptions::new().with_row_count(Some(missing.len()));
        let wanted = take_all(&distinct, &missing)?;
        self.asked = Some(asked);
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.keys), wanted, &options)?)
    }

    /// The rows that waited, joined with what was found; `None` where nothing was asked for.
    pub fn answer(&mut self, found: Option<Found>, now: Instant) -> Result<Vec<RecordBatch>> {
        let Some(asked) = self.asked.take() else { return Ok(Vec::new()) };
        let table = self.by_key(&asked, found, now)?;
        let added = self.plan.exprs.iter().map(|expr| evaluate(expr, &table.rows)).collect::<Result<Vec<_>>>()?;
        let (rows, matches) = self.pairs(&asked, &table, &added)?;
        let mut batches = Vec::new();
        for offset in (0..rows.len()).step_by(BATCH_ROWS) {
            let n_rows = BATCH_ROWS.min(rows.len() - offset);
            let (rows, matches) = (rows.slice(offset, n_rows), matches.slice(offset, n_rows));
            let mut columns = take_all(asked.rows.columns(), &rows)?;
            match table.rows.num_rows() {
                0 => columns.extend(added.iter().map(|column| new_null_array(column.data_type(), n_rows))),
                _ => columns.extend(take_all(&added, &matches)?),
            }
            let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
            batches.push(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?);
        }
        Ok(batches)
    }

    /// All rows that are known of the keys, sorted by key; what was found is remembered.
    fn by_key(&mut self, asked: &Asked, found: Option<Found>, now: Instant) -> Result<ByKey> {
        let mut found =
            found.unwrap_or_else(|| Found { rows: RecordBatch::new_empty(Arc::clone(&self.read)), keys: Vec::new() });
        let fits = found.rows.num_rows() == found.keys.len()
            && found.keys.iter().all(|key| (*key as usize) < asked.missing.len());
        if !fits {
            return Err(DataFusionError::Execution(format!(
                "the lookup in table '{}' answered {} rows for {} of {} keys",
                self.plan.table.name,
                found.rows.num_rows(),
                found.keys.len(),
                asked.missing.len()
            )));
        }
        let mut of: Vec<usize> = found.keys.iter().map(|key| asked.missing[*key as usize]).collect();
        if let Some(Remembered { rows, cache, .. }) = &mut self.remembered {
            let mut answers: Vec<Vec<RowBytes>> = vec![Vec::new(); asked.n_keys];
            let encoded = rows.encode(found.rows.columns())?;
            for (row, key) in of.iter().enumerate() {
                answers[*key].push(RowBytes::from(encoded.row(row).data()));
            }
            for key in &asked.missing {
                cache.put(&asked.bytes[*key], std::mem::take(&mut answers[*key]), now);
            }
            let known = asked.known.iter().flat_map(|(key, rows)| rows.iter().map(move |row| (*key, row)));
            let (keys, known): (Vec<usize>, Vec<&RowBytes>) = known.unzip();
            if !known.is_empty() {
                let known = rows.decode(known.into_iter().map(|row| &**row))?;
                let columns = found.rows.columns().iter().zip(&known);
                let columns = columns.map(|(found, known)| Ok(concat(&[found.as_ref(), known.as_ref()])?));
                found.rows = RecordBatch::try_new(Arc::clone(&self.read), columns.collect::<Result<Vec<_>>>()?)?;
                of.extend(keys);
            }
        }
        let mut starts = vec![0; asked.n_keys + 1];
        of.iter().for_each(|key| starts[*key + 1] += 1);
        for key in 0..asked.n_keys {
            starts[key + 1] += starts[key];
        }
        let mut next = starts.clone();
        let mut order = vec![0; of.len()];
        for (row, key) in of.into_iter().enumerate() {
            order[next[key]] = row as u32;
            next[key] += 1;
        }
        Ok(ByKey { rows: found.rows, starts, order })
    }

    /// The rows that are given, and what each of them is joined with, in the order of the rows.
    fn pairs(&self, asked: &Asked, table: &ByKey, added: &[ArrayRef]) -> Result<(UInt32Array, UInt32Array)> {
        let of_key = |key: usize| match key {
            NONE => &[][..],
            key => &table.order[table.starts[key]..table.starts[key + 1]],
        };
        let (mut rows, mut matches) = (Vec::new(), Vec::new());
        for (row, key) in asked.key_of.iter().enumerate() {
            for of_table in of_key(*key) {
                rows.push(row as u32);
                matches.push(*of_table);
            }
        }
        let (mut rows, mut matches) = (UInt32Array::from(rows), UInt32Array::from(matches));
        if let Some(residual) = &self.residual
            && !rows.is_empty()
        {
            let some = |all: &[ArrayRef], columns: &[usize], rows: &UInt32Array| {
                let columns: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(&all[*column])).collect();
                take_all(&columns, rows)
            };
            let left = some(asked.rows.columns(), residual.columns(LEFT), &rows)?;
            let right = some(added, residual.columns(RIGHT), &matches)?;
            let holds = residual.holds(left, right, rows.len())?;
            let kept: UInt32Array = holds.values().set_indices().map(|pair| Some(pair as u32)).collect();
            let pick = |of: &UInt32Array| -> UInt32Array {
                kept.values().iter().map(|at| of.value(*at as usize)).collect::<Vec<u32>>().into()
            };
            (rows, matches) = (pick(&rows), pick(&matches));
        }
        if !self.plan.outer {
            return Ok((rows, matches));
        }
        let (mut all, mut with) = (Vec::new(), Vec::new());
        let mut pairs = rows.values().iter().zip(matches.values()).peekable();
        for row in 0..asked.rows.num_rows() as u32 {
            let before = all.len();
            while let Some((_, of_table)) = pairs.next_if(|(of, _)| **of == row) {
                all.push(row);
                with.push(Some(*of_table));
            }
            if all.len() == before {
                all.push(row);
                with.push(None);
            }
        }
        Ok((UInt32Array::from(all), UInt32Array::from(with)))
    }
}

fn take_all(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| Ok(take(column, rows, None)?)).collect()
}

#[cfg(test)]
mod tests;
