//! The tables and views of a file as the SQL planner sees them.
//!
//! Invariant: here every name is in lower case, so that names match without regard to case; what is written comes back
//! where rows leave (sinks by place, results by the file's spelling).

use super::errors::{Place, external};
use super::group_window::grouping_functions;
use super::nested::{NestedNames, lowered_field};
use super::shared::SharedNode;
use super::statements::{ColumnKind, Script, SelectQuery, StatementBody, TableStatement, ViewStatement};
use super::subqueries::Marks;
use super::text::Positions;
use super::types::{ScriptTypes, canonical_expr, event_time};
use super::unnest::UnnestPlanner;
use super::version::VersionPlanner;
use super::window::WindowPlanner;
use crate::batch::BatchContext;
use crate::functions::{
    Functions, JsonOperators, ValueAtExtreme, aggregate_functions, cumulate_ends, current_watermark, digest_functions,
    hop_starts, json_array_elements, json_functions, pattern_functions, proctime, spelled_functions, text_functions,
    tumble_start,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Column, DFSchema, DataFusionError, Result, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::context::SessionConfig;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableProviderFilterPushDown,
    TableScan, TableSource, TableType, WindowUDF,
};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use jobs::Diagnostic;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A table's physical columns.
#[derive(Debug)]
pub(crate) struct ScriptTable {
    pub(crate) statement: Arc<TableStatement>,
    /// With names in lower case.
    schema: SchemaRef,
    /// How batch queries open it; the streaming planner never does.
    open: Option<Arc<BatchContext>>,
}

impl ScriptTable {
    fn new(statement: &Arc<TableStatement>, open: Option<Arc<BatchContext>>) -> Self {
        let fields = statement.def.schema.fields().iter();
        let fields: Vec<Field> = fields.map(|field| lowered_field(field)).collect();
        Self { statement: Arc::clone(statement), schema: Arc::new(Schema::new(fields)), open }
    }

    pub(crate) fn has_computed(&self) -> bool {
        self.statement.columns.iter().any(|column| matches!(column.kind, ColumnKind::Computed(..)))
    }
}

/// The table that a scan reads.
pub(crate) fn script_table(scan: &TableScan) -> Option<Arc<ScriptTable>> {
    let provider: Arc<dyn std::any::Any + Send + Sync> = source_as_provider(&scan.source).ok()?;
    provider.downcast::<ScriptTable>().ok()
}

#[async_trait]
impl TableProvider for ScriptTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Of a table that finds rows by values, equality; it is compared all the same.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let def = &self.statement.def;
        let finds = self.open.is_some() && connectors::find(def.connector()).is_some_and(|found| found.finds_rows(def));
        let takes = |filter: &&Expr| match finds && crate::batch::one_of(filter, &self.schema).is_some() {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(takes).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.open {
            Some(open) => {
                let wanted = filters.iter().filter_map(|filter| crate::batch::one_of(filter, &self.schema)).collect();
                crate::batch::scan(&self.statement.def, &self.schema, projection, wanted, open).await
            }
            None => {
                Err(external(Diagnostic::new(format!("'{}' is not open for batch queries", self.statement.name.text))))
            }
        }
    }
}

