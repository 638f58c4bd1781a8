//! `ordinals(array, …)`: for each row the list 1, 2, … of the places of its longest array.

use arrow::array::{Array, AsArray, Int64Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

pub(super) fn ordinals() -> ScalarUDF {
    ScalarUDF::new_from_impl(Ordinals { signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordinals {
    signature: Signature,
}

impl ScalarUDFImpl for Ordinals {
    fn name(&self) -> &str {
        "ordinals"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Int64, true))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut longest: Vec<Option<usize>> = vec![None; args.number_rows];
        for arg in &args.args {
            let list = arg.to_array(args.number_rows)?;
            let list = match list.data_type() {
                DataType::List(_) => list,
                DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    cast(&list, &DataType::List(Arc::clone(item)))?
                }
                other => return exec_err!("ordinals are of arrays, not of {other}"),
            };
            let list = list.as_list::<i32>();
            for (row, longest) in longest.iter_mut().enumerate().filter(|(row, _)| list.is_valid(*row)) {
                *longest = (*longest).max(Some(list.value_length(row) as usize));
            }
        }
        let lengths = longest.iter().map(|length| length.unwrap_or(0));
        let values: Int64Array = lengths.clone().flat_map(|length| 1..=length as i64).collect();
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        let nulls = NullBuffer::from_iter(longest.iter().map(Option::is_some));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(values), Some(nulls))?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
