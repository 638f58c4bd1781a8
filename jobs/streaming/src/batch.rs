//! SQL over input that ends, through DataFusion's own engine: bare SELECTs, INSERTs of a local run, training rows, and the
//! answer that the streaming operators are held against.
//!
//! Invariant: a table that never ends is refused before anything is read; a record that does not decode is counted. Of a
//! table that gives changes a query sees the rows that are left.

mod choice;
mod explain;
mod insert;
mod settled;
mod sorted;
#[cfg(test)]
mod tests;
mod wanted;

pub use choice::{Engine, Mode, choose};
pub use explain::{Shown, explain};
pub use insert::{Insert, Tell, Written, check_insert, insert};
pub(crate) use wanted::one_of;

use crate::dataflow::Window;
use crate::functions::{Functions, cumulate_ends, hop_starts, tumble_start};
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::operators::relabel;
use crate::sql::{
    Catalog, Place, Script, SelectQuery, Statement, StatementBody, WindowNode, as_of_place, bind, by_exists,
    for_each_scan, interval_us, late_rows_mistakes, parse_with, settle, spelled_field, wanted_parameters, with_room,
};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use connectors::{Gives, OneOf, Polled, SplitStart, TableDef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, NullHandling, Result as PlanResult, ScalarValue, UnnestOptions};
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::lag_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound,
    WindowFrameUnits, lit, when,
};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{StreamExt, TryStreamExt};
use jobs::Diagnostic;
use settled::Settled;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is needed to open the tables.
#[derive(Clone, Debug)]
pub struct BatchContext {
    pub context: connectors::Context,
    /// Threads that the query may use.
    pub target_partitions: usize,
    /// Counts rows that were read.
    pub rows_in: Arc<AtomicU64>,
    /// Counts records that did not decode.
    pub rows_bad: Arc<AtomicU64>,
    /// Where these are kept; without it they are left out.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Memory that operators may take before they go on in files; without it as much as there is.
    pub memory: Option<Memory>,
    /// Values of the query's parameters, in order.
    pub parameters: Vec<ScalarValue>,
}

/// What operators that keep rows may take.
#[derive(Clone, Debug)]
pub struct Memory {
    pub bytes: u64,
    /// Where they put what memory has no room for.
    pub spill_dir: PathBuf,
}

impl BatchContext {
    pub fn new(context: connectors::Context) -> Self {
        let target_partitions = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            context,
            target_partitions,
            rows_in: Arc::default(),
            rows_bad: Arc::default(),
            dead_letters: None,
            memory: None,
            parameters: Vec::new(),
        }
    }
}

