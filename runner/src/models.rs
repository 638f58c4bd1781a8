//! The model registry as people see it.

use crate::server::owner::chain;
use crate::view::{ModelView, ModelsView};
use std::path::Path;
use training::registry;

/// Every version of every model below `model_dir`, by name and rising.
pub fn list(model_dir: &Path) -> Result<ModelsView, String> {
    let mut models = Vec::new();
    for model in registry::models(model_dir).map_err(|error| chain(&error))? {
        for version in registry::versions(model_dir, &model).map_err(|error| chain(&error))? {
            let manifest = registry::manifest(model_dir, &model, version).map_err(|error| chain(&error))?;
            models.push(ModelView {
                model: model.clone(),
                version,
                trained_through_us: manifest.trained_through_us,
                rows: manifest.rows,
                features: manifest.features,
                metrics: manifest.metrics,
            });
        }
    }
    Ok(ModelsView { models })
}
