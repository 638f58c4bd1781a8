//! `predict('model', features…)` in SQL: scores a batch with a version from the model registry.

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streaming::functions::Functions;
use training::predictor::Predictor;

/// The models that a job's SQL names, loaded once per task.
pub struct Predict {
    signature: Signature,
    aliases: Vec<String>,
    models: BTreeMap<String, Arc<Predictor>>,
}

/// Loads the latest version of each model.
fn load(model_dir: &Path, models: &[String]) -> std::result::Result<BTreeMap<String, Arc<Predictor>>, String> {
    models
        .iter()
        .map(|model| {
            let version = training::registry::latest(model_dir, model)
                .map_err(|error| format!("find a version of model '{model}': {}", crate::server::owner::chain(&error)))?
                .ok_or_else(|| format!("find a version of model '{model}': none was trained yet"))?;
            let predictor = Predictor::load(model_dir, model, version).map_err(|error| {
                format!("load model '{model}' version {version}: {}", crate::server::owner::chain(&error))
            })?;
            Ok((model.clone(), Arc::new(predictor)))
        })
        .collect()
}

/// The functions of a job's SQL: `predict` (also known as `ml_predict`) over the models that it names. A job that names
/// none still has to understand its whole file.
pub fn functions(model_dir: &Path, models: &[String]) -> std::result::Result<Functions, String> {
    if models.is_empty() {
        return Ok(crate::functions::declared());
    }
    let predict = ScalarUDF::new_from_impl(Predict {
        signature: Signature::variadic_any(Volatility::Volatile),
        aliases: vec!["ml_predict".to_string()],
        models: load(model_dir, models)?,
    });
    Ok(Functions::new().with(predict).and(&crate::functions::own()))
}

impl std::fmt::Debug for Predict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Predict").field("models", &self.models.keys()).finish()
    }
}

impl PartialEq for Predict {
    fn eq(&self, other: &Self) -> bool {
        self.models.keys().eq(other.models.keys())
    }
}

impl Eq for Predict {}

impl std::hash::Hash for Predict {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for model in self.models.keys() {
            model.hash(state);
        }
    }
}

impl ScalarUDFImpl for Predict {
    fn name(&self) -> &str {
        "predict"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(ScalarValue::Utf8(Some(model))), features)) = args.args.split_first() else {
            return Err(DataFusionError::Plan("the first argument of predict is a model's name in quotes".to_string()));
        };
        let predictor = self
            .models
            .get(model)
            .ok_or_else(|| DataFusionError::Execution(format!("no version of model '{model}' is loaded")))?;
        let columns: Vec<ArrayRef> =
            features.iter().map(|feature| feature.to_array(args.number_rows)).collect::<Result<_>>()?;
        let scores: Float64Array =
            predictor.predict(&columns).map_err(|error| DataFusionError::External(Box::new(error)))?;
        assert_eq!(scores.len(), args.number_rows, "one score per row");
        Ok(ColumnarValue::Array(Arc::new(scores)))
    }
}

/// Where models are kept below a data folder.
pub fn model_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("models")
}
