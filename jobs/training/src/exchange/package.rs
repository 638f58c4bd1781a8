//! A model version as one file: weights, with the manifest beside them. It is how versions go to a registry and come from one.

use super::Error;
use crate::checkpoint;
use crate::graph::{self, Graph, Source, Wanted};
use crate::registry::Manifest;
use crate::tensors::{self, Tensors};

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

pub fn unpack(bytes: &[u8]) -> Result<Package, Error> {
    let strange = |source| Error::Package { what: "unpack a", model: String::new(), source };
    let tensors = Tensors::read(bytes).map_err(strange)?;
    let manifest: Manifest = tensors.description().map_err(strange)?;
    manifest.preprocessing.check().map_err(|(input, reason)| Error::Input { input, reason })?;
    let shapes = manifest.preprocessing.shapes().map_err(|source| Error::Inputs { source: Box::new(source) })?;
    let sources = Source::all(shapes);
    let Manifest { layers, output, outputs, .. } = &manifest;
    let wanted = Wanted { sources: &sources, layers, output: output.as_deref(), outputs: *outputs };
    let size = graph::size(wanted).map_err(|source| Error::Graph { source })?;
    if size.is_none_or(|size| size > bytes.len()) {
        let reason = "its layers have more weights than the file".to_string();
        return Err(Error::Weights { parameter: manifest.model, reason });
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
