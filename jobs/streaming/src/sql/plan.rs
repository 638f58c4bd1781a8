//! From statements to a dataflow.

use super::as_of::PushThroughAsOf;
use super::catalog::{Catalog, script_table};
use super::depth;
use super::errors::Place;
use super::first_rows;
use super::grouping_sets;
use super::lifetime;
use super::lower::Lowering;
use super::prune::Parts;
use super::refuse::{at, find, left_over, refusals};
use super::statements::{InsertStatement, Script, SelectQuery, Statement, StatementBody, TableStatement};
use super::subqueries::{self, Marks, NotIn};
use super::types::{assignable, canonical_expr, sql_name};
use crate::dataflow::Dataflow;
use crate::functions::Functions;
use connectors::{Gives, Takes};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as PlanResult};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::sql::sqlparser::ast::{SetExpr, Spanned};
use jobs::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The logical rules that hold for streams: identities of relations, which hold for every prefix of the input. Rules
/// that need the end of the input, or that only help a batch engine, are left out.
pub(crate) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(Marks),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(NotIn),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushThroughAsOf),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

/// Plans INSERTs, or one bare SELECT, as one dataflow: `statements` are indices among the file's statements. A table
/// that several of them read is read once.
pub async fn plan(script: &Script, statements: &[usize], functions: &Functions) -> Result<Dataflow, Vec<Diagnostic>> {
    plan_now(script, statements, functions)
}

/// As [`plan`], which nothing in it waits for.
pub(crate) fn plan_now(
    script: &Script,
    statements: &[usize],
    functions: &Functions,
) -> Result<Dataflow, Vec<Diagnostic>> {
    depth::with_room(|| plan_here(script, statements, functions))
}

