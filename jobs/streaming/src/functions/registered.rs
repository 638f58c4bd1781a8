//! The functions that a program gives to its jobs' SQL.
//!
//! ```
//! use arrow::array::{ArrayRef, AsArray, StringArray};
//! use arrow::datatypes::DataType;
//! use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
//! use std::sync::Arc;
//! use std::time::Duration;
//! use streaming::functions::{AsyncError, AsyncFunction, AsyncScalar, Functions, OnError};
//!
//! /// Asks somebody else, for many rows at once.
//! #[derive(Debug)]
//! struct Greeting;
//!
//! #[async_trait::async_trait]
//! impl AsyncFunction for Greeting {
//!     async fn call(&self, arguments: Vec<ArrayRef>, _n_rows: usize) -> Result<ArrayRef, AsyncError> {
//!         let names = arguments[0].as_string::<i32>();
//!         Ok(Arc::new(names.iter().map(|name| name.map(|name| format!("hello {name}"))).collect::<StringArray>()))
//!     }
//! }
//!
//! let shout = create_udf("shout", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(|args| {
//!     let args = ColumnarValue::values_to_arrays(args)?;
//!     let texts = args[0].as_string::<i32>().iter().map(|text| text.map(str::to_uppercase));
//!     Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>())))
//! }));
//! let greet = AsyncScalar::new("greet", vec![DataType::Utf8], DataType::Utf8, Greeting)
//!     .batch_rows(500)
//!     .in_flight(4)
//!     .timeout(Duration::from_secs(2))
//!     .retries(1)
//!     .on_error(OnError::Null);
//! let functions = Functions::new().with(shout).with_async(greet);
//!
//! let script = streaming::sql::parse("
//!     CREATE TABLE people (name VARCHAR) WITH (connector = 'datagen', rows = 10);
//!     SELECT shout(greet(name)) AS greeting FROM people;
//! ").unwrap();
//! let planning = streaming::sql::plan(&script, &[1], &functions);
//! assert!(futures::executor::block_on(planning).is_ok());
//! ```
//!
//! The program `smack` registers its own in one place, `runner/src/functions.rs`.
//!
//! Invariant: what is registered is called with whole Arrow columns, from many threads at once, and has to be known by its
//! lower case wherever the file is read: at the desk, in the tasks, and in a program's own batch queries.

use super::asynchronous::AsyncScalar;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The functions that a job's SQL may call, besides those that DataFusion has. A later one of the same name wins.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    repeatable: BTreeSet<String>,
}

impl Functions {
    pub fn new() -> Self {
        Self::default()
    }

    /// A function of columns, one value per row. Its volatility has a meaning: an immutable one is worked out once where its
    /// arguments are constant; a volatile one is called for every row, where it is written, and is refused over rows that
    /// may be taken back, because it may take back another row than it gave.
    pub fn register(&mut self, function: ScalarUDF) {
        self.scalars.push(Arc::new(function));
    }

    pub fn with(mut self, function: ScalarUDF) -> Self {
        self.register(function);
        self
    }

    /// An aggregate. In windows its accumulator is updated and its states are merged and kept in checkpoints. In an
    /// aggregation that takes rows back the rows of its arguments are kept, and the result of a group that changed is worked
    /// out anew over them, so that it need not be able to retract.
    pub fn register_aggregate(&mut self, function: AggregateUDF) {
        self.aggregates.push(Arc::new(function));
    }

    pub fn with_aggregate(mut self, function: AggregateUDF) -> Self {
        self.register_aggregate(function);
        self
    }

    /// A function that waits for something outside, see [`AsyncScalar`].
    pub fn register_async(&mut self, function: AsyncScalar) {
        if function.is_repeatable() {
            self.repeatable.insert(function.name().to_owned());
        }
        self.register(function.into_function());
    }

    pub fn with_async(mut self, function: AsyncScalar) -> Self {
        self.register_async(function);
        self
    }

    /// Those of `others` too; they win.
    pub fn and(mut self, others: &Self) -> Self {
        self.scalars.extend(others.scalars.iter().cloned());
        self.aggregates.extend(others.aggregates.iter().cloned());
        self.repeatable.extend(others.repeatable.iter().cloned());
        self
    }

    pub fn scalars(&self) -> impl Iterator<Item = &Arc<ScalarUDF>> {
        self.scalars.iter()
    }

    pub fn aggregates(&self) -> impl Iterator<Item = &Arc<AggregateUDF>> {
        self.aggregates.iter()
    }

    /// Names of functions that are called anew each time and still give the same for the same.
    pub(crate) fn repeatable(&self) -> &BTreeSet<String> {
        &self.repeatable
    }
}
