//! A SQL job file: its INSERT sets and models become jobs, and every query in it is planned here, so that a typo fails
//! at the desk and a task can see whether it planned the same.

use super::columns::complete;
use super::continuous;
use super::document::{Entry, Span, Value};
use super::model::{self, Source};
use super::order::start_order;
use super::reader::{Reader, entries_of_options};
use super::settings::{self, Around, CheckpointSettings, JobSettings, Setting, StateSettings, plain_name, stem_name};
use super::sweep::{self, Swept};
use super::{Settled, shape};
use arrow::datatypes::SchemaRef;
use jobs::{Diagnostic, JobBody, JobId, JobSpec, StreamBody, TrainBody};
use std::borrow::Cow;
use std::path::Path;
use streaming::batch;
use streaming::dataflow::Dataflow;
use streaming::functions::Functions;
use streaming::sql::{self, ModelStatement, Script, ScriptJob, StatementBody, TableStatement};

/// What is known of the text from outside of it.
pub struct Surroundings<'a> {
    /// The group's name unless the text sets another.
    pub group: String,
    pub base_dir: String,
    /// What a file that the SQL stands in sets.
    pub around: Around<'a>,
}

impl Surroundings<'static> {
    pub fn of_file(file: &str, base_dir: &Path) -> Self {
        Self { group: stem_name(file), base_dir: base_dir.display().to_string(), around: Around::default() }
    }
}

/// Everything that all jobs of a text share.
struct Shared<'a> {
    text: &'a str,
    script: &'a Script,
    functions: Functions,
    group: String,
    base_dir: &'a str,
    job: JobSettings,
    checkpoint: CheckpointSettings,
    state: StateSettings,
}

pub async fn settle(text: &str, surroundings: &Surroundings<'_>) -> Result<Settled, Vec<Diagnostic>> {
    let completed = complete(text, &surroundings.base_dir).await?;
    let mut settled = settle_text(&completed.text, surroundings).await;
    match &mut settled {
        Ok(settled) => settled.text = Some(completed.text.clone().into_owned()),
        Err(mistakes) => {
            let placed = mistakes.iter_mut().filter_map(|mistake| mistake.span.as_mut());
            placed.for_each(|span| *span = completed.place(*span));
        }
    }
    settled
}

/// All of its tables have columns.
async fn settle_text(text: &str, surroundings: &Surroundings<'_>) -> Result<Settled, Vec<Diagnostic>> {
    let whole = with_ttl(text, surroundings.around)?;
    let mut settled = match continuous::rewritten(&whole, &crate::functions::parse(&whole)?).await {
        Ok(Some(streams)) => settle_whole(&streams, surroundings).await,
        Ok(None) => settle_whole(&whole, surroundings).await,
        Err(mistakes) => Err(mistakes),
    };
    if let Err(mistakes) = &mut settled {
        let added = mistakes.iter_mut().filter(|mistake| mistake.span.is_some_and(|(_, end)| end > text.len()));
        added.for_each(|mistake| mistake.span = None);
    }
    settled
}

/// The text, and at its end what the file around it says of how long state lives: tasks plan by the text alone.
fn with_ttl<'a>(text: &'a str, around: Around<'_>) -> Result<Cow<'a, str>, Vec<Diagnostic>> {
    let ttl = around.state.iter().find(|entry| entry.key == "ttl").map(|entry| &entry.node.value);
    match ttl {
        Some(Value::Text(ttl)) if crate::functions::parse(text)?.setting("state.ttl").is_none() => {
            Ok(Cow::Owned(format!("{text}\n;\nSET state.ttl = '{ttl}';\n")))
        }
        _ => Ok(Cow::Borrowed(text)),
    }
}

