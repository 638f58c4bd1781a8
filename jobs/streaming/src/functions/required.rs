//! What a column declared NOT NULL is written through: the value as it is, or an error that tells the row.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// `required(value, all columns of the row …)`.
pub(crate) fn required(table: &str, column: &str, row: Vec<String>) -> ScalarUDF {
    let signature = Signature::variadic_any(Volatility::Immutable);
    ScalarUDF::new_from_impl(Required { table: table.to_string(), column: column.to_string(), row, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Required {
    table: String,
    column: String,
    /// The names of the row's columns.
    row: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for Required {
    fn name(&self) -> &str {
        "required"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let n_rows = args.number_rows;
        let value = args.args[0].clone().into_array(n_rows)?;
        let Some(nulls) = value.logical_nulls().filter(|nulls| nulls.null_count() > 0) else {
            return Ok(ColumnarValue::Array(value));
        };
        let at = (0..n_rows).find(|row| nulls.is_null(*row)).unwrap_or_default();
        let columns = args.args[1..].iter().map(|column| column.clone().into_array(n_rows));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = FormatOptions::default().with_null("NULL");
        let cells = self.row.iter().zip(&columns).map(|(name, column)| {
            let cell = ArrayFormatter::try_new(column.as_ref(), &options)?.value(at).to_string();
            Ok(format!("{name} = {cell}"))
        });
        let cells = cells.collect::<Result<Vec<String>>>()?;
        Err(DataFusionError::Execution(format!(
            "column '{}' of table '{}' is NOT NULL, and this row has none for it: {}; SET sink.not_null = 'drop' leaves such \
             rows out",
            self.column,
            self.table,
            cells.join(", ")
        )))
    }
}