/// Why a batch query failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is wrong, or asks for what never ends.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Query(Vec<Diagnostic>),
    #[error("run the query: {}", .0.strip_backtrace())]
    Execute(#[from] DataFusionError),
    /// Nothing was written yet: the streaming operators can still do it, whose state may lie on disk.
    #[error("run the query in its memory: {}", .0.strip_backtrace())]
    Memory(DataFusionError),
    #[error("run the INSERT INTO {table}: {}", .source.strip_backtrace())]
    Insert { table: String, source: Box<DataFusionError> },
    #[error("{doing} table {table}: {text}")]
    Sink { doing: &'static str, table: String, text: String },
}

/// Batches on their way from a reader to the query: one is being filled while one waits, more would only take memory.
const BATCHES_AHEAD: usize = 2;

/// How long one poll may wait before the reader looks whether anybody still wants rows.
const POLL: Duration = Duration::from_millis(100);

/// Attempts at an outside that does not answer, with growing pauses of together about twelve seconds.
const ATTEMPTS: u32 = 10;

/// Runs a SELECT over the tables and views of `script` and streams its rows.
///
/// Places in errors are those in the script where it holds the text of the query, else those in the query.
pub async fn query(
    script: &Script,
    query: &str,
    functions: &Functions,
    open: BatchContext,
) -> Result<SendableRecordBatchStream, Error> {
    let parameters = Parameters::Values(open.parameters.clone());
    let planned = Planned::new(script, query, functions, parameters, Some(open)).map_err(Error::Query)?;
    let rows = sorted::execute(planned.catalog.state.clone(), planned.plan).await?;
    let schema = spelled(&rows.schema(), &planned.script);
    let named = Arc::clone(&schema);
    let rows = rows.map(move |batch| relabel(&named, batch?));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

/// As [`query`], with all rows at once.
pub async fn collect(
    script: &Script,
    query: &str,
    functions: &Functions,
    open: BatchContext,
) -> Result<Vec<RecordBatch>, Error> {
    Ok(self::query(script, query, functions, open).await?.try_collect().await?)
}

/// The columns that [`query`] would give, without opening anything.
pub fn schema(script: &Script, query: &str, functions: &Functions) -> Result<SchemaRef, Vec<Diagnostic>> {
    schema_with(script, query, functions, Vec::new())
}

/// The same with values of the query's parameters.
pub fn schema_with(
    script: &Script,
    query: &str,
    functions: &Functions,
    parameters: Vec<ScalarValue>,
) -> Result<SchemaRef, Vec<Diagnostic>> {
    let planned = Planned::new(script, query, functions, Parameters::Values(parameters), None)?;
    Ok(spelled(planned.plan.schema().as_arrow(), &planned.script))
}

/// What a client learns of a query before it gives its parameters.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The columns, as far as they do not depend on what the parameters turn out to be.
    pub schema: SchemaRef,
    /// `$1`, `$2` and so on, each with the type that its place wants.
    pub parameters: SchemaRef,
}

/// Plans a query whose parameters have no values yet, without opening anything.
pub fn prepare(script: &Script, query: &str, functions: &Functions) -> Result<Prepared, Vec<Diagnostic>> {
    let planned = Planned::new(script, query, functions, Parameters::Later, None)?;
    let schema = spelled(planned.plan.schema().as_arrow(), &planned.script);
    let place = Place { script: &planned.script, tokens: &planned.script.statements[planned.index()].tokens };
    let parameters = Arc::new(Schema::new(wanted_parameters(&planned.plan, place)?));
    Ok(Prepared { schema, parameters })
}

/// Whether [`query`] would begin, without opening anything.
pub fn check(script: &Script, query: &str, functions: &Functions) -> Result<(), Vec<Diagnostic>> {
    Planned::new(script, query, functions, Parameters::NONE, None).map(|_| ())
}

/// Whether the query of statement `index` would begin, without opening anything.
pub fn check_statement(script: &Script, index: usize, functions: &Functions) -> Result<(), Vec<Diagnostic>> {
    with_room(|| statement_plan(script, index, functions, None).map(|_| ()))
}

/// The plan of the query of statement `index`.
fn statement_plan(
    script: &Script,
    index: usize,
    functions: &Functions,
    open: Option<BatchContext>,
) -> Result<(Catalog, LogicalPlan), Vec<Diagnostic>> {
    let statement = script.statements.get(index);
    let Some((statement, select)) = statement.and_then(|statement| Some((statement, statement.body.query()?))) else {
        return Err(vec![Diagnostic::new(format!("statement {index} has no query"))]);
    };
    let catalog = Catalog::new(script, functions, None, open.map(Arc::new))?;
    let plan = planned(&catalog, select, &Parameters::NONE, Place { script, tokens: &statement.tokens })?;
    Ok((catalog, plan))
}

/// Whether statement `index` can be answered here: all tables that it reads come to an end by themselves.
pub fn bounded(script: &Script, index: usize) -> bool {
    let query = script.statements.get(index).and_then(|statement| statement.body.query());
    query.is_some_and(|query| ends(script, query))
}

/// The same of a query. One that joins a table as it is at a moment is a stream's in any case: only there has a row a
/// moment.
pub(crate) fn ends(script: &Script, query: &SelectQuery) -> bool {
    !script.has_as_of(query)
        && script.tables_of(query).iter().filter_map(|name| script.table(name)).all(|table| table_ends(&table.def))
}

fn table_ends(def: &TableDef) -> bool {
    connectors::find(def.connector()).is_some_and(|connector| connector.bounded(def))
}

/// What stands for a query's parameters.
#[derive(Clone, Debug)]
enum Parameters {
    /// It is not run yet.
    Later,
    Values(Vec<ScalarValue>),
}

impl Parameters {
    const NONE: Self = Self::Values(Vec::new());
}

/// Whether memory has no room for more.
fn exhausted(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

struct Planned {
    /// The file and the query behind it.
    script: Script,
    catalog: Catalog,
    plan: LogicalPlan,
}

impl Planned {
    fn new(
        script: &Script,
        query: &str,
        functions: &Functions,
        parameters: Parameters,
        open: Option<BatchContext>,
    ) -> Result<Self, Vec<Diagnostic>> {
        with_room(|| Self::new_here(script, query, functions, &parameters, open))
    }

    /// Of the query's statement.
    fn index(&self) -> usize {
        self.script.statements.len() - 1
    }

    fn new_here(
        script: &Script,
        query: &str,
        functions: &Functions,
        parameters: &Parameters,
        open: Option<BatchContext>,
    ) -> Result<Self, Vec<Diagnostic>> {
        // The query becomes the last statement of the file, so that it sees what the file declares.
        let before = format!("{}\n;\n", script.text());
        let base = script.text().find(query).unwrap_or(0);
        let shift = |errors: Vec<Diagnostic>| -> Vec<Diagnostic> {
            let moved = |at: usize| if at >= before.len() { at - before.len() + base } else { at };
            let moved = |error: Diagnostic| Diagnostic { span: error.span.map(|(a, b)| (moved(a), moved(b))), ..error };
            errors.into_iter().map(moved).collect()
        };
        let whole = parse_with(&format!("{before}{query}"), functions).map_err(shift)?;
        let [.., Statement { body: StatementBody::Query(select), tokens, .. }] = whole.statements.as_slice() else {
            return Err(vec![Diagnostic::new("this is not a SELECT")]);
        };
        if whole.statements.len() != script.statements.len() + 1 {
            return Err(vec![Diagnostic::new("one SELECT at a time")]);
        }
        let place = Place { script: &whole, tokens };
        let catalog = Catalog::new(&whole, functions, None, open.map(Arc::new)).map_err(shift)?;
        let plan = planned(&catalog, select, parameters, place).map_err(shift)?;
        Ok(Self { catalog, plan, script: whole })
    }
}

/// The plan of a query whose input ends.
fn planned(
    catalog: &Catalog,
    select: &SelectQuery,
    parameters: &Parameters,
    place: Place<'_>,
) -> Result<LogicalPlan, Vec<Diagnostic>> {
    let wrong = late_rows_mistakes(place.script);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut written = catalog.query(select).map_err(|error| place.diagnose(&error))?;
    if let Parameters::Values(values) = parameters {
        written = bind(written, values, place)?;
    }
    let written = by_exists(written).map_err(|error| place.diagnose(&error))?;
    if let Some(moment) = as_of_place(&written) {
        let error = Diagnostic::new("FOR SYSTEM_TIME AS OF is answered by streams only, and this query needs all rows");
        return Err(vec![error.help("INSERT INTO a table, and read that").at(moment.unwrap_or(place.span()))]);
    }
    let endless = endless(&written, place);
    if !endless.is_empty() {
        return Err(endless);
    }
    let plan = written.transform_up_with_subqueries(|node| match WindowNode::of(&node) {
        Some(window) => project_window(window).map(Transformed::yes),
        None => Ok(Transformed::no(node)),
    });
    plan.and_then(|plan| settle(catalog, plan.data)).map_err(|error| place.diagnose(&error))
}

fn endless(plan: &LogicalPlan, place: Place<'_>) -> Vec<Diagnostic> {
    let mut errors: Vec<Diagnostic> = Vec::new();
    for_each_scan(plan, |table, _| {
        let name = &table.name.text;
        let error = match connectors::find(table.def.connector()) {
            Some(connector) if !connector.is_source() => {
                Diagnostic::new(format!("'{name}' cannot be read: connector '{}' is a sink only", connector.name()))
            }
            Some(connector) if !connector.bounded(&table.def) => {
                Diagnostic::new(format!("'{name}' never ends, and this query needs all of its rows"))
                    .help("write INSERT INTO for a stream, or give the table an end")
            }
            _ => return,
        };
        errors.push(error.at(place.find_name(name).unwrap_or(place.span())));
    });
    errors
}

/// The columns of a window as expressions of the rows' time; a row without a time is in no window.
fn project_window(node: &WindowNode) -> PlanResult<LogicalPlan> {
    let time = Expr::Column(node.time.clone());
    let builder = LogicalPlanBuilder::from(node.input.clone()).filter(time.clone().is_not_null())?;
    let since = |offset_us: i64| match offset_us {
        0 => time.clone(),
        offset_us => time.clone() - interval_us(offset_us),
    };
    let after = |time: Expr, by_us: i64| if by_us == 0 { time } else { time + interval_us(by_us) };
    match node.window {
        Window::Tumble { width_us, offset_us } => {
            let start = after(tumble_start().call(vec![since(offset_us), lit(width_us)]), offset_us);
            with_bounds(node, builder, |_| (start.clone(), start + interval_us(width_us)))
        }
        Window::Hop { width_us, slide_us, offset_us } => {
            let starts = hop_starts().call(vec![since(offset_us), lit(width_us), lit(slide_us)]);
            let bounds = |start: Expr| (after(start.clone(), offset_us), after(start, offset_us + width_us));
            each_of(node, builder, starts, bounds)
        }
        Window::Cumulate { width_us, step_us, offset_us } => {
            let ends = cumulate_ends().call(vec![since(offset_us), lit(width_us), lit(step_us)]);
            let start = after(tumble_start().call(vec![since(offset_us), lit(width_us)]), offset_us);
            each_of(node, builder, ends, |end| (start, after(end, offset_us)))
        }
        Window::Session { gap_us } => sessions(node, builder, gap_us),
    }
}

/// Rows once for each value of a list, from which the window's bounds follow.
fn each_of(
    node: &WindowNode,
    builder: LogicalPlanBuilder,
    list: Expr,
    bounds: impl FnOnce(Expr) -> (Expr, Expr),
) -> PlanResult<LogicalPlan> {
    let mut exprs = columns(builder.plan());
    exprs.push(list.alias(EACH));
    let options = UnnestOptions { null_handling: NullHandling::Drop, ..UnnestOptions::default() };
    let builder = builder.project(exprs)?.unnest_column_with_options(Column::new_unqualified(EACH), options)?;
    with_bounds(node, builder, |plan| match columns(plan).pop() {
        Some(each) => bounds(each),
        None => bounds(lit(0)),
    })
}

/// Session windows by what DataFusion's functions OVER can say: a row that comes late enough after the one before it
/// begins a new session, and the sum of such rows numbers the sessions.
fn sessions(node: &WindowNode, builder: LogicalPlanBuilder, gap_us: i64) -> PlanResult<LogicalPlan> {
    let time = Expr::Column(node.time.clone());
    let by: Vec<Expr> = node.partition.iter().cloned().map(Expr::Column).collect();
    let in_order = |function: WindowFunction| {
        let rows = WindowFrame::new_bounds(
            WindowFrameUnits::Rows,
            WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
            WindowFrameBound::CurrentRow,
        );
        let call = Expr::from(function).partition_by(by.clone());
        call.order_by(vec![time.clone().sort(true, false)]).window_frame(rows).build()
    };
    let before = in_order(WindowFunction::new(lag_udwf(), vec![time.clone()]))?.alias(BEFORE);
    let mut exprs = columns(builder.plan());
    exprs.push(Expr::Column(Column::new_unqualified(BEFORE)));
    let builder = builder.window(vec![before])?.project(exprs)?;
    let before = Expr::Column(Column::new_unqualified(BEFORE));
    let mut begins = when(before.clone().is_null().or((before + interval_us(gap_us)).lt_eq(time.clone())), lit(1_i64));
    let number = in_order(WindowFunction::new(sum_udaf(), vec![begins.otherwise(lit(0_i64))?]))?.alias(EACH);
    let builder = builder.window(vec![number])?;
    let session: Vec<Expr> = by.iter().cloned().chain([Expr::Column(Column::new_unqualified(EACH))]).collect();
    let of_session = |function: Arc<AggregateUDF>| {
        Expr::from(WindowFunction::new(function, vec![time.clone()])).partition_by(session.clone()).build()
    };
    let (first, last) = (of_session(min_udaf())?.alias(FIRST), of_session(max_udaf())?.alias(LAST));
    let builder = builder.window(vec![first, last])?;
    let own = |name: &str| Expr::Column(Column::new_unqualified(name));
    with_bounds(node, builder, |_| (own(FIRST), own(LAST) + interval_us(gap_us)))
}

/// Names of columns on the way to a window's bounds, which no file can write.
const EACH: &str = "#each";
const BEFORE: &str = "#before";
const FIRST: &str = "#first";
const LAST: &str = "#last";

/// The input's columns, then the window's start, end and time.
fn with_bounds(
    node: &WindowNode,
    builder: LogicalPlanBuilder,
    bounds: impl FnOnce(&LogicalPlan) -> (Expr, Expr),
) -> PlanResult<LogicalPlan> {
    let qualifier = node.time.relation.clone();
    let (start, end) = bounds(builder.plan());
    let mut exprs = columns(&node.input);
    let added = [start, end.clone(), end - interval_us(1000)];
    let named = added.into_iter().zip(node.names).map(|(expr, name)| expr.alias_qualified(qualifier.clone(), name));
    exprs.extend(named);
    builder.project(exprs)?.build()
}

fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().iter().map(|(q, field)| Expr::Column(Column::new(q.cloned(), field.name()))).collect()
}

fn spelled(schema: &Schema, script: &Script) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| spelled_field(field, script));
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// Stands for what is found by values.
const FOUND: &str = "found";

