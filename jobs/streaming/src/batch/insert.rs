//! INSERTs over input that ends, by DataFusion's engine instead of the streaming operators.
//!
//! Invariant: all rows of all statements are one epoch of their sinks. None is committed before all are written, so of a run
//! that fails nothing is seen in a table that is written exactly once; others show what they had been given.

use super::{BatchContext, Error, Parameters, exhausted, find, planned};
use crate::functions::Functions;
use crate::runtime::operators::relabel;
use crate::sql::{
    Catalog, Place, Script, TableStatement, fit, not_null_enforced, same_but_names, target, unique_keys, with_room,
};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use connectors::{Context, Sink, TableDef, Takes};
use datafusion::common::{Column, DataFusionError, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream_partitioned};
use futures::StreamExt;
use jobs::Diagnostic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The epoch of all rows.
const EPOCH: u64 = 1;

/// Batches on their way to a sink: one is being written while one waits.
const BATCHES_AHEAD: usize = 2;

const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Short enough to end soon after nobody waits any more.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// INSERTs of a file that run as one job.
pub struct Insert<'a> {
    pub script: &'a Script,
    /// Indices among the file's statements.
    pub statements: &'a [usize],
    pub functions: &'a Functions,
    pub open: BatchContext,
    /// Counts rows that were given to sinks.
    pub rows_out: Arc<AtomicU64>,
    /// Told what a person should see meanwhile.
    pub tell: Tell,
}

pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// What was written and committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_bad: u64,
}

/// Whether [`insert`] would begin, without opening anything.
pub fn check_insert(script: &Script, statements: &[usize], functions: &Functions) -> Result<(), Vec<Diagnostic>> {
    with_room(|| Prepare::all(script, statements, functions, None).map(|_| ()))
}

/// Runs INSERTs to their end and commits what they wrote.
pub async fn insert(job: Insert<'_>) -> Result<Written, Error> {
    let Insert { script, statements, functions, open, rows_out, tell } = job;
    let given_up = GivenUp::default();
    let patience = Patience { given_up: Arc::clone(&given_up.0), tell };
    let (rows_in, rows_bad) = (Arc::clone(&open.rows_in), Arc::clone(&open.rows_bad));
    let context = open.context.clone();
    let all = with_room(|| Prepare::all(script, statements, functions, Some(&open))).map_err(Error::Query)?;
    let mut parts: Vec<(TableDef, SendableRecordBatchStream)> = Vec::new();
    for one in &all {
        let streams = execute_stream_partitioned(one.physical(script).await?, one.catalog.state.task_ctx())?;
        parts.extend(streams.into_iter().map(|rows| (one.table.def.clone(), rows)));
    }
    let n_slots = parts.len() as u32;
    let mut writing = JoinSet::new();
    for (slot, (table, rows)) in (0..).zip(parts) {
        // Each part is a writer of its own, as a slice of a stream is.
        let context = Context { slot, n_slots, ..context.clone() };
        let writer = Writer { table, context, rows_out: Arc::clone(&rows_out), patience: patience.clone() };
        writing.spawn(write(writer, rows));
    }
    let mut sinks = Vec::new();
    while let Some(written) = writing.join_next().await {
        match written.map_err(ours)? {
            Ok(sink) => sinks.push(sink),
            // What others wrote goes with them.
            Err(Error::Insert { source, .. }) if exhausted(&source) && rows_out.load(Ordering::Relaxed) == 0 => {
                return Err(Error::Memory(*source));
            }
            Err(error) => return Err(error),
        }
    }
    tokio::task::spawn_blocking(move || sinks.into_iter().try_for_each(Prepared::commit)).await.map_err(ours)??;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Written { rows_in: count(&rows_in), rows_out: count(&rows_out), rows_bad: count(&rows_bad) })
}