async fn settle_whole(text: &str, surroundings: &Surroundings<'_>) -> Result<Settled, Vec<Diagnostic>> {
    let script = crate::functions::parse(text)?;
    let mut diagnostics = Vec::new();
    let settings: Vec<Setting> = script
        .settings
        .iter()
        .map(|setting| Setting {
            key: setting.key.clone(),
            value: setting.value.clone(),
            key_span: setting.key_span,
            value_span: setting.value_span,
        })
        .collect();
    let (job, checkpoint, state) = settings::of_sql(&settings, surroundings.around, &mut diagnostics);
    let script_jobs = script.jobs();
    let statements = script.statements.iter().enumerate();
    let shown: Vec<usize> = statements.filter(|(_, statement)| statement.body.only_shows()).map(|(at, _)| at).collect();
    if script_jobs.is_empty() && shown.is_empty() {
        let nothing = Diagnostic::new("there is nothing to run in it");
        diagnostics.push(nothing.help("add an INSERT INTO, a CREATE MODEL or a SELECT"));
    }
    let shared = Shared {
        text,
        script: &script,
        functions: functions(),
        group: job.group.clone().unwrap_or_else(|| surroundings.group.clone()),
        base_dir: &surroundings.base_dir,
        job,
        checkpoint,
        state,
    };
    let mut queries = Vec::new();
    for statement in &shown {
        match script.statements[*statement].body {
            StatementBody::Explain(_) => explained(&shared, *statement, &mut diagnostics).await,
            _ => diagnostics.extend(sql::describe(&script, *statement, &shared.functions).err().into_iter().flatten()),
        }
    }
    let mut swept = None;
    let mut specs: Vec<Option<JobSpec>> = Vec::with_capacity(script_jobs.len());
    for script_job in &script_jobs {
        specs.push(match script_job {
            ScriptJob::Query { statement, .. } => {
                queries.push(*statement);
                if batch::bounded(&script, *statement) {
                    check_batch(&shared, *statement, &mut diagnostics);
                } else {
                    plan(&shared, &[*statement], &mut diagnostics).await;
                }
                None
            }
            ScriptJob::Inserts { name, statements, models, .. } => {
                Some(stream(&shared, name, statements, models, &mut diagnostics).await)
            }
            ScriptJob::Model { name, statement, .. } => {
                let (spec, sweep) = train(&shared, name, *statement, &mut diagnostics);
                if sweep.is_some() && script_jobs.len() + shown.len() > 1 {
                    let only = Diagnostic::new("a file with a sweep has nothing to run but its model");
                    let elsewhere = "put the other statements into a file of their own; tables are found by name";
                    diagnostics.push(only.at(script.statements[*statement].span).help(elsewhere));
                }
                swept = swept.or(sweep);
                Some(spec)
            }
        });
    }
    let mut after = script.dependencies(&script_jobs);
    // A SELECT by itself is no job: nothing waits for it, and what it needs is answered when it is run.
    for (job, waits_for) in after.iter_mut().enumerate() {
        waits_for.retain(|other| specs[job].is_some() && specs[*other].is_some());
    }
    match start_order(&after) {
        Ok(order) if diagnostics.is_empty() => {
            let ids: Vec<Option<JobId>> = specs.iter().map(|spec| spec.as_ref().map(|spec| spec.id.clone())).collect();
            let mut jobs = Vec::with_capacity(specs.len());
            for at in order {
                if let Some(mut spec) = specs[at].take() {
                    spec.after = after[at].iter().filter_map(|other| ids[*other].clone()).collect();
                    jobs.push(spec);
                }
            }
            queries.extend(shown);
            queries.sort_unstable();
            let local_only = local_only(&script, &jobs);
            Ok(Settled { group: shared.group, jobs, queries, local_only, sweep: swept.map(Box::new), text: None })
        }
        Ok(_) => Err(diagnostics),
        Err(circle) => {
            let names: Vec<&str> = circle.iter().filter_map(|at| script_jobs[*at].name()).collect();
            let waits = Diagnostic::new(format!("jobs {} wait for each other", names.join(", ")));
            diagnostics.push(waits.help("a model cannot be trained on rows that were computed with it"));
            Err(diagnostics)
        }
    }
}

