//! Functions that SQL may call besides DataFusion's own: those of this crate, and those that a program registers.

mod aggregates;
mod asynchronous;
mod current_watermark;
mod digests;
mod json;
mod patterns;
mod registered;
mod required;
mod spelled;
mod text;
mod versioned;

pub use asynchronous::{AsyncError, AsyncFunction, AsyncScalar, OnError};
pub use registered::Functions;
pub use versioned::{Callable, InUse, Versioned, Versions, declared_predict, predict};

pub(crate) use aggregates::{Room, ValueAtExtreme, aggregate_functions, is_of_set, is_sum, out_of_range};
pub(crate) use current_watermark::{CURRENT_WATERMARK, Cell, asks_watermark, bound, current_watermark};
pub(crate) use digests::digest_functions;
pub(crate) use json::{JsonOperators, json_array_elements, json_functions};
pub(crate) use patterns::pattern_functions;
pub(crate) use required::required;
pub(crate) use spelled::spelled_functions;
pub(crate) use text::text_functions;
pub(crate) use versioned::{bound_to, calls_versions, names_versions};

use arrow::array::{ArrayRef, AsArray, ListArray, TimestampMicrosecondArray, TimestampMicrosecondBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
    let signature = Signature::exact(types, Volatility::Immutable);
    ScalarUDF::new_from_impl(WindowTimes { of: Times::HopStarts, signature })
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

/// `cumulate_ends(event time, width, step)`: the ends of all windows in which an event time lies, earliest first.
pub(crate) fn cumulate_ends() -> ScalarUDF {
    let types = vec![event_time(), DataType::Int64, DataType::Int64];
    let signature = Signature::exact(types, Volatility::Immutable);
    ScalarUDF::new_from_impl(WindowTimes { of: Times::CumulateEnds, signature })
}

/// `PROCTIME()`: the moment at which a row is read.
pub(crate) fn proctime() -> ScalarUDF {
    ScalarUDF::new_from_impl(Proctime { signature: Signature::nullary(Volatility::Volatile) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Proctime {
    signature: Signature,
}

impl ScalarUDFImpl for Proctime {
    fn name(&self) -> &str {
        "proctime"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(event_time())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(now), Some("UTC".into()))))
    }
}

/// The bounds of all windows in which an event time lies, given a window's two sizes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowTimes {
    of: Times,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Times {
    HopStarts,
    CumulateEnds,
}

impl WindowTimes {
    fn item() -> Arc<Field> {
        Arc::new(Field::new("item", event_time(), true))
    }
}

impl ScalarUDFImpl for WindowTimes {
    fn name(&self) -> &str {
        match self.of {
            Times::HopStarts => "hop_starts",
            Times::CumulateEnds => "cumulate_ends",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Self::item()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, width, other] = args.args.as_slice() else {
            return exec_err!("{} takes three arguments", self.name());
        };
        let (width, other) = (microseconds(width)?, microseconds(other)?);
        let time: ArrayRef = time.to_array(args.number_rows)?;
        let time = time.as_primitive::<TimestampMicrosecondType>();
        let mut times = TimestampMicrosecondBuilder::new();
        let mut lengths = Vec::with_capacity(time.len());
        for time in time {
            let of = match (self.of, time) {
                (_, None) => Vec::new(),
                (Times::HopStarts, Some(time)) => starts_of(time, width, other),
                (Times::CumulateEnds, Some(time)) => ends_of(time, width, other),
            };
            times.append_slice(&of);
            lengths.push(of.len());
        }
        let values = Arc::new(times.finish().with_timezone("UTC"));
        let list = ListArray::try_new(Self::item(), OffsetBuffer::from_lengths(lengths), values, None)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}

/// The multiples of `slide` whose window of `width` holds `time`.
fn starts_of(time: i64, width: i64, slide: i64) -> Vec<i64> {
    let last = time - time.rem_euclid(slide);
    let n = (last - (time - width) + slide - 1).div_euclid(slide).max(0);
    (0..n).rev().map(|back| last - back * slide).collect()
}

/// The ends of steps after `time` within its window of `width`.
fn ends_of(time: i64, width: i64, step: i64) -> Vec<i64> {
    let start = time - time.rem_euclid(width);
    let first = (time - start).div_euclid(step) + 1;
    (first..=width / step).map(|n| start + n * step).collect()
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
            let found: Vec<i64> = starts_of(time, width, slide);
            let wanted: Vec<i64> =
                (-2000..2000).filter(|s| s % slide == 0 && *s <= time && time < s + width).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
