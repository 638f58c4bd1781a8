//! Cuts a batch into one part per slice, by the hash of its keys.

use crate::state::hash;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

/// The non-empty parts, each with the slice that owns it; rows keep their order.
pub fn partition(batch: &RecordBatch, keys: &[usize], n_slots: u32) -> Result<Vec<(u32, RecordBatch)>> {
    if n_slots == 1 {
        return Ok(vec![(0, batch.clone())]);
    }
    let columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
    let hashed = |columns: &[ArrayRef], n_rows| {
        hash::hash_rows(columns, n_rows).map_err(|error| DataFusionError::External(Box::new(error)))
    };
    if batch.num_rows() > 0 && columns.iter().all(is_constant) {
        let first: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, 1)).collect();
        let slot = hash::slot_of(hashed(&first, 1)?[0], n_slots);
        return Ok(vec![(slot, batch.clone())]);
    }
    let hashes = hashed(&columns, batch.num_rows())?;
    let slots: Vec<u32> = hashes.into_iter().map(|hash| hash::slot_of(hash, n_slots)).collect();
    // By slot where its rows begin among all, ordered by slot; and, once they are placed, where they end.
    let mut places = vec![0_usize; n_slots as usize + 1];
    slots.iter().for_each(|slot| places[*slot as usize + 1] += 1);
    for slot in 1..places.len() {
        places[slot] += places[slot - 1];
    }
    let begins = places.clone();
    let mut ordered = vec![0_u32; slots.len()];
    for (row, slot) in slots.iter().enumerate() {
        let place = &mut places[*slot as usize];
        ordered[*place] = row as u32;
        *place += 1;
    }
    let ordered = ScalarBuffer::from(ordered);
    let mut parts = Vec::with_capacity(n_slots as usize);
    for (slot, begin) in begins.into_iter().take(n_slots as usize).enumerate() {
        let part = match places[slot] - begin {
            0 => continue,
            n_rows if n_rows == batch.num_rows() => batch.clone(),
            n_rows => take_record_batch(batch, &UInt32Array::new(ordered.slice(begin, n_rows), None))?,
        };
        parts.push((slot as u32, part));
    }
    Ok(parts)
}

/// Whether all rows have the same value, as those of one window have its bounds. No is always right.
fn is_constant(column: &ArrayRef) -> bool {
    let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else { return false };
    let values = times.values();
    times.null_count() == 0 && values.iter().all(|value| *value == values[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_goes_to_its_owner_in_order(keys in proptest::collection::vec(0_i64..9, 0..50), n_slots in 1_u32..6) {
            let schema = Arc::new(Schema::new(vec![
                Field::new("key", DataType::Int64, false),
                Field::new("row", DataType::Int64, false),
            ]));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(keys.clone())),
                Arc::new(Int64Array::from_iter_values(0..keys.len() as i64)),
            ];
            let hashes = hash::hash_rows(&columns[..1], keys.len()).expect("hashes");
            let batch = RecordBatch::try_new(schema, columns).expect("a batch");
            let mut n_rows = 0;
            for (slot, part) in partition(&batch, &[0], n_slots).expect("parts") {
                let rows: Vec<i64> = part.column(1).as_primitive::<Int64Type>().values().to_vec();
                let own = |row: &i64| hash::slot_of(hashes[*row as usize], n_slots) == slot;
                let wanted: Vec<i64> = (0..keys.len() as i64).filter(own).collect();
                n_rows += rows.len();
                prop_assert_eq!(rows, wanted);
            }
            prop_assert_eq!(n_rows, keys.len());
        }
    }

    #[test]
    fn rows_of_one_window_stay_together_where_their_hash_says() {
        let schema = Schema::new(vec![Field::new("start", DataType::Timestamp(TimeUnit::Microsecond, None), true)]);
        let schema = Arc::new(schema);
        for starts in [vec![Some(5); 4], vec![Some(5), Some(6)], vec![Some(5), None], vec![None, None]] {
            let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(starts.clone()));
            let hashes = hash::hash_rows(&[Arc::clone(&column)], starts.len()).expect("hashes");
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a batch");
            for n_slots in 2..9 {
                let parts = partition(&batch, &[0], n_slots).expect("parts");
                let found: Vec<(u32, usize)> = parts.iter().map(|(slot, part)| (*slot, part.num_rows())).collect();
                let on = |slot: u32| hashes.iter().filter(|hash| hash::slot_of(**hash, n_slots) == slot).count();
                let wanted: Vec<(u32, usize)> =
                    (0..n_slots).map(|slot| (slot, on(slot))).filter(|(_, n)| *n > 0).collect();
                assert_eq!(found, wanted, "{starts:?} over {n_slots}");
            }
        }
    }
}