/// Why a cluster does not run a file: it orders a batch, or tables that go with the run.
fn local_only(script: &Script, jobs: &[JobSpec]) -> Option<Diagnostic> {
    // Of other connectors the declaration alone is ours.
    let stored = |table: &&std::sync::Arc<TableStatement>| table.def.connector() == "table";
    let kept = script.tables().filter(stored).find_map(|table| Some((table, table.temporary?)));
    if let Some((table, span)) = kept.filter(|_| !jobs.is_empty()) {
        let text = format!("'{}' is TEMPORARY, and a cluster keeps the rows of its tables", table.name.text);
        let error = Diagnostic::new(text).at(span);
        return Some(error.help("leave TEMPORARY out, or run the file with `smack run`, after which they are gone"));
    }
    let any = jobs.iter().any(|job| matches!(&job.body, JobBody::Stream(body) if body.batch));
    let setting = script.setting("execution.mode").filter(|_| any)?;
    let error = Diagnostic::new("execution.mode = 'batch' is for `smack run`: a cluster runs streams");
    Some(error.at(setting.value_span).help("leave it out, or run the file with `smack run`"))
}

/// At the desk no model is at hand, but calls of `predict` are checked like any other.
fn functions() -> Functions {
    crate::functions::declared()
}

/// The dataflow of these statements; nothing, with the mistakes, where they do not plan.
async fn plan(shared: &Shared<'_>, statements: &[usize], diagnostics: &mut Vec<Diagnostic>) -> Option<Dataflow> {
    let planned = sql::plan(shared.script, statements, &shared.functions).await;
    planned.map_err(|mistakes| diagnostics.extend(mistakes)).ok()
}

/// What an EXPLAIN holds is checked as it would be run.
async fn explained(shared: &Shared<'_>, statement: usize, diagnostics: &mut Vec<Diagnostic>) {
    let inserts = shared.script.statements[statement].body.explained().insert().is_some();
    if inserts && batch::Mode::of(shared.script) == batch::Mode::Batch {
        let checked = batch::check_insert(shared.script, &[statement], &shared.functions);
        diagnostics.extend(checked.err().into_iter().flatten());
    } else if !inserts && batch::bounded(shared.script, statement) {
        check_batch(shared, statement, diagnostics);
    } else {
        plan(shared, &[statement], diagnostics).await;
    }
}

/// Checks a query over input that ends. Whether it was sound.
fn check_batch(shared: &Shared<'_>, statement: usize, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let mistakes = batch::check_statement(shared.script, statement, &shared.functions).err().unwrap_or_default();
    let sound = mistakes.is_empty();
    diagnostics.extend(mistakes);
    sound
}

/// A spec with what all jobs of the text have in common.
fn spec(shared: &Shared<'_>, name: &str, parallelism: u32, body: JobBody) -> JobSpec {
    JobSpec {
        id: JobId::of(&shared.group, name),
        group: shared.group.clone(),
        name: name.to_string(),
        role: shared.job.role.clone(),
        priority: shared.job.priority,
        rules: shared.job.rules.clone(),
        parallelism,
        resources: shared.job.resources.clone(),
        n_ports: 1,
        restart: shared.job.restart,
        kill_grace_ms: shared.job.kill_grace_ms,
        start_within_ms: shared.job.start_within_ms,
        max_completion_ms: shared.job.max_completion_ms,
        unreachable_kill_ms: shared.job.unreachable_kill_ms,
        volumes: std::collections::BTreeMap::new(),
        user: shared.job.user.clone(),
        after: Vec::new(),
        body,
    }
}

/// Tasks run in folders of their own, so a path must not depend on where one is. An address (`s3://…`) stays as it is.
fn absolute(dir: &str, base_dir: &str) -> String {
    if dir.contains("://") { dir.to_string() } else { Path::new(base_dir).join(dir).display().to_string() }
}

fn check_job_name(shared: &Shared<'_>, name: &str, statement: usize, diagnostics: &mut Vec<Diagnostic>) {
    if let Err(message) = plain_name(name) {
        diagnostics.push(Diagnostic::new(message).at(shared.script.statements[statement].span));
    }
}

