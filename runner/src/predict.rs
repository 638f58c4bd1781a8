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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, RecordBatch};
    use std::sync::atomic::AtomicBool;
    use training::registry::aliases;
    use training::{Data, TrainTask};

    /// Trains a version on a few rows with these features.
    fn trained(folder: &Path, features: &[&str], seed: u64) -> u64 {
        let body = serde_json::from_value(serde_json::json!({
            "model": "m", "sql": "", "base_dir": "/", "train_query": "", "test_query": null, "test_fraction": 0.0,
            "label": "y", "ignore": [], "time_column": null, "min_rows": 1, "layers": [], "loss": "mean_squared_error",
            "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}, "batch": 4, "epochs": 1, "seed": seed,
            "normalize": true, "checkpoint_steps": 100,
        }))
        .unwrap();
        let numbers = |from: i64| Arc::new(Int64Array::from_iter_values(from..from + 8)) as ArrayRef;
        let columns = features.iter().copied().chain(["y"]).zip((0..).map(numbers));
        let data = Data { train: vec![RecordBatch::try_from_iter(columns).unwrap()], test: None };
        let task = TrainTask {
            job: "g/m".to_string(),
            submission: "aa".to_string(),
            generation: 1,
            rank: 0,
            world: 1,
            peers: Vec::new(),
            checkpoint_dir: folder.join(format!("checkpoints-{seed}")),
            model_dir: folder.join("models"),
            pause_after: None,
            has_evaluator: false,
        };
        let outcome = training::train(&body, data, &task, &mut |_| (), &AtomicBool::new(false)).unwrap();
        outcome.version.unwrap()
    }

    fn m(reference: &str, version: u64) -> Versions {
        Versions::from([(reference.to_string(), version)])
    }

    #[test]
    fn only_what_loads_and_takes_the_same_columns_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let model_dir = folder.path().join("models");
        let models = Models::new(&model_dir);
        assert_eq!(begin_with(&model_dir, &["m".to_string()]), Versions::new());
        assert_eq!((trained(folder.path(), &["a", "b"], 1), trained(folder.path(), &["a", "b"], 2)), (1, 2));
        assert_eq!(begin_with(&model_dir, &["m".to_string(), "m@1".to_string()]), {
            let mut both = m("m", 2);
            both.extend(m("m@1", 1));
            both
        });
        assert_eq!(models.wanted(&m("m", 1)), (m("m", 2), Vec::new()));
        assert_eq!(models.wanted(&m("m@1", 1)), (m("m@1", 1), Vec::new()), "who names a version stays with it");

        trained(folder.path(), &["a", "c"], 3);
        let (wanted, stays) = models.wanted(&m("m", 2));
        assert_eq!(wanted, m("m", 2));
        assert!(
            stays[0].contains("version 3 of model 'm' takes other columns (a, c) than version 2 (a, b)"),
            "{stays:?}"
        );
        trained(folder.path(), &["a", "b"], 4);
        std::fs::write(model_dir.join("m/4/model.safetensors"), "damaged").unwrap();
        let (wanted, stays) = models.wanted(&m("m", 2));
        assert_eq!(wanted, m("m", 2));
        assert!(stays[0].contains("model 'm' stays at version 2: load model 'm' version 4"), "{stays:?}");
        aliases::promote(&model_dir, "m", 1, aliases::PRODUCTION, 1).unwrap();
        assert_eq!(models.wanted(&m("m", 2)), (m("m", 1), Vec::new()), "what is in production, not what is latest");
        assert!(
            functions(&model_dir, &["m@beta".to_string()], &Versions::new()).unwrap_err().contains("no alias 'beta'")
        );
    }

    #[test]
    fn slices_share_what_is_loaded_and_it_goes_with_them() {
        let folder = tempfile::tempdir().unwrap();
        trained(folder.path(), &["a"], 1);
        let models = Models::new(&folder.path().join("models"));
        let (one, other) = (models.load("m", 1).unwrap(), models.load("m@1", 1).unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        let scores = one.call(&[Arc::new(Int64Array::from(vec![1, 2, 3]))], 3).unwrap();
        assert_eq!(scores.len(), 3);
        drop((one, other));
        let loaded = models.loaded.lock().unwrap();
        assert!(loaded.values().all(|scorer| scorer.upgrade().is_none()));
    }
}
