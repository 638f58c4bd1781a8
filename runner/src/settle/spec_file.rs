//! A TOML or YAML job file: `kind` says which of the four it is.

use super::Settled;
use super::artifacts;
use super::columns::complete;
use super::document::{Entry, Node, Value};
use super::embed::Embedded;
use super::gang::{self, Usual};
use super::model::{self, Source};
use super::reader::Reader;
use super::settings::{Around, CheckpointSettings, JobSettings, StateSettings, check_name, stem_name};
use super::shape::{self, KINDS};
use super::sql_file::{self, Surroundings};
use super::sweep;
use jobs::rights::check_secrets;
use jobs::text::parse_mem_mib;
use jobs::volumes::{VolumeClaim, check_claims};
use jobs::{CommandBody, Diagnostic, HealthCheck, JobBody, JobId, JobSpec, Probe};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

pub async fn settle(text: &str, document: &Node, file: &str, base_dir: &Path) -> Result<Settled, Vec<Diagnostic>> {
    let Value::Table(entries) = &document.value else {
        let kinds = KINDS.join("|");
        return Err(vec![Diagnostic::new("the file is empty").help(format!("begin with kind = \"{kinds}\""))]);
    };
    let kind = match entries.iter().find(|entry| entry.key == "kind") {
        Some(Entry { node: Node { value: Value::Text(kind), .. }, .. }) if shape::of_kind(kind).is_some() => kind,
        Some(Entry { node: Node { value: Value::Text(kind), span }, .. }) => {
            let unknown = Diagnostic::new(format!("there is no kind '{kind}' of job")).at(*span);
            return Err(vec![unknown.suggest(kind, KINDS.iter().copied())]);
        }
        Some(Entry { node, .. }) => {
            let wrong = Diagnostic::new(format!("kind is {}, not a text", node.value.kind())).at(node.span);
            return Err(vec![wrong.suggest("", KINDS.iter().copied())]);
        }
        None => {
            let missing = Diagnostic::new("'kind' is missing").help(format!("add kind = \"{}\"", KINDS.join("|")));
            return Err(vec![missing]);
        }
    };
    let mut diagnostics = Vec::new();
    let settled = match kind.as_str() {
        "stream" => stream(text, entries, file, base_dir, &mut diagnostics).await,
        "train" => match with_columns(text, entries, base_dir).await {
            Ok(entries) => train(text, &entries, file, base_dir, &mut diagnostics),
            Err(wrong) => return Err(wrong),
        },
        kind => Some(command(kind, entries, file, base_dir, &mut diagnostics)),
    };
    match settled {
        Some(settled) if diagnostics.is_empty() => Ok(settled),
        _ => Err(diagnostics),
    }
}

/// `name` of the file, or its stem.
fn name_of(reader: &mut Reader<'_>, file: &str) -> String {
    match reader.text("name") {
        Some(name) => {
            check_name(reader, "name", &name);
            name
        }
        None => stem_name(file),
    }
}

fn entries_of<'a>(entries: &'a [Entry], key: &str) -> &'a [Entry] {
    match entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node.value) {
        Some(Value::Table(inner)) => inner,
        _ => &[],
    }
}