/// A plan that reads the wanted columns of a table, some of its splits in each partition.
pub(crate) async fn scan(
    def: &TableDef,
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
    values: Vec<OneOf>,
    open: &Arc<BatchContext>,
) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
    let schema = Arc::new(schema.project(&wanted)?);
    let (splits, values) = {
        let (def, open) = (def.clone(), Arc::clone(open));
        let asked = tokio::task::spawn_blocking(move || -> Result<_, connectors::Error> {
            let connector = find(&def)?;
            // Whether the rows are found is known to the other end alone; they are read when the query runs.
            let finds =
                !values.is_empty() && patiently(|| connector.open_found(&def, &[], &values, &open.context))?.is_some();
            match finds {
                true => Ok((vec![FOUND.to_string()], values)),
                false => Ok((patiently(|| connector.splits(&def, &open.context))?, Vec::new())),
            }
        });
        asked.await.map_err(|error| outside(&error))?.map_err(|error| outside(&error))?
    };
    if splits.is_empty() {
        return Ok(Arc::new(EmptyExec::new(schema)));
    }
    // What one split says may be taken back by another.
    let n_partitions = match connectors::gives(def) {
        Gives::Rows => open.target_partitions.clamp(1, splits.len()),
        Gives::Changes | Gives::Upserts => 1,
    };
    let partitions = (0..n_partitions).map(|partition| {
        let splits = splits.iter().skip(partition).step_by(n_partitions);
        let splits = splits.map(|split| SplitStart { split: split.clone(), from: None }).collect();
        let reads = Splits {
            def: def.clone(),
            schema: Arc::clone(&schema),
            wanted: wanted.clone(),
            values: values.clone(),
            splits,
            open: Arc::clone(open),
        };
        Arc::new(reads) as Arc<dyn PartitionStream>
    });
    let partitions = partitions.collect();
    Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&schema), partitions, None, [], false, None)?))
}

