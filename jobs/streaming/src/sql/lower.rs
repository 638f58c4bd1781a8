//! Turns a settled logical plan into operators.
//!
//! A [`Stream`] is a node together with what its columns stand for. Columns of a window that is not aggregated yet do not
//! exist as data: they are worked out where an expression asks for them, or become the window of an aggregation.

use super::as_of::AsOfNode;
use super::catalog::{Catalog, script_table};
use super::errors::Place;
use super::graph::Graph;
use super::late_rows::Row;
use super::nested::{lowered, same_but_names, spelled_field};
use super::over::First;
use super::prune::Parts;
use super::refuse::{at, find};
use super::settings::STATE_TTL;
use super::shared::SharedNode;
use super::spans;
use super::statements::{Script, TableStatement};
use super::two_phase;
use super::types::canonical;
use super::window::{Bound, TIME_BEFORE_END_US, WindowNode};
use crate::dataflow::{Dataflow, Operator, Watermark, Window};
use crate::functions::tumble_start;
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano};
use connectors::Gives;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchemaRef, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, cast, lit};
use jobs::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// A column of the node.
    Column(usize),
    /// Worked out from columns of the node.
    Lazy(Expr),
    /// Of the open window.
    Window(Bound),
}

/// A window that rows are in and that is not aggregated yet.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) window: Window,
    /// Column of the node.
    pub(crate) time: usize,
    /// Of sessions: columns of the node.
    pub(crate) partition: Vec<usize>,
    /// For how long after its end it takes rows.
    pub(crate) lateness_us: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) node: usize,
    /// The columns that the logical plan knows, in order.
    pub(crate) schema: DFSchemaRef,
    /// Parallel to `schema`.
    pub(crate) slots: Vec<Slot>,
    pub(crate) open: Option<Open>,
    /// Where late rows are wanted: the rows of tables that the rows are of, as they came.
    pub(crate) row: Option<Row>,
}

pub(crate) struct Lowering<'a> {
    script: &'a Script,
    pub(crate) catalog: &'a Catalog,
    /// By table, what all statements together read of it.
    columns: BTreeMap<String, BTreeSet<usize>>,
    /// And of struct columns.
    parts: Parts,
    pub(crate) graph: Graph,
    /// Whether aggregations begin before their exchange.
    pub(crate) two_phase: bool,
    /// Whether what no row touches for a time is forgotten.
    pub(crate) forgets: bool,
    /// Late rows, and which of their columns a table's are.
    pub(crate) late: Vec<(usize, Row)>,
    /// Filters for first rows that are settled before they are said.
    pub(crate) settled: Vec<Filter>,
    /// Whether what is lowered next are the rows of a window that the aggregation above it takes.
    pub(crate) opens: bool,
}

pub(crate) type Lowered<T> = Result<T, Diagnostic>;

impl<'a> Lowering<'a> {
    pub(crate) fn new(
        script: &'a Script,
        catalog: &'a Catalog,
        columns: BTreeMap<String, BTreeSet<usize>>,
        parts: Parts,
    ) -> Self {
        Self {
            script,
            catalog,
            columns,
            parts,
            graph: Graph::default(),
            two_phase: two_phase::wanted(script),
            forgets: script.setting(STATE_TTL).is_some(),
            late: Vec::new(),
            settled: Vec::new(),
            opens: false,
        }
    }

    pub(crate) fn finish(self) -> Dataflow {
        self.graph.finish()
    }

