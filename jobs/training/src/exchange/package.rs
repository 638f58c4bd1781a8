//! A model version as one file: weights, with the manifest beside them. It is how versions go to a registry and come from one.

use super::Error;
use crate::checkpoint;
use crate::graph::{self, Graph, Source, Wanted};
use crate::registry::{self, Manifest};
use crate::tensors::{self, Tensors};
use safetensors::Dtype;
use std::path::Path;

/// A version that was checked: its weights fit its layers.
#[derive(Debug)]
pub struct Package {
    pub manifest: Manifest,
    pub graph: Graph<f32>,
}

pub fn pack(manifest: &Manifest, graph: &Graph<f32>) -> Result<Vec<u8>, Error> {
    tensors::write(&checkpoint::weight_arrays(graph.slots(), graph.weights()), manifest)
        .map_err(|source| Error::Package { what: "pack", model: manifest.model.clone(), source })
}

impl Package {
    /// As a version of `model`; which one.
    pub fn publish(self, folder: &Path, model: &str) -> Result<u64, registry::Error> {
        let Self { mut manifest, graph } = self;
        manifest.model = model.to_string();
        let encoded = registry::encode_weights(model, graph.slots(), graph.weights());
        let weights = encoded.map_err(|source| registry::Error::Weights { path: folder.join(model), source })?;
        manifest.weights_digest = registry::weights_digest(&weights);
        registry::publish(folder, manifest, &weights)
    }
}

pub fn unpack(bytes: &[u8]) -> Result<Package, Error> {
    let strange = |source| Error::Package { what: "unpack a", model: String::new(), source };
    let tensors = Tensors::read(bytes).map_err(strange)?;
    let manifest: Manifest = tensors.description().map_err(strange)?;
    manifest.preprocessing.check().map_err(|(input, reason)| Error::Input { input, reason })?;
    let shapes = manifest.preprocessing.shapes().map_err(|source| Error::Inputs { source: Box::new(source) })?;
    let sources = Source::all(shapes);
    let Manifest { layers, output, outputs, .. } = &manifest;
    let wanted = Wanted { sources: &sources, layers, output: output.as_deref(), outputs: *outputs };
    // Before room is made for weights that are not there.
    for (name, dims) in graph::parameters(wanted).map_err(|source| Error::Graph { source })? {
        tensors.array(&name, &dims, Dtype::F32).map_err(strange)?;
    }
    let mut graph = Graph::new(wanted, 0).map_err(|source| Error::Graph { source })?;
    let weights = checkpoint::read_weights(&tensors, graph.slots()).map_err(|source| Error::Package {
        what: "unpack",
        model: manifest.model.clone(),
        source,
    })?;
    graph.set_weights(&weights);
    Ok(Package { manifest, graph })
}