async fn stream(
    shared: &Shared<'_>,
    name: &str,
    statements: &[usize],
    models: &[String],
    diagnostics: &mut Vec<Diagnostic>,
) -> JobSpec {
    if let Some(first) = statements.first() {
        check_job_name(shared, name, *first, diagnostics);
    }
    let batch = batch::Mode::of(shared.script) == batch::Mode::Batch;
    let dataflow = match batch {
        true => {
            let checked = batch::check_insert(shared.script, statements, &shared.functions);
            diagnostics.extend(checked.err().into_iter().flatten());
            None
        }
        false => plan(shared, statements, diagnostics).await,
    };
    let body = StreamBody {
        sql: shared.text.to_string(),
        statements: statements.to_vec(),
        base_dir: shared.base_dir.to_string(),
        checkpoint_interval_ms: shared.checkpoint.interval_ms,
        state_memory_bytes: shared.state.memory_bytes,
        checkpoint_dir: shared.checkpoint.dir.as_deref().map(|dir| absolute(dir, shared.base_dir)),
        checkpoint_retain: shared.checkpoint.retain,
        models: models.to_vec(),
        keeps_versions: dataflow.as_ref().is_some_and(Dataflow::keeps_versions),
        fingerprint: dataflow.as_ref().map(Dataflow::fingerprint).unwrap_or_default(),
        bounded: batch || dataflow.as_ref().is_some_and(Dataflow::bounded),
        exchanges: dataflow.as_ref().is_some_and(Dataflow::exchanges),
        batch,
    };
    let learns = dataflow.as_ref().is_some_and(crate::continuous::learns);
    let mut spec = spec(shared, name, shared.job.parallelism, JobBody::Stream(body));
    if learns {
        // One slice learns from all rows, and a task has as many as cores.
        let (cores, memory_mib) = (spec.resources.cores().min(1.0), spec.resources.memory_mib());
        (spec.parallelism, spec.resources) = (1, spec.resources.with_cores(cores, memory_mib));
    }
    spec
}