/// A view, or a table with computed columns: put in place of its name.
struct PlanSource {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for PlanSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// How the rows of a table get their event time, over its physical columns.
#[derive(Clone, Debug)]
pub(crate) struct TableTime {
    pub(crate) time: Expr,
    pub(crate) watermark: Expr,
}

/// All that is needed to plan the queries of a file.
pub(crate) struct Catalog {
    pub(crate) state: SessionState,
    /// Whether plans are for streams.
    pub(crate) stream: bool,
    /// Names of functions that give the same for the same, each time they are called.
    pub(crate) repeatable: BTreeSet<String>,
    relations: BTreeMap<String, Arc<dyn TableSource>>,
    pub(crate) times: BTreeMap<String, TableTime>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    type_planner: Arc<dyn TypePlanner>,
}

impl Catalog {
    /// `rules` are the logical optimiser's; `None` takes all of DataFusion's, which fit batch queries only.
    pub(crate) fn new(
        script: &Script,
        functions: &Functions,
        rules: Option<Vec<Arc<dyn OptimizerRule + Send + Sync>>>,
        open: Option<Arc<BatchContext>>,
    ) -> std::result::Result<Self, Vec<Diagnostic>> {
        let stream = rules.is_some();
        let mut catalog = Self {
            state: session(functions, rules, open.as_deref()),
            stream,
            repeatable: functions.repeatable().clone(),
            relations: BTreeMap::new(),
            times: BTreeMap::new(),
            relation_planners: relation_planners(Arc::new(script.positions.clone())),
            type_planner: Arc::new(ScriptTypes),
        };
        let mut errors = Vec::new();
        let mut wrong: BTreeSet<String> = BTreeSet::new();
        for statement in &script.statements {
            let place = Place { script, tokens: &statement.tokens };
            // What is built on a mistake is not a mistake of its own.
            if let Some(view) = statement.body.view()
                && view.query.relations.iter().any(|name| wrong.contains(name))
            {
                wrong.insert(view.name.key());
                continue;
            }
            let added = match &statement.body {
                StatementBody::Table(table) => catalog.add_table(table, open.clone(), place),
                StatementBody::View(view) => catalog.add_view(view, false, place),
                StatementBody::TableAs(table) if stream => catalog.add_view(&table.view, true, place),
                // A query that needs all rows finds those of an endless one where they were written so far.
                StatementBody::TableAs(table) if !crate::batch::ends(script, &table.view.query) => {
                    catalog.add_table(&table.table, open.clone(), place)
                }
                StatementBody::TableAs(table) => catalog.add_view(&table.view, false, place),
                _ => Ok(()),
            };
            if let Err(found) = added {
                errors.extend(found);
                wrong.extend(statement.body.view().map(|view| view.name.key()));
                if let StatementBody::Table(table) = &statement.body {
                    wrong.insert(table.name.key());
                }
            }
        }
        if errors.is_empty() { Ok(catalog) } else { Err(errors) }
    }

    /// The columns of a table or view, with names in lower case.
    pub(crate) fn schema_of(&self, name: &str) -> Option<SchemaRef> {
        self.relations.get(name).map(|source| source.schema())
    }

    /// The plan of a view with all types as they are computed in; nothing for a table.
    pub(crate) fn analyzed(&self, name: &str) -> Result<Option<LogicalPlan>> {
        let Some(plan) = self.relations.get(name).and_then(|source| source.get_logical_plan().map(Cow::into_owned))
        else {
            return Ok(None);
        };
        let options = Arc::clone(self.state.config_options());
        self.state.analyzer().execute_and_check(plan, &options, |_, _| {}).map(Some)
    }

    fn planner(&self) -> SqlToRel<'_, Self> {
        SqlToRel::new_with_options(self, ParserOptions::from(&self.state.config_options().sql_parser))
    }

    /// The plan of a query as it is written.
    pub(crate) fn query(&self, query: &SelectQuery) -> Result<LogicalPlan> {
        let plan = self.planner().sql_statement_to_plan(ast::Statement::Query(query.ast.clone()))?;
        super::group_window::expand(super::unnest::expand(super::as_of::convert(plan)?)?)
    }

