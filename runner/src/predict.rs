//! `predict('model', features…)` in SQL: scores a batch with a version from the model registry.
//!
//! A query calls a model `name`, `name@3` or `name@alias`. Which version that is when a job begins, and which one it is later,
//! the registry says ([`training::registry::resolve`]); when a job changes over, its checkpoints do (`streaming`'s coordinator).
//!
//! Invariant: a newer version is wanted only if it loads and takes the columns that the query gives; one that does not is told,
//! and the job goes on with the one that it has.

use crate::server::owner::chain;
use arrow::array::{ArrayRef, Float64Array};
use datafusion::common::{DataFusionError, Result};
use jobs::text::model_reference;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use streaming::functions::{Callable, Functions, InUse, Versioned, Versions};
use training::predictor::Predictor;
use training::registry;

/// The models of a registry's folder.
#[derive(Debug)]
pub struct Models {
    model_dir: PathBuf,
    /// Every slice asks for the same ones.
    loaded: Mutex<BTreeMap<(String, u64), Weak<Scorer>>>,
}

struct Scorer(Predictor);

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = self.0.manifest();
        f.debug_struct("Scorer").field("model", &manifest.model).field("version", &manifest.version).finish()
    }
}

impl Callable for Scorer {
    fn call(&self, columns: &[ArrayRef], _: usize) -> Result<Float64Array> {
        self.0.predict(columns).map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

impl Models {
    pub fn new(model_dir: &Path) -> Self {
        Self { model_dir: model_dir.to_path_buf(), loaded: Mutex::default() }
    }

    /// The version that a query means by `reference` now.
    fn resolve(&self, reference: &str) -> std::result::Result<u64, String> {
        registry::resolve(&self.model_dir, reference).map_err(|error| chain(&error))
    }

    /// A version to use in the place of the one in use.
    fn instead_of(&self, reference: &str, in_use: u64) -> std::result::Result<u64, String> {
        let version = self.resolve(reference)?;
        if version == in_use {
            return Ok(version);
        }
        let (model, _) = model_reference(reference);
        let manifest = |version| registry::manifest(&self.model_dir, model, version).map_err(|error| chain(&error));
        // One that is gone was looked at when it was taken; what it took is not known any more.
        if let Ok(before) = manifest(in_use) {
            let after = manifest(version)?;
            if after.features != before.features {
                return Err(format!(
                    "version {version} of model '{model}' takes other columns ({}) than version {in_use} ({}); submit the \
                     query anew to score with it",
                    after.features.join(", "),
                    before.features.join(", ")
                ));
            }
        }
        self.load(reference, version)?;
        Ok(version)
    }
}

impl Versioned for Models {
    fn load(&self, reference: &str, version: u64) -> std::result::Result<Arc<dyn Callable>, String> {
        let (model, _) = model_reference(reference);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (model.to_string(), version);
        if let Some(scorer) = loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(scorer);
        }
        let predictor = Predictor::load(&self.model_dir, model, version)
            .map_err(|error| format!("load model '{model}' version {version}: {}", chain(&error)))?;
        let scorer = Arc::new(Scorer(predictor));
        loaded.retain(|_, scorer| scorer.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&scorer));
        Ok(scorer)
    }

    fn wanted(&self, in_use: &Versions) -> (Versions, Vec<String>) {
        let mut wanted = in_use.clone();
        let mut stays = Vec::new();
        for (reference, version) in &mut wanted {
            match self.instead_of(reference, *version) {
                Ok(newer) => *version = newer,
                Err(error) => stays.push(format!("model '{reference}' stays at version {version}: {error}")),
            }
        }
        (wanted, stays)
    }
}

/// The versions that queries mean now; without those of which there is none.
pub fn begin_with(model_dir: &Path, references: &[String]) -> Versions {
    let models = Models::new(model_dir);
    let of = |reference: &String| Some((reference.clone(), models.resolve(reference).ok()?));
    references.iter().filter_map(of).collect()
}

/// The functions of a job's SQL: `predict` (also known as `ml_predict`) and `predict_version` over the models that it names.
/// `versions`: what was settled for these; the registry says the others. A job that names none still has to understand its
/// whole file.
pub fn functions(
    model_dir: &Path,
    references: &[String],
    versions: &Versions,
) -> std::result::Result<Functions, String> {
    if references.is_empty() {
        return Ok(crate::functions::declared());
    }
    let models = Models::new(model_dir);
    let mut in_use = Versions::new();
    for reference in references {
        let version = match versions.get(reference) {
            Some(version) => *version,
            None => {
                models.resolve(reference).map_err(|error| format!("find a version of model '{reference}': {error}"))?
            }
        };
        in_use.insert(reference.clone(), version);
    }
    let in_use = InUse::new(Arc::new(models), &in_use)?;
    Ok(streaming::functions::predict(in_use).and(&crate::functions::own()))
}

/// Where models are kept below a data folder.
pub fn model_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("models")
}
