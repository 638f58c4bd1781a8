//! Floats that are equal as one value: -0.0 as 0.0 and every NaN as one, as GROUP BY has them.

use arrow::array::{Array, ArrayData, ArrayRef, ArrowPrimitiveType, PrimitiveArray, make_array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::error::Result;
use std::sync::Arc;

/// Whether two values of this type can be equal and yet differ.
pub fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_floats(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        _ => false,
    }
}

/// The same values, so that those which are equal do not differ.
pub fn canonical(column: &ArrayRef) -> Result<ArrayRef> {
    if !holds_floats(column.data_type()) {
        return Ok(Arc::clone(column));
    }
    Ok(make_array(canonical_data(column.to_data())?))
}

fn canonical_data(data: ArrayData) -> Result<ArrayData> {
    match data.data_type() {
        DataType::Float32 => Ok(floats::<Float32Type>(data, |value| match value {
            value if value.is_nan() => f32::NAN,
            value => value + 0.0,
        })),
        DataType::Float64 => Ok(floats::<Float64Type>(data, |value| match value {
            value if value.is_nan() => f64::NAN,
            value => value + 0.0,
        })),
        _ => {
            let children = data.child_data().iter().cloned().map(canonical_data).collect::<Result<_>>()?;
            Ok(data.into_builder().child_data(children).build()?)
        }
    }
}

/// `one`: -0.0 and 0.0 add up to 0.0.
fn floats<T: ArrowPrimitiveType>(data: ArrayData, one: impl Fn(T::Native) -> T::Native) -> ArrayData {
    PrimitiveArray::<T>::from(data).unary::<_, T>(one).into_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Float64Array, Int64Array, ListArray, StructArray};
    use arrow::datatypes::Field;

    #[test]
    fn equal_floats_are_one_value_at_any_depth() {
        let odd = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 1);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(odd), Some(1.5), Some(0.0)]));
        let bits = |column: &ArrayRef| -> Vec<Option<u64>> {
            column.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect()
        };
        let wanted: Vec<Option<u64>> =
            [Some(0.0), None, Some(f64::NAN), Some(1.5), Some(0.0)].map(|value| value.map(f64::to_bits)).into();
        assert_eq!(bits(&canonical(&floats).expect("floats")), wanted);
        assert_eq!(bits(&canonical(&floats.slice(2, 3)).expect("floats")), wanted[2..]);

        let field = Arc::new(Field::new_list_field(DataType::Float64, true));
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0)]), None, Some([Some(-0.0)])]);
        let structs: ArrayRef = Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("of", DataType::List(field), true)), Arc::new(lists) as ArrayRef),
            (Arc::new(Field::new("n", DataType::Int64, true)), Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ]));
        let column = canonical(&structs.slice(1, 2)).expect("structs");
        let last = column.as_struct().column(0).as_list::<i32>().value(1);
        assert_eq!(bits(&last), [Some(0.0_f64.to_bits())]);
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(Arc::ptr_eq(&canonical(&whole).expect("whole numbers"), &whole));
    }
}