    fn add_table(
        &mut self,
        table: &Arc<TableStatement>,
        open: Option<Arc<BatchContext>>,
        place: Place<'_>,
    ) -> std::result::Result<(), Vec<Diagnostic>> {
        let provider = ScriptTable::new(table, open);
        let computed = provider.has_computed();
        let physical = DFSchema::try_from_qualified_schema(table.name.key(), &provider.schema)
            .map_err(|error| place.diagnose(&error))?;
        let source = provider_as_source(Arc::new(provider));
        let (mut exprs, mut errors) = (Vec::new(), Vec::new());
        for column in &table.columns {
            match &column.kind {
                ColumnKind::Physical(_) => {
                    exprs.push(Expr::Column(Column::new(Some(table.name.key()), column.name.key())))
                }
                ColumnKind::Computed(expr, span) => match self.expr(expr, &physical) {
                    Ok(expr) => exprs.push(expr.alias(column.name.key())),
                    Err(error) => errors.extend(place.diagnose(&error).into_iter().map(|error| within(error, *span))),
                },
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let built = self.table_source(table, source, exprs, computed).and_then(|(source, plan)| {
            if let Some(clause) = &table.watermark {
                let watermark = self.expr(&clause.expr, plan.schema())?;
                self.times
                    .insert(table.name.key(), table_time(&plan, &table.name.key(), clause.column.key(), watermark)?);
            }
            Ok(source)
        });
        match built {
            Ok(source) => {
                self.relations.insert(table.name.key(), source);
                Ok(())
            }
            Err(error) => {
                let clause = table.watermark.as_ref().map_or(table.name.span, |clause| clause.span);
                Err(place.diagnose(&error).into_iter().map(|error| within(error, clause)).collect())
            }
        }
    }

    fn table_source(
        &self,
        table: &TableStatement,
        source: Arc<dyn TableSource>,
        exprs: Vec<Expr>,
        computed: bool,
    ) -> Result<(Arc<dyn TableSource>, LogicalPlan)> {
        let scan = LogicalPlanBuilder::scan(table.name.key(), Arc::clone(&source), None)?;
        if !computed {
            return Ok((source, scan.build()?));
        }
        let plan = scan.project(exprs)?.alias(table.name.key())?.build()?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        // The name is put around it again where it is used.
        let inner = plan.inputs()[0].clone();
        Ok((Arc::new(PlanSource { schema, plan: inner }), plan))
    }

    /// `shared`: its plan is the same whoever reads it.
    fn add_view(
        &mut self,
        view: &ViewStatement,
        shared: bool,
        place: Place<'_>,
    ) -> std::result::Result<(), Vec<Diagnostic>> {
        let mut plan = self.query(&view.query).map_err(|error| place.diagnose(&error))?;
        if shared {
            plan = SharedNode::plan(plan);
        }
        if !view.columns.is_empty() {
            let fields = plan.schema().fields().len();
            if fields != view.columns.len() {
                let message = format!("the query has {fields} columns, the view names {}", view.columns.len());
                return Err(vec![Diagnostic::new(message).at(view.name.span)]);
            }
            let columns = plan.schema().columns();
            let exprs: Vec<Expr> = columns
                .into_iter()
                .zip(&view.columns)
                .map(|(column, name)| Expr::Column(column).alias(name.key()))
                .collect();
            plan = LogicalPlanBuilder::from(plan)
                .project(exprs)
                .and_then(|b| b.build())
                .map_err(|e| place.diagnose(&e))?;
        }
        let mut names: Vec<&String> = plan.schema().fields().iter().map(|field| field.name()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let error = Diagnostic::new(format!("view '{}' has two columns named '{}'", view.name.text, pair[0]));
            return Err(vec![error.at(view.name.span).help("rename one of them with AS")]);
        }
        let schema = Arc::new(plan.schema().as_arrow().clone());
        self.relations.insert(view.name.key(), Arc::new(PlanSource { schema, plan }));
        Ok(())
    }

    /// An expression of a table's declaration, in its canonical type.
    fn expr(&self, expr: &ast::Expr, schema: &DFSchema) -> Result<Expr> {
        let expr = self.planner().sql_to_expr(expr.clone(), schema, &mut PlannerContext::new())?;
        let simplifier = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(
            datafusion::logical_expr::simplify::SimplifyContext::builder()
                .with_schema(Arc::new(schema.clone()))
                .build(),
        );
        canonical_expr(simplifier.coerce(expr, schema)?, schema)
    }
}

/// A mistake that knows no better place than the whole statement belongs to its clause.
fn within(error: Diagnostic, clause: (usize, usize)) -> Diagnostic {
    let inside = error.span.is_some_and(|span| clause.0 <= span.0 && span.1 <= clause.1);
    if inside { error } else { error.at(clause) }
}

/// The time of a table over its physical columns: what a computed column stands for is put in its place.
fn table_time(plan: &LogicalPlan, table: &str, column: String, watermark: Expr) -> Result<TableTime> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let index = plan.schema().index_of_column(&Column::new(Some(table), column.clone()))?;
    let data_type = plan.schema().field(index).data_type();
    if *data_type != event_time() {
        let message = format!("the event time '{column}' is a {}, not a TIMESTAMP", super::types::sql_name(data_type));
        return Err(external(Diagnostic::new(message)));
    }
    let watermark_type = datafusion::logical_expr::ExprSchemable::get_type(&watermark, plan.schema())?;
    if watermark_type != event_time() {
        let message = format!("the watermark is a {}, not a TIMESTAMP", super::types::sql_name(&watermark_type));
        return Err(external(Diagnostic::new(message)));
    }
    let physical = |expr: Expr| -> Result<Expr> {
        let replaced = expr.transform_up(|expr| match (&expr, plan) {
            (Expr::Column(column), LogicalPlan::SubqueryAlias(alias)) => {
                let index = plan.schema().index_of_column(column)?;
                match alias.input.as_ref() {
                    LogicalPlan::Projection(projection) => {
                        Ok(Transformed::yes(projection.expr[index].clone().unalias()))
                    }
                    _ => Ok(Transformed::no(expr)),
                }
            }
            _ => Ok(Transformed::no(expr)),
        })?;
        Ok(replaced.data)
    };
    Ok(TableTime { time: physical(Expr::Column(Column::new(Some(table), column)))?, watermark: physical(watermark)? })
}

fn relation_planners(positions: Arc<Positions>) -> Vec<Arc<dyn RelationPlanner>> {
    vec![
        Arc::new(VersionPlanner { positions: Arc::clone(&positions) }),
        Arc::new(WindowPlanner { positions: Arc::clone(&positions) }),
        Arc::new(UnnestPlanner { positions }),
    ]
}

/// DataFusion's own, and what makes joins of subqueries where it has none.
fn batch_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let before = rules.iter().position(|rule| rule.name() == DecorrelatePredicateSubquery::new().name());
    rules.insert(before.unwrap_or_default(), Arc::new(Marks));
    rules
}

