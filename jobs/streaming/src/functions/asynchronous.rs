//! Scalar functions that wait for something outside: a service, a cache, a model elsewhere.
//!
//! Rows are handed over some hundred at a time, several such calls at once, on a runtime that these functions have for
//! themselves. The slice waits for the calls of its batch, as it would for a slow computation: so rows stay in their order,
//! no barrier and no watermark overtakes them, and a checkpoint never holds a call in flight. What is in flight is bounded
//! by slice and call, and how long a batch may take by the timeout.
//!
//! Invariant: there is one value for each row, in the rows' order, whatever call ended first.

use arrow::array::{Array, ArrayRef, new_empty_array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use futures::{StreamExt, TryStreamExt, stream};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Why a call failed.
pub type AsyncError = Box<dyn std::error::Error + Send + Sync>;

/// What an [`AsyncScalar`] calls.
#[async_trait]
pub trait AsyncFunction: Debug + Send + Sync + 'static {
    /// One value, of the declared type, for each of `n_rows` rows. `arguments` have as many rows each.
    async fn call(&self, arguments: Vec<ArrayRef>, n_rows: usize) -> std::result::Result<ArrayRef, AsyncError>;
}

/// What becomes of rows whose call failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The task ends with the error, and starts again from the last checkpoint as after any other.
    Fail,
    /// They get null, and the log a warning.
    Null,
}

/// An asynchronous function with how it is called.
#[derive(Clone, Debug)]
pub struct AsyncScalar {
    name: String,
    signature: Signature,
    result: DataType,
    function: Arc<dyn AsyncFunction>,
    how: How,
}

#[derive(Clone, Copy, Debug)]
struct How {
    batch_rows: usize,
    in_flight: usize,
    timeout: Duration,
    retries: u32,
    on_error: OnError,
    repeatable: bool,
}

/// Enough that the outside is asked seldom, few enough that calls are there to go side by side.
const BATCH_ROWS: usize = 256;
const IN_FLIGHT: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before a call is made again, times the calls that failed.
const PAUSE: Duration = Duration::from_millis(50);
/// Calls wait far more than they compute.
const THREADS: usize = 2;

static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).thread_name("async-functions").enable_all().build()
});

impl AsyncScalar {
    /// `name` is how SQL calls it, in any case.
    pub fn new(name: &str, arguments: Vec<DataType>, result: DataType, function: impl AsyncFunction) -> Self {
        let signature = match arguments.is_empty() {
            true => Signature::nullary(Volatility::Volatile),
            false => Signature::exact(arguments, Volatility::Volatile),
        };
        let how = How {
            batch_rows: BATCH_ROWS,
            in_flight: IN_FLIGHT,
            timeout: TIMEOUT,
            retries: 0,
            on_error: OnError::Fail,
            repeatable: false,
        };
        Self { name: name.to_lowercase(), signature, result, function: Arc::new(function), how }
    }

    /// Rows of one call at most; 256 unless said otherwise.
    pub fn batch_rows(mut self, batch_rows: usize) -> Self {
        self.how.batch_rows = batch_rows.max(1);
        self
    }

    /// Calls at the same time, for one batch of one slice; 8 unless said otherwise.
    pub fn in_flight(mut self, in_flight: usize) -> Self {
        self.how.in_flight = in_flight.max(1);
        self
    }

    /// How long one call may take; 10 seconds unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.how.timeout = timeout;
        self
    }

    /// How often a call that failed, or took too long, is made again; never unless said otherwise.
    pub fn retries(mut self, retries: u32) -> Self {
        self.how.retries = retries;
        self
    }

    /// [`OnError::Fail`] unless said otherwise.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.how.on_error = on_error;
        self
    }

    /// Promises that the same arguments give the same value for as long as a job lives. Only then may it be called over rows
    /// that may be taken back.
    pub fn repeatable(mut self) -> Self {
        self.how.repeatable = true;
        self
    }

    pub(super) fn is_repeatable(&self) -> bool {
        self.how.repeatable
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn into_function(self) -> ScalarUDF {
        ScalarUDF::new_from_impl(self)
    }

    /// One call, as often as it may be made.
    async fn called(self, arguments: Vec<ArrayRef>, n_rows: usize) -> Result<ArrayRef> {
        let How { timeout, retries, on_error, .. } = self.how;
        let mut n_failed = 0;
        loop {
            let call = self.function.call(arguments.clone(), n_rows);
            let failed: AsyncError = match tokio::time::timeout(timeout, call).await {
                Ok(Ok(values)) => return self.fitting(values, n_rows),
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {timeout:?}").into(),
            };
            n_failed += 1;
            if n_failed <= retries {
                tokio::time::sleep(PAUSE * n_failed).await;
                continue;
            }
            return match on_error {
                OnError::Fail => {
                    exec_err!("function '{}' failed for {n_rows} rows after {n_failed} calls: {failed}", self.name)
                }
                OnError::Null => {
                    tracing::warn!(function = %self.name, n_rows, n_failed, error = %failed, "rows got null");
                    Ok(new_null_array(&self.result, n_rows))
                }
            };
        }
    }

    fn fitting(&self, values: ArrayRef, n_rows: usize) -> Result<ArrayRef> {
        if values.len() != n_rows || *values.data_type() != self.result {
            let (n_values, found) = (values.len(), values.data_type());
            return exec_err!(
                "function '{}' gave {n_values} values of {found} for {n_rows} rows of {}",
                self.name,
                self.result
            );
        }
        Ok(values)
    }
}

impl PartialEq for AsyncScalar {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.signature == other.signature && self.result == other.result
    }
}

impl Eq for AsyncScalar {}

impl Hash for AsyncScalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for AsyncScalar {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let n_rows = args.number_rows;
        if n_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&self.result)));
        }
        let columns = args.args.iter().map(|arg| arg.to_array(n_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let runtime = RUNTIME.as_ref().map_err(|error| exec_datafusion_err!("start the async functions: {error}"))?;
        let parts = (0..n_rows).step_by(self.how.batch_rows).map(|offset| {
            let length = self.how.batch_rows.min(n_rows - offset);
            self.clone().called(columns.iter().map(|column| column.slice(offset, length)).collect(), length)
        });
        let calls = stream::iter(parts.collect::<Vec<_>>()).buffered(self.how.in_flight);
        let (done, answer) = mpsc::sync_channel(1);
        // Not waited for in place: the thread here may belong to another runtime.
        runtime.spawn(async move {
            let values: Result<Vec<ArrayRef>> = calls.try_collect().await;
            // Whoever waits for it is there until it came.
            let _ = done.send(values);
        });
        let values = answer.recv().map_err(|_| exec_datafusion_err!("function '{}' panicked", self.name))??;
        let values: Vec<&dyn Array> = values.iter().map(|values| values.as_ref()).collect();
        Ok(ColumnarValue::Array(concat(&values).map_err(DataFusionError::from)?))
    }
}

#[cfg(test)]
mod tests;