#[derive(Clone, Debug)]
struct Splits {
    def: TableDef,
    schema: SchemaRef,
    wanted: Vec<usize>,
    /// That rows have which are found by them: then these are all that is read.
    values: Vec<OneOf>,
    splits: Vec<SplitStart>,
    open: Arc<BatchContext>,
}

impl PartitionStream for Splits {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_AHEAD);
        let sender = builder.tx();
        let splits = self.clone();
        builder.spawn_blocking(move || splits.read(|batch| sender.blocking_send(batch).is_ok(), || sender.is_closed()));
        builder.build()
    }
}

impl Splits {
    /// Gives batches to `give` until the splits end or nobody wants more.
    fn read(&self, mut give: impl FnMut(PlanResult<RecordBatch>) -> bool, closed: impl Fn() -> bool) -> PlanResult<()> {
        // Rows are counted by a column even when none is wanted.
        let mut read = if self.wanted.is_empty() { vec![0] } else { self.wanted.clone() };
        let gives = connectors::gives(&self.def);
        if gives == Gives::Upserts {
            let missing: Vec<usize> = self.def.primary_key.iter().filter(|key| !read.contains(key)).copied().collect();
            read.extend(missing);
        }
        let mut settled = match gives {
            Gives::Rows => None,
            Gives::Changes | Gives::Upserts => Some(Settled::new(&self.def, &read, gives)?),
        };
        let named = |batch: RecordBatch| match self.wanted.is_empty() {
            true => batch.project(&[]).map_err(DataFusionError::from),
            false => {
                let wanted: Vec<usize> = (0..self.wanted.len()).collect();
                relabel(&self.schema, batch.project(&wanted)?)
            }
        };
        let connector = find(&self.def).map_err(|error| outside(&error))?;
        let context = &self.open.context;
        let opened = patiently(|| match self.values.as_slice() {
            [] => connector.open_source(&self.def, &read, &self.splits, context),
            values => connector.open_found(&self.def, &read, values, context)?.ok_or_else(|| {
                let text = format!("table '{}' changed while it was about to be read; ask again", self.def.name);
                connectors::Error::Fatal(text)
            }),
        });
        let mut reader = opened.map_err(|error| outside(&error))?;
        loop {
            match patiently(|| reader.poll(POLL)).map_err(|error| outside(&error))? {
                Polled::Batch { batch, bad, .. } => {
                    if let Some(first) = bad.first() {
                        let n = bad.len() as u64;
                        self.open.rows_bad.fetch_add(n, Ordering::Relaxed);
                        tracing::warn!(table = %self.def.name, n, error = %first.error, "records did not decode");
                        if let Some(letters) = &self.open.dead_letters {
                            letters.append(&self.def.name, &bad).map_err(|error| outside(&error))?;
                        }
                    }
                    self.open.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    match &mut settled {
                        Some(_) if closed() => return Ok(()),
                        Some(settled) => settled.add(batch)?,
                        None if !give(named(batch)) => return Ok(()),
                        None => {}
                    }
                }
                Polled::SplitEnd { .. } => {}
                Polled::Idle if closed() => return Ok(()),
                Polled::Idle => {}
                Polled::End => break,
            }
        }
        for batch in settled.map(Settled::finish).transpose()?.unwrap_or_default() {
            if !give(named(batch)) {
                break;
            }
        }
        Ok(())
    }
}

fn find(def: &TableDef) -> Result<&'static dyn connectors::Connector, connectors::Error> {
    connectors::find(def.connector()).ok_or_else(|| {
        connectors::Error::Fatal(format!("unknown connector '{}' of table '{}'", def.connector(), def.name))
    })
}

/// Tries again what may pass by itself.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, connectors::Error>) -> Result<T, connectors::Error> {
    let mut pause = Duration::from_millis(50);
    let mut n = 1;
    loop {
        match attempt() {
            Err(connectors::Error::Transient(error)) if n < ATTEMPTS => {
                tracing::warn!(%error, n, "trying again");
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(2));
                n += 1;
            }
            settled => return settled,
        }
    }
}

fn outside(error: &dyn std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}