fn session(
    functions: &Functions,
    rules: Option<Vec<Arc<dyn OptimizerRule + Send + Sync>>>,
    open: Option<&BatchContext>,
) -> SessionState {
    let mut config = SessionConfig::new().with_target_partitions(open.map_or(1, |open| open.target_partitions.max(1)));
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.time_zone = Some("UTC".into());
    let is_batch = rules.is_none();
    // A stream's subqueries become joins; none is worked out once and for all.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = is_batch;
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(vec![Arc::new(NestedNames), Arc::new(JsonOperators), Arc::new(ValueAtExtreme)])
        .with_default_features();
    builder = builder.with_optimizer_rules(rules.unwrap_or_else(batch_rules));
    if let Some(memory) = open.and_then(|open| open.memory.as_ref()) {
        let pool = Arc::new(FairSpillPool::new(memory.bytes as usize));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).with_temp_file_path(&memory.spill_dir);
        match runtime.build_arc() {
            Ok(runtime) => builder = builder.with_runtime_env(runtime),
            Err(error) => tracing::warn!(%error, "the memory of the query is not bounded"),
        }
    }
    let mut state = builder.build();
    if is_batch {
        // What now() is, for all of the query.
        let options = Arc::clone(state.config_options());
        state.execution_props_mut().mark_start_execution(options);
    }
    let own = [tumble_start(), hop_starts(), cumulate_ends(), proctime(), current_watermark()]
        .into_iter()
        .chain(text_functions())
        .chain(json_functions())
        .chain(spelled_functions())
        .chain(digest_functions())
        .chain(pattern_functions(state.config_options()))
        .chain([json_array_elements()])
        .chain(grouping_functions())
        .map(Arc::new);
    for function in own.chain(functions.scalars().cloned()) {
        // Replacing a function of the same name is what `Functions` promises; the registry of a fresh session refuses nothing.
        if let Err(error) = datafusion::execution::registry::FunctionRegistry::register_udf(&mut state, function) {
            tracing::warn!(%error, "function not registered");
        }
    }
    let own = aggregate_functions().into_iter().map(Arc::new);
    for function in own.chain(functions.aggregates().cloned()) {
        if let Err(error) = datafusion::execution::registry::FunctionRegistry::register_udaf(&mut state, function) {
            tracing::warn!(%error, "aggregate not registered");
        }
    }
    state
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let found = match &name {
            TableReference::Bare { table } => self.relations.get(table.as_ref()),
            _ => None,
        };
        found.cloned().ok_or_else(|| DataFusionError::Plan(format!("table '{name}' not found")))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.type_planner))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
