//! The model registry as people see it.
//!
//! Invariant: a version that a job scores with, or that an alias means, is not removed.

use crate::server::owner::chain;
use crate::view::{AliasChange, JobView, ModelDetail, ModelView, ModelsView, Published};
use jobs::text::model_reference;
use std::collections::BTreeMap;
use std::path::Path;
use training::exchange;
use training::registry::{self, Manifest, aliases};

/// By model and version: the jobs that score with it.
pub type UsedBy = BTreeMap<(String, u64), Vec<String>>;

pub fn used_by(jobs: &[JobView]) -> UsedBy {
    let mut used = UsedBy::new();
    for job in jobs.iter().filter(|job| !["finished", "failed", "stopped"].contains(&job.state.as_str())) {
        for (reference, version) in &job.models {
            used.entry((model_reference(reference).0.to_string(), *version)).or_default().push(job.id.clone());
        }
    }
    used
}

/// Every version of every model below `model_dir`, or of one model alone, by name and rising.
pub fn list(model_dir: &Path, only: Option<&str>, used: &UsedBy) -> Result<ModelsView, String> {
    let names = match only {
        // Says what there is where it is not there.
        Some(model) => {
            registry::resolve(model_dir, model).map_err(|error| chain(&error))?;
            vec![model.to_string()]
        }
        None => registry::models(model_dir).map_err(|error| chain(&error))?,
    };
    let mut models = Vec::new();
    for model in names {
        let meanings = aliases::aliases(model_dir, &model).map_err(|error| chain(&error))?;
        for version in registry::versions(model_dir, &model).map_err(|error| chain(&error))? {
            let manifest = registry::manifest(model_dir, &model, version).map_err(|error| chain(&error))?;
            models.push(view(manifest, version, &meanings, used));
        }
    }
    Ok(ModelsView { models })
}

/// One version, which a query could mean by `reference`, with all that is kept of it.
pub fn show(model_dir: &Path, reference: &str, used: &UsedBy) -> Result<ModelDetail, String> {
    let (model, _) = model_reference(reference);
    let version = registry::resolve(model_dir, reference).map_err(|error| chain(&error))?;
    let manifest = registry::manifest(model_dir, model, version).map_err(|error| chain(&error))?;
    let meanings = aliases::aliases(model_dir, model).map_err(|error| chain(&error))?;
    let changes = aliases::changes(model_dir, model).map_err(|error| chain(&error))?;
    let change = |change: aliases::Change| AliasChange {
        alias: change.alias,
        at_ms: change.at_us / 1000,
        promoted: change.promoted,
    };
    Ok(ModelDetail {
        evaluation: manifest.evaluation.as_ref().and_then(|evaluation| serde_json::to_value(evaluation).ok()),
        manifest: serde_json::to_value(&manifest).map_err(|error| chain(&error))?,
        model: view(manifest, version, &meanings, used),
        changes: changes.into_iter().map(change).collect(),
    })
}

fn view(manifest: Manifest, version: u64, meanings: &BTreeMap<String, u64>, used: &UsedBy) -> ModelView {
    let means = meanings.iter().filter(|(_, means)| **means == version);
    ModelView {
        aliases: means.map(|(alias, _)| alias.clone()).collect(),
        used_by: used.get(&(manifest.model.clone(), version)).cloned().unwrap_or_default(),
        model: manifest.model,
        version,
        trained_through_us: manifest.trained_through_us,
        rows: manifest.rows,
        features: manifest.features,
        metrics: manifest.metrics,
        job: manifest.job,
        created_us: manifest.created_us,
    }
}

/// A version as one file.
pub fn package(model_dir: &Path, reference: &str) -> Result<Vec<u8>, String> {
    let (model, _) = model_reference(reference);
    let version = registry::resolve(model_dir, reference).map_err(|error| chain(&error))?;
    let (manifest, graph) = registry::load(model_dir, model, version).map_err(|error| chain(&error))?;
    exchange::pack(&manifest, &graph).map_err(|error| chain(&error))
}

/// Keeps what came as one file as the next version of `model`.
pub fn publish(model_dir: &Path, model: &str, package: &[u8]) -> Result<Published, String> {
    let package = exchange::unpack(package).map_err(|error| chain(&error))?;
    let version = package.publish(model_dir, model).map_err(|error| chain(&error))?;
    Ok(Published { model: model.to_string(), version })
}

/// Makes `alias` mean a version.
pub fn promote(model_dir: &Path, model: &str, version: u64, alias: &str, at_us: i64) -> Result<(), String> {
    aliases::promote(model_dir, model, version, alias, at_us).map_err(|error| chain(&error))
}

/// Makes `alias` mean again what it meant before: which version that is.
pub fn rollback(model_dir: &Path, model: &str, alias: &str, at_us: i64) -> Result<u64, String> {
    aliases::rollback(model_dir, model, alias, at_us).map_err(|error| chain(&error))
}

pub fn remove(model_dir: &Path, model: &str, version: u64, used: &UsedBy) -> Result<(), String> {
    if let Some(jobs) = used.get(&(model.to_string(), version)) {
        let jobs = jobs.join(", ");
        return Err(format!(
            "version {version} of model '{model}' is in use by {jobs}; stop that, or let it score with another"
        ));
    }
    registry::remove(model_dir, model, version).map_err(|error| chain(&error))
}
