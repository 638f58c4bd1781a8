//! Functions that a program registers, in streams as in batches.

use super::super::{check_with, parse_with, plan};
use super::running::{TABLES, context, lines};
use crate::batch::{BatchContext, collect};
use crate::functions::{AsyncError, AsyncFunction, AsyncScalar, Functions};
use crate::runtime::local::{LocalConfig, run};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use async_trait::async_trait;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, ColumnarValue, ScalarUDF, Volatility, create_udaf, create_udf};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The largest less the least, which nothing can be taken back from.
#[derive(Debug, Default)]
struct Spread(Option<(i64, i64)>);

impl Spread {
    fn take(&mut self, values: &ArrayRef) {
        for value in values.as_primitive::<Int64Type>().iter().flatten() {
            let (least, most) = self.0.unwrap_or((value, value));
            self.0 = Some((least.min(value), most.max(value)));
        }
    }
}

impl Accumulator for Spread {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(&values[0]);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(self.0.map(|(least, most)| most - least)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(self.0.map(|(least, _)| least)), ScalarValue::Int64(self.0.map(|(_, most)| most))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states.iter().for_each(|state| self.take(state));
        Ok(())
    }
}

#[derive(Debug)]
struct Half;

#[async_trait]
impl AsyncFunction for Half {
    async fn call(&self, arguments: Vec<ArrayRef>, _: usize) -> std::result::Result<ArrayRef, AsyncError> {
        let numbers = arguments[0].as_primitive::<Int64Type>();
        tokio::task::yield_now().await;
        Ok(Arc::new(numbers.iter().map(|number| number.map(|number| number / 2)).collect::<Int64Array>()))
    }
}

fn thrice() -> ScalarUDF {
    let function = |args: &[ColumnarValue]| {
        let args = ColumnarValue::values_to_arrays(args)?;
        let numbers = args[0].as_primitive::<Int64Type>().iter().map(|number| number.map(|number| number * 3));
        Ok(ColumnarValue::Array(Arc::new(numbers.collect::<Int64Array>()) as ArrayRef))
    };
    create_udf("thrice", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(function))
}

fn functions() -> Functions {
    let int = DataType::Int64;
    let spread = create_udaf(
        "spread",
        vec![int.clone()],
        Arc::new(int.clone()),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::<Spread>::default())),
        Arc::new(vec![int.clone(), int.clone()]),
    );
    let half = || AsyncScalar::new("half", vec![DataType::Int64], DataType::Int64, Half).batch_rows(7).in_flight(3);
    let sure = AsyncScalar::new("sure_half", vec![int.clone()], int, Half).repeatable();
    Functions::new().with(thrice()).with_aggregate(spread).with_async(half()).with_async(sure)
}

fn answers_alike(tables: &str, sql: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let functions = functions();
    let script = parse_with(&format!("{tables};{sql}"), &functions).expect("the file is right");
    let wanted = collect(&script, sql, &functions, BatchContext::new(context(folder.path())));
    let wanted = lines(&runtime.block_on(wanted).expect("the query runs"));
    assert!(wanted.len() > 3, "too few rows to tell: {wanted:?}");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let dataflow = runtime.block_on(plan(&script, &statements, &functions)).expect("fit for streams");
    for (tasks, slices) in [(1, 1), (2, 2)] {
        let dead = folder.path().join("dead");
        let config = LocalConfig { tasks, slices, ..LocalConfig::new("test/query", folder.path().into(), dead) };
        let job = run(dataflow.clone(), config).expect("the job starts");
        let batches: Vec<RecordBatch> = job.results.iter().collect();
        job.wait().expect("the job ends");
        assert_eq!(lines(&batches), wanted, "at {tasks}x{slices} of {sql}");
    }
}

#[test]
fn of_every_kind_answer_as_in_a_batch() {
    for sql in [
        "SELECT id, thrice(half(amount)) AS t FROM payments WHERE half(id) % 2 = 0",
        "SELECT card, spread(amount) AS s FROM payments GROUP BY card",
        // Over rows that are taken back.
        "SELECT shop, spread(n) AS s, spread(half) FROM (SELECT shop, card, count(*) AS n, sure_half(sum(amount)) AS half
           FROM payments GROUP BY shop, card) GROUP BY shop",
        "SELECT card, window_end, spread(half(amount)) AS s
           FROM TABLE(HOP(TABLE payments, DESCRIPTOR(ts), INTERVAL '100 milliseconds', INTERVAL '300 milliseconds'))
           GROUP BY card, window_start, window_end",
    ] {
        answers_alike(TABLES, sql);
    }
}

/// Also where the file's tables are filled by queries that call them.
#[test]
fn are_known_where_tables_are_declared() {
    let tables = format!("{TABLES} CREATE MATERIALIZED VIEW halves AS SELECT id, half(amount) AS h FROM payments");
    assert!(parse_with(&tables, &Functions::new()).is_err());
    answers_alike(&tables, "SELECT h, count(*) AS n FROM halves GROUP BY h");
}

#[test]
fn what_may_answer_otherwise_is_refused_over_changes() {
    let grouped = "(SELECT card, count(*) AS n FROM payments GROUP BY card)";
    for (sql, name) in [
        (format!("SELECT card, half(n) FROM {grouped}"), "half"),
        (format!("SELECT n FROM {grouped} WHERE half(n) > 2"), "half"),
        (format!("SELECT n, random() FROM {grouped}"), "random"),
        (format!("SELECT n, proctime() FROM {grouped}"), "proctime"),
    ] {
        // Without an end, so that it is planned as a stream.
        let tables = TABLES.replace("rows = 3000, ", "");
        let found = check_with(&format!("{tables}{sql}"), &functions()).err().unwrap_or_default();
        let wanted = format!("{name}() over rows that may be taken back is not supported");
        assert!(found.iter().any(|error| error.message == wanted), "{found:?} of {sql}");
    }
}
