//! Scalar functions that SQL may call besides DataFusion's own.
//!
//! Invariant: what is registered here is called with whole Arrow columns, from many threads at once.

mod text;

pub(crate) use text::text_functions;

use arrow::array::{ArrayRef, AsArray, ListArray, TimestampMicrosecondArray, TimestampMicrosecondBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// The functions that a job's SQL may call, besides those that DataFusion has. A later one of the same name wins.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    scalars: Vec<Arc<ScalarUDF>>,
}

impl Functions {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn register(&mut self, function: ScalarUDF) {
        self.scalars.push(Arc::new(function));
    }

    pub fn with(mut self, function: ScalarUDF) -> Self {
        self.register(function);
        self
    }

    pub fn scalars(&self) -> impl Iterator<Item = &Arc<ScalarUDF>> {
        self.scalars.iter()
    }
}

/// `predict('model', feature, …)` for checking a file where no model is at hand: it has the right shape and fails when a
/// row reaches it.
pub fn declared_predict() -> ScalarUDF {
    ScalarUDF::new_from_impl(DeclaredPredict {
        signature: Signature::variadic_any(Volatility::Volatile),
        aliases: vec!["ml_predict".into()],
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DeclaredPredict {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for DeclaredPredict {
    fn name(&self) -> &str {
        "predict"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let model = match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(model)))) => model.clone(),
            _ => "?".into(),
        };
        exec_err!("no version of model '{model}' is at hand; train it first")
    }
}

fn event_time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Name of the function that gives the start of the tumbling window in which an event time lies.
pub(crate) const TUMBLE_START: &str = "tumble_start";

/// `tumble_start(event time, width in microseconds)`.
pub(crate) fn tumble_start() -> ScalarUDF {
    let types = vec![event_time(), DataType::Int64];
    ScalarUDF::new_from_impl(TumbleStart { signature: Signature::exact(types, Volatility::Immutable) })
}

/// `hop_starts(event time, width, slide)`: the starts of all windows in which an event time lies, earliest first.
pub(crate) fn hop_starts() -> ScalarUDF {
    let types = vec![event_time(), DataType::Int64, DataType::Int64];
    ScalarUDF::new_from_impl(HopStarts { signature: Signature::exact(types, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TumbleStart {
    signature: Signature,
}

impl ScalarUDFImpl for TumbleStart {
    fn name(&self) -> &str {
        TUMBLE_START
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(event_time())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, width] = args.args.as_slice() else { return exec_err!("tumble_start takes two arguments") };
        let width = microseconds(width)?;
        let time = time.to_array(args.number_rows)?;
        let starts: TimestampMicrosecondArray =
            time.as_primitive::<TimestampMicrosecondType>().unary(|time| time - time.rem_euclid(width));
        Ok(ColumnarValue::Array(Arc::new(starts.with_timezone("UTC"))))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HopStarts {
    signature: Signature,
}

impl HopStarts {
    fn item() -> Arc<Field> {
        Arc::new(Field::new("item", event_time(), true))
    }
}

impl ScalarUDFImpl for HopStarts {
    fn name(&self) -> &str {
        "hop_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Self::item()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, width, slide] = args.args.as_slice() else { return exec_err!("hop_starts takes three arguments") };
        let (width, slide) = (microseconds(width)?, microseconds(slide)?);
        let time: ArrayRef = time.to_array(args.number_rows)?;
        let time = time.as_primitive::<TimestampMicrosecondType>();
        let mut starts = TimestampMicrosecondBuilder::new();
        let mut lengths = Vec::with_capacity(time.len());
        for time in time {
            let before = starts.values_slice().len();
            if let Some(time) = time {
                for start in starts_of(time, width, slide) {
                    starts.append_value(start);
                }
            }
            lengths.push(starts.values_slice().len() - before);
        }
        let values = Arc::new(starts.finish().with_timezone("UTC"));
        let list = ListArray::try_new(Self::item(), OffsetBuffer::from_lengths(lengths), values, None)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}

/// The multiples of `slide` whose window of `width` holds `time`.
fn starts_of(time: i64, width: i64, slide: i64) -> impl Iterator<Item = i64> {
    let last = time - time.rem_euclid(slide);
    let n = (last - (time - width) + slide - 1).div_euclid(slide).max(0);
    (0..n).rev().map(move |back| last - back * slide)
}

fn microseconds(value: &ColumnarValue) -> Result<i64> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(us))) if *us > 0 => Ok(*us),
        other => exec_err!("a window's width is a positive constant, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hop_starts_are_exactly_the_windows_that_hold_the_time(time in -1000i64..1000, width in 1i64..50, slide in 1i64..50) {
            let found: Vec<i64> = starts_of(time, width, slide).collect();
            let wanted: Vec<i64> =
                (-2000..2000).filter(|s| s % slide == 0 && *s <= time && time < s + width).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
