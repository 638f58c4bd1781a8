//! A model as an ONNX file.
//!
//! Each input of the graph is one input of the file, with the values of all its columns side by side; NaN stands for an absent
//! number, as ONNX has no null. Outputs are what the last layer gives and, where the loss makes one of it, the probability.

mod inputs;
mod layers;

use super::metadata::{KEY, Metadata, Prepared};
use super::schema::{GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};
use super::write::{Writer, entry, value_info, whole};
use super::{OPSET, data_type};
use crate::exchange::Error;
use crate::graph::Graph;
use crate::graph::operation::{Kind, Shape};
use crate::registry::Manifest;
use jobs::train::Loss;
use prost::Message;

/// That of the first release with version 18 of the operators.
const IR_VERSION: i64 = 8;
const ML_DOMAIN: &str = "ai.onnx.ml";
/// Of its operators.
const ML_VERSION: i64 = 2;

/// What the file reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Columns as they are in queries; means, words and boundaries are in the file.
    Raw,
    /// What the layers read: preprocessing is done by who calls it.
    Prepared,
}

/// The bytes of the file.
pub fn export(manifest: &Manifest, graph: &Graph<f32>, reads: Inputs) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::default();
    let mut read: Vec<ValueInfoProto> = Vec::new();
    let mut prepared = Vec::new();
    let mut sources = Vec::new();
    for (state, source) in manifest.preprocessing.inputs.iter().zip(graph.sources()) {
        let columns = state.input.columns.join(", ");
        let tensor = match reads {
            Inputs::Raw => {
                let (type_, dims) = inputs::raw(state, &source.shape);
                let name = writer.fresh(&source.name);
                read.push(value_info(&name, type_, &dims, columns));
                inputs::prepared(&mut writer, state, &source.shape, &name)?
            }
            Inputs::Prepared => {
                let type_ = match source.shape.kind {
                    Kind::Reals => data_type::FLOAT,
                    Kind::Ids { .. } => data_type::INT64,
                };
                let name = writer.fresh(&source.name);
                read.push(value_info(&name, type_, &source.shape.dims, columns));
                name
            }
        };
        sources.push((source.name.clone(), (tensor.clone(), source.shape.clone())));
        prepared.push(Prepared { tensor, input: state.clone() });
    }
    let (output, shape) = layers::write(&mut writer, manifest, graph, sources)?;
    let outputs = outputs(&mut writer, manifest.loss, &output, &shape);
    let metadata = Metadata {
        model: manifest.model.clone(),
        version: manifest.version,
        features: manifest.features.clone(),
        label: manifest.label.clone(),
        loss: manifest.loss,
        classes: manifest.classes.clone(),
        inputs: prepared,
        output,
    };
    let metadata = serde_json::to_string(&metadata).map_err(|source| Error::Metadata { source })?;
    let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: OPSET }];
    if writer.nodes.iter().any(|node| node.domain == ML_DOMAIN) {
        opset_import.push(OperatorSetIdProto { domain: ML_DOMAIN.to_string(), version: ML_VERSION });
    }
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "smack".to_string(),
        producer_version: env!("CARGO_PKG_VERSION").to_string(),
        model_version: manifest.version as i64,
        graph: Some(GraphProto {
            node: writer.nodes,
            name: manifest.model.clone(),
            initializer: writer.initializers,
            doc_string: String::new(),
            input: read,
            output: outputs,
        }),
        opset_import,
        metadata_props: vec![entry(KEY, metadata)],
        ..ModelProto::default()
    };
    if model.encoded_len() > MOST {
        return Err(Error::TooLarge { bytes: model.encoded_len() });
    }
    Ok(model.encode_to_vec())
}

/// No message may be longer, in any program.
const MOST: usize = i32::MAX as usize;

fn outputs(writer: &mut Writer, loss: Loss, output: &str, shape: &Shape) -> Vec<ValueInfoProto> {
    let float = |name: &str| value_info(name, data_type::FLOAT, &shape.dims, String::new());
    let probability = match loss {
        Loss::BinaryCrossEntropy => writer.node("probability", "Sigmoid", &[output], Vec::new()),
        Loss::CrossEntropy => writer.node("probabilities", "Softmax", &[output], vec![whole("axis", -1)]),
        _ => return vec![float(output)],
    };
    vec![float(output), float(&probability)]
}