async fn stream(
    text: &str,
    entries: &[Entry],
    file: &str,
    base_dir: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Settled> {
    let mut reader = Reader::new(&shape::STREAM, entries, None, diagnostics);
    let name = name_of(&mut reader, file);
    // Read for their mistakes, which have their places here; the SQL reads them again below its own settings.
    let before = reader.n_complaints();
    JobSettings::read(&mut reader.table("job"));
    CheckpointSettings::read(&mut reader.table("checkpoint"));
    StateSettings::read(&mut reader.table("state"));
    let around_is_sound = reader.n_complaints() == before;
    let around = |key: &str| if around_is_sound { entries_of(entries, key) } else { &[] };
    let around = Around { job: around("job"), checkpoint: around("checkpoint"), state: around("state") };
    match (reader.has("sql"), reader.has("file")) {
        (true, false) => {
            let sql = reader.text("sql")?;
            let embedded = Embedded::new(text, reader.span("sql")?, &sql);
            let surroundings = Surroundings { group: name, base_dir: base_dir.display().to_string(), around };
            let settled = sql_file::settle(&sql, &surroundings).await;
            settled.map_err(|inner| diagnostics.extend(inner.into_iter().map(|inner| embedded.place(inner)))).ok()
        }
        (false, true) => {
            let (named, span) = (reader.text("file")?, reader.span("file")?);
            let path = base_dir.join(&named);
            let sql = match std::fs::read_to_string(&path) {
                Ok(sql) => sql,
                Err(error) => {
                    diagnostics.push(Diagnostic::new(format!("failed to read {}: {error}", path.display())).at(span));
                    return None;
                }
            };
            let folder = path.parent().unwrap_or(base_dir).display().to_string();
            let settled = sql_file::settle(&sql, &Surroundings { group: name, base_dir: folder, around }).await;
            let elsewhere = |inner: Diagnostic| {
                let place = match inner.span {
                    Some((start, _)) => {
                        let (line, column) = jobs::diagnostic::line_column(&sql, start);
                        format!("{named}:{line}:{column}")
                    }
                    None => named.clone(),
                };
                Diagnostic { message: format!("{place}: {}", inner.message), span: Some(span), help: inner.help }
            };
            settled.map_err(|inner| diagnostics.extend(inner.into_iter().map(elsewhere))).ok()
        }
        (both, _) => {
            let wrong =
                if both { "'sql' and 'file' both say what is to run" } else { "neither 'sql' nor 'file' is there" };
            let wrong = Diagnostic::new(wrong).help("a stream has one of them");
            reader.complain(match reader.span("file") {
                Some(span) => wrong.at(span),
                None => wrong,
            });
            None
        }
    }
}

/// The entries, with the columns that the tables of a training do not declare.
async fn with_columns<'a>(
    text: &str,
    entries: &'a [Entry],
    base_dir: &Path,
) -> Result<Cow<'a, [Entry]>, Vec<Diagnostic>> {
    let tables = entries_of(entries, "data").iter().find(|entry| entry.key == "tables").map(|entry| &entry.node);
    let Some(Node { value: Value::Text(tables), span }) = tables else { return Ok(Cow::Borrowed(entries)) };
    let completed = complete(tables, &base_dir.display().to_string()).await.map_err(|wrong| {
        let embedded = Embedded::new(text, *span, tables);
        wrong.into_iter().map(|wrong| embedded.place(wrong)).collect::<Vec<_>>()
    })?;
    let Cow::Owned(completed) = completed.text else { return Ok(Cow::Borrowed(entries)) };
    let mut whole = entries.to_vec();
    for entry in whole.iter_mut().filter(|entry| entry.key == "data") {
        let Value::Table(data) = &mut entry.node.value else { continue };
        for entry in data.iter_mut().filter(|entry| entry.key == "tables") {
            entry.node.value = Value::Text(completed.clone());
        }
    }
    Ok(Cow::Owned(whole))
}

