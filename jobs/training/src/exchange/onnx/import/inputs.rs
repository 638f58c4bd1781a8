//! What a file reads: names, shapes, and what metadata of ours says of them.

use super::super::data_type::{self, DOUBLE, FLOAT, INT32, INT64, STRING};
use super::super::flow::{Flow, Reads, Source, size};
use super::super::metadata::{KEY, Metadata};
use super::super::schema::{GraphProto, ModelProto, ValueInfoProto};
use super::super::view::{Part, View};
use super::{Importer, Value};
use crate::exchange::Error;
use crate::preprocess::Preprocessing;

/// Stands for the rows of a batch that may be any: a large prime, so that no shape has it as a factor by chance.
const ANY: usize = 1_000_003;
/// More dimensions than any layer has.
const MOST_DIMS: usize = 16;

/// What the file says beside the graph, if it is ours.
pub fn metadata(model: &ModelProto) -> Result<Option<Metadata>, Error> {
    let Some(entry) = model.metadata_props.iter().find(|entry| entry.key == KEY) else { return Ok(None) };
    let strange = |reason: String| Error::Malformed { what: "what the ONNX file says of the model", reason };
    let metadata: Metadata = serde_json::from_str(&entry.value).map_err(|error| strange(error.to_string()))?;
    let inputs = metadata.inputs.iter().map(|prepared| prepared.input.clone()).collect();
    Preprocessing { inputs }.check().map_err(|(input, reason)| strange(format!("input '{input}': {reason}")))?;
    Ok(Some(metadata))
}

impl Importer<'_> {
    /// What flows in: the file's inputs, or where our metadata says what is learned of them, what was made of them.
    pub fn sources(&mut self, graph: &GraphProto, metadata: Option<&Metadata>) -> Result<(), Error> {
        let inputs: Vec<&ValueInfoProto> =
            graph.input.iter().filter(|input| !self.values.contains_key(&input.name)).collect();
        let mut batch = None;
        let mut shapes = Vec::new();
        for input in &inputs {
            let (rows, type_, dims) = shape(input)?;
            if *batch.get_or_insert(rows) != rows {
                let reason = format!("it has {rows} rows where another has {}", batch.unwrap_or(ANY));
                return Err(Error::Input { input: input.name.clone(), reason });
            }
            shapes.push((type_, dims));
        }
        self.layers.batch = batch.unwrap_or(ANY);
        if let Some(metadata) = metadata {
            for prepared in &metadata.inputs {
                let failed = |reason: String| Error::Input { input: prepared.input.input.name.clone(), reason };
                let dims = prepared.input.shape().map_err(|error| failed(error.to_string()))?.dims;
                size(&dims).map_err(failed)?;
                let source = Source {
                    name: prepared.input.input.name.clone(),
                    reads: Reads::Prepared(prepared.input.clone()),
                    dims,
                    places: None,
                };
                let place = self.layers.source(source);
                self.values.insert(prepared.tensor.clone(), Value::Flow(self.layers.flow(place)));
            }
            return Ok(());
        }
        for (input, (type_, dims)) in inputs.iter().zip(shapes) {
            let failed = |reason: String| Error::Input { input: input.name.clone(), reason };
            let reads = match type_ {
                FLOAT | DOUBLE => Reads::Numbers(None),
                INT32 | INT64 => Reads::Ids(None),
                STRING => {
                    let reason = "it is of texts; preprocessing of other programs is not taken over: export what reads numbers \
                                  or ids, and put texts into an input with a vocabulary";
                    return Err(failed(reason.to_string()));
                }
                other => return Err(failed(format!("its values are {}", data_type::name(other)))),
            };
            let row = if dims.is_empty() { vec![1] } else { dims.clone() };
            size(&row).map_err(failed)?;
            let place = self.layers.source(Source { name: input.name.clone(), dims: row, reads, places: None });
            let view =
                if dims.is_empty() { View { offset: 0, axes: vec![vec![Part::Batch]] } } else { View::rows(&dims) };
            self.values.insert(input.name.clone(), Value::Flow(Flow { place, view, scale: 1.0 }));
        }
        Ok(())
    }
}

/// Rows, and type and dimensions of a row.
fn shape(input: &ValueInfoProto) -> Result<(usize, i32, Vec<usize>), Error> {
    let failed = |reason: &str| Error::Input { input: input.name.clone(), reason: reason.to_string() };
    let tensor = input.r#type.as_ref().and_then(|type_| type_.tensor_type.as_ref());
    let Some(tensor) = tensor else { return Err(failed("it is no array")) };
    let dims = tensor.shape.as_ref().map(|shape| &shape.dim[..]).unwrap_or_default();
    let Some((rows, dims)) = dims.split_first() else { return Err(failed("it has no shape, and so no rows")) };
    if dims.len() > MOST_DIMS {
        return Err(failed("it has more dimensions than any layer reads"));
    }
    let rows = match rows.dim_value.map(usize::try_from) {
        Some(Ok(rows)) if (1..=ANY).contains(&rows) => rows,
        _ => ANY,
    };
    let dims = dims.iter().map(|dim| match dim.dim_value.map(usize::try_from) {
        Some(Ok(size)) if size > 0 => Ok(size),
        _ => Err(failed(
            "its shape is open in more than the first dimension, that of the rows; export the model with fixed sizes for \
             the others",
        )),
    });
    Ok((rows, tensor.elem_type, dims.collect::<Result<_, _>>()?))
}
