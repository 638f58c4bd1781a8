//! The hash of a key, and which slice owns it.
//!
//! Invariant: fixed for ever. State on disk and rows between tasks are placed by it, so a change would send a key's new
//! rows to another slice than its old state. Golden vectors below hold it.
//!
//! Each column is reduced to canonical bytes and folded into the row's hash with xxh3-64, seeded by the hash so far plus
//! a tag of the column's kind: equal numbers of any integer width hash alike, -0.0 as 0.0, every NaN as one, and a null
//! differs from an empty text. A struct is hashed as its fields one after another, a list as the hashes of its elements.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const TAG_NULL: u64 = 0x6e75_6c6c;
const TAG_INTEGER: u64 = 0x0001;
const TAG_FLOAT: u64 = 0x0002;
const TAG_BYTES: u64 = 0x0003;
const TAG_BOOLEAN: u64 = 0x0004;
const TAG_TIME: u64 = 0x0005;
const TAG_DATE: u64 = 0x0006;
const TAG_DECIMAL: u64 = 0x0007;
const TAG_STRUCT: u64 = 0x0008;
const TAG_LIST: u64 = 0x0009;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "hash a key column of type {0}, which cannot be a key: it is neither a number, a text, a time nor a struct or array of these"
    )]
    Unsupported(DataType),
    #[error("read the values of a dictionary key column")]
    Dictionary(#[source] arrow::error::ArrowError),
}

/// Whether a column of this type can be a key of an exchange.
pub fn supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => supported(values),
        DataType::Struct(fields) => fields.iter().all(|field| supported(field.data_type())),
        DataType::List(item) => supported(item.data_type()),
        DataType::Null
        | DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Timestamp(_, _)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Decimal128(_, _) => true,
        other => other.is_integer() || matches!(other, DataType::Float32 | DataType::Float64),
    }
}

/// One hash per row over these columns. Without columns every row has the same one.
pub fn hash_rows(columns: &[ArrayRef], n_rows: usize) -> Result<Vec<u64>, Error> {
    let mut hashes = vec![0; n_rows];
    for column in columns {
        fold_column(column, &mut hashes)?;
    }
    Ok(hashes)
}

/// The slice that owns a hash: contiguous ranges of the hash space, so that a state file names the range it holds and
/// any number of slices can read what any other number wrote.
pub fn slot_of(hash: u64, n_slots: u32) -> u32 {
    ((u128::from(hash) * u128::from(n_slots)) >> 64) as u32
}

/// The lowest and highest hash that `slot` owns.
pub fn range_of(slot: u32, n_slots: u32) -> (u64, u64) {
    assert!(slot < n_slots, "slot {slot} of {n_slots}");
    let begin = |slot: u32| (u128::from(slot) << 64).div_ceil(u128::from(n_slots));
    (begin(slot) as u64, (begin(slot + 1) - 1) as u64)
}

fn fold(hash: &mut u64, tag: u64, bytes: &[u8]) {
    *hash = xxh3_64_with_seed(bytes, hash.wrapping_add(tag));
}

fn fold_each<'a, T, B: AsRef<[u8]>>(
    values: impl Iterator<Item = Option<T>> + 'a,
    hashes: &mut [u64],
    tag: u64,
    bytes: impl Fn(T) -> B,
) {
    for (hash, value) in hashes.iter_mut().zip(values) {
        match value {
            Some(value) => fold(hash, tag, bytes(value).as_ref()),
            None => fold(hash, TAG_NULL, &[]),
        }
    }
}

fn fold_primitive<T: ArrowPrimitiveType, B: AsRef<[u8]>>(
    column: &PrimitiveArray<T>,
    hashes: &mut [u64],
    tag: u64,
    bytes: impl Fn(T::Native) -> B,
) {
    if column.null_count() > 0 {
        return fold_each(column.iter(), hashes, tag, bytes);
    }
    for (hash, value) in hashes.iter_mut().zip(column.values()) {
        fold(hash, tag, bytes(*value).as_ref());
    }
}

fn canonical(value: f64) -> [u8; 8] {
    let value = match value {
        value if value.is_nan() => f64::NAN,
        0.0 => 0.0,
        value => value,
    };
    // The bit pattern of `f64::NAN` is not promised between releases; this one is.
    if value.is_nan() { 0x7ff8_0000_0000_0000_u64.to_le_bytes() } else { value.to_bits().to_le_bytes() }
}

macro_rules! integers {
    ($column:expr, $hashes:expr, $tag:expr, $type:ty) => {
        fold_primitive($column.as_primitive::<$type>(), $hashes, $tag, |value| (value as i64).to_le_bytes())
    };
}

