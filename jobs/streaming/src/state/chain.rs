//! How a chain of state files becomes one state: a base, then deltas, in the order in which they were taken.
//!
//! Of each key the rows of the last file that touched it count, in all tables alike. Rows that event time has made void
//! are dropped: those in whose table a column [`UNTIL`] says so. So what goes only because time passes need not be told
//! by a delta, and does not stay in a base for ever.
//!
//! Invariant: folding any part of a chain into one file changes nothing of what the chain says.

use crate::state::file::{Contents, Rows};
use crate::state::hashes::Hashes;
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The second column of a table whose rows go with event time: a row is void once the watermark has come to this, in
/// microseconds.
pub const UNTIL: &str = "until_us";

/// A table's columns with [`UNTIL`] among them.
pub fn with_until(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.insert(1.min(fields.len()), Arc::new(Field::new(UNTIL, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

fn until_column(schema: &Schema) -> Option<usize> {
    (schema.fields().get(1).is_some_and(|field| field.name() == UNTIL)).then_some(1)
}

/// One file that says what these say, of the keys in this range: a base if the first one is a base. `watermark_us`: how
/// far event time had come with the last one.
pub fn fold(files: Vec<Contents>, watermark_us: i64, range: &RangeInclusive<u64>) -> Result<Contents, ArrowError> {
    let mut later = Hashes::default();
    let mut parts: BTreeMap<String, Vec<Rows>> = BTreeMap::new();
    let mut whole: Option<Contents> = None;
    for mut file in files.into_iter().rev() {
        for (name, rows) in std::mem::take(&mut file.tables) {
            let batches = rows.batches.iter().map(|batch| valid(batch, &later, watermark_us, range));
            let batches = batches.filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0));
            let batches = batches.collect::<Result<_, _>>()?;
            parts.entry(name).or_default().push(Rows { schema: rows.schema, batches });
        }
        let is_base = file.touched.is_none();
        later.extend(file.touched.take().into_iter().flatten());
        let whole = whole.get_or_insert(file);
        if is_base {
            // Whatever came before it no longer counts.
            whole.touched = None;
            whole.tables = put_together(parts)?;
            whole.watermark_us = watermark_us;
            return Ok(whole.clone());
        }
    }
    let mut whole = whole.ok_or_else(|| ArrowError::InvalidArgumentError("a chain without files".to_string()))?;
    whole.touched = Some(later.into_sorted());
    whole.tables = put_together(parts)?;
    whole.watermark_us = watermark_us;
    Ok(whole)
}

/// Parts come last first.
fn put_together(parts: BTreeMap<String, Vec<Rows>>) -> Result<BTreeMap<String, Rows>, ArrowError> {
    let table = |(name, mut parts): (String, Vec<Rows>)| {
        let schema = Arc::clone(&parts[0].schema);
        if let Some(other) = parts.iter().find(|part| part.schema != schema) {
            return Err(ArrowError::SchemaError(format!(
                "the files of one checkpoint have different columns: {schema} and {}",
                other.schema
            )));
        }
        parts.reverse();
        let batches = parts.into_iter().flat_map(|part| part.batches).collect();
        Ok((name, Rows { schema, batches }))
    };
    parts.into_iter().map(table).collect()
}

/// The rows of keys in the range that no later file replaces, and that event time has not made void.
fn valid(
    batch: &RecordBatch,
    later: &Hashes,
    watermark_us: i64,
    range: &RangeInclusive<u64>,
) -> Result<RecordBatch, ArrowError> {
    let wrong = || ArrowError::SchemaError(format!("a state table does not begin with key hashes: {}", batch.schema()));
    let hashes = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let hashes = hashes.ok_or_else(wrong)?.values();
    let until = until_column(batch.schema_ref()).map(|column| batch.column(column));
    let until = until.map(|column| column.as_primitive_opt::<Int64Type>().ok_or_else(wrong)).transpose()?;
    let valid = BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        range.contains(&hashes[row])
            && !later.contains(hashes[row])
            && until.is_none_or(|until| until.value(row) > watermark_us)
    });
    match valid.count_set_bits() == batch.num_rows() {
        true => Ok(batch.clone()),
        false => filter_record_batch(batch, &BooleanArray::new(valid, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::file;
    use arrow::array::{ArrayRef, Int64Array, UInt64Array};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const ALL: RangeInclusive<u64> = 0..=u64::MAX;

    /// Rows of key, value and the time at which they are void.
    type Row = (u64, i64, i64);

    fn contents(touched: Option<BTreeSet<u64>>, rows: &BTreeSet<Row>, watermark_us: i64) -> Contents {
        let fields = vec![Field::new("key_hash", DataType::UInt64, false), Field::new("value", DataType::Int64, false)];
        let schema = with_until(&Arc::new(Schema::new(fields)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<UInt64Array>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        ];
        let batches = match rows.is_empty() {
            true => vec![],
            false => vec![RecordBatch::try_new(schema.clone(), columns).expect("columns fit")],
        };
        Contents {
            operator: "o".into(),
            hash_low: 0,
            hash_high: u64::MAX,
            watermark_us,
            touched: touched.map(|touched| touched.into_iter().collect()),
            tables: BTreeMap::from([("rows".to_string(), Rows { schema, batches })]),
        }
    }

    fn rows(contents: &Contents) -> Vec<Row> {
        let mut found = Vec::new();
        for batch in &contents.tables["rows"].batches {
            let hashes = batch.column(0).as_primitive::<UInt64Type>();
            let (until, values) =
                (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
            found.extend((0..batch.num_rows()).map(|row| (hashes.value(row), values.value(row), until.value(row))));
        }
        found.sort_unstable();
        found
    }

    proptest! {
        /// Keys are written, written over and emptied while time passes; files are folded anywhere, and anyhow often.
        #[test]
        fn a_chain_says_what_is_there(
            epochs in proptest::collection::vec((
                proptest::collection::vec((0_u64..6, 0_i64..100, 0_i64..40, proptest::bool::weighted(0.3)), 0..6),
                0_i64..6,
                proptest::bool::weighted(0.15),
            ), 1..12),
            folds in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
            low in 0_u64..6, high in 0_u64..6,
        ) {
            let (mut state, mut watermark_us, mut files) = (BTreeSet::<Row>::new(), 0, Vec::new());
            for (changes, passed, base) in epochs {
                let mut touched = BTreeSet::new();
                for (key, value, until_us, emptied) in changes {
                    if emptied {
                        state.retain(|row| row.0 != key);
                    }
                    state.insert((key, value, watermark_us + 1 + until_us));
                    touched.insert(key);
                }
                watermark_us += passed;
                state.retain(|row| row.2 > watermark_us);
                let delta = state.iter().filter(|row| touched.contains(&row.0)).copied().collect();
                match base || files.is_empty() {
                    true => files.push(contents(None, &state, watermark_us)),
                    false => files.push(contents(Some(touched), &delta, watermark_us)),
                }
            }
            let said = |files: &[Contents], range: &RangeInclusive<u64>| {
                rows(&fold(files.to_vec(), watermark_us, range).expect("folded"))
            };
            let wanted: Vec<Row> = state.iter().copied().collect();
            prop_assert_eq!(&said(&files, &ALL), &wanted);
            let some = low.min(high)..=low.max(high);
            let of_some: Vec<Row> = wanted.iter().filter(|row| some.contains(&row.0)).copied().collect();
            prop_assert_eq!(said(&files, &some), of_some);
            for (from, to) in folds {
                let (from, to) = (from.index(files.len()), to.index(files.len()));
                let (from, to) = (from.min(to), from.max(to));
                let part: Vec<Contents> = files.drain(from..=to).collect();
                let then_us = part.last().expect("a file").watermark_us;
                let folded = fold(part, then_us, &ALL).expect("folded");
                let folded = file::decode(&file::encode(&folded).expect("written")).expect("read");
                prop_assert!(from > 0 || folded.touched.is_none());
                files.insert(from, folded);
                prop_assert_eq!(&said(&files, &ALL), &wanted);
            }
        }
    }
}