fn plan_here(script: &Script, statements: &[usize], functions: &Functions) -> Result<Dataflow, Vec<Diagnostic>> {
    let catalog = Catalog::new(script, functions, Some(rules()), None)?;
    let mut planned = Vec::new();
    let mut errors = super::late_rows::mistakes(script);
    for index in statements {
        let Some(statement) = script.statements.get(*index) else {
            errors.push(Diagnostic::new(format!("there is no statement {index}")));
            continue;
        };
        match Planned::new(script, &catalog, statement) {
            Ok(one) => planned.push(one),
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut lowering = lowering(script, &catalog, planned.iter().map(|one| &one.plan));
    for one in &planned {
        if let Err(found) = one.lower(script, &mut lowering) {
            errors.push(found);
        }
    }
    if let (Some(one), true) = (planned.first(), errors.is_empty()) {
        errors.extend(lowering.write_late_rows(script, &one.places).err());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut dataflow = lowering.finish();
    lifetime::give(&mut dataflow, script).map_err(|error| vec![error])?;
    Ok(dataflow)
}

/// What turns these plans into operators, knowing what all of them together read.
fn lowering<'a, 'p>(
    script: &'a Script,
    catalog: &'a Catalog,
    plans: impl Iterator<Item = &'p LogicalPlan>,
) -> Lowering<'a> {
    let (mut columns, mut parts) = (BTreeMap::new(), Parts::default());
    for plan in plans {
        needed_columns(plan, &mut columns);
        parts.add(plan);
    }
    for (table, time) in &catalog.times {
        [&time.time, &time.watermark].into_iter().for_each(|expr| parts.add_expr(table, expr));
    }
    Lowering::new(script, catalog, columns, parts)
}

/// A statement whose query is planned and known to be fit for streams.
pub(crate) struct Planned<'a> {
    pub(crate) plan: LogicalPlan,
    places: Vec<Place<'a>>,
    target: Option<(&'a InsertStatement, Arc<TableStatement>)>,
}

impl<'a> Planned<'a> {
    pub(crate) fn new(
        script: &'a Script,
        catalog: &Catalog,
        statement: &'a Statement,
    ) -> Result<Self, Vec<Diagnostic>> {
        let place = Place { script, tokens: &statement.tokens };
        let body = statement.body.explained();
        let (query, target) = match (body, body.insert()) {
            (_, Some(insert)) => (&insert.query, Some((insert, target(script, insert).map_err(|e| vec![e])?))),
            (StatementBody::Query(query), None) => (query, None),
            _ => return Err(vec![Diagnostic::new("only an INSERT or a SELECT can be planned").at(statement.span)]),
        };
        let written = catalog.query(query).and_then(first_rows::expand).and_then(subqueries::exists);
        let written = written.map_err(|error| place.diagnose(&error))?;
        let mut places = vec![place];
        places.extend(view_places(script, query));
        let mut errors = refusals(&written, &places).map_err(|error| place.diagnose(&error))?;
        errors.extend(unreadable(&written, place));
        if !errors.is_empty() {
            return Err(errors);
        }
        let plan = settle(catalog, written).map_err(|error| place.diagnose(&error))?;
        if let Some(error) = left_over(&plan, &places) {
            return Err(vec![error]);
        }
        Ok(Self { plan, places, target })
    }

    /// Whether the query takes rows back.
    pub(crate) fn gives_changes(&self, script: &Script, catalog: &Catalog) -> Result<bool, Diagnostic> {
        let mut lowering = lowering(script, catalog, std::iter::once(&self.plan));
        let stream = lowering.lower(&self.plan, &self.places)?;
        Ok(lowering.graph.changes(stream.node))
    }

    fn lower(&self, script: &Script, lowering: &mut Lowering<'_>) -> Result<(), Diagnostic> {
        lowering.graph.at = vec![self.places[0].span()];
        let stream = lowering.lower(&self.plan, &self.places)?;
        let Some((insert, table)) = &self.target else {
            return lowering.collect(stream, &self.places);
        };
        let targets = fit(script, insert, table, &self.plan, self.places[0])?;
        lowering.sink(stream, table, &targets, &self.places)
    }
}

/// The columns of `table` that those of an INSERT's query go to, in the query's order; what does not fit is a mistake.
pub(crate) fn fit(
    script: &Script,
    insert: &InsertStatement,
    table: &TableStatement,
    plan: &LogicalPlan,
    place: Place<'_>,
) -> Result<Vec<usize>, Diagnostic> {
    let schema = &table.def.schema;
    let targets: Vec<usize> =
        if insert.columns.is_empty() { (0..schema.fields().len()).collect() } else { target_columns(insert, table)? };
    let fields: Vec<_> = plan.schema().fields().iter().cloned().collect();
    let described = |columns: Vec<(String, String)>| {
        let columns: Vec<String> = columns.into_iter().map(|(name, data_type)| format!("{name} {data_type}")).collect();
        format!("({})", columns.join(", "))
    };
    let spelled = |name: &str| script.spelling.get(name).cloned().unwrap_or_else(|| name.to_string());
    let both = || {
        let from = fields.iter().map(|field| (spelled(field.name()), sql_name(field.data_type()))).collect();
        let to = targets.iter().map(|at| schema.field(*at));
        let to = to.map(|field| (field.name().clone(), sql_name(field.data_type()))).collect();
        format!("the query gives {}; '{}' takes {}", described(from), table.name.text, described(to))
    };
    if fields.len() != targets.len() {
        let text = format!("the query has {} columns and '{}' takes {}", fields.len(), table.name.text, targets.len());
        return Err(Diagnostic::new(text).at(insert.table.span).help(both()));
    }
    for (at_query, (field, target)) in fields.iter().zip(&targets).enumerate() {
        let target = schema.field(*target);
        if !assignable(field.data_type(), target.data_type()) {
            let text = format!(
                "'{}' is {} and does not fit '{}' {}",
                spelled(field.name()),
                sql_name(field.data_type()),
                target.name(),
                sql_name(target.data_type())
            );
            let span = item_span(script, &insert.query, at_query).unwrap_or(place.span());
            return Err(Diagnostic::new(text).at(span).help(format!("write a CAST; {}", both())));
        }
    }
    Ok(targets)
}

pub(crate) fn target(script: &Script, insert: &InsertStatement) -> Result<Arc<TableStatement>, Diagnostic> {
    let name = &insert.table;
    let Some(table) = script.table(&name.text) else {
        let error = match script.views().any(|view| view.name.key() == name.key()) {
            true => Diagnostic::new(format!("'{}' is a view and cannot be written", name.text)),
            false => Diagnostic::new(format!("unknown table '{}'", name.text))
                .suggest(&name.text, script.tables().map(|table| table.name.text.as_str()).collect::<Vec<_>>()),
        };
        return Err(error.at(name.span));
    };
    let filled = script.tables_as().find(|table| table.view.name.key() == name.key());
    // Whoever reads it reads its query, and would miss the rows of another.
    if let Some(table) = filled.filter(|table| table.view.name.span != name.span) {
        let error = match table.materialized {
            true => Diagnostic::new(format!("'{}' is a materialized view and cannot be written", name.text)),
            false => Diagnostic::new(format!("'{}' is filled by the query that declares it", name.text))
                .help("declare the table with its columns, and INSERT INTO it from both queries"),
        };
        return Err(error.at(name.span));
    }
    let connector = table.def.connector();
    let found = connectors::find(connector);
    if found.is_some_and(|connector| !connector.is_sink()) {
        let text = format!("'{}' cannot be written: connector '{connector}' is a source only", name.text);
        return Err(Diagnostic::new(text).at(name.span));
    }
    if found.is_some_and(|connector| connector.takes(&table.def) == Takes::Append)
        && connectors::gives(&table.def) != Gives::Rows
    {
        let text = format!("'{}' cannot be written: connector '{connector}' only reads changelogs", name.text);
        let help = "declare a table without option 'changelog' to write rows";
        return Err(Diagnostic::new(text).at(name.span).help(help));
    }
    if let Some(mut refused) = found.and_then(|connector| connector.refuses_writing(&table.def)) {
        refused.span = Some(name.span);
        return Err(refused);
    }
    Ok(Arc::clone(table))
}

fn target_columns(insert: &InsertStatement, table: &TableStatement) -> Result<Vec<usize>, Diagnostic> {
    let schema = &table.def.schema;
    let mut targets: Vec<usize> = Vec::new();
    for wanted in &insert.columns {
        let found = schema.fields().iter().position(|field| field.name().to_lowercase() == wanted.key());
        match found {
            Some(at) if targets.contains(&at) => {
                return Err(Diagnostic::new(format!("column '{}' is listed twice", wanted.text)).at(wanted.span));
            }
            Some(at) => targets.push(at),
            None if table.columns.iter().any(|column| column.name.key() == wanted.key()) => {
                return Err(
                    Diagnostic::new(format!("'{}' is computed and cannot be written", wanted.text)).at(wanted.span)
                );
            }
            None => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(Diagnostic::new(format!("unknown column '{}' of '{}'", wanted.text, table.name.text))
                    .at(wanted.span)
                    .suggest(&wanted.text, names));
            }
        }
    }
    let missing = |columns: &[usize]| columns.iter().find(|column| !targets.contains(column)).copied();
    let (column, what) = match (missing(&table.def.primary_key), missing(&table.not_null)) {
        (Some(key), _) => (key, "a key"),
        (None, Some(column)) => (column, "a NOT NULL column"),
        (None, None) => return Ok(targets),
    };
    let text = format!("'{}' is {what} of '{}' and gets no value", schema.field(column).name(), table.name.text);
    Err(Diagnostic::new(text).at(insert.table.span))
}

/// Tables that cannot be read.
fn unreadable(plan: &LogicalPlan, place: Place<'_>) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for_each_scan(plan, |table, _| {
        let connector = table.def.connector();
        if connectors::find(connector).is_some_and(|connector| !connector.is_source()) {
            let name = &table.name.text;
            let text = format!("'{name}' cannot be read: connector '{connector}' is a sink only");
            errors.push(at(Diagnostic::new(text), place.find_name(name).or(Some(place.span()))));
        }
    });
    errors
}

