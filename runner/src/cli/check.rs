//! Verbs that need no cluster: `check` and `connectors`.

use super::exit::{FAILED, Fail, Result};
use super::output::{Output, table};
use super::submit::read_file;
use crate::settle::{Settled, settle};
use connectors::Connector;
use jobs::text::nearest;
use jobs::{JobSpec, Need};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

pub async fn check(output: Output, path: &Path, target: Option<&str>) -> Result<()> {
    #[derive(Serialize)]
    struct Checked<'a> {
        group: &'a str,
        jobs: &'a [JobSpec],
        /// Indices of the SELECTs that only `smack run` answers.
        queries: &'a [usize],
        /// Of a file that describes a sweep: what each trial tries.
        trials: Vec<&'a BTreeMap<String, String>>,
    }
    let request = read_file(path, target)?;
    let settled = settle(&request.text, &request.file, Path::new(&request.base_dir))
        .await
        .map_err(|diagnostics| Fail::mistakes(&request.file, &request.text, diagnostics))?;
    let trials = settled.sweep.iter().flat_map(|sweep| &sweep.settings).map(|settings| &settings.shown).collect();
    let checked = Checked { group: &settled.group, jobs: &settled.jobs, queries: &settled.queries, trials };
    output.either(&checked, |_| show(&settled))?;
    output.progress(&format!("no mistakes in {}", request.file));
    Ok(())
}

fn each_needs(need: &Need<'_>) -> String {
    match need.member {
        Some(member) => format!("{} {member}: {}", need.count, need.resources),
        None => need.resources.to_string(),
    }
}

fn show(settled: &Settled) -> String {
    let mut shown = String::new();
    if !settled.jobs.is_empty() {
        shown.push_str(&table(
            ["JOB", "KIND", "TASKS", "EACH NEEDS", "AFTER"],
            settled.jobs.iter().map(|job| {
                let after: Vec<&str> = job.after.iter().map(|id| id.as_str()).collect();
                [
                    job.id.to_string(),
                    job.body.kind().to_string(),
                    job.parallelism.to_string(),
                    job.needs().iter().map(each_needs).collect::<Vec<String>>().join("; "),
                    if after.is_empty() { "-".to_string() } else { after.join(" ") },
                ]
            }),
        ));
    }
    if let Some(sweep) = &settled.sweep {
        let rungs: Vec<String> = sweep.course.rungs().iter().map(u64::to_string).collect();
        let pauses = if rungs.len() > 1 { format!(" by epochs {}", rungs.join(", ")) } else { String::new() };
        let (n, at_once) = (sweep.settings.len(), sweep.parallel);
        shown.push_str(&format!("{n} trials for `smack sweep`, {}{pauses}, {at_once} at a time\n", sweep.algorithm));
    }
    if !settled.queries.is_empty() {
        let n = settled.queries.len();
        shown.push_str(&format!("{n} statement{} for `smack run`\n", if n == 1 { "" } else { "s" }));
    }
    shown
}

#[derive(Serialize)]
struct ConnectorInfo {
    name: &'static str,
    doc: &'static str,
    source: bool,
    sink: bool,
    options: Vec<OptionDoc>,
    metadata: Vec<MetadataDoc>,
}

#[derive(Serialize)]
struct OptionDoc {
    name: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    required: bool,
    doc: &'static str,
}

#[derive(Serialize)]
struct MetadataDoc {
    name: &'static str,
    kind: &'static str,
    writable: bool,
    doc: &'static str,
}

impl ConnectorInfo {
    fn of(connector: &dyn Connector) -> Self {
        let options = connector.options().iter().map(|option| OptionDoc {
            name: option.name,
            kind: option.kind,
            default: option.default,
            required: option.required,
            doc: option.doc,
        });
        Self {
            name: connector.name(),
            doc: connector.doc(),
            source: connector.is_source(),
            sink: connector.is_sink(),
            options: options.collect(),
            metadata: connector
                .metadata()
                .iter()
                .map(|info| MetadataDoc { name: info.name, kind: info.kind, writable: info.writable, doc: info.doc })
                .collect(),
        }
    }

    fn directions(&self) -> &'static str {
        match (self.source, self.sink) {
            (true, true) => "source, sink",
            (true, false) => "source",
            (false, true) => "sink",
            (false, false) => "-",
        }
    }
}

pub fn connectors(output: Output, name: Option<&str>) -> Result<()> {
    let all: Vec<ConnectorInfo> =
        connectors::registry().iter().map(|connector| ConnectorInfo::of(*connector)).collect();
    let Some(name) = name else {
        return output.either(&all, |all| {
            table(
                ["CONNECTOR", "AS", "WHAT"],
                all.iter().map(|info| [info.name.to_string(), info.directions().to_string(), info.doc.to_string()]),
            )
        });
    };
    match all.iter().find(|info| info.name == name) {
        Some(info) => output.either(info, show_connector),
        None => {
            let names: Vec<&str> = all.iter().map(|info| info.name).collect();
            let way_out = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known: {}", names.join(", ")),
            };
            Err(Fail::new(FAILED, format!("there is no connector '{name}'; {way_out}")))
        }
    }
}

fn show_connector(info: &ConnectorInfo) -> String {
    let mut shown = format!("{} ({}): {}\n\n", info.name, info.directions(), info.doc);
    shown.push_str(&table(
        ["OPTION", "KIND", "DEFAULT", "WHAT"],
        info.options.iter().map(|option| {
            let default = match (option.required, option.default) {
                (true, _) => "required".to_string(),
                (false, Some(default)) => default.to_string(),
                (false, None) => "-".to_string(),
            };
            [option.name.to_string(), option.kind.to_string(), default, option.doc.to_string()]
        }),
    ));
    if !info.metadata.is_empty() {
        shown.push_str("\nColumns beside the record's value, declared as: name TYPE METADATA FROM '…'\n");
        shown.push_str(&table(
            ["METADATA", "TYPE", "AS", "WHAT"],
            info.metadata.iter().map(|info| {
                let directions = if info.writable { "source, sink" } else { "source" };
                [info.name.to_string(), info.kind.to_string(), directions.to_string(), info.doc.to_string()]
            }),
        ));
    }
    shown
}
