//! What a changed file finds again of the state that its streams left in their last checkpoint.

use super::owner::chain;
use crate::view::{JobPlanView, OperatorPlanView};
use jobs::{JobBody, JobSpec};
use streaming::coordinator::manifest;
use streaming::runtime::{Fate, Folder, fates};

/// Operator by operator; nothing for what is no stream. `folder`: where the stream of this name keeps its checkpoints, if
/// there is one.
pub async fn plan(spec: &JobSpec, folder: Option<&String>) -> Result<Option<JobPlanView>, String> {
    let JobBody::Stream(body) = &spec.body else { return Ok(None) };
    let latest = match folder {
        Some(folder) => {
            let failed = |error: &dyn std::error::Error| {
                format!("failed to read the last checkpoint of {} in {folder}: {}", spec.id, chain(error))
            };
            let checkpoints = Folder::open(folder).map_err(|error| failed(&error))?;
            manifest::latest(&checkpoints).await.map_err(|error| failed(&error))?
        }
        None => None,
    };
    let told = |mistakes: Vec<jobs::Diagnostic>| mistakes.first().map(ToString::to_string).unwrap_or_default();
    let script = crate::functions::parse(&body.sql).map_err(told)?;
    let functions = crate::functions::declared();
    let dataflow = streaming::sql::plan(&script, &body.statements, &functions).await.map_err(told)?;
    let operators = fates(&dataflow, latest.as_ref()).into_iter().map(|(id, fate)| {
        let state = match fate {
            Fate::Reuse => "reuse",
            Fate::Rebuild => "rebuild",
            Fate::Drop => "drop",
        };
        OperatorPlanView { id, state: state.to_string() }
    });
    let epoch = latest.as_ref().map(|manifest| manifest.epoch);
    Ok(Some(JobPlanView { job: spec.id.to_string(), epoch, operators: operators.collect() }))
}
