//! Scoring: a published model over Arrow columns, a batch at a time.
//!
//! Invariant: a version's scores are a function of its files and the columns; nothing is dropped, and a
//! null, or a word that was not seen, is filled in as in training. Shared by any number of threads.

use crate::graph::activate::sigmoid;
use crate::graph::{self, Graph};
use crate::metric::{self, largest};
use crate::registry::{self, Manifest};
use crate::values;
use arrow::array::{ArrayRef, Float64Array};
use jobs::train::Loss;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("score with model '{model}' version {version}: it takes {expected} columns ({features}), {got} were given")]
    Count { model: String, version: u64, expected: usize, features: String, got: usize },
    #[error("score columns of {first} and {other} rows together")]
    Length { first: usize, other: usize },
    #[error("score with model '{model}' version {version}")]
    Column { model: String, version: u64, source: Box<values::Error> },
    #[error("score with model '{model}' version {version}")]
    Network { model: String, version: u64, source: graph::Error },
}

pub struct Predictor {
    manifest: Manifest,
    graph: Graph<f32>,
}

impl Predictor {
    pub fn load(folder: &Path, model: &str, version: u64) -> Result<Self, registry::Error> {
        let (manifest, graph) = registry::load(folder, model, version)?;
        Ok(Self { manifest, graph })
    }

    /// Names and order of the columns, version, training cut-off and the rest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Probability of 1 for binary cross-entropy, index of the likeliest class for cross-entropy, the value otherwise.
    /// Columns come in the order of the manifest's features.
    pub fn predict(&self, columns: &[ArrayRef]) -> Result<Float64Array, Error> {
        let logits = self.logits(columns)?;
        Ok(match self.manifest.loss {
            Loss::BinaryCrossEntropy => logits.iter().map(|x| sigmoid(f64::from(*x))).collect::<Vec<f64>>().into(),
            Loss::CrossEntropy => self.by_row(&logits, |row| largest(row) as f64),
            _ => logits.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>().into(),
        })
    }

    /// How sure the model is of what [`Self::predict`] says: the probability of the class that it names, for either
    /// cross-entropy. For a model of values there is no such probability and the value itself is returned.
    pub fn confidence(&self, columns: &[ArrayRef]) -> Result<Float64Array, Error> {
        let logits = self.logits(columns)?;
        Ok(match self.manifest.loss {
            Loss::BinaryCrossEntropy => logits.iter().map(|x| sigmoid(f64::from(x.abs()))).collect::<Vec<f64>>().into(),
            Loss::CrossEntropy => self.by_row(&logits, |row| {
                let most = f64::from(row[largest(row)]);
                row.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().recip()
            }),
            _ => logits.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>().into(),
        })
    }

    fn by_row(&self, logits: &[f32], score: impl Fn(&[f32]) -> f64) -> Float64Array {
        logits.chunks_exact(self.manifest.outputs).map(score).collect::<Vec<f64>>().into()
    }

    fn logits(&self, columns: &[ArrayRef]) -> Result<Vec<f32>, Error> {
        let Manifest { model, version, features, preprocessing, .. } = &self.manifest;
        let width = features.len();
        if columns.len() != width {
            return Err(Error::Count {
                model: model.clone(),
                version: *version,
                expected: width,
                features: features.join(", "),
                got: columns.len(),
            });
        }
        let rows = columns[0].len();
        if let Some(other) = columns.iter().find(|column| column.len() != rows) {
            return Err(Error::Length { first: rows, other: other.len() });
        }
        let examples = preprocessing.read(features, columns).map_err(|source| Error::Column {
            model: model.clone(),
            version: *version,
            source: Box::new(source),
        })?;
        metric::logits(&self.graph, &examples).map_err(|source| Error::Network {
            model: model.clone(),
            version: *version,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::State;
    use crate::registry::publish;
    use crate::test_support::published;
    use arrow::array::{Array, Float32Array, Int32Array, StringArray};
    use std::sync::Arc;

    fn predictor(loss: Loss) -> Predictor {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, weights) = published("m", loss, 2);
        publish(folder.path(), manifest, &weights).unwrap();
        Predictor::load(folder.path(), "m", 1).unwrap()
    }

    fn columns() -> Vec<ArrayRef> {
        vec![
            Arc::new(Int32Array::from(vec![Some(1), Some(-3), None])),
            Arc::new(Float32Array::from(vec![0.5, 2.5, 0.0])),
        ]
    }

    #[test]
    fn scores_are_what_the_loss_means() {
        fn is_shared<T: Send + Sync>(_: &T) {}
        is_shared(&predictor(Loss::MeanSquaredError));
        let values = predictor(Loss::MeanSquaredError).predict(&columns()).unwrap();
        let probabilities = predictor(Loss::BinaryCrossEntropy).predict(&columns()).unwrap();
        for (value, probability) in values.values().iter().zip(probabilities.values()) {
            assert!((probability - 1.0 / (1.0 + (-value).exp())).abs() < 1e-12, "{value} {probability}");
        }
        let classes = predictor(Loss::CrossEntropy);
        let found = classes.predict(&columns()).unwrap();
        assert!(found.values().iter().all(|class| [0.0, 1.0, 2.0].contains(class)), "{found:?}");
        let sure = classes.confidence(&columns()).unwrap();
        assert!(sure.values().iter().all(|sure| (1.0 / 3.0..=1.0).contains(sure)), "{sure:?}");
    }

    #[test]
    fn a_null_scores_as_the_mean() {
        let predictor = predictor(Loss::MeanSquaredError);
        let State::Normalization(normalization) = &predictor.manifest().preprocessing.inputs[0].state else {
            panic!("means")
        };
        let mean = normalization.mean[0];
        let filled: Vec<ArrayRef> =
            vec![Arc::new(Float32Array::from(vec![mean])), Arc::new(Float32Array::from(vec![0.0]))];
        let expect = predictor.predict(&filled).unwrap().value(0);
        assert_eq!(predictor.predict(&columns()).unwrap().slice(2, 1).value(0), expect);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let predictor = predictor(Loss::MeanSquaredError);
        let error = predictor.predict(&columns()[..1]).unwrap_err().to_string();
        assert!(error.contains("it takes 2 columns (f0, f1), 1 were given"), "{error}");
        let words: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let Error::Column { source, .. } = predictor.predict(&[columns()[0].clone(), words]).unwrap_err() else {
            panic!("a column error")
        };
        assert!(source.to_string().contains("column 'f1' of type Utf8"), "{source}");
        let empty = predictor.predict(&[columns()[0].slice(0, 0), columns()[1].slice(0, 0)]).unwrap();
        assert!(empty.is_empty());
    }
}