/// An INSERT whose query is planned.
pub(super) struct Prepare {
    catalog: Catalog,
    pub(super) plan: LogicalPlan,
    pub(super) table: Arc<TableStatement>,
    /// By column of the query, the table's.
    pub(super) targets: Vec<usize>,
}

impl Prepare {
    fn all(
        script: &Script,
        statements: &[usize],
        functions: &Functions,
        open: Option<&BatchContext>,
    ) -> Result<Vec<Self>, Vec<Diagnostic>> {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for statement in statements {
            match Self::new(script, *statement, functions, open) {
                Ok(one) => all.push(one),
                Err(found) => errors.extend(found),
            }
        }
        errors.dedup();
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    pub(super) fn new(
        script: &Script,
        index: usize,
        functions: &Functions,
        open: Option<&BatchContext>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let statement = script.statements.get(index);
        let Some((statement, insert)) =
            statement.and_then(|statement| Some((statement, statement.body.explained().insert()?)))
        else {
            return Err(vec![Diagnostic::new(format!("statement {index} is no INSERT"))]);
        };
        let place = Place { script, tokens: &statement.tokens };
        let table = target(script, insert).map_err(|error| vec![error])?;
        let plan = |open: Option<BatchContext>| -> Result<(Catalog, LogicalPlan), Vec<Diagnostic>> {
            let catalog = Catalog::new(script, functions, None, open.map(Arc::new))?;
            let plan = planned(&catalog, &insert.query, &Parameters::NONE, place)?;
            Ok((catalog, plan))
        };
        let (catalog, query) = plan(open.cloned())?;
        let targets = fit(script, insert, &table, &query, place).map_err(|error| vec![error])?;
        let one = Self { catalog, plan: query, table, targets };
        let Some(open) = open.filter(|_| !one_row_per_key(&one.table, &one.targets, &one.plan)) else { return Ok(one) };
        // The last row of a key is what stays, so one after the other.
        let (catalog, plan) = plan(Some(BatchContext { target_partitions: 1, ..open.clone() }))?;
        Ok(Self { catalog, plan, ..one })
    }

    /// What gives the rows of the table.
    pub(super) async fn physical(&self, script: &Script) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let plan = as_table(script, self.plan.clone(), &self.table, &self.targets)?;
        self.catalog.state.create_physical_plan(&plan).await
    }
}

/// Whether what is written into a table that holds one row per key is one row per key already.
pub(super) fn one_row_per_key(table: &TableStatement, targets: &[usize], plan: &LogicalPlan) -> bool {
    let takes = connectors::find(table.def.connector()).map(|connector| connector.takes(&table.def));
    let key = &table.def.primary_key;
    let within = |unique: &Vec<usize>| unique.iter().all(|column| key.contains(&targets[*column]));
    takes != Some(Takes::Upsert) || unique_keys(plan).iter().any(within)
}

/// The columns of the table, in its types; what gets no value is NULL.
fn as_table(script: &Script, plan: LogicalPlan, table: &TableStatement, targets: &[usize]) -> PlanResult<LogicalPlan> {
    let columns: Vec<Expr> =
        plan.schema().iter().map(|(q, field)| Expr::Column(Column::new(q.cloned(), field.name()))).collect();
    let types: Vec<_> = plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let exprs = table.def.schema.fields().iter().enumerate().map(|(at, field)| {
        let given = targets.iter().position(|target| *target == at);
        let value = match given {
            // Rows take the names within structs from the table: those alone need no cast.
            Some(column) if same_but_names(&types[column], field.data_type()) => columns[column].clone(),
            Some(column) => cast(columns[column].clone(), field.data_type().clone()),
            None => cast(lit(ScalarValue::Null), field.data_type().clone()),
        };
        value.alias(field.name())
    });
    let mut rows = LogicalPlanBuilder::from(plan).project(exprs.collect::<Vec<_>>())?;
    if !table.not_null.is_empty() {
        let columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
        let (condition, written) = not_null_enforced(script, table, &columns);
        if let Some(condition) = condition {
            rows = rows.filter(condition)?;
        }
        let named = written.into_iter().zip(table.def.schema.fields()).map(|(expr, field)| expr.alias(field.name()));
        rows = rows.project(named.collect::<Vec<_>>())?;
    }
    rows.build()
}

