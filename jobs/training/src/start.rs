//! Training that goes on from a version of a model: its layers, weights and what it has learned of its columns are where it
//! begins.
//!
//! Invariant: which version that is stands in the job, so every rank and every generation begins with the same. Its means, words
//! and boundaries stay, because the weights were learned under them.

use crate::data::Dataset;
use crate::graph::Graph;
use crate::preprocess::Preprocessing;
use crate::registry::{self, Manifest};
use crate::train::TrainTask;
use jobs::TrainBody;
use jobs::text::model_reference;
use jobs::train::Loss;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("begin with '{reference}': name a version by its number, as in 'fraud@3'")]
    NoVersion { reference: String },
    #[error("begin with model '{reference}'")]
    Registry { reference: String, source: Box<registry::Error> },
    #[error("begin with model '{reference}': {reason}")]
    Fit { reference: String, reason: String },
}

/// Where training begins.
pub struct Start {
    reference: String,
    manifest: Manifest,
    weights: Vec<f32>,
}

/// Model and number, of `name@3`.
pub fn version(reference: &str) -> Result<(&str, u64), Error> {
    let (model, which) = model_reference(reference);
    match which.and_then(|which| which.parse().ok()) {
        Some(version) if !model.is_empty() => Ok((model, version)),
        _ => Err(Error::NoVersion { reference: reference.to_string() }),
    }
}

impl Start {
    /// Of a job that begins with a version: that, and the job with the version's inputs and layers.
    pub fn of(body: &TrainBody, task: &TrainTask) -> Result<Option<(Self, TrainBody)>, Error> {
        let Some(reference) = &body.init else { return Ok(None) };
        let (model, number) = version(reference)?;
        let (manifest, graph) = registry::load(&task.model_dir, model, number)
            .map_err(|source| Error::Registry { reference: reference.clone(), source: Box::new(source) })?;
        let reason = |reason: String| Error::Fit { reference: reference.clone(), reason };
        let classes = |loss| loss == Loss::CrossEntropy;
        if classes(body.loss) != classes(manifest.loss) {
            let outputs = manifest.outputs;
            return Err(reason(format!(
                "it gives {outputs} outputs, learned by {:?}; {:?} does not fit",
                manifest.loss, body.loss
            )));
        }
        let body = TrainBody {
            inputs: manifest.preprocessing.inputs.iter().map(|state| state.input.clone()).collect(),
            layers: manifest.layers.clone(),
            output: manifest.output.clone(),
            ..body.clone()
        };
        let weights = graph.weights().to_vec();
        Ok(Some((Self { reference: reference.clone(), manifest, weights }, body)))
    }

    /// Outputs of the network, and what is made of the columns, for rows that fit both.
    pub fn fitting(&self, dataset: &Dataset, learned: &Preprocessing) -> Result<(usize, Preprocessing), Error> {
        let failed = |reason: String| Err(Error::Fit { reference: self.reference.clone(), reason });
        let Manifest { preprocessing, classes, outputs, .. } = &self.manifest;
        if !learned.reads_as(preprocessing) {
            let widths = |of: &Preprocessing| of.inputs.iter().map(|input| input.width()).collect::<Vec<_>>();
            let (got, expected) = (widths(learned), widths(preprocessing));
            return failed(format!(
                "the columns of its inputs have {got:?} values in a row, its own have {expected:?}"
            ));
        }
        if !dataset.classes.is_empty() && !classes.is_empty() && dataset.classes != *classes {
            return failed(format!(
                "the labels are {}, its classes are {}",
                dataset.classes.join(", "),
                classes.join(", ")
            ));
        }
        if dataset.outputs > *outputs {
            return failed(format!("the labels have {} classes, it tells {outputs} apart", dataset.outputs));
        }
        Ok((*outputs, preprocessing.clone()))
    }

    /// Puts the version's weights into a network of its layers.
    pub fn put_into(&self, graph: &mut Graph<f32>) {
        graph.set_weights(&self.weights);
    }
}