fn fold_column(column: &ArrayRef, hashes: &mut [u64]) -> Result<(), Error> {
    use arrow::datatypes as ty;
    match column.data_type() {
        DataType::Null => hashes.iter_mut().for_each(|hash| fold(hash, TAG_NULL, &[])),
        DataType::Boolean => fold_each(column.as_boolean().iter(), hashes, TAG_BOOLEAN, |value| [u8::from(value)]),
        DataType::Int8 => integers!(column, hashes, TAG_INTEGER, ty::Int8Type),
        DataType::Int16 => integers!(column, hashes, TAG_INTEGER, ty::Int16Type),
        DataType::Int32 => integers!(column, hashes, TAG_INTEGER, ty::Int32Type),
        DataType::Int64 => {
            fold_primitive(column.as_primitive::<ty::Int64Type>(), hashes, TAG_INTEGER, i64::to_le_bytes);
        }
        DataType::UInt8 => integers!(column, hashes, TAG_INTEGER, ty::UInt8Type),
        DataType::UInt16 => integers!(column, hashes, TAG_INTEGER, ty::UInt16Type),
        DataType::UInt32 => integers!(column, hashes, TAG_INTEGER, ty::UInt32Type),
        DataType::UInt64 => integers!(column, hashes, TAG_INTEGER, ty::UInt64Type),
        DataType::Float32 => {
            let values = column.as_primitive::<ty::Float32Type>();
            fold_primitive(values, hashes, TAG_FLOAT, |value| canonical(f64::from(value)));
        }
        DataType::Float64 => {
            fold_primitive(column.as_primitive::<ty::Float64Type>(), hashes, TAG_FLOAT, canonical);
        }
        DataType::Utf8 => fold_each(column.as_string::<i32>().iter(), hashes, TAG_BYTES, str::as_bytes),
        DataType::LargeUtf8 => fold_each(column.as_string::<i64>().iter(), hashes, TAG_BYTES, str::as_bytes),
        DataType::Utf8View => fold_each(column.as_string_view().iter(), hashes, TAG_BYTES, str::as_bytes),
        DataType::Binary => fold_each(column.as_binary::<i32>().iter(), hashes, TAG_BYTES, |value| value),
        DataType::LargeBinary => fold_each(column.as_binary::<i64>().iter(), hashes, TAG_BYTES, |value| value),
        DataType::BinaryView => fold_each(column.as_binary_view().iter(), hashes, TAG_BYTES, |value| value),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => integers!(column, hashes, TAG_TIME, ty::TimestampSecondType),
            TimeUnit::Millisecond => integers!(column, hashes, TAG_TIME, ty::TimestampMillisecondType),
            TimeUnit::Microsecond => {
                let values = column.as_primitive::<ty::TimestampMicrosecondType>();
                fold_primitive(values, hashes, TAG_TIME, i64::to_le_bytes);
            }
            TimeUnit::Nanosecond => integers!(column, hashes, TAG_TIME, ty::TimestampNanosecondType),
        },
        DataType::Date32 => integers!(column, hashes, TAG_DATE, ty::Date32Type),
        DataType::Date64 => integers!(column, hashes, TAG_DATE, ty::Date64Type),
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) => {
            let values = cast(column, &DataType::Int64).map_err(Error::Dictionary)?;
            fold_primitive(values.as_primitive::<ty::Int64Type>(), hashes, TAG_TIME, i64::to_le_bytes);
        }
        DataType::Decimal128(_, _) => {
            let values = column.as_primitive::<ty::Decimal128Type>();
            fold_primitive(values, hashes, TAG_DECIMAL, i128::to_le_bytes);
        }
        DataType::Struct(_) => fold_struct(column.as_struct(), hashes)?,
        DataType::List(_) => fold_list(column.as_list(), hashes)?,
        DataType::Dictionary(_, values) => {
            let plain = cast(column, values).map_err(Error::Dictionary)?;
            fold_column(&plain, hashes)?;
        }
        other => return Err(Error::Unsupported(other.clone())),
    }
    Ok(())
}

fn fold_struct(column: &StructArray, hashes: &mut [u64]) -> Result<(), Error> {
    // What the fields of a null are does not count.
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let before = nulls.map(|_| hashes.to_vec());
    hashes.iter_mut().for_each(|hash| fold(hash, TAG_STRUCT, &[]));
    for field in column.columns() {
        fold_column(field, hashes)?;
    }
    if let (Some(nulls), Some(before)) = (nulls, before) {
        for row in (!nulls.inner()).set_indices() {
            hashes[row] = before[row];
            fold(&mut hashes[row], TAG_NULL, &[]);
        }
    }
    Ok(())
}

