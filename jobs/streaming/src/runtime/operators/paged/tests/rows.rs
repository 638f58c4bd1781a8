//! Random rows for any columns that an operator may take, with few different values, so that keys come again.

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int8Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Split mix: few lines, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A second of the clock as event time.
pub fn time(second: i64) -> i64 {
    1_700_000_000_000_000 + second * 1_000_000
}

/// Rows of this schema around a second of the clock; the last column is a weight if they are `changes`.
pub fn batch(schema: &SchemaRef, changes: bool, clock: i64, n_rows: usize, random: &mut Random) -> RecordBatch {
    let n_columns = schema.fields().len();
    let column = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| -> ArrayRef {
        if changes && at == n_columns - 1 {
            let weights = (0..n_rows).map(|_| if random.below(3) == 0 { -1 } else { 1 });
            return Arc::new(Int8Array::from_iter_values(weights));
        }
        let mut values = |domain: u64| -> Vec<Option<u64>> {
            let value = |random: &mut Random| (random.below(domain), field.is_nullable() && random.below(12) == 0);
            (0..n_rows).map(|_| value(random)).map(|(value, null)| (!null).then_some(value)).collect()
        };
        match field.data_type() {
            DataType::Int64 => {
                Arc::new(values(23).into_iter().map(|value| value.map(|value| value as i64)).collect::<Int64Array>())
            }
            DataType::Int32 => {
                Arc::new(values(23).into_iter().map(|value| value.map(|value| value as i32)).collect::<Int32Array>())
            }
            DataType::UInt64 => Arc::new(values(23).into_iter().collect::<UInt64Array>()),
            DataType::Float64 => {
                Arc::new(values(23).into_iter().map(|value| value.map(|value| value as f64)).collect::<Float64Array>())
            }
            DataType::Boolean => {
                Arc::new(values(2).into_iter().map(|value| value.map(|value| value == 1)).collect::<BooleanArray>())
            }
            DataType::Timestamp(_, zone) => {
                let times = values(16).into_iter().map(|value| value.map(|value| time(clock - 7 + value as i64)));
                Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
            }
            other => {
                let texts = values(5).into_iter().map(|value| value.map(|value| "ab".repeat(value as usize)));
                cast(&texts.collect::<StringArray>(), other).expect("a kind of text")
            }
        }
    };
    let columns = schema.fields().iter().enumerate().map(column).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).expect("columns fit")
}

/// Writes rows by key: the table has, for each key, the row that came last and has not gone. What is put is the row's
/// text behind that of its key.
pub fn put(table: &mut BTreeMap<String, i64>, batch: &RecordBatch, keys: &[usize]) {
    let options = FormatOptions::default().with_null("NULL");
    let (weights, columns) = batch.columns().split_last().expect("a weight");
    let columns: Vec<ArrayFormatter<'_>> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that prints"))
        .collect();
    let weights = weights.as_primitive::<Int8Type>();
    for row in 0..batch.num_rows() {
        let key: Vec<String> = keys.iter().map(|key| columns[*key].value(row).to_string()).collect();
        let key = format!("{}: ", key.join(" "));
        table.retain(|text, _| !text.starts_with(&key));
        if weights.value(row) > 0 {
            let text: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            table.insert(format!("{key}{}", text.join(" ")), 1);
        }
    }
}
