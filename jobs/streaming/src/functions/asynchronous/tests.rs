//! Values, order and bounds of asynchronous calls.

use super::*;
use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{Field, Int64Type};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Doubles numbers; later calls are faster than earlier ones. A seven fails as often as it is told to.
#[derive(Debug, Default)]
struct Double {
    n_now: AtomicUsize,
    n_most: AtomicUsize,
    n_rows_most: AtomicUsize,
    n_calls: AtomicUsize,
    n_failures: usize,
}

#[async_trait]
impl AsyncFunction for Arc<Double> {
    async fn call(&self, arguments: Vec<ArrayRef>, n_rows: usize) -> std::result::Result<ArrayRef, AsyncError> {
        let at = self.n_calls.fetch_add(1, SeqCst);
        let now = self.n_now.fetch_add(1, SeqCst) + 1;
        self.n_most.fetch_max(now, SeqCst);
        self.n_rows_most.fetch_max(n_rows, SeqCst);
        tokio::time::sleep(Duration::from_micros(600_u64.saturating_sub(at as u64 * 50))).await;
        self.n_now.fetch_sub(1, SeqCst);
        let numbers = arguments[0].as_primitive::<Int64Type>();
        if numbers.iter().any(|number| number == Some(7)) && at < self.n_failures {
            return Err("seven".into());
        }
        if numbers.iter().any(|number| number == Some(-1)) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        Ok(Arc::new(numbers.iter().map(|number| number.map(|number| number * 2)).collect::<Int64Array>()))
    }
}

fn double(function: &Arc<Double>) -> AsyncScalar {
    AsyncScalar::new("Double", vec![DataType::Int64], DataType::Int64, Arc::clone(function))
}

fn invoke(function: &AsyncScalar, numbers: &[Option<i64>]) -> Result<Vec<Option<i64>>> {
    let field = Arc::new(Field::new("n", DataType::Int64, true));
    let args = ScalarFunctionArgs {
        args: vec![ColumnarValue::Array(Arc::new(numbers.iter().copied().collect::<Int64Array>()))],
        arg_fields: vec![Arc::clone(&field)],
        number_rows: numbers.len(),
        return_field: field,
        config_options: Arc::default(),
    };
    let values = function.invoke_with_args(args)?.into_array(numbers.len())?;
    Ok(values.as_primitive::<Int64Type>().iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_row_gets_its_value_in_order_within_the_bounds(
        numbers in prop::collection::vec(prop::option::of(0..6i64), 0..60),
        batch_rows in 1..9usize,
        in_flight in 1..5usize,
    ) {
        let function = Arc::new(Double::default());
        let scalar = double(&function).batch_rows(batch_rows).in_flight(in_flight);
        let wanted: Vec<Option<i64>> = numbers.iter().map(|number| number.map(|number| number * 2)).collect();
        prop_assert_eq!(invoke(&scalar, &numbers).expect("values"), wanted);
        prop_assert!(function.n_most.load(SeqCst) <= in_flight);
        prop_assert!(function.n_rows_most.load(SeqCst) <= batch_rows);
        prop_assert_eq!(function.n_calls.load(SeqCst), numbers.len().div_ceil(batch_rows));
    }
}

#[test]
fn what_fails_is_tried_again_and_then_told_or_null() {
    let failing = |n_failures| Arc::new(Double { n_failures, ..Double::default() });
    let numbers = [Some(1), Some(7), Some(3)];
    let once = double(&failing(1)).retries(1);
    assert_eq!(invoke(&once, &numbers).expect("values"), [Some(2), Some(14), Some(6)]);
    let told = invoke(&double(&failing(9)).retries(1), &numbers).expect_err("it fails").to_string();
    assert!(told.contains("function 'double' failed for 3 rows after 2 calls: seven"), "{told}");
    let null = double(&failing(9)).batch_rows(1).on_error(OnError::Null);
    assert_eq!(invoke(&null, &numbers).expect("values"), [Some(2), None, Some(6)]);
}

#[test]
fn what_takes_too_long_is_given_up() {
    let slow = double(&Arc::default()).batch_rows(1).timeout(Duration::from_millis(20));
    let told = invoke(&slow, &[Some(-1)]).expect_err("it fails").to_string();
    assert!(told.contains("no answer within 20ms"), "{told}");
    assert_eq!(invoke(&slow.on_error(OnError::Null), &[Some(-1), Some(4)]).expect("values"), [None, Some(8)]);
}

/// One that panics, one that gives too few values.
#[derive(Debug)]
struct Broken(bool);

#[async_trait]
impl AsyncFunction for Broken {
    async fn call(&self, arguments: Vec<ArrayRef>, _: usize) -> std::result::Result<ArrayRef, AsyncError> {
        assert!(self.0, "on purpose");
        Ok(arguments[0].slice(0, 1))
    }
}

#[test]
fn a_broken_function_is_named() {
    for (panics, wanted) in
        [(false, "function 'broken' panicked"), (true, "gave 1 values of Int64 for 2 rows of Int64")]
    {
        let broken = AsyncScalar::new("broken", vec![DataType::Int64], DataType::Int64, Broken(panics));
        let told = invoke(&broken, &[Some(1), Some(2)]).expect_err("it fails").to_string();
        assert!(told.contains(wanted), "{told}");
    }
}

/// Also where the thread that waits is one of another runtime, as in batch queries.
#[tokio::test]
async fn waits_within_another_runtime() {
    assert_eq!(invoke(&double(&Arc::default()), &[Some(4)]).expect("values"), [Some(8)]);
}