fn train(
    text: &str,
    entries: &[Entry],
    file: &str,
    base_dir: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Settled> {
    let described = match entries.iter().find(|entry| entry.key == "sweep") {
        Some(entry) => sweep::of_file(&entry.node, diagnostics),
        None => None,
    };
    let job = train_once(text, entries, file, base_dir, diagnostics)?;
    let group = job.group.clone();
    let sweep = match (&described, &job.body) {
        (Some(described), JobBody::Train(base)) if diagnostics.is_empty() => {
            let settle = |own: &[Entry]| {
                let mut wrong = Vec::new();
                match train_once(text, &sweep::over(entries, own), file, base_dir, &mut wrong).map(|job| job.body) {
                    Some(JobBody::Train(body)) if wrong.is_empty() => Ok(*body),
                    _ => Err(wrong),
                }
            };
            Some(Box::new(described.settled(base, settle, diagnostics)?))
        }
        _ => None,
    };
    Some(Settled { group, jobs: vec![job], queries: Vec::new(), local_only: None, sweep, text: None })
}

/// The job of a training file, whatever it says of a sweep.
fn train_once(
    text: &str,
    entries: &[Entry],
    file: &str,
    base_dir: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<JobSpec> {
    let mut reader = Reader::new(&shape::TRAIN, entries, None, diagnostics);
    let name = name_of(&mut reader, file);
    let settings = JobSettings::read(&mut reader.table("job"));
    let mut data = reader.table("data");
    let tables = data.text("tables").unwrap_or_default();
    let train_query = data.text("train").unwrap_or_default();
    let test_query = data.text("test");
    let spans = [data.span("tables"), data.span("train"), data.span("test")];
    let [label_span, time_span, ignore_span] = ["label", "time_column", "ignore"].map(|key| data.span(key));
    let inputs_span = reader.table("model").span("inputs");
    let source = Source {
        model: name.clone(),
        sql: tables.clone(),
        base_dir: base_dir.display().to_string(),
        train_query: train_query.clone(),
        test_query: test_query.clone(),
        columns: None,
    };
    let before = reader.n_complaints();
    let (body, workers) = model::of_file(&mut reader, source);
    let sound_so_far = reader.n_complaints() == before;
    let [Some(tables_span), Some(train_span), test_span] = spans else { return None };
    let embedded = Embedded::new(text, tables_span, &tables);
    let script = match sql_file::check_tables(&tables) {
        Ok(script) => script,
        Err(inner) => {
            diagnostics.extend(inner.into_iter().map(|inner| embedded.place(inner)));
            return None;
        }
    };
    let columns = sql_file::body_columns(&body, [label_span, time_span, ignore_span, inputs_span]);
    let queries = [(Some(train_span), Some(train_query)), (test_span, test_query)];
    let mut sound = true;
    for (span, query) in queries.into_iter().filter_map(|(span, query)| span.zip(query)) {
        let wrong = match sql_file::check_query(&script, &query) {
            Err(inner) => {
                let embedded = Embedded::new(text, span, &query);
                inner.into_iter().map(|inner| embedded.place(inner)).collect()
            }
            Ok(schema) => match sql_file::check_columns(&script, &query, &columns) {
                Err(inner) => inner,
                // The job as a whole is checked once, with the columns that it is trained on.
                Ok(()) if span == train_span && sound_so_far => sql_file::check_features(&schema, &body, span),
                Ok(()) => Vec::new(),
            },
        };
        sound &= wrong.is_empty();
        diagnostics.extend(wrong);
    }
    let group = settings.group.unwrap_or_else(|| name.clone());
    let job = JobSpec {
        id: JobId::of(&group, &name),
        group,
        name,
        role: settings.role,
        priority: settings.priority,
        rules: settings.rules,
        parallelism: workers,
        resources: settings.resources,
        n_ports: 1,
        restart: settings.restart,
        kill_grace_ms: settings.kill_grace_ms,
        start_within_ms: settings.start_within_ms,
        max_completion_ms: settings.max_completion_ms,
        unreachable_kill_ms: settings.unreachable_kill_ms,
        volumes: BTreeMap::new(),
        user: settings.user,
        after: Vec::new(),
        body: JobBody::Train(Box::new(body)),
    };
    sound.then_some(job)
}

fn command(kind: &str, entries: &[Entry], file: &str, base_dir: &Path, diagnostics: &mut Vec<Diagnostic>) -> Settled {
    let service = kind == "service";
    let shape = if service { &shape::SERVICE } else { &shape::COMMAND };
    let mut reader = Reader::new(shape, entries, None, diagnostics);
    let name = name_of(&mut reader, file);
    let mut job = reader.table("job");
    let settings = JobSettings::read(&mut job);
    let parallelism = job.span("parallelism");
    let wind_down = match job.span("wind_down").filter(|_| !service) {
        Some(span) => job.duration_ms("wind_down").map(|ms| (ms, span)),
        None => None,
    };
    let health = if service && reader.has("health") { health(&mut reader.table("health")) } else { None };
    let (argv, mut env) = (reader.text_list("argv"), reader.text_table("env"));
    // A task runs in a folder of its own; what lies beside the job file is found by this.
    env.entry("SMACK_JOB_DIR".to_string()).or_insert_with(|| base_dir.display().to_string());
    match reader.span("argv") {
        Some(span) if argv.is_empty() => {
            let none = Diagnostic::new("argv names no program").at(span);
            reader.complain(none.help("for example [\"sleep\", \"10\"]"));
        }
        None if !service && !reader.has("roles") => {
            let missing = Diagnostic::new("'argv' is missing in the file");
            reader.complain(missing.help("argv: the program and its arguments"));
        }
        _ => {}
    }
    let volumes = volumes(&mut reader);
    let (secrets, artifacts) = (secrets(&mut reader), artifacts::read(&mut reader, base_dir));
    let usual = Usual { argv: &argv, env: &env, settings: &settings, parallelism, wind_down };
    let gang = if service { None } else { gang::read(&mut reader, &usual) };
    let first = gang.as_ref().and_then(|gang| gang.roles.first());
    let (parallelism, n_ports, resources) = match (&gang, first) {
        (Some(gang), Some(first)) => (gang.n_tasks(), first.n_ports, first.resources.clone()),
        _ => (settings.parallelism, settings.n_ports, settings.resources),
    };
    let body = CommandBody { argv, env, secrets, artifacts, health, gang };
    let group = settings.group.unwrap_or_else(|| name.clone());
    let job = JobSpec {
        id: JobId::of(&group, &name),
        group: group.clone(),
        name,
        role: settings.role,
        priority: settings.priority,
        rules: settings.rules,
        parallelism,
        resources,
        n_ports,
        restart: settings.restart,
        kill_grace_ms: settings.kill_grace_ms,
        start_within_ms: settings.start_within_ms,
        max_completion_ms: settings.max_completion_ms,
        unreachable_kill_ms: settings.unreachable_kill_ms,
        volumes,
        user: settings.user,
        after: Vec::new(),
        body: if service { JobBody::Service(body) } else { JobBody::Command(body) },
    };
    Settled { group, jobs: vec![job], queries: Vec::new(), local_only: None, sweep: None, text: None }
}

/// `[volumes]`, in thousandths of a MiB.
fn volumes(reader: &mut Reader<'_>) -> BTreeMap<String, i64> {
    let mut volumes = BTreeMap::new();
    for (name, size) in reader.text_table("volumes") {
        let claim = parse_mem_mib(&size).map(|mib| VolumeClaim {
            name: name.clone(),
            disk_milli: (mib * 1000.0) as i64,
            path: String::new(),
        });
        let problem = match &claim {
            Ok(claim) => check_claims(std::slice::from_ref(claim)).err(),
            Err(problem) => Some(format!("volume {name}: {problem}")),
        };
        if let Some(problem) = problem {
            let wrong = Diagnostic::new(problem);
            reader.complain_at("volumes", wrong.help("for example data = \"20g\""));
        }
        volumes.insert(name, claim.map_or(0, |claim| claim.disk_milli));
    }
    volumes
}

/// `[secrets]`: names by environment variables.
fn secrets(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let secrets = reader.text_table("secrets");
    if let Err(problem) = check_secrets(&secrets) {
        let help = "for example DB_PASSWORD = \"db\"; the value is with the agents";
        reader.complain_at("secrets", Diagnostic::new(problem).help(help));
    }
    secrets
}

/// `[health]`, which says one thing that is to be asked.
fn health(reader: &mut Reader<'_>) -> Option<HealthCheck> {
    let (command, tcp) = (reader.text_list("command"), reader.whole("tcp"));
    let (http, grpc) = (reader.text("http"), reader.text("grpc"));
    let (interval_ms, timeout_ms) = (reader.duration_ms("interval")?, reader.duration_ms("timeout")?);
    let (grace_ms, failures) = (reader.duration_ms("grace")?, reader.whole("failures")?);
    let probe = match (command.is_empty(), tcp, http, grpc) {
        (false, None, None, None) => Probe::Command { argv: command },
        (true, Some(port), None, None) => Probe::Tcp { port: u16::try_from(port).ok()? },
        (true, None, Some(text), None) => match port_and_path(&text) {
            Some((port, path)) => Probe::Http { port, path },
            None => {
                let wrong = Diagnostic::new(format!("http is '{text}', not a port and a path"));
                reader.complain_at("http", wrong.help("for example '8080/health'"));
                return None;
            }
        },
        (true, None, None, Some(text)) => match port_and_service(&text) {
            Some((port, service)) => Probe::Grpc { port, service },
            None => {
                let wrong = Diagnostic::new(format!("grpc is '{text}', not a port, or a port and a service"));
                reader.complain_at("grpc", wrong.help("for example '8080' or '8080/my.package.Service'"));
                return None;
            }
        },
        _ => {
            let keys = ["command", "tcp", "http", "grpc"];
            let said = keys.into_iter().rfind(|key| reader.has(key));
            let wrong = Diagnostic::new("[health] says one of 'command', 'tcp', 'http' and 'grpc'");
            match said {
                Some(key) => reader.complain_at(key, wrong),
                None => reader.complain(wrong),
            }
            return None;
        }
    };
    Some(HealthCheck { probe, interval_ms, timeout_ms, grace_ms, failures: u32::try_from(failures).ok()? })
}

fn port_and_service(text: &str) -> Option<(u16, String)> {
    let (port, service) = text.split_once('/').unwrap_or((text, ""));
    let port = port.trim().parse().ok().filter(|port| *port > 0)?;
    service.bytes().all(|byte| byte.is_ascii_graphic()).then(|| (port, service.to_string()))
}

fn port_and_path(text: &str) -> Option<(u16, String)> {
    let (port, path) = text.split_once('/')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    path.bytes().all(|byte| byte.is_ascii_graphic()).then(|| (port, format!("/{path}")))
}