/// The statements of the views that a query uses, through others too.
fn view_places<'a>(script: &'a Script, query: &SelectQuery) -> Vec<Place<'a>> {
    let mut waiting: Vec<&str> = query.relations.iter().map(String::as_str).collect();
    let (mut seen, mut places) = (BTreeSet::new(), Vec::new());
    while let Some(name) = waiting.pop() {
        for statement in &script.statements {
            if let Some(view) = statement.body.view()
                && view.name.key() == *name
                && seen.insert(view.name.key())
            {
                places.push(Place { script, tokens: &statement.tokens });
                waiting.extend(view.query.relations.iter().map(String::as_str));
            }
        }
    }
    places
}

/// The place of item `index` of the outermost SELECT list.
fn item_span(script: &Script, query: &SelectQuery, index: usize) -> Option<(usize, usize)> {
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return None };
    let span = select.projection.get(index)?.span();
    (span.start.line > 0).then(|| script.positions.span(span.start, span.end))
}

/// Types resolved, every column that leaves a projection or is grouped by in its canonical type, and columns that
/// nobody reads dropped.
pub(crate) fn settle(catalog: &Catalog, plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let options = Arc::clone(catalog.state.config_options());
    let plan = catalog.state.analyzer().execute_and_check(plan, &options, |_, _| {})?;
    let plan = if catalog.stream { grouping_sets::expand(plan)? } else { plan };
    // A plan may end in an aggregation or a filter, whose columns no projection settles.
    let columns: Vec<Expr> =
        plan.schema().iter().map(|(q, f)| Expr::Column(Column::new(q.cloned(), f.name()))).collect();
    let plan = match plan {
        LogicalPlan::Projection(_) => plan,
        plan => LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?),
    };
    let plan = plan.transform_up(|node| {
        let node = node.recompute_schema()?;
        match node {
            LogicalPlan::Projection(projection) => {
                let input = projection.input;
                let exprs = projection.expr.into_iter().map(|expr| canonical_expr(expr, input.schema()));
                let exprs = exprs.collect::<PlanResult<Vec<_>>>()?;
                Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = aggregate.input;
                let group = aggregate.group_expr.into_iter().map(|expr| canonical_expr(expr, input.schema()));
                let group = group.collect::<PlanResult<Vec<_>>>()?;
                Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group, aggregate.aggr_expr)?)))
            }
            node => Ok(Transformed::yes(node)),
        }
    })?;
    catalog.state.optimize(&plan.data)
}

fn needed_columns(plan: &LogicalPlan, columns: &mut BTreeMap<String, BTreeSet<usize>>) {
    for_each_scan(plan, |table, projection| {
        let needed = columns.entry(table.name.key()).or_default();
        match projection {
            Some(projection) => needed.extend(projection),
            None => needed.extend(0..table.def.schema.fields().len()),
        }
    });
}

pub(crate) fn for_each_scan(plan: &LogicalPlan, mut found: impl FnMut(&TableStatement, Option<&[usize]>)) {
    // The closure never fails, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = script_table(scan)
        {
            found(&table.statement, scan.projection.as_deref());
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Where to point for an aggregation that has no window.
pub(crate) fn group_by_place(places: &[Place<'_>]) -> Option<(usize, usize)> {
    find(places, &[&["GROUP", "BY"], &["COUNT"], &["SUM"], &["MIN"], &["MAX"], &["AVG"]])
}