struct Writer {
    table: TableDef,
    context: Context,
    rows_out: Arc<AtomicU64>,
    patience: Patience,
}

/// A sink that has prepared all that it was given.
struct Prepared {
    table: String,
    sink: Box<dyn Sink>,
    patience: Patience,
}

impl Prepared {
    fn commit(mut self) -> Result<(), Error> {
        self.patience.until_done("commit to", &self.table, || self.sink.commit(EPOCH))
    }
}

/// Gives all rows to a sink of its own, on a thread that may wait for the outside.
async fn write(writer: Writer, mut rows: SendableRecordBatchStream) -> Result<Prepared, Error> {
    let (send, mut take) = mpsc::channel::<RecordBatch>(BATCHES_AHEAD);
    let (ended, wait) = oneshot::channel::<()>();
    let table = writer.table.name.clone();
    let writes = tokio::task::spawn_blocking(move || {
        let mut open = Open::new(writer)?;
        while let Some(batch) = take.blocking_recv() {
            open.write(&batch)?;
        }
        // Without a word of the end the query has failed.
        wait.blocking_recv().ok().map(|()| open.prepare()).transpose()
    });
    while let Some(batch) = rows.next().await {
        // Nobody takes it when the sink has failed, which is told below.
        let batch = batch.map_err(|source| Error::Insert { table: table.clone(), source: Box::new(source) })?;
        if send.send(batch).await.is_err() {
            break;
        }
    }
    drop(send);
    let _ = ended.send(());
    let prepared = writes.await.map_err(ours)??;
    prepared.ok_or_else(|| Error::Execute(DataFusionError::Execution("the query was given up".into())))
}

struct Open {
    table: String,
    schema: SchemaRef,
    sink: Box<dyn Sink>,
    rows_out: Arc<AtomicU64>,
    patience: Patience,
}

impl Open {
    fn new(writer: Writer) -> Result<Self, Error> {
        let Writer { table, context, rows_out, patience } = writer;
        let sink = patience.until_done("open", &table.name, || find(&table)?.open_sink(&table, &context))?;
        Ok(Self { table: table.name.clone(), schema: Arc::clone(&table.schema), sink, rows_out, patience })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let batch = relabel(&self.schema, batch.clone())?;
        self.patience.until_done("write to", &self.table, || self.sink.write(&batch))?;
        self.rows_out.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn prepare(mut self) -> Result<Prepared, Error> {
        self.patience.until_done("prepare", &self.table, || self.sink.prepare(EPOCH))?;
        Ok(Prepared { table: self.table, sink: self.sink, patience: self.patience })
    }
}

/// Set when nobody waits for the rows any more.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tries again what the outside refuses for now, and says so, as the sinks of a stream do.
#[derive(Clone)]
struct Patience {
    given_up: Arc<AtomicBool>,
    tell: Tell,
}

impl Patience {
    /// `doing` completes "failed to … table T".
    fn until_done<T>(
        &self,
        doing: &'static str,
        table: &str,
        mut attempt: impl FnMut() -> connectors::Result<T>,
    ) -> Result<T, Error> {
        let failed = |text: String| Error::Sink { doing, table: table.to_string(), text };
        let mut wait = FIRST_WAIT;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(connectors::Error::Fatal(text)) => return Err(failed(text)),
                Err(connectors::Error::Transient(text)) if self.given_up.load(Ordering::Relaxed) => {
                    return Err(failed(text));
                }
                Err(connectors::Error::Transient(text)) => {
                    (self.tell)(format!("table {table}: {text}; trying to {doing} it again"));
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

fn ours(error: tokio::task::JoinError) -> Error {
    Error::Execute(DataFusionError::External(Box::new(error)))
}