fn fold_list(column: &ListArray, hashes: &mut [u64]) -> Result<(), Error> {
    let offsets = column.value_offsets();
    let (start, end) = (offsets[0] as usize, offsets[column.len()] as usize);
    let elements = hash_rows(&[column.values().slice(start, end - start)], end - start)?;
    let mut bytes = Vec::new();
    for (row, hash) in hashes.iter_mut().enumerate() {
        if column.is_null(row) {
            fold(hash, TAG_NULL, &[]);
            continue;
        }
        bytes.clear();
        for element in &elements[offsets[row] as usize - start..offsets[row + 1] as usize - start] {
            bytes.extend(element.to_le_bytes());
        }
        fold(hash, TAG_LIST, &bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, StringArray,
        StringViewArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{Field, Float64Type, Int64Type};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn hash(columns: Vec<ArrayRef>) -> Vec<u64> {
        let n_rows = columns[0].len();
        hash_rows(&columns, n_rows).expect("a key type")
    }

    /// Never change an expected value here: state files in the field are placed by these hashes.
    #[test]
    fn golden_vectors() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("card-7"), Some(""), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(42), Some(-1), None]));
        let float: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), Some(-0.0), Some(f64::NAN)]));
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        let time: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), Some(0), None]));
        let decimal: ArrayRef = Arc::new(Decimal128Array::from(vec![Some(12345), Some(-5), None]));
        let mut seen = String::new();
        for columns in [
            vec![text.clone()],
            vec![number.clone()],
            vec![float],
            vec![flag],
            vec![time],
            vec![decimal],
            vec![text, number],
        ] {
            let row: Vec<String> = hash(columns).iter().map(|hash| format!("{hash:016x}")).collect();
            seen.push_str(&row.join(" "));
            seen.push('\n');
        }
        assert_eq!(seen, include_str!("golden_hashes.txt"));
    }

    fn nested() -> (ArrayRef, ArrayRef) {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(9)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("b")]));
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)];
        let nulls = NullBuffer::from(vec![true, true, true, false]);
        let structs = StructArray::new(fields.into(), vec![numbers, texts], Some(nulls));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            Some(vec![]),
            None,
            Some(vec![None]),
        ]);
        (Arc::new(structs), Arc::new(lists))
    }

    /// As above: never change an expected value here.
    #[test]
    fn golden_vectors_of_nested_keys() {
        let (structs, lists) = nested();
        let shown = |column: ArrayRef| -> Vec<String> {
            hash(vec![column]).iter().map(|hash| format!("{hash:016x}")).collect()
        };
        assert_eq!(shown(structs).join(" "), "49aca68bbb98571b a4dc09d384cdc0c8 d742765be19a10b4 b4d805b433959765");
        assert_eq!(shown(lists).join(" "), "38c5f52ddf2e8261 8e1aeea8bc928d25 b4d805b433959765 80a7fb9c26b9939e");
    }

    #[test]
    fn nested_keys_hash_as_what_they_hold() {
        let (structs, lists) = nested();
        for column in [structs, lists] {
            let all = hash(vec![Arc::clone(&column)]);
            assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{all:?}");
            assert_eq!(hash(vec![column.slice(1, 3)]), all[1..], "however they are cut");
        }
        let of = |nulls: Vec<bool>, below: Vec<i64>| {
            let below: ArrayRef = Arc::new(Int64Array::from(below));
            let fields = vec![Field::new("n", DataType::Int64, true)];
            hash(vec![Arc::new(StructArray::new(fields.into(), vec![below], Some(NullBuffer::from(nulls))))])
        };
        assert_eq!(of(vec![false, true], vec![1, 2]), of(vec![false, true], vec![7, 2]), "what a null hides");
        let float = |value: f64| -> ArrayRef {
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(value)])]))
        };
        assert_eq!(hash(vec![float(0.0)]), hash(vec![float(-0.0)]));
        assert!(!supported(&DataType::new_list(DataType::Float16, true)));
    }

    #[test]
    fn equal_values_of_different_types_hash_alike() {
        let of = |column: ArrayRef| hash(vec![column])[0];
        assert_eq!(of(Arc::new(Int32Array::from(vec![7]))), of(Arc::new(UInt64Array::from(vec![7]))));
        assert_eq!(of(Arc::new(Float32Array::from(vec![0.5]))), of(Arc::new(Float64Array::from(vec![0.5]))));
        assert_eq!(of(Arc::new(StringArray::from(vec!["a"]))), of(Arc::new(StringViewArray::from(vec!["a"]))));
        assert_eq!(of(Arc::new(Float64Array::from(vec![0.0]))), of(Arc::new(Float64Array::from(vec![-0.0]))));
        assert_ne!(of(Arc::new(StringArray::from(vec![""]))), of(Arc::new(StringArray::from(vec![None::<&str>]))));
    }

    proptest! {
        #[test]
        fn every_hash_lies_in_the_range_of_its_slot(hash: u64, n_slots in 1_u32..200) {
            let slot = slot_of(hash, n_slots);
            let (low, high) = range_of(slot, n_slots);
            prop_assert!(slot < n_slots && low <= hash && hash <= high);
            prop_assert_eq!(slot_of(low, n_slots), slot);
            prop_assert_eq!(slot_of(high, n_slots), slot);
        }
    }
}
