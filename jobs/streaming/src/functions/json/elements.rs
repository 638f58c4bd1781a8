//! `json_array_elements(json)`: the elements of a JSON array as an array of JSON texts, for `UNNEST` to make rows of.

use arrow::array::{Array, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde_json::value::RawValue;
use std::sync::Arc;

pub(crate) fn json_array_elements() -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::new_from_impl(Elements { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Elements {
    signature: Signature,
}

impl ScalarUDFImpl for Elements {
    fn name(&self) -> &str {
        "json_array_elements"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Utf8, true))
    }

    /// Null where there is no array.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [json] = args.args.as_slice() else { return exec_err!("json_array_elements takes one argument") };
        let json = json.to_array(args.number_rows)?;
        let json = json.as_string::<i32>();
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in 0..json.len() {
            let text = if json.is_valid(row) { json.value(row) } else { "" };
            match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(elements) => {
                    elements.iter().for_each(|element| lists.values().append_value(element.get()));
                    lists.append(true);
                }
                Err(_) => lists.append(false),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(lists.finish())))
    }
}
