//! A row for each item of a row's lists, side by side: the shorter lists are followed by nulls. Everything else of the row is
//! repeated, its weight too.
//!
//! Invariant: what comes of a row is a matter of that row alone.

use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use std::ops::Range;
use std::sync::Arc;

/// `lists`: where they are among the columns. `outer`: a row without items stays, once, with nulls for them.
pub fn unnest(lists: Range<usize>, outer: bool, schema: &SchemaRef, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let arrays = batch.columns()[lists.clone()].iter().map(|column| {
        let list = column.as_list_opt::<i32>();
        list.ok_or_else(|| DataFusionError::Execution(format!("UNNEST of {}", column.data_type())))
    });
    let arrays = arrays.collect::<Result<Vec<&ListArray>>>()?;
    let mut rows: Vec<u32> = Vec::new();
    let mut items: Vec<Vec<Option<u64>>> = vec![Vec::new(); arrays.len()];
    for row in 0..batch.num_rows() {
        let length = |array: &&ListArray| if array.is_null(row) { 0 } else { array.value_length(row) as usize };
        let longest = arrays.iter().map(length).max().unwrap_or(0).max(usize::from(outer));
        rows.extend(std::iter::repeat_n(row as u32, longest));
        for (array, items) in arrays.iter().zip(&mut items) {
            let (begin, n_items) = (array.value_offsets()[row] as u64, length(array));
            items.extend((0..longest).map(|at| (at < n_items).then_some(begin + at as u64)));
        }
    }
    let mut batches = Vec::with_capacity(rows.len().div_ceil(BATCH_ROWS));
    for begin in (0..rows.len()).step_by(BATCH_ROWS) {
        let part = begin..rows.len().min(begin + BATCH_ROWS);
        let of_rows = UInt32Array::from(rows[part.clone()].to_vec());
        let column = |(at, column): (usize, &ArrayRef)| match at.checked_sub(lists.start) {
            Some(list) if lists.contains(&at) => {
                let items: UInt64Array = items[list][part.clone()].iter().copied().collect();
                take(arrays[list].values(), &items, None)
            }
            _ => take(column, &of_rows, None),
        };
        let columns = batch.columns().iter().enumerate().map(column).collect::<std::result::Result<Vec<_>, _>>()?;
        batches.push(RecordBatch::try_new(Arc::clone(schema), columns)?);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::operators::testing::add_up;
    use arrow::array::{Int8Array, Int64Array, Int64Builder, ListBuilder, StringArray, StringBuilder};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Key, numbers, texts, weight.
    type Row = (i64, Option<Vec<Option<i64>>>, Option<Vec<Option<u8>>>, bool);

    fn row() -> impl Strategy<Value = Row> {
        let numbers = prop::option::weighted(0.8, prop::collection::vec(prop::option::weighted(0.8, 0..3i64), 0..4));
        let texts = prop::option::weighted(0.8, prop::collection::vec(prop::option::weighted(0.8, 0..3u8), 0..4));
        (0..3i64, numbers, texts, prop::bool::weighted(0.7))
    }

    fn input(rows: &[Row]) -> RecordBatch {
        let mut numbers = ListBuilder::new(Int64Builder::new());
        let mut texts = ListBuilder::new(StringBuilder::new());
        for (_, of_numbers, of_texts, _) in rows {
            numbers.append_option(of_numbers.clone());
            texts
                .append_option(of_texts.clone().map(|of| of.into_iter().map(|text| text.map(|text| text.to_string()))));
        }
        let weights = rows.iter().map(|row| Some(if row.3 { 1 } else { -1 })).collect::<Int8Array>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
            ("number", Arc::new(numbers.finish())),
            ("text", Arc::new(texts.finish())),
            ("weight", Arc::new(weights)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .expect("columns of one length")
    }

    fn output() -> SchemaRef {
        let fields = [
            ("key", DataType::Int64),
            ("number", DataType::Int64),
            ("text", DataType::Utf8),
            ("weight", DataType::Int8),
        ];
        Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
    }

    proptest! {
        #[test]
        fn equals_a_row_by_row_reading(rows in prop::collection::vec(row(), 0..12), outer in any::<bool>(), from in 0..4usize) {
            // A slice's lists begin somewhere within their values.
            let from = from.min(rows.len());
            let batch = input(&rows).slice(from, rows.len() - from);
            let mut sum = BTreeMap::new();
            for batch in unnest(1..3, outer, &output(), &batch).expect("unnest") {
                add_up(&mut sum, &batch, true);
            }
            let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
            for (key, numbers, texts, there) in &rows[from..] {
                let (numbers, texts) = (numbers.clone().unwrap_or_default(), texts.clone().unwrap_or_default());
                let n_items = numbers.len().max(texts.len()).max(usize::from(outer));
                for at in 0..n_items {
                    let number = numbers.get(at).copied().flatten().map_or("NULL".to_owned(), |number| number.to_string());
                    let text = texts.get(at).copied().flatten().map_or("NULL".to_owned(), |text| text.to_string());
                    *wanted.entry(format!("{key} {number} {text}")).or_default() += if *there { 1 } else { -1 };
                }
            }
            wanted.retain(|_, weight| *weight != 0);
            prop_assert_eq!(sum, wanted);
        }
    }

    #[test]
    fn long_lists_come_in_batches() {
        let rows: Vec<Row> = vec![(1, Some((0..20_000).map(Some).collect()), None, true)];
        let batches = unnest(1..3, false, &output(), &input(&rows)).expect("unnest");
        assert!(batches.len() > 1 && batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
        assert_eq!(batches[0].column(2).null_count(), batches[0].num_rows());
        let texts: &StringArray = batches[0].column(2).as_string::<i32>();
        assert!(texts.is_null(0));
    }
}