    pub(crate) fn lower(&mut self, plan: &LogicalPlan, places: &[Place<'_>]) -> Lowered<Stream> {
        let here = spans::of(plan, self.script, places);
        if here.is_empty() {
            return self.lower_plan(plan, places);
        }
        let outside = std::mem::replace(&mut self.graph.at, here);
        let stream = self.lower_plan(plan, places);
        self.graph.at = outside;
        stream
    }

    fn lower_plan(&mut self, plan: &LogicalPlan, places: &[Place<'_>]) -> Lowered<Stream> {
        let opens = std::mem::take(&mut self.opens);
        match plan {
            LogicalPlan::TableScan(scan) => {
                let table = script_table(scan).ok_or_else(|| defect("a table of another catalog", places))?;
                let projection = match &scan.projection {
                    Some(projection) => projection.clone(),
                    None => (0..table.statement.def.schema.fields().len()).collect(),
                };
                self.source(&table.statement, &projection, Arc::clone(&scan.projected_schema), places)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                self.opens = opens;
                let input = self.lower(&alias.input, places)?;
                Ok(Stream { schema: Arc::clone(&alias.schema), ..input })
            }
            LogicalPlan::Projection(projection) => {
                let input = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) if let Some(first) = First::of(filter) => {
                        let settled = self.settled.contains(filter);
                        self.first(&first, first.number_used(&projection.expr), settled, places)?
                    }
                    input => {
                        self.opens = opens;
                        self.lower(input, places)?
                    }
                };
                self.project(input, &projection.expr, Arc::clone(&projection.schema), places)
            }
            LogicalPlan::Filter(filter) => match First::of(filter) {
                Some(first) => self.first(&first, true, self.settled.contains(filter), places),
                None => {
                    self.opens = opens;
                    let input = self.lower(&filter.input, places)?;
                    self.filter(input, &filter.predicate, places)
                }
            },
            LogicalPlan::Values(values) => self.values(values, places),
            LogicalPlan::EmptyRelation(empty) => {
                self.no_table(empty.produce_one_row, Arc::clone(&empty.schema), places)
            }
            LogicalPlan::Join(join) => self.join(join, places),
            // LATERAL of what depends on no row before it.
            LogicalPlan::Subquery(lateral) => {
                let input = self.lower(&lateral.subquery, places)?;
                Ok(Stream { schema: Arc::clone(plan.schema()), ..input })
            }
            LogicalPlan::Window(window) => self.over(window, places),
            LogicalPlan::Union(union) => {
                let mut fields = canonical_fields(union.schema.fields());
                let streams = union.inputs.iter().map(|input| self.lower(input, places));
                let mut streams = streams.collect::<Lowered<Vec<Stream>>>()?;
                let row = Row::united(&mut streams, &mut fields, &self.graph);
                let mut inputs = Vec::new();
                for stream in streams {
                    let columns = Columns { fields: fields.clone(), named: false };
                    inputs.push(self.materialize(stream, columns, None, places)?);
                }
                let node = self.graph.add("union", "", inputs, fields, Operator::Union);
                let slots = (0..union.schema.fields().len()).map(Slot::Column).collect();
                let node = node.map_err(|error| planner(&error, places))?;
                Ok(Stream { node, schema: Arc::clone(&union.schema), slots, open: None, row })
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, places),
            LogicalPlan::Unnest(unnest) => {
                self.opens = opens;
                self.unnest(unnest, places)
            }
            LogicalPlan::Extension(_) if let Some(node) = AsOfNode::of(plan) => self.as_of(node, places),
            LogicalPlan::Extension(_) => match (WindowNode::of(plan), SharedNode::of(plan)) {
                (Some(window), _) => self.window(window, Arc::clone(plan.schema()), opens, places),
                (None, Some(shared)) => {
                    self.opens = opens;
                    self.lower(&shared.input, places)
                }
                (None, None) => Err(defect("an operator of another planner", places)),
            },
            other => Err(defect(&format!("{}", other.display()), places)),
        }
    }