/// A model's job, and its sweep where it has one.
fn train(
    shared: &Shared<'_>,
    name: &str,
    statement: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> (JobSpec, Option<Swept>) {
    check_job_name(shared, name, statement, diagnostics);
    let StatementBody::Model(declared) = &shared.script.statements[statement].body else {
        panic!("statement {statement} of job '{name}' is no CREATE MODEL");
    };
    let (mut of_sweep, mut own) = (Vec::new(), Vec::new());
    for mut entry in entries_of_options(&declared.options) {
        match entry.key.strip_prefix("sweep.").map(str::to_string) {
            Some(key) => {
                entry.key = key;
                of_sweep.push(entry);
            }
            None => own.push(entry),
        }
    }
    let described = match of_sweep.is_empty() {
        true => None,
        false => sweep::of_sql(&of_sweep, declared.name.span, diagnostics),
    };
    let spec = train_once(shared, name, declared, &own, diagnostics);
    let swept = match (&described, &spec.body) {
        (Some(described), JobBody::Train(base)) if diagnostics.is_empty() => {
            let settle = |tried: &[Entry]| {
                let mut wrong = Vec::new();
                let spec = train_once(shared, name, declared, &sweep::over(&own, tried), &mut wrong);
                match spec.body {
                    JobBody::Train(body) if wrong.is_empty() => Ok(*body),
                    _ => Err(wrong),
                }
            };
            described.settled(base, settle, diagnostics)
        }
        _ => None,
    };
    (spec, swept)
}

/// A model's job with these options, whatever is said of a sweep.
fn train_once(
    shared: &Shared<'_>,
    name: &str,
    declared: &ModelStatement,
    entries: &[Entry],
    diagnostics: &mut Vec<Diagnostic>,
) -> JobSpec {
    let text = &declared.query_text;
    let schema = batch::schema(shared.script, text, &shared.functions);
    let schema = schema.map_err(|mistakes| diagnostics.extend(mistakes)).ok();
    let source = Source {
        model: name.to_string(),
        sql: shared.text.to_string(),
        base_dir: shared.base_dir.to_string(),
        train_query: declared.query_text.clone(),
        test_query: None,
        columns: schema.as_ref().map(column_names),
    };
    let before = diagnostics.len();
    let mut reader = Reader::new(&shape::SQL_MODEL, entries, Some(declared.name.span), diagnostics);
    let (body, workers) = model::of_sql(&mut reader, source);
    let spans = ["label", "time_column", "ignore", "categorical"].map(|option| reader.span(option));
    if let Some(schema) = schema {
        let columns = body_columns(&body, spans);
        match check_columns(shared.script, &declared.query_text, &columns) {
            // What follows from mistakes that are told already need not be told.
            Ok(()) if diagnostics.len() == before => {
                diagnostics.extend(check_features(&schema, &body, declared.name.span));
            }
            Ok(()) => {}
            Err(mistakes) => diagnostics.extend(mistakes),
        }
    }
    spec(shared, name, workers, JobBody::Train(Box::new(body)))
}

/// The columns that a model's options name, with the places of `label`, `time_column`, `ignore` and the inputs.
pub fn body_columns(
    body: &TrainBody,
    [label, time, ignore, inputs]: [Option<Span>; 4],
) -> Vec<(&'static str, &str, Option<Span>)> {
    let mut columns = vec![("label", body.label.as_str(), label)];
    columns.extend(body.time_column.iter().map(|column| ("time_column", column.as_str(), time)));
    columns.extend(body.ignore.iter().map(|column| ("ignore", column.as_str(), ignore)));
    let read = body.inputs.iter().flat_map(|input| &input.columns);
    columns.extend(read.map(|column| ("columns", column.as_str(), inputs)));
    columns
}

pub fn column_names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// What else is wrong with a model whose named columns are there: features that no input can be made of, and layers that
/// do not fit.
pub fn check_features(schema: &SchemaRef, body: &TrainBody, span: Span) -> Vec<Diagnostic> {
    let mut wrong = training::check(body);
    wrong.extend(training::check_columns(schema, body).err());
    wrong.into_iter().map(|wrong| Diagnostic::new(format!("model '{}': {wrong}", body.model)).at(span)).collect()
}

/// Columns of a query that a model's options name, each with where the option stands.
pub type NamedColumns<'a> = &'a [(&'static str, &'a str, Option<Span>)];

/// What is wrong with the columns that a model's options name: the query must give each of them.
pub fn check_columns(script: &Script, query: &str, columns: NamedColumns<'_>) -> Result<(), Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    for (option, column, span) in columns.iter().filter(|(_, column, _)| !column.is_empty()) {
        // The planner knows best how names match, and which one is near.
        let asks = format!("SELECT \"{}\" FROM ({query}) AS rows_of_model", column.replace('"', "\"\""));
        if let Err(mistakes) = batch::check(script, &asks, &functions()) {
            diagnostics.extend(mistakes.into_iter().take(1).map(|mistake| Diagnostic {
                message: format!("{option}: {}", mistake.message),
                span: *span,
                help: mistake.help,
            }));
        }
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
}

/// The tables that the queries of a training file read from.
pub fn check_tables(tables: &str) -> Result<Script, Vec<Diagnostic>> {
    let script = sql::check_with(tables, &crate::functions::own())?;
    if let Some(statement) = script.statements.iter().find(|statement| {
        !matches!(statement.body, StatementBody::Table(_) | StatementBody::View(_) | StatementBody::Set(_))
    }) {
        let only = Diagnostic::new("only CREATE TABLE and CREATE VIEW belong here").at(statement.span);
        return Err(vec![only.help("write the SELECT under 'train'")]);
    }
    Ok(script)
}

/// Checks a query over `tables` and gives its columns; places in its mistakes are those in the query.
pub fn check_query(tables: &Script, query: &str) -> Result<SchemaRef, Vec<Diagnostic>> {
    // The planner gives places in the script if the query's text stands in it too.
    let base = tables.text().find(query).unwrap_or(0);
    let inner = |(start, end): Span| (start.saturating_sub(base), end.saturating_sub(base));
    batch::schema(tables, query, &functions()).map_err(|mistakes| {
        let placed = mistakes.into_iter();
        placed.map(|mistake| Diagnostic { span: mistake.span.map(inner), ..mistake }).collect()
    })
}