    pub(crate) fn filter(&mut self, input: Stream, predicate: &Expr, places: &[Place<'_>]) -> Lowered<Stream> {
        let predicate = self.resolve(predicate, &input, places)?;
        self.repeatable(input.node, std::slice::from_ref(&predicate), places)?;
        let node = self.only(input.node, &predicate, places)?;
        Ok(Stream { node, ..input })
    }

    /// The rows of a node for which a predicate over its columns is true.
    pub(crate) fn only(&mut self, node: usize, predicate: &Expr, places: &[Place<'_>]) -> Lowered<usize> {
        let does = self.graph.text(node, predicate);
        let physical = self.graph.physical(node, predicate);
        let predicate = physical.map_err(|error| planner(&error, places))?;
        let fields = self.graph.fields(node);
        let node = self.graph.add("filter", &does, vec![node], fields, Operator::Filter { predicate });
        node.map_err(|error| planner(&error, places))
    }

    fn source(
        &mut self,
        table: &TableStatement,
        wanted: &[usize],
        schema: DFSchemaRef,
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let key = table.name.key();
        let time = self.catalog.times.get(&key);
        let mut def = table.def.clone();
        let whole = table.late_rows.is_some();
        if !whole && connectors::find(def.connector()).is_some_and(|connector| connector.reads_fields(&def)) {
            def.schema = self.parts.narrowed(&key, &def.schema);
        }
        let schema_read = Arc::clone(&def.schema);
        let physical = schema_read.fields();
        let mut read = self.columns.get(&key).cloned().unwrap_or_default();
        read.extend(wanted);
        for expr in time.iter().flat_map(|time| [&time.time, &time.watermark]) {
            for column in expr.column_refs() {
                read.extend(physical.iter().position(|field| field.name().to_lowercase() == column.name));
            }
        }
        let gives = connectors::gives(&def);
        if gives == Gives::Upserts {
            read.extend(&def.primary_key);
        }
        if read.is_empty() {
            // Rows are counted by a column.
            read.insert(0);
        }
        if whole {
            read.extend(0..physical.len());
        }
        let projection: Vec<usize> = read.into_iter().collect();
        let position = |column: &usize| projection.iter().position(|read| read == column);
        let slots = wanted.iter().filter_map(position).map(Slot::Column).collect();
        // Names within structs are in lower case from here on; those of columns stay as they are written.
        let inner = |field: &Field| field.clone().with_data_type(lowered(field.data_type()));
        let fields: Vec<Field> = projection.iter().map(|column| inner(&physical[*column])).collect();
        let keys: Vec<usize> = def.primary_key.iter().filter_map(position).collect();
        let operator = Operator::Source { table: def, projection: projection.clone(), watermark: None };
        let id = format!("source-{key}");
        let known = self.graph.has(&id);
        let outside = std::mem::replace(&mut self.graph.at, vec![table.span]);
        let node = self.graph.named(id, Vec::new(), fields, operator).map_err(|error| planner(&error, places))?;
        self.graph.at = outside;
        if let (Some(time), false) = (time, known) {
            let bound = |expr: &Expr| -> PlanResult<_> { self.graph.physical(node, &unqualified(expr)?) };
            let watermark = bound(&time.time)
                .and_then(|t| Ok(Watermark { time: t, watermark: bound(&time.watermark)?, idle_ms: table.idle_ms }));
            let watermark = watermark.map_err(|error| planner(&error, places))?;
            self.graph.set_watermark(node, watermark);
        }
        let row = whole.then(|| Row::of_source(key, projection.len()));
        let node = match gives {
            Gives::Upserts => self.normalize(node, keys, places)?,
            Gives::Rows | Gives::Changes => node,
        };
        Ok(Stream { node, schema, slots, open: None, row })
    }

    /// `expr`, over the logical columns of `stream`, as one over the columns of its node.
    pub(crate) fn resolve(&self, expr: &Expr, stream: &Stream, places: &[Place<'_>]) -> Lowered<Expr> {
        let mut refused = None;
        let resolved = expr.clone().transform_up(|expr| match &expr {
            Expr::Column(column) => {
                let index = stream.schema.index_of_column(column)?;
                match self.slot(stream, index, places) {
                    Ok(expr) => Ok(Transformed::yes(expr)),
                    Err(error) => {
                        refused = Some(error);
                        Ok(Transformed::no(expr))
                    }
                }
            }
            _ => Ok(Transformed::no(expr)),
        });
        match (refused, resolved) {
            (Some(error), _) => Err(error),
            (None, Ok(resolved)) => Ok(resolved.data),
            (None, Err(error)) => Err(planner(&error, places)),
        }
    }

    pub(crate) fn slot(&self, stream: &Stream, index: usize, places: &[Place<'_>]) -> Lowered<Expr> {
        match (&stream.slots[index], &stream.open) {
            (Slot::Column(column), _) => Ok(self.graph.column(stream.node, *column)),
            (Slot::Lazy(expr), _) => Ok(expr.clone()),
            (Slot::Window(bound), Some(Open { window: Window::Tumble { width_us, offset_us }, time, .. })) => {
                let time = self.graph.column(stream.node, *time);
                let start = match offset_us {
                    0 => tumble_start().call(vec![time, lit(*width_us)]),
                    offset_us => {
                        let since = time - interval_us(*offset_us);
                        tumble_start().call(vec![since, lit(*width_us)]) + interval_us(*offset_us)
                    }
                };
                Ok(match bound {
                    Bound::Start => start,
                    Bound::End => start + interval_us(*width_us),
                    Bound::Time => start + interval_us(width_us - TIME_BEFORE_END_US),
                })
            }
            (Slot::Window(_), _) => {
                // Of other windows nobody asks for bounds before they are aggregated, or rows have them as columns.
                let name = stream.schema.field(index).name();
                let text = format!(
                    "{name} of SESSION is not supported outside an aggregation of its windows: it is known when the session \
                     is over"
                );
                let error = Diagnostic::new(text).help("group by window_start and window_end");
                Err(at(error, places.iter().find_map(|place| place.find_name(name)).or_else(|| find(places, &[]))))
            }
        }
    }

    fn project(&mut self, input: Stream, exprs: &[Expr], schema: DFSchemaRef, places: &[Place<'_>]) -> Lowered<Stream> {
        let mut passed = Vec::new();
        for expr in exprs {
            passed.push(match expr.clone().unalias() {
                Expr::Column(column) => {
                    let index = input.schema.index_of_column(&column).map_err(|error| planner(&error, places))?;
                    Ok(input.slots[index].clone())
                }
                expr => Err(self.resolve(&expr, &input, places)?),
            });
        }
        if passed.iter().all(Result::is_ok) {
            let slots = passed.into_iter().flatten().collect();
            return Ok(Stream { schema, slots, ..input });
        }
        let mut outputs = Outputs::default();
        let mut slots = Vec::new();
        for (output, field) in passed.into_iter().zip(schema.fields().iter()) {
            slots.push(match output {
                Ok(Slot::Window(which)) => Slot::Window(which),
                Ok(Slot::Column(column)) => {
                    Slot::Column(outputs.push(self.graph.column(input.node, column), field.name()))
                }
                Ok(Slot::Lazy(expr)) | Err(expr) => Slot::Column(outputs.push(expr, field.name())),
            });
        }
        let open = input.open.map(|open| {
            let time = outputs.push(self.graph.column(input.node, open.time), "event_time");
            let partition = open.partition.iter();
            let partition =
                partition.map(|column| outputs.push(self.graph.column(input.node, *column), "partition")).collect();
            Open { time, partition, ..open }
        });
        let row = input.row.map(|row| row.through(input.node, &mut outputs, &self.graph));
        let node = self.outputs(input.node, outputs, places)?;
        Ok(Stream { node, schema, slots, open, row })
    }

    /// A node that emits exactly `outputs` of `input`.
    pub(crate) fn outputs(&mut self, input: usize, outputs: Outputs, places: &[Place<'_>]) -> Lowered<usize> {
        let mut fields = Vec::new();
        for (expr, name) in outputs.exprs.iter().zip(&outputs.names) {
            let data_type = expr.get_type(self.graph.columns(input)).map_err(|error| planner(&error, places))?;
            fields.push(Field::new(name, data_type, true));
        }
        self.emit(input, &outputs.exprs, Columns { fields, named: false }, places)
    }

    pub(crate) fn emit(
        &mut self,
        input: usize,
        exprs: &[Expr],
        columns: Columns,
        places: &[Place<'_>],
    ) -> Lowered<usize> {
        let Columns { fields, named } = &columns;
        let there = self.graph.fields(input);
        let same = there.len() == fields.len()
            && exprs.iter().enumerate().all(|(index, expr)| *expr == self.graph.column(input, index))
            && (!named
                || there.iter().zip(fields).all(|(a, b)| {
                    a.name() == b.name() && (!a.data_type().is_nested() || a.data_type() == b.data_type())
                }));
        if same {
            return Ok(input);
        }
        if let Some((below, exprs)) = self.graph.through_projection(input, exprs) {
            return self.emit(below, &exprs, columns, places);
        }
        self.repeatable(input, exprs, places)?;
        let mut does: Vec<String> = exprs.iter().map(|expr| self.graph.text(input, expr)).collect();
        if *named {
            does.extend(fields.iter().map(|field| field.name().clone()));
        }
        let physical: PlanResult<Vec<_>> = exprs.iter().map(|expr| self.graph.physical(input, expr)).collect();
        let operator = Operator::Project { exprs: physical.map_err(|error| planner(&error, places))? };
        let node = self.graph.add("project", &does.join("\n"), vec![input], columns.fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        self.graph.set_projection(node, exprs.to_vec());
        Ok(node)
    }

    /// A node whose columns are `columns`: column `of[i]` of the stream, or NULL where that is `None`; without
    /// `of`, its columns in order. Types are cast.
    pub(crate) fn materialize(
        &mut self,
        stream: Stream,
        columns: Columns,
        of: Option<&[Option<usize>]>,
        places: &[Place<'_>],
    ) -> Lowered<usize> {
        let mut exprs = Vec::new();
        for (index, field) in columns.fields.iter().enumerate() {
            let expr = match of.map_or(Some(index), |of| of[index]) {
                Some(index) => self.slot(&stream, index, places)?,
                None => lit(ScalarValue::Null),
            };
            let data_type = expr.get_type(self.graph.columns(stream.node)).map_err(|error| planner(&error, places))?;
            // Rows take the names within structs from the schema: those alone need no cast.
            let same = same_but_names(&data_type, field.data_type());
            exprs.push(if same { expr } else { cast(expr, field.data_type().clone()) });
        }
        self.emit(stream.node, &exprs, columns, places)
    }

    pub(crate) fn collect(&mut self, stream: Stream, places: &[Place<'_>]) -> Lowered<()> {
        let mut fields = canonical_fields(stream.schema.fields());
        for field in &mut fields {
            *field = spelled_field(field, self.script);
        }
        let columns = Columns { fields: fields.clone(), named: true };
        let input = self.materialize(stream, columns, None, places)?;
        let id = self.fresh("collect");
        self.graph.named(id, vec![input], fields, Operator::Collect).map_err(|error| planner(&error, places))?;
        Ok(())
    }

    /// `targets`: the table's columns that the stream's columns go to.
    pub(crate) fn sink(
        &mut self,
        stream: Stream,
        table: &TableStatement,
        targets: &[usize],
        places: &[Place<'_>],
    ) -> Lowered<()> {
        let fields: Vec<Field> = fields_of(table.def.schema.fields());
        let of: Vec<Option<usize>> =
            (0..fields.len()).map(|column| targets.iter().position(|target| *target == column)).collect();
        if self.graph.changes(stream.node)
            && let Some(reason) = connectors::refuses_changes(&table.def)
        {
            return Err(at(Diagnostic::new(reason), find(places, &[&["INSERT", "INTO"]])));
        }
        let columns = Columns { fields: fields.clone(), named: true };
        let mut input = self.materialize(stream, columns, Some(&of), places)?;
        input = self.enforce_not_null(input, table, self.script, places)?;
        let takes = connectors::find(table.def.connector()).map(|connector| connector.takes(&table.def));
        if self.graph.changes(input) && takes == Some(connectors::Takes::Upsert) {
            input = self.upsert(input, &table.def.primary_key, places)?;
        }
        let id = self.fresh(&format!("sink-{}", table.name.key()));
        // That of an INSERT begins with its first words.
        let insert = places.first().map(|place| (place.span().0, place.span().0 + 1));
        self.graph.at = std::iter::once(table.span).chain(insert).collect();
        self.graph.at.sort_unstable();
        let operator = Operator::Sink { table: table.def.clone() };
        self.graph.named(id, vec![input], fields, operator).map_err(|error| planner(&error, places))?;
        Ok(())
    }

    /// An id that is not taken: two INSERTs of the same rows into one table write them twice.
    fn fresh(&self, id: &str) -> String {
        let numbered = (2..).map(|n| format!("{id}-{n}"));
        let free = std::iter::once(id.to_string()).chain(numbered).find(|id| !self.graph.has(id));
        free.unwrap_or_else(|| id.to_string())
    }
}

/// What a projection emits. Names matter where rows leave the job, and there alone: between operators a column is known
/// by its place, and a renamed one is the same.
pub(crate) struct Columns {
    pub(crate) fields: Vec<Field>,
    pub(crate) named: bool,
}

/// Expressions for a projection, each once.
#[derive(Default)]
pub(crate) struct Outputs {
    pub(crate) exprs: Vec<Expr>,
    names: Vec<String>,
}

impl Outputs {
    /// The place of `expr` among the outputs.
    pub(crate) fn push(&mut self, expr: Expr, name: &str) -> usize {
        // What may differ from call to call is never shared.
        let shared = if expr.is_volatile() { None } else { self.exprs.iter().position(|earlier| *earlier == expr) };
        shared.unwrap_or_else(|| self.push_apart(expr, name))
    }

    /// A place of its own for `expr`.
    pub(crate) fn push_apart(&mut self, expr: Expr, name: &str) -> usize {
        self.exprs.push(expr);
        self.names.push(name.to_string());
        self.exprs.len() - 1
    }
}

pub(crate) fn interval_us(us: i64) -> Expr {
    lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, us * 1000))))
}

fn unqualified(expr: &Expr) -> PlanResult<Expr> {
    let plain = expr.clone().transform_up(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        expr => Ok(Transformed::no(expr)),
    })?;
    Ok(plain.data)
}

pub(crate) fn fields_of(fields: &Fields) -> Vec<Field> {
    fields.iter().map(|field| field.as_ref().clone()).collect()
}

pub(crate) fn canonical_fields(fields: &Fields) -> Vec<Field> {
    fields.iter().map(|field| Field::new(field.name(), no_null(canonical(field.data_type())), true)).collect()
}

/// A column of nothing but NULL needs some type; connectors and results know no `Null` type.
fn no_null(data_type: DataType) -> DataType {
    if data_type == DataType::Null { DataType::Utf8 } else { data_type }
}

pub(crate) fn planner(error: &datafusion::common::DataFusionError, places: &[Place<'_>]) -> Diagnostic {
    let found = places.first().and_then(|place| place.diagnose(error).into_iter().next());
    found.unwrap_or_else(|| Diagnostic::new(error.strip_backtrace()))
}

/// Something that the refusals should have caught.
pub(crate) fn defect(what: &str, places: &[Place<'_>]) -> Diagnostic {
    at(Diagnostic::new(format!("{what} is not supported in a stream")), find(places, &[]))
}
